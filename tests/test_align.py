import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from cobe.core.errors import CobeError
from cobe.encoding import clips_to_trs, stack_delays
from cobe.encoding.align import coverage
from cobe.encoding.design import build_design
from cobe.encoding.ridge import fit

pytestmark = pytest.mark.filterwarnings("ignore:alphas")
CLIP_S = 64 / 60
TR_S = 1.49


def tiled(onsets_s, n_clips):
    """Clips that tile repetitions from their onsets."""
    start = np.concatenate([o + CLIP_S * np.arange(n_clips) for o in onsets_s])
    return start, start + CLIP_S


def sampled(features, start_s, end_s, n_trs, tr_s, n_samples=4000):
    """The same means by brute force: many moments in each volume."""
    rows = np.full((n_trs, features.shape[1]), np.nan)
    for k in range(n_trs):
        moments = (k + (np.arange(n_samples) + 0.5) / n_samples) * tr_s
        inside = (moments[:, None] >= start_s) & (moments[:, None] < end_s)
        if inside.any(axis=1).mean() >= 0.5:
            rows[k] = inside.sum(axis=0) @ features / inside.sum()
    return rows


@settings(max_examples=25, deadline=None)
@given(
    onset_s=st.floats(-3, 8),
    gap_s=st.floats(0.01, 7),
    tr_s=st.floats(0.5, 3.1),
    seed=st.integers(0, 1000),
)
def test_aligned_rows_are_the_means_over_the_moments_of_a_volume(onset_s, gap_s, tr_s, seed):
    start, end = tiled([onset_s, onset_s + 7 * CLIP_S + gap_s], 7)
    features = np.random.default_rng(seed).standard_normal((14, 3))
    rows = clips_to_trs(features, start, end, 12, tr_s)
    expected = sampled(features, start, end, 12, tr_s)
    near_half = np.abs(coverage(start, end, 12, tr_s) - 0.5) < 2e-3
    assert rows.dtype == np.float32
    assert_array_equal(np.isnan(rows)[~near_half], np.isnan(expected)[~near_half])
    both = ~np.isnan(rows) & ~np.isnan(expected)
    assert_allclose(rows[both], expected[both], atol=6e-3)


plain = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


@settings(max_examples=50, deadline=None)
@given(value=plain, onset_s=st.floats(0, 5), tr_s=st.floats(0.3, 4))
def test_constant_features_stay_constant(value, onset_s, tr_s):
    start, end = tiled([onset_s], 15)
    rows = clips_to_trs(np.full((15, 2), value), start, end, 40, tr_s)
    there = ~np.isnan(rows).any(axis=1)
    assert there.any()
    assert_array_equal(there, coverage(start, end, 40, tr_s) >= 0.5 - 1e-9)
    assert_allclose(rows[there], value, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.integers(0, 4))
def test_order_of_clips_does_not_matter_and_whole_volumes_shift(seed, shift):
    rng = np.random.default_rng(seed)
    start, end = tiled([0.7], 12)
    features = rng.standard_normal((12, 2))
    rows = clips_to_trs(features, start, end, 14, TR_S)
    order = rng.permutation(12)
    mixed = clips_to_trs(features[order], start[order], end[order], 14, TR_S)
    assert_allclose(mixed, rows, rtol=1e-5)
    later = clips_to_trs(features, start + shift * TR_S, end + shift * TR_S, 14, TR_S)
    assert_allclose(later[shift:], rows[: 14 - shift], rtol=1e-4, atol=1e-5)


def test_no_clips_give_nan_rows_and_overlapping_clips_cover_once():
    assert np.isnan(clips_to_trs(np.zeros((0, 3)), [], [], 5, TR_S)).all()
    # Two copies of a clip that covers 40 % of the volume do not make 80 %.
    twice = clips_to_trs(np.ones((2, 1)), [0, 0], [0.4, 0.4], 1, 1.0)
    assert np.isnan(twice).all()
    assert_allclose(coverage([0, 0.2, 2.5], [0.4, 0.6, 9], 4, 1.0), [0.6, 0, 0.5, 1])


def test_long_clips_spread_over_many_volumes():
    rows = clips_to_trs(np.array([[1.0], [5.0]]), [0, 10], [10, 20], 20, 1.0)
    assert_array_equal(rows[:, 0], [1] * 10 + [5] * 10)


