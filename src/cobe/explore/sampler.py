"""What came next, and what a model expects to come next, at several temperatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from cobe.core.errors import CobeError
from cobe.explore import live as parts
from cobe.explore import pictures
from cobe.report import style
from cobe.report.frames import CLIP_RATE_HZ, display_gamma, psnr_db

STILL_SAMPLES = 2


def next_clip_sampler(
    context: np.ndarray,
    truth: np.ndarray,
    rebuilt_truth: np.ndarray,
    samples: Mapping[str, np.ndarray],
    labels: Sequence[str],
    simulated: bool,
    live: bool | None = None,
):
    """Context, the clip that came next, and clips that a model drew, side by side.

    Parameters
    ----------
    context, truth : uint8 arrays (n_windows, n_frames, height, width, 3)
        The clip that the model was given, and the one that came next.
    rebuilt_truth : uint8 array of the same shape
        The latter after encoder and decoder: the best that tokens can show.
    samples : dict of str to uint8 array (n_windows, n_samples, n_frames, height, width, 3)
        Clips that the model drew, by how (``"temperature 1"``).
    labels : sequence of str
        One per window.
    simulated : bool
        Whether the players are simulated; said beside the pictures.
    live : bool or None
        Whether to make widgets; None: as `cobe.explore.live.is_live` says.

    Returns
    -------
    shown : ipywidgets.VBox or PaperFigure
        Widgets: slider ``window``, a choice of ``tokens drawn``, slider ``frame`` and a play
        button, words with each PSNR, and the pictures. Else a figure of the window in which most
        moves.

    Raises
    ------
    CobeError
        The arrays do not fit each other, there are no samples, or there is not one label per
        window.
    """
    _check(context, truth, rebuilt_truth, samples, labels)
    gamma = display_gamma(context)
    # a model that moves nothing is the bar to pass
    still = np.repeat(context[:, -1:], truth.shape[1], axis=1)
    psnr = {"rebuilt": psnr_db(truth, rebuilt_truth), "still": psnr_db(truth, still)}
    drawn = {
        name: np.stack([psnr_db(truth, clips[:, k]) for k in range(clips.shape[1])], axis=1)
        for name, clips in samples.items()
    }
    widgets = parts.widgets_of(live)
    if widgets is None:
        return _still(context, truth, rebuilt_truth, samples, labels, simulated, gamma, psnr, drawn)
    window = parts.slider(widgets, "window", 0, len(truth) - 1, 0)
    how = parts.chooser(widgets, "tokens drawn", samples)
    frame = parts.slider(widgets, "frame", 0, truth.shape[1] - 1, 0)

    def draw(i, name, j):
        values = ", ".join(pictures.decibels(value) for value in drawn[name][i])
        said = [
            f"{labels[i]}; frame {j} of {truth.shape[1]}, {j / CLIP_RATE_HZ:.2f} s into the clip",
            f"PSNR against what came next: {name} {values}",
            f"rebuilt from the right tokens {pictures.decibels(psnr['rebuilt'][i])}",
            f"context standing still {pictures.decibels(psnr['still'][i])}",
            pictures.gamma_words(gamma),
        ]
        films = {
            "context (what the model saw)": context[i],
            "what came next": truth[i],
            "the same, rebuilt from tokens": rebuilt_truth[i],
        } | {f"{name}, sample {k + 1}": clip for k, clip in enumerate(samples[name][i])}
        return escape("; ".join(filter(None, said))), [
            (
                title,
                parts.pixels_png(pictures.lightened(film[j], gamma)),
                f"{title}: frame {j} of {labels[i]}",
            )
            for title, film in films.items()
        ]

    film = parts.film_buttons(widgets, frame)
    return parts.assemble(widgets, [window, how, frame], draw, simulated, above=[film])


def _still(context, truth, rebuilt_truth, samples, labels, simulated, gamma, psnr, drawn):
    # the window in which most moves: a scene that stands still has nothing to expect
    i = int(np.argmin(psnr["still"]))
    films = [
        ("context", context[i]),
        ("what came next", truth[i]),
        (f"rebuilt from its tokens\n{pictures.decibels(psnr['rebuilt'][i])}", rebuilt_truth[i]),
    ]
    for name, clips in samples.items():
        films += [
            (f"{name}, sample {k + 1}\n{pictures.decibels(drawn[name][i, k])}", clips[i, k])
            for k in range(min(clips.shape[1], STILL_SAMPLES))
        ]
    heading = [
        f"{style.data_words(simulated)}; {labels[i]} (of {len(truth)} windows, the one that moves "
        "most)\ndB: PSNR against what came next; context standing still "
        f"{pictures.decibels(psnr['still'][i])}",
        pictures.gamma_words(gamma),
    ]
    rows = [(name, pictures.lightened(film, gamma)) for name, film in films]
    return pictures.film_rows(rows, "; ".join(filter(None, heading)))


def _check(context, truth, rebuilt_truth, samples, labels) -> None:
    pictures.check_clips("context", context)
    pictures.check_clips("truth", truth, context)
    pictures.check_clips("rebuilt_truth", rebuilt_truth, context)
    pictures.check_labels(labels, len(truth))
    if not samples:
        raise CobeError("samples: none; hand over clips that a model drew, by how it drew them")
    for name, clips in samples.items():
        shape = (*truth.shape[:1], "n_samples", *truth.shape[1:])
        fits = clips.ndim == 6 and clips.shape[1] and clips.dtype == np.uint8
        if not fits or (clips.shape[0], *clips.shape[2:]) != truth.shape:
            raise CobeError(
                f"samples {name!r}: {clips.dtype} {clips.shape}; hand over uint8 "
                f"({', '.join(map(str, shape))})"
            )
