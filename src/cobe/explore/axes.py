"""One axis of the sweep, level by level: loss, mean r under both protocols, r of the parcels."""

from __future__ import annotations

from functools import lru_cache
from html import escape

import numpy as np
import pandas as pd

from cobe.core.config import Axis, Profile, Protocol, axis_cells
from cobe.core.errors import CobeError
from cobe.explore import live as parts
from cobe.report import style
from cobe.report.figures import get_axis, split_words
from cobe.report.rows import loss_rows, of_protocol, parcel_rows, summary_row

TOP_MM, HEIGHT_MM, SECOND_TOP_MM = 14.0, 34.0, 66.0
NAMED = {"data_size": "data size", "hidden_dim": "width", "n_layers": "depth", "n_heads": "heads"}
N_BINS = 30
VALUES = ("r", "ci_low", "ci_high", "chance_95", "n_trs")


def axis_explorer(
    profile: Profile,
    scores: pd.DataFrame,
    losses: pd.DataFrame,
    simulated: bool,
    live: bool | None = None,
):
    """Choose an axis and go along its levels: what more of it buys in loss and in r.

    Parameters
    ----------
    profile : Profile
        Whose axes and protocols are shown.
    scores : pandas.DataFrame
        Score table of the sweep, with the rows of all its protocols.
    losses : pandas.DataFrame
        Columns cell, step, val_loss (nats/token).
    simulated : bool
        Whether the data are; said in the figure.
    live : bool or None
        Whether to make widgets; None: as `cobe.explore.live.is_live` says.

    Returns
    -------
    shown : ipywidgets.VBox or PaperFigure
        Widgets: choices ``axis`` and ``participant``, slider ``level``, words with the numbers, and
        the figure. Else the figure of the first axis at its last level.

    Raises
    ------
    CobeError
        A table lacks a column, holds published values, answers twice, or has no row of `profile`.
    """
    for protocol in _protocols(profile, profile.axes[0]).values():
        of_protocol(scores, protocol)
    subjects = sorted(scores.subject.unique())
    if not subjects:
        raise CobeError("score table: no rows; run notebook 04_encoding, which scores the models")
    tables = {axis.name: axis_table(profile, axis, scores, losses) for axis in profile.axes}
    if not any(table.r.notna().any() for table in tables.values()):
        raise CobeError(
            f"score table: no row of profile {profile.name}; hand over the scores of that profile"
        )

    @lru_cache
    def parcels(name):
        return axis_parcels(profile, get_axis(profile, name), scores)

    widgets = parts.widgets_of(live)
    first = profile.axes[0]
    if widgets is None:
        shown = (losses, parcels(first.name), subjects[0], len(first.levels) - 1)
        return level_figure(profile, first, tables[first.name], *shown, simulated)
    names = [(NAMED.get(axis.name, axis.label), axis.name) for axis in profile.axes]
    which = parts.chooser(widgets, "axis", names)
    person = parts.chooser(widgets, "participant", subjects)
    level = parts.stops(widgets, "level", _stops(first), 0)

    def fit(_=None):
        level.options, level.value = _stops(get_axis(profile, which.value)), 0

    which.observe(fit, names="value")

    def draw(name, subject, at):
        axis = get_axis(profile, name)
        at = min(at, len(axis.levels) - 1)
        table = tables[name]
        shown = (losses, parcels(name), subject, at)
        figure = level_figure(profile, axis, table, *shown, simulated)
        said = level_words(axis, table, subject, at)
        return escape(said), [("", parts.figure_png(figure), said)]

    return parts.assemble(widgets, [which, person, level], draw, simulated)


def _stops(axis: Axis) -> list[tuple[str, int]]:
    return [(style.level_text(level), place) for place, level in enumerate(axis.levels)]


def _protocols(profile: Profile, axis: Axis) -> dict[str, Protocol]:
    return {"corrected": profile.protocol, "as_published": profile.published_for(axis.name)}


