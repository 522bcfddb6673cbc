"""Voxels: parcel responses, noise, drift, and head motion that really leaks into the signal."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.core.timing import TR_S
from cobe.simulate.confounds import HEAD_RADIUS_MM, HIGH_PASS_S
from cobe.simulate.planted import ar1_noise

BASELINE = 10_000.0
PARCEL_SPREAD_PCT = 1.0  # signal and AR(1) noise of a parcel together
VOXEL_NOISE_PCT = 1.5
LEAK_PCT_PER_MM = 3.0
GLOBAL_PCT = 0.4
DRIFT_PCT = 0.5
MOTION_STEP_MM = 0.012
MOTION_PULL = 0.02
SPIKES_PER_RUN = 3.0
SPIKE_MM = (0.2, 0.8)

SPECIFICATION = {
    "baseline": BASELINE,
    "parcel_signal_and_noise_sd_pct": PARCEL_SPREAD_PCT,
    "voxel_noise_sd_pct": VOXEL_NOISE_PCT,
    "voxel_noise": "white; sums to zero inside a parcel, so that the parcel mean is as planted",
    "motion_leak_sd_pct_per_mm": LEAK_PCT_PER_MM,
    "global_signal_sd_pct": GLOBAL_PCT,
    "drift_sd_pct": DRIFT_PCT,
    "motion_step_sd_mm": MOTION_STEP_MM,
    "motion_spikes_per_run": SPIKES_PER_RUN,
    "motion_spike_mm": SPIKE_MM,
}


@dataclass(frozen=True)
class Anatomy:
    """Voxels of the simulated brain.

    Attributes
    ----------
    shape : tuple of int
        Grid, that of the atlas.
    affine : float64 array, shape (4, 4)
    voxels : int64 array, shape (n_voxels,)
        Flat indices (C order) inside the brain mask, ascending.
    labels : int64 array, shape (n_voxels,)
        Index of the parcel, -1 in white matter and CSF.
    tissue : str array, shape (n_voxels,)
        ``"GM"``, ``"WM"`` or ``"CSF"``.
    parcels : int64 array, shape (n_parcels,)
        Labels of the atlas, ascending.
    centroids_mm : float64 array, shape (n_parcels, 3)
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    voxels: np.ndarray
    labels: np.ndarray
    tissue: np.ndarray
    parcels: np.ndarray
    centroids_mm: np.ndarray


def read_anatomy(atlas_img: nib.Nifti1Image) -> Anatomy:
    """Parcels of an atlas, and white matter and CSF around them from nilearn's MNI templates.

    Parameters
    ----------
    atlas_img : nibabel image
        Integer labels in MNI space, 0 outside.

    Returns
    -------
    anatomy : Anatomy

    Raises
    ------
    CobeError
        The image is not a label image, or leaves no voxel for white matter or CSF.
    """
    # Imported here: worker processes that only play need not wait for nilearn.
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_wm_mask
    from nilearn.image import resample_to_img

    atlas = np.asanyarray(atlas_img.dataobj)
    if atlas.ndim != 3 or atlas.min() < 0 or not np.array_equal(atlas, np.round(atlas)):
        raise CobeError(
            f"atlas: shape {atlas.shape}, not one volume of labels 0, 1, 2 ...; give a label image"
        )
    atlas = atlas.astype(np.int64)
    parcels = np.unique(atlas[atlas > 0])
    if len(parcels) < 2:
        raise CobeError(f"atlas: {len(parcels)} parcels; at least 2 are needed")
    tissue = np.where(atlas > 0, "GM", "").astype("<U3")
    for name, template in (("WM", load_mni152_wm_mask()), ("CSF", load_mni152_brain_mask())):
        mask = resample_to_img(
            template, atlas_img, interpolation="nearest", force_resample=True, copy_header=True
        )
        tissue[(np.asanyarray(mask.dataobj) > 0) & (tissue == "")] = name
        if not (tissue == name).any():
            raise CobeError(
                f"atlas: no voxel left for {name} on its grid; use an MNI atlas of grey matter"
            )
    voxels = np.flatnonzero(tissue.ravel() != "")
    values = atlas.ravel()[voxels]
    labels = np.where(values > 0, np.searchsorted(parcels, values), -1)
    coordinates = apply_affine(
        atlas_img.affine, np.column_stack(np.unravel_index(voxels, atlas.shape))
    )
    centroids = np.stack([coordinates[labels == p].mean(axis=0) for p in range(len(parcels))])
    return Anatomy(
        atlas.shape, atlas_img.affine, voxels, labels, tissue.ravel()[voxels], parcels, centroids
    )


