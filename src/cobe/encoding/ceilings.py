"""How well a perfect model could predict: for data that allow it, and never as a divisor.

Gameplay has no repeats. Nobody plays the same seconds twice, and every participant makes a stimulus
of their own, so neither repeats nor other participants can say how much of a recording follows from
the game. Scores are therefore reported as they are. These functions serve data where a ceiling is
known or can be measured; what they return is not clipped, so that a value outside 0 ... 1 shows
that it was not measured well.
"""

from itertools import combinations, islice

import numpy as np

from cobe.core.errors import CobeError
from cobe.encoding.stats import centre_in_segments

MAX_SPLITS = 1000


def planted_ceiling(runs_signal, runs_y):
    """Correlation of the planted, noiseless response with the measured one: simulated data only.

    No model can on average correlate better on new data than the signal itself does. On the rows
    given the noise is what it happened to be, so a single model may exceed the ceiling by chance,
    and the ceiling of a target where nothing is planted is NaN.

    Conditions: the noise was added to the signal, independently of the features; rows and centring
    are those of the scores that the ceiling is shown beside.

    Parameters
    ----------
    runs_signal : list of arrays of shape (n_trs, n_targets)
        Noiseless responses, in any unit per target.
    runs_y : list of arrays of shape (n_trs, n_targets)
        The same with noise, as they were analysed; NaN rows are left out.

    Returns
    -------
    r : float64 array of shape (n_targets,)
        Over all rows, centred within runs. Its square is the ceiling of R2.

    Raises
    ------
    CobeError
        The runs do not match, or hold fewer than two rows.
    """
    if len(runs_signal) != len(runs_y) or not len(runs_y):
        raise CobeError(
            f"runs: {len(runs_signal)} of signal and {len(runs_y)} of responses; give both per run"
        )
    parts, run_of = [], []
    for run, (signal, y) in enumerate(zip(runs_signal, runs_y, strict=True)):
        if np.shape(signal) != np.shape(y) or np.ndim(y) != 2:
            raise CobeError(
                f"run {run}: signal {np.shape(signal)} and responses {np.shape(y)}; "
                "give both (n_trs, n_targets)"
            )
        kept = ~(np.isnan(signal).any(axis=1) | np.isnan(y).any(axis=1))
        if kept.sum() < 2:
            raise CobeError(f"run {run}: {int(kept.sum())} rows without NaN; leave the run out")
        parts.append((np.asarray(signal)[kept], np.asarray(y)[kept]))
        run_of += [run] * int(kept.sum())
    signal, y = (
        centre_in_segments(np.concatenate(a), np.array(run_of)) for a in zip(*parts, strict=True)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return (signal * y).sum(axis=0) / np.sqrt((signal**2).sum(axis=0) * (y**2).sum(axis=0))


def explainable_variance(repeats):
    """Share of the variance of one recording that repeats in the others.

    The signal power of Sahani and Linden 2003 (NIPS 15) over the total power, which is also the
    explainable variance of Hsu et al. 2004 (doi 10.1088/0954-898X/15/2/002), corrected for the
    number of repeats:
    ``(n var(mean over repeats) - mean(var of a repeat)) / ((n - 1) mean(var of a repeat))``.

    Conditions: the very same stimulus was shown several times, its response is the same every time
    (no learning, no fatigue), and noise is independent between repeats. The square root is the
    largest r that a model can reach on average against a single repeat.

    Parameters
    ----------
    repeats : array of shape (n_repeats, n_trs, n_targets)
        Responses to the same stimulus; no NaN.

    Returns
    -------
    share : float64 array of shape (n_targets,)
        Unclipped: below 0 where the estimate is; NaN for a target that never changes.

    Raises
    ------
    CobeError
        There are no repeats, or a value is not finite.
    """
    repeats = _check(repeats)
    n = len(repeats)
    single = repeats.var(axis=1, ddof=1).mean(axis=0)
    together = repeats.mean(axis=0).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (n * together - single) / ((n - 1) * single)


def split_half_reliability(repeats, spearman_brown=True):
    """Correlation of the means of two halves of the repeats, averaged over ways to split.

    All ways are tried, and the first thousand of them with very many repeats. Spearman and Brown's
    formula brings it to the mean of all repeats: it is the squared correlation of that mean with
    the response without noise, an upper bound of R2 against the mean.

    Conditions: as for `explainable_variance`, and an even number of repeats.

    Parameters
    ----------
    repeats : array of shape (n_repeats, n_trs, n_targets)
        Responses to the same stimulus; no NaN.
    spearman_brown : bool
        Whether to correct for the halved number of repeats.

    Returns
    -------
    reliability : float64 array of shape (n_targets,)
        Unclipped; NaN for a target that never changes.

    Raises
    ------
    CobeError
        There are no repeats, their number is odd, or a value is not finite.
    """
    repeats = _check(repeats)
    n = len(repeats)
    if n % 2:
        raise CobeError(f"repeats: {n} cannot be halved; leave one out")
    # the first repeat is always in the first half, so that no split comes twice
    halves = [(0, *more) for more in islice(combinations(range(1, n), n // 2 - 1), MAX_SPLITS)]
    total = 0
    for half in halves:
        rest = [k for k in range(n) if k not in half]
        a, b = (repeats[list(part)].mean(axis=0) for part in (half, rest))
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            total = total + (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    r = total / len(halves)
    return 2 * r / (1 + r) if spearman_brown else r


def _check(repeats):
    repeats = np.asarray(repeats, float)
    if repeats.ndim != 3:
        raise CobeError(
            f"repeats: shape {repeats.shape}; give (n_repeats, n_trs, n_targets) of one stimulus"
        )
    if len(repeats) < 2:
        raise CobeError(
            f"repeats: {len(repeats)} recording of the stimulus has no ceiling to measure, and "
            "gameplay never repeats; report scores as they are"
        )
    if repeats.shape[1] < 2 or not np.isfinite(repeats).all():
        raise CobeError(
            "repeats: give two or more volumes, all finite; leave out volumes that a repeat lacks"
        )
    return repeats
