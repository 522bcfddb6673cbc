"""Which block of a model predicts which parcel, for one model and participant at a time."""

from __future__ import annotations

import re
from html import escape

import numpy as np
import pandas as pd

from cobe.core.errors import CobeError
from cobe.explore import live as parts
from cobe.report import style
from cobe.report.maps import map_colours
from cobe.report.rows import require

COLUMNS = ("cell", "trained", "block", "subject", "target", "r")
TRAINED, UNTRAINED, DIFFERENCE = "trained", "untrained", "trained minus untrained"
TOP_MM, HEIGHT_MM = 12.0, 40.0


def block_parcel_explorer(table: pd.DataFrame, simulated: bool, live: bool | None = None):
    """r of every block in every parcel, parcels sorted by their mean over blocks.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns cell (name of a model), trained (bool), block (from shallow to deep: numbers, or
        names in that order), subject, target (parcel from 0), r (each block scored on its own).
        An untrained model belongs to the trained ones of the same shape by its name
        (`cobe.core.config.Cell.untrained`), or has the same name.
    simulated : bool
        Whether the data are; said in the figure.
    live : bool or None
        Whether to make widgets; None: as `cobe.explore.live.is_live` says.

    Returns
    -------
    shown : ipywidgets.VBox or PaperFigure
        Widgets: choices ``model``, ``participant`` and ``shown`` (trained, untrained, the
        difference), slider ``parcel`` in sorted order, words with that parcel's values, and the
        figure. Else the figure of the deepest model in the first participant.

    Raises
    ------
    CobeError
        A column is missing, there are no rows, a value is there twice, a block was not scored in a
        parcel of a participant, or no model is trained.
    """
    maps = _maps(table)
    widgets = parts.widgets_of(live)
    # the deepest model has most to show
    cell, subject = max(maps, key=lambda key: len(maps[key][TRAINED]))
    first = maps[cell, subject]
    if widgets is None:
        return block_figure(first, TRAINED, 0, simulated, _title(cell, subject))
    models = list(dict.fromkeys(cell for cell, _ in maps))
    subjects = list(dict.fromkeys(subject for _, subject in maps))
    model = parts.chooser(widgets, "model", models, cell)
    person = parts.chooser(widgets, "participant", subjects, subject)
    kind = parts.chooser(widgets, "shown", first)
    parcel = parts.slider(widgets, "parcel, by rank", 1, first[TRAINED].shape[1], 1)

    def fit(_=None):
        here = maps.get((model.value, person.value))
        if here is not None:
            kept = kind.value if kind.value in here else TRAINED
            kind.options, kind.value = list(here), kept
            parcel.max = here[TRAINED].shape[1]

    for each in (model, person):
        each.observe(fit, names="value")

    def draw(cell, subject, shown, rank):
        here = maps.get((cell, subject))
        if here is None:
            return escape(f"{cell} was not scored for {subject}"), []
        shown = shown if shown in here else TRAINED
        rank = min(rank, here[TRAINED].shape[1])
        figure = block_figure(here, shown, rank - 1, simulated, _title(cell, subject))
        said = f"{_title(cell, subject)}; {parcel_words(here, shown, rank - 1)}"
        return escape(said), [("", parts.figure_png(figure), said)]

    return parts.assemble(widgets, [model, person, kind, parcel], draw, simulated)


def parcel_words(maps: dict[str, pd.DataFrame], shown: str, place: int) -> str:
    """One parcel in words: its rank and its r in every block.

    Parameters
    ----------
    maps : dict of str to pandas.DataFrame
        As of `block_figure`.
    shown : str
        Which of them the parcels are sorted by.
    place : int
        In that order, from 0.
    """
    order = sorted_parcels(maps[shown])
    target = order[place]
    values = "; ".join(
        f"{kind}: " + ", ".join(f"{block} {style.r_text(r)}" for block, r in each[target].items())
        for kind, each in maps.items()
        if kind != DIFFERENCE
    )
    return f"parcel {target}, rank {place + 1} of {len(order)} ({shown}); r by block, {values}"


def sorted_parcels(values: pd.DataFrame) -> list[int]:
    """Parcels from the highest mean over blocks to the lowest; those without a value last."""
    return list(values.mean(axis=0).sort_values(ascending=False, kind="stable").index)