@pytest.mark.parametrize(
    ("features", "start", "end", "words"),
    [
        (np.zeros(3), [0, 1, 2], [1, 2, 3], "1 dimensions"),
        (np.zeros((3, 1)), [0, 1], [1, 2], "2 starts"),
        (np.zeros((2, 1)), [0, 1], [1, 1], "clip 1: ends"),
        (np.zeros((2, 1)), [0, np.nan], [1, 2], "not finite"),
        (np.array([[0.0], [np.nan]]), [0, 1], [1, 2], "1 clips are not finite"),
    ],
)
def test_alignment_refuses(features, start, end, words):
    with pytest.raises(CobeError, match=words):
        clips_to_trs(features, start, end, 4, TR_S)


def test_alignment_refuses_a_run_without_volumes():
    with pytest.raises(CobeError, match="must be positive"):
        clips_to_trs(np.zeros((1, 1)), [0], [1], 0, TR_S)


matrices = st.tuples(st.integers(7, 20), st.integers(1, 4), st.integers(0, 9999))
delay_sets = st.lists(st.integers(0, 6), min_size=1, max_size=5, unique=True)


def with_gaps(n_trs, n_features, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_trs, n_features))
    x[rng.random(n_trs) < 0.15] = np.nan
    return x


@settings(max_examples=60, deadline=None)
@given(matrices, delay_sets)
def test_delayed_rows_hold_the_past(shape, delays):
    x = with_gaps(*shape)
    stacked = stack_delays(x, delays)
    assert stacked.shape == (len(x), len(delays) * x.shape[1])
    for t in range(len(x)):
        past = [x[t - d] if t >= d else np.full(x.shape[1], np.nan) for d in delays]
        row = np.concatenate(past)
        assert_array_equal(stacked[t], np.full_like(row, np.nan) if np.isnan(row).any() else row)


@settings(max_examples=40, deadline=None)
@given(matrices, delay_sets, st.integers(0, 6))
def test_delays_are_causal(shape, delays, t):
    x = np.nan_to_num(with_gaps(*shape))
    changed = x.copy()
    changed[t + 1 :] += 100
    assert_array_equal(stack_delays(x, delays)[: t + 1], stack_delays(changed, delays)[: t + 1])


@settings(max_examples=40, deadline=None)
@given(matrices, delay_sets)
def test_no_run_leaks_into_another(shape, delays):
    x = with_gaps(*shape)
    if not (~np.isnan(stack_delays(x, delays)).any(axis=1)).sum() >= 2:
        return
    y = np.random.default_rng(0).standard_normal((len(x), 2))
    other = np.random.default_rng(1).standard_normal((30, x.shape[1]))
    pair = [
        build_design([other * scale, x], [np.zeros((30, 2)), y], ["a", "b"], delays, np.float64)
        for scale in (1, -7)
    ]
    rows = [(d.x[1] + d.x_shift).numpy() for d in pair]
    expected = stack_delays(x, delays)
    expected = expected[~np.isnan(expected).any(axis=1)]
    for found in rows:
        assert_allclose(found, expected, atol=1e-12)


@settings(max_examples=12, deadline=None)
@given(delay=st.integers(0, 5), seed=st.integers(0, 1000))
def test_ridge_finds_a_planted_delay(delay, seed):
    rng = np.random.default_rng(seed)
    runs_x = [rng.standard_normal((120, 3)) for _ in range(3)]
    weights = np.array([[1.0], [-0.5], [0.0]])
    runs_y = []
    for x in runs_x:
        y = rng.standard_normal((120, 1)) * 0.3
        y[delay:] += (x @ weights)[: 120 - delay]
        runs_y.append(y)
    model = fit(runs_x, runs_y, groups=[0, 1, 2], delays_tr=range(6), alphas=[0.1, 1, 10])
    found = model.weights.reshape(6, 3)
    assert np.abs(found).sum(axis=1).argmax() == delay
    assert_allclose(found[delay], weights[:, 0], atol=0.15)
    assert np.abs(np.delete(found, delay, axis=0)).max() < 0.15


@pytest.mark.parametrize(
    ("delays", "words"),
    [
        ((), "give a list"),
        ((-1, 2), "negative"),
        ((1, 1), "twice"),
        ((0.5,), "whole volumes"),
        ((9,), "does not fit"),
    ],
)
def test_delays_refuse(delays, words):
    with pytest.raises(CobeError, match=words):
        stack_delays(np.zeros((9, 2)), delays)


def test_delays_refuse_a_vector():
    with pytest.raises(CobeError, match="1 dimensions"):
        stack_delays(np.zeros(9), (1,))
