"""A floor plus one power law per factor: its values, its robust objective and its minimum.

Parameters are kept as ``theta = (e, a_1..a_k, alpha_1..alpha_k)`` for

    log response = logsumexp(e, a_1 - alpha_1 x_1, ..., a_k - alpha_k x_k)

with x the log of each factor minus its mean over the rows. Centring takes away most of the
correlation of scale and exponent, without which L-BFGS stops early or crawls.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import minimize

from cobe.core.errors import CobeError

HUBER_DELTA = 1e-3
MAX_EXPONENT = 4.0
START_FLOORS = (0.02, 0.4, 0.7, 0.95)
START_EXPONENTS = (0.08, 0.3, 1.0)
MIN_VALUES = 3
MIN_SPREAD = 0.01
NEGLIGIBLE = np.log(1e-6)


@dataclass(frozen=True)
class Rows:
    """Checked input of a fit.

    Attributes
    ----------
    names : tuple of str
        Factors.
    x : float64 array of shape (n_rows, n_factors)
        Centred log of each factor.
    centre : float64 array of shape (n_factors,)
        What was subtracted.
    y : float64 array of shape (n_rows,)
        Log response.
    cell, block : int arrays of shape (n_rows,)
        Rows of one number have the same factors; are resampled together.
    """

    names: tuple[str, ...]
    x: np.ndarray
    centre: np.ndarray
    y: np.ndarray
    cell: np.ndarray
    block: np.ndarray

    @property
    def n_cells(self) -> int:
        """Distinct combinations of factors."""
        return int(self.cell.max()) + 1

    @property
    def n_blocks(self) -> int:
        """Units of resampling."""
        return int(self.block.max()) + 1


def checked_rows(factors: dict, response, response_name: str, blocks=None) -> Rows:
    """Rows ready to fit, or a CobeError that says why they cannot carry one.

    Parameters
    ----------
    factors : dict of str to array of shape (n_rows,)
        Positive.
    response : array of shape (n_rows,)
        Positive; smaller is better.
    response_name : str
        What errors call it.
    blocks : array of shape (n_rows,) or None
        Labels of the units of resampling; None: the cells.

    Returns
    -------
    rows : Rows

    Raises
    ------
    CobeError
        Lengths differ, an entry is not positive and finite, fewer than three values on an axis, as
        few cells as parameters, or factors that change together.
    """
    values = {**factors, response_name: response}
    arrays = {name: np.asarray(value, float) for name, value in values.items()}
    lengths = {name: array.shape for name, array in arrays.items()}
    if any(array.ndim != 1 for array in arrays.values()) or len(set(lengths.values())) != 1:
        said = ", ".join(f"{name} {shape}" for name, shape in lengths.items())
        raise CobeError(f"scaling fit: shapes differ ({said}); give one number of each per model")
    for name, array in arrays.items():
        bad = np.flatnonzero(~(np.isfinite(array) & (array > 0)))
        if len(bad):
            raise CobeError(
                f"{name}: {len(bad)} entries are not positive and finite (first: row {bad[0]}, "
                f"{array[bad[0]]}); leave these models out and say so"
            )
    if not len(arrays[response_name]):
        raise CobeError("scaling fit: no models; give one number of each per model")
    names = tuple(factors)
    logs = np.log(np.column_stack([arrays[name] for name in names]))
    _, cell = np.unique(logs, axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    if blocks is None:
        block = cell
    else:
        if np.shape(blocks) != arrays[response_name].shape:
            raise CobeError(
                f"blocks: shape {np.shape(blocks)} for {len(logs)} models; give one label per model"
            )
        _, block = np.unique(np.asarray(blocks), return_inverse=True)
    centre = logs.mean(axis=0)
    rows = Rows(names, logs - centre, centre, np.log(arrays[response_name]), cell, block)
    _refuse_poor_design(rows)
    return rows


def _refuse_poor_design(rows: Rows) -> None:
    n_parameters = 1 + 2 * len(rows.names)
    for name, column in zip(rows.names, rows.x.T, strict=True):
        n_values = len(np.unique(column))
        if n_values < MIN_VALUES:
            raise CobeError(
                f"{name}: {n_values} distinct values; a power law above a floor needs "
                f"{MIN_VALUES} or more on every axis"
            )
    if rows.n_cells <= n_parameters:
        raise CobeError(
            f"scaling fit: {rows.n_cells} cells for {n_parameters} parameters; train at least "
            f"{n_parameters + 1} cells that differ in {' or '.join(rows.names)}"
        )
    spread = np.linalg.svd(rows.x / rows.x.std(0), compute_uv=False) ** 2
    if spread[-1] < MIN_SPREAD * spread.sum():
        raise CobeError(
            f"scaling fit: {' and '.join(rows.names)} change together in these cells, so their "
            "effects cannot be separated; add cells that vary one alone"
        )


def log_surface(theta, x) -> np.ndarray:
    """Log response of parameters at centred log factors, broadcast over leading axes.

    Parameters
    ----------
    theta : float array of shape (..., 1 + 2 * n_factors)
    x : float array of shape (..., n_factors)

    Returns
    -------
    log_response : float64 array
        Of the broadcast leading shape.
    """
    k = x.shape[-1]
    terms = theta[..., 1 : 1 + k] - theta[..., 1 + k :] * x
    floor = np.broadcast_to(theta[..., :1], (*terms.shape[:-1], 1))
    return np.logaddexp.reduce(np.concatenate([floor, terms], axis=-1), axis=-1)


def objective(theta, x_by_factor, y, weight, delta=HUBER_DELTA):
    """Weighted sum of Huber losses of log residuals in units of delta, and its gradient.

    The sum and not the mean, and not scaled down by delta: a small loss scale makes L-BFGS stop
    before convergence (Besiroglu et al. 2024, arXiv 2404.10102). Within `bounds` and with centred
    logs no exponential can overflow, so log-sum-exp needs no shift; this runs some 100,000 times.
    """
    k = len(x_by_factor)
    terms = np.exp(theta[1 : 1 + k, None] - theta[1 + k :, None] * x_by_factor)
    floor = np.exp(theta[0])
    total = floor + terms.sum(axis=0)
    residual = np.log(total) - y
    inside = np.minimum(np.maximum(residual, -delta), delta)
    pull = weight * inside / delta
    value = pull @ (residual - inside / 2)
    slope = pull / total
    terms *= slope
    gradient = np.empty(len(theta))
    gradient[0] = floor * slope.sum()
    gradient[1 : 1 + k] = terms.sum(axis=1)
    gradient[1 + k :] = -(terms * x_by_factor).sum(axis=1)
    return value, gradient


def bounds(y, n_factors: int) -> np.ndarray:
    """Limits of theta: no negative floor or exponent, and nothing that leaves floating point."""
    low, high = y.min(), y.max()
    floor = [low + NEGLIGIBLE, high + 1]
    scale = [low + NEGLIGIBLE, high + 1]
    return np.array([floor, *[scale] * n_factors, *[[0.0, MAX_EXPONENT]] * n_factors])


def minimise(x, y, weight, start, limits, delta=HUBER_DELTA):
    """Run L-BFGS-B from one start until neither value nor gradient moves.

    ``x`` has shape (n_rows, n_factors), ``y`` and ``weight`` (n_rows,), ``limits`` (n_theta, 2).
    """
    return minimize(
        objective,
        np.clip(start, limits[:, 0], limits[:, 1]),
        args=(np.ascontiguousarray(x.T), y, weight, delta),
        jac=True,
        method="L-BFGS-B",
        bounds=limits,
        options={"maxiter": 3000, "maxfun": 6000, "ftol": 1e-11, "gtol": 1e-6},
    )


def start_grid(y, n_factors: int) -> np.ndarray:
    """Starts over floors and exponents; the scales share what is above the floor."""
    starts = []
    for floor, *exponents in product(START_FLOORS, *[START_EXPONENTS] * n_factors):
        e = y.min() + np.log(floor)
        above = np.log(np.exp(np.median(y)) - np.exp(e)) - np.log(max(n_factors, 1))
        starts.append([e, *[above] * n_factors, *exponents])
    return np.array(starts)


def profile(x, y, weight, start, limits, e: float, delta=HUBER_DELTA):
    """Run `minimise` with the log floor held at e."""
    held = limits.copy()
    held[0] = e
    return minimise(x, y, weight, np.r_[e, start[1:]], held, delta)
