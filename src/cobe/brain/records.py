"""What is known of a dataset: repetitions, runs, and the whole, as frozen records and tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cobe.brain.timeline import valid_trs


@dataclass(frozen=True)
class Repetition:
    """One play of a level.

    Attributes
    ----------
    row : int
        Row of the events table, from 0.
    level : str
        As the events name it, "1-0".
    onset_s, duration_s : float
        From the start of the first volume.
    bk2 : Path or None
        The replay that the events name, there or not.
    why : str
        Why there is no replay to use, "" where there is.
    skip_first_line : bool
        The replay begins with an input line that was never played: the Shinobi task reset the
        emulator of row 0 while it was recording already.
    corrected : str
        What was corrected, "" where nothing was.
    """

    row: int
    level: str
    onset_s: float
    duration_s: float
    bk2: Path | None
    why: str = ""
    skip_first_line: bool = False
    corrected: str = ""

    @property
    def has_replay(self) -> bool:
        """Whether there is a replay to use."""
        return self.bk2 is not None and not self.why


@dataclass(frozen=True)
class Run:
    """One fMRI acquisition.

    Attributes
    ----------
    subject, session : str
        With their prefixes, "sub-01" and "ses-002".
    run : int
        Number of the run, without padding.
    bold, mask, confounds : Path or None
        Files of the fMRIPrep derivatives, None where there is no such name.
    n_trs : int or None
        Volumes, from the header of the BOLD or the JSON of the raw run.
    tr_s : float
        Repetition time in s, nan where unknown.
    repetitions : tuple of Repetition
        In order of time.
    usable : bool
        BOLD, mask, confounds and at least one replay are there, and they fit each other.
    why : str
        All reasons against it, "" in a usable run.
    corrected : str
        What was corrected, "" where nothing was.
    """

    subject: str
    session: str
    run: int
    bold: Path | None
    mask: Path | None
    confounds: Path | None
    n_trs: int | None
    tr_s: float
    repetitions: tuple[Repetition, ...]
    usable: bool
    why: str = ""
    corrected: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """Subject, session, number of the run."""
        return self.subject, self.session, self.run

    @property
    def name(self) -> str:
        """The key in one word, "sub-01_ses-002_run-1"."""
        return f"{self.subject}_{self.session}_run-{self.run}"

    @property
    def tail_s(self) -> float:
        """End of BOLD minus end of the last play, in s; nan where one is unknown."""
        if not self.repetitions or self.n_trs is None:
            return math.nan
        last_s = max(r.onset_s + r.duration_s for r in self.repetitions)
        return self.n_trs * self.tr_s - last_s


@dataclass(frozen=True)
class Dataset:
    """Roots of the raw dataset and of the derivatives (None: there are none), and every run."""

    raw: Path
    fmriprep: Path | None
    runs: tuple[Run, ...]

    def table(self) -> pd.DataFrame:
        """One row per repetition, and one for a run without any.

        Columns: subject, session, run, row (NA without repetition), level, onset_s, duration_s,
        replay (bool: there to use), why (of the run, then of the repetition), corrected.
        """
        rows = []
        for run in self.runs:
            for repetition in run.repetitions or (None,):
                rows.append(_table_row(run, repetition))
        table = pd.DataFrame(rows, columns=list(_TABLE_TYPES))
        return table.astype(_TABLE_TYPES)

    def totals(self) -> pd.DataFrame:
        """One row per subject.

        Columns: subject, sessions, runs, usable_runs, volumes, hours, repetitions, named (with a
        replay named in the events), replays (there to use), covered_runs (every repetition names
        a replay), valid_trs (volumes wholly inside a usable replay of a usable run), unknown_runs
        (number of volumes unknown: not in volumes and hours).
        """
        subjects = sorted({run.subject for run in self.runs})
        return pd.DataFrame(
            [_subject_totals(s, [r for r in self.runs if r.subject == s]) for s in subjects]
        )


_TABLE_TYPES = {
    "subject": "str",
    "session": "str",
    "run": "int64",
    "row": "Int64",
    "level": "str",
    "onset_s": "float64",
    "duration_s": "float64",
    "replay": "bool",
    "why": "str",
    "corrected": "str",
}


def _table_row(run: Run, repetition: Repetition | None) -> tuple:
    if repetition is None:
        return (*run.key, pd.NA, "", math.nan, math.nan, False, run.why, run.corrected)
    r = repetition
    why = "; ".join(filter(None, (run.why, r.why)))
    corrected = "; ".join(filter(None, (run.corrected, r.corrected)))
    return (*run.key, r.row, r.level, r.onset_s, r.duration_s, r.has_replay, why, corrected)


def _subject_totals(subject: str, runs: list[Run]) -> dict:
    known = [run for run in runs if run.n_trs is not None and math.isfinite(run.tr_s)]
    repetitions = [r for run in runs for r in run.repetitions]
    return {
        "subject": subject,
        "sessions": len({run.session for run in runs}),
        "runs": len(runs),
        "usable_runs": sum(run.usable for run in runs),
        "volumes": sum(run.n_trs for run in known),
        "hours": round(sum(run.n_trs * run.tr_s for run in known) / 3600, 3),
        "repetitions": len(repetitions),
        "named": sum(r.bk2 is not None for r in repetitions),
        "replays": sum(r.has_replay for r in repetitions),
        "covered_runs": sum(
            bool(run.repetitions) and all(r.bk2 for r in run.repetitions) for run in runs
        ),
        "valid_trs": int(sum(valid_trs(run).sum() for run in known)),
        "unknown_runs": len(runs) - len(known),
    }
