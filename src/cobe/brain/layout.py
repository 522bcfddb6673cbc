"""Where the raw dataset and what was derived from it lie, found by content and not by name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cobe.core.errors import CobeError

TASK = "shinobi"
SPACE = "MNI152NLin2009cAsym"
DEPTH = 3
RunKey = tuple[str, str, int]

_NAME = re.compile(rf"(sub-[A-Za-z0-9]+)_(ses-[A-Za-z0-9]+)_task-{TASK}_run-(\d+)_(.+)")
_RAW_KINDS = {"bold.nii.gz": "bold", "bold.json": "json", "events.tsv": "events"}
_RAW = re.compile(r"bold\.nii\.gz|bold\.json|events\.tsv")
_FMRIPREP = re.compile(r"desc-confounds_timeseries\.tsv|space-\w+_desc-preproc_bold\.nii\.gz")
_ANAT = re.compile(
    r"sub-[A-Za-z0-9]+_(space-\w+_)?(desc-brain_mask|dseg|desc-preproc_T1w)\.nii\.gz"
)
_TIMESERIES = re.compile(rf"sub-[A-Za-z0-9]+_task-{TASK}_space-[\w-]+_timeseries\.h5")
# Never inside these lies a dataset, and some of them are large.
_SKIPPED = re.compile(r"sub-|ses-|\.|stimuli$|code$|figures$|logs$")


@dataclass(frozen=True)
class Folders:
    """Roots of the parts of a dataset; None: there is none.

    Attributes
    ----------
    raw : Path
        Raw BIDS dataset: events, key logs, sidecars.
    fmriprep : Path or None
        fMRIPrep derivatives.
    anat : Path or None
        Anatomical derivatives (``sub-*/anat``): masks, segmentations, the T1w image.
    stimuli : Path or None
        Custom integrations of stable-retro, one folder per game.
    timeseries : Path or None
        Extracted series: ``<atlas>/sub-*/*_timeseries.h5``.
    """

    raw: Path
    fmriprep: Path | None = None
    anat: Path | None = None
    stimuli: Path | None = None
    timeseries: Path | None = None


def find_folders(
    root, raw=None, fmriprep=None, *, anat=None, stimuli=None, timeseries=None
) -> Folders:
    """Find the parts of a dataset under a folder, whichever of the known layouts it has.

    Side by side (``shinobi``, ``shinobi.fmriprep``), current super-dataset (``shinobi/bids``,
    ``shinobi/fmriprep``), old super-datasets (``cneuromod/shinobi``,
    ``cneuromod.processed/fmriprep/shinobi``), raw as a source of the derivatives
    (``sourcedata/shinobi``). A folder counts by what it holds. Of several, the one nearest to
    `root` is taken.

    Parameters
    ----------
    root : path
        Folder to search, three levels deep; where it is the raw dataset itself, the derivatives
        are also looked for beside it.
    raw, fmriprep, anat, stimuli, timeseries : path or None
        Given: taken instead of a search. The stimuli lie inside the raw dataset.

    Returns
    -------
    folders : Folders

    Raises
    ------
    CobeError
        A path is no folder or does not hold what it should, there is no raw dataset, or two are
        equally near.
    """
    root = _folder(root)
    given = {"fmriprep": fmriprep, "anat": anat, "timeseries": timeseries}
    if raw is None:
        raw = _nearest(root, _holds_raw, "raw")
        if raw is None:
            raise CobeError(
                f"{root}: no raw BIDS dataset; looked {DEPTH} levels deep for "
                f"sub-*/ses-*/func/*_task-{TASK}_run-*_events.tsv; give the folder that holds "
                f"{TASK}/ and {TASK}.fmriprep/"
            )
    else:
        raw = _given(raw, _holds_raw, f"sub-*/ses-*/func/*_task-{TASK}_run-*_events.tsv")
    found = {}
    for part, (holds, pattern) in _PARTS.items():
        if given[part] is not None:
            found[part] = _given(given[part], holds, pattern)
        else:
            found[part] = _search(root, raw, found.get("fmriprep"), part)
    if stimuli is not None:
        found["stimuli"] = _given(stimuli, _holds_stimuli, "*/rom.sha")
    elif _holds_stimuli(raw / "stimuli"):
        found["stimuli"] = raw / "stimuli"
    return Folders(raw, **found)


def _given(path, holds: Callable[[Path], bool], pattern: str) -> Path:
    path = _folder(path)
    if not holds(path):
        raise CobeError(f"{path}: no {pattern} in it; give the root of that dataset")
    return path


def _search(root: Path, raw: Path, fmriprep: Path | None, part: str) -> Path | None:
    holds = _PARTS[part][0]
    # The anatomy that the derivatives were made with, before one that lies nearer.
    inside = [fmriprep / "sourcedata" / "smriprep"] if part == "anat" and fmriprep else []
    beside = _beside(raw, part) if root == raw else ()
    return (
        next(filter(holds, inside), None)
        or _nearest(root, holds, part)
        or next(filter(holds, beside), None)
    )


