"""What a run writes down about itself: records of steps, manifests of folders of figures."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path

from cobe.core.bounds import check_bytes
from cobe.core.disk import write_text
from cobe.core.errors import CobeError

MANIFEST = "manifest.json"
MAX_BYTES = 16 * 2**20
LAST_S = 253402300799.0  # of the year 9999, the last that has a date
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_ROW = ("name", "file", "sha256", "caption", "made_by")


def write_record(path: Path, record: dict) -> None:
    """Write the record of a step, with a checksum of its own; the step's lock is held."""
    sealed = record | {"record_sha256": _checksum(record)}
    write_text(path, json.dumps(sealed, indent=1) + "\n", alone=True)


def read_record(path: Path) -> dict:
    """The record of a step.

    Returns
    -------
    record : dict
        ``artifacts`` (sidecars of all that it read or made), ``products`` and ``tables`` (path to
        sha256 of what it wrote besides), ``made_s``, ``seconds``, ``peak_gib``, and what it was
        given.

    Raises
    ------
    CobeError
        There is none, or it is damaged.
    """
    remedy = "delete it and run ./run_all.sh again"
    try:
        record = _read(path, "the record of a step", remedy)
        said = record.pop("record_sha256")
        if said != _checksum(record):
            raise ValueError("does not match its checksum")
        if not all(isinstance(name, str) for name in record["artifacts"]):
            raise ValueError("artifacts that are no paths")
        for files in (record["products"], record["tables"]):
            if not all(isinstance(word, str) for pair in files.items() for word in pair):
                raise ValueError("files without checksums")
        if not is_time(record["made_s"]):
            raise ValueError("no time")
        if not all(math.isfinite(record[name]) for name in ("seconds", "peak_gib")):
            raise ValueError("no durations")
    except FileNotFoundError:
        raise CobeError(f"{path}: no record of a step; run ./run_all.sh") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CobeError(f"{path}: damaged record of a step ({error}); {remedy}") from None
    return record


def read_manifest(folder: Path) -> list[dict]:
    """The rows of a manifest: name, file, sha256, bytes, caption, made_by.

    Raises
    ------
    CobeError
        There is none, or it is not one.
    """
    path = Path(folder) / MANIFEST
    remedy = "delete it and make the figures again"
    try:
        rows = _read(path, "a manifest", remedy)["files"]
        if not isinstance(rows, list):
            raise ValueError("no list of files")
        for row in rows:
            if not all(isinstance(row[name], str) for name in _ROW):
                raise ValueError("rows lack fields")
            # files lie beside their manifest: a name with a path in it is none of ours
            if not _NAME.fullmatch(row["file"]):
                raise ValueError("a file name that is none")
    except FileNotFoundError:
        raise CobeError(f"{path}: not there; make the figures first (./run_all.sh)") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CobeError(f"{path}: not a manifest ({type(error).__name__}); {remedy}") from None
    return rows


def is_time(value) -> bool:
    """Whether it is a time in seconds that a calendar has."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value <= LAST_S


def _read(path: Path, what: str, remedy: str):
    check_bytes(path, MAX_BYTES)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (ValueError, OSError, RecursionError) as error:
        raise CobeError(f"{path}: not {what} ({type(error).__name__}); {remedy}") from None


def _checksum(record: dict) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
