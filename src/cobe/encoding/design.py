"""Checked runs: the rows that count, with their delays, as tensors without a NaN in them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from cobe.core.errors import CobeError
from cobe.encoding.delays import check_delays, delayed_rows
from cobe.encoding.folds import check_groups, run_names


@dataclass(frozen=True)
class Design:
    """Valid rows of every run, shifted by a common offset.

    Attributes
    ----------
    x : list of tensors of shape (n_rows, n_delays * n_features)
        Delayed features of each run, minus `x_shift`.
    y : list of tensors of shape (n_rows, n_targets)
        Responses of each run, minus `y_shift`; unusable targets are 0.
    rows : list of int arrays of shape (n_rows,)
        Which volumes of the run these are.
    x_shift, y_shift : tensors of shape (n_columns,), (n_targets,)
        Common offsets. Ridge with an intercept gives the same whatever they are: they only keep
        sums of squares small, so that single precision is enough.
    missing : bool array of shape (n_targets,)
        Targets that are NaN throughout some run.
    """

    x: list
    y: list
    rows: list
    x_shift: torch.Tensor
    y_shift: torch.Tensor
    missing: np.ndarray


def check_alphas(alphas):
    """The ridge penalties in ascending order.

    Raises
    ------
    CobeError
        There is none, or one is not finite and positive.
    """
    alphas = np.atleast_1d(np.asarray(alphas, float))
    if alphas.ndim != 1 or not alphas.size:
        raise CobeError("alphas: none given; give a list of positive penalties")
    if not (np.isfinite(alphas) & (alphas > 0)).all():
        raise CobeError(
            f"alphas: {alphas.tolist()} must all be finite and positive; remove the rest"
        )
    return np.unique(alphas)


def check_runs(runs_x, runs_y, groups, delays_tr):
    """Check all that can be checked before long work, and find the rows that count.

    A row of `runs_y` counts unless it is NaN in every target that the run has. A row of `runs_x`
    counts if all its delayed rows are free of NaN.

    Returns
    -------
    rows : list of int arrays of shape (n_rows,)
        Volumes of each run that count.
    missing : bool array of shape (n_targets,)
        Targets that are NaN throughout some run.

    Raises
    ------
    CobeError
        Names the run and the remedy.
    """
    delays = check_delays(delays_tr)
    check_numbers(runs_x, runs_y)
    names = run_names(groups, len(runs_x))
    check_arrays(names, runs_x, runs_y, max(delays))
    if len(set(groups)) < 2:
        raise CobeError(
            f"groups: only {groups[0]!r} in {len(runs_x)} runs; give at least two, such as one per "
            "run"
        )
    return find_rows(names, [runs_x], runs_y, delays)[:2]


def check_numbers(runs_x, runs_y):
    """There are runs, and as many of features as of responses; otherwise CobeError."""
    if len(runs_x) == 0 or len(runs_y) != len(runs_x):
        raise CobeError(
            f"runs: {len(runs_x)} of features and {len(runs_y)} of responses; give both per run"
        )


def check_arrays(names, runs_x, runs_y, reach_trs, what_x="features"):
    """Check the shape of every run, and that nothing is infinite.

    Parameters
    ----------
    names : list of str
        What to call each run.
    runs_x, runs_y : lists of arrays
        Features and responses.
    reach_trs : int
        Volumes that the longest delay reaches back.
    what_x : str
        What to call the features.

    Raises
    ------
    CobeError
        Names the run and the remedy.
    """
    for name, x, y in zip(names, runs_x, runs_y, strict=True):
        if np.ndim(x) != 2 or np.ndim(y) != 2:
            raise CobeError(f"{name}: shapes {np.shape(x)}, {np.shape(y)}; give (n_trs, n_columns)")
        for what, array, first in ((what_x, x, runs_x[0]), ("targets", y, runs_y[0])):
            if np.shape(array)[1] != np.shape(first)[1]:
                raise CobeError(
                    f"{name}: {np.shape(array)[1]} {what}, but run 0 has {np.shape(first)[1]}; "
                    f"give every run the same {what}"
                )
            if not np.shape(array)[1]:
                raise CobeError(f"{name}: no {what}; give one column or more")
        if len(x) != len(y):
            raise CobeError(
                f"{name}: {len(x)} rows of {what_x} and {len(y)} of responses; give one per volume"
            )
        if reach_trs >= len(x):
            raise CobeError(
                f"{name}: delay {reach_trs} does not fit its {len(x)} volumes; "
                "leave the run out or shorten delays_tr"
            )
        for what, array in ((what_x, x), ("responses", y)):
            if np.isinf(array).any():
                raise CobeError(f"{name}: infinite {what}; mark those rows NaN or correct them")


def find_rows(names, readouts, runs_y, lags_tr, labels=None):
    """Rows of every run that count, and why the others do not.

    Parameters
    ----------
    names : list of str
        What to call each run.
    readouts : list of lists of arrays of shape (n_trs, n_features)
        One or more sets of features of the same runs; a row must be there in all of them.
    runs_y : list of arrays of shape (n_trs, n_targets)
        Responses.
    lags_tr : sequence of int
        How many volumes back a row looks.
    labels : list of object arrays of shape (n_trs,), or None
        None where a volume belongs to no fold.

    Returns
    -------
    rows : list of int arrays of shape (n_rows,)
        Volumes of each run that count.
    missing : bool array of shape (n_targets,)
        Targets that are NaN throughout some run.
    counts : list of dict of int
        For each run what `row_counts` tells.

    Raises
    ------
    CobeError
        A run has fewer than two rows, or targets are NaN in rows where others are not.
    """
    absent = np.stack([np.isnan(y).all(axis=0) for y in runs_y])
    rows, counts = [], []
    for run, (name, y) in enumerate(zip(names, runs_y, strict=True)):
        present = np.all([~np.isnan(xs[run]).any(axis=1) for xs in readouts], axis=0)
        marked = _marked(name, np.asarray(y), absent[run])
        labelled = np.ones(len(y), bool)
        if labels is not None:
            labelled = np.array([label is not None for label in labels[run]])
        whole = np.zeros(len(y), bool)
        whole[delayed_rows(present, lags_tr)] = True
        early = np.arange(len(y)) < max(lags_tr)
        used = labelled & ~marked & whole
        counts.append(
            {
                "n_trs": len(y),
                "n_without_features": int((~present).sum()),
                "n_without_responses": int(marked.sum()),
                "n_unlabelled": int((~marked & ~labelled).sum()),
                "n_before_run": int((~marked & labelled & ~whole & early).sum()),
                "n_into_gap": int((~marked & labelled & ~whole & ~early).sum()),
                "n_used": int(used.sum()),
            }
        )
        if used.sum() < 2:
            lags = tuple(int(lag) for lag in lags_tr)
            raise CobeError(
                f"{name}: {int(used.sum())} valid rows ({int((~present).sum())} of {len(y)} "
                f"without features, {int(marked.sum())} without responses, delays {lags}"
                f"{'' if labelled.all() else f', {int((~labelled).sum())} of no group'}); "
                "leave the run out"
            )
        rows.append(np.flatnonzero(used))
    return rows, absent.any(axis=0), counts


def row_counts(runs_x, runs_y, *, delays_tr, groups=None, hrf=None):
    """How many volumes of each run an analysis uses, and what becomes of the others.

    Parameters
    ----------
    runs_x, runs_y, delays_tr, groups, hrf
        As for `cobe.encoding.evaluate`; without `groups` every volume has a fold.

    Returns
    -------
    counts : DataFrame
        One row per run, all columns int: ``run``; ``n_trs``; ``n_without_features``, volumes whose
        own features are missing; then what every volume falls into, which sums to ``n_trs``:
        ``n_without_responses``; ``n_unlabelled``, of no group; ``n_before_run``, delays reach to
        before the run's first volume; ``n_into_gap``, delays reach into missing features;
        ``n_used``.

    Raises
    ------
    CobeError
        As `cobe.encoding.evaluate`.
    """
    readouts = list(runs_x.values()) if isinstance(runs_x, dict) else [runs_x]
    lags = lags_of(delays_tr, hrf)
    for xs in readouts:
        check_numbers(xs, runs_y)
    groups = list(range(len(runs_y))) if groups is None else groups
    names = run_names(groups, len(runs_y))
    for xs in readouts:
        check_arrays(names, xs, runs_y, max(lags))
    labels = check_groups(groups, [len(y) for y in runs_y]) if len(runs_y) > 1 else None
    counts = find_rows(names, readouts, runs_y, lags, labels)[2]
    return pd.DataFrame(counts).rename_axis("run").reset_index()


def lags_of(delays_tr, hrf=None):
    """How many volumes back a row looks, ascending: its delays, and the response function's."""
    delays = check_delays(delays_tr)
    if hrf is None:
        return delays
    return tuple(sorted({delay + lag for delay in delays for lag in range(hrf.n_lags)}))


