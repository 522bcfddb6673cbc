"""Percent scripts as notebooks whose cell ids follow their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jupytext
import nbformat

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def read_script(script: Path) -> nbformat.NotebookNode:
    """A percent script as a notebook, see `number_cells`."""
    return number_cells(jupytext.read(script))


def number_cells(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The same notebook with ids that follow from the cells, and no metadata but the kernel.

    The same cells give the same file on every machine, so that a committed copy can be compared.
    """
    for number, cell in enumerate(notebook.cells):
        digest = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        cell["id"] = f"c{number:02d}-{digest}"
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    return notebook
