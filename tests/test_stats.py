import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import signal, stats

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.encoding.intervals import bootstrap_r, expanded_ends
from cobe.encoding.stats import (
    block_numbers,
    block_permutations,
    centre_in_segments,
    chance_of,
    fdr,
    moved_null,
    paired_comparison,
)


def slow(rng, n_rows, n_columns, rho):
    """Autoregressive noise of unit variance, from its stationary distribution."""
    noise = rng.standard_normal((n_rows, n_columns)) * np.sqrt(1 - rho**2)
    noise[0] /= np.sqrt(1 - rho**2)
    return signal.lfilter([1], [1, -rho], noise, axis=0)


def permutation_chance(p, y, lengths, block_trs, n_permutations, seed=0):
    run = np.repeat(np.arange(len(lengths)), lengths)
    p, y = centre_in_segments(p, run), centre_in_segments(y, run)
    with np.errstate(invalid="ignore"):
        r = (p * y).sum(axis=0) / np.sqrt((p * p).sum(axis=0) * (y * y).sum(axis=0))
    order = block_permutations(lengths, block_trs, n_permutations, rng_for(seed, "permutations"))
    return chance_of(r, moved_null(p, y, order))


def test_fdr_is_benjamini_hochberg_without_the_nans():
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.5, np.nan, 0.002])
    q = fdr(p)
    there = np.isfinite(p)
    ordered = np.sort(p[there])
    for value, adjusted in zip(p[there], q[there], strict=True):
        later = [ordered[i] * 5 / (i + 1) for i in range(5) if ordered[i] >= value]
        assert_allclose(adjusted, min(later))
    assert np.isnan(q[~there]).all()
    assert np.isnan(fdr([np.nan, np.nan])).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(2, 130), min_size=1, max_size=4), st.integers(1, 50), st.integers(0, 99)
)
def test_permutations_move_whole_blocks_inside_runs(lengths, block_trs, seed):
    orders = block_permutations(lengths, block_trs, 5, np.random.default_rng(seed))
    assert orders.shape == (5, sum(lengths))
    begin = 0
    for n in lengths:
        run = orders[:, begin : begin + n] - begin
        n_blocks = max(1, n // block_trs)
        sizes = np.bincount(block_numbers(n, block_trs))
        assert len(sizes) == n_blocks
        assert sizes.min() >= min(block_trs, n)
        for order in run:
            assert_array_equal(np.sort(order), np.arange(n))
            # Rows that were neighbours (on the circle) stay so, but at the borders of blocks.
            broken = (np.diff(order) % n != 1).sum() if n > 1 else 0
            assert broken <= n_blocks - 1
        begin += n


def test_centring_is_per_run_and_exact_for_still_columns():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 3)) + 5
    x[:20, 1] = 0.1
    order = rng.permutation(50)  # rows of a segment need not follow each other
    centred = np.empty_like(x)
    centred[order] = centre_in_segments(x[order], np.repeat([0, 1], [20, 30])[order])
    assert (centred[:20, 1] == 0).all()
    assert_allclose(centred[20:], x[20:] - x[20:].mean(axis=0))
    assert_allclose(centred[:20, [0, 2]], x[:20, [0, 2]] - x[:20, [0, 2]].mean(axis=0))


def test_chance_equals_a_plain_loop():
    rng = np.random.default_rng(1)
    lengths = [55, 47]
    p, y = slow(rng, 102, 6, 0.7), slow(rng, 102, 6, 0.5)
    y[:, 0] += p[:, 0]
    p[:, 4] = 3.0
    chance = permutation_chance(p, y, lengths, 10, 200, seed=7)
    orders = block_permutations(lengths, 10, 200, rng_for(7, "permutations"))
    run = np.repeat([0, 1], lengths)
    pc, yc = centre_in_segments(p, run), centre_in_segments(y, run)
    kept = [0, 1, 2, 3, 5]
    r = np.array([stats.pearsonr(pc[:, t], yc[:, t])[0] for t in kept])
    null = np.array([[stats.pearsonr(pc[o, t], yc[:, t])[0] for t in kept] for o in orders])
    assert_allclose(chance.p[kept], (1 + (null >= r).sum(axis=0)) / 201)
    largest = null.max(axis=1)
    assert_allclose(chance.p_max[kept], (1 + (largest[:, None] >= r).sum(axis=0)) / 201)
    assert_allclose(chance.chance_95[kept], np.quantile(null, 0.95, axis=0), atol=1e-6)
    mean = null.mean(axis=1)
    assert_allclose(chance.p_mean, (1 + (mean >= r.mean()).sum()) / 201)
    assert_allclose(chance.chance_95_mean, np.quantile(mean, 0.95), atol=1e-6)
    assert_allclose(chance.chance_95_max, np.quantile(largest, 0.95), atol=1e-6)
    assert np.isnan([chance.p[4], chance.p_max[4], chance.chance_95[4]]).all()
    assert chance.p[0] == 1 / 201


def test_no_permutations_give_nan():
    p, y = np.random.default_rng(0).standard_normal((2, 30, 2))
    chance = permutation_chance(p, y, [30], 5, 0)
    assert np.isnan(chance.p).all() and np.isnan(chance.p_mean)


