"""Validation loss over model size and video: the fitted surface, and its cuts at equal FLOP."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cobe.report import style
from cobe.report.compute_optimal import draw
from cobe.report.compute_optimal.rows import Refused, amount
from cobe.report.scaling import envelope
from cobe.report.scaling.isoflop import OK

LOSS_WORDS = "validation loss\n(nats per token)"
FIT_COLOUR, ALL_COLOUR = style.INK, "0.72"


def scaling_loss(rows: pd.DataFrame, fit, held_out, forms, simulated: bool) -> style.PaperFigure:
    """Loss against video and model size with the fitted surface, and how well that predicts.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of `loss_rows`.
    fit : ScalingFit or Refused
        Of `fit_parametric` on these rows, repeats corrected.
    held_out : pandas.DataFrame or Refused
        Of `predict_largest`.
    forms : pandas.DataFrame or Refused
        Of `cobe.report.scaling.compare_forms`.
    simulated : bool
        Whether the data are.

    Returns
    -------
    figure : PaperFigure
    """
    grid = rows[rows.kind != "isoflop"]
    with style.cobe_style():
        figure = style.new_figure(127.0)
        a, b = (style.axes_mm(figure, x, 9.0, 56.0, 42.0) for x in (16.0, 106.0))
        c = style.axes_mm(figure, 27.0, 71.0, 50.0, 42.0)
        d = style.axes_mm(figure, 124.0, 71.0, 48.0, 42.0)
        for letter, (x, y) in zip("abcd", [(2, 2), (92, 2), (2, 64), (92, 64)], strict=True):
            style.panel_letter(figure, x, y, letter)
        words = "target tokens, repeats at their worth"
        along(a, grid, fit, "val_loss", "n_data", words, "parameters")
        along(b, grid, fit, "val_loss", "n_params", "parameters", "frames")
        for panel, factor in ((a, "n_data"), (b, "n_params")):
            panel.set_ylabel(LOSS_WORDS)
            draw.say(panel, draw.refusal(fit, factor))
        a.set_title(style.data_words(simulated), loc="left")
        b.set_title(constants_words(fit), loc="left")
        held_out_panel(c, held_out, "validation loss (nats per token)")
        draw.forms_panel(d, forms)
    return figure


def along(axes, rows, fit, response, factor, words, legend, scan_hours=None) -> None:
    """Responses along one factor, one colour and fitted curve per value of the other.

    Parameters
    ----------
    axes : matplotlib Axes
    rows : pandas.DataFrame
        Columns n_params, n_frames, n_effective and `response`.
    fit : ScalingFit or Refused
    response, factor : str
        Column, and ``"n_data"`` or ``"n_params"``.
    words, legend : str
        Label of the axis; title of the legend.
    scan_hours : float or None
        Where a fit of brain scores is drawn.
    """
    along_data = factor == "n_data"
    x_name, held = ("n_effective", "n_params") if along_data else ("n_params", "n_frames")
    for level, look in draw.looks(rows[held].unique()).items():
        mine = rows[rows[held] == level]
        draw.points(axes, mine[x_name], mine[response], look, amount(level))
        ends = rows[x_name].min(), rows[x_name].max()
        other = {"n_params": level} if along_data else {"n_data": mine.n_effective.median()}
        draw.curve(axes, fit, factor, ends, other | {"scan_hours": scan_hours}, look)
    draw.log_axis(axes, words, rows[x_name])
    axes.legend(title=legend, loc="center left", bbox_to_anchor=(1.0, 0.5), borderpad=0.1)


def constants_words(fit) -> str:
    """Exponents of a fit with their intervals, for a title."""
    if isinstance(fit, Refused):
        return ""
    names = {"alpha": "α", "beta": "β", "gamma": "γ"}
    shown = []
    for (name, letter), factor in zip(names.items(), fit.factors, strict=False):
        found = fit.estimates[name]
        known = not (factor in fit.lost or factor in fit.unfixed)
        numbers = f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
        shown.append(f"{letter} {numbers if known else 'not fixed'}")
    return "; ".join(shown)


def held_out_panel(axes, held_out, words: str) -> None:
    """Largest cells: what the others predict for them, and what was seen."""
    axes.set_title("largest cells, predicted from the others", loc="left")
    if isinstance(held_out, Refused):
        draw.say(axes, f"not predicted: {held_out.why}")
        return
    rows = held_out.sort_values(["n_params", "n_data"]).reset_index(drop=True)
    for place, row in enumerate(rows.itertuples()):
        axes.plot([row.cell_low, row.cell_high], [place, place], color="0.75", lw=3.2)
        axes.plot([row.low, row.high], [place, place], color="#31688e", lw=1.2)
        axes.plot(row.observed, place, "o" if row.inside else "X", color=style.INK)
    hours = [f", {h:.2g} h" for h in rows.scan_hours] if "scan_hours" in rows else [""] * len(rows)
    names = [
        f"{amount(row.n_params)}, {amount(row.n_data)}{h}"
        for row, h in zip(rows.itertuples(), hours, strict=True)
    ]
    axes.set_yticks(range(len(rows)), names, fontsize=5 if len(rows) > 12 else 6)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_ylabel("parameters, tokens" + (", scans" if "scan_hours" in rows else ""))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{words}\n{int(rows.inside.sum())} of {len(rows)} inside the grey interval")


def scaling_isoflop(rows: pd.DataFrame, cut, frontier, simulated: bool) -> style.PaperFigure:
    """Slices of equal FLOP with their parabolas, the frontier, and the envelope of all models.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of `loss_rows`; kind ``"isoflop"`` with slice_flop makes the slices.
    cut : Isoflop or Refused
        Of `cobe.report.scaling.isoflop` on the slices.
    frontier : (pandas.DataFrame, Estimate) or Refused
        Of `cobe.report.scaling.frontier` on the fitted surface, with the video that there is.
    simulated : bool
        Whether the data are.

    Returns
    -------
    figure : PaperFigure
    """
    with style.cobe_style():
        figure = style.new_figure(73.0)
        panels = [style.axes_mm(figure, x, 10.0, 45.0, 44.0) for x in (14.0, 73.0, 133.0)]
        for letter, x in zip("abc", (2, 61, 121), strict=True):
            style.panel_letter(figure, x, 2, letter)
        _draw_slices(panels[0], rows[rows.kind == "isoflop"], cut)
        _draw_optima(panels[1], cut, frontier)
        _draw_envelope(panels[2], rows, frontier)
        panels[0].set_title(f"equal FLOP; {style.data_words(simulated)}", loc="left")
        words = [exponent_words(cut, frontier), *bias_words(cut)]
        style.text_mm(figure, 14.0, 71.5, "\n".join(words), fontsize=6, va="bottom")
    return figure


def exponent_words(cut, frontier) -> str:
    """How the best size grows with the budget, by both methods."""
    said = []
    if not isinstance(cut, Refused) and cut.exponent is not None:
        e = cut.exponent
        said.append(f"parabolas: best size ~ FLOP^{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]")
    else:
        said.append("parabolas: no exponent")
    if isinstance(frontier, Refused):
        said.append("surface: no exponent")
    elif frontier[0].told.sum() < 2:
        said.append("surface: cannot tell the best size")
    else:
        e, told = frontier[1], frontier[0].told
        said.append(
            f"surface: best size ~ FLOP^{e.value:.2f} [{e.low:.2f}, {e.high:.2f}] "
            f"({int(told.sum())} of {len(told)} budgets)"
        )
    return "; ".join(said)


def bias_words(cut) -> list[str]:
    """What the parabola gets wrong on the fitted surface, without any noise."""
    if isinstance(cut, Refused) or not np.isfinite(cut.bias_exponent):
        return []
    return [f"of the parabolas' exponent {cut.bias_exponent:+.2f} is bias of the method"]


def _draw_slices(axes, rows, cut) -> None:
    if not len(rows):
        draw.say(axes, "no models of equal FLOP were trained", width=40)
        return
    found = None if isinstance(cut, Refused) else cut.slices.set_index("budget_flop")
    for budget, look in draw.looks(rows.slice_flop.unique()).items():
        mine = rows[rows.slice_flop == budget]
        draw.points(axes, mine.n_params, mine.val_loss, look, draw.power_text(budget))
        if found is None or found.state[budget] != OK:
            continue
        x = np.geomspace(mine.n_params.min(), mine.n_params.max(), draw.LINE_POINTS)
        parabola = np.polyfit(np.log(mine.n_params), mine.val_loss, 2)
        axes.plot(x, np.polyval(parabola, np.log(x)), color=look["color"], lw=0.8, zorder=2)
        row = found.loc[budget]
        ends = np.clip([row.low, row.high], x[0], x[-1])  # an end may be open
        axes.plot(ends, [row.loss_opt] * 2, color=look["color"], lw=2.2, alpha=0.5)
        axes.plot(row.n_opt, row.loss_opt, "*", color=look["color"], ms=6, mec="white", mew=0.4)
    draw.log_axis(axes, "parameters", rows.n_params)
    axes.set_ylabel(LOSS_WORDS)
    axes.legend(title="FLOP", loc="upper left", ncols=2, borderaxespad=0.1)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.45 * (high - low))
    if isinstance(cut, Refused):
        draw.say(axes, f"no parabolas: {cut.why}", width=36)
    elif (found.state != OK).any():
        states = [f"{draw.power_text(b)}: {s}" for b, s in found.state.items() if s != OK]
        draw.say(axes, "; ".join(states), width=36)


def _draw_optima(axes, cut, frontier) -> None:
    axes.set_title("best model size", loc="left")
    seen = []
    if not isinstance(frontier, Refused):
        table = frontier[0]
        known = table[table.told]
        if len(known) > 1:
            band = known.n_params_low, known.n_params_high
            axes.fill_between(known.budget_flop, *band, color=FIT_COLOUR, alpha=0.15, lw=0)
            line = known.budget_flop, known.n_params, known.extrapolated
            draw.told_line(axes, *line, FIT_COLOUR, "fitted surface")
        seen.append(table.budget_flop)
    if not isinstance(cut, Refused):
        ok = cut.slices[cut.slices.state == OK]
        # An open end is drawn as far as a factor of ten.
        spread = [
            ok.n_opt - ok.low.clip(ok.n_opt / 10),
            ok.high.clip(upper=10 * ok.n_opt) - ok.n_opt,
        ]
        look = {"fmt": "*", "color": "#31688e", "ms": 6, "elinewidth": 0.8, "zorder": 4}
        axes.errorbar(ok.budget_flop, ok.n_opt, yerr=spread, label="parabolas", **look)
        clean = cut.slices.dropna(subset="parabola_on_surface")
        look = {"linestyle": "none", "mfc": "white", "mec": "#31688e", "mew": 0.7}
        axes.plot(
            clean.budget_flop, clean.parabola_on_surface, "o", label="parabolas, no noise", **look
        )
        seen.append(cut.slices.budget_flop)
    if not seen:
        draw.say(axes, f"no frontier: {frontier.why}", width=40)
        return
    axes.set_yscale("log")
    draw.log_axis(axes, "FLOP of one training", pd.concat(seen), draw.power_text)
    axes.set_ylabel("parameters")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.35)
    axes.legend(loc="upper left")
    if isinstance(frontier, Refused):
        draw.say(axes, f"no surface: {frontier.why}", width=36)
    elif not table.told.all():
        lost = int((~table.told).sum())
        draw.say(axes, f"surface: cannot tell at {lost} of {len(table)} budgets", width=36)


def _draw_envelope(axes, rows, frontier) -> None:
    axes.set_title("what a budget reaches", loc="left")
    columns = (
        rows[name].to_numpy(float) for name in ("n_params", "n_effective", "val_loss", "flop")
    )
    best = envelope(*columns)
    axes.plot(rows.flop, rows.val_loss, "o", color=ALL_COLOUR, ms=2.2, label="models")
    axes.step(best.flop, best.loss, where="post", color="#31688e", lw=1.0, label="envelope")
    if not isinstance(frontier, Refused) and frontier[0].told.any():
        table = frontier[0][frontier[0].told]
        line = table.budget_flop, table.response, table.extrapolated
        draw.told_line(axes, *line, FIT_COLOUR, "fitted, best size")
        band = table.response_low, table.response_high
        axes.fill_between(table.budget_flop, *band, color=FIT_COLOUR, alpha=0.15, lw=0)
    draw.log_axis(axes, "FLOP of one training", rows.flop, draw.power_text)
    axes.set_ylabel(LOSS_WORDS)
    axes.legend(loc="lower left")
