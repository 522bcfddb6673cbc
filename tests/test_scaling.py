import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats
from scipy.optimize import approx_fprime

from cobe.core.errors import CobeError
from cobe.report.scaling import effective_data, fit_brain_score, fit_parametric, surface
from scaling_cells import PUBLISHED, TRUTH, grid, loss_of, noisy

NAMES = ("E", "A", "B", "alpha", "beta")


def values(fit):
    return np.array([fit.estimates[name].value for name in NAMES])


@pytest.mark.parametrize("n_factors", [0, 1, 2, 3])
def test_objective_is_summed_huber_of_log_residuals_with_its_gradient(n_factors):
    rng = np.random.default_rng(n_factors)
    x, y = rng.standard_normal((12, n_factors)), 0.02 * rng.standard_normal(12)
    weight, delta = rng.exponential(size=12), 1e-3
    theta = np.r_[-0.5, rng.normal(-1, 0.3, n_factors), rng.uniform(0.1, 1, n_factors)]
    terms = np.c_[np.full(12, theta[0]), theta[1 : 1 + n_factors] - theta[1 + n_factors :] * x]
    residual = special.logsumexp(terms, axis=1) - y
    value, gradient = surface.objective(theta, x.T, y, weight, delta)
    assert_allclose(value, (weight * special.huber(delta, residual)).sum() / delta)
    numeric = approx_fprime(theta, lambda t: surface.objective(t, x.T, y, weight, delta)[0], 1e-8)
    assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-5)
    assert_allclose(surface.log_surface(theta, x) - y, residual)


def test_without_noise_every_constant_is_found_from_every_start():
    n, d = grid()
    fit = fit_parametric(n, d, loss_of(n, d), n_boot=20, seed=0)
    assert_allclose(values(fit), [TRUTH[name] for name in NAMES], rtol=1e-4)
    assert_allclose(fit.residuals, 0, atol=1e-7)
    assert fit.converged and fit.n_at_best > 0.8 * len(fit.minima)
    assert_allclose([fit.E.low, fit.E.high], TRUTH["E"], rtol=1e-4)
    assert (fit.n_rows, fit.n_cells, fit.n_blocks) == (25, 25, 25)
    assert_allclose(fit.ranges["n_params"], (5e7, 5e9))


@pytest.mark.parametrize("seed", [0, 1])
def test_published_constants_are_recovered_within_their_published_intervals(seed):
    rng = np.random.default_rng(seed)
    n = np.exp(rng.uniform(np.log(5e7), np.log(1.6e10), 240))
    d = np.exp(rng.uniform(np.log(5e8), np.log(3e11), 240))
    fit = fit_parametric(n, d, noisy(loss_of(n, d), 0.01, seed), n_boot=100, seed=seed)
    for name, (value, error) in PUBLISHED.items():
        assert abs(fit.estimates[name].value - value) < 1.96 * error, name
        assert fit.estimates[name].low < value < fit.estimates[name].high, name
    assert fit.warnings == ()
    share = fit.beta.value / (fit.alpha.value + fit.beta.value)
    assert abs(share - 0.513) < 0.03
    # Amid many models the surface is sure, and a new model spreads by the noise alone.
    new = fit.predict(1e9, 1e10).iloc[0]
    assert_allclose(np.log(new.cell_high / new.cell_low), 2 * 1.96 * 0.01, rtol=0.2)
    assert np.log(new.high / new.low) < 0.01


def test_exponent_is_found_above_an_irreducible_term():
    # Constants in the range of a published fit of misalignment, 1 - score (arXiv 2411.05712).
    truth = {"E": 0.517, "A": 400.0, "B": 1.1, "alpha": 0.58, "beta": 0.222}
    n, d = (np.repeat(a, 3) for a in np.meshgrid(np.geomspace(1e5, 1e8, 6), [1e3, 1e4, 1e5, 1e6]))
    n, d = n.ravel(), d.ravel()
    y = noisy(loss_of(n, d, truth), 0.005, 3)
    fit = fit_parametric(n, d, y, n_boot=100, seed=0)
    assert abs(fit.alpha.value - truth["alpha"]) < 0.05
    assert fit.alpha.low < truth["alpha"] < fit.alpha.high
    assert fit.floor_profile.low < truth["E"] < fit.floor_profile.high
    without_floor = -np.polyfit(np.log(n), np.log(y), 1)[0]
    assert abs(without_floor - truth["alpha"]) > 0.3


