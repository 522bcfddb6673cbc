"""Single precision gives what double precision gives, where data are awkward but not absurd."""

import numpy as np
import pytest

from cobe.core.errors import CobeError
from cobe.encoding import evaluate
from cobe.encoding.permute import RefitNull
from cobe.encoding.ridge import fit
from cobe.encoding.stats import chance_of

ALPHAS = np.logspace(0, 4, 5)
QUIET = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def noise(scale_y=1.0, n_runs=4, n=80, seed=0):
    rng = np.random.default_rng(seed)
    runs_x = [rng.standard_normal((n, 6)) for _ in range(n_runs)]
    return runs_x, [scale_y * rng.standard_normal((n, 30)) for _ in range(n_runs)]


@QUIET
@pytest.mark.parametrize("scale_y", [1e-5, 1e5])
def test_p_values_do_not_depend_on_units(scale_y):
    options = {"groups": [0, 1, 2, 3], "delays_tr": [0], "alphas": np.logspace(1, 20, 20)}
    options |= {"n_permutations": 100, "n_bootstrap": 0, "block_trs": 20}
    plain, scaled = (evaluate(*noise(size), **options) for size in (1.0, scale_y))
    targets = plain[(plain.summary == "target") & (plain.held_out == "all")]
    other = scaled[(scaled.summary == "target") & (scaled.held_out == "all")]
    assert (targets.p.to_numpy() < 0.05).mean() < 0.2
    np.testing.assert_allclose(other.p, targets.p, atol=0.021)
    assert np.isfinite(other.chance_95).all()


@QUIET
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_the_null_of_the_true_order_is_the_observed_score(offset):
    rng = np.random.default_rng(1)
    runs_x, runs_y = noise(n=60)
    runs_y = [y + 0.5 * x[:, :1] for x, y in zip(runs_x, runs_y, strict=True)]
    runs_x = [x + offset * rng.standard_normal(6) for x in runs_x]
    options = {"groups": [0, 1, 2, 3], "delays_tr": [0], "alphas": [10.0], "n_bootstrap": 0}
    observed = evaluate(runs_x, runs_y, **options, n_permutations=0)
    r = observed[(observed.summary == "target") & (observed.held_out == "all")].r.to_numpy()
    assert r.mean() > 0.2
    import cobe.encoding.scoring as scoring

    seen = {}

    class Spy(RefitNull):
        def __init__(self, y, split, order, equalise=False):
            order = np.tile(np.arange(order.shape[1], dtype=order.dtype), (2, 1))
            super().__init__(y, split, order, equalise)

        def r(self):
            seen["r"] = super().r()
            return seen["r"]

    original = scoring.RefitNull
    scoring.RefitNull = Spy
    try:
        evaluate(runs_x, runs_y, **options, n_permutations=2, block_trs=20)
    finally:
        scoring.RefitNull = original
    np.testing.assert_allclose(seen["r"], np.tile(r, (2, 1)), atol=2e-3 if offset else 1e-5)


def test_no_correlation_under_permutation_is_no_evidence():
    null = np.full((99, 2), np.nan, np.float32)
    null[:, 1] = 0.0
    chance = chance_of(np.array([0.5, 0.5]), null)
    np.testing.assert_allclose(chance.p, [1.0, 0.01])
    assert chance.p_max[1] == 1.0


@QUIET
@pytest.mark.parametrize("n_features", [5, 200])
def test_offsets_between_runs_cost_no_precision(n_features):
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((n_features, 4))
    runs_x = [rng.standard_normal((60, n_features)) for _ in range(3)]
    runs_y = [x @ weights + 3 * rng.standard_normal((60, 4)) for x in runs_x]
    runs_x = [x + 1e3 * rng.standard_normal(n_features) for x in runs_x]
    options = {"groups": [0, 1, 2], "delays_tr": [0], "alphas": [10.0], "n_permutations": 0}
    single, double = (
        evaluate(runs_x, runs_y, **options, n_bootstrap=0, dtype=kind)
        for kind in (np.float32, np.float64)
    )
    np.testing.assert_allclose(single.r, double.r, atol=5e-3)


@QUIET
def test_large_values_in_double_are_shifted_before_they_are_rounded():
    rng = np.random.default_rng(3)
    x = 1.7e9 + 1.49 * np.arange(300.0)[:, None]  # seconds since 1970
    y = np.sin(np.arange(300) / 40)[:, None] + 0.001 * (x - x.mean())
    y = y + 0.1 * rng.standard_normal((300, 1)) + 1e8
    options = {"groups": [0, 1, 2], "delays_tr": [0], "alphas": [1e-3, 1.0]}
    runs = np.split(x, 3), np.split(y, 3)
    single, double = (fit(*runs, **options, dtype=kind) for kind in (np.float32, np.float64))
    np.testing.assert_allclose(single.cv_scores, double.cv_scores, atol=1e-3)
    error = [np.concatenate(model.predict(runs[0])).astype(float) - y for model in (single, double)]
    assert np.std(error[0]) < 1.05 * np.std(error[1]) + 8  # float32 holds 1e8 to 8


@QUIET
def test_predictions_hold_what_cross_validation_promised():
    rng = np.random.default_rng(4)
    weights = rng.standard_normal((30, 3))
    x = (rng.standard_normal((400, 30)) + 1e5).astype(np.float32)
    y = ((x - 1e5) @ weights + 0.05 * rng.standard_normal((400, 3))).astype(np.float32)
    model = fit(np.split(x, 4), np.split(y, 4), groups=range(4), delays_tr=[0], alphas=[1e-2])
    error = np.concatenate(model.predict(np.split(x, 4))) - y
    assert np.sqrt((error**2).mean()) < 0.06


@pytest.mark.parametrize("groups", [[[0, 1], [1, 2]], [None, "a"], ["", "b"]])
def test_fit_wants_one_label_per_run(groups):
    runs_x, runs_y = noise(n_runs=2)
    with pytest.raises(CobeError, match="groups: give one label per run"):
        fit(runs_x, runs_y, groups=groups, delays_tr=[0], alphas=[1.0])
