"""``./run_all.sh lab``: JupyterLab on the tour, on this machine only, with this environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cobe.core.paths import PROJECT
from cobe.driver.kernel import kernel_environment
from cobe.driver.notebooks import differing_cells, scripts

TOUR = "notebooks/00_tour.ipynb"
# JupyterLab would ask PyPI for a newer self, which the lock file does not allow
NO_UPDATE = "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate"
# jupytext refuses to open a pair whose .ipynb is newer by more, and differs
MARGIN_S = 1.0


def run(arguments: list[str]) -> None:
    """Say which pairs differ, and become JupyterLab.

    Parameters
    ----------
    arguments : list of str
        Handed on to JupyterLab, after ours: ``--no-browser``, ``--port=8899``, a notebook.
    """
    for script in scripts():
        for line in disagreement(script):
            print(line, file=sys.stderr)
    os.chdir(PROJECT)
    os.environ |= kernel_environment()
    os.execv(sys.executable, command(arguments))


def command(arguments: list[str]) -> list[str]:
    """The command line of JupyterLab; the first notebook that it names is opened."""
    ours = [f"--ServerApp.root_dir={PROJECT}", "--ServerApp.ip=127.0.0.1", NO_UPDATE]
    return [sys.executable, "-m", "jupyterlab", *ours, *arguments, TOUR]


def disagreement(script: Path) -> list[str]:
    """What to know and do where a script and its `.ipynb` hold different cells.

    Parameters
    ----------
    script : Path
        The percent script.

    Returns
    -------
    lines : list of str
        None where they agree, or there is no `.ipynb` yet.
    """
    pair = script.with_suffix(".ipynb")
    cells = differing_cells(script) if pair.is_file() else []
    if not cells:
        return []
    name = f"{script.parent.name}/{script.stem}"
    line = f"{name}: .py and .ipynb differ in {len(cells)} cells, first {cells[0]!r}"
    if pair.stat().st_mtime <= script.stat().st_mtime + MARGIN_S:
        return [f"{line}: JupyterLab shows the .py; saving there brings the .ipynb up to date"]
    return [
        f"{line}, and the .ipynb is newer: JupyterLab will not open it. To keep the cells of the",
        f"  .ipynb: {sys.executable} -m jupytext --to py:percent {name}.ipynb",
        f"  .py:    touch {name}.py",
    ]