def _beside(raw: Path, part: str) -> tuple[Path, ...]:
    """Where the parts lie when the raw dataset itself is given as root."""
    above = raw.parent
    return {
        "fmriprep": (
            above / f"{raw.name}.fmriprep",
            above / "fmriprep",
            above.parent / "cneuromod.processed" / "fmriprep" / TASK,
        ),
        "anat": (
            above / "cneuromod.processed" / "smriprep",
            above.parent / "anat" / "smriprep",
            above.parent / "cneuromod.processed" / "smriprep",
        ),
        "timeseries": (
            above / f"{raw.name}.timeseries",
            above / f"{raw.name}.timeseries" / "timeseries",
            above / "timeseries",
        ),
    }[part]


def timeseries_files(timeseries: Path) -> dict[str, list[Path]]:
    """Files of extracted series, there or only links, of every subject."""
    files: dict[str, list[Path]] = {}
    for atlas in _folders(timeseries, ""):
        for subject in _folders(atlas, "sub-"):
            paths = [subject / name for name in _names(subject) if _TIMESERIES.fullmatch(name)]
            files.setdefault(subject.name, []).extend(paths)
    return {subject: paths for subject, paths in files.items() if paths}


def raw_files(raw: Path) -> dict[RunKey, dict[str, Path]]:
    """Files of every raw run: kind ("bold", "json", "events") to path.

    Aborted acquisitions (``__dup``) and other events tables (``desc-``) are no kinds. Where two
    files claim one run (``run-1`` and ``run-01``), "twice" is the second.
    """
    return _list(raw, _RAW_KINDS)


def fmriprep_files(fmriprep: Path, space: str = SPACE) -> dict[RunKey, dict[str, Path]]:
    """Files of every run in the derivatives: "bold", "json", "mask", "confounds" to path."""
    kinds = {
        f"space-{space}_desc-preproc_bold.nii.gz": "bold",
        f"space-{space}_desc-preproc_bold.json": "json",
        f"space-{space}_desc-brain_mask.nii.gz": "mask",
        "desc-confounds_timeseries.tsv": "confounds",
    }
    return _list(fmriprep, kinds)


def _list(root: Path, kinds: dict[str, str]) -> dict[RunKey, dict[str, Path]]:
    runs: dict[RunKey, dict[str, Path]] = {}
    for folder in _func_folders(root):
        for name in _names(folder):
            match = _NAME.fullmatch(name)
            if match and match[4] in kinds:
                # Raw pads the run number and fMRIPrep does not: only the number joins them.
                key = (match[1], match[2], int(match[3]))
                files = runs.setdefault(key, {})
                kind = "twice" if kinds[match[4]] in files else kinds[match[4]]
                files[kind] = folder / name
    return dict(sorted(runs.items()))


def _func_folders(root: Path):
    for subject in _folders(root, "sub-"):
        for session in _folders(subject, "ses-"):
            func = session / "func"
            if func.is_dir():
                yield func


def _folders(parent: Path, prefix: str) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            names = [e.name for e in entries if e.name.startswith(prefix) and e.is_dir()]
    except OSError:
        return []
    return [parent / name for name in sorted(names)]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise CobeError(f"{folder}: {error.strerror}; check its permissions") from error


def _holds_task(folder: Path, rest: re.Pattern) -> bool:
    """Whether a folder is the root of a dataset: files of the task, named so after the run."""
    return any(
        (match := _NAME.fullmatch(name)) and rest.fullmatch(match[4])
        for func in _func_folders(folder)
        for name in _names(func)
    )


def _holds_raw(folder: Path) -> bool:
    return _holds_task(folder, _RAW)


def _holds_fmriprep(folder: Path) -> bool:
    return _holds_task(folder, _FMRIPREP)


def _holds_anat(folder: Path) -> bool:
    return any(
        _ANAT.fullmatch(name)
        for subject in _folders(folder, "sub-")
        if (subject / "anat").is_dir()
        for name in _names(subject / "anat")
    )


def _holds_timeseries(folder: Path) -> bool:
    return any(
        _TIMESERIES.fullmatch(name)
        for atlas in _folders(folder, "")
        for subject in _folders(atlas, "sub-")
        for name in _names(subject)
    )


def _holds_stimuli(folder: Path) -> bool:
    return any((game / "rom.sha").exists() for game in _folders(folder, ""))


_PARTS = {
    "fmriprep": (
        _holds_fmriprep,
        f"sub-*/ses-*/func/*_task-{TASK}_run-*_desc-preproc_bold.nii.gz",
    ),
    "anat": (_holds_anat, "sub-*/anat/*_desc-brain_mask.nii.gz"),
    "timeseries": (_holds_timeseries, f"*/sub-*/*_task-{TASK}_space-*_timeseries.h5"),
}


def _nearest(root: Path, holds: Callable[[Path], bool], what: str) -> Path | None:
    level = [root]
    for _ in range(DEPTH + 1):
        found = [folder for folder in level if holds(folder)]
        if len(found) > 1:
            names = ", ".join(str(folder) for folder in found)
            raise CobeError(f"{root}: several {what} datasets ({names}); name one with --{what}")
        if found:
            return found[0]
        level = [
            folder
            for parent in level
            for folder in _folders(parent, "")
            if not _SKIPPED.match(folder.name)
        ]
    return None


def _folder(path) -> Path:
    path = Path(path)
    if not path.exists():
        raise CobeError(f"{path}: no such folder; give the folder that holds the datasets")
    if not path.is_dir():
        raise CobeError(f"{path}: a file, not a folder; give the folder that holds the datasets")
    return path
