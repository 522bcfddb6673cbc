"""``./run_all.sh address URL``: the public address of the repository, wherever it is needed.

pyproject.toml holds it; CITATION.cff, the badges of README.md and the Colab cell of every notebook
are written from it, here and nowhere else.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from cobe.core.artifacts import readable_os_errors
from cobe.core.disk import write_text
from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT

BRANCH = "main"
BEGIN, END = "<!-- badges:begin -->", "<!-- badges:end -->"
CELL = """# %% tags=["colab", "remove-cell"]
# on Colab: get the repository and the packages that Colab lacks; anywhere else: nothing
import os
import runpy
import subprocess
import sys

if "google.colab" in sys.modules:
    if not os.path.isdir("cobe"):
        subprocess.run(["git", "clone", "--depth=1", "{url}", "cobe"], check=True)
    runpy.run_path("cobe/binder/colab.py", run_name="__main__")

"""
_CELL = re.compile(r'# %% tags=\["colab", "remove-cell"\]\n.*?(?=# %%)', re.S)
_FIRST_CELL = re.compile(r'# %% tags=\["parameters"\]\n')
_GITHUB = re.compile(r"https://github\.com/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+?)(?:\.git)?/?")


def run(arguments: list[str]) -> None:
    """The command: check the address, write it everywhere, say where."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh address",
        description="Write the public address of the repository into pyproject.toml, CITATION.cff, "
        "the badges of README.md and the Colab cell of every notebook; then run ./run_all.sh and "
        "./run_all.sh pair.",
    )
    parser.add_argument("url", help="https://github.com/OWNER/NAME")
    url = checked(parser.parse_args(arguments).url)
    for path in write(url, PROJECT):
        print(path.relative_to(PROJECT))


def checked(url: str) -> str:
    """The address in one form: without ``.git`` or a slash at its end.

    Raises
    ------
    CobeError
        It is not of GitHub, from where Colab and Binder read.
    """
    found = _GITHUB.fullmatch(url)
    if not found:
        raise CobeError(
            f"{url}: no address of a repository on GitHub; give it as https://github.com/OWNER/NAME"
        )
    return f"https://github.com/{found[1]}/{found[2]}"


def write(url: str, project: Path) -> list[Path]:
    """Write the address into all files that name it; the same address again changes nothing.

    Parameters
    ----------
    url : str
        As `checked` returns it.
    project : Path
        The checkout.

    Returns
    -------
    changed : list of Path
        Files with another content than before.

    Raises
    ------
    CobeError
        A file lacks the place where the address belongs. Then none is changed.
    """
    scripts = sorted((project / "notebooks").glob("[0-9][0-9]_*.py"))
    edits = {
        project / "pyproject.toml": _with_project_url,
        project / "CITATION.cff": _with_citation_url,
        project / "README.md": lambda text, url: _with_badges(text, url, scripts),
        **dict.fromkeys(scripts, _with_cell),
    }
    changed = {}
    for path, edit in edits.items():
        before = path.read_text()
        try:
            after = edit(before, url)
        except ValueError as error:
            raise CobeError(f"{path}: {error}") from None
        if after != before:
            changed[path] = after
    for path, text in changed.items():
        with readable_os_errors(path):
            write_text(path, text)
    return list(changed)


def badges(url: str, scripts: list[Path]) -> str:
    """The badge of Binder, and one of Colab per notebook, as Markdown."""
    owner_and_name = url.removeprefix("https://github.com/")
    binder = f"https://mybinder.org/v2/gh/{owner_and_name}/{BRANCH}"
    colab = f"https://colab.research.google.com/github/{owner_and_name}/blob/{BRANCH}"
    lines = [
        "[![Open in Binder](https://mybinder.org/badge_logo.svg)]"
        f"({binder}?urlpath=lab/tree/notebooks/00_tour.ipynb) all notebooks",
    ]
    lines += [
        f"[![Open {script.stem} in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"({colab}/notebooks/{script.stem}.ipynb) {script.stem}"
        for script in scripts
    ]
    return "\n".join(f"- {line}" for line in lines)


def _with_project_url(text: str, url: str) -> str:
    section = f'[project.urls]\nRepository = "{url}"\n'
    if "[project.urls]" in text:
        return re.sub(r"\[project\.urls\]\nRepository = .*\n", lambda _: section, text)
    if "\n[tool." not in text:
        raise ValueError("holds no [tool.] section, before which [project.urls] belongs")
    return text.replace("\n[tool.", f"\n{section}\n[tool.", 1)


def _with_citation_url(text: str, url: str) -> str:
    line = f'repository-code: "{url}"'
    if re.search(r"^repository-code:", text, re.M):
        return re.sub(r"^repository-code:.*$", lambda _: line, text, flags=re.M)
    if not re.search(r"^license: ", text, re.M):
        raise ValueError("holds no line `license:`, after which repository-code belongs")
    return re.sub(r"^license: .*$", lambda found: f"{found[0]}\n{line}", text, flags=re.M)


def _with_badges(text: str, url: str, scripts: list[Path]) -> str:
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"holds no block between {BEGIN} and {END}")
    return f"{head}{BEGIN}\n{badges(url, scripts)}\n{END}{tail}"


def _with_cell(text: str, url: str) -> str:
    cell = CELL.format(url=url)
    if _CELL.search(text):
        return _CELL.sub(lambda _: cell, text, count=1)
    if not _FIRST_CELL.search(text):
        raise ValueError("holds no cell tagged 'parameters', before which the Colab cell belongs")
    return _FIRST_CELL.sub(lambda found: cell + found[0], text, count=1)
