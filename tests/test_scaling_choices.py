from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cobe.core.errors import CobeError
from cobe.report.scaling import (
    allocate,
    compare_forms,
    effective_data,
    fit_brain_score,
    fit_parametric,
    frontier,
    isoflop,
    surface,
)
from cobe.report.scaling.allocation import data_for_budget
from cobe.report.scaling.alternatives import largest_cells
from cobe.report.scaling.fitted import interval
from scaling_cells import TRUTH, grid, loss_of, noisy

BOTH = "floor + n_params + n_data"


def six_nd(n, d):
    return 6 * n * d


def n_opt(budget, truth=TRUTH):
    """Closed form for 6 n d FLOP (Hoffmann et al. 2022, equation 4)."""
    a, b = truth["alpha"], truth["beta"]
    g = (a * truth["A"] / (b * truth["B"])) ** (1 / (a + b))
    return g * (budget / 6) ** (b / (a + b))


def forms(loss, **options):
    n, d = grid()
    table = compare_forms({"n_params": n, "n_data": d}, loss, n_boot=60, seed=0, **options)
    return table.set_index("form")


def test_the_planted_form_predicts_the_largest_cells_best():
    table = forms(noisy(loss_of(*grid()), 0.005, 0))
    assert table.index[0] == BOTH
    assert set(table.verdict[1:]) == {f"predicts worse than '{BOTH}'"}
    assert (table.n_train + table.n_held_out == 25).all()
    assert list(table.n_parameters[[BOTH, "floor + n_data", "no effect", "log-linear"]]) == [
        5,
        3,
        1,
        3,
    ]
    assert (np.diff(table.error) >= 0).all()


def test_a_factor_without_effect_cannot_be_told_from_its_absence():
    n, _ = grid()
    table = forms(noisy(1.8 + 482 * n**-0.35, 0.005, 1))
    told = table.verdict
    with_n = [told["floor + n_params"], told[BOTH]]
    assert sorted(v.split()[0] for v in with_n) == ["predicts", "the"]
    assert any("cannot tell" in v for v in with_n)
    assert "worse" in told["no effect"] and "worse" in told["floor + n_data"]


def test_noise_alone_is_not_told_from_no_effect():
    told = forms(noisy(np.full(25, 2.0), 0.01, 2)).verdict["no effect"]
    assert "cannot tell" in told or "best" in told


def test_a_log_linear_response_is_found_and_extrapolated_exactly():
    n, d = grid()
    table = forms(6 - 0.1 * np.log(n) - 0.08 * np.log(d))
    assert table.index[0] == "log-linear"
    assert table.error["log-linear"] < 1e-5
    assert "worse" in table.verdict["no effect"]


def test_held_out_error_of_no_effect_is_that_of_the_median():
    n, d = grid()
    loss = loss_of(n, d)
    size = np.log(n) + np.log(d)
    held = size >= np.sort(size)[-6] - 1e-9
    error = forms(loss).error["no effect"]
    middle = np.median(loss[~held])
    # Huber with a delta far below the spread is the median, up to its flat bottom.
    assert_allclose(error, np.sqrt(np.mean((middle / loss[held] - 1) ** 2)), rtol=0.02)


def test_groups_are_held_out_whole_by_the_factors_that_they_fix():
    """A network scored at six scan times is never on both sides, and time makes none larger."""
    n, d = (np.repeat(column, 6) for column in grid())
    hours = np.tile(np.geomspace(0.1, 10, 6), 25)
    factors, design = {"n_params": n, "n_data": d, "scan_hours": hours}, np.repeat(range(25), 6)
    rows = surface.checked_rows(factors, loss_of(n, d), "loss")
    held = largest_cells(rows, 0.25, design)
    size = np.log(n) + np.log(d)
    assert_allclose(held, size >= np.sort(size[::6])[-6] - 1e-9)
    assert not set(design[held]) & set(design[~held])
    alone = largest_cells(rows, 0.25)
    assert set(design[alone]) & set(design[~alone])
    everything = np.zeros(len(n))
    with pytest.raises(CobeError, match="every factor varies within a group"):
        largest_cells(rows, 0.25, everything)


