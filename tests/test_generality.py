"""Memorised against general: matched amounts, levels held out, and what the difference finds."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cobe.core.artifacts import Store
from cobe.core.errors import CobeError
from cobe.core.profiles import PROFILES
from cobe.core.timing import TR_S
from cobe.report.audit import generality as report
from cobe.sweep import generality
from cobe.sweep.generality import LEVEL, REPETITIONS, SEEN, UNSEEN
from cobe.sweep.pipeline import Pipeline
from cobe.video.tokenset import write_token_set

pytestmark = pytest.mark.filterwarnings("ignore:alphas")
CLIP_S = 64 / 60
N_CLIPS = 60  # of a repetition
PROTOCOL = replace(
    PROFILES["quick"].protocol, delays_tr=(1, 2), n_permutations=50, block_trs=15, n_features=4
)
LEVELS = ("1-0", "4-1", "5-0")


def clip_rows(session, run, n_repetitions, first=0, subject="sub-x"):
    rows = []
    for row in range(n_repetitions):
        start_s = 2.0 + row * (N_CLIPS * CLIP_S + 6.0) + np.arange(N_CLIPS) * CLIP_S
        rows.append(
            pd.DataFrame(
                {
                    "subject": subject,
                    "session": session,
                    "run": run,
                    "row": row,
                    "level": LEVELS[(row + first) % 3],
                    "clip": np.arange(N_CLIPS),
                    "start_s": start_s,
                    "end_s": start_s + CLIP_S,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def n_trs_of(clips):
    return int(np.ceil(clips.end_s.max() / TR_S)) + 3


def answer(signal, clips, key):
    """What the brain answers: the mean of the clips' signal in every volume, one volume later.

    By hand: a volume takes the clip that covers its middle.
    """
    own = clips[(clips.session == key[1]) & (clips.run == key[2])]
    n_trs = n_trs_of(own)
    middle_s = (np.arange(n_trs) + 0.5) * TR_S
    which = np.searchsorted(own.start_s.to_numpy(), middle_s, side="right") - 1
    values = np.where(
        (which >= 0) & (middle_s < own.end_s.to_numpy()[which]), signal[own.index[which]], 0.0
    )
    return np.concatenate([[0.0], values[:-1]])


def smooth(rng, n):
    return np.convolve(rng.standard_normal(n + 4), np.ones(5) / np.sqrt(5), "valid")


def world(memorised=False, per_level=False, seed=0):
    """Clips, the features of a trained and an untrained model, and the BOLD of 3 sessions.

    Three signals drive the brain. The untrained model has the first. The trained one has the second
    too: everywhere; or, `memorised`, in the seen session only; or, `per_level`, in another column
    for each level, whose weight no ridge can know that has not seen the level.
    """
    rng = np.random.default_rng(seed)
    seen = pd.concat([clip_rows("ses-001", r, 2 + r % 2) for r in (1, 2, 3)], ignore_index=True)
    unseen = pd.concat(
        [clip_rows(f"ses-00{s}", r, 3, r) for s in (2, 3) for r in (1, 2)], ignore_index=True
    )
    clips = pd.concat([seen, unseen], ignore_index=True)
    first, second, noise = (smooth(rng, len(clips)) for _ in range(3))
    learned = second.copy()
    is_seen = (clips.session == "ses-001").to_numpy()
    if memorised:
        learned[~is_seen] = noise[~is_seen]
    if per_level:
        learned = learned[:, None] * (clips.level.to_numpy()[:, None] == np.array(LEVELS))
    models = {
        "gpt": np.column_stack([first, learned]).astype(np.float32),
        "untrained": np.column_stack([first, noise]).astype(np.float32),
    }
    bold = {}
    for key in dict.fromkeys(
        clips[["subject", "session", "run"]].itertuples(index=False, name=None)
    ):
        driven = answer(first, clips, key) + answer(second, clips, key)
        parcels = driven[:, None] * np.ones(6) + rng.standard_normal((len(driven), 6))
        bold[key] = parcels.astype(np.float32)
    split = {
        name: [({"block_0": x[part]}, clips[part]) for part in (is_seen, ~is_seen)]
        for name, x in models.items()
    }
    return split, bold, clips


def table_of(split, bold):
    tables = []
    for name, (seen, unseen) in split.items():
        tables.append(generality.seen_unseen(seen, unseen, bold, PROTOCOL).assign(features=name))
        tables.append(generality.held_out_levels(*unseen, bold, PROTOCOL).assign(features=name))
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def plain():
    split, bold, _ = world()
    return table_of(split, bold)


def test_amounts_are_matched(plain):
    units = plain[plain.split.isin((SEEN, UNSEEN)) & (plain.held_out != "all")]
    by_pair = units[units.features == "gpt"].pivot(index="pair", columns="split", values="n_trs")
    assert len(by_pair) == 3 and (by_pair[SEEN] == by_pair[UNSEEN]).all()
    # run 1 and 3 of the seen session have 3 repetitions, run 2 has 2
    assert sorted(by_pair[SEEN])[0] < sorted(by_pair[SEEN])[1]
    trained = units[units.features == "gpt"].pivot(index="pair", columns="split", values="n_train")
    assert (trained[SEEN] == trained[UNSEEN]).all()
    assert (trained[SEEN] + by_pair[SEEN] == by_pair[SEEN].sum()).all()
    whole = plain[(plain.held_out == "all") & (plain.features == "gpt")].set_index("split")
    assert (
        whole.n_trs[SEEN] == by_pair[SEEN].sum() and whole.n_trs[LEVEL] == whole.n_trs[REPETITIONS]
    )
    assert abs(whole.n_train[LEVEL] - whole.n_train[REPETITIONS]) < 0.05 * whole.n_train[LEVEL]
    assert (whole[["ci_low", "ci_high", "chance_95"]].notna()).all(axis=None)


def test_what_is_general_shows_no_memorisation(plain):
    assert generality.training_gain(plain, SEEN).min() > 0.1
    assert generality.training_gain(plain, UNSEEN).min() > 0.1
    found = generality.difference_of_gains(plain, SEEN, UNSEEN)
    assert found.ci_low < 0 < found.ci_high and found.n_units == 3
    levels = generality.difference_of_gains(plain, REPETITIONS, LEVEL)
    assert abs(levels.difference) < 0.05
    assert report.generality_verdict(plain).count("is shown") == 2


def test_what_is_memorised_is_found():
    split, bold, _ = world(memorised=True)
    table = table_of(split, bold)
    assert generality.training_gain(table, SEEN).min() > 0.1
    assert generality.training_gain(table, UNSEEN).abs().max() < 0.06
    assert generality.difference_of_gains(table, SEEN, UNSEEN).ci_low > 0.1
    assert "memorised in part" in report.generality_verdict(table)


def test_what_holds_in_known_levels_only_is_found():
    split, bold, _ = world(per_level=True)
    table = table_of(split, bold)
    found = generality.difference_of_gains(table, REPETITIONS, LEVEL)
    assert found.ci_low > 0.02
    assert "is lost in a level" in report.generality_verdict(table)


def test_repetitions_are_dealt_over_levels(monkeypatch):
    """Every fold of the comparison trains on, and tests, each level; a level's fold does not."""
    split, bold, clips = world()
    asked = []
    real = generality.evaluate
    monkeypatch.setattr(
        generality, "evaluate", lambda x, y, **o: asked.append(o["groups"]) or real(x, y, **o)
    )
    unseen = split["gpt"][1]
    generality.held_out_levels(*unseen, bold, PROTOCOL)
    by_level, dealt = (np.concatenate(groups) for groups in asked)
    there = by_level != None  # noqa: E711 - elementwise
    assert ((dealt != None) == there).all()  # noqa: E711
    mixed = pd.crosstab(by_level[there], dealt[there])
    assert mixed.shape == (3, 3) and (mixed > 0).all(axis=None)
    share = there.mean()
    played = len(unseen[1]) * CLIP_S / (TR_S * sum(len(bold[k]) for k in bold if k[1] != "ses-001"))
    assert abs(share - played) < 0.03


