"""What the scaling figures share: points, fitted curves with bands, and refusals in words."""

from __future__ import annotations

import textwrap

import numpy as np

from cobe.report import style
from cobe.report.compute_optimal.rows import Refused, amount
from cobe.report.scaling import ScalingFit
from cobe.report.scaling.fitted import interval

FACTOR_WORDS = {"n_params": "model size", "n_data": "video", "scan_hours": "scan time"}
LINE_POINTS = 80
REFUSAL = "#9c2a1f"


def looks(levels) -> dict:
    """Colour, marker and dashes of each level, smallest first."""
    levels = sorted(levels)
    return dict(zip(levels, style.level_styles(len(levels)), strict=True))


def unusable(fit, factor: str) -> str:
    """Why no curve is drawn along a factor; "" where one is."""
    if isinstance(fit, Refused):
        return f"no curve: {fit.why}"
    return f"no curve: {doubt(fit, factor)}" if factor in fit.lost else ""


def caution(fit: ScalingFit, factor: str) -> str:
    """Why a curve has no band; "" where it has one."""
    return f"no band: {doubt(fit, factor)}" if factor in fit.unfixed else ""


def doubt(fit: ScalingFit, factor: str) -> str:
    """What a fit cannot tell of a factor; "" where it is sure."""
    words = FACTOR_WORDS[factor]
    if factor in fit.lost:
        return f"no power law in {words} (level, rising, or a step)"
    return f"the data do not fix the exponent of {words}" if factor in fit.unfixed else ""


def no_intervals(fit: ScalingFit) -> str:
    """Why shares of the gain have no intervals; each depends on every factor."""
    names = " and ".join(FACTOR_WORDS[name] for name in fit.unfixed)
    return f"no intervals: the data do not fix the exponent of {names}"


def refusal(fit, factor: str) -> str:
    """Why there is no curve along a factor, or no band; "" where there are both."""
    return unusable(fit, factor) or caution(fit, factor)


def say(axes, text: str, *, width: int = 52) -> None:
    """Words in room made for them below the data, for what is not drawn; call it last.

    An empty panel is words alone; no words do nothing.
    """
    if not text:
        return
    lines = textwrap.wrap(text, width)
    if not axes.has_data():
        axes.set_axis_off()
    else:
        low, high = axes.get_ylim()
        share = 0.03 + 0.075 * len(lines)
        if axes.get_yscale() == "log":
            axes.set_ylim(low / (high / low) ** share, high)
        else:
            axes.set_ylim(low - share * (high - low), high)
    axes.text(
        0.02,
        0.02 if axes.has_data() else 0.9,
        "\n".join(lines),
        transform=axes.transAxes,
        fontsize=5.5,
        color=REFUSAL,
        va="bottom" if axes.has_data() else "top",
        zorder=9,
    )


def curve(axes, fit, factor: str, ends, others: dict, look: dict) -> None:
    """A fitted curve along one factor with the 95 % band of the surface, if it may be drawn.

    Parameters
    ----------
    axes : matplotlib Axes
    fit : ScalingFit or Refused
    factor : str
        Along which; ``ends`` are its first and last value.
    others : dict of str to float
        The other factors, data in effective tokens.
    look : dict
        With color and linestyle.
    """
    if unusable(fit, factor):
        return
    x = np.geomspace(*ends, LINE_POINTS)
    columns = [x if name == factor else np.full_like(x, others[name]) for name in fit.factors]
    values = np.stack(columns, axis=-1)
    axes.plot(x, fit.respond(fit.theta, values), color=look["color"], lw=0.9, zorder=2)
    if not caution(fit, factor):
        low, high = interval(fit.respond(fit.draws[:, None, :], values))
        axes.fill_between(x, low, high, color=look["color"], alpha=0.15, lw=0, zorder=1)


def told_line(axes, x, y, extrapolated, colour: str, label: str, marker: str = "") -> None:
    """A line that is solid where the fit has seen the like, dashed and open where not.

    ``x``, ``y`` and ``extrapolated`` (bool) have shape (n_points,).
    """
    x, y, beyond = np.asarray(x), np.asarray(y, float), np.asarray(extrapolated, bool)
    look = {"color": colour, "marker": marker, "ms": 2}
    name = label if beyond.all() else f"_{label}"
    axes.plot(x, y, ls=(0, (3, 2)), lw=0.7, mfc="white", label=name, **look)
    if not beyond.all():
        axes.plot(x, np.where(beyond, np.nan, y), ls="-", label=label, **look)


def points(axes, x, y, look: dict, label: str = "") -> None:
    """Models as markers without a line."""
    axes.plot(
        x, y, linestyle="none", marker=look["marker"], color=look["color"], label=label, zorder=3
    )


def log_axis(axes, words: str, values, text=amount, ticks=None) -> None:
    """A logarithmic x axis with few ticks, which read 12k, 3.4M, or as `text` makes them."""
    axes.set_xscale("log")
    low, high = np.nanmin(values), np.nanmax(values)
    axes.set_xlim(low / (high / low) ** 0.08, high * (high / low) ** 0.08)
    axes.set_xlabel(words)
    ticks = _few_ticks(low, high) if ticks is None else ticks
    axes.xaxis.set_ticks(ticks, [text(tick) for tick in ticks])
    axes.xaxis.minorticks_off()


def _few_ticks(low, high) -> np.ndarray:
    ticks = np.array([m * 10.0**k for k in range(-3, 27) for m in (1, 2, 5)])
    inside = ticks[(ticks >= low * 0.999) & (ticks <= high * 1.001)]
    if len(inside) > 5:
        decades = [t for t in inside if np.isclose(np.log10(t), round(np.log10(t)))]
        inside = np.array(decades) if len(decades) >= 3 else inside[:: len(inside) // 4]
    return inside if len(inside) > 1 else np.geomspace(low, high, 3)


def power_text(value: float) -> str:
    """FLOP as a power of ten: 2·10¹⁴."""
    power = int(np.floor(np.log10(value) + 1e-9))
    first = value / 10.0**power
    tens = f"$10^{{{power}}}$"
    return tens if np.isclose(first, 1) else f"{first:.2g}·{tens}"


def forms_panel(axes, forms) -> None:
    """Error of each form on the held-out largest cells, with its interval and its verdict."""
    axes.set_title("which form predicts the largest cells?", loc="left")
    if isinstance(forms, Refused):
        say(axes, f"not compared: {forms.why}")
        return
    for place, row in enumerate(forms.itertuples()):
        told = row.verdict.startswith("predicts worse")
        colour = "0.6" if told else style.INK
        axes.plot([100 * row.low, 100 * row.high], [place, place], color=colour, lw=0.9)
        axes.plot(100 * row.error, place, "o", color=colour, mfc="white" if told else colour)
    names = [form_words(form) for form in forms.form]
    axes.set_yticks(range(len(forms)), names)
    axes.set_ylim(len(forms) - 0.5, -0.5)
    axes.set_xlabel("error on held-out cells (%)")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", lw=0.3, color="0.88")


def form_words(form: str) -> str:
    """A form of `compare_forms` in short words: the factors that it uses, all with a floor."""
    for name, words in FACTOR_WORDS.items():
        form = form.replace(name, words)
    return form.removeprefix("floor + ")
