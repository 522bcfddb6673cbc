"""What to spend: the best model size and data for a budget, enough scan hours, and how sure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cobe.core.errors import CobeError
from cobe.report.scaling.fitted import CONFIDENCE, Estimate, ScalingFit, interval

GRID = 1000
BEYOND = 10.0
FLAT = 0.01
MAX_N_DATA = 1e24
BISECTIONS = 80
OPEN_FACTOR = 10.0
TAIL = (1 - CONFIDENCE) / 2
DOUBLED_HOURS = "what doubling the scan hours adds"


@dataclass(frozen=True)
class Allocation:
    """A budget and what is best bought with it.

    Attributes
    ----------
    budget_flop : float
        FLOP of one training.
    n_params, n_data : Estimate
        Best for the budget, with 95 % intervals; `n_data` counts repeats.
    scan_hours : float or None
        Hours available, all used: more never lower the fitted score.
    scan_hours_enough : Estimate or None
        Fewest hours that come within 1 % of the score of all, with a 95 % interval.
    response : Estimate
        Loss or score there.
    flat_n_params, flat_n_data : (float, float)
        Range along the budget within 1 % of the best response.
    gains : pandas.DataFrame
        What doubling would improve: step ("compute", "scan_hours"), gain in units of the response
        (positive is better) with low and high, extrapolated (whether what is doubled, or the best
        for it, lies beyond what the fit has seen).
    told : bool
        Whether `n_params` and `n_data` are to be used: the best size and its interval lie inside
        the range searched, the interval spans less than a factor of ten, and the exponents of both
        are fixed.
    extrapolated : bool
        Whether the best size or data, or the scan hours, lie beyond what the fit has seen.
    statements : tuple of str
        What the surface says and what it cannot tell, in plain words.
    """

    budget_flop: float
    n_params: Estimate
    n_data: Estimate
    scan_hours: float | None
    scan_hours_enough: Estimate | None
    response: Estimate
    flat_n_params: tuple[float, float]
    flat_n_data: tuple[float, float]
    gains: pd.DataFrame
    told: bool
    extrapolated: bool
    statements: tuple[str, ...]


@dataclass(frozen=True)
class _Best:
    """Optima along one budget; first of the fit, then of every resample."""

    n: np.ndarray
    d: np.ndarray
    response: np.ndarray
    flat: np.ndarray
    at_edge: np.ndarray


def allocate(
    fit: ScalingFit, budget_flop, *, flops, scan_hours=None, n_unique=None, n_range=None
) -> Allocation:
    """Best n_params and n_data for a training budget, and what scan hours add.

    The surface adds one term per factor, so that by its form the best model does not depend on the
    scan hours; whether that holds can only be seen in cells that cross them.

    Parameters
    ----------
    fit : ScalingFit
        Of losses, or of brain scores.
    budget_flop : float
        FLOP of one training.
    flops : callable
        ``flops(n_params, n_data)``: FLOP to train, for arrays; rises with n_data. There is no
        default: 6 n_params n_data misranks small models, whose attention and head weigh most.
    scan_hours : float or None
        Hours of fMRI at hand, for a fit of brain scores.
    n_unique : float or None
        Unique data that there are, for a fit that corrected repeats; None: all data are fresh.
    n_range : (float, float) or None
        Sizes to choose from; None: those of the fit, widened tenfold on either side.

    Returns
    -------
    allocation : Allocation

    Raises
    ------
    CobeError
        A budget that buys no model, scan hours that the fit does not have (or lacks), FLOP that do
        not rise with n_data, or a range that is none.
    """
    if not (np.isfinite(budget_flop) and budget_flop > 0):
        raise CobeError(f"budget_flop: {budget_flop} is not positive and finite; correct it")
    sizes = _sizes(fit, n_range)
    thetas = np.concatenate([fit.theta[None], fit.draws])

    def best(budget, hours):
        return _best_along(fit, thetas, flops, budget, sizes, hours, n_unique)

    here = best(budget_flop, scan_hours)
    sign = 1 if fit.is_score else -1
    doubled = best(2 * budget_flop, scan_hours)
    gains = {"compute": sign * (doubled.response - here.response)}
    beyond = {"compute": _beyond(fit, doubled, scan_hours, n_unique)}
    enough = None
    if scan_hours is not None:
        more = best(budget_flop, 2 * scan_hours)
        gains["scan_hours"] = more.response - here.response
        beyond["scan_hours"] = _beyond(fit, more, 2 * scan_hours, n_unique)
        enough = _enough_hours(fit, thetas, here, scan_hours, n_unique)
    n_params, n_data, response = (_estimate(v) for v in (here.n, here.d, here.response))
    flat = here.flat
    d_along = data_for_budget(flops, sizes, budget_flop)
    flat_n, flat_d = ((float(v[flat].min()), float(v[flat].max())) for v in (sizes, d_along))
    return Allocation(
        budget_flop=float(budget_flop),
        n_params=n_params,
        n_data=n_data,
        scan_hours=scan_hours,
        scan_hours_enough=enough,
        response=response,
        flat_n_params=flat_n,
        flat_n_data=flat_d,
        gains=_gain_table(gains, beyond),
        told=_told(fit, here),
        extrapolated=bool(_beyond(fit, here, scan_hours, n_unique)),
        statements=tuple(_statements(fit, here, flat_n, gains, scan_hours, n_unique)),
    )


def frontier(
    fit: ScalingFit, budgets_flop, *, flops, scan_hours=None, n_unique=None, n_range=None
) -> tuple[pd.DataFrame, Estimate]:
    """Best n_params and n_data of each budget, and how n_params grows with the budget.

    Parameters
    ----------
    fit, flops, scan_hours, n_unique, n_range
        As in `allocate`.
    budgets_flop : array of shape (n_budgets,)
        FLOP of one training; two or more.

    Returns
    -------
    table : pandas.DataFrame
        One row per budget, ascending: budget_flop; n_params, n_data and response, each with
        ``_low`` and ``_high`` (95 % interval); flat_n_low, flat_n_high (within 1 % of the best
        response); told and extrapolated (as in `Allocation`).
    exponent : Estimate
        a of ``n_params ~ budget^a``, least squares over the budgets at which the best is told; NaN
        with fewer than two of them.

    Raises
    ------
    CobeError
        As in `allocate`, for any budget; or fewer than two budgets.
    """
    budgets = np.sort(np.asarray(budgets_flop, float))
    if len(budgets) < 2:
        raise CobeError(f"budgets_flop: {len(budgets)}; a frontier needs two or more")
    if not (np.isfinite(budgets) & (budgets > 0)).all():
        raise CobeError("budgets_flop: not positive and finite; correct them")
    sizes = _sizes(fit, n_range)
    thetas = np.concatenate([fit.theta[None], fit.draws])
    rows, log_n = [], []
    for budget in budgets:
        best = _best_along(fit, thetas, flops, budget, sizes, scan_hours, n_unique)
        log_n.append(np.log(best.n))
        row = {"budget_flop": budget}
        for name, values in (("n_params", best.n), ("n_data", best.d), ("response", best.response)):
            found = _estimate(values)
            row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        row |= {"flat_n_low": sizes[best.flat].min(), "flat_n_high": sizes[best.flat].max()}
        beyond = bool(_beyond(fit, best, scan_hours, n_unique))
        rows.append(row | {"told": _told(fit, best), "extrapolated": beyond})
    table = pd.DataFrame(rows)
    told = table.told.to_numpy()
    if told.sum() < 2:
        return table, Estimate(np.nan, np.nan, np.nan)
    centred = np.log(budgets[told]) - np.log(budgets[told]).mean()
    return table, _estimate(centred @ np.array(log_n)[told] / (centred @ centred))


def data_for_budget(flops, n_params, budget_flop) -> np.ndarray:
    """Data that a budget buys at each size, by bisection; NaN where it buys none.

    Parameters
    ----------
    flops : callable
        As in `allocate`.
    n_params : float64 array of shape (n_sizes,)
    budget_flop : float

    Returns
    -------
    n_data : float64 array of shape (n_sizes,)

    Raises
    ------
    CobeError
        FLOP that are not finite or do not rise with n_data up to the budget.
    """
    low, high = np.zeros(len(n_params)), np.full(len(n_params), np.log(MAX_N_DATA))
    cheapest, dearest = (np.asarray(flops(n_params, np.exp(end)), float) for end in (low, high))
    if not (np.isfinite(cheapest).all() and (dearest > np.maximum(cheapest, budget_flop)).all()):
        raise CobeError(
            "flops: not finite, or do not rise with n_data up to the budget; correct the callable"
        )
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        over = np.asarray(flops(n_params, np.exp(middle)), float) > budget_flop
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return np.where(cheapest > budget_flop, np.nan, np.exp(low))


def _sizes(fit, n_range) -> np.ndarray:
    smallest, largest = fit.ranges["n_params"]
    low, high = n_range or (smallest / BEYOND, largest * BEYOND)
    if not 0 < low < high < np.inf:
        raise CobeError(f"n_range: {low} to {high} is no range of sizes; give the smaller first")
    return np.geomspace(low, high, GRID)


def _best_along(fit, thetas, flops, budget, sizes, hours, n_unique) -> _Best:
    d = data_for_budget(flops, sizes, budget)
    there = np.flatnonzero(np.isfinite(d))
    if not len(there):
        raise CobeError(
            f"budget_flop: {budget:.3g} buys no data for a model of {sizes[0]:.3g} parameters; "
            "raise it or allow smaller models"
        )
    values = fit.values_of(sizes[there], d[there], hours, n_unique)
    responses = np.stack([fit.respond(theta, values) for theta in thetas])
    at = responses.argmax(axis=1) if fit.is_score else responses.argmin(axis=1)
    best = responses[np.arange(len(at)), at]
    worse = best[0] - responses[0] if fit.is_score else responses[0] - best[0]
    flat = np.zeros(len(sizes), bool)
    flat[there[worse <= FLAT * abs(best[0])]] = True
    edge = (at == 0) | (at == len(there) - 1)
    return _Best(sizes[there[at]], d[there[at]], best, flat, edge)


def _enough_hours(fit, thetas, here, scan_hours, n_unique) -> Estimate:
    hours = np.geomspace(scan_hours / 1000, scan_hours, GRID)
    fewest = []
    for theta, n, d, best in zip(thetas, here.n, here.d, here.response, strict=True):
        scores = fit.respond(theta, fit.values_of(n, d, hours, n_unique))
        fewest.append(hours[np.argmax(best - scores <= FLAT * abs(best))])
    return _estimate(np.array(fewest))


def _estimate(values) -> Estimate:
    low, high = interval(values[1:])
    return Estimate(float(values[0]), float(low), float(high))


def _told(fit, best: _Best) -> bool:
    n_params, doubtful = _estimate(best.n), {*fit.lost, *fit.unfixed}
    wide = n_params.high > OPEN_FACTOR * n_params.low
    cut = best.at_edge[0] or best.at_edge[1:].mean() > TAIL
    return not (cut or wide or doubtful & {"n_params", "n_data"})


def _beyond(fit, best: _Best, hours, n_unique) -> dict:
    """Factors at the fit's own optimum that lie outside what was trained, with their values."""
    used = fit.values_of(best.n[0], best.d[0], hours, n_unique)[0]
    return {
        name: value
        for value, (name, (low, high)) in zip(used, fit.ranges.items(), strict=True)
        if not low * (1 - 1e-9) <= value <= high * (1 + 1e-9)
    }


