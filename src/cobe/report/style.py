"""What all figures share: the style file, sizes in millimetres, colours, words for levels."""

from __future__ import annotations

from contextlib import contextmanager
from importlib.resources import as_file, files
from io import BytesIO

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

WIDTH_MM = 180.0
SCREEN_DPI = 100
MM_PER_INCH = 25.4
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)))
NOT_COMPUTED = "not computed"
UNDEFINED = "undefined"
GAP = "0.55"
INK = "0.15"


@contextmanager
def cobe_style():
    """The project's style, on top of matplotlib's defaults, inside a ``with`` block only."""
    with as_file(files("cobe.report") / "cobe.mplstyle") as path:
        with mpl.style.context(["default", str(path)]):
            yield


class PaperFigure(Figure):
    """A figure that no global state knows about, and that a notebook shows as it is returned."""

    def _repr_png_(self) -> bytes:
        image, small = BytesIO(), BytesIO()
        with cobe_style():
            self.savefig(image, format="png", dpi=SCREEN_DPI, metadata={"Software": None})
        # with all colours, a notebook with many frames in it grows beyond what is kept
        whole = Image.open(image).convert("RGB")
        whole.quantize(256, dither=Image.Dither.NONE).save(small, "png", optimize=True)
        return small.getvalue()


def new_figure(height_mm: float) -> PaperFigure:
    """An empty figure, 180 mm wide."""
    figure = PaperFigure(figsize=(WIDTH_MM / MM_PER_INCH, height_mm / MM_PER_INCH))
    FigureCanvasAgg(figure)
    return figure


def axes_mm(figure: Figure, left: float, top: float, width: float, height: float, **kwargs):
    """Axes at a place in millimetres from the figure's top left corner."""
    total_w, total_h = figure.get_size_inches() * MM_PER_INCH
    bottom = total_h - top - height
    box = (left / total_w, bottom / total_h, width / total_w, height / total_h)
    return figure.add_axes(box, **kwargs)


def text_mm(figure: Figure, x: float, y: float, text: str, **kwargs):
    """Text at a place in millimetres from the figure's top left corner."""
    total_w, total_h = figure.get_size_inches() * MM_PER_INCH
    return figure.text(x / total_w, 1 - y / total_h, text, **kwargs)


def panel_letter(figure: Figure, x: float, y: float, letter: str):
    """Bold letter of a panel."""
    return text_mm(figure, x, y, letter, fontsize=9, fontweight="bold", ha="left", va="top")


def level_styles(n_levels: int) -> list[dict]:
    """Colour, marker and dashes of each level; told apart without colour too.

    The colours run along viridis (monotone in lightness, safe for colour-blind readers) and leave
    out its palest end, which is illegible on white.
    """
    colours = mpl.colormaps["viridis"](np.linspace(0.0, 0.86, n_levels))
    return [
        {
            "color": tuple(colour),
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": LINES[i % len(LINES)],
        }
        for i, colour in enumerate(colours)
    ]


def grey_levels(n_levels: int) -> list[str]:
    """Greys from light to dark for published values, which have no colour of ours."""
    return [f"{grey:.3f}" for grey in np.linspace(0.72, 0.2, n_levels)]


def level_text(level) -> str:
    """A level as readers write it: 3000 is ``3k``, 6000000 is ``6M``; others as they are."""
    if isinstance(level, int) and not isinstance(level, bool):
        for unit, letter in ((1_000_000, "M"), (1_000, "k")):
            if level >= unit and level % (unit // 10) == 0:
                return f"{level / unit:g}{letter}"
    return str(level)


def r_text(r: float, digits: int = 3) -> str:
    """A correlation as readers write it: ``.75``, ``-.021``; zeros at the end are left out."""
    text = f"{r:.{digits}f}".rstrip("0").rstrip(".")
    return text.replace("0.", ".", 1) if abs(r) < 1 and "." in text else text.replace("-0", "0")


def signed_r(r: float) -> str:
    """A difference of correlations with its sign and three digits: ``+.021``, ``-.007``."""
    text = f"{r:+.3f}"
    return text.replace("0.", ".", 1) if abs(r) < 1 else text


def data_words(simulated: bool) -> str:
    """What the computed values come from, as drawn in every figure."""
    return "simulated data" if simulated else "real data (CNeuroMod shinobi)"
