"""Labels per volume, purged borders, random volumes: who trains and who is held out."""

from collections import namedtuple

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import signal
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from cobe.core.errors import CobeError
from cobe.encoding import HRF, RandomVolumes, evaluate, stack_delays
from cobe.encoding.design import find_rows, row_counts
from cobe.encoding.folds import check_groups, make_folds
from cobe.encoding.permute import RefitNull
from cobe.encoding.splits import describe_folds, level_groups
from cobe.encoding.stats import block_permutations

pytestmark = pytest.mark.filterwarnings("ignore:alphas")
Repetition = namedtuple("Repetition", "level onset_s duration_s")
TR_S = 1.49
OPTIONS = {"delays_tr": (1, 2, 3), "alphas": [1, 100], "n_permutations": 0, "n_bootstrap": 0}


def slow(rng, n_rows, n_columns, rho):
    """Autoregressive noise of unit variance."""
    noise = rng.standard_normal((n_rows, n_columns)) * np.sqrt(1 - rho**2)
    noise[0] /= np.sqrt(1 - rho**2)
    return signal.lfilter([1], [1, -rho], noise, axis=0)


def runs_of(n_runs, n_trs=120, n_features=3, n_targets=4, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((n_features, n_targets))
    runs_x = [slow(rng, n_trs, n_features, 0.7) for _ in range(n_runs)]
    runs_y = [slow(rng, n_trs, n_targets, 0.5) for _ in range(n_runs)]
    for x, y in zip(runs_x, runs_y, strict=True):
        y[2:] += x[:-2] @ weights
    return runs_x, runs_y


def level_labels(n_trs, first=0):
    """Levels one after the other with a pause between them, in turn."""
    labels = np.full(n_trs, None, object)
    for k, begin in enumerate(range(0, n_trs - 30, 40)):
        labels[begin : begin + 34] = "145"[(first + k) % 3]
    return labels


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["1", "4", "5", None]), min_size=6, max_size=12)),
    st.integers(1, 6),
    st.integers(0, 9),
    st.integers(1, 6),
)
def test_no_volume_serves_both_sides(pieces, length, extra, reach):
    """Whatever the labels: training rows look at no volume that a held-out row looks at."""
    labels = [np.repeat(np.array(run, object), length) for run in pieces]
    lags = tuple(range(reach + 1))
    rows = [
        np.flatnonzero([t >= reach and label is not None for t, label in enumerate(own)])
        for own in labels
    ]
    try:
        split = make_folds(
            labels, check_groups(labels, list(map(len, labels))), rows, reach + extra
        )
    except CobeError:
        return
    run = np.repeat(np.arange(len(rows)), list(map(len, rows)))
    volume = np.concatenate(rows)
    flat = np.array([labels[r][v] for r, v in zip(run, volume, strict=True)])
    for fold in split.folds:
        assert_array_equal(fold.test, np.flatnonzero(flat == fold.label))
        looks = [
            {(r, v - lag) for r, v in zip(run[part], volume[part], strict=True) for lag in lags}
            for part in (fold.train, fold.test)
        ]
        assert not looks[0] & looks[1]
        held = {(r, v) for r, own in enumerate(labels) for v in np.flatnonzero(own == fold.label)}
        far = [
            all((r, v + step) not in held for step in range(-reach - extra, reach + extra + 1))
            for r, v in zip(run, volume, strict=True)
        ]
        assert_array_equal(fold.train, np.flatnonzero(far))
        assert fold.n_purged == (~np.array(far) & (flat != fold.label)).sum()


