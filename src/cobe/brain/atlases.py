"""An atlas by name or by path, with the names of its parcels: fetched, made here, or given."""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import urllib.error
import urllib.request
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import pandas as pd
import requests
from nilearn import datasets

from cobe.brain.files import load_nifti, why_absent
from cobe.brain.parcels import check_labels, grey_matter_parcels
from cobe.core.errors import CobeError

BASC_SCALES = (7, 12, 20, 36, 64, 122, 197, 325, 444)
MIST_SCALES = tuple(str(n) for n in BASC_SCALES) + ("ROI", "ATOM")
SCHAEFER_PARCELS = tuple(range(100, 1001, 100))
MIST_URL = "https://figshare.com/ndownloader/files/9811081"
GREY_MATTER_PARCELS = 240
GREY_MATTER_MM = 6.0
TIMEOUT_S = 60

_OFFLINE = (
    requests.RequestException,
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
)


@dataclass(frozen=True)
class Atlas:
    """A label image and what its labels are called.

    Attributes
    ----------
    image : nibabel.Nifti1Image
        Integer labels, 0 outside.
    table : DataFrame
        One row per parcel of the image, by label: ``label`` (int), ``name`` (str, "" where the
        atlas names none).
    space : str
        Template that the image lies in, "unknown" for one given by path.
    source : str
        Where it came from, in words.
    """

    image: nib.Nifti1Image
    table: pd.DataFrame
    space: str
    source: str


def atlas(name_or_path: str, folder: Path) -> Atlas:
    """An atlas by name or by path.

    ========================  ====================================================================
    ``grey-matter``           the project's own, 240 parcels; ``grey-matter-400``: that many.
                              Offline.
    ``schaefer-400``          Schaefer et al. (2018) [1]_, 100 to 1,000 parcels, 7 networks;
                              ``schaefer-400-17``: 17 networks. nilearn fetches it.
    ``basc-444``              BASC (Bellec et al., 2010) [2]_ at scale 7 to 444. nilearn fetches it.
    ``mist-444``              MIST (Urchs et al., 2019) [3]_ at scale 7 to 444, ROI (``mist-ROI``,
                              210 regions) or ATOM (1,095); its release is fetched from figshare.
    a path                    any label image; names from a ``.tsv`` or ``.csv`` beside it
    ========================  ====================================================================

    What was fetched once is taken from `folder` afterwards, without a network.

    Parameters
    ----------
    name_or_path : str
        See above.
    folder : Path
        Where fetched atlases are kept.

    Returns
    -------
    atlas : Atlas

    Raises
    ------
    CobeError
        The name is unknown, there is no network, or the file is no label image.

    Notes
    -----
    BOLD in MNI152NLin2009cAsym lies up to a few mm off templates that share the name MNI152:
    Schaefer's is in MNI152NLin6Asym, BASC and MIST in symmetric ones. Nothing here moves one onto
    the other; `Atlas.space` says which it is.

    References
    ----------
    .. [1] Schaefer et al. (2018), Local-global parcellation of the human cerebral cortex, Cereb.
       Cortex 28.
    .. [2] Bellec et al. (2010), Multi-level bootstrap analysis of stable clusters in resting-state
       fMRI, NeuroImage 51.
    .. [3] Urchs et al. (2019), MIST: a multi-resolution parcellation of functional brain networks,
       MNI Open Res. 1:3.
    """
    name = str(name_or_path)
    family, *rest = name.lower().replace("grey-matter", "grey_matter").split("-")
    makers = {"grey_matter": _grey_matter, "schaefer": _schaefer, "basc": _basc, "mist": _mist}
    looks_like_path = "/" in name or name.endswith((".nii", ".nii.gz"))
    if not looks_like_path and family in makers:
        return makers[family](name, rest, Path(folder))
    if not looks_like_path and not Path(name).exists():
        raise CobeError(
            f"atlas {name!r}: unknown; give grey-matter, schaefer-400, basc-444, mist-444, "
            "mist-ATOM, or the path of a label image"
        )
    return _from_path(Path(name).expanduser(), name)


def _grey_matter(name: str, rest: list[str], folder: Path) -> Atlas:
    n_parcels = _choice(name, rest[:1], None, GREY_MATTER_PARCELS)
    image = grey_matter_parcels(n_parcels, GREY_MATTER_MM, seed=0)
    source = f"grey matter of the MNI152 template cut into {n_parcels} parcels by cobe"
    return _made(image, {}, "MNI152NLin2009aSym", source)


def _schaefer(name: str, rest: list[str], folder: Path) -> Atlas:
    n_parcels = _choice(name, rest[:1], SCHAEFER_PARCELS, 400)
    n_networks = _choice(name, rest[1:2], (7, 17), 7)
    with _fetching(name, folder):
        found = datasets.fetch_atlas_schaefer_2018(
            n_rois=n_parcels, yeo_networks=n_networks, data_dir=folder, verbose=0
        )
    names = dict(zip(found.lut["index"], found.lut["name"].astype(str), strict=True))
    return _fetched(found.maps, names, found.template, name)


def _basc(name: str, rest: list[str], folder: Path) -> Atlas:
    scale = _choice(name, rest[:1], BASC_SCALES, 444)
    with _fetching(name, folder):
        found = datasets.fetch_atlas_basc_multiscale_2015(
            resolution=scale, version="sym", data_dir=folder, verbose=0
        )
    return _fetched(found.maps, {}, found.template, name)


