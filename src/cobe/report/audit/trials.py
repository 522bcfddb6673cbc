"""The null brain and the planted brain: what each protocol says where the truth is known."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cobe.core.errors import CobeError
from cobe.report import style
from cobe.sweep.trials import ALL_REGIONS, Q_FOUND, order_recovered

PUBLISHED_COLOUR, CORRECTED_COLOUR = "0.45", "#31688e"
WRONG_COLOUR = "#c1440e"
STATISTICS = {"max": "largest r of {} parcels", "mean": "mean r of {} parcels"}
INTERVAL = (0.025, 0.975)
N_BINS = 50


def fig_null_brain(trials: pd.DataFrame, simulated: bool) -> style.PaperFigure:
    """What each protocol reports of BOLD that is related to nothing: every finding is false.

    Parameters
    ----------
    trials : pandas.DataFrame
        From `cobe.sweep.trials.null_trials`.
    simulated : bool
        Whether the BOLD that surrogates were made of is simulated.

    Returns
    -------
    figure : PaperFigure
        a: what is reported, over draws; b: the same beside its own chance level; c: parcels found.

    Raises
    ------
    CobeError
        No trials, or a protocol with several statistics or numbers of parcels.
    """
    looks = looks_of(trials)
    row_mm, top_mm = 34.0, 16.0
    height = top_mm + row_mm * len(looks) + 9.0
    with style.cobe_style():
        figure = style.new_figure(height)
        style.text_mm(figure, 3, 1.8, "The null brain", fontsize=9, fontweight="bold", va="top")
        style.text_mm(
            figure,
            3,
            6.6,
            "BOLD as slow as the recorded one and related to nothing on screen. The right answer "
            f"is 0.   Surrogates of {style.data_words(simulated)}",
            va="top",
            color="0.3",
        )
        low, high = trials["r"].min(), trials["r"].max()
        bins = np.linspace(min(low, 0) - 0.02, max(high, 0) + 0.02, N_BINS)
        for number, (name, colour) in enumerate(looks.items()):
            axes = style.axes_mm(figure, 8, top_mm + number * row_mm, 108, row_mm - 8)
            here = trials[trials["protocol"] == name]
            _draw_reported(axes, here, colour, bins)
            axes.set_xlim(bins[0], bins[-1])
            if not number:
                axes.annotate(
                    "the truth", (0, 1), xycoords=axes.get_xaxis_transform(), xytext=(-3, 2),
                    textcoords="offset points", ha="right", color=WRONG_COLOUR,
                )  # fmt: skip
            last = number == len(looks) - 1
            axes.set_xlabel("what the protocol reports (Pearson r)" if last else "")
        style.panel_letter(figure, 3, top_mm - 3.5, "a")
        side = (height - top_mm - 9.0 - 14.0) / 2
        axes = style.axes_mm(figure, 134, top_mm, 43, side)
        _draw_against_chance(axes, trials, looks)
        style.panel_letter(figure, 123, top_mm - 3.5, "b")
        axes = style.axes_mm(figure, 134, top_mm + side + 14.0, 43, side)
        _draw_found(axes, trials, looks)
        style.panel_letter(figure, 123, top_mm + side + 10.5, "c")
    return figure


def looks_of(trials):
    """Colour of each protocol, in the order of the table: published grey, corrected blue."""
    if not len(trials):
        raise CobeError("trials: no rows; run the trials first")
    names = list(dict.fromkeys(trials["protocol"]))
    for column in ("summary", "n_parcels", "n_permutations"):
        several = trials.groupby("protocol")[column].nunique() > 1
        if several.any():
            raise CobeError(
                f"trials: several values of {column} under {several.idxmax()}; draw one design"
            )
    others = cycle(("#35b779", "#8c6bb1", "#b8860b", "#5ab4ac"))
    colours = {"as_published": PUBLISHED_COLOUR, "corrected": CORRECTED_COLOUR}
    return {name: colours.get(name) or next(others) for name in names}


def statistic_words(here) -> str:
    """The statistic that the rows of one protocol report, in words."""
    return STATISTICS[here["summary"].iloc[0]].format(f"{here['n_parcels'].iloc[0]:,}")


def _draw_reported(axes, here, colour, bins) -> None:
    """Histogram of what is reported over draws, the truth, and one large number."""
    counts, _, _ = axes.hist(here["r"], bins=bins, color=colour, label="reported")
    axes.axvline(0, color=WRONG_COLOUR, linewidth=1.2, zorder=3, label="the truth")
    right = here["r"].median() < (bins[0] + bins[-1]) / 2
    # words to the left of bars go above them
    axes.set_ylim(0, counts.max() * (1.15 if right else 1.7))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    median, n = here["r"].median(), len(here)
    x, align = (0.99, "right") if right else (0.12, "left")
    name = here["protocol"].iloc[0]
    place = {"transform": axes.transAxes, "ha": align, "va": "top", "color": colour}
    axes.text(x, 1.10, name, fontsize=8, fontweight="bold", **place)
    axes.text(x, 0.93, f"{_signed(median)}", fontsize=24, fontweight="bold", **place)
    above = int((here["r"] > 0).sum())
    axes.text(
        x if right else x + 0.22,
        0.46 if right else 0.97,
        f"{statistic_words(here)},\nmedian of {n} null brains;\nabove zero in {above} of {n}",
        fontsize=6.5,
        linespacing=1.35,
        **place,
    )


def _signed(value) -> str:
    """Two digits; what rounds to zero has no sign."""
    text = f"{value:.2f}"
    return text.replace("-", "") if float(text) == 0 else text.replace("-", "−")


def _draw_against_chance(axes, trials, looks) -> None:
    """Every draw's report beside the chance level of the same protocol."""
    for name, colour in looks.items():
        here = trials[trials["protocol"] == name]
        above = int((here["r"] > here["chance_95"]).sum())
        axes.plot(
            here["chance_95"],
            here["r"],
            "o",
            color=colour,
            markersize=2.2,
            markeredgewidth=0,
            alpha=0.6,
            label=f"{name}: {above} of {len(here)} above",
        )
    low = min(0, trials["r"].min(), trials["chance_95"].min()) - 0.03
    high = max(trials["r"].max(), trials["chance_95"].max()) + 0.05
    axes.plot([low, high], [low, high], color=style.INK, linewidth=0.7, zorder=0)
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.set_xlabel("its own chance level (95th percentile)")
    axes.set_ylabel("reported r")
    axes.set_title("against its own chance level", loc="left")
    axes.legend(loc="upper left", handletextpad=0.1, borderpad=0, borderaxespad=0.2)


