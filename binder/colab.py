"""Makes cobe importable in a Colab notebook: what the cell tagged ``colab`` runs.

Colab brings Python, torch and many packages of its own, which must not be replaced under a running
kernel. So only packages that it lacks are installed, in the versions of requirements.txt; what it
has in another version is named.
"""

import importlib
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def pinned() -> dict[str, str]:
    """Name to version, of the packages that the notebooks import."""
    lines = (PROJECT / "requirements.txt").read_text().split()
    versions = dict(line.split("==") for line in lines)
    names = (PROJECT / "binder/colab.txt").read_text().split()
    return {name: versions[name] for name in names}


def found(name: str) -> str | None:
    """Version of an installed package, without a local tag such as torch's +cu126."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def main() -> None:
    """Install what is missing, make cobe importable here and in processes started from here."""
    wanted = pinned()
    missing = [f"{name}=={number}" for name, number in wanted.items() if found(name) is None]
    if missing:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing], check=True)
        importlib.invalidate_caches()
    other = [
        f"{name} {found(name)} (tested: {number})"
        for name, number in wanted.items()
        if found(name) != number
    ]
    if other:
        print("Colab's own versions, so the last digits may differ:", ", ".join(other))
    source = str(PROJECT / "src")
    if source not in sys.path:
        sys.path.insert(0, source)
    os.environ["PYTHONPATH"] = source
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    print("cobe is ready, in", PROJECT)


if __name__ == "__main__":
    main()
