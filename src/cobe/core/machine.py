"""What a result was made with: Python, packages, machine, device, commit."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cobe.core.paths import PROJECT

_RECORDED_PACKAGES = (
    "numpy pandas scikit-learn torch transformers vector-quantize-pytorch accelerate "
    "nilearn himalaya stable-retro blosc2 matplotlib"
).split()


def git_state(project: Path) -> dict:
    """Commit of a checkout, and whether tracked files differ from it.

    Both are None without git, and for a copy without a repository of its own: where it was
    unpacked inside another one, that one's commit says nothing of it.
    """

    def git(*args):
        # without the lock that would make a commit fail that somebody does in this moment
        command = ["git", "--no-optional-locks", "-C", str(project), *args]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except OSError:
            return None
        return os.fsdecode(done.stdout.strip(b"\n")) if done.returncode == 0 else None

    top, _, commit = (git("rev-parse", "--show-toplevel", "HEAD") or "").rpartition("\n")
    if not commit or Path(top).resolve() != project.resolve():
        return {"commit": None, "dirty": None}
    changed = git("status", "--porcelain", "-uno")
    dirty = None if changed is None else bool(changed)
    return {"commit": commit, "dirty": dirty}


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
        "git": git_state(PROJECT),
    }