def test_refusals():
    split, bold, clips = world()
    seen, unseen = split["gpt"]
    with pytest.raises(CobeError, match="sub-x/ses-001: seen by the video model and unseen"):
        generality.seen_unseen(seen, seen, bold, PROTOCOL)
    of_seen = {key: y for key, y in bold.items() if key[1] == "ses-001"}
    with pytest.raises(CobeError, match="sub-x: BOLD of seen and of unseen sessions"):
        generality.seen_unseen(seen, unseen, of_seen, PROTOCOL)
    few = {key: y for key, y in bold.items() if key[1] != "ses-001" or key[2] == 1}
    with pytest.raises(CobeError, match="sub-x: 1 pairs"):
        generality.seen_unseen(seen, unseen, few, PROTOCOL)
    with pytest.raises(CobeError, match="only level 1-0 was played"):
        generality.held_out_levels(unseen[0], unseen[1].assign(level="1-0"), bold, PROTOCOL)


def test_gains_refuse_what_they_cannot_pair(plain):
    with pytest.raises(CobeError, match="seen sessions: 3 units of the trained and 0"):
        generality.training_gain(plain[plain.features == "gpt"], SEEN)
    with pytest.raises(CobeError, match="twice"):
        generality.training_gain(pd.concat([plain, plain]), SEEN)


