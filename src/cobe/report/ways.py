"""The bars of an axis figure as one table: published, and our run under both protocols.

Every row says its source and its way. The three are drawn beside each other, each on axes of its
own, and never averaged: they differ in data, statistic and split.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cobe.core.config import Axis, Cell, Profile, Protocol, axis_cells
from cobe.core.errors import CobeError
from cobe.report import published, style
from cobe.report.manifest import FIGURE_AXES
from cobe.report.rows import check_source, of_protocol, subjects_of, summary_row

PUBLISHED, AS_PUBLISHED, CORRECTED = WAYS = ("published", "as_published", "corrected")
DEFAULT_PROFILE = "quick"
COLUMNS = (
    "way source protocol axis level subject features cell statistic n_parcels n_trs r ci_low "
    "ci_high chance_95 state"
).split()


def three_ways(profile: Profile, axis: Axis, scores: pd.DataFrame) -> pd.DataFrame:
    """Every bar of one axis figure, and every place where one is missing.

    Parameters
    ----------
    profile : Profile
        Whose cells and protocols are looked up.
    axis : Axis
        What varies.
    scores : pandas.DataFrame
        Score table of the sweep, with the rows of all its protocols.

    Returns
    -------
    table : pandas.DataFrame
        One row per way (published, as_published, corrected), level, subject and feature set
        (``"gpt"``, and for our runs ``"untrained"``). Columns: way, source (``"published"`` or
        ``"computed"``), protocol, axis, level (str), subject, features, cell, statistic (``"max"``
        or ``"mean"`` over parcels), n_parcels, n_trs (held-out volumes), r, ci_low, ci_high,
        chance_95 (NaN where a way has none), state (``""``, ``"not computed"``, ``"undefined"``).

    Raises
    ------
    CobeError
        The table lacks a column, holds published values, or answers twice.
    """
    theirs = published.max_r(axis.name)
    check_source(theirs, "published", "published scores")
    rows = [
        {
            "source": record["source"],
            "way": PUBLISHED,
            "protocol": "",
            "level": record["level"],
            "subject": record["subject"],
            "features": "gpt",
            "statistic": "max",
            "n_parcels": published.N_PARCELS,
            "r": record["max_pearson_r"],
            "state": "",
        }
        for record in theirs.to_dict("records")
    ]
    for way in (AS_PUBLISHED, CORRECTED):
        rows += _computed(profile, axis, scores, way)
    return pd.DataFrame(rows).assign(axis=axis.name).reindex(columns=COLUMNS)


def protocol_of(profile: Profile, axis: Axis, way: str) -> Protocol:
    """The protocol of a way of ours on one axis."""
    return profile.protocol if way == CORRECTED else profile.published_for(axis.name)


def way_cells(profile: Profile, axis: Axis, way: str) -> list[Cell]:
    """The trained cells of one axis under a way of ours, in the order of its levels."""
    return axis_cells(profile, axis, protocol_of(profile, axis, way))


def of_way(table: pd.DataFrame, way: str) -> pd.DataFrame:
    """The rows of one way, with its source checked.

    Raises
    ------
    CobeError
        A row does not come from where that way comes from.
    """
    if "way" not in table.columns:
        raise CobeError("table of bars: no column way; make it with cobe.report.ways.three_ways")
    rows = table[table["way"] == way]
    check_source(rows, "published" if way == PUBLISHED else "computed", f"bars of {way}")
    return rows


def gaps_of(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that were not computed."""
    return table[table["state"] == style.NOT_COMPUTED]


def fill_command(profile: Profile, axis: Axis) -> str:
    """The command that computes what is missing in the figure of an axis."""
    names = {axis_name: name for name, axis_name in FIGURE_AXES.items()}
    words = ["./run_all.sh"]
    if profile.name != DEFAULT_PROFILE:
        words.append(f"--profile {profile.name}")
    if profile.plan is None:
        words.append("--data DIR")
    return " ".join([*words, "--only", names[axis.name].split("_")[0]])


def _computed(profile: Profile, axis: Axis, scores: pd.DataFrame, way: str) -> list[dict]:
    """Rows of one protocol of ours."""
    protocol = protocol_of(profile, axis, way)
    mine = of_protocol(scores, protocol)
    pooled = mine[mine["held_out"].astype(str) == "all"]
    targets = pooled[(pooled["summary"] == "target") & np.isfinite(pooled["r"].astype(float))]
    n_parcels = targets.groupby(["cell", "features", "subject"])["target"].nunique().to_dict()
    summaries = pooled[pooled["summary"] == protocol.summary]
    rows = []
    # subjects of the whole table: one that a protocol lacks keeps its place
    for subject in subjects_of(scores, profile):
        for cell, level in zip(way_cells(profile, axis, way), axis.levels, strict=True):
            for name, features in ((cell.name, "gpt"), (cell.untrained().name, "untrained")):
                found = summary_row(summaries, name, features, subject, protocol.summary)
                rows.append(
                    {
                        "source": "computed",
                        "way": way,
                        "protocol": protocol.name,
                        "level": str(level),
                        "subject": subject,
                        "features": features,
                        "cell": name,
                        "statistic": protocol.summary,
                        "n_parcels": n_parcels.get((name, features, subject), np.nan),
                    }
                    | _values(found)
                )
    return rows


def _values(row: pd.Series | None) -> dict:
    """What a summary row says, or that there is none."""
    if row is None:
        return {"state": style.NOT_COMPUTED}
    values = {name: float(row[name]) for name in "r ci_low ci_high chance_95 n_trs".split()}
    return values | {"state": "" if np.isfinite(values["r"]) else style.UNDEFINED}
