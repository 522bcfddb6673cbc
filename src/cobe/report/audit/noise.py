"""16 bit against run-to-run noise: is the difference larger than that of two seeds?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from cobe.core.config import Profile
from cobe.core.errors import CobeError
from cobe.encoding.stats import paired_comparison
from cobe.report import published, style
from cobe.report.audit import drawing
from cobe.report.audit.pairs import (
    Difference,
    arm_rows,
    caption_of,
    difference,
    lowest_loss,
    mean_rows,
    overall,
    pair_words,
    score_words,
    units,
)
from cobe.report.rows import check_source, subjects_of
from cobe.report.style import PaperFigure

NAME = "fig_audit_noise"
HIGH = "fp32"
LEFT_MM = 21.0


@dataclass(frozen=True)
class Noise:
    """One measure of every run, and what precision and seed change in it.

    Attributes
    ----------
    by_seed : dict of int to float
        High minus low precision, the same seed.
    by_pair : dict of (str, int, int) to float
        Absolute difference of two seeds in one precision.
    """

    by_seed: dict[int, float]
    by_pair: dict[tuple[str, int, int], float]

    @property
    def mean(self) -> float:
        """Mean difference between the precisions over seeds; NaN without any."""
        return float(np.mean(list(self.by_seed.values()))) if self.by_seed else np.nan

    def verdict(self) -> str:
        """Whether the difference exceeds what another seed changes, in words."""
        if not self.by_seed or not self.by_pair:
            return f"against seeds: {style.NOT_COMPUTED}"
        below = sum(value < abs(self.mean) for value in self.by_pair.values())
        if below == len(self.by_pair):
            return f"exceeds all {below} differences between two seeds"
        return f"does not exceed the noise: larger than {below} of {len(self.by_pair)} seed pairs"


def fig_audit_noise(
    scores: pd.DataFrame,
    losses: pd.DataFrame,
    arms: pd.DataFrame,
    profile: Profile,
    simulated: bool,
) -> PaperFigure:
    """Loss and score of every seed in both precisions, and the published values beside.

    Parameters
    ----------
    scores, losses, arms : pandas.DataFrame
        Tables of the sweep; the arm ``"noise"`` says which runs there are.
    profile : Profile
        Whose protocol is drawn.
    simulated : bool
        Said in the figure.

    Returns
    -------
    figure : PaperFigure
        (a) loss, (b) score of each participant, (c) what precision and seed change, (d) published.

    Raises
    ------
    CobeError
        The arm does not hold two precisions with ``"fp32"`` among them, a run twice, or a table
        lacks a column, answers twice or holds published values.
    """
    runs = _runs(arms)
    rows = mean_rows(scores, profile)
    subjects = subjects_of(scores, profile)
    low, seeds = _low(runs), _seeds(runs)
    found = _precision_difference(runs, rows)
    with style.cobe_style():
        figure = style.new_figure(112.0)
        drawing.heading(figure, simulated, "16 bit against run-to-run noise")
        axes = style.axes_mm(figure, LEFT_MM, 18.0, 24.0, 34.0, label="losses")
        _draw_losses(axes, runs, losses)
        panels = drawing.subject_panels(
            figure, subjects, 60.0, 18.0, 117.0, 34.0, [low, HIGH], "precision", "scores"
        )
        drawn = {s: _draw_scores(panels[s], runs, rows, s) for s in subjects}
        drawing.share_limits(panels, drawn)
        for i, (measure, noise) in enumerate(_measures(runs, rows, losses).items()):
            left = 34.0 + 42.0 * i
            axes = style.axes_mm(figure, left, 74.0, 34.0, 18.0, label=f"noise {measure}")
            _draw_noise(axes, noise, low, measure, found if measure == "mean r" else None)
            words = f"precision {noise.verdict()}".replace(": ", ":\n").replace("all", "\nall")
            if measure == "mean r" and found is not None:
                words += f"\n{HIGH} − {low}: {found.text}"
            style.text_mm(figure, left, 101.0, words, va="top", fontsize=6)
        _draw_published(style.axes_mm(figure, 132.0, 74.0, 45.0, 26.0, label="published"))
        looks = style.level_styles(len(seeds))
        handles = [
            drawing.handle(looks[i] | {"linestyle": "-"}, f"seed {seed}")
            for i, seed in enumerate(seeds)
        ]
        drawing.legend(figure, [*handles, drawing.gap_handle()], 8.0)
        for letter, x, y in (("a", 1, 12.5), ("b", 45, 12.5), ("c", 1, 66.0), ("d", 118, 66.0)):
            style.panel_letter(figure, x, y, letter)
    return figure


def caption_audit_noise(
    scores: pd.DataFrame,
    losses: pd.DataFrame,
    arms: pd.DataFrame,
    profile: Profile,
    simulated: bool,
) -> str:
    """The caption of `fig_audit_noise`, counted in its tables; arguments and errors as there."""
    runs, rows = _runs(arms), mean_rows(scores, profile)
    low, seeds = _low(runs), _seeds(runs)
    found = _precision_difference(runs, rows)
    measures = _measures(runs, rows, losses)
    gaps = [
        f"{what} of seed {seed} in {precision}"
        for (precision, seed), cell in runs.items()
        for what, absent in (
            ("loss", lowest_loss(losses, cell) is None),
            ("score", units(rows, cell).empty),
        )
        if absent
    ]
    if found is None:
        precision_words = "The paired difference of the scores is not computed."
    else:
        precision_words = (
            f"{HIGH} minus {low}, mean over seeds: {found.text} in mean r ({found.reads})."
        )
    words = [
        "Is the difference between 32 and 16 bit larger than that between two runs?",
        f"The base model trained with {len(seeds)} seed{'s' if len(seeds) != 1 else ''} in {HIGH} "
        f"and in {low}; a seed sets the initial weights and the order of the training windows, not "
        "which frames are drawn.",
        "(a) Lowest validation loss, one point per run. (b) Scores of each participant.",
        score_words(rows, profile),
        "(c) What changes when the precision changes and the seed stays (filled, one point per "
        "seed; for mean r the mean over seeds with its interval above them), and when the seed "
        "changes and the precision stays (open, all pairs in both directions; pairs share runs and "
        "are not independent). The loss has no interval but the points.",
        *(f"{measure}: precision {noise.verdict()}." for measure, noise in measures.items()),
        precision_words,
        *_seed_words(measures),
        pair_words([found], profile.protocol.holdout),
        _published_words(),
    ]
    return caption_of(NAME, words, gaps, profile, simulated)


def _runs(arms) -> dict[tuple[str, int], str]:
    """Cell of every (precision, seed) of the arm."""
    rows = arm_rows(arms, "noise")
    if rows.duplicated(["precision", "seed"]).any():
        raise CobeError("arm table: a precision and seed of the noise arm has two rows; keep one")
    kinds = sorted(rows["precision"].unique())
    if len(kinds) != 2 or HIGH not in kinds:
        raise CobeError(
            f"arm table: the noise arm holds {', '.join(kinds)}; give {HIGH} and one other"
        )
    return {(r.precision, int(r.seed)): r.cell for r in rows.itertuples()}


def _low(runs) -> str:
    return next(precision for precision, _ in runs if precision != HIGH)


def _seeds(runs) -> list[int]:
    return sorted({seed for _, seed in runs})


def _noise(values: dict[tuple[str, int], float]) -> Noise:
    """What precision and seed change in a measure of every run that has it."""
    by_seed = {
        seed: value - values[low, seed]
        for (high, seed), value in sorted(values.items())
        if high == HIGH
        for low in {p for p, s in values if p != HIGH and s == seed}
    }
    by_pair = {
        (p, s, t): abs(values[p, s] - values[p, t])
        for (p, s), (q, t) in combinations(sorted(values), 2)
        if p == q
    }
    return Noise(by_seed, by_pair)


def _measures(runs, rows, losses) -> dict[str, Noise]:
    """Noise of the score, averaged over the pairs that all runs have, and of the loss."""
    scored = {run: units(rows, cell) for run, cell in runs.items()}
    table = pd.DataFrame({run: s for run, s in scored.items() if len(s)})
    r = table[np.isfinite(table).all(axis=1)].mean() if len(table) else pd.Series(dtype=float)
    lowest = {run: lowest_loss(losses, cell) for run, cell in runs.items()}
    return {
        "mean r": _noise({run: float(v) for run, v in r.items() if np.isfinite(v)}),
        "validation loss": _noise({run: v for run, v in lowest.items() if v is not None}),
    }


def _precision_difference(runs, rows) -> Difference | None:
    """High minus low precision over pairs, each pair averaged over the seeds that both have."""
    low, sides = _low(runs), {}
    for precision in (HIGH, low):
        scored = {
            s: units(rows, runs[precision, s]) for s in _seeds(runs) if (precision, s) in runs
        }
        sides[precision] = {s: series for s, series in scored.items() if len(series)}
    shared = sorted(set(sides[HIGH]) & set(sides[low]))
    if not shared:
        return None
    # a pair that one seed lacks stays missing, and is counted as left out
    first, second = (
        pd.DataFrame({s: sides[p][s] for s in shared}).mean(axis=1, skipna=False)
        for p in (HIGH, low)
    )
    return difference(first, second)


def _seed_words(measures) -> list[str]:
    """How few seeds there are, and what p they could give at best."""
    by_seed = measures["mean r"].by_seed
    if len(by_seed) < 2:
        return [f"{len(by_seed)} seed has both precisions: too few to test."]
    values = np.array(list(by_seed.values()))
    test = paired_comparison(values, np.zeros_like(values))
    return [
        f"With {len(by_seed)} seeds a sign test over seeds cannot give p below "
        f"{style.r_text(test.smallest_p)} (here p = {style.r_text(test.p)}): the comparison with "
        "the noise is coarse."
    ]


def _draw_losses(axes, runs, losses) -> None:
    """Lowest loss, the two precisions of a seed joined."""
    low, seeds = _low(runs), _seeds(runs)
    looks = style.level_styles(len(seeds))
    drawing.level_ticks(axes, [low, HIGH])
    for i, seed in enumerate(seeds):
        x = np.arange(2) + 0.09 * (i - (len(seeds) - 1) / 2)
        found = [lowest_loss(losses, runs.get((p, seed), "")) for p in (low, HIGH)]
        values = [np.nan if v is None else v for v in found]
        axes.plot(x, values, label=f"seed {seed}", **(looks[i] | {"linestyle": "-"}))
        for place, value in zip(x, found, strict=True):
            if value is None:
                drawing.mark_gap(axes, place, looks[i], f"seed {seed}")
    axes.set_title("loss", loc="left")
    axes.set_xlabel("precision")
    axes.set_ylabel("lowest validation loss\n(nats per token)")
    axes.margins(y=0.14)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.locator_params(axis="y", nbins=4)


def _draw_scores(axes, runs, rows, subject) -> list:
    """Scores of one participant, the two precisions of a seed joined."""
    low, seeds = _low(runs), _seeds(runs)
    looks = style.level_styles(len(seeds))
    drawn = []
    for i, seed in enumerate(seeds):
        x = np.arange(2) + 0.09 * (i - (len(seeds) - 1) / 2)
        found = [overall(rows, runs.get((p, seed), ""), "gpt", subject) for p in (low, HIGH)]
        drawing.draw_line(axes, x, found, looks[i] | {"linestyle": "-"}, f"seed {seed}")
        drawn += found
    return drawn


def _draw_noise(axes, noise: Noise, low: str, measure: str, found: Difference | None) -> None:
    """Differences: of precision at one seed, and of seed at one precision, in both directions."""
    ink = {"linestyle": "none", "color": style.INK, "marker": "o", "markersize": 3.5}
    of_seeds = list(noise.by_seed.values())
    axes.plot(of_seeds, np.zeros(len(of_seeds)), label="precision", **ink)
    pairs = [sign * value for value in noise.by_pair.values() for sign in (-1, 1)]
    axes.plot(pairs, np.ones(len(pairs)), label="seed", markerfacecolor="white", **ink)
    ends = [1e-4, *map(abs, of_seeds), *pairs]
    if found is not None:
        axes.hlines(-0.55, found.low, found.high, color=style.INK, linewidth=1.0).set_label(
            "interval"
        )
        axes.plot(found.mean, -0.55, label="mean", **(ink | {"marker": "|", "markersize": 6}))
        ends += [abs(found.low), abs(found.high)]
    first = measure == "mean r"
    names = [f"{HIGH} − {low},\nsame seed", "two seeds,\nsame precision"]
    axes.set_yticks([0, 1], names if first else ["", ""])
    axes.set_ylim(1.5, -0.9)
    axes.set_xlim(-1.12 * max(ends), 1.12 * max(ends))
    axes.axvline(0, color=style.INK, linewidth=0.5, zorder=0)
    axes.set_xlabel("difference")
    axes.set_title(measure + ("" if first else " (nats per token)"), loc="left")
    axes.locator_params(axis="x", nbins=4)


def _published() -> pd.DataFrame:
    """The published maxima of r at 16 and 32 bit, and of the base model, with their files."""
    both = published.max_r("precision")
    base = published.max_r("data_size")
    base = base[base["level"] == published.BASE_LEVEL["data_size"]].assign(level="base")
    table = pd.concat([both, base], ignore_index=True)
    check_source(table, "published", "published maxima")
    return table


def _draw_published(axes) -> None:
    """Published values: a statistic of its own."""
    table = _published()
    subjects = sorted(table["subject"].unique())
    marks = {"fp32": ("s", "0.2"), "fp16": ("o", "0.45"), "base": ("o", "white")}
    for level, (marker, face) in marks.items():
        rows = table[table["level"] == level].set_index("subject")
        x = [
            subjects.index(s) + {"fp32": -0.2, "fp16": 0.0, "base": 0.2}[level] for s in rows.index
        ]
        axes.plot(
            x,
            rows["max_pearson_r"],
            linestyle="none",
            marker=marker,
            markersize=3.5,
            markerfacecolor=face,
            markeredgecolor="0.2",
            markeredgewidth=0.7,
            label=f"published {level}",
        )
    axes.set_xticks(range(len(subjects)), subjects)
    axes.set_ylim(0, 0.8)
    axes.set_ylabel("maximum r over\n1,095 parcels")
    axes.set_title("published, real data", loc="left", weight="bold")
    words = {"fp32": "fp32", "fp16": "fp16", "base": "fp16, base"}
    handles = [
        Line2D([], [], linestyle="none", marker=m, markersize=3.5, markerfacecolor=f,
               markeredgecolor="0.2", markeredgewidth=0.7, label=words[level])
        for level, (m, f) in marks.items()
    ]  # fmt: skip
    axes.legend(
        handles=handles,
        loc="lower left",
        ncols=3,
        borderpad=0,
        columnspacing=0.5,
        handletextpad=0.1,
    )


def _published_words() -> str:
    """The published differences, computed from the published values."""
    table = _published().pivot(index="subject", columns="level", values="max_pearson_r")
    precision = (table["fp32"] - table["fp16"]).abs()
    again = (table["base"] - table["fp16"]).abs()
    return (
        f"(d) Published maxima of r over {published.N_PARCELS:,} parcels, real data, "
        f"n = {len(table)} participants, without interval or chance level. fp32 and fp16 of "
        "GPT_Floating_Point_Precision_brain_maps.ipynb differ by up to "
        f"{style.r_text(precision.max())}; that fp16 value and the base model's of "
        "Datasize_scaling_brain_maps.ipynb, the same setting, by up to "
        f"{style.r_text(again.max())} (trained again or fitted again: not said). That is the only "
        "published hint of run-to-run noise."
    )
