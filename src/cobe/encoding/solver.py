"""Ridge regression from Gram matrices: one decomposition per fold, one penalty per target.

For centred training rows X (n, p) and responses Y (n, t), ``X'X = V diag(l) V'`` gives the weights
of every penalty at once, ``W(a) = V diag(1 / (l + a)) V'X'Y``. The Gram matrix of a fold is the
Gram matrix of all rows minus that of the rows left out, so X is never copied for a fold. With
fewer rows than columns the same is done with ``XX'`` (the dual form). See Hoerl and Kennard 1970,
doi 10.1080/00401706.1970.10488634; Dupre la Tour et al. 2022, doi
10.1016/j.neuroimage.2022.119728.
"""

import warnings
from dataclasses import dataclass, fields

import numpy as np
import torch

from cobe.core.errors import CobeError

BATCH_BYTES = 8 * 2**20  # near the caches: what is done to a batch is bound by memory
KEPT_BYTES = 128 * 2**20


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
    """What `solve` finds, in the coordinates of its parts."""

    weights: torch.Tensor
    intercept: torch.Tensor
    alphas: np.ndarray
    cv_scores: np.ndarray
    cv_mse: np.ndarray
    grid: np.ndarray
    alpha_scale: float
    constant: np.ndarray
    form: str

    def edges(self):
        """Targets at the smallest and at the largest penalty, two bool arrays (n_targets,)."""
        many = len(self.grid) > 1
        return many & (self.alphas == self.grid[0]), many & (self.alphas == self.grid[-1])


