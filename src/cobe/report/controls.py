"""The learned features beside what has to be beaten: an untrained twin, and features without a GPT.

A control that ties or wins is said in the figure, computed from paired differences.
"""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cobe.core.config import Profile
from cobe.core.errors import CobeError
from cobe.encoding.stats import paired_comparison
from cobe.report import style
from cobe.report.rows import of_protocol, subjects_of, summary_row

CONTROLS = ("gpt", "untrained", "vq", "pixel_pca", "lowlevel", "buttons")
CONTROL_WORDS = {
    "gpt": "GPT, trained",
    "untrained": "GPT, untrained",
    "vq": "VQ-VAE codes",
    "pixel_pca": "pixel PCA",
    "lowlevel": "low-level video",
    "buttons": "buttons",
}
BEATS, TIES, LOSES = "beats", "ties with", "is beaten by"
TOO_FEW_UNITS = "too few units"
MIN_UNITS, FEW_UNITS = 2, 10
FIGURE_MM, PANEL_TOP_MM, PANEL_MM = 59.0, 11.0, 29.0
LEFT_MM, GAP_MM = 25.0, 4.0
LINE_CHARACTERS = 150


def control_comparisons(profile: Profile, scores: pd.DataFrame) -> pd.DataFrame:
    """The trained base model against each control, over subjects and held-out groups.

    Parameters
    ----------
    profile : Profile
        Its base cell is the trained model, its twin "untrained"; its protocol is ``corrected``.
    scores : pandas.DataFrame
        Score table of the sweep; only rows of that protocol count.

    Returns
    -------
    table : pandas.DataFrame
        One row per control: features, difference (mean r of the trained model minus the control's,
        over units that both have), ci_low, ci_high (95 %, resampled units), p (two-sided, sign
        flips), n_units, n_units_all (units of the trained model), verdict: the control ``"beats"``
        the trained model (interval below zero), ``"ties with"`` it (interval holds zero), ``"is
        beaten by"`` it, ``"not computed"``, or ``"too few units"``.

    Raises
    ------
    CobeError
        A column is missing, or a unit has two scores.
    """
    rows = of_protocol(scores, profile.protocol)
    units = rows[(rows["summary"] == "mean") & (rows["held_out"].astype(str) != "all")]
    learned = _unit_scores(profile, units, "gpt")
    table = []
    for features in CONTROLS[1:]:
        control = _unit_scores(profile, units, features)
        both = pd.concat([learned, control], axis=1, join="inner", keys=["gpt", "control"]).dropna()
        row = {"features": features, "n_units": len(both), "n_units_all": len(learned)}
        if control.empty or learned.empty:
            row["verdict"] = style.NOT_COMPUTED
        elif len(both) < MIN_UNITS:
            row["verdict"] = TOO_FEW_UNITS
        else:
            test = paired_comparison(both["gpt"], both["control"], seed=profile.protocol.seed)
            row |= {"difference": test.difference, "p": test.p}
            row |= {"ci_low": test.ci_low, "ci_high": test.ci_high}
            row["verdict"] = BEATS if test.ci_high < 0 else LOSES if test.ci_low > 0 else TIES
        table.append(row)
    names = "features difference ci_low ci_high p n_units n_units_all verdict".split()
    return pd.DataFrame(table).reindex(columns=names)


def controls_sentence(profile: Profile, scores: pd.DataFrame) -> str:
    """Which controls beat or tie with the trained model over all subjects, in one or two sentences.

    Arguments and errors as in `control_comparisons`, which is where every number comes from.
    """
    table = control_comparisons(profile, scores)
    n_units = int(table["n_units_all"].iloc[0])
    units = f"{n_units} units (subject x held-out {profile.protocol.holdout})"
    if n_units < FEW_UNITS:
        units += ", so few that the intervals are too narrow"
    parts = []
    for verdict, words in (
        (BEATS, "{} beat{s} the trained GPT"),
        (TIES, "{} tie{s} with the trained GPT"),
        (LOSES, "the trained GPT beats {}"),
        (TOO_FEW_UNITS, "too few units to compare with {}"),
        (style.NOT_COMPUTED, "not computed: {}"),
    ):
        rows = table[table["verdict"] == verdict]
        if len(rows):
            named = "; ".join(_named(row) for row in rows.to_dict("records"))
            parts.append(words.format(named, s="s" if len(rows) == 1 else ""))
    lost = table["verdict"].isin([BEATS, TIES])
    tested = table["difference"].notna()
    if tested.any() and not lost.any():
        parts.insert(0, "no control that was computed ties with or beats it")
    head = f"Trained GPT minus control, mean difference of r [95 % interval] over {units}"
    return f"{head}: {'. '.join(part[0].upper() + part[1:] for part in parts)}."


def _named(row: dict) -> str:
    """A control with its difference, and with its units where some are missing."""
    features = row["features"]
    words = "its untrained twin" if features == "untrained" else CONTROL_WORDS[features]
    if np.isfinite(row["difference"]):
        low, high = (style.signed_r(row[end]) for end in ("ci_low", "ci_high"))
        words += f" ({style.signed_r(row['difference'])} [{low}, {high}]"
        some = row["n_units"] < row["n_units_all"]
        words += f"; {row['n_units']} units)" if some else ")"
    return words


def _unit_scores(profile: Profile, units: pd.DataFrame, features: str) -> pd.Series:
    """Mean r of one feature set per (subject, held-out group)."""
    name = _cell_of(profile, units, features)
    rows = units[(units["features"] == features) & (units["cell"] == name)]
    series = rows.set_index(["subject", "held_out"])["r"].astype(float)
    if not series.index.is_unique:
        raise CobeError(f"score table: {name}, {features} has a unit twice; keep one of them")
    return series


