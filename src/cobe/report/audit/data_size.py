"""Data size against who is in the data, and against the number of updates.

A published subset of the smaller sizes is the first of a list, which is one participant, and is
trained for as many passes as the largest, which is fewer updates. Here either is varied alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from cobe.core.config import Profile
from cobe.report import style
from cobe.report.audit import drawing
from cobe.report.audit.designs import (
    DESIGNS,
    EPOCHS,
    PREFIX,
    PUBLISHED,
    SINGLE,
    SPREAD,
    designs_of,
    ends_of,
    gains_of,
    own_minus_all,
    owner_of,
)
from cobe.report.audit.pairs import (
    caption_of,
    lowest_loss,
    mean_rows,
    overall,
    pair_words,
    score_words,
)
from cobe.report.figures import get_axis
from cobe.report.rows import subjects_of
from cobe.report.style import PaperFigure

NAME = "fig_audit_data_size"
ROWS = {"a": (SPREAD, PREFIX, SINGLE), "b": (SPREAD, EPOCHS, PUBLISHED)}
UNTRAINED = {"color": "0.5", "linewidth": 0.8, "linestyle": (0, (1.5, 1))}
LOSS_LEFT_MM, LEFT_MM, TOTAL_MM = 15.0, 62.0, 115.0


def fig_audit_data_size(
    scores: pd.DataFrame,
    losses: pd.DataFrame,
    arms: pd.DataFrame,
    contents: pd.DataFrame,
    profile: Profile,
    simulated: bool,
) -> PaperFigure:
    """Loss and score by data size when only the participants, or only the updates, differ.

    Parameters
    ----------
    scores, losses, arms : pandas.DataFrame
        Tables of the sweep; the arms ``"diversity"`` and ``"updates"`` say which cells there are.
    contents : pandas.DataFrame
        From `cobe.report.audit.designs.subset_contents`, of the cells of both arms.
    profile : Profile
        Whose protocol is drawn.
    simulated : bool
        Said in the figure.

    Returns
    -------
    figure : PaperFigure
        (a) who is in the data, (b) how many updates, (c) the model of one participant, (d) gain
        from the smallest to the largest size, (e) what each point holds. What was not computed is
        a cross; a size for which there is not enough video is left out, and (e) says so.

    Raises
    ------
    CobeError
        An arm or a column is missing, a table answers twice or holds published values, or the
        contents of a cell are not given.
    """
    axis = get_axis(profile, "data_size")
    designs = designs_of(arms, contents, profile)
    rows, subjects = mean_rows(scores, profile), subjects_of(scores, profile)
    with style.cobe_style():
        figure = style.new_figure(176.0)
        drawing.heading(figure, simulated, "data size against diversity and updates")
        drawn = {subject: [] for subject in subjects}
        panels = {}
        for (letter, shown), top in zip(ROWS.items(), (19.0, 72.0), strict=True):
            style.panel_letter(figure, 1, top - 6.0, letter)
            axes = style.axes_mm(figure, LOSS_LEFT_MM, top, 30.0, 32.0, label=f"losses {letter}")
            _draw_losses(axes, designs, shown, losses, axis)
            places = (LEFT_MM, top, TOTAL_MM, 32.0)
            panels[letter] = drawing.subject_panels(
                figure, subjects, *places, axis.levels, axis.label, f"scores {letter}"
            )
            for subject, panel in panels[letter].items():
                drawn[subject] += _draw_scores(panel, designs, shown, rows, subject)
                drawn[subject].append(_draw_untrained(panel, profile, rows, subject))
            handles = [drawing.handle(_look(d), DESIGNS[d][2]) for d in shown]
            handles.append(Line2D([], [], label="untrained", **UNTRAINED))
            drawing.legend(figure, [*handles, drawing.gap_handle()], top - 10.5)
        for row in panels.values():
            drawing.share_limits(row, drawn)
        axes = style.axes_mm(figure, LOSS_LEFT_MM, 121.0, 44.0, 34.0, label="own")
        _draw_own(axes, designs, contents, rows, subjects, axis)
        axes = style.axes_mm(figure, 113.0, 121.0, 32.0, 16.0, label="gains")
        drawing.difference_rows(
            axes,
            [(_short(d), found, _look(d), False) for d, found in gains_of(designs, rows).items()],
        )
        axes.set_title(f"gain in mean r, {_span(axis)} frames", loc="left")
        _draw_contents(figure, designs, contents, axis, 146.5)
        for letter, x, y in (("c", 1, 114.5), ("d", 70, 114.5), ("e", 70, 143.5)):
            style.panel_letter(figure, x, y, letter)
    return figure


def caption_audit_data_size(
    scores: pd.DataFrame,
    losses: pd.DataFrame,
    arms: pd.DataFrame,
    contents: pd.DataFrame,
    profile: Profile,
    simulated: bool,
) -> str:
    """The caption of `fig_audit_data_size`, counted in its tables; arguments, errors as there."""
    axis = get_axis(profile, "data_size")
    designs = designs_of(arms, contents, profile)
    rows, subjects = mean_rows(scores, profile), subjects_of(scores, profile)
    gaps = [
        f"{what} of {DESIGNS[d][2]}, {style.level_text(axis.levels[p.place])}"
        for d, points in designs.items()
        for p in points
        for what, absent in (
            ("loss", lowest_loss(losses, p.cell) is None),
            ("score", any(overall(rows, p.cell, "gpt", s) is None for s in subjects)),
        )
        if absent
    ]
    untrained = profile.base.untrained().name
    gaps += [
        f"untrained model in {subject}"
        for subject in subjects
        if overall(rows, untrained, "untrained", subject) is None
    ]
    gains = gains_of(designs, rows)
    own = [
        f
        for some in own_minus_all(designs, contents, rows, subjects).values()
        for f in some.values()
    ]
    told = [f"{_short(d)} {found.text}" for d, found in gains.items() if found is not None]
    words = [
        "Does more video help, or more participants in it, or more updates?",
        "(a) The same number of frames and of updates; the frames are spread over all "
        "participants, are the first of the list, or are one participant's. (b) The same frames, "
        "with as many updates for every size or with as many passes over the data; and the "
        "published design, which changes both. All designs share the largest size. Left: lowest "
        "validation loss, one model and one seed per point, without interval; right: scores of "
        "each participant; dotted: the untrained model of the same shape.",
        score_words(rows, profile),
        "(c) The model of one participant minus the model of all with as many frames and updates, "
        "in its own participant and in the others.",
        _own_words(designs, contents, rows, subjects),
        f"(d) Gain in mean r over {_span(axis)} frames by design: {'; '.join(told)}."
        if told
        else "(d) Gain over the sizes: not computed.",
        *_statement(designs, gains, losses),
        pair_words([*gains.values()], profile.protocol.holdout),
        f"In (c), {_few_words(own, profile)}",
        "(e) Participants / levels / updates of the training data of each point; dash: there is "
        "not enough video for it.",
    ]
    return caption_of(NAME, words, gaps, profile, simulated)


def _statement(designs, gains, losses) -> list[str]:
    """What of the published design's gain is left when neither participants nor updates change."""
    words = []
    if gains[SPREAD] is not None and gains[PUBLISHED] is not None:
        words.append(
            f"The published design gains {style.signed_r(gains[PUBLISHED].mean)} in mean r "
            f"({gains[PUBLISHED].reads}); with all participants in every size and equal updates "
            f"the gain is {style.signed_r(gains[SPREAD].mean)} ({gains[SPREAD].reads})."
        )
    falls = {}
    for d in (SPREAD, PUBLISHED):
        ends = [lowest_loss(losses, cell) for cell in ends_of(designs, d) or ("",)]
        if None not in ends:
            falls[d] = ends[0] - ends[1]
    if len(falls) == 2:
        words.append(
            f"The loss falls by {falls[PUBLISHED]:.2f} nats per token in the published design and "
            f"by {falls[SPREAD]:.2f} with all participants and equal updates."
        )
    return words


