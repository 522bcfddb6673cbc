"""Which form predicts the largest models: all factors, some, none, or no floor at all."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from cobe.core.errors import CobeError
from cobe.report.scaling import surface
from cobe.report.scaling.fitted import interval
from cobe.report.scaling.parametric import best_minimum, draw_weights

LOG_LINEAR = "log-linear"
CONSTANT = "no effect"
MIN_HELD_OUT_CELLS = 3


@threadpool_limits.wrap(limits=1)
def compare_forms(
    factors, response, *, n_boot, seed, held_out_share=0.25, blocks=None, groups=None
) -> pd.DataFrame:
    """Compare forms by how well they predict the largest cells, which they have not seen.

    Each form is fitted with the same Huber objective. The forms are a floor plus a power law in
    every set of factors (saturating in these alone), the floor alone (no effect), and a response
    that is linear in the log of every factor, without a floor. The largest cells are those with the
    largest sum of standardised log factors.

    Parameters
    ----------
    factors : dict of str to array of shape (n_rows,)
        Such as n_params and n_data; positive.
    response : array of shape (n_rows,)
        Loss, or 1 - score; positive.
    n_boot : int
        Resamples of blocks, in training and among the held-out cells.
    seed : int
        Seed of the resamples.
    held_out_share : float
        Share of cells that is held out, at least three cells.
    blocks : array of shape (n_rows,) or None
        As in `fit_parametric`. A block on both sides keeps one weight.
    groups : array of shape (n_rows,) or None
        Rows of one trained network or design, such as its scores at several scan hours; a group
        is held out whole, as in `largest_cells`. None: the cells.

    Returns
    -------
    table : pandas.DataFrame
        One row per form, best first: form, n_parameters, n_train, n_held_out (rows), error (root
        mean squared relative error of the held-out response) with low and high, excess over the
        best form with excess_low and excess_high (95 % intervals), verdict in plain words.

    Raises
    ------
    CobeError
        As in `fit_parametric`, for the cells that are left to train on; or a share that leaves
        fewer than three cells out, or no resamples.
    """
    if n_boot < 1:
        raise CobeError(f"n_boot: {n_boot} resamples give no interval; ask for 200 or more")
    rows = surface.checked_rows(factors, response, "response", blocks)
    largest = largest_cells(rows, held_out_share, groups)
    train = ~largest
    surface.checked_rows(
        {name: np.asarray(values, float)[train] for name, values in factors.items()},
        np.asarray(response, float)[train],
        "response of the cells to train on",
    )
    weights = draw_weights(rows, n_boot, seed)
    ones = np.ones((1, len(rows.y)))
    errors = {
        form: _held_out_errors(predict, rows, train, np.concatenate([ones, weights]))
        for form, predict in _forms(rows.names).items()
    }
    return _table(errors, rows, train)


def _forms(names) -> dict:
    """Name of each form -> (columns of factors that it uses, fit and predict)."""
    everything = list(range(len(names)))
    subsets = [some for k in everything for some in combinations(everything, k + 1)]
    forms = {" + ".join(["floor", *(names[i] for i in s)]): (list(s), _power_laws) for s in subsets}
    return forms | {CONSTANT: ([], _power_laws), LOG_LINEAR: (everything, _log_linear)}


def largest_cells(rows, share: float, groups=None) -> np.ndarray:
    """Rows, bool (n_rows,), of the share of cells with the largest standardised log factors.

    Parameters
    ----------
    rows : cobe.report.scaling.surface.Rows
    share : float
        Of all cells (or groups); at least three.
    groups : array of shape (n_rows,) or None
        Rows that are held out together. Their size is that of the factors which do not vary within
        a group, so that no group has rows on both sides. None: the cells.

    Raises
    ------
    CobeError
        The share leaves fewer than three cells or groups out, or none in; or every factor varies
        within a group.
    """
    label, alone, what = rows.cell, np.ones(len(rows.names), bool), "cells"
    if groups is not None:
        _, label = np.unique(np.asarray(groups), return_inverse=True)
        by_group = pd.DataFrame(rows.x).groupby(label)
        alone = ((by_group.max() - by_group.min()) < 1e-9).all().to_numpy()
        what = "groups"
    if not alone.any():
        raise CobeError("groups: every factor varies within a group; give one label per design")
    size = (rows.x[:, alone] / rows.x[:, alone].std(0)).sum(axis=1)
    n_labels = int(label.max()) + 1
    sizes = np.zeros(n_labels)
    sizes[label] = size
    n_held_out = round(share * n_labels)
    if not MIN_HELD_OUT_CELLS <= n_held_out < n_labels:
        raise CobeError(
            f"held_out_share: {share:g} of {n_labels} {what} is {n_held_out}; hold out at least "
            f"{MIN_HELD_OUT_CELLS} {what} and keep some"
        )
    held = sizes >= np.sort(sizes)[-n_held_out] - 1e-9
    return held[label]


def _held_out_errors(form, rows, train, weights) -> np.ndarray:
    """Error under each row of weights; the first row is the data as they are."""
    columns, predict = form
    predicted = predict(rows.x[:, columns], rows.y, train, weights)
    relative = predicted / np.exp(rows.y[~train]) - 1
    held = weights[:, ~train]
    return np.sqrt((held * relative**2).sum(axis=1) / held.sum(axis=1))


def _power_laws(x, y, train, weights) -> np.ndarray:
    xt, yt = x[train], y[train]
    limits = surface.bounds(yt, x.shape[1])
    best, _ = best_minimum(xt, yt, weights[0, train], limits)
    thetas = [surface.minimise(xt, yt, weight, best.x, limits).x for weight in weights[:, train]]
    return np.exp(surface.log_surface(np.array(thetas)[:, None, :], x[~train]))


def _log_linear(x, y, train, weights) -> np.ndarray:
    """Response linear in log factors, Huber loss of the error relative to the response."""
    design, response = np.column_stack([np.ones(len(x)), x]), np.exp(y)
    scaled, target = design[train] / response[train, None], np.ones(train.sum())
    start = np.linalg.lstsq(scaled, target, rcond=None)[0]

    def objective(theta, weight):
        residual = scaled @ theta - target
        inside = np.clip(residual, -surface.HUBER_DELTA, surface.HUBER_DELTA)
        value = weight @ (inside * (residual - inside / 2))
        return value / surface.HUBER_DELTA, (weight * inside) @ scaled / surface.HUBER_DELTA

    thetas = [
        minimize(objective, start, args=(weight,), jac=True, method="L-BFGS-B").x
        for weight in weights[:, train]
    ]
    return np.array(thetas) @ design[~train].T


def _table(errors, rows, train) -> pd.DataFrame:
    ordered = sorted(errors, key=lambda form: errors[form][0])
    best = ordered[0]
    table = []
    for form in ordered:
        error, excess = errors[form], errors[form] - errors[best]
        low, high = interval(error[1:])
        excess_low, excess_high = interval(excess[1:])
        table.append(
            {
                "form": form,
                "n_parameters": _n_parameters(form, rows.names),
                "n_train": int(train.sum()),
                "n_held_out": int((~train).sum()),
                "error": error[0],
                "low": low,
                "high": high,
                "excess": excess[0],
                "excess_low": excess_low,
                "excess_high": excess_high,
                "verdict": _verdict(form, best, excess_low),
            }
        )
    return pd.DataFrame(table)


def _n_parameters(form: str, names) -> int:
    if form == CONSTANT:
        return 1
    return 1 + len(names) if form == LOG_LINEAR else 1 + 2 * (form.count(" + "))


def _verdict(form: str, best: str, excess_low: float) -> str:
    if form == best:
        return "predicts the held-out cells best"
    if excess_low > 0:
        return f"predicts worse than '{best}'"
    return f"the data cannot tell '{form}' from '{best}'"
