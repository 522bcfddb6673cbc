"""BOLD against prediction in one parcel, and what was on screen at that moment."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from cobe.core.errors import CobeError
from cobe.explore import live as parts
from cobe.explore import pictures
from cobe.report import style
from cobe.report.frames import display_gamma
from cobe.sweep.moments import Moments

# blood answers some five seconds after what it answers to
LATE_S = 5.0
MAX_LATE_S = 12.0
TOP_MM, HEIGHT_MM = 10.0, 34.0
CURSOR = "#D55E00"
UNKNOWN_GREY = 204


def moment_browser(moments: Sequence[Moments], simulated: bool, live: bool | None = None):
    """One parcel over a run, with the frame on screen at each volume and some seconds before it.

    BOLD is late: what a volume shows answers to what was on screen some five seconds before. Both
    frames are shown, and each says which one it is.

    Parameters
    ----------
    moments : sequence of Moments
        Runs, such as from `cobe.sweep.moments.run_moments`.
    simulated : bool
        Whether the data are; said in the figure.
    live : bool or None
        Whether to make widgets; None: as `cobe.explore.live.is_live` says.

    Returns
    -------
    shown : ipywidgets.VBox or PaperFigure
        Widgets: a choice of ``run``, sliders ``parcel, by rank`` (of r), ``volume`` and ``blood is
        late by``, words, two frames and the series. Else a figure of the best parcel of the first
        run with some of its frames.

    Raises
    ------
    CobeError
        There is no run, arrays of one differ in volumes or parcels, two runs have one label, or no
        volume of a run is predicted.
    """
    runs = _checked(moments)
    known = np.concatenate([run.frames_at[run.has_frame] for run in runs.values()])
    gamma = display_gamma(known) if len(known) else 1.0
    widgets = parts.widgets_of(live)
    first = next(iter(runs.values()))
    if widgets is None:
        return moment_still(first, int(ranked(first)[0]), simulated, gamma)
    which = parts.chooser(widgets, "run", runs)
    rank = parts.slider(widgets, "parcel, by rank", 1, len(first.r), 1)
    start = int(np.flatnonzero(np.isfinite(first.predicted).all(1))[0])
    volume = parts.slider(widgets, "volume", 0, len(first.bold) - 1, start)
    late = [(f"{k} TR, {k * first.tr_s:.1f} s", k) for k in range(int(MAX_LATE_S / first.tr_s) + 1)]
    late = parts.stops(widgets, "blood is late by", late, late_by(first.tr_s))

    def fit(_=None):
        run = runs[which.value]
        rank.max, volume.max = len(run.r), len(run.bold) - 1

    which.observe(fit, names="value")

    def draw(label, place, at, n_late):
        run = runs[label]
        target = int(ranked(run)[min(place, len(run.r)) - 1])
        at = min(at, len(run.bold) - 1)
        said = moment_words(run, target, at, n_late)
        shown = []
        for words, when in (
            (f"{n_late * run.tr_s:.1f} s earlier: what the blood answers to", at - n_late),
            ("on screen at this volume: not yet answered", at),
        ):
            title = f"{words} ({_moment(run, when)})"
            shown.append((title, parts.pixels_png(frame_at(run, when, gamma)), title))
        figure = series_figure(run, target, simulated, at, n_late)
        return escape(said), [*shown, ("", parts.figure_png(figure), said)]

    return parts.assemble(widgets, [which, rank, volume, late], draw, simulated)


def late_by(tr_s: float) -> int:
    """The whole volumes nearest to five seconds."""
    return round(LATE_S / tr_s)


def ranked(run: Moments) -> np.ndarray:
    """Parcels from the highest r to the lowest; those without one last."""
    return np.argsort(-np.nan_to_num(run.r, nan=-np.inf), kind="stable")


def frame_at(run: Moments, volume: int, gamma: float) -> np.ndarray:
    """The frame of a volume as it is shown; even grey where it is not known what was on screen.

    Parameters
    ----------
    run : Moments
        Of which run.
    volume : int
        May lie before the run.
    gamma : float
        As of `cobe.explore.pictures.lightened`.

    Returns
    -------
    frame : uint8 array (height, width, 3)
    """
    if volume < 0 or not run.has_frame[volume]:
        return np.full(run.frames_at.shape[1:], UNKNOWN_GREY, np.uint8)
    return pictures.lightened(run.frames_at[volume], gamma)


def _moment(run: Moments, volume: int) -> str:
    if volume < 0:
        return "before the run"
    unknown = "" if run.has_frame[volume] else "; no replay: not known"
    return f"volume {volume}, {(volume + 0.5) * run.tr_s:.1f} s{unknown}"


def moment_words(run: Moments, target: int, volume: int, n_late: int) -> str:
    """A volume of a parcel in words.

    Parameters
    ----------
    run : Moments
        Of which run.
    target : int
        Parcel.
    volume : int
        Its number.
    n_late : int
        By how many volumes blood is taken to be late.
    """
    predicted = run.predicted[volume, target]
    said = f"{predicted:+.2f}" if np.isfinite(predicted) else "none (no features at a delay)"
    return (
        f"{run.label}, parcel {target}: r {style.r_text(run.r[target])} over all held-out "
        f"data, {style.r_text(run_r(run, target))} in this run; {_moment(run, volume)}: BOLD "
        f"{run.bold[volume, target]:+.2f} z, predicted {said}; blood taken to be late by {n_late} "
        f"TR ({n_late * run.tr_s:.1f} s), so it answers to {_moment(run, volume - n_late)}"
    )


def run_r(run: Moments, target: int) -> float:
    """r of a parcel over the predicted volumes of this run; NaN where it is undefined."""
    known = np.isfinite(run.predicted[:, target]) & np.isfinite(run.bold[:, target])
    pair = run.bold[known, target], run.predicted[known, target]
    if known.sum() < 2 or min(map(np.std, pair)) == 0:
        return float("nan")
    return float(np.corrcoef(*pair)[0, 1])


def series_figure(run: Moments, target: int, simulated: bool, volume: int, n_late: int):
    """BOLD and prediction of a parcel over the run, the volume marked, and what it answers to.

    Parameters
    ----------
    run, target, volume, n_late
        As of `moment_words`.
    simulated : bool
        Said in the figure.

    Returns
    -------
    figure : PaperFigure
    """
    with style.cobe_style():
        figure = style.new_figure(TOP_MM + HEIGHT_MM + 10)
        axes = style.axes_mm(figure, 13, TOP_MM, 164, HEIGHT_MM, label="series")
        _draw_series(axes, run, target, simulated)
        for when, look, words in (
            (volume - n_late, (0, (2, 1.5)), "what it answers to"),
            (volume, "-", "this volume"),
        ):
            axes.axvline((when + 0.5) * run.tr_s, color=CURSOR, ls=look, lw=1.0, label=words)
        axes.legend(loc="upper right", bbox_to_anchor=(1, 1.2), ncols=4, borderaxespad=0)
    return figure


def moment_still(run: Moments, target: int, simulated: bool, gamma: float, n_frames: int = 8):
    """The series of a parcel, and below it frames over the run, each above what answers to it.

    Parameters
    ----------
    run, target
        As of `moment_words`.
    simulated : bool
        Said in the figure.
    gamma : float
        As of `cobe.explore.pictures.lightened`.
    n_frames : int
        At most so many frames, evenly over those that are known.

    Returns
    -------
    figure : PaperFigure
    """
    late = late_by(run.tr_s)
    answered = np.flatnonzero(np.isfinite(run.predicted[:, target]))
    answered = answered[answered >= late]
    answered = answered[run.has_frame[answered - late]]
    places = answered[pictures.spread_over(len(answered), n_frames)] if len(answered) else []
    size, step = 19.5, 20.5
    with style.cobe_style():
        figure = style.new_figure(TOP_MM + HEIGHT_MM + 17 + size)
        axes = style.axes_mm(figure, 13, TOP_MM, 164, HEIGHT_MM, label="series")
        _draw_series(axes, run, target, simulated)
        axes.plot(
            (np.asarray(places) + 0.5) * run.tr_s,
            run.bold[places, target],
            "D",
            color=CURSOR,
            ms=4,
            label="volumes of the frames below",
        )
        axes.legend(loc="upper right", bbox_to_anchor=(1, 1.2), ncols=3, borderaxespad=0)
        y = TOP_MM + HEIGHT_MM + 15.5
        words = f"on screen {late * run.tr_s:.1f} s ({late} TR) before the marked volumes"
        words = "; ".join(filter(None, [words, pictures.gamma_words(gamma)]))
        style.text_mm(figure, 13, y - 6.5, words, va="top", fontsize=6)
        for i, volume in enumerate(places):
            axes = style.axes_mm(figure, 13 + i * step, y, size, size)
            axes.set_label(f"frame before volume {volume}")
            axes.imshow(frame_at(run, volume - late, gamma))
            axes.set_axis_off()
            axes.set_title(f"for {(volume + 0.5) * run.tr_s:.0f} s", fontsize=6)
    return figure


def _draw_series(axes, run, target, simulated) -> None:
    time_s = (np.arange(len(run.bold)) + 0.5) * run.tr_s
    looks = style.level_styles(3)
    axes.plot(time_s, run.bold[:, target], color="0.55", lw=0.8, label="BOLD")
    axes.plot(time_s, run.predicted[:, target], color=looks[0]["color"], lw=1.3, label="predicted")
    axes.axhline(0, color="0.8", lw=0.5, zorder=0)
    axes.set_xlim(0, len(run.bold) * run.tr_s)
    axes.set_xlabel("time from the first volume (s)")
    axes.set_ylabel("BOLD (z)")
    said = f"{run.label}, parcel {target}, r {style.r_text(run.r[target])}"
    axes.set_title(f"{said}, {style.data_words(simulated)}", loc="left")


def _checked(moments) -> dict[str, Moments]:
    runs = {run.label: run for run in moments}
    if not runs:
        raise CobeError("moments: no run; make them with cobe.sweep.moments.run_moments")
    if len(runs) != len(moments):
        raise CobeError("moments: two runs have the same label; hand over each run once")
    if len({run.tr_s for run in runs.values()}) > 1:
        raise CobeError("moments: runs differ in tr_s; show runs of one repetition time")
    for label, run in runs.items():
        n_trs, n_parcels = run.bold.shape
        wanted = {
            "predicted": (run.predicted.shape, (n_trs, n_parcels)),
            "frames_at": (run.frames_at.shape[:1], (n_trs,)),
            "has_frame": (run.has_frame.shape, (n_trs,)),
            "r": (run.r.shape, (n_parcels,)),
        }
        for name, (shape, expected) in wanted.items():
            if shape != expected:
                raise CobeError(
                    f"{label}: {name} {shape} beside BOLD {run.bold.shape}; hand over arrays of "
                    "one run"
                )
        if not np.isfinite(run.predicted).all(axis=1).any():
            raise CobeError(f"{label}: no volume is predicted; show a run that was held out")
    return runs
