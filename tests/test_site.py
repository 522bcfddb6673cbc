"""The site: every link leads somewhere, every image has words, nothing comes from elsewhere."""

import json
import os
import re
import shutil
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup

from built_site import built_site
from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT
from cobe.report.audit.ledger import read_ledger
from cobe.report.manifest import read_manifest
from cobe.site import api, build, course, gallery, notebooks
from cobe.site.words import escaped, first_sentences, plain_text

FIGURES = PROJECT / "figures"
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def site():
    return built_site()


@cache
def parsed(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def targets(page: Path):
    """Everything that a page refers to: (tag, attribute, value)."""
    for tag in parsed(page).find_all(True):
        for attribute in ("href", "src", "srcset", "data-src", "poster", "action"):
            if tag.has_attr(attribute):
                yield tag.name, attribute, tag[attribute]


def test_internal_links_lead_to_files_and_anchors(site):
    ids = {str(p): {tag["id"] for tag in parsed(p).find_all(id=True)} for p in pages(site)}
    files = {str(path) for path in site.rglob("*") if path.is_file()}
    dead, n_checked = [], 0
    for page in pages(site):
        for _, _, value in targets(page):
            where = urlsplit(value)
            if where.scheme in ("http", "https", "mailto", "data"):
                continue
            assert not where.scheme and not value.startswith("/"), f"{page.name}: {value}"
            file = str(page)
            if where.path:
                file = os.path.normpath(page.parent / unquote(where.path))
            anchored = not where.fragment or unquote(where.fragment) in ids.get(file, ())
            if file not in files or not anchored:
                dead.append(f"{page.relative_to(site)}: {value}")
            n_checked += 1
    assert not dead
    assert n_checked > 5_000


def test_every_image_has_words(site):
    images = [(page, image) for page in pages(site) for image in parsed(page).find_all("img")]
    silent = [
        f"{p.relative_to(site)}: {i.get('src')}" for p, i in images if not i.get("alt", "").strip()
    ]
    assert not silent
    assert len(images) >= 40
    for page, image in images:
        words = image["alt"]
        assert len(words) > 15 and not words.startswith(("_images", "http")), (page.name, words)


def test_nothing_comes_from_another_host(site):
    for page in pages(site):
        for name, attribute, value in targets(page):
            if not (name == "a" and attribute == "href"):
                assert not urlsplit(value).netloc, f"{page.relative_to(site)}: {name} {value}"
        for style in parsed(page).find_all("style"):
            assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", style.text)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", sheet.read_text()), sheet.name