def block_figure(
    maps: dict[str, pd.DataFrame], shown: str, place: int, simulated: bool, title: str
):
    """Blocks against parcels as a heat map, and the profile of one parcel over the blocks.

    Parameters
    ----------
    maps : dict of str to pandas.DataFrame
        ``"trained"`` and, where there is a twin, ``"untrained"`` and ``"trained minus untrained"``:
        r, one row per block, one column per parcel.
    shown : str
        Which of them is the heat map.
    place : int
        Parcel of the profile: its place in sorted order, from 0.
    simulated : bool
        Said in the figure.
    title : str
        Above it.

    Returns
    -------
    figure : PaperFigure
    """
    values = maps[shown]
    order = sorted_parcels(values)
    array = values[order].to_numpy(float)
    reach = float(np.nanmax(np.abs(array), initial=0.05))
    signed = shown == DIFFERENCE
    with style.cobe_style():
        figure = style.new_figure(TOP_MM + HEIGHT_MM + 14)
        style.text_mm(figure, 2, 1.5, title, va="top", weight="bold")
        axes = style.axes_mm(figure, 15, TOP_MM, 88, HEIGHT_MM, label="blocks by parcels")
        image = axes.imshow(
            array,
            aspect="auto",
            interpolation="none",
            cmap="PuOr_r" if signed else map_colours(),
            vmin=-reach if signed else 0,
            vmax=reach,
            extent=(0.5, len(order) + 0.5, len(values) - 0.5, -0.5),
        )
        axes.set_yticks(range(len(values)), [str(block) for block in values.index])
        axes.set_ylabel("block")
        axes.set_xlabel(f"parcel, by mean r over blocks, {shown}")
        axes.plot([place + 1] * 2, [-0.5, len(values) - 0.5], color="#56B4E9", lw=1.4)
        axes.set_title(f"{shown}, {style.data_words(simulated)}", loc="left")
        bar = figure.colorbar(
            image,
            cax=style.axes_mm(figure, 105, TOP_MM, 2, HEIGHT_MM, label="scale"),
            extend="neither" if signed or np.nanmin(array) >= 0 else "min",
        )
        bar.outline.set_linewidth(0.4)
        bar.ax.set_title("r" if not signed else "difference of r", loc="left", fontsize=6)
        _draw_profile(figure, maps, order[place], place)
    return figure


def _draw_profile(figure, maps, target, place) -> None:
    axes = style.axes_mm(figure, 128, TOP_MM, 48, HEIGHT_MM, label="profile")
    looks = dict(zip((TRAINED, UNTRAINED), style.level_styles(3)[::2], strict=True))
    for kind, look in looks.items():
        if kind in maps:
            values = maps[kind][target]
            axes.plot(range(len(values)), values, label=kind, **look)
    blocks = [str(block) for block in maps[TRAINED].index]
    axes.set_xticks(range(len(blocks)), blocks)
    axes.set_xlim(-0.3, len(blocks) - 0.7)
    # the same scale for every parcel
    everything = np.concatenate(
        [maps[kind].to_numpy(float).ravel() for kind in looks if kind in maps]
    )
    axes.set_ylim(
        np.nanmin(everything, initial=0) - 0.05, np.nanmax(everything, initial=0.1) + 0.05
    )
    axes.axhline(0, color="0.6", lw=0.6, zorder=0)
    axes.set_xlabel("block")
    axes.set_ylabel("r on held-out data")
    axes.set_title(f"parcel {target} (rank {place + 1})", loc="left")
    axes.legend()


def _title(cell: str, subject: str) -> str:
    return f"{subject}, {cell}"


def _maps(table) -> dict[tuple[str, str], dict[str, pd.DataFrame]]:
    """(trained cell, subject) to r by block and parcel, trained and not, and the difference."""
    require(table, COLUMNS, "block table")
    if not len(table):
        raise CobeError("block table: no rows; score the blocks first (notebook 09_explore)")
    if table.duplicated([c for c in COLUMNS if c != "r"]).any():
        raise CobeError("block table: a block of a parcel is there twice; keep one protocol")
    trained = table[table.trained.astype(bool)]
    if trained.empty:
        raise CobeError("block table: no trained model; hand over at least one")
    untrained = table[~table.trained.astype(bool)]
    twins = dict(list(untrained.groupby([untrained.cell.map(_shape), "subject"])))
    found = {}
    for (cell, subject), rows in trained.groupby(["cell", "subject"], sort=False):
        maps = {TRAINED: _wide(rows)}
        twin = twins.get((_shape(cell), subject))
        if twin is not None:
            maps[UNTRAINED] = _wide(twin)
            if not (
                maps[UNTRAINED].index.equals(maps[TRAINED].index)
                and maps[UNTRAINED].columns.equals(maps[TRAINED].columns)
            ):
                raise CobeError(
                    f"block table: {cell} and its untrained twin differ in blocks or parcels for "
                    f"{subject}; score both alike"
                )
            maps[DIFFERENCE] = maps[TRAINED] - maps[UNTRAINED]
        found[cell, subject] = maps
    return found


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    wide = rows.pivot(index="block", columns="target", values="r")
    wide = wide.reindex(rows.block.drop_duplicates()).sort_index(axis=1)
    if len(rows) != wide.size:
        raise CobeError(
            f"block table: {rows.cell.iloc[0]}, {rows.subject.iloc[0]}: a block was not scored in "
            "every parcel; hand over all blocks of the same parcels"
        )
    return wide


def _shape(cell: str) -> str:
    """What a trained model and its untrained twin have in common in their names."""
    found = re.search(r"-(h\d+-l\d+-a\d+[a-z]*)-.*-(s\d+)", cell)
    return "-".join(found.groups()) if found else cell
