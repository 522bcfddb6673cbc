"""Budget and scan hours to an allocation, by two sliders; a figure where there are no sliders.

Everything is looked up in a table that was computed before, so that moving a slider takes no model
and no fit.
"""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd

from cobe.core.errors import CobeError
from cobe.explore import live as parts
from cobe.report import style
from cobe.report.compute_optimal.draw import power_text
from cobe.report.compute_optimal.rows import amount
from cobe.report.compute_optimal.spending import SCORE

ROW_MM = 6.0
HEAD_MM, FOOT_MM = 10.0, 12.0
CHOSEN, OTHER, UNTOLD = "#31688e", "0.6", "#9c2a1f"


def allocation_slider(table: pd.DataFrame, simulated: bool, live: bool | None = None):
    """Two sliders and the allocation that they choose; without a live notebook, a figure.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `allocation_table` of one response.
    simulated : bool
        Whether the data are.
    live : bool or None
        None: as `cobe.explore.live.is_live` says.

    Returns
    -------
    shown : ipywidgets.VBox or PaperFigure
        The latter, of a few settings, also where ipywidgets is not installed.

    Raises
    ------
    CobeError
        No rows, or rows of two responses.
    """
    _check(table)
    widgets = parts.widgets_of(live)
    if widgets is None:
        return settings_figure(few_settings(table), simulated)
    return _sliders(widgets, table, simulated)


def few_settings(table: pd.DataFrame) -> pd.DataFrame:
    """Least, middle and most of budget and of scan time: at most nine rows of a table."""
    kept = np.ones(len(table), bool)
    for name in ("budget_flop", "scan_hours"):
        values = np.sort(table[name].dropna().unique())
        if len(values):
            kept &= table[name].isin(values[[0, len(values) // 2, -1]]).to_numpy()
    return table[kept].sort_values(["budget_flop", "scan_hours"]).reset_index(drop=True)


def setting_words(row) -> str:
    """An allocation in words, with its intervals, or that it cannot be told.

    Parameters
    ----------
    row : pandas.Series
        Of `allocation_table`.
    """
    hours = "" if np.isnan(row.scan_hours) else f" and {row.scan_hours:.2g} h of scans"
    start = f"{row.budget_flop:.2g} FLOP{hours}: "
    if not row.told:
        return f"{start}the data cannot tell the best model size or video: {row.said}."
    reached = f"{row.response} {row.reached:.3g} [{row.reached_low:.3g}, {row.reached_high:.3g}]"
    ends = f"[{amount(row.n_params_low)}, {amount(row.n_params_high)}]"
    size = f"{amount(row.n_params)} parameters {ends}"
    ends = f"[{row.video_hours_low:.2g}, {row.video_hours_high:.2g}]"
    start = f"{start}extrapolated: " if row.extrapolated else start
    return f"{start}{size}, {row.video_hours:.2g} h of video {ends}, {reached}. {row.said}."


def settings_figure(table: pd.DataFrame, simulated: bool, chosen: int | None = None):
    """Best size, video and response of some settings, one row each, with intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `allocation_table` of one response, in the order to draw.
    simulated : bool
        Whether the data are.
    chosen : int or None
        Place of the row that is drawn in colour; None: all are.

    Returns
    -------
    figure : PaperFigure
    """
    _check(table)
    height = ROW_MM * len(table)
    is_score = table.response.iloc[0] == SCORE
    columns = [
        ("n_params", "parameters"),
        ("video_hours", "hours of video"),
        ("reached", "mean r over parcels" if is_score else "nats per token"),
    ]
    with style.cobe_style():
        figure = style.new_figure(HEAD_MM + height + FOOT_MM)
        for (name, words), x in zip(columns, (38.0, 88.0, 138.0), strict=True):
            axes = style.axes_mm(figure, x, HEAD_MM, 38.0, height)
            _draw_column(axes, table, name, words, chosen)
            if x == 38.0:
                axes.set_yticks(range(len(table)), [_setting(row) for row in table.itertuples()])
                axes.set_title(f"best for the {table.response.iloc[0]}", loc="left")
            elif name == "reached":
                axes.set_title(style.data_words(simulated), loc="left")
    return figure


def _setting(row) -> str:
    hours = "" if np.isnan(row.scan_hours) else f", {row.scan_hours:.2g} h scans"
    return f"{power_text(row.budget_flop)} FLOP{hours}"


def _draw_column(axes, table, name, words, chosen) -> None:
    known = table.told.to_numpy()
    for place, row in enumerate(table.itertuples()):
        colour = CHOSEN if chosen in (None, place) else OTHER
        if not known[place]:
            axes.text(
                0.02,
                place,
                "cannot tell",
                transform=axes.get_yaxis_transform(),
                color=UNTOLD,
                va="center",
                fontsize=6,
            )
            continue
        if name == "n_params":
            axes.plot([row.flat_n_low, row.flat_n_high], [place] * 2, color=colour, lw=5, alpha=0.2)
        low, high = getattr(row, f"{name}_low"), getattr(row, f"{name}_high")
        axes.plot([low, high], [place, place], color=colour, lw=1.2)
        fill = "white" if row.extrapolated else colour
        axes.plot(getattr(row, name), place, "o", color=colour, mfc=fill)
    if name != "reached" and known.any():
        axes.set_xscale("log")
    if not known.any():
        axes.set_xticks([])
        axes.set_xlim(0, 1)
    axes.set_yticks(range(len(table)), [""] * len(table))
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", lw=0.3, color="0.88")
    note = "\n(pale: within 1 % of the best)" if name == "n_params" else ""
    if name != "n_params" and (table.told & table.extrapolated).any():
        note = "\n(open: extrapolated)"
    axes.set_xlabel(words + note)


def _sliders(widgets, table, simulated):
    budgets = np.sort(table.budget_flop.unique())
    hours = np.sort(table.scan_hours.dropna().unique())

    def slider(name, values, text):
        options = [(text(value), value) for value in values]
        return parts.stops(widgets, name, options, values[len(values) // 2])

    controls = [slider("budget (FLOP)", budgets, lambda value: f"{value:.2g}")]
    if len(hours):
        controls.append(slider("scans (h)", hours, lambda value: f"{value:.3g}"))

    def draw(budget, scan_hours=None):
        mine = table if scan_hours is None else table[table.scan_hours == scan_hours]
        mine = mine.sort_values("budget_flop").reset_index(drop=True)
        at = int(np.flatnonzero(mine.budget_flop == budget)[0])
        said = setting_words(mine.iloc[at])
        png = parts.figure_png(settings_figure(mine, simulated, chosen=at))
        return escape(said), [("", png, f"best allocations by budget; chosen: {said}")]

    return parts.assemble(widgets, controls, draw, simulated)


def _check(table) -> None:
    if not len(table):
        raise CobeError("allocation: no settings to show; make them by allocation_table")
    if table.response.nunique() > 1:
        raise CobeError("allocation: loss and brain score in one table; show one at a time")
