"""What tests of killed runs share: what is whole, what was left behind, what still lives."""

from pathlib import Path

import psutil

from cobe.core.artifacts import SIDECAR, is_intact


def identity(path: Path) -> tuple[int, int]:
    """What a file that is written again does not share with the one before."""
    return (path.stat().st_ino, path.stat().st_mtime_ns)


def whole(folder: Path) -> dict[str, tuple]:
    """The sidecars of what is whole, and their identity."""
    found = {}
    for sidecar in folder.rglob(f"*{SIDECAR}"):
        if not sidecar.name.startswith("."):
            assert is_intact(sidecar), f"{sidecar}: under its own name, and not whole"
            found[str(sidecar)] = identity(sidecar)
    return found


def left_over(folder: Path) -> list[str]:
    return [str(p) for p in folder.rglob(".*") if p.name.startswith((".making", ".checkpoint"))]


def of_this_run(folder: Path) -> list[psutil.Process]:
    """Processes of a driver that works in this folder, of its kernels and of their workers."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.environ().get("COBE_BUILD", ""):
                found.append(process)
        except psutil.Error:
            continue
    return found
