import nibabel as nib
import numpy as np
import pytest
from nilearn.image import resample_to_img
from scipy import ndimage

from cobe.brain.parcels import grey_matter_parcels, on_grid, parcel_centroids, parcel_coverage
from cobe.core.errors import CobeError


@pytest.fixture(scope="module")
def atlas():
    return grey_matter_parcels(120, 6.0, seed=3)


def test_labels_are_complete_and_small_integers(atlas):
    labels = np.asarray(atlas.dataobj)
    assert labels.dtype == np.int16
    assert atlas.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.unique(labels), np.arange(121))
    np.testing.assert_allclose(np.abs(np.diag(atlas.affine)[:3]), 6.0)


def test_every_parcel_is_one_piece_in_one_hemisphere(atlas):
    labels = np.asarray(atlas.dataobj)
    for label in range(1, 121):
        parcel = labels == label
        assert ndimage.label(parcel)[1] == 1, label
        x_mm = nib.affines.apply_affine(atlas.affine, np.argwhere(parcel))[:, 0]
        assert (x_mm < 0).all() or (x_mm >= 0).all(), label


def test_sizes_are_similar_and_cover_the_grey_matter(atlas):
    from nilearn.datasets import load_mni152_gm_mask

    labels = np.asarray(atlas.dataobj)
    sizes = np.bincount(labels[labels > 0])[1:]
    assert sizes.min() >= sizes.mean() / 4
    assert sizes.max() <= sizes.mean() * 3
    mask_mm3 = np.asarray(load_mni152_gm_mask(resolution=1).dataobj).sum()
    assert sizes.sum() * 6.0**3 == pytest.approx(mask_mm3, rel=0.05)


def test_same_seed_same_bytes_and_other_seed_other_cut(atlas):
    again = grey_matter_parcels(120, 6.0, seed=3)
    assert again.to_bytes() == atlas.to_bytes()
    other = np.asarray(grey_matter_parcels(120, 6.0, seed=4).dataobj)
    labels = np.asarray(atlas.dataobj)
    np.testing.assert_array_equal(other > 0, labels > 0)
    assert (other != labels).any()


def test_left_comes_first_and_back_before_front(atlas):
    centroids = parcel_centroids(atlas)
    assert centroids.shape == (120, 3)
    n_left = int((centroids[:, 0] < 0).sum())
    assert (centroids[:n_left, 0] < 0).all()
    assert 55 <= n_left <= 65
    for side in (centroids[:n_left], centroids[n_left:]):
        assert (np.diff(side[:, 1]) >= 0).all()


def test_centroids_equal_scipys_centre_of_mass(atlas):
    labels = np.asarray(atlas.dataobj)
    voxels = ndimage.center_of_mass(labels > 0, labels, np.arange(1, 121))
    expected = nib.affines.apply_affine(atlas.affine, np.array(voxels))
    np.testing.assert_allclose(parcel_centroids(atlas), expected, atol=1e-9)


def test_centroids_of_an_atlas_with_gaps_in_its_labels():
    labels = np.zeros((4, 4, 4), np.int16)
    labels[0, 0, 0] = 7
    labels[1, 2, 3] = labels[3, 2, 3] = 2
    affine = np.array([[2.0, 0, 0, 10], [0, 3, 0, 0], [0, 0, 1, -5], [0, 0, 0, 1]])
    expected = [[14.0, 6.0, -2.0], [10.0, 0.0, -5.0]]
    np.testing.assert_allclose(parcel_centroids(nib.Nifti1Image(labels, affine)), expected)


@pytest.mark.parametrize(("n_parcels", "voxel_mm"), [(1, 6.0), (10**6, 6.0), (50, 0.5), (50, 20.0)])
def test_out_of_range_is_refused(n_parcels, voxel_mm):
    with pytest.raises(CobeError, match="atlas: .*choose"):
        grey_matter_parcels(n_parcels, voxel_mm, seed=0)


# ---- what a brain mask leaves of an atlas


def test_coverage_counts_what_each_step_leaves():
    fine = np.zeros((8, 8, 8), np.int16)
    fine[:4] = 1
    fine[4:] = 5
    fine[0, 0, 0] = 9  # a corner of a coarse voxel, never its centre
    fine_affine = np.diag([1.0, 1, 1, 1])
    coarse_affine = np.diag([2.0, 2, 2, 1])
    coarse_affine[:3, 3] = 1.0  # voxel centres on fine voxels 1, 3, 5, 7
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[:2, 0, 0] = 1
    coverage = parcel_coverage(
        nib.Nifti1Image(fine, fine_affine), nib.Nifti1Image(mask, coarse_affine)
    )
    assert coverage.to_dict("list") == {
        "label": [1, 5, 9],
        "n_atlas": [255, 256, 1],
        "n_grid": [32, 32, 0],
        "n_mask": [2, 0, 0],
    }


def test_an_atlas_on_another_grid_is_what_nilearns_resampling_makes(atlas):
    grid = nib.Nifti1Image(np.ones((30, 36, 30), np.uint8), np.diag([5.0, 5, 5, 1]))
    grid.affine[:3, 3] = (-72, -105, -60)
    expected = resample_to_img(atlas, grid, interpolation="nearest")
    moved = on_grid(atlas, grid)
    np.testing.assert_array_equal(np.asarray(moved.dataobj), np.asarray(expected.dataobj))
    assert on_grid(atlas, atlas) is atlas