def test_levels_held_out_equal_a_plain_loop():
    """Purging, centring by run and level, and the counts, against scikit-learn row by row."""
    runs_x, runs_y = runs_of(4)
    groups = [level_labels(120, first) for first in range(4)]
    table = evaluate(runs_x, runs_y, groups=groups, **OPTIONS | {"alphas": [10.0]})
    x = np.concatenate([stack_delays(x, (1, 2, 3)) for x in runs_x])
    y, label = np.concatenate(runs_y), np.concatenate(groups)
    run, volume = np.repeat(np.arange(4), 120), np.tile(np.arange(120), 4)
    valid = (volume >= 3) & np.array([k is not None for k in label])
    kept_p, kept_y = [], []
    for level, counted in zip("145", table.attrs["folds"], strict=True):
        held = label == level
        near = np.array(
            [
                held[(run == r) & (abs(volume - v) <= 8)].any()
                for r, v in zip(run, volume, strict=True)
            ]
        )
        test, train = valid & held, valid & ~near
        assert counted == {
            "held_out": level,
            "n_train": train.sum(),
            "n_held_out": test.sum(),
            "n_purged": (valid & near & ~held).sum(),
        }
        p = Ridge(alpha=10.0).fit(x[train], y[train]).predict(x[test])
        for r in range(4):
            p[run[test] == r] -= p[run[test] == r].mean(axis=0)
        measured = y[test].copy()
        for r in range(4):
            measured[run[test] == r] -= measured[run[test] == r].mean(axis=0)
        found = table[(table.held_out == level) & (table.summary == "target")]
        expected = [pearsonr(p[:, t], measured[:, t])[0] for t in range(4)]
        assert_allclose(found.r, expected, atol=1e-5)
        kept_p.append(p / np.sqrt((p**2).mean(axis=0)))
        kept_y.append(measured)
    p, measured = np.concatenate(kept_p), np.concatenate(kept_y)
    found = table[(table.held_out == "all") & (table.summary == "target")]
    expected = [pearsonr(p[:, t], measured[:, t])[0] for t in range(4)]
    assert_allclose(found.r, expected, atol=1e-5)
    assert not table.leaks.any() and (found.r > 0.3).all()
    text = table.attrs["split"]
    assert "3 folds (1, 4, 5), labelled by volume, with purged borders" in text
    assert "leave-one-level-out" in describe_folds(groups, "level")


def test_penalty_for_levels_is_chosen_by_run_inside_training():
    """Leave-one-run-out over what the purge leaves of each run, against scikit-learn."""
    runs_x, runs_y = runs_of(3, n_features=8)
    runs_y = [
        y + 6 * np.random.default_rng(k).standard_normal(y.shape) for k, y in enumerate(runs_y)
    ]
    groups = [level_labels(120, first) for first in range(3)]
    alphas = [1.0, 30.0, 1000.0]
    table = evaluate(runs_x, runs_y, groups=groups, **OPTIONS | {"alphas": alphas})
    x = np.concatenate([stack_delays(x, (1, 2, 3))[3:] for x in runs_x])
    y, run = np.concatenate([y[3:] for y in runs_y]), np.repeat(range(3), 117)
    used = np.concatenate([[label is not None for label in own[3:]] for own in groups])
    x, y, run = x[used], y[used], run[used]
    rows = [np.flatnonzero([label is not None for label in own[3:]]) + 3 for own in groups]
    for fold in make_folds(groups, check_groups(groups, [120] * 3), rows, 8).folds:
        mse = np.zeros((3, 4))
        for left in range(3):
            train = fold.train[run[fold.train] != left]
            test = fold.train[run[fold.train] == left]
            for a, alpha in enumerate(alphas):
                error = y[test] - Ridge(alpha=alpha).fit(x[train], y[train]).predict(x[test])
                mse[a] += (error**2).mean(axis=0)
        found = table[(table.held_out == fold.label) & (table.summary == "target")].alpha
        assert_array_equal(found, np.array(alphas)[mse.argmin(axis=0)])


