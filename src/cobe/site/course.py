"""The course and its exercises: a page per notebook, and what each asks."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import nbformat

from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT
from cobe.course.versions import solution_path, sources, student_path
from cobe.site.notebooks import opening, page, read_notebook, solution_page

FOLDER = PROJECT / "notebooks"
RUN, SOLVE = "./run_all.sh && ./run_all.sh pair", "./run_all.sh exercises"


def repository(pyproject: Path = PROJECT / "pyproject.toml") -> str:
    """``owner/name`` on GitHub where an address is set in pyproject.toml, else an empty string."""
    settings = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    address = settings["project"].get("urls", {}).get("Repository", "")
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", address)
    return found[1] if found else ""


def write_course(pages: Path, files: Path) -> str:
    """Write a page per notebook.

    Parameters
    ----------
    pages : Path
        Gets the notebooks as they are shown.
    files : Path
        Gets notebooks and scripts unchanged, to download.

    Returns
    -------
    listing : str
        Markdown: every notebook with its question and its time.

    Raises
    ------
    CobeError
        There is no notebook, or one is damaged, was not run, or opens without its question.
    """
    scripts = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
    if not scripts:
        raise CobeError(f"{FOLDER}: no notebooks; get the repository's folder again")
    for folder in (pages, files):
        folder.mkdir(parents=True)
    listed = [_write_one(script, pages, files) for script in scripts]
    return "\n\n".join([*listed, toctree([f"notebooks/{script.stem}" for script in scripts])])


def _write_one(script: Path, pages: Path, files: Path) -> str:
    path = script.with_suffix(".ipynb")
    notebook = read_notebook(path, RUN)
    parts = opening(notebook, path.name)
    nbformat.write(page(notebook, _links(path, script)), pages / path.name)
    for file in (path, script):
        shutil.copyfile(file, files / file.name)
    return (
        f"## [{parts['title']}](notebooks/{path.name})\n\n{parts['Question']}\n\n"
        f"{{.time}}\nTime: {parts['Time']}"
    )


def _links(notebook: Path, script: Path) -> str:
    """Downloads and, where the repository has an address, the places that run it."""
    links = [
        f'<a href="{notebook.name}" download>Download notebook</a>',
        f'<a href="{script.name}" download>its source</a>',
    ]
    where = repository()
    if where:
        inside = notebook.relative_to(PROJECT).as_posix()
        links += [
            f"[Open in Colab](https://colab.research.google.com/github/{where}/blob/main/{inside})",
            f"[Open in Binder](https://mybinder.org/v2/gh/{where}/HEAD?labpath={inside})",
        ]
    return "{.files}\n" + " · ".join(links)


def write_exercises(pages: Path, files: Path) -> str:
    """Write a page per exercise notebook, with what solves it behind a click.

    Parameters
    ----------
    pages : Path
        Gets the solved notebooks as they are shown.
    files : Path
        Gets the students' versions, to download.

    Returns
    -------
    listing : str
        Markdown: every exercise notebook with its exercises.

    Raises
    ------
    CobeError
        A version is missing or damaged, or a solution was not run.
    """
    if not sources():
        raise CobeError(f"{FOLDER / 'exercises'}: no exercises; get the repository's folder again")
    for folder in (pages, files):
        folder.mkdir(parents=True)
    listed, entries = [], []
    for source in sources():
        student, solved = student_path(source), solution_path(source)
        if not student.is_file():
            raise CobeError(f"{student}: not there; make it with {SOLVE}")
        notebook = read_notebook(solved, SOLVE)
        links = f'{{.files}}\n<a href="{student.name}" download>Download the exercises</a>'
        shown = solution_page(notebook, links)
        for cell in shown.cells:
            # the page lies where the student's version does, one folder above the solution
            if cell.cell_type == "markdown":
                cell.source = cell.source.replace("](../../", "](../")
        nbformat.write(shown, pages / student.name)
        shutil.copyfile(student, files / student.name)
        titles = [
            line.removeprefix("## Exercise ")
            for cell in notebook.cells
            for line in cell.source.splitlines()
            if cell.cell_type == "markdown" and line.startswith("## Exercise ")
        ]
        heading = notebook.cells[0].source.splitlines()[0].lstrip("# ")
        items = "\n".join(f"- {title}" for title in titles)
        listed.append(f"## [{heading}](notebooks/exercises/{student.name})\n\n{items}")
        entries.append(f"notebooks/exercises/{student.stem}")
    return "\n\n".join(listed) + "\n\n" + toctree(entries)


def toctree(entries: list[str]) -> str:
    """A table of contents that is seen at the side only."""
    return "\n".join(["```{toctree}", ":hidden:", *entries, "```", ""])
