"""Video frames as a reader sees them: lightened, enlarged, compared, or as rows of a figure."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np

from cobe.core.errors import CobeError
from cobe.report import style
from cobe.report.frames import CLIP_RATE_HZ

ROW_LABEL_MM, FRAME_MM, FRAME_GAP_MM, HEAD_MM = 36.0, 17.4, 0.6, 12.0
# of the 16 frames of a clip, those that a still figure has room for
STILL_FRAMES = (0, 2, 4, 6, 8, 10, 12, 15)


def check_clips(name: str, clips, like=None) -> None:
    """Raise where an array does not hold clips, or others than those beside it.

    Parameters
    ----------
    name : str
        Of the argument, for the error.
    clips : array
        To be uint8 (n_clips, n_frames, height, width, 3).
    like : array or None
        Whose shape it has to have.

    Raises
    ------
    CobeError
        It does not.
    """
    shape, kind = np.shape(clips), getattr(clips, "dtype", type(clips).__name__)
    if kind != np.uint8 or len(shape) != 5 or shape[-1] != 3 or 0 in shape:
        raise CobeError(
            f"{name}: {kind} {shape}; hand over uint8 (n_clips, n_frames, height, width, 3), one "
            "clip or more"
        )
    if like is not None and shape != like.shape:
        raise CobeError(f"{name}: {shape}, beside {like.shape}; hand over the same clips")


def check_labels(labels: Sequence[str], n_clips: int) -> None:
    """Raise where there is not one label per clip.

    Raises
    ------
    CobeError
        There is not.
    """
    if len(labels) != n_clips:
        raise CobeError(f"labels: {len(labels)} for {n_clips} clips; give one each")


def lightened(frames: np.ndarray, gamma: float) -> np.ndarray:
    """Frames as they are shown: ``(x / 255) ** gamma``, uint8 again."""
    if gamma == 1:
        return frames
    return np.rint(255 * (frames / 255.0) ** gamma).astype(np.uint8)


def gamma_words(gamma: float) -> str:
    """That frames are lightened, or nothing."""
    return "" if gamma == 1 else f"frames are dark and shown with gamma {gamma:g}"


def difference(true: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean absolute difference of the three colours of each pixel, in grey levels from 0 to 255.

    Parameters
    ----------
    true, other : uint8 arrays (..., height, width, 3)

    Returns
    -------
    error : float64 array (..., height, width)
    """
    return np.abs(true.astype(np.float64) - other).mean(-1)


def error_top(true: np.ndarray, other: np.ndarray) -> float:
    """Top of the scale of error maps: the 99th percentile of the differences, 10 levels at least.

    One scale for all clips and frames, so that two maps can be compared.
    """
    return float(max(10.0, np.ceil(np.percentile(difference(true, other), 99))))


def error_map(true: np.ndarray, other: np.ndarray, top: float) -> np.ndarray:
    """Differences as colours from black (0) over red to pale yellow (`top` and above).

    Parameters
    ----------
    true, other : uint8 arrays (..., height, width, 3)
    top : float
        In grey levels.

    Returns
    -------
    rgb : uint8 array (..., height, width, 3)
        Inferno: monotone in lightness, safe for colour-blind readers.
    """
    share = np.clip(difference(true, other) / top, 0, 1)
    return mpl.colormaps["inferno"](share, bytes=True)[..., :3]


def decibels(value: float) -> str:
    """A peak signal-to-noise ratio in words."""
    return f"{value:.1f} dB" if np.isfinite(value) else "equal"


def film_rows(rows: Sequence[tuple[str, np.ndarray]], heading: str):
    """Films below each other, eight frames of each, with what they are on the left.

    Parameters
    ----------
    rows : sequence of (str, uint8 array (n_frames, height, width, 3))
        Label and film, as it is to be shown; at most some ten rows.
    heading : str
        Above all of them; two lines at most.

    Returns
    -------
    figure : PaperFigure
    """
    n_frames, height_px, width_px = rows[0][1].shape[:3]
    shown = [frame for frame in STILL_FRAMES if frame < n_frames]
    frame_h = FRAME_MM * height_px / width_px
    with style.cobe_style():
        figure = style.new_figure(HEAD_MM + len(rows) * (frame_h + FRAME_GAP_MM) + 1.0)
        style.text_mm(figure, 2, 1.5, heading, va="top", weight="bold")
        for row, (label, film) in enumerate(rows):
            y = HEAD_MM + row * (frame_h + FRAME_GAP_MM)
            middle = y + frame_h / 2
            style.text_mm(
                figure, ROW_LABEL_MM - 1, middle, label, ha="right", va="center", fontsize=6
            )
            for column, frame in enumerate(shown):
                x = ROW_LABEL_MM + column * (FRAME_MM + FRAME_GAP_MM)
                axes = style.axes_mm(figure, x, y, FRAME_MM, frame_h)
                axes.set_label(f"row {row} frame {frame}")
                axes.imshow(film[frame])
                axes.set_axis_off()
                if row == 0:
                    axes.set_title(f"{frame / CLIP_RATE_HZ:.2f} s", fontsize=6)
    return figure


def spread_over(n_all: int, n_shown: int) -> list[int]:
    """Places of a few things, evenly over all of them."""
    return sorted({int(place) for place in np.linspace(0, n_all - 1, min(n_all, n_shown)).round()})