def test_chance_of_levels_is_calibrated():
    """Held-out levels: blocks move across them, and noise is found as often as it should be."""
    rng, p = np.random.default_rng(7), []
    for seed in range(25):
        runs_x = [slow(rng, 120, 3, 0.8) for _ in range(3)]
        runs_y = [slow(rng, 120, 40, 0.5) for _ in range(3)]
        groups = [level_labels(120, first) for first in range(3)]
        options = OPTIONS | {"n_permutations": 100, "block_trs": 20, "seed": seed}
        table = evaluate(runs_x, runs_y, groups=groups, **options)
        p.append(table.p[(table.held_out == "all") & (table.summary == "target")])
    # 25 data sets share features among their 40 targets: a standard error of about 0.012
    assert 0.02 < (np.concatenate(p) <= 0.05).mean() < 0.09


@pytest.mark.parametrize("groups", ["levels", "random"])
def test_refitted_chance_of_row_folds_equals_refitting(groups):
    """Moved by hand, refitted with scaled columns, centred by run and level again."""
    rng = np.random.default_rng(6)
    labels, rows = [level_labels(90, first) for first in range(2)], [np.arange(90)] * 2
    kept = [np.flatnonzero([label is not None for label in own]) for own in labels]
    if groups == "levels":
        split = make_folds(labels, check_groups(labels, [90, 90]), kept, 8)
        rows = kept
    else:
        split = make_folds(RandomVolumes(n_folds=3), None, rows, 0)
    n = len(split.run)
    x, y = rng.standard_normal((n, 4)) + 2, rng.standard_normal((n, 5)) + 3 * split.run[:, None]
    alphas = rng.choice([1.0, 10.0, 100.0], (3, 5))
    weights = rng.choice([0.0, 0.3, 0.7], (3, 4, 5))
    weights[:, 0] = 0.5  # never all 0, which would leave nothing to correlate
    order = block_permutations(list(map(len, rows)), 10, 5, rng)
    refit = RefitNull(torch.from_numpy(y), split, order, True)
    for k, fold in enumerate(split.folds):
        refit.add(torch.from_numpy(x), fold, alphas[k], weights[k])
    null = refit.r()
    for i, moved in enumerate(y[o] for o in order):
        p, measured = [], []
        for k, fold in enumerate(split.folds):
            predicted = np.empty((len(fold.test), 5))
            for t in range(5):
                scaled = x * np.sqrt(weights[k, :, t])
                model = Ridge(alpha=alphas[k, t]).fit(scaled[fold.train], moved[fold.train, t])
                predicted[:, t] = model.predict(scaled[fold.test])
            own = moved[fold.test].copy()
            runs = split.run[fold.test] if groups == "levels" else np.zeros(len(fold.test))
            for part in np.unique(runs):
                own[runs == part] -= own[runs == part].mean(axis=0)
                predicted[runs == part] -= predicted[runs == part].mean(axis=0)
            p.append(predicted / np.sqrt((predicted**2).mean(axis=0)))
            measured.append(own)
        p, measured = np.concatenate(p), np.concatenate(measured)
        expected = [(p[:, t] * measured[:, t]).sum() for t in range(5)]
        expected /= np.sqrt((p**2).sum(axis=0) * (measured**2).sum(axis=0))
        assert_allclose(null[i], expected, atol=1e-5)


def test_rows_are_counted_once_each():
    runs_x, runs_y = runs_of(3)
    groups = [level_labels(120, first) for first in range(3)]
    runs_x[1][50:53] = np.nan
    runs_y[2][10:20] = np.nan
    counts = row_counts(runs_x, runs_y, delays_tr=(1, 2, 3), groups=groups)
    parts = ["n_without_responses", "n_unlabelled", "n_before_run", "n_into_gap", "n_used"]
    assert_array_equal(counts[parts].sum(axis=1), counts.n_trs)
    assert counts.n_without_features.tolist() == [0, 3, 0]
    assert counts.n_without_responses.tolist() == [0, 0, 10]
    assert counts.n_unlabelled.tolist() == [sum(k is None for k in own) for own in groups]
    assert counts.n_before_run.tolist() == [3, 3, 3]
    # volumes 51 to 55 look into the gap
    assert counts.n_into_gap.tolist() == [0, 5, 0]
    table = evaluate(runs_x, runs_y, groups=groups, **OPTIONS)
    assert table.attrs["rows"] == counts.to_dict("records")
    whole = row_counts(runs_x, runs_y, delays_tr=(0,), hrf=HRF(TR_S))
    assert whole.n_before_run.tolist() == [16, 16, 10]  # ten more have no responses
    assert whole.n_into_gap.tolist() == [0, 19, 0]
    pd.testing.assert_frame_equal(  # JSON keeps what the table knows, as parquet files do
        pd.DataFrame(table.attrs["rows"]), counts
    )