def _draw_found(axes, trials, looks) -> None:
    """How many parcels survive the false discovery rate, over draws."""
    most = max(3, int(trials["n_found"].max()))
    edges = np.unique(np.linspace(0, most + 1, min(most + 2, 8)).round().astype(int))
    width = 0.8 / len(looks)
    for number, (name, colour) in enumerate(looks.items()):
        found = trials.loc[trials["protocol"] == name, "n_found"]
        counts = np.histogram(found, edges)[0]
        places = np.arange(len(counts)) + (number - (len(looks) - 1) / 2) * width
        none = f"0 in {int((found == 0).sum())} of {len(found)}"
        axes.bar(places, counts, width * 0.92, color=colour, label=none)
    words = [
        f"{low}" if high == low + 1 else f"{low}–{high - 1}"
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    axes.set_xticks(range(len(words)), words)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_ylim(0, trials.groupby("protocol").size().max() * 1.05)
    axes.set_xlabel(f"parcels with q ≤ {Q_FOUND:g} (truth: 0)")
    axes.set_ylabel("null brains")
    axes.set_title("parcels found", loc="left")
    axes.legend(loc="upper right", handlelength=1, borderpad=0, borderaxespad=0.2)


def fig_planted_brain(
    trials: pd.DataFrame, order: pd.DataFrame | None, simulated: bool
) -> style.PaperFigure:
    """What each protocol says of feature sets whose shares of the brain are known.

    Parameters
    ----------
    trials : pandas.DataFrame
        From `cobe.sweep.trials.planted_trials`.
    order : pandas.DataFrame or None
        From `cobe.sweep.trials.planted_order`, one model; None where nothing was planted in the
        recorded brains, as in real data.
    simulated : bool
        Whether the BOLD that noise was made of is simulated.

    Returns
    -------
    figure : PaperFigure
        a: what was planted; b: what each protocol reports, and how often its order is right; c: in
        the embedded data set, scores of regions beside their ceilings.

    Raises
    ------
    CobeError
        No trials, several designs, or several models in `order`.
    """
    looks = looks_of(trials)
    sets = sets_of(trials)
    if order is not None:
        _check_order(order)
    body_mm, top_mm = 11.0 * len(sets), 28.0
    regions_mm = 0.0 if order is None else 62.0
    with style.cobe_style():
        figure = style.new_figure(top_mm + body_mm + 16.0 + regions_mm)
        style.text_mm(figure, 3, 1.8, "The planted brain", fontsize=9, fontweight="bold", va="top")
        style.text_mm(
            figure,
            3,
            6.6,
            "Feature sets drive known shares of the BOLD. Which protocol gives their order back?   "
            f"Noise: surrogates of {style.data_words(simulated)}",
            va="top",
            color="0.3",
        )
        axes = style.axes_mm(figure, 33, top_mm, 26, body_mm)
        _draw_planted(axes, sets)
        style.panel_letter(figure, 3, top_mm - 14.0, "a")
        style.panel_letter(figure, 62, top_mm - 14.0, "b")
        width = (176.0 - 66.0) / len(looks)
        orders = order_recovered(trials)
        for number, (name, colour) in enumerate(looks.items()):
            axes = style.axes_mm(figure, 66 + number * width, top_mm, width - 6, body_mm)
            here = trials[trials["protocol"] == name]
            _draw_ranking(axes, here, sets, colour)
            _draw_verdict(axes, orders[orders["protocol"] == name], colour, body_mm)
        _marks_legend(figure, 66, top_mm + body_mm + 10.0)
        if order is not None:
            _draw_regions(figure, order, looks, top_mm + body_mm + 25.0, regions_mm - 20.0)
            style.panel_letter(figure, 3, top_mm + body_mm + 20.0, "c")
            words = "embedded data\n(simulated)"
            style.text_mm(figure, 8, top_mm + body_mm + 20.4, words, va="top", color="0.3")
    return figure


def sets_of(trials):
    """Feature sets from the largest share to the smallest: what they are, mean over draws."""
    sets = trials.groupby("set")[["share", "n_features", "lag_one", "ceiling"]].mean()
    return sets.sort_values("share", ascending=False)


def _check_order(order):
    models = order[["cell", "features"]].drop_duplicates()
    several = order.groupby("protocol")[["cell", "features"]].nunique().max(axis=None) > 1
    if several or not len(models):
        listed = ", ".join(models["cell"].astype(str))
        raise CobeError(f"order: models {listed or 'none'}; give one model per protocol")


def _draw_planted(axes, sets) -> None:
    axes.barh(range(len(sets)), 100 * sets["share"], 0.5, color=WRONG_COLOUR, label="planted")
    for place, share in enumerate(sets["share"]):
        axes.text(
            100 * share + 1.5, place, f"{100 * share:.3g} %", va="center", fontsize=7,
            color=WRONG_COLOUR,
        )  # fmt: skip
    names = [
        f"{name}\n{row.n_features:.0f} features\nlag-one r {row.lag_one:.2f}"
        for name, row in sets.iterrows()
    ]
    axes.set_yticks(range(len(sets)), names)
    axes.set_ylim(len(sets) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 145 * sets["share"].max())
    axes.set_xlabel("planted share of\nvariance (%)")
    axes.set_title("planted", loc="left", color=WRONG_COLOUR)


def _draw_ranking(axes, here, sets, colour) -> None:
    """The score of every set with its interval over draws, its ceiling, and its place."""
    grouped = here.groupby("set")
    medians = grouped["r"].median()
    places = medians.rank(ascending=False, method="first").astype(int)
    for row, name in enumerate(sets.index):
        values = grouped.get_group(name)
        low, high = values["r"].quantile(INTERVAL)
        axes.barh(row, medians[name], 0.5, color=colour, label=f"reported {name}")
        axes.plot([low, high], [row, row], color="white", linewidth=2.0, solid_capstyle="butt")
        axes.plot([low, high], [row, row], color=style.INK, linewidth=0.9, label="interval")
        chance = values["chance_95"].median()
        axes.plot([chance] * 2, [row - 0.36, row + 0.36], color="black", linewidth=1.2)
        axes.plot(
            values["ceiling"].median(), row, "D", markersize=3.2, markerfacecolor="white",
            markeredgecolor=WRONG_COLOUR, markeredgewidth=0.9, zorder=5, label="ceiling",
        )  # fmt: skip
        if here["summary"].iloc[0] != "mean":
            axes.plot(
                values["r_mean"].median(), row, "o", markersize=3.2, markerfacecolor="white",
                markeredgecolor=style.INK, markeredgewidth=0.9, zorder=5, label="mean",
            )  # fmt: skip
        right = places[name] == row + 1
        axes.text(
            1.0, row, f"{places[name]}.", transform=axes.get_yaxis_transform(), ha="right",
            va="center", fontsize=9, fontweight="bold",
            color="0.3" if right else WRONG_COLOUR,
        )  # fmt: skip
    axes.axvline(0, color=style.INK, linewidth=0.6)
    axes.set_yticks([])
    axes.set_ylim(len(sets) - 0.5, -0.5)
    axes.text(
        1.0, 1.0, "rank", transform=axes.transAxes, ha="right", va="bottom", fontsize=6, color="0.3"
    )
    most = max(here["r"].max(), here["ceiling"].max(), here["chance_95"].max())
    axes.set_xlim(min(0, here["r"].min()) - 0.02, 1.2 * most)
    axes.set_xlabel(statistic_words(here))


def _draw_verdict(axes, orders, colour, body_mm) -> None:
    """In how many draws the whole order is right."""
    right, n = int(orders["recovered"].sum()), len(orders)
    at = {"transform": axes.transAxes, "va": "bottom", "color": colour, "fontweight": "bold"}
    axes.text(0, 1 + 9.5 / body_mm, orders["protocol"].iloc[0], fontsize=8, **at)
    large = axes.text(0, 1 + 2.4 / body_mm, f"{right} of {n}", fontsize=15, **at)
    axes.annotate(
        "draws give\nthe order back", (1, 0), xycoords=large, xytext=(4, 3),
        textcoords="offset points", fontsize=6.5, color=colour, va="bottom",
    )  # fmt: skip


def _marks_legend(figure, left_mm, top_mm) -> None:
    """What the marks in b mean."""
    look = {"linestyle": "none", "color": "black"}
    ring = {"linestyle": "none", "markerfacecolor": "white", "markersize": 3.2}
    handles = [
        Line2D([], [], color=style.INK, linewidth=0.9, label="95 % of draws"),
        Line2D(
            [], [], marker="|", markersize=7, markeredgewidth=1.2, label="chance (95 %)", **look
        ),
        Line2D([], [], marker="D", markeredgecolor=WRONG_COLOUR, label="ceiling", **ring),
        Line2D([], [], marker="o", markeredgecolor=style.INK, label="mean over parcels", **ring),
    ]
    width, height = figure.get_size_inches() * style.MM_PER_INCH
    figure.legend(
        handles=handles, ncols=len(handles), loc="upper left", borderpad=0, borderaxespad=0,
        bbox_to_anchor=(left_mm / width, 1 - top_mm / height),
    )  # fmt: skip


def _draw_regions(figure, order, looks, top_mm, height_mm) -> None:
    """r of every region and participant beside the ceilings planted there, by protocol."""
    regions = order[order["region"] != ALL_REGIONS]
    rows = regions.groupby("region")["ceiling"].mean().sort_values(ascending=False).index
    names = list(dict.fromkeys(order["protocol"]))
    width = (176.0 - 33.0) / len(names)
    low = min(-0.03, regions["r"].min() - 0.03)
    high = 1.06 * max(regions["ceiling"].max(), regions["r"].max())
    for number, name in enumerate(names):
        axes = style.axes_mm(figure, 33 + number * width, top_mm, width - 6, height_mm)
        colour = looks.get(name, style.INK)
        for place, region in enumerate(rows):
            here = regions[(regions["protocol"] == name) & (regions["region"] == region)]
            apart = place + np.linspace(-0.2, 0.2, len(here) + 2)[1:-1]
            axes.plot(here["r"], apart, "o", color=colour, markersize=2.6, label=f"r {region}")
            axes.plot(
                here["ceiling"], apart, "D", markersize=2.6, markerfacecolor="white",
                markeredgecolor=WRONG_COLOUR, markeredgewidth=0.8, label=f"ceiling {region}",
            )  # fmt: skip
        axes.axvline(0, color=style.INK, linewidth=0.6, zorder=0)
        axes.set(xlim=(low, high), ylim=(len(rows) - 0.4, -0.6))
        axes.set_yticks(range(len(rows)), [] if number else rows)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("mean r over parcels (dots), planted ceiling (diamonds)")
        rho = order.loc[
            (order["protocol"] == name) & (order["region"] == ALL_REGIONS), "rank_correlation"
        ]
        axes.set_title(
            f"{name}: rank correlation {rho.min():.2f} to {rho.max():.2f}",
            loc="left", color=colour,
        )  # fmt: skip
