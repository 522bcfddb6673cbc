"""Counts, means and centred products of rows: all that ridge needs to know of a run.

Products are kept about the rows' own means and merged by the rule of Chan, Golub and LeVeque 1983,
doi 10.1080/00031305.1983.10483115, so that a run's offset never enters a sum of squares. Taking a
fold out of the sum of all folds is done in double precision: in single precision a run of large
values would leave its rounding errors in the other runs' products.
"""

from dataclasses import dataclass

import torch

from cobe.core.errors import CobeError

OFFSET_TO_SPREAD = 100  # of sums of squares
BLOCK = 128  # columns: small enough to save work on a triangle, large enough for a fast product


@dataclass(frozen=True)
class Moments:
    """What is known of rows of x (n, p) and y (n, b); for a Gram matrix y is x.

    Attributes
    ----------
    n : int
        Rows.
    x, y : tensors of shape (p,), (b,)
        Means, in double precision.
    product : tensor of shape (p, b)
        Sum over rows of ``(x - mean) (y - mean)'``.
    square : tensor of shape (b,)
        Sum over rows of ``(y - mean)**2``, in double precision.
    """

    n: int
    x: torch.Tensor
    y: torch.Tensor
    product: torch.Tensor
    square: torch.Tensor

    @classmethod
    def gram(cls, x):
        """Of the rows of x with themselves."""
        x, mean, shift = _anchored(x)
        product = symmetric_product(x).addr_(mean, mean, alpha=-len(x))
        mean = widen(mean) + shift
        return cls(len(x), mean, mean, product, widen(product.diagonal()))

    @classmethod
    def cross(cls, x, y):
        """Of the rows of x with those of y."""
        (x, mean_x, x_shift), (y, mean_y, y_shift) = _anchored(x), _anchored(y)
        product = (x.T @ y).addr_(mean_x, mean_y, alpha=-len(x))
        square = power(y) - len(x) * widen(mean_y).square()
        return cls(len(x), widen(mean_x) + x_shift, widen(mean_y) + y_shift, product, square)

    def moved(self, x, y):
        """The same rows with x and y added to them."""
        return Moments(self.n, self.x + x, self.y + y, self.product, self.square)

    def __add__(self, other):
        n = self.n + other.n
        dx, dy = other.x - self.x, other.y - self.y
        product = self.product + other.product
        weight = self.n * other.n / n
        product.addr_(dx.to(product.dtype), dy.to(product.dtype), alpha=weight)
        square = self.square + other.square + weight * dy.square()
        part = other.n / n
        return Moments(n, self.x + part * dx, self.y + part * dy, product, square)

    def without(self, held):
        """The rows of this that are not in `held`."""
        n = self.n - held.n
        x = (self.n * self.x - held.n * held.x) / n
        y = (self.n * self.y - held.n * held.y) / n
        dx, dy = held.x - x, held.y - y
        weight = n * held.n / self.n
        product = self.product - held.product
        product.addr_(dx.to(product.dtype), dy.to(product.dtype), alpha=-weight)
        square = self.square - held.square - weight * dy.square()
        return Moments(n, x, y, product, square)

    def about(self, x, y):
        """Products and squares of the rows about other means: (p, b), (b,), in double precision."""
        dx, dy = self.x - x, self.y - y
        product = widen(self.product).addr(dx, dy, alpha=self.n)
        return product, self.square + self.n * dy.square()


def _anchored(x):
    """Rows, their mean, and what was subtracted: the mean where it would drown their spread."""
    mean = x.mean(dim=0)
    offset = len(x) * widen(mean).square()
    if (offset <= OFFSET_TO_SPREAD * (power(x) - offset)).all():
        return x, mean, torch.zeros_like(offset)
    centred = x - mean
    return centred, centred.mean(dim=0), widen(mean)


def power(x):
    """Sum of squares of every column, in double precision; a few rows at a time, in the caches."""
    return sum(widen(rows.square().sum(dim=0)) for rows in x.split(4 * BLOCK))


def widen(tensor):
    """The tensor in double precision, where its device has that."""
    return tensor if tensor.device.type == "mps" else tensor.double()


def total(moments):
    """The sum of moments, its products in double precision."""
    first, *rest = moments
    merged = Moments(first.n, first.x, first.y, widen(first.product), first.square)
    for other in rest:
        merged = merged + other
    return merged


def summed(moments):
    """The sum of moments; one alone stays in its own precision, since nothing is added to it."""
    return total(moments) if len(moments) > 1 else moments[0]


def symmetric_product(x):
    """``x' x``; on a CPU only one triangle is multiplied."""
    n_columns = x.shape[1]
    if x.device.type != "cpu" or n_columns <= BLOCK:
        return x.T @ x
    product = x.new_empty(n_columns, n_columns)
    for i in range(0, n_columns, BLOCK):
        block = slice(i, i + BLOCK)
        torch.mm(x[:, block].T, x[:, i:], out=product[block, i:])
        product[i + BLOCK :, block] = product[block, i + BLOCK :].T
    return product


def doubled_triangle(vectors, matrix):
    """Upper triangular U with ``w' U w == w' vectors' matrix vectors w`` for every w.

    `matrix` is symmetric, so that a quadratic form needs only one triangle: half the work.
    """
    right = matrix @ vectors
    n = vectors.shape[1]
    upper = vectors.new_zeros(n, n)
    for i in range(0, n, BLOCK):
        block = slice(i, i + BLOCK)
        upper[block, i:] = vectors[:, block].T @ right[:, i:]
    diagonal = upper.diagonal().clone()
    upper.triu_().mul_(2)
    upper.diagonal().copy_(diagonal)
    return upper


def quadratic_forms(upper, weights):
    """``w' upper w`` of every column w: (n_columns,), for an upper triangular matrix."""
    forms = weights.new_zeros(weights.shape[1])
    for i in range(0, len(upper), BLOCK):
        block = slice(i, i + BLOCK)
        forms += (upper[block, i:] @ weights[i:]).mul_(weights[block]).sum(dim=0)
    return forms


def eigh(matrix):
    """Eigenvalues, not below 0, and eigenvectors of a symmetric matrix.

    In single precision LAPACK may fail to converge on a matrix of low rank (a button that is never
    pressed makes several columns of zeros), or hand back NaN without saying so.

    Raises
    ------
    CobeError
        There is no decomposition in double precision either.
    """
    where = "cpu" if matrix.device.type == "mps" else matrix.device
    for dtype in (matrix.dtype, torch.float64):
        try:
            values, vectors = torch.linalg.eigh(matrix.to(where, dtype))
        except torch.linalg.LinAlgError:
            continue
        if torch.isfinite(values).all() and torch.isfinite(vectors).all():
            return values.to(matrix).clamp_(min=0), vectors.to(matrix)
    raise CobeError(
        f"features: their {len(matrix)} x {len(matrix)} covariance has no eigenvectors; look for "
        "huge values among the features"
    )
