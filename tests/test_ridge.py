import warnings

import numpy as np
import pytest
import torch
from himalaya.ridge import RidgeCV
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import Ridge

from cobe.bench.ridge import compare, compare_banded
from cobe.core.errors import CobeError
from cobe.encoding import forms, moments, solver, stack_delays
from cobe.encoding.ridge import fit

pytestmark = pytest.mark.filterwarnings("ignore:alphas")
ALPHAS = np.logspace(0, 5, 6)


def planted(n_trs=150, n_features=8, n_targets=7, n_runs=4, noise=2.0, seed=0, offset=3.0):
    """Runs whose responses follow the features at once, with offsets in both."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((n_features, n_targets))
    runs_x = [rng.standard_normal((n_trs, n_features)) + offset for _ in range(n_runs)]
    runs_y = [x @ weights + noise * rng.standard_normal((n_trs, n_targets)) + 7 for x in runs_x]
    return runs_x, runs_y, weights


def sklearn_loop(runs_x, runs_y, groups, alphas):
    """One penalty per target by leave-one-group-out, with scikit-learn and loops."""
    mse = np.zeros((len(alphas), runs_y[0].shape[1]))
    labels = sorted(set(groups))
    for label in labels:
        train = [i for i, g in enumerate(groups) if g != label]
        test = [i for i, g in enumerate(groups) if g == label]
        x, y = (np.concatenate([runs[i] for i in train]) for runs in (runs_x, runs_y))
        xt, yt = (np.concatenate([runs[i] for i in test]) for runs in (runs_x, runs_y))
        for a, alpha in enumerate(alphas):
            error = yt - Ridge(alpha=alpha, solver="cholesky").fit(x, y).predict(xt)
            mse[a] += (error**2).mean(axis=0) / len(labels)
    best = np.asarray(alphas)[mse.argmin(axis=0)]
    x, y = np.concatenate(runs_x), np.concatenate(runs_y)
    models = [Ridge(alpha=a, solver="cholesky").fit(x, y[:, t]) for t, a in enumerate(best)]
    weights = np.stack([m.coef_ for m in models], axis=1)
    return best, mse, weights, np.array([m.intercept_ for m in models])


def correlations(a, b):
    return np.array([np.corrcoef(a[:, t], b[:, t])[0, 1] for t in range(a.shape[1])])


@pytest.mark.parametrize(
    ("n_trs", "n_features", "groups", "form"),
    [
        (150, 8, [0, 1, 2, 3], "primal"),  # scored from Gram matrices
        (60, 90, [0, 1, 2, 3], "primal"),  # scored from predictions
        (30, 200, [0, 1, 2, 3], "dual"),
        (90, 40, ["a", "b", "a", "c"], "primal"),  # folds of different size
        (25, 150, ["a", "b", "a", "c"], "dual"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_a_loop_of_scikit_learn(n_trs, n_features, groups, form, dtype):
    runs_x, runs_y, _ = planted(n_trs, n_features)
    alphas, mse, weights, intercept = sklearn_loop(runs_x, runs_y, groups, ALPHAS)
    model = fit(runs_x, runs_y, groups=groups, delays_tr=(0,), alphas=ALPHAS, dtype=dtype)
    loose = 1e-9 if dtype == np.float64 else 2e-4
    assert model.form == form
    assert model.weights.dtype == dtype
    assert_array_equal(model.alphas, alphas)
    assert_allclose(model.cv_mse, mse, rtol=loose)
    assert_allclose(model.weights, weights, atol=loose)
    test_x, test_y, _ = planted(100, n_features, seed=5)
    expected = test_x[0] @ weights + intercept
    predicted = model.predict(test_x[:1])[0]
    assert_allclose(predicted, expected, atol=50 * loose)
    r = correlations(predicted, test_y[0])
    assert_allclose(r, correlations(expected, test_y[0]), atol=1e-5)


@pytest.mark.parametrize(("n_trs", "n_features"), [(120, 30), (40, 100)])
def test_equals_himalaya(n_trs, n_features):
    runs_x, runs_y, _ = planted(n_trs, n_features, n_targets=40, noise=6)
    rows = np.arange(4 * n_trs)
    folds = [(rows[rows // n_trs != k], rows[rows // n_trs == k]) for k in range(4)]
    peer = RidgeCV(alphas=ALPHAS, fit_intercept=True, cv=folds)
    peer.fit(np.concatenate(runs_x), np.concatenate(runs_y))
    model = fit(runs_x, runs_y, groups=range(4), delays_tr=(0,), alphas=ALPHAS)
    assert_allclose(model.alphas, peer.best_alphas_, rtol=1e-6)
    assert len(set(model.alphas)) > 1
    test_x, test_y, _ = planted(200, n_features, n_targets=40, seed=9)
    ours = correlations(model.predict(test_x[:1])[0], test_y[0])
    assert_allclose(ours, correlations(peer.predict(test_x[0]), test_y[0]), atol=1e-5)


def test_nan_rows_are_as_if_they_had_never_been():
    runs_x, runs_y, _ = planted()
    holes_x, holes_y, kept_x, kept_y = [], [], [], []
    rng = np.random.default_rng(3)
    for x, y in zip(runs_x, runs_y, strict=True):
        x, y = x.copy(), y.copy()
        x[rng.random(len(x)) < 0.2, 1] = np.nan  # one value is enough
        y[rng.random(len(y)) < 0.2] = np.nan
        stacked = stack_delays(x, (1, 3))
        kept = ~np.isnan(stacked).any(axis=1) & ~np.isnan(y).any(axis=1)
        holes_x.append(x), holes_y.append(y)
        kept_x.append(stacked[kept]), kept_y.append(y[kept])
    options = {"groups": range(4), "alphas": ALPHAS, "dtype": np.float64}
    holes = fit(holes_x, holes_y, delays_tr=(1, 3), **options)
    plain = fit(kept_x, kept_y, delays_tr=(0,), **options)
    assert_array_equal(holes.n_rows, [len(x) for x in kept_x])
    assert_array_equal(holes.alphas, plain.alphas)
    assert_allclose(holes.weights, plain.weights, atol=1e-10)
    predicted = holes.predict(holes_x)[0]
    missing = np.isnan(stack_delays(holes_x[0], (1, 3))).any(axis=1)
    assert_array_equal(np.isnan(predicted).all(axis=1), missing)


def test_useless_targets_are_reported_and_leave_the_others_alone():
    runs_x, runs_y, _ = planted(n_targets=5)
    whole = fit(runs_x, runs_y, groups=range(4), delays_tr=(0,), alphas=ALPHAS)
    for i, y in enumerate(runs_y):
        y[:, 1] = 0.1 + 0.2
        if i == 2:
            y[:, 3] = np.nan
    model = fit(runs_x, runs_y, groups=range(4), delays_tr=(0,), alphas=ALPHAS)
    assert_array_equal(model.constant_targets, [1])
    assert_array_equal(model.missing_targets, [3])
    for array in (model.alphas, model.cv_scores, model.cv_mse, model.weights, model.intercept):
        assert np.isnan(array[..., [1, 3]]).all()
    assert_allclose(model.weights[:, [0, 2, 4]], whole.weights[:, [0, 2, 4]], rtol=1e-5)


def test_cv_score_is_r2_on_left_out_rows():
    runs_x, runs_y, _ = planted(noise=1e-3)
    model = fit(runs_x, runs_y, groups=range(4), delays_tr=(0,), alphas=[1e-3])
    assert (model.cv_scores > 0.999).all()
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal(y.shape) for y in runs_y]
    model = fit(runs_x, noise, groups=range(4), delays_tr=(0,), alphas=[1e9])
    assert_allclose(model.cv_scores, 0, atol=0.02)
    assert (model.n_alpha_low, model.n_alpha_high) == (0, 0)


def test_edges_of_the_grid_are_counted_and_named():
    runs_x, runs_y, _ = planted(noise=0.01)
    with pytest.warns(RuntimeWarning, match="7 of 7 targets chose 100, the lower edge"):
        model = fit(runs_x, runs_y, groups=range(4), delays_tr=(0,), alphas=[1e4, 1e2, 1e3])
    assert (model.n_alpha_low, model.n_alpha_high) == (7, 0)
    assert_array_equal(model.grid, [1e2, 1e3, 1e4])
    noise = [np.random.default_rng(i).standard_normal(y.shape) for i, y in enumerate(runs_y)]
    with pytest.warns(RuntimeWarning, match="the upper edge"):
        fit(runs_x, noise, groups=range(4), delays_tr=(0,), alphas=[1e-3, 1e-2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(*planted(noise=8)[:2], groups=range(4), delays_tr=(0,), alphas=np.logspace(-4, 6, 11))


def test_penalty_below_single_precision_is_said():
    runs_x, runs_y, _ = planted(noise=0.01)
    with pytest.warns(RuntimeWarning, match="below the single precision"):
        fit(runs_x, runs_y, groups=range(4), delays_tr=(0,), alphas=[1e-7, 1e3])


@pytest.mark.parametrize("n_trs", [100, 12])
def test_relative_penalties_do_not_feel_the_scale_of_features(n_trs):
    runs_x, runs_y, _ = planted(n_trs, n_features=40, offset=0)
    options = {"groups": range(4), "delays_tr": (0, 1), "alphas": ALPHAS, "relative_alphas": True}
    options["dtype"] = np.float64
    model = fit(runs_x, runs_y, **options)
    large = fit([x * 1000 for x in runs_x], runs_y, **options)
    assert_array_equal(model.alphas, large.alphas)
    assert_allclose(model.weights, large.weights * 1000, rtol=1e-6)
    stacked = np.concatenate([stack_delays(x, (0, 1))[1:] for x in runs_x])
    assert_allclose(model.alpha_scale, stacked.var(axis=0).mean(), rtol=1e-6)


@pytest.mark.parametrize(("n_trs", "n_features"), [(100, 20), (30, 60), (20, 100)])
def test_batches_change_nothing(monkeypatch, n_trs, n_features):
    runs_x, runs_y, _ = planted(n_trs, n_features, n_targets=23)
    options = {"groups": range(4), "delays_tr": (0,), "alphas": ALPHAS, "dtype": np.float64}
    whole = fit(runs_x, runs_y, **options)
    monkeypatch.setattr(forms, "BATCH_BYTES", 1)
    monkeypatch.setattr(forms, "KEPT_BYTES", 0)
    single = fit(runs_x, runs_y, **options)
    assert_array_equal(whole.alphas, single.alphas)
    assert_allclose(whole.weights, single.weights, atol=1e-10)


def test_runs_of_one_group_leave_together():
    """A target that only a twin run can predict gets no credit when the twin is left out too."""
    rng = np.random.default_rng(0)
    twins_x, twins_y = [], []
    for _ in range(3):
        x, y = rng.standard_normal((40, 60)), rng.standard_normal((40, 3))
        twins_x += [x, x]
        twins_y += [y, y]
    alphas = np.logspace(-2, 6, 9)
    apart = fit(twins_x, twins_y, groups=range(6), delays_tr=(0,), alphas=alphas)
    together = fit(twins_x, twins_y, groups=[0, 0, 1, 1, 2, 2], delays_tr=(0,), alphas=alphas)
    assert apart.cv_scores.min() > 0.15
    assert together.cv_scores.max() < 0.05


def broken(**changes):
    runs_x, runs_y, _ = planted(n_trs=20, n_runs=3)
    options = {"groups": ["a", "b", "c"], "delays_tr": (1,), "alphas": [1.0]}
    for name, change in changes.items():
        if name == "x":
            change(runs_x)
        elif name == "y":
            change(runs_y)
        else:
            options[name] = change
    return runs_x, runs_y, options


def put(run, value, *where):
    def change(runs):
        runs[run][where] = value

    return change


def cut(run, *where):
    def change(runs):
        runs[run] = runs[run][where]

    return change


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": cut(1, slice(None), slice(3))}, r"run 1 \(group 'b'\): 3 features, but run 0 has 8"),
        ({"y": cut(2, slice(None), slice(3))}, r"run 2 \(group 'c'\): 3 targets"),
        ({"y": cut(1, slice(5))}, r"run 1 \(group 'b'\): 20 rows of features and 5"),
        ({"x": cut(0, slice(None), 0)}, r"run 0 .*give \(n_trs, n_columns\)"),
        ({"x": lambda runs: runs.pop()}, "2 of features and 3 of responses"),
        ({"groups": ["a", "b"]}, "2 labels for 3 runs"),
        ({"groups": ["a", "a", "a"]}, "at least two"),
        ({"x": put(1, np.nan, slice(None), 0)}, r"run 1 .* 0 valid rows \(20 of 20 without feat"),
        ({"x": put(1, np.inf, 3, 0)}, r"run 1 \(group 'b'\): infinite features"),
        ({"y": put(2, -np.inf, 3, 0)}, r"run 2 \(group 'c'\): infinite responses"),
        ({"y": put(2, np.nan, 3, 4)}, r"run 2 .* 1 targets \(first: 4\) are NaN"),
        ({"delays_tr": (1, 20)}, r"run 0 .*delay 20 does not fit its 20 volumes"),
        ({"alphas": [1.0, 0.0]}, "finite and positive"),
        ({"alphas": [np.nan]}, "finite and positive"),
        ({"alphas": []}, "none given"),
        ({"dtype": np.int32}, "not supported"),
    ],
)
def test_bad_input_is_named(changes, words):
    runs_x, runs_y, options = broken(**changes)
    with pytest.raises(CobeError, match=words):
        fit(runs_x, runs_y, **options)


def test_prediction_refuses_other_features():
    runs_x, runs_y, options = broken()
    model = fit(runs_x, runs_y, **options)
    with pytest.raises(CobeError, match="has 8 features"):
        model.predict([np.zeros((20, 5))])
    with pytest.raises(CobeError, match="does not fit its 1 volumes"):
        model.predict([np.zeros((1, 8))])


def test_benchmark_agrees_with_its_peers():
    plain = compare(600, 64, 30, repeats=1, loop=True)
    banded = compare_banded(600, 64, 30, repeats=1)
    found = {(row["measurement"], row["peer"]): row for row in plain + banded}
    for peer, loose in (
        ("himalaya RidgeCV", 1e-5),
        ("scikit-learn Ridge loop", 1e-5),
        ("himalaya GroupRidgeCV", 1e-4),
    ):
        assert found["targets with the same penalty", peer]["value"] == 1
        assert found["largest difference of test r", peer]["value"] < loose
    keys = {"measurement", "value", "unit", "peer", "peer_value", "ratio"}
    assert all(set(row) == keys for row in plain + banded)


def test_silent_nan_of_the_decomposition_is_mended_or_said(monkeypatch):
    """Single-precision LAPACK can hand back NaN for a matrix of low rank, without an error."""
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((60, 6)).astype(np.float32) for _ in range(3)]
    for x in xs:
        x[:, 3:] = 0  # buttons that nobody presses
    ys = [x @ rng.standard_normal((6, 4)) + rng.standard_normal((60, 4)) for x in xs]
    options = dict(groups=[0, 1, 2], delays_tr=(0,), alphas=(1.0, 100.0))
    wanted = fit(xs, ys, **options)
    real = torch.linalg.eigh

    def broken(matrix):
        values, vectors = real(matrix)
        return values, vectors * (float("nan") if matrix.dtype == torch.float32 else 1)

    monkeypatch.setattr(solver.torch.linalg, "eigh", broken)
    found = fit(xs, ys, **options)
    np.testing.assert_allclose(found.weights, wanted.weights, atol=1e-5)
    np.testing.assert_array_equal(found.alphas, wanted.alphas)
    monkeypatch.setattr(
        solver.torch.linalg, "eigh", lambda m: (torch.ones(len(m)), m * float("nan"))
    )
    with pytest.raises(CobeError, match="no eigenvectors"):
        fit(xs, ys, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moments_add_and_take_away_as_rows_do(dtype):
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((n, 5)) + 40 * k for k, n in enumerate((30, 50, 20))]
    y = [rng.standard_normal((len(a), 3)) - 90 * k for k, a in enumerate(x)]
    x[1][:, 2] = 4  # never changes in this run

    def wanted(*runs):
        a, b = (np.concatenate([rows[k] for k in runs]) for rows in (x, y))
        a0, b0 = a.mean(axis=0), b.mean(axis=0)
        return a0, b0, (a - a0).T @ (b - b0), ((b - b0) ** 2).sum(axis=0)

    each = [
        moments.Moments.cross(torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype))
        for a, b in zip(x, y, strict=True)
    ]
    everything = moments.total(each)
    loose = 1e-10 if dtype == torch.float64 else 1e-4
    for found, runs in (
        (everything, (0, 1, 2)),
        (everything.without(each[1]), (0, 2)),
        (everything.without(moments.summed(each[:2])), (2,)),
    ):
        assert found.n == sum(len(x[k]) for k in runs)
        for name, value in zip(("x", "y", "product", "square"), wanted(*runs), strict=True):
            assert_allclose(getattr(found, name), value, rtol=loose, atol=60 * loose)
    product, square = each[1].about(everything.x, everything.y)
    a, b = x[1] - np.concatenate(x).mean(axis=0), y[1] - np.concatenate(y).mean(axis=0)
    assert_allclose(product, a.T @ b, rtol=loose, atol=60 * loose)
    assert_allclose(square, (b**2).sum(axis=0), rtol=loose)


@pytest.mark.parametrize("n", [3, 200, 300])
def test_triangles_give_what_whole_products_give(n):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.standard_normal((40, n)))
    gram = moments.symmetric_product(x)
    assert_allclose(gram, x.T @ x, atol=1e-10)
    vectors, weights = (torch.tensor(rng.standard_normal((n, k))) for k in (n - 1, 4))
    upper = moments.doubled_triangle(vectors, gram)
    assert_array_equal(upper, upper.triu())
    direct = ((x @ vectors @ weights[:-1]) ** 2).sum(dim=0)
    assert_allclose(moments.quadratic_forms(upper, weights[:-1]), direct, rtol=1e-9)


def test_runs_may_be_loaders():
    runs_x, runs_y, _ = planted()
    options = {"groups": range(4), "delays_tr": (0,), "alphas": ALPHAS}
    loaded = fit([lambda x=x: x for x in runs_x], [lambda y=y: y for y in runs_y], **options)
    assert_array_equal(loaded.weights, fit(runs_x, runs_y, **options).weights)


def test_targets_explained_almost_wholly_get_the_penalty_that_double_precision_gives():
    """From products of single precision their errors would be mostly rounding."""
    runs_x, runs_y, _ = planted(n_trs=400, n_targets=20, noise=1e-3)
    options = {"groups": range(4), "delays_tr": (0,), "alphas": np.logspace(-3, 3, 7)}
    single = fit(runs_x, runs_y, **options)
    double = fit(runs_x, runs_y, dtype=np.float64, **options)
    assert_array_equal(single.alphas, double.alphas)
    assert_allclose(single.cv_mse[4:], double.cv_mse[4:], rtol=1e-2)
