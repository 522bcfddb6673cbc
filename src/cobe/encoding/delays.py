"""Finite impulse response delays, built inside one run and never across a gap."""

import numpy as np

from cobe.core.errors import CobeError


def check_delays(delays_tr) -> tuple[int, ...]:
    """The delays as a tuple of distinct, non-negative integers.

    Raises
    ------
    CobeError
        There is no delay, or one is not an integer, negative, or given twice.
    """
    delays = np.atleast_1d(np.asarray(delays_tr))
    if delays.ndim != 1 or not delays.size or not np.issubdtype(delays.dtype, np.number):
        raise CobeError(
            f"delays_tr: {delays_tr!r}; give a list of integers such as (1, 2, 3, 4, 5)"
        )
    if (delays != np.round(delays)).any():
        raise CobeError(f"delays_tr: {list(delays)} are not whole volumes; give integers")
    if (delays < 0).any():
        raise CobeError(
            f"delays_tr: {int(delays.min())} is negative; positive means that the brain answers "
            "later"
        )
    if len(set(delays.tolist())) < len(delays):
        raise CobeError(f"delays_tr: {list(delays)} holds a delay twice; give each once")
    return tuple(int(d) for d in delays)


def delayed_rows(present, delays_tr):
    """Rows whose delayed rows are all there.

    Parameters
    ----------
    present : bool array of shape (n_trs,)
        Volumes of one run that have features.
    delays_tr : sequence of int
        Delays in volumes.

    Returns
    -------
    rows : int array of shape (n_rows,)
        Volumes ``t`` with ``present[t - d]`` for every delay ``d``.
    """
    kept = np.ones(len(present), bool)
    for delay in delays_tr:
        kept[:delay] = False
        kept[delay:] &= present[: len(present) - delay]
    return np.flatnonzero(kept)


def stack_delays(x, delays_tr):
    """Features of earlier volumes side by side: row ``t`` holds ``x[t - d]`` for each delay ``d``.

    Give one run at a time: the first volumes of a run have no past and become NaN rows, they never
    see another run.

    Parameters
    ----------
    x : array of shape (n_trs, n_features)
        One run; NaN rows where there are no features.
    delays_tr : sequence of int
        Delays in volumes, 0 or more; the brain answers later.

    Returns
    -------
    stacked : float array of shape (n_trs, n_delays * n_features)
        All features at the first delay, then all at the second, and so on; NaN rows where any
        delayed row is missing. float32 stays float32.

    Raises
    ------
    CobeError
        `x` is not a matrix, a delay is not valid, or a delay is as long as the run.
    """
    x = np.asarray(x)
    delays = check_delays(delays_tr)
    if x.ndim != 2:
        raise CobeError(f"features: {x.ndim} dimensions; give one run (n_trs, n_features)")
    if max(delays) >= len(x):
        raise CobeError(
            f"delays_tr: delay {max(delays)} does not fit a run of {len(x)} volumes; "
            "leave the run out or shorten the delays"
        )
    rows = delayed_rows(~np.isnan(x).any(axis=1), delays)
    dtype = x.dtype if np.issubdtype(x.dtype, np.floating) else np.float64
    stacked = np.full((len(x), len(delays) * x.shape[1]), np.nan, dtype)
    for i, delay in enumerate(delays):
        stacked[rows, i * x.shape[1] : (i + 1) * x.shape[1]] = x[rows - delay]
    return stacked