def _own_words(designs, contents, rows, subjects) -> str:
    """Where the own participant stands among all: the only test that one participant allows."""
    owner = owner_of(designs, contents)
    found = own_minus_all(designs, contents, rows, subjects)
    means = {
        s: np.mean([f.mean for f in some.values()])
        for s, some in found.items()
        if some and None not in some.values()
    }
    if owner not in means or len(means) < 2:
        return "Own against others: not computed."
    others = [v for s, v in means.items() if s != owner]
    rank = 1 + sum(v > means[owner] for v in others)
    return (
        f"Mean over sizes: {owner}, who was trained on, {style.signed_r(means[owner])}; the "
        f"{len(others)} others {style.signed_r(min(others))} to {style.signed_r(max(others))}. "
        f"Its own participant ranks {rank} of {len(means)} (first by chance: 1 in {len(means)}); "
        "one model of one participant decides no more."
    )


def _few_words(own, profile: Profile) -> str:
    known = [f.n_pairs for f in own if f is not None]
    if not known:
        return "no difference could be computed."
    return (
        f"whiskers rest on {min(known)} held-out {profile.protocol.holdout}s of one participant "
        "and are too narrow."
    )


def _draw_losses(axes, designs, shown, losses, axis) -> None:
    for d in shown:
        found = [lowest_loss(losses, p.cell) for p in designs[d]]
        x = [p.place for p in designs[d]]
        values = [np.nan if v is None else v for v in found]
        axes.plot(x, values, label=_short(d), **_look(d))
        for place, value in zip(x, found, strict=True):
            if value is None:
                drawing.mark_gap(axes, place + _shift(d), _look(d), _short(d))
    drawing.level_ticks(axes, axis.levels)
    axes.set_xlabel(axis.label)
    axes.set_ylabel("lowest validation loss\n(nats per token)")
    axes.margins(y=0.14)


