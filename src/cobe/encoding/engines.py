"""The same folds, penalties and rows, fitted by himalaya."""

import numpy as np
import torch
from himalaya.backend import get_backend
from himalaya.ridge import GroupRidgeCV, RidgeCV

from cobe.encoding.solver import Solution


def solve_himalaya(parts, grid, missing, bands=None, band_weights=None):
    """What `cobe.encoding.solver.solve` does, by himalaya's RidgeCV or GroupRidgeCV.

    Parameters
    ----------
    parts : list of Part
        At least two folds; those of fold -1 only enter the refit.
    grid : float64 array of shape (n_alphas,)
        Penalties, ascending.
    missing : bool array of shape (n_targets,)
        Targets not to fit.
    bands : int array of shape (n_columns,) or None
        Number of the band of every column.
    band_weights : float64 array of shape (n_candidates, n_bands) or None
        Positive rows that sum to 1.

    Returns
    -------
    solution : Solution
        `cv_mse` is NaN but for the chosen penalty.
    """
    x = np.concatenate([part.x.cpu().numpy() for part in parts])
    y = np.concatenate([part.y.cpu().numpy() for part in parts])
    fold = np.repeat([part.fold for part in parts], [len(part.x) for part in parts])
    constant = (y == y[0]).all(axis=0) & ~missing
    usable = ~(missing | constant)
    folds = [
        (np.flatnonzero((fold != k) & (fold >= 0)), np.flatnonzero(fold == k))
        for k in range(fold.max() + 1)
    ]
    options = {"fit_intercept": True, "cv": folds}
    if bands is None:
        model = RidgeCV(alphas=grid, solver_params={"warn": False}, **options)
    else:
        model = GroupRidgeCV(
            groups=bands,
            solver_params={
                "alphas": grid.astype(x.dtype),
                "n_iter": np.asarray(band_weights, x.dtype),
                "warn": False,
                "progress_bar": False,
            },
            **options,
        )
    model.fit(x, y[:, usable])
    to_numpy = get_backend().to_numpy
    n_targets = len(missing)
    alphas, scores, intercept = (np.full(n_targets, np.nan) for _ in range(3))
    weights = np.full((x.shape[1], n_targets), np.nan, x.dtype)
    mse = np.full((len(grid), n_targets), np.nan)
    chosen = None
    found, errors = to_numpy(model.best_alphas_).astype(float), -to_numpy(model.cv_scores_)
    coefficients = to_numpy(model.coef_)
    if bands is not None:
        errors = errors.min(axis=0)
        # himalaya puts the columns in the order of their bands
        coefficients = coefficients[np.argsort(np.argsort(bands, kind="stable"), kind="stable")]
        chosen = np.full((n_targets, np.shape(band_weights)[1]), np.nan)
        share = np.exp(to_numpy(model.deltas_).astype(float))
        nearest = share.T / share.sum(axis=0)[:, None]
        which = np.abs(nearest[:, None] - band_weights).sum(axis=2).argmin(axis=1)
        chosen[usable] = np.asarray(band_weights)[which]
    # himalaya hands back exp(log(penalty)): the grid's own value is meant
    which = np.abs(np.log(grid)[:, None] - np.log(found)).argmin(axis=0)
    alphas[usable], weights[:, usable] = grid[which], coefficients
    intercept[usable] = to_numpy(model.intercept_)
    mse[which, np.flatnonzero(usable)] = errors
    var = np.mean(
        [((y[test] - y[train].mean(axis=0)) ** 2).mean(axis=0) for train, test in folds], axis=0
    )
    scores[usable] = 1 - errors / var[usable]
    return Solution(
        torch.from_numpy(weights),
        torch.from_numpy(intercept.astype(x.dtype)),
        alphas,
        scores,
        mse,
        grid,
        alpha_scale=1.0,
        constant=constant,
        form="himalaya",
        band_weights=chosen,
    )
