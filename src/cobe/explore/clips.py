"""Clips beside what the VQ-VAE makes of them, in pixels and in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from cobe.core.errors import CobeError
from cobe.explore import live as parts
from cobe.explore import pictures
from cobe.report import style
from cobe.report.frames import CLIP_RATE_HZ, display_gamma, psnr_db

STILL_CLIPS = 3
USE_LEFT_MM, MAPS_TOP_MM, MAP_MM = 106.0, 13.0, 42.0
NEW = style.level_styles(4)[1]["color"]


def clip_browser(
    clips: np.ndarray,
    rebuilt: np.ndarray,
    labels: Sequence[str],
    simulated: bool,
    live: bool | None = None,
):
    """One clip after another, frame by frame: original, rebuilt from its tokens, and the error.

    Parameters
    ----------
    clips, rebuilt : uint8 arrays (n_clips, n_frames, height, width, 3)
        Original clips at 15 frames per second, and the same after encoder and decoder.
    labels : sequence of str
        One per clip: whose and when.
    simulated : bool
        Whether the players are simulated; said beside the pictures.
    live : bool or None
        Whether to make widgets; None: as `cobe.explore.live.is_live` says.

    Returns
    -------
    shown : ipywidgets.VBox or PaperFigure
        Widgets: sliders ``clip`` and ``frame``, a play button, words with the PSNR of the clip, and
        three pictures. Else a figure of three clips.

    Raises
    ------
    CobeError
        The arrays are not clips of one shape, or there is not one label per clip.
    """
    pictures.check_clips("clips", clips)
    pictures.check_clips("rebuilt", rebuilt, clips)
    pictures.check_labels(labels, len(clips))
    gamma, top = display_gamma(clips), pictures.error_top(clips, rebuilt)
    psnr = psnr_db(clips, rebuilt)
    scale = f"error: black 0, pale yellow {top:.0f} grey levels of 255 or more"
    widgets = parts.widgets_of(live)
    if widgets is None:
        return _still(clips, rebuilt, labels, simulated, gamma, top, psnr)
    clip = parts.slider(widgets, "clip", 0, len(clips) - 1, 0)
    frame = parts.slider(widgets, "frame", 0, clips.shape[1] - 1, 0)

    def draw(i, j):
        error = pictures.difference(clips[i, j], rebuilt[i, j]).mean()
        said = [
            escape(labels[i]),
            f"frame {j} of {clips.shape[1]}, {j / CLIP_RATE_HZ:.2f} s into the clip",
            f"PSNR of the clip {pictures.decibels(psnr[i])}",
            f"mean error of this frame {error:.1f} grey levels",
            scale,
            pictures.gamma_words(gamma),
        ]
        shown = [
            ("original", pictures.lightened(clips[i, j], gamma)),
            ("rebuilt from tokens", pictures.lightened(rebuilt[i, j], gamma)),
            ("error", pictures.error_map(clips[i, j], rebuilt[i, j], top)),
        ]
        described = f"of {labels[i]}, frame {j}; mean error {error:.1f} grey levels"
        return "; ".join(filter(None, said)), [
            (title, parts.pixels_png(rgb), f"{title} {described}") for title, rgb in shown
        ]

    film = parts.film_buttons(widgets, frame)
    return parts.assemble(widgets, [clip, frame], draw, simulated, above=[film])


def _still(clips, rebuilt, labels, simulated, gamma, top, psnr):
    rows = []
    for i in pictures.spread_over(len(clips), STILL_CLIPS):
        rows += [
            (f"{_folded(labels[i])}\noriginal", pictures.lightened(clips[i], gamma)),
            (f"rebuilt, {pictures.decibels(psnr[i])}", pictures.lightened(rebuilt[i], gamma)),
            (f"error, 0 to {top:.0f}\ngrey levels", pictures.error_map(clips[i], rebuilt[i], top)),
        ]
    words = pictures.gamma_words(gamma)
    return pictures.film_rows(rows, "; ".join(filter(None, [style.data_words(simulated), words])))


def _folded(label: str) -> str:
    return label.replace(", ", ",\n", 1)


def token_map(
    codes: np.ndarray,
    clips: np.ndarray,
    rebuilt: np.ndarray,
    labels: Sequence[str],
    n_codes: int,
    simulated: bool,
    live: bool | None = None,
):
    """The tokens of a clip on its frames: which change, and how often each code is used.

    Parameters
    ----------
    codes : integer array (n_clips, n_times, n_rows, n_columns)
        Tokens of each clip; one latent frame covers ``n_frames / n_times`` video frames.
    clips, rebuilt : uint8 arrays (n_clips, n_frames, height, width, 3)
        The clips, and what the decoder makes of these tokens.
    labels : sequence of str
        One per clip.
    n_codes : int
        Size of the codebook.
    simulated, live
        As of `clip_browser`.

    Returns
    -------
    shown : ipywidgets.VBox or PaperFigure
        Widgets: sliders ``clip``, ``frame`` and ``token`` (row by row), words about that token, and
        a picture: the frame with its tokens, the rebuilt frame, and how often codes are used in the
        clips given. Else that figure of the first clip.

    Raises
    ------
    CobeError
        The arrays do not fit each other, a code is not in the codebook, or there is not one label
        per clip.
    """
    pictures.check_clips("clips", clips)
    pictures.check_clips("rebuilt", rebuilt, clips)
    pictures.check_labels(labels, len(clips))
    _check_codes(codes, clips, n_codes)
    gamma = display_gamma(clips)
    light = pictures.lightened(clips, gamma), pictures.lightened(rebuilt, gamma)
    uses = np.bincount(codes.reshape(-1), minlength=n_codes)
    widgets = parts.widgets_of(live)
    if widgets is None:
        # the clip with most to see, in the latent frame in which most tokens are new
        new = (codes[:, 1:] != codes[:, :-1]).sum((2, 3))
        i, j, token = int(new.sum(1).argmax()), 0, 0
        if codes.shape[1] > 1:
            j = (1 + int(new[i].argmax())) * clips.shape[1] // codes.shape[1]
        figure = _token_figure(codes[i], light[0][i], light[1][i], j, token, uses, simulated)
        with style.cobe_style():
            words = (
                f"{labels[i]}; frame {j} (of {len(clips)} clips, the one whose tokens change most)"
            )
            style.text_mm(figure, 2, 1.5, words, va="top", weight="bold")
        return figure
    clip = parts.slider(widgets, "clip", 0, len(clips) - 1, 0)
    frame = parts.slider(widgets, "frame", 0, clips.shape[1] - 1, 0)
    token = parts.slider(widgets, "token", 0, codes[0, 0].size - 1, 0)

    def draw(i, j, k):
        figure = _token_figure(codes[i], light[0][i], light[1][i], j, k, uses, simulated)
        said = f"{labels[i]}; {token_words(codes[i], j, clips.shape[1], k, uses)}"
        return escape(said), [("", parts.figure_png(figure), said)]

    film = parts.film_buttons(widgets, frame)
    return parts.assemble(widgets, [clip, frame, token], draw, simulated, above=[film])


def token_words(codes: np.ndarray, frame: int, n_frames: int, token: int, uses: np.ndarray) -> str:
    """One token of a clip in words: where it is, whether it is new, how often its code is used.

    Parameters
    ----------
    codes : integer array (n_times, n_rows, n_columns)
        Tokens of the clip.
    frame, n_frames : int
        Which video frame of how many.
    token : int
        Place in the latent frame, row by row.
    uses : int array (n_codes,)
        How often each code is used in all clips that are shown.
    """
    time, before = latent_frame(frame, n_frames, len(codes)), ""
    row, column = divmod(token, codes.shape[2])
    code = int(codes[time, row, column])
    if time:
        n_new = int((codes[time] != codes[time - 1]).sum())
        old = int(codes[time - 1, row, column])
        before = "unchanged" if old == code else f"new (it was {old})"
        before = f", {before}; {n_new} of {codes[0].size} tokens are new in this latent frame"
    rank = int((uses > uses[code]).sum()) + 1
    return (
        f"frame {frame} lies in latent frame {time} of {len(codes)}; token {token} (row {row}, "
        f"column {column}) is code {code}{before}. Code {code} is {uses[code]:,} of the "
        f"{uses.sum():,} tokens here ({100 * uses[code] / uses.sum():.2g} %), rank {rank} of "
        f"{int((uses > 0).sum())} codes in use, of {len(uses)} in the codebook"
    )


def latent_frame(frame: int, n_frames: int, n_times: int) -> int:
    """The latent frame that a video frame lies in."""
    return frame * n_times // n_frames


def _token_figure(codes, film, rebuilt, frame, token, uses, simulated):
    n_times, n_rows, n_columns = codes.shape
    time = latent_frame(frame, len(film), n_times)
    new = codes[time] != codes[max(time - 1, 0)]
    height, width = film.shape[1:3]
    with style.cobe_style():
        figure = style.new_figure(MAPS_TOP_MM + MAP_MM + 12)
        maps = [style.axes_mm(figure, 3 + x, MAPS_TOP_MM, MAP_MM, MAP_MM) for x in (0, MAP_MM + 4)]
        for axes, shown, words in zip(
            maps,
            (film, rebuilt),
            (f"original, latent frame {time}", "rebuilt from tokens"),
            strict=True,
        ):
            axes.set_label(words)
            axes.imshow(shown[frame], extent=(0, n_columns, n_rows, 0), aspect=height / width)
            axes.set_title(words, loc="left")
            axes.set_xticks(range(n_columns + 1), [])
            axes.set_yticks(range(n_rows + 1), [])
            axes.tick_params(length=0)
            axes.grid(color="0.6", lw=0.3)
        for (row, column), code in np.ndenumerate(codes[time]):
            fresh = new[row, column]
            maps[0].text(
                *(column + 0.5, row + 0.5, str(code)),
                ha="center",
                va="center",
                fontsize=6.5,
                color="black" if fresh else "white",
                bbox={"boxstyle": "round,pad=0.15", "lw": 0, "alpha": 0.85}
                | {"facecolor": "white" if fresh else "black"},
            )
        row, column = divmod(token, n_columns)
        for axes in maps:
            axes.plot(
                [column, column + 1, column + 1, column, column],
                [row, row, row + 1, row + 1, row],
                color="#F0E442",
                lw=1.6,
                clip_on=False,
            )
        words = (
            f"black on white: new since latent frame {time - 1}" if time else "first latent frame"
        )
        style.text_mm(figure, 3, MAPS_TOP_MM + MAP_MM + 1.5, words, va="top", fontsize=6)
        _draw_uses(figure, uses, int(codes[time, row, column]), codes[time], simulated)
    return figure


def _draw_uses(figure, uses, chosen, here, simulated) -> None:
    axes = style.axes_mm(figure, USE_LEFT_MM, MAPS_TOP_MM, 70.0, MAP_MM - 5, label="use of codes")
    share = 100 * uses / uses.sum()
    order = np.argsort(-share, kind="stable")
    rank = np.empty(len(uses), int)
    rank[order] = np.arange(len(uses))
    used = order[share[order] > 0]
    axes.fill_between(rank[used], share[used], step="mid", color="0.8", lw=0)
    present = np.unique(here)
    axes.plot(
        rank[present], share[present], "o", color=NEW, ms=3, label="codes of this latent frame"
    )
    axes.plot(
        *(rank[chosen], share[chosen], "D"),
        color="#F0E442",
        mec="black",
        mew=0.7,
        ms=6,
        label=f"code {chosen}: {share[chosen]:.2g} %",
    )
    words = f"if all {len(uses)} were used alike"
    axes.axhline(100 / len(uses), color="black", lw=0.7, ls=(0, (4, 2)), label=words)
    axes.set_xlabel(f"code, by use ({len(used)} of {len(uses)} used in these clips)")
    axes.set_ylabel("share of tokens (%)")
    axes.set_ylim(bottom=0)
    axes.set_title(style.data_words(simulated), loc="left")
    axes.legend(loc="upper right")


def _check_codes(codes, clips, n_codes) -> None:
    codes = np.asarray(codes)
    if codes.ndim != 4 or len(codes) != len(clips) or not np.issubdtype(codes.dtype, np.integer):
        raise CobeError(
            f"codes: {codes.dtype} {codes.shape} for {len(clips)} clips; hand over integers "
            "(n_clips, n_times, n_rows, n_columns)"
        )
    if clips.shape[1] % codes.shape[1]:
        raise CobeError(
            f"codes: {codes.shape[1]} latent frames do not divide {clips.shape[1]} video frames; "
            "hand over the tokens of these clips"
        )
    if codes.min() < 0 or codes.max() >= n_codes:
        raise CobeError(
            f"codes: from {codes.min()} to {codes.max()}, of {n_codes}; hand over n_codes of the "
            "codebook that they point into"
        )
