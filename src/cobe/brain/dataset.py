"""The dataset as it lies on disk: every run, its BOLD, its plays, and why not where not.

``python -m cobe.brain.dataset ROOT [--json]`` lists it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from cobe.brain import layout
from cobe.brain.corrections import Correction, correction_for, swapped
from cobe.brain.events import Event, read_events
from cobe.brain.files import read_json, why_absent
from cobe.brain.records import Dataset, Repetition, Run
from cobe.brain.scan import scan_run
from cobe.brain.timeline import volume_counts
from cobe.core.config import FRAME_RATE_HZ
from cobe.core.errors import CobeError
from cobe.core.progress import progress
from cobe.stimulus.bk2 import read_bk2

REPLAY_TOLERANCE_S = 0.5
# BOLD goes on for up to 64 s after the last play; one run was cut 3.3 s before its end.
TAIL_S = (-4.0, 70.0)
NO_REPLAY = "no replay: the events name none"


def read_dataset(root, *, raw=None, fmriprep=None, space=layout.SPACE, corrections=True) -> Dataset:
    """Find the dataset under a folder, join its parts and check that they fit.

    A run or repetition that cannot be used is listed with the reason and stops no other one.
    Checked are: content there and not only a link; the NIfTI file as long as its header promises;
    volumes, TR, grid of the mask and rows of the confounds against each other; each replay against
    the duration of its event (0.5 s); the end of BOLD against the end of the last play
    (-4 to 70 s). Where two runs of a session fail the last one, the whole session is in doubt.

    Parameters
    ----------
    root : path
        Folder that holds the datasets, see `cobe.brain.layout.find_folders`.
    raw, fmriprep : path or None
        Given: taken instead of a search.
    space : str
        Space of the BOLD, as in the file names.
    corrections : bool
        Apply the known corrections, where the data do not contradict them.

    Returns
    -------
    dataset : Dataset

    Raises
    ------
    CobeError
        There is no raw dataset.
    """
    folders = layout.find_folders(root, raw, fmriprep)
    raw_files = layout.raw_files(folders.raw)
    derived = layout.fmriprep_files(folders.fmriprep, space) if folders.fmriprep else None
    task_tr_s = _task_tr(folders.raw)
    events = {key: _events(files) for key, files in raw_files.items()}
    scans = {
        key: scan_run(
            key,
            raw_files.get(key, {}),
            None if derived is None else derived.get(key, {}),
            task_tr_s,
        )
        for key in progress(sorted(raw_files | (derived or {})), desc="images", unit="run")
    }
    sessions = sorted({key[:2] for key in events}) if corrections else []
    swaps = {session: _swap_of(session, events, folders.raw) for session in sessions}
    runs = []
    for key, (run, problems) in progress(scans.items(), desc="replays", unit="run"):
        source, moved = _events_source(key, scans, events) if corrections else (key, None)
        plays, problem = events.get(source, ((), "no events: not in the raw dataset"))
        if corrections and (excluded := correction_for(*key[:2], "excluded")):
            problem = f"excluded: {excluded.evidence}"
        swap = swaps.get(source[:2])
        run = replace(
            run,
            repetitions=tuple(_repetition(play, folders.raw, swap) for play in plays),
            corrected=f"events of run {source[2]}: {moved.evidence}" if moved else "",
        )
        runs.append(_judge(run, [problem] * bool(problem) + problems))
    return Dataset(folders.raw, folders.fmriprep, tuple(_doubt_sessions(_unique_replays(runs))))


def _task_tr(raw: Path) -> float | None:
    path = raw / f"task-{layout.TASK}_bold.json"
    return None if why_absent(path) else read_json(path).get("RepetitionTime")


def _events(files: dict[str, Path]) -> tuple[tuple[Event, ...], str]:
    if "events" not in files:
        return (), "no events: no events.tsv in the raw dataset"
    if why := why_absent(files["events"]):
        return (), f"events {why}"
    try:
        events = read_events(files["events"])
    except CobeError as error:
        return (), str(error)
    return events, "" if events else f"{files['events']}: no play in it"


def _fits(tail_s: float) -> bool:
    return TAIL_S[0] <= tail_s <= TAIL_S[1]


def _events_source(key, scans, events) -> tuple[layout.RunKey, Correction | None]:
    """The run whose events belong to a BOLD run, and the correction that says so, if any."""
    correction = correction_for(*key[:2], "events_moved")
    if correction is None:
        return key, None
    as_filed = []
    for other, (run, _) in scans.items():
        plays = events.get(other, ((), ""))[0]
        if other[:2] == key[:2] and plays and run.n_trs:
            last_s = max(play.onset_s + play.duration_s for play in plays)
            as_filed.append(_fits(run.n_trs * run.tr_s - last_s))
    if as_filed and all(as_filed):
        return key, None  # this copy of the dataset was put right at its source
    to_events = {bold: source for source, bold in correction.events_to_bold}
    return (*key[:2], to_events.get(key[2], key[2])), correction


def _swap_of(session: tuple[str, str], events, raw: Path) -> Correction | None:
    """The swap of replays known for a session, unless more of them fit as they are filed."""
    swap = correction_for(*session, "replays_swapped")
    if swap is None:
        return None
    plays = [
        play
        for key, (plays, _) in events.items()
        for play in plays
        if key[:2] == session and play.replay and swapped(play.replay, swap) != play.replay
    ]
    as_filed = sum(_repetition(play, raw, None).has_replay for play in plays)
    corrected = sum(_repetition(play, raw, swap).has_replay for play in plays)
    return None if as_filed > corrected else swap


def _repetition(play: Event, raw: Path, swap: Correction | None) -> Repetition:
    made = Repetition(play.row, play.level, play.onset_s, play.duration_s, None, NO_REPLAY)
    if play.replay is None:
        return made
    if swap is None or swapped(play.replay, swap) == play.replay:
        return _check_replay(made, raw / play.replay)
    corrected = _check_replay(made, raw / swapped(play.replay, swap))
    return replace(corrected, corrected=f"replay {play.replay.name} swapped: {swap.evidence}")


def _check_replay(made: Repetition, path: Path) -> Repetition:
    if why := why_absent(path):
        return replace(made, bk2=path, why=why)
    try:
        movie = read_bk2(path)
    except CobeError as error:
        return replace(made, bk2=path, why=str(error))
    length_s = len(movie.buttons) / FRAME_RATE_HZ
    why = ""
    if abs(length_s - made.duration_s) >= REPLAY_TOLERANCE_S:
        why = f"{path}: a replay of {length_s:.1f} s for a play of {made.duration_s:.1f} s"
    skip = made.row == 0 and movie.game.startswith("Shinobi")
    return replace(made, bk2=path, why=why, skip_first_line=skip)


def _judge(run: Run, problems: list[str]) -> Run:
    if math.isfinite(run.tail_s) and not _fits(run.tail_s):
        problems.append(
            f"suspicious: BOLD ends {run.tail_s:.1f} s after the last play, expected "
            f"{TAIL_S[0]:g} to {TAIL_S[1]:g} s; are these its events?"
        )
    if run.repetitions and not any(r.has_replay for r in run.repetitions):
        problems.append("no repetition with a replay")
    return replace(run, usable=not problems, why="; ".join(problems))


def _unique_replays(runs: list[Run]) -> list[Run]:
    """One replay belongs to one play: where two name it, neither is used."""
    named = Counter(r.bk2 for run in runs for r in run.repetitions if r.bk2)
    result = []
    for run in runs:
        repetitions = tuple(
            replace(r, why=f"{r.bk2}: named by {named[r.bk2]} plays")
            if r.has_replay and named[r.bk2] > 1
            else r
            for r in run.repetitions
        )
        changed = replace(run, repetitions=repetitions)
        if run.usable and not any(r.has_replay for r in repetitions):
            changed = replace(changed, usable=False, why="no repetition with a replay")
        result.append(changed)
    return result


def _doubt_sessions(runs: list[Run]) -> list[Run]:
    """Where two runs of a session do not fit their events, the order of all is in doubt."""
    misfits = Counter(
        run.key[:2] for run in runs if math.isfinite(run.tail_s) and not _fits(run.tail_s)
    )
    return [
        replace(
            run,
            usable=False,
            why=f"suspicious: the events of {misfits[run.key[:2]]} other runs of the session do "
            "not fit their BOLD",
        )
        if run.usable and misfits[run.key[:2]] > 1
        else run
        for run in runs
    ]


def _as_json(dataset: Dataset) -> dict:
    def plain(value):
        return str(value) if isinstance(value, Path) else value

    runs = []
    for run in dataset.runs:
        known = run.n_trs is not None and math.isfinite(run.tr_s)
        entry = {k: plain(v) for k, v in vars(run).items() if k != "repetitions"}
        entry["tr_s"] = run.tr_s if math.isfinite(run.tr_s) else None
        entry["volumes"] = volume_counts(run) if known else None
        entry["repetitions"] = [
            {k: plain(v) for k, v in vars(r).items()} | {"replay": r.has_replay}
            for r in run.repetitions
        ]
        runs.append(entry)
    return {
        "raw": plain(dataset.raw),
        "fmriprep": plain(dataset.fmriprep),
        "subjects": dataset.totals().to_dict("records"),
        "runs": runs,
    }


def _print(dataset: Dataset) -> None:
    print(f"raw       {dataset.raw}\nfmriprep  {dataset.fmriprep or 'not found'}\n")
    print(dataset.totals().to_string(index=False))
    for title, runs in (
        ("runs that cannot be used", [(r.name, r.why) for r in dataset.runs if not r.usable]),
        (
            "repetitions without a usable replay",
            [
                (f"{run.name} row {r.row} level {r.level}", r.why)
                for run in dataset.runs
                for r in run.repetitions
                if not r.has_replay
            ],
        ),
        (
            "corrected",
            [(run.name, run.corrected) for run in dataset.runs if run.corrected]
            + [
                (f"{run.name} row {r.row} level {r.level}", r.corrected)
                for run in dataset.runs
                for r in run.repetitions
                if r.corrected
            ],
        ),
    ):
        print(f"\n{len(runs)} {title}")
        for name, why in runs:
            print(f"  {name}: {why}")


def main(arguments=None) -> int:
    """Command line: print the inventory of a dataset; 0, or 1 where there is none."""
    parser = argparse.ArgumentParser(prog="python -m cobe.brain.dataset", description=__doc__)
    parser.add_argument("root", metavar="ROOT", help="folder that holds the datasets")
    parser.add_argument("--raw", metavar="DIR", help="raw BIDS dataset, instead of a search")
    parser.add_argument("--fmriprep", metavar="DIR", help="derivatives, instead of a search")
    parser.add_argument("--space", default=layout.SPACE, help="space of the BOLD (%(default)s)")
    parser.add_argument("--no-corrections", action="store_true", help="take the data as filed")
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    given = parser.parse_args(arguments)
    try:
        dataset = read_dataset(
            given.root,
            raw=given.raw,
            fmriprep=given.fmriprep,
            space=given.space,
            corrections=not given.no_corrections,
        )
    except CobeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(_as_json(dataset), indent=1))
    else:
        _print(dataset)
    return 0


if __name__ == "__main__":
    sys.exit(main())
