"""The designs of the data-size figure: which cells each has, what their subsets hold, differences.

A design is how subsets are drawn and how many updates they get; all share the largest size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cobe.core.config import Cell, Profile
from cobe.core.errors import CobeError
from cobe.report.audit.pairs import Difference, arm_rows, difference, units
from cobe.report.figures import get_axis
from cobe.report.rows import require
from cobe.video.windows import subset

CONTENT_COLUMNS = "cell n_subjects n_levels n_windows subjects left_out".split()
SPREAD, EPOCHS, PREFIX, SINGLE, PUBLISHED = range(5)
DESIGNS = (
    ("stratified", "steps", "all participants, equal updates"),
    ("stratified", "epochs", "all participants, equal epochs"),
    ("prefix", "steps", "first of the list, equal updates"),
    ("single", "steps", "one participant, equal updates"),
    ("prefix", "epochs", "published design: both changed"),
)


@dataclass(frozen=True)
class Point:
    """One cell of a design.

    Attributes
    ----------
    place : int
        Number of its data size, from the smallest.
    cell : str
        Its name.
    n_steps : int
        Optimiser steps.
    """

    place: int
    cell: str
    n_steps: int


def subset_contents(clips: pd.DataFrame, cells: list[Cell]) -> pd.DataFrame:
    """What the training subset of each cell holds, by the function that training calls.

    Parameters
    ----------
    clips : pandas.DataFrame
        Clip table of the token set: subject, session, run, row, level, clip, role.
    cells : list of Cell
        Trained cells.

    Returns
    -------
    table : pandas.DataFrame
        One row per cell: cell, n_subjects, n_levels, n_windows (int, 0 where there is no such
        subset), subjects (names, joined by commas), left_out (why there is no such subset, or "").

    Raises
    ------
    CobeError
        The table has no role or level.
    """
    require(clips, ("subject", "level", "role"), "clip table")
    allowed = (clips["role"] == "video_train").to_numpy()
    table = []
    for cell in cells:
        reason = ""
        try:
            targets = subset(clips, cell.n_frames, cell.scheme, allowed=allowed)
        except CobeError as error:
            targets, reason = np.empty(0, int), str(error)
        used = clips.iloc[np.union1d(targets, targets - 1)]
        names = sorted(used["subject"].unique())
        row = (cell.name, len(names), used["level"].nunique(), len(targets), ",".join(names))
        table.append((*row, reason))
    return pd.DataFrame(table, columns=CONTENT_COLUMNS)


def designs_of(arms, contents, profile: Profile) -> dict[int, list[Point]]:
    """The cells of every design from the smallest size; those without video are left out."""
    require(contents, CONTENT_COLUMNS, "contents of subsets")
    rows = pd.concat([arm_rows(arms, "diversity"), arm_rows(arms, "updates")])
    rows = rows.drop_duplicates(["cell", "updates"])
    missing = sorted(set(rows["cell"]) - set(contents["cell"]))
    if missing:
        raise CobeError(
            f"contents of subsets: nothing of {', '.join(missing)}; hand over all cells of the arms"
        )
    within = set(contents.loc[contents["n_windows"] > 0, "cell"])
    levels = list(get_axis(profile, "data_size").levels)
    designs = {}
    for d, (scheme, updates, _) in enumerate(DESIGNS):
        chosen = rows[(rows["scheme"] == scheme) & (rows["updates"] == updates)]
        if d != SINGLE:  # the largest subset is the base model's in every design but this
            base = rows[(rows["cell"] == profile.base.name) & (rows["updates"] == updates)]
            chosen = pd.concat([chosen, base]).drop_duplicates("cell")
        points = [
            Point(levels.index(r.n_frames), r.cell, int(r.n_steps))
            for r in chosen.itertuples()
            if r.n_frames in levels and r.cell in within
        ]
        designs[d] = sorted(points, key=lambda p: p.place)
    return designs


def ends_of(designs, design: int) -> tuple[str, str] | None:
    """Cells of the smallest and the largest size; None where the design does not hold both."""
    cells = {p.place: p.cell for p in designs[design]}
    last = max((p.place for points in designs.values() for p in points), default=0)
    return (cells[0], cells[last]) if last and {0, last} <= set(cells) else None


def gains_of(designs, rows) -> dict[int, Difference | None]:
    """Largest minus smallest size, of every design that reaches from end to end."""
    gains = {}
    for d in (SPREAD, PREFIX, EPOCHS, PUBLISHED):
        ends = ends_of(designs, d)
        gains[d] = difference(units(rows, ends[1]), units(rows, ends[0])) if ends else None
    return gains


def owner_of(designs, contents) -> str | None:
    """The participant whose video the single models saw."""
    cells = [p.cell for p in designs[SINGLE]]
    owners = set(contents.loc[contents["cell"].isin(cells), "subjects"])
    if len(owners) > 1 or any("," in owner for owner in owners):
        raise CobeError(
            f"contents of subsets: the models of one participant saw {', '.join(sorted(owners))}; "
            "give the contents of one run"
        )
    return next(iter(owners), None)


def own_minus_all(designs, contents, rows, subjects) -> dict[str, dict[int, Difference | None]]:
    """Model of one participant minus model of all, by participant and data size."""
    spread = {p.place: p.cell for p in designs[SPREAD]}
    found = {subject: {} for subject in subjects} if owner_of(designs, contents) else {}
    for subject in found:
        for p in designs[SINGLE]:
            pair = (units(rows, cell) for cell in (p.cell, spread.get(p.place, "")))
            found[subject][p.place] = difference(
                *(s[s.index.get_level_values("subject") == subject] for s in pair)
            )
    return found
