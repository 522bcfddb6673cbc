"""Null and planted BOLD against numpy's and scipy's spectra, and against what was planted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import signal

from cobe.core.errors import CobeError
from cobe.core.timing import TR_S
from cobe.encoding import HRF
from cobe.encoding.surrogates import MIN_ROWS, lag_one, null_bold, planted_bold, slow_noise

HRF_12 = HRF(TR_S, span_s=12.0)


def correlated(rng, n_rows, n_columns=5, rho=0.7):
    mixing = rng.standard_normal((n_columns, n_columns))
    return slow_noise(rng, n_rows, n_columns, rho) @ mixing + 100 * rng.random(n_columns)


@settings(max_examples=60, deadline=None)
@given(st.integers(MIN_ROWS, 203), st.integers(1, 4), st.integers(0, 2**32))
def test_any_length_keeps_mean_spectrum_and_autocorrelation(n_trs, n_targets, seed):
    y = correlated(np.random.default_rng(seed), n_trs, n_targets)
    (made,) = null_bold([y], seed)
    assert made.shape == y.shape
    assert_allclose(made.mean(axis=0), y.mean(axis=0), atol=1e-8)
    for one, other in zip(y.T, made.T, strict=True):
        power = signal.periodogram(one, window="boxcar", detrend=False)[1]
        assert_allclose(
            signal.periodogram(other, window="boxcar", detrend=False)[1],
            power,
            atol=1e-9 * power.max(),
        )
        one, other = one - one.mean(), other - other.mean()
        circular = [one @ np.roll(one, lag) for lag in range(n_trs)]
        assert_allclose([other @ np.roll(other, lag) for lag in range(n_trs)], circular, atol=1e-6)


@pytest.mark.parametrize("n_trs", [150, 151])
def test_correlations_between_parcels_are_kept_at_every_lag(n_trs):
    y = correlated(np.random.default_rng(1), n_trs)
    (made,) = null_bold([y], 3)
    assert_allclose(np.corrcoef(made.T), np.corrcoef(y.T), atol=1e-10)
    for lag in (1, 7):
        before, after = (
            (a - a.mean(axis=0)).T @ np.roll(a - a.mean(axis=0), lag, axis=0) for a in (y, made)
        )
        assert_allclose(after, before, atol=1e-7)


def test_seed_decides_and_runs_and_draws_differ():
    rng = np.random.default_rng(2)
    y = correlated(rng, 120)
    first, second = null_bold([y, y], 5)
    assert_array_equal(null_bold([y, y], 5), [first, second])
    assert not np.allclose(first, second)
    assert not np.allclose(null_bold([y], 6)[0], first)


def test_the_relation_to_a_signal_is_lost():
    rng = np.random.default_rng(3)
    x = slow_noise(rng, 400, 1, 0.7)
    y = x + 0.1 * rng.standard_normal((400, 3))
    r = [np.corrcoef(x[:, 0], null_bold([y], seed)[0][:, 0])[0, 1] for seed in range(300)]
    assert np.corrcoef(x[:, 0], y[:, 0])[0, 1] > 0.98
    # a sum of cosines with independent phases, one per frequency, weighted by both amplitudes
    amplitudes = np.abs(np.fft.rfft(x[:, 0])) * np.abs(np.fft.rfft(y[:, 0]))
    weights = 2 * amplitudes[1:-1] / 400 / (400 * x.std() * y[:, 0].std())
    expected = np.sqrt((weights**2).sum() / 2)
    assert abs(np.mean(r)) < 4 * expected / np.sqrt(300)
    assert np.std(r) == pytest.approx(expected, rel=0.15)


def test_missing_ends_and_targets_stay_missing_and_touch_nothing():
    y = correlated(np.random.default_rng(4), 90).astype(np.float32)
    ragged = np.full((100, 6), np.nan, np.float32)
    ragged[4:94, [0, 1, 3, 4, 5]] = y
    (made,) = null_bold([ragged], 0)
    assert made.dtype == np.float32
    assert_array_equal(np.isnan(made), np.isnan(ragged))
    assert_array_equal(made[4:94, [0, 1, 3, 4, 5]], null_bold([y], 0)[0])


def test_gaps_holes_infinities_and_stubs_are_refused():
    y = correlated(np.random.default_rng(5), 60)
    gap, hole, infinite = y.copy(), y.copy(), y.copy()
    gap[20:23] = np.nan
    hole[30, 2] = np.nan
    infinite[7, 1] = np.inf
    with pytest.raises(CobeError, match=r"run 1: 3 volumes inside .*first: 20"):
        null_bold([y, gap], 0)
    with pytest.raises(CobeError, match=r"run 0: 1 volumes inside .*first: 30"):
        null_bold([hole], 0)
    with pytest.raises(CobeError, match="run 0: infinite"):
        null_bold([infinite], 0)
    for short in (y[: MIN_ROWS - 1], np.full((50, 3), np.nan)):
        with pytest.raises(CobeError, match="leave the run out"):
            null_bold([short], 0)
    with pytest.raises(CobeError, match=r"give \(n_trs, n_targets\)"):
        null_bold([y[:, 0]], 0)


def sets_and_noise(n_runs=4, n_trs=800, n_targets=6, seed=6):
    rng = np.random.default_rng(seed)
    runs_x = {
        "narrow": [slow_noise(rng, n_trs, 3, 0.5) for _ in range(n_runs)],
        "wide": [5 * slow_noise(rng, n_trs, 20, 0.8) + 7 for _ in range(n_runs)],
    }
    return runs_x, [slow_noise(rng, n_trs, n_targets, 0.4) for _ in range(n_runs)]


def test_planted_shares_are_those_of_the_sum_and_of_independent_parts():
    runs_x, noise = sets_and_noise()
    shares = {"narrow": 0.3, "wide": 0.1}
    runs, drives = planted_bold(runs_x, shares, noise, hrf=HRF_12, seed=1)
    y = np.concatenate(runs)
    there = ~np.isnan(y).any(axis=1)
    assert there.sum() == 4 * (800 - HRF_12.n_lags + 1)
    parts = {name: np.concatenate(runs_d)[there] for name, runs_d in drives.items()}
    for part in parts.values():
        assert_allclose((part**2).mean(axis=0), 1)
    rest = y[there] - sum(np.sqrt(shares[name]) * part for name, part in parts.items())
    assert_allclose((rest**2).mean(axis=0), 0.6, atol=1e-9)
    for name, share in shares.items():
        r = [np.corrcoef(a, b)[0, 1] for a, b in zip(parts[name].T, y[there].T, strict=True)]
        assert np.mean(r) == pytest.approx(np.sqrt(share), abs=0.05)


def test_a_drive_is_a_direction_in_its_set_through_the_response_function():
    runs_x, noise = sets_and_noise(n_runs=2, n_trs=300)
    _, drives = planted_bold(runs_x, {"narrow": 0.5, "wide": 0}, noise, hrf=HRF_12, seed=2)
    for name, runs in runs_x.items():
        # scipy's causal filter, then least squares: the drive lies in its columns
        x = [signal.lfilter(HRF_12.kernel, 1, run, axis=0)[HRF_12.n_lags - 1 :] for run in runs]
        x = np.concatenate([run - run.mean(axis=0) for run in x])
        d = np.concatenate([run[HRF_12.n_lags - 1 :] for run in drives[name]])
        assert np.linalg.matrix_rank(d) == min(x.shape[1], d.shape[1])
        residual = d - x @ np.linalg.lstsq(x, d, rcond=None)[0]
        assert np.abs(residual).max() < 1e-8


def test_missing_features_are_missing_brain():
    runs_x, noise = sets_and_noise(n_runs=2, n_trs=120)
    runs_x["wide"][1][60:62] = np.nan
    runs, _ = planted_bold(runs_x, {"narrow": 0.5, "wide": 0.2}, noise, hrf=HRF_12, seed=2)
    lost = np.isnan(runs[1])
    expected = np.zeros(120, bool)
    expected[: HRF_12.n_lags - 1] = expected[60 : 62 + HRF_12.n_lags - 1] = True
    assert_array_equal(lost, np.repeat(expected[:, None], lost.shape[1], axis=1))


def test_wrong_plans_are_refused():
    runs_x, noise = sets_and_noise(n_runs=2, n_trs=60)
    plan = {"hrf": HRF_12, "seed": 0}
    with pytest.raises(CobeError, match="one share per feature set"):
        planted_bold(runs_x, {"narrow": 0.2}, noise, **plan)
    for shares in ({"narrow": 0.8, "wide": 0.3}, {"narrow": -0.1, "wide": 0.3}):
        with pytest.raises(CobeError, match="no more than 1"):
            planted_bold(runs_x, shares, noise, **plan)
    shares = {"narrow": 0.2, "wide": 0.1}
    with pytest.raises(CobeError, match="feature set narrow: runs of 60, 60"):
        planted_bold(runs_x, shares, [noise[0], noise[1][:50]], **plan)
    still = runs_x | {"wide": [np.ones((60, 2)), np.ones((60, 2))]}
    with pytest.raises(CobeError, match="feature set wide: its columns never change"):
        planted_bold(still, shares, noise, **plan)
    gone = runs_x | {"wide": [runs_x["wide"][0], np.full((60, 20), np.nan)]}
    with pytest.raises(CobeError, match="feature set wide: no volume in run 1"):
        planted_bold(gone, shares, noise, **plan)
    holes = [run.copy() for run in runs_x["wide"]]
    holes[1][:: HRF_12.n_lags - 1] = np.nan
    with pytest.raises(CobeError, match="run 1: no volume has the past of all features"):
        planted_bold(runs_x | {"wide": holes}, shares, noise, **plan)


@pytest.mark.parametrize("rho", [-0.3, 0.0, 0.45, 0.95])
def test_slow_noise_is_stationary_and_as_slow_as_asked(rho):
    noise = slow_noise(np.random.default_rng(0), 60, 20_000, rho)
    assert_allclose(noise.var(axis=1), 1, atol=0.06)
    for begin in (0, 40):
        for lag in (1, 3):
            r = np.corrcoef(noise[begin], noise[begin + lag])[0, 1]
            assert r == pytest.approx(rho**lag, abs=0.04)
    for wrong in (1.0, -1.0, float("nan")):
        with pytest.raises(CobeError, match="between -1 and 1"):
            slow_noise(np.random.default_rng(0), 5, 2, wrong)


def test_lag_one_counts_neighbours_that_are_both_there():
    x = slow_noise(np.random.default_rng(1), 4000, 3, 0.6) * [1, 50, 0.1]
    assert lag_one([x]) == pytest.approx(0.6, abs=0.04)
    holes = x.copy()
    holes[::5] = np.nan
    kept = holes - np.nanmean(holes, axis=0)
    both = [(a, b) for a, b in zip(kept[:-1], kept[1:], strict=True) if not np.isnan([a, b]).any()]
    before, after = (np.array(rows) for rows in zip(*both, strict=True))
    expected = (before * after).sum(0) / np.sqrt((before**2).sum(0) * (after**2).sum(0))
    assert lag_one([holes]) == pytest.approx(expected.mean(), abs=1e-12)
    assert lag_one([np.c_[x, np.ones(4000)]]) == pytest.approx(lag_one([x]), abs=1e-9)
    assert np.isnan(lag_one([np.ones((9, 2))]))
