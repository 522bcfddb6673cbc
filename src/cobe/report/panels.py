"""The panels of the axis figures: loss curves and bars, each of one source and one protocol."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from scipy.optimize import isotonic_regression

from cobe.core.config import Axis, Profile
from cobe.report import published, style
from cobe.report.rows import check_source, loss_rows
from cobe.report.ways import AS_PUBLISHED, CORRECTED, PUBLISHED, of_way, way_cells

BAR_SHARE = 0.84
OPEN_DASHED = {"linestyle": (0, (3, 1.5)), "linewidth": 0.9, "markerfacecolor": "white"}
WORDS_MM = 14.0


def draw_losses(axes, profile: Profile, axis: Axis, losses: pd.DataFrame):
    """Validation loss per optimiser step, one curve per level; its minimum is a large marker.

    Solid, with filled markers: the cells of ``corrected``. Dashed, with open markers: the cells of
    ``as_published`` where they are others, which is so on the axis of the data. Those were trained
    for so few steps that the step axis is logarithmic then.

    Parameters
    ----------
    axes : matplotlib Axes
    profile, axis
        The levels and their cells.
    losses : pandas.DataFrame
        Loss table of the sweep (nats/token).

    Returns
    -------
    levels, kinds : lists of Line2D
        For two legends: the levels, and what solid and dashed are if both are drawn. What has no
        losses, or diverged, is named at the end of either.
    """
    levels, looks = axis.levels, style.level_styles(len(axis.levels))
    ours = way_cells(profile, axis, CORRECTED)
    theirs = way_cells(profile, axis, AS_PUBLISHED)
    handles, wrong = [], {}
    for cell, level, look in zip(ours, levels, looks, strict=True):
        solid = look | {"linestyle": "-"}
        state = _curve(axes, losses, cell, solid, str(level))
        wrong.setdefault(state, []).append(style.level_text(level))
        handles.append(Line2D([], [], label=style.level_text(level), **solid))
    handles += _notes(wrong)
    kinds, wrong = [], {}
    for i in [i for i, cell in enumerate(theirs) if cell != ours[i]]:
        look = looks[i] | OPEN_DASHED
        state = _curve(axes, losses, theirs[i], look, f"{AS_PUBLISHED} {levels[i]}")
        wrong.setdefault(state, []).append(style.level_text(levels[i]))
    if wrong:
        grey = {"color": style.INK, "marker": "o", "markersize": 3}
        kinds = [
            Line2D([], [], label=CORRECTED, **grey),
            Line2D([], [], label=f"{AS_PUBLISHED}: equal epochs", **grey | OPEN_DASHED),
            *_notes(wrong),
        ]
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.set_xlim(left=-0.15)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("validation loss\n(nats per token)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: style.level_text(int(round(x)))))
    axes.margins(x=0.03)
    return handles, kinds


def _notes(wrong: dict[str, list[str]]) -> list[Line2D]:
    """Legend entries in words: which levels have no curve, or a broken one."""
    return [
        Line2D([], [], linestyle="none", label=f"{state}: {', '.join(names)}")
        for state, names in wrong.items()
        if state
    ]


def _curve(axes, losses: pd.DataFrame, cell, look: dict, label: str) -> str:
    """Draw one cell's curve; what is wrong with it, or ""."""
    rows = loss_rows(losses, cell)
    if rows is None:
        return style.NOT_COMPUTED
    step, loss = rows["step"].to_numpy(), rows["val_loss"].to_numpy(float)
    axes.plot(step, loss, label=label, markevery=_sparse(len(step)), **look)
    best = int(np.argmin(np.where(np.isfinite(loss), loss, np.inf)))
    axes.plot(
        step[best],
        loss[best],
        linestyle="none",
        marker=look["marker"],
        markersize=5.5,
        markerfacecolor="white",
        markeredgecolor=look["color"],
        markeredgewidth=1.1,
        label=f"best {label}",
        zorder=5,
    )
    return "" if np.isfinite(loss).all() else "diverged"


def draw_published_losses(axes, axis: Axis) -> None:
    """Published validation loss per epoch: the base run exactly, the others as read off."""
    points = published.val_loss_points(axis.name)
    base = published.val_loss_base()
    check_source(points, "published", "published losses")
    check_source(base, "published", "published losses of the base model")
    base_level = published.BASE_LEVEL[axis.name]
    levels = published_levels(axis.name)
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


