"""Picking rows out of the score and loss tables, with every gap and every double said."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cobe.core.config import Cell, Profile, Protocol
from cobe.core.errors import CobeError

SCORE_COLUMNS = (
    "target summary held_out r q chance_95 ci_low ci_high n_trs cell features subject protocol"
).split()
LOSS_COLUMNS = ("cell", "step", "val_loss")


def require(table: pd.DataFrame, columns, name: str) -> None:
    """Raise where a table lacks a column.

    Raises
    ------
    CobeError
        Names the table and the missing columns.
    """
    missing = [c for c in columns if c not in table.columns]
    if missing:
        raise CobeError(
            f"{name}: no column {', '.join(missing)}; hand over the whole table of the sweep"
        )


def check_source(table: pd.DataFrame, source: str, name: str) -> None:
    """Raise where a row does not say that it comes from there.

    Parameters
    ----------
    table : pandas.DataFrame
        With a column ``source``.
    source : str
        ``"published"`` or ``"computed"``.
    name : str
        Of the table, for the error.

    Raises
    ------
    CobeError
        There is no such column, or a row says something else: published and computed values are
        never drawn or averaged as one.
    """
    if "source" not in table.columns:
        raise CobeError(f"{name}: no column source; mark every row as published or computed")
    others = sorted(set(table["source"].astype(str)) - {source})
    if others:
        raise CobeError(f"{name}: rows are {', '.join(others)}, not {source}; keep the two apart")


def of_protocol(scores: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """The computed rows of one protocol.

    Raises
    ------
    CobeError
        A column is missing (without ``protocol`` two protocols would be drawn as one), or the table
        holds published values.
    """
    require(scores, SCORE_COLUMNS, "score table")
    if "source" in scores.columns:
        check_source(scores, "computed", "score table")
    return scores[scores["protocol"] == protocol.name]


def subjects_of(scores: pd.DataFrame, profile: Profile) -> list[str]:
    """Subjects in the table or in the profile's plan, sorted: a missing one keeps its place."""
    planned = profile.plan.subjects if profile.plan else ()
    return sorted(set(scores["subject"]) | set(planned))


def summary_row(
    scores: pd.DataFrame, cell: str, features: str, subject: str, summary: str = "mean"
) -> pd.Series | None:
    """The row of one statistic over parcels, all held-out data; None where it was not computed.

    Parameters
    ----------
    scores : pandas.DataFrame
        Score table of one protocol.
    cell, features, subject : str
        Which row.
    summary : str
        ``"mean"`` or ``"max"`` (`cobe.core.config.Protocol.summary`).

    Raises
    ------
    CobeError
        Two rows answer: they are never averaged.
    """
    rows = scores[
        (scores["cell"] == cell)
        & (scores["features"] == features)
        & (scores["subject"] == subject)
        & (scores["summary"] == summary)
        & (scores["held_out"].astype(str) == "all")
    ]
    if len(rows) > 1:
        raise CobeError(
            f"score table: {len(rows)} rows for {cell}, {features}, {subject}; keep one of them"
        )
    return rows.iloc[0] if len(rows) else None


def target_labels(
    targets: pd.Series, labels: np.ndarray | None, name: str = "score table"
) -> pd.Series:
    """The atlas label of each target (from 0).

    Parameters
    ----------
    targets : pandas.Series
        Places among the parcels.
    labels : int array or None
        From `cobe.brain.parcels.check_labels`, which orders the columns of the parcel series too;
        None: they are 1 to n.
    name : str
        Of the table, for the error.

    Raises
    ------
    CobeError
        The atlas has fewer labels.
    """
    targets = targets.astype(int)
    if labels is None:
        return targets + 1
    beyond = targets[(targets < 0) | (targets >= len(labels))]
    if len(beyond):
        raise CobeError(
            f"{name}: parcel {beyond.iloc[0] + 1} (target {beyond.iloc[0]}) is not in the atlas, "
            f"which has {len(labels)} labels; hand over the atlas that the scores were made with"
        )
    return pd.Series(labels[targets], index=targets.index)


def parcel_rows(
    scores: pd.DataFrame, cell: str, subject: str, labels: np.ndarray | None = None
) -> pd.DataFrame:
    """One row per parcel of one trained cell and subject: columns label (atlas), r, q.

    The atlas label is the column ``label`` where the table has one, else as `target_labels` says.

    Parameters
    ----------
    scores : pandas.DataFrame
        Score table of one protocol.
    cell, subject : str
        Which rows.
    labels : int array or None
        As of `target_labels`.

    Raises
    ------
    CobeError
        A parcel appears twice, or is not in the atlas.
    """
    rows = scores[
        (scores["cell"] == cell)
        & (scores["features"] == "gpt")
        & (scores["subject"] == subject)
        & (scores["summary"] == "target")
        & (scores["held_out"].astype(str) == "all")
    ]
    own = "label" in rows.columns
    label = rows["label"] if own else target_labels(rows["target"], labels)
    parcels = pd.DataFrame({"label": label.astype(int), "r": rows["r"], "q": rows["q"]})
    if parcels["label"].duplicated().any():
        raise CobeError(f"score table: a parcel of {cell}, {subject} has two rows; keep one")
    return parcels.reset_index(drop=True)


def loss_rows(losses: pd.DataFrame, cell: Cell) -> pd.DataFrame | None:
    """Validation losses of one cell in order of steps, or None where it was not trained.

    Steps without a validation (NaN) are left out: nothing was measured there.

    Raises
    ------
    CobeError
        A step appears twice.
    """
    require(losses, LOSS_COLUMNS, "loss table")
    rows = losses[(losses["cell"] == cell.name) & losses["val_loss"].notna()].sort_values("step")
    if rows["step"].duplicated().any():
        raise CobeError(f"loss table: {cell.name} has a step twice; keep one run of it")
    return rows if len(rows) else None


def n_trs_range(scores: pd.DataFrame) -> tuple[int, int] | None:
    """Fewest and most held-out volumes of a subject, under the one protocol of the table."""
    rows = scores[(scores["summary"] == "mean") & (scores["held_out"].astype(str) == "all")]
    n_trs = rows["n_trs"].to_numpy(float)
    n_trs = n_trs[np.isfinite(n_trs)]
    return (int(n_trs.min()), int(n_trs.max())) if len(n_trs) else None


def count_range(counts) -> str:
    """Whole numbers in words: the one that all are, or the smallest to the largest, or "no"."""
    counts = [int(count) for count in counts]
    if not counts:
        return "no"
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
