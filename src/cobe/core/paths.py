"""Where things are: the project's folder, work files, data."""

import os
from pathlib import Path

from cobe.core.errors import CobeError

PROJECT = Path(__file__).resolve().parents[3]


def build_dir(profile: str) -> Path:
    """Folder of a profile's work files; `COBE_BUILD` moves all of them."""
    return Path(os.environ.get("COBE_BUILD", PROJECT / "build")) / profile


def figures_dir(profile: str) -> Path:
    """Folder of a profile's figures: the default's are the project's own `figures/`."""
    root = Path(os.environ.get("COBE_FIGURES", PROJECT / "figures"))
    return root if profile == "quick" else root / profile


def data_dir(given: str = "") -> Path:
    """Folder of the data: what was given, else `COBE_DATA`, else `data/` in the project.

    Raises
    ------
    CobeError
        The path is there and is not a folder.
    """
    path = Path(given or os.environ.get("COBE_DATA") or PROJECT / "data").expanduser().resolve()
    if path.exists() and not path.is_dir():
        raise CobeError(f"{path}: is a file; give the folder that holds (or will hold) the data")
    return path
