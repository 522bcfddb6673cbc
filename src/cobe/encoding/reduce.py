"""Features brought to one width, by a map that is fitted on training rows only."""

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for

KINDS = ("pca", "random", "scale")


@dataclass(frozen=True)
class Reduction:
    """How features are brought to the same number of columns for every model.

    A wider feature set predicts better for its width alone, so models are compared at one width.

    Attributes
    ----------
    kind : str
        ``"pca"``: principal components, not whitened, so that they keep their variances;
        ``"random"``: a Gaussian random projection, which keeps distances (Johnson and
        Lindenstrauss 1984); ``"scale"``: no reduction, only scaling.
    n_components : int or None
        Columns to make; None for ``"scale"``.
    scale : bool
        Bring every column to variance 1 first; a column that does not change stays 0.
    seed : int
        Seed of the random projection.
    """

    kind: str = "pca"
    n_components: int | None = None
    scale: bool = True
    seed: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise CobeError(f"reduce: {self.kind!r} is unknown; give one of {', '.join(KINDS)}")
        n = self.n_components
        if self.kind == "scale" and (n is not None or not self.scale):
            raise CobeError(
                "reduce: 'scale' keeps all columns; give neither n_components nor scale"
            )
        if self.kind != "scale" and (n is None or n != int(n) or n < 1):
            raise CobeError(f"reduce: n_components {n}; give a whole number, 1 or more")

    def check(self, what, n_features, n_rows):
        """Make sure that so many features and training rows hold the components.

        Raises
        ------
        CobeError
            They do not.
        """
        n = self.n_components or 0
        if n > n_features:
            raise CobeError(
                f"reduce: {n} components of {what} with {n_features} features; "
                "ask for no more than the narrowest model has"
            )
        if self.kind == "pca" and n > n_rows - 1:
            raise CobeError(
                f"reduce: {n} components of {n_rows} training volumes of {what}; "
                "ask for fewer, or use kind='random'"
            )

    def fit(self, x_train):
        """Fit on training rows.

        Parameters
        ----------
        x_train : array of shape (n_rows, n_features)
            Without NaN.

        Returns
        -------
        fitted : Fitted
        """
        mean = x_train.mean(axis=0, dtype=float)
        spread = np.ones(len(mean))
        if self.scale:
            spread = x_train.std(axis=0, dtype=float)
            still = x_train.min(axis=0) == x_train.max(axis=0)
            # 1 / infinity: what does not change in training says nothing of the other rows either
            spread = np.where(still, np.inf, spread)
        if self.kind == "scale":
            return Fitted(mean, 1 / spread)
        if self.kind == "random":
            rng = rng_for(self.seed, "random projection", len(mean), self.n_components)
            matrix = rng.standard_normal((len(mean), self.n_components))
            matrix /= np.sqrt(self.n_components)
        else:
            solver = "covariance_eigh" if len(x_train) > len(mean) else "full"
            pca = PCA(self.n_components, svd_solver=solver)
            matrix = pca.fit((x_train - mean) / spread).components_.T
        return Fitted(mean, matrix / spread[:, None])


@dataclass(frozen=True)
class Fitted:
    """A linear map: minus the training mean, then a matrix, or a factor for every column.

    Attributes
    ----------
    mean : float64 array of shape (n_features,)
    matrix : float64 array of shape (n_features, n_components) or (n_features,)
    """

    mean: np.ndarray
    matrix: np.ndarray

    def __call__(self, x):
        """Features of one run, (n_trs, n_components), in the dtype of `x`; NaN rows stay NaN."""
        moved = x - self.mean
        mapped = moved * self.matrix if self.matrix.ndim == 1 else moved @ self.matrix
        return mapped.astype(x.dtype if np.issubdtype(x.dtype, np.floating) else float, copy=False)
