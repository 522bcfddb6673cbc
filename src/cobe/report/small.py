"""Small figures of the notebooks: one series with its valid volumes, one histogram of penalties."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from cobe.report import style


def parcel_series_figure(bold, valid, tr_s: float, *, simulated: bool, title: str = "") -> Figure:
    """BOLD of one parcel over a run; volumes inside a replay are shaded.

    Parameters
    ----------
    bold : float array (n_trs,)
        Z-scored BOLD of one parcel.
    valid : bool array (n_trs,)
        True where the volume lies inside a repetition whose replay is there.
    tr_s : float
        Seconds per volume.
    simulated : bool
        Said in the figure.
    title : str
        Above the panel.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    bold, valid = np.asarray(bold, float), np.asarray(valid, bool)
    time_s = (np.arange(len(bold)) + 0.5) * tr_s
    edges = np.flatnonzero(np.diff(np.concatenate([[False], valid, [False]]).astype(int)))
    with style.cobe_style():
        figure = style.new_figure(45.0)
        axes = style.axes_mm(figure, 14.0, 7.0, 162.0, 28.0)
        for start, stop in edges.reshape(-1, 2):
            axes.axvspan(start * tr_s, stop * tr_s, color="0.88", zorder=0, label="valid")
        axes.plot(time_s, bold, color=style.level_styles(3)[0]["color"], linewidth=0.9)
        axes.set_xlim(0, len(bold) * tr_s)
        axes.set_xlabel("time from the first volume (s)")
        axes.set_ylabel("BOLD (z)")
        words = f"{style.data_words(simulated)}; grey: {int(valid.sum())} of {len(valid)} volumes "
        axes.set_title(f"{title}  {words}inside a replay".strip(), loc="left")
    return figure


def alpha_figure(chosen, alphas, *, simulated: bool) -> Figure:
    """How many targets chose each ridge penalty; a pile at an end says that the grid is too short.

    Parameters
    ----------
    chosen : float array (n_targets,)
        Penalty of each target; NaN where none was fitted (counted in the title).
    alphas : sequence of float
        The grid.
    simulated : bool
        Said in the figure.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    chosen = np.asarray(chosen, float)
    alphas = np.sort(np.asarray(alphas, float))
    known = chosen[np.isfinite(chosen)]
    counts = [int(np.isclose(known, alpha, rtol=1e-6).sum()) for alpha in alphas]
    with style.cobe_style():
        figure = style.new_figure(48.0)
        axes = style.axes_mm(figure, 14.0, 7.0, 80.0, 31.0)
        axes.bar(range(len(alphas)), counts, color=style.level_styles(3)[1]["color"])
        axes.set_xticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
        axes.set_xlabel("ridge penalty")
        axes.set_ylabel("targets")
        left_out = len(chosen) - sum(counts)
        words = f"{len(chosen)} targets, {left_out} on no grid point; "
        axes.set_title(words + style.data_words(simulated), loc="left")
    return figure
