"""From clips to volumes: features on the clips' own clock become one row per fMRI volume."""

import numpy as np
from scipy import sparse

from cobe.core.errors import CobeError

MIN_COVERAGE = 0.5


def clips_to_trs(features, start_s, end_s, n_trs, tr_s):
    """Overlap-weighted mean of the clips that lie inside each volume.

    Volume ``k`` covers ``[k * tr_s, (k + 1) * tr_s)``. A clip counts with the seconds that it
    shares with the volume, so nothing is interpolated, and nothing outside a volume's own time
    reaches it. Parts of a clip before 0 or after the last volume fall into no volume.

    Parameters
    ----------
    features : array of shape (n_clips, n_features)
        One row per clip of one run, in any order; finite.
    start_s, end_s : arrays of shape (n_clips,)
        Begin and end of each clip, in seconds from the start of the run's first volume.
    n_trs : int
        Volumes of the run.
    tr_s : float
        Repetition time in seconds.

    Returns
    -------
    rows : float32 array of shape (n_trs, n_features)
        NaN rows where clips cover less than half of the volume.

    Raises
    ------
    CobeError
        Shapes do not match, a value is not finite, or a clip ends before it starts.
    """
    features = np.asarray(features)
    start_s, end_s = np.asarray(start_s, float), np.asarray(end_s, float)
    _check(features, start_s, end_s, n_trs, tr_s)
    overlap = _overlap(start_s, end_s, n_trs, tr_s)
    weight = np.asarray(overlap.sum(axis=1)).ravel()
    covered = _covered(start_s, end_s, n_trs, tr_s) >= MIN_COVERAGE - 1e-9
    rows = np.full((n_trs, features.shape[1]), np.nan, np.float32)
    means = overlap @ features.astype(np.float64)
    rows[covered] = means[covered] / weight[covered, None]
    return rows


def coverage(start_s, end_s, n_trs, tr_s):
    """Fraction of each volume that the clips cover, counted once where clips overlap.

    Parameters
    ----------
    start_s, end_s : arrays of shape (n_clips,)
        Begin and end of each clip in seconds.
    n_trs : int
        Volumes of the run.
    tr_s : float
        Repetition time in seconds.

    Returns
    -------
    fraction : float64 array of shape (n_trs,)
        Between 0 and 1.

    Raises
    ------
    CobeError
        As for `clips_to_trs`.
    """
    start_s, end_s = np.asarray(start_s, float), np.asarray(end_s, float)
    _check(np.zeros((len(start_s), 1)), start_s, end_s, n_trs, tr_s)
    return _covered(start_s, end_s, n_trs, tr_s)


def _check(features, start_s, end_s, n_trs, tr_s):
    if features.ndim != 2:
        raise CobeError(
            f"clip features: {features.ndim} dimensions; give an array (n_clips, n_features)"
        )
    if not len(features) == start_s.size == end_s.size or start_s.ndim != 1 or end_s.ndim != 1:
        raise CobeError(
            f"clip times: {start_s.size} starts and {end_s.size} ends for {len(features)} clips; "
            "give one of each per clip"
        )
    if not (tr_s > 0 and n_trs > 0):
        raise CobeError(f"volumes: {n_trs} volumes of {tr_s} s; both must be positive")
    if not (np.isfinite(start_s).all() and np.isfinite(end_s).all()):
        raise CobeError("clip times: a time is not finite; leave such clips out")
    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features)).any(axis=1).sum())
        raise CobeError(f"clip features: {bad} clips are not finite; leave such clips out")
    if (end_s <= start_s).any():
        clip = int(np.flatnonzero(end_s <= start_s)[0])
        raise CobeError(f"clip {clip}: ends at {end_s[clip]} s, not after its start; correct it")


def _overlap(start_s, end_s, n_trs, tr_s):
    """Seconds that volume (row) and clip (column) share, sparse (n_trs, n_clips)."""
    first = np.floor(start_s / tr_s).astype(int)
    last = np.ceil(end_s / tr_s).astype(int)
    span = max(int((last - first).max(initial=1)), 1)
    volume = first[:, None] + np.arange(span)
    shared = np.minimum(end_s[:, None], (volume + 1) * tr_s)
    shared -= np.maximum(start_s[:, None], volume * tr_s)
    clip = np.broadcast_to(np.arange(len(start_s))[:, None], volume.shape)
    kept = (shared > 1e-9) & (volume >= 0) & (volume < n_trs)
    return sparse.csr_array(
        (shared[kept], (volume[kept], clip[kept])), shape=(n_trs, len(start_s)), dtype=float
    )


def _covered(start_s, end_s, n_trs, tr_s):
    order = np.argsort(start_s, kind="stable")
    reach = np.maximum.accumulate(end_s[order]) if len(order) else end_s
    # What earlier clips already cover is cut off, so that a second of overlap counts once.
    begin = np.maximum(start_s[order], np.concatenate([[-np.inf], reach[:-1]])[: len(order)])
    new = begin < end_s[order]
    union = _overlap(begin[new], end_s[order][new], n_trs, tr_s)
    return np.asarray(union.sum(axis=1)).ravel() / tr_s