def test_comparison_refuses_what_it_cannot_hold_out():
    n, d = grid()
    factors, loss = {"n_params": n, "n_data": d}, loss_of(n, d)
    for share in (0.05, 1.0):
        with pytest.raises(CobeError, match="held_out_share"):
            compare_forms(factors, loss, n_boot=5, seed=0, held_out_share=share)
    with pytest.raises(CobeError, match="n_params: 2 distinct values"):
        compare_forms(factors, loss, n_boot=5, seed=0, held_out_share=0.8)
    with pytest.raises(CobeError, match="n_boot: 0"):
        compare_forms(factors, loss, n_boot=0, seed=0)


@pytest.fixture(scope="module")
def fit():
    n, d = grid()
    return fit_parametric(n, d, noisy(loss_of(n, d), 0.005, 0), n_boot=100, seed=0)


def exact(truth=TRUTH):
    n, d = grid()
    return fit_parametric(n, d, loss_of(n, d, truth), n_boot=2, seed=0)


def slices(budgets, sizes, truth=TRUTH):
    """Models of exactly these budgets; sizes is a function of the budget."""
    n = np.concatenate([sizes(budget) for budget in budgets])
    d = np.repeat(budgets, len(n) // len(budgets)) / 6 / n
    return n, d, loss_of(n, d, truth)


BUDGETS = np.geomspace(1e19, 1e21, 4)
EQUAL = {"E": 1.8, "A": 400.0, "B": 600.0, "alpha": 0.35, "beta": 0.35}
UNEQUAL = {"E": 1.8, "A": 60.0, "B": 9000.0, "alpha": 0.25, "beta": 0.45}


def around(truth, width):
    return lambda budget: n_opt(budget, truth) * np.geomspace(1 / width, width, 9)


def cut(models, truth, **options):
    options = {"flops": six_nd, "budgets_flop": BUDGETS, "n_boot": 50, "seed": 0, **options}
    return isoflop(*models, fit=options.pop("fit", None) or exact(truth), **options)


def test_parabola_is_right_for_equal_exponents_around_the_optimum():
    result = cut(slices(BUDGETS, around(EQUAL, 8), EQUAL), EQUAL)
    assert_allclose(result.slices.n_opt, n_opt(BUDGETS, EQUAL), rtol=1e-3)
    assert_allclose(result.slices.surface_n_opt, n_opt(BUDGETS, EQUAL), rtol=0.01)
    assert_allclose(result.slices.bias, 1, atol=0.01)
    assert_allclose(result.exponent.value, 0.5, atol=1e-3)
    assert result.warnings == ()


def test_bias_of_the_parabola_is_what_the_truth_says():
    # The same sizes for every budget, as a grid has them, and exponents that differ.
    models = slices(BUDGETS, lambda _: np.geomspace(1e8, 1e10, 9), UNEQUAL)
    result = cut(models, UNEQUAL)
    true = n_opt(BUDGETS, UNEQUAL)
    by_hand = []
    for i in range(4):
        c2, c1, _ = np.polyfit(
            np.log(models[0][9 * i : 9 * i + 9]), models[2][9 * i : 9 * i + 9], 2
        )
        by_hand.append(np.exp(-c1 / (2 * c2)))
    assert_allclose(result.slices.n_opt, by_hand, rtol=1e-6)
    assert_allclose(result.slices.bias, np.array(by_hand) / true, rtol=0.01)
    assert np.abs(result.slices.bias - 1).max() > 0.1
    true_exponent = UNEQUAL["beta"] / (UNEQUAL["alpha"] + UNEQUAL["beta"])
    assert abs(result.exponent.value - true_exponent) > 0.05
    assert_allclose(result.bias_exponent, result.exponent.value - true_exponent, atol=0.003)


def test_bias_is_not_stated_from_a_surface_that_is_not_fixed():
    models = slices(BUDGETS, around(EQUAL, 8), EQUAL)
    known = exact(EQUAL)
    for change in ({"unfixed": ("n_data",)}, {"lost": ("n_params",)}):
        result = cut(models, EQUAL, fit=replace(known, **change))
        columns = ["surface_n_opt", "parabola_on_surface", "bias"]
        assert result.slices[columns].isna().all().all() and np.isnan(result.bias_exponent)
        assert (result.slices.state == "ok").all() and result.exponent is not None
        assert any("bias of the parabola is not known" in said for said in result.warnings)
    # The surface's optimum is far below all that is searched.
    theta = known.theta + np.array([0, -60, 0, 0, 0])
    result = cut(models, EQUAL, fit=replace(known, theta=theta))
    assert result.slices.surface_n_opt.isna().all() and np.isnan(result.bias_exponent)
    assert "at 4 of 4 budgets: the surface has its optimum at an end" in " ".join(result.warnings)


def test_parabola_interval_covers_the_vertex_of_the_truth():
    n, d, loss = slices(BUDGETS, around(TRUTH, 10))
    result = cut((n, d, noisy(loss, 0.003, 1)), TRUTH, n_boot=300)
    inside = (result.slices.low < result.slices.parabola_on_surface) & (
        result.slices.parabola_on_surface < result.slices.high
    )
    assert inside.sum() >= 3
    assert result.exponent.low < 0.513 < result.exponent.high


def test_slices_without_an_optimum_say_why():
    n, d, loss = slices(BUDGETS, around(TRUTH, 10))
    loss = loss.copy()
    loss[9:18] = loss[9:18][::-1].max() + 1 - loss[9:18]
    keep = np.ones(36, bool)
    keep[3:9] = False
    keep[27:32] = False
    result = cut((n[keep], d[keep], loss[keep]), TRUTH)
    states = list(result.slices.state)
    assert states[0] == "fewer than 4 model sizes"
    assert states[1] == "the parabola has no minimum"
    assert states[2] == "ok"
    assert states[3] == "the vertex lies outside the models"
    assert result.slices.n_opt[[0, 1, 3]].isna().all()
    assert result.exponent is None
    assert any("no exponent" in note for note in result.warnings)


def test_a_flat_slice_gives_no_optimum():
    n, d, loss = slices(BUDGETS, around(TRUTH, 1.3))
    losses = [noisy(loss, 0.02, seed) for seed in range(4)]
    tables = [cut((n, d, y), TRUTH, n_boot=200).slices for y in losses]
    states = np.concatenate([table.state for table in tables])
    assert (states == "ok").mean() < 0.2
    assert any(state.startswith("too flat: no minimum in") for state in states)


def test_envelope_is_what_no_cheaper_model_beats():
    n, d = grid()
    loss = noisy(loss_of(n, d), 0.05, 0)
    result = isoflop(n, d, loss, flops=six_nd, budgets_flop=[3e17], fit=exact(), n_boot=5, seed=0)
    cost = six_nd(n, d)
    by_hand = {
        i
        for i in range(25)
        if not any(
            (cost[j] <= cost[i] and loss[j] < loss[i]) or (cost[j] < cost[i] and loss[j] == loss[i])
            for j in range(25)
        )
    }
    assert set(result.envelope.row) == by_hand
    assert result.envelope.flop.is_monotonic_increasing
    assert any("belong to no slice" in note for note in result.warnings)


def test_slices_take_repeats_from_a_fit_that_corrected_them():
    n, d = grid()
    fit = fit_parametric(n, d, loss_of(n, effective_data(d, 5e9)), n_boot=2, seed=0, n_unique=5e9)
    models = slices(BUDGETS, around(TRUTH, 10))
    fresh, repeated = (
        cut(models, TRUTH, fit=fit, n_unique=unique).slices for unique in (None, 1e9)
    )
    assert_allclose(fresh.surface_n_opt, n_opt(BUDGETS), rtol=0.01)
    by_hand = allocate(fit, BUDGETS[-1], flops=six_nd, n_unique=1e9).n_params.value
    assert_allclose(repeated.surface_n_opt.iloc[-1], by_hand, rtol=0.03)
    assert by_hand > 1.5 * n_opt(BUDGETS[-1])


def test_isoflop_refuses_bad_input():
    n, d, loss = slices(BUDGETS, around(TRUTH, 10))
    for arrays, options, message in [
        ((n, d, loss[:-1]), {}, "isoflop: shapes"),
        ((n, d, np.where(n > n.max() * 0.99, np.nan, loss)), {}, "loss: 1 entries"),
        ((n, d, loss), {"budgets_flop": [1e19, 1e15]}, r"no model is within 10% of 1e\+15 FLOP"),
        ((n, d, loss), {"budgets_flop": [-1.0]}, "budgets_flop: not positive"),
        ((n, d, loss), {"flops": lambda n, d: 6.0}, "flops: not one positive"),
        ((n, d, loss), {"n_boot": 0}, "n_boot: 0 resamples"),
        ((n, d, loss), {"fit": brain(0.3)}, "fit: one of brain scores"),
    ]:
        with pytest.raises(CobeError, match=message):
            cut(arrays, TRUTH, **options)


def test_data_for_budget_inverts_any_rising_count():
    def count(n, d):
        return 6 * n * d + 3e4 * d + 1e12

    n = np.array([1e5, 1e6, 1e12])
    d = data_for_budget(count, n, 5e12)
    assert_allclose(count(n[:2], d[:2]), 5e12, rtol=1e-9)
    assert np.isnan(d[2])
    for wrong in (lambda n, d: 6 * n, lambda n, d: n * np.nan):
        with pytest.raises(CobeError, match="do not rise with n_data"):
            data_for_budget(wrong, n, 5e12)


@pytest.mark.parametrize("budget", [1e19, 1e20, 1e21])
def test_allocation_is_the_closed_form(fit, budget):
    choice = allocate(exact(), budget, flops=six_nd)
    assert_allclose(choice.n_params.value, n_opt(budget), rtol=0.02)
    assert_allclose(six_nd(choice.n_params.value, choice.n_data.value), budget, rtol=1e-6)
    uncertain = allocate(fit, budget, flops=six_nd)
    assert uncertain.n_params.low < n_opt(budget) < uncertain.n_params.high
    best = loss_of(n_opt(budget), budget / 6 / n_opt(budget))
    assert uncertain.response.low < best < uncertain.response.high


def test_flat_range_is_within_one_percent_and_ends_there():
    choice = allocate(exact(), 1e20, flops=six_nd)
    best = loss_of(n_opt(1e20), 1e20 / 6 / n_opt(1e20))
    for end in choice.flat_n_params:
        assert_allclose(loss_of(end, 1e20 / 6 / end), 1.01 * best, rtol=1e-3)
    assert_allclose(np.prod([choice.flat_n_params[0], choice.flat_n_data[1]]), 1e20 / 6)
    assert "within 1% of its best for n_params from" in choice.statements[0]


def test_the_count_of_flop_moves_the_optimum():
    heavy = allocate(exact(), 1e20, flops=lambda n, d: 6 * n * d + 6e9 * d)
    assert heavy.n_params.value > 1.3 * n_opt(1e20)
    with pytest.raises(TypeError, match="flops"):
        allocate(exact(), 1e20)


def test_doubling_compute_gains_what_the_surface_says():
    gain = allocate(exact(), 1e20, flops=six_nd).gains.set_index("step").gain["compute"]
    best = [loss_of(n_opt(c), c / 6 / n_opt(c)) for c in (1e20, 2e20)]
    assert_allclose(gain, best[0] - best[1], rtol=1e-3)


def test_extrapolation_and_edges_are_said(fit):
    far = allocate(fit, 1e24, flops=six_nd)
    assert any("n_params" in s and "extrapolated" in s for s in far.statements)
    assert any("n_data" in s and "extrapolated" in s for s in far.statements)
    edge = allocate(fit, 1e21, flops=six_nd, n_range=(1e7, 1e8))
    assert any("edge of the range" in s for s in edge.statements)
    inside = allocate(fit, 1e20, flops=six_nd)
    assert not any("extrapolated" in s or "edge" in s for s in inside.statements)


def test_an_interval_that_the_search_cuts_is_not_told(fit):
    free = allocate(fit, 1e20, flops=six_nd)
    assert free.told and not free.extrapolated
    best = free.n_params
    top = (best.value + best.high) / 2
    choice = allocate(fit, 1e20, flops=six_nd, n_range=(best.value / 10, top))
    assert not choice.told
    assert any("is cut by the range searched" in said for said in choice.statements)
    assert not any("at the edge" in said for said in choice.statements)


def test_frontier_exponent_rests_on_the_budgets_that_are_told(fit):
    budgets = np.geomspace(1e19, 1e21, 5)
    sizes = (n_opt(1e19) / 10, n_opt(2e20))
    table, exponent = frontier(fit, budgets, flops=six_nd, n_range=sizes)
    assert list(table.told) == [True, True, True, False, False]
    some = table[table.told]
    slope = np.polyfit(np.log(some.budget_flop), np.log(some.n_params), 1)[0]
    assert_allclose(exponent.value, slope)
    _, none = frontier(fit, budgets, flops=six_nd, n_range=(1e6, 1e7))
    assert np.isnan([none.value, none.low, none.high]).all()
    far, _ = frontier(fit, [1e20, 1e24], flops=six_nd)
    assert list(far.extrapolated) == [False, True]


def test_doubling_beyond_the_longest_scan_time_is_called_extrapolated():
    inside, at_end = (
        allocate(brain(0.3), 1e14, flops=six_nd, scan_hours=hours) for hours in (6.0, 27.0)
    )
    for choice, beyond in ((inside, False), (at_end, True)):
        gains = choice.gains.set_index("step").extrapolated
        assert gains["scan_hours"] == beyond and not gains["compute"]
        said = [s for s in choice.statements if "54 h is beyond the largest tried (27 h)" in s]
        assert len(said) == beyond


def test_no_draws_give_no_interval():
    assert np.isnan(interval([])).all() and interval(np.empty((0, 3))).shape == (2, 3)


def test_noise_alone_cannot_be_allocated():
    n, d = grid()
    nothing = fit_parametric(n, d, noisy(np.full(25, 2.0), 0.01, 1), n_boot=60, seed=0)
    said = allocate(nothing, 1e20, flops=six_nd).statements
    assert any("cannot tell the best n_params" in s for s in said)


def test_unique_data_limit_moves_the_budget_to_parameters():
    n, d = grid()
    unique = 5e9
    loss = loss_of(n, effective_data(d, unique))
    fit = fit_parametric(n, d, loss, n_boot=2, seed=0, n_unique=unique)
    free = allocate(fit, 1e21, flops=six_nd)
    limited = allocate(fit, 1e21, flops=six_nd, n_unique=unique / 10)
    assert limited.n_params.value > 1.5 * free.n_params.value
    assert limited.n_data.value < free.n_data.value


def cells(hours_scale, seed=0):
    axes = np.geomspace(1e6, 1e9, 4), np.geomspace(1e5, 1e8, 4), np.array([1.0, 3, 9, 27])
    n, d, hours = (a.ravel() for a in np.meshgrid(*axes))
    miss = 0.5 + 2 * n**-0.25 + 2 * d**-0.3 + hours_scale * hours**-0.5
    return n, d, hours, 1 - noisy(miss, 0.002, seed)


def brain(hours_scale):
    return fit_brain_score(*cells(hours_scale), n_boot=60, seed=0)


def test_planted_factors_of_a_brain_score_are_found():
    n, d, hours, score = cells(0.3)
    factors = {"n_params": n, "n_data": d, "scan_hours": hours}
    told = compare_forms(factors, 1 - score, n_boot=30, seed=0).set_index("form").verdict
    assert len(told) == 9
    assert "best" in told["floor + n_params + n_data + scan_hours"]
    assert all("worse" in told[form] for form in told.index if "scan_hours" not in form)


def test_the_larger_lever_is_named():
    choice = allocate(brain(0.3), 1e15, flops=six_nd, scan_hours=6.0)
    assert "doubling the scan hours gains more than doubling the compute" in choice.statements
    gain = choice.gains.set_index("step").loc["scan_hours"]
    true = 0.3 * (6**-0.5 - 12**-0.5)
    assert gain.low < true < gain.high
    # The score at all hours, less 1 %, is reached at these hours.
    enough = choice.scan_hours_enough
    lost = 0.3 * (enough.value**-0.5 - 6**-0.5)
    assert_allclose(lost, 0.01 * choice.response.value, rtol=0.2)
    assert enough.low <= enough.value <= enough.high <= 6.0
    small = allocate(brain(0.001), 1e12, flops=six_nd, scan_hours=20.0)
    assert "doubling the compute gains more than doubling the scan hours" in small.statements


def test_allocation_refuses_bad_input(fit):
    for options, message in [
        ({"budget_flop": 0.0}, "budget_flop: 0.0 is not positive"),
        ({"budget_flop": np.nan}, "budget_flop: nan is not positive"),
        ({"budget_flop": 1e3}, "buys no data"),
        ({"scan_hours": 3.0}, "scan_hours: this fit has the factors"),
        ({"n_unique": 1e9}, "n_unique: this fit was not corrected"),
        ({"n_range": (1e9, 1e8)}, "n_range"),
        ({"flops": lambda n, d: 6 * n}, "do not rise with n_data"),
    ]:
        with pytest.raises(CobeError, match=message):
            allocate(fit, **{"budget_flop": 1e20, "flops": six_nd, **options})
