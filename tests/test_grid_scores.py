"""Scan hours: nested and balanced, checked in time, and scores that rise with them as planted."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from cobe.core.artifacts import external
from cobe.core.errors import CobeError
from cobe.core.profiles import PROFILES
from cobe.core.timing import TR_S
from cobe.encoding import evaluate
from cobe.sweep.cells import load_tokens
from cobe.sweep.grid import train_grid
from cobe.sweep.grid_plan import plan_table
from cobe.sweep.grid_scores import compute_grid, grid_scores, score_levels
from cobe.sweep.scan_hours import check_run_hours, check_scan_hours, scan_levels
from cobe.sweep.scores import run_features
from tiny_grid import GRID, PROFILE, pipeline

N_TRS, N_CLIPS = 130, 175
ALPHAS = (1.0, 10.0, 100.0, 1000.0)
PROTOCOL = replace(
    PROFILE.protocol, delays_tr=(2, 3), alphas=ALPHAS, relative_alphas=False, n_features=3
)
DELAYS = PROTOCOL.delays_tr


def profile_with(*hours, **changes):
    grid = replace(GRID, scan_hours=hours)
    return replace(PROFILE, grid=grid, protocol=replace(PROTOCOL, **changes))


def hours_of(n_volumes):
    return n_volumes * TR_S / 3600


run_lengths = st.dictionaries(
    st.tuples(st.just("sub-x"), st.sampled_from(["ses-1", "ses-2", "ses-3"]), st.integers(1, 4)),
    st.integers(30, 300),
    min_size=2,
)


@settings(max_examples=60, deadline=None)
@given(run_lengths, st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4, unique=True))
def test_levels_are_nested_exact_balanced_and_without_the_held_out_session(n_trs, shares):
    sessions = {key[1] for key in n_trs}
    if len(sessions) < 2:
        with pytest.raises(CobeError, match="sub-x: one session"):
            scan_levels(n_trs, (0.01,))
        return
    least = min(sum(n for key, n in n_trs.items() if key[1] != s) for s in sessions)
    wanted = sorted({max(1, round(share * least)) for share in shares})
    levels = scan_levels(n_trs, [hours_of(n) for n in wanted])
    assert len(levels) == len(sessions) * len(wanted)
    for held_out in sessions:
        own = [level for level in levels if level.held_out == held_out]
        for level, n in zip(own, wanted, strict=True):
            assert sum(level.volumes.values()) == n
            assert all(key[1] != held_out for key in level.volumes)
            assert all(0 < part <= n_trs[key] for key, part in level.volumes.items())
            whole = list(level.volumes.items())[:-1]
            assert all(part == n_trs[key] for key, part in whole)
            counts = {s: sum(key[1] == s for key in level.volumes) for s in sessions - {held_out}}
            runs = {s: sum(key[1] == s for key in n_trs) for s in counts}
            most = max(counts.values())
            assert all(counts[s] >= min(most - 1, runs[s]) for s in counts)
        for small, large in zip(own, own[1:], strict=False):
            assert all(large.volumes[key] >= n for key, n in small.volumes.items())
    with pytest.raises(CobeError, match=r"GridConfig.scan_hours: .*sub-x has .* lower the level"):
        scan_levels(n_trs, [hours_of(sum(n_trs.values()) + 1)])


def clips_of(*keys, n_clips=N_CLIPS):
    start_s = np.arange(n_clips) * 64 / 60
    columns = ["subject", "session", "run"]
    return pd.concat(
        [
            pd.DataFrame({"start_s": start_s, "end_s": start_s + 64 / 60}).assign(
                **dict(zip(columns, key, strict=True))
            )
            for key in keys
        ],
        ignore_index=True,
    )


KEYS = [("sub-x", f"ses-{s}", run) for s in (1, 2, 3) for run in (1, 2)]


@pytest.fixture(scope="module")
def planted():
    """Features of two blocks; BOLD is linear in the first, with noise, the better the longer."""
    rng = np.random.default_rng(0)
    clips = clips_of(*KEYS)
    first = rng.standard_normal((len(clips), 3)).astype(np.float32)
    second = rng.standard_normal((len(clips), 3)).astype(np.float32)
    weights = rng.standard_normal((3, 40))
    bold = {}
    for key in KEYS:
        x = np.nan_to_num(run_features(first, clips, key, N_TRS))
        bold[key] = (np.roll(x, 2, 0) @ weights + 4 * rng.standard_normal((N_TRS, 40))).astype("f4")
    return {0: first, 1: second}, clips, bold


def scored(planted, profile):
    features, clips, bold = planted
    levels = check_scan_hours(profile, clips, {key: len(y) for key, y in bold.items()})
    return score_levels(features, clips, bold, levels, profile.protocol)


def test_more_hours_raise_the_score_and_the_planted_block_is_found(planted):
    hours = [hours_of(n) for n in (60, 130, 260, 520)]
    table = scored(planted, profile_with(*hours))
    assert len(table) == 3 * 4
    mean = table.groupby("scan_hours").r.mean()
    assert mean.is_monotonic_increasing and mean.iloc[-1] > mean.iloc[0] + 0.05
    assert (table.block == 0).all()
    assert (table.n_parcels == 40).all()
    longest = table[table.scan_hours == max(hours)]
    # of each training run the first rows, whose delays reach before the run, do not count
    assert (longest.n_train_trs <= 520 - 4 * max(DELAYS)).all()
    assert (longest.n_train_trs >= 520 - 4 * (max(DELAYS) + 8)).all()
    assert (table.groupby("held_out").n_train_trs.apply(list).map(lambda n: n == sorted(n))).all()


def test_all_hours_give_what_evaluate_gives(planted):
    features, clips, bold = planted
    table = scored(planted, profile_with(hours_of(520)))
    runs_x = {
        str(k): [run_features(x, clips, key, N_TRS) for key in KEYS] for k, x in features.items()
    }
    full = evaluate(
        runs_x,
        [bold[key] for key in KEYS],
        groups=[key[1] for key in KEYS],
        delays_tr=DELAYS,
        alphas=ALPHAS,
        n_permutations=0,
        n_bootstrap=0,
    )
    mean = full[(full.summary == "mean") & (full.held_out != "all")].set_index("held_out")
    table = table.set_index("held_out")
    np.testing.assert_allclose(table.r, mean.r[table.index], rtol=1e-5)
    assert (table.block == mean.readout[table.index].astype(int)).all()
    assert (table.n_test_trs == mean.n_trs[table.index]).all()


def test_a_level_against_scikit_learn(planted):
    """One and a half runs: the same rows, folds and penalties, by hand and scikit-learn."""
    features, clips, bold = planted
    one = {0: features[0]}, clips, bold
    table = scored(one, profile_with(hours_of(130 + 65))).set_index("held_out")

    def rows(key, n=N_TRS):
        x = run_features(features[0], clips, key, N_TRS)
        delayed = np.full((N_TRS, 6), np.nan)
        for place, delay in enumerate(DELAYS):
            delayed[delay:, 3 * place : 3 * place + 3] = x[:-delay]
        used = ~np.isnan(delayed).any(1) & (np.arange(N_TRS) < n)
        return delayed[used], bold[key][used].astype(float)

    parts = [rows(("sub-x", "ses-1", 1)), rows(("sub-x", "ses-2", 1), 65)]
    x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
    folds = PredefinedSplit(np.repeat([0, 1], [len(part[0]) for part in parts]))
    held = [rows(("sub-x", "ses-3", run)) for run in (1, 2)]
    r = []
    for target in range(y.shape[1]):
        search = GridSearchCV(
            Ridge(), {"alpha": ALPHAS}, scoring="neg_mean_squared_error", cv=folds
        ).fit(x, y[:, target])
        centred = [
            (p - p.mean(), t - t.mean())
            for p, t in ((search.predict(hx), hy[:, target]) for hx, hy in held)
        ]
        p, t = (np.concatenate(part) for part in zip(*centred, strict=True))
        r.append(p @ t / np.sqrt((p @ p) * (t @ t)))
    assert table.r["ses-3"] == pytest.approx(np.mean(r), rel=1e-5)
    assert table.n_train_trs["ses-3"] == len(x)


def test_a_block_that_is_right_only_in_the_held_out_session_is_not_chosen(planted):
    features, clips, bold = planted
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((3, 40))
    other = {}
    for key in KEYS:
        source = 1 if key[1] == "ses-3" else 0
        x = np.nan_to_num(run_features(features[source], clips, key, N_TRS))
        other[key] = (np.roll(x, 2, 0) @ weights + rng.standard_normal((N_TRS, 40))).astype("f4")
    table = scored((features, clips, other), profile_with(hours_of(500))).set_index("held_out")
    assert table.block["ses-3"] == 0 and abs(table.r["ses-3"]) < 0.2


def test_hours_that_cannot_be_used_are_refused(planted):
    _, clips, bold = planted
    n_trs = {key: len(y) for key, y in bold.items()}
    for hours, words in (
        ((), "scan_hours: empty"),
        ((hours_of(521),), "521 volumes, and sub-x has 520 .* in 4 runs without ses-1; lower"),
        ((hours_of(15),), "are 0 usable volumes, too few to choose a penalty in; raise"),
    ):
        with pytest.raises(CobeError, match=words):
            check_scan_hours(profile_with(*hours), clips, n_trs)
    with pytest.raises(CobeError, match="no run has both clips and BOLD"):
        check_scan_hours(profile_with(0.1), clips, {("sub-y", "ses-1", 1): 100})
    # 5 volumes of a second run would be a fold of noise: they are left out, and the count says so
    (level, *_) = check_scan_hours(profile_with(hours_of(135)), clips, n_trs)["sub-x"]
    assert level.volumes == {("sub-x", "ses-2", 1): 130}


def test_two_levels_that_train_on_the_same_volumes_are_refused(planted):
    _, clips, bold = planted
    n_trs = {key: len(y) for key, y in bold.items()}
    hours = (hours_of(132), hours_of(140))  # of both only the first run of 130 volumes is left
    words = f"{hours[0]:g} h and {hours[1]:g} h of sub-x without ses-1 train on the same .* change"
    with pytest.raises(CobeError, match=words):
        check_scan_hours(profile_with(*hours), clips, n_trs)
    check_scan_hours(profile_with(hours_of(120), *hours[1:]), clips, n_trs)


@pytest.mark.parametrize(
    ("n_clips", "words"),
    [
        ({("sub-x", "ses-3", 1): 12, ("sub-x", "ses-3", 2): 12}, "sub-x ses-3: 16 volumes .* 20"),
        ({("sub-x", "ses-2", 2): 2}, "sub-x ses-2 run 2: 0 volumes .* leave the run out"),
    ],
)
def test_a_session_that_cannot_be_scored_is_refused_before_training(n_clips, words):
    parts = [clips_of(key, n_clips=n_clips.get(key, N_CLIPS)) for key in KEYS]
    with pytest.raises(CobeError, match=words):
        check_scan_hours(profile_with(hours_of(130)), pd.concat(parts), dict.fromkeys(KEYS, N_TRS))


def test_all_levels_average_the_same_parcels(planted):
    """A parcel missing in one run, or silent in one session, counts at no level."""
    features, clips, bold = planted
    holes = {key: y.copy() for key, y in bold.items()}
    holes["sub-x", "ses-2", 2][:, 3] = np.nan
    for run in (1, 2):
        holes["sub-x", "ses-3", run][:, 5] = 0
    profile = profile_with(*map(hours_of, (60, 130, 520)))
    table = scored(({0: features[0]}, clips, holes), profile)
    assert (table.n_parcels == 38).all()
    without = {key: np.delete(y, [3, 5], axis=1) for key, y in bold.items()}
    expected = scored(({0: features[0]}, clips, without), profile)
    np.testing.assert_allclose(table.r, expected.r, rtol=1e-5)


def test_hours_of_runs_are_checked_without_clips():
    """The paper's subject with the fewest sessions: three for the ridge, 1.9 h without one."""
    n_trs = {("sub-04", f"ses-{s:03}", run): 570 for s in (9, 10, 11) for run in range(1, 5)}
    check_run_hours(PROFILES["paper"], n_trs)
    paper = replace(PROFILES["paper"].grid, scan_hours=(0.5, 4.0))
    with pytest.raises(CobeError, match="scan_hours: 4 h are .* sub-04 has 4560 .* lower"):
        check_run_hours(replace(PROFILES["paper"], grid=paper), n_trs)


