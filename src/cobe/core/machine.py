"""What a result was made with: Python, packages, machine, device, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_RECORDED_PACKAGES = (
    "numpy pandas scikit-learn torch transformers vector-quantize-pytorch accelerate "
    "nilearn himalaya stable-retro blosc2 matplotlib"
).split()


def git_state(folder: Path) -> dict:
    """Commit of the checkout that holds `folder`, and whether tracked files differ from it."""

    def git(*args):
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(git("status", "--porcelain", "-uno"))}


def device() -> str:
    """The processor that this process computes on, in words: a GPU where torch has one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {len(os.sched_getaffinity(0))} cores"


def environment() -> dict:
    """What a result was made with: Python, packages, machine, device, commit."""
    packages = {}
    for name in _RECORDED_PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "python": platform.python_version(),
        "packages": packages,
        "machine": platform.machine(),
        "device": device(),
        "git": git_state(Path(__file__).parent),
    }
