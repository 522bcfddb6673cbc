"""Checked runs: the rows that count, with their delays, as tensors without a NaN in them."""

from dataclasses import dataclass

import numpy as np
import torch

from cobe.core.errors import CobeError
from cobe.encoding.delays import check_delays, delayed_rows


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
    n_runs = len(runs_x)
    if n_runs == 0 or len(runs_y) != n_runs:
        raise CobeError(
            f"runs: {n_runs} of features and {len(runs_y)} of responses; give both per run"
        )
    if len(groups) != n_runs:
        raise CobeError(f"groups: {len(groups)} labels for {n_runs} runs; give one per run")
    names = [f"run {i} (group {group!r})" for i, group in enumerate(groups)]
    for name, x, y in zip(names, runs_x, runs_y, strict=True):
        if np.ndim(x) != 2 or np.ndim(y) != 2:
            raise CobeError(f"{name}: shapes {np.shape(x)}, {np.shape(y)}; give (n_trs, n_columns)")
        for what, array, first in (("features", x, runs_x[0]), ("targets", y, runs_y[0])):
            if array.shape[1] != first.shape[1]:
                raise CobeError(
                    f"{name}: {array.shape[1]} {what}, but run 0 has {first.shape[1]}; "
                    f"give every run the same {what}"
                )
        if len(x) != len(y):
            raise CobeError(
                f"{name}: {len(x)} rows of features and {len(y)} of responses; give one per volume"
            )
        if max(delays) >= len(x):
            raise CobeError(
                f"{name}: delay {max(delays)} does not fit its {len(x)} volumes; "
                "leave the run out or shorten delays_tr"
            )
        for what, array in (("features", x), ("responses", y)):
            if np.isinf(array).any():
                raise CobeError(f"{name}: infinite {what}; mark those rows NaN or correct them")
    if len(set(groups)) < 2:
        raise CobeError(
            f"groups: only {groups[0]!r} in {n_runs} runs; give at least two, such as one per run"
        )
    absent = np.stack([np.isnan(y).all(axis=0) for y in runs_y])
    missing = absent.any(axis=0)
    rows = [
        _valid_rows(name, np.asarray(x), np.asarray(y), gone, delays)
        for name, x, y, gone in zip(names, runs_x, runs_y, absent, strict=True)
    ]
    return rows, missing


def _valid_rows(name, x, y, absent, delays):
    nans = np.isnan(y[:, ~absent])
    marked = nans.all(axis=1)
    partly = nans[~marked].any(axis=0)
    if partly.any():
        target = int(np.flatnonzero(~absent)[np.flatnonzero(partly)[0]])
        raise CobeError(
            f"{name}: {int(partly.sum())} targets (first: {target}) are NaN in rows where "
            "others are "
            "not; mark the whole row NaN, or the target in the whole run"
        )
    present = ~np.isnan(x).any(axis=1)
    rows = delayed_rows(present, delays)
    rows = rows[~marked[rows]]
    if len(rows) < 2:
        raise CobeError(
            f"{name}: {len(rows)} valid rows ({int((~present).sum())} of {len(x)} without "
            "features, "
            f"{int(marked.sum())} without responses, delays {delays}); leave the run out"
        )
    return rows


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
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise CobeError(f"dtype: {dtype} is not supported; give float32 or float64")
    delays = check_delays(delays_tr)
    rows, missing = check_runs(runs_x, runs_y, groups, delays)
    n_rows = sum(map(len, rows))
    x_mean = sum(
        np.concatenate([np.asarray(x)[r - d].sum(axis=0, dtype=float) for d in delays])
        for x, r in zip(runs_x, rows, strict=True)
    )
    y_mean = sum(
        np.asarray(y)[r].sum(axis=0, dtype=float) for y, r in zip(runs_y, rows, strict=True)
    )
    x_shift = (x_mean / n_rows).astype(dtype)
    y_shift = np.where(missing, 0, y_mean / n_rows).astype(dtype)
    xs, ys = [], []
    for x, y, r in zip(runs_x, runs_y, rows, strict=True):
        stacked = np.concatenate([np.asarray(x)[r - d] for d in delays], axis=1)
        xs.append(torch.from_numpy((stacked - x_shift).astype(dtype, copy=False)).to(device))
        shifted = (np.asarray(y)[r] - y_shift).astype(dtype, copy=False)
        shifted[:, missing] = 0
        ys.append(torch.from_numpy(shifted).to(device))
    shift = [torch.from_numpy(s).to(device) for s in (x_shift, y_shift)]
    return Design(xs, ys, rows, *shift, missing)
