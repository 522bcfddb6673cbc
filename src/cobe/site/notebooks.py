"""Executed notebooks as pages: text for their images, downloads, and solutions behind a click."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from cobe.core.errors import CobeError
from cobe.site.words import first_sentences, plain_text

SEE = "*What to see:*"
NOT_SHOWN = "*What it does not show:*"
BARE_REPR = re.compile(r"<[\w.]+ (object )?at 0x[0-9a-f]+>")
OPENING = ("Question", "Reads", "Writes", "Time", "Hardware")


def read_notebook(path: Path, remedy: str) -> NotebookNode:
    """An executed notebook from disk.

    Parameters
    ----------
    path : Path
        The ``.ipynb``.
    remedy : str
        The command that makes it, for the message.

    Raises
    ------
    CobeError
        It is not there, is no notebook, holds an error, or has not been run.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise CobeError(f"{path}: not there; make it with {remedy}") from None
    except Exception as error:  # nbformat raises errors of several packages
        reason = " ".join(str(error).split())[:120]
        raise CobeError(f"{path}: not a notebook ({reason}); make it again with {remedy}") from None
    outputs = [out for cell in _code(notebook) for out in cell.outputs]
    if not outputs:
        raise CobeError(f"{path}: has not been run; run it with {remedy}")
    if any(out.output_type == "error" for out in outputs):
        raise CobeError(f"{path}: holds an error in its outputs; run it again with {remedy}")
    return notebook


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def opening(notebook: NotebookNode, name: str) -> dict[str, str]:
    """Title and the parts of the first cell.

    Parameters
    ----------
    notebook : NotebookNode
        Whose first cell is Markdown.
    name : str
        For the message.

    Returns
    -------
    parts : dict of str to str
        ``title``, ``Question``, ``Reads``, ``Writes``, ``Time``, ``Hardware``; Markdown, each on
        one line.

    Raises
    ------
    CobeError
        The first cell lacks one of them.
    """
    first = notebook.cells[0].source
    parts = {"title": first.splitlines()[0].lstrip("# ")}
    paragraphs = " \n\n".join(" ".join(block.split()) for block in first.split("\n\n"))
    for word in OPENING:
        label = rf"\*\*{word}\.?\*\*"
        found = re.search(rf"{label}\s*(.+?)(?=\s*\*\*(?:{'|'.join(OPENING)})|\n|$)", paragraphs)
        if found is None:
            raise CobeError(f"{name}: its first cell has no **{word}**; write it there")
        parts[word] = found[1].strip()
    return parts


def page(notebook: NotebookNode, under_title: str = "") -> NotebookNode:
    """A copy of a notebook as the site shows it.

    Images get their text from the *What to see* that follows them (else from the section they are
    in); the bare address of an object is left out where it is all that a cell shows.

    Parameters
    ----------
    notebook : NotebookNode
        Executed.
    under_title : str
        Markdown to put below the title, such as links.

    Returns
    -------
    copy : NotebookNode
    """
    copy = nbformat.from_dict(notebook)
    section = ""
    for number, cell in enumerate(copy.cells):
        if cell.cell_type == "markdown":
            # on the site notebooks lie in a folder of docs
            cell.source = cell.source.replace("](../docs/", "](../")
            cell.source = cell.source.replace("](exercises/README.md)", "](../exercises.md)")
            headings = re.findall(r"^#+ +(.+)$", cell.source, re.MULTILINE)
            section = plain_text(headings[-1]) if headings else section
        if cell.cell_type != "code":
            continue
        cell.outputs = [out for out in cell.outputs if not _is_bare(out)]
        if any("image/png" in out.get("data", {}) for out in cell.outputs):
            after = next((c.source for c in copy.cells[number + 1 :] if c.cell_type != "code"), "")
            alt = seen(after) or f"Figure of the section {section!r}"
            cell.metadata["mystnb"] = {"image": {"alt": alt}}
    if under_title:
        head, _, rest = copy.cells[0].source.partition("\n")
        copy.cells[0].source = f"{head}\n\n{under_title}\n{rest}"
    return copy


def seen(markdown: str) -> str:
    """What there is to see, for the text of an image; empty where a cell does not say."""
    if not markdown.startswith(SEE):
        return ""
    said = markdown.removeprefix(SEE).split(NOT_SHOWN)[0].split("\n\n")[0]
    text = first_sentences(plain_text(said))
    return "Figure: " + text


def _is_bare(out: NotebookNode) -> bool:
    data = out.get("data", {})
    return set(data) == {"text/plain"} and bool(BARE_REPR.fullmatch(data["text/plain"]))


def solution_page(notebook: NotebookNode, under_title: str) -> NotebookNode:
    """A solved exercise notebook with answers, checks' results and discussions behind a click.

    Parameters
    ----------
    notebook : NotebookNode
        Executed solution version; cells are tagged ``answer``, ``check``, ``discussion``, ``hint``.
    under_title : str
        As in `page`.

    Returns
    -------
    copy : NotebookNode
    """
    copy = page(notebook, under_title)
    for cell in copy.cells:
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type == "code" and tags & {"answer", "check", "hide-input"}:
            cell.metadata["tags"] = sorted(tags - {"hide-input"} | {"hide-cell"})
            shown = "Show the solution" if "check" not in tags else "Show its check"
            cell.metadata.setdefault("mystnb", {})["code_prompt_show"] = shown
            cell.metadata["mystnb"]["code_prompt_hide"] = shown.replace("Show", "Hide")
        for tag in ("hint", "discussion"):
            if tag in tags and "<details" not in cell.source:
                cell.source = folded(tag.capitalize(), cell.source)
    return copy


def folded(summary: str, markdown: str, css: str = "") -> str:
    """Markdown behind a click.

    Parameters
    ----------
    summary : str
        What is clicked on; plain text.
    markdown : str
        What opens.
    css : str
        Class of the box.
    """
    kind = f' class="{css}"' if css else ""
    return f"<details{kind}>\n<summary>{summary}</summary>\n\n{markdown}\n\n</details>"
