import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import pearsonr

from cobe.core.errors import CobeError
from cobe.encoding import evaluate
from cobe.encoding.ceilings import explainable_variance, planted_ceiling, split_half_reliability


def repeats_of(n_repeats, n_trs=4000, shares=(0.0, 0.2, 0.5, 0.9), seed=0):
    """Signal that repeats with these shares of the variance, in noise that does not."""
    rng, shares = np.random.default_rng(seed), np.array(shares)
    signal = rng.standard_normal((n_trs, len(shares))) * np.sqrt(shares)
    noise = rng.standard_normal((n_repeats, n_trs, len(shares))) * np.sqrt(1 - shares)
    return signal, 3 + 2 * (signal + noise)


@pytest.mark.parametrize("n_repeats", [2, 3, 10])
def test_explainable_variance_is_the_planted_share(n_repeats):
    repeats = repeats_of(n_repeats)[1]
    assert_allclose(explainable_variance(repeats), [0, 0.2, 0.5, 0.9], atol=0.05)


def test_explainable_variance_of_two_repeats_is_their_covariance():
    """By hand: with two repeats it is their covariance over their mean variance."""
    repeats = repeats_of(2, n_trs=30, seed=3)[1]
    a, b = repeats - repeats.mean(axis=1, keepdims=True)
    expected = 2 * (a * b).sum(axis=0) / ((a * a).sum(axis=0) + (b * b).sum(axis=0))
    assert_allclose(explainable_variance(repeats), expected)


def test_estimates_are_not_clipped_and_unbiased_at_zero():
    found = [explainable_variance(repeats_of(4, 60, [0.0] * 20, seed)[1]) for seed in range(40)]
    assert np.min(found) < -0.05
    # 800 estimates of a standard deviation of about 0.05
    assert abs(np.mean(found)) < 0.01
    assert np.min(split_half_reliability(repeats_of(4, 60, [0.0] * 20)[1])) < 0


@pytest.mark.parametrize("n_repeats", [2, 6])
def test_split_half_is_the_squared_correlation_with_the_signal(n_repeats):
    signal, repeats = repeats_of(n_repeats)
    found = split_half_reliability(repeats)
    mean = repeats.mean(axis=0)
    for t in (1, 2, 3):
        assert_allclose(found[t], pearsonr(mean[:, t], signal[:, t])[0] ** 2, atol=0.05)
    raw = split_half_reliability(repeats, spearman_brown=False)
    assert_allclose(2 * raw / (1 + raw), found)
    if n_repeats == 2:
        expected = [pearsonr(repeats[0, :, t], repeats[1, :, t])[0] for t in range(4)]
        assert_allclose(raw, expected)


def test_targets_that_never_change_are_nan():
    repeats = repeats_of(2, 50)[1]
    repeats[:, :, 0] = 1
    assert np.isnan(explainable_variance(repeats)[0])
    assert np.isnan(split_half_reliability(repeats)[0])


@pytest.mark.filterwarnings("ignore:alphas")
def test_perfect_features_reach_the_planted_ceiling():
    rng, ceilings = np.random.default_rng(0), np.array([0.3, 0.6, 0.85])
    runs_x, runs_y = [], []
    for run in range(4):
        signal = rng.standard_normal((300, 3))
        noise = rng.standard_normal((300, 3))
        y = ceilings * signal + np.sqrt(1 - ceilings**2) * noise + 0.2 * run
        y[10:13] = np.nan
        runs_x.append(signal)
        runs_y.append(y)
    found = planted_ceiling([7 * x + 1 for x in runs_x], runs_y)
    assert_allclose(found, ceilings, atol=0.06)
    table = evaluate(
        runs_x, runs_y, groups=range(4), delays_tr=(0,), alphas=[0.1, 1], n_permutations=0
    )
    scores = table[(table.held_out == "all") & (table.summary == "target")]
    assert_allclose(scores.r, found, atol=0.02)
    assert_allclose(scores.r2, found**2, atol=0.03)
    silent = planted_ceiling([x * [0, 1, 1] for x in runs_x], runs_y)
    assert np.isnan(silent[0]) and np.isfinite(silent[1:]).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: explainable_variance(np.zeros((1, 9, 2))),
            "1 recording .* gameplay never repeats",
        ),
        (lambda: split_half_reliability(np.zeros((1, 9, 2))), "gameplay never repeats"),
        (lambda: split_half_reliability(np.zeros((3, 9, 2))), "3 cannot be halved"),
        (lambda: explainable_variance(np.zeros((9, 2))), "give .n_repeats, n_trs, n_targets."),
        (lambda: explainable_variance(np.full((2, 9, 2), np.nan)), "all finite"),
        (lambda: planted_ceiling([np.zeros((9, 2))], []), "1 of signal and 0 of responses"),
        (lambda: planted_ceiling([np.zeros((9, 2))], [np.zeros((8, 2))]), "run 0: signal .9, 2."),
        (lambda: planted_ceiling([np.zeros((9, 2))], [np.full((9, 2), np.nan)]), "run 0: 0 rows"),
    ],
)
def test_ceilings_refuse(make, words):
    with pytest.raises(CobeError, match=words):
        make()
