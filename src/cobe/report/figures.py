"""One function per figure: tables in, a matplotlib Figure out.

Nothing is fitted, averaged or written here.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cobe.core.config import Axis, Profile
from cobe.core.errors import CobeError
from cobe.report import panels, style
from cobe.report.frames import fig6_predicted_frames, frame_strip, predicted_frames
from cobe.report.maps import draw_maps, maps_height, views_words
from cobe.report.rows import mean_row, of_protocol, subjects_of
from cobe.report.small import alpha_figure, parcel_series_figure

__all__ = [
    "alpha_figure",
    "axis_figure",
    "fig1_data_size",
    "fig2_hidden_dim",
    "fig3_n_layers",
    "fig4_n_heads",
    "fig5_precision",
    "fig6_predicted_frames",
    "fig_controls",
    "frame_strip",
    "get_axis",
    "maps_figure",
    "parcel_series_figure",
    "predicted_frames",
]
CONTROLS = ("gpt", "untrained", "vq", "pixel_pca", "lowlevel", "buttons")
CONTROL_WORDS = {
    "gpt": "GPT, trained",
    "untrained": "GPT, untrained",
    "vq": "VQ-VAE codes",
    "pixel_pca": "pixel PCA",
    "lowlevel": "low-level video",
    "buttons": "buttons",
}
LEFT_MM, LEFT_WIDTH_MM = 17.0, 89.0
RIGHT_MM, RIGHT_WIDTH_MM = 123.0, 46.5
LOSS_TOP_MM, SCORE_TOP_MM, PANEL_MM = 13.0, 65.5, 36.0
MAPS_TOP_MM = 113.0


def get_axis(profile: Profile, name: str) -> Axis:
    """The axis of that name.

    Raises
    ------
    CobeError
        The profile does not vary it.
    """
    for axis in profile.axes:
        if axis.name == name:
            return axis
    known = ", ".join(a.name for a in profile.axes)
    raise CobeError(f"profile {profile.name}: no axis {name!r}; choose one of {known}")


def axis_figure(
    profile: Profile,
    axis: Axis,
    losses: pd.DataFrame,
    scores: pd.DataFrame,
    atlas_img,
    simulated: bool,
    maps: bool = True,
) -> Figure:
    """One axis of the sweep: loss, scores, the published values of both, and cortical maps.

    Parameters
    ----------
    profile : Profile
        Whose cells and protocol are drawn.
    axis : Axis
        What varies.
    losses : pandas.DataFrame
        Columns cell, step, val_loss (nats/token).
    scores : pandas.DataFrame
        `cobe.encoding.evaluate`'s columns, with cell, features, protocol, subject, and optionally
        label (the atlas label of a target; else target + 1).
    atlas_img : nibabel image
        Integer labels of the parcels in MNI space; not used without maps.
    simulated : bool
        Said in the figure.
    maps : bool
        False: without the maps, for a page that has no room for them (see `maps_figure`).

    Returns
    -------
    figure : matplotlib.figure.Figure
        180 mm wide. What is not in a table is a gap that says "not computed".

    Raises
    ------
    CobeError
        A table lacks a column or answers twice, or a scored parcel is not in the atlas.
    """
    scores = of_protocol(scores, profile)
    subjects = subjects_of(scores, profile)
    n_levels = len(axis.levels)
    height = MAPS_TOP_MM + maps_height(len(subjects), n_levels) if maps else MAPS_TOP_MM - 4
    with style.cobe_style():
        figure = style.new_figure(height)
        _headings(figure, axis, simulated)
        loss = style.axes_mm(figure, LEFT_MM, LOSS_TOP_MM, LEFT_WIDTH_MM, PANEL_MM, label="losses")
        handles = panels.draw_losses(loss, profile, axis, losses)
        _level_legend(figure, axis, handles)
        score = style.axes_mm(
            figure, LEFT_MM, SCORE_TOP_MM, LEFT_WIDTH_MM, PANEL_MM, label="scores"
        )
        panels.draw_scores(score, profile, axis, scores, subjects)
        _marks_legend(figure)
        right = style.axes_mm(
            figure, RIGHT_MM, LOSS_TOP_MM, RIGHT_WIDTH_MM, PANEL_MM, label="published losses"
        )
        panels.draw_published_losses(right, axis)
        right = style.axes_mm(
            figure, RIGHT_MM, SCORE_TOP_MM, RIGHT_WIDTH_MM, PANEL_MM, label="published scores"
        )
        handles = panels.draw_published_scores(right, axis)
        right.legend(
            handles=handles,
            ncols=len(handles),
            loc="lower center",
            bbox_to_anchor=(0.5, 0.985),
            handlelength=0.9,
            columnspacing=0.8,
            borderpad=0,
        )
        for letter, x, y in (
            ("a", 1, LOSS_TOP_MM - 4),
            ("b", RIGHT_MM - 15, LOSS_TOP_MM - 4),
            ("c", 1, SCORE_TOP_MM - 5),
            ("d", RIGHT_MM - 15, SCORE_TOP_MM - 5),
        ):
            style.panel_letter(figure, x, y, letter)
        if maps:
            style.panel_letter(figure, 1, MAPS_TOP_MM - 5, "e")
            _map_words(figure, axis, MAPS_TOP_MM - 4.4, simulated)
            draw_maps(figure, MAPS_TOP_MM, profile, axis, scores, subjects, atlas_img)
    return figure


def maps_figure(profile, axis, scores, atlas_img, simulated: bool) -> Figure:
    """The maps of one axis as a figure of their own; arguments as in `axis_figure`."""
    scores = of_protocol(scores, profile)
    subjects = subjects_of(scores, profile)
    with style.cobe_style():
        figure = style.new_figure(7.0 + maps_height(len(subjects), len(axis.levels)))
        _map_words(figure, axis, 2.0, simulated)
        draw_maps(figure, 7.0, profile, axis, scores, subjects, atlas_img)
    return figure


def fig1_data_size(profile, losses, scores, atlas_img, simulated: bool) -> Figure:
    """Figure 1: how much video the model was trained on; arguments as in `axis_figure`."""
    axis = get_axis(profile, "data_size")
    return axis_figure(profile, axis, losses, scores, atlas_img, simulated)


def fig2_hidden_dim(profile, losses, scores, atlas_img, simulated: bool) -> Figure:
    """Figure 2: hidden size; arguments as in `axis_figure`."""
    axis = get_axis(profile, "hidden_dim")
    return axis_figure(profile, axis, losses, scores, atlas_img, simulated)


def fig3_n_layers(profile, losses, scores, atlas_img, simulated: bool) -> Figure:
    """Figure 3: number of layers; arguments as in `axis_figure`."""
    axis = get_axis(profile, "n_layers")
    return axis_figure(profile, axis, losses, scores, atlas_img, simulated)


def fig4_n_heads(profile, losses, scores, atlas_img, simulated: bool) -> Figure:
    """Figure 4: number of attention heads; arguments as in `axis_figure`."""
    axis = get_axis(profile, "n_heads")
    return axis_figure(profile, axis, losses, scores, atlas_img, simulated)


def fig5_precision(profile, losses, scores, atlas_img, simulated: bool) -> Figure:
    """Figure 5: precision of the arithmetic; arguments as in `axis_figure`."""
    axis = get_axis(profile, "precision")
    return axis_figure(profile, axis, losses, scores, atlas_img, simulated)


def fig_controls(profile: Profile, scores: pd.DataFrame, simulated: bool) -> Figure:
    """The base GPT beside every control, per subject; whichever feature set wins is marked.

    Parameters
    ----------
    profile : Profile
        Its base cell is "gpt", the untrained base cell is "untrained".
    scores : pandas.DataFrame
        As in `axis_figure`; the controls have features "vq", "pixel_pca", "lowlevel", "buttons".
    simulated : bool
        Said in the figure.

    Returns
    -------
    figure : matplotlib.figure.Figure
        One panel per subject, one row per feature set.

    Raises
    ------
    CobeError
        A table lacks a column or answers twice.
    """
    scores = of_protocol(scores, profile)
    subjects = subjects_of(scores, profile)
    rows = {(s, f): _control_row(profile, scores, f, s) for s in subjects for f in CONTROLS}
    ends = [v for r in rows.values() if r is not None for v in (r["r"], r["ci_high"], r["ci_low"])]
    ends = [v for v in ends if np.isfinite(v)]
    low, high = min([0.0, *ends]), max([0.05, *ends])
    with style.cobe_style():
        figure = style.new_figure(49.0)
        left, gap = 25.0, 4.0
        width = (style.WIDTH_MM - left - 3.0 - gap * (len(subjects) - 1)) / max(len(subjects), 1)
        for s, subject in enumerate(subjects):
            axes = style.axes_mm(figure, left + s * (width + gap), 11, width, 29, label=subject)
            axes.set_title(subject)
            axes.set_xlim(low - 0.04 * (high - low), high + 0.2 * (high - low))
            _draw_controls(axes, [rows[subject, f] for f in CONTROLS])
            axes.set_yticks(
                range(len(CONTROLS)),
                [CONTROL_WORDS[f] for f in CONTROLS] if s == 0 else [],
                fontsize=7,
            )
        middle = left + (style.WIDTH_MM - left - 3.0) / 2
        style.text_mm(figure, middle, 47.5, "mean r over parcels (held-out data)", ha="center")
        style.text_mm(
            figure, 2, 2, f"computed here, {style.data_words(simulated)}", va="top", weight="bold"
        )
        figure.legend(
            handles=_marks(("filled", "interval", "chance", "best"), "|"),
            loc="upper right",
            bbox_to_anchor=(0.99, 0.995),
            ncols=4,
            borderpad=0,
        )
    return figure


def _control_row(profile: Profile, scores, features: str, subject: str):
    """The mean row of one feature set: the base cell's where the model is a GPT."""
    if features == "gpt":
        return mean_row(scores, profile.base.name, features, subject)
    if features == "untrained":
        return mean_row(scores, profile.base.untrained().name, features, subject)
    cells = scores.loc[scores["features"] == features, "cell"].unique()
    if len(cells) > 1:
        raise CobeError(f"score table: {features} has cells {', '.join(cells)}; keep one of them")
    return mean_row(scores, cells[0], features, subject) if len(cells) else None


