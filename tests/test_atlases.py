"""Atlases by name and by path: fetched, offline, from disk, with their names, and bad ones."""

import socket
import warnings
import zipfile

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brain_tree import AFFINE, SHAPE, atlas_image, dangling, pointer
from cobe.brain import atlases
from cobe.brain.atlases import atlas
from cobe.brain.parcels import grey_matter_parcels
from cobe.core.errors import CobeError


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever is looked up here, nothing leaves the machine."""

    def refuse(*_, **__):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def blocks(n):
    """A label image with labels 1 to n, one voxel each or more."""
    labels = np.zeros(SHAPE, np.int16)
    labels.reshape(-1)[: 576 // n * n] = np.repeat(np.arange(1, n + 1), 576 // n)
    return nib.Nifti1Image(labels, AFFINE)


def mist_release(path, scale=7):
    """A zip in the layout of MIST's release."""
    table = "roi;label;name;parent\n" + "".join(f"{k};L{k};REGION_{k};1\n" for k in range(1, 8))
    image = path.parent / "made.nii.gz"
    blocks(7).to_filename(image)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(image, f"Release/Parcellations/MIST_{scale}.nii.gz")
        archive.writestr(f"Release/Parcel_Information/MIST_{scale}.csv", table)
    return path


# ---- by name


def test_the_projects_own_needs_no_network(tmp_path):
    made = atlas("grey-matter-60", tmp_path)
    expected = grey_matter_parcels(60, atlases.GREY_MATTER_MM, seed=0)
    np.testing.assert_array_equal(np.asarray(made.image.dataobj), np.asarray(expected.dataobj))
    assert made.table.label.tolist() == list(range(1, 61))
    assert made.space.startswith("MNI152") and "60 parcels" in made.source


def test_schaefer_comes_from_nilearns_fetcher_with_its_names(tmp_path):
    folder = tmp_path / "schaefer_2018"
    folder.mkdir()
    stem = "Schaefer2018_100Parcels_17Networks_order"
    blocks(100).to_filename(folder / f"{stem}_FSLMNI152_1mm.nii.gz")
    names = [f"17Networks_LH_Vis_{k}" for k in range(1, 101)]
    lines = [f"{k}\t{name}\t1\t2\t3\t0" for k, name in enumerate(names, 1)]
    (folder / f"{stem}.txt").write_text("\n".join(lines) + "\n")
    made = atlas("schaefer-100-17", tmp_path)
    assert made.table.label.tolist() == list(range(1, 101))
    assert made.table.name.tolist() == names
    assert made.space == "MNI152NLin6Asym"


def test_basc_comes_from_nilearns_fetcher(tmp_path):
    folder = tmp_path / "basc_multiscale_2015/template_cambridge_basc_multiscale_nii_sym"
    folder.mkdir(parents=True)
    blocks(36).to_filename(folder / "template_cambridge_basc_multiscale_sym_scale036.nii.gz")
    made = atlas("basc-36", tmp_path)
    assert made.table.label.tolist() == list(range(1, 37))


def test_mist_is_fetched_once_and_kept_with_its_names(tmp_path, monkeypatch):
    release = mist_release(tmp_path / "release.zip")
    monkeypatch.setattr(atlases, "MIST_URL", release.as_uri())
    first = atlas("mist-7", tmp_path / "atlases")
    assert first.table.name.tolist() == [f"REGION_{k}" for k in range(1, 8)]
    release.unlink()
    again = atlas("mist-7", tmp_path / "atlases")
    pd.testing.assert_frame_equal(again.table, first.table)
    assert sorted(p.name for p in (tmp_path / "atlases/mist").iterdir()) == [
        "MIST_7.csv",
        "MIST_7.nii.gz",
    ]


def test_mist_atom_has_no_names_and_needs_none(tmp_path, monkeypatch):
    release = mist_release(tmp_path / "release.zip", "ATOM")
    monkeypatch.setattr(atlases, "MIST_URL", release.as_uri())
    with pytest.raises(CobeError, match="the release holds no MIST_444.nii.gz"):
        atlas("mist-444", tmp_path)
    assert len(atlas("mist-atom", tmp_path).table) == 7
    release.write_text("<html>moved</html>")
    with pytest.raises(CobeError, match="not the release of MIST"):
        atlas("mist-12", tmp_path)


