"""The exercises: versions as committed, solutions right, wrong answers refused, nothing told."""

import contextlib
import io
import os
import re
from pathlib import Path
from statistics import median

import nbformat
import papermill
import pytest

from cobe.core.paths import PROJECT
from cobe.course import checks
from cobe.course.scripts import read_script
from cobe.course.versions import (
    exercises,
    read_versions,
    solution_path,
    sources,
    student_path,
)
from conftest import environment_of
from wrong_answers import WRONG

SOURCES = sources()
NAMES = [source.stem for source in SOURCES]
per_source = pytest.mark.parametrize("source", SOURCES, ids=NAMES)


def of(source: Path):
    return exercises(read_script(source), source.name)


def test_there_are_exercises():
    topics = ("ex1_data", "ex2_video", "ex3_encoding", "ex4_compute_optimal", "ex5_audit")
    assert tuple(NAMES) == topics
    numbers = [exercise.number for source in SOURCES for exercise in of(source)]
    assert len(numbers) >= 12
    assert set(numbers) == set(WRONG)


@per_source
def test_sources_are_short_and_explained(source):
    cells = read_script(source).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    lines = [sum(bool(line.strip()) for line in source.splitlines()) for source in code]
    assert max(len(source.splitlines()) for source in code) <= 25
    assert median(lines) <= 8
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    assert 4 <= words / sum(lines) <= 15
    for word in ("**Question.**", "**Reads**", "**Writes**", "**Time**", "**Hardware**"):
        assert word in cells[0].source
    for exercise in of(source):
        assert len(exercise.hints) >= 2, exercise.number
        assert len(exercise.solution.splitlines()) <= 14, exercise.number


@per_source
def test_students_find_no_solution(source):
    notebook = read_script(source)
    student, _ = read_versions(source)
    open_cells = [c.source for c in student.cells if not c.source.startswith("<details>")]
    seen = {line.strip() for text in open_cells for line in text.splitlines()}
    for exercise in of(source):
        assert notebook.cells[exercise.discussion].source not in {c.source for c in student.cells}
        for line in map(str.strip, exercise.solution.splitlines()):
            if not line.startswith(("import ", "from ", "with ", "for ", ")", "]")) and line:
                assert line not in seen, f"{exercise.number}: {line}"
    assert not any(cell.get("outputs") for cell in student.cells)


@per_source
def test_committed_student_version_is_what_the_source_makes(source):
    student, _ = read_versions(source)
    pair = student_path(source)
    assert pair.is_file(), f"{pair.name}: not there; ./run_all.sh exercises && ./run_all.sh pair"
    assert nbformat.read(pair, as_version=4) == student, f"{pair.name}: ./run_all.sh pair"


@per_source
def test_committed_solution_was_right_and_has_the_cells_of_the_source(source):
    _, solution = read_versions(source)
    pair = solution_path(source)
    assert pair.is_file(), f"{pair.name}: not there; ./run_all.sh exercises && ./run_all.sh pair"
    committed = nbformat.read(pair, as_version=4)
    assert inputs(committed) == inputs(solution)
    n = len(of(source))
    assert f"{n} of {n} exercises right" in printed(committed)
    assert pair.stat().st_size < 500_000
    for trace in (str(PROJECT), os.path.expanduser("~") + "/", "papermill"):
        assert trace not in pair.read_text()


def inputs(notebook) -> list:
    return [(c.cell_type, c.source, c.metadata.get("tags")) for c in notebook.cells]


def printed(notebook) -> str:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return "".join(o.get("text", "") for cell in code for o in cell.outputs)


# ------------------------------------------------------------------------------------------------
# on a run of the smoke profile


@pytest.fixture(scope="session")
def finished(request) -> Path:
    """Folder of a finished run with the joint grid; COBE_SMOKE_RUN names one that is there."""
    there = os.environ.get("COBE_SMOKE_RUN")
    return Path(there) if there else request.getfixturevalue("smoke_and_grid")[0]


@pytest.fixture
def of_smoke(finished, monkeypatch):
    checks.reset()
    for name in ("COBE_BUILD", "COBE_FIGURES", "COBE_DATA"):
        monkeypatch.setenv(name, environment_of(finished)[name])


def executed(notebook, folder: Path) -> str:
    """What a version prints when papermill runs it."""
    given, made = folder / "given.ipynb", folder / "made.ipynb"
    nbformat.write(notebook, given)
    papermill.execute_notebook(given, made, {"profile": "smoke"}, progress_bar=False, cwd=PROJECT)
    return printed(nbformat.read(made, as_version=4))


@pytest.mark.notebook
@per_source
def test_solutions_are_right(source, of_smoke, tmp_path):
    said = executed(read_versions(source)[1], tmp_path)
    n = len(of(source))
    assert f"{n} of {n} exercises right" in said, re.findall(r".* not yet: .*", said)


@pytest.mark.notebook
@per_source
def test_empty_answers_stop_nothing_and_are_not_right(source, of_smoke):
    names, said = {}, io.StringIO()
    for cell in read_versions(source)[0].cells:
        if cell.cell_type == "code":
            run(cell.source, names, said)
        if "parameters" in cell.metadata.get("tags", []):
            names["profile"] = "smoke"
    assert f"0 of {len(of(source))} exercises right" in said.getvalue()
    assert not re.findall(r"^\d+\.\d+[a-z]? right: .*", said.getvalue(), re.M)


@pytest.mark.notebook
@per_source
def test_wrong_answers_are_refused(source, of_smoke):
    """Each exercise by itself: on the cells that all versions have, without the other answers."""
    notebook = read_script(source)
    asked = {exercise.checks[-1]: exercise for exercise in of(source)}
    shared, odd = {}, []
    for place, cell in enumerate(notebook.cells):
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type == "code" and not tags & {"answer", "check"}:
            run(cell.source, shared)
        if "parameters" in tags:
            shared["profile"] = "smoke"
        if place in asked:
            odd += misjudged(asked[place], notebook, shared)
    checks.reset()
    assert not odd


def misjudged(exercise, notebook, shared: dict) -> list[tuple[str, str]]:
    """Its wrong answers that are taken for right, or its solution that is not."""
    of_checks, odd = [notebook.cells[place].source for place in exercise.checks], []
    for wrong in ["", *WRONG[exercise.number]]:
        checks.reset()
        names = dict(shared)
        again = [] if wrong else of_checks  # a check must not change what it reads
        for cell in (exercise.solution, wrong, *of_checks, *again):
            run(cell, names)
        if checks.results() != {exercise.number: not wrong}:
            odd.append((exercise.number, wrong or "its solution"))
    return odd


def run(source: str, names: dict, said=None) -> None:
    said = said or io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(source, "cell", "exec"), names)