def _mist(name: str, rest: list[str], folder: Path) -> Atlas:
    scale = rest[0].upper() if rest else "444"
    if scale not in MIST_SCALES or len(rest) > 1:
        raise CobeError(f"atlas {name!r}: no such scale; choose from {', '.join(MIST_SCALES)}")
    image = folder / "mist" / f"MIST_{scale}.nii.gz"
    table = folder / "mist" / f"MIST_{scale}.csv"
    if not image.is_file():
        with _fetching(name, folder):
            _unpack_mist(image, table, scale)
    names = _read_names(table) if table.is_file() else {}
    return _fetched(image, names, "MNI152NLin2009bSym", name)


def _unpack_mist(image: Path, table: Path, scale: str) -> None:
    """Fetch the release of MIST and keep the files of one scale."""
    image.parent.mkdir(parents=True, exist_ok=True)
    release = image.parent / ".release.zip"
    with (
        urllib.request.urlopen(MIST_URL, timeout=TIMEOUT_S) as answer,
        open(release, "wb") as file,
    ):
        shutil.copyfileobj(answer, file)
    try:
        with zipfile.ZipFile(release) as archive:
            members = archive.namelist()
            for path in (table, image):  # the image last: where it is, all is
                inside = [member for member in members if Path(member).name == path.name]
                if inside:
                    draft = path.with_name(f".making-{path.name}")
                    draft.write_bytes(archive.read(inside[0]))
                    draft.replace(path)
    except (zipfile.BadZipFile, EOFError) as error:
        raise CobeError(
            f"{MIST_URL}: not the release of MIST ({error}); try again later"
        ) from error
    finally:
        release.unlink()
    if not image.is_file():
        raise CobeError(f"{MIST_URL}: the release holds no {image.name}; give its path instead")


def _choice(name: str, given: list[str], allowed: tuple | None, default: int) -> int:
    if not given:
        return default
    number = int(given[0]) if re.fullmatch(r"\d{1,6}", given[0]) else -1
    if number < 0 or (allowed and number not in allowed):
        listed = ", ".join(map(str, allowed)) if allowed else "a number"
        raise CobeError(f"atlas {name!r}: {given[0]!r} does not exist; choose from {listed}")
    return number


@contextlib.contextmanager
def _fetching(name: str, folder: Path):
    """Without a network, one line that says what to do instead of a page about sockets."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except _OFFLINE as error:
        reason = " ".join(str(error).split())[:120]
        raise CobeError(
            f"atlas {name!r}: not in {folder}, and it cannot be fetched ({reason}); connect and "
            "run again, give the path of a label image, or take grey-matter, which needs no network"
        ) from error


def _fetched(path, names: dict, space: str, name: str) -> Atlas:
    path = Path(path)
    try:
        image = load_nifti(path)
        return _made(image, names, space, f"{name}, fetched to {path}")
    except CobeError as error:
        raise CobeError(f"{error}; remove {path} to fetch it again") from error


def _from_path(path: Path, name: str) -> Atlas:
    if why := why_absent(path):
        raise CobeError(f"atlas {name!r}: {why}")
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    tables = [path.with_name(stem + suffix) for suffix in (".tsv", ".csv")]
    beside = next((table for table in tables if table.is_file()), None)
    names = _read_names(beside) if beside else {}
    try:
        return _made(load_nifti(path), names, "unknown", str(path))
    except CobeError as error:
        message = str(error)
        raise CobeError(message if str(path) in message else f"{path}: {message}") from error


def _made(image, names: dict, space: str, source: str) -> Atlas:
    labels = check_labels(image)
    unknown = sorted(set(names) - {0, *labels.tolist()})
    if unknown:
        warnings.warn(
            f"atlas {source}: {len(unknown)} named parcels have no voxel: "
            + ", ".join(map(str, unknown[:10])),
            stacklevel=3,
        )
    called = [str(names.get(label, "")) for label in labels.tolist()]
    return Atlas(image, pd.DataFrame({"label": labels, "name": called}), space, source)


def _read_names(path: Path) -> dict[int, str]:
    """Label to name, from a BIDS table (index, name) or one of MIST (roi; label; name)."""
    try:
        table = pd.read_csv(path, sep=None, engine="python", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CobeError(f"{path}: not readable as a table ({reason}); correct it") from error
    table.columns = [str(column).strip().lower() for column in table.columns]
    # MIST numbers its parcels in "roi" and keeps a short name in "label"
    numbered = [c for c in ("index", "roi", "value", "label") if c in table]
    named = [c for c in ("name", "label") if c in table and c not in numbered[:1]]
    if not numbered or not named:
        raise CobeError(
            f"{path}: columns {', '.join(table.columns)}; give index (or roi) and name, or remove "
            "the table"
        )
    numbers = pd.to_numeric(table[numbered[0]], errors="coerce")
    if numbers.isna().any() or (numbers != numbers.round()).any() or numbers.duplicated().any():
        raise CobeError(f"{path}: {numbered[0]} must hold each label once, as a number; correct it")
    return dict(zip(numbers.astype(int).tolist(), table[named[0]].tolist(), strict=True))
