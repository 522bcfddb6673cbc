"""What the widgets look at: held-out predictions, single delays, blocks, clips, parcels."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.signal import fftconvolve
from sklearn.linear_model import Ridge

import tiny_grid
from cobe.core.config import VQVAEConfig
from cobe.core.errors import CobeError
from cobe.core.origin import saved_only
from cobe.core.timing import TR_S
from cobe.simulate.planted import hrf
from cobe.stimulus.frames import write_frames
from cobe.sweep import blocks, moments, next_clips, single_delays
from cobe.sweep.cells import load_tokens
from cobe.sweep.models import VideoStages, train_cells
from cobe.sweep.parcel_table import COLUMNS, parcel_table
from cobe.sweep.scores import run_features, score_features
from cobe.video.generate import predict_next
from cobe.video.gpt import load_gpt
from cobe.video.tokens import clip_table
from cobe.video.tokenset import write_token_set
from cobe.video.vqvae import VQVAE, build_vqvae

PROTOCOL = replace(tiny_grid.PROFILE.protocol, delays_tr=(2, 3), alphas=(1.0, 100.0))
KEYS = [("sub-x", f"ses-{s}", run) for s in (1, 2, 3) for run in (1, 2)]
N_TRS = 150


@pytest.fixture(scope="module")
def planted():
    """Two plays with a gap in every run; BOLD follows the second block, parcel 4 is noise."""
    rng = np.random.default_rng(0)
    plays = [(10.0, 64 * 80), (115.0, 64 * 80)]
    clips = clip_table(
        (*key, row, "1-0", onset_s, n_frames)
        for key in KEYS
        for row, (onset_s, n_frames) in enumerate(plays)
    )
    features = {
        f"block_{k}": rng.standard_normal((len(clips), 3)).astype(np.float32) for k in range(2)
    }
    weights = rng.standard_normal((3, 5)) * [1, 1, 1, 1, 0]
    bold = {}
    for key in KEYS:
        x = np.nan_to_num(run_features(features["block_1"], clips, key, N_TRS))
        y = np.roll(x, 2, 0) @ weights + rng.standard_normal((N_TRS, 5)) + key[2]
        bold[key] = y.astype(np.float32)
    return features, clips, bold


def joined(predicted, bold, keys):
    """Predicted and measured rows of some runs, each minus its mean over the run."""
    pairs = []
    for key in keys:
        there = np.isfinite(predicted[key].values).all(axis=1)
        pair = predicted[key].values[there].astype(float), bold[key][there].astype(float)
        pairs.append([values - values.mean(axis=0) for values in pair])
    return [np.concatenate(parts) for parts in zip(*pairs, strict=True)]


def correlations(p, y):
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, y.T, strict=True)])


def of(table, held_out):
    rows = table[(table.summary == "target") & (table.held_out == held_out)]
    return rows.sort_values("target").r.to_numpy()


def test_saved_predictions_have_the_correlations_of_the_score_table(planted):
    features, clips, bold = planted
    predicted = moments.held_out_predictions(features, clips, bold, PROTOCOL)
    table = score_features(features, clips, bold, PROTOCOL, n_permutations=0, n_bootstrap=0)
    assert list(predicted) == KEYS
    assert {one.readout for one in predicted.values()} == {"block_1"}
    pooled = []
    for session in ("ses-1", "ses-2", "ses-3"):
        keys = [key for key in KEYS if key[1] == session]
        assert all(predicted[key].held_out == session for key in keys)
        p, y = joined(predicted, bold, keys)
        np.testing.assert_allclose(correlations(p, y), of(table, session), atol=1e-6)
        pooled.append((p / p.std(axis=0), y))
    p, y = (np.concatenate(parts) for parts in zip(*pooled, strict=True))
    np.testing.assert_allclose(correlations(p, y), of(table, "all"), atol=1e-6)
    assert of(table, "all")[:4].min() > 0.5 > 0.2 > abs(of(table, "all")[4])


def test_saved_predictions_against_scikit_learn(planted):
    """One penalty: the fold that holds a session out is a plain ridge on the other sessions."""
    features, clips, bold = planted
    protocol = replace(PROTOCOL, alphas=(7.0,), relative_alphas=False)
    predicted = moments.held_out_predictions(features["block_1"], clips, bold, protocol)
    x = {key: run_features(features["block_1"], clips, key, N_TRS) for key in KEYS}
    rows = {}
    for key in KEYS:
        past = np.full((N_TRS, 6), np.nan)
        past[3:] = np.concatenate([x[key][1:-2], x[key][:-3]], axis=1)
        rows[key] = past
    train = [key for key in KEYS if key[1] != "ses-2"]
    x_train, y_train = (np.concatenate([d[key] for key in train]) for d in (rows, bold))
    there = np.isfinite(x_train).all(axis=1)
    ridge = Ridge(7.0).fit(x_train[there], y_train[there])
    key = ("sub-x", "ses-2", 1)
    there = np.isfinite(rows[key]).all(axis=1)
    wanted = ridge.predict(rows[key][there])
    wanted -= wanted.mean(axis=0)
    one = predicted[key]
    np.testing.assert_array_equal(np.isfinite(one.values).all(axis=1), there)
    np.testing.assert_array_equal(np.isfinite(one.values).any(axis=1), there)
    np.testing.assert_allclose(one.values[there], wanted, atol=2e-4)
    assert one.readout == "" and not there[:8].any() and not there.all()


def test_predictions_of_random_volumes_are_refused(planted):
    features, clips, bold = planted
    protocol = replace(PROTOCOL, name="as_published", holdout="volumes")
    with pytest.raises(CobeError, match="'as_published': holds out volumes drawn at random"):
        moments.held_out_predictions(features, clips, bold, protocol)


@pytest.mark.parametrize("peak_tr", [2, 4, 6])
def test_a_single_delay_finds_the_peak_of_the_planted_response(peak_tr):
    """White drivers through the simulation's response: r is proportional to it, volume by volume.

    The feature of a volume is the mean of its driver; the response is read in its middle. A gamma
    of dispersion 1 has its peak 1 s before its delay.
    """
    rng = np.random.default_rng(1)
    step_hz, n_trs = 100, 400
    per_tr = round(TR_S * step_hz)
    response = np.interp(
        np.arange(0, 32, 1 / step_hz), np.arange(480) / 15, hrf(peak_tr * TR_S + 1, 1.0)
    )
    bold, features = {}, []
    for key in KEYS[:4]:
        driver = rng.standard_normal((n_trs * per_tr, 2))
        answer = fftconvolve(driver, response[:, None], axes=0)[: len(driver)]
        answer = answer[per_tr // 2 :: per_tr][:n_trs]
        noise = rng.standard_normal(answer.shape) * answer.std()
        bold[key] = (answer + noise).astype(np.float32)
        features.append(driver.reshape(n_trs, per_tr, 2).mean(axis=1))
    starts = np.arange(n_trs) * TR_S
    clips = pd.concat(
        [
            pd.DataFrame({"start_s": starts, "end_s": starts + TR_S}).assign(
                subject=key[0], session=key[1], run=key[2], row=0
            )
            for key in KEYS[:4]
        ],
        ignore_index=True,
    )
    delays = single_delays.delays_that_fit(clips)
    assert delays == tuple(range(11))
    features = np.concatenate(features).astype(np.float32)
    table = single_delays.single_delays(features, clips, bold, PROTOCOL, delays)
    assert (table.n_trs == 4 * (n_trs - 10)).all()
    r = table.pivot_table(index="delay_tr", columns="target", values="r").to_numpy()
    # covariance of a volume's mean with the response in the middle of a later one
    lags = np.arange(len(response)) / step_hz
    expected = [response[np.abs(lags - d * TR_S) < TR_S / 2].sum() for d in delays]
    assert (r.argmax(axis=0) == peak_tr).all() and np.argmax(expected) == peak_tr
    assert np.corrcoef(np.abs(r).mean(axis=1), np.abs(expected))[0, 1] > 0.95


def test_all_delays_are_scored_on_the_same_volumes(planted):
    features, clips, bold = planted
    table = single_delays.single_delays(features, clips, bold, PROTOCOL, (0, 2, 6))
    assert table.n_trs.nunique() == 1
    counted = 0
    for key in KEYS:
        x = run_features(features["block_0"], clips, key, N_TRS)
        there = np.isfinite(x).all(axis=1)
        counted += sum(there[t] and there[t - 2] and there[t - 6] for t in range(6, N_TRS))
    assert (table.n_trs == counted).all()
    best = table.loc[table.groupby("target").r.idxmax()].sort_values("target")
    assert (best.delay_tr.to_numpy()[:4] == 2).all()
    assert len(table) == 3 * 5


def test_delays_fit_a_quarter_of_a_repetition(planted):
    _, clips, bold = planted
    # 80 clips of 64 frames are 57 volumes
    assert single_delays.delays_that_fit(clips) == tuple(range(11))
    short = clips[clips["clip"] < 30]  # 32 s, 21 volumes
    assert single_delays.delays_that_fit(short) == tuple(range(6))
    with pytest.raises(CobeError, match="sub-x: no volume has features 140 volumes back; shorten"):
        features = np.zeros((len(clips), 2), np.float32)
        single_delays.single_delays(features, clips, bold, PROTOCOL, (0, 140))


# ------------------------------------------------------------------------------------------------
# from artifacts

VQVAE_CFG = VQVAEConfig(
    resolution=16, downsample=(8, 8, 8), n_hiddens=8, n_res_blocks=1, n_codes=16, code_dim=4
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tokens, frames, BOLD and models of two participants in a small store."""
    root = tmp_path_factory.mktemp("explored")
    store = tiny_grid.quiet(root)
    clips = tiny_grid.clips_of_two_subjects()
    rng = np.random.default_rng(3)
    model = build_vqvae(VQVAE_CFG).eval()
    vqvae = store.make("vqvae", params={}, write=model.save)
    columns = ["subject", "session", "run", "row"]
    frames = {}
    for number, (key, own) in enumerate(clips.groupby(columns, sort=False)):
        film = np.zeros((64 * len(own) + 30, 16, 16, 3), np.uint8)
        # every frame tells its repetition and its number
        film[..., 0], film[..., 1] = number + 1, (np.arange(len(film)) % 251)[:, None, None]
        film[..., 2] = (np.arange(len(film)) // 251)[:, None, None]
        frames[key] = store.make(
            f"frames/{number}",
            params={},
            write=lambda path, film=film: write_frames(path, film),
            suffix=".b2nd",
        )
    codes = rng.integers(0, 16, (len(clips), 2, 2, 2)).astype(np.uint16)
    tokens = store.make(
        "tokens",
        params={},
        write=lambda path: write_token_set(path, codes, clips, model.codebook(), "none"),
        suffix=".safetensors",
    )
    pipeline = tiny_grid.Pipeline(tiny_grid.PROFILE, store, root, None)
    roles = clips[[*columns, "role"]].drop_duplicates(ignore_index=True).assign(onset_s=0.0)
    video = VideoStages(None, frames, roles, vqvae, tokens)
    bold = {}
    for key in roles[roles.role == "ridge"][columns[:3]].itertuples(index=False, name=None):
        y = rng.standard_normal((66, 5)).astype(np.float32)

        def write(path, y=y):
            with open(path, "wb") as handle:
                np.savez(handle, bold=y)

        bold[key] = store.make(f"bold/{'-'.join(map(str, key))}", params={}, write=write)
    base = tiny_grid.PROFILE.base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COBE_WORKERS", "1")
        models = train_cells(pipeline, tokens, [base.untrained()])
        yield pipeline, video, bold, models, base.untrained()


def test_predictions_are_made_once_and_come_back_as_they_were(world):
    pipeline, video, bold, models, cell = world
    given = (pipeline, video.tokens, bold, models, cell)
    first, again = moments.predictions(*given), moments.predictions(*given)
    assert len(list(pipeline.store.root.glob("explored/predictions/*.npz"))) == 1
    assert list(first) == list(bold) == list(again)
    for key, one in first.items():
        np.testing.assert_array_equal(one.values, again[key].values)
        assert one.values.dtype == np.float32 and one.values.shape == (66, 5)
        assert one.held_out == key[1] and one.readout in ("block_0", "block_1")


def test_delays_and_blocks_are_made_once(world):
    pipeline, video, bold, models, cell = world
    given = (pipeline, video.tokens, bold, models)
    delays = single_delays.delay_table(*given, cell)
    pd.testing.assert_frame_equal(delays, single_delays.delay_table(*given, cell))
    assert list(delays.columns) == ["subject", "delay_tr", "target", "r", "n_trs"]
    layers = blocks.parcel_layers(*given)
    pd.testing.assert_frame_equal(layers, blocks.parcel_layers(*given))
    assert list(layers.columns) == ["cell", "trained", "block", "subject", "target", "r"]
    assert set(layers.block) == {0, 1} and not layers.trained.any()
    assert not layers.duplicated(["block", "subject", "target"]).any()
    assert len(layers) == 2 * 2 * 5
    assert len(list(pipeline.store.root.glob("explored/delays/*.parquet"))) == 1
    assert len(list(pipeline.store.root.glob("blocks/*.parquet"))) == 1


def test_blocks_in_parcels_are_those_of_the_score_of_one_block(world):
    pipeline, video, bold, models, cell = world
    table = blocks.parcel_layers(pipeline, video.tokens, bold, models)
    data = load_tokens(video.tokens)
    clips = data.clips[data.clips["clip"] > 0]
    clips = clips[clips.role == "ridge"]
    (item,) = pipeline.store.root.glob("features/*.npz")
    features = np.load(item)["block_1"]
    assert len(features) == len(clips)
    series = {key: np.load(item.path)["bold"] for key, item in bold.items()}
    alone = score_features(features, clips, series, pipeline.profile.protocol, n_permutations=0)
    for subject, own in table[table.block == 1].groupby("subject"):
        mine = alone[(alone.subject == subject) & (alone.held_out == "all")]
        np.testing.assert_allclose(own.r, mine[mine.summary == "target"].r, atol=1e-12)
        (mean,) = mine[mine.summary == "mean"].r
        assert own.r.mean() == pytest.approx(mean)


def test_next_clips_show_the_frames_the_tokens_and_the_samples_of_their_windows(world):
    pipeline, video, _, models, cell = world
    made = next_clips.next_clips(pipeline, video, models, cell)
    again = next_clips.next_clips(pipeline, video, models, cell)
    assert len(list(pipeline.store.root.glob("explored/next_clips/*.npz"))) == 1
    data = load_tokens(video.tokens)
    rows = next_clips.spread_windows(data.windows_with_role("video_val"))
    assert len(made.labels) == len(rows) == 12
    assert made.labels[0].startswith("sub-1 ses-002 run 1, level 1-0, ")
    stores = list(video.frames)
    for i, row in enumerate(rows):
        clip = data.clips.iloc[row]
        key = (clip.subject, clip.session, clip.run, clip.row)
        for seen, number in ((made.true_next, clip["clip"]), (made.context, clip["clip"] - 1)):
            frame = 64 * number + 4 * np.arange(16)
            assert (seen[i, :, 0, 0, 0] == stores.index(key) + 1).all()
            np.testing.assert_array_equal(seen[i, :, 3, 5, 1], frame % 251)
            np.testing.assert_array_equal(seen[i, :, 3, 5, 2], frame // 251)
    np.testing.assert_array_equal(made.next_codes, data.codes[rows])
    np.testing.assert_array_equal(made.context_codes, data.codes[rows - 1])
    vqvae, model = VQVAE.load(video.vqvae.path), load_gpt(models[cell].path)
    np.testing.assert_array_equal(made.rebuilt_next, vqvae.decode(made.next_codes))
    np.testing.assert_array_equal(made.rebuilt_context, vqvae.decode(made.context_codes))
    assert {name: codes.shape[1] for name, codes in made.sample_codes.items()} == {
        "greedy": 1,
        "temperature 0.7": 3,
        "temperature 1": 3,
    }
    wanted = predict_next(model, data.codes, data.codebook, rows, 0.7, seed=2)
    np.testing.assert_array_equal(made.sample_codes["temperature 0.7"][:, 2], wanted)
    likeliest = predict_next(model, data.codes, data.codebook, rows, top_k=1)
    np.testing.assert_array_equal(made.sample_codes["greedy"][:, 0], likeliest)
    for name, codes in made.sample_codes.items():
        frames = made.samples[name]
        assert frames.dtype == np.uint8 and frames.shape == (*codes.shape[:2], 16, 16, 16, 3)
        np.testing.assert_array_equal(frames[:, -1], vqvae.decode(codes[:, -1]))
        np.testing.assert_array_equal(frames, again.samples[name])
    assert made.n_codes == 16


def test_windows_are_spread_and_none_is_refused():
    rows = np.arange(100, 200)
    chosen = next_clips.spread_windows(rows, 4)
    np.testing.assert_array_equal(chosen, [100, 133, 166, 199])
    np.testing.assert_array_equal(next_clips.spread_windows(rows[:3], 4), [100, 101, 102])
    with pytest.raises(CobeError, match="windows: there is none to show"):
        next_clips.spread_windows(rows[:0])


def test_frames_are_those_on_screen_in_the_middle_of_a_volume(world):
    pipeline, video, *_ = world
    key = ("sub-2", "ses-004", 1)
    mine = (video.roles.subject == "sub-2") & (video.roles.session == "ses-004")
    roles = video.roles.assign(onset_s=np.where(mine, 5.0, 0.0))
    frames_at, has_frame = moments.frames_at_volumes(replace(video, roles=roles), key, 80)
    n_frames = 64 * 90 + 30
    for volume in range(80):
        frame = int(((volume + 0.5) * TR_S - 5.0) // (1 / 60))
        assert has_frame[volume] == (0 <= frame < n_frames)
        if has_frame[volume]:
            assert frames_at[volume, 2, 2, 1] == frame % 251
            assert frames_at[volume, 2, 2, 2] == frame // 251
            assert frames_at[volume, 0, 0, 0] == list(video.frames).index((*key, 0)) + 1
        else:
            assert not frames_at[volume].any()
    assert 0 < has_frame.sum() < 80
    with pytest.raises(CobeError, match="sub-9 ses-004 1: no repetition with a replay"):
        moments.frames_at_volumes(video, ("sub-9", "ses-004", 1), 80)


def test_moments_put_parcels_in_order_and_centre_what_is_compared(world):
    _, video, *_ = world
    key = ("sub-1", "ses-003", 1)
    rng = np.random.default_rng(0)
    bold = rng.standard_normal((60, 3)).astype(np.float32) + 4
    values = np.where(np.arange(60)[:, None] % 3 == 0, np.nan, rng.standard_normal((60, 3)))
    predicted = moments.Predicted(values.astype(np.float32), "ses-003", "block_1")
    scores = pd.DataFrame(
        {"subject": ["sub-1"] * 3 + ["sub-2"], "target": [2, 0, 1, 0], "r": [0.2, 0.0, 0.1, 0.9]}
    )
    made = moments.run_moments(video, key, predicted, bold, scores)
    np.testing.assert_array_equal(made.r, [0.0, 0.1, 0.2])
    there = np.isfinite(values[:, 0])
    np.testing.assert_allclose(made.bold[there].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.diff(made.bold, axis=0), np.diff(bold, axis=0), atol=1e-5)
    assert made.label == "sub-1 ses-003 run 1" and made.readout == "block_1"
    assert made.frames_at.shape == (60, 16, 16, 3) and made.tr_s == TR_S
    with pytest.raises(CobeError, match="scores: 2 rows of sub-1 for 3 parcels"):
        moments.run_moments(video, key, predicted, bold, scores.iloc[1:])


def test_what_is_looked_at_is_read_where_nothing_may_be_made(world):
    pipeline, video, bold, models, cell = world
    first = single_delays.delay_table(pipeline, video.tokens, bold, models, cell)
    with saved_only():
        again = single_delays.delay_table(pipeline, video.tokens, bold, models, cell)
        with pytest.raises(CobeError, match="gpt/1920f.*notebook 03_gpt_training makes it"):
            train_cells(pipeline, video.tokens, [pipeline.profile.base])
    pd.testing.assert_frame_equal(first, again)
    assert not list(pipeline.store.root.glob("gpt/1920f*"))


def parcel_scores(**changes):
    base = tiny_grid.PROFILE.base
    rows = [
        {"subject": s, "target": t, "cell": cell.name, "features": kind, "r": r}
        for s in ("sub-2", "sub-1")
        for t in (1, 0)
        for cell, kind, r in ((base, "gpt", 0.3 + t), (base.untrained(), "untrained", 0.1))
    ]
    about = {"summary": "target", "held_out": "all", "protocol": "corrected", "q": 0.04}
    return pd.DataFrame(rows).assign(**about | {"chance_95": 0.1, "readout": "block_1"} | changes)


def test_parcel_table_is_the_base_model_and_its_twin():
    others = [
        parcel_scores(held_out="ses-1"),
        parcel_scores(protocol="as_published"),
        parcel_scores(summary="mean", target=-1),
        parcel_scores(cell="another"),
    ]
    scores = pd.concat([parcel_scores(), *others], ignore_index=True)
    table = parcel_table(scores, tiny_grid.PROFILE)
    assert list(table.columns) == COLUMNS
    assert table.features.tolist() == ["gpt"] * 4 + ["untrained"] * 4
    assert table.subject.tolist() == ["sub-1", "sub-1", "sub-2", "sub-2"] * 2
    assert table.target.tolist() == [0, 1] * 4
    assert table.r.tolist()[:4] == [0.3, 1.3, 0.3, 1.3] and table.ceiling.isna().all()
    truth = pd.DataFrame(
        {
            "subject": ["sub-1", "sub-1", "sub-2", "sub-2"],
            "parcel": [2, 1, 1, 2],
            "ceiling": [0.12, 0.11, 0.21, 0.22],
        }
    )
    known = parcel_table(scores, tiny_grid.PROFILE, truth)
    assert known.ceiling.tolist() == [0.11, 0.12, 0.21, 0.22] * 2
    with pytest.raises(CobeError, match="truth: lacks scored parcels"):
        parcel_table(scores, tiny_grid.PROFILE, truth.iloc[1:])
    with pytest.raises(CobeError, match="8 rows of .*give each parcel once"):
        parcel_table(pd.concat([scores, parcel_scores()]), tiny_grid.PROFILE)
    with pytest.raises(CobeError, match="0 rows of untrained.*give each parcel once"):
        parcel_table(scores[scores.features == "gpt"], tiny_grid.PROFILE)
