"""The dataset as it lies on disk: every run, its BOLD, its plays, and why not where not.

``python -m cobe.brain.dataset ROOT [--json]`` lists it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from cobe.brain import checks, layout
from cobe.brain.corrections import (
    CORRECTIONS,
    Correction,
    correction_for,
    corrections_without,
    swapped,
)
from cobe.brain.events import Event, read_events
from cobe.brain.files import NOT_DOWNLOADED, annex_key, read_json, why_absent
from cobe.brain.inventory import as_json, as_text
from cobe.brain.records import CorrectionStatus, Dataset, Repetition, Run
from cobe.brain.scan import Series, scan_run
from cobe.core.errors import CobeError
from cobe.core.progress import progress
from cobe.core.timing import FRAME_RATE_HZ
from cobe.stimulus.bk2 import read_bk2

NO_REPLAY = "no replay: the events name none"
SOURCES = ("fmriprep", "timeseries")
DEFAULT_ATLAS = "cneuromod26"


def read_dataset(
    root,
    *,
    raw=None,
    fmriprep=None,
    anat=None,
    stimuli=None,
    timeseries=None,
    space=layout.SPACE,
    source="fmriprep",
    atlas=None,
    corrections: bool = True,
    without: Collection[str] = (),
) -> Dataset:
    """Find the dataset under a folder, join its parts and check that they fit.

    A run or repetition that cannot be used is listed with the reason and stops no other one.
    Checked are: content there and not only a link; the NIfTI file as long as its header promises;
    volumes, TR, grid of the mask and rows of the confounds against each other, the grid of the
    BOLD against the other runs of the subject; each replay against the duration of its event
    (0.5 s), its name against the row that names it, and its content against the other replays; the
    end of BOLD against the end of the last play (-4 to 70 s). Where two runs of a
    session fail the last one, or its events fit rotated and not as filed, the whole session is in
    doubt. Whether a replay ends as a play ends needs the ROM: `cobe.brain.endings.check_endings`.

    Parameters
    ----------
    root : path
        Folder that holds the datasets, see `cobe.brain.layout.find_folders`.
    raw, fmriprep, anat, stimuli, timeseries : path or None
        Given: taken instead of a search.
    space : str
        Space of the BOLD, as in the file names.
    source : str
        Which BOLD a run needs to be usable: images with mask and confounds ("fmriprep") or
        extracted series ("timeseries").
    atlas : str or None
        Atlas of the extracted series, as in the file names ("cneuromod26", "Schaefer18"); None:
        parcels before voxels, the atlas that is there for most subjects, the lab's own.
    corrections : bool
        Apply the known corrections, where the data do not contradict them.
    without : collection of str
        Names of corrections not to apply.

    Returns
    -------
    dataset : Dataset

    Raises
    ------
    CobeError
        There is no raw dataset, or an argument is unknown.
    """
    if source not in SOURCES:
        raise CobeError(f"source {source!r}: unknown; there are {', '.join(SOURCES)}")
    active = corrections_without(without) if corrections else ()
    folders = layout.find_folders(
        root, raw, fmriprep, anat=anat, stimuli=stimuli, timeseries=timeseries
    )
    raw_files = layout.raw_files(folders.raw)
    derived = layout.fmriprep_files(folders.fmriprep, space) if folders.fmriprep else None
    series = _series_by_subject(folders.timeseries, space, atlas, source == "timeseries")
    task_tr_s, task_problem = _task_tr(folders.raw)
    events = {key: _events(files) for key, files in raw_files.items()}
    scans = {
        key: scan_run(
            key,
            raw_files.get(key, {}),
            None if derived is None else derived.get(key, {}),
            task_tr_s,
            series.get(key[0]),
            source,
        )
        for key in progress(sorted(raw_files | (derived or {})), desc="images", unit="run")
    }
    grids = checks.other_grids({k: scan.header for k, scan in scans.items() if scan.header})
    swaps = {
        session: _swap_of(session, events, folders.raw, active)
        for session in sorted({key[:2] for key in events})
    }
    runs = []
    for key, scan in progress(scans.items(), desc="replays", unit="run"):
        source_key, moved = _events_source(key, scans, events, active)
        plays, problem = events.get(source_key, ((), "no events: not in the raw dataset"))
        if excluded := correction_for(*key[:2], "excluded", active):
            problem = f"excluded: {excluded.evidence}"
        swap = swaps.get(source_key[:2])
        run = replace(
            scan.run,
            repetitions=tuple(
                checks.check_name(_repetition(play, folders.raw, swap), play.replay, source_key)
                for play in plays
            ),
            excluded=excluded is not None,
            corrected=f"events of run {source_key[2]}: {moved.evidence}" if moved else "",
        )
        problems = [problem, *scan.problems, grids.get(key, "")]
        runs.append(checks.judge(run, [reason for reason in problems if reason]))
    runs, copies = checks.copied_replays(checks.unique_replays(runs))
    runs, doubts = checks.doubt_sessions(runs)
    findings = (
        *([task_problem] if task_problem else []),
        *doubts,
        *checks.misnamed_replays(runs),
        *copies,
        *checks.swapped_replays(runs),
        *checks.cut_runs(runs),
    )
    statuses = tuple(_status(c, active, runs, events) for c in CORRECTIONS)
    return Dataset(folders, tuple(runs), statuses, findings, source)


def _series_by_subject(
    folder: Path | None, space: str, atlas: str | None, read: bool
) -> dict[str, Series]:
    """The file of extracted series of every subject; what is in it only where that is wanted.

    All subjects have the same atlas: parcels before voxels, what is there for most, then the
    lab's own, then by name. Series in another space than the one asked for are not taken.
    """
    if folder is None and atlas is None:
        return {}
    # Only here: it brings nilearn's atlases along, which take longer than the rest of a listing.
    from cobe.brain.timeseries import entities

    files = layout.timeseries_files(folder) if folder else {}
    named, there = Counter(), Counter()
    for path in (path for paths in files.values() for path in paths):
        known = entities(path)
        in_space = known["space"] == space
        named[known.get("atlas", "")] += in_space
        there[known.get("atlas", "")] += in_space and not why_absent(path)
    names = sorted(set(named) - {""})
    if atlas is None:
        atlas = max(names, key=lambda n: (there[n], named[n], n == DEFAULT_ATLAS), default="")
    elif atlas not in names:
        raise CobeError(f"atlas {atlas!r}: no series of it; there are {', '.join(names) or 'none'}")
    chosen = {}
    for subject, paths in files.items():
        spaces = {
            known["space"]: path
            for path in paths
            if (known := entities(path)).get("atlas", "") == atlas
        }
        if space in spaces:
            path = spaces[space]
            chosen[subject] = _open_series(path) if read else Series(path, {})
        elif spaces:
            why = (
                f"extracted series of {subject} are in space {', '.join(sorted(spaces))}, not in "
                f"{space}: choose with --space (COBE_SPACE)"
            )
            chosen[subject] = Series(None, {}, why)
    return chosen


def _open_series(path: Path) -> Series:
    from cobe.brain.timeseries import column_labels, label_image, timeseries_shapes

    if why := why_absent(path):
        return Series(path, {}, why)
    try:
        shapes = timeseries_shapes(path)
        column_labels(path, label_image(path))
        return Series(path, shapes)
    except CobeError as error:
        return Series(path, {}, str(error))


def _task_tr(raw: Path) -> tuple[float | None, str]:
    path = raw / f"task-{layout.TASK}_bold.json"
    try:
        return (None if why_absent(path) else read_json(path).get("RepetitionTime")), ""
    except CobeError as error:
        return None, str(error)


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


def _events_source(key, scans, events, active) -> tuple[layout.RunKey, Correction | None]:
    """The run whose events belong to a BOLD run, and the correction that says so, if any."""
    correction = correction_for(*key[:2], "events_moved", active)
    if correction is None:
        return key, None
    as_filed = []
    for other, scan in scans.items():
        plays = events.get(other, ((), ""))[0]
        if other[:2] == key[:2] and plays and scan.run.n_trs:
            last_s = max(play.onset_s + play.duration_s for play in plays)
            as_filed.append(checks.tail_fits(scan.run.n_trs * scan.run.tr_s - last_s))
    # Only the whole session tells: a single run may fit the events of another one by chance.
    if len(as_filed) == len(correction.events_to_bold) and all(as_filed):
        return key, None  # this copy of the dataset was put right at its source
    to_events = {bold: source for source, bold in correction.events_to_bold}
    return (*key[:2], to_events.get(key[2], key[2])), correction


def _swap_of(session: tuple[str, str], events, raw: Path, active) -> Correction | None:
    """The swap of replays known for a session, unless more of them fit as they are filed."""
    swap = correction_for(*session, "replays_swapped", active)
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


def _status(correction: Correction, active, runs: list[Run], events) -> CorrectionStatus:
    session = (correction.subject, correction.session)
    members = [run for run in runs if run.key[:2] == session]
    if not members:
        status = "absent"
    elif correction not in active:
        status = "off"
    elif correction.kind == "excluded" or any(
        run.corrected or any(r.corrected for r in run.repetitions) for run in members
    ):
        status = "applied"
    elif any(NOT_DOWNLOADED in why for key, (_, why) in events.items() if key[:2] == session):
        status = "waiting"
    else:
        status = "not needed"
    return CorrectionStatus(correction, status)


def _repetition(play: Event, raw: Path, swap: Correction | None) -> Repetition:
    made = Repetition(play.row, play.level, play.onset_s, play.duration_s, None, NO_REPLAY)
    if play.replay is None:
        return made
    if swap is None or swapped(play.replay, swap) == play.replay:
        return _check_replay(made, raw / play.replay)
    corrected = _check_replay(made, raw / swapped(play.replay, swap))
    return replace(corrected, corrected=f"replay {play.replay.name} swapped: {swap.evidence}")


def _check_replay(made: Repetition, path: Path) -> Repetition:
    key = annex_key(path)
    if why := why_absent(path):
        return replace(made, bk2=path, why=why, content=(key,) if key else ())
    try:
        movie = read_bk2(path)
    except CobeError as error:
        return replace(made, bk2=path, why=str(error))
    length_s = movie.n_frames / FRAME_RATE_HZ
    why = ""
    if not checks.replay_fits(length_s, made.duration_s):
        why = f"{path}: a replay of {length_s:.1f} s for a play of {made.duration_s:.1f} s"
    skip = made.row == 0 and movie.game.startswith("Shinobi")
    content = (movie.digest, key) if key else (movie.digest,)
    return replace(
        made, bk2=path, why=why, skip_first_line=skip, replay_s=length_s, content=content
    )


def main(arguments=None) -> int:
    """Command line: print the inventory of a dataset; 0, or 1 where there is none."""
    parser = argparse.ArgumentParser(prog="python -m cobe.brain.dataset", description=__doc__)
    parser.add_argument("root", metavar="ROOT", help="folder that holds the datasets")
    for part in ("raw", "fmriprep", "anat", "stimuli", "timeseries"):
        parser.add_argument(f"--{part}", metavar="DIR", help="its folder, instead of a search")
    parser.add_argument("--space", default=layout.SPACE, help="space of the BOLD (%(default)s)")
    parser.add_argument(
        "--source",
        choices=SOURCES,
        default=SOURCES[0],
        help="BOLD that a run needs: images, or extracted series (%(default)s)",
    )
    parser.add_argument("--atlas", metavar="NAME", help="atlas of the extracted series")
    parser.add_argument("--no-corrections", action="store_true", help="take the data as filed")
    parser.add_argument(
        "--without-correction",
        metavar="NAME",
        action="append",
        default=[],
        help=f"do not apply it (may be repeated): {', '.join(c.name for c in CORRECTIONS)}",
    )
    parser.add_argument(
        "--play",
        action="store_true",
        help="play every replay (needs the ROM) and check that it ends as a play ends",
    )
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    given = vars(parser.parse_args(arguments))
    as_filed, without = given.pop("no_corrections"), given.pop("without_correction")
    play, plain = given.pop("play"), given.pop("json")
    try:
        dataset = read_dataset(
            given.pop("root"), **given, corrections=not as_filed, without=without
        )
        if play:
            # Only here: the inventory needs no emulator.
            from cobe.brain.endings import check_endings

            dataset = check_endings(dataset)
    except CobeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(as_json(dataset), indent=1) if plain else as_text(dataset))
    return 0


if __name__ == "__main__":
    sys.exit(main())
