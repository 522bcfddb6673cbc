"""What the tests of the widgets share: planted clips, and reading what a widget shows."""

import io

import numpy as np
from PIL import Image


def planted_clips(n_clips=3, seed=0):
    """Bright random clips (n_clips, 16, 64, 64, 3), in blocks of 8 pixels."""
    small = np.random.default_rng(seed).integers(60, 256, (n_clips, 16, 8, 8, 3), dtype=np.uint8)
    return small.repeat(8, axis=2).repeat(8, axis=3)


def controls(box):
    """Description to control."""
    return {each.description: each for each in box.children if getattr(each, "description", "")}


def words(box):
    """What the widget says, as text."""
    return box.children[-2].value.replace("&gt;", ">").replace("&#x27;", "'")


def shown(box):
    """Title to (pixels, description) of the pictures that are not hidden."""
    pairs = [each.children for each in box.children[-1].children if each.layout.display != "none"]
    return {title.value: (pixels(image.value), image.tooltip) for title, image in pairs}


def pixels(png):
    with Image.open(io.BytesIO(bytes(png))) as image:
        return np.asarray(image.convert("RGB"))


def enlarged(frame, factor=4):
    return frame.repeat(factor, axis=0).repeat(factor, axis=1)


def axes_of(figure, label):
    (found,) = [axes for axes in figure.axes if axes.get_label() == label]
    return found


def runs_over_the_edge(figure):
    """Whether anything but white touches the border of a figure."""
    image = pixels(figure._repr_png_())
    edges = (image[:1], image[-1:], image[:, :1], image[:, -1:])
    return any((edge != 255).any() for edge in edges)
