"""One function per figure: tables in, a matplotlib Figure out.

Nothing is fitted, averaged or written here.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cobe.core.config import Axis, Profile, Protocol
from cobe.core.errors import CobeError
from cobe.report import panels, style
from cobe.report.controls import fig_controls
from cobe.report.frames import fig6_predicted_frames, frame_strip, predicted_frames
from cobe.report.maps import draw_maps, maps_height, views_words
from cobe.report.rows import count_range, loss_rows, of_protocol, subjects_of
from cobe.report.small import alpha_figure, parcel_series_figure
from cobe.report.ways import (
    AS_PUBLISHED,
    CORRECTED,
    PUBLISHED,
    fill_command,
    gaps_of,
    of_way,
    protocol_of,
    three_ways,
    way_cells,
)

__all__ = [
    "alpha_figure",
    "axis_figure",
    "fig6_predicted_frames",
    "fig_controls",
    "frame_strip",
    "get_axis",
    "maps_figure",
    "parcel_series_figure",
    "predicted_frames",
]
LOSS_LEFT_MM, LOSS_WIDTH_MM = 15.0, 92.0
THEIR_LOSS_LEFT_MM, THEIR_LOSS_WIDTH_MM = 124.0, 44.0
LOSS_TOP_MM, LOSS_HEIGHT_MM = 15.0, 32.0
BARS_LEFT_MM, BARS_WIDTH_MM, BARS_PITCH_MM = 12.5, 45.5, 59.5
BARS_TOP_MM, BARS_HEIGHT_MM = 71.0, 33.0
GAP_WORDS_MM = 117.5
MAPS_TOP_MM = 127.0
STATISTICS = {"max": "maximum of r", "mean": "mean of r"}
READOUTS = {"middle": "middle block", "last": "last block", "nested": "chosen block"}
SPLITS = {"session": "held-out sessions", "run": "held-out runs"}


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
    """One axis of the sweep, three ways in one look: published, as_published here, corrected here.

    Parameters
    ----------
    profile : Profile
        Whose cells and protocols are drawn.
    axis : Axis
        What varies.
    losses : pandas.DataFrame
        Columns cell, step, val_loss (nats/token).
    scores : pandas.DataFrame
        `cobe.encoding.evaluate`'s columns, with cell, features, protocol, subject, and optionally
        label (the atlas label of a target; else the target is its place among the atlas's labels).
        Rows of other protocols are left out.
    atlas_img : nibabel image
        Integer labels of the parcels in MNI space; not used without maps.
    simulated : bool
        Said in the figure.
    maps : bool
        False: without the maps, for a page that has no room for them (see `maps_figure`).

    Returns
    -------
    figure : matplotlib.figure.Figure
        180 mm wide: a, b loss; c, d, e the three ways, each on axes of its own; f maps of
        ``corrected``. What is not in a table is a gap that says "not computed", and the figure
        names the command that fills it.

    Raises
    ------
    CobeError
        A table lacks a column, holds published values or answers twice, or a scored parcel is not
        in the atlas.
    """
    table = three_ways(profile, axis, scores)
    corrected = of_protocol(scores, profile.protocol)
    subjects = subjects_of(scores, profile)
    n_levels = len(axis.levels)
    height = MAPS_TOP_MM + maps_height(len(subjects), n_levels) if maps else MAPS_TOP_MM - 6
    with style.cobe_style():
        figure = style.new_figure(height)
        _draw_losses(figure, profile, axis, losses, simulated)
        _draw_ways(figure, profile, axis, table, simulated)
        if _has_gaps(profile, axis, table, losses):
            words = f"Gaps are filled by {fill_command(profile, axis)}"
            style.text_mm(figure, 5, GAP_WORDS_MM, words, va="top", fontsize=6)
        if maps:
            style.panel_letter(figure, 1, MAPS_TOP_MM - 5, "f")
            _map_words(figure, axis, MAPS_TOP_MM - 4.4, simulated)
            draw_maps(figure, MAPS_TOP_MM, profile, axis, corrected, subjects, atlas_img)
    return figure


def maps_figure(profile, axis, scores, atlas_img, simulated: bool) -> Figure:
    """The maps of one axis as a figure of their own; arguments as in `axis_figure`."""
    corrected = of_protocol(scores, profile.protocol)
    subjects = subjects_of(scores, profile)
    with style.cobe_style():
        figure = style.new_figure(7.0 + maps_height(len(subjects), len(axis.levels)))
        _map_words(figure, axis, 2.0, simulated)
        draw_maps(figure, 7.0, profile, axis, corrected, subjects, atlas_img)
    return figure


def _draw_losses(figure: Figure, profile: Profile, axis: Axis, losses, simulated: bool) -> None:
    """Panels a and b, with what they are and the levels above them."""
    ours = style.axes_mm(
        figure, LOSS_LEFT_MM, LOSS_TOP_MM, LOSS_WIDTH_MM, LOSS_HEIGHT_MM, label="losses"
    )
    levels, kinds = panels.draw_losses(ours, profile, axis, losses)
    _legend(
        figure,
        LOSS_LEFT_MM - 7,
        5.2,
        [Line2D([], [], linestyle="none", label=axis.label), *levels],
        ncols=len(levels) + 1,
    )
    if kinds:
        _legend(figure, LOSS_LEFT_MM + 1, 8.6, kinds, ncols=len(kinds))
    theirs = style.axes_mm(
        figure,
        THEIR_LOSS_LEFT_MM,
        LOSS_TOP_MM,
        THEIR_LOSS_WIDTH_MM,
        LOSS_HEIGHT_MM,
        label="published losses",
    )
    panels.draw_published_losses(theirs, axis)
    for x, words in (
        (LOSS_LEFT_MM, f"computed here, {style.data_words(simulated)}"),
        (THEIR_LOSS_LEFT_MM - 9, "published, real data"),
    ):
        style.text_mm(figure, x, 1.5, words, va="top", weight="bold")
    style.panel_letter(figure, 1, LOSS_TOP_MM - 5, "a")
    style.panel_letter(figure, THEIR_LOSS_LEFT_MM - 16, LOSS_TOP_MM - 5, "b")


def _draw_ways(figure: Figure, profile: Profile, axis: Axis, table, simulated: bool) -> None:
    """Panels c, d and e: the three ways side by side, each with its own words and legend."""
    colours = [look["color"] for look in style.level_styles(len(axis.levels))]
    ours = dict(zip(map(str, axis.levels), colours, strict=True))
    theirs = panels.published_looks(axis.name)
    marks = _marks(profile)
    every = {
        PUBLISHED: ("c", "published", theirs, "published scores"),
        AS_PUBLISHED: ("d", "here, as_published", ours, "as_published scores"),
        CORRECTED: ("e", "here, corrected", ours, "scores"),
    }
    for i, (way, (letter, title, looks, label)) in enumerate(every.items()):
        begin = 1 + i * BARS_PITCH_MM
        left = BARS_LEFT_MM + i * BARS_PITCH_MM
        axes = style.axes_mm(figure, left, BARS_TOP_MM, BARS_WIDTH_MM, BARS_HEIGHT_MM, label=label)
        panels.draw_bars(axes, table, way, looks, fill_command(profile, axis))
        style.panel_letter(figure, begin, BARS_TOP_MM - 12, letter)
        style.text_mm(figure, begin + 4, BARS_TOP_MM - 11.7, title, va="top", weight="bold")
        words = _way_words(profile, axis, table, way, simulated)
        style.text_mm(
            figure, begin + 4, BARS_TOP_MM - 8.3, words, va="top", fontsize=6, linespacing=1.25
        )
        handles = marks[way]
        if way == PUBLISHED:
            crosses = panels.mark_as_drawn(axes, axis, table)
            levels = panels.level_patches(looks)
            _legend(
                figure,
                left - 1,
                BARS_TOP_MM + BARS_HEIGHT_MM + 4,
                levels,
                ncols=len(levels),
                handlelength=0.9,
                columnspacing=0.9,
            )
            axes.set_ylim(bottom=0)
            handles = [*crosses, *handles]
        else:
            levels = []
        down = 3.2 if levels else 0.0
        _legend(figure, left - 1, BARS_TOP_MM + BARS_HEIGHT_MM + 4 + down, handles, ncols=1)


def _way_words(profile: Profile, axis: Axis, table, way: str, simulated: bool) -> str:
    """Statistic, data, n and split of a panel, in two short lines."""
    rows = of_way(table, way)
    found = rows[(rows["state"] == "") & (rows["features"] == "gpt")]
    (statistic,) = rows["statistic"].unique() if len(rows) else ("mean",)
    if way == PUBLISHED:
        data, split = "real data", "split not stated"
        readout = protocol_of(profile, axis, AS_PUBLISHED).readout
    else:
        data = "simulated" if simulated else "real data"
        split = split_words(protocol_of(profile, axis, way))
        readout = protocol_of(profile, axis, way).readout
    n_parcels = f"{count_range(found['n_parcels'].dropna())} " if len(found) else ""
    n = f", n = {found['subject'].nunique()}" if len(found) else ""
    return (
        f"{STATISTICS[statistic]} over {n_parcels}parcels, {READOUTS[readout]}\n{data}{n}; {split}"
    )


def split_words(protocol: Protocol) -> str:
    """What is held out, in few words."""
    if protocol.holdout == "volumes":
        return f"random {100 * protocol.test_fraction:g} % of volumes"
    return SPLITS[protocol.holdout]


def _marks(profile: Profile) -> dict[str, list[Line2D]]:
    """Legend entries of the marks on the bars of each way."""
    grey = {"color": style.INK, "linestyle": "none"}

    def words(text):
        return Line2D([], [], linestyle="none", label=text)

    def chance(statistic):
        return Line2D(
            *([], []),
            color="black",
            marker="_",
            markersize=7,
            linestyle="none",
            label=f"chance: 95 % of permuted {statistic}",
        )

    untrained = Line2D(
        [], [], marker="D", markerfacecolor="white", label="untrained, same shape", **grey
    )
    interval = Line2D(
        *([], []), marker="|", markersize=7, markeredgewidth=0.8, label="95 % interval", **grey
    )
    statistics = {"max": "maxima", "mean": "means"}
    ours = {
        AS_PUBLISHED: profile.published.summary,
        CORRECTED: profile.protocol.summary,
    }
    marks = {PUBLISHED: [words("no interval, no chance level published")]}
    for way, statistic in ours.items():
        first = interval if statistic == "mean" else words("a maximum has no interval")
        marks[way] = [first, chance(statistics[statistic]), untrained]
    return marks


def _legend(figure: Figure, x_mm: float, y_mm: float, handles, **options) -> None:
    """A legend with its top left corner at a place of the page."""
    total_h = figure.get_size_inches()[1] * style.MM_PER_INCH
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(x_mm / style.WIDTH_MM, 1 - y_mm / total_h),
        borderpad=0,
        borderaxespad=0,
        **{"columnspacing": 1.0, "labelspacing": 0.35} | options,
    )


def _has_gaps(profile: Profile, axis: Axis, table: pd.DataFrame, losses: pd.DataFrame) -> bool:
    cells = [cell for way in (AS_PUBLISHED, CORRECTED) for cell in way_cells(profile, axis, way)]
    return len(gaps_of(table)) > 0 or any(loss_rows(losses, cell) is None for cell in cells)


def _map_words(figure: Figure, axis: Axis, y: float, simulated: bool) -> None:
    """What the maps are."""
    style.text_mm(
        figure,
        5.5,
        y,
        f"r per parcel by {axis.label}, corrected; {views_words(len(axis.levels))}; "
        f"{'simulated' if simulated else 'real data'}; grey: q > .05; one scale for all maps",
        va="top",
    )
