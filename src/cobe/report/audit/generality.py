"""Memorised against general: scores in seen and unseen sessions, and in held-out levels."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cobe.encoding.stats import Comparison, paired_comparison
from cobe.report import style
from cobe.report.captions import REAL_DATA, SIMULATED_DATA
from cobe.report.rows import require
from cobe.sweep.generality import (
    COLUMNS,
    LEVEL,
    N_PERMUTATIONS,
    REPETITIONS,
    SEEN,
    UNSEEN,
    difference_of_gains,
    training_gain,
)

SHORT = {
    SEEN: "seen",
    UNSEEN: "unseen",
    REPETITIONS: "repetitions",
    LEVEL: "level",
}
PANELS = ((SEEN, UNSEEN), (REPETITIONS, LEVEL))
QUESTIONS = ("seen or unseen by the video model", "repetitions held out inside runs")
TOP_MM, HEIGHT_MM = 19.0, 37.0
LEFTS_MM, WIDTHS_MM = (15.0, 77.0, 151.0), (54.0, 54.0, 26.0)
OFFSETS = {"gpt": -0.09, "untrained": 0.09}


def fig_audit_generality(table: pd.DataFrame, simulated: bool) -> Figure:
    """Scores of the trained and the untrained model in pairs of splits, and what training gains.

    Parameters
    ----------
    table : DataFrame
        As of `cobe.sweep.generality.generality_table`. Filled: ``"gpt"``; open: ``"untrained"``;
        whiskers: ci_low to ci_high; black lines: chance_95. A missing score is a marked gap.
    simulated : bool
        Said in the figure.

    Raises
    ------
    CobeError
        The table lacks a column, a split or one of the two models.
    """
    require(table, COLUMNS, "generality table")
    subjects = sorted(table.subject.unique())
    with style.cobe_style():
        figure = style.new_figure(TOP_MM + HEIGHT_MM + 17.0)
        limits = _limits(table)
        for i, (splits, question) in enumerate(zip(PANELS, QUESTIONS, strict=True)):
            axes = style.axes_mm(figure, LEFTS_MM[i], TOP_MM, WIDTHS_MM[i], HEIGHT_MM)
            _draw_scores(axes, table, splits, subjects)
            axes.set_ylim(*limits)
            axes.set_title(question, loc="left")
            style.panel_letter(figure, LEFTS_MM[i] - 12.0, TOP_MM - 5.5, "ab"[i])
            if i == 0:
                axes.set_ylabel("mean r over parcels\n(held-out data)")
        axes = style.axes_mm(figure, LEFTS_MM[2], TOP_MM, WIDTHS_MM[2], HEIGHT_MM)
        _draw_gains(axes, table)
        style.panel_letter(figure, LEFTS_MM[2] - 16.0, TOP_MM - 5.5, "c")
        style.text_mm(figure, 2.0, 2.0, style.data_words(simulated), va="top", fontweight="bold")
        style.text_mm(figure, 2.0, 6.5, generality_verdict(table), va="top", fontsize=6.5)
        figure.legend(
            handles=[
                Line2D([], [], label="GPT, trained", linestyle="none", **_look("gpt")),
                Line2D([], [], label="GPT, untrained", linestyle="none", **_look("untrained")),
                Line2D([], [], color="black", linewidth=0.9, label="chance, 95th percentile"),
            ],
            loc="upper right",
            bbox_to_anchor=(0.995, 0.995),
            ncols=3,
        )
    return figure


def _look(name: str) -> dict:
    colour = style.level_styles(3)[0]["color"]
    face = colour if name == "gpt" else "white"
    marker = "o" if name == "gpt" else "D"
    return {"marker": marker, "color": colour, "markerfacecolor": face, "markersize": 3.6}


def _limits(table: pd.DataFrame) -> tuple[float, float]:
    drawn = table[table.held_out == "all"][["r", "ci_low", "ci_high", "chance_95"]]
    drawn = drawn.to_numpy(float)
    low, high = min(0.0, np.nanmin(drawn)), np.nanmax(drawn)
    return low - 0.04 * (high - low), high + 0.06 * (high - low)


def _draw_scores(axes, table: pd.DataFrame, splits, subjects) -> None:
    rows = table[table.held_out == "all"].set_index(["subject", "split", "features"])
    for s, subject in enumerate(subjects):
        for i, split in enumerate(splits):
            x = s + (i - 0.5) * 0.46
            for name, offset in OFFSETS.items():
                label = f"{name} {subject} {split}"
                if (subject, split, name) not in rows.index:
                    axes.plot(x + offset, 0, "x", color=style.GAP, label=f"gap {label}")
                    axes.text(
                        x + offset, 0.02, style.NOT_COMPUTED, rotation=90, ha="center", fontsize=5.5
                    )
                    continue
                row = rows.loc[(subject, split, name)]
                look = _look(name)
                axes.vlines(
                    x + offset, row.ci_low, row.ci_high, color=look["color"], linewidth=0.9
                ).set_label(f"interval {label}")
                axes.plot(x + offset, row.r, linestyle="none", label=label, zorder=4, **look)
                axes.hlines(
                    row.chance_95,
                    x + offset - 0.08,
                    x + offset + 0.08,
                    color="black",
                    linewidth=0.9,
                ).set_label(f"chance {label}")
    axes.axhline(0, color=style.INK, linewidth=0.5, zorder=0)
    places = [s + (i - 0.5) * 0.46 for s in range(len(subjects)) for i in range(2)]
    axes.set_xticks(places, [SHORT[split] for _ in subjects for split in splits], rotation=40)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    for s, subject in enumerate(subjects):
        axes.text(s, -0.37, subject, transform=axes.get_xaxis_transform(), ha="center", fontsize=6)
    axes.set_xlim(-0.55, max(len(subjects), 1) - 0.45)


def _draw_gains(axes, table: pd.DataFrame) -> None:
    """Trained minus untrained in every split, and the differences between splits."""
    rows = []
    for first, second in PANELS:
        for split in (first, second):
            gain = training_gain(table, split)
            rows.append((SHORT[split], paired_comparison(gain, np.zeros(len(gain))), False))
        rows.append(("difference", difference_of_gains(table, first, second), True))
    places = [0, 1, 2, 3.6, 4.6, 5.6]
    colour = style.level_styles(3)[0]["color"]
    for y, (name, value, is_difference) in zip(places, rows, strict=True):
        ink = style.INK if is_difference else colour
        axes.hlines(y, value.ci_low, value.ci_high, color=ink, linewidth=1.2).set_label(
            f"interval {name}"
        )
        axes.plot(value.difference, y, marker="s" if is_difference else "o", color=ink, label=name)
    axes.axvline(0, color=style.INK, linewidth=0.5, zorder=0)
    axes.set_yticks(places, [name for name, _, _ in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(6.2, -0.6)
    axes.set_xlabel("r, trained \N{MINUS SIGN} untrained")
    axes.set_title("gain of training", loc="left")


def generality_verdict(table: pd.DataFrame) -> str:
    """Whether training gains more in seen sessions, and less in held-out levels, in two lines.

    Raises
    ------
    CobeError
        As from `cobe.sweep.generality.difference_of_gains`.
    """
    memory = difference_of_gains(table, SEEN, UNSEEN)
    level = difference_of_gains(table, REPETITIONS, LEVEL)
    seen = {
        1: "Training gains more in seen sessions: memorised in part, or these are more reliable",
        0: "No memorisation is shown: training gains about as much in seen and unseen sessions",
        -1: "Training gains less in sessions that the video model has seen",
    }[_sign(memory)]
    new = {
        1: "Part of what training gains is lost in a level that the ridge has not seen",
        0: "No loss is shown of what training gains in a level that the ridge has not seen",
        -1: "Training gains more in a level that the ridge has not seen",
    }[_sign(level)]
    return f"{seen}, {_text(memory, 'pairs of runs')}.\n{new}, {_text(level, 'pairs of folds')}."


def _sign(value: Comparison) -> int:
    return int(value.ci_low > 0) - int(value.ci_high < 0)


def _text(value: Comparison, units: str) -> str:
    low, mean, high = (
        f"{v:+.4f}".replace("-", "\N{MINUS SIGN}")
        for v in (value.ci_low, value.difference, value.ci_high)
    )
    return f"difference {mean} [{low}, {high}], n = {value.n_units} {units}"


def generality_caption(table: pd.DataFrame, *, simulated: bool) -> str:
    """The caption of `fig_audit_generality`: Markdown, one paragraph; n are counted in the table.

    Parameters
    ----------
    table : DataFrame
        As of `cobe.sweep.generality.generality_table`.
    simulated : bool
        Adds that the levels of the simulated play hardly differ.
    """
    n = table.subject.nunique()
    every = table[table.held_out == "all"]
    units = table[table.held_out != "all"]

    def counted(splits, column, rows=every):
        values = rows[rows.split.isin(splits)][column]
        low, high = int(values.min()), int(values.max())
        return f"{low:,}" if low == high else f"{low:,} to {high:,}"

    def folds(splits):
        found = units[units.split.isin(splits)].groupby(["subject", "split", "features"]).size()
        low, high = found.min(), found.max()
        return f"{low}" if low == high else f"{low} to {high}"

    levels = (
        " The levels of the simulated play hardly differ: they are one game that starts at other "
        "moments, so a small difference is expected here and says nothing about real levels."
        if simulated
        else ""
    )
    text = [
        "**fig_audit_generality.** Memorised against general; trained base model and its untrained "
        "twin, mean over parcels of Pearson r on held-out data. Tokens and components were fitted "
        "on the video model's training for both.",
        "(a) Sessions that the video model was trained on against sessions that it has never seen: "
        f"{folds((SEEN, UNSEEN))} runs of each kind per participant, in pairs of equally many "
        f"volumes, each run held out in turn ({counted((SEEN, UNSEEN), 'n_trs')} held-out and "
        f"{counted((SEEN, UNSEEN), 'n_train')} training volumes per participant and kind).",
        f"(b) Whole repetitions held out inside runs, {folds((REPETITIONS, LEVEL))} folds with "
        "purged borders: dealt over all levels, or all repetitions of one level "
        f"({counted((REPETITIONS,), 'n_train')} and {counted((LEVEL,), 'n_train')} training "
        f"volumes).{levels}",
        "Whiskers: 95 % interval from resampling held-out blocks; black lines: 95th percentile of "
        f"the mean r under at most {N_PERMUTATIONS} block permutations.",
        "(c) Trained minus untrained over held-out runs or folds, and the difference of these "
        "between the two splits; 95 % bootstrap intervals over pairs of one participant. What adds "
        "equally to both models cancels; a session in which BOLD is more reliable stretches the "
        "gain too, and that is not ruled out.",
        f"n = {n} participant{'s' if n != 1 else ''}.",
        f"{SIMULATED_DATA if simulated else REAL_DATA}.",
    ]
    return " ".join(text)
