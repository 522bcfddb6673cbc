"""Chance levels, intervals and comparisons that hold for slow signals.

BOLD and video features are autocorrelated, so tests that treat volumes as independent are invalid
(Schreiber and Krekelberg 2013, doi 10.1371/journal.pone.0069328). Chance here comes from moving
whole blocks of a run, p-values are ``(1 + b) / (1 + B)`` (Phipson and Smyth 2010, doi
10.2202/1544-6115.1585).
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy.stats import false_discovery_control

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.encoding.intervals import expanded_ends

CHUNK_BYTES = 2**20
CHUNK_TARGETS = 4096
TOLERANCE = 1e-6


def fdr(p):
    """Benjamini-Hochberg q-values; NaN p-values stay NaN and count for nothing.

    Parameters
    ----------
    p : array of shape (n_tests,)
        P-values.

    Returns
    -------
    q : float64 array of shape (n_tests,)
    """
    p = np.asarray(p, float)
    q = np.full(p.shape, np.nan)
    there = np.isfinite(p)
    if there.any():
        q[there] = false_discovery_control(p[there], method="bh")
    return q


def centre_in_segments(x, segment):
    """Subtract from every column its mean in each segment.

    Parameters
    ----------
    x : array of shape (n_rows, n_columns)
        Rows, such as of all runs.
    segment : int array of shape (n_rows,)
        What each row belongs to, such as its run.

    Returns
    -------
    centred : float64 array of shape (n_rows, n_columns)
        Exactly 0 where a column does not change in a segment.
    """
    centred = np.array(x, float)
    for number in np.unique(segment):
        rows = segment == number
        part = centred[rows]
        still = part.min(axis=0) == part.max(axis=0)
        part -= part.mean(axis=0)
        part[:, still] = 0
        centred[rows] = part
    return centred


def block_numbers(n_rows, block_trs):
    """Block of each row of one run: blocks of nearly equal length, none shorter than asked.

    Parameters
    ----------
    n_rows : int
        Rows of the run.
    block_trs : int
        Smallest length of a block, if the run is that long.

    Returns
    -------
    block : int array of shape (n_rows,)
    """
    n_blocks = max(1, n_rows // block_trs)
    return np.arange(n_rows) * n_blocks // n_rows


def block_permutations(run_lengths, block_trs, n_permutations, rng):
    """Orders of rows that move blocks within their run.

    Every run is rotated by a random number of rows, cut into blocks, and its blocks are put into a
    random order.

    Parameters
    ----------
    run_lengths : sequence of int
        Rows of each run.
    block_trs : int
        Smallest length of a block in rows.
    n_permutations : int
        How many.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    order : int32 array of shape (n_permutations, n_rows)
    """
    orders, begin = [], 0
    for n in run_lengths:
        block = block_numbers(n, block_trs)
        rank = rng.permuted(np.tile(np.arange(block[-1] + 1), (n_permutations, 1)), axis=1)
        order = np.argsort(rank[:, block], axis=1, kind="stable")
        shift = rng.integers(n, size=(n_permutations, 1))
        orders.append(((order + shift) % n + begin).astype(np.int32))
        begin += n
    return np.concatenate(orders, axis=1)


@dataclass(frozen=True)
class Chance:
    """What block permutations say about correlations.

    Attributes
    ----------
    p : float64 array of shape (n_targets,)
        One-sided p-value of each target.
    p_max : float64 array of shape (n_targets,)
        The same against the largest r of all targets: familywise error control.
    chance_95 : float64 array of shape (n_targets,)
        95th percentile of each target's r under chance.
    p_mean, chance_95_mean, chance_95_max : float
        For the mean and the maximum over targets.
    """

    p: np.ndarray
    p_max: np.ndarray
    chance_95: np.ndarray
    p_mean: float
    chance_95_mean: float
    chance_95_max: float


def chance_of(r, null):
    """P-values and chance levels from correlations under permutation.

    Parameters
    ----------
    r : float64 array of shape (n_targets,)
        Observed; NaN for targets that are not scored.
    null : float32 array of shape (n_permutations, n_targets)
        Under permutation, the same order for all targets: this keeps their covariance, which makes
        the maximum statistic valid.

    Returns
    -------
    chance : Chance
    """
    n_permutations = len(null)
    kept = np.flatnonzero(np.isfinite(r))
    nan = np.full(len(r), np.nan)
    p, p_max, chance_95 = nan.copy(), nan.copy(), nan.copy()
    if not n_permutations or not len(kept):
        return Chance(p, p_max, chance_95, np.nan, np.nan, np.nan)
    largest = np.full(n_permutations, -np.inf)
    total = np.zeros(n_permutations)
    for begin in range(0, len(kept), CHUNK_TARGETS):
        chunk = kept[begin : begin + CHUNK_TARGETS]
        # what has no correlation counts against the observed one, never for it
        part = np.where(np.isnan(null[:, chunk]), np.inf, null[:, chunk])
        p[chunk] = (1 + (part >= r[chunk] - TOLERANCE).sum(axis=0)) / (1 + n_permutations)
        with np.errstate(invalid="ignore"):
            chance_95[chunk] = np.quantile(part, 0.95, axis=0)
        largest = np.maximum(largest, part.max(axis=1))
        total += part.sum(axis=1, dtype=float)
    mean = total / len(kept)
    with np.errstate(invalid="ignore"):
        chance_95_mean, chance_95_max = (float(np.quantile(a, 0.95)) for a in (mean, largest))
    exceed = n_permutations - np.searchsorted(np.sort(largest), r[kept] - TOLERANCE)
    p_max[kept] = (1 + exceed) / (1 + n_permutations)
    return Chance(
        p=p,
        p_max=p_max,
        chance_95=chance_95,
        p_mean=(1 + (mean >= r[kept].mean() - TOLERANCE).sum()) / (1 + n_permutations),
        chance_95_mean=chance_95_mean,
        chance_95_max=chance_95_max,
    )


def moved_null(predicted, measured, order):
    """Pearson r when finished predictions are moved against the responses.

    Right for predictions of one model on data that it has not seen. For predictions pooled over
    folds of a cross-validation use `cobe.encoding.permute.RefitNull`: folds share data, which
    this null does not know, and the maximum statistic then finds something in noise too often.

    Parameters
    ----------
    predicted, measured : arrays of shape (n_rows, n_targets)
        Centred within runs.
    order : int32 array of shape (n_permutations, n_rows)
        From `block_permutations`.

    Returns
    -------
    null : float32 array of shape (n_permutations, n_targets)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        p = predicted / np.linalg.norm(predicted, axis=0)
        y = measured / np.linalg.norm(measured, axis=0)
    order = torch.from_numpy(order)
    null = torch.empty(len(order), p.shape[1])
    width = max(1, CHUNK_BYTES // (4 * len(p)))
    for begin in range(0, p.shape[1], width):
        chunk = slice(begin, begin + width)
        pc, yc = (torch.from_numpy(np.ascontiguousarray(a[:, chunk], np.float32)) for a in (p, y))
        moved, ones = torch.empty_like(pc), torch.ones(1, len(pc))
        for i, rows in enumerate(order):
            torch.index_select(pc, 0, rows, out=moved)
            null[i, chunk] = torch.mm(ones, moved.mul_(yc))[0]
    return null.numpy()


@dataclass(frozen=True)
class Comparison:
    """Two models over the same units.

    Attributes
    ----------
    difference : float
        Mean of first minus second.
    p : float
        Two-sided sign-flip p-value.
    ci_low, ci_high : float
        Bootstrap interval of the mean difference over units.
    n_units : int
        Pairs.
    smallest_p : float
        What p could be at best with so many units.
    exact : bool
        Whether all sign flips were tried.
    """

    difference: float
    p: float
    ci_low: float
    ci_high: float
    n_units: int
    smallest_p: float
    exact: bool


def paired_comparison(
    first, second, *, n_permutations=10_000, n_bootstrap=10_000, confidence=0.95, seed=0
):
    """Compare two models that were scored on the same (subject, session) units.

    The units are taken as exchangeable under the null hypothesis: the sign of each difference is
    flipped on its own, all ways if there are no more than `n_permutations`. Sessions of few
    subjects generalise to sessions of these subjects, not to other people. The interval is one of
    expanded percentiles (`cobe.encoding.intervals.expanded_ends`).

    Parameters
    ----------
    first, second : arrays or Series of shape (n_units,)
        Score of each unit, such as mean r over targets. Series are matched by their index.
    n_permutations, n_bootstrap : int
        Sign flips if there are more ways than these; resamples of units.
    confidence : float
        Coverage that the interval aims at.
    seed : int
        Seed of flips and resamples.

    Returns
    -------
    comparison : Comparison

    Raises
    ------
    CobeError
        The units differ, are fewer than two, or have a score that is not finite.
    """
    if isinstance(first, pd.Series) and isinstance(second, pd.Series):
        if not first.index.is_unique or set(first.index) != set(second.index):
            raise CobeError(
                "paired comparison: the units of the models differ; score both on the same"
            )
        second = second.reindex(first.index)
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise CobeError(
            f"paired comparison: {a.shape} and {b.shape} scores; give two or more units, both "
            "models"
        )
    d = a - b
    if not np.isfinite(d).all():
        raise CobeError(
            f"paired comparison: {int((~np.isfinite(d)).sum())} units are not finite; leave "
            "them out "
            "of both models"
        )
    n = len(d)
    exact = n < 63 and 2**n <= n_permutations
    if exact:
        null = np.array(list(product((1, -1), repeat=n))) @ d / n
        p = (np.abs(null) >= abs(d.mean()) - 1e-12).mean()
    else:
        rng = rng_for(seed, "signs")
        null = rng.choice((-1.0, 1.0), size=(n_permutations, n)) @ d / n
        p = (1 + (np.abs(null) >= abs(d.mean()) - 1e-12).sum()) / (1 + n_permutations)
    drawn = rng_for(seed, "units").integers(n, size=(n_bootstrap, n))
    low, high = np.quantile(d[drawn].mean(axis=1), expanded_ends(n, confidence))
    smallest = 2 / 2**n if exact else 1 / (1 + n_permutations)
    return Comparison(float(d.mean()), float(p), float(low), float(high), n, smallest, exact)


def fewest_findable(n_parcels, n_permutations, q=0.05):
    """Parcels that must all reach the smallest possible p before the FDR finds any of them.

    The smallest p-value of B permutations is 1 / (1 + B); k parcels that reach it have the
    Benjamini-Hochberg q-value n_parcels / (k (1 + B)).

    Parameters
    ----------
    n_parcels, n_permutations : int
    q : float
        False discovery rate.

    Returns
    -------
    k : int
        1 if a single parcel can be found.
    """
    return math.ceil(n_parcels / (q * (1 + n_permutations)) - 1e-9)
