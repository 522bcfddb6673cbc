"""The waterfall: what each part of a training recipe costs, with what it learns beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cobe.core.errors import CobeError
from cobe.report import style

PUBLISHED_COLOUR, OURS_COLOUR, ALTERNATIVE_COLOUR = "0.55", "#31688e", "#35b779"
ROW_MM = 6.0
HEAD_MM = 9.0
FOOT_MM = 11.0

TIMES_CAPTION = (
    "Time of a training step under each recipe, measured {date}. `step_s` is the median over turns "
    "taken in one process, `step_s_low` and `step_s_high` the fastest and slowest; `flop` is what "
    "the model needs for a step, `gemm_flop_per_s` the rate of a large matrix product measured in "
    "the same process, `mfu` their quotient over the step's time. Recipes that the device cannot "
    "run are marked in `note`."
)
COST_CAPTION = (
    "What training each cell of the paper's grids would take at the rate measured {date} on the "
    "device, batch and depth named in `assumption`; arithmetic counted, rate interpolated between "
    "the measured widths. Without the VQ-VAE, validation and start-up. `outside`: the width lies "
    "outside the measured ones, whose nearest rate is taken."
)


def fig_throughput(
    times: pd.DataFrame, learned: pd.DataFrame, simulated: bool
) -> style.PaperFigure:
    """Time of a training step under each recipe, and what a short training under it reached.

    Parameters
    ----------
    times : pandas.DataFrame
        Columns of `cobe.video.throughput.throughput`, one shape and device.
    learned : pandas.DataFrame
        Columns change, val_loss (nats per token), r, ci_low, ci_high, chance_95.
    simulated : bool
        Whether the brain data are.

    Returns
    -------
    figure : PaperFigure
        Rows are recipes; panels time of a step, validation loss, brain score.

    Raises
    ------
    CobeError
        Times of several shapes or devices, or a recipe that was learned under but not timed.
    """
    _check(times, learned)
    rows = times.merge(learned, on="change", how="left", validate="1:1")
    height = len(rows) * ROW_MM
    with style.cobe_style():
        figure = style.new_figure(HEAD_MM + height + FOOT_MM)
        places = [(47.0, 62.0), (117.0, 26.0), (151.0, 26.0)]
        panels = [style.axes_mm(figure, x, HEAD_MM, w, height) for x, w in places]
        for letter, (x, _) in zip("abc", places, strict=True):
            style.panel_letter(figure, x - (46 if letter == "a" else 4), 1.5, letter)
        _draw_times(panels[0], rows)
        _draw_loss(panels[1], rows)
        _draw_score(panels[2], rows, simulated)
        for panel in panels:
            panel.set_ylim(len(rows) - 0.5, -0.5)
            panel.tick_params(axis="y", length=0)
            if panel is not panels[0]:
                panel.set_yticks([])
    return figure


def _check(times, learned):
    for column in ("hidden", "n_layers", "n_heads", "batch_size", "device", "threads"):
        if times[column].nunique() > 1:
            raise CobeError(f"times: several values of {column}; draw one shape on one device")
    alien = sorted(set(learned.change) - set(times.change))
    if alien:
        raise CobeError(f"learned: {', '.join(alien)} not among the timed recipes; time them too")


def _draw_times(axes, rows) -> None:
    """Bars in milliseconds with the range over turns; what was not measured says so."""
    longest = 1e3 * rows.step_s_high.max()
    for place, row in enumerate(rows.itertuples()):
        if np.isnan(row.step_s):
            axes.text(0.01 * longest, place, row.note, va="center", fontsize=5, color=style.GAP)
            continue
        middle, low, high = 1e3 * row.step_s, 1e3 * row.step_s_low, 1e3 * row.step_s_high
        axes.barh(place, middle, height=0.62, color=_colour(row))
        axes.plot([low, high], [place, place], color=style.INK, lw=0.8)
        axes.text(high + 0.015 * longest, place, f"{1 / row.ratio:.2f}×", va="center", fontsize=6)
    axes.set_yticks(range(len(rows)), rows.change)
    axes.set_xlim(0, 1.13 * longest)
    axes.set_xlabel(f"{rows.clock.iloc[0]} of a step (ms)")
    axes.set_title("speed-up over the published recipe, fp32", loc="left")


def _colour(row) -> str:
    if row.change.startswith("published"):
        return PUBLISHED_COLOUR
    return OURS_COLOUR if row.precision == "fp32" and not row.compile else ALTERNATIVE_COLOUR


def _draw_loss(axes, rows) -> None:
    axes.plot(rows.val_loss, range(len(rows)), "o", color=style.INK)
    axes.set_xlabel("validation loss\n(nats per token)")
    _pad(axes, rows.val_loss)


def _draw_score(axes, rows, simulated) -> None:
    for place, row in enumerate(rows.itertuples()):
        axes.plot([row.ci_low, row.ci_high], [place, place], color=style.INK, lw=0.8)
    axes.plot(rows.r, range(len(rows)), "o", color=style.INK)
    axes.set_xlabel("mean r over parcels\n(held-out data)")
    axes.set_title(style.data_words(simulated), loc="left")
    _pad(axes, pd.concat([rows.ci_low, rows.ci_high]))


def _pad(axes, values) -> None:
    """Limits around the values, wide enough that a third digit is not blown up."""
    low, high = np.nanmin(values), np.nanmax(values)
    middle, half = (low + high) / 2, max(0.6 * (high - low), 0.05 * abs(high))
    axes.set_xlim(middle - half, middle + half)
    axes.grid(axis="x", lw=0.3, color="0.85")


def throughput_caption(
    times: pd.DataFrame, n_steps: int, n_subjects: int, date: str, *, simulated: bool
) -> str:
    """What the figure shows, measured on what and when, in one paragraph.

    Parameters
    ----------
    times : pandas.DataFrame
        As drawn.
    n_steps : int
        Optimiser steps of every short training.
    n_subjects : int
        Participants behind the brain score.
    date : str
        Of the measurement, ISO.
    simulated : bool
        Whether the brain data are.
    """
    row = times.iloc[0]
    device = "one thread of a CPU" if row.device == "cpu" else row.device
    missing = int(times.step_s.isna().sum())
    data = "simulated brain data" if simulated else "CNeuroMod shinobi data"
    gaps = f" Recipes that this device cannot run, marked: {missing}." if missing else ""
    return (
        f"**a** {row.clock} of a training step of the base cell (hidden {row.hidden}, "
        f"{row.n_layers} layers, {row.n_heads} heads, {row.batch_size} windows, "
        f"{row.n_tokens:,} tokens), median over turns taken in one process, line: fastest to "
        f"slowest turn; measured {date} on {device}. Each blue bar changes one thing of the blue "
        "bar before, the first one of the published recipe in fp32; green bars are alternatives to "
        "the last blue one. **b** Lowest validation loss of "
        f"a training of {n_steps} steps under the recipe, same seed, same windows. **c** Brain "
        f"score of that model, {data}: mean over all parcels of Pearson r on held-out sessions, "
        f"mean over {n_subjects} participants; line: mean ends of their 95 % block-bootstrap "
        f"intervals.{gaps} One seed per recipe: differences in b and c smaller than those between "
        "seeds mean nothing."
    )
