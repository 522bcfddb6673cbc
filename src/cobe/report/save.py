"""Figures and tables to disk: the same bytes each time, and never half a file under its name."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure
from PIL import Image

from cobe.core.disk import lock, readable_os_errors, write_whole
from cobe.core.errors import CobeError
from cobe.report.style import cobe_style

PNG_DPI = 250


@dataclass(frozen=True)
class Saved:
    """What was written: a row of the manifest.

    Attributes
    ----------
    name : str
        Name of the figure or table.
    files : tuple of str
        File names in the folder.
    caption : str
        File name of the caption; "" without one.
    made_by : str
        What made it, such as the notebook's name.
    """

    name: str
    files: tuple[str, ...]
    caption: str
    made_by: str


def save_figure(
    figure: Figure, name: str, folder: Path, caption: str, made_by: str = "", dpi: int = PNG_DPI
) -> Saved:
    """Write a figure as PDF (vector, maps as images) and PNG, with its caption beside it.

    No date or version is written, so the same figure gives the same bytes on one machine.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What to write.
    name : str
        File name without extension: letters, digits, ``-`` and ``_``.
    folder : Path
        Made if it is not there.
    caption : str
        Text of ``<name>.md``; must not be empty.
    made_by : str
        For the manifest.
    dpi : int
        Of the PNG.

    Returns
    -------
    saved : Saved

    Raises
    ------
    CobeError
        The name is not one, the caption is empty, or the folder cannot be written.
    """
    folder = _folder(name, folder)
    if not caption.strip():
        raise CobeError(f"{name}: no caption; say n, split, summary and data in it")

    def write_pdf(path):
        figure.savefig(path, format="pdf", metadata={"CreationDate": None})

    def write_png(path):
        figure.savefig(path, format="png", dpi=dpi, metadata={"Software": None})

    with cobe_style():
        _replace(folder / f"{name}.pdf", write_pdf)
        _replace(folder / f"{name}.png", write_png)
    _write_text(folder / f"{name}.md", caption.strip() + "\n")
    return Saved(name, (f"{name}.pdf", f"{name}.png"), f"{name}.md", made_by)


def save_gif(
    film: np.ndarray,
    name: str,
    folder: Path,
    caption: str,
    made_by: str = "",
    rate_hz: float = 15.0,
) -> Saved:
    """Write a film as a GIF that repeats, with its caption beside it.

    Parameters
    ----------
    film : uint8 array (n_frames, height, width, 3)
        Its frames; the last one is held for a second.
    name, folder, caption, made_by
        As in `save_figure`.
    rate_hz : float
        Frames per second; GIF counts in hundredths of a second, so 15 become 14.3.

    Returns
    -------
    saved : Saved

    Raises
    ------
    CobeError
        As in `save_figure`, or what is given is no film.
    """
    folder = _folder(name, folder)
    if not caption.strip():
        raise CobeError(f"{name}: no caption; say what is shown, and of which data")
    if film.dtype != np.uint8 or film.ndim != 4 or film.shape[-1] != 3 or not len(film):
        raise CobeError(
            f"{name}: {film.dtype} {film.shape}; hand over uint8 (n_frames, height, width, 3)"
        )
    each_ms = 10 * round(100 / rate_hz)
    first, *rest = (Image.fromarray(frame).quantize(64, dither=Image.Dither.NONE) for frame in film)
    options = {"append_images": rest, "save_all": True, "loop": 0, "disposal": 1}
    durations = [each_ms] * len(rest) + [1000]

    def write(path):
        first.save(path, format="gif", duration=durations, **options)

    _replace(folder / f"{name}.gif", write)
    _write_text(folder / f"{name}.md", caption.strip() + "\n")
    return Saved(name, (f"{name}.gif",), f"{name}.md", made_by)


def preview(path: Path, width_px: int = 640, n_colours: int = 24) -> bytes:
    """A small PNG of a saved figure, light enough to be kept inside a notebook.

    Parameters
    ----------
    path : Path
        A PNG.
    width_px : int
        Width of the preview.
    n_colours : int
        Size of its palette.

    Returns
    -------
    png : bytes
    """
    with Image.open(path) as figure:
        height_px = round(figure.height * width_px / figure.width)
        small = figure.convert("RGB").resize((width_px, height_px), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.quantize(n_colours, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return out.getvalue()


def save_table(
    table: pd.DataFrame, name: str, folder: Path, caption: str, made_by: str = ""
) -> Saved:
    """Write a table as csv (all digits) and as Markdown under its caption.

    Parameters
    ----------
    table : pandas.DataFrame
        What to write; its index is not.
    name, folder, caption, made_by
        As in `save_figure`.

    Returns
    -------
    saved : Saved

    Raises
    ------
    CobeError
        As in `save_figure`.
    """
    folder = _folder(name, folder)
    if not caption.strip():
        raise CobeError(f"{name}: no caption; say what the rows are and where they come from")
    _write_text(folder / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
    _write_text(folder / f"{name}.md", f"{caption.strip()}\n\n{markdown(table)}")
    return Saved(name, (f"{name}.csv",), f"{name}.md", made_by)


def write_results(table: pd.DataFrame, path: Path) -> None:
    """A table of results with every digit, for programs: parquet, each page with its checksum.

    Parameters
    ----------
    table : pandas.DataFrame
        What to write.
    path : Path
        Its file.

    Raises
    ------
    CobeError
        It cannot be written; a file that was there is left as it was.
    """
    _replace(path, lambda draft: table.to_parquet(draft, write_page_checksum=True))


def read_results(path: Path) -> pd.DataFrame:
    """The table that `write_results` wrote, its checksums compared.

    Raises
    ------
    CobeError
        The file is missing or damaged.
    """
    try:
        return pd.read_parquet(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise CobeError(f"{path}: not there; make it with ./run_all.sh") from None
    except (
        *(OSError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError),
        *(MemoryError, RecursionError, pa.ArrowException),
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CobeError(f"{path}: damaged ({reason}); delete it and run ./run_all.sh") from error


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown; numbers to the right, missing values empty."""
    numeric = [
        pd.api.types.is_numeric_dtype(table[column].dtype)
        and not pd.api.types.is_bool_dtype(table[column].dtype)
        for column in table.columns
    ]
    lines = [
        [str(column) for column in table.columns],
        ["---:" if right else "---" for right in numeric],
    ]
    lines += [[_cell_text(value) for value in row] for row in table.itertuples(index=False)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell_text(value) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if not isinstance(value, (str, bool)) and hasattr(value, "__index__"):
        return f"{int(value):,}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _folder(name: str, folder: Path) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise CobeError(f"{name!r}: not a file name; use letters, digits, '-' and '_'")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CobeError(f"{folder}: {error.strerror}; choose a folder that can be made") from error
    return folder


def _write_text(path: Path, text: str) -> None:
    _replace(path, lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    if not path.parent.is_dir():
        raise CobeError(f"{path.parent}: no such folder; make it first")
    try:
        with readable_os_errors(path), lock(path.parent / ".locks" / "files", lambda: None):
            write_whole(path, write, alone=True)
    except OSError as error:
        raise CobeError(
            f"{path}: {error.strerror or error}; make room or make the folder writable"
        ) from error
