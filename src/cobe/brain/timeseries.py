"""The light path: parcel series that are extracted already, one HDF5 file per subject, no NIfTI.

The lab's `shinobi.timeseries` holds, per subject, atlas and space, a file with one group per
session and in it one array per run, cleaned of confounds and z-scored, for every volume.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np

from cobe.brain.files import load_nifti, why_absent
from cobe.brain.layout import TASK, RunKey
from cobe.brain.parcels import check_labels
from cobe.core.errors import CobeError

SUFFIX = "_timeseries.h5"
# Early versions of the dataset spell the year of Schaefer's atlas out, later ones do not.
_SPELLINGS = {"Schaefer2018": "Schaefer18"}
_DATASET = re.compile(rf"(ses-[A-Za-z0-9]+)_task-{TASK}_run-(\d+)_timeseries")
_N_PARCELS = re.compile(r"(\d+)Parcels")
# Written as float32, and z-scored as float64 or float32: a mean or spread beyond this is another.
Z_TOLERANCE = 0.01
# Series are noise to a compressor: what promises more than this is not in the file.
MAX_RATIO = 1032


def entities(path: Path) -> dict[str, str]:
    """What the name of a file says: "sub", "task", "space", "atlas", "desc".

    Both spellings of an atlas come out as one, ``"Schaefer18"``.
    """
    parts = [part.split("-", 1) for part in path.name.split(".")[0].split("_") if "-" in part]
    found = dict(parts)
    if "atlas" in found:
        found["atlas"] = _SPELLINGS.get(found["atlas"], found["atlas"])
    return found


def timeseries_shapes(path: Path) -> dict[RunKey, tuple[int, int]]:
    """Volumes and columns of every run in a file; no values are read.

    Parameters
    ----------
    path : Path
        ``sub-*_task-shinobi_*_timeseries.h5``.

    Returns
    -------
    shapes : dict
        (subject, session, run) to (n_trs, n_columns). Groups and arrays of other names are left
        out.

    Raises
    ------
    CobeError
        The file is not there, not downloaded, cut, or no parcel file; its name holds no subject.
    """
    path = Path(path)
    subject = f"sub-{entities(path).get('sub', '')}"
    if subject == "sub-":
        raise CobeError(f"{path}: its name does not start with sub-; keep the dataset's own names")
    shapes = {}
    with _opened(path) as file:
        for session, group in _own_items(file):
            if not isinstance(group, h5py.Group):
                continue
            for name, array in _own_items(group):
                if not _is_series(session, name, array):
                    continue
                if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
                    raise CobeError(
                        f"{path}: {session}/{name} is {array.dtype} {array.shape}, not numbers "
                        "(volumes, parcels); get it again"
                    )
                if array.is_virtual or array.external:
                    raise CobeError(f"{path}: {session}/{name} lies in another file; get it again")
                if array.nbytes > MAX_RATIO * path.stat().st_size:
                    raise CobeError(
                        f"{path}: {session}/{name} promises {array.shape}, far more than the file "
                        "holds; get it again"
                    )
                key = (subject, session, _run_of(name))
                if key in shapes:
                    raise CobeError(f"{path}: two arrays for run {key[2]} of {session}")
                shapes[key] = array.shape
    widths = {shape[1] for shape in shapes.values()}
    if len(widths) > 1:
        raise CobeError(
            f"{path}: runs of {sorted(widths)} columns in one file; their parcels cannot be the "
            "same: get it again"
        )
    return shapes


def _own_items(group) -> Iterator[tuple[str, object]]:
    """Names and members of a group; a link to another file is followed by no reader of ours."""
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.HardLink):
            yield name, group[name]


def _is_series(session: str, name: str, array) -> bool:
    """Whether an array in the group of a session is the series of one of its runs."""
    match = _DATASET.search(name)
    return bool(match) and match[1] == session and isinstance(array, h5py.Dataset)


def _run_of(name: str) -> int:
    return int(_DATASET.search(name)[2])


def read_timeseries(path: Path, key: RunKey, n_trs: int | None = None) -> np.ndarray:
    """Parcel series of one run, as the file has them.

    Nothing is cleaned or scaled here: the values are denoised and z-scored within the run already,
    which is checked.

    Parameters
    ----------
    path : Path
        ``sub-*_task-shinobi_*_timeseries.h5``.
    key : tuple
        Subject, session, number of the run.
    n_trs : int or None
        Volumes that the run must have.

    Returns
    -------
    bold : ndarray of float32, shape (n_trs, n_columns)
        NaN columns, with a warning, for parcels that are NaN or do not change over the run.

    Raises
    ------
    CobeError
        As `timeseries_shapes`; the run is not in the file, has another number of volumes, or a
        column holds numbers and gaps.
    """
    path = Path(path)
    subject, session, run = key
    name = f"{subject}_{session}_run-{run}"
    shapes = timeseries_shapes(path)
    if key not in shapes:
        known = ", ".join(f"{k[1]} run-{k[2]}" for k in sorted(shapes)[:6]) or "none"
        raise CobeError(f"{path}: no series of {name}; it holds {known} (of {len(shapes)} runs)")
    if n_trs is not None and shapes[key][0] != n_trs:
        raise CobeError(
            f"{path}: {shapes[key][0]} volumes of {name}, and its scan has {n_trs}; leave the run "
            "out, or get the file again"
        )
    with _opened(path) as file:
        (name_in_file,) = [
            n
            for n, array in _own_items(file[session])
            if _is_series(session, n, array) and _run_of(n) == run
        ]
        bold = np.asarray(file[session][name_in_file], dtype=np.float32)
    missing = np.isnan(bold).all(axis=0)
    partly = ~np.isfinite(bold).all(axis=0) & ~missing
    if partly.any():
        raise CobeError(
            f"{path}: {name}: {int(partly.sum())} columns (first: {np.flatnonzero(partly)[0] + 1}) "
            "hold numbers and gaps; get it again, or leave the run out"
        )
    flat = ~missing & (np.ptp(bold, axis=0) == 0)
    bold[:, flat] = np.nan
    for what, columns in (("NaN", missing), ("without any change", flat)):
        if columns.any():
            shown = ", ".join(map(str, np.flatnonzero(columns)[:10] + 1))
            warnings.warn(
                f"{name}: {int(columns.sum())} of {bold.shape[1]} columns are {what}: {shown}",
                stacklevel=2,
            )
    used = bold[:, ~(missing | flat)].astype(np.float64)
    off = (np.abs(used.mean(axis=0)) > Z_TOLERANCE) | (
        np.abs(used.std(axis=0, ddof=1) - 1) > Z_TOLERANCE
    )
    if off.any():
        warnings.warn(
            f"{name}: {int(off.sum())} of {bold.shape[1]} columns of {path.name} are not z-scored; "
            "they are taken as they are",
            stacklevel=2,
        )
    return bold


def column_labels(path: Path, dseg: Path | None = None) -> np.ndarray:
    """The label of every column of a file.

    Columns are the subject's parcels in ascending order of label. A parcel without a voxel in the
    subject's mask has no column, so that column k of one subject may be column k + 1 of another:
    only the subject's own label image tells.

    Parameters
    ----------
    path : Path
        ``sub-*_task-shinobi_*_timeseries.h5``.
    dseg : Path or None
        Label image of the subject; None: the one beside the file, of the same name but for its
        end. Without it, columns are numbered from 1 if they are as many as the name says
        (``desc-1134Parcels``).

    Returns
    -------
    labels : ndarray of int64, shape (n_columns,)

    Raises
    ------
    CobeError
        The file cannot be read or holds no run; the label image has another number of parcels; or
        there is none and columns are missing.
    """
    path = Path(path)
    shapes = timeseries_shapes(path)
    if not shapes:
        raise CobeError(f"{path}: no run of task {TASK} in it; get it again")
    n_columns = next(iter(shapes.values()))[1]
    dseg = dseg or find_dseg(path)
    if dseg is not None and not why_absent(dseg):
        labels = check_labels(load_nifti(dseg))
        if len(labels) != n_columns:
            raise CobeError(
                f"{dseg}: {len(labels)} parcels for {n_columns} columns of {path.name}; get both "
                "again, from the same version of the dataset"
            )
        return labels
    promised = _N_PARCELS.search(entities(path).get("desc", ""))
    if promised and int(promised[1]) == n_columns:
        return np.arange(1, n_columns + 1)
    why = why_absent(dseg) if dseg else f"no {path.name.removesuffix(SUFFIX)}_dseg.nii.gz beside it"
    raise CobeError(
        f"{path}: {n_columns} columns, and which parcels they are is in the subject's label image "
        f"only ({why})"
    )


def merged_labels(paths: list[Path]) -> nib.Nifti1Image:
    """The label images of several subjects as one, so that every column has its parcel on it.

    Parameters
    ----------
    paths : list of Path
        Files of series of one atlas and space, one per subject.

    Returns
    -------
    image : nibabel.Nifti1Image
        The image of the first subject; a parcel that it lacks is where the next subject has it.

    Raises
    ------
    CobeError
        A label image is missing or damaged, or two have different grids.
    """
    merged = None
    for path in paths:
        dseg = label_image(path)
        column_labels(path, dseg)
        image = load_nifti(dseg)
        labels = np.asarray(image.dataobj)
        if merged is None:
            first, merged = image, labels.copy()
            continue
        if labels.shape != merged.shape or not np.allclose(image.affine, first.affine, atol=1e-3):
            raise CobeError(
                f"{dseg}: not on the grid of {paths[0].name}; take series in a template's space"
            )
        new = ~np.isin(labels, np.unique(merged)) & (merged == 0)
        merged[new] = labels[new]
        if lost := set(np.unique(labels)) - set(np.unique(merged)):
            raise CobeError(
                f"{dseg}: {len(lost)} parcels lie wholly inside others of {paths[0].name}; are "
                "they of the same atlas?"
            )
    return nib.Nifti1Image(merged.astype(np.int32), first.affine)


def label_image(path: Path) -> Path:
    """The label image beside a file of series, with its content.

    Raises
    ------
    CobeError
        It is missing or not downloaded.
    """
    dseg = find_dseg(path)
    why = why_absent(dseg) if dseg else "no label image (_dseg.nii.gz) beside it"
    if why:
        raise CobeError(f"{path}: {why}; its columns cannot be placed in the brain")
    return dseg


def find_dseg(path: Path) -> Path | None:
    """The label image beside a file of series, whichever way the two spell the atlas."""
    wanted = entities(path)
    for candidate in sorted(path.parent.glob(f"sub-{wanted.get('sub', '')}_*_dseg.nii.gz")):
        if entities(candidate) == wanted:
            return candidate
    return None


@contextmanager
def _opened(path: Path):
    """The open file; whatever damage shows while it is read is said as an error of ours."""
    if why := why_absent(path):
        raise CobeError(f"timeseries: {why}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, LookupError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise CobeError(f"{path}: damaged HDF5 ({reason}); get it again") from error
