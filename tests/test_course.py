"""The notebooks as a course: short cells, enough prose, words around figures, no dead link.

Figures are found in the committed `.ipynb`, where a cell has an image among its outputs; its source
is then looked up in the `.py`, so that prose may be edited before the notebooks are run again.
"""

import re
import statistics

import nbformat
import pytest

from cobe.core.paths import PROJECT
from cobe.driver.notebooks import read_script, scripts

GLOSSARY = PROJECT / "docs" / "glossary.md"
EXERCISES = {
    "01_data": "ex1_data",
    "02_vqvae": "ex2_video",
    "03_gpt_training": "ex2_video",
    "04_encoding": "ex3_encoding",
    "06_compute_optimal": "ex4_compute_optimal",
    "07_audit": "ex5_audit",
}
OPENING = ("Question.", "You will learn", "Reads", "Writes", "Time", "Hardware", "Run alone.")
SEE, NOT_SHOWN = "*What to see:*", "*What it does not show:*"
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
SCRIPTS = scripts()
every_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=[one.stem for one in SCRIPTS])


def code_lines(cells):
    """Non-blank lines of each code cell."""
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    return [sum(bool(line.strip()) for line in source.splitlines()) for source in sources]


def words(cells):
    return sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")


def figure_sources(notebook):
    """Sources of the code cells that show an image; some, for a notebook that was executed."""
    return {
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code"
        and any("image/png" in output.get("data", {}) for output in cell.outputs)
    }


def figure_faults(cells, drawing):
    """What is missing around the cells whose source is in `drawing`, a line each.

    Before a figure: prose with a heading or a bold Figure that says what is drawn. After it, before
    any code: what there is to see, in a paragraph of its own that opens a cell (the site makes the
    text of the image from it), and what is not shown.
    """
    faults = []
    for place, cell in enumerate(cells):
        if cell.cell_type != "code" or cell.source not in drawing:
            continue
        name = cell.source.strip().splitlines()[-1]
        before, after = (
            cells[near].source
            if 0 <= near < len(cells) and cells[near].cell_type == "markdown"
            else ""
            for near in (place - 1, place + 1)
        )
        if not re.search(r"^(#+ |\*\*Figure)", before, re.MULTILINE):
            faults.append(f"no title before: {name}")
        if not after.startswith(SEE) or NOT_SHOWN not in after:
            faults.append(f"not told what to see, and what is not shown: {name}")
    return faults


def slug(heading):
    """The anchor of a heading, on GitHub and in MyST."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def terms():
    return re.findall(r"^### (.+)$", GLOSSARY.read_text(), re.MULTILINE)


def dead_links(text, folder):
    """Relative links whose file is not there, nor the script that it is made from."""
    dead = []
    for target in LINK.findall(text):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        there = folder / path if path else GLOSSARY
        if not there.exists() and not there.with_suffix(".py").exists():
            dead.append(target)
        elif there.resolve() == GLOSSARY and anchor and anchor not in map(slug, terms()):
            dead.append(target)
    return dead


@every_notebook
def test_cells_are_short_and_prose_is_neither_thin_nor_long(script):
    cells = read_script(script).cells
    assert max(code_lines(cells)) <= 25
    assert statistics.median(code_lines(cells)) <= 8
    assert 4 <= words(cells) / sum(code_lines(cells)) <= 15


@every_notebook
def test_opens_with_what_a_reader_asks_first(script):
    opening = read_script(script).cells[0].source
    assert re.match(rf"# {script.stem[:2]} · ", opening)
    places = [opening.find(f"**{word}**") for word in OPENING]
    assert -1 not in places and places == sorted(places)
    listed = opening[opening.index("**Words:**") :].split("\n\n")[0]
    assert len(re.findall(r"\(\.\./docs/glossary\.md#", listed)) >= 3


@every_notebook
def test_ends_with_a_pointer_on_and_the_exercises_that_fit(script):
    last = read_script(script).cells[-1]
    assert last.cell_type == "markdown"
    pointer = last.source[last.source.index("**Next:**") :]
    assert LINK.search(pointer)
    fitting = EXERCISES.get(script.stem)
    assert fitting is None or f"(exercises/{fitting}.ipynb)" in last.source


@every_notebook
def test_every_figure_is_named_before_and_read_after(script):
    pair = script.with_suffix(".ipynb")
    if not pair.is_file():
        pytest.skip(f"{pair.name} is not committed yet")
    drawing = figure_sources(nbformat.read(pair, as_version=4))
    assert drawing, f"{pair.name}: shows no figure"
    assert figure_faults(read_script(script).cells, drawing) == []


def test_a_figure_without_words_is_found():
    def markdown(text):
        return nbformat.v4.new_markdown_cell(text)

    draw, other = nbformat.v4.new_code_cell("x = 1\ndraw()"), nbformat.v4.new_code_cell("count()")
    title, see = markdown("**Figure.** A line."), markdown(f"{SEE} a.\n\n{NOT_SHOWN} b.")
    late = markdown(f"More.\n\n{SEE} a.\n\n{NOT_SHOWN} b.")
    assert figure_faults([title, draw, see, other], {draw.source}) == []
    unread = ["not told what to see, and what is not shown: draw()"]
    for after in ([], [other, see], [markdown(f"{SEE} a.")], [late]):
        assert figure_faults([title, draw, *after], {draw.source}) == unread
    for before in ([], [other], [markdown("A line.")]):
        assert figure_faults([*before, draw, see], {draw.source}) == ["no title before: draw()"]
    draw.outputs = [nbformat.v4.new_output("display_data", {"image/png": "aGk="})]
    other.outputs = [nbformat.v4.new_output("stream", text="2")]
    assert figure_sources(nbformat.v4.new_notebook(cells=[draw, other])) == {draw.source}


@every_notebook
def test_links_of_a_notebook_lead_somewhere(script):
    text = "\n".join(c.source for c in read_script(script).cells if c.cell_type == "markdown")
    assert dead_links(text, script.parent) == []


def test_glossary_is_sorted_without_duplicates_and_every_entry_says_where_it_matters():
    listed = terms()
    assert len(listed) > 50
    assert listed == sorted(listed, key=str.lower)
    assert len({slug(term) for term in listed}) == len(listed)
    text = GLOSSARY.read_text()
    for entry in text.split("\n### ")[1:]:
        term, _, said = entry.partition("\n")
        said = said.split("\n## ")[0].strip()
        assert re.search(r"First\s+in\s+\[\d\d\]\(\.\./notebooks/\d\d_\w+\.ipynb\)\.$", said), term
        assert 8 <= len(said.split()) <= 80, term
    letters = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert letters == sorted({term[0].upper() for term in listed})
    assert dead_links(text, GLOSSARY.parent) == []


def test_dead_links_are_found():
    there = "[a](../docs/glossary.md#unique-variance) [b](00_tour.ipynb) [c](https://x.org/none)"
    assert dead_links(there, PROJECT / "notebooks") == []
    gone = "[a](../docs/glossary.md#no-such-word) [b](99_none.ipynb)"
    assert len(dead_links(gone, PROJECT / "notebooks")) == 2


def test_words_a_notebook_introduces_are_those_of_the_glossary():
    used = set()
    for script in SCRIPTS:
        used |= set(re.findall(r"glossary\.md#([\w-]+)", read_script(script).cells[0].source))
    assert used <= {slug(term) for term in terms()}
    needed = """clip token window cell axis protocol ridge penalty held-out leakage chance-level fdr
    permutation ceiling unique-variance band flop isoflop compute-optimal scaling-law null-brain
    planted-brain artifact profile"""
    assert set(needed.split()) <= used
