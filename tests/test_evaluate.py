import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import signal
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge

from cobe.core.errors import CobeError
from cobe.encoding import evaluate, stack_delays
from cobe.encoding.folds import check_groups, make_folds
from cobe.encoding.permute import RefitNull
from cobe.encoding.stats import block_permutations

pytestmark = pytest.mark.filterwarnings("ignore:alphas")
ALPHAS = np.logspace(-1, 5, 7)
GROUPS = ["s1", "s1", "s2", "s3", "s3"]
OPTIONS = {
    "groups": GROUPS,
    "delays_tr": (1, 2, 3),
    "alphas": ALPHAS,
    "n_permutations": 100,
    "block_trs": 20,
}
COLUMNS = (
    "target summary held_out r r2 p q p_max chance_95 ci_low ci_high n_trs alpha n_alpha_edge "
    "readout leaks"
).split()


def slow(rng, n_rows, n_columns, rho):
    """Autoregressive noise of unit variance, from its stationary distribution."""
    noise = rng.standard_normal((n_rows, n_columns)) * np.sqrt(1 - rho**2)
    noise[0] /= np.sqrt(1 - rho**2)
    return signal.lfilter([1], [1, -rho], noise, axis=0)


def planted(n_targets=12, n_null=6, n_features=5, n_runs=5, n_trs=90, seed=0):
    """Slow features; the first targets follow them two volumes later, the last ones do not."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((n_features, n_targets)) * 0.5
    weights[:, n_targets - n_null :] = 0
    runs_x, runs_y = [], []
    for run in range(n_runs):
        x = slow(rng, n_trs + 3 * run, n_features, 0.8)
        y = slow(rng, len(x), n_targets, 0.5)
        y[2:] += x[:-2] @ weights
        x[40:44] = np.nan
        y[70:72] = np.nan
        runs_x.append(x)
        runs_y.append(y)
    return runs_x, runs_y


@pytest.fixture(scope="module")
def table():
    return evaluate(*planted(), **OPTIONS)


def of(table, held_out="all", summary="target"):
    return table[(table["held_out"] == held_out) & (table["summary"] == summary)]


def plain_scores(runs_x, runs_y, groups, delays, alphas):
    """Nested leave-one-group-out with scikit-learn and loops: predictions, responses, penalties."""
    xs, ys = [], []
    for x, y in zip(runs_x, runs_y, strict=True):
        stacked = stack_delays(x, delays)
        kept = ~np.isnan(stacked).any(axis=1) & ~np.isnan(y).any(axis=1)
        xs.append(stacked[kept])
        ys.append(y[kept])
    predicted, chosen = [None] * len(xs), {}
    for label in dict.fromkeys(groups):
        train = [i for i, g in enumerate(groups) if g != label]
        mse = np.zeros((len(alphas), ys[0].shape[1]))
        for left in train:
            rest = [i for i in train if i != left] or train
            x, y = np.concatenate([xs[i] for i in rest]), np.concatenate([ys[i] for i in rest])
            for a, alpha in enumerate(alphas):
                error = ys[left] - Ridge(alpha=alpha).fit(x, y).predict(xs[left])
                mse[a] += (error**2).mean(axis=0)
        chosen[label] = alphas[mse.argmin(axis=0)]
        x, y = np.concatenate([xs[i] for i in train]), np.concatenate([ys[i] for i in train])
        models = [Ridge(alpha=a).fit(x, y[:, t]) for t, a in enumerate(chosen[label])]
        for i, g in enumerate(groups):
            if g == label:
                predicted[i] = np.stack([m.predict(xs[i]) for m in models], axis=1)
    return predicted, ys, chosen


def equalised(predicted, groups):
    """Predictions over their standard deviation in all runs of their group."""
    together = {g: [p for p, h in zip(predicted, groups, strict=True) if h == g] for g in groups}
    return [
        p / np.concatenate(together[g]).std(axis=0) for p, g in zip(predicted, groups, strict=True)
    ]


def test_scores_equal_scikit_learn_and_scipy(table):
    predicted, measured, chosen = plain_scores(*planted(), GROUPS, (1, 2, 3), ALPHAS)
    p = [a - a.mean(axis=0) for a in predicted]
    y = [a - a.mean(axis=0) for a in measured]
    for label in ["all", "s1", "s2", "s3"]:
        runs = [i for i, g in enumerate(GROUPS) if label in ("all", g)]
        pl, yl = np.concatenate([p[i] for i in runs]), np.concatenate([y[i] for i in runs])
        even = np.concatenate(equalised(p, GROUPS)) if label == "all" else pl
        found = of(table, label)
        assert_array_equal(found["target"], range(12))
        assert (found["n_trs"] == len(pl)).all()
        assert_allclose(
            found["r"], [pearsonr(even[:, t], yl[:, t])[0] for t in range(12)], atol=1e-5
        )
        r2 = 1 - ((yl - pl) ** 2).sum(axis=0) / (yl**2).sum(axis=0)
        assert_allclose(found["r2"], r2, atol=1e-5)
        if label != "all":
            assert_allclose(found["alpha"], chosen[label])
            edge = np.isin(chosen[label], ALPHAS[[0, -1]])
            assert_array_equal(found["n_alpha_edge"], edge)
            assert of(table, label, "mean")["n_alpha_edge"].item() == edge.sum()
    alphas = np.stack(list(chosen.values()))
    raw = evaluate(*planted(), **OPTIONS, equalise_folds=False)
    pl, yl = np.concatenate(p), np.concatenate(y)
    assert_allclose(of(raw)["r"], [pearsonr(pl[:, t], yl[:, t])[0] for t in range(12)], atol=1e-5)
    assert_allclose(of(table)["alpha"], np.exp(np.log(alphas).mean(axis=0)))


def test_table_has_the_promised_shape(table):
    assert list(table.columns) == COLUMNS
    assert len(table) == 4 * (12 + 2)
    assert set(table["held_out"]) == {"all", "s1", "s2", "s3"}
    summaries = table[table["summary"] != "target"]
    assert (summaries["target"] == -1).all()
    assert sorted(summaries["summary"]) == ["max"] * 4 + ["mean"] * 4
    chance = ["p", "q", "p_max", "chance_95", "ci_low", "ci_high"]
    assert table.loc[table["held_out"] != "all", chance].isna().all(axis=None)
    assert of(table)[chance].notna().all(axis=None)
    for column in ("target", "n_trs", "n_alpha_edge"):
        assert pd.api.types.is_integer_dtype(table[column])
    for label in ["all", "s1", "s2", "s3"]:
        r = of(table, label)["r"]
        assert_allclose(of(table, label, "mean")["r"], r.mean())
        assert_allclose(of(table, label, "max")["r"], r.max())


def test_planted_targets_are_found_and_null_targets_are_not(table):
    scores = of(table)
    followed, null = scores.iloc[:6], scores.iloc[6:]
    assert (followed["r"] > 0.3).all()
    assert (followed["q"] < 0.05).all() and (followed["p_max"] < 0.05).all()
    assert (followed["ci_low"] > 0).all()
    assert (followed["r"] > followed["chance_95"]).all()
    assert null["r"].abs().mean() < 0.2 < followed["r"].mean()
    assert (null["p_max"] > 0.05).all()
    assert (scores["ci_low"] < scores["r"]).all() and (scores["r"] < scores["ci_high"]).all()
    mean = of(table, summary="mean").iloc[0]
    assert mean["p"] == 1 / 101
    assert mean["ci_low"] < mean["r"] < mean["ci_high"]
    largest = of(table, summary="max").iloc[0]
    assert largest["p"] == largest["p_max"] == scores["p_max"].min()
    assert np.isnan(largest["ci_low"])


def test_features_of_other_runs_are_at_chance():
    runs_x, runs_y = planted(n_null=0, n_targets=30, n_trs=96)
    strange = [x[: len(y)] for x, y in zip(planted(n_trs=108, seed=8)[0], runs_y, strict=True)]
    table = evaluate(strange, runs_y, **OPTIONS)
    mean = of(table, summary="mean").iloc[0]
    assert abs(mean["r"]) < 0.08
    assert mean["p"] > 0.05
    assert (of(table)["q"] > 0.05).all()


def test_same_seed_same_table_and_another_seed_only_moves_chance(table):
    again = evaluate(*planted(), **OPTIONS)
    pd.testing.assert_frame_equal(table, again, check_exact=True)
    other = evaluate(*planted(), **OPTIONS, seed=1)
    assert_array_equal(table["r"], other["r"])
    assert not np.array_equal(of(table)["chance_95"], of(other)["chance_95"])


def test_held_out_responses_do_not_reach_their_own_model(table):
    runs_x, runs_y = planted()
    noise = np.random.default_rng(1)
    runs_y[2] = runs_y[2] + 5 * noise.standard_normal(runs_y[2].shape)
    changed = evaluate(runs_x, runs_y, **OPTIONS)
    assert_array_equal(of(table, "s2")["alpha"], of(changed, "s2")["alpha"])
    assert (of(table, "s2")["r"].to_numpy() != of(changed, "s2")["r"].to_numpy()).all()
    runs_x, runs_y = planted()
    runs_y[2] = -3 * runs_y[2] + 100
    mirrored = evaluate(runs_x, runs_y, **OPTIONS, dtype=np.float64)
    assert_allclose(of(mirrored, "s2")["r"], -of(table, "s2")["r"], atol=1e-5)


def test_offset_of_a_run_is_no_credit():
    """Runs that differ only in their mean level score nothing, though the levels go together."""
    rng = np.random.default_rng(0)
    runs_x = [rng.standard_normal((60, 2)) + 10 * run for run in range(4)]
    runs_y = [rng.standard_normal((60, 20)) + 10 * run for run in range(4)]
    options = OPTIONS | {"groups": range(4)}
    assert abs(of(evaluate(runs_x, runs_y, **options), summary="mean")["r"].item()) < 0.06


def test_unscorable_targets_are_nan_and_said():
    runs_x, runs_y = planted()
    whole = evaluate(runs_x, runs_y, **OPTIONS)
    for run, y in enumerate(runs_y):
        y[:, 0] = np.where(np.isnan(y[:, 0]), np.nan, 2.7)
        if run == 3:
            y[:, 7] = np.nan
    with pytest.warns(RuntimeWarning, match=r"2 of 12 cannot be scored \(first: 0\), 1 of them"):
        table = evaluate(runs_x, runs_y, **OPTIONS)
    for label in ["all", "s1"]:
        dead = of(table, label).iloc[[0, 7]]
        assert dead[["r", "r2", "p", "q", "p_max", "chance_95", "ci_low", "alpha"]].isna().all(None)
    alive = [t for t in range(12) if t not in (0, 7)]
    assert_allclose(of(table).iloc[alive]["r"], of(whole).iloc[alive]["r"], atol=1e-6)
    assert_allclose(of(table, summary="mean")["r"], of(whole).iloc[alive]["r"].mean(), atol=1e-6)


def test_equal_folds_score_like_their_groups(table):
    raw = evaluate(*planted(), **OPTIONS, equalise_folds=False)
    assert_array_equal(of(raw, "s1")["r"], of(table, "s1")["r"])
    assert_array_equal(of(raw)["r2"], of(table)["r2"])
    groups = pd.concat([of(table, g) for g in ("s1", "s2", "s3")])
    weighted = (groups["r"] * groups["n_trs"]).groupby(groups["target"]).sum()
    weighted /= groups["n_trs"].groupby(groups["target"]).sum()
    assert_allclose(of(table)["r"], weighted, atol=0.03)


@pytest.mark.parametrize("n_features", [4, 80])
@pytest.mark.parametrize("equalise", [True, False])
def test_refitted_chance_equals_refitting(n_features, equalise):
    rng = np.random.default_rng(6)
    lengths, groups = [40, 35, 44], np.array([0, 1, 1])
    xs = [rng.standard_normal((n, n_features)) + 2 for n in lengths]
    ys = [rng.standard_normal((n, 5)) + 3 * i for i, n in enumerate(lengths)]
    alphas = np.array([[1.0, 10, 10, 100, np.nan], [10, 10, 1, 1000, np.nan]])
    order = block_permutations(lengths, 10, 6, np.random.default_rng(1))
    order[0] = np.arange(sum(lengths))
    x, y = (torch.from_numpy(np.concatenate(arrays)) for arrays in (xs, ys))
    labels = check_groups(groups, lengths)
    split = make_folds(groups, labels, [np.arange(n) for n in lengths], 8)
    refit = RefitNull(y, split, order, equalise)
    for fold, penalties in zip(split.folds, alphas, strict=True):
        refit.add(x, fold, penalties)
    null = refit.r()
    run = np.repeat(np.arange(3), lengths)
    for i, rows in enumerate(order):
        moved = np.concatenate(ys)[rows]
        p, y = [None] * 3, [moved[run == k] - moved[run == k].mean(axis=0) for k in range(3)]
        for fold in (0, 1):
            train = np.isin(run, np.flatnonzero(groups != fold))
            models = [
                Ridge(alpha=alphas[fold, t]).fit(np.concatenate(xs)[train], moved[train, t])
                for t in range(4)
            ]
            for k in np.flatnonzero(groups == fold):
                p[k] = np.stack([m.predict(xs[k]) for m in models], axis=1)
                p[k] -= p[k].mean(axis=0)
        p = equalised(p, groups.tolist()) if equalise else p
        p, y = np.concatenate(p), np.concatenate(y)
        assert_allclose(null[i, :4], [pearsonr(p[:, t], y[:, t])[0] for t in range(4)], atol=1e-5)
    assert np.isnan(null[:, 4]).all()


def test_null_by_moving_changes_only_chance(table):
    moved = evaluate(*planted(), **OPTIONS, null="moved")
    assert_array_equal(of(moved)[["r", "r2", "ci_low"]], of(table)[["r", "r2", "ci_low"]])
    assert (of(moved)["chance_95"].to_numpy() != of(table)["chance_95"].to_numpy()).all()


def test_relative_penalties_score_features_of_any_scale_alike():
    runs_x, runs_y = planted()
    options = OPTIONS | {"relative_alphas": True, "dtype": np.float64}
    table = evaluate(runs_x, runs_y, **options)
    large = evaluate([x * 1000 for x in runs_x], runs_y, **options)
    pd.testing.assert_frame_equal(table, large, rtol=1e-6)
    unlike = evaluate([x * 1000 for x in runs_x], runs_y, **OPTIONS)
    assert (of(unlike)["alpha"] > of(table)["alpha"]).mean() > 0.4


def test_two_runs_are_enough():
    runs_x, runs_y = planted(n_runs=2, n_trs=150)
    options = OPTIONS | {"groups": ["a", "b"]}
    table = evaluate(runs_x, runs_y, **options)
    assert (of(table).iloc[:6]["r"] > 0.3).all()
    single = evaluate(runs_x, runs_y, **options | {"alphas": [10.0]})
    predicted, measured, _ = plain_scores(runs_x, runs_y, ["a", "b"], (1, 2, 3), np.array([10.0]))
    predicted = equalised([a - a.mean(axis=0) for a in predicted], ["a", "b"])
    p, y = (np.concatenate([a - a.mean(axis=0) for a in b]) for b in (predicted, measured))
    assert_allclose(of(single)["r"], [pearsonr(p[:, t], y[:, t])[0] for t in range(12)], atol=1e-5)
    assert (single["n_alpha_edge"] == 0).all()


def test_more_columns_than_rows():
    rng = np.random.default_rng(2)
    runs_x = [rng.standard_normal((50, 150)) for _ in range(4)]
    weights = rng.standard_normal((150, 4)) / 12
    runs_y = [x @ weights + 0.3 * rng.standard_normal((50, 4)) for x in runs_x]
    options = OPTIONS | {"groups": range(4), "delays_tr": (0, 1)}
    table = evaluate(runs_x, runs_y, **options)
    predicted, measured, _ = plain_scores(runs_x, runs_y, range(4), (0, 1), ALPHAS)
    predicted = equalised([a - a.mean(axis=0) for a in predicted], range(4))
    p, y = (np.concatenate([a - a.mean(axis=0) for a in b]) for b in (predicted, measured))
    assert_allclose(of(table)["r"], [pearsonr(p[:, t], y[:, t])[0] for t in range(4)], atol=1e-5)


def test_false_positives_of_the_whole_path_are_near_nominal():
    """Noise, slow on both sides: refitting is calibrated where moving predictions is not."""
    rng = np.random.default_rng(5)
    single, any_target, r = {}, {}, []
    for seed in range(30):
        runs_x = [slow(rng, 100, 4, 0.8) for _ in range(4)]
        runs_y = [slow(rng, 100, 40, 0.5) for _ in range(4)]
        for null in ("refit", "moved"):
            options = {"groups": range(4), "delays_tr": (1, 2), "alphas": [1, 100, 1e4]}
            options |= {"n_permutations": 100, "n_bootstrap": 0, "block_trs": 20, "seed": seed}
            scores = of(evaluate(runs_x, runs_y, **options, null=null))
            single.setdefault(null, []).append((scores["p"] <= 0.05).mean())
            any_target.setdefault(null, []).append(scores["p_max"].min() <= 0.05)
        r.append(scores["r"].mean())
    assert 0.03 < np.mean(single["refit"]) < 0.075
    assert np.mean(any_target["refit"]) < 0.17
    assert np.mean(single["moved"]) > 0.08
    assert abs(np.mean(r)) < 0.02


def test_group_bootstrap_needs_groups():
    runs_x, runs_y = planted(n_runs=6)
    options = OPTIONS | {"groups": range(6), "bootstrap": "group"}
    table = evaluate(runs_x, runs_y, **options)
    assert (of(table).iloc[:6]["ci_low"] > 0).all()
    with pytest.raises(CobeError, match="3 groups are too few"):
        evaluate(*planted(), **OPTIONS, bootstrap="group")


def test_without_permutations_and_bootstrap_chance_is_nan():
    table = evaluate(*planted(), **OPTIONS | {"n_permutations": 0, "n_bootstrap": 0})
    assert of(table)[["p", "q", "p_max", "chance_95", "ci_low", "ci_high"]].isna().all(axis=None)
    assert of(table)["r"].notna().all()


def test_short_runs_are_named():
    runs_x, runs_y = planted(n_trs=90)
    runs_x[1][45:] = np.nan
    with pytest.warns(
        RuntimeWarning, match=r"run 1 \(group 's1'\): 38 valid rows .*lower block_trs"
    ):
        evaluate(runs_x, runs_y, **OPTIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.filterwarnings("ignore", "alphas")
        evaluate(*planted(), **OPTIONS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block_trs": 110}, r"run 0 .*fewer than a block of 110, as in every run"),
        ({"null": "none"}, "null: 'none' is unknown"),
        ({"block_trs": 0}, "block_trs: 0"),
        ({"n_permutations": -1}, "n_permutations: -1"),
        ({"n_permutations": 0.5}, "n_permutations: 0.5"),
        ({"n_bootstrap": -3}, "n_bootstrap"),
        ({"bootstrap": "rows"}, "'rows' is unknown"),
        ({"groups": ["all", "b", "c", "d", "e"]}, "none may be 'all'"),
        ({"groups": [1, "1", 2, 3, 4]}, "differ as text"),
        ({"groups": ["a"] * 5}, "at least two"),
        ({"groups": ["a"] * 4}, "4 labels for 5 runs"),
        ({"alphas": [-1]}, "finite and positive"),
        ({"delays_tr": (95,)}, "run 0 .*does not fit"),
    ],
)
def test_bad_options_are_named(changes, words):
    with pytest.raises(CobeError, match=words):
        evaluate(*planted(), **OPTIONS | changes)


def test_too_short_a_single_training_run_is_named():
    rng = np.random.default_rng(0)
    runs_x = [rng.standard_normal((20, 2)) for _ in range(2)]
    options = OPTIONS | {"groups": [0, 1], "block_trs": 5}
    with pytest.raises(CobeError, match="too short for 4 parts"):
        evaluate(runs_x, runs_x, **options)


def broken(change):
    runs_x, runs_y = planted()
    change(runs_x, runs_y)
    return runs_x, runs_y


def cut(runs, run, columns):
    runs[run] = runs[run][:, :columns]


def put(runs, run, where, value):
    runs[run][where] = value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: cut(x, 3, 4), r"run 3 \(group 's3'\): 4 features, but run 0 has 5; give"),
        (lambda x, y: cut(y, 2, 9), r"run 2 \(group 's2'\): 9 targets, but run 0 has 12; give"),
        (lambda x, y: [cut(x, k, 0) for k in range(5)], r"run 0 .*: no features; give"),
        (lambda x, y: put(x, 4, 7, np.inf), r"run 4 \(group 's3'\): infinite features; mark"),
        (lambda x, y: put(y, 1, 7, -np.inf), r"run 1 \(group 's1'\): infinite responses; mark"),
        (lambda x, y: put(x, 1, slice(None), np.nan), r"run 1 .*: 0 valid rows .*; leave the run"),
        (lambda x, y: put(y, 1, slice(None), np.nan), r"run 1 .*: 0 valid rows .*; leave the run"),
        (lambda x, y: put(y, 0, (5, 3), np.nan), r"run 0 .*: 1 targets .first: 3. are NaN in rows"),
        (lambda x, y: x.pop(), "4 of features and 5 of responses; give both"),
        (lambda x, y: x.__setitem__(2, x[2][:-1]), r"run 2 .*: 95 rows of features and 96 of"),
        (lambda x, y: x.__setitem__(2, x[2][:, 0]), r"run 2 .*: shapes .96,., .96, 12.; give"),
        (lambda x, y: (x.clear(), y.clear()), "0 of features and 0 of responses"),
    ],
)
def test_bad_data_are_named_before_any_fit(change, words, monkeypatch):
    def no_fit(*arguments):
        raise AssertionError("a fit began")

    monkeypatch.setattr("cobe.encoding.crossval.fit_folds", no_fit)
    monkeypatch.setattr("cobe.encoding.scoring.fit_folds", no_fit)
    with pytest.raises(CobeError, match=words):
        evaluate(*broken(change), **OPTIONS)


def test_table_keeps_what_it_knows_in_a_file(table, tmp_path):
    table.to_parquet(tmp_path / "scores.parquet")
    again = pd.read_parquet(tmp_path / "scores.parquet")
    assert again.attrs == table.attrs
    # rows 41 to 46 look at a volume of 40 ... 43
    assert table.attrs["rows"][0] == {
        "run": 0,
        "n_trs": 90,
        "n_without_features": 4,
        "n_without_responses": 2,
        "n_unlabelled": 0,
        "n_before_run": 3,
        "n_into_gap": 6,
        "n_used": 79,
    }
    assert sum(run["n_used"] for run in table.attrs["rows"]) == of(table)["n_trs"].iloc[0]
    assert not table["leaks"].any() and (table["readout"] == "").all()


def test_no_usable_target_is_nan_throughout():
    runs_x, runs_y = planted()
    for y in runs_y:
        y[:] = np.where(np.isnan(y), np.nan, 1.0)
    with pytest.warns(RuntimeWarning, match="12 of 12 cannot be scored"):
        table = evaluate(runs_x, runs_y, **OPTIONS)
    assert table[["r", "r2", "p", "alpha"]].isna().all(axis=None)