def _draw_controls(axes, rows) -> None:
    """One subject: a point, an interval and a chance line per feature set."""
    known = [i for i, r in enumerate(rows) if r is not None and np.isfinite(r["r"])]
    best = max(known, key=lambda i: rows[i]["r"], default=None)
    for i, row in enumerate(rows):
        if i not in known:
            axes.text(0.02, i, style.NOT_COMPUTED, fontsize=6, color="0.35", va="center")
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


def _headings(figure: Figure, axis: Axis, simulated: bool) -> None:
    """What the two columns are: computed here, and published."""
    style.text_mm(
        figure,
        LEFT_MM,
        1.5,
        f"computed here, {style.data_words(simulated)}",
        va="top",
        weight="bold",
    )
    style.text_mm(figure, RIGHT_MM - 10, 1.5, "published, real data", va="top", weight="bold")
    style.text_mm(
        figure,
        style.WIDTH_MM - 1.5,
        SCORE_TOP_MM - 4.6,
        "published: maximum over 1,095 parcels, real data",
        ha="right",
        va="bottom",
    )


def _level_legend(figure: Figure, axis: Axis, handles) -> None:
    """The levels, in one line above panel a."""
    total_h = figure.get_size_inches()[1] * style.MM_PER_INCH
    figure.legend(
        handles=[Line2D([], [], linestyle="none", label=axis.label), *handles],
        loc="upper left",
        bbox_to_anchor=((LEFT_MM - 7) / style.WIDTH_MM, 1 - 5.2 / total_h),
        ncols=len(handles) + 1,
        borderpad=0,
        columnspacing=1.0,
    )


