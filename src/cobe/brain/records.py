"""What is known of a dataset: repetitions, runs, and the whole, as frozen records and tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cobe.brain.corrections import Correction
from cobe.brain.layout import Folders
from cobe.brain.timeline import valid_trs, volume_kinds


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
    replay_s : float
        Length of the replay, input lines / 60 Hz; nan where it was not read.
    content : tuple of str
        What tells the content of the replay from that of others, as far as known: the digest of
        its buttons and start state, and the checksum in its git-annex key.
    """

    row: int
    level: str
    onset_s: float
    duration_s: float
    bk2: Path | None
    why: str = ""
    skip_first_line: bool = False
    corrected: str = ""
    replay_s: float = math.nan
    content: tuple[str, ...] = ()

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
        BOLD (image, mask, confounds; or extracted series) and at least one replay are there, and
        they fit each other.
    why : str
        All reasons against it, "" in a usable run.
    corrected : str
        What was corrected, "" where nothing was.
    timeseries : Path or None
        File of extracted series of the run's subject, see `cobe.brain.timeseries`.
    excluded : bool
        Left out by a known correction: no part of the dataset, and in no total.
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
    timeseries: Path | None = None
    excluded: bool = False

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
class CorrectionStatus:
    """A known correction and what became of it in this dataset.

    Attributes
    ----------
    correction : Correction
    status : str
        "applied", "off", "not needed" (the data are right as filed), "waiting" (what it corrects
        is not downloaded) or "absent" (its session is not in this dataset).
    """

    correction: Correction
    status: str


@dataclass(frozen=True)
class Dataset:
    """A dataset as it lies on disk.

    Attributes
    ----------
    folders : Folders
        Where its parts lie.
    runs : tuple of Run
        Every run, by subject, session and number.
    corrections : tuple of CorrectionStatus
        Every known correction.
    findings : tuple of str
        What the checks found that may be a fault of the dataset itself, with a guess at what it
        is; the runs and repetitions concerned are not usable unless the finding says so.
    source : str
        "fmriprep" or "timeseries": which BOLD makes a run usable.
    """

    folders: Folders
    runs: tuple[Run, ...]
    corrections: tuple[CorrectionStatus, ...] = ()
    findings: tuple[str, ...] = ()
    source: str = "fmriprep"

    @property
    def raw(self) -> Path:
        """Root of the raw dataset."""
        return self.folders.raw

    @property
    def fmriprep(self) -> Path | None:
        """Root of the fMRIPrep derivatives, None: there are none."""
        return self.folders.fmriprep

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
        """One row per subject, over the runs that no correction excludes.

        Columns: subject, sessions, runs, usable_runs, volumes, hours, repetitions, named (with a
        replay named in the events), replays (there to use), covered_runs (every repetition names
        a replay), valid_trs (volumes wholly inside a usable replay of a usable run), named_trs
        (volumes wholly inside a repetition with a named replay, downloaded or not), unknown_runs
        (number of volumes unknown: not in volumes and hours).
        """
        runs = [run for run in self.runs if not run.excluded]
        subjects = sorted({run.subject for run in runs})
        return pd.DataFrame(
            [_subject_totals(s, [r for r in runs if r.subject == s]) for s in subjects]
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
        "named_trs": int(sum(_named_trs(run) for run in known)),
        "unknown_runs": len(runs) - len(known),
    }


def _named_trs(run: Run) -> int:
    named = tuple(replace(r, why="") if r.bk2 else r for r in run.repetitions)
    return int((volume_kinds(replace(run, repetitions=named)) == "replay").sum())
