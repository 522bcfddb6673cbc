"""What the audit's figures of the training side share: panels, lines, differences."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D

from cobe.report import style
from cobe.report.audit.pairs import Difference

MEAN_R = "mean r over parcels\n(held-out data)"
MANY_LEVELS = 6


def heading(figure, simulated: bool, text: str) -> None:
    """What is shown and of which data, at the top left."""
    words = f"{text}: computed here, {style.data_words(simulated)}"
    style.text_mm(figure, 2.0, 2.0, words, va="top", weight="bold")


def subject_panels(figure, subjects, left, top, total, height, levels, x_label, name):
    """Panels side by side, one per participant, with levels at 0, 1, 2 ... on the x axis.

    Parameters
    ----------
    figure : Figure
    subjects : list of str
        Titles and, after `name`, labels of the axes.
    left, top, total, height : float
        In millimetres; `total` is the width of all panels and the gaps between them.
    levels : sequence
        Tick labels.
    x_label, name : str
        Under the panels, and of the axes.

    Returns
    -------
    panels : dict of str to Axes
        By participant; only the first has numbers on its y axis.
    """
    gap = 2.5
    width = (total - gap * (len(subjects) - 1)) / max(len(subjects), 1)
    panels = {}
    for i, subject in enumerate(subjects):
        axes = style.axes_mm(
            figure, left + i * (width + gap), top, width, height, label=f"{name} {subject}"
        )
        axes.set_title(subject)
        level_ticks(axes, levels)
        if i:
            axes.tick_params(axis="y", labelleft=False)
        else:
            axes.set_ylabel(MEAN_R)
        panels[subject] = axes
    below = 10.0 if len(levels) > MANY_LEVELS else 7.5
    style.text_mm(figure, left + total / 2, top + height + below, x_label, ha="center", va="bottom")
    return panels


def level_ticks(axes, levels) -> None:
    """Levels at 0, 1, 2 ... on the x axis."""
    turned = 45 if len(levels) > MANY_LEVELS else 0
    axes.set_xticks(range(len(levels)), [style.level_text(v) for v in levels], rotation=turned)
    axes.set_xlim(-0.45, len(levels) - 0.55)


def draw_line(axes, x, rows, look, label, hollow=False) -> None:
    """Scores with intervals, joined; what was not computed is a cross at the foot of the panel.

    Parameters
    ----------
    axes : Axes
    x : list of float
        Places.
    rows : list of Series or None
        Rows of the score table.
    look : dict
        color, marker, linestyle.
    label : str
        Of the line; intervals have ``interval`` before it, gaps ``gap``.
    hollow : bool
        Open markers, as untrained models have.
    """
    r = [np.nan if row is None else row["r"] for row in rows]
    face = "white" if hollow else look["color"]
    axes.plot(x, r, label=label, markerfacecolor=face, markeredgewidth=0.8, **look)
    for place, row in zip(x, rows, strict=True):
        if row is None:
            mark_gap(axes, place, look, label)
        elif np.isfinite(row["ci_low"]) and np.isfinite(row["ci_high"]):
            axes.vlines(
                place, row["ci_low"], row["ci_high"], color=look["color"], linewidth=0.7
            ).set_label(f"interval {label}")


def mark_gap(axes, x, look, label) -> None:
    """A cross at the foot of the panel, in the colour of what was not computed."""
    axes.plot(
        x,
        0.03,
        linestyle="none",
        marker="x",
        markersize=3.5,
        color=look["color"],
        transform=axes.get_xaxis_transform(),
        label=f"gap {label}",
        clip_on=False,
    )


def share_limits(panels: dict, rows: dict) -> None:
    """One y scale for all participants, with chance as a line, or as words where it lies below.

    Parameters
    ----------
    panels : dict of str to Axes
        By participant.
    rows : dict of str to list of Series or None
        What is drawn for each.
    """
    known = {s: [row for row in some if row is not None] for s, some in rows.items()}
    ends = [v for some in known.values() for row in some for v in row[["r", "ci_low", "ci_high"]]]
    ends = [float(v) for v in ends if np.isfinite(v)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 0.1)
    pad = 0.1 * max(high - low, 0.01)
    for subject, axes in panels.items():
        axes.set_ylim(low - 2.6 * pad, high + pad)
        chance = [row["chance_95"] for row in known[subject] if np.isfinite(row["chance_95"])]
        if not chance:
            continue
        if max(chance) > axes.get_ylim()[0]:
            axes.axhline(max(chance), color="black", linewidth=0.8, label="chance", zorder=0)
        else:
            words = f"chance {style.r_text(max(chance))} ↓"
            axes.text(0.98, 0.09, words, transform=axes.transAxes, ha="right", fontsize=6)


def draw_difference(axes, x, found: Difference | None, look, label) -> None:
    """A difference with its interval, standing; or a cross where it could not be computed."""
    if found is None:
        mark_gap(axes, x, look, label)
        return
    axes.vlines(x, found.low, found.high, color=look["color"], linewidth=1.0).set_label(
        f"interval {label}"
    )
    axes.plot(x, found.mean, linestyle="none", label=label, markersize=4, **_point(look))


def difference_rows(axes, entries) -> None:
    """Differences with their intervals and numbers, one under the other.

    Parameters
    ----------
    axes : Axes
    entries : list of (str, Difference or None, dict, bool)
        Words, what was found, its look, and whether the marker is open.
    """
    known = [d for _, d, _, _ in entries if d is not None]
    ends = [0.0, *(v for d in known for v in (d.low, d.high))]
    width = max(max(ends) - min(ends), 0.005)
    axes.set_xlim(min(ends) - 0.06 * width, max(ends) + 0.06 * width)
    axes.axvline(0, color=style.INK, linewidth=0.5, zorder=0)
    for place, (words, found, look, hollow) in enumerate(entries):
        text = style.NOT_COMPUTED if found is None else found.text
        axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=6)
        if found is None:
            continue
        axes.hlines(place, found.low, found.high, color=look["color"], linewidth=1.0).set_label(
            f"interval {words}"
        )
        axes.plot(
            found.mean, place, linestyle="none", label=words, markersize=4, **_point(look, hollow)
        )
    axes.set_yticks(range(len(entries)), [words for words, *_ in entries], fontsize=6)
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def handle(look, words, hollow=False) -> Line2D:
    """A legend entry."""
    face = "white" if hollow else look["color"]
    return Line2D([], [], markerfacecolor=face, markeredgewidth=0.8, label=words, **look)


def gap_handle() -> Line2D:
    """The legend entry of a gap."""
    return Line2D(
        [], [], linestyle="none", marker="x", markersize=3.5, color="0.3", label=style.NOT_COMPUTED
    )


def legend(figure, handles, top_mm, left_mm=14.0, ncols=6) -> None:
    """A legend in one line at a height in millimetres from the top."""
    total_h = figure.get_size_inches()[1] * style.MM_PER_INCH
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left_mm / style.WIDTH_MM, 1 - top_mm / total_h),
        ncols=ncols,
        borderpad=0,
        borderaxespad=0,
    )


def _point(look, hollow=False) -> dict:
    face = "white" if hollow else look["color"]
    return {"color": look["color"], "marker": look["marker"], "markerfacecolor": face}
