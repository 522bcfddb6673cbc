"""Whether somebody can move a slider, and the parts that all widgets are made of."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from html import escape

import numpy as np
from PIL import Image
from traitlets import Unicode

from cobe.report import style

REMEMBERED_STATES = 256
ENLARGED_PX = 256
WIDE = {"width": "100%", "max_width": "560px"}
# one turn of `ipywidgets.Play` in half the speed of the game: a kernel keeps up with that
FRAME_MS = 133


def is_live() -> bool:
    """Whether a person can move a slider: JupyterLab, VS Code or Colab, and not a batch run."""
    colab = "google.colab" in sys.modules
    return colab or bool({"JPY_SESSION_NAME", "VSCODE_PID"} & os.environ.keys())


def widgets_of(live: bool | None):
    """The module ipywidgets where widgets are to be shown, else None.

    Parameters
    ----------
    live : bool or None
        None: as `is_live` says. Without ipywidgets the answer is None whatever is asked for.
    """
    if not (is_live() if live is None else live):
        return None
    try:
        return importlib.import_module("ipywidgets")
    except ImportError:
        return None


def figure_png(figure) -> bytes:
    """A figure as PNG, in the project's style and without traces of the machine."""
    out = io.BytesIO()
    with style.cobe_style():
        figure.savefig(out, format="png", dpi=style.SCREEN_DPI, metadata={"Software": None})
    return out.getvalue()


def pixels_png(rgb: np.ndarray) -> bytes:
    """A frame as PNG, every pixel enlarged to a square of whole pixels.

    Parameters
    ----------
    rgb : uint8 array (height, width, 3)
    """
    factor = max(1, ENLARGED_PX // max(rgb.shape[:2]))
    out = io.BytesIO()
    large = np.ascontiguousarray(rgb.repeat(factor, axis=0).repeat(factor, axis=1))
    Image.fromarray(large).save(out, "png", compress_level=1)
    return out.getvalue()


def slider(widgets, name: str, low: int, high: int, value: int, **more):
    """A slider over whole numbers; arrow keys move it by one."""
    return widgets.IntSlider(
        value=value,
        min=low,
        max=high,
        description=name,
        style={"description_width": "110px"},
        layout=widgets.Layout(**WIDE),
        **more,
    )


def chooser(widgets, name: str, options: Sequence, value=None):
    """A drop-down list of texts, or of (text, value) pairs; the first one is chosen."""
    picked = {} if value is None else {"value": value}
    return widgets.Dropdown(
        options=list(options),
        description=name,
        style={"description_width": "110px"},
        layout=widgets.Layout(**WIDE),
        **picked,
    )


def stops(widgets, name: str, options: Sequence, value):
    """A slider over a few values; arrow keys move it to the next one.

    Parameters
    ----------
    widgets : module
        ipywidgets.
    name : str
        Beside it, with the unit.
    options : sequence of (str, value)
        Text and value of each stop.
    value : object
        Where it begins.
    """
    return widgets.SelectionSlider(
        options=list(options),
        value=value,
        description=name,
        style={"description_width": "110px"},
        layout=widgets.Layout(**WIDE),
    )


def film_buttons(widgets, frame):
    """Buttons that run a slider over frames from end to end, at half the speed of the game."""
    play = widgets.Play(min=frame.min, max=frame.max, interval=FRAME_MS, show_repeat=True)
    play.tooltip = "play the frames at half speed"
    widgets.jslink((play, "value"), (frame, "value"))
    return play


@lru_cache
def _described_image(widgets):
    """An image that a screen reader can name.

    The front end of ipywidgets 8.1 shows a tooltip, which is such a name, on widgets that have a
    description only, and fails on an image, which has none.
    """

    class DescribedImage(widgets.Image):
        description = Unicode("").tag(sync=True)

    return DescribedImage


def assemble(widgets, controls: Sequence, draw: Callable, simulated: bool, above=()):
    """Controls, words about what is shown, and pictures in a row that wraps on a narrow screen.

    Parameters
    ----------
    widgets : module
        ipywidgets.
    controls : sequence of ipywidgets.ValueWidget
        What `draw` depends on.
    draw : callable
        Values of the controls to (words, pictures): HTML, and (title, PNG bytes, description) of
        each. What was drawn before is remembered, so that going back is instant.
    simulated : bool
        Whether the data are; said before the words.
    above : sequence of widgets
        Shown above the pictures as well, such as the buttons of a film.

    Returns
    -------
    box : ipywidgets.VBox
        Children: the controls, `above`, the words, and the row of pictures, whose children are
        pairs of title and image.
    """
    drawn = lru_cache(maxsize=REMEMBERED_STATES)(draw)
    words = widgets.HTML(layout=widgets.Layout(max_width="100%"))
    row = widgets.Box(layout=widgets.Layout(display="flex", flex_flow="row wrap", width="100%"))

    def frame_of_picture():
        image = _described_image(widgets)(
            format="png", layout=widgets.Layout(max_width="100%", align_self="flex-start")
        )
        inside = widgets.Layout(max_width="100%", margin="0 8px 4px 0")
        # a long title wraps above its picture, so that two pictures stay side by side
        title = widgets.HTML(layout=widgets.Layout(max_width=f"{ENLARGED_PX}px"))
        return widgets.VBox([title, image], layout=inside)

    def update(_=None):
        said, pictures = drawn(*(each.value for each in controls))
        words.value = f"<b>{escape(style.data_words(simulated))}</b>: {said}"
        while len(row.children) < len(pictures):
            row.children = (*row.children, frame_of_picture())
        for place, box in enumerate(row.children):
            # an image that is not in this state is hidden, not left from the state before
            box.layout.display = None if place < len(pictures) else "none"
        for box, (title, png, described) in zip(row.children, pictures, strict=False):
            title_box, image = box.children
            title_box.value, title_box.layout.display = escape(title), None if title else "none"
            image.value, image.tooltip = png, described

    for each in controls:
        each.observe(update, names="value")
    update()
    children = [*controls, *above, words, row]
    return widgets.VBox(children, layout=widgets.Layout(width="100%", max_width="100%"))