def stored(tmp_path):
    """The world as artifacts, with a second participant whose video session has no BOLD."""
    split, bold, clips = world()
    lines = []
    store = Store(tmp_path, announce=lines.append)
    clips = clips.assign(role=np.where(clips.session == "ses-001", "video_train", "ridge"))
    rows = [clips, clips.assign(subject="sub-y")]
    clips = pd.concat(rows, ignore_index=True)
    # the first clip of every repetition is context only
    rng = np.random.default_rng(0)
    codes = np.zeros((len(clips), 1, 1, 1), np.uint16)

    def tokens(path):
        write_token_set(path, codes, clips, np.zeros((1, 1), np.float32), "x")

    tokenised = store.make("tokens", params={}, write=tokens, suffix=".safetensors")

    def keep(name, **arrays):
        def write(path):
            with open(path, "wb") as handle:
                np.savez(handle, **arrays)

        return store.make(name, params={}, write=write, suffix=".npz")

    series = {key: keep(f"bold {key}", bold=y) for key, y in bold.items()}
    series[("sub-y", "ses-002", 1)] = keep("bold y", bold=bold[("sub-x", "ses-002", 1)])
    window = (clips["clip"] > 0).to_numpy()
    features = {}
    for role in ("ridge", "video_train"):
        n = int((window & (clips.role == role).to_numpy()).sum())
        features[role] = {
            name: keep(f"{name} {role}", block_0=rng.standard_normal((n, 3)).astype(np.float32))
            for name in ("gpt", "untrained")
        }
    profile = replace(PROFILES["quick"], protocol=PROTOCOL)
    return Pipeline(profile, store, tmp_path, tokenised), tokenised, series, features, lines


def test_table_from_artifacts_is_reused_and_says_who_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("COBE_WORKERS", "1")
    pipeline, tokenised, series, features, lines = stored(tmp_path)
    given = (pipeline, tokenised, series, features["ridge"], features["video_train"])
    table = generality.generality_table(*given)
    assert list(table.columns) == list(generality.COLUMNS)
    assert set(table.subject) == {"sub-x"} and set(table.features) == {"gpt", "untrained"}
    assert set(table.split) == set(generality.SPLITS)
    assert any("sub-y left out" in line for line in lines)
    again = generality.generality_table(*given)
    pd.testing.assert_frame_equal(table, again)
    assert "memorised or general: 0 made, 2 reused" in lines[-1]
    with pytest.raises(CobeError, match="give the same models"):
        generality.generality_table(*given[:4], {"gpt": features["video_train"]["gpt"]})


def test_figure_draws_the_table_and_marks_gaps(plain):
    figure = report.fig_audit_generality(plain, simulated=True)
    scores = {line.get_label(): line for axes in figure.axes[:2] for line in axes.lines}
    row = plain[(plain.split == SEEN) & (plain.features == "gpt") & (plain.held_out == "all")]
    assert scores["gpt sub-x seen sessions"].get_ydata()[0] == row.r.iloc[0]
    gains = {line.get_label(): line for line in figure.axes[2].lines}
    expected = generality.training_gain(plain, LEVEL).mean()
    np.testing.assert_allclose(gains["level"].get_xdata()[0], expected)
    assert any("simulated" in text.get_text() for text in figure.texts)
    gone = (plain.split == SEEN) & (plain.features == "gpt") & (plain.held_out == "all")
    gappy = report.fig_audit_generality(plain[~gone], simulated=False)
    labels = [line.get_label() for line in gappy.axes[0].lines]
    assert "gap gpt sub-x seen sessions" in labels
    assert any("not computed" in text.get_text() for text in gappy.axes[0].texts)
    with pytest.raises(CobeError, match="no column pair"):
        report.fig_audit_generality(plain.drop(columns="pair"), simulated=True)


def test_caption_counts(plain):
    words = report.generality_caption(plain, simulated=True)
    n_trs = plain[(plain.held_out == "all") & (plain.split == SEEN)].n_trs.iloc[0]
    assert "3 runs of each kind" in words and f"{n_trs:,} held-out" in words
    assert "hardly differ" in words and "n = 1 participants" not in words
    assert "hardly differ" not in report.generality_caption(plain, simulated=False)
