"""BOLD of a run as one series per parcel or voxel: nilearn's confounds and masker, every volume."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
from nilearn.maskers import NiftiLabelsMasker, NiftiMasker
from nilearn.signal import clean

from cobe.brain.confounds import read_confounds
from cobe.brain.files import NiftiHeader, load_nifti, read_nifti_header, why_absent
from cobe.brain.parcels import check_labels, parcel_coverage
from cobe.brain.records import Run
from cobe.core.errors import CobeError

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
        A name of `cobe.brain.confounds.STRATEGIES`.
    smoothing_mm : float or None
        Full width at half maximum of a Gaussian, before averaging.

    Returns
    -------
    bold : ndarray of float32, shape (n_trs, n_parcels)
        NaN columns, with a warning, for parcels that vanish in resampling, without a voxel in the
        brain mask, or without any change over the run.
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
    labels = check_labels(atlas_img)
    confounds = _check_files(run, strategy)
    mask_img = _load_mask(run)
    # Before the gigabyte: an atlas that does not fit is named without the BOLD.
    coverage = parcel_coverage(atlas_img, mask_img)
    found = labels[coverage.n_mask > 0]
    if not len(found):
        raise CobeError(
            f"{run.mask}: the atlas does not overlap the brain mask; take an atlas in the space "
            "of the BOLD"
        )
    if len(found) < MIN_SHARE_OF_PARCELS * len(labels):
        raise CobeError(
            f"{run.mask}: only {len(found)} of {len(labels)} parcels overlap the brain mask; take "
            "an atlas in the space of the BOLD"
        )
    masker = NiftiLabelsMasker(
        atlas_img,
        mask_img=mask_img,
        smoothing_fwhm=smoothing_mm,
        standardize=None,
        resampling_target="data",
        reports=False,
    )
    with warnings.catch_warnings():
        # It announces labels lost in resampling and masking; they are counted below.
        warnings.filterwarnings("ignore", "After (resampling the label|applying mask)")
        raw_series = masker.fit_transform(_load_bold(run, mask_img))
    series = np.full((len(raw_series), len(labels)), np.nan, np.float32)
    cleaned, flat = _cleaned(raw_series, confounds)
    series[:, np.searchsorted(labels, found[~flat])] = cleaned[:, ~flat]
    lost = coverage.n_grid == 0
    _warn_of("parcels vanish in resampling to the grid of the BOLD", labels[lost], run)
    outside = (coverage.n_mask == 0) & ~lost
    _warn_of("parcels have no voxel in the brain mask", labels[outside], run)
    _warn_of("parcels do not change over the run", found[flat], run)
    return series, labels


def voxel_series(
    run: Run, mask_img: nib.Nifti1Image, strategy: str = "minimal", smoothing_mm=None
) -> np.ndarray:
    """BOLD of every voxel of a mask, cleaned of confounds and z-scored within the run.

    The same as nilearn's `NiftiMasker` with ``standardize="zscore_sample"`` and the confounds of
    the strategy.

    Parameters
    ----------
    run : Run
        With BOLD, mask and confounds.
    mask_img : nibabel.Nifti1Image
        Voxels to take, on the grid of the BOLD and inside the brain mask of the run, such as
        `common_mask` of the runs of a subject.
    strategy, smoothing_mm
        As in `parcel_series`; smoothing comes before masking.

    Returns
    -------
    bold : ndarray of float32, shape (n_trs, n_voxels)
        Voxels in the order of ``numpy.argwhere(mask)``; NaN columns, with a warning, for voxels
        without any change over the run.

    Raises
    ------
    CobeError
        A file is missing or damaged, the confounds do not fit, or the mask does not.
    """
    confounds = _check_files(run, strategy)
    brain_img = _load_mask(run)
    wanted = np.asarray(mask_img.dataobj) != 0
    if not _header_of(mask_img).same_grid(_header_of(brain_img)):
        raise CobeError(f"{run.bold}: the mask given is not on its grid; take the runs' own masks")
    if not wanted.any():
        raise CobeError(f"{run.name}: the mask given holds no voxel; take another one")
    n_outside = int((wanted & (np.asarray(brain_img.dataobj) == 0)).sum())
    if n_outside:
        raise CobeError(
            f"{run.mask}: {n_outside} of {int(wanted.sum())} voxels of the mask given lie outside "
            "the brain mask of the run; intersect the masks of all runs (common_mask)"
        )
    masker = NiftiMasker(
        nib.Nifti1Image(wanted.astype(np.uint8), brain_img.affine),
        smoothing_fwhm=smoothing_mm,
        standardize=None,
        reports=False,
    )
    raw_series = masker.fit_transform(_load_bold(run, brain_img))
    cleaned, flat = _cleaned(raw_series, confounds)
    series = cleaned.astype(np.float32)
    series[:, flat] = np.nan
    _warn_of("voxels do not change over the run", np.flatnonzero(flat), run)
    return series


def common_mask(runs: list[Run]) -> nib.Nifti1Image:
    """Voxels that are in the brain mask of every one of these runs.

    fMRIPrep makes a mask per run, and they differ, in T1w space and in MNI space.

    Parameters
    ----------
    runs : list of Run
        Of one subject; across subjects only in a template's space.

    Returns
    -------
    mask : nibabel.Nifti1Image
        uint8, 1 inside.

    Raises
    ------
    CobeError
        There is no run, a mask is missing or damaged, the grid of one differs from that of the
        first, or no voxel is in all.
    """
    if not runs:
        raise CobeError("common mask: no runs given; give the usable runs of a subject")
    for run in runs:
        _check_present(run, ("mask",))
    first = _load_mask(runs[0])
    inside = np.asarray(first.dataobj) != 0
    for run in runs[1:]:
        mask_img = _load_mask(run)
        if not _header_of(mask_img).same_grid(_header_of(first)):
            raise CobeError(
                f"{run.mask}: grid {mask_img.shape} differs from {first.shape} of {runs[0].name}; "
                "is it of another subject or space? get it again, or leave the run out"
            )
        inside &= np.asarray(mask_img.dataobj) != 0
        if not inside.any():
            raise CobeError(
                f"{run.mask}: no voxel in common with the runs before it; get it again, or leave "
                "the run out"
            )
    return nib.Nifti1Image(inside.astype(np.uint8), first.affine)


def _check_present(run: Run, kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        path = getattr(run, kind)
        why = why_absent(path) if path else f"no {kind} in the fMRIPrep derivatives"
        if why:
            raise CobeError(f"{run.name}: {why}")


def _check_files(run: Run, strategy: str):
    """The confounds, after a check that all files are there and fit each other.

    Before the hours: a damaged image or table is named before a gigabyte is read.
    """
    _check_present(run, ("bold", "mask", "confounds"))
    header = read_nifti_header(run.bold)
    if len(header.shape) != 4:
        raise CobeError(f"{run.bold}: {len(header.shape)} dimensions, not 4; get it again")
    mask_header = read_nifti_header(run.mask)
    if not header.same_grid(mask_header):
        raise CobeError(
            f"{run.mask}: {mask_header.shape}, not on the grid of {run.bold.name} "
            f"{header.shape[:3]}; one of them is of another subject or space: get both again"
        )
    confounds = read_confounds(run, strategy)
    if len(confounds) != header.shape[3]:
        raise CobeError(
            f"{run.confounds}: {len(confounds)} rows for {header.shape[3]} volumes; get it again"
        )
    return confounds


def _header_of(image) -> NiftiHeader:
    return NiftiHeader(image.shape, image.affine, np.nan)


def _load_mask(run: Run) -> nib.Nifti1Image:
    mask_img = load_nifti(run.mask)
    voxels = np.asarray(mask_img.dataobj)
    if not np.isfinite(voxels).all():  # outside, where "not zero" would take it as inside
        mask_img = nib.Nifti1Image(np.where(np.isfinite(voxels), voxels, 0), mask_img.affine)
    if not np.any(mask_img.dataobj):
        raise CobeError(f"{run.mask}: the brain mask is empty; get it again")
    return mask_img


def _load_bold(run: Run, mask_img) -> nib.Nifti1Image:
    """BOLD in memory, whole and finite inside the mask."""
    bold_img = load_nifti(run.bold)
    brain = np.asarray(mask_img.dataobj) != 0
    volumes = np.moveaxis(bold_img.dataobj, -1, 0)
    n_bad = sum(int((~np.isfinite(volume[brain])).sum()) for volume in volumes)
    if n_bad:
        raise CobeError(f"{run.bold}: {n_bad} values in the brain are not finite; get it again")
    return bold_img


def _cleaned(raw_series: np.ndarray, confounds) -> tuple[np.ndarray, np.ndarray]:
    """Series without confounds, z-scored, and which of them never changed."""
    flat = np.ptp(raw_series, axis=0) == 0
    cleaned = clean(
        raw_series,
        confounds=confounds,
        standardize="zscore_sample",
        standardize_confounds=True,
        detrend=False,
    )
    return cleaned, flat


def _warn_of(what: str, which: np.ndarray, run: Run) -> None:
    if len(which):
        shown = ", ".join(map(str, which[:10])) + (", ..." if len(which) > 10 else "")
        warnings.warn(f"{run.name}: {len(which)} {what}: {shown}", stacklevel=3)
