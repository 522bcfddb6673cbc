"""BOLD of a run as one series per parcel: nilearn's confounds and masker, every volume kept."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn.interfaces.fmriprep import load_confounds
from nilearn.interfaces.fmriprep.load_confounds_utils import MissingConfoundError
from nilearn.maskers import NiftiLabelsMasker
from nilearn.signal import clean

from cobe.brain.files import load_nifti, read_nifti_header, why_absent
from cobe.brain.records import Run
from cobe.core.errors import CobeError

# Arguments of nilearn's `load_confounds`. "minimal" is what the lab's own tutorials use,
# "simple_gs" is `load_confounds_strategy("simple", global_signal="basic")`, as in its parcel files.
STRATEGIES = {
    "minimal": {
        "strategy": ("motion", "high_pass", "wm_csf"),
        "motion": "basic",
        "wm_csf": "basic",
    },
    "simple_gs": {
        "strategy": ("high_pass", "motion", "wm_csf", "global_signal"),
        "motion": "full",
        "wm_csf": "basic",
        "global_signal": "basic",
    },
}
# fMRIPrep's high-pass filter of 128 s has at least one cosine in a run of this length.
HIGH_PASS_S = 128.0
# Fewer parcels than this share in the brain mask: the atlas is of another space.
MIN_SHARE_OF_PARCELS = 0.5


def parcel_series(
    run: Run, atlas_img: nib.Nifti1Image, strategy: str = "minimal", smoothing_mm=None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean BOLD of every parcel, cleaned of confounds and z-scored within the run.

    The same as nilearn's `NiftiLabelsMasker` [1]_ with the brain mask of the run,
    ``standardize="zscore_sample"`` and the confounds of the strategy. There is no scrubbing; the
    cosines of the high-pass filter are among the confounds, so nothing is detrended twice.

    Parameters
    ----------
    run : Run
        With BOLD, mask and confounds.
    atlas_img : nibabel.Nifti1Image
        Integer labels, 0 outside; resampled (nearest) to the grid of the BOLD where it differs.
    strategy : str
        A name of `STRATEGIES`.
    smoothing_mm : float or None
        Full width at half maximum of a Gaussian, before averaging.

    Returns
    -------
    bold : ndarray of float32, shape (n_trs, n_parcels)
        NaN columns, with a warning, for parcels without a voxel in the brain mask or without any
        change over the run.
    labels : ndarray of int64, shape (n_parcels,)
        Every label of the atlas, ascending.

    Raises
    ------
    CobeError
        A file is missing or damaged, the confounds do not fit, or the atlas does not.

    References
    ----------
    .. [1] Abraham et al. (2014), Machine learning for neuroimaging with scikit-learn, Front.
       Neuroinform. 8.
    """
    labels = _atlas_labels(atlas_img)
    for kind in ("bold", "mask", "confounds"):
        path = getattr(run, kind)
        why = why_absent(path) if path else f"no {kind} in the fMRIPrep derivatives"
        if why:
            raise CobeError(f"{run.name}: {why}")
    # Before the hours: a damaged image or table is named before a gigabyte is read.
    header = read_nifti_header(run.bold)
    if len(header.shape) != 4:
        raise CobeError(f"{run.bold}: {len(header.shape)} dimensions, not 4; get it again")
    if not header.same_grid(read_nifti_header(run.mask)):
        raise CobeError(f"{run.mask}: not on the grid of {run.bold.name}; get both again")
    confounds = read_confounds(run, strategy)
    if len(confounds) != header.shape[3]:
        raise CobeError(
            f"{run.confounds}: {len(confounds)} rows for {header.shape[3]} volumes; get it again"
        )

    bold_img, mask_img = _load(run)
    masker = NiftiLabelsMasker(
        atlas_img,
        mask_img=mask_img,
        smoothing_fwhm=smoothing_mm,
        standardize=None,
        resampling_target="data",
        reports=False,
    )
    try:
        with warnings.catch_warnings():
            # It announces labels lost in resampling and masking; they are counted below.
            warnings.filterwarnings("ignore", "After (resampling the label|applying mask)")
            raw_series = masker.fit_transform(bold_img)
    except ValueError as error:
        if "No label left" not in str(error):
            raise
        raise CobeError(
            f"{run.mask}: the atlas does not overlap the brain mask; take an atlas in the space "
            "of the BOLD"
        ) from error
    found = np.unique(np.asarray(masker.region_atlas_.dataobj))
    found = found[found != 0]
    if len(found) < MIN_SHARE_OF_PARCELS * len(labels):
        raise CobeError(
            f"{run.mask}: only {len(found)} of {len(labels)} parcels overlap the brain mask; take "
            "an atlas in the space of the BOLD"
        )
    flat = np.ptp(raw_series, axis=0) == 0
    cleaned = clean(
        raw_series,
        confounds=confounds,
        standardize="zscore_sample",
        standardize_confounds=True,
        detrend=False,
    )
    series = np.full((len(cleaned), len(labels)), np.nan, np.float32)
    series[:, np.searchsorted(labels, found[~flat])] = cleaned[:, ~flat]
    _warn_of("have no voxel in the brain mask", np.setdiff1d(labels, found), run)
    _warn_of("do not change over the run", found[flat], run)
    return series, labels


