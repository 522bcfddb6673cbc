"""From the tokens of a clip to one vector: means, a seeded random projection, fitted PCA."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for

POOLINGS = ("mean", "position", "random", "pca")
# What a PCA may hold while it is fitted: all its rows, or a square of its dimensions.
MAX_FIT_BYTES = 4 * 2**30


def mean_pool(states: torch.Tensor) -> torch.Tensor:
    """Mean over all tokens: ``(n, n_tokens, d)`` to ``(n, d)``."""
    return states.mean(1)


@dataclass(frozen=True)
class PositionPool:
    """Mean over time at every place of the grid: ``(n, n_tokens, d)`` to ``(n, h * w * d)``."""

    grid: tuple[int, int, int]

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """Pool states in raster order over (time, height, width)."""
        t, h, w = self.grid
        return rearrange(states, "n (t h w) d -> n t (h w d)", t=t, h=h, w=w).mean(1)


@dataclass(frozen=True)
class RandomProjection:
    """All tokens' values times a random matrix of signs, to `n_features` values.

    Attributes
    ----------
    n_features : int
        Values per clip, the same for models of any width.
    seed : int
        Of the signs. They follow from seed, position and sizes alone and are drawn one position at
        a time, so the matrix is never held.

    Notes
    -----
    Achlioptas 2003 (J. Comput. Syst. Sci. 66): signs divided by ``sqrt(n_features)`` keep inner
    products in expectation, and distances within a factor of about ``sqrt(8 / n_features)``.
    """

    n_features: int
    seed: int = 0

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """``(n, n_tokens, d)`` to ``(n, n_features)``."""
        n, n_tokens, d = states.shape
        projected = states.new_zeros(n, self.n_features)
        for position in range(n_tokens):
            signs = torch.from_numpy(self.signs(position, d)).to(states.device)
            projected.addmm_(states[:, position], signs.to(states.dtype))
        return projected / self.n_features**0.5

    def signs(self, position: int, d: int) -> np.ndarray:
        """The matrix's rows of one token: int8 -1 or 1, ``(d, n_features)``."""
        count = d * self.n_features
        rng = rng_for(self.seed, "projection", self.n_features, d, position)
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-count // 8)), np.uint8), count=count)
        return (2 * bits.astype(np.int8) - 1).reshape(d, self.n_features)


@dataclass(frozen=True)
class PCA:
    """Principal components of all tokens' values.

    Attributes
    ----------
    mean : float32 (n_tokens * d,)
        Of the rows it was fitted on.
    components : float32 (n_components, n_tokens * d)
        Unit vectors, by falling variance; the largest entry of each is positive.
    explained : float64 (n_components,)
        Share of the variance of those rows.
    """

    mean: np.ndarray
    components: np.ndarray
    explained: np.ndarray

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """``(n, n_tokens, d)`` to ``(n, n_components)``."""
        mean, components = (
            torch.from_numpy(part).to(states.device, states.dtype)
            for part in (self.mean, self.components)
        )
        return (states.flatten(1) - mean) @ components.T


def fit_pca(batches: Iterable[np.ndarray], n_rows: int, n_values: int, n_components: int) -> PCA:
    """Exact PCA of rows that come in batches.

    The smaller of two squares is decomposed, in float64: that of the values where they are no more
    than the rows, which are then not kept; else that of the rows.

    Parameters
    ----------
    batches : iterable of float32 (n, n_values)
        `n_rows` rows in all.
    n_rows, n_values : int
        Rows, and values in each.
    n_components : int
        Components to keep.

    Raises
    ------
    CobeError
        More components than the rows or the values have, or more memory than `MAX_FIT_BYTES`.
    """
    check_pca(n_rows, n_values, n_components)
    mean = np.zeros(n_values)
    if n_values <= n_rows:
        square, first = np.zeros((n_values, n_values)), None
        for batch in batches:
            # about the first row, so that a large mean does not cancel digits of the square
            first = batch[0].astype(float) if first is None else first
            rows = batch - first
            mean += rows.sum(0)
            square += rows.T @ rows
        mean /= n_rows
        square -= n_rows * np.outer(mean, mean)
        values, vectors = np.linalg.eigh(square)
        components = vectors[:, ::-1][:, :n_components].T
        mean += first
    else:
        rows = np.concatenate(list(batches))
        mean = rows.mean(0, dtype=float)
        rows -= mean.astype(np.float32)
        square = np.zeros((n_rows, n_rows))
        for start in range(0, n_values, 4096):
            part = rows[:, start : start + 4096].astype(float)
            square += part @ part.T
        values, vectors = np.linalg.eigh(square)
        components = vectors[:, ::-1][:, :n_components].astype(np.float32).T @ rows
        components /= np.linalg.norm(components, axis=1, keepdims=True)
    largest = np.abs(components).argmax(1)
    components = components * np.sign(components[np.arange(n_components), largest])[:, None]
    total = max(float(values.sum()), np.finfo(float).tiny)
    return PCA(
        mean.astype(np.float32),
        np.ascontiguousarray(components, np.float32),
        values[::-1][:n_components] / total,
    )


def check_pca(n_rows: int, n_values: int, n_components: int) -> None:
    """Raise CobeError when a PCA of these sizes has too few rows, or more than memory takes."""
    if not 1 <= n_components <= min(n_rows - 1, n_values):
        raise CobeError(
            f"pca: {n_components} components of {n_rows} rows with {n_values} values; "
            f"take 1 to {min(n_rows - 1, n_values)}, or fit on more rows"
        )
    needed = 8 * n_values**2 if n_values <= n_rows else 4 * n_values * n_rows
    if needed > MAX_FIT_BYTES:
        raise CobeError(
            f"pca: fitting {n_rows} rows of {n_values} values takes {needed / 2**30:.1f} GiB, the "
            f"limit is {MAX_FIT_BYTES / 2**30:.0f}; fit on fewer rows, or take pooling 'random'"
        )


def check_pooling(pooling: str, n_features: int | None, fit_rows) -> None:
    """Raise CobeError for an unknown pooling, or one without what it needs or with what it not."""
    if pooling not in POOLINGS:
        raise CobeError(f"pooling {pooling!r}: unknown; choose one of {', '.join(POOLINGS)}")
    fixed = pooling in ("random", "pca")
    if fixed != (n_features is not None) or (n_features is not None and n_features < 1):
        raise CobeError(
            f"pooling {pooling!r}: n_features is {n_features}; "
            + ("give 1 or more" if fixed else "leave it out, the pooling sets it")
        )
    if (pooling == "pca") != (fit_rows is not None):
        raise CobeError(
            f"pooling {pooling!r}: fit_rows {'are' if fit_rows is not None else 'are not'} given; "
            "give the training rows to 'pca' and to no other"
        )


def make_pool(pooling: str, grid, n_features: int | None, seed: int) -> Callable:
    """The function from states ``(n, n_tokens, d)`` to features; "pca" has to be fitted."""
    if pooling == "mean":
        return mean_pool
    if pooling == "position":
        return PositionPool(tuple(grid))
    return RandomProjection(n_features, seed)