def test_models_are_scored_here_and_on_a_cluster(tmp_path, planted):
    made, tokens = pipeline(tmp_path, replace(PROFILE, grid=replace(GRID, slices=())))
    grid = train_grid(made, tokens, budget_flop=4e6)
    rng = np.random.default_rng(2)
    clips = load_tokens(tokens).clips
    keys = clips[clips.role == "ridge"][["subject", "session", "run"]].drop_duplicates()
    bold = {}
    for key in keys.itertuples(index=False, name=None):
        y = rng.standard_normal((64, 5)).astype(np.float32)
        bold[key] = made.store.make(
            f"bold/{'-'.join(map(str, key))}",
            params={},
            write=lambda path, y=y: np.savez(open(path, "wb"), bold=y),
            suffix=".npz",
        )
    table = grid_scores(made, tokens, bold, grid.models)
    assert len(table) == len(grid.models) * 2 * 3 * len(GRID.scan_hours)
    assert table.groupby("cell").kind.first().to_dict() == {
        one.cell.name: one.kind for one in grid.models
    }
    assert (table.trained == (table.kind != "untrained")).all()
    assert set(table.block) <= {0, 1} and table.r.between(-1, 1).all()
    untrained = table[~table.trained]
    assert (untrained.n_frames == 0).all() and set(untrained.hidden) == set(GRID.hidden)
    for item in made.store.root.glob("grid_scores/*"):
        item.unlink()
    # threads of this process are a cluster, too, and need no second start of Python
    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
    ) as client:
        away = grid_scores(made, tokens, bold, grid.models, client=client)
    pd.testing.assert_frame_equal(away, table)
    whole = compute_grid(made, tokens, bold, budget_flop=4e6)
    pd.testing.assert_frame_equal(whole.scores, table)
    assert set(whole.losses.cell) == set(table.cell[table.trained])
    assert len(whole.not_computed) == len(plan_table(made.profile)) - len(grid.models)


def test_hours_are_checked_before_anything_is_trained(tmp_path):
    made, tokens = pipeline(tmp_path, profile_with(1.0))
    clips = load_tokens(tokens).clips
    y = tmp_path / "bold.npz"
    np.savez(y, bold=np.zeros((64, 5), np.float32))
    keys = clips[["subject", "session", "run"]].drop_duplicates().itertuples(index=False, name=None)
    with pytest.raises(CobeError, match="scan_hours: 1 h are 2416 volumes, and sub-1 has 128"):
        compute_grid(made, tokens, {key: external(y) for key in keys})
    assert not list(tmp_path.glob("grid*/*"))
