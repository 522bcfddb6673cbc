"""The light path: extracted parcel series, in the names and shapes of the lab's own files."""

import re
import warnings

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brain_tree import dangling, pointer
from cobe.brain.timeseries import column_labels, entities, read_timeseries, timeseries_shapes
from cobe.core.errors import CobeError
from real_tree import write_timeseries, zscored

RUN = ("sub-01", "ses-002", 1)
RUNS = {RUN: 50, ("sub-01", "ses-002", 2): 61, ("sub-01", "ses-010", 1): 40}


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def path(tmp_path):
    return write_timeseries(tmp_path, RUNS)["sub-01"]


def changed(path, change):
    """Replace the array of the first run."""
    with h5py.File(path, "a") as file:
        name = "ses-002/ses-002_task-shinobi_run-1_timeseries"
        series = change(file[name][...])
        del file[name]
        file[name] = series


def test_every_run_is_found_with_its_volumes_and_columns(path):
    assert timeseries_shapes(path) == {key: (n, 12) for key, n in RUNS.items()}


def test_values_come_back_as_they_are(tmp_path):
    series = zscored(np.random.default_rng(3), 70, 9)
    path = write_timeseries(tmp_path, {RUN: series}, n_columns=9)["sub-01"]
    bold = read_timeseries(path, RUN, 70)
    assert bold.dtype == np.float32
    np.testing.assert_array_equal(bold, series)


@pytest.mark.parametrize(
    ("atlas", "desc"),
    [
        ("cneuromod26", "1134Parcels"),
        ("Schaefer18", "1000Parcels7Networks"),
        ("Schaefer2018", "1000Parcels7Networks"),
    ],
)
def test_every_spelling_of_the_lab_is_read(tmp_path, atlas, desc):
    n = int(re.match(r"\d+", desc)[0])
    options = {"n_columns": n, "atlas": atlas, "desc": desc, "dseg": False}
    path = write_timeseries(tmp_path, {RUN: 20}, **options)["sub-01"]
    assert read_timeseries(path, RUN).shape == (20, n)
    np.testing.assert_array_equal(column_labels(path), np.arange(1, n + 1))
    assert entities(path)["atlas"] in ("cneuromod26", "Schaefer18")


def test_padded_run_numbers_are_the_same_run(path):
    with h5py.File(path, "a") as file:
        file["ses-010"].move(
            "ses-010_task-shinobi_run-1_timeseries", "ses-010_task-shinobi_run-01_timeseries"
        )
    assert read_timeseries(path, ("sub-01", "ses-010", 1)).shape == (40, 12)


@settings(max_examples=15, deadline=None)
@given(
    n_trs=st.integers(3, 40),
    n_columns=st.integers(1, 20),
    session=st.integers(1, 999),
    run=st.integers(1, 20),
)
def test_any_run_of_any_shape_comes_back(tmp_path_factory, n_trs, n_columns, session, run):
    key = ("sub-02", f"ses-{session:03d}", run)
    series = zscored(np.random.default_rng(run), n_trs, n_columns)
    root = tmp_path_factory.mktemp("any")
    path = write_timeseries(root, {key: series}, n_columns=n_columns, dseg=False)["sub-02"]
    assert timeseries_shapes(path) == {key: series.shape}
    np.testing.assert_array_equal(read_timeseries(path, key, n_trs), series)


# ---- columns and parcels


def test_columns_take_their_labels_from_the_subjects_image(tmp_path):
    labels = [3, 4, 7, 100, 101, 1178]
    options = {"n_columns": 6, "desc": "1134Parcels", "labels": labels}
    path = write_timeseries(tmp_path, {RUN: 30}, **options)["sub-01"]
    np.testing.assert_array_equal(column_labels(path), labels)


def test_missing_columns_without_a_label_image_are_refused(tmp_path):
    options = {"n_columns": 6, "desc": "1134Parcels", "dseg": False}
    path = write_timeseries(tmp_path, {RUN: 30}, **options)["sub-01"]
    with pytest.raises(CobeError, match="6 columns, and which parcels .*_dseg.nii.gz beside it"):
        column_labels(path)
    dseg = path.with_name(path.name.replace("timeseries.h5", "dseg.nii.gz"))
    dangling(dseg)
    with pytest.raises(CobeError, match=f"datalad get .*{dseg.name}"):
        column_labels(path)


def test_a_label_image_of_another_version_is_refused(tmp_path):
    path = write_timeseries(tmp_path, {RUN: 30}, n_columns=6, labels=[1, 2, 3])["sub-01"]
    with pytest.raises(CobeError, match="3 parcels for 6 columns"):
        column_labels(path)