def head_motion(rng: np.random.Generator, n_trs: int) -> np.ndarray:
    """Head motion of one run: a pulled random walk, and a few jerks that fade within 3 volumes.

    Returns
    -------
    motion : float64 array, shape (n_trs, 6)
        Translations in mm, rotations in rad.
    """
    motion = np.zeros((n_trs, 6))
    steps = rng.normal(0, MOTION_STEP_MM, (n_trs, 6))
    for k in range(1, n_trs):
        motion[k] = (1 - MOTION_PULL) * motion[k - 1] + steps[k]
    for _ in range(rng.poisson(SPIKES_PER_RUN)):
        at = int(rng.integers(2, n_trs))
        jerk = rng.normal(size=6)
        jerk *= rng.uniform(*SPIKE_MM) / np.linalg.norm(jerk)
        for k in range(at, min(at + 3, n_trs)):
            motion[k] += jerk * 0.4 ** (k - at)
    motion[:, 3:] /= HEAD_RADIUS_MM
    return motion


def simulate_bold(
    seed: int, subject: str, run_key: str, anatomy: Anatomy, parcel_pct: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Voxel intensities of one run.

    Parameters
    ----------
    seed : int
        Seed of the plan.
    subject, run_key : str
        Seed what belongs to the participant (baseline, leak) and to the run (noise, motion).
    anatomy : Anatomy
    parcel_pct : float64 array, shape (n_trs, n_parcels)
        Response and noise of every parcel in percent of the baseline.

    Returns
    -------
    bold : float32 array, shape (n_trs, n_voxels)
        Intensities.
    motion : float64 array, shape (n_trs, 6)
        The head motion that leaked.
    """
    n_trs, n_parcels = parcel_pct.shape
    n_voxels = len(anatomy.voxels)
    own = rng_for(seed, "voxels", subject)
    rng = rng_for(seed, "volumes", run_key)
    grey = anatomy.labels >= 0
    order = np.argsort(anatomy.labels[grey], kind="stable")
    starts = np.searchsorted(anatomy.labels[grey][order], np.arange(n_parcels))

    # What every parcel or tissue shares, and half as much of each voxel's own.
    group = np.where(grey, anatomy.labels, n_parcels + (anatomy.tissue == "CSF"))
    leak = own.normal(0, LEAK_PCT_PER_MM, (6, n_parcels + 2))[:, group]
    leak += own.normal(0, LEAK_PCT_PER_MM / 2, (6, n_voxels))
    curved = own.normal(0, LEAK_PCT_PER_MM, (6, n_parcels + 2))[:, group]
    breathes = np.abs(own.normal(1, 0.3, n_parcels + 2))[group] + own.normal(0, 0.1, n_voxels)
    breathes[anatomy.tissue == "CSF"] *= 1.5
    tissue_level = np.select([grey, anatomy.tissue == "WM"], [1.0, 0.9], 1.3)
    baseline = BASELINE * tissue_level * own.uniform(0.95, 1.05, n_voxels)

    motion = head_motion(rng, n_trs)
    moved_mm = motion * np.array([1, 1, 1, *[HEAD_RADIUS_MM] * 3])
    moved_mm = moved_mm - moved_mm.mean(axis=0)
    slow = ar1_noise(rng, n_trs, 1)
    for _ in range(2):  # breathing volume and the like: smoother than the noise of the brain
        slow = slow + np.concatenate([slow[:1], slow[:-1]])
    slow = GLOBAL_PCT * slow / slow.std()
    time_s = (np.arange(n_trs) + 0.5) * TR_S
    phases = rng.uniform(0, 2 * np.pi, 2)
    drifts = np.column_stack(
        [
            np.linspace(-1, 1, n_trs),
            np.cos(2 * np.pi * time_s / (1.5 * HIGH_PASS_S) + phases[0]),
            np.cos(2 * np.pi * time_s / (2.5 * HIGH_PASS_S) + phases[1]),
        ]
    )
    drift = rng.normal(0, DRIFT_PCT, (3, n_parcels + 2))[:, group]

    design = np.column_stack([moved_mm, moved_mm**2, slow, drifts]).astype(np.float32)
    weights = np.vstack([leak, curved, breathes[None], drift]).astype(np.float32)
    percent = design @ weights
    noise = rng.standard_normal((n_trs, n_voxels), np.float32) * np.float32(VOXEL_NOISE_PCT)
    inside = noise[:, grey][:, order]
    sizes = np.diff(np.append(starts, inside.shape[1]))
    means = np.add.reduceat(inside, starts, axis=1) / sizes
    noise[:, np.flatnonzero(grey)[order]] = inside - np.repeat(means, sizes, axis=1)
    percent += noise
    percent[:, grey] += parcel_pct.astype(np.float32)[:, anatomy.labels[grey]]
    return (baseline * (1 + percent / 100)).astype(np.float32), motion