def test_levels_of_volumes():
    repetitions = [Repetition("1-0", 0.0, 14.9), Repetition("4-1", 17.0, 10.0)]
    labels = level_groups(repetitions, 22, TR_S)
    middle = (np.arange(22) + 0.5) * TR_S
    expected = ["1-0" if m < 14.9 else "4-1" if 17 <= m < 27 else None for m in middle]
    assert labels.tolist() == expected
    with pytest.raises(CobeError, match="repetition 1: begins at 10.0 s, before another one ends"):
        level_groups([repetitions[0], Repetition("4-1", 10.0, 5.0)], 22, TR_S)
    with pytest.raises(CobeError, match="repetition 0: from nan"):
        level_groups([Repetition("1-0", np.nan, 5.0)], 22, TR_S)
    with pytest.raises(CobeError, match="must be positive"):
        level_groups(repetitions, 22, 0)


def test_random_volumes_leak_and_say_so():
    runs_x, runs_y = runs_of(4)
    strange = runs_of(4, seed=9)[0]
    held = evaluate(strange, runs_y, groups=range(4), **OPTIONS)
    for split in (RandomVolumes(seed=3), RandomVolumes(n_folds=5)):
        table = evaluate(strange, runs_y, groups=split, **OPTIONS)
        assert table.leaks.all() and table.attrs["leaks"]
        for text in (table.attrs["split"], describe_folds(split)):
            assert "random split of TRs: neighbouring volumes are on both sides, this leaks" in text
        n_folds = split.n_folds or 1
        assert set(table.held_out) == {"all", *(f["held_out"] for f in table.attrs["folds"])}
        assert len(table.attrs["folds"]) == n_folds
        assert not any(fold["n_purged"] for fold in table.attrs["folds"])
    assert not held.leaks.any() and "leaks" not in held.attrs["split"]


def test_single_random_split_equals_scikit_learn():
    """A tenth of all rows, pooled and centred once, as r is computed on a flat array."""
    runs_x, runs_y = runs_of(4)
    table = evaluate(runs_x, runs_y, groups=RandomVolumes(seed=3), **OPTIONS | {"alphas": [10.0]})
    x = np.concatenate([stack_delays(x, (1, 2, 3))[3:] for x in runs_x])
    y = np.concatenate([y[3:] for y in runs_y])
    labels, rows = None, [np.arange(3, 120)] * 4
    fold = make_folds(RandomVolumes(seed=3), labels, rows, 0).folds[0]
    assert len(fold.test) == round(0.1 * len(x))
    assert not set(fold.test) & set(fold.train)
    p = Ridge(alpha=10.0).fit(x[fold.train], y[fold.train]).predict(x[fold.test])
    expected = [pearsonr(p[:, t], y[fold.test, t])[0] for t in range(4)]
    found = table[(table.held_out == "all") & (table.summary == "target")]
    assert_allclose(found.r, expected, atol=1e-5)
    assert (found.n_trs == len(fold.test)).all()