def _marks(wanted, chance_marker="_") -> list[Line2D]:
    """Legend entries of the marks on a bar or a point."""
    grey = {"color": style.INK, "linestyle": "none"}
    every = {
        "filled": Line2D([], [], marker="o", markersize=4, label="mean r", **grey),
        "interval": Line2D([], [], color=style.INK, linewidth=1, label="95 % interval"),
        "chance": Line2D(
            [], [], color="black", marker=chance_marker, linestyle="none", label="chance (95 %)"
        ),
        "untrained": Line2D(
            [], [], marker="D", markerfacecolor="white", label="untrained, same shape", **grey
        ),
        "best": Line2D([], [], marker="$★$", markersize=4, label="highest", **grey),
    }
    return [every[name] for name in wanted]


def _marks_legend(figure: Figure) -> None:
    """What the marks on the bars are, above panel c."""
    total_h = figure.get_size_inches()[1] * style.MM_PER_INCH
    figure.legend(
        handles=_marks(("interval", "chance", "untrained")),
        loc="lower left",
        bbox_to_anchor=(LEFT_MM / style.WIDTH_MM, 1 - (SCORE_TOP_MM - 0.5) / total_h),
        ncols=3,
        borderpad=0,
    )


def _map_words(figure: Figure, axis: Axis, y: float, simulated: bool) -> None:
    """What the maps are."""
    style.text_mm(
        figure,
        LEFT_MM,
        y,
        f"r per parcel by {axis.label}, {views_words(len(axis.levels))}, "
        f"{style.data_words(simulated)}; grey: q > .05; one scale per row",
        va="top",
    )
