"""What is predicted: which BOLD, which parcels, and the jobs that make one series per parcel."""

from __future__ import annotations

import gzip
import hashlib
import warnings
from pathlib import Path

import nibabel
import numpy as np

from cobe.brain import atlases, layout
from cobe.brain.bold import parcel_series
from cobe.brain.dataset import Dataset, Run
from cobe.brain.files import annex_key, why_absent
from cobe.brain.parcels import check_labels, grey_matter_parcels
from cobe.brain.timeseries import column_labels, find_dseg, merged_labels, read_timeseries
from cobe.core.artifacts import Artifact, Store, external
from cobe.core.config import Protocol
from cobe.core.errors import CobeError
from cobe.sweep.jobs import Job

# How the names of the templates' spaces begin; any other space is a participant's own.
TEMPLATE = "MNI"


def source_there(folder: Path, space: str) -> str:
    """Volumes where one is there with its content, or where there is nothing else."""
    folders = layout.find_folders(folder)
    derived = layout.fmriprep_files(folders.fmriprep, space) if folders.fmriprep else {}
    if any("bold" in files and _there(files["bold"]) for files in derived.values()):
        return "fmriprep"
    return "timeseries" if folders.timeseries else "fmriprep"


def grey_matter(store: Store, n_parcels: int, voxel_mm: float) -> Artifact:
    """The project's own grey-matter parcels as an artifact."""
    params = {"n_parcels": n_parcels, "voxel_mm": voxel_mm, "seed": 0}
    return store.make(
        "atlas",
        params=params,
        write=lambda path: _save_image(grey_matter_parcels(**params), path),
        code=("cobe.brain.parcels",),
        suffix=".nii.gz",
    )


def check_space(folder: Path, space: str, atlas: str) -> None:
    """Make sure that volumes of a participant's own space get parcels of that space.

    Every brain lies elsewhere in its own space: parcels of a template, or of another participant,
    would cover other regions without any sign of it in the series.

    Raises
    ------
    CobeError
        The space is no template's, and no label image is named, or it would have to serve several
        participants.
    """
    if space.startswith(TEMPLATE):
        return
    if not atlas:
        raise CobeError(
            f"COBE_SPACE={space}: the default parcels are in MNI space and would miss their "
            "regions; set COBE_ATLAS to a label image in that space, or unset COBE_SPACE"
        )
    folders = layout.find_folders(folder)
    derived = layout.fmriprep_files(folders.fmriprep, space) if folders.fmriprep else {}
    subjects = sorted(
        {key[0] for key, files in derived.items() if "bold" in files if _there(files["bold"])}
    )
    _check_one_subject(space, subjects)


def _there(path: Path) -> bool:
    return not why_absent(path)


def _check_one_subject(space: str, subjects: list[str]) -> None:
    if not space.startswith(TEMPLATE) and len(subjects) > 1:
        raise CobeError(
            f"COBE_SPACE={space}: each participant's own space, and there are {len(subjects)} "
            f"({', '.join(subjects)}): one label image is right for one of them only; give a "
            "folder with one participant, or take a template's space"
        )


def named_atlas(store: Store, name: str, folder: Path, space: str) -> Artifact:
    """An atlas by name or path as an artifact; fetched ones are kept in `folder`.

    Raises
    ------
    CobeError
        There is no such atlas, or it is a template's and the BOLD is not.
    """
    found = atlases.atlas(name, folder)
    if found.space.startswith(TEMPLATE) and not space.startswith(TEMPLATE):
        raise CobeError(
            f"COBE_ATLAS={name}: its parcels are in {found.space}, and COBE_SPACE={space} is each "
            "participant's own; give the path of a label image in that space, or unset COBE_SPACE"
        )
    store.announce(f"atlas: {len(found.table)} parcels of {found.source}, space {found.space}")
    return _kept_atlas(store, found.image)


