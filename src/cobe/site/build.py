"""`./run_all.sh site`: gather the sources, let Sphinx make pages of them, put the site in place."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT, figures_dir
from cobe.site.api import write_api
from cobe.site.brains import write_brains
from cobe.site.course import write_course, write_exercises
from cobe.site.gallery import figure_files, gallery_pages, write_images
from cobe.site.ledger import ledger_page

DOCS = PROJECT / "docs"
NEEDED = ("sphinx", "myst_nb", "furo")
MARK = "objects.inv"  # which Sphinx writes at the root of every site
# where the README's links lead on the site
README_LINKS = {
    "figures/table_ledger.md": "ledger.md",
    "figures": "gallery.md",
    "LICENSE": "",
    "CITATION.cff": "",
    "README.md": "run.md",
    "#real-data": "run.md#real-data",
    "#what-is-not-reproduced-and-why": "run.md#what-is-not-reproduced-and-why",
}
RUN_SECTIONS = (
    "Run it",
    "Hardware",
    "Real data",
    "Bring your own features",
    "Data and licences",
    "What is not reproduced, and why",
    "Citation",
)


def build_site(out: Path, profile: str = "quick") -> Path:
    """Build the static site from what the repository holds; notebooks are not run again.

    The site is made beside `out` and takes its place when whole.

    Parameters
    ----------
    out : Path
        Folder of the site. One that holds something else is left alone.
    profile : str
        Whose figures are shown.

    Returns
    -------
    index : Path
        The first page.

    Raises
    ------
    CobeError
        Sphinx is not installed; `out` cannot be written or holds something else than a site; a
        notebook is missing, damaged or was not run; a figure is missing or changed; or Sphinx
        finds a fault in the sources, whose first line is given.
    """
    out = Path(out).resolve()
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise CobeError(
            f"{', '.join(absent)}: not installed; install with: pip install -r requirements.txt"
        )
    if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or (out / MARK).is_file())):
        raise CobeError(f"{out}: holds something else than a site; choose another folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".site-", dir=out.parent))
    except OSError as error:
        raise CobeError(f"{out.parent}: {error.strerror}; choose a folder to write to") from error
    try:
        gather(work, profile)
        made = _sphinx(work)
        _swap(made, out)
    except OSError as error:
        raise CobeError(f"{out}: {error.strerror or error}; make room or choose another") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out / "index.html"


def gather(work: Path, profile: str = "quick") -> None:
    """Write the sources of the site: ``docs`` (pages), ``files`` (handed on as they are), README.

    Parameters
    ----------
    work : Path
        An empty folder.
    profile : str
        Whose figures.

    Raises
    ------
    CobeError
        As in `build_site`.
    """
    figures = figures_dir(profile)
    files = figure_files(figures)
    docs, extra = work / "docs", work / "files"
    shutil.copytree(DOCS, docs)
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    linked = site_links(readme)
    (work / "README.md").write_text(linked, encoding="utf-8")
    for page in docs.glob("*.md"):
        # in the repository these pages lie one folder lower than on the site
        page.write_text(site_links(page.read_text(encoding="utf-8")), encoding="utf-8")

    write_images(figures, files, extra / "figures", docs / "shown")
    gallery, tables = gallery_pages(figures, files)
    write_api(docs / "api", readme)
    ways: dict[str, Callable[[], str]] = {
        "course": lambda: write_course(docs / "notebooks", extra / "notebooks"),
        "exercises": lambda: write_exercises(
            docs / "notebooks" / "exercises", extra / "notebooks" / "exercises"
        ),
        "gallery": lambda: gallery,
        "tables": lambda: tables,
        "ledger": lambda: ledger_page(figures / "table_ledger.csv"),
        "brain": lambda: write_brains(figures, profile, extra / "brain", extra / "stills"),
        "run": lambda: "\n\n".join(section(linked, title) for title in RUN_SECTIONS),
    }
    for name, write in ways.items():
        with open(docs / f"{name}.md", "a", encoding="utf-8") as page:
            page.write("\n" + write())


def site_links(markdown: str) -> str:
    """The README, or a page of ``docs``, with links that lead to pages of the site."""

    def replaced(found: re.Match) -> str:
        text, target = found[1], found[2].removesuffix("/").removeprefix("../")
        if target not in README_LINKS:
            return f"[{text}]({target})"
        return f"[{text}]({README_LINKS[target]})" if README_LINKS[target] else text

    # badges are images of other hosts: their words stay
    own = re.sub(r"!\[([^\]]*)\]\(https?://[^)\s]+\)", r"\1", markdown)
    return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", replaced, own)


def section(readme: str, title: str) -> str:
    """A section of the README, with its heading.

    Raises
    ------
    CobeError
        The README has no such section.
    """
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    if found is None:
        raise CobeError(f"README.md: no section '## {title}', which the site shows; put it back")
    return found[0].rstrip()


def _sphinx(work: Path) -> Path:
    """Let Sphinx make the pages; any warning is a fault."""
    made = work / "html"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), os.environ.get("PYTHONPATH", "")]),
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": "0",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-N"]
    command += ["-d", str(work / "doctrees"), str(work / "docs"), str(made)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if re.search("WARNING|ERROR", line)]
        log = work.parent / "site.log"
        log.write_text(done.stderr.replace(f"{work}{os.sep}", ""), encoding="utf-8")
        first = (said or done.stderr.splitlines() or ["no message"])[0]
        first = first.replace(f"{work}{os.sep}", "").replace(f"{PROJECT}{os.sep}", "")
        raise CobeError(f"{first}; {max(len(said), 1)} faults in all, see {log}")
    (made / ".buildinfo").unlink(missing_ok=True)
    return made


def _swap(made: Path, out: Path) -> None:
    """Put the finished site where the old one was."""
    old = made.with_name("old")
    if out.exists():
        out.rename(old)
    try:
        made.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
