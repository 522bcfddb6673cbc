import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds, load_confounds_strategy
from nilearn.maskers import NiftiLabelsMasker, NiftiMasker
from nilearn.masking import intersect_masks

from brain_tree import AFFINE, SHAPE, TR_S, Play, RunPlan, atlas_image, write_tree
from cobe.brain.bold import common_mask, parcel_series, voxel_series
from cobe.brain.confounds import read_confounds
from cobe.brain.dataset import read_dataset
from cobe.core.errors import CobeError


@pytest.fixture(autouse=True)
def warnings_are_errors():
    """A warning is a message of ours: it is expected by name or it is a fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def run(tmp_path):
    plan = RunPlan("sub-01", "ses-002", 1, (Play("1-0", 70.0), Play("4-1", 60.0)))
    write_tree(tmp_path, [plan])
    (run,) = read_dataset(tmp_path).runs
    return run


def nilearns(run, atlas, confounds, smoothing_mm=None):
    masker = NiftiLabelsMasker(
        atlas,
        mask_img=str(run.mask),
        smoothing_fwhm=smoothing_mm,
        standardize="zscore_sample",
        detrend=False,
        resampling_target="data",
    )
    return masker.fit_transform(str(run.bold), confounds=confounds)


def rewrite(path, change):
    """Change the voxels of an image in place."""
    image = nib.load(path)
    data, affine, header = np.asarray(image.dataobj).copy(), image.affine, image.header
    path.unlink()
    nib.Nifti1Image(change(data), affine, header).to_filename(path)


# ---- against nilearn


@pytest.mark.parametrize("smoothing_mm", [None, 30.0])
@pytest.mark.parametrize("strategy", ["minimal", "simple_gs"])
def test_series_equal_nilearns_masker_exactly(run, strategy, smoothing_mm):
    if strategy == "minimal":
        confounds, _ = load_confounds(
            str(run.bold),
            strategy=["motion", "high_pass", "wm_csf"],
            motion="basic",
            wm_csf="basic",
        )
    else:
        confounds, _ = load_confounds_strategy(str(run.bold), "simple", global_signal="basic")
    expected = nilearns(run, atlas_image(), confounds, smoothing_mm)
    series, labels = parcel_series(run, atlas_image(), strategy, smoothing_mm)
    assert series.dtype == np.float32
    assert series.shape == (run.n_trs, 8)
    np.testing.assert_array_equal(labels, np.arange(1, 9))
    np.testing.assert_array_equal(series, expected.astype(np.float32))


@pytest.mark.parametrize(("strategy", "n_columns"), [("minimal", 11), ("simple_gs", 30)])
def test_confounds_have_the_stated_columns(run, strategy, n_columns):
    confounds = read_confounds(run, strategy)
    assert confounds.shape == (run.n_trs, n_columns)
    assert ("global_signal" in confounds) == (strategy == "simple_gs")
    assert "motion_outlier00" not in confounds
    np.testing.assert_allclose(confounds.mean(), 0, atol=1e-10)


def test_series_are_z_scored_and_free_of_confounds(run):
    series, _ = parcel_series(run, atlas_image())
    np.testing.assert_allclose(series.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(series.std(0, ddof=1), 1, atol=1e-5)
    confounds = read_confounds(run, "minimal").to_numpy()
    residual = series - confounds @ np.linalg.lstsq(confounds, series, rcond=None)[0]
    np.testing.assert_allclose(residual, series, atol=1e-4)


def test_a_planted_signal_comes_back_in_its_parcel_and_volume(run):
    rng = np.random.default_rng(1)
    planted = rng.normal(size=(run.n_trs, 8))
    labels = np.asarray(atlas_image().dataobj)

    def plant(data):
        for label in range(1, 9):
            data[labels == label] = 1000 + 5 * planted[:, label - 1]
        return data

    rewrite(run.bold, plant)
    series, _ = parcel_series(run, atlas_image())
    r = np.corrcoef(series.T, planted.T)[:8, 8:]
    assert (np.diag(r) > 0.8).all()
    assert np.abs(r - np.diag(np.diag(r))).max() < 0.6


def test_a_confound_that_leaks_into_the_signal_is_removed(run):
    leak = pd.read_csv(run.confounds, sep="\t")["trans_y"].to_numpy()
    rewrite(run.bold, lambda data: data + 1e4 * leak.astype(np.float32))
    series, _ = parcel_series(run, atlas_image())
    assert np.abs(np.corrcoef(series.T, leak)[-1, :-1]).max() < 1e-3


def test_labels_need_not_be_a_range(run):
    atlas = np.asarray(atlas_image().dataobj)
    spread = nib.Nifti1Image((atlas.astype(np.int32) * 100), AFFINE)
    series, labels = parcel_series(run, spread)
    np.testing.assert_array_equal(labels, np.arange(100, 900, 100))
    np.testing.assert_array_equal(series, parcel_series(run, atlas_image())[0])


def test_an_atlas_on_a_finer_grid_is_resampled_to_the_bold(run):
    fine = np.kron(np.asarray(atlas_image().dataobj), np.ones((2, 2, 2), np.int16))
    affine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] = AFFINE[:3, 3] - 5.0  # voxel centres of the first coarse voxel's corner
    series, _ = parcel_series(run, nib.Nifti1Image(fine, affine))
    np.testing.assert_array_equal(series, parcel_series(run, atlas_image())[0])


# ---- voxels in a mask that all runs share


@pytest.fixture
def three_runs(tmp_path):
    """Runs whose brain masks differ by some voxels, as fMRIPrep's do."""
    plays = (Play("1-0", 70.0), Play("4-1", 60.0))
    write_tree(tmp_path, [RunPlan("sub-01", "ses-002", k, plays) for k in (1, 2, 3)])
    runs = read_dataset(tmp_path).runs
    rewrite(runs[0].mask, lambda mask: np.where(np.indices(SHAPE)[0] == 1, 0, mask))
    rewrite(runs[1].mask, lambda mask: np.where(np.indices(SHAPE)[1] == 2, 0, mask))
    return runs