def test_the_label_image_is_found_across_spellings(tmp_path):
    options = {"n_columns": 4, "desc": "1000Parcels7Networks", "labels": [2, 5, 8, 9]}
    path = write_timeseries(tmp_path, {RUN: 30}, atlas="Schaefer18", **options)["sub-01"]
    dseg = path.with_name(path.name.replace("timeseries.h5", "dseg.nii.gz"))
    dseg.rename(dseg.with_name(dseg.name.replace("Schaefer18", "Schaefer2018")))
    np.testing.assert_array_equal(column_labels(path), [2, 5, 8, 9])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: np.where(np.arange(12) == 4, np.nan, x), "1 of 12 columns are NaN: 5"),
        (
            lambda x: np.where(np.arange(12) < 2, 0, x).astype(np.float32),
            "2 of 12 columns are without any change: 1, 2",
        ),
    ],
)
def test_columns_without_a_series_are_nan_and_said(path, change, said):
    with h5py.File(path) as file:
        before = file["ses-002/ses-002_task-shinobi_run-1_timeseries"][...]
    changed(path, change)
    with pytest.warns(UserWarning, match=said):
        bold = read_timeseries(path, RUN, 50)
    empty = np.isnan(bold).all(0)
    assert empty.sum() == int(said[0])
    np.testing.assert_array_equal(bold[:, ~empty], before[:, ~empty])


def test_series_that_are_not_z_scored_are_said(path):
    changed(path, lambda x: np.where(np.arange(12) == 0, 3 * x, x) + (np.arange(12) == 1))
    with pytest.warns(UserWarning, match="2 of 12 columns of .* are not z-scored"):
        read_timeseries(path, RUN, 50)


# ---- bad input


def test_another_number_of_volumes_is_refused(path):
    with pytest.raises(CobeError, match="50 volumes of sub-01_ses-002_run-1, and its scan has 51"):
        read_timeseries(path, RUN, 51)


def test_a_run_that_is_not_there_names_what_is(path):
    with pytest.raises(
        CobeError, match=r"no series of sub-01_ses-002_run-7; .*ses-002 run-1.*of 3"
    ):
        read_timeseries(path, ("sub-01", "ses-002", 7))
    with pytest.raises(CobeError, match="no series of sub-02"):
        read_timeseries(path, ("sub-02", "ses-002", 1))


def test_a_column_with_gaps_is_refused(path):
    changed(path, lambda x: np.where(np.add.outer(np.arange(50), np.arange(12)) == 9, np.nan, x))
    with pytest.raises(CobeError, match=r"10 columns \(first: 1\) hold numbers and gaps"):
        read_timeseries(path, RUN)
    changed(path, lambda x: np.full_like(x, np.inf))
    with pytest.raises(CobeError, match="12 columns .* hold numbers and gaps"):
        read_timeseries(path, RUN)


@pytest.mark.parametrize("how", ["cut", "flipped", "text", "empty"])
def test_a_damaged_file_is_named(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) // 2]
    elif how == "flipped":
        with h5py.File(path) as file:
            where = file["ses-002/ses-002_task-shinobi_run-1_timeseries"].id.get_chunk_info(0)
        at = where.byte_offset + where.size // 2
        content[at : at + 40] = b"\xff" * 40
    else:
        content = {"text": b"not an HDF5 file", "empty": b""}[how]
    path.write_bytes(bytes(content))
    with pytest.raises(CobeError, match=f"{path}: .*get it again"):
        read_timeseries(path, RUN)


@pytest.mark.parametrize("absent", [dangling, pointer])
def test_a_file_that_is_not_downloaded_names_the_command(path, absent):
    path.unlink()
    absent(path)
    with pytest.raises(CobeError, match=f"not downloaded: .*datalad get .*{path.name}"):
        timeseries_shapes(path)


def test_other_things_in_the_file_are_left_out_or_refused(path, tmp_path):
    with h5py.File(path, "a") as file:
        file["note"] = "text"
        file["ses-002/ses-002_task-mario_run-1_timeseries"] = np.zeros((3, 12), np.float32)
    assert set(timeseries_shapes(path)) == set(RUNS)
    with h5py.File(path, "a") as file:
        file["ses-002/ses-002_task-shinobi_run-9_timeseries"] = np.zeros((3, 5), np.float32)
    with pytest.raises(CobeError, match=r"runs of \[5, 12\] columns"):
        timeseries_shapes(path)
    changed(path, lambda x: np.zeros((3, 4, 5), np.float32))
    with pytest.raises(CobeError, match="not numbers"):
        timeseries_shapes(path)
    nameless = tmp_path / "series.h5"
    nameless.write_bytes(path.read_bytes())
    with pytest.raises(CobeError, match="does not start with sub-"):
        timeseries_shapes(nameless)


def test_a_file_without_runs_is_refused(tmp_path):
    path = tmp_path / "sub-01_task-shinobi_atlas-x_desc-3Parcels_timeseries.h5"
    h5py.File(path, "w").close()
    assert timeseries_shapes(path) == {}
    with pytest.raises(CobeError, match="no run of task shinobi"):
        column_labels(path)


def test_an_array_of_another_session_in_a_group_is_not_read(path):
    with h5py.File(path, "a") as file:
        (session, *_) = file
        (name, *_) = file[session]
        own = np.asarray(file[session][name])
        run = int(name.split("_run-")[1].split("_")[0])
        # sorts before the run's own
        stray = f"ses-000_task-shinobi_run-{run}_timeseries"
        file[session].create_dataset(stray, data=np.full_like(own, 7.0))
    subject = next(iter(timeseries_shapes(path)))[0]
    np.testing.assert_array_equal(read_timeseries(path, (subject, session, run)), own)