def test_intervals_cover_the_truth_as_often_as_they_say():
    n, d = grid()
    true, n_fits = loss_of(n, d), 40
    covered = dict.fromkeys((*NAMES, "profile of E", "surface", "new model"), 0)
    largest = loss_of(2e10, 4e11)
    for seed in range(n_fits):
        fit = fit_parametric(n, d, noisy(true, 0.01, seed), n_boot=100, seed=seed)
        for name in NAMES:
            covered[name] += fit.estimates[name].low <= TRUTH[name] <= fit.estimates[name].high
        covered["profile of E"] += fit.floor_profile.low <= TRUTH["E"] <= fit.floor_profile.high
        held_out = fit.predict(2e10, 4e11).iloc[0]
        covered["surface"] += held_out.low <= largest <= held_out.high
        # Inside the grid, where the noise and not the surface makes the interval.
        within, new = fit.predict(5e8, 1e10).iloc[0], np.array([loss_of(5e8, 1e10)])
        new = noisy(new, 0.01, 1000 + seed)[0]
        covered["new model"] += within.cell_low <= new <= within.cell_high
    fewest = stats.binom.ppf(0.001, n_fits, 0.9)
    assert min(covered.values()) >= fewest, covered
    most = stats.binom.ppf(0.999, n_fits * len(covered), 0.99)
    assert sum(covered.values()) <= most, covered


def test_held_out_largest_cells_lie_in_the_predicted_interval():
    n, d = grid(6, 6)
    loss = noisy(loss_of(n, d), 0.01, 5)
    largest = (n > 1e9) & (d > 2e10)
    fit = fit_parametric(n[~largest], d[~largest], loss[~largest], n_boot=300, seed=0)
    table = fit.predict(n[largest], d[largest])
    assert len(table) == 4
    inside = (table.cell_low <= loss[largest]) & (loss[largest] <= table.cell_high)
    assert inside.all()
    assert (table.cell_high - table.cell_low > table.high - table.low).all()
    # Not so wide that everything is inside: the cells' own spread is not.
    assert (table.cell_high / table.cell_low < 1.15).all()


def test_copies_of_a_cell_add_nothing_unless_called_blocks_of_their_own():
    n, d = grid()
    loss = noisy(loss_of(n, d), 0.01, 0)
    thrice = [np.repeat(a, 3) for a in (n, d, loss)]
    once = fit_parametric(n, d, loss, n_boot=60, seed=4)
    copies = fit_parametric(*thrice, n_boot=60, seed=4)
    assert (copies.n_rows, copies.n_cells, copies.n_blocks) == (75, 25, 25)
    assert_allclose(values(copies), values(once), rtol=1e-2)
    assert_allclose(copies.draws, once.draws, rtol=1e-2, atol=1e-2)
    apart = fit_parametric(*thrice, n_boot=60, seed=4, blocks=np.arange(75))
    assert apart.alpha.high - apart.alpha.low < 0.8 * (once.alpha.high - once.alpha.low)


def test_same_seed_same_fit():
    n, d = grid()
    loss = noisy(loss_of(n, d), 0.01, 0)
    first, second, other = (fit_parametric(n, d, loss, n_boot=5, seed=s) for s in (1, 1, 2))
    assert_array_equal(first.draws, second.draws)
    assert not np.array_equal(first.draws, other.draws)
    assert first.predict(1e9, 1e10).equals(second.predict(1e9, 1e10))


def test_repeats_are_worth_what_the_published_form_says():
    assert_allclose(effective_data([10.0, 100.0], 100.0), [10, 100])
    r_star = 15.387756
    at_r_star = effective_data(100 * (1 + r_star), 100.0)
    assert_allclose(at_r_star, 100 * (1 + r_star * (1 - np.exp(-1))))
    assert_allclose(effective_data(1e12, 100.0), 100 * (1 + r_star))
    # Up to four epochs are nearly fresh: the abstract's claim of arXiv 2305.16264.
    assert effective_data(400.0, 100.0) > 0.9 * 400