def test_notebooks_are_shown_as_committed(site):
    for path in sorted((PROJECT / "notebooks").glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
        page = parsed(site / "notebooks" / f"{path.stem}.html")
        text = page.get_text()
        for out in outputs:
            if out.output_type == "stream":
                assert out.text.splitlines()[0].strip() in text, path.name
        images = page.select(".cell_output img")
        assert len(images) == sum("image/png" in o.get("data", {}) for o in outputs)
        assert not notebooks.BARE_REPR.search(text)
        assert (site / "notebooks" / path.name).read_bytes() == path.read_bytes()


def test_course_asks_every_notebooks_question(site):
    text = " ".join(parsed(site / "course.html").get_text().split())
    for path in sorted((PROJECT / "notebooks").glob("[0-9]*.ipynb")):
        parts = notebooks.opening(nbformat.read(path, as_version=4), path.name)
        assert plain_text(parts["title"]) in text
        assert plain_text(parts["Question"])[-40:] in text.replace("’", "'")


def test_exercises_hide_what_gives_them_away(site):
    folder = PROJECT / "notebooks" / "exercises"
    for source in sorted(folder.glob("ex*.py")):
        page = parsed(site / "notebooks" / "exercises" / f"{source.stem}.html")
        solved = nbformat.read(folder / "solutions" / f"{source.stem}.ipynb", as_version=4)
        n_hidden = sum("answer" in cell.metadata.get("tags", []) for cell in solved.cells)
        assert n_hidden and len(page.select("div.cell.tag_answer > details")) == n_hidden
        for cell in page.select("div.cell.tag_answer, div.cell.tag_check"):
            assert not [
                child for child in cell.find_all(recursive=False) if child.name != "details"
            ]
        student = site / "notebooks" / "exercises" / f"{source.stem}.ipynb"
        assert student.read_bytes() == source.with_suffix(".ipynb").read_bytes()


def test_gallery_shows_every_figure_of_the_manifest(site):
    rows = read_manifest(FIGURES)
    page = parsed(site / "gallery.html")
    shown = {Path(image["src"]).stem: image["alt"] for image in page.select("article img")}
    drawn = {row["name"] for row in rows if row["file"].endswith((".png", ".gif"))}
    assert set(shown) == drawn
    for name, words in shown.items():
        assert gallery.title(name) in words
    for row in rows:
        if row["file"] != row["caption"]:
            copy = site / "figures" / row["file"]
            assert copy.read_bytes() == (FIGURES / row["file"]).read_bytes()


def test_ledger_has_a_block_per_claim_with_its_own_verdicts(site):
    table = read_ledger(FIGURES / "table_ledger.csv")
    page = parsed(site / "ledger.html")
    blocks = {
        " ".join(section.select_one(".claim").get_text().split()): section
        for section in page.find_all("section")
        if section.find("h3", recursive=False)
    }
    assert len(blocks) == len(table)
    for row in table.to_dict("records"):
        block = blocks[row["claimed"].replace("'", "’")]
        published, computed = (s.get_text(" ", strip=True) for s in block.select(".source"))
        assert row["verdict_published"].replace("'", "’") in published
        assert row["verdict_here"] in computed and row["verdict_here"] not in published
        for kind in ("as_published", "corrected"):
            assert row[f"{kind}_here"].split(";")[0].split("'")[0] in computed


def test_reference_has_a_page_per_module(site):
    for path in sorted((PROJECT / "src" / "cobe").rglob("*.py")):
        parts = path.relative_to(PROJECT / "src").with_suffix("").parts
        if len(parts) > 2 and not parts[-1].startswith("__"):
            assert (site / "api" / parts[1] / f"{'.'.join(parts)}.html").is_file()
    page = parsed(site / "api" / "encoding" / "cobe.encoding.scoring.html")
    assert page.find(id="cobe.encoding.scoring.evaluate")
    assert "float32 or float64" in page.get_text()


def test_site_is_small_and_holds_no_trace_of_this_machine(site):
    files = [path for path in site.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    print(f"site: {len(files)} files, {total / MEGABYTE:.0f} MB")
    assert total < 60 * MEGABYTE
    for path in files:
        if path.suffix in (".html", ".js", ".css", ".txt"):
            assert str(PROJECT) not in path.read_text(encoding="utf-8"), path.name
    assert not list(site.rglob("*.doctree")) and not (site / ".buildinfo").exists()


def test_same_sources_give_the_same_gathered_bytes(tmp_path, monkeypatch):
    # drawn pages and pictures come from the libraries that draw them, and take long
    monkeypatch.setattr(build, "write_brains", lambda *_: "")
    monkeypatch.setattr(build, "write_images", lambda *_: None)
    contents = []
    for name in ("first", "second"):
        build.gather(tmp_path / name)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        contents.append({p.relative_to(tmp_path / name): p.read_bytes() for p in files})
    assert contents[0] == contents[1]


def cells(*given):
    notebook = nbformat.v4.new_notebook()
    for kind, source, *outputs in given:
        cell = getattr(nbformat.v4, f"new_{kind}_cell")(source)
        if outputs:
            cell.outputs = outputs
        notebook.cells.append(cell)
    return notebook


def shows(**data):
    return nbformat.v4.new_output(
        "display_data", data={k.replace("_", "/"): v for k, v in data.items()}
    )


def test_images_are_described_by_what_there_is_to_see():
    notebook = cells(
        ("markdown", "# A\n\nText."),
        ("code", "draw()", shows(image_png="aaaa")),
        ("markdown", "*What to see:* a `ship`, low.\nRocks. *What it does not show:* the game."),
        ("markdown", "## The *second* part"),
        ("code", "draw()", shows(image_png="aaaa"), shows(text_plain="<a.B at 0x7f00>")),
    )
    page = notebooks.page(notebook, "below")
    described = [c.metadata["mystnb"]["image"]["alt"] for c in page.cells if c.cell_type == "code"]
    assert described == ["Figure: a ship, low. Rocks.", "Figure of the section 'The second part'"]
    assert len(page.cells[4].outputs) == 1 and len(notebook.cells[4].outputs) == 2
    assert page.cells[0].source == "# A\n\nbelow\n\nText."


def test_words():
    assert plain_text("**a** [b](c.md), `d_e` and *f*: 4 * 5 \\* 6") == "a b, d_e and f: 4 * 5 * 6"
    assert first_sentences("One. Two is longer. Three.", 20) == "One. Two is longer."
    assert first_sentences("one two three four", 10) == "one two…"
    odd = "a_b *c* [d] <e> | `f` #g $h ~i ^j & k\\l"
    from markdown_it import MarkdownIt

    html = MarkdownIt().render(escaped(odd))
    assert BeautifulSoup(html, "html.parser").get_text().strip() == odd


def test_links_of_the_readme_lead_to_pages():
    text = "[a](figures/) [b](#real-data) [c](LICENSE) [d](../notebooks/00_tour.ipynb) [e](https://x.y)"
    assert build.site_links(text) == (
        "[a](gallery.md) [b](run.md#real-data) c [d](notebooks/00_tour.ipynb) [e](https://x.y)"
    )
    badge = "[![Open in Colab](https://colab.x/badge.svg)](https://colab.x/nb)"
    assert build.site_links(badge) == "[Open in Colab](https://colab.x/nb)"


@pytest.mark.parametrize(
    "address, found",
    [
        ("https://github.com/some-one/co.be", "some-one/co.be"),
        ("https://github.com/a/b.git", "a/b"),
        ("https://gitlab.com/a/b", ""),
        ("", ""),
    ],
)
def test_badges_need_an_address(tmp_path, address, found):
    settings = f'[project]\nurls = {{ Repository = "{address}" }}\n' if address else "[project]\n"
    path = tmp_path / "pyproject.toml"
    path.write_text(settings)
    assert course.repository(path) == found


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path: None, "not there; make it with ./again"),
        (lambda path: path.write_text("{"), "not a notebook"),
        (lambda path: nbformat.write(cells(("code", "1")), path), "has not been run"),
        (
            lambda path: nbformat.write(
                cells(
                    (
                        "code",
                        "1",
                        nbformat.v4.new_output("error", ename="E", evalue="", traceback=[]),
                    )
                ),
                path,
            ),
            "holds an error",
        ),
    ],
)
def test_bad_notebooks_are_named(tmp_path, make, message):
    path = tmp_path / "00_x.ipynb"
    make(path)
    with pytest.raises(CobeError, match=re.escape(message)) as caught:
        notebooks.read_notebook(path, "./again")
    assert str(path) in str(caught.value)


