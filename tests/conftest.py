"""Fixtures that several files of tests share: the real driver, and one run of ``smoke`` by it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cobe.core.paths import PROJECT


def environment_of(folder: Path) -> dict[str, str]:
    """Variables that keep a run's work files, figures and data in a folder of its own."""
    return os.environ | {
        "COBE_BUILD": str(folder / "build"),
        "COBE_FIGURES": str(folder / "figures"),
        "COBE_DATA": str(folder / "data"),
    }


def driver(*arguments, folder: Path, project: Path = PROJECT, **options):
    """Run ``./run_all.sh`` as a user does."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        ["./run_all.sh", *arguments],
        cwd=project,
        env=environment_of(folder),
        capture_output=True,
        text=True,
        timeout=1500,
        **options,
    )


def copy_project(folder: Path) -> Path:
    """A copy of the checkout that uses this very environment, and that tests may write to."""
    for name in ("run_all.sh", "requirements.txt", "pyproject.toml", "CITATION.cff", "README.md"):
        shutil.copy2(PROJECT / name, folder)
    for name in ("src", "notebooks", "binder"):
        skipped = shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints")
        shutil.copytree(PROJECT / name, folder / name, ignore=skipped)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A whole run of the smoke profile, from nothing: its folder, and how the driver ended."""
    folder = tmp_path_factory.mktemp("smoke")
    done = driver("--profile", "smoke", folder=folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return folder, done


@pytest.fixture(scope="session")
def smoke_and_grid(smoke):
    """The same with the joint grid, a step of its own, run on what the default made."""
    folder, _ = smoke
    done = driver("--profile", "smoke", "--only", "scaling", folder=folder)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder, done
