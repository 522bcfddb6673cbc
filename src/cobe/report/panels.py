"""The panels of the axis figures: loss curves and bars, computed and published."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from scipy.optimize import isotonic_regression

from cobe.core.config import Axis, Profile, axis_cells
from cobe.report import published, style
from cobe.report.rows import loss_rows, mean_row

BAR_SHARE = 0.84


def draw_losses(axes, profile: Profile, axis: Axis, losses: pd.DataFrame) -> list[Line2D]:
    """Validation loss per optimiser step, one curve per level; its minimum is ringed.

    Parameters
    ----------
    axes : matplotlib Axes
    profile, axis
        The levels and their cells.
    losses : pandas.DataFrame
        Loss table of the sweep (nats/token).

    Returns
    -------
    handles : list of Line2D
        One per level, for a legend; a level without losses says "not computed".
    """
    handles = []
    for cell, level, look in _levels(profile, axis):
        rows = loss_rows(losses, cell)
        text = style.level_text(level)
        if rows is None:
            text += f" ({style.NOT_COMPUTED})"
        elif not np.isfinite(rows["val_loss"]).all():
            text += " (diverged)"
        if rows is not None:
            step, loss = rows["step"].to_numpy(), rows["val_loss"].to_numpy(float)
            axes.plot(step, loss, label=str(level), markevery=_sparse(len(step)), **look)
            finite = np.where(np.isfinite(loss), loss, np.inf)
            best = int(np.argmin(finite))
            axes.plot(
                step[best],
                loss[best],
                linestyle="none",
                marker=look["marker"],
                markersize=5.5,
                markerfacecolor="white",
                markeredgecolor=look["color"],
                markeredgewidth=1.1,
                label=f"best {level}",
                zorder=5,
            )
        handles.append(Line2D([], [], label=text, **look))
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("validation loss\n(nats per token)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: style.level_text(int(round(x)))))
    axes.margins(x=0.03)
    return handles


def draw_published_losses(axes, axis: Axis) -> None:
    """Published validation loss per epoch: the base run exactly, the others as read off."""
    points = published.val_loss_points(axis.name)
    base = published.val_loss_base()
    base_level = published.BASE_LEVEL[axis.name]
    levels = _published_levels(axis.name)
    greys = dict(zip(levels, style.grey_levels(len(levels)), strict=True))
    ends = {base_level: base["val_loss"].iloc[-1]}
    for level, rows in points.groupby("level", sort=False):
        if level == base_level:  # the exact curve is drawn instead
            continue
        at_epochs = rows.sort_values("epoch").drop_duplicates("epoch")
        lowest = rows[rows["is_minimum"]].iloc[0]
        ends[level] = at_epochs["val_loss"].iloc[-1]
        axes.plot(
            at_epochs["epoch"],
            at_epochs["val_loss"],
            color=greys[level],
            linestyle=(0, (1.5, 1)),
            linewidth=0.8,
            marker=".",
            markersize=4,
            label=f"published {level}",
        )
        axes.plot(
            lowest["epoch"],
            lowest["val_loss"],
            linestyle="none",
            marker="o",
            markersize=4,
            markerfacecolor="white",
            markeredgecolor=greys[level],
            clip_on=False,
            label=f"published best {level}",
        )
    axes.plot(
        base["epoch"],
        base["val_loss"],
        color=greys[base_level],
        linewidth=1.1,
        label="published base",
    )
    axes.set_xlim(-3, 101)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation loss\n(nats per token)")
    low, high = axes.get_ylim()
    heights = spread(list(ends.values()), 0.066 * (high - low))
    for level, height in zip(ends, heights, strict=True):
        axes.annotate(
            level,
            (101, ends[level]),
            xytext=(108, height),
            textcoords="data",
            fontsize=6,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "linewidth": 0.3, "shrinkA": 0, "shrinkB": 0},
        )


def draw_scores(axes, profile: Profile, axis: Axis, scores: pd.DataFrame, subjects) -> None:
    """Bars of mean r per subject and level, with interval, chance and the untrained control.

    Parameters
    ----------
    axes : matplotlib Axes
    profile, axis
        The levels and their cells.
    scores : pandas.DataFrame
        Score table of one protocol. Bars: features "gpt"; open diamonds: features "untrained" of
        the same shape. Whiskers: ci_low to ci_high. Black line across a bar: chance_95.
    subjects : list of str
        Groups of bars, left to right; a missing one keeps a marked gap.
    """
    levels = list(_levels(profile, axis))
    width = BAR_SHARE / len(levels)
    gaps = []
    for s, subject in enumerate(subjects):
        for i, (cell, level, look) in enumerate(levels):
            x = s + (i - (len(levels) - 1) / 2) * width
            row = mean_row(scores, cell.name, "gpt", subject)
            control = mean_row(scores, cell.untrained().name, "untrained", subject)
            if row is None or not np.isfinite(row["r"]):
                word = style.NOT_COMPUTED if row is None else "undefined"
                gaps.append((x, width, word, f"{subject} {level}", control))
            else:
                draw_bar(axes, x, width, row, look["color"], f"{subject} {level}")
            if control is not None and np.isfinite(control["r"]):
                axes.plot(
                    x,
                    control["r"],
                    linestyle="none",
                    marker="D",
                    markersize=2.8,
                    markerfacecolor="white",
                    markeredgecolor=style.INK,
                    markeredgewidth=0.7,
                    label=f"untrained {subject} {level}",
                    zorder=6,
                )
    axes.axhline(0, color=style.INK, linewidth=0.5, zorder=0)
    axes.set_xticks(range(len(subjects)), subjects)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, max(len(subjects), 1) - 0.5)
    axes.set_ylabel("mean r over parcels\n(held-out data)")
    low, high = axes.get_ylim()
    for x, width, word, label, control in gaps:
        # the words keep clear of an untrained control in the same slot
        above = control is not None and control["r"] < (low + high) / 2
        mark_gap(axes, x, width, word, label, above)


def draw_bar(axes, x, width, row, colour, label) -> None:
    """One bar with its interval and its chance line."""
    axes.bar(x, row["r"], width * 0.9, color=colour, label=label, zorder=2)
    if np.isfinite(row["ci_low"]) and np.isfinite(row["ci_high"]):
        for ink, line in (("white", 1.8), (style.INK, 0.8)):
            axes.vlines(
                x, row["ci_low"], row["ci_high"], color=ink, linewidth=line, zorder=4
            ).set_label(f"interval {label}")
    if np.isfinite(row["chance_95"]):
        for ink, line in (("white", 1.8), ("black", 0.9)):
            axes.hlines(
                row["chance_95"],
                x - width * 0.45,
                x + width * 0.45,
                color=ink,
                linewidth=line,
                zorder=3,
            ).set_label(f"chance {label}")


def mark_gap(axes, x, width, word, label, above) -> None:
    """A hatched slot that says why there is no value."""
    axes.axvspan(
        x - width * 0.45,
        x + width * 0.45,
        facecolor="none",
        edgecolor="0.75",
        hatch="////",
        linewidth=0,
        label=f"gap {label}",
        zorder=0,
    )
    axes.text(
        x,
        0.96 if above else 0.04,
        word,
        transform=axes.get_xaxis_transform(),
        rotation=90,
        ha="center",
        va="top" if above else "bottom",
        fontsize=6,
        color="0.25",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )


def draw_published_scores(axes, axis: Axis) -> list[Patch]:
    """Published bars: maximum of r over 1,095 parcels, real data. A statistic of its own.

    Returns
    -------
    handles : list
        One per level, for a legend; crosses are the paper's bar chart where it differs.
    """
    table = published.max_r(axis.name)
    subjects = sorted(table["subject"].unique())
    every = _published_levels(axis.name)
    greys = dict(zip(every, style.grey_levels(len(every)), strict=True))
    levels = [level for level in every if level in set(table["level"])]
    width = BAR_SHARE / len(levels)
    place = {
        (subject, level): s + (i - (len(levels) - 1) / 2) * width
        for s, subject in enumerate(subjects)
        for i, level in enumerate(levels)
    }
    for row in table.to_dict("records"):
        axes.bar(
            place[row["subject"], row["level"]],
            row["max_pearson_r"],
            width * 0.9,
            color=greys[row["level"]],
            label=f"published {row['subject']} {row['level']}",
        )
    handles = [Patch(color=greys[level], label=level) for level in levels]
    drawn = published.max_r(axis.name, as_drawn=True)
    look = {"linestyle": "none", "marker": "x", "markersize": 3, "color": "black"}
    for row in drawn.to_dict("records"):
        axes.plot(
            place[row["subject"], row["level"]],
            row["max_pearson_r"],
            markeredgewidth=0.8,
            label=f"as drawn {row['subject']} {row['level']}",
            **look,
        )
    if len(drawn):
        handles.append(Line2D([], [], label="as drawn in the bar chart", **look))
    axes.set_xticks(range(len(subjects)), subjects)
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0, 0.8)
    axes.set_ylabel("maximum r over\n1,095 parcels")
    return handles


def spread(heights: list[float], gap: float) -> list[float]:
    """Label heights at least `gap` apart, in the order of the values, moved as little as can be.

    Least squares under the gaps: isotonic regression of the heights less what the gaps add up to.
    """
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    placed = isotonic_regression(np.asarray(heights, float)[order] - steps).x + steps
    result = np.empty_like(placed)
    result[order] = placed
    return result.tolist()


def _levels(profile: Profile, axis: Axis):
    """Cell, level and look of each level."""
    cells = axis_cells(profile, axis)
    return zip(cells, axis.levels, style.level_styles(len(cells)), strict=True)


def _published_levels(axis: str) -> list[str]:
    """All published levels of an axis, from small to large."""
    levels = {*published.max_r(axis)["level"], *published.val_loss_points(axis)["level"]}
    return sorted(levels | {published.BASE_LEVEL[axis]}, key=_size)


def _size(level: str) -> float:
    units = {"K": 1e3, "M": 1e6}
    digits = level.removeprefix("fp")
    return float(digits.rstrip("KM")) * units.get(digits[-1], 1.0)


def _sparse(n_points: int) -> int:
    """At most some ten markers on a curve."""
    return max(1, n_points // 10)
