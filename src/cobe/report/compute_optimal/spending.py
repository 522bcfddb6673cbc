"""What to spend: allocations over budgets and scan hours, as a table and as a figure."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cobe.core.errors import CobeError
from cobe.report import style
from cobe.report.compute_optimal import draw
from cobe.report.compute_optimal.rows import MEAN, SHARED, Refused, hours_of_video
from cobe.report.scaling import ScalingFit, allocate, gain_shares
from cobe.report.scaling.allocation import DOUBLED_HOURS

LOSS_COLOUR, SCORE_COLOUR = "#31688e", "#35853f"
FACTOR_COLOURS = {"n_params": "#440154", "n_data": "#31688e", "scan_hours": "#35b779"}
LOSS, SCORE = "loss", "brain score"
_UNTOLD = ("n_params", "n_tokens", "video_hours", "reached", "gain_compute")


def allocation_table(
    fit: ScalingFit, rows: pd.DataFrame, flops, budgets_flop, scan_hours=(None,)
) -> pd.DataFrame:
    """Best model size and amount of video for every budget and amount of scan time.

    All video is counted as fresh.

    Parameters
    ----------
    fit : ScalingFit
        Of losses, or of brain scores.
    rows : pandas.DataFrame
        Of `loss_rows`, for the tokens that an hour of video holds.
    flops : callable
        Of `flop_counter`.
    budgets_flop : array of shape (n_budgets,)
        FLOP of one training.
    scan_hours : sequence of float
        Hours of fMRI, for a fit of brain scores.

    Returns
    -------
    table : pandas.DataFrame
        One row per budget and hours: response ("loss" or "brain score"), budget_flop, scan_hours,
        n_params, n_tokens, video_hours, reached (the response there), hours_enough, gain_compute
        and gain_scan_hours (what doubling adds), each with ``_low`` and ``_high``; flat_n_low and
        flat_n_high (sizes within 1 % of the best response), told and extrapolated as
        `cobe.report.scaling.allocate` gives them, gain_compute_extrapolated and
        gain_scan_hours_extrapolated, said (its statements). Where the best is not told, size,
        video, what is reached and what compute adds (with its flag) are NaN, and said gives the
        reasons; what scan time adds is NaN where its exponent is not fixed.

    Raises
    ------
    CobeError
        As `allocate` does.
    """
    table = []
    for budget in budgets_flop:
        for hours in scan_hours:
            best = allocate(fit, budget, flops=flops, scan_hours=hours)
            table.append(_row(fit, best, rows))
    return pd.DataFrame(table)


def _row(fit, best, rows) -> dict:
    row = {"response": SCORE if fit.is_score else LOSS, "budget_flop": best.budget_flop}
    row["scan_hours"] = np.nan if best.scan_hours is None else float(best.scan_hours)
    estimates = {"n_params": best.n_params, "n_tokens": best.n_data, "reached": best.response}
    if best.scan_hours_enough is not None:
        estimates["hours_enough"] = best.scan_hours_enough
    for name, found in estimates.items():
        row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    for end in ("", "_low", "_high"):
        row[f"video_hours{end}"] = hours_of_video(row[f"n_tokens{end}"], rows)
    for gain in best.gains.itertuples():
        name = f"gain_{gain.step}"
        row |= {name: gain.gain, f"{name}_low": gain.low, f"{name}_high": gain.high}
        row[f"{name}_extrapolated"] = gain.extrapolated
    row |= dict(zip(("flat_n_low", "flat_n_high"), best.flat_n_params, strict=True))
    own = [words for words in best.statements if words not in fit.warnings]
    without = [name for name in _UNTOLD if not best.told]
    if not best.told:
        kept = [words for words in own if "best n_params" in words and "flat" not in words]
        own = [*kept, *(words for words in own if words.startswith(DOUBLED_HOURS))]
        own += filter(None, (draw.doubt(fit, name) for name in ("n_params", "n_data")))
    if not fit.is_score or draw.doubt(fit, "scan_hours"):
        without += ["gain_scan_hours", "hours_enough"]
    row |= {f"{name}{end}": np.nan for name in without for end in ("", "_low", "_high")}
    if not np.isfinite(row["gain_compute"]):
        row["gain_compute_extrapolated"] = np.nan
    return row | {"told": best.told, "extrapolated": best.extrapolated, "said": "; ".join(own)}


def allocations(by_response: dict) -> pd.DataFrame:
    """Allocations of every response in one table; one that was refused has a row that says why.

    Parameters
    ----------
    by_response : dict of str to (pandas.DataFrame or Refused)
        ``"loss"`` and ``"brain score"`` to what `allocation_table` gave.

    Returns
    -------
    table : pandas.DataFrame
        Rows of `allocation_table`; of a refused response response, told (False) and said alone.
    """
    tables = [
        pd.DataFrame([{"response": name, "told": False, "said": str(found)}])
        if isinstance(found, Refused)
        else found
        for name, found in by_response.items()
    ]
    return pd.concat(tables, ignore_index=True)


def fits_table(fits: dict) -> pd.DataFrame:
    """The constants of every fit with their intervals, and what each fit cannot tell.

    Parameters
    ----------
    fits : dict of str to (ScalingFit or Refused)

    Returns
    -------
    table : pandas.DataFrame
        One row per fit and constant: fit, constant, value, low, high (95 % interval; NaN where it
        is not estimated), n_rows, n_cells, n_blocks, said (the fit's warnings). A refused fit has
        one row that says why.
    """
    rows = []
    for name, fit in fits.items():
        if isinstance(fit, Refused):
            rows.append({"fit": name, "constant": "", "said": str(fit)})
            continue
        given = {"n_rows": fit.n_rows, "n_cells": fit.n_cells, "n_blocks": fit.n_blocks}
        for constant, found in (*fit.estimates.items(), ("E (profile)", fit.floor_profile)):
            numbers = {"value": found.value, "low": found.low, "high": found.high}
            row = {"fit": name, "constant": constant, **numbers, **given}
            rows.append(row | {"said": "; ".join(fit.warnings)})
    columns = "fit constant value low high n_rows n_cells n_blocks said".split()
    counts = dict.fromkeys(("n_rows", "n_cells", "n_blocks"), "Int64")
    return pd.DataFrame(rows).reindex(columns=columns).astype(counts)


def shares_table(fits: dict) -> pd.DataFrame:
    """Share of each factor in the gain from the smallest to the largest design, of every fit.

    Parameters
    ----------
    fits : dict of str to (ScalingFit or Refused)
        Named, such as "loss", "mean", "sub-01".

    Returns
    -------
    table : pandas.DataFrame
        The columns of `cobe.report.scaling.gain_shares`, with fit (its name) and largest_share
        (the factor that has it, or ""); fits that were refused, or that follow no power law in any
        factor, have no rows. For brain scores a factor is named only if it also has the largest
        gain in the own fit of every participant, two or more: resamples do not hold the noise that
        all models share.
    """
    tables, agreed = [], _largest_of_all(fits)
    for name, fit in fits.items():
        if isinstance(fit, Refused) or set(fit.lost) == set(fit.factors):
            continue
        shares = gain_shares(fit)
        sure = shares.largest and (name == LOSS or shares.largest == agreed)
        named = shares.largest if sure else ""
        tables.append(shares.table.assign(fit=name, largest_share=named))
    columns = "fit factor share share_low share_high largest_share".split()
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _largest_of_all(fits) -> str:
    """Factor with the largest fitted gain in every participant's own fit; "" where they differ."""
    own = [fit for name, fit in fits.items() if name not in (LOSS, MEAN)]
    if len(own) < 2 or any(isinstance(fit, Refused) or fit.lost for fit in own):
        return ""
    tables = [gain_shares(fit).table.set_index("factor") for fit in own]
    tops = {table.gain.idxmax() for table in tables}
    return tops.pop() if len(tops) == 1 else ""


def share_statements(shares: pd.DataFrame, fits: dict) -> list[str]:
    """Which factor explains the largest share of the gain, per fit, or that the data cannot tell.

    Parameters
    ----------
    shares : pandas.DataFrame
        Of `shares_table`.
    fits : dict of str to (ScalingFit or Refused)
        The same fits.
    """
    said = []
    for name, fit in fits.items():
        if isinstance(fit, Refused):
            said.append(f"{name}: {fit}")
            continue
        mine = shares[shares.fit == name]
        if not len(mine):
            said.append(f"{name}: flat, no power law in any factor: there is no gain to share")
            continue
        parts = ", ".join(_share_words(row, fit) for row in mine.itertuples())
        if fit.unfixed and mine.share.notna().any():
            parts += f"; {draw.no_intervals(fit)}"
        largest = mine.largest_share.iloc[0]
        verdict = "it cannot be told which factor explains the largest share"
        if largest:
            own = "in every participant's own fit too"
            where = "in this one draw of the video" if name == LOSS else own
            words = draw.FACTOR_WORDS[largest]
            verdict = f"{words} explains the largest share over the ranges tried, {where}"
        said.append(f"{name}: {verdict} ({parts})")
    return [*said, *([f"Intervals are {SHARED}"] if shares.share_low.notna().any() else [])]


def _share_words(row, fit) -> str:
    words = draw.FACTOR_WORDS[row.factor]
    if np.isnan(row.share):
        lost = row.factor in fit.lost
        return f"{words} not known ({'no power law' if lost else 'nor then its share'})"
    if np.isnan(row.share_low):
        return f"{words} {row.share:.0%}"
    return f"{words} {row.share:.0%} [{row.share_low:.0%}, {row.share_high:.0%}]"


def scaling_allocation(
    table: pd.DataFrame, shares: pd.DataFrame, fits: dict, trained_flop, simulated: bool
) -> style.PaperFigure:
    """Best size and video against the budget, what doubling adds, and what each factor explains.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows of `allocation_table` for losses, brain scores or both.
    shares : pandas.DataFrame
        Of `shares_table`.
    fits : dict of str to (ScalingFit or Refused)
        Named fits, as in `shares_table`; refused ones are said.
    trained_flop : (float, float)
        Cheapest and dearest training of the grid; what lies beyond is shaded.
    simulated : bool
        Whether the data are.

    Returns
    -------
    figure : PaperFigure

    Raises
    ------
    CobeError
        There are neither allocations nor refused fits to speak of.
    """
    if not len(table) and not any(isinstance(fit, Refused) for fit in fits.values()):
        raise CobeError("allocation: no rows; make them by allocation_table")
    with style.cobe_style():
        figure = style.new_figure(143.0)
        places = [(16.0, 9.0), (106.0, 9.0), (16.0, 84.0), (106.0, 84.0)]
        a, b, c, d = (style.axes_mm(figure, x, y, 62.0, 44.0) for x, y in places)
        for letter, (x, y) in zip("abcd", [(2, 2), (92, 2), (2, 77), (92, 77)], strict=True):
            style.panel_letter(figure, x, y, letter)
        a.set_title(f"best model size; {style.data_words(simulated)}", loc="left")
        b.set_title("best amount of video (all of it fresh)", loc="left")
        c.set_title("what doubling adds to the brain score", loc="left")
        d.set_title("share of the gain over the ranges tried", loc="left")
        if len(table):
            _draw_best(a, table, "n_params", "parameters", trained_flop, flat=True)
            _draw_best(b, table, "video_hours", "hours of video", trained_flop)
        _say_missing((a, b), table, fits)
        _draw_gains(c, table, fits)
        _draw_shares(d, shares, fits)
    return figure


def _draw_best(axes, table, name, words, trained_flop, flat=False) -> None:
    if not (flat or table.told.any()):
        return
    axes.set_yscale("log")
    for response, colour in ((LOSS, LOSS_COLOUR), (SCORE, SCORE_COLOUR)):
        mine = table[table.response == response].sort_values("budget_flop")
        mine = mine[mine.scan_hours.isna() | (mine.scan_hours == mine.scan_hours.max())]
        if not len(mine):
            continue
        if flat:
            hatch = "////" if response == LOSS else "\\\\\\\\"
            axes.fill_between(
                mine.budget_flop,
                mine.flat_n_low,
                mine.flat_n_high,
                facecolor="none",
                edgecolor=colour,
                alpha=0.5,
                hatch=hatch,
                lw=0,
                label=f"{response} within 1 % of its best",
            )
        told = mine[mine.told]
        if not len(told):
            continue
        axes.fill_between(
            told.budget_flop,
            told[f"{name}_low"],
            told[f"{name}_high"],
            color=colour,
            alpha=0.2,
            lw=0,
        )
        line = told.budget_flop, told[name], told.extrapolated
        draw.told_line(axes, *line, colour, f"best for {response}", "o")
    draw.log_axis(
        axes, "FLOP of one training (grey: not trained)", table.budget_flop, draw.power_text
    )
    left, right = axes.get_xlim()
    for ends in ((left, trained_flop[0]), (trained_flop[1], right)):
        if ends[0] < ends[1]:
            axes.axvspan(*ends, color="0.93", zorder=0, lw=0)
    axes.set_xlim(left, right)
    axes.set_ylabel(words)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)


