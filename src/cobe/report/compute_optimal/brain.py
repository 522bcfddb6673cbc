"""Brain score over model size, video and scan time, beside untrained models and beside the loss."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cobe.report import style
from cobe.report.compute_optimal import draw
from cobe.report.compute_optimal.figures import along
from cobe.report.compute_optimal.rows import MEAN, Refused, amount, of_subject, subjects_of

SCORE_WORDS = "mean r over parcels"
FLOOR = {"color": "0.45", "lw": 0.8, "ls": (0, (4, 2))}


def scaling_brain(rows: pd.DataFrame, fit, link, simulated: bool) -> style.PaperFigure:
    """Brain score along each factor with its fit, untrained models, and its link to the loss.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of `score_rows`; the mean over participants is drawn.
    fit : ScalingFit or Refused
        Of `fit_brain_score` on the trained rows of the mean.
    link : Link or Refused
        Of `link_of`.
    simulated : bool
        Whether the data are.

    Returns
    -------
    figure : PaperFigure
    """
    trained, untrained = of_subject(rows), of_subject(rows, trained=False)
    hours = trained.scan_hours.max()
    grid = trained[(trained.scan_hours == hours) & (trained.kind != "isoflop")]
    floor = untrained[untrained.scan_hours == hours]
    with style.cobe_style():
        figure = style.new_figure(128.0)
        places = [(16.0, 9.0), (106.0, 9.0), (16.0, 72.0), (106.0, 72.0)]
        a, b, c, d = (style.axes_mm(figure, x, y, 56.0, 42.0) for x, y in places)
        for letter, (x, y) in zip("abcd", [(2, 2), (92, 2), (2, 65), (92, 65)], strict=True):
            style.panel_letter(figure, x, y, letter)
        words = "target tokens, repeats at their worth"
        along(a, grid, fit, "r", "n_data", words, "parameters", hours)
        along(b, grid, fit, "r", "n_params", "parameters", "frames", hours)
        if len(floor):
            _draw_floor(a, b, floor)
        _draw_hours(c, trained, untrained, fit)
        _draw_link(d, link)
        for panel in (a, b, c, d):
            panel.set_ylabel(SCORE_WORDS)
        for panel, factor in ((a, "n_data"), (b, "n_params"), (c, "scan_hours")):
            said = draw.refusal(fit, factor)
            no_floor = "" if len(floor) else "no untrained models: no floor"
            draw.say(panel, "; ".join(filter(None, (said, no_floor))))
        n = len(subjects_of(rows))
        a.set_title(f"{style.data_words(simulated)}; mean of {n} participants", loc="left")
        c.set_title("each size at its most video", loc="left")
        b.set_title(f"readout on {hours:.2g} h of scans", loc="left")
    return figure


def _draw_floor(along_data, along_size, floor) -> None:
    along_data.axhline(floor.r.mean(), **FLOOR)
    along_data.axhspan(floor.r.min(), floor.r.max(), color="0.45", alpha=0.12, lw=0)
    x = along_data.get_xlim()[0]
    along_data.text(x, floor.r.max(), " untrained", fontsize=5.5, va="bottom", color="0.35")
    along_size.plot(floor.n_params, floor.r, "D", color="0.35", mfc="white", label="untrained")
    along_size.legend(title="frames", loc="center left", bbox_to_anchor=(1.0, 0.5), borderpad=0.1)


def _draw_hours(axes, trained, untrained, fit) -> None:
    """Score against scan time for the smallest, middle and largest model, of most video."""
    video = trained.groupby("n_params").n_effective.transform("max")
    most = trained[trained.n_effective == video]
    sizes = np.sort(most.n_params.unique())
    chosen = sizes[np.unique([0, len(sizes) // 2, len(sizes) - 1])]
    for size, look in draw.looks(chosen).items():
        mine = most[most.n_params == size]
        draw.points(axes, mine.scan_hours, mine.r, look, amount(size))
        others = {"n_params": size, "n_data": mine.n_effective.mean()}
        ends = trained.scan_hours.min(), trained.scan_hours.max()
        draw.curve(axes, fit, "scan_hours", ends, others, look)
    if len(untrained):
        each = untrained.groupby("scan_hours").r.mean()
        axes.plot(each.index, each, "D", color="0.35", mfc="white", label="untrained")
    levels = np.sort(trained.scan_hours.unique())
    words = "hours of scans that the readout was fitted on"
    draw.log_axis(axes, words, levels, ticks=levels)
    axes.legend(title="parameters", loc="center left", bbox_to_anchor=(1.0, 0.5), borderpad=0.1)


def _draw_link(axes, link) -> None:
    """One line per model size, along its amounts of video."""
    axes.set_xlabel("validation loss (nats per token)")
    if isinstance(link, Refused):
        draw.say(axes, f"not compared: {link.why}")
        return
    for size, look in draw.looks(link.models.n_params.unique()).items():
        mine = link.models[link.models.n_params == size].sort_values("tokens_seen")
        axes.plot(mine.val_loss, mine.r, lw=0.5, color=look["color"], alpha=0.6)
        draw.points(axes, mine.val_loss, mine.r, look, amount(size))
    axes.invert_xaxis()
    trends = link.trends[link.trends.subject == MEAN]
    said = [
        f"{row.axis}: ρ {row.rho:.2f} [{row.low:.2f}, {row.high:.2f}]"
        if np.isfinite(row.rho)
        else f"{row.axis}: too few cells"
        for row in trends.itertuples()
    ]
    axes.set_title(said[0], loc="left")
    look = {"fontsize": 5.5, "transform": axes.transAxes, "va": "top"}
    axes.text(0.02, 0.99, "\n".join(said[1:]), **look)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.18 * (high - low))
    axes.legend(title="parameters", loc="center left", bbox_to_anchor=(1.0, 0.5), borderpad=0.1)