def _statements(fit, here, flat_n, gains, scan_hours, n_unique) -> list[str]:
    n_params = _estimate(here.n)
    what = "score" if fit.is_score else "loss"
    said = [
        f"the {what} is within {FLAT:.0%} of its best for n_params from {flat_n[0]:.3g} to "
        f"{flat_n[1]:.3g} (a factor of {flat_n[1] / flat_n[0]:.1f})"
    ]
    if flat_n[0] <= n_params.low and n_params.high <= flat_n[1]:
        said.append("the surface is flat over the whole interval of the best n_params")
    if n_params.high > OPEN_FACTOR * n_params.low:
        said.append(
            "the data cannot tell the best n_params: its interval spans a factor of "
            f"{n_params.high / n_params.low:.0f}"
        )
    if here.at_edge[0]:
        said.append("the best n_params lies at the edge of the range searched: it may be beyond")
    elif here.at_edge[1:].mean() > TAIL:
        said.append("the interval of the best n_params is cut by the range searched")
    for name, value in _beyond(fit, here, scan_hours, n_unique).items():
        low, high = fit.ranges[name]
        said.append(
            f"{name} {value:.3g} is beyond what was trained ({low:.3g} to {high:.3g}): extrapolated"
        )
    if "scan_hours" in gains:
        most = fit.ranges["scan_hours"][1]
        if 2 * scan_hours > most * (1 + 1e-9):
            said.append(
                f"{DOUBLED_HOURS} is extrapolated: {2 * scan_hours:.3g} h is beyond the largest "
                f"tried ({most:.3g} h)"
            )
        said.append(_which_gains_more(gains["scan_hours"] - gains["compute"]))
    return [*said, *fit.warnings]


def _gain_table(gains, beyond) -> pd.DataFrame:
    rows = []
    for step, values in gains.items():
        gain = _estimate(values)
        row = {"step": step, "gain": gain.value, "low": gain.low, "high": gain.high}
        rows.append(row | {"extrapolated": bool(beyond[step])})
    return pd.DataFrame(rows)


def _which_gains_more(difference) -> str:
    estimate = _estimate(difference)
    if estimate.low > 0:
        return "doubling the scan hours gains more than doubling the compute"
    if estimate.high < 0:
        return "doubling the compute gains more than doubling the scan hours"
    return "the data cannot tell whether doubling scan hours or compute gains more"