def draw_bars(axes, table: pd.DataFrame, way: str, looks: dict, command: str = "") -> None:
    """Bars of one way per subject and level, with what that way has of interval and chance.

    Parameters
    ----------
    axes : matplotlib Axes
    table : pandas.DataFrame
        From `cobe.report.ways.three_ways`. Bars: features "gpt"; open diamonds: features
        "untrained" of the same shape. Whiskers: ci_low to ci_high. Black line across a bar:
        chance_95. A missing value is a marked gap.
    way : str
        Which rows of it.
    looks : dict
        Level to the colour of its bars; the order of the bars.
    command : str
        Said where nothing at all is computed.
    """
    rows = of_way(table, way)
    subjects = sorted(rows["subject"].unique())
    place = bar_places(subjects, looks)
    width = BAR_SHARE / max(len(looks), 1)
    prefix = "published " if way == PUBLISHED else ""
    controls = rows[(rows["features"] == "untrained") & (rows["state"] == "")]
    gaps = []
    for row in rows[rows["features"] == "gpt"].to_dict("records"):
        key = (row["subject"], row["level"])
        label = f"{prefix}{row['subject']} {row['level']}"
        if row["state"]:
            gaps.append((place[key], row["state"], label))
        else:
            _bar(axes, place[key], width, row, looks[row["level"]], label)
    for row in controls.to_dict("records"):
        axes.plot(
            place[row["subject"], row["level"]],
            row["r"],
            linestyle="none",
            marker="D",
            markersize=2.6,
            markerfacecolor="white",
            markeredgecolor=style.INK,
            markeredgewidth=0.7,
            label=f"untrained {row['subject']} {row['level']}",
            zorder=6,
        )
    axes.axhline(0, color=style.INK, linewidth=0.5, zorder=0)
    axes.set_xticks(range(len(subjects)), subjects)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, max(len(subjects), 1) - 0.5)
    (statistic,) = rows["statistic"].unique() if len(rows) else ("",)
    axes.set_ylabel({"max": "maximum of r", "mean": "mean of r"}.get(statistic, "r"))
    if len(gaps) == len(place):
        axes.set_yticks([])
    _mark_gaps(axes, gaps, width, controls, command if len(gaps) == len(place) else "")


def bar_places(subjects, levels) -> dict:
    """Where the bar of each (subject, level) stands: groups of subjects, one unit wide."""
    width, middle = BAR_SHARE / max(len(levels), 1), (len(levels) - 1) / 2
    return {
        (subject, level): s + (i - middle) * width
        for s, subject in enumerate(subjects)
        for i, level in enumerate(levels)
    }


def _bar(axes, x, width, row, colour, label) -> None:
    """One bar with its interval and its chance line, where it has them."""
    axes.bar(x, row["r"], width * 0.9, color=colour, label=label, zorder=2)
    if np.isfinite(row["ci_low"]) and np.isfinite(row["ci_high"]):
        for ink, line in (("white", 1.6), (style.INK, 0.8)):
            axes.vlines(
                x, row["ci_low"], row["ci_high"], color=ink, linewidth=line, zorder=4
            ).set_label(f"interval {label}")
    if np.isfinite(row["chance_95"]):
        ends = (x - width * 0.45, x + width * 0.45)
        for ink, line in (("white", 1.8), ("black", 0.9)):
            axes.hlines(row["chance_95"], *ends, color=ink, linewidth=line, zorder=3).set_label(
                f"chance {label}"
            )


def _mark_gaps(axes, gaps, width, controls: pd.DataFrame, command: str) -> None:
    """Hatched slots, with the reason once for slots that touch."""
    for x, _, label in gaps:
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
    groups = []
    for x, word, _ in sorted(gaps):
        if not command and groups and groups[-1][1] == word and x - groups[-1][0][-1] < 1.5 * width:
            groups[-1][0].append(x)
        elif not (command and groups):
            groups.append(([x], word))
    low, high = axes.get_ylim()
    # the words keep clear of untrained controls in the same slots
    above = len(controls) > 0 and controls["r"].mean() < (low + high) / 2
    page_mm = axes.figure.get_size_inches()[0] * style.MM_PER_INCH
    unit_mm = axes.get_position().width * page_mm / np.ptp(axes.get_xlim())
    for xs, word in groups:
        across = bool(command) or len(xs) * width * unit_mm > WORDS_MM
        axes.text(
            0.5 if command else (xs[0] + xs[-1]) / 2,
            (0.93 if above else 0.07) if not command else 0.5,
            f"{word}:\n{command}".replace(" --", "\n--") if command else word,
            transform=axes.transAxes if command else axes.get_xaxis_transform(),
            rotation=0 if across else 90,
            ha="center",
            va="center" if command else "top" if above else "bottom",
            fontsize=6,
            color="0.25",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )


def published_looks(axis: str) -> dict[str, str]:
    """Greys of the published levels that have bars, from small to large."""
    every = published_levels(axis)
    greys = dict(zip(every, style.grey_levels(len(every)), strict=True))
    shown = set(published.max_r(axis)["level"])
    return {level: grey for level, grey in greys.items() if level in shown}


def mark_as_drawn(axes, axis: Axis, table: pd.DataFrame) -> list[Line2D]:
    """Crosses where the published bar chart differs from the printed values; their legend entry."""
    drawn = published.max_r(axis.name, as_drawn=True)
    check_source(drawn, "published", "published bar chart")
    subjects = sorted(of_way(table, PUBLISHED)["subject"].unique())
    place = bar_places(subjects, published_looks(axis.name))
    look = {"linestyle": "none", "marker": "x", "markersize": 3, "color": "black"}
    for row in drawn.to_dict("records"):
        axes.plot(
            place[row["subject"], row["level"]],
            row["max_pearson_r"],
            markeredgewidth=0.8,
            label=f"as drawn {row['subject']} {row['level']}",
            **look,
        )
    return [Line2D([], [], label="as drawn in the bar chart", **look)] if len(drawn) else []


def level_patches(looks: dict[str, str]) -> list[Patch]:
    """Legend entries of levels by their colour."""
    return [Patch(color=colour, label=level) for level, colour in looks.items()]


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


def published_levels(axis: str) -> list[str]:
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
