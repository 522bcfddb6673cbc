"""Chance by refitting: blocks of the responses are moved, and every fold is fitted again.

Pooling held-out predictions over folds has a catch: the rows that test one fold train the others,
so the folds' scores depend on each other, and a null that moves finished predictions does not know
it. Here the responses themselves are moved within runs, once for all folds, and predictions
follow. With the penalty of each fold and target kept as it was chosen, predictions are a fixed
matrix times responses, ``X_test (X'X + a I)^-1 X'``, which is built once per fold and penalty.
"""

import numpy as np
import torch

from cobe.encoding.folds import take
from cobe.encoding.moments import eigh, widen

GEMM_COLUMNS = 1024


class RefitNull:
    """Held-out r of every target when blocks of the responses are moved and folds fitted again.

    Folds are added one by one, so that only one fold's features need to be there at a time. What
    was chosen inside a fold (penalties, band weights, readout) stays as it was chosen for the
    responses in their true order.

    Parameters
    ----------
    y : tensor of shape (n_rows, n_targets)
        Responses of all runs, one run after the other.
    split : folds.Split
        Folds and segments of the rows.
    order : int32 array of shape (n_permutations, n_rows)
        Rows in their new order, from `cobe.encoding.stats.block_permutations`.
    equalise : bool
        Bring predictions to equal variance in every fold before pooling.
    """

    def __init__(self, y, split, order, equalise=False):
        # r does not depend on the units of a target, underflow does
        size = widen(y).square().mean(dim=0).sqrt()
        y = (y / torch.where(size > 0, size, 1.0)).to(y.dtype)
        self.y, self.split, self.equalise = y, split, equalise
        self.order = torch.from_numpy(order).to(y.device)
        shape = (len(order), y.shape[1])
        wide = widen(y[:0]).dtype
        self.product, self.power = (
            torch.zeros(shape, dtype=wide, device=y.device) for _ in range(2)
        )
        # Moves within runs leave the mean and variance of a whole run as they are. Of other
        # segments they do not: there the moved responses are centred again.
        self.whole_runs = (split.fold >= 0).all() and np.array_equal(
            *(np.unique(a, return_inverse=True)[1] for a in (split.run, split.segment))
        )
        self.measured = y
        if self.whole_runs:
            runs = y.split(np.bincount(split.run).tolist())
            self.measured = torch.cat([run - run.mean(dim=0) for run in runs])
        self.total = torch.zeros(shape, dtype=wide, device=y.device)

    def add(self, x, fold, penalties, column_weights=None):
        """Add one fold.

        Parameters
        ----------
        x : tensor of shape (n_rows, n_columns)
            Features of all runs, as this fold sees them.
        fold : folds.Fold
            Its rows.
        penalties : float64 array of shape (n_targets,)
            In absolute units; NaN: not scored.
        column_weights : float64 array of shape (n_columns, n_targets), or None
            Weight of every column's band.
        """
        if not len(self.order):
            return
        segments = self.split.segment[fold.test]
        test_rows, train_rows = (torch.from_numpy(r).to(x.device) for r in (fold.test, fold.train))
        x_train, x_test = take(x, fold.train), _still(x[test_rows], segments)
        along, size, total = (torch.full_like(self.power, torch.nan) for _ in range(3))
        chosen = np.zeros((len(penalties), 0)) if column_weights is None else column_weights.T
        usable = np.flatnonzero(np.isfinite(penalties))
        for weights in np.unique(chosen[usable], axis=0):
            alike = usable[(chosen[usable] == weights).all(axis=1)]
            scale = x.new_tensor(np.sqrt(weights)) if len(weights) else 1
            hat_of = _hat_matrices(x_train * scale, x_test * scale)
            for penalty in np.unique(penalties[alike]):
                kept = torch.from_numpy(alike[penalties[alike] == penalty]).to(x.device)
                hat, unit = hat_of(penalty)
                fit_y, test_y = self.y[:, kept], self.measured[:, kept]
                step = max(1, GEMM_COLUMNS // len(kept))
                for begin in range(0, len(self.order), step):
                    moved = self.order[begin : begin + step].T
                    now = slice(begin, begin + step)
                    predicted = hat @ _rows(fit_y, moved[train_rows]).flatten(1)
                    predicted = predicted.view(len(test_rows), -1, len(kept))
                    measured = _rows(test_y, moved[test_rows])
                    size[now, kept] = widen(predicted.square().sum(dim=0)) * unit**2
                    along[now, kept] = widen(predicted.mul_(measured).sum(dim=0)) * unit
                    if not self.whole_runs:
                        still = _still(measured, segments).square_()
                        total[now, kept] = widen(still.sum(dim=0))
        scale = torch.ones_like(size)
        if self.equalise:
            scale = torch.where(size > 0, len(test_rows) / size, 1.0)
        self.product += along * scale.sqrt()
        self.power += size * scale
        self.total += total

    def r(self):
        """Pearson r over all held-out rows: float32 (n_permutations, n_targets), NaN unscored."""
        total = widen(self.measured).square().sum(dim=0) if self.whole_runs else self.total
        return (self.product / (self.power * total).sqrt()).float().cpu().numpy()


def _still(rows, segments):
    """Rows centred within segments; a copy."""
    rows = rows.clone()
    for segment in np.unique(segments):
        here = torch.from_numpy(segments == segment).to(rows.device)
        rows[here] -= rows[here].mean(dim=0)
    return rows


def _rows(y, moved):
    """Rows of y in new orders: (n_rows, n_orders, n_targets)."""
    return y.index_select(0, moved.flatten()).view(*moved.shape, -1)


def _hat_matrices(x, x_test):
    """A function of the penalty: the matrix from training responses to test predictions, and a
    factor that it lacks, so that a strong penalty does not make its squares vanish.

    Training responses need no centring, because the matrix has rows that sum to 0.
    """
    dtype, x, x_test = x.dtype, widen(x), widen(x_test)
    x = x - x.mean(dim=0)
    if x.shape[1] <= len(x):
        values, vectors = eigh(x.T @ x)
        left, right = x_test @ vectors, (x @ vectors).T
    else:
        values, vectors = eigh(x @ x.T)
        left, right = x_test @ x.T @ vectors, vectors.T

    def hat_of(penalty):
        hat = (left / (values + penalty)) @ right
        unit = float(hat.abs().max()) or 1.0
        return (hat / unit).to(dtype), unit

    return hat_of