def test_fit_corrects_repeats():
    n, d = grid()
    unique = np.full(25, 2e9)
    loss = loss_of(n, effective_data(d, unique))
    corrected = fit_parametric(n, d, loss, n_boot=2, seed=0, n_unique=unique)
    assert_allclose(values(corrected), [TRUTH[name] for name in NAMES], rtol=1e-3)
    assert any("R* = 15.3878, which is not fitted" in note for note in corrected.warnings)
    assert_allclose(corrected.predict(n, d, n_unique=unique)["value"], loss, rtol=1e-6)
    naive = fit_parametric(n, d, loss, n_boot=2, seed=0)
    assert abs(naive.beta.value - TRUTH["beta"]) > 0.05
    with pytest.raises(CobeError, match="n_unique: this fit was not corrected"):
        naive.predict(1e9, 1e10, n_unique=1e9)


def scored(seed=0, sd=0.003):
    """Brain scores over 4 x 4 x 4 cells."""
    axes = np.geomspace(1e6, 1e9, 4), np.geomspace(1e5, 1e8, 4), np.array([1.0, 3, 9, 27])
    n, d, hours = (a.ravel() for a in np.meshgrid(*axes))
    miss = 0.5 + 5 * n**-0.25 + 3 * d**-0.3 + 0.2 * hours**-0.5
    return n, d, hours, 1 - noisy(miss, sd, seed)


def test_brain_score_has_a_term_for_each_factor():
    n, d, hours, score = scored()
    fit = fit_brain_score(n, d, hours, score, n_boot=60, seed=0)
    truth = {"E": 0.5, "A": 5, "B": 3, "C": 0.2, "alpha": 0.25, "beta": 0.3, "gamma": 0.5}
    for name, value in truth.items():
        assert fit.estimates[name].low < value < fit.estimates[name].high, name
    table = fit.predict(1e9, 1e8, [1.0, 9, 81])
    assert (np.diff(table["value"]) > 0).all()
    assert (table.cell_low < table.low).all() and (table.low < table["value"]).all()
    assert (table["value"] < table.high).all() and (table.high < table.cell_high).all()
    true = 1 - (0.5 + 5 * 1e9**-0.25 + 3 * 1e8**-0.3 + 0.2 * 9**-0.5)
    assert table.low[1] < true < table.high[1]
    with pytest.raises(CobeError, match="scan_hours: this fit has the factors"):
        fit.predict(1e9, 1e8)
    with pytest.raises(CobeError, match="predict: a factor is not positive"):
        fit.predict(1e9, 1e8, [1.0, -9])


def test_scores_of_one_are_refused():
    n, d, hours, score = scored()
    score[3] = 1.0
    with pytest.raises(CobeError, match="score: 1 entries are 1 or more"):
        fit_brain_score(n, d, hours, score, n_boot=5, seed=0)


def test_what_the_data_cannot_tell_is_said():
    n, d = grid()
    only_n = noisy(1.8 + 482 * n**-0.35, 0.005, 1)
    notes = fit_parametric(n, d, only_n, n_boot=60, seed=0).warnings
    assert any("n_data" in note for note in notes)
    assert not any("n_params" in note for note in notes)
    nothing = fit_parametric(n, d, noisy(np.full(25, 2.0), 0.01, 1), n_boot=60, seed=0)
    for factor in ("n_params", "n_data"):
        assert any(factor in note and "floor" in note for note in nothing.warnings)
    no_floor = fit_parametric(
        n, d, noisy(482 * n**-0.3478 + 2085 * d**-0.3658, 0.01, 1), n_boot=60, seed=0
    )
    assert any("cannot tell the floor from zero" in note for note in no_floor.warnings)
    assert no_floor.floor_profile.low < 1e-3


@pytest.mark.parametrize("turn", [1, -1])
def test_no_constants_where_the_response_does_not_fall(turn):
    n, d = grid()
    loss = np.full(25, 2.0) if turn == 1 else loss_of(n, d)[::-1]
    fit = fit_parametric(n, d, loss, n_boot=10, seed=0)
    for name in NAMES:
        assert np.isnan([fit.estimates[name].value, fit.estimates[name].low]).all(), name
    assert np.isnan(fit.floor_profile.value)
    for factor in ("n_params", "n_data"):
        assert any(f"follows no power law in {factor}" in note for note in fit.warnings)
    assert_allclose(fit.predict(1e9, 1e10)["value"], np.median(loss), rtol=0.01)


