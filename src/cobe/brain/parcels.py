"""Label images: what a brain mask leaves of them, and the default one, made here."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel.affines import apply_affine
from nilearn.datasets import load_mni152_gm_mask
from nilearn.image import new_img_like, resample_img, smooth_img
from scipy import ndimage
from sklearn.cluster import AgglomerativeClustering
from sklearn.feature_extraction.image import grid_to_graph

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for

MIN_VOXELS_PER_PARCEL = 8


def grey_matter_parcels(n_parcels: int, voxel_mm: float, seed: int) -> nib.Nifti1Image:
    """Grey matter of the MNI152 template, cut into contiguous parcels of similar size.

    The mask is the one that ships with nilearn (ICBM152 2009, 1 mm), averaged onto the coarser
    grid. Each hemisphere (x < 0 and x >= 0) is clustered by Ward's method [1]_ on the voxel
    coordinates, where only voxels that share a face may be joined, so that every parcel is one
    piece and none crosses the midline.

    Parameters
    ----------
    n_parcels : int
        Number of parcels, at least 2 and at most one per 8 voxels.
    voxel_mm : float
        Edge of a voxel, 2 to 10 mm.
    seed : int
        Seed of the jitter of a quarter voxel that decides between equally good cuts.

    Returns
    -------
    atlas : nibabel.Nifti1Image
        int16, 0 outside, labels 1 to `n_parcels`: first the left hemisphere, then the right, each
        from back to front. Voxels of the mask that hang together with no hemisphere (under 0.1 %)
        are 0.

    Raises
    ------
    CobeError
        A parameter is out of range.

    References
    ----------
    .. [1] Ward (1963), JASA 58; with spatial constraints for fMRI: Michel et al. (2012), Pattern
       Recognition 45; Thirion et al. (2014), Front. Neurosci. 8.
    """
    if not 2 <= voxel_mm <= 10:
        raise CobeError(f"atlas: voxels of {voxel_mm} mm; choose an edge between 2 and 10 mm")
    mask, affine = _grey_matter(voxel_mm)
    most = min(int(mask.sum()) // MIN_VOXELS_PER_PARCEL, np.iinfo(np.int16).max)
    if not 2 <= n_parcels <= most:
        raise CobeError(f"atlas: {n_parcels} parcels of {voxel_mm} mm voxels; choose 2 to {most}")

    voxels_mm = apply_affine(affine, np.argwhere(mask))
    is_left = np.zeros(mask.shape, bool)
    is_left[mask] = voxels_mm[:, 0] < 0
    hemispheres = [_largest_piece(mask & is_left), _largest_piece(mask & ~is_left)]

    n_left = round(n_parcels * hemispheres[0].sum() / sum(h.sum() for h in hemispheres))
    n_left = min(max(n_left, 1), n_parcels - 1)
    labels = np.zeros(mask.shape, np.int16)
    first = 1
    for name, hemisphere, n in zip(
        ("left", "right"), hemispheres, (n_left, n_parcels - n_left), strict=True
    ):
        labels[hemisphere] = first + _ward(hemisphere, n, rng_for(seed, "parcels", name))
        first += n
    return nib.Nifti1Image(labels, affine)


def parcel_centroids(atlas: nib.Nifti1Image) -> np.ndarray:
    """Centre of mass of every parcel.

    Parameters
    ----------
    atlas : nibabel.Nifti1Image
        Label image, 0 outside.

    Returns
    -------
    centroids_mm : ndarray of float64, shape (n_parcels, 3)
        In mm of the space of the image, in ascending order of label.
    """
    labels = np.asarray(atlas.dataobj)
    inside = np.argwhere(labels)
    values, index = np.unique(labels[labels != 0], return_inverse=True)
    sums = [np.bincount(index, weights=axis, minlength=len(values)) for axis in inside.T]
    return apply_affine(atlas.affine, np.stack(sums, 1) / np.bincount(index)[:, None])


def check_labels(atlas_img) -> np.ndarray:
    """Labels of an atlas, after a check that it is one.

    Parameters
    ----------
    atlas_img : nibabel.Nifti1Image
        Integer labels, 0 outside.

    Returns
    -------
    labels : ndarray of int64, shape (n_parcels,)
        All above 0, ascending.

    Raises
    ------
    CobeError
        Not a 3D image of whole numbers from 0, or nothing but 0.
    """
    if len(atlas_img.shape) != 3:
        raise CobeError(f"atlas: {len(atlas_img.shape)} dimensions, not 3; take a label image")
    values = np.unique(np.asarray(atlas_img.dataobj))
    if not np.isfinite(values).all() or (values != np.round(values)).any() or (values < 0).any():
        raise CobeError("atlas: values that are no labels (fractions or below 0); take a label one")
    labels = values.astype(np.int64)
    if not labels.any():
        raise CobeError("atlas: no label above 0; take another one")
    return labels[labels != 0]


def on_grid(atlas_img, grid_img) -> nib.Nifti1Image:
    """The atlas on the grid of another image: the nearest label at each of its voxels.

    As nilearn's `NiftiLabelsMasker` does with ``resampling_target="data"``.
    """
    same_place = np.allclose(atlas_img.affine, grid_img.affine)
    if atlas_img.shape == grid_img.shape[:3] and same_place:
        return atlas_img
    return resample_img(
        atlas_img,
        target_affine=grid_img.affine,
        target_shape=grid_img.shape[:3],
        interpolation="nearest",
    )


def parcel_coverage(atlas_img, mask_img) -> pd.DataFrame:
    """What is left of every parcel on the grid of a brain mask, and inside the mask.

    Parameters
    ----------
    atlas_img : nibabel.Nifti1Image
        Integer labels, 0 outside.
    mask_img : nibabel.Nifti1Image
        Brain mask on the grid of the BOLD.

    Returns
    -------
    coverage : DataFrame
        One row per parcel, by label: ``label``, ``n_atlas`` (voxels of the atlas), ``n_grid``
        (voxels on the grid of the BOLD, 0: lost in resampling), ``n_mask`` (of those, in the
        mask; 0: no series).

    Raises
    ------
    CobeError
        Not an atlas, see `check_labels`.
    """
    labels = check_labels(atlas_img)
    original = np.asarray(atlas_img.dataobj)
    resampled = np.asarray(on_grid(atlas_img, mask_img).dataobj)
    parts = (original, resampled, resampled[np.asarray(mask_img.dataobj) != 0])
    counts = [_count(part, labels) for part in parts]
    names = ("n_atlas", "n_grid", "n_mask")
    return pd.DataFrame({"label": labels, **dict(zip(names, counts, strict=True))})


def _count(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    found, counts = np.unique(values, return_counts=True)
    kept = np.isin(found, labels)
    result = np.zeros(len(labels), np.int64)
    result[np.searchsorted(labels, found[kept])] = counts[kept]
    return result


def _grey_matter(voxel_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """The mask on a grid of `voxel_mm`: voxels that are mostly inside the 1 mm mask."""
    fine = load_mni152_gm_mask(resolution=1)
    share = new_img_like(fine, np.asarray(fine.dataobj, dtype=np.float32))
    coarse = resample_img(
        smooth_img(share, voxel_mm),
        target_affine=np.diag([voxel_mm] * 3),
        interpolation="continuous",
        force_resample=True,
        copy_header=True,
    )
    return np.asarray(coarse.dataobj) > 0.5, coarse.affine


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest set of voxels that are joined by their faces."""
    pieces, n_pieces = ndimage.label(mask)
    if n_pieces < 2:
        return mask
    return pieces == 1 + np.argmax(np.bincount(pieces[mask])[1:])


def _ward(mask: np.ndarray, n_parcels: int, rng: np.random.Generator) -> np.ndarray:
    """Parcel index of every voxel of a mask in one piece, 0 at the back to n - 1 at the front."""
    coordinates = np.argwhere(mask).astype(np.float64)
    jittered = coordinates + rng.normal(0, 0.25, coordinates.shape)
    tree = AgglomerativeClustering(
        n_parcels, connectivity=grid_to_graph(*mask.shape, mask=mask), linkage="ward"
    )
    parcel = tree.fit_predict(jittered)
    sizes = np.bincount(parcel)
    anterior = np.bincount(parcel, weights=coordinates[:, 1]) / sizes
    return np.argsort(np.argsort(anterior, kind="stable"))[parcel]
