"""Adds to the tiny real-layout tree what a user may have besides: extracted parcel series."""

import h5py
import nibabel as nib
import numpy as np

from brain_tree import AFFINE, SHAPE

STEM = "sub-{s}_task-shinobi_space-MNI152NLin2009cAsym_atlas-{a}_desc-{d}"


def zscored(rng, n_trs, n_columns):
    """Series with mean 0 and sample standard deviation 1, as the lab's are."""
    series = rng.normal(size=(n_trs, n_columns))
    return ((series - series.mean(0)) / series.std(0, ddof=1)).astype(np.float32)


def write_timeseries(
    root,
    runs,
    n_columns=12,
    atlas="cneuromod26",
    desc=None,
    folder="cneuromod2026",
    dseg=True,
    labels=None,
    seed=0,
):
    """One file per subject of `runs` ((subject, session, run) to n_trs or an array); their paths.

    `labels` are those of the label image (default 1, 2, ...).
    """
    rng = np.random.default_rng(seed)
    desc = desc or f"{n_columns}Parcels"
    paths = {}
    for (subject, session, run), series in runs.items():
        stem = STEM.format(s=subject.removeprefix("sub-"), a=atlas, d=desc)
        path = root / "timeseries" / folder / subject / f"{stem}_timeseries.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(series, int):
            series = zscored(rng, series, n_columns)
        with h5py.File(path, "a") as file:
            file.require_group(session).create_dataset(
                f"{session}_task-shinobi_run-{run}_timeseries",
                data=series,
                compression="gzip",
                compression_opts=4,
            )
        if subject not in paths and dseg:
            values = np.arange(1, n_columns + 1) if labels is None else np.asarray(labels)
            image = np.zeros(SHAPE, np.int16)
            # a label has the same voxel in every subject; large ones do not fit and stand in a row
            at = values if values.max() < 400 else np.arange(len(values))
            image.reshape(-1)[100 + at] = values
            nib.Nifti1Image(image, AFFINE).to_filename(path.parent / f"{stem}_dseg.nii.gz")
        paths[subject] = path
    return paths