def _draw_scores(axes, designs, shown, rows, subject) -> list:
    drawn = []
    for d in shown:
        found = [overall(rows, p.cell, "gpt", subject) for p in designs[d]]
        x = [p.place + _shift(d) for p in designs[d]]
        drawing.draw_line(axes, x, found, _look(d), _short(d))
        drawn += found
    return drawn


def _draw_untrained(axes, profile: Profile, rows, subject) -> pd.Series | None:
    """The untrained model of the same shape: what no data at all would give."""
    row = overall(rows, profile.base.untrained().name, "untrained", subject)
    if row is not None:
        axes.axhline(row["r"], label="untrained", zorder=1, **UNTRAINED)
    return row


def _draw_own(axes, designs, contents, rows, subjects, axis) -> None:
    """Model of one minus model of all: own participant filled, the others open."""
    owner = owner_of(designs, contents)
    found = own_minus_all(designs, contents, rows, subjects)
    for i, (subject, some) in enumerate(found.items()):
        colour = _look(SINGLE)["color"] if subject == owner else "0.5"
        look = {"color": colour, "marker": style.MARKERS[i % len(style.MARKERS)]}
        x = [place + 0.13 * (i - (len(found) - 1) / 2) for place in some]
        for place, d in zip(x, some.values(), strict=True):
            drawing.draw_difference(axes, place, d, look, subject)
    if not any(d for some in found.values() for d in some.values()):
        axes.set_ylim(-0.01, 0.01)
    axes.axhline(0, color=style.INK, linewidth=0.5, zorder=0)
    drawing.level_ticks(axes, axis.levels)
    axes.set_xlabel(axis.label)
    axes.set_ylabel("difference of mean r")
    axes.set_title("one participant minus all", loc="left")
    for i, subject in enumerate(found):
        look = {"color": _look(SINGLE)["color"] if subject == owner else "0.5"}
        look |= {"marker": style.MARKERS[i % len(style.MARKERS)], "linestyle": "none"}
        axes.plot([], [], label=f"{subject}, its own" if subject == owner else subject, **look)
    handles = axes.get_lines()[-len(found) :] if found else []
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(-0.1, -0.26),
        ncols=2,
        borderpad=0,
        handlelength=1.0,
    )


def _draw_contents(figure, designs, contents, axis, top) -> None:
    """A table: participants / levels / updates of every point."""
    held = contents.set_index("cell")
    x = [127.0 + 14.5 * i for i in range(len(axis.levels))]
    style.text_mm(figure, 76.0, top, "participants / levels / updates at", fontsize=6, va="center")
    for place, level in enumerate(axis.levels):
        words = style.level_text(level)
        style.text_mm(figure, x[place], top, words, fontsize=6, ha="center", va="center")
    for i, (d, points) in enumerate(designs.items()):
        y = top + 4.3 * (i + 1)
        style.text_mm(figure, 76.0, y, DESIGNS[d][2].split(":")[0], fontsize=6, va="center")
        cells = {p.place: p for p in points}
        for place in range(len(axis.levels)):
            text = "–"
            if place in cells:
                row, p = held.loc[cells[place].cell], cells[place]
                text = f"{row['n_subjects']} / {row['n_levels']} / {style.level_text(p.n_steps)}"
            style.text_mm(figure, x[place], y, text, fontsize=6, ha="center", va="center")


def _look(design: int) -> dict:
    return style.level_styles(len(DESIGNS))[design]


def _shift(design: int) -> float:
    return {SPREAD: -0.12, PREFIX: 0.0, EPOCHS: 0.0, SINGLE: 0.12, PUBLISHED: 0.12}[design]


def _short(design: int) -> str:
    return DESIGNS[design][2].split(":")[0]


def _span(axis) -> str:
    return f"{style.level_text(axis.levels[0])} to {style.level_text(axis.levels[-1])}"