def test_one_factor_without_effect_leaves_the_other_exponent():
    n, d = grid()
    fit = fit_parametric(n, d, 1.8 + 482 * n**-0.35 + 1e-12 * d, n_boot=10, seed=0)
    assert_allclose(fit.alpha.value, 0.35, atol=0.03)
    assert np.isnan([fit.beta.value, fit.B.value, fit.E.value]).all()


def test_few_blocks_and_outliers_are_said():
    n, d = grid()
    loss = noisy(loss_of(n, d), 0.01, 0)
    notes = fit_parametric(n, d, loss, n_boot=5, seed=0, blocks=np.arange(25) % 8).warnings
    assert any("only 8 blocks" in note for note in notes)
    loss[7] *= 1.5
    fit = fit_parametric(n, d, loss, n_boot=5, seed=0)
    assert any(note.startswith("1 outliers") for note in fit.warnings)
    assert abs(fit.alpha.value - TRUTH["alpha"]) < 0.1


def test_responses_below_the_floor_are_counted_or_refused():
    n, d = np.meshgrid(np.geomspace(1e3, 1e6, 5), np.geomspace(1e3, 1e6, 5))
    n, d = n.ravel(), d.ravel()
    loss = noisy(2 + 50 * n**-0.9 + 50 * d**-0.9, 0.005, 0)
    notes = fit_parametric(n, d, loss, n_boot=5, seed=0).warnings
    assert any("lie below the fitted floor, within noise" in note for note in notes)
    loss[24] = 1.0
    with pytest.raises(CobeError, match=r"1 of 25 responses lie below.*row 24.*no curve"):
        fit_parametric(n, d, loss, n_boot=5, seed=0)


def bad_inputs():
    n, d = grid()
    loss = loss_of(n, d)
    holed = [np.where(np.arange(25) == 6, bad, loss) for bad in (np.nan, np.inf, 0.0, -1.0)]
    few = np.array([0, 1, 7, 13, 24])
    diagonal = np.geomspace(1e7, 1e10, 9)
    return {
        "lengths": ((n, d, loss[:-1]), {}, r"shapes differ .*loss \(24,\)"),
        "two axes": ((n.reshape(5, 5), d.reshape(5, 5), loss.reshape(5, 5)), {}, "shapes differ"),
        **{
            f"loss {bad[6]}": ((n, d, bad), {}, r"loss: 1 entries are not positive .*row 6")
            for bad in holed
        },
        "n_params 0": ((n * (n > 5e7), d, loss), {}, "n_params: 5 entries are not positive"),
        "n_data nan": ((n, d * np.nan, loss), {}, "n_data: 25 entries are not positive"),
        "one value": ((n, np.full(25, 1e9), loss), {}, "n_data: 1 distinct values"),
        "two values": ((n, np.where(d > 5e9, 1e10, 1e9), loss), {}, "n_data: 2 distinct values"),
        "few cells": ((n[few], d[few], loss[few]), {}, "5 cells for 5 parameters"),
        "few cells, many seeds": (
            tuple(np.repeat(a[few], 9) for a in (n, d, loss)),
            {},
            "5 cells for 5 parameters",
        ),
        "no cells": (([], [], []), {}, "no models"),
        "diagonal": (
            (diagonal, 20 * diagonal, loss_of(diagonal, 20 * diagonal)),
            {},
            "change together",
        ),
        "no resamples": ((n, d, loss), {"n_boot": 0}, "n_boot: 0 resamples"),
        "blocks": ((n, d, loss), {"blocks": [1, 2]}, r"blocks: shape \(2,\) for 25 models"),
        "few blocks": ((n, d, loss), {"blocks": np.arange(25) % 5}, "5 blocks count as 5.0"),
        "one large block": (
            (n, d, loss),
            {"blocks": np.maximum(np.arange(25), 17)},
            "8 blocks count as 1.9",
        ),
        "unique lengths": ((n, d, loss), {"n_unique": [1e9, 2e9]}, r"n_unique: shape \(2,\)"),
        "unique zero": ((n, d, loss), {"n_unique": 0.0}, "n_unique: an entry is not positive"),
        "repeats": ((n, d, loss), {"n_unique": 1e9, "repeat_constant": 0.0}, r"R\*: an entry"),
    }


@pytest.mark.parametrize("what", list(bad_inputs()))
def test_bad_input_is_refused(what):
    arrays, options, message = bad_inputs()[what]
    with pytest.raises(CobeError, match=message):
        fit_parametric(*arrays, **{"n_boot": 5, "seed": 0, **options})
