"""Ridge regression over folds: one decomposition per fold, one penalty per target.

The arithmetic is in `cobe.encoding.forms`; here penalties, and weights of bands, are chosen.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch

from cobe.core.errors import CobeError
from cobe.encoding.forms import Dual, Primal


@dataclass(frozen=True)
class Part:
    """Rows that enter and leave the training set together.

    Attributes
    ----------
    x, y : tensors of shape (n_rows, n_columns), (n_rows, n_targets)
        Without NaN.
    fold : int
        The fold that leaves the rows out; -1: all folds do, and only the refit uses them.
    """

    x: torch.Tensor
    y: torch.Tensor
    fold: int


@dataclass(frozen=True)
class Solution:
    """What `solve` finds, in the coordinates of its parts.

    Attributes
    ----------
    weights : tensor of shape (n_columns, n_targets)
        NaN for unusable targets, as everything else.
    intercept : tensor of shape (n_targets,)
    alphas, cv_scores : float64 arrays of shape (n_targets,)
        Penalties, and their cross-validated R2.
    cv_mse : float64 array of shape (n_alphas, n_targets)
        Mean squared error on left-out rows, averaged over folds; of the chosen band weights.
    grid : float64 array of shape (n_alphas,)
    alpha_scale : float
        What the penalties were multiplied by in the refit.
    constant : bool array of shape (n_targets,)
        Targets that never change.
    form : str
    band_weights : float64 array of shape (n_targets, n_bands) or None
        As chosen.
    """

    weights: torch.Tensor
    intercept: torch.Tensor
    alphas: np.ndarray
    cv_scores: np.ndarray
    cv_mse: np.ndarray
    grid: np.ndarray
    alpha_scale: float
    constant: np.ndarray
    form: str
    band_weights: np.ndarray | None = None

    def edges(self):
        """Targets at the smallest and at the largest penalty, two bool arrays (n_targets,)."""
        many = len(self.grid) > 1
        return many & (self.alphas == self.grid[0]), many & (self.alphas == self.grid[-1])


class Search:
    """The best penalty, and candidate of band weights, of every target so far."""

    def __init__(self, n_alphas, n_targets):
        self.mse = np.full((n_alphas, n_targets), np.inf)
        self.var = np.zeros(n_targets)
        self.candidate = np.zeros(n_targets, int)

    def offer(self, candidate, targets, mse, var):
        """Take a candidate's errors (n_alphas, n_block) where their minimum is the smallest yet.

        Parameters
        ----------
        candidate : int
        targets : slice
            The block of targets.
        mse : float64 array of shape (n_alphas, n_block)
        var : float64 array of shape (n_block,)
            Error of predicting the mean of the training rows.
        """
        self.var[targets] = var
        better = (mse.min(axis=0) < self.mse[:, targets].min(axis=0)) | np.isnan(mse).any(axis=0)
        self.mse[:, targets] = np.where(better, mse, self.mse[:, targets])
        self.candidate[targets][better] = candidate


def solve(parts, grid, missing, relative_alphas=False, bands=None, band_weights=None):
    """Choose penalties over the folds of `parts`, and refit on all of them.

    Parameters
    ----------
    parts : list of Part
        Folds from 0 upwards; with only one nothing is cross-validated, which needs a single
        penalty.
    grid : float64 array of shape (n_alphas,)
        Penalties, ascending.
    missing : bool array of shape (n_targets,)
        Targets not to fit.
    relative_alphas : bool
        See `fit`.
    bands, band_weights : arrays or None
        See `cobe.encoding.banded.solve_banded`.

    Returns
    -------
    solution : Solution

    Raises
    ------
    CobeError
        Only one fold and something to choose, or errors that are not finite.

    Warns
    -----
    RuntimeWarning
        A penalty was chosen that is below single precision.
    """
    low = torch.stack([p.y.amin(dim=0) for p in parts]).amin(dim=0)
    high = torch.stack([p.y.amax(dim=0) for p in parts]).amax(dim=0)
    constant = (low == high).cpu().numpy() & ~missing
    unusable = missing | constant
    n_folds = 1 + max(p.fold for p in parts)
    n_rows, n_columns = sum(len(p.x) for p in parts), parts[0].x.shape[1]
    scales = [None]
    if bands is not None:
        scales = list(parts[0].x.new_tensor(np.sqrt(np.asarray(band_weights)[:, bands])))
    if n_folds == 1 and len(grid) * len(scales) > 1:
        raise CobeError(
            "folds: only one, so that nothing can be chosen; give two groups, or a single penalty "
            "and one row of band weights"
        )
    form = Dual if n_rows * max(n_folds - 1, 1) / n_folds < n_columns else Primal
    system = form(parts, relative_alphas)
    search = Search(len(grid), len(missing))
    blocks = system.blocks(len(missing))
    for block in blocks:
        for c, scale in enumerate(scales):
            if n_folds > 1:
                search.offer(c, block, *_cross_validate(system, n_folds, block, grid, scale, c))
            else:
                search.offer(c, block, *np.zeros((2, 1, len(missing[block]))))
    alphas, scores = choose(search, grid, unusable)
    weights = parts[0].x.new_zeros(n_columns, len(missing))
    intercept = weights.new_zeros(len(missing))
    for c in np.unique(search.candidate):
        chosen = search.candidate == c
        basis = system.refit(scales[c], alphas[chosen].min())
        lowest = alphas[chosen & ~unusable].min(initial=np.inf)
        check_precision(weights.dtype, lowest * basis.scale, float(basis.values[-1]))
        for block in blocks:
            kept = torch.from_numpy(np.flatnonzero(chosen[block]) + block.start).to(weights.device)
            if len(kept):
                weights[:, kept], intercept[kept] = system.weights(
                    basis, block, chosen[block], alphas[block][chosen[block]]
                )
    return finish(
        search,
        grid,
        (weights, intercept, alphas, scores),
        unusable,
        alpha_scale=basis.scale,
        constant=constant,
        form=form.name,
        band_weights=None if bands is None else np.asarray(band_weights)[search.candidate],
    )


def _cross_validate(system, n_folds, block, grid, scale, name):
    """Mean squared errors (n_alphas, n_block) and variance (n_block,), averaged over folds."""
    mse = var = 0
    for fold in range(n_folds):
        sse, square, n = system.score(fold, block, grid, scale, name)
        mse = mse + sse / (n * n_folds)
        var = var + square / (n * n_folds)
    return mse.cpu().numpy(), var.cpu().numpy()


def choose(search, grid, unusable):
    """Penalty and cross-validated R2 of every target: two float64 arrays (n_targets,).

    Raises
    ------
    CobeError
        Errors are not finite.
    """
    if not np.isfinite(search.mse[:, ~unusable]).all():
        raise CobeError(
            "ridge: cross-validated errors are not finite; look for huge values among the features "
            "or responses, or use dtype float64"
        )
    best = search.mse.argmin(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = 1 - search.mse[best, np.arange(len(best))] / search.var
    return grid[best], scores


def check_precision(dtype, lowest, largest):
    """Warn of a penalty that is lost in the rounding of the largest eigenvalue."""
    eps = torch.finfo(dtype).eps
    if eps > 1e-10 and lowest < 4 * eps * largest:
        warnings.warn(
            f"alphas: {lowest:g} was chosen, which is below the single precision of these "
            "features; use dtype float64 or larger penalties",
            RuntimeWarning,
            stacklevel=4,
        )


def finish(search, grid, found, unusable, **rest):
    """The solution, with NaN for what cannot be fitted."""
    weights, intercept, alphas, scores = found
    band_weights = rest["band_weights"]
    for array in (search.mse, alphas, scores, *([] if band_weights is None else [band_weights.T])):
        array[..., unusable] = np.nan
    for tensor in (weights, intercept):
        tensor[..., torch.from_numpy(unusable)] = float("nan")
    return Solution(weights, intercept, alphas, scores, search.mse, grid, **rest)
