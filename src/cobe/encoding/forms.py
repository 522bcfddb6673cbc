"""The two forms of ridge: by products of columns (primal) or of rows (dual).

For centred training rows X (n, p) and responses Y (n, b), ``X'X = V diag(l) V'`` gives the weights
of every penalty at once, ``W(a) = V diag(1 / (l + a)) V'X'Y``. With fewer rows than columns the
same is done with ``XX'``. Weights on bands of columns only change the basis: ``V`` becomes ``S V``,
with ``S X'X S = V diag(l) V'`` and S the roots of the weights. See Hoerl and Kennard 1970, doi
10.1080/00401706.1970.10488634; Dupre la Tour et al. 2022, doi 10.1016/j.neuroimage.2022.119728.
"""

from dataclasses import dataclass

import torch

from cobe.encoding.moments import (
    Moments,
    doubled_triangle,
    eigh,
    power,
    quadratic_forms,
    summed,
    total,
    widen,
)

BATCH_BYTES = 8 * 2**20  # near the caches: what is done to a batch is bound by memory
ROUNDING = 100  # units in the last place of the largest eigenvalue that are too much
CANCELLING = 1e-3  # share of unexplained variance below which products of single precision cancel
KEPT_BYTES = 512 * 2**20  # for each of: cross-products of a block of targets, decompositions


@dataclass(frozen=True)
class Basis:
    """Training rows, decomposed.

    Attributes
    ----------
    values : tensor of shape (n_values,)
        Eigenvalues.
    vectors : tensor of shape (n_columns or n_rows, n_values)
        Possibly in double precision. Weights are
        ``vectors @ ((vectors' products) / (values + alpha))``.
    scale : float
        What penalties are multiplied by.
    """

    values: torch.Tensor
    vectors: torch.Tensor
    scale: float

    def rotate(self, products):
        """``vectors' products``, calculated in the precision of the vectors."""
        return (self.vectors.T @ products.to(self.vectors.dtype)).to(self.values.dtype)

    def shrink(self, alphas):
        """What every direction is multiplied by: (n_values, n_alphas)."""
        penalties = torch.as_tensor(alphas * self.scale, dtype=self.values.dtype)
        return 1 / (self.values[:, None] + penalties.to(self.values.device))


@dataclass(frozen=True)
class Fold:
    """A fold, ready to be scored: one of `upper` and `projected` is there.

    Attributes
    ----------
    basis : Basis
        Of the training rows.
    upper : tensor of shape (n_values, n_values) or None
        Products of the left-out rows in the basis, see `doubled_triangle`.
    projected : tensor of shape (n_rows, n_values) or None
        Left-out rows in the basis.
    """

    basis: Basis
    upper: torch.Tensor | None = None
    projected: torch.Tensor | None = None

    @property
    def size(self):
        """Bytes that are kept."""
        held = self.projected if self.upper is None else self.upper
        return self.basis.vectors.nbytes + held.nbytes


def decompose(gram, column_scale, relative, dtype, lowest):
    """The basis of centred training rows, from their Gram matrix.

    Where the smallest penalty and eigenvalue are small beside the rounding of the largest, the
    decomposition is done in double precision, and its vectors stay in it: the products, which are
    of single precision about each run's own means, still hold what large offsets between runs
    would drown.

    Parameters
    ----------
    gram : Moments
        Of the training rows, in double precision.
    column_scale : tensor of shape (n_columns,) or None
        Roots of the columns' band weights; a column of scale 0 is left out of the decomposition.
    relative : bool
        Penalties in units of the mean variance of the columns, before band weights.
    dtype : torch.dtype
        Of the basis.
    lowest : float
        Smallest penalty.

    Returns
    -------
    basis : Basis
    """
    scale = (float(gram.square.mean()) / gram.n if relative else 1.0) or 1.0
    values, vectors = eigh(_scaled(gram.product.to(dtype), column_scale))
    risk = ROUNDING * torch.finfo(dtype).eps * float(values[-1])
    if gram.product.dtype != dtype and lowest * scale + float(values[0]) < risk:
        values, vectors = eigh(_scaled(gram.product, column_scale))
    if column_scale is not None:
        kept = torch.nonzero(column_scale).ravel()
        inside = column_scale[kept, None].to(vectors) * vectors
        vectors = inside.new_zeros(len(column_scale), len(kept)).index_copy_(0, kept, inside)
    return Basis(values.to(dtype), vectors, scale)