def _say_missing(panels, table, fits) -> None:
    """Responses without an allocation, and budgets at which the best size is not known."""
    said = []
    for name, response in ((LOSS, LOSS), ("mean", SCORE)):
        mine = table[table.response == response] if len(table) else table
        if isinstance(fits.get(name), Refused):
            said.append(f"{response} {fits[name]}")
        elif len(mine) and not mine.told.all():
            n_open = mine.groupby("budget_flop").told.all()
            said.append(
                f"{response}: cannot tell at {int((~n_open).sum())} of {len(n_open)} budgets"
            )
    for axes in panels:
        draw.say(axes, "; ".join(said), width=62)


def _draw_gains(axes, table, fits) -> None:
    mine = table[table.response == SCORE] if len(table) else table
    if not len(mine):
        draw.say(axes, f"brain score {fits.get('mean', 'not fitted')}")
        return
    budgets = np.sort(mine.budget_flop.unique())
    mine = mine[mine.budget_flop == budgets[len(budgets) // 2]].sort_values("scan_hours")
    steps = {"compute": "the compute", "scan_hours": "the scan hours"}
    unknown = [words for step, words in steps.items() if mine[f"gain_{step}"].isna().all()]
    said = f"cannot tell what doubling {' or '.join(unknown)} adds" if unknown else ""
    if len(unknown) == len(steps):
        draw.say(axes, said)
        return
    for step, words in steps.items():
        if words in unknown:
            continue
        colour = SCORE_COLOUR if step == "scan_hours" else LOSS_COLOUR
        middle, low, high = (mine[f"gain_{step}{end}"] for end in ("", "_low", "_high"))
        spread = [np.maximum(middle - low, 0), np.maximum(high - middle, 0)]
        look = {"fmt": "s" if step == "compute" else "o", "color": colour, "elinewidth": 0.8}
        x = mine.scan_hours * (0.97 if step == "compute" else 1.03)
        axes.errorbar(x, middle, yerr=spread, label=f"doubling {words}", **look)
        beyond = mine[f"gain_{step}_extrapolated"].eq(True)
        open_look = {"ls": "none", "color": colour, "mfc": "white", "zorder": 4}
        axes.plot(x[beyond], middle[beyond], look["fmt"], label="_extrapolated", **open_look)
    budget = draw.power_text(mine.budget_flop.iloc[0])
    draw.log_axis(axes, f"hours of scans at hand (budget {budget} FLOP)", mine.scan_hours)
    axes.axhline(0, color="0.7", lw=0.5)
    axes.set_ylabel("gain in mean r")
    axes.legend(loc="upper right")
    draw.say(axes, said)


def _draw_shares(axes, shares, fits) -> None:
    names = list(fits)
    for place, name in enumerate(names):
        mine = shares[shares.fit == name] if len(shares) else shares
        if not len(mine) or mine.share.isna().all():
            flat = "no share known" if len(mine) else "flat: no gain to share"
            words = "not fitted" if isinstance(fits[name], Refused) else flat
            axes.text(0.01, place, words, va="center", fontsize=5.5, color=draw.REFUSAL)
            continue
        offsets = np.linspace(-0.24, 0.24, len(mine))
        for offset, row in zip(offsets, mine.itertuples(), strict=True):
            colour, at = FACTOR_COLOURS[row.factor], place + offset
            axes.plot([row.share_low, row.share_high], [at, at], color=colour, lw=1.0)
            axes.plot(row.share, at, "o", color=colour)
    for factor, colour in FACTOR_COLOURS.items():
        axes.plot([], [], "o-", lw=1.0, color=colour, label=draw.FACTOR_WORDS[factor])
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("share (95 % interval; a dot alone has none)")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", lw=0.3, color="0.88")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
