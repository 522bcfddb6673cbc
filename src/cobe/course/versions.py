"""Student and solution versions of an exercise notebook, from its one source.

A source is a percent script whose cells are tagged: ``exercise`` (the question), ``hint``,
``answer`` (code), ``check`` (code) and ``discussion``; cells without a tag are in every version. In
an answer cell, lines that start with ``#: `` are what a student finds there, ``#: n_lost = ...``,
and all other lines are the solution.
"""

from __future__ import annotations

import ast
import copy
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT
from cobe.course.scripts import number_cells, read_script

FOLDER = PROJECT / "notebooks" / "exercises"
STUB = "#: "
KINDS = {
    "exercise": "markdown",
    "hint": "markdown",
    "answer": "code",
    "check": "code",
    "discussion": "markdown",
}
_HEADING = re.compile(r"## Exercise (\d+\.\d+) · \S")
_HINT = "<details><summary>Hint {}</summary>\n\n{}\n\n</details>"


@dataclass(frozen=True)
class Exercise:
    """One exercise of a source, checked to be whole.

    Attributes
    ----------
    number : str
        "1.2".
    hints, checks : tuple of int
        Places of these cells in the notebook.
    answer, discussion : int
        Places of these cells in the notebook.
    stub : str
        What the student finds in the answer cell.
    solution : str
        What the answer cell holds in the solution version.
    """

    number: str
    hints: tuple[int, ...]
    answer: int
    checks: tuple[int, ...]
    discussion: int
    stub: str
    solution: str


def sources(folder: Path = FOLDER) -> list[Path]:
    """Sources of the exercises, in order."""
    return sorted(folder.glob("ex[0-9]_*.py"))


def student_path(source: Path) -> Path:
    """Where the student version of a source is kept."""
    return source.with_suffix(".ipynb")


def solution_path(source: Path) -> Path:
    """Where the solution version of a source is kept."""
    return source.parent / "solutions" / f"{source.stem}.ipynb"


def student(notebook: nbformat.NotebookNode, name: str = "exercises") -> nbformat.NotebookNode:
    """The version to work in: stubs for solutions, hints and checks folded, no discussion.

    Parameters
    ----------
    notebook : NotebookNode
        A source, as `cobe.course.scripts.read_script` reads it; it is left as it is.
    name : str
        What errors call it.

    Raises
    ------
    CobeError
        As for `exercises`.
    """
    made, found = _folded(notebook, name)
    for exercise in found:
        made.cells[exercise.answer].source = exercise.stub
        # JupyterLab folds these away: they run as they are, and half of them is the answer, also
        # of those that only prepare a check
        for cell in made.cells[exercise.answer + 1 : exercise.checks[-1] + 1]:
            if cell.cell_type == "code":
                cell.metadata["jupyter"] = {"source_hidden": True}
    hidden = {exercise.discussion for exercise in found}
    made.cells = [cell for place, cell in enumerate(made.cells) if place not in hidden]
    return number_cells(made)


def solution(notebook: nbformat.NotebookNode, name: str = "exercises") -> nbformat.NotebookNode:
    """The version with solutions and discussions; answer cells are also tagged ``hide-input``.

    Parameters and errors are those of `student`.
    """
    made, found = _folded(notebook, name)
    for exercise in found:
        made.cells[exercise.answer].source = exercise.solution
        made.cells[exercise.answer].metadata.tags = ["answer", "hide-input"]
    return number_cells(made)


def read_versions(source: Path) -> tuple[nbformat.NotebookNode, nbformat.NotebookNode]:
    """The student and the solution version of a source, neither of them executed.

    Raises
    ------
    CobeError
        As for `exercises`; or an exercise does not have the number of its file.
    """
    notebook = read_script(source)
    wanted = source.name.removeprefix("ex").partition("_")[0]
    for exercise in exercises(notebook, source.name):
        if exercise.number.partition(".")[0] != wanted:
            raise CobeError(
                f"{source.name}: exercise {exercise.number}: in this file they are numbered "
                f"{wanted}.1, {wanted}.2 ..."
            )
    return student(notebook, source.name), solution(notebook, source.name)


def exercises(notebook: nbformat.NotebookNode, name: str = "exercises") -> list[Exercise]:
    """The exercises of a source, each checked to be whole.

    Raises
    ------
    CobeError
        Naming the notebook and the exercise: a tag is unknown, doubled or on a cell of the wrong
        kind; a tagged cell before the first exercise; a title that is not ``## Exercise N.k ·
        title``; a number that is not the next one; not exactly one answer and one discussion, no
        hint, no check, or these in another order; an answer without stub or without solution; a
        check of another number, or of a name that stub or solution do not give; no closing
        ``checks.summary()``.
    """
    places: list[dict[str, list[int]]] = []
    for place, cell in enumerate(notebook.cells):
        kind = _kind(cell, place, name)
        if kind == "exercise":
            places.append({kind: [] for kind in KINDS})
        elif kind and not places:
            raise CobeError(f"{name}: cell {place} ({kind}) stands before the first exercise")
        if kind:
            places[-1][kind].append(place)
    if not places:
        raise CobeError(f"{name}: holds no exercise; tag the cell of a question 'exercise'")
    found = [_exercise(notebook.cells, of_kind, name) for of_kind in places]
    _check_numbers([exercise.number for exercise in found], name)
    if notebook.cells[-1].source.strip() != "checks.summary()":
        raise CobeError(f"{name}: its last cell has to be `checks.summary()`, and nothing else")
    return found


