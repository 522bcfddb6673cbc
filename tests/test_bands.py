"""Learned against given: the planted band wins its own parcels, and controls may beat the model."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cobe.core.artifacts import Store
from cobe.core.errors import CobeError
from cobe.core.profiles import PROFILES
from cobe.core.timing import TR_S
from cobe.encoding import Reduction, unique_variance
from cobe.report.audit import bands as report
from cobe.sweep import bands
from cobe.sweep.pipeline import Pipeline
from cobe.sweep.scores import run_features
from cobe.video.tokenset import write_token_set

pytestmark = pytest.mark.filterwarnings("ignore:alphas")
CLIP_S = 64 / 60
N_CLIPS = 150
PROTOCOL = replace(
    PROFILES["quick"].protocol, delays_tr=(1, 2), n_permutations=200, block_trs=15, n_features=12
)
SESSIONS = ("ses-002", "ses-003", "ses-004")
PLANTED = {"low": "lowlevel", "event": "gpt", "motor": "buttons", "null": None}
WIDTHS = {"gpt": 16, "untrained": 5, "lowlevel": 6, "buttons": 4}
N_PARCELS = 4  # of each region


def clip_table(subjects):
    start_s = 2.0 + np.arange(N_CLIPS) * CLIP_S
    tables = [
        pd.DataFrame(
            {
                "subject": subject,
                "session": session,
                "run": 1,
                "row": 0,
                "level": np.where(np.arange(N_CLIPS) < N_CLIPS // 2, "1-0", "4-1"),
                "clip": np.arange(N_CLIPS),
                "start_s": start_s,
                "end_s": start_s + CLIP_S,
            }
        )
        for subject in subjects
        for session in SESSIONS
    ]
    return pd.concat(tables, ignore_index=True)


def slow(rng, n, k):
    noise = rng.standard_normal((n + 2, k))
    return (noise[:-2] + noise[1:-1] + noise[2:]) / np.sqrt(3)


def world(seed=0, subjects=("sub-a", "sub-b")):
    """Bands that know nothing of each other; each region's parcels answer to one of them.

    The answer is a sum over a band's two loudest features, two volumes later, put together by hand:
    a volume takes the clip that covers its middle.
    """
    rng = np.random.default_rng(seed)
    clips = clip_table(subjects)
    n_trs = int(np.ceil((2.0 + N_CLIPS * CLIP_S) / TR_S)) + 2
    features = {name: slow(rng, len(clips), k) for name, k in WIDTHS.items()}
    features["gpt"] *= np.linspace(3, 0.1, WIDTHS["gpt"])
    bold = {}
    middle_s = (np.arange(n_trs) + 0.5) * TR_S
    for subject in subjects:
        for session in SESSIONS:
            own = np.flatnonzero((clips.subject == subject) & (clips.session == session))
            which = ((middle_s - 2.0) // CLIP_S).astype(int)
            there = (which >= 0) & (which < N_CLIPS)
            parcels = []
            for band in PLANTED.values():
                drive = np.zeros(n_trs)
                if band:
                    signal = features[band][own][:, :2].sum(axis=1)
                    drive[there] = signal[which[there]] / signal.std()
                answer = np.concatenate([np.zeros(2), drive[:-2]])
                parcels.append(answer[:, None] + rng.standard_normal((n_trs, N_PARCELS)))
            bold[subject, session, 1] = np.hstack(parcels).astype(np.float32)
    features = {name: x.astype(np.float32) for name, x in features.items()}
    truth = pd.DataFrame(
        {
            "subject": np.repeat(subjects, N_PARCELS * len(PLANTED)),
            "parcel": np.tile(np.arange(1, N_PARCELS * len(PLANTED) + 1), len(subjects)),
            "region": np.tile(np.repeat(list(PLANTED), N_PARCELS), len(subjects)),
        }
    )
    return features, clips, bold, truth


@pytest.fixture(scope="module")
def planted():
    features, clips, bold, truth = world()
    features["level_and_time"] = bands.level_and_time_band(clips, bold)
    return bands.unique_by_band(features, clips, bold, PROTOCOL), truth


def test_the_planted_band_wins_its_own_parcels(planted):
    table, truth = planted
    winners = bands.band_winners(table, truth).set_index("region")
    for region, band in PLANTED.items():
        if band:
            assert winners.winner[region] == band and winners.delta_r2[region] > 0.2
            assert winners.share_found[region] == 1 and winners.second_delta_r2[region] < 0.02
    assert winners.as_expected.all() and (winners.n_parcels == 2 * N_PARCELS).all()
    parcels = bands.parcel_regions(table, truth)
    own = parcels.band == parcels.region.map(PLANTED)
    assert parcels[own].found.all() and not parcels[~own].found.any()
    assert not parcels[parcels.region == "null"].found.any()
    # alone it explains what it adds, since no band knows of another
    means = parcels[own].groupby("region")[["r2_alone", "delta_r2"]].mean()
    np.testing.assert_allclose(means.r2_alone, means.delta_r2, atol=0.06)


def test_winners_say_where_the_expected_band_did_not_win(planted):
    table, truth = planted
    swapped = truth.replace({"region": {"motor": "low", "low": "motor"}})
    winners = bands.band_winners(table, swapped).set_index("region")
    assert not winners.as_expected[["motor", "low"]].any()
    found_in_null = bands.band_winners(table, truth.replace({"region": {"event": "null"}}))
    assert not found_in_null.set_index("region").as_expected["null"]
    with pytest.raises(CobeError, match="same simulation"):
        bands.band_winners(table, truth[truth.subject == "sub-a"])


def test_one_band_is_unique_variance_of_scaled_components():
    features, clips, bold, _ = world(subjects=("sub-a",))
    table = bands.unique_by_band(features, clips, bold, PROTOCOL, ("gpt",))
    runs_x, reduce = {}, {}
    for name, x in features.items():
        scaled = x - x.mean(axis=0)
        if name in ("lowlevel", "buttons"):
            scaled /= scaled.std(axis=0)
        scaled /= np.sqrt((scaled**2).sum() / len(scaled))
        runs_x[name] = [run_features(scaled, clips, key, len(y)) for key, y in bold.items()]
        reduce[name] = Reduction("pca", min(12, x.shape[1]), scale=False)
    expected = unique_variance(
        runs_x,
        list(bold.values()),
        band="gpt",
        groups=SESSIONS,
        delays_tr=(1, 2),
        # four bands of total variance 1 with 12 + 5 + 6 + 4 components
        alphas=[4 / 27 * alpha for alpha in PROTOCOL.alphas],
        n_permutations=200,
        block_trs=15,
        reduce=reduce,
        band_weights=5,
    )
    assert len(table) == len(expected)
    for column in ("delta_r2", "q", "ci_low", "r2_full", "r2_controls"):
        np.testing.assert_allclose(table[column], expected[column], atol=1e-3, err_msg=column)


def test_the_unit_of_a_band_does_not_matter():
    features, clips, bold, _ = world(subjects=("sub-a",))
    louder = features | {"gpt": 1000 * features["gpt"], "lowlevel": features["lowlevel"] + 50}
    # columns of their own units: each may be in another
    louder["buttons"] = features["buttons"] * np.float32([1, 100, 0.01, 5])
    few = replace(PROTOCOL, n_permutations=0)
    first, second = (
        bands.unique_by_band(x, clips, bold, few, ("buttons",)).delta_r2 for x in (features, louder)
    )
    np.testing.assert_allclose(first, second, atol=2e-3)


def test_scaled_bands_have_total_variance_one():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((500, 5)) * [1, 10, 100, 0, 3] + 7).astype(np.float32)
    components = bands.scaled_band("gpt", x)
    np.testing.assert_allclose(components.var(axis=0).sum(), 1, rtol=1e-4)
    np.testing.assert_allclose(
        components.std(axis=0) / components[:, 2].std(), x.std(axis=0) / x[:, 2].std(), atol=1e-4
    )
    columns = bands.scaled_band("buttons", x).var(axis=0)
    np.testing.assert_allclose(columns, [0.25, 0.25, 0.25, 0, 0.25], rtol=1e-3)
    with pytest.raises(CobeError, match="'vq': no feature changes"):
        bands.scaled_band("vq", np.ones((10, 3), np.float32))


def test_a_brain_that_answers_to_nothing_has_no_findings():
    """Real noise and slow features, none of which is related to it: the paired test must hold."""
    features, clips, bold, _ = world(seed=1, subjects=("sub-a",))
    rng = np.random.default_rng(5)
    noise = {key: slow(rng, len(y), 60).astype(np.float32) for key, y in bold.items()}
    table = bands.unique_by_band(features, clips, noise, PROTOCOL)
    parcels = table[(table.summary == "target") & (table.held_out == "all")]
    assert not parcels.found.any()
    # nominal .05; a penalty in other units for the two models made it 4 to 5 times as many
    assert (parcels.groupby("band").p.agg(lambda p: (p < 0.05).mean()) < 0.06).all()


def test_refusals():
    features, clips, bold, _ = world(subjects=("sub-a",))
    with pytest.raises(CobeError, match="'gpt': shape .* for 450 clips"):
        short = features | {"gpt": features["gpt"][1:]}
        bands.unique_by_band(short, clips, bold, PROTOCOL)
    with pytest.raises(CobeError, match="'vq': not among gpt"):
        bands.unique_by_band(features, clips, bold, PROTOCOL, ("vq",))
    with pytest.raises(CobeError, match="holds out volumes at random"):
        bands.unique_by_band(features, clips, bold, replace(PROTOCOL, holdout="volumes"))


def test_table_from_artifacts_is_reused(tmp_path, monkeypatch):
    monkeypatch.setenv("COBE_WORKERS", "1")
    features, clips, bold, _ = world()
    lines = []
    store = Store(tmp_path, announce=lines.append)
    rows = clips.assign(role="ridge")
    codes = np.zeros((len(clips), 1, 1, 1), np.uint16)

    def tokens(path):
        write_token_set(path, codes, rows, np.zeros((1, 1), np.float32), "x")

    def keep(name, **arrays):
        def write(path):
            with open(path, "wb") as handle:
                np.savez(handle, **arrays)

        return store.make(name, params={}, write=write, suffix=".npz")

    tokenised = store.make("tokens", params={}, write=tokens, suffix=".safetensors")
    series = {key: keep(f"bold {key}", bold=y) for key, y in bold.items()}
    window = (clips["clip"] > 0).to_numpy()  # the first clip is context
    half = WIDTHS["gpt"] // 2
    parts = {"block_0": features["gpt"][window, :half], "block_1": features["gpt"][window, half:]}
    given = {"gpt": keep("gpt", **parts)}
    given["buttons"] = keep("buttons", features=features["buttons"][window])
    quick = replace(PROTOCOL, n_permutations=50)
    pipeline = Pipeline(replace(PROFILES["quick"], protocol=quick), store, tmp_path, tokenised)
    table = bands.band_table(pipeline, tokenised, series, given)
    assert set(table.band) == {"gpt", "buttons", "level_and_time"}
    assert "unique variance: 6 made, 0 reused" in lines[-1]
    again = bands.band_table(pipeline, tokenised, series, given)
    assert "unique variance: 0 made, 6 reused" in lines[-1]
    pd.testing.assert_frame_equal(table, again)
    chosen = {"gpt": features["gpt"][window], "buttons": features["buttons"][window]}
    own = {key: y for key, y in bold.items() if key[0] == "sub-b"}
    chosen["level_and_time"] = bands.level_and_time_band(clips[window], own)
    direct = bands.unique_by_band(chosen, clips[window], own, quick, ("gpt",))
    made = table[(table.subject == "sub-b") & (table.band == "gpt")]
    np.testing.assert_allclose(made.delta_r2, direct.delta_r2, atol=1e-5)


def bars(axes):
    return {c.get_label(): c.patches[0].get_width() for c in axes.containers}


def test_figure_draws_regions_and_marks_gaps(planted):
    table, truth = planted
    figure = report.fig_audit_bands(table, truth, simulated=True)
    panels = {axes.get_title(loc="left").split(",")[0]: axes for axes in figure.axes}
    assert list(panels) == ["low-level", "motor", "events", "nothing planted"]
    single = table[(table.held_out != "all") & (table.summary == "target")]
    motor = single.target.isin(truth[truth.region == "motor"].parcel - 1)
    expected = single[motor & (single.band == "buttons")].delta_r2.mean()
    np.testing.assert_allclose(bars(panels["motor"])["unique buttons"], expected, atol=1e-6)
    shares = [text.get_text() for text in panels["motor"].texts]
    assert shares.count("100%") == 1 and set(shares) == {"100%", "0%"}
    assert any("simulated data" in text.get_text() for text in figure.texts)
    gappy = report.fig_audit_bands(table[table.band != "buttons"], truth, simulated=True)
    assert "unique buttons" not in bars(gappy.axes[0])
    with pytest.raises(CobeError, match="no column found"):
        report.fig_audit_bands(table.drop(columns="found"), truth, simulated=True)


def test_a_band_that_one_panel_lacks_is_a_marked_gap(planted):
    table, _ = planted
    lost = (table.subject == "sub-b") & (table.band == "buttons")
    figure = report.fig_audit_bands(table[~lost], None, simulated=False)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "sub-a, 16 parcels",
        "sub-b, 16 parcels",
    ]
    assert any("not computed" in text.get_text() for text in figure.axes[1].texts)
    means = table[(table.summary == "mean") & (table.held_out == "all")].set_index(
        ["subject", "band"]
    )
    assert bars(figure.axes[0])["alone gpt"] == means.r2_alone["sub-a", "gpt"]
    assert bars(figure.axes[1])["unique gpt"] == means.delta_r2["sub-b", "gpt"]


def test_verdict_says_who_wins(planted):
    table, _ = planted
    means = (table.summary == "mean") & (table.held_out != "all")

    def verdict(gpt, control, gain):
        rng = np.random.default_rng(0)
        changed = table[table.band.isin(("gpt", "lowlevel"))].copy()
        for band, value in (("gpt", gpt), ("lowlevel", control)):
            rows = means & (changed.band == band)
            changed.loc[rows, "r2_alone"] = value + rng.normal(0, 0.002, rows.sum())
        rows = means & (changed.band == "gpt")
        changed.loc[rows, "r2_controls"] = changed.loc[rows, "r2_full"] - gain
        return report.band_verdict(changed)

    assert verdict(0.2, 0.1, 0.05).startswith("The learned features alone predict more than every")
    assert verdict(0.1, 0.2, 0.05).startswith("A control beats the learned features")
    assert verdict(0.1, 0.1, 0.05).startswith("A control ties with the learned features")
    assert "To all controls together they add" in verdict(0.1, 0.2, 0.05)
    assert "together nothing is shown to be added" in verdict(0.1, 0.2, -0.01)
    assert "n = 6 held-out groups of 2 participants" in verdict(0.1, 0.2, 0.05)
    with pytest.raises(CobeError, match="needs band 'gpt' and a control"):
        report.band_verdict(table[table.band == "gpt"])


def test_caption_counts(planted):
    table, truth = planted
    words = report.bands_caption(table, truth, simulated=True)
    n_trs = table[(table.held_out == "all") & (table.summary == "mean")].n_trs.max()
    assert "n = 2 participants" in words and f"{n_trs:,} held-out" in words
    assert "the 6 pairs of participant and session" in words and "Simulated data" in words
    assert "Real data" in report.bands_caption(table, None, simulated=False)
