"""Depth against readout: what each block of each model gives, and what a fixed choice would read.

The published figure of the layers read the last block, all others the middle one. Which block is
read and how deep the model is are two questions; here every block is scored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from cobe.core.config import Cell, Profile, axis_cells
from cobe.core.errors import CobeError
from cobe.report import style
from cobe.report.audit import drawing
from cobe.report.audit.pairs import caption_of, mean_rows, overall
from cobe.report.figures import get_axis
from cobe.report.rows import check_source, require, subjects_of
from cobe.report.style import PaperFigure

NAME = "fig_audit_readout"
BLOCK_COLUMNS = "cell trained n_layers hidden subject block r ci_low ci_high chosen_share".split()
READOUTS = {
    "middle": "middle block",
    "last": "last block",
    "nested": "nested choice",
}
LEFT_MM, TOTAL_MM = 17.0, 160.0
COLUMN_MM, MAP_TOP_MM, MAP_MM = 11.0, 75.0, 130.0
SCORES_MM = 40.0


@dataclass(frozen=True)
class Read:
    """What a readout gives for the models of one participant, from the shallowest.

    Attributes
    ----------
    subject, readout : str
        Whose, and ``"middle"``, ``"last"`` or ``"nested"``.
    r : list of float or None
        Mean r by depth; None: not computed.
    """

    subject: str
    readout: str
    r: list[float | None]

    @property
    def gain(self) -> float | None:
        """Deepest minus shallowest."""
        return None if None in (self.r[0], self.r[-1]) else self.r[-1] - self.r[0]


def fig_audit_readout(
    blocks: pd.DataFrame, scores: pd.DataFrame, profile: Profile, simulated: bool
) -> PaperFigure:
    """Every block's score for every model, what nesting chose, and what fixed choices would read.

    Parameters
    ----------
    blocks : pandas.DataFrame
        Block table of the sweep: cell, trained, n_layers, hidden, subject, block (from 0), r,
        ci_low, ci_high, chosen_share.
    scores : pandas.DataFrame
        Score table, for the nested choice.
    profile : Profile
        Whose axis ``n_layers`` and protocol are drawn.
    simulated : bool
        Said in the figure.

    Returns
    -------
    figure : PaperFigure
        (a) score by relative depth for the models of the axis of layers; (b) all models, mean over
        participants; (c) depth as each readout would report it.

    Raises
    ------
    CobeError
        A column is missing, a block is there twice or beyond its model's layers, or values are
        not computed ones.
    """
    _check(blocks)
    axis = get_axis(profile, "n_layers")
    rows, subjects = mean_rows(scores, profile), subjects_of(scores, profile)
    cells = axis_cells(profile, axis)
    models = _models(blocks, profile)
    bottom = MAP_TOP_MM + max(_map_height(models), SCORES_MM)
    with style.cobe_style():
        figure = style.new_figure(bottom + 11.0)
        drawing.heading(figure, simulated, "depth against readout")
        ticks = np.unique([(b + 1) / c.n_layers for c in cells for b in range(c.n_layers)])
        panels = drawing.subject_panels(
            figure, subjects, LEFT_MM, 22.0, TOTAL_MM, 36.0, axis.levels,
            "relative depth: (block + 1) / layers; the last block is at 1", "depth",
        )  # fmt: skip
        for subject, axes in panels.items():
            axes.set_xticks(ticks if len(ticks) <= 5 else np.linspace(0, 1, 5))
            axes.set_xticklabels([style.r_text(t, 2) for t in axes.get_xticks()])
            axes.set_xlim(0, 1.1)
            for i, cell in enumerate(cells):
                _draw_depth(axes, blocks, cell, subject, style.level_styles(len(cells))[i])
        _share_limits(list(panels.values()))
        drawing.legend(figure, _level_handles(axis), 8.0, ncols=9)
        drawing.legend(figure, _mark_handles(), 12.5, ncols=5)
        _draw_map(figure, blocks, models)
        reads = _reads(blocks, rows, cells, subjects)
        axes = style.axes_mm(figure, 132.0, MAP_TOP_MM, 45.0, SCORES_MM - 4.0, label="reads")
        _draw_reads(axes, reads, axis)
        for letter, x, y in (("a", 1, 17.0), ("b", 1, 66.0), ("c", 116, 66.0)):
            style.panel_letter(figure, x, y, letter)
    return figure


def caption_audit_readout(
    blocks: pd.DataFrame, scores: pd.DataFrame, profile: Profile, simulated: bool
) -> str:
    """The caption of `fig_audit_readout`, counted in its tables; arguments and errors as there."""
    _check(blocks)
    axis = get_axis(profile, "n_layers")
    rows, subjects = mean_rows(scores, profile), subjects_of(scores, profile)
    cells = axis_cells(profile, axis)
    reads = _reads(blocks, rows, cells, subjects)
    every = blocks.groupby("cell")["n_layers"].max().to_dict()
    every |= {c.name: c.n_layers for cell in cells for c in (cell, cell.untrained())}
    gaps = [
        f"blocks of {cell} in {subject}"
        for cell, n_layers in every.items()
        for subject in subjects
        if len(_of(blocks, cell, subject)) < n_layers
    ]
    gaps += [
        f"nested score of {axis.label} {level} in {read.subject}"
        for read in reads
        if read.readout == "nested"
        for level, r in zip(axis.levels, read.r, strict=True)
        if r is None
    ]
    same = [str(c.n_layers) for c in cells if c.n_layers // 2 == c.n_layers - 1]
    words = [
        "Is a deeper model better, or is another block read?",
        f"(a) Mean r over parcels of each block of the models of the axis of {axis.label}, scored "
        f"alone under the protocol {profile.protocol.name!r}: the residual stream after the block, "
        f"held-out {profile.protocol.holdout}s pooled, one panel for each of "
        f"n = {blocks['subject'].nunique()} participants; whiskers: 95 % interval by resampling "
        f"blocks of at least {profile.protocol.block_trs} volumes; without chance level, because "
        f"blocks are compared with each other. Ring: share of held-out {profile.protocol.holdout}s "
        "whose nested choice, made inside the training data, was this block. Triangle: the middle "
        "block (layers // 2, from 0); the last is at depth 1."
        + (f" With {' and '.join(same)} layers both are one block." if same else ""),
        f"(b) All {len(_models(blocks, profile))} models in the table, mean over participants; "
        "bold and underlined: the block that nesting chose most often.",
        "(c) Depth as each readout would report it: difference to the shallowest model, points "
        "participants, line their mean; without interval, because blocks have no score by "
        f"held-out {profile.protocol.holdout} here.",
        *(_read_words(readout, reads, axis) for readout in READOUTS),
        "The published runs read the MLP branch of a block, before it is added to the residual "
        "stream.",
    ]
    return caption_of(NAME, words, gaps, profile, simulated)


def _check(blocks) -> None:
    require(blocks, BLOCK_COLUMNS, "block table")
    if "source" in blocks.columns:
        check_source(blocks, "computed", "block table")
    if blocks.duplicated(["cell", "subject", "block"]).any():
        raise CobeError("block table: a block of a model and participant has two rows; keep one")
    if (blocks["block"] >= blocks["n_layers"]).any() or (blocks["block"] < 0).any():
        raise CobeError("block table: a block is beyond its model's layers; count blocks from 0")


def _of(blocks, cell: str, subject: str) -> pd.DataFrame:
    """Finite scores of one model and participant, by block."""
    rows = blocks[(blocks["cell"] == cell) & (blocks["subject"] == subject)]
    return rows[np.isfinite(rows["r"].astype(float))].sort_values("block")


def _models(blocks, profile: Profile) -> list[str]:
    """Names of all models: deepest last, untrained after trained."""
    table = blocks.drop_duplicates("cell").sort_values(
        ["trained", "n_layers", "hidden", "cell"], ascending=[False, True, True, True]
    )
    return table["cell"].tolist()


def _reads(blocks, rows, cells: list[Cell], subjects) -> list[Read]:
    """Every participant's r by depth, as each readout would give it."""
    reads = []
    for subject in subjects:
        found = {readout: [] for readout in READOUTS}
        for cell in cells:
            r = _of(blocks, cell.name, subject).set_index("block")["r"]
            found["middle"].append(_number(r.get(cell.n_layers // 2)))
            found["last"].append(_number(r.get(cell.n_layers - 1)))
            row = overall(rows, cell.name, "gpt", subject)
            found["nested"].append(None if row is None else float(row["r"]))
        reads += [Read(subject, readout, r) for readout, r in found.items()]
    return reads


def _number(value) -> float | None:
    return None if value is None else float(value)


def _read_words(readout: str, reads: list[Read], axis) -> str:
    """Gain with depth under one readout: mean, and how many participants rise."""
    gains = [r.gain for r in reads if r.readout == readout and r.gain is not None]
    what = f"{READOUTS[readout].capitalize()}, {axis.levels[-1]} minus {axis.levels[0]} layers"
    if not gains:
        return f"{what}: not computed."
    rising = sum(g > 0 for g in gains)
    mean = style.signed_r(np.mean(gains))
    return f"{what}: {mean}, above 0 in {rising} of {len(gains)} participants."


def _draw_depth(axes, blocks, cell: Cell, subject: str, look) -> None:
    """Blocks of one model, trained filled and untrained open, with what nesting chose."""
    for name, hollow in ((cell.untrained().name, True), (cell.name, False)):
        rows = _of(blocks, name, subject)
        kind = "untrained" if hollow else "trained"
        label, x = f"{kind} {cell.n_layers}", (rows["block"].to_numpy() + 1) / cell.n_layers
        if len(rows) < cell.n_layers:
            drawing.mark_gap(axes, 1.05, look, label)
        line = look | {"linestyle": (0, (1.5, 1)) if hollow else "-", "markersize": 3}
        face = "white" if hollow else look["color"]
        axes.plot(
            x, rows["r"], label=label, markerfacecolor=face, markeredgewidth=0.8, **line, zorder=3
        )
        axes.vlines(x, rows["ci_low"], rows["ci_high"], color=look["color"], linewidth=0.6)
        share = rows["chosen_share"].to_numpy(float)
        # one block alone is no choice
        chosen = (np.nan_to_num(share) > 0) & (cell.n_layers > 1)
        axes.scatter(
            x[chosen],
            rows["r"].to_numpy(float)[chosen],
            s=25 + 75 * share[chosen],
            facecolor="none",
            edgecolor=style.INK,
            linewidth=0.6,
            label=f"chosen {label}",
            zorder=4,
        )
        middle = rows[rows["block"] == cell.n_layers // 2]
        if not hollow and len(middle):
            axes.annotate(
                "▼",
                ((cell.n_layers // 2 + 1) / cell.n_layers, middle["ci_high"].iloc[0]),
                xytext=(0, 1),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=6,
                color=look["color"],
            )


def _share_limits(panels) -> None:
    low = min(axes.get_ylim()[0] for axes in panels)
    high = max(axes.get_ylim()[1] for axes in panels)
    for axes in panels:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.06 * (high - low))


def _map_height(models) -> float:
    """Height of the heat map in millimetres: rows of 2.6 to 4.2."""
    rows = max(len(models), 1)
    return rows * min(4.2, max(2.6, MAP_MM / rows))


def _draw_map(figure, blocks, models) -> None:
    """Heat map: models by blocks, mean over participants, with its scale in words."""
    trained = blocks.drop_duplicates("cell").set_index("cell")["trained"]
    scored = blocks.groupby(["cell", "block"])
    mean = scored[["r", "chosen_share"]].mean()
    # a mean over fewer participants is of another population
    mean.loc[scored["r"].count() < blocks["subject"].nunique(), "r"] = np.nan
    n_layers = blocks.groupby("cell")["n_layers"].max()
    n_columns = int(n_layers.max()) if len(blocks) else 1
    width = min(COLUMN_MM * n_columns, 62.0)
    values = mean["r"].unstack().reindex(index=models, columns=range(n_columns)).to_numpy(float)
    axes = style.axes_mm(figure, 46.0, MAP_TOP_MM, width, _map_height(models), label="all models")
    if len(models):
        axes.imshow(values, aspect="auto", cmap="viridis")
    finite = values[np.isfinite(values)]
    middle = (finite.min() + finite.max()) / 2 if len(finite) else 0.0
    small = width / n_columns < 8.0
    for i, cell in enumerate(models):
        share = mean["chosen_share"].loc[cell]
        most = share.idxmax() if share.notna().any() and len(share) > 1 else None
        for j in np.flatnonzero(np.isnan(values[i]) & (np.arange(n_columns) < n_layers[cell])):
            axes.text(j, i, "×", color="0.3", fontsize=6, ha="center", va="center")
        for j in np.flatnonzero(np.isfinite(values[i])):
            ink = "white" if values[i, j] < middle else "black"
            words = f"{values[i, j]:.{2 if small else 3}f}".replace("0.", ".", 1)
            text = axes.text(j, i, words, color=ink, fontsize=6, ha="center", va="center")
            if j == most:
                text.set_fontweight("bold")
                axes.plot([j - 0.3, j + 0.3], [i + 0.36] * 2, color=ink, linewidth=0.8)
    axes.set_yticks(range(len(models)), [_name(m, trained[m]) for m in models], fontsize=6)
    axes.set_xticks(range(n_columns))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("block, from 0")
    axes.set_title("mean r of all models (mean over participants)", loc="left")


def _name(cell: str, trained: bool) -> str:
    """A model's name without what its kind does not need."""
    parts = cell.split("-")
    if not trained:
        return "-".join(["untrained", *parts[1:4]])
    frames = style.level_text(int(parts[0].removesuffix("f")))
    rest = "-".join([frames, *parts[1:]])
    return rest.replace("-stratified", "").replace("-fp32", "").removesuffix("-s0")


def _draw_reads(axes, reads: list[Read], axis) -> None:
    """Difference to the shallowest model by depth, one colour per readout."""
    looks = dict(zip(READOUTS, style.level_styles(3), strict=True))
    for i, readout in enumerate(READOUTS):
        look, some = looks[readout], [r for r in reads if r.readout == readout]
        x = np.arange(len(axis.levels)) + 0.16 * (i - 1)
        table = np.array(
            [[np.nan if v is None or r.r[0] is None else v - r.r[0] for v in r.r] for r in some]
        ).reshape(len(some), len(axis.levels))
        for row in table:
            axes.plot(x, row, linestyle="none", marker=look["marker"], markersize=2.2,
                      markerfacecolor="white", color=look["color"], markeredgewidth=0.6,
                      label=f"participant {readout}")  # fmt: skip
        whole = np.isfinite(table).all(axis=0) if len(some) else np.zeros(len(x), bool)
        means = np.where(whole, np.nan_to_num(table).mean(axis=0), np.nan) if len(some) else x * 0
        axes.plot(x, means, label=readout, **look)
        for place in x[~whole]:
            drawing.mark_gap(axes, place, look, readout)
    axes.axhline(0, color=style.INK, linewidth=0.5, zorder=0)
    drawing.level_ticks(axes, axis.levels)
    axes.set_xlabel(axis.label)
    axes.set_ylabel(f"mean r minus that of\nlayers = {axis.levels[0]}")
    handles = [drawing.handle(look, name) for name, look in looks.items()]
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, borderpad=0,
        columnspacing=0.7, handlelength=1.4, handletextpad=0.3,
    )  # fmt: skip


def _level_handles(axis) -> list[Line2D]:
    looks = style.level_styles(len(axis.levels))
    return [
        Line2D([], [], linestyle="none", label=axis.label),
        *(
            drawing.handle(look | {"linestyle": "-"}, str(level))
            for look, level in zip(looks, axis.levels, strict=True)
        ),
    ]


def _mark_handles() -> list[Line2D]:
    ink = {"color": style.INK, "linestyle": "none"}
    return [
        Line2D([], [], marker="o", label="trained", **ink),
        Line2D([], [], marker="o", markerfacecolor="white", label="untrained", **ink),
        Line2D([], [], marker="o", markerfacecolor="none", markersize=7, markeredgewidth=0.6,
               label="nested choice (size: share)", **ink),
        Line2D([], [], marker="v", label="middle block", **ink),
        drawing.gap_handle(),
    ]  # fmt: skip
