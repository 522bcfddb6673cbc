"""Bands of features: what each adds, over the same held-out rows."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import signal

from cobe.core.errors import CobeError
from cobe.encoding import RandomVolumes, Reduction, evaluate, unique_variance
from cobe.encoding.stats import fdr, paired_comparison
from cobe.encoding.unique import stack_bands

pytestmark = pytest.mark.filterwarnings("ignore:alphas")
OPTIONS = {
    "groups": range(4),
    "delays_tr": (1,),
    "alphas": [1, 10, 100, 1000],
    "n_permutations": 200,
    "block_trs": 15,
    "n_bootstrap": 200,
    "band_weights": 6,
}


def slow(rng, n_rows, n_columns, rho):
    """Autoregressive noise of unit variance."""
    noise = rng.standard_normal((n_rows, n_columns)) * np.sqrt(1 - rho**2)
    noise[0] /= np.sqrt(1 - rho**2)
    return signal.lfilter([1], [1, -rho], noise, axis=0)


def planted(n_runs=4, n_trs=150, seed=0, shares=(0.3, 0.3, 0.0)):
    """Independent bands of two columns; targets 0 ... 3 follow the bands with these shares.

    Targets 4 ... 7 follow the first band only.
    """
    rng = np.random.default_rng(seed)
    bands, runs_y = {name: [] for name in ("game", "hands", "other")}, []
    for _ in range(n_runs):
        y = np.sqrt(1 - sum(shares)) * slow(rng, n_trs, 8, 0.4)
        for (name, runs), share in zip(bands.items(), shares, strict=True):
            x = slow(rng, n_trs, 2, 0.6)
            part = np.sqrt(share) * x.sum(axis=1, keepdims=True) / np.sqrt(2)
            y[1:, : 4 if name != "game" else 8] += part[:-1]
            runs.append(x)
        runs_y.append(y)
    return bands, runs_y


@pytest.fixture(scope="module")
def table():
    return unique_variance(*planted(), band="hands", **OPTIONS)


def of(table, held_out="all", summary="target"):
    return table[(table["held_out"] == held_out) & (table["summary"] == summary)]


def test_planted_shares_are_recovered(table):
    scores = of(table)
    assert_allclose(scores.delta_r2[:4], 0.3, atol=0.1)
    assert_allclose(scores.delta_r2[4:], 0, atol=0.02)
    assert (scores.q[:4] < 0.05).all() and (scores.p_max[:4] < 0.05).all()
    assert (scores.p[4:] > 0.05).all()
    assert ((scores.ci_low < 0.3) & (0.3 < scores.ci_high))[:4].sum() >= 3
    mean = of(table, summary="mean").iloc[0]
    assert_allclose(mean.delta_r2, scores.delta_r2.mean())
    assert mean.ci_low < mean.delta_r2 < mean.ci_high and mean.p == 1 / 201
    assert (scores.delta_r[:4] > 0.1).all()
    other = unique_variance(*planted(), band="other", **OPTIONS)
    assert (of(other).p > 0.05).all() and of(other).delta_r2.abs().max() < 0.02


def test_both_models_are_those_of_evaluate_on_the_same_rows(table):
    bands, runs_y = planted()
    bands["hands"][1] = bands["hands"][1].copy()
    bands["hands"][1][40:50] = np.nan
    gappy = unique_variance(bands, runs_y, band="hands", **OPTIONS)
    kept = [bands["game"], bands["other"]]
    runs_x = [np.concatenate(pair, axis=1) for pair in zip(*kept, strict=True)]
    runs_x[1][40:50] = np.nan
    columns = {"game": slice(0, 2), "other": [2, 3]}
    options = OPTIONS | {"n_permutations": 0, "n_bootstrap": 0}
    controls = evaluate(runs_x, runs_y, bands=columns, reduce=Reduction("scale"), **options)
    for label in ("all", "0", "1"):
        ours, alone = of(gappy, label), of(controls, label)
        assert_array_equal(ours.n_trs, alone.n_trs)
        assert_allclose(ours.r2_controls, alone.r2, atol=1e-6)
        assert_allclose(ours.r_controls, alone.r, atol=1e-6)
        assert_allclose(ours.delta_r2, ours.r2_full - ours.r2_controls)
    assert of(gappy).n_trs.iloc[0] == of(table).n_trs.iloc[0] - 10
    assert gappy.attrs["rows"][1]["n_into_gap"] == 10


def test_tests_and_intervals_equal_plain_loops(table):
    """Signs of blocks flipped one by one; groups are the pairs of a paired comparison."""
    p = of(table).p.to_numpy()
    assert_allclose(of(table).q, fdr(p))
    assert (of(table).p_max >= of(table).p - 1e-12).all()
    units = {label: of(table, label, "mean").delta_r2.item() for label in "0123"}
    paired = paired_comparison(pd.Series(units), pd.Series(0.0, index=list(units)))
    assert paired.difference > 0.05
    n = np.array([of(table, label).n_trs.iloc[0] for label in "0123"])
    assert_array_equal(n, 149)
    again = unique_variance(*planted(), band="hands", **OPTIONS)
    pd.testing.assert_frame_equal(table, again, check_exact=True)


def test_a_useless_band_is_found_no_more_often_than_nominal():
    """It even goes with the controls, as features of one game do."""
    rng, p, familywise = np.random.default_rng(2), [], []
    for seed in range(20):
        control = [slow(rng, 100, 2, 0.8) for _ in range(4)]
        band = [0.7 * x + 0.7 * slow(rng, 100, 2, 0.8) for x in control]
        weights = np.sqrt(0.3) * rng.standard_normal((2, 20))
        runs_y = [x @ weights + slow(rng, 100, 20, 0.6) for x in control]
        options = OPTIONS | {"delays_tr": (0,), "seed": seed, "n_bootstrap": 0, "band_weights": 4}
        scores = of(unique_variance({"a": control, "b": band}, runs_y, band="b", **options))
        p.append(scores.p)
        familywise.append(scores.p_max.min() <= 0.05)
    assert (np.concatenate(p) <= 0.05).mean() < 0.065
    assert np.mean(familywise) < 0.2


def test_bands_make_one_set_of_features():
    bands, runs_y = planted()
    runs_x, columns = stack_bands(bands)
    assert columns == {"game": slice(0, 2), "hands": slice(2, 4), "other": slice(4, 6)}
    for name, where in columns.items():
        for x, own in zip(runs_x, bands[name], strict=True):
            assert_array_equal(x[:, where], own)
    options = OPTIONS | {"n_permutations": 50}
    # a loud useless band: one penalty for all drowns in it, one per band does not
    loud = dict(bands, other=[np.repeat(30 * x, 40, axis=1) for x in bands["other"]])
    rng = np.random.default_rng(1)
    loud["other"] = [x + 30 * rng.standard_normal(x.shape) for x in loud["other"]]
    runs_x, columns = stack_bands(loud)
    banded = evaluate(runs_x, runs_y, bands=columns, relative_alphas=True, **options)
    plain = evaluate(runs_x, runs_y, relative_alphas=True, **options)
    gain = of(banded, summary="mean").r.item() - of(plain, summary="mean").r.item()
    assert gain > 0.1
    assert (of(banded).p[:4] == 1 / 51).all()


def test_chance_of_bands_is_calibrated():
    """Refitting keeps the chosen weights of bands, with the penalties."""
    rng, p = np.random.default_rng(4), []
    for seed in range(15):
        runs_x = [slow(rng, 100, 4, 0.8) for _ in range(4)]
        runs_y = [slow(rng, 100, 40, 0.5) for _ in range(4)]
        bands = {"a": slice(0, 2), "b": slice(2, 4)}
        options = OPTIONS | {"n_permutations": 100, "n_bootstrap": 0, "seed": seed, "block_trs": 20}
        p.append(of(evaluate(runs_x, runs_y, bands=bands, **options)).p)
    assert 0.02 < (np.concatenate(p) <= 0.05).mean() < 0.09


def test_groups_of_levels_and_random_volumes_work_for_bands():
    bands, runs_y = planted(n_runs=3)
    levels = np.array(list("145145"), object).repeat(25)
    options = OPTIONS | {"n_permutations": 50}
    table = unique_variance(bands, runs_y, band="hands", **options | {"groups": [levels] * 3})
    assert set(table.held_out) == {"all", "1", "4", "5"} and not table.leaks.any()
    assert all(fold["n_purged"] for fold in table.attrs["folds"])
    assert of(table).delta_r2[:4].min() > 0.1
    leaky = unique_variance(bands, runs_y, band="hands", **options | {"groups": RandomVolumes()})
    assert leaky.leaks.all()


def test_unusable_targets_are_nan():
    bands, runs_y = planted()
    runs_y = [y.copy() for y in runs_y]
    runs_y[2][:, 1] = np.nan
    for y in runs_y:
        y[:, 5] = 3.0
    scores = of(unique_variance(bands, runs_y, band="hands", **OPTIONS))
    numbers = ["delta_r2", "p", "q", "p_max", "ci_low", "delta_r", "r2_full", "r_controls"]
    assert scores[numbers].iloc[[1, 5]].isna().all(axis=None)
    assert scores[numbers].drop(index=[1, 5]).notna().all(axis=None)


def with_runs(**runs):
    bands, runs_y = planted()
    return bands | runs, runs_y


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (planted, {"band": "feet"}, "'feet' is not one of two or more bands .'game', 'hands'"),
        (planted, {"bootstrap": "rows"}, "'rows' is unknown"),
        (planted, {"bootstrap": "group"}, "4 groups are too few"),
        (planted, {"band_weights": 0}, "band_weights: 0"),
        (planted, {"n_permutations": -1}, "n_permutations: -1"),
        (lambda: with_runs(other=[np.zeros((150, 2))] * 3), {}, "'other': runs of .*same runs"),
        (lambda: with_runs(other=[np.zeros((9, 2))] * 4), {}, "'other': runs of .*same runs"),
        (lambda: with_runs(other=[np.zeros(150)] * 4), {}, "'other', run 0: shape"),
        (
            lambda: with_runs(other=[np.zeros((150, k)) for k in (2, 2, 3, 2)]),
            {},
            "'other': runs have .2, 3. features",
        ),
    ],
)
def test_bad_bands_are_named(make, options, words):
    with pytest.raises(CobeError, match=words):
        unique_variance(*make(), **OPTIONS | {"band": "hands"} | options)


@pytest.mark.parametrize(
    ("bands", "words"),
    [
        ([slice(0, 3), slice(3, 6)], "give a dict"),
        ({"a": slice(0, 3), "b": slice(3, 5)}, "1 features .first: 5. are in no band"),
        ({"a": slice(0, 4), "b": slice(3, 6)}, "'b' shares a column"),
        ({"a": slice(0, 6), "b": []}, "'b' selects no column"),
        ({"a": slice(0, 3), "b": [3, 4, 9]}, "'b' names column 9 of 6"),
        ({"a": slice(0, 3), "b": 4.5}, "'b' selects no column"),
    ],
)
def test_bad_columns_of_bands_are_named(bands, words):
    data, runs_y = planted()
    with pytest.raises(CobeError, match=words):
        evaluate(stack_bands(data)[0], runs_y, bands=bands, **OPTIONS)


def test_bands_want_a_penalty_per_target():
    data, runs_y = planted()
    runs_x, columns = stack_bands(data)
    with pytest.raises(CobeError, match="bands are chosen per target"):
        evaluate(runs_x, runs_y, bands=columns, alpha_per_target=False, **OPTIONS)
    with pytest.raises(CobeError, match="none given"):
        stack_bands({})
