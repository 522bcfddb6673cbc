"""The gallery: every figure and table of the manifest, with its caption and its files."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from cobe.core.errors import CobeError
from cobe.report.manifest import GROUPS, check_manifest, read_manifest
from cobe.site.notebooks import folded
from cobe.site.words import escaped, first_sentences, plain_text

WEB_WIDTH_PX = 1400
WEB_COLOURS = 256
LEAD_CHARACTERS = 200
MOST_ROWS = 200  # of a table on a page
GROUP_TITLES = {
    "paper": "The paper's figures",
    "audit": "The audit",
    "scaling": "What to spend",
    "throughput": "Time of a training step",
}
OTHER = "Other figures"
TITLES = {
    "fig1_data_size": "Figure 1: data size",
    "fig2_hidden_dim": "Figure 2: hidden size",
    "fig3_n_layers": "Figure 3: layers",
    "fig4_n_heads": "Figure 4: attention heads",
    "fig5_precision": "Figure 5: precision",
    "fig6_predicted_frames": "Figure 6: predicted frames",
    "film6_predicted_frames": "Film: predicted frames",
}


def figure_files(folder: Path) -> dict[str, list[str]]:
    """Names of all figures and tables with their files, after a check of every checksum.

    Parameters
    ----------
    folder : Path
        Of the figures.

    Returns
    -------
    files : dict of str to list of str
        In the order of the manifest; captions are not among the files.

    Raises
    ------
    CobeError
        A file of the manifest is missing, empty or changed, or a figure is not in it.
    """
    rows = read_manifest(folder)
    check_manifest(folder, sorted({row["name"] for row in rows}))
    known = {row["file"] for row in rows}
    drawn = (path for path in folder.iterdir() if path.suffix in (".png", ".pdf", ".gif", ".csv"))
    strange = sorted(path.name for path in drawn if path.name not in known)
    if strange:
        raise CobeError(
            f"{folder}: {', '.join(strange)} not in the manifest; make it again with ./run_all.sh, "
            "or remove it"
        )
    files: dict[str, list[str]] = {}
    for row in rows:
        if row["file"] != row["caption"]:
            files.setdefault(row["name"], []).append(row["file"])
    return files


def title(name: str) -> str:
    """Heading of a figure or table, from its name."""
    if name in TITLES:
        return TITLES[name]
    kind, _, rest = name.partition("_")
    words = rest.replace("_", " ")
    return (f"Table: {words}" if kind == "table" else words[:1].upper() + words[1:]).replace(
        "Scaling ", "Scaling: "
    )


def caption(folder: Path, name: str) -> str:
    """Caption of a figure, without the name that it begins with and without a table's rows."""
    text = (folder / f"{name}.md").read_text(encoding="utf-8").split("\n\n|")[0].strip()
    head, _, rest = text.partition(".** ")
    return rest if head.startswith("**fig") and rest else text


def alternative_text(folder: Path, name: str) -> str:
    """Text for those who do not see the image: its title and how its caption begins."""
    return f"{title(name)}: {first_sentences(plain_text(caption(folder, name)))}"


def write_images(folder: Path, files: dict[str, list[str]], copied: Path, shown: Path) -> None:
    """Files of the figures as they are, and PNGs small enough for a page.

    Parameters
    ----------
    folder : Path
        Of the figures.
    files : dict
        From `figure_files`.
    copied : Path
        Gets every file unchanged.
    shown : Path
        Gets ``<name>.png``, at most 1400 px wide and with 256 colours, and GIFs unchanged.

    Raises
    ------
    CobeError
        A PNG cannot be read.
    """
    copied.mkdir(parents=True)
    shown.mkdir(parents=True)
    for names in files.values():
        for file in names:
            shutil.copyfile(folder / file, copied / file)
            if file.endswith(".gif"):
                shutil.copyfile(folder / file, shown / file)
            elif file.endswith(".png"):
                write_small(folder / file, shown / file)


def write_small(source: Path, target: Path) -> None:
    """A PNG for the web.

    Raises
    ------
    CobeError
        The source cannot be read.
    """
    try:
        with Image.open(source) as image:
            image = image.convert("RGB")
    except OSError as error:
        raise CobeError(f"{source}: not a whole PNG ({error}); make it again") from None
    width = min(WEB_WIDTH_PX, image.width)
    image = image.resize((width, round(image.height * width / image.width)), Image.LANCZOS)
    small = image.quantize(WEB_COLOURS, dither=Image.Dither.NONE)
    small.save(target, "png", optimize=True)


def gallery_pages(folder: Path, files: dict[str, list[str]]) -> tuple[str, str]:
    """Markdown of the figures, and of the tables but the ledger.

    Parameters
    ----------
    folder : Path
        Of the figures.
    files : dict
        From `figure_files`.
    """
    made_by = {row["name"]: row["made_by"] for row in read_manifest(folder)}
    groups = {GROUP_TITLES[group]: list(names) for group, names in GROUPS.items()}
    placed = {name for names in groups.values() for name in names}
    drawn = [name for name in files if not name.startswith("table_")]
    groups["The paper's figures"] += [n for n in drawn if n.startswith("film6")]
    groups[OTHER] = [n for n in drawn if n not in placed and not n.startswith("film6")]
    parts = []
    for heading, names in groups.items():
        blocks = [_figure(folder, n, files[n], made_by[n]) for n in names if n in files]
        parts += [f"## {heading}", *blocks] if blocks else []
    tables = [n for n in files if n.startswith("table_") and n != "table_ledger"]
    shown = [_table(folder, name, made_by[name]) for name in tables]
    return "\n\n".join(parts) + "\n", "\n\n".join(shown) + "\n"


def _figure(folder: Path, name: str, files: list[str], made_by: str) -> str:
    image = next(file for file in files if not file.endswith(".pdf"))
    links = [f'<a href="figures/{file}">{file.rsplit(".", 1)[1].upper()}</a>' for file in files]
    text = caption(folder, name)
    return "\n".join(
        [
            f"### {title(name)}\n",
            f"{escaped(first_sentences(plain_text(text), LEAD_CHARACTERS))}\n",
            f"```{{image}} shown/{image}",
            f":alt: {alternative_text(folder, name)}",
            ":class: figure",
            "```\n",
            "{.files}",
            f"{_made_by(made_by)} · {' · '.join(links)}\n",
            folded("Caption", text, "caption"),
        ]
    )


def _table(folder: Path, name: str, made_by: str) -> str:
    text = (folder / f"{name}.md").read_text(encoding="utf-8")
    _, _, rows = text.partition("\n\n|")
    n_rows = len(rows.strip().splitlines()) - 2
    shown = folded(f"{n_rows} rows", "|" + rows.strip(), "rows")
    if n_rows > MOST_ROWS:
        shown = f"{n_rows:,} rows, in the CSV only."
    return (
        f"## {title(name).removeprefix('Table: ').capitalize()}\n\n{caption(folder, name)}\n\n"
        f'{{.files}}\n{_made_by(made_by)} · <a href="figures/{name}.csv">CSV, all digits</a>\n\n'
        f"{shown}"
    )


def _made_by(made_by: str) -> str:
    """A link to what made a figure, where that is a notebook."""
    path = Path(made_by)
    if path.parts[:1] != ("notebooks",):
        return made_by
    return f"[notebook {path.stem[:2]}]({path.with_suffix('.ipynb').as_posix()})"
