"""Whether every replay ends as a play ends: the check that finds a replay out of step."""

from __future__ import annotations

from dataclasses import replace

from cobe.brain.checks import with_repetitions
from cobe.brain.records import Dataset
from cobe.core.apart import map_surviving
from cobe.core.errors import CobeError
from cobe.stimulus.bk2 import read_bk2
from cobe.stimulus.playback import check_rom, ending


def check_endings(dataset: Dataset, workers: int | None = None) -> Dataset:
    """Play every replay to its end, and leave out those that do not end as a play ends.

    A replay whose first input line was wrongly kept or wrongly left out drifts away from what was
    played, and seldom reaches the end of the play on its last frames [1]_. It needs the ROM, and
    plays in parallel with one emulator per process.

    Parameters
    ----------
    dataset : Dataset
    workers : int or None
        Processes; None: as many as there are cores. A replay that crashes the emulator takes its
        process along and is reported like any other; a single worker asked for is this process.

    Returns
    -------
    dataset : Dataset
        Repetitions that fail have the reason in `why`, and each is among the findings; so is the
        number of those that could not be checked, since their game says nothing of its end.

    Raises
    ------
    CobeError
        The ROM of the first replay's game is missing or wrong: no fault of any replay.

    Notes
    -----
    .. [1] Of 89 replays of the shinobi dataset that were so treated 50 do not, of 498 others none.
    """
    jobs = [
        (r.bk2, r.skip_first_line, dataset.folders.stimuli)
        for run in dataset.runs
        for r in run.repetitions
        if r.has_replay
    ]
    if jobs:
        check_rom(read_bk2(jobs[0][0]).game, dataset.folders.stimuli)
    apart = workers is None
    checked = map_surviving(
        _check, jobs, desc="playing", unit="replay", workers=workers, apart=apart
    )
    checked = [
        f"{job[0]}: cannot be played: {why}" if isinstance(why, CobeError) else why
        for job, why in zip(jobs, checked, strict=True)
    ]
    reasons = {job[0]: why for job, why in zip(jobs, checked, strict=True)}
    runs, findings = [], list(dataset.findings)
    for run in dataset.runs:
        failed = {r.row: reasons[r.bk2] for r in run.repetitions if reasons.get(r.bk2)}
        findings += [f"{run.name} row {row}: {why}; not used" for row, why in failed.items()]
        runs.append(
            with_repetitions(
                run, tuple(replace(r, why=failed.get(r.row, r.why)) for r in run.repetitions)
            )
        )
    if unchecked := sum(why is None for why in checked):
        findings.append(
            f"{unchecked} replays were not checked for their end: for their game no end is known, "
            "or its data.json lacks the variables that show it; they are used"
        )
    return replace(dataset, runs=tuple(runs), findings=tuple(findings))


def _check(bk2, skip_first_line: bool, stimuli) -> str | None:
    """Why a replay cannot be what was played, "" where it can, None where nothing tells."""
    try:
        found = ending(bk2, skip_first_line, stimuli)
        if found is None or found:
            return None if found is None else ""
        if ending(bk2, not skip_first_line, stimuli):
            how = "with" if skip_first_line else "without"
            return f"{bk2}: does not end as a play ends, but would {how} its first input line"
    except CobeError as error:
        return str(error)
    return f"{bk2}: does not end as a play ends"
