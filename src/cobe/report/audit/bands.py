"""Learned against given: unique variance of every band, and whether a control beats the model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cobe.core.errors import CobeError
from cobe.encoding.stats import paired_comparison
from cobe.report import style
from cobe.report.captions import REAL_DATA, SIMULATED_DATA
from cobe.report.controls import CONTROL_WORDS
from cobe.report.rows import require
from cobe.sweep.bands import (
    BANDS,
    EXPECTED,
    LEARNED,
    LEVEL_AND_TIME,
    Q_FOUND,
    parcel_regions,
    region_units,
)

WORDS = CONTROL_WORDS | {LEVEL_AND_TIME: "level and time"}
COLUMNS = (
    "target summary held_out band delta_r2 q ci_low ci_high r2_full r2_controls r2_alone found "
    "n_trs subject n_components"
).split()
REGION_WORDS = {
    "low": "low-level",
    "object": "objects",
    "threat": "threat",
    "relation": "relations",
    "motor": "motor",
    "event": "events",
    "anticipation": "anticipation",
    "null": "nothing planted",
}
SHORT = {"lowlevel": "low-level", "pixel_pca": "pixels"}
PALE = "0.84"
LEFT_MM, TOP_MM, WIDTH_MM, STEP_X_MM = 23.0, 25.0, 29.0, 39.3
ROW_MM, GAP_MM, N_ACROSS = 4.0, 15.0, 4


def fig_audit_bands(table: pd.DataFrame, truth: pd.DataFrame | None, simulated: bool) -> Figure:
    """Unique variance of every band, by planted region or, without one, by participant.

    Parameters
    ----------
    table : DataFrame
        As of `cobe.sweep.bands.unique_by_band`. Solid bars: ``delta_r2``; pale bars: ``r2_alone``.
    truth : DataFrame or None
        The simulation's parcels: subject, parcel, region. Panels are regions then, values are means
        over participants and held-out groups, intervals resample these. None: panels are
        participants over all parcels, with the table's own intervals.
    simulated : bool
        Said in the figure.

    Raises
    ------
    CobeError
        The table lacks a column, or is of another simulation than `truth`.
    """
    panels = band_panels(table, truth)
    names = list(dict.fromkeys(panels.panel))
    bands = [band for band in BANDS if band in set(panels.band)]
    n_down = -(-len(names) // N_ACROSS)
    height = ROW_MM * len(bands)
    low, high = _limits(panels)
    with style.cobe_style():
        figure = style.new_figure(TOP_MM + n_down * (height + GAP_MM) - GAP_MM + 9.0)
        for i, name in enumerate(names):
            left = LEFT_MM + STEP_X_MM * (i % N_ACROSS)
            top = TOP_MM + (height + GAP_MM) * (i // N_ACROSS)
            axes = style.axes_mm(figure, left, top, WIDTH_MM, height)
            _draw_panel(axes, panels[panels.panel == name].set_index("band"), bands)
            axes.set_xlim(low, high)
            axes.set_title(_title(name, panels, truth), loc="left", fontsize=6.5)
            if i % N_ACROSS == 0:
                axes.set_yticks(range(len(bands)), [WORDS.get(band, band) for band in bands])
            else:
                axes.set_yticks(range(len(bands)), [""] * len(bands))
            if i >= len(names) - N_ACROSS:
                axes.set_xlabel("held-out R²")
        style.text_mm(figure, 2.0, 2.0, style.data_words(simulated), va="top", fontweight="bold")
        style.text_mm(figure, 2.0, 6.5, band_verdict(table), va="top", fontsize=6.5)
        figure.legend(
            handles=[
                Patch(color=_colour(LEARNED), label="learned band: unique"),
                Patch(color=_colour("vq"), label="control band: unique"),
                Patch(color=PALE, label="the band alone"),
                Line2D([], [], color=style.INK, linewidth=0.8, label="95 % interval"),
            ],
            loc="upper right",
            bbox_to_anchor=(0.995, 0.995),
            ncols=4,
        )
    return figure


def band_panels(table: pd.DataFrame, truth: pd.DataFrame | None) -> pd.DataFrame:
    """What the figure draws: one row per panel and band.

    Returns
    -------
    panels : DataFrame
        panel (region or participant), band, delta_r2, ci_low, ci_high, r2_alone, share_found (of
        parcels), n_parcels and n_units (participants' held-out groups; 1 without regions).
    """
    require(table, COLUMNS, "band table")
    if truth is None:
        return _by_participant(table)
    units = region_units(table, truth)
    parcels = parcel_regions(table, truth).groupby(["region", "band"])
    found, n_parcels = parcels.found.mean(), parcels.size()
    rows = []
    for region in [name for name in EXPECTED if name in units.index.get_level_values("region")]:
        for band in units.loc[region].index.get_level_values("band").unique():
            here = units.loc[region, band]
            gain = paired_comparison(here.r2_full, here.r2_controls)
            rows.append(
                {
                    "panel": region,
                    "band": band,
                    "delta_r2": gain.difference,
                    "ci_low": gain.ci_low,
                    "ci_high": gain.ci_high,
                    "r2_alone": here.r2_alone.mean(),
                    "share_found": found[region, band],
                    "n_parcels": n_parcels[region, band],
                    "n_units": gain.n_units,
                }
            )
    return pd.DataFrame(rows)


def _by_participant(table: pd.DataFrame) -> pd.DataFrame:
    over_all = table[table.held_out == "all"]
    parcels = over_all[over_all.summary == "target"].groupby(["subject", "band"])
    counted = pd.DataFrame(
        {"share_found": parcels.found.mean(), "n_parcels": parcels.delta_r2.count()}
    )
    means = over_all[over_all.summary == "mean"].set_index(["subject", "band"])
    columns = ["delta_r2", "ci_low", "ci_high", "r2_alone"]
    panels = means[columns].join(counted).reset_index().assign(n_units=1)
    return panels.rename(columns={"subject": "panel"}).sort_values("panel", kind="stable")


def _limits(panels: pd.DataFrame) -> tuple[float, float]:
    drawn = panels[["delta_r2", "ci_low", "ci_high", "r2_alone"]].to_numpy(float)
    span = np.nanmax(drawn) - min(0.0, np.nanmin(drawn))
    return min(0.0, np.nanmin(drawn)) - 0.03 * span, np.nanmax(drawn) + 0.22 * span


def _colour(band: str):
    return style.level_styles(3)[0 if band == LEARNED else 1]["color"]


def _draw_panel(axes, rows: pd.DataFrame, bands: list[str]) -> None:
    for y, band in enumerate(bands):
        if band not in rows.index:
            text = f" {style.NOT_COMPUTED}"
            axes.text(0, y, text, va="center", fontsize=5.5, color="0.35", label=f"gap {band}")
            continue
        row = rows.loc[band]
        axes.barh(y, row.r2_alone, 0.78, color=PALE, label=f"alone {band}", zorder=1)
        axes.barh(y, row.delta_r2, 0.42, color=_colour(band), label=f"unique {band}", zorder=2)
        if np.isfinite([row.ci_low, row.ci_high]).all():
            axes.hlines(y, row.ci_low, row.ci_high, color=style.INK, linewidth=0.8, zorder=3)
        axes.text(
            1.0,
            y,
            f"{row.share_found:.0%}",
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=5.5,
            color=style.INK if row.share_found > 0 else "0.6",
        )
    axes.axvline(0, color=style.INK, linewidth=0.5, zorder=4)
    axes.set_ylim(len(bands) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)


def _title(name: str, panels: pd.DataFrame, truth) -> str:
    n_parcels = int(panels[panels.panel == name].n_parcels.max())
    if truth is None:
        return f"{name}, {n_parcels} parcels"
    expected = " or ".join(SHORT.get(band, WORDS[band]) for band in EXPECTED[name]) or "none"
    return f"{REGION_WORDS[name]}, {n_parcels} parcels\nexpected: {expected}"


def band_verdict(table: pd.DataFrame) -> str:
    """Whether a control ties or beats the learned band over all parcels, in two lines.

    Compared are the bands alone, over pairs of participant and held-out group, at equal numbers of
    components; then what the learned band adds to all others.

    Raises
    ------
    CobeError
        There is no learned band or no control, or there are fewer than two pairs.
    """
    require(table, COLUMNS, "band table")
    means = table[(table.summary == "mean") & (table.held_out != "all")]
    units = means.pivot(index=["subject", "held_out"], columns="band", values="r2_alone")
    if LEARNED not in units or units.shape[1] < 2:
        raise CobeError(f"band table: needs band {LEARNED!r} and a control; make it of all bands")
    best = units.drop(columns=LEARNED).mean().idxmax()
    alone = paired_comparison(units[LEARNED], units[best])
    if alone.ci_low > 0:
        words = "The learned features alone predict more than every control"
    elif alone.ci_high < 0:
        words = "A control beats the learned features"
    else:
        words = "A control ties with the learned features"
    own = means[means.band == LEARNED].set_index(["subject", "held_out"])
    adds = paired_comparison(own.r2_full, own.r2_controls)
    more = "they add" if adds.ci_low > 0 else "nothing is shown to be added"
    shown = (
        f"{words} (at most {widest(table)} components each).\nR² alone: "
        f"{_signed(units[LEARNED].mean())} against {_signed(units[best].mean())} of "
        f"{WORDS.get(best, best)}; difference {_signed(alone.difference)} "
        f"[{_signed(alone.ci_low)}, {_signed(alone.ci_high)}]."
    )
    return (
        f"{shown}\nTo all controls together {more}: {_signed(adds.difference, 4)} "
        f"[{_signed(adds.ci_low, 4)}, {_signed(adds.ci_high, 4)}] of the variance "
        f"(n = {alone.n_units} held-out groups of {means.subject.nunique()} participants)."
    )


def widest(table: pd.DataFrame) -> int:
    """Most principal components that a band has."""
    return int(table.n_components.max())


def _signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def bands_caption(
    table: pd.DataFrame, truth: pd.DataFrame | None, *, simulated: bool, holdout: str = "session"
) -> str:
    """The caption of `fig_audit_bands`: Markdown, one paragraph; n are counted in the table."""
    panels = band_panels(table, truth)
    n_trs = table[(table.held_out == "all") & (table.summary == "mean")].n_trs
    n_subjects = table.subject.nunique()
    if truth is None:
        units = (
            "One panel per participant, mean over parcels; lines: 95 % interval from resampling "
            "held-out blocks of volumes."
        )
    else:
        units = (
            "One panel per planted region, mean over its parcels, participants and held-out "
            f"{holdout}s; lines: 95 % interval from resampling the "
            f"{int(panels.n_units.max())} pairs of participant and {holdout}. Expected is the band "
            "nearest to what was planted; for regions with the trained GPT this is a hope, not a "
            "fact, since simpler features may carry the same drivers."
        )
    text = [
        "**fig_audit_bands.** Learned against given.",
        "Solid bars: unique variance of a band of features, the held-out R² of banded ridge with "
        "all bands minus that with all others (a lower bound: what bands share belongs to none). "
        "Pale bars: R² of the band without any other. Both are 0 in expectation, or slightly "
        "below, where there is no relation.",
        units,
        "Numbers at the right: share of parcels in which the band was found "
        f"(q < {Q_FOUND:g}: sign flips of held-out blocks, false discovery rate over parcels; a "
        "parcel alone has less power than the mean over a region).",
        f"Every band has at most {widest(table)} principal components, fitted inside the training "
        "volumes, as many as every model has elsewhere; a trained model's blocks are one band.",
        f"n = {n_subjects} participants, {int(n_trs.min()):,} to {int(n_trs.max()):,} held-out "
        f"volumes each; each {holdout} held out in turn, none of them seen by the video model.",
        f"{SIMULATED_DATA if simulated else REAL_DATA}.",
    ]
    return " ".join(text)