def _marked(name, y, absent):
    """Rows without responses: bool (n_trs,)."""
    nans = np.isnan(y[:, ~absent] if absent.any() else y)
    marked = nans.all(axis=1)
    partly = nans[~marked].any(axis=0)
    if partly.any():
        target = int(np.flatnonzero(~absent)[np.flatnonzero(partly)[0]])
        raise CobeError(
            f"{name}: {int(partly.sum())} targets (first: {target}) are NaN in rows where "
            "others are not; mark the whole row NaN, or the target in the whole run"
        )
    return marked


def stack_rows(runs_x, rows, delays, dtype):
    """Delayed rows of all runs, one run after the other, minus their common mean.

    Parameters
    ----------
    runs_x : list of arrays of shape (n_trs, n_features)
        Whole where `rows` look.
    rows : list of int arrays of shape (n_rows,)
        Volumes of each run.
    delays : sequence of int
        Delays in volumes.
    dtype : numpy dtype
        float32 or float64.

    Returns
    -------
    stacked : array of shape (n_rows of all runs, n_delays * n_features)
    shift : array of shape (n_delays * n_features,)
        What was subtracted.
    """
    n_features, end = np.shape(runs_x[0])[1], 0
    shift = np.concatenate(
        [_mean(runs_x, [r - d for r in rows], dtype) for d in delays],
    )
    stacked = np.empty((sum(map(len, rows)), len(shift)), dtype)
    for x, r in zip(runs_x, rows, strict=True):
        begin, end = end, end + len(r)
        for k, d in enumerate(delays):
            here = slice(k * n_features, (k + 1) * n_features)
            stacked[begin:end, here] = _take(x, r - d) - shift[here]
    return stacked, shift