def _scaled(product, column_scale):
    """The columns of positive scale, scaled."""
    if column_scale is None:
        return product
    kept = torch.nonzero(column_scale).ravel()
    if len(kept) < len(product):
        product = product[kept][:, kept]
    root = column_scale[kept].to(product.dtype)
    return (product * root).mul_(root[:, None])


def fold_from_grams(everything, held, column_scale, relative, dtype, lowest):
    """A fold that is scored from Gram matrices alone: of all rows, and of those left out."""
    train = everything.without(held)
    basis = decompose(train, column_scale, relative, dtype, lowest)
    product = held.about(train.x, train.x)[0].to(basis.vectors.dtype)
    return Fold(basis, upper=doubled_triangle(basis.vectors, product).to(dtype))


def batches(n, bytes_each):
    """Slices of n targets that keep what is done to one near the caches."""
    size = max(1, int(BATCH_BYTES // bytes_each))
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def score_crosses(fold, everything, held, alphas):
    """Squared errors on a fold from products alone.

    Parameters
    ----------
    fold : Fold
        With `upper`.
    everything, held : Moments
        Cross-products of all rows, and of those left out.
    alphas : float64 array of shape (n_alphas,)

    Returns
    -------
    sse : float64 tensor of shape (n_alphas, n_targets)
    total : float64 tensor of shape (n_targets,)
        About the means of the training rows.
    """
    train = everything.without(held)
    inner, square = held.about(train.x, train.y)
    right, inner = fold.basis.rotate(train.product), fold.basis.rotate(inner)
    shrink = fold.basis.shrink(alphas)
    sse = square.new_empty(len(alphas), len(square))
    for batch in batches(len(square), shrink.numel() * shrink.element_size()):
        now = right[:, batch]
        weights = shrink[:, :, None] * now[:, None, :]
        fitted = quadratic_forms(fold.upper, weights.flatten(1)).view(len(alphas), -1)
        along = shrink.T @ (inner[:, batch] * now)
        sse[:, batch] = fitted.to(sse) - 2 * along.to(sse) + square[batch]
    return sse, square


def score_rows(fold, right, error, alphas):
    """Squared errors on a fold from predictions.

    Parameters
    ----------
    fold : Fold
        With `projected`.
    right : tensor of shape (n_values, n_targets)
        Training responses in the basis.
    error : tensor of shape (n_rows, n_targets)
        Left-out responses about the means of the training rows.
    alphas : float64 array of shape (n_alphas,)

    Returns
    -------
    sse, total : as from `score_crosses`
    """
    shrink = fold.basis.shrink(alphas)
    square = power(error)
    sse = square.new_empty(len(alphas), len(square))
    rows = (len(shrink) + len(error)) * len(alphas)
    for batch in batches(len(square), rows * shrink.element_size()):
        weights = (shrink[:, :, None] * right[:, None, batch]).flatten(1)
        left = (fold.projected @ weights).view(len(error), len(alphas), -1)
        sse[:, batch] = left.sub_(error[:, None, batch]).square_().sum(dim=0).to(sse)
    return sse, square


def weights_from_cross(basis, cross, alphas):
    """Weights of targets with a penalty each.

    Parameters
    ----------
    basis : Basis
    cross : Moments
        Cross-products of the training rows with the targets.
    alphas : float64 array of shape (n_targets,)

    Returns
    -------
    weights : tensor of shape (n_columns, n_targets)
    intercept : tensor of shape (n_targets,)
    """
    dtype = basis.values.dtype
    right = basis.rotate(cross.product).mul_(basis.shrink(alphas))
    weights = (basis.vectors @ right.to(basis.vectors.dtype)).to(dtype)
    intercept = cross.y - cross.x @ weights.to(cross.x.dtype)
    return weights, intercept.to(dtype)


class Primal:
    """Ridge by the (n_columns, n_columns) Gram matrix; folds are taken out of the sum of all."""

    name = "primal"

    def __init__(self, parts, relative):
        n_folds = 1 + max(part.fold for part in parts)
        self.folds = [[p for p in parts if p.fold == k] for k in range(n_folds)]
        self.extra = [p for p in parts if p.fold < 0]
        self.relative, self.dtype = relative, parts[0].x.dtype
        self.grams = [summed([Moments.gram(p.x) for p in fold]) for fold in self.folds]
        self.gram = total(self.grams)
        self.decomposed, self.n_bytes = {}, 0
        self.block, self.crosses = None, ()

    def blocks(self, n_targets):
        """Slices of targets whose cross-products are in memory together."""
        each = len(self.folds) * self.gram.product[0].nbytes
        size = max(1, KEPT_BYTES // each)
        return [slice(i, min(i + size, n_targets)) for i in range(0, n_targets, size)]

    def by_gram(self, fold, n_targets, n_alphas):
        """Whether products of left-out rows are the cheaper way to a fold's errors."""
        p, n = len(self.gram.x), self.grams[fold].n
        from_products = 3 * p**3 + 0.6 * p * p * n_targets * n_alphas
        return from_products < n * p * p + n * p * n_targets * n_alphas

    def score(self, fold, block, alphas, scale, name):
        """Squared errors on a fold as from `score_crosses`, and its number of rows.

        Parameters
        ----------
        fold : int
        block : slice
            Targets.
        alphas : float64 array of shape (n_alphas,)
        scale : tensor of shape (n_columns,) or None
            Roots of band weights.
        name : hashable
            The same for the same `scale`.
        """
        everything, crosses = self._crosses(block)
        n = crosses[fold].n
        if not self.by_gram(fold, len(everything.y), len(alphas)):
            return *self._score_rows(fold, block, alphas, scale, name, slice(None)), n
        ready = self._fold(fold, scale, (fold, name, False), alphas[0])
        sse, square = score_crosses(ready, everything, crosses[fold], alphas)
        if everything.product.dtype != self.dtype:
            small = torch.nonzero(sse.amin(dim=0) < CANCELLING * square).ravel()
            if len(small):
                sse[:, small] = self._score_rows(fold, block, alphas, scale, name, small)[0]
        return sse, square, n

    def _score_rows(self, fold, block, alphas, scale, name, kept):
        ready = self._fold(fold, scale, (fold, name, True), alphas[0])
        everything, crosses = self._crosses(block)
        train = everything.without(crosses[fold])
        error = torch.cat([part.y[:, block] for part in self.folds[fold]]) - train.y.to(self.dtype)
        right = ready.basis.rotate(train.product[:, kept])
        return score_rows(ready, right, error[:, kept], alphas)

    def refit(self, scale, lowest):
        """The basis of all rows, those of no fold included."""
        everything = total([self.gram, *(Moments.gram(p.x) for p in self.extra)])
        return decompose(everything, scale, self.relative, self.dtype, lowest)

    def weights(self, basis, block, kept, alphas):
        """Weights and intercepts of the targets `kept` (bool) of a block."""
        everything, _ = self._crosses(block)
        kept = torch.from_numpy(kept).to(everything.product.device)
        cross = total(
            [everything, *(Moments.cross(part.x, part.y[:, block]) for part in self.extra)]
        )
        few = [cross.y[kept], cross.product[:, kept], cross.square[kept]]
        return weights_from_cross(basis, Moments(cross.n, cross.x, *few), alphas)

    def _fold(self, fold, scale, key, lowest):
        if key in self.decomposed:
            return self.decomposed[key]
        if not key[-1]:
            ready = fold_from_grams(
                self.gram, self.grams[fold], scale, self.relative, self.dtype, lowest
            )
        else:
            train = self.gram.without(self.grams[fold])
            basis = decompose(train, scale, self.relative, self.dtype, lowest)
            x = torch.cat([part.x for part in self.folds[fold]]).to(basis.vectors.dtype)
            held = ((x - train.x.to(x.dtype)) @ basis.vectors).to(self.dtype)
            ready = Fold(basis, projected=held)
        if self.n_bytes + ready.size < KEPT_BYTES:
            self.decomposed[key] = ready
            self.n_bytes += ready.size
        return ready

    def _crosses(self, block):
        if block != self.block:
            self.crosses = [
                summed([Moments.cross(p.x, p.y[:, block]) for p in fold]) for fold in self.folds
            ]
            self.crosses = total(self.crosses), self.crosses
            self.block = block
        return self.crosses


class Dual:
    """Ridge by the (n_rows, n_rows) kernel matrix, for more columns than rows."""

    name = "dual"

    def __init__(self, parts, relative):
        self.x = torch.cat([part.x for part in parts])
        self.y = torch.cat([part.y for part in parts])
        self.fold = torch.cat(
            [torch.full((len(part.x),), part.fold, device=part.x.device) for part in parts]
        )
        self.relative = relative
        self.scale, self.kernel = None, None

    def blocks(self, n_targets):
        """All targets: there are no cross-products to keep."""
        return [slice(0, n_targets)]

    def score(self, fold, block, alphas, scale, name):
        """Squared errors on a fold, see `Primal.score`."""
        held = torch.nonzero(self.fold == fold).ravel()
        train = torch.nonzero((self.fold != fold) & (self.fold >= 0)).ravel()
        basis, across = self._decompose(train, held, scale)
        y = self.y[train, block]
        mean = y.mean(dim=0)
        ready = Fold(basis, projected=across @ basis.vectors)
        error = self.y[held, block] - mean
        return *score_rows(ready, basis.vectors.T @ (y - mean), error, alphas), len(held)

    def refit(self, scale, lowest):
        """The basis of all rows."""
        rows = torch.arange(len(self.x), device=self.x.device)
        return self._decompose(rows, rows[:1], scale)[0]

    def weights(self, basis, block, kept, alphas):
        """Weights and intercepts of the targets `kept` (bool) of a block."""
        y = self.y[:, block][:, torch.from_numpy(kept).to(self.y.device)]
        mean = y.mean(dim=0)
        right = basis.vectors.T @ (y - mean)
        mean_x = self.x.mean(dim=0)
        # Coefficients of centred responses sum to 0, so that centring X here only spares rounding.
        weights = (self.x - mean_x).T @ (basis.vectors @ right.mul_(basis.shrink(alphas)))
        if self.scale is not None:
            weights.mul_(self.scale.square()[:, None])
        return weights, mean - mean_x @ weights

    def _decompose(self, train, held, scale):
        if scale is not self.scale or self.kernel is None:
            # Offsets between runs cancel only below, when the kernel is centred.
            scaled = widen(self.x if scale is None else self.x * scale)
            self.kernel, self.scale = scaled @ scaled.T, scale
        between = self.kernel[held][:, train]
        kernel = self.kernel[train][:, train]
        means = kernel.mean(dim=0)
        # Centring the features by the training rows' means, done on the kernel.
        between = between - between.mean(dim=1, keepdim=True) - means + means.mean()
        kernel = kernel - means - means[:, None] + means.mean()
        unit = float(self.x[train].var(dim=0, correction=0).mean()) if self.relative else 1.0
        values, vectors = (part.to(self.x.dtype) for part in eigh(kernel))
        return Basis(values, vectors, unit or 1.0), between.to(self.x.dtype)