def atlas_of_series(store: Store, dataset: Dataset, space: str) -> Artifact:
    """The label images of the series of all subjects with a usable run as one.

    Raises
    ------
    CobeError
        No run is usable, or the label images do not fit each other.
    """
    usable = [run for run in dataset.runs if run.usable]
    if not usable:
        listed = [run.why for run in dataset.runs if not run.excluded]
        raise CobeError(
            f"{dataset.raw}: no run is usable with extracted series; the first: "
            f"{next(iter(listed), 'there is none')}"
        )
    _check_one_subject(space, sorted({run.subject for run in usable}))
    return _kept_atlas(store, merged_labels(sorted({run.timeseries for run in usable})))


def _kept_atlas(store: Store, image) -> Artifact:
    content = image.to_bytes()
    return store.make(
        "atlas",
        params={"sha256": hashlib.sha256(content).hexdigest()},
        write=lambda path: _save_image(image, path),
        suffix=".nii.gz",
    )


def _save_image(image, path: Path) -> None:
    # nibabel's own writer puts the time into the gzip header
    path.write_bytes(gzip.compress(image.to_bytes(), mtime=0))


def known_content(path: Path) -> Artifact:
    """A file of the dataset as an input, by the checksum in its git-annex key where it has one.

    A run's BOLD is a gigabyte, and there are two hundred: what git-annex has checked once is not
    read again only to see that it is the same. Damage shows when it is read.
    """
    key = annex_key(path) if path.is_symlink() else ""
    if not key:
        return external(path)
    return Artifact(path.name, key, path, key, {}, reused=True)


def volumes_job(atlas: Artifact, protocol: Protocol, run: Run) -> Job:
    """The job that cuts parcels out of the volumes of one run."""
    how = {"strategy": protocol.confounds, "smoothing_mm": protocol.smoothing_mm}
    return Job(
        f"bold/{run.name}",
        _write_bold,
        (run, atlas.path, *how.values()),
        params=how,
        inputs={
            "atlas": atlas,
            "bold": known_content(run.bold),
            "mask": known_content(run.mask),
            "confounds": known_content(run.confounds),
        },
        code=("cobe.brain.bold", "cobe.sweep.targets"),
        suffix=".npz",
    )


def series_job(atlas: Artifact, run: Run) -> Job:
    """The job that takes one run out of the file of extracted series."""
    dseg = find_dseg(run.timeseries)
    return Job(
        f"series/{run.name}",
        _write_series,
        (run, dseg, atlas.path),
        params={"run": run.name, "n_trs": run.n_trs},
        inputs={
            "atlas": atlas,
            "series": known_content(run.timeseries),
            "labels": known_content(dseg),
        },
        # which column becomes which parcel is decided here
        code=("cobe.brain.timeseries", "cobe.sweep.targets"),
        suffix=".npz",
    )


def _write_bold(
    path: Path, run: Run, atlas: Path, strategy: str, smoothing_mm: float | None
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        bold, labels = parcel_series(run, nibabel.load(atlas), strategy, smoothing_mm)
    _save_series(path, bold, labels, run, caught)


def _write_series(path: Path, run: Run, dseg: Path, atlas: Path) -> None:
    labels = check_labels(nibabel.load(atlas))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        found = read_timeseries(run.timeseries, run.key, run.n_trs)
        columns = np.searchsorted(labels, column_labels(run.timeseries, dseg))
        bold = np.full((len(found), len(labels)), np.nan, np.float32)
        bold[:, columns] = found
    _save_series(path, bold, labels, run, caught)


def _save_series(path: Path, bold, labels, run: Run, caught) -> None:
    notes = [str(w.message) for w in caught if run.name in str(w.message)]
    absent = int(np.isnan(bold).all(axis=0).sum())
    if absent:
        notes.append(f"{run.name}: {absent} of {len(labels)} parcels have no series")
    with open(path, "wb") as handle:
        np.savez(handle, bold=bold, labels=labels, notes=np.array(notes, dtype=str))
