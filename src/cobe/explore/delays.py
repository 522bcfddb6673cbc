"""How long the brain takes: r when the features of a single earlier volume are used."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd

from cobe.core.errors import CobeError
from cobe.explore import live as parts
from cobe.report import style
from cobe.report.rows import require

COLUMNS = ("subject", "delay_tr", "target", "r")
TOP_MM, HEIGHT_MM = 12.0, 40.0
CURSOR = "#D55E00"


def delay_scrubber(table: pd.DataFrame, tr_s: float, simulated: bool, live: bool | None = None):
    """Mean r over parcels at every delay, and r of every parcel at the delay of the slider.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns subject, delay_tr (volumes from frame to BOLD; positive: the brain answers later),
        target (parcel from 0), r (features of that delay alone).
    tr_s : float
        Seconds per volume.
    simulated : bool
        Whether the data are; said in the figure.
    live : bool or None
        Whether to make widgets; None: as `cobe.explore.live.is_live` says.

    Returns
    -------
    shown : ipywidgets.VBox or PaperFigure
        Widgets: a choice of ``participant``, sliders ``delay (TR)`` and ``parcel``, words, and the
        figure. Else the figure of the first participant at its best delay.

    Raises
    ------
    CobeError
        A column is missing, there are no rows, a value is there twice or lacking, or `tr_s` is no
        duration.
    """
    by_subject = _by_subject(table, tr_s)
    widgets = parts.widgets_of(live)
    subjects = list(by_subject)
    first = by_subject[subjects[0]]
    if widgets is None:
        at, parcel = best_delay(first), best_parcel(first)
        return delay_figure(by_subject, subjects[0], at, parcel, tr_s, simulated)
    person = parts.chooser(widgets, "participant", subjects)
    stops = [(f"{delay} ({delay * tr_s:.1f} s)", delay) for delay in first.index]
    delay = parts.stops(widgets, "delay (TR)", stops, first.index[0])
    parcel = parts.chooser(widgets, "parcel", first.columns.tolist(), best_parcel(first))

    def draw(subject, at, target):
        figure = delay_figure(by_subject, subject, at, target, tr_s, simulated)
        said = delay_words(by_subject[subject], subject, at, target, tr_s)
        return escape(said), [("", parts.figure_png(figure), said)]

    return parts.assemble(widgets, [person, delay, parcel], draw, simulated)


def best_delay(values: pd.DataFrame) -> int:
    """The delay with the highest mean r over parcels.

    Parameters
    ----------
    values : pandas.DataFrame
        r, one row per delay (TR), one column per parcel.
    """
    return values.mean(axis=1).idxmax()


def best_parcel(values: pd.DataFrame) -> int:
    """The parcel with the highest r at any delay."""
    return values.max(axis=0).idxmax()


def delay_words(values: pd.DataFrame, subject: str, delay: int, parcel: int, tr_s: float) -> str:
    """One delay of one participant in words.

    Parameters
    ----------
    values : pandas.DataFrame
        As of `best_delay`.
    subject : str
        Whose.
    delay : int
        In TR.
    parcel : int
        Which one is told apart from the mean.
    tr_s : float
        Seconds per volume.
    """
    means, own = values.mean(axis=1), values[parcel]
    best, n_known = best_delay(values), int(values.loc[delay].notna().sum())
    counted = f"{n_known} parcels"
    if n_known < values.shape[1]:
        counted = f"{n_known} of {values.shape[1]} parcels (r of the others is undefined)"
    said = f"Parcel {parcel}: r is undefined"
    if own.notna().any():
        own_best = own.idxmax()
        said = (
            f"Parcel {parcel}: {style.r_text(own[delay])}, highest at {own_best} TR "
            f"({own_best * tr_s:.1f} s), {style.r_text(own[own_best])}"
        )
    return (
        f"{subject}, features of {delay} TR ({delay * tr_s:.1f} s) before each volume: mean r over "
        f"{counted} {style.r_text(means[delay])}; it is highest at {best} TR "
        f"({best * tr_s:.1f} s), {style.r_text(means[best])}. {said}"
    )


def delay_figure(
    by_subject: dict[str, pd.DataFrame],
    subject: str,
    delay: int,
    parcel: int,
    tr_s: float,
    simulated: bool,
):
    """Mean r against delay of all participants, one of them in colour, and its parcels.

    Parameters
    ----------
    by_subject : dict of str to pandas.DataFrame
        As of `best_delay`.
    subject, delay, parcel
        What is in colour: whose, at how many TR, and which parcel besides the mean.
    tr_s : float
        Seconds per volume.
    simulated : bool
        Said in the figure.

    Returns
    -------
    figure : PaperFigure
    """
    values = by_subject[subject]
    looks = style.level_styles(3)
    with style.cobe_style():
        figure = style.new_figure(TOP_MM + HEIGHT_MM + 11)
        words = f"one delay at a time, {style.data_words(simulated)}"
        style.text_mm(figure, 2, 1.5, words, va="top", weight="bold")
        axes = style.axes_mm(figure, 14, TOP_MM, 92, HEIGHT_MM, label="r by delay")
        for name, others in by_subject.items():
            if name != subject:
                axes.plot(others.index, others.mean(axis=1), color="0.75", lw=0.8)
        if len(by_subject) > 1:
            axes.plot([], [], color="0.75", lw=0.8, label="other participants, mean")
        means = values.mean(axis=1)
        axes.plot(values.index, means, label=f"{subject}, mean over parcels", **looks[0])
        axes.plot(values.index, values[parcel], label=f"{subject}, parcel {parcel}", **looks[1])
        best = best_delay(values)
        axes.plot(
            *([best], [means[best]]),
            marker="*",
            ls="none",
            ms=9,
            mfc="#F0E442",
            mec="black",
            mew=0.6,
            label=f"highest mean: {best} TR = {best * tr_s:.1f} s",
        )
        axes.axvline(delay, color=CURSOR, lw=1.0, label=f"shown: {delay} TR")
        axes.axhline(0, color="0.6", lw=0.6, zorder=0)
        axes.set_xticks(values.index)
        axes.set_xlabel(f"delay from frame to BOLD (TR of {tr_s:.2f} s)")
        axes.set_ylabel("r on held-out data")
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.16), ncols=3, borderaxespad=0)
        axes = style.axes_mm(figure, 124, TOP_MM, 52, HEIGHT_MM, label="parcels at the delay")
        everything = values.to_numpy(float)
        edges = np.linspace(np.nanmin(everything), np.nanmax(everything) + 1e-9, 31)
        axes.hist(values.loc[delay].dropna(), edges, color=looks[0]["color"], alpha=0.8)
        axes.axvline(values.loc[delay].mean(), color="black", lw=1, ls=(0, (4, 2)), label="mean")
        axes.axvline(values.loc[delay, parcel], color=looks[1]["color"], label=f"parcel {parcel}")
        axes.set_xlabel(f"r at {delay} TR")
        axes.set_ylabel("parcels")
        axes.set_ylim(0, 1.05 * max(np.histogram(row, edges)[0].max() for row in everything))
        axes.legend(loc="upper right")
    return figure


def _by_subject(table, tr_s) -> dict[str, pd.DataFrame]:
    require(table, COLUMNS, "delay table")
    if not len(table):
        raise CobeError("delay table: no rows; score the delays first (notebook 09_explore)")
    if not tr_s > 0:
        raise CobeError(f"tr_s: {tr_s}; give the seconds of a volume")
    keys = ["subject", "delay_tr", "target"]
    if table.duplicated(keys).any():
        raise CobeError("delay table: a parcel has a delay twice; keep one model and protocol")
    delays, targets = (np.sort(table[name].unique()) for name in ("delay_tr", "target"))
    found = {}
    for subject, rows in table.groupby("subject", sort=False):
        wide = rows.pivot(index="delay_tr", columns="target", values="r")
        if len(rows) != len(delays) * len(targets):
            raise CobeError(
                f"delay table: {subject} has {len(rows)} of {len(delays)} delays x {len(targets)} "
                "parcels; score all delays in all parcels"
            )
        if wide.isna().all(axis=None):
            raise CobeError(f"delay table: every r of {subject} is undefined; look at its BOLD")
        found[subject] = wide
    return found