def test_shuffled_folds_are_those_of_a_shuffled_kfold():
    split = make_folds(RandomVolumes(n_folds=4, seed=1), None, [np.arange(50), np.arange(41)], 0)
    sizes = sorted(len(test) for _, test in KFold(4, shuffle=True).split(np.zeros(91)))
    assert sorted(len(fold.test) for fold in split.folds) == sizes
    assert_array_equal(np.sort(np.concatenate([fold.test for fold in split.folds])), range(91))
    # neighbours are torn apart
    assert (np.diff(split.fold) != 0).mean() > 0.6


def test_chance_of_a_leaking_split_leaks_too():
    """Refitting under a random split shows the leak instead of calling noise significant."""
    rng = np.random.default_rng(1)
    runs_x = [slow(rng, 150, 12, 0.95) for _ in range(3)]
    runs_y = [slow(rng, 150, 30, 0.9) for _ in range(3)]
    options = OPTIONS | {"n_permutations": 60}
    table = evaluate(runs_x, runs_y, groups=RandomVolumes(n_folds=5), **options)
    mean = table[(table.held_out == "all") & (table.summary == "mean")].iloc[0]
    assert mean.r > 0.3 and mean.chance_95 > 0.3
    fair = evaluate(runs_x, runs_y, groups=range(3), **options)
    assert abs(fair[(fair.held_out == "all") & (fair.summary == "mean")].r.item()) < 0.15


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([level_labels(120)] * 2 + [level_labels(119)], "run 2: 119 labels in groups for 120"),
        ([np.full(120, "1")] * 3, "only '1' in 3 runs"),
        ([np.full(120, None)] * 3, "only None in 3 runs"),
        ([level_labels(120)] * 2 + [np.full(120, "")], "run 2: 0 valid rows .*120 of no group"),
        ([np.repeat(["1", "all"], 60)] * 3, "none may be 'all'"),
        ([np.repeat(["1", "4"], 60)] * 2, "2 labels for 3 runs"),
        ([np.repeat(["1", "4"], [2, 118])] + [np.full(120, "4")] * 2, "'1': 0 valid rows held out"),
        ([np.tile(["1", "4"], 60)] * 3, "'1': 0 valid rows for training, .* purged"),
    ],
)
def test_bad_labels_are_named(groups, words):
    with pytest.raises(CobeError, match=words):
        evaluate(*runs_of(3), groups=groups, **OPTIONS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test_fraction": 0}, "test_fraction: 0"),
        ({"test_fraction": 1.2}, "test_fraction: 1.2"),
        ({"n_folds": 1}, "n_folds: 1"),
    ],
)
def test_bad_random_splits_are_named(options, words):
    with pytest.raises(CobeError, match=words):
        RandomVolumes(**options)


def test_short_purge_and_moved_chance_are_refused():
    runs_x, runs_y = runs_of(3)
    levels = [level_labels(120, first) for first in range(3)]
    with pytest.raises(CobeError, match="purge_trs: 2, but delays reach back 3 volumes"):
        evaluate(runs_x, runs_y, groups=levels, **OPTIONS, purge_trs=2)
    few = evaluate(runs_x, runs_y, groups=levels, **OPTIONS, purge_trs=3).attrs["folds"]
    many = evaluate(runs_x, runs_y, groups=levels, **OPTIONS, purge_trs=12).attrs["folds"]
    assert all(a["n_purged"] < b["n_purged"] for a, b in zip(few, many, strict=True))
    with pytest.raises(CobeError, match="null: 'moved' moves predictions of whole runs"):
        evaluate(runs_x, runs_y, groups=RandomVolumes(), **OPTIONS, null="moved")


def test_rows_of_several_feature_sets_are_shared():
    runs_x, runs_y = runs_of(2, n_trs=40)
    other = [x.copy() for x in runs_x]
    other[0][20] = np.nan
    rows = find_rows(["a", "b"], [runs_x, other], runs_y, (1,))[0]
    assert set(range(1, 40)) - set(rows[0]) == {21} and len(rows[1]) == 39