def test_opening_without_question_is_named():
    notebook = cells(
        ("markdown", "# T\n\n**Question.** Why?\n\n**Reads** a. **Writes** b. **Time** c.")
    )
    with pytest.raises(CobeError, match=r"00_x: its first cell has no \*\*Hardware"):
        notebooks.opening(notebook, "00_x")


@pytest.mark.parametrize(
    "harm, message",
    [
        (lambda f: (f / "fig_controls.png").write_bytes(b"x"), "fig_controls.png changed"),
        (lambda f: (f / "fig_controls.pdf").unlink(), "fig_controls.pdf missing"),
        (lambda f: (f / "fig_new.png").write_bytes(b"x"), "fig_new.png not in the manifest"),
        (lambda f: (f / "manifest.json").unlink(), "make the figures first"),
    ],
)
def test_bad_figures_are_named(tmp_path, harm, message):
    folder = tmp_path / "figures"
    shutil.copytree(FIGURES, folder)
    harm(folder)
    with pytest.raises(CobeError, match=re.escape(message)):
        gallery.figure_files(folder)


def test_png_that_is_none_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(CobeError, match=r"a\.png: not a whole PNG"):
        gallery.write_small(tmp_path / "a.png", tmp_path / "b.png")


def test_rooms_without_layer_are_named(tmp_path):
    text = (PROJECT / "pyproject.toml").read_text().replace('"sweep", ', "", 1)
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(CobeError, match="differ in sweep"):
        api.room_names(tmp_path / "pyproject.toml")


def test_missing_section_of_the_readme_is_named():
    with pytest.raises(CobeError, match="no section '## Run it'"):
        build.section("# x\n## Run\n", "Run it")


def test_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(CobeError, match="holds something else than a site"):
        build.build_site(tmp_path)
    with pytest.raises(CobeError, match="choose a folder to write to"):
        build.build_site(tmp_path / "mine.txt" / "site")
    assert (tmp_path / "mine.txt").read_text() == "x"


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "NEEDED", ("sphinx", "no_such_package"))
    with pytest.raises(CobeError, match="no_such_package: not installed"):
        build.build_site(tmp_path / "site")


def small_sources(work, profile):
    shutil.copytree(PROJECT / "docs" / "_static", work / "docs" / "_static")
    shutil.copyfile(PROJECT / "docs" / "conf.py", work / "docs" / "conf.py")
    (work / "files").mkdir()
    (work / "docs" / "index.md").write_text("# Home\n\n[a](nowhere.md)\n")


def test_faults_stop_the_build_and_keep_the_old_site(tmp_path, monkeypatch):
    out = tmp_path / "site"
    out.mkdir()
    (out / "objects.inv").write_text("old")
    monkeypatch.setattr(build, "gather", small_sources)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with pytest.raises(CobeError, match=r"^docs/index.md:3: WARNING.*nowhere.md.*1 faults in all"):
        build.build_site(out)
    assert (out / "objects.inv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site", "site.log"]
    monkeypatch.setattr(
        build,
        "gather",
        lambda work, profile: (
            small_sources(work, profile),
            (work / "docs" / "index.md").write_text("# New\n"),
        ),
    )
    assert build.build_site(out).read_text().count("New")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site", "site.log"]


def test_committed_notebook_metadata_names_no_widget_host(site):
    for page in pages(site):
        assert "require.min.js" not in page.read_text(encoding="utf-8")
    assert json.loads((FIGURES / "manifest.json").read_text())["files"]
