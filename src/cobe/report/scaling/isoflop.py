"""Parabolas through models of equal FLOP, the envelope, and how wrong the parabola is.

The parabola in log n_params (Hoffmann et al. 2022, arXiv 2203.15556, approach 2) is a Taylor
expansion. Where the exponents of parameters and data differ, or the models do not lie around the
optimum, its vertex is off even without noise, so exponents from it are biased. That bias is
measured here on the fitted surface, at the same model sizes, and stands beside each vertex. For
exponents .25 and .45 and nine sizes from 1e8 to 1e10 at four budgets from 1e19 to 1e21 FLOP, the
parabola without noise says n_opt ~ budget^.58 where .64 is true.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.report.scaling.allocation import data_for_budget
from cobe.report.scaling.fitted import CONFIDENCE, Estimate, ScalingFit

MIN_CELLS = 4
MIN_SLICES = 3
LOST_DRAWS = 0.05
GRID = 2000
OK = "ok"
UNKNOWN = {"surface_n_opt": np.nan, "parabola_on_surface": np.nan, "bias": np.nan}


@dataclass(frozen=True)
class Isoflop:
    """What slices of equal FLOP say.

    Attributes
    ----------
    slices : pandas.DataFrame
        One row per budget: budget_flop, n_rows, n_opt with low and high (95 % interval) and
        loss_opt of the parabola, state ("ok", or why there is no optimum), and of the fitted
        surface surface_n_opt (its true optimum), parabola_on_surface (the vertex of a parabola
        through its noiseless values at the same model sizes) and bias (their ratio; 1: none). These
        three are NaN where the fit does not fix the exponents of size and data, or where the
        surface has its optimum at an end of the sizes searched.
    exponent : Estimate or None
        a in ``n_opt ~ budget^a`` over the slices that are ok; None with fewer than three.
    bias_exponent : float
        What the parabola adds to a on the fitted surface, without noise; NaN if unknown.
    envelope : pandas.DataFrame
        The models that no cheaper or equal one beats, cheapest first: row, flop, n_params, n_data,
        loss.
    warnings : tuple of str
        What the slices cannot tell.
    """

    slices: pd.DataFrame
    exponent: Estimate | None
    bias_exponent: float
    envelope: pd.DataFrame
    warnings: tuple[str, ...]


def isoflop(
    n_params,
    n_data,
    loss,
    *,
    flops,
    budgets_flop,
    fit: ScalingFit,
    n_boot,
    seed,
    tolerance=0.1,
    n_unique=None,
) -> Isoflop:
    """Optimum of each slice of equal FLOP by a parabola, with the bias of that method.

    Parameters
    ----------
    n_params, n_data, loss : arrays of shape (n_rows,)
        As in `fit_parametric`.
    flops : callable
        ``flops(n_params, n_data)``: FLOP to train, for arrays; rises with n_data. Count the parts
        of the model: 6 n_params n_data leaves out attention and embeddings, which weigh most in
        small models.
    budgets_flop : array of shape (n_slices,)
        Budget of each slice.
    fit : ScalingFit
        Of the same losses; the bias is measured on it.
    n_boot, seed : int
        Resamples of the rows of each slice, and their seed.
    tolerance : float
        A row belongs to a budget that its FLOP meet within this share.
    n_unique : float or None
        Unique data that there are, for a `fit` that corrected repeats; None: all data are fresh.

    Returns
    -------
    result : Isoflop

    Raises
    ------
    CobeError
        Lengths differ, an entry is not positive and finite, a budget has no model, FLOP that do
        not rise with n_data, no resamples, or a fit of brain scores.
    """
    if fit.is_score:
        raise CobeError("fit: one of brain scores; give that of the same losses")
    if n_boot < 1:
        raise CobeError(f"n_boot: {n_boot} resamples give no interval; ask for 200 or more")
    n, d, y = _checked(n_params, n_data, loss)
    cost = np.asarray(flops(n, d), float)
    if cost.shape != n.shape or not (np.isfinite(cost) & (cost > 0)).all():
        raise CobeError("flops: not one positive finite number per model; correct the callable")
    budgets = np.sort(np.asarray(budgets_flop, float))
    if budgets.ndim != 1 or not len(budgets) or not (np.isfinite(budgets) & (budgets > 0)).all():
        raise CobeError("budgets_flop: not positive and finite; give one number per slice")
    members = [np.flatnonzero(np.abs(cost / budget - 1) <= tolerance) for budget in budgets]
    empty = [budget for budget, mine in zip(budgets, members, strict=True) if not len(mine)]
    if empty:
        raise CobeError(
            f"budgets_flop: no model is within {tolerance:.0%} of {empty[0]:.3g} FLOP (models cost "
            f"{cost.min():.3g} to {cost.max():.3g}); choose budgets that were trained"
        )

    def losses_at(budget, sizes):
        d_bought = data_for_budget(flops, sizes, budget)
        there = np.isfinite(d_bought)
        losses = np.full(len(sizes), np.nan)
        values = fit.values_of(sizes[there], d_bought[there], n_unique=n_unique)
        losses[there] = fit.respond(fit.theta, values)
        return losses

    rng = rng_for(seed, "isoflop")
    open_factors = sorted({*fit.lost, *fit.unfixed} & {"n_params", "n_data"})
    rows, draws = [], []
    for budget, mine in zip(budgets, members, strict=True):
        row, drawn = _slice(np.log(n[mine]), y[mine], _weights(rng, n_boot, len(mine)))
        surface_row = (
            UNKNOWN if open_factors else _on_surface(partial(losses_at, budget), n[mine], n)
        )
        rows.append({"budget_flop": budget, "n_rows": len(mine), **row, **surface_row})
        draws.append(drawn)
    slices = pd.DataFrame(rows)
    exponent, bias = _exponents(slices, draws)
    notes = _notes(slices, exponent, len(n) - len(np.unique(np.concatenate(members))))
    notes += _bias_notes(slices, open_factors)
    return Isoflop(slices, exponent, bias, envelope(n, d, y, cost), notes)


def _checked(*arrays) -> list[np.ndarray]:
    names = ("n_params", "n_data", "loss")
    arrays = [np.asarray(array, float) for array in arrays]
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1 or arrays[0].ndim != 1:
        raise CobeError(
            f"isoflop: shapes {', '.join(map(str, (a.shape for a in arrays)))}; give one n_params, "
            "n_data and loss per model"
        )
    for name, array in zip(names, arrays, strict=True):
        bad = np.flatnonzero(~(np.isfinite(array) & (array > 0)))
        if len(bad):
            raise CobeError(
                f"{name}: {len(bad)} entries are not positive and finite (first: row {bad[0]}); "
                "leave these models out and say so"
            )
    return arrays


def _vertex(log_n, y, weight):
    """Vertex of weighted least-squares parabolas; NaN where they have no minimum.

    ``weight`` has shape (..., n_rows); returns log n_opt and the value there, (...,).
    """
    middle = log_n.mean()
    design = np.stack([np.ones_like(log_n), log_n - middle, (log_n - middle) ** 2], axis=-1)
    normal = np.einsum("...r,ri,rj->...ij", weight, design, design)
    moment = np.einsum("...r,ri,r->...i", weight, design, y)
    c, b, a = np.moveaxis(np.linalg.solve(normal, moment[..., None])[..., 0], -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.where(a > 0, -b / (2 * a), np.nan)
    return at + middle, c + b * at + a * at**2


def _weights(rng, n_boot: int, n_rows: int) -> np.ndarray:
    """As in `cobe.report.scaling.parametric`, for the three parameters of a parabola."""
    variance = n_rows / max(n_rows - 3, 1)
    return rng.gamma(1 / variance, variance, size=(n_boot, n_rows))


def _slice(log_n, y, weights):
    """Row of one slice, and log n_opt of each resample (NaN: no minimum)."""
    row = {"n_opt": np.nan, "low": np.nan, "high": np.nan, "loss_opt": np.nan}
    none = np.full(len(weights), np.nan)
    if len(np.unique(log_n)) < MIN_CELLS:
        return {**row, "state": f"fewer than {MIN_CELLS} model sizes"}, none
    at, loss = _vertex(log_n, y, np.ones(len(y)))
    if not np.isfinite(at):
        return {**row, "state": "the parabola has no minimum"}, none
    if not log_n.min() <= at <= log_n.max():
        return {**row, "state": "the vertex lies outside the models"}, none
    drawn, _ = _vertex(log_n, y, weights)
    row |= {"n_opt": np.exp(at), "loss_opt": float(loss)}
    lost = np.isnan(drawn).mean()
    if lost > LOST_DRAWS:
        return {**row, "state": f"too flat: no minimum in {lost:.0%} of resamples"}, none
    low, high = _open_interval(drawn)
    return {**row, "low": np.exp(low), "high": np.exp(high), "state": OK}, drawn


def _open_interval(drawn) -> tuple[float, float]:
    """Central 95 %; a resample without a minimum (NaN) could lie at either end, and widens both."""
    low = np.quantile(
        np.where(np.isnan(drawn), -np.inf, drawn), (1 - CONFIDENCE) / 2, method="lower"
    )
    high = np.quantile(
        np.where(np.isnan(drawn), np.inf, drawn), (1 + CONFIDENCE) / 2, method="higher"
    )
    return float(low), float(high)


def _on_surface(losses_at, mine, every_n) -> dict:
    """The surface's own optimum at a budget, and what a parabola makes of it without noise."""
    grid = np.geomspace(every_n.min() / 100, every_n.max() * 100, GRID)
    losses = losses_at(grid)
    at, there = np.nanargmin(losses), np.flatnonzero(np.isfinite(losses))
    if at in (there[0], there[-1]):
        return UNKNOWN
    optimum = grid[at]
    vertex = np.nan
    if len(np.unique(mine)) >= MIN_CELLS:
        vertex = float(np.exp(_vertex(np.log(mine), losses_at(mine), np.ones(len(mine)))[0]))
    return {"surface_n_opt": optimum, "parabola_on_surface": vertex, "bias": vertex / optimum}