def axis_table(
    profile: Profile, axis: Axis, scores: pd.DataFrame, losses: pd.DataFrame
) -> pd.DataFrame:
    """Mean r over parcels and lowest validation loss at every level of an axis.

    The same statistic under both protocols, so that nothing but the protocol differs; the figures
    of the paper show the maximum over parcels for ``as_published``.

    Parameters
    ----------
    profile, axis, scores, losses
        As of `axis_explorer`.

    Returns
    -------
    table : pandas.DataFrame
        One row per protocol, level, subject and features (``"gpt"``, ``"untrained"``): way, level
        (place in ``axis.levels``), subject, features, cell, r, ci_low, ci_high, chance_95, n_trs,
        best_loss (nats/token), best_step. NaN where it was not computed.
    """
    rows, subjects = [], sorted(scores.subject.unique())
    for way, protocol in _protocols(profile, axis).items():
        mine = of_protocol(scores, protocol)
        mine = mine[mine.summary == "mean"]
        for place, trained in enumerate(axis_cells(profile, axis, protocol)):
            curve = loss_rows(losses, trained)
            best = None if curve is None else curve.loc[curve.val_loss.idxmin()]
            for features, cell in (("gpt", trained), ("untrained", trained.untrained())):
                for subject in subjects:
                    row = summary_row(mine, cell.name, features, subject)
                    told = {} if row is None else row[list(VALUES)].to_dict()
                    rows.append(
                        {"way": way, "level": place, "subject": subject, "features": features}
                        | {"cell": cell.name}
                        | {name: told.get(name, np.nan) for name in VALUES}
                        | {"best_loss": np.nan if best is None else best.val_loss}
                        | {"best_step": np.nan if best is None else best.step}
                    )
    return pd.DataFrame(rows)


def axis_parcels(
    profile: Profile, axis: Axis, scores: pd.DataFrame
) -> dict[tuple[str, int, str], np.ndarray]:
    """r of every parcel at every level of an axis.

    Parameters
    ----------
    profile, axis, scores
        As of `axis_explorer`.

    Returns
    -------
    parcels : dict of (way, place in ``axis.levels``, subject) to float64 array (n_parcels,)
        Empty where it was not computed; an undefined r is left out.
    """
    found = {}
    for way, protocol in _protocols(profile, axis).items():
        mine = of_protocol(scores, protocol)
        mine = mine[(mine.summary == "target") & (mine.features == "gpt")]
        for place, cell in enumerate(axis_cells(profile, axis, protocol)):
            rows = mine[mine.cell == cell.name]
            for subject in scores.subject.unique():
                found[way, place, subject] = (
                    parcel_rows(rows, cell.name, subject).r.dropna().to_numpy()
                )
    return found


def level_words(axis: Axis, table: pd.DataFrame, subject: str, level: int) -> str:
    """One level in words, with its intervals and chance.

    Parameters
    ----------
    axis : Axis
        Which axis.
    table : pandas.DataFrame
        From `axis_table`.
    subject : str
        Whose scores.
    level : int
        Place in ``axis.levels``.

    Raises
    ------
    CobeError
        The subject is not in the table.
    """
    rows = table[(table.subject == subject) & (table.level == level) & (table.features == "gpt")]
    if rows.empty:
        known = ", ".join(table.subject.unique())
        raise CobeError(f"{subject}: not in the score table; choose one of {known}")
    said = [f"{axis.label} {style.level_text(axis.levels[level])}, {subject}"]
    for row in rows.itertuples():
        loss = "not trained"
        if np.isfinite(row.best_loss):
            loss = (
                f"lowest validation loss {row.best_loss:.3f} nats/token at step {row.best_step:.0f}"
            )
        score = f"mean r {style.NOT_COMPUTED}"
        if np.isfinite(row.r):
            score = (
                f"mean r {style.r_text(row.r)} [{style.r_text(row.ci_low)}, "
                f"{style.r_text(row.ci_high)}], chance (95 %) {style.r_text(row.chance_95)}, "
                f"{row.n_trs:.0f} held-out volumes"
            )
        said.append(f"{row.way}: {score}; {loss}")
    return "; ".join(said)


def level_figure(
    profile: Profile,
    axis: Axis,
    table: pd.DataFrame,
    losses: pd.DataFrame,
    parcels: dict[tuple[str, int, str], np.ndarray],
    subject: str,
    level: int,
    simulated: bool,
):
    """Loss curves up to a level, mean r at all levels under both protocols, r of the parcels.

    Parameters
    ----------
    profile, axis, losses, simulated
        As of `axis_explorer`.
    table : pandas.DataFrame
        From `axis_table`.
    parcels : dict
        From `axis_parcels`.
    subject, level
        As of `level_words`.

    Returns
    -------
    figure : PaperFigure
    """
    looks = style.level_styles(len(axis.levels))
    with style.cobe_style():
        figure = style.new_figure(SECOND_TOP_MM + HEIGHT_MM + 10)
        words = f"{axis.label}, {subject}, {style.data_words(simulated)}"
        style.text_mm(figure, 2, 1.5, words, va="top", weight="bold")
        _draw_losses(figure, profile, axis, losses, level, looks)
        for i, way in enumerate(("corrected", "as_published")):
            left = 14.0 + i * 84.0
            axes = style.axes_mm(figure, left, SECOND_TOP_MM, 74, HEIGHT_MM, label=way)
            split = split_words(_protocols(profile, axis)[way])
            axes.set_title(f"{way}: {split}", loc="left")
            mine = table[table.subject == subject]
            _draw_levels(axes, axis, mine[mine.way == way], level, looks)
            # one scale under both protocols
            reach = mine[["r", "ci_low", "ci_high", "chance_95"]].to_numpy(float)
            if np.isfinite(reach).any():
                low, high = np.nanmin(reach, initial=0.0), np.nanmax(reach)
                axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        _draw_parcels(figure, axis, parcels, subject, level)
    return figure


