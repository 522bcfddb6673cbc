"""Intervals from resampling few units, such as blocks of volumes or recordings."""

import numpy as np
from scipy.stats import norm, t

from cobe.core.seeds import rng_for


def expanded_ends(n_units, confidence=0.95):
    """Quantiles of a bootstrap distribution that bound an interval of so many units.

    The plain percentile interval takes the spread of few units for the true one, and has no heavy
    tails: with 12 units it covers 91 % in place of 95 %. The expanded percentile interval [1]_
    takes quantiles further out, so that for a mean it is as wide as Student's.

    Parameters
    ----------
    n_units : int
        What is drawn with replacement: 2 or more (with 1, the whole distribution).
    confidence : float
        Coverage that is aimed at.

    Returns
    -------
    ends : float64 array of shape (2,)
        Between 0 and 1.

    References
    ----------
    .. [1] Hesterberg 2015, doi 10.1080/00031305.2015.1089789, section 5.3.
    """
    if n_units < 2:
        return np.array([0.0, 1.0])
    student = t.ppf((1 - confidence) / 2, n_units - 1)
    tail = norm.cdf(student * np.sqrt(n_units / (n_units - 1)))
    return np.array([tail, 1 - tail])


def bootstrap_r(predicted, measured, units, n_bootstrap, seed=0, confidence=0.95):
    """Interval of Pearson r from resampling units of rows with replacement.

    Expanded percentiles (`expanded_ends`), since units are few.

    Parameters
    ----------
    predicted, measured : arrays of shape (n_rows, n_targets)
        Centred within runs.
    units : int array of shape (n_rows,)
        Rows of one number are drawn together: a block of a run, or a session.
    n_bootstrap : int
        Resamples; 0 gives NaN.
    seed : int
        Seed of the resamples.
    confidence : float
        Coverage that is aimed at.

    Returns
    -------
    low, high : float64 arrays of shape (n_targets,)
    mean : tuple of float
        Interval of the mean over targets that have an r.
    """
    labels, number = np.unique(units, return_inverse=True)
    n_targets = predicted.shape[1]
    nan = np.full(n_targets, np.nan)
    if n_bootstrap == 0:
        return nan, nan.copy(), (np.nan, np.nan)
    rng = rng_for(seed, "bootstrap")
    counts = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=n_bootstrap)
    begin = np.flatnonzero(np.r_[True, np.diff(number) != 0])
    if len(begin) != len(labels):
        order = np.argsort(number, kind="stable")
        predicted, measured, number = predicted[order], measured[order], number[order]
        begin = np.flatnonzero(np.r_[True, np.diff(number) != 0])
    ends = expanded_ends(len(labels), confidence)
    low, high = nan.copy(), nan.copy()
    total, used = np.zeros(n_bootstrap), 0
    for first in range(0, n_targets, 4096):
        chunk = slice(first, first + 4096)
        p, y = predicted[:, chunk], measured[:, chunk]
        py, pp, yy = (counts @ np.add.reduceat(a, begin, axis=0) for a in (p * y, p * p, y * y))
        with np.errstate(divide="ignore", invalid="ignore"):
            r = py / np.sqrt(pp * yy)
        low[chunk], high[chunk] = np.quantile(r, ends, axis=0)
        there = np.isfinite(r).all(axis=0)
        total += r[:, there].sum(axis=1)
        used += there.sum()
    mean = tuple(np.quantile(total / used, ends)) if used else (np.nan, np.nan)
    return low, high, mean