def _folded(notebook, name: str) -> tuple[nbformat.NotebookNode, list[Exercise]]:
    """A copy without outputs whose hints are folded away, and its exercises."""
    found = exercises(notebook, name)
    made = copy.deepcopy(notebook)
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    for exercise in found:
        for count, place in enumerate(exercise.hints, start=1):
            made.cells[place].source = _HINT.format(count, made.cells[place].source)
    return made, found


def _kind(cell, place: int, name: str) -> str:
    """The tag of a cell, "" where it is in every version."""
    tags = cell.metadata.get("tags", [])
    unknown = [tag for tag in tags if tag not in (*KINDS, "parameters")]
    if unknown or len(tags) > 1:
        raise CobeError(
            f"{name}: cell {place} is tagged {', '.join(tags)}; give it one of "
            f"parameters, {', '.join(KINDS)}, or none"
        )
    kind = tags[0] if tags and tags[0] in KINDS else ""
    if kind and cell.cell_type != KINDS[kind]:
        raise CobeError(f"{name}: cell {place} ({kind}) has to be a {KINDS[kind]} cell")
    return kind


def _exercise(cells, places: dict[str, list[int]], name: str) -> Exercise:
    heading = cells[places["exercise"][0]].source.partition("\n")[0]
    title = _HEADING.match(heading)
    if not title:
        raise CobeError(f"{name}: {heading!r} is no title; write '## Exercise N.k · title'")
    number = title[1]
    where = f"{name}: exercise {number}"
    for kind, at_most in {"hint": None, "answer": 1, "check": None, "discussion": 1}.items():
        count = len(places[kind])
        if count == 0 or (at_most and count > at_most):
            wanted = f"exactly {at_most}" if at_most else "at least 1"
            raise CobeError(f"{where}: has {count} cells tagged {kind!r}; it needs {wanted}")
    order = [place for kind in KINDS for place in places[kind]]
    if order != sorted(order):
        raise CobeError(f"{where}: its cells have to come in the order {', '.join(KINDS)}")
    (answer,), (discussion,) = places["answer"], places["discussion"]
    stub, solution = _split_answer(cells[answer].source, where)
    unset, given = _unset_names(stub, where), _names_given(solution, where)
    for check in places["check"]:
        for checked, variable in _checked(cells[check].source, where):
            if checked.rstrip("abcdefghijklmnopqrstuvwxyz") != number:
                raise CobeError(f"{where}: one of its checks has the number {checked!r}")
            for missing, part in ((unset, "stub"), (given, "solution")):
                if variable not in missing:
                    raise CobeError(
                        f"{where}: check {checked} reads {variable!r}, which the {part} does not "
                        "name"
                    )
    checks = tuple(places["check"])
    return Exercise(number, tuple(places["hint"]), answer, checks, discussion, stub, solution)


def _check_numbers(numbers: list[str], name: str) -> None:
    notebook = numbers[0].partition(".")[0]
    for count, number in enumerate(numbers, start=1):
        if number != f"{notebook}.{count}":
            raise CobeError(
                f"{name}: exercise {number} stands where {notebook}.{count} has to be; number them "
                "in order, each once"
            )


def _split_answer(source: str, where: str) -> tuple[str, str]:
    """Stub and solution of an answer cell."""
    lines = source.splitlines()
    stub = [line.removeprefix(STUB) for line in lines if line.startswith(STUB)]
    rest = [line for line in lines if not line.startswith(STUB)]
    # a stub that is misspelt would be taken for a comment of the solution, and the student's lost
    bad = [line for line in rest if re.match(r"\s*#\s*:", line)]
    if not stub or bad:
        found = f"{bad[0]!r} is no stub line" if bad else "its answer has no stub"
        raise CobeError(f"{where}: {found}; write '{STUB}name = ...' from the first column on")
    return "\n".join(stub), "\n".join(rest).strip("\n")


def _parsed(source: str, where: str, part: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise CobeError(f"{where}: its {part} is not Python ({error.msg}: {error.text})") from error


def _unset_names(stub: str, where: str) -> set[str]:
    names = set()
    for statement in _parsed(stub, where, "stub").body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value)) if (
                value is ...
            ):
                names.add(name)
            case _:
                raise CobeError(f"{where}: its stub has a line that is not `name = ...`")
    return names


def _names_given(solution: str, where: str) -> set[str]:
    tree = _parsed(solution, where, "solution")
    if not tree.body:
        raise CobeError(f"{where}: its answer has no solution, only a stub")
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and type(n.ctx) is ast.Store}
    return stored | {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def _checked(source: str, where: str) -> list[tuple[str, str]]:
    """Number and variable of every check in a cell."""
    found = []
    for node in ast.walk(_parsed(source, where, "check")):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="checks")),
                args=[ast.Constant(value=str(number)), ast.Name(id=variable), *_],
            ):
                found.append((number, variable))
            case ast.Call(func=ast.Attribute(value=ast.Name(id="checks"))):
                raise CobeError(
                    f"{where}: {ast.unparse(node)[:60]!r} is no check; write "
                    "checks.equal('N.k', name, ...)"
                )
    if not found:
        raise CobeError(f"{where}: its check cell calls none of cobe.course.checks")
    return found