def _mean(runs, rows, dtype):
    """Mean over rows of all runs: float64 where a run is, since that is what must be taken off."""
    wide = np.result_type(dtype, *(np.asarray(run).dtype for run in runs))
    total = sum(_take(run, r).sum(axis=0, dtype=wide) for run, r in zip(runs, rows, strict=True))
    return (total / sum(map(len, rows))).astype(wide)


def _take(array, rows):
    """Rows of an array, without a copy where they follow each other."""
    array = np.asarray(array)
    if rows[-1] - rows[0] == len(rows) - 1:
        return array[rows[0] : rows[-1] + 1]
    return array[rows]


def centred_responses(runs_y, rows, missing, dtype):
    """Responses of all runs, one run after the other, minus their mean; 0 where unusable.

    Returns
    -------
    stacked : array of shape (n_rows of all runs, n_targets)
    shift : array of shape (n_targets,)
    """
    shift = np.where(missing, 0, _mean(runs_y, rows, dtype))
    stacked, end = np.empty((sum(map(len, rows)), len(missing)), dtype), 0
    for y, r in zip(runs_y, rows, strict=True):
        begin, end = end, end + len(r)
        stacked[begin:end] = _take(y, r) - shift
    stacked[:, missing] = 0
    return stacked, shift


def build_design(runs_x, runs_y, groups, delays_tr, dtype=np.float32, device="cpu"):
    """Check the runs and stack their valid rows.

    Parameters
    ----------
    runs_x, runs_y : lists of arrays of shape (n_trs, n_features), (n_trs, n_targets)
        NaN rows mark volumes that do not count.
    groups : sequence of hashable
        One label per run.
    delays_tr : sequence of int
        Delays in volumes.
    dtype : numpy dtype
        float32 or float64.
    device : str or torch.device
        Where the tensors live.

    Returns
    -------
    design : Design

    Raises
    ------
    CobeError
        See `check_runs`.
    """
    dtype = check_dtype(dtype)
    delays = check_delays(delays_tr)
    rows, missing = check_runs(runs_x, runs_y, groups, delays)
    x, x_shift = stack_rows(runs_x, rows, delays, dtype)
    y, y_shift = centred_responses(runs_y, rows, missing, dtype)
    x, y, *shift = (torch.from_numpy(a).to(device) for a in (x, y, x_shift, y_shift))
    lengths = [len(r) for r in rows]
    return Design(list(x.split(lengths)), list(y.split(lengths)), rows, *shift, missing)


def check_dtype(dtype):
    """float32 or float64 as a numpy dtype; otherwise CobeError."""
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise CobeError(f"dtype: {dtype} is not supported; give float32 or float64")
    return dtype
