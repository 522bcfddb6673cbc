"""Figures made of video frames: what the model saw, what came next, what it predicted."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from cobe.core.errors import CobeError
from cobe.report import style

CLIP_RATE_HZ = 15.0
SHOWN_FRAMES = (0, 5, 10, 15)
DARK = 0.1
DARK_GAMMA = 0.5


def psnr_db(true: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each clip in decibels, over all its pixels.

    Parameters
    ----------
    true, other : uint8 arrays (n_clips, n_frames, height, width, 3)

    Returns
    -------
    psnr : float64 array (n_clips,)
        ``10 log10(255^2 / mean squared error)``; infinite where the clips are equal.
    """
    error = (true.astype(np.float64) - other.astype(np.float64)) ** 2
    mse = error.reshape(len(true), -1).mean(1)
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(255.0**2 / mse)


def display_gamma(frames: np.ndarray) -> float:
    """Exponent for display: 0.5 where most of a video is nearly black, else 1 (as it is)."""
    return DARK_GAMMA if np.median(frames) < DARK * 255 else 1.0


def fig6_predicted_frames(
    context: np.ndarray,
    true_next: np.ndarray,
    predicted: np.ndarray,
    copy: np.ndarray | None = None,
    *,
    simulated: bool,
    gamma: float | None = None,
) -> Figure:
    """Figure 6: context clip, true next clip, predicted next clip, and the clip that stands still.

    Parameters
    ----------
    context, true_next, predicted : uint8 arrays (n_examples, 16, height, width, 3)
        Clips at 15 frames per second.
    copy : uint8 array of the same shape, or None
        The baseline that moves nothing; None: the last frame of the context, repeated.
    simulated : bool
        Whether the players are simulated; said in the figure.
    gamma : float or None
        As in `predicted_frames`.

    Returns
    -------
    figure : matplotlib.figure.Figure

    Raises
    ------
    CobeError
        The arrays are not clips of one shape.
    """
    if copy is None:
        copy = np.repeat(context[:, -1:], context.shape[1], axis=1)
    rows = {
        "context": context,
        "true next": true_next,
        "predicted": predicted,
        "standing still": copy,
    }
    return predicted_frames(rows, simulated=simulated, reference="true next", gamma=gamma)


def predicted_frames(
    rows: dict[str, np.ndarray],
    *,
    simulated: bool,
    reference: str | None = None,
    gamma: float | None = None,
) -> Figure:
    """Clips below each other, a few frames of each, with their PSNR against the reference row.

    Parameters
    ----------
    rows : dict of str to uint8 array (n_examples, 16, height, width, 3)
        Name of a row to its clips, all of one shape; at most some eight examples, two side by side.
    simulated : bool
        Whether the players are simulated; said in the figure.
    reference : str or None
        Row that those below it are compared with; None: the first.
    gamma : float or None
        Pixels are shown as ``(x / 255) ** gamma``; None: by `display_gamma`. Said in the figure.
        PSNR is that of the pixels as they are, over all frames of a clip.

    Returns
    -------
    figure : matplotlib.figure.Figure

    Raises
    ------
    CobeError
        The arrays are not clips of one shape, or there is no such reference.
    """
    names = list(rows)
    if not names or (reference is not None and reference not in rows):
        raise CobeError(f"frames: no row {reference!r}; choose one of {', '.join(names) or 'none'}")
    reference = names[0] if reference is None else reference
    shape = rows[reference].shape
    if len(shape) != 5 or shape[0] == 0 or shape[1] <= max(SHOWN_FRAMES):
        raise CobeError(f"{reference}: shape {shape}; hand over clips of at least 16 frames")
    for name, array in rows.items():
        if array.shape != shape or array.dtype != np.uint8:
            raise CobeError(
                f"{name}: {array.dtype} {array.shape}; hand over uint8 clips of shape {shape}"
            )
    if gamma is None:
        gamma = display_gamma(rows[reference])
    psnr = {
        name: psnr_db(rows[reference], rows[name]) for name in names[names.index(reference) + 1 :]
    }
    with style.cobe_style():
        return _draw_examples(rows, psnr, gamma, reference, simulated)