def _draw_losses(figure, profile, axis, losses, level, looks) -> None:
    axes = style.axes_mm(figure, 14, TOP_MM, 74, HEIGHT_MM, label="losses")
    cells = axis_cells(profile, axis)
    curves = [loss_rows(losses, cell) for cell in cells]
    for place, (curve, look) in enumerate(zip(curves, looks, strict=True)):
        text = style.level_text(axis.levels[place])
        if place > level:
            continue
        if curve is None:
            axes.plot([], [], color=style.GAP, ls="none", label=f"{text}: {style.NOT_COMPUTED}")
            continue
        shown = {"lw": 1.8, "zorder": 5} if place == level else {"lw": 0.7}
        every = max(1, len(curve) // 8)
        axes.plot(curve.step, curve.val_loss, markevery=every, **look | shown, label=text)
    # the same axes at every level, so that curves do not jump as the slider moves
    known = pd.concat([curve for curve in curves if curve is not None] or [losses.iloc[:0]])
    if len(known):
        low, high = known.val_loss.min(), known.val_loss.max()
        axes.set_ylim(low - 0.04 * (high - low) - 1e-9, high + 0.04 * (high - low) + 1e-9)
        axes.set_xlim(0, known.step.max())
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("validation loss (nats/token)")
    axes.set_title("loss (models of corrected), up to this level", loc="left")
    axes.legend(loc="upper right")


def _draw_levels(axes, axis, rows, level, looks) -> None:
    for features, fill, shift in (("gpt", True, -0.08), ("untrained", False, 0.08)):
        for row in rows[rows.features == features].itertuples():
            ink = looks[row.level]["color"] if row.level == level else "0.6"
            if not np.isfinite(row.r):
                words = {"ha": "center", "va": "bottom", "fontsize": 6, "color": style.GAP}
                if features == "gpt":
                    axes.text(row.level, 0, style.NOT_COMPUTED, rotation=90, **words)
                continue
            x = row.level + shift
            axes.plot([x, x], [row.ci_low, row.ci_high], color=ink, lw=1.2)
            axes.plot(x, row.r, "o" if fill else "D", color=ink, mfc=ink if fill else "white")
            if np.isfinite(row.chance_95) and fill:
                axes.hlines(row.chance_95, row.level - 0.3, row.level + 0.3, color="black", lw=0.9)
    axes.axhline(0, color="0.6", lw=0.5, zorder=0)
    for marker, words in (("o", "trained"), ("D", "untrained")):
        hollow = "white" if marker == "D" else style.INK
        axes.plot([], [], marker, color=style.INK, mfc=hollow, label=words)
    axes.plot([], [], color="black", lw=0.9, label="chance (95 %); whiskers: 95 % interval")
    axes.set_xticks(range(len(axis.levels)), [text for text, _ in _stops(axis)])
    axes.set_xlim(-0.5, len(axis.levels) - 0.5)
    axes.set_xlabel(axis.label)
    axes.set_ylabel("mean r over parcels")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=3, borderaxespad=0)


def _draw_parcels(figure, axis, parcels, subject, level) -> None:
    axes = style.axes_mm(figure, 98, TOP_MM, 74, HEIGHT_MM, label="parcels")
    every = np.concatenate([r for (_, _, whose), r in parcels.items() if whose == subject])
    looks = {
        "corrected": {"color": "0.8"},
        "as_published": {"histtype": "step", "color": "black", "lw": 0.9},
    }
    if len(every):
        edges = np.linspace(every.min(), every.max() + 1e-9, N_BINS + 1)
        highest = 1
        for way, look in looks.items():
            r = parcels[way, level, subject]
            words = f"{way}, {len(r)} parcels" if len(r) else f"{way}: {style.NOT_COMPUTED}"
            axes.hist(r, edges, label=words, **look)
            highest = max(highest, np.histogram(r, edges)[0].max())
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 1.3 * highest)
        axes.legend(loc="upper right", ncols=2)
    axes.set_xlabel("r of a parcel")
    axes.set_ylabel("parcels")
    axes.set_title(f"parcels at {style.level_text(axis.levels[level])}", loc="left")
