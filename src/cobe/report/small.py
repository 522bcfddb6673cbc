"""Small figures of the notebooks: one series, volumes, tokens, training curves, penalties."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from cobe.core.config import Profile, axis_cells
from cobe.core.errors import CobeError
from cobe.report import style
from cobe.report.rows import loss_rows

ROW_MM = 4.5


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
    with style.cobe_style():
        figure = style.new_figure(45.0)
        axes = style.axes_mm(figure, 14.0, 7.0, 162.0, 28.0)
        for start, stop in _stretches(valid):
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


def usable_volumes_figure(valid, tr_s: float, *, simulated: bool, title: str = "") -> Figure:
    """One line of squares per run: which volumes lie inside a replay.

    Parameters
    ----------
    valid : mapping of str to bool array (n_trs,)
        Name of a run to its volumes; from top to bottom.
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
    valid = {name: np.asarray(one, bool) for name, one in valid.items()}
    height = ROW_MM * len(valid)
    colour = style.level_styles(3)[1]["color"]
    with style.cobe_style():
        figure = style.new_figure(17.0 + height)
        axes = style.axes_mm(figure, 24.0, 7.0, 152.0, height)
        for place, one in enumerate(valid.values()):
            for start, stop in _stretches(one):
                axes.barh(place, (stop - start) * tr_s, 0.5, start * tr_s, color=colour)
            for start, stop in _stretches(~one):
                axes.barh(place, (stop - start) * tr_s, 0.5, start * tr_s, color="0.87")
        axes.set_yticks(range(len(valid)), list(valid))
        axes.set_ylim(len(valid) - 0.5, -0.5)
        axes.set_xlim(0, max((len(one) for one in valid.values()), default=1) * tr_s)
        axes.set_xlabel("time from the first volume (s)")
        n_valid, n_all = (sum(f(one) for one in valid.values()) for f in (np.sum, len))
        words = f"{style.data_words(simulated)}; dark: {n_valid} of {n_all} volumes inside a replay"
        axes.set_title(f"{title}  {words}".strip(), loc="left")
    return figure


def training_figure(log, *, simulated: bool) -> Figure:
    """Training and validation error of the VQ-VAE per step, on a logarithmic axis.

    Parameters
    ----------
    log : pandas.DataFrame
        Columns step, train_loss (mean over the steps since the row before, NaN in the first),
        val_loss; both are weighted squared errors, 1 for the median frame of the training clips.
    simulated : bool
        Said in the figure.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    with style.cobe_style():
        figure = style.new_figure(54.0)
        axes = style.axes_mm(figure, 14.0, 7.0, 120.0, 36.0)
        axes.plot(log.step, log.train_loss, color=style.GAP, label="training clips")
        look = {"color": style.level_styles(3)[0]["color"], "marker": "o"}
        axes.plot(log.step, log.val_loss, label="validation clips", **look)
        _plain_log(axes, [0.1, 0.2, 0.5, 1, 2])
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("weighted squared error\n(1: the median frame)")
        axes.set_title(style.data_words(simulated), loc="left")
        axes.legend()
    return figure


def token_figure(codes, n_codes: int, *, simulated: bool) -> Figure:
    """The tokens of one clip, a square of numbers per latent frame.

    Parameters
    ----------
    codes : integer array (time, height, width)
        Index of the code of each token.
    n_codes : int
        Codes in the codebook; the ends of the colours, which have no other meaning.
    simulated : bool
        Said in the figure.

    Returns
    -------
    figure : matplotlib.figure.Figure

    Raises
    ------
    CobeError
        An index is not in the codebook.
    """
    codes = np.asarray(codes)
    if codes.ndim != 3 or codes.min() < 0 or codes.max() >= n_codes:
        raise CobeError(
            f"codes: {codes.shape}, {codes.min()} to {codes.max()}; hand over the tokens of one "
            f"clip, (time, height, width), of a codebook of {n_codes}"
        )
    with style.cobe_style():
        figure = style.new_figure(51.0)
        style.text_mm(figure, 2.0, 1.5, style.data_words(simulated), va="top")
        for time, frame in enumerate(codes):
            axes = style.axes_mm(figure, 2.0 + 44.5 * time, 10.0, 40.0, 40.0)
            axes.imshow(frame, cmap="cividis", vmin=0, vmax=n_codes - 1)
            for (row, column), code in np.ndenumerate(frame):
                ink = "white" if code < n_codes / 2 else "black"
                axes.text(column, row, code, ha="center", va="center", color=ink)
            axes.set_title(f"latent frame {time}")
            axes.set_xticks([])
            axes.set_yticks([])
    return figure


def axis_losses_figure(profile: Profile, axes_shown, losses, *, simulated: bool) -> Figure:
    """Validation loss per step, a panel per axis, a curve per level, all on one loss scale.

    Parameters
    ----------
    profile : Profile
        Whose cells.
    axes_shown : sequence of Axis
        A panel each.
    losses : pandas.DataFrame
        Loss table (nats per token).
    simulated : bool
        Said in the figure.

    Returns
    -------
    figure : matplotlib.figure.Figure
        A cell without losses is named in the legend as not computed. Without an axis, no panel.
    """
    pitch = 164.0 / max(1, len(axes_shown))
    with style.cobe_style():
        figure = style.new_figure(68.0)
        words = style.data_words(simulated) + ("" if axes_shown else "; no axis was asked for")
        style.text_mm(figure, 14.0, 1.5, words, va="top")
        first = None
        for place, axis in enumerate(axes_shown):
            left = 14.0 + pitch * place
            panel = style.axes_mm(figure, left, 10.0, pitch - 5.0, 38.0, sharey=first)
            first = first or panel
            looks = style.level_styles(len(axis.levels))
            for look, level, cell in zip(
                looks, axis.levels, axis_cells(profile, axis), strict=True
            ):
                rows = loss_rows(losses, cell)
                words = style.level_text(level) + ("" if rows is not None else " not computed")
                drawn = ([], []) if rows is None else (rows.step, rows.val_loss)
                look = look | {"marker": ""}
                panel.plot(*drawn, label=words, **look)
            panel.set_title(axis.label)
            panel.set_xlabel("optimiser step")
            panel.tick_params(labelleft=panel is first, which="both")
            panel.legend(loc="upper left", bbox_to_anchor=(-0.04, -0.28), ncols=2, borderpad=0)
            if panel is first:
                _plain_log(panel, [1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10, 15])
                panel.set_ylabel("validation loss (nats per token)")
    return figure


def _stretches(flags: np.ndarray) -> np.ndarray:
    """First and one past the last index of each stretch of True: (n_stretches, 2)."""
    padded = np.concatenate([[False], flags, [False]]).astype(int)
    return np.flatnonzero(np.diff(padded)).reshape(-1, 2)


def _plain_log(axes, ticks: list[float]) -> None:
    """A logarithmic y axis with a few ticks in plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