def test_common_mask_equals_nilearns_intersection(three_runs):
    masks = [str(run.mask) for run in three_runs]
    expected = np.asarray(intersect_masks(masks, threshold=1, connected=False).dataobj)
    mask = common_mask(three_runs)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)
    np.testing.assert_array_equal(mask.affine, AFFINE)
    # of 6 x 7 x 6 voxels, one plane is lost in the first run and one in the second
    assert np.asarray(mask.dataobj).sum() == 5 * 6 * 6


@pytest.mark.parametrize("smoothing_mm", [None, 30.0])
def test_voxel_series_equal_nilearns_masker_exactly(three_runs, smoothing_mm):
    mask = common_mask(three_runs)
    for run in three_runs[:2]:
        masker = NiftiMasker(mask, smoothing_fwhm=smoothing_mm, standardize="zscore_sample")
        confounds, _ = load_confounds_strategy(str(run.bold), "simple", global_signal="basic")
        expected = masker.fit_transform(str(run.bold), confounds=confounds)
        series = voxel_series(run, mask, "simple_gs", smoothing_mm)
        assert series.dtype == np.float32 and series.shape == (run.n_trs, 180)
        np.testing.assert_array_equal(series, expected.astype(np.float32))


def test_voxels_come_in_the_order_of_argwhere(run):
    wanted = np.zeros(SHAPE, np.uint8)
    wanted[2, 3, 4] = wanted[2, 5, 1] = wanted[5, 2, 2] = 1
    series = voxel_series(run, nib.Nifti1Image(wanted, AFFINE))
    for column, (x, y, z) in enumerate(np.argwhere(wanted)):
        one = np.zeros(SHAPE, np.uint8)
        one[x, y, z] = 1
        alone = voxel_series(run, nib.Nifti1Image(one, AFFINE))
        np.testing.assert_allclose(series[:, column], alone[:, 0], atol=1e-3)


def test_a_voxel_without_change_is_a_nan_column_and_said(run):
    def flatten(data):
        data[1, 1, 2] = 3.0
        return data

    rewrite(run.bold, flatten)
    with pytest.warns(UserWarning, match="run-1: 1 voxels do not change over the run: 1"):
        series = voxel_series(run, common_mask([run]))
    assert np.flatnonzero(np.isnan(series).all(0)).tolist() == [1]
    assert np.isfinite(np.delete(series, 1, axis=1)).all()


def test_a_run_of_another_grid_is_named(three_runs):
    rewrite(three_runs[2].mask, lambda mask: mask[:-1])
    with pytest.raises(CobeError, match=r"run-3.*grid \(7, 9, 8\) differs .* another subject"):
        common_mask(three_runs)


def test_masks_without_a_common_voxel_are_named(three_runs):
    only = np.zeros(SHAPE, np.uint8)
    only[1, 2, 2] = 1  # not in the first run's mask
    rewrite(three_runs[2].mask, lambda mask: only)
    with pytest.raises(CobeError, match="run-3.*no voxel in common"):
        common_mask(three_runs)


