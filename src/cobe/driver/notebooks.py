"""Notebooks from percent scripts: checked parameters, execution, the committed pair."""

from __future__ import annotations

import ast
import copy
import itertools
from pathlib import Path

import nbformat

from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT
from cobe.course.scripts import read_script

FOLDER = PROJECT / "notebooks"


def scripts() -> list[Path]:
    """The notebooks' sources, in the order in which they run."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.py"))


def declared_parameters(notebook: nbformat.NotebookNode, name: str) -> dict:
    """The literal defaults in the one cell tagged ``parameters``.

    Raises
    ------
    CobeError
        There is not exactly one such cell, or it holds something else than literals.
    """
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise CobeError(
            f"{name}: has {len(tagged)} cells tagged 'parameters'; tag exactly one of them"
        )
    defaults = {}
    for statement in ast.parse(tagged[0].source).body:
        try:
            (target,) = statement.targets
            defaults[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError) as error:
            raise CobeError(
                f"{name}: line {statement.lineno} of its parameters cell is not `name = literal`; "
                "derive values in the next cell"
            ) from error
    return defaults


def check_parameters(given: dict, defaults: dict, name: str) -> None:
    """Refuse a name that the notebook does not have, or a value of another type.

    Papermill itself only warns about the first and silently accepts the second.

    Raises
    ------
    CobeError
        Naming the notebook, the parameter and what it takes.
    """
    for key, value in given.items():
        if key not in defaults:
            known = ", ".join(sorted(defaults))
            raise CobeError(f"{name}: has no parameter {key!r}; it takes {known}")
        if type(value) is not type(defaults[key]):
            wanted, got = type(defaults[key]).__name__, type(value).__name__
            raise CobeError(f"{name}: parameter {key!r} takes {wanted}, not {got} ({value!r})")


def paired(
    executed: nbformat.NotebookNode, source: nbformat.NotebookNode, name: str
) -> nbformat.NotebookNode:
    """An executed copy as it is committed: without the machine, the clock and the log.

    The outputs are kept, stderr (progress, ages, warnings) is not; cells and ids are those of the
    source, so that the pair differs only where the source or a result does.

    Parameters
    ----------
    executed, source : NotebookNode
        A run, and the notebook without outputs that it was a run of.
    name : str
        What errors call it.

    Raises
    ------
    CobeError
        The source has other cells than those that were run.
    """
    ran = [c for c in executed.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    notebook = copy.deepcopy(source)
    if [cell.source for cell in ran] != [cell.source for cell in notebook.cells]:
        raise CobeError(f"{name}: changed since it was executed; run it again")
    count = 0
    for cell, of_run in zip(notebook.cells, ran, strict=True):
        cell.metadata = {"tags": list(cell.metadata.tags)} if cell.metadata.get("tags") else {}
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = []
        for output in (_plain_output(o, count) for o in of_run.outputs if not _is_log(o)):
            # where the stream was cut into pieces is chance
            if cell.outputs and output.output_type == cell.outputs[-1].output_type == "stream":
                cell.outputs[-1].text += output.text
            else:
                cell.outputs.append(output)
    return notebook


def _is_log(output) -> bool:
    return output.output_type == "stream" and output.name == "stderr"


def _plain_output(output, count: int):
    output = nbformat.from_dict(output)
    output.metadata = {} if "metadata" in output else None
    if output.metadata is None:
        del output["metadata"]
    if output.output_type == "execute_result":
        output.execution_count = count
    return output


def is_pair(script: Path) -> bool:
    """Whether the `.ipynb` beside a script has exactly its cells."""
    pair = script.with_suffix(".ipynb")
    return pair.is_file() and not differing_cells(script)


def differing_cells(script: Path) -> list[str]:
    """First lines of the cells in which a script and the `.ipynb` beside it differ."""
    ours = [(cell.cell_type, cell.source) for cell in read_script(script).cells]
    pair = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    theirs = [(cell.cell_type, cell.source) for cell in pair.cells]
    longest = itertools.zip_longest(ours, theirs)
    return [(mine or other)[1].partition("\n")[0] for mine, other in longest if mine != other]