def _exponents(slices, draws) -> tuple[Estimate | None, float]:
    there = np.flatnonzero(slices["state"] == OK)
    if len(there) < MIN_SLICES:
        return None, np.nan
    log_budget = np.log(slices["budget_flop"].to_numpy()[there])
    centred = log_budget - log_budget.mean()

    def slope(values):
        return values @ centred / (centred @ centred)

    drawn = slope(np.stack([draws[i] for i in there], axis=-1))
    low, high = _open_interval(drawn)
    value = slope(np.log(slices["n_opt"].to_numpy()[there]))
    bias = slope(np.log(slices["bias"].to_numpy()[there]))
    return Estimate(float(value), float(low), float(high)), float(bias)


def _notes(slices, exponent, n_unused: int) -> tuple[str, ...]:
    notes = [
        f"slice of {row.budget_flop:.3g} FLOP: {row.state}"
        for row in slices.itertuples()
        if row.state != OK
    ]
    if exponent is None:
        notes.append(f"fewer than {MIN_SLICES} slices have an optimum: no exponent")
    if n_unused:
        notes.append(f"{n_unused} models belong to no slice (they are in the envelope)")
    return tuple(notes)


def _bias_notes(slices, open_factors) -> tuple[str, ...]:
    """Why the bias of the parabola is not known."""
    if open_factors:
        named = " and ".join(open_factors)
        return (f"the bias of the parabola is not known: the data do not fix {named}",)
    lost = slices.budget_flop[slices.surface_n_opt.isna()]
    if not len(lost):
        return ()
    return (
        f"the bias of the parabola is not known at {len(lost)} of {len(slices)} budgets: the "
        "surface has its optimum at an end of the sizes searched",
    )


def envelope(n, d, y, cost) -> pd.DataFrame:
    """The models that no cheaper or equally dear one beats, cheapest first.

    Parameters
    ----------
    n, d, y, cost : float64 arrays of shape (n_rows,)
        Parameters, data, loss and FLOP of each model.

    Returns
    -------
    table : pandas.DataFrame
        Columns row (place in the arrays), flop, n_params, n_data, loss.
    """
    order = np.lexsort((y, cost))
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(y[order])[:-1]])
    kept = order[y[order] < best_before]
    return pd.DataFrame(
        {"row": kept, "flop": cost[kept], "n_params": n[kept], "n_data": d[kept], "loss": y[kept]}
    )