def test_masks_that_cannot_be_used(three_runs):
    run = three_runs[0]
    every = nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE)
    # 8 x 9 x 8 voxels, of which 5 x 7 x 6 are in the mask of this run
    with pytest.raises(CobeError, match="366 of 576 voxels .* outside the brain mask .*intersect"):
        voxel_series(run, every)
    with pytest.raises(CobeError, match="the mask given is not on its grid"):
        voxel_series(run, nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), AFFINE))
    with pytest.raises(CobeError, match="the mask given holds no voxel"):
        voxel_series(run, nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE))
    with pytest.raises(CobeError, match="no runs given"):
        common_mask([])


# ---- parcels that cannot be had


def test_a_parcel_outside_the_mask_is_a_nan_column_and_said(run):
    atlas = np.asarray(atlas_image().dataobj).copy()
    atlas[0, 0, 0] = 12
    with pytest.warns(UserWarning, match="run-1: 1 parcels have no voxel in the brain mask: 12"):
        series, labels = parcel_series(run, nib.Nifti1Image(atlas, AFFINE))
    assert labels.tolist() == [*range(1, 9), 12]
    assert np.isnan(series[:, 8]).all()
    np.testing.assert_array_equal(series[:, :8], parcel_series(run, atlas_image())[0])


def test_a_parcel_lost_between_voxels_is_a_nan_column_and_said(run):
    fine = np.kron(np.asarray(atlas_image().dataobj), np.ones((3, 3, 3), np.int16))
    fine[3, 3, 3] = 20  # a corner of a coarse voxel, never its centre
    affine = AFFINE @ np.diag([1 / 3, 1 / 3, 1 / 3, 1])
    affine[:3, 3] = AFFINE[:3, 3] - 20 / 3
    with pytest.warns(UserWarning, match="1 parcels vanish in resampling to the grid.*: 20"):
        series, labels = parcel_series(run, nib.Nifti1Image(fine, affine))
    assert labels[-1] == 20 and np.isnan(series[:, -1]).all()
    assert np.isfinite(series[:, :-1]).all()


def test_a_parcel_without_change_is_a_nan_column_and_said(run):
    labels = np.asarray(atlas_image().dataobj)

    def flatten(data):
        data[labels == 3] = 777.3
        return data

    rewrite(run.bold, flatten)
    with pytest.warns(UserWarning, match="1 parcels do not change over the run: 3"):
        series, _ = parcel_series(run, atlas_image())
    assert np.isnan(series).all(0).tolist() == [label == 3 for label in range(1, 9)]


def test_volumes_before_steady_state_are_kept_and_said(run):
    table = pd.read_csv(run.confounds, sep="\t", dtype=str, keep_default_na=False)
    table["non_steady_state_outlier00"] = np.r_[1, np.zeros(run.n_trs - 1)]
    table.to_csv(run.confounds, sep="\t", index=False)
    with pytest.warns(UserWarning, match="1 volumes are marked as not in steady state"):
        series, _ = parcel_series(run, atlas_image())
    assert len(series) == run.n_trs


# ---- bad input


def test_a_cut_image_is_named_before_it_is_read(run):
    content = run.bold.read_bytes()
    run.bold.write_bytes(content[: len(content) // 2])
    with pytest.raises(CobeError, match=f"{run.bold}: damaged NIfTI .*get it again"):
        parcel_series(run, atlas_image())


def test_a_flipped_bit_in_the_middle_is_an_error(run):
    content = bytearray(run.bold.read_bytes())
    content[len(content) // 2] ^= 0xFF
    run.bold.write_bytes(bytes(content))
    with pytest.raises(CobeError, match=f"{run.bold}: damaged NIfTI"):
        parcel_series(run, atlas_image())


@pytest.mark.parametrize("kind", ["bold", "mask", "confounds"])
def test_a_file_that_is_not_downloaded_names_the_command(run, kind):
    path = getattr(run, kind)
    path.unlink()
    path.symlink_to("../.git/annex/objects/none")
    with pytest.raises(
        CobeError, match=f"sub-01_ses-002_run-1: not downloaded: .*datalad get .*{path.name}"
    ):
        parcel_series(run, atlas_image())


def test_values_that_are_not_finite_are_counted(run):
    def spoil(data):
        data[3, 3, 3, 4:6] = [np.nan, np.inf]
        data[0, 0, 0, 0] = np.nan  # outside the brain: no matter
        return data

    rewrite(run.bold, spoil)
    with pytest.raises(CobeError, match="2 values in the brain are not finite"):
        parcel_series(run, atlas_image())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.drop(columns="rot_z"), "rot_z"),
        (lambda t: t.loc[:, ~t.columns.str.startswith("cosine")], "cosine"),
        (lambda t: t.iloc[:-1], "rows for"),
        (lambda t: t.assign(csf="text"), "not the confounds"),
        (lambda t: t.assign(csf=t["csf"].where(t.index != 5, "n/a")), "csf"),
    ],
)
def test_confounds_that_do_not_fit(run, change, reason):
    table = pd.read_csv(run.confounds, sep="\t", dtype=str, keep_default_na=False)
    change(table).to_csv(run.confounds, sep="\t", index=False)
    with pytest.raises(CobeError, match=reason) as raised:
        parcel_series(run, atlas_image())
    assert str(run.confounds) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_mask_of_another_brain(run):
    nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), AFFINE).to_filename(run.mask)
    with pytest.raises(CobeError, match=r"\(4, 4, 4\), not on the grid .* another subject"):
        parcel_series(run, atlas_image())


