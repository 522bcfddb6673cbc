"""Brains whose truth is known: BOLD related to nothing on screen, and BOLD with planted drives."""

import numpy as np
from scipy.signal import lfilter

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for

MIN_ROWS = 16  # below, there are too few frequencies to draw phases for


def null_bold(runs_y, seed):
    """BOLD as slow and as correlated between parcels as the given one, and related to nothing.

    Every frequency of a run gets a random phase [1]_, the same for all its targets [2]_. Each
    target's mean and power spectrum, and with it its circular autocorrelation, are kept exactly, as
    are the correlations between targets at every lag; when something happened is lost. As the
    transform takes a run for periodic, a series whose ends differ much gains some high frequencies.
    Where the BOLD does follow the features, its spectrum has their peaks by more than chance, and
    correlations with them scatter a little wider than those of a brain that never saw them.

    Parameters
    ----------
    runs_y : list of arrays of shape (n_trs, n_targets)
        Responses, recorded or simulated. Rows that are NaN in all targets may begin or end a run,
        and targets may be NaN throughout a run; both stay so, and the others are made without them.
    seed : int
        Seed of the phases.

    Returns
    -------
    runs : list of float arrays of shape (n_trs, n_targets)
        In the unit of `runs_y`. float32 stays float32.

    Raises
    ------
    CobeError
        A run has a gap or scattered missing values, infinite values, or too few rows.

    References
    ----------
    .. [1] Theiler et al. (1992), Testing for nonlinearity in time series: the method of surrogate
       data, Physica D 58.
    .. [2] Prichard and Theiler (1994), Generating surrogate data for time series with several
       simultaneously measured variables, Phys. Rev. Lett. 73.
    """
    runs = []
    for number, y in enumerate(runs_y):
        y = _one_run(y, number)
        rows, columns = _whole(y, number)
        surrogate = np.full(y.shape, np.nan, y.dtype)
        rng = rng_for(seed, "surrogate phases", number)
        surrogate[rows, columns] = _random_phases(y[rows, columns].astype(float), rng)
        runs.append(surrogate)
    return runs


def _one_run(y, number):
    y = np.asarray(y)
    if y.ndim != 2:
        raise CobeError(f"responses of run {number}: shape {y.shape}; give (n_trs, n_targets)")
    if np.isinf(y).any():
        raise CobeError(f"responses of run {number}: infinite values; mark them NaN or mend them")
    return y if np.issubdtype(y.dtype, np.floating) else y.astype(float)


def _whole(y, number):
    """The rows (a slice) and columns (a mask) of a run that are there without a gap."""
    missing = np.isnan(y)
    columns = ~missing.all(axis=0)
    there = np.flatnonzero(~missing[:, columns].all(axis=1)) if columns.any() else []
    if len(there) < MIN_ROWS:
        raise CobeError(
            f"responses of run {number}: {len(there)} volumes; phases need {MIN_ROWS} or more, "
            "leave the run out"
        )
    rows = slice(there[0], there[-1] + 1)
    holes = missing[rows][:, columns].any(axis=1)
    if holes.any():
        raise CobeError(
            f"responses of run {number}: {int(holes.sum())} volumes inside the run are missing "
            f"(first: {there[0] + int(np.argmax(holes))}) in some or all targets; phases need a "
            "whole series, leave the run out"
        )
    return rows, columns


def _random_phases(y, rng):
    spectrum = np.fft.rfft(y, axis=0)
    turn = np.exp(2j * np.pi * rng.random((len(spectrum), 1)))
    turn[0] = 1  # the mean
    if len(y) % 2 == 0:
        turn[-1] = rng.choice([-1, 1])  # the highest frequency of an even length is real
    return np.fft.irfft(spectrum * turn, n=len(y), axis=0)


def planted_bold(runs_x, shares, runs_y, *, hrf, seed):
    """BOLD of which named feature sets drive stated shares of the variance.

    Every target's drive by a set is a random direction in the set's columns, each brought to unit
    variance, through the response function. The rest is `null_bold` of `runs_y`: noise as slow as
    BOLD. Drives and noise have unit variance within runs before they are weighted by the square
    roots of their shares. Slow series correlate by chance, and sets may correlate by nature: the
    variance of the sum is then not exactly one, and a share is that of the sum of the parts.

    Parameters
    ----------
    runs_x : dict of str to list of arrays of shape (n_trs, n_features)
        Feature sets at the volumes' rate, NaN rows where missing.
    shares : dict of str to float
        Share of variance of each set; 0 plants nothing. What they leave is noise.
    runs_y : list of arrays of shape (n_trs, n_targets)
        Responses that noise is made of; their number of targets is that of the result.
    hrf : HRF
        Response function (`cobe.encoding.HRF`).
    seed : int
        Seed of directions and noise.

    Returns
    -------
    runs : list of float64 arrays of shape (n_trs, n_targets)
        Planted BOLD, in standard deviations; NaN rows where any set has no drive.
    drives : dict of str to list of float64 arrays of shape (n_trs, n_targets)
        Noiseless response to each set, of unit variance. No model of a set that is unrelated to
        the others can on average correlate better with `runs` than this; related sets predict each
        other's parts as well.

    Raises
    ------
    CobeError
        Names differ, shares are negative or exceed one, runs do not match, a set never changes, or
        no volume is left in a run.
    """
    _check_planted(runs_x, shares, runs_y)
    n_targets = np.shape(runs_y[0])[1]
    noise = null_bold(runs_y, seed)
    drives = {
        name: _drive(name, runs, n_targets, hrf, rng_for(seed, "planted directions", name))
        for name, runs in runs_x.items()
    }
    here = []
    for number, parts in enumerate(zip(noise, *drives.values(), strict=True)):
        here.append(~np.any([np.isnan(part).all(axis=1) for part in parts], axis=0))
        if not here[-1].any():
            raise CobeError(
                f"run {number}: no volume has the past of all features that the response function "
                "looks at; leave the run out, or shorten its span_s"
            )
    drives = {name: _unit(runs, here) for name, runs in drives.items()}
    noise = _unit(noise, here)
    left = np.sqrt(max(0.0, 1 - sum(shares.values())))
    runs = [
        left * e + sum(np.sqrt(shares[name]) * drives[name][k] for name in drives)
        for k, e in enumerate(noise)
    ]
    return runs, drives