def solve(parts, grid, missing, relative_alphas=False):
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

    Returns
    -------
    solution : Solution
    """
    low = torch.stack([p.y.amin(dim=0) for p in parts]).amin(dim=0)
    high = torch.stack([p.y.amax(dim=0) for p in parts]).amax(dim=0)
    constant = (low == high).cpu().numpy() & ~missing
    unusable = missing | constant
    n_folds = 1 + max(p.fold for p in parts)
    n_rows = sum(len(p.x) for p in parts)
    p = parts[0].x.shape[1]
    form = Dual if n_rows * max(n_folds - 1, 1) / n_folds < p else Primal
    system = form(parts)
    n_targets = parts[0].y.shape[1]
    mse = np.zeros((len(grid), n_targets))
    var = np.zeros(n_targets)
    for fold in range(n_folds if n_folds > 1 else 0):
        sse, total, n = system.score(fold, grid, relative_alphas)
        mse += sse / (n * n_folds)
        var += total / (n * n_folds)
    if not np.isfinite(mse[:, ~unusable]).all():
        raise CobeError(
            "ridge: cross-validated errors are not finite; look for huge values among the features "
            "or responses, or use dtype float64"
        )
    best = mse.argmin(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = 1 - mse[best, np.arange(n_targets)] / var
    alphas = grid[best]
    weights, intercept, scale, largest = system.refit(alphas, relative_alphas)
    eps = torch.finfo(weights.dtype).eps
    if (alphas[~unusable] * scale < 4 * eps * largest).any() and eps > 1e-10:
        warnings.warn(
            f"alphas: {alphas[~unusable].min():g} was chosen, which is below the single "
            "precision of "
            "these features; use dtype float64 or larger penalties",
            RuntimeWarning,
            stacklevel=3,
        )
    for array in (mse, weights, intercept, alphas, scores):
        array[..., unusable if isinstance(array, np.ndarray) else torch.from_numpy(unusable)] = (
            float("nan")
        )
    return Solution(
        weights, intercept, alphas, scores, mse, grid, scale, constant, form.__name__.lower()
    )


def eigh(matrix):
    """Eigenvalues, not below 0, and eigenvectors of a symmetric matrix.

    In single precision LAPACK may fail to converge on a matrix of low rank (a button that is never
    pressed makes several columns of zeros), or hand back NaN without saying so.

    Raises
    ------
    CobeError
        There is no decomposition in double precision either.
    """
    for dtype in (matrix.dtype, torch.float64):
        try:
            values, vectors = torch.linalg.eigh(matrix.to(dtype))
        except torch.linalg.LinAlgError:
            continue
        if torch.isfinite(values).all() and torch.isfinite(vectors).all():
            return values.to(matrix.dtype).clamp_(min=0), vectors.to(matrix.dtype)
    raise CobeError(
        f"features: their {len(matrix)} x {len(matrix)} covariance has no eigenvectors; look for "
        "huge values among the features"
    )


def _batches(n_targets, bytes_per_target):
    size = max(1, int(BATCH_BYTES // bytes_per_target))
    return [slice(i, min(i + size, n_targets)) for i in range(0, n_targets, size)]


@dataclass(frozen=True)
class Moments:
    """Sums over rows that ridge needs: counts, sums, Gram matrix and cross-products."""

    n: int
    x: torch.Tensor
    y: torch.Tensor
    gram: torch.Tensor
    cross: torch.Tensor

    @classmethod
    def of(cls, parts):
        """Moments of one or more parts together."""
        each = [
            cls(len(p.x), p.x.sum(dim=0), p.y.sum(dim=0), p.x.T @ p.x, p.x.T @ p.y) for p in parts
        ]
        return sum(each[1:], each[0])

    def __add__(self, other):
        return Moments(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def size(self):
        """Bytes that are kept."""
        return (self.gram.numel() + self.cross.numel()) * self.gram.element_size()


class Primal:
    """Ridge by the (n_columns, n_columns) Gram matrix."""

    def __init__(self, parts):
        self.folds = {
            fold: [part for part in parts if part.fold == fold]
            for fold in sorted({part.fold for part in parts})
        }
        self.extra = self.folds.pop(-1, [])
        self.all, self.kept, size = None, {}, 0
        for fold, held in self.folds.items():
            moments = Moments.of(held)
            self.all = self.all + moments if self.all else moments
            size += moments.size
            if size < KEPT_BYTES:  # beyond that a fold's moments are cheaper made again than kept
                self.kept[fold] = moments

    def score(self, fold, grid, relative):
        """Errors on a fold: sse (n_alphas, n_targets), total (n_targets,), number of rows."""
        parts, every = self.folds[fold], self.all
        held = self.kept.get(fold) or Moments.of(parts)
        n = every.n - held.n
        mean_x, mean_y = (every.x - held.x) / n, (every.y - held.y) / n
        gram = every.gram - held.gram
        values, vectors, alphas = self._decompose(gram, mean_x, n, grid, relative)
        by_gram = len(mean_x) < held.n
        if by_gram:
            # Centred by the means of the training rows, which are not the means of these rows.
            centred = held.gram - torch.outer(held.x, mean_x) - torch.outer(mean_x, held.x)
            rotated = vectors.T @ centred.addr_(mean_x, mean_x, alpha=held.n) @ vectors
        else:
            projected = [(part.x - mean_x) @ vectors for part in parts]
        shrink = 1 / (values[:, None] + alphas)
        n_targets, n_alphas = len(mean_y), len(grid)
        sse, total = np.zeros((n_alphas, n_targets)), np.zeros(n_targets)
        rows = len(mean_x) + max(len(mean_x), held.n)
        for batch in _batches(n_targets, rows * n_alphas * mean_x.element_size()):
            mean, held_cross = mean_y[batch], held.cross[:, batch]
            right = vectors.T @ (every.cross[:, batch] - held_cross).addr_(mean_x, mean, alpha=-n)
            weights = (shrink[:, :, None] * right[:, None, :]).flatten(1)
            errors = [part.y[:, batch] - mean for part in parts]
            total[batch] = sum(e.square().sum(dim=0) for e in errors).cpu().numpy()
            if by_gram:
                error_sum = held.y[batch] - held.n * mean
                inner = held_cross - torch.outer(held.x, mean) - torch.outer(mean_x, error_sum)
                left = (rotated @ weights).view(len(values), n_alphas, -1)
                left.sub_((vectors.T @ inner).mul_(2)[:, None]).mul_(weights.view_as(left))
                sse[:, batch] = left.sum(dim=0).cpu().numpy() + total[batch]
            else:
                for z, error in zip(projected, errors, strict=True):
                    left = (z @ weights).view(len(z), n_alphas, -1).sub_(error[:, None])
                    sse[:, batch] += left.square_().sum(dim=0).cpu().numpy()
        return sse, total, held.n

    @staticmethod
    def _decompose(gram, mean_x, n, grid, relative):
        centred = gram.addr(mean_x, mean_x, alpha=-n)
        scale = float(centred.trace()) / (n * len(mean_x)) if relative else 1.0
        values, vectors = eigh(centred)
        return values, vectors, torch.as_tensor(grid * (scale or 1.0)).to(values)

    def refit(self, alphas, relative):
        """Weights of all rows: (n_columns, n_targets), (n_targets,), scale, largest eigenvalue."""
        full = self.all + Moments.of(self.extra) if self.extra else self.all
        n, mean_x, mean_y = full.n, full.x / full.n, full.y / full.n
        values, vectors, scale = self._decompose(full.gram, mean_x, n, np.ones(1), relative)
        penalties = torch.as_tensor(alphas * float(scale[0])).to(values)
        weights = torch.empty_like(full.cross)
        for batch in _batches(len(mean_y), 3 * len(mean_x) * mean_x.element_size()):
            right = vectors.T @ full.cross[:, batch].addr(mean_x, mean_y[batch], alpha=-n)
            weights[:, batch] = vectors @ (right / (values[:, None] + penalties[batch]))
        return weights, mean_y - mean_x @ weights, float(scale[0]), float(values[-1])


class Dual:
    """Ridge by the (n_rows, n_rows) kernel matrix, for more columns than rows."""

    def __init__(self, parts):
        self.x = torch.cat([part.x for part in parts])
        self.y = torch.cat([part.y for part in parts])
        self.fold = torch.cat(
            [torch.full((len(part.x),), part.fold, device=part.x.device) for part in parts]
        )
        self.kernel = self.x @ self.x.T

    def _decompose(self, train, held, grid, relative):
        kernel = self.kernel[train][:, train]
        means = kernel.mean(dim=0)
        across = self.kernel[held][:, train]
        # Centring the features by the training rows' means, done on the kernel.
        across = across - across.mean(dim=1, keepdim=True) - means + means.mean()
        kernel = kernel - means - means[:, None] + means.mean()
        scale = float(kernel.trace()) / (len(kernel) * self.x.shape[1]) if relative else 1.0
        values, vectors = eigh(kernel)
        return values, vectors, torch.as_tensor(grid * (scale or 1.0)).to(values), across

    def score(self, fold, grid, relative):
        """Errors on a fold: sse (n_alphas, n_targets), total (n_targets,), number of rows."""
        held = torch.nonzero(self.fold == fold).ravel()
        train = torch.nonzero((self.fold != fold) & (self.fold >= 0)).ravel()
        values, vectors, alphas, across = self._decompose(train, held, grid, relative)
        projected = across @ vectors
        shrink = 1 / (values[:, None] + alphas)
        n_targets, n_alphas = self.y.shape[1], len(grid)
        sse, total = np.zeros((n_alphas, n_targets)), np.zeros(n_targets)
        rows = 2 * len(train) + len(held)
        for batch in _batches(n_targets, rows * n_alphas * values.element_size()):
            y = self.y[train, batch]
            mean = y.mean(dim=0)
            right = vectors.T @ (y - mean)
            weights = (shrink[:, :, None] * right[:, None, :]).flatten(1)
            error = self.y[held, batch] - mean
            left = (projected @ weights).view(len(held), n_alphas, -1) - error[:, None]
            total[batch] = error.square().sum(dim=0).cpu().numpy()
            sse[:, batch] = left.square_().sum(dim=0).cpu().numpy()
        return sse, total, len(held)

    def refit(self, alphas, relative):
        """Weights of all rows: (n_columns, n_targets), (n_targets,), scale, largest eigenvalue."""
        rows = torch.arange(len(self.x), device=self.x.device)
        values, vectors, scale, _ = self._decompose(rows, rows[:1], np.ones(1), relative)
        penalties = torch.as_tensor(alphas * float(scale[0])).to(values)
        mean_x, mean_y = self.x.mean(dim=0), self.y.mean(dim=0)
        right = vectors.T @ (self.y - mean_y)
        coefficients = vectors @ (right / (values[:, None] + penalties))
        # The coefficients of centred responses sum to 0, so X needs no centring here but for
        # rounding.
        weights = (self.x - mean_x).T @ coefficients
        return weights, mean_y - mean_x @ weights, float(scale[0]), float(values[-1])
