"""Bounds on what is read: a file is refused before it takes the memory that it asks for."""

from __future__ import annotations

import os
from pathlib import Path

from cobe.core.errors import CobeError


def check_bytes(path: Path, most: int) -> None:
    """Refuse a file that is larger than any true one of its kind.

    Parameters
    ----------
    path : Path
        A file; one that is not there passes, since its reader says so better.
    most : int
        Bytes of the largest that is accepted.

    Raises
    ------
    CobeError
        It is larger, or no file (a device or a pipe may never end).
    """
    path = Path(path)
    if not path.exists():
        return
    if not path.is_file():
        raise CobeError(f"{path}: no file; give one")
    found = os.stat(path).st_size
    if found > most:
        raise CobeError(
            f"{path}: {found / 2**20:,.0f} MiB, more than the {most / 2**20:,.0f} MiB that such a "
            "file may have; this is another file: get it again"
        )
