"""Chance by refitting: blocks of the responses are moved, and every fold is fitted again.

Pooling held-out predictions over folds has a catch: the rows that test one fold train the others,
so the folds' scores depend on each other, and a null that moves finished predictions does not know
it. Here the responses themselves are moved within runs, once for all folds, and predictions
follow. With the penalty of each fold and target kept as it was chosen, predictions are a fixed
matrix times responses, ``X_test (X'X + a I)^-1 X'``, which is built once per fold and penalty.
"""

import numpy as np
import torch

from cobe.encoding.solver import eigh

GEMM_COLUMNS = 1024


def refit_null(xs, ys, run_group, alphas, order, equalise=False):
    """Held-out r of every target when blocks of the responses are moved and folds fitted again.

    Parameters
    ----------
    xs, ys : lists of tensors of shape (n_rows, n_columns), (n_rows, n_targets)
        Valid rows of each run.
    run_group : int array of shape (n_runs,)
        Group of each run, held out together.
    alphas : float64 array of shape (n_groups, n_targets)
        Penalty of each fold and target, in absolute units; NaN: not scored.
    order : int32 array of shape (n_permutations, n_rows)
        Rows of all runs in their new order, from `cobe.encoding.stats.block_permutations`.
    equalise : bool
        Bring predictions to equal variance in every group before pooling.

    Returns
    -------
    null : float32 array of shape (n_permutations, n_targets)
        Pearson r over all held-out rows, all centred within runs; NaN where not scored.
    """
    device, dtype = ys[0].device, ys[0].dtype
    order = torch.from_numpy(order).to(device)
    y = torch.cat(ys)
    x_still = torch.cat([x - x.mean(dim=0) for x in xs])
    y_still = torch.cat([r - r.mean(dim=0) for r in ys])
    row_group = torch.from_numpy(np.repeat(run_group, [len(r) for r in ys])).to(device)
    shape = (len(order), y.shape[1])
    product, power = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
    for group, penalties in enumerate(alphas):
        test = torch.nonzero(row_group == group).ravel()
        train = torch.nonzero(row_group != group).ravel()
        hat_of = _hat_matrices(torch.cat(xs)[train], x_still[test])
        along, size = (torch.full(shape, torch.nan, dtype=dtype, device=device) for _ in range(2))
        for penalty in np.unique(penalties[np.isfinite(penalties)]):
            kept = torch.from_numpy(np.flatnonzero(penalties == penalty)).to(device)
            hat, fit_y, test_y = hat_of(penalty), y[:, kept], y_still[:, kept]
            step = max(1, GEMM_COLUMNS // len(kept))
            for begin in range(0, len(order), step):
                moved = order[begin : begin + step].T
                now = slice(begin, begin + step)
                predicted = hat @ _rows(fit_y, moved[train]).flatten(1)
                predicted = predicted.view(len(test), -1, len(kept))
                size[now, kept] = predicted.square().sum(dim=0)
                along[now, kept] = predicted.mul_(_rows(test_y, moved[test])).sum(dim=0)
        scale = len(test) / size if equalise else torch.ones_like(size)
        product += along * scale.sqrt()
        power += size * scale
    null = product / (power * y_still.square().sum(dim=0)).sqrt()
    return null.float().cpu().numpy()


def _rows(y, moved):
    """Rows of y in new orders: (n_rows, n_orders, n_targets)."""
    return y.index_select(0, moved.flatten()).view(*moved.shape, -1)


def _hat_matrices(x, x_test):
    """A function of the penalty: the matrix from training responses to test predictions.

    Training responses need no centring, because the matrix has rows that sum to 0.
    """
    x_mean = x.mean(dim=0)
    x = x - x_mean
    if x.shape[1] <= len(x):
        values, vectors = eigh(x.T @ x)
        left, right = x_test @ vectors, (x @ vectors).T
    else:
        values, vectors = eigh(x @ x.T)
        left, right = x_test @ x.T @ vectors, vectors.T
    return lambda penalty: (left / (values + penalty)) @ right
