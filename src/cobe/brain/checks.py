"""Whether events, replays and BOLD belong together: the checks that find a filing fault.

Each was written after a fault of the shinobi dataset (see `cobe.brain.corrections`), and each runs
on every dataset: what does not fit is reported and left out, with a guess at what happened.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import PurePosixPath

import numpy as np

from cobe.brain.corrections import CORRECTIONS, swapped
from cobe.brain.files import NiftiHeader
from cobe.brain.layout import TASK, RunKey
from cobe.brain.records import Repetition, Run

REPLAY_TOLERANCE_S = 0.5
# BOLD goes on for up to 64 s after the last play; one run was cut 3.3 s before its end.
TAIL_S = (-4.0, 70.0)
# 95 % of the runs end within 24.4 s after the last play.
USUAL_TAIL_S = (0.0, 30.0)
SAME_GRID_MM = 1.0

_REPLAY_NAME = re.compile(
    rf"(sub-[A-Za-z0-9]+)_(ses-[A-Za-z0-9]+)_task-{TASK}_run-(\d+)_level-([\w-]+)_rep-\d+\.bk2"
)
_OF_ANOTHER = "by its name of another play than"


def tail_fits(tail_s: float) -> bool:
    """Whether BOLD that ends so long after the last play can be of the same run."""
    return TAIL_S[0] <= tail_s <= TAIL_S[1]


def replay_fits(replay_s: float, duration_s: float) -> bool:
    """Whether a replay of that length can be of a play of that duration."""
    return abs(replay_s - duration_s) < REPLAY_TOLERANCE_S


def judge(run: Run, problems: list[str]) -> Run:
    """The run with all reasons against it; usable where there is none."""
    problems = list(problems)
    if math.isfinite(run.tail_s) and not tail_fits(run.tail_s):
        problems.append(
            f"suspicious: BOLD ends {run.tail_s:.1f} s after the last play, expected "
            f"{TAIL_S[0]:g} to {TAIL_S[1]:g} s; are these its events, or was it cut short?"
        )
    if run.repetitions and not any(r.has_replay for r in run.repetitions):
        problems.append("no repetition with a replay")
    return replace(run, usable=not problems, why="; ".join(problems))


def other_grids(headers: Mapping[RunKey, NiftiHeader]) -> dict[RunKey, str]:
    """Runs whose BOLD does not have the voxels of most runs of its subject, and the reason."""
    problems = {}
    for subject in {key[0] for key in headers}:
        grids = {key: header for key, header in headers.items() if key[0] == subject}
        alike = {
            key: sum(_same_voxels(grid, other) for other in grids.values())
            for key, grid in grids.items()
        }
        most = max(alike, key=alike.get)
        for key, grid in grids.items():
            if not _same_voxels(grid, grids[most]) or alike[most] * 2 <= len(grids):
                problems[key] = (
                    f"BOLD of {' x '.join(map(str, grid.shape[:3]))} voxels is not on the grid of "
                    f"most runs of {subject}: of another subject or space? get it again"
                )
    return problems


def _same_voxels(grid: NiftiHeader, other: NiftiHeader) -> bool:
    return grid.shape[:3] == other.shape[:3] and np.allclose(
        grid.affine, other.affine, atol=SAME_GRID_MM
    )


def unique_replays(runs: list[Run]) -> list[Run]:
    """One replay belongs to one play: where two name it, neither is used."""
    named = Counter(r.bk2 for run in runs for r in run.repetitions if r.bk2)
    return [
        with_repetitions(
            run,
            tuple(
                replace(r, why=f"{r.bk2}: named by {named[r.bk2]} plays")
                if r.has_replay and named[r.bk2] > 1
                else r
                for r in run.repetitions
            ),
        )
        for run in runs
    ]


def check_name(repetition: Repetition, named: PurePosixPath | None, key: RunKey) -> Repetition:
    """The repetition; without its replay where that is named for another play.

    The name that counts is the one in the events, before any known swap of replays, and events
    that were moved keep naming their own run; either may have been put right in this copy.

    Parameters
    ----------
    repetition : Repetition
    named : PurePosixPath or None
        Replay that the events name.
    key : tuple
        Subject, session and run of the events table that names it.
    """
    if named is None or not repetition.has_replay:
        return repetition
    names = [named]
    run_numbers = {key[2]}
    for correction in CORRECTIONS:
        if (correction.subject, correction.session) == key[:2]:
            names += [swapped(named, correction)] if any(correction.swap) else []
            run_numbers |= {e for e, bold in correction.events_to_bold if bold == key[2]}
    found = [match for name in names if (match := _REPLAY_NAME.fullmatch(name.name))]
    level = repetition.level.split("-")[0]
    if not found or any(
        match.group(1, 2) == key[:2]
        and int(match[3]) in run_numbers
        and match[4].split("-")[0] == level
        for match in found
    ):
        return repetition
    play = f"{key[0]} {key[1]} run {key[2]}, level {repetition.level}"
    return replace(repetition, why=f"{repetition.bk2}: {_OF_ANOTHER} {play}")


def misnamed_replays(runs: list[Run]) -> list[str]:
    """Replays that the events of one play name and that are named for another one."""
    return [
        f"{run.name} row {r.row}: {r.why}; not used"
        for run in runs
        for r in run.repetitions
        if _OF_ANOTHER in r.why
    ]


def copied_replays(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """Nobody plays the same twice: of replays with one content under several names none is used.

    Returns
    -------
    runs : list of Run
    findings : list of str
    """
    holders = defaultdict(set)
    for run in runs:
        for r in run.repetitions:
            for content in r.content:
                holders[content].add(r.bk2)
    groups = {frozenset(paths) for paths in holders.values() if len(paths) > 1}
    others = {path: sorted(group - {path}) for group in groups for path in group}
    checked = [
        with_repetitions(
            run,
            tuple(
                replace(r, why=f"{r.bk2}: the same content as {others[r.bk2][0]}")
                if r.has_replay and r.bk2 in others
                else r
                for r in run.repetitions
            ),
        )
        for run in runs
    ]
    findings = [
        f"{', '.join(map(str, paths))}: replays of one content; which play is it of? none is used"
        for paths in sorted(map(sorted, groups))
    ]
    return checked, findings


def with_repetitions(run: Run, repetitions: tuple[Repetition, ...]) -> Run:
    """The run with these repetitions; not usable where none of them has a replay."""
    changed = replace(run, repetitions=repetitions)
    if run.usable and not any(r.has_replay for r in repetitions):
        changed = replace(changed, usable=False, why="no repetition with a replay")
    return changed


def _sessions(runs: list[Run]) -> dict[tuple[str, str], list[Run]]:
    sessions = defaultdict(list)
    for run in runs:
        sessions[run.key[:2]].append(run)
    return sessions


def doubt_sessions(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """Leave out sessions whose events may be in another order than their BOLD.

    In doubt is a session where two runs do not fit their events, or where the events fit as usual
    when they are rotated over the runs and not as they are filed.

    Returns
    -------
    runs : list of Run
    findings : list of str

    Notes
    -----
    Of 2,820 sessions made with the shinobi dataset's lengths and ends of runs none is doubted as
    filed, and 97 % are when rotated: runs of much the same length hide a rotation.
    """
    doubts, findings = {}, []
    for session, members in _sessions(runs).items():
        known = [run for run in members if math.isfinite(run.tail_s)]
        misfits = sum(not tail_fits(run.tail_s) for run in known)
        rotated = _rotated_tails(known)
        if misfits > 1:
            doubts[session] = (
                f"suspicious: the events of {misfits} other runs of the session do not fit their "
                "BOLD"
            )
        elif rotated:
            doubts[session] = "suspicious: the events of the session fit in another order"
        if session in doubts:
            filed = ", ".join(f"{run.tail_s:.1f}" for run in known)
            finding = f"{'/'.join(session)}: BOLD ends {filed} s after the last play"
            if rotated:
                order, tails = rotated
                finding += (
                    f", with the events of runs {', '.join(map(str, order))} "
                    f"{', '.join(f'{tail:.1f}' for tail in tails)} s: are the events rotated?"
                )
            findings.append(f"{finding}; no run of the session is used")
    doubted = [
        replace(run, usable=False, why=doubts[run.key[:2]])
        if run.usable and run.key[:2] in doubts
        else run
        for run in runs
    ]
    return doubted, findings


def _rotated_tails(runs: list[Run]) -> tuple[list[int], list[float]] | None:
    """Numbers of the runs whose events fit in a rotated order, and the tails; None as filed."""
    tails = np.array([run.tail_s for run in runs])
    unusual = (tails > USUAL_TAIL_S[1]) | (tails < USUAL_TAIL_S[0])
    # Of two runs the one order is as good as the other too often; one long tail is no rotation.
    if len(runs) < 3 or unusual.sum() < 2:
        return None
    bold_s = np.array([run.n_trs * run.tr_s for run in runs])
    play_s = bold_s - tails
    found = []
    for shift in range(1, len(runs)):
        rotated = bold_s - np.roll(play_s, -shift)
        if (rotated >= USUAL_TAIL_S[0]).all() and (rotated <= USUAL_TAIL_S[1]).all():
            numbers = np.roll([run.run for run in runs], -shift)
            found.append((float(np.ptp(rotated)), numbers.tolist(), rotated.tolist()))
    return min(found)[1:] if found else None


def swapped_replays(runs: list[Run]) -> list[str]:
    """Pairs of plays of a session of which each has the replay that fits the other."""
    findings = []
    for members in _sessions(runs).values():
        misfits = [
            (f"{run.name} row {r.row}", r)
            for run in members
            for r in run.repetitions
            if math.isfinite(r.replay_s) and not replay_fits(r.replay_s, r.duration_s)
        ]
        findings += [
            f"{name} and {other_name}: each has the replay that is as long as the other's play; "
            "are they swapped? neither is used"
            for (name, r), (other_name, other) in combinations(misfits, 2)
            if replay_fits(r.replay_s, other.duration_s)
            and replay_fits(other.replay_s, r.duration_s)
        ]
    return findings


def cut_runs(runs: list[Run]) -> list[str]:
    """Runs whose BOLD ends a little before their last play does: cut short, and yet of use."""
    return [
        f"{run.name}: BOLD ends {-run.tail_s:.1f} s before the last play does; this is no reason "
        "against the run, and play after its last volume is left out"
        for run in runs
        if TAIL_S[0] <= run.tail_s < 0
    ]
