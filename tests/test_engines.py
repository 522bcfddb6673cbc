"""himalaya behind the same call."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cobe.core.errors import CobeError
from cobe.encoding.ridge import fit

pytestmark = pytest.mark.filterwarnings("ignore:alphas")
ALPHAS = np.logspace(0, 5, 6)


def planted(n_trs=150, n_features=30, n_targets=40, noise=6.0, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((n_features, n_targets)) * rng.uniform(0.1, 2, n_targets)
    weights[: n_features // 3, ::2] = 0
    runs_x = [rng.standard_normal((n_trs, n_features)) + 3 for _ in range(4)]
    runs_y = [x @ weights + noise * rng.standard_normal((n_trs, n_targets)) + 7 for x in runs_x]
    return runs_x, runs_y


def correlations(a, b):
    return np.array([np.corrcoef(a[:, t], b[:, t])[0, 1] for t in range(a.shape[1])])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_engines_agree_with_delays_gaps_and_useless_targets(dtype):
    runs_x, runs_y = planted()
    for y in runs_y:
        y[:, 7] = 1.5
    runs_x[0][10, 3] = runs_y[1][20:30] = np.nan
    runs_y[2][:, 5] = np.nan
    options = {"groups": "abcb", "delays_tr": (1, 2), "alphas": ALPHAS, "dtype": dtype}
    ours = fit(runs_x, runs_y, **options)
    theirs = fit(runs_x, runs_y, engine="himalaya", **options)
    assert (ours.form, theirs.form) == ("primal", "himalaya")
    assert len(set(ours.alphas[np.isfinite(ours.alphas)])) > 1
    assert_array_equal(ours.alphas, theirs.alphas)
    for name in ("missing_targets", "constant_targets", "n_rows"):
        assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert theirs.weights.dtype == dtype
    assert_allclose(ours.weights, theirs.weights, atol=1e-5)
    assert_allclose(ours.cv_scores, theirs.cv_scores, atol=1e-5)
    chosen = np.isfinite(theirs.cv_mse)
    assert_array_equal(chosen.sum(axis=0), np.isfinite(ours.alphas))
    assert_allclose(ours.cv_mse[chosen], theirs.cv_mse[chosen], rtol=1e-5)
    test_x, test_y = planted(seed=5)
    kept = np.isfinite(ours.alphas)
    r = [
        correlations(m.predict(test_x[:1])[0][2:, kept], test_y[0][2:, kept])
        for m in (ours, theirs)
    ]
    assert_allclose(*r, atol=1e-5)


def test_both_engines_agree_on_bands():
    runs_x, runs_y = planted()
    # interleaved, so that the order of columns is put to the test
    bands = {"even": slice(0, None, 2), "odd": slice(1, None, 2)}
    weights = np.array([[0.5, 0.5], [0.9, 0.1], [0.1, 0.9]])
    options = {"groups": range(4), "delays_tr": (0, 2), "alphas": ALPHAS, "bands": bands}
    ours = fit(runs_x, runs_y, band_weights=weights, **options)
    theirs = fit(runs_x, runs_y, band_weights=weights, engine="himalaya", **options)
    assert_array_equal(ours.alphas, theirs.alphas)
    assert_array_equal(ours.band_weights, theirs.band_weights)
    assert len(np.unique(ours.band_weights[:, 0])) > 1
    assert_allclose(ours.weights, theirs.weights, atol=1e-4)
    assert_allclose(ours.cv_scores, theirs.cv_scores, atol=1e-5)
    test_x, test_y = planted(seed=5)
    r = [correlations(m.predict(test_x[:1])[0][2:], test_y[0][2:]) for m in (ours, theirs)]
    assert_allclose(*r, atol=1e-4)


def test_weights_drawn_for_himalaya_hold_no_zero():
    runs_x, runs_y = planted(n_trs=40, n_features=4, n_targets=3)
    bands = {"a": [0, 1], "b": [2, 3]}
    options = {"groups": range(4), "delays_tr": (0,), "alphas": [10.0], "bands": bands}
    model = fit(runs_x, runs_y, engine="himalaya", band_weights=5, **options)
    assert (model.band_weights > 0).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engine": "fast"}, "engine: 'fast' is unknown"),
        ({"relative_alphas": True}, "relative_alphas: not with engine 'himalaya'"),
        ({"device": "cuda"}, "device: not with engine 'himalaya'"),
        ({"band_weights": [[0.5, 0.5], [0, 1]]}, "row 1 has a weight of 0"),
        ({"client": 3}, "client: int is no Dask client"),
    ],
)
def test_what_himalaya_cannot_do_is_said(changes, words):
    runs_x, runs_y = planted(n_trs=40, n_features=4, n_targets=3)
    bands = {"a": [0, 1], "b": [2, 3]}
    options = {"groups": range(4), "delays_tr": (0,), "alphas": [1.0], "bands": bands}
    options["engine"] = "himalaya"
    with pytest.raises(CobeError, match=words):
        fit(runs_x, runs_y, **(options | changes))
