"""Banded ridge: every band of columns has a penalty of its own, chosen per target.

With weights ``g`` on the bands, the columns of band ``b`` are scaled by ``sqrt(g_b)`` and one
penalty serves them all, so a column of band ``b`` is penalised by ``alpha / g_b`` and a band of
weight 0 is left out. See Nunez-Elizalde et al. 2019, doi 10.1016/j.neuroimage.2019.04.012; random
search on the simplex: Dupre la Tour et al. 2022, doi 10.1016/j.neuroimage.2022.119728.
"""

from collections.abc import Mapping

import numpy as np

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.encoding.solver import solve


def band_numbers(bands, n_features):
    """Number of the band of every feature, in the order of the mapping.

    Parameters
    ----------
    bands : mapping of str to slice or sequence of int
        Columns of each band among the features before delays; every feature in one band.
    n_features : int

    Returns
    -------
    numbers : int array of shape (n_features,)

    Raises
    ------
    CobeError
        A band is empty or selects what is not there, or a feature is in no band or in two.
    """
    check_mapping(bands)
    numbers = np.full(n_features, -1)
    for k, (name, columns) in enumerate(bands.items()):
        if isinstance(columns, slice):
            columns = np.arange(n_features)[columns]
        columns = np.atleast_1d(np.asarray(columns))
        if columns.ndim != 1 or not np.issubdtype(columns.dtype, np.integer) or not columns.size:
            raise CobeError(
                f"bands: {name!r} selects no column by number; give a slice or a list of integers"
            )
        wrong = columns[(columns < 0) | (columns >= n_features)]
        if wrong.size:
            raise CobeError(
                f"bands: {name!r} names column {wrong[0]} of {n_features} features; "
                "count from 0, before delays"
            )
        taken = columns[numbers[columns] >= 0]
        if taken.size or len(set(columns.tolist())) < len(columns):
            raise CobeError(
                f"bands: {name!r} shares a column with another band or names it twice; give each "
                "column to one band"
            )
        numbers[columns] = k
    if (numbers < 0).any():
        raise CobeError(
            f"bands: {int((numbers < 0).sum())} features (first: {int(np.argmin(numbers))}) are in "
            "no band; give each column to one band"
        )
    return numbers


def check_mapping(bands):
    """Refuse bands that are not a mapping with something in it."""
    if not isinstance(bands, Mapping) or not bands:
        raise CobeError("bands: give a dict of names to columns, such as {'gpt': slice(0, 96)}")


def sample_band_weights(n_bands, n_samples, seed, concentrations=(0.1, 1.0), corners=True):
    """Band weights drawn from Dirichlet distributions.

    Parameters
    ----------
    n_bands, n_samples : int
        Bands, and rows to return in total.
    seed : int
        The same seed gives the same weights.
    concentrations : sequence of float
        Taken in turns: 1 is uniform over the simplex, smaller values favour few bands.
    corners : bool
        Begin with equal weights, then each band alone, then draw the rest.

    Returns
    -------
    band_weights : float64 array of shape (n_samples, n_bands)
        Rows that sum to 1; zeros are legal.

    Raises
    ------
    CobeError
        A number is not positive, or `n_samples` is too small for the corners.
    """
    if n_bands < 1:
        raise CobeError(f"n_bands: {n_bands}; give 1 or more")
    fixed = np.concatenate([np.full((1, n_bands), 1 / n_bands), np.eye(n_bands)])
    fixed = fixed[: 1 if n_bands == 1 else None] if corners else fixed[:0]
    concentrations = np.atleast_1d(np.asarray(concentrations, float))
    if not (np.isfinite(concentrations) & (concentrations > 0)).all() or not concentrations.size:
        raise CobeError(
            f"concentrations: {concentrations.tolist()} must be finite and positive; "
            "give values such as (0.1, 1)"
        )
    if n_samples < max(1, len(fixed)):
        raise CobeError(
            f"band_weights: {n_samples} samples for {n_bands} bands; give at least "
            f"{max(1, len(fixed))}, which are the equal weights and each band alone"
        )
    rng = rng_for(seed, "band weights")
    drawn = [
        rng.dirichlet(np.full(n_bands, concentrations[i % len(concentrations)]))
        for i in range(n_samples - len(fixed))
    ]
    return np.concatenate([fixed, np.reshape(drawn, (-1, n_bands))])


def check_band_weights(band_weights, n_bands):
    """Candidate weights as a float64 array (n_candidates, n_bands).

    Raises
    ------
    CobeError
        A row has another length, holds a negative or infinite weight, or does not sum to 1.
    """
    try:
        weights = np.atleast_2d(np.asarray(band_weights, float))
    except (TypeError, ValueError) as error:
        raise CobeError(
            f"band_weights: {band_weights!r} is no array; give (n_candidates, n_bands)"
        ) from error
    if weights.ndim != 2 or weights.shape[1] != n_bands or not len(weights):
        raise CobeError(
            f"band_weights: shape {weights.shape} for {n_bands} bands; give (n_candidates, n_bands)"
        )
    wrong = ~np.isfinite(weights).all(axis=1) | (weights < 0).any(axis=1)
    wrong |= np.abs(weights.sum(axis=1) - 1) > 1e-6
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise CobeError(
            f"band_weights: row {row}, {weights[row].tolist()}, must be 0 or more and sum to 1; "
            "divide the row by its sum"
        )
    return weights


def solve_banded(parts, alphas, missing, relative_alphas, bands, band_weights):
    """Choose band weights and a penalty per target over the folds of `parts`, and refit.

    Every row of `band_weights` is tried with every penalty on the same folds as `solve`; a target
    takes the pair with the smallest mean squared error on left-out rows, averaged over folds.

    Parameters
    ----------
    parts : list of solver.Part
        As for `solve`.
    alphas : float64 array of shape (n_alphas,)
        Penalties, ascending.
    missing : bool array of shape (n_targets,)
        Targets not to fit.
    relative_alphas : bool
        Multiply the penalties by the mean variance of the columns before band weights, so that
        candidates share one scale.
    bands : int array of shape (n_columns,)
        Number of the band of every column of the parts, delays included, from 0 upwards.
    band_weights : float64 array of shape (n_candidates, n_bands)
        Rows of weights, 0 or more, that sum to 1.

    Returns
    -------
    solution : solver.Solution
        `weights` (n_columns, n_targets) for the plain columns, exactly 0 in a band of weight 0;
        `band_weights` float64 (n_targets, n_bands) as chosen, NaN for unusable targets; `alphas`
        (n_targets,); `cv_mse` (n_alphas, n_targets) of the chosen band weights; the rest as from
        `solve`.

    Raises
    ------
    CobeError
        Band weights that are not on the simplex, or as from `solve`.
    """
    bands = np.asarray(bands)
    candidates = check_band_weights(band_weights, bands.max() + 1)
    return solve(parts, alphas, missing, relative_alphas, bands, candidates)
