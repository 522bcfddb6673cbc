"""Banded ridge against scaled columns in scikit-learn, himalaya and planted truth."""

import numpy as np
import pytest
from himalaya.ridge import GroupRidgeCV
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import Ridge

from cobe.core.errors import CobeError
from cobe.encoding import forms
from cobe.encoding.banded import band_numbers, check_band_weights, sample_band_weights
from cobe.encoding.ridge import fit

pytestmark = pytest.mark.filterwarnings("ignore:alphas")
ALPHAS = np.logspace(0, 4, 5)
GRID = np.array([[1, 0], [0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0, 1]])
BANDS = {"left": slice(0, 6), "right": list(range(6, 20))}


def planted(n_trs=120, n_features=20, n_targets=9, noise=3.0, seed=0, n_runs=4):
    """A third of the targets follow the left band, a third the right, a third both."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((n_features, n_targets))
    weights[6:, : n_targets // 3] = 0
    weights[:6, n_targets // 3 : 2 * n_targets // 3] = 0
    runs_x = [rng.standard_normal((n_trs, n_features)) + 2 for _ in range(n_runs)]
    runs_y = [x @ weights + noise * rng.standard_normal((n_trs, n_targets)) for x in runs_x]
    return runs_x, runs_y, weights


def correlations(a, b):
    return np.array([np.corrcoef(a[:, t], b[:, t])[0, 1] for t in range(a.shape[1])])


def scaled_columns(runs_x, runs_y, bands, grid):
    """Banded ridge by scaling columns, scikit-learn and loops."""
    mse = np.zeros((len(grid), len(ALPHAS), runs_y[0].shape[1]))
    for c, row in enumerate(grid):
        for fold in range(len(runs_x)):
            x, y = (
                np.concatenate([r for i, r in enumerate(runs) if i != fold])
                for runs in (runs_x, runs_y)
            )
            root = np.sqrt(row[bands])
            for a, alpha in enumerate(ALPHAS):
                model = Ridge(alpha=alpha, solver="cholesky").fit(x * root, y)
                error = runs_y[fold] - model.predict(runs_x[fold] * root)
                mse[c, a] += (error**2).mean(axis=0) / len(runs_x)
    which, best = np.unravel_index(mse.reshape(-1, mse.shape[2]).argmin(axis=0), mse.shape[:2])
    x, y = np.concatenate(runs_x), np.concatenate(runs_y)
    weights = np.zeros((x.shape[1], y.shape[1]))
    for t, (c, a) in enumerate(zip(which, best, strict=True)):
        root = np.sqrt(grid[c][bands])
        model = Ridge(alpha=ALPHAS[a], solver="cholesky").fit(x * root, y[:, t])
        weights[:, t] = model.coef_ * root
    return grid[which], ALPHAS[best], weights


@pytest.mark.parametrize(
    ("n_trs", "n_features", "form"),
    [(120, 20, "primal"), (30, 40, "primal"), (20, 90, "dual")],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scaled_columns_in_scikit_learn(n_trs, n_features, form, dtype):
    runs_x, runs_y, _ = planted(n_trs, n_features)
    bands = {"left": slice(0, 6), "right": slice(6, None)}
    numbers = np.repeat([0, 1], [6, n_features - 6])
    chosen, alphas, weights = scaled_columns(runs_x, runs_y, numbers, GRID)
    model = fit(
        runs_x,
        runs_y,
        groups=range(4),
        delays_tr=(0,),
        alphas=ALPHAS,
        bands=bands,
        band_weights=GRID,
        dtype=dtype,
    )
    assert (model.form, model.bands) == (form, ("left", "right"))
    assert_array_equal(model.band_weights, chosen)
    assert_array_equal(model.alphas, alphas)
    assert len(np.unique(chosen[:, 0])) > 2
    assert_allclose(model.weights, weights, atol=1e-9 if dtype == np.float64 else 1e-4)
    assert (model.weights[:6][:, chosen[:, 0] == 0] == 0).all()


def test_equals_himalaya_on_the_same_candidates():
    runs_x, runs_y, _ = planted(n_targets=60, noise=8)
    grid = sample_band_weights(2, 12, seed=1, corners=False)
    rows = np.arange(480)
    folds = [(rows[rows // 120 != k], rows[rows // 120 == k]) for k in range(4)]
    peer = GroupRidgeCV(
        groups=np.repeat([0, 1], [6, 14]),
        fit_intercept=True,
        cv=folds,
        solver_params={"alphas": ALPHAS, "n_iter": grid, "progress_bar": False},
    )
    peer.fit(np.concatenate(runs_x), np.concatenate(runs_y))
    options = {"groups": range(4), "delays_tr": (0,), "alphas": ALPHAS, "bands": BANDS}
    model = fit(runs_x, runs_y, band_weights=grid, **options)
    test_x, test_y, _ = planted(300, n_targets=60, seed=9)
    ours = correlations(model.predict(test_x[:1])[0], test_y[0])
    assert_allclose(ours, correlations(peer.predict(test_x[0]), test_y[0]), atol=1e-4)
    assert_allclose(model.cv_mse.min(axis=0), -peer.cv_scores_.max(axis=0), rtol=1e-5)


def test_one_band_is_plain_ridge():
    runs_x, runs_y, _ = planted()
    options = {"groups": range(4), "delays_tr": (0, 1), "alphas": ALPHAS}
    plain = fit(runs_x, runs_y, **options)
    banded = fit(runs_x, runs_y, bands={"all": slice(None)}, band_weights=3, **options)
    assert_array_equal(plain.alphas, banded.alphas)
    assert_allclose(plain.weights, banded.weights, atol=1e-6)
    assert plain.band_weights is None and (banded.band_weights == 1).all()


def test_delayed_columns_stay_in_their_band():
    runs_x, runs_y, _ = planted()
    options = {"groups": range(4), "delays_tr": (0, 2, 3), "alphas": ALPHAS, "bands": BANDS}
    model = fit(runs_x, runs_y, band_weights=[[0, 1]], **options)
    alone = fit(
        [x[:, 6:] for x in runs_x], runs_y, groups=range(4), delays_tr=(0, 2, 3), alphas=ALPHAS
    )
    weights = model.weights.reshape(3, 20, -1)
    assert (weights[:, :6] == 0).all()
    assert_allclose(weights[:, 6:].reshape(42, -1), alone.weights, atol=1e-5)
    assert_array_equal(model.alphas, alone.alphas)


def test_relative_penalties_do_not_feel_the_scale_of_features():
    runs_x, runs_y, _ = planted()
    options = {"groups": range(4), "delays_tr": (0,), "alphas": ALPHAS, "bands": BANDS}
    options |= {"band_weights": GRID, "relative_alphas": True, "dtype": np.float64}
    model = fit(runs_x, runs_y, **options)
    large = fit([x * 1000 for x in runs_x], runs_y, **options)
    assert_array_equal(model.band_weights, large.band_weights)
    assert_allclose(model.weights, large.weights * 1000, rtol=1e-6, atol=1e-12)
    assert_allclose(model.alpha_scale, np.concatenate(runs_x).var(axis=0).mean(), rtol=1e-6)


@pytest.mark.parametrize(("n_trs", "n_features"), [(120, 20), (30, 40), (20, 90)])
def test_batches_change_nothing(monkeypatch, n_trs, n_features):
    runs_x, runs_y, _ = planted(n_trs, n_features)
    bands = {"left": slice(0, 6), "right": slice(6, None)}
    options = {"groups": range(4), "delays_tr": (0,), "alphas": ALPHAS, "bands": bands}
    options |= {"band_weights": GRID, "dtype": np.float64}
    whole = fit(runs_x, runs_y, **options)
    monkeypatch.setattr(forms, "BATCH_BYTES", 1)
    monkeypatch.setattr(forms, "KEPT_BYTES", 0)
    single = fit(runs_x, runs_y, **options)
    assert_array_equal(whole.band_weights, single.band_weights)
    assert_array_equal(whole.alphas, single.alphas)
    assert_allclose(whole.weights, single.weights, atol=1e-10)


def test_useless_targets_have_no_band_weights():
    runs_x, runs_y, _ = planted()
    for i, y in enumerate(runs_y):
        y[:, 2] = 4.0
        y[:, 5] = np.nan if i == 1 else y[:, 5]
    model = fit(
        runs_x, runs_y, groups=range(4), delays_tr=(0,), alphas=ALPHAS, bands=BANDS, band_weights=5
    )
    assert_array_equal(np.isnan(model.band_weights).all(axis=1), np.isin(range(9), [2, 5]))
    assert np.isnan(model.weights[:, [2, 5]]).all()
    assert_allclose(np.delete(model.band_weights, [2, 5], axis=0).sum(axis=1), 1)


def test_order_of_planted_bands_and_lag_profile_are_found():
    """Strong, weak and no effect of three bands, through a known response at four delays."""
    rng = np.random.default_rng(0)
    profile = np.array([0.2, 1.0, 0.6, 0.1])
    strength = np.repeat([1.0, 0.4, 0.0], 10)
    runs_x = [rng.standard_normal((400, 30)) for _ in range(5)]
    weights = rng.standard_normal((30, 20)) * strength[:, None]
    runs_y = []
    for x in runs_x:
        late = sum(a * np.roll(x, d, axis=0) for d, a in zip((2, 3, 4, 5), profile, strict=True))
        runs_y.append(late @ weights + 2 * rng.standard_normal((400, 20)))
    model = fit(
        runs_x,
        runs_y,
        groups=range(5),
        delays_tr=range(8),
        alphas=np.logspace(0, 5, 11),
        bands={"strong": slice(0, 10), "weak": slice(10, 20), "none": slice(20, 30)},
        band_weights=60,
    )
    mean = model.band_weights.mean(axis=0)
    assert mean[0] > mean[1] > mean[2]
    assert (model.band_weights.argmax(axis=1) == 0).mean() > 0.9
    found = model.weights.reshape(8, 30, 20)
    power = (found**2).sum(axis=2)
    share = [np.sqrt(power[:, k : k + 10].sum()) for k in (0, 10, 20)]
    assert share[0] > 2 * share[1] and share[1] > 3 * share[2]
    expected = np.zeros(8)
    expected[2:6] = profile
    along = (found * weights).sum(axis=(1, 2)) / (weights**2).sum()
    assert_allclose(along, expected, atol=0.05)


def test_draws_repeat_lie_on_the_simplex_and_begin_at_the_corners():
    first, again = sample_band_weights(3, 40, seed=4), sample_band_weights(3, 40, seed=4)
    assert_array_equal(first, again)
    assert (first != sample_band_weights(3, 40, seed=5)).any()
    assert first.shape == (40, 3) and (first >= 0).all()
    assert_allclose(first.sum(axis=1), 1)
    assert_array_equal(first[:4], [[1 / 3] * 3, *np.eye(3)])
    even, sparse = (
        sample_band_weights(3, 3000, 0, concentrations=c, corners=False) for c in (1.0, 0.1)
    )
    # moments of a Dirichlet distribution: variance (K - 1) / (K^2 (K c + 1))
    assert_allclose(even.var(axis=0), 2 / (9 * 4), rtol=0.1)
    assert_allclose(sparse.var(axis=0), 2 / (9 * 1.3), rtol=0.1)


@pytest.mark.parametrize(
    ("bands", "words"),
    [
        (3, "give a dict of names"),
        ({}, "give a dict of names"),
        ({"a": [0], "b": []}, "'b' selects no column"),
        ({"a": [0.5]}, "'a' selects no column by number"),
        ({"a": [True, False, True]}, "'a' selects no column by number"),
        ({"a": slice(0, 3), "b": [3]}, "'b' names column 3 of 3"),
        ({"a": [-1, 0]}, "'a' names column -1"),
        ({"a": slice(0, 2), "b": [1, 2]}, "'b' shares a column"),
        ({"a": [0, 0], "b": [1, 2]}, "'a' shares a column"),
        ({"a": [0]}, r"2 features \(first: 1\) are in no band"),
    ],
)
def test_bands_that_do_not_divide_the_features(bands, words):
    runs_x, runs_y, _ = planted(n_features=7)
    with pytest.raises(CobeError, match=words):
        band_numbers(bands, 3)
    if bands != 3:
        with pytest.raises(CobeError, match="bands: "):
            fit(runs_x, runs_y, groups=range(4), delays_tr=(0,), alphas=[1.0], bands=bands)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([[1, 2, 3]], r"shape \(1, 3\) for 2 bands"),
        (np.zeros((0, 2)), r"shape \(0, 2\) for 2 bands"),
        ([[0.5, 0.5], [0.7, 0.7]], "row 1, .* sum to 1"),
        ([[1.5, -0.5]], "row 0"),
        ([[np.nan, 1]], "row 0"),
        ([[0.5, 0.5], [1]], "is no array"),
        ("many", "is no array"),
    ],
)
def test_weights_off_the_simplex(weights, words):
    with pytest.raises(CobeError, match=words):
        check_band_weights(weights, 2)
    runs_x, runs_y, _ = planted()
    options = {"groups": range(4), "delays_tr": (0,), "alphas": [1.0], "bands": BANDS}
    with pytest.raises(CobeError, match="band_weights: "):
        fit(runs_x, runs_y, band_weights=weights, **options)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_samples": 2}, "at least 3"),
        ({"n_bands": 0}, "1 or more"),
        ({"concentrations": (0.1, -1)}, "finite and positive"),
    ],
)
def test_draws_that_cannot_be_made(changes, words):
    with pytest.raises(CobeError, match=words):
        sample_band_weights(**({"n_bands": 2, "n_samples": 9, "seed": 0} | changes))