def read_confounds(run: Run, strategy: str) -> pd.DataFrame:
    """The confounds of a strategy, as nilearn chooses them: one row per volume.

    Parameters
    ----------
    run : Run
        With BOLD and confounds side by side, in the names of fMRIPrep.
    strategy : str
        A name of `STRATEGIES`.

    Returns
    -------
    confounds : DataFrame of float64, shape (n_trs, n_confounds)
        Each with mean 0 over the run; the derivative of the first volume, which has none, is that
        of the second.

    Raises
    ------
    CobeError
        The strategy is unknown, a column is missing or holds no numbers.
    """
    if strategy not in STRATEGIES:
        raise CobeError(f"confounds {strategy!r}: unknown; choose one of {', '.join(STRATEGIES)}")
    try:
        confounds, kept = load_confounds(str(run.bold), **STRATEGIES[strategy])
        values = confounds.to_numpy(dtype=np.float64)
    except (MissingConfoundError, ValueError, TypeError, LookupError, OSError) as error:
        reason = " ".join(str(error).split())
        raise CobeError(
            f"{run.confounds}: not the confounds of strategy {strategy!r} ({reason}); get it again"
        ) from error
    # nilearn leaves out a high-pass filter that it does not find, and says nothing.
    if len(confounds) * run.tr_s >= HIGH_PASS_S and not any(
        column.startswith("cosine") for column in confounds
    ):
        raise CobeError(
            f"{run.confounds}: no cosine columns (high-pass filter) in a run of "
            f"{len(confounds) * run.tr_s:.0f} s; get it again"
        )
    if not np.isfinite(values).all():
        bad = confounds.columns[~np.isfinite(values).all(axis=0)]
        raise CobeError(
            f"{run.confounds}: no number after the first row in {', '.join(bad[:5])}; get it again"
        )
    if kept is not None:
        warnings.warn(
            f"{run.name}: {len(confounds) - len(kept)} volumes are marked as not in steady state "
            "and are kept",
            stacklevel=2,
        )
    return confounds


def _atlas_labels(atlas_img) -> np.ndarray:
    """Labels of an atlas, ascending, after a check that it is one."""
    if len(atlas_img.shape) != 3:
        raise CobeError(f"atlas: {len(atlas_img.shape)} dimensions, not 3; take a label image")
    values = np.unique(np.asarray(atlas_img.dataobj))
    labels = values.astype(np.int64)
    if not np.array_equal(labels, values) or (labels < 0).any():
        raise CobeError("atlas: values that are no labels (fractions or below 0); take a label one")
    if not labels.any():
        raise CobeError("atlas: no label above 0; take another one")
    return labels[labels != 0]


def _load(run: Run) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """BOLD and mask in memory, whole and finite inside the mask."""
    images = [load_nifti(run.bold), load_nifti(run.mask)]
    bold, mask = (image.dataobj for image in images)
    if not np.any(mask):
        raise CobeError(f"{run.mask}: the brain mask is empty; get it again")
    brain = mask != 0
    n_bad = sum(int((~np.isfinite(volume[brain])).sum()) for volume in np.moveaxis(bold, -1, 0))
    if n_bad:
        raise CobeError(f"{run.bold}: {n_bad} values in the brain are not finite; get it again")
    return images[0], images[1]


def _warn_of(what: str, labels: np.ndarray, run: Run) -> None:
    if len(labels):
        shown = ", ".join(map(str, labels[:10])) + (", ..." if len(labels) > 10 else "")
        warnings.warn(f"{run.name}: {len(labels)} parcels {what}: {shown}", stacklevel=3)
