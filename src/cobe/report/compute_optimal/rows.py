"""The grid's tables made ready to fit: checked, averaged over sessions, joined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cobe.core.errors import CobeError
from cobe.report.scaling import effective_data

DESIGN = ["hidden", "n_layers", "n_heads", "n_frames", "n_steps"]
LOSS_COLUMNS = (
    *["cell", *DESIGN, "kind", "slice_flop", "n_params", "n_windows", "tokens_per_window"],
    *["unique_tokens", "tokens_seen", "tokens_seen_best", "flop", "val_loss"],
)
SCORE_COLUMNS = ("cell", *DESIGN, "kind", "trained", "subject", "held_out", "scan_hours", "r")
FRAMES_PER_HOUR = 60 * 3600
SAME_COST = 1.01
MEAN = "mean"
SHARED = (
    "given these runs and this one draw of the video; noise that all models of a scan-time level "
    "or subset share is not in them"
)


@dataclass(frozen=True)
class Refused:
    """A fit that was not made, and why."""

    why: str

    def __str__(self):
        return f"not fitted: {self.why}"


def attempt(function, *args, **options):
    """Result of a fit, or a `Refused` that says why there is none.

    Parameters
    ----------
    function : callable
        Such as `cobe.report.scaling.fit_parametric`.
    *args, **options
        Its arguments; a `Refused` among them is handed on.

    Returns
    -------
    result : object or Refused
        A `Refused` where `function` raised a `CobeError`.
    """
    for given in (*args, *options.values()):
        if isinstance(given, Refused):
            return given
    try:
        return function(*args, **options)
    except CobeError as error:
        return Refused(str(error))


def words_of(result) -> str:
    """What a fit, its slices or a link says in words, or why there is none; one line each.

    The last line is what no interval here holds.
    """
    if isinstance(result, Refused):
        return str(result)
    said = result.statements if hasattr(result, "statements") else result.warnings
    return "\n".join([*said, f"intervals are {SHARED}"])


def loss_rows(losses: pd.DataFrame) -> pd.DataFrame:
    """The grid's models, one row each, with what their data are worth.

    Parameters
    ----------
    losses : pandas.DataFrame
        As `cobe.sweep.grid.grid_losses` returns them: val_loss in nats per token, n_params, flop
        and tokens_seen of the whole training.

    Returns
    -------
    rows : pandas.DataFrame
        With n_effective (tokens_seen, repeats corrected) and design (a label that the seeds of one
        design share).

    Raises
    ------
    CobeError
        A column is missing, there is no row, a cell has two, or training never lowered a model's
        loss.
    """
    rows = _with_columns(losses, LOSS_COLUMNS, "losses")
    double = rows.cell[rows.cell.duplicated()]
    if len(double):
        raise CobeError(f"losses: cell {double.iloc[0]} has two rows; hand over one per model")
    untaught = rows.cell[rows.tokens_seen_best == 0]
    if len(untaught):
        raise CobeError(
            f"losses: {', '.join(untaught)}: lowest loss before the first step, so nothing was "
            "learnt; look at the learning rate, or leave these cells out and say so"
        )
    return rows.assign(
        n_effective=effective_data(rows.tokens_seen.to_numpy(), rows.unique_tokens.to_numpy()),
        design=_design(rows),
    ).reset_index(drop=True)


def early_words(rows: pd.DataFrame) -> str:
    """How many models had their lowest loss before the end, and against what it stands.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of `loss_rows`.
    """
    n_early = int((rows.tokens_seen_best < rows.tokens_seen).sum())
    return (
        f"{n_early} of {len(rows)} models had their lowest loss before the end; it stands against "
        "the tokens and FLOP of the whole run"
    )


def score_rows(scores: pd.DataFrame, losses: pd.DataFrame, n_params: pd.Series) -> pd.DataFrame:
    """Brain scores averaged over held-out sessions, per participant and for their mean.

    Parameters
    ----------
    scores : pandas.DataFrame
        As `cobe.sweep.grid_scores.grid_scores` returns them: r is the mean over parcels, scan_hours
        what the readout was fitted on.
    losses : pandas.DataFrame
        Of `loss_rows`, of the same grid: tokens of every trained cell.
    n_params : pandas.Series
        Parameters of every cell, untrained ones too, by its name, as
        `cobe.sweep.grid_plan.plan_table` counts them.

    Returns
    -------
    rows : pandas.DataFrame
        One row per cell, subject (and subject ``"mean"``, over all participants) and scan_hours:
        the columns of the cell, r, n_held_out (sessions), n_subjects, design; n_parcels of each
        participant, if the scores have it (NaN of the mean); tokens are NaN of untrained models.

    Raises
    ------
    CobeError
        A column is missing, there is no row, r is not finite, a subject is called "mean", a cell
        is not in the plan or among the losses, participants lack cells or scan hours that others
        have, or the parcels of a participant change in number.
    """
    rows = _with_columns(scores, SCORE_COLUMNS, "scores")
    if (rows.subject == MEAN).any():
        raise CobeError("scores: a subject is called 'mean'; hand over the participants alone")
    if not np.isfinite(rows.r).all():
        raise CobeError(
            f"scores: r of {int((~np.isfinite(rows.r)).sum())} rows is not finite; look at these "
            "cells first"
        )
    counted = {"n_parcels": ("n_parcels", "first")} if "n_parcels" in rows else {}
    if counted:
        _refuse_other_parcels(rows)
    tokens = losses[["cell", "unique_tokens", "tokens_seen", "n_effective"]]
    rows = rows.assign(n_params=rows.cell.map(n_params)).merge(tokens, on="cell", how="left")
    alien = rows.cell[rows.n_params.isna() | (rows.trained & rows.tokens_seen.isna())]
    if len(alien):
        raise CobeError(
            f"scores: {alien.iloc[0]} is not in the plan or the losses; hand over one grid"
        )
    cell = ["cell", "kind", "trained", *DESIGN, *list(tokens)[1:], "n_params"]
    by = {"as_index": False, "dropna": False}
    each = rows.groupby([*cell, "subject", "scan_hours"], **by).agg(
        r=("r", "mean"), n_held_out=("held_out", "nunique"), **counted
    )
    mean = each.groupby([*cell, "scan_hours"], **by).agg(
        r=("r", "mean"), n_held_out=("n_held_out", "min"), n_subjects=("subject", "nunique")
    )
    lacking = mean[mean.n_subjects < each.subject.nunique()]
    if len(lacking):
        raise CobeError(
            f"scores: {lacking.cell.iloc[0]} at {lacking.scan_hours.iloc[0]:g} h has "
            f"{lacking.n_subjects.iloc[0]} of {each.subject.nunique()} participants; score all, or "
            "leave a participant out"
        )
    table = pd.concat([each.assign(n_subjects=1), mean.assign(subject=MEAN)], ignore_index=True)
    return table.assign(design=_design(table))


def _refuse_other_parcels(rows) -> None:
    """A mean over other parcels is another score: no factor may change them."""
    ends = rows.groupby("subject").n_parcels.agg(["min", "max"])
    varying = ends.index[ends["min"] != ends["max"]]
    if len(varying):
        low, high = ends.loc[varying[0]]
        raise CobeError(
            f"scores: {varying[0]} has {low} to {high} parcels, so that its means are over "
            "different ones; score the same parcels everywhere"
        )


def subjects_of(rows: pd.DataFrame) -> list[str]:
    """Participants of the table of `score_rows`, without their mean."""
    return sorted(set(rows.subject) - {MEAN})


def of_subject(rows: pd.DataFrame, subject: str = MEAN, trained: bool = True) -> pd.DataFrame:
    """Rows of one participant, or of their mean, trained or untrained."""
    return rows[(rows.subject == subject) & (rows.trained == trained)].reset_index(drop=True)


def flop_counter(rows: pd.DataFrame):
    """FLOP of a training as a function of size and data, from the FLOP counted part by part.

    Between the sizes that were trained, the logarithm of the FLOP per token is interpolated over
    the logarithm of the parameters; beyond them its outermost slopes go on.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns n_params, tokens_seen and flop, of the whole training.

    Returns
    -------
    flops : callable
        ``flops(n_params, n_data)`` for arrays.

    Raises
    ------
    CobeError
        Fewer than two sizes, or two shapes of one size that cost different FLOP per token.
    """
    cost = (rows.flop / rows.tokens_seen).groupby(rows.n_params).agg(["min", "max", "mean"])
    if len(cost) < 2:
        raise CobeError(f"flop: {len(cost)} model size; FLOP of others need two or more")
    uneven = cost.index[cost["max"] > SAME_COST * cost["min"]]
    if len(uneven):
        raise CobeError(
            f"flop: models of {uneven[0]:,.0f} parameters cost different FLOP per token; vary one "
            "shape at a time"
        )
    size, each = np.log(cost.index.to_numpy(float)), np.log(cost["mean"].to_numpy())
    slopes = np.diff(each) / np.diff(size)

    def flops(n_params, n_data):
        x = np.log(np.asarray(n_params, float))
        inside = np.interp(x, size, each)
        below, above = np.minimum(x - size[0], 0), np.maximum(x - size[-1], 0)
        return np.exp(inside + slopes[0] * below + slopes[-1] * above) * n_data

    return flops


def hours_of_video(n_tokens, rows: pd.DataFrame):
    """Hours of game video at 60 frames per second that hold so many target tokens.

    Parameters
    ----------
    n_tokens : float or array
    rows : pandas.DataFrame
        Of `loss_rows`: the frames of every subset, and the tokens of its windows.
    """
    frames_per_token = rows.n_frames.sum() / (rows.n_windows * rows.tokens_per_window).sum()
    return n_tokens * frames_per_token / FRAMES_PER_HOUR


def amount(number: float) -> str:
    """A size as readers write it: 1,234,567 is ``1.2M``."""
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * unit:
            digits = ".2g" if number < 99.5 * unit else ".0f"
            return f"{number / unit:{digits}}{letter}"
    return f"{number:.3g}"


def _with_columns(table, columns, name) -> pd.DataFrame:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise CobeError(f"{name}: no column {', '.join(missing)}; take that of cobe.sweep.grid")
    if not len(table):
        raise CobeError(f"{name}: no rows; train the grid first")
    return table


def _design(rows) -> pd.Series:
    return rows[DESIGN].astype(str).agg("-".join, axis=1)
