"""What is played when: runs, repetitions, levels, names, and which replays get lost.

The order and the names are those of the real dataset: every run starts with level 1 and goes on
1, 4, 5, 1 ...; the level with which a run ended loses its first repetition in the next run of the
session (its recording is overwritten under a colliding name); ``rep`` counts the kept plays of a
level within the session.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cobe.core.config import PlayPlan
from cobe.core.seeds import rng_for
from cobe.core.timing import FRAME_RATE_HZ, TR_S
from cobe.simulate.play import LEVELS

TASK = "shinobi"
EVENT_LEVELS = {"1": "1-0", "4": "4-1", "5": "5-0"}
MISSING = "Missing file"
GAP_S = (6.03, 6.08)
TAIL_S = (2.0, 10.0)


@dataclass(frozen=True)
class Repetition:
    """One planned play.

    Attributes
    ----------
    level : str
        ``"1"``, ``"4"`` or ``"5"``.
    n_frames : int
        Emulated frames, one line of the key log each.
    onset_s, duration_s : float
        Wall clock, from the run's first volume.
    duration_bk2_s : float
        What the events file says about the length of the key log; wrong for lost replays.
    stim_file : str
        Path of the .bk2 below the raw root; ``"Missing file"`` or empty for lost replays.
    """

    level: str
    n_frames: int
    onset_s: float
    duration_s: float
    duration_bk2_s: float
    stim_file: str

    @property
    def kept(self) -> bool:
        """Whether the replay reaches the disk."""
        return self.stim_file not in ("", MISSING)


@dataclass(frozen=True)
class RunPlan:
    """One planned run: its key, its repetitions, its length in volumes."""

    subject: str
    session: str
    run: int
    repetitions: tuple[Repetition, ...]
    n_trs: int

    @property
    def key(self) -> str:
        """Short unique name of the run."""
        return f"{self.subject}_{self.session}_run-{self.run}"


def schedule(plan: PlayPlan) -> list[RunPlan]:
    """All runs of a plan, in the order of subjects, sessions and runs.

    Parameters
    ----------
    plan : PlayPlan

    Returns
    -------
    runs : list of RunPlan
    """
    # As in two real sessions, the lost replays of one session have an empty name instead.
    empty = [(plan.subjects[-1], s) for s, n_runs in plan.sessions if n_runs > 1][-1:]
    runs = []
    for subject in plan.subjects:
        for session, n_runs in plan.sessions:
            lost_name = "" if (subject, session) in empty else MISSING
            kept = dict.fromkeys(LEVELS, 0)
            before = None
            for run in range(1, n_runs + 1):
                before = _plan_run(plan, subject, session, run, before, kept, lost_name)
                runs.append(before)
    return runs


def _plan_run(plan, subject, session, run, before, kept, lost_name) -> RunPlan:
    rng = rng_for(plan.seed, "schedule", subject, session, run)
    levels = [LEVELS[i % len(LEVELS)] for i in range(plan.repetitions_per_run)]
    lost_row = None
    if before is not None and before.repetitions[-1].level in levels:
        lost_row = levels.index(before.repetitions[-1].level)
    spread_s = min(4.0, 0.08 * plan.repetition_s)
    onset_s = rng.uniform(0.005, 0.021)
    rows = []
    for row, level in enumerate(levels):
        n_frames = round((plan.repetition_s + rng.uniform(-spread_s, spread_s)) * FRAME_RATE_HZ)
        duration_bk2_s = n_frames / FRAME_RATE_HZ
        duration_s = duration_bk2_s - min(max(rng.normal(0.015, 0.03), -0.2), 0.11)
        if row == lost_row:
            stim_file = lost_name
            duration_bk2_s = before.repetitions[-1].n_frames / FRAME_RATE_HZ
        else:
            kept[level] += 1
            stim_file = (
                f"{subject}/{session}/gamelogs/{subject}_{session}_task-{TASK}_run-{run:02d}"
                f"_level-{level}_rep-{kept[level]:02d}.bk2"
            )
        rows.append(Repetition(level, n_frames, onset_s, duration_s, duration_bk2_s, stim_file))
        onset_s += duration_s + rng.uniform(*GAP_S)
    end_s = rows[-1].onset_s + rows[-1].duration_s + rng.uniform(*TAIL_S)
    return RunPlan(subject, session, run, tuple(rows), math.ceil(end_s / TR_S))