def _check_planted(runs_x, shares, runs_y):
    if not runs_x or set(runs_x) != set(shares):
        raise CobeError(
            f"shares: of {', '.join(shares) or 'nothing'}, features of "
            f"{', '.join(runs_x) or 'nothing'}; give one share per feature set"
        )
    total = sum(shares.values())
    if not all(share >= 0 for share in shares.values()) or not total <= 1 + 1e-9:
        raise CobeError(f"shares: {dict(shares)}; none below 0, and together no more than 1")
    lengths = [len(y) for y in runs_y]
    for name, runs in runs_x.items():
        if [len(x) for x in runs] != lengths:
            raise CobeError(
                f"feature set {name}: runs of {', '.join(str(len(x)) for x in runs)} volumes, "
                f"responses of {', '.join(map(str, lengths))}; give the same runs"
            )


def _drive(name, runs, n_targets, hrf, rng):
    rows = [~np.isnan(x).any(axis=1) for x in runs]
    empty = [number for number, kept in enumerate(rows) if not kept.any()]
    if empty:
        raise CobeError(f"feature set {name}: no volume in run {empty[0]}; leave the run out")
    scaled = _unit(runs, rows)
    if not any(np.abs(x[kept]).any() for x, kept in zip(scaled, rows, strict=True)):
        raise CobeError(f"feature set {name}: its columns never change; leave it out")
    weights = rng.standard_normal((scaled[0].shape[1], n_targets))
    return [hrf.convolve(x) @ weights for x in scaled]


def _unit(runs, rows):
    """Columns centred within runs, of unit variance over all; NaN elsewhere, 0 if constant."""
    centred = []
    for x, kept in zip(runs, rows, strict=True):
        part = np.full(np.shape(x), np.nan)
        part[kept] = np.asarray(x, float)[kept]
        centred.append(part - part[kept].mean(axis=0))
    together = np.concatenate([x[kept] for x, kept in zip(centred, rows, strict=True)])
    sd = np.sqrt((together**2).mean(axis=0))
    still = sd <= 1e-12 * np.maximum(1, np.abs(together).max(axis=0, initial=0))
    return [x / np.where(still, 1, sd) for x in centred]


def slow_noise(rng, n_rows, n_columns, lag_one):
    """Autoregressive noise of unit variance, from its stationary distribution.

    Parameters
    ----------
    rng : numpy.random.Generator
    n_rows, n_columns : int
    lag_one : float
        Correlation of a row with the one before, between -1 and 1.

    Returns
    -------
    noise : float64 array of shape (n_rows, n_columns)

    Raises
    ------
    CobeError
        No stationary noise has such a correlation.
    """
    if not -1 < lag_one < 1:
        raise CobeError(f"lag_one: {lag_one}; give a correlation between -1 and 1")
    noise = rng.standard_normal((n_rows, n_columns)) * np.sqrt(1 - lag_one**2)
    noise[0] /= np.sqrt(1 - lag_one**2)
    return lfilter([1], [1, -lag_one], noise, axis=0)


def lag_one(runs):
    """How slow series are: correlation of a row with the one before, mean over columns.

    Parameters
    ----------
    runs : list of arrays of shape (n_trs, n_columns)
        NaN rows where missing; only neighbouring rows that are both there count.

    Returns
    -------
    r : float
        Within runs; columns that never change are left out, NaN if there is no other.
    """
    before, after = [], []
    for x in runs:
        x = np.asarray(x, float)
        here = ~np.isnan(x).any(axis=1)
        x = x - x[here].mean(axis=0)
        pairs = np.flatnonzero(here[:-1] & here[1:])
        before.append(x[pairs])
        after.append(x[pairs + 1])
    before, after = np.concatenate(before), np.concatenate(after)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (before * after).sum(axis=0)
        r /= np.sqrt((before**2).sum(axis=0) * (after**2).sum(axis=0))
    r = r[np.isfinite(r)]
    return float(r.mean()) if len(r) else float("nan")
