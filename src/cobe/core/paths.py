"""Where things are: the project's folder, work files, data."""

import os
from pathlib import Path

from cobe.core.errors import CobeError

PROJECT = Path(__file__).resolve().parents[3]


def make_absolute() -> None:
    """Read `COBE_BUILD`, `COBE_FIGURES`, `COBE_DATA` from where this process was started.

    Notebooks run in the project's folder, from where a relative path would mean another folder.

    Raises
    ------
    CobeError
        One of them is, or leads through, what cannot be a folder.
    """
    for name in ("COBE_BUILD", "COBE_FIGURES", "COBE_DATA"):
        if os.environ.get(name):
            path = os.path.abspath(os.path.expanduser(os.environ[name]))
            if os.environ[name].startswith("~") and path.endswith(os.environ[name]):
                raise CobeError(f"{name}={os.environ[name]}: no such user; give a folder")
            try:
                os.stat(path)
            except FileNotFoundError:
                pass  # it will be made
            except OSError as error:
                raise CobeError(f"{name}={path}: {error.strerror}; give another folder") from None
            if os.path.exists(path) and not os.path.isdir(path):
                raise CobeError(f"{name}={path}: is a file; give a folder")
            os.environ[name] = path


def build_dir(profile: str) -> Path:
    """Folder of a profile's work files; `COBE_BUILD` moves all of them."""
    return Path(os.environ.get("COBE_BUILD") or PROJECT / "build") / profile


def figures_dir(profile: str) -> Path:
    """Folder of a profile's figures: the default's are the project's own `figures/`."""
    root = Path(os.environ.get("COBE_FIGURES") or PROJECT / "figures")
    return root if profile == "quick" else root / profile


def data_dir(given: str = "") -> Path:
    """Folder of the data: what was given, else `COBE_DATA`, else `data/` in the project.

    Raises
    ------
    CobeError
        The path is there and is not a folder, or cannot be one.
    """
    given = given or os.environ.get("COBE_DATA") or PROJECT / "data"
    try:
        path = Path(given).expanduser().resolve()
        there = path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, no such user
        raise CobeError(f"{given}: no folder ({error}); give another one") from None
    if there and not path.is_dir():
        raise CobeError(f"{path}: is a file; give the folder that holds (or will hold) the data")
    return path
