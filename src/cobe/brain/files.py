"""What a file on disk is worth before it is read: there, downloaded, whole."""

from __future__ import annotations

import gzip
import json
import math
import os
import shlex
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from cobe.core.bounds import check_bytes
from cobe.core.disk import ANNEX_KEY
from cobe.core.errors import CobeError, short_of_memory

# What nibabel, gzip and the file system raise on a damaged image.
_NIFTI_ERRORS = (
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    ValueError,
    zlib.error,
)
MAX_JSON_BYTES = 64 * 2**20
# Deflate shrinks to no less than 1/1032: what promises more than this is not in the file.
MAX_RATIO = 1032
# What may stand behind the last voxel.
MAX_REST_BYTES = 2**20
NOT_DOWNLOADED = "not downloaded: "
_POINTER_STARTS = (b"/annex/objects/", b"version https://git-lfs")
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


@dataclass(frozen=True)
class NiftiHeader:
    """The header of an image: shape, affine (4, 4) voxel to mm, TR in s (nan where 3D)."""

    shape: tuple[int, ...]
    affine: np.ndarray
    tr_s: float

    def same_grid(self, other: NiftiHeader) -> bool:
        """True where both have the same voxels at the same places."""
        return self.shape[:3] == other.shape[:3] and np.allclose(
            self.affine, other.affine, atol=1e-3
        )


def why_absent(path: Path) -> str:
    """Why the content of a file cannot be read, "" where it can.

    A git-annex file that was not downloaded is a dangling link, or, in an unlocked branch, a
    small text file that names the missing object.
    """
    if path.is_symlink() and not path.exists():
        return f"{NOT_DOWNLOADED}{get_line(path)}"
    if not path.is_file():
        return f"no file {path}"
    try:
        with path.open("rb") as file:
            start = file.read(200)
    except OSError as error:
        return f"{path}: {error.strerror}; check its permissions"
    # A file system without links holds the target of a link as text.
    link_as_text = start.startswith(b"../") and b".git/annex/objects" in start
    if link_as_text or start.startswith(_POINTER_STARTS):
        return f"{NOT_DOWNLOADED}{get_line(path)}"
    return "" if start else f"{path}: empty file; get it again"


def annex_key(path: Path) -> str:
    """The git-annex key of a file, there or only a link; "" where none states a checksum.

    It is the last part of the target of the link, or of the text of a pointer file, and reads
    ``MD5E-s<bytes>--<checksum><suffix>``: files of one key have one content.
    """
    if path.is_symlink():
        target = os.readlink(path)
    elif path.is_file() and os.access(path, os.R_OK):
        with path.open("rb") as file:
            target = file.read(500).decode("utf-8", "replace").partition("\n")[0]
    else:
        return ""
    found = ANNEX_KEY.fullmatch(target.rsplit("/", 1)[-1])
    return found[0] if found else ""


def dataset_root(path: Path) -> Path:
    """The git repository that holds a file; its folder where there is none."""
    return next((p for p in path.parents if (p / ".git").exists()), path.parent)


def get_line(path: Path) -> str:
    """The line to type for the content of an annexed file; DataLad works inside a dataset only."""
    path = path.absolute()
    root = dataset_root(path)
    return f"cd {shlex.quote(str(root))} && datalad get {shlex.quote(str(path.relative_to(root)))}"


def read_json(path: Path) -> dict:
    """A JSON object.

    Raises
    ------
    CobeError
        The file is no JSON object.
    """
    check_bytes(path, MAX_JSON_BYTES)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CobeError(f"{path}: not readable as JSON ({error}); get it again") from error
    if not isinstance(content, dict):
        raise CobeError(f"{path}: not a JSON object; get it again")
    return content


def read_nifti_header(path: Path) -> NiftiHeader:
    """The header of a NIfTI file, after a check that the file is as long as it promises.

    A gzip file states the length of its content in its last four bytes [1]_, so that a cut file is
    found without reading it; only where that length is unexpected is the whole stream read.

    Raises
    ------
    CobeError
        The file is damaged or cut, or not a NIfTI image.

    References
    ----------
    .. [1] RFC 1952, GZIP file format specification, section 2.3.1.
    """
    try:
        image = nib.load(path)
        header = image.header
        shape = tuple(int(n) for n in image.shape)
        tr_s = math.nan
        if len(shape) == 4:
            unit = header.get_xyzt_units()[1]
            tr_s = float(header.get_zooms()[3]) * _SECONDS.get(unit, 1.0)
        if header.get_data_dtype().kind not in "iuf":
            raise ValueError(f"voxels of type {header.get_data_dtype()}")
        expected = int(image.dataobj.offset) + math.prod(shape) * header.get_data_dtype().itemsize
        found = _content_bytes(path, expected)
    except (*_NIFTI_ERRORS, MemoryError) as error:
        raise CobeError(f"{path}: damaged NIfTI ({error}); get it again") from error
    if found < expected:
        raise CobeError(
            f"{path}: damaged NIfTI (cut after {found} of {expected} bytes); get it again"
        )
    return NiftiHeader(shape, np.asarray(image.affine), tr_s)


def load_nifti(path: Path) -> nib.Nifti1Image:
    """An image with its voxels in memory, in the type that nibabel scales them to.

    nibabel stops at the last voxel and never reaches the checksum behind it: a flipped bit would
    pass as data. Here the gzip stream is read to its end, which compares the checksum.

    Raises
    ------
    CobeError
        The file is damaged or cut.
    MachineError
        There is too little memory for it.
    """
    read_nifti_header(path)  # before memory is taken for what may not be there
    try:
        image = nib.load(path)
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                holder = nib.FileHolder(fileobj=stream)
                image = type(image).from_file_map({"header": holder, "image": holder})
                data = np.asanyarray(image.dataobj)
                rest = 0
                while block := stream.read(1 << 20):
                    rest += len(block)
                    if rest > MAX_REST_BYTES:
                        raise ValueError("more than a mebibyte behind the last voxel")
        else:
            data = np.asanyarray(image.dataobj)
        return nib.Nifti1Image(data, image.affine, image.header)
    except MemoryError as error:  # the header has been compared with the size of the file above
        raise short_of_memory(f"{path}: too little memory to read it ({error})") from error
    except _NIFTI_ERRORS as error:
        raise CobeError(f"{path}: damaged NIfTI ({error}); get it again") from error


def _content_bytes(path: Path, expected: int) -> int:
    """Bytes in a file, uncompressed; the whole gzip stream is read only where its end is odd."""
    if path.suffix != ".gz":
        return path.stat().st_size
    if expected > MAX_RATIO * path.stat().st_size:
        raise ValueError(f"its header promises {expected} bytes")
    with path.open("rb") as file:
        file.seek(-4, 2)
        stated = int.from_bytes(file.read(4), "little")
    if stated == expected % 2**32:
        return expected
    total = 0
    with gzip.open(path) as stream:
        while block := stream.read(1 << 20):
            total += len(block)
            if total > expected + MAX_REST_BYTES:
                raise ValueError(f"more than the {expected} bytes that its header promises")
    return total