def test_bold_of_another_subjects_shape(run):
    rewrite(run.bold, lambda data: data[:, :-1])
    with pytest.raises(CobeError, match=r"not on the grid of .*bold.nii.gz \(8, 8, 8\)"):
        parcel_series(run, atlas_image())
    with pytest.raises(CobeError, match="not on the grid of"):
        voxel_series(run, common_mask([run]))


def test_an_empty_mask(run):
    nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE).to_filename(run.mask)
    with pytest.raises(CobeError, match="the brain mask is empty"):
        parcel_series(run, atlas_image())


def far_away(labels):
    affine = AFFINE.copy()
    affine[:3, 3] += 5000
    return nib.Nifti1Image(labels, affine)


def mostly_outside(labels):
    labels = np.zeros_like(labels)
    labels[0, 0, :6] = np.arange(2, 8)
    labels[4, 4, 4] = 1
    return nib.Nifti1Image(labels, AFFINE)


def in_the_corner(labels):
    return nib.Nifti1Image((np.indices(SHAPE).sum(0) == 0).astype(np.int16), AFFINE)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (far_away, "does not overlap the brain mask"),
        (in_the_corner, "does not overlap the brain mask"),
        (mostly_outside, "only 1 of 7 parcels overlap"),
        (lambda x: nib.Nifti1Image(x / 2.0, AFFINE), "values that are no labels"),
        (lambda x: nib.Nifti1Image(-x, AFFINE), "values that are no labels"),
        (lambda x: nib.Nifti1Image(x * 0, AFFINE), "no label above 0"),
        (lambda x: nib.Nifti1Image(np.stack([x, x], -1), AFFINE), "4 dimensions, not 3"),
    ],
)
def test_an_atlas_that_does_not_fit(run, make, reason):
    with pytest.raises(CobeError, match=reason):
        parcel_series(run, make(np.asarray(atlas_image().dataobj)))


def test_an_unknown_strategy(run):
    with pytest.raises(CobeError, match="confounds 'best': unknown; choose one of minimal"):
        parcel_series(run, atlas_image(), strategy="best")


def test_int16_bold_with_a_slope_equals_nilearn(run):
    image = nib.load(run.bold)
    data = np.asarray(image.dataobj)
    run.bold.unlink()
    scaled = nib.Nifti1Image(data, AFFINE)
    scaled.set_data_dtype(np.int16)
    scaled.header.set_xyzt_units("mm", "sec")
    scaled.header.set_zooms((20.0, 20.0, 20.0, TR_S))
    scaled.to_filename(run.bold)
    assert nib.load(run.bold).dataobj.slope not in (None, 1.0)
    series, _ = parcel_series(run, atlas_image())
    expected = nilearns(run, atlas_image(), read_confounds(run, "minimal"))
    np.testing.assert_array_equal(series, expected.astype(np.float32))


def test_voxels_of_the_mask_that_are_no_numbers_are_outside(run):
    mask = nib.load(run.mask)
    inside = np.asarray(mask.dataobj).astype(np.float32)
    at = tuple(np.argwhere(inside)[0])
    inside[at] = 0
    nib.Nifti1Image(inside, mask.affine).to_filename(run.mask)
    expected, _ = parcel_series(run, atlas_image())
    inside[at] = np.nan
    nib.Nifti1Image(inside, mask.affine).to_filename(run.mask)
    found, _ = parcel_series(run, atlas_image())
    np.testing.assert_array_equal(found, expected)
    assert np.asarray(common_mask([run]).dataobj)[at] == 0