def _draw_examples(rows: dict, psnr: dict, gamma, reference: str, simulated: bool) -> Figure:
    n_examples, _, height_px, width_px, _ = next(iter(rows.values())).shape
    frame_w, gap, label_w = 17.5, 0.6, 15.5
    frame_h = frame_w * height_px / width_px
    block_w = label_w + len(SHOWN_FRAMES) * (frame_w + gap) + 2.0
    block_h = 8.0 + len(rows) * (frame_h + gap)
    figure = style.new_figure(6.0 + -(-n_examples // 2) * block_h)
    words = f"computed here, {style.data_words(simulated)}"
    style.text_mm(figure, 2, 1.5, words, va="top", weight="bold")
    words = f"PSNR of a clip against {reference!r}" + _gamma_words(gamma)
    style.text_mm(figure, style.WIDTH_MM - 2, 1.5, words, va="top", ha="right", fontsize=6)
    for example in range(n_examples):
        left = 1.0 + (example % 2) * block_w
        top = 6.0 + (example // 2) * block_h
        style.panel_letter(figure, left, top + 0.5, chr(ord("a") + example))
        for row, (name, array) in enumerate(rows.items()):
            y = top + 6.0 + row * (frame_h + gap)
            label = f"{name}\n{_decibels(psnr[name][example])}" if name in psnr else name
            style.text_mm(
                figure,
                left + label_w - 1.0,
                y + frame_h / 2,
                label,
                ha="right",
                va="center",
                fontsize=6,
            )
            for column, frame in enumerate(SHOWN_FRAMES):
                x = left + label_w + column * (frame_w + gap)
                axes = style.axes_mm(figure, x, y, frame_w, frame_h)
                axes.set_label(f"{name} {example} {frame}")
                axes.imshow(_shown(array[example, frame], gamma))
                axes.set_axis_off()
                if row == 0:
                    axes.set_title(f"{frame / CLIP_RATE_HZ:.2f} s", fontsize=6)
    return figure


def _shown(frame: np.ndarray, gamma: float) -> np.ndarray:
    return (frame / 255.0) ** gamma


def _gamma_words(gamma: float) -> str:
    return f"; shown with gamma {gamma:g}: the video is nearly black" if gamma != 1 else ""


def _decibels(value: float) -> str:
    return f"{value:.1f} dB" if np.isfinite(value) else "equal"


def frame_strip(
    frames: np.ndarray,
    title: str = "",
    rate_hz: float = CLIP_RATE_HZ,
    gamma: float | None = None,
    n_shown: int = 8,
) -> Figure:
    """A strip of evenly spaced frames with their times, for the notebooks.

    Parameters
    ----------
    frames : uint8 array (n_frames, height, width, 3)
        For instance a clip.
    title : str
        Above the strip.
    rate_hz : float
        Frames per second, for the times.
    gamma : float or None
        As in `predicted_frames`.
    n_shown : int
        At most so many frames are shown.

    Returns
    -------
    figure : matplotlib.figure.Figure

    Raises
    ------
    CobeError
        The array is not a video.
    """
    if frames.ndim != 4 or len(frames) == 0 or frames.dtype != np.uint8:
        raise CobeError(
            f"frames: {frames.dtype} {frames.shape}; hand over uint8 (n_frames, height, width, 3)"
        )
    if gamma is None:
        gamma = display_gamma(frames)
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(n_shown, len(frames))).round())
    width = min((style.WIDTH_MM - 2.0) / len(chosen), 40.0)
    height = (width - 1.0) * frames.shape[1] / frames.shape[2]
    with style.cobe_style():
        figure = style.new_figure(height + 10.0)
        style.text_mm(figure, 1.5, 1.0, title + _gamma_words(gamma), va="top")
        for i, frame in enumerate(chosen.astype(int)):
            axes = style.axes_mm(figure, 1.5 + i * width, 8.5, width - 1.0, height)
            axes.set_label(f"frame {frame}")
            axes.imshow(_shown(frames[frame], gamma))
            axes.set_title(f"{frame / rate_hz:.2f} s", fontsize=6)
            axes.set_axis_off()
    return figure


def prediction_film(
    context: np.ndarray, true_next: np.ndarray, predicted: np.ndarray, scale: int = 2
) -> np.ndarray:
    """Examples as one film, a row each: what was seen, then on the left what came, right the model.

    Parameters
    ----------
    context, true_next, predicted : uint8 arrays (n_clips, n_frames, height, width, 3)
        The clip that the model was given, the one after it, and what the model made of it.
    scale : int
        Every pixel becomes so many squared.

    Returns
    -------
    film : uint8 array (2 * n_frames, height, width, 3)
        Lightened where the video is nearly black (`display_gamma`). The right half has a light bar
        above it while it shows the model's frames.

    Raises
    ------
    CobeError
        The clips differ in shape, or there is none.
    """
    if not len(context) == len(true_next) == len(predicted) > 0 or not (
        context.shape[2:] == true_next.shape[2:] == predicted.shape[2:]
    ):
        raise CobeError(
            f"clips: {context.shape}, {true_next.shape}, {predicted.shape}; hand over the same "
            "number of clips of one size, one or more"
        )
    gamma = display_gamma(context)
    left, right = (np.concatenate([context, clips], axis=1) for clips in (true_next, predicted))
    rows = [
        np.pad(np.stack([a, b], axis=1), [(0, 0), (0, 0), (3, 0), (2, 2), (0, 0)])
        for a, b in zip(left, right, strict=True)
    ]
    film = (255 * _shown(np.stack(rows, axis=1), gamma)).round().astype(np.uint8)
    film[context.shape[1] :, :, 1, :2] = 255
    n_frames, n_rows, n_columns, height, width, _ = film.shape
    film = film.transpose(0, 1, 3, 2, 4, 5).reshape(n_frames, n_rows * height, n_columns * width, 3)
    return film.repeat(scale, axis=1).repeat(scale, axis=2)
