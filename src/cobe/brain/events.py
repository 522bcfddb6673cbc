"""The events table of a run: one row per repetition, read as text and checked cell by cell."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from cobe.core.bounds import check_bytes
from cobe.core.errors import CobeError

TRIAL_TYPE = "gym-retro_game"
NO_FILE = ("", "missing file", "n/a", "nan", "none")
OVERLAP_S = 0.1
# A run has tens of plays: a table of a mebibyte has ten thousand.
MAX_BYTES = 2**20


@dataclass(frozen=True)
class Event:
    """One play: its row in the table, level ("1-0"), onset and duration in s, replay or None.

    `replay` is the path of the .bk2 relative to the raw dataset, as the table has it.
    """

    row: int
    level: str
    onset_s: float
    duration_s: float
    replay: PurePosixPath | None


def read_events(path: Path) -> tuple[Event, ...]:
    """Read the plays of a run, in order of time.

    Every cell is read as text: a replay named "nan" or a level "1-0" stays what it is.

    Parameters
    ----------
    path : Path
        ``*_events.tsv`` with the columns onset, duration (s), level, stim_file.

    Returns
    -------
    events : tuple of Event

    Raises
    ------
    CobeError
        Not a table, a column is missing, a number is not one, plays overlap, or a replay lies
        outside the dataset.
    """
    check_bytes(path, MAX_BYTES)
    try:
        table = pd.read_csv(
            path,
            sep="\t",
            dtype=str,
            keep_default_na=False,
            quoting=csv.QUOTE_NONE,
            encoding="utf-8-sig",
        )
    except (OSError, ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise CobeError(f"{path}: not readable as a table ({reason}); get it again") from error
    # pandas takes what the header has no column for as an index, and shifts all the others.
    if len(table) and not isinstance(table.index, pd.RangeIndex):
        raise CobeError(f"{path}: rows have more cells than the header has columns; correct it")
    missing = {"onset", "duration", "level", "stim_file"} - set(table.columns)
    if missing:
        raise CobeError(f"{path}: no column {', '.join(sorted(missing))}; get it again")
    if "trial_type" in table:
        table = table[table["trial_type"].str.strip() == TRIAL_TYPE]

    events = []
    for row, cells in zip(table.index, table.to_dict("records"), strict=True):
        onset_s = _number(path, row, "onset", cells["onset"])
        duration_s = _number(path, row, "duration", cells["duration"])
        if onset_s < 0 or duration_s <= 0:
            raise CobeError(
                f"{path}: row {row} starts at {onset_s} s and lasts {duration_s} s; correct it"
            )
        replay = _replay(path, row, cells["stim_file"])
        events.append(Event(int(row), cells["level"].strip(), onset_s, duration_s, replay))
    events.sort(key=lambda event: event.onset_s)
    for before, after in zip(events[:-1], events[1:], strict=True):
        if before.onset_s + before.duration_s > after.onset_s + OVERLAP_S:
            raise CobeError(
                f"{path}: rows {before.row} and {after.row} overlap in time; correct one"
            )
    return tuple(events)


def _number(path: Path, row: int, column: str, text) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise CobeError(f"{path}: row {row}, {column}: {text!r} is no number; correct it")
    return value


def _replay(path: Path, row: int, text) -> PurePosixPath | None:
    name = text.strip() if isinstance(text, str) else ""
    if name.lower() in NO_FILE:
        return None
    replay = PurePosixPath(name)
    if replay.is_absolute() or ".." in replay.parts or "\0" in name:
        raise CobeError(f"{path}: row {row}: stim_file {name!r} leads out of the dataset; correct")
    return replay
