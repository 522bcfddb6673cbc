"""Where the raw dataset and its fMRIPrep derivatives lie, found by content and not by name."""

from __future__ import annotations

import os
import re
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
# Never inside these lies a dataset, and some of them are large.
_SKIPPED = re.compile(r"sub-|ses-|\.|stimuli$|code$|figures$|logs$")


@dataclass(frozen=True)
class Folders:
    """Roots of the raw dataset and of the fMRIPrep derivatives (None: there is none)."""

    raw: Path
    fmriprep: Path | None


def find_folders(root, raw=None, fmriprep=None) -> Folders:
    """Find the two datasets under a folder, whichever of the known layouts it has.

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
    raw, fmriprep : path or None
        Given: taken instead of a search.

    Returns
    -------
    folders : Folders

    Raises
    ------
    CobeError
        A path is no folder, there is no raw dataset, or two are equally near.
    """
    root = _folder(root)
    if raw is None:
        raw = _nearest(root, _RAW, "raw")
        if raw is None:
            raise CobeError(
                f"{root}: no raw BIDS dataset; looked {DEPTH} levels deep for "
                f"sub-*/ses-*/func/*_task-{TASK}_run-*_events.tsv; give the folder that holds "
                f"{TASK}/ and {TASK}.fmriprep/"
            )
    else:
        raw = _folder(raw)
        if not _holds(raw, _RAW):
            raise CobeError(
                f"{raw}: no sub-*/ses-*/func/*_task-{TASK}_run-*_events.tsv in it; "
                "give the root of the raw BIDS dataset"
            )
    if fmriprep is None:
        fmriprep = _nearest(root, _FMRIPREP, "fmriprep")
        beside = (
            raw.parent / f"{raw.name}.fmriprep",
            raw.parent / "fmriprep",
            raw.parent.parent / "cneuromod.processed" / "fmriprep" / TASK,
        )
        if fmriprep is None and root == raw:
            fmriprep = next((path for path in beside if _holds(path, _FMRIPREP)), None)
    else:
        fmriprep = _folder(fmriprep)
        if not _holds(fmriprep, _FMRIPREP):
            raise CobeError(
                f"{fmriprep}: no sub-*/ses-*/func/*_task-{TASK}_run-*_desc-preproc_bold.nii.gz in "
                "it; give the root of the fMRIPrep derivatives"
            )
    return Folders(raw, fmriprep)


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


def _holds(folder: Path, rest: re.Pattern) -> bool:
    """Whether a folder is the root of a dataset: files of the task, named so after the run."""
    return any(
        (match := _NAME.fullmatch(name)) and rest.fullmatch(match[4])
        for func in _func_folders(folder)
        for name in _names(func)
    )


def _nearest(root: Path, rest: re.Pattern, what: str) -> Path | None:
    level = [root]
    for _ in range(DEPTH + 1):
        found = [folder for folder in level if _holds(folder, rest)]
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
