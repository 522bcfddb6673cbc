"""A dataset as text and as JSON: totals, corrections, findings, downloads, every run."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from pathlib import Path

from cobe.brain import layout
from cobe.brain.files import NOT_DOWNLOADED, why_absent
from cobe.brain.records import Dataset, Run
from cobe.brain.timeline import volume_counts

PARTS = ("raw", "fmriprep", "anat", "stimuli", "timeseries")


def downloads(dataset: Dataset) -> list[tuple[str, int]]:
    """What to type for the content that is only a link yet, and how many files each line gets.

    One line per subject and kind of file, with patterns that the shell fills in. The patterns also
    name the files that `not_needed` counts, which no run can use.
    """
    lines = Counter()
    stimuli = dataset.raw / "stimuli"
    if dataset.folders.stimuli is None and stimuli.is_dir():
        # Without content: the key logs hold their own start states, and the ROM is the user's.
        lines[f"cd {_quoted(dataset.raw)} && datalad get -n stimuli"] = 1
    for root, path, pattern in _annexed(dataset):
        if why_absent(path).startswith(NOT_DOWNLOADED):
            folders = ["ses-*" if p.startswith("ses-") else p for p in path.parent.parts]
            folder = "/".join(folders[len(root.parts) :])
            lines[f"cd {_quoted(root)} && datalad get {folder}/{pattern}"] += 1
    return list(lines.items())


def download_notes(dataset: Dataset) -> tuple[str, list[str]]:
    """What the lines of `downloads` are, and the lines with their number of files."""
    title = "lines to type for what is not downloaded"
    if n := not_needed(dataset):
        title += f" (they also name {n} files of runs excluded or without events, not counted)"
    return title, [f"{line}   # {n} files" for line, n in downloads(dataset)]


def not_needed(dataset: Dataset) -> int:
    """Files of BOLD that are only links yet, of runs that are excluded or have no events."""
    return sum(
        why_absent(path).startswith(NOT_DOWNLOADED)
        for run in dataset.runs
        for path in (() if wanted(run) else (run.bold, run.mask, run.confounds))
        if path and dataset.source != "timeseries"
    )


def wanted(run: Run) -> bool:
    """Whether a run could be used if all that is a link only were downloaded."""
    return not run.excluded and bool(run.repetitions or f"events {NOT_DOWNLOADED}" in run.why)


def listing_line(folder, space: str = layout.SPACE, source: str = "fmriprep", atlas="") -> str:
    """What to type for the inventory of a folder."""
    line = f"python -m cobe.brain.dataset {shlex.quote(str(folder))}"
    line += f" --source {source}" if source != "fmriprep" else ""
    line += f" --space {shlex.quote(space)}" if space != layout.SPACE else ""
    return line + (f" --atlas {shlex.quote(atlas)}" if atlas else "")


def _quoted(folder: Path) -> str:
    return shlex.quote(str(folder.absolute()))


def _annexed(dataset: Dataset):
    """Every file that a run needs, the dataset it lies in, and the pattern of its kind."""
    folders = dataset.folders
    for files in layout.raw_files(folders.raw).values():
        if "events" in files:
            yield folders.raw, files["events"], "*_run-*[0-9]_events.tsv"
    for run in dataset.runs:
        for repetition in run.repetitions:
            if repetition.bk2:
                yield folders.raw, repetition.bk2, "*.bk2"
    if dataset.source == "timeseries":
        # Only here: it brings nilearn's atlases along, which take longer than a listing.
        from cobe.brain.timeseries import find_dseg

        for path in sorted({r.timeseries for r in dataset.runs if r.timeseries and wanted(r)}):
            yield folders.timeseries, path, path.name
            if dseg := find_dseg(path):
                yield folders.timeseries, dseg, dseg.name
        return
    for kind in ("bold", "mask", "confounds"):
        for run in filter(wanted, dataset.runs):
            if path := getattr(run, kind):
                rest = path.name.partition("_run-")[2].partition("_")[2]
                yield folders.fmriprep, path, f"*_{rest}"


def as_json(dataset: Dataset) -> dict:
    """Everything that is known of a dataset, of types that JSON knows."""
    return {
        **{part: _plain(getattr(dataset.folders, part)) for part in PARTS},
        "source": dataset.source,
        "subjects": dataset.totals().to_dict("records"),
        "corrections": [
            {"name": c.correction.name, "status": c.status, "evidence": c.correction.evidence}
            for c in dataset.corrections
        ],
        "findings": list(dataset.findings),
        "downloads_not_needed": not_needed(dataset),
        "downloads": [{"type": line, "files": n} for line, n in downloads(dataset)],
        "runs": [_run_as_json(run) for run in dataset.runs],
    }


def _plain(value):
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _run_as_json(run: Run) -> dict:
    known = run.n_trs is not None and math.isfinite(run.tr_s)
    return {
        **{name: _plain(value) for name, value in vars(run).items()},
        "tail_s": _plain(run.tail_s),
        "volumes": volume_counts(run) if known else None,
        "repetitions": [
            {name: _plain(value) for name, value in vars(r).items()} | {"replay": r.has_replay}
            for r in run.repetitions
        ],
    }


def as_text(dataset: Dataset) -> str:
    """The inventory to read: totals first, every run and repetition last."""
    lines = [f"{part:<11}{getattr(dataset.folders, part) or 'not found'}" for part in PARTS]
    lines += ["", dataset.totals().to_string(index=False)]
    lines += _section(
        "known corrections",
        [
            f"{c.status:<11}{c.correction.name}: {c.correction.evidence}"
            for c in dataset.corrections
        ],
    )
    lines += _section("findings", list(dataset.findings))
    lines += _section(*download_notes(dataset))
    unusable = sum(not run.usable for run in dataset.runs)
    lines += ["", f"{len(dataset.runs)} runs, {unusable} of them cannot be used"]
    for run in dataset.runs:
        lines += _run_as_text(run)
    return "\n".join(lines)


def _section(title: str, entries: list[str]) -> list[str]:
    return ["", f"{len(entries)} {title}", *(f"  {entry}" for entry in entries)]


def _run_as_text(run: Run) -> list[str]:
    volumes = "volumes unknown" if run.n_trs is None else f"{run.n_trs} volumes"
    what = f"usable, {volumes}" if run.usable else f"{run.why} ({volumes})"
    lines = [f"  {run.name}: {what}"]
    if run.corrected:
        lines.append(f"  {run.name} corrected: {run.corrected}")
    for r in run.repetitions:
        lines.append(f"    {run.name} row {r.row} level {r.level}: {r.why or 'replay'}")
        if r.corrected:
            lines.append(f"    {run.name} row {r.row} corrected: {r.corrected}")
    return lines