@pytest.mark.parametrize("name", ["schaefer-400", "basc-444", "mist-ATOM"])
def test_offline_says_what_to_do(tmp_path, name):
    with pytest.raises(CobeError, match="cannot be fetched .* give the path .*grey-matter") as said:
        atlas(name, tmp_path)
    assert name in str(said.value) and "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("schaefer-450", "'450' does not exist; choose from 100, 200"),
        ("schaefer-400-12", "'12' does not exist; choose from 7, 17"),
        ("basc-100", "choose from 7, 12, 20"),
        ("mist-1095", "choose from 7, .*ATOM"),
        ("grey-matter-x", "'x' does not exist"),
        ("aal", "atlas 'aal': unknown; give grey-matter"),
        ("grey-matter-1", "1 parcels .*choose 2 to"),
    ],
)
def test_names_that_do_not_exist(tmp_path, name, reason):
    with pytest.raises(CobeError, match=reason):
        atlas(name, tmp_path)


# ---- by path


def test_a_path_is_taken_as_it_is(tmp_path):
    path = tmp_path / "mine.nii.gz"
    atlas_image().to_filename(path)
    made = atlas(path, tmp_path)
    np.testing.assert_array_equal(np.asarray(made.image.dataobj), np.asarray(atlas_image().dataobj))
    assert made.table.name.tolist() == [""] * 8
    assert made.space == "unknown" and made.source == str(path)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".tsv", "index\tname\n" + "".join(f"{k}\tregion {k}\n" for k in range(9))),
        (".csv", "roi;label;name\n" + "".join(f"{k};L;region {k}\n" for k in range(1, 9))),
    ],
)
def test_names_come_from_the_table_beside(tmp_path, suffix, content):
    atlas_image().to_filename(tmp_path / "mine_dseg.nii.gz")
    (tmp_path / f"mine_dseg{suffix}").write_text(content)
    made = atlas(str(tmp_path / "mine_dseg.nii.gz"), tmp_path)
    assert made.table.name.tolist() == [f"region {k}" for k in range(1, 9)]


def test_named_parcels_without_a_voxel_are_said(tmp_path):
    atlas_image().to_filename(tmp_path / "mine.nii.gz")
    (tmp_path / "mine.tsv").write_text("index\tname\n3\tthree\n77\tlost\n")
    with pytest.warns(UserWarning, match="1 named parcels have no voxel: 77"):
        made = atlas(str(tmp_path / "mine.nii.gz"), tmp_path)
    assert made.table.name.tolist() == ["", "", "three", "", "", "", "", ""]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a\tb\n1\t2\n", "columns a, b; give index"),
        ("index\tname\n1\tx\n1\ty\n", "each label once"),
        ("index\tname\none\tx\n", "each label once, as a number"),
    ],
)
def test_a_bad_table_is_named(tmp_path, content, reason):
    atlas_image().to_filename(tmp_path / "mine.nii.gz")
    (tmp_path / "mine.tsv").write_text(content)
    with pytest.raises(CobeError, match=f"mine.tsv.*{reason}"):
        atlas(str(tmp_path / "mine.nii.gz"), tmp_path)


def test_files_that_are_no_atlas(tmp_path):
    path = tmp_path / "mine.nii.gz"
    with pytest.raises(CobeError, match="mine.nii.gz"):
        atlas(str(path), tmp_path)
    with pytest.raises(CobeError, match="no file"):
        atlas(str(tmp_path), tmp_path)
    nib.Nifti1Image(np.full(SHAPE, 0.5), AFFINE).to_filename(path)
    with pytest.raises(CobeError, match="mine.nii.gz.*no labels"):
        atlas(str(path), tmp_path)
    nib.Nifti1Image(np.full(SHAPE, np.nan), AFFINE).to_filename(path)
    with pytest.raises(CobeError, match="mine.nii.gz.*no labels"):
        atlas(str(path), tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CobeError, match="mine.nii.gz.*damaged NIfTI"):
        atlas(str(path), tmp_path)
    for absent in (dangling, pointer):
        path.unlink()
        absent(path)
        with pytest.raises(CobeError, match="not downloaded: .*datalad get"):
            atlas(str(path), tmp_path)


def test_a_damaged_download_says_how_to_fetch_it_again(tmp_path, monkeypatch):
    monkeypatch.setattr(atlases, "MIST_URL", mist_release(tmp_path / "release.zip").as_uri())
    atlas("mist-7", tmp_path)
    path = tmp_path / "mist/MIST_7.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CobeError, match=f"remove {path} to fetch it again"):
        atlas("mist-7", tmp_path)