def test_false_positives_are_nominal_for_slow_signals_and_not_with_single_volumes():
    rng = np.random.default_rng(20)
    lengths = [200, 200, 200]
    blocks, volumes, familywise = [], [], []
    for draw in range(60):
        p = np.concatenate([slow(rng, n, 40, 0.9) for n in lengths])
        y = np.concatenate([slow(rng, n, 40, 0.7) for n in lengths])
        chance = permutation_chance(p, y, lengths, 40, 200, seed=draw)
        blocks.append((chance.p <= 0.05).mean())
        familywise.append(np.nanmin(chance.p_max) <= 0.05)
        if draw < 20:
            volumes.append((permutation_chance(p, y, lengths, 1, 200, seed=draw).p <= 0.05).mean())
    assert 0.03 < np.mean(blocks) < 0.07
    assert np.mean(familywise) < 0.15
    assert np.mean(volumes) > 0.12


def test_interval_covers_the_true_correlation():
    rng = np.random.default_rng(3)
    lengths, truth = [160] * 6, 0.4
    units = np.concatenate([block_numbers(160, 20) + 8 * run for run in range(6)])
    shared = np.concatenate([slow(rng, n, 400, 0.7) for n in lengths])
    own = np.concatenate([slow(rng, n, 400, 0.7) for n in lengths])
    p, y = shared, truth * shared + np.sqrt(1 - truth**2) * own
    run = np.repeat(np.arange(len(lengths)), lengths)
    p, y = centre_in_segments(p, run), centre_in_segments(y, run)
    low, high, mean = bootstrap_r(p, y, units, 500, seed=1)
    covered = ((low < truth) & (truth < high)).mean()
    assert 0.88 < covered < 0.98
    # Fisher's interval for independent volumes would be far too narrow here.
    assert (high - low).mean() > 1.3 * 2 * 1.96 * (1 - truth**2) / np.sqrt(960)
    r = (p * y).sum(axis=0) / np.sqrt((p**2).sum(axis=0) * (y**2).sum(axis=0))
    assert mean[0] < r.mean() < mean[1]
    assert mean[1] - mean[0] < (high - low).mean()


def test_interval_takes_units_in_any_order():
    rng = np.random.default_rng(4)
    p, y = rng.standard_normal((60, 3)), rng.standard_normal((60, 3))
    units = np.repeat(np.arange(6), 10)
    order = rng.permutation(60)
    plain, mixed = bootstrap_r(p, y, units, 50), bootstrap_r(p[order], y[order], units[order], 50)
    assert_allclose(plain[0], mixed[0])
    assert_allclose(plain[1], mixed[1])
    assert np.isnan(bootstrap_r(p, y, units, 0)[0]).all()


@pytest.mark.parametrize("n", [5, 9, 13])
def test_paired_comparison_equals_scipy(n):
    rng = np.random.default_rng(n)
    a = rng.standard_normal(n) + 0.4
    b = rng.standard_normal(n)
    found = paired_comparison(a, b)
    peer = stats.permutation_test(
        (a, b),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert_allclose(found.difference, (a - b).mean())
    assert found.exact
    assert_allclose(found.p, peer.pvalue)
    assert_allclose(found.smallest_p, 2 / 2**n)
    assert found.ci_low < found.difference < found.ci_high


def test_paired_comparison_of_many_units_is_near_the_t_test():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal(40) + 0.3, rng.standard_normal(40)
    found = paired_comparison(a, b, seed=1)
    assert not found.exact
    assert_allclose(found.p, stats.ttest_rel(a, b).pvalue, atol=0.02)
    half = stats.sem(a - b) * 1.96
    assert_allclose([found.ci_low, found.ci_high], (a - b).mean() + [-half, half], atol=0.06)
    assert found == paired_comparison(a, b, seed=1)


@pytest.mark.parametrize("n", [4, 12, 40])
def test_intervals_of_few_units_are_as_wide_as_students(n):
    rng, widths, hits = np.random.default_rng(n), [], []
    for seed in range(300):
        d = 0.5 + rng.standard_normal(n)
        found = paired_comparison(d, 0 * d, n_permutations=10, n_bootstrap=2000, seed=seed)
        low, high = stats.t.interval(0.95, n - 1, d.mean(), stats.sem(d))
        widths.append((found.ci_high - found.ci_low) / (high - low))
        hits.append(found.ci_low < 0.5 < found.ci_high)
    # a bootstrap of four values ends at the smallest and the largest of them
    assert_allclose(np.median(widths), 1, atol=0.05 if n > 4 else 0.35)
    assert np.mean(hits) > (0.92 if n > 4 else 0.8)
    assert_allclose(expanded_ends(10**6), [0.025, 0.975], atol=1e-5)
    assert_allclose(expanded_ends(1), [0, 1])


def test_series_are_matched_by_unit():
    units = [("sub-1", "ses-1"), ("sub-1", "ses-2"), ("sub-2", "ses-1")]
    a = pd.Series([3.0, 2.0, 1.0], index=pd.MultiIndex.from_tuples(units))
    b = (a - 0.5)[::-1]
    assert_allclose(paired_comparison(a, b).difference, 0.5)
    with pytest.raises(CobeError, match="units of the models differ"):
        paired_comparison(a, b.iloc[:2])


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([1.0], [2.0], "two or more"),
        ([1.0, 2.0], [1.0], "two or more"),
        ([1.0, np.nan], [1.0, 2.0], "1 units are not finite"),
    ],
)
def test_paired_comparison_refuses(a, b, words):
    with pytest.raises(CobeError, match=words):
        paired_comparison(a, b)