def _cell_of(profile: Profile, scores: pd.DataFrame, features: str) -> str:
    """Name in the table of the cell that stands for a feature set: the base cell's for a GPT."""
    if features == "gpt":
        return profile.base.name
    if features == "untrained":
        return profile.base.untrained().name
    cells = scores.loc[scores["features"] == features, "cell"].unique()
    if len(cells) > 1:
        raise CobeError(f"score table: {features} has cells {', '.join(cells)}; keep one of them")
    return cells[0] if len(cells) else ""


def fig_controls(profile: Profile, scores: pd.DataFrame, simulated: bool) -> Figure:
    """The base GPT beside every control, per subject; whichever feature set wins is marked.

    Parameters
    ----------
    profile : Profile
        Its base cell is "gpt", the untrained base cell is "untrained".
    scores : pandas.DataFrame
        As in `cobe.report.figures.axis_figure`, of which the rows of ``corrected`` are drawn; the
        controls have features "vq", "pixel_pca", "lowlevel", "buttons".
    simulated : bool
        Said in the figure.

    Returns
    -------
    figure : matplotlib.figure.Figure
        One panel per subject, one row per feature set, and below them in words which controls tie
        with or beat the trained model.

    Raises
    ------
    CobeError
        A table lacks a column or answers twice.
    """
    words = controls_sentence(profile, scores)
    subjects = subjects_of(scores, profile)
    scores = of_protocol(scores, profile.protocol)
    rows = {
        (s, f): summary_row(scores, _cell_of(profile, scores, f), f, s)
        for s in subjects
        for f in CONTROLS
    }
    ends = [v for r in rows.values() if r is not None for v in (r["r"], r["ci_high"], r["ci_low"])]
    ends = [v for v in ends if np.isfinite(v)]
    low, high = min([0.0, *ends]), max([0.05, *ends])
    with style.cobe_style():
        figure = style.new_figure(FIGURE_MM)
        width = style.WIDTH_MM - LEFT_MM - 3.0 - GAP_MM * (len(subjects) - 1)
        width /= max(len(subjects), 1)
        for s, subject in enumerate(subjects):
            left = LEFT_MM + s * (width + GAP_MM)
            axes = style.axes_mm(figure, left, PANEL_TOP_MM, width, PANEL_MM, label=subject)
            axes.set_title(subject)
            axes.set_xlim(low - 0.04 * (high - low), high + 0.2 * (high - low))
            _draw_controls(axes, [rows[subject, f] for f in CONTROLS])
            axes.set_yticks(
                range(len(CONTROLS)),
                [CONTROL_WORDS[f] for f in CONTROLS] if s == 0 else [],
                fontsize=7,
            )
        middle = LEFT_MM + (style.WIDTH_MM - LEFT_MM - 3.0) / 2
        label = "mean r over parcels (held-out data)"
        style.text_mm(figure, middle, PANEL_TOP_MM + PANEL_MM + 7.3, label, ha="center")
        style.text_mm(
            figure, 2, 2, f"computed here, {style.data_words(simulated)}", va="top", weight="bold"
        )
        style.text_mm(
            figure,
            2,
            PANEL_TOP_MM + PANEL_MM + 9.5,
            textwrap.fill(words, LINE_CHARACTERS, break_on_hyphens=False),
            va="top",
            fontsize=6,
            linespacing=1.3,
        )
        figure.legend(
            handles=_marks(),
            loc="upper right",
            bbox_to_anchor=(0.99, 0.995),
            ncols=4,
            borderpad=0,
        )
    return figure


def _draw_controls(axes, rows) -> None:
    """One subject: a point, an interval and a chance line per feature set."""
    known = [i for i, r in enumerate(rows) if r is not None and np.isfinite(r["r"])]
    best = max(known, key=lambda i: rows[i]["r"], default=None)
    for i, row in enumerate(rows):
        if i not in known:
            word = style.NOT_COMPUTED if row is None else style.UNDEFINED
            axes.text(0.02, i, word, fontsize=6, color="0.35", va="center")
            continue
        label, grey = CONTROLS[i], style.INK if i < 2 else "0.5"
        axes.hlines(i, row["ci_low"], row["ci_high"], color=grey, linewidth=1.2)
        axes.vlines(row["chance_95"], i - 0.32, i + 0.32, color="black", linewidth=0.9)
        face = "white" if label == "untrained" else grey
        axes.plot(
            row["r"],
            i,
            "D" if label == "untrained" else "o",
            markersize=4,
            markerfacecolor=face,
            markeredgecolor=grey,
            label=label,
        )
        if i == best:
            axes.annotate(
                f"★ {row['r']:.3f}".replace("0.", "."),
                (max(row["ci_high"], row["r"]), i),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
            )
    axes.axvline(0, color=style.INK, linewidth=0.5, zorder=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _marks() -> list[Line2D]:
    """Legend entries of the marks of a row."""
    grey = {"color": style.INK, "linestyle": "none"}
    return [
        Line2D([], [], marker="o", markersize=4, label="mean r", **grey),
        Line2D([], [], color=style.INK, linewidth=1, label="95 % interval"),
        Line2D([], [], color="black", marker="|", linestyle="none", label="chance (95 %)"),
        Line2D([], [], marker="$★$", markersize=4, label="highest", **grey),
    ]
