"""Width against feature dimension: what of the gain with hidden size is more features to regress.

A wider model hands the ridge more features. Here every width is scored twice, with as many features
as it has hidden units and with the same number for all, and beside an untrained twin.
"""

from __future__ import annotations

import pandas as pd

from cobe.core.config import Cell, Profile, axis_cells
from cobe.report import style
from cobe.report.audit import drawing
from cobe.report.audit.pairs import (
    NATIVE,
    Difference,
    caption_of,
    difference,
    mean_rows,
    overall,
    pair_words,
    score_words,
    units,
)
from cobe.report.figures import get_axis
from cobe.report.rows import subjects_of
from cobe.report.style import PaperFigure

NAME = "fig_audit_width"
LEFT_MM, TOTAL_MM = 17.0, 160.0


def fig_audit_width(scores: pd.DataFrame, profile: Profile, simulated: bool) -> PaperFigure:
    """Scores by hidden size with native and with matched features, trained and untrained.

    Parameters
    ----------
    scores : pandas.DataFrame
        Score table with the protocols ``"native"`` and the profile's own.
    profile : Profile
        Whose axis ``hidden_dim`` is drawn.
    simulated : bool
        Said in the figure.

    Returns
    -------
    figure : PaperFigure
        (a) each participant's scores; (b) trained minus untrained by width; (c) widest minus
        narrowest. What was not computed is a cross.

    Raises
    ------
    CobeError
        The profile does not vary the hidden size, or a table lacks a column, answers twice or holds
        published values.
    """
    axis = get_axis(profile, "hidden_dim")
    subjects = subjects_of(scores, profile)
    rows = _rows(scores, profile)
    with style.cobe_style():
        figure = style.new_figure(108.0)
        drawing.heading(figure, simulated, "width against feature dimension")
        panels = drawing.subject_panels(
            figure, subjects, LEFT_MM, 18.0, TOTAL_MM, 34.0, axis.levels, axis.label, "scores"
        )
        drawn = {s: _draw_scores(panels[s], s, profile, rows) for s in subjects}
        drawing.share_limits(panels, drawn)
        _draw_learned(style.axes_mm(figure, LEFT_MM, 71.0, 56.0, 27.0), profile, rows)
        _draw_gains(style.axes_mm(figure, 113.0, 71.0, 32.0, 27.0), profile, rows)
        handles = [
            drawing.handle(_look(p, profile, trained), _words(p, profile, trained), not trained)
            for p in rows
            for trained in (True, False)
        ]
        drawing.legend(figure, [*handles, drawing.gap_handle()], 8.0)
        for letter, x, y in (("a", 1, 12.5), ("b", 1, 63.5), ("c", 84, 63.5)):
            style.panel_letter(figure, x, y, letter)
    return figure


def caption_audit_width(scores: pd.DataFrame, profile: Profile, simulated: bool) -> str:
    """The caption of `fig_audit_width`, counted in its table; arguments and errors as there."""
    axis = get_axis(profile, "hidden_dim")
    rows = _rows(scores, profile)
    learned, gains = _learned(profile, rows), _gains(profile, rows)
    gaps = [
        f"{'gpt' if cell.trained else 'untrained'}, hidden size {cell.hidden}, {p} in {subject}"
        for p, table in rows.items()
        for cell, features in _cells(profile)
        for subject in subjects_of(scores, profile)
        if overall(table, cell.name, features, subject) is None
    ]
    parts = [
        f"{'trained' if trained else 'untrained'}, {_short(p, profile)}: {found.text}"
        for (p, trained), found in gains.items()
        if found is not None
    ]
    words = [
        "Does a wider model predict better because it learned more, or because it hands the ridge "
        "more features?",
        f"(a) Scores by {axis.label} of each participant. {_protocol_words(profile)}",
        score_words(rows[profile.protocol.name], profile),
        "(b) Trained minus untrained model of the same shape.",
        f"(c) Hidden size {axis.levels[-1]} minus {axis.levels[0]}: {'; '.join(parts)}."
        if parts
        else "(c) Widest minus narrowest: not computed.",
        *_statement(gains),
        pair_words([*learned.values(), *gains.values()], profile.protocol.holdout),
    ]
    return caption_of(NAME, words, gaps, profile, simulated)


def _rows(scores, profile: Profile) -> dict[str, pd.DataFrame]:
    """Mean rows of both protocols."""
    return {p: mean_rows(scores, profile, p) for p in (NATIVE, profile.protocol.name)}


def _cells(profile: Profile) -> list[tuple[Cell, str]]:
    trained = axis_cells(profile, get_axis(profile, "hidden_dim"))
    return [(c, "gpt") for c in trained] + [(c.untrained(), "untrained") for c in trained]


def _learned(profile: Profile, rows) -> dict[tuple[str, int], Difference | None]:
    """Trained minus untrained by protocol and hidden size."""
    cells = [cell for cell, features in _cells(profile) if features == "gpt"]
    return {
        (p, cell.hidden): difference(
            units(table, cell.name), units(table, cell.untrained().name, "untrained")
        )
        for p, table in rows.items()
        for cell in cells
    }


def _gains(profile: Profile, rows) -> dict[tuple[str, bool], Difference | None]:
    """Widest minus narrowest by protocol, trained or not."""
    gains = {}
    for p, table in rows.items():
        for trained in (True, False):
            cells = [(c, f) for c, f in _cells(profile) if c.trained == trained]
            first, last = (units(table, c.name, f) for c, f in (cells[0], cells[-1]))
            gains[p, trained] = difference(last, first)
    return gains


def _statement(gains) -> list[str]:
    """What remains of the trained models' gain with matched features, if both are there."""
    native, matched = (gains[p, True] for p in dict.fromkeys(p for p, _ in gains))
    if native is None or matched is None:
        return []
    return [
        f"With as many features as hidden units the gain of the trained models is "
        f"{style.signed_r(native.mean)} ({native.reads}); with matched features "
        f"{style.signed_r(matched.mean)} ({matched.reads})."
    ]


def _draw_scores(axes, subject, profile: Profile, rows) -> list:
    """Four lines of one participant; what was drawn."""
    drawn = []
    for p, table in rows.items():
        for trained in (True, False):
            cells = [(c, f) for c, f in _cells(profile) if c.trained == trained]
            found = [overall(table, c.name, f, subject) for c, f in cells]
            x = [i + _shift(p) for i in range(len(found))]
            label = f"{p} {'trained' if trained else 'untrained'}"
            drawing.draw_line(axes, x, found, _look(p, profile, trained), label, not trained)
            drawn += found
    return drawn


def _draw_learned(axes, profile: Profile, rows) -> None:
    """Trained minus untrained by hidden size, both protocols."""
    axis = get_axis(profile, "hidden_dim")
    axes.set_label("learned")
    for (p, hidden), found in _learned(profile, rows).items():
        x = axis.levels.index(hidden) + _shift(p)
        drawing.draw_difference(axes, x, found, _look(p, profile, True), f"{p} {hidden}")
    axes.axhline(0, color=style.INK, linewidth=0.5, zorder=0)
    drawing.level_ticks(axes, axis.levels)
    axes.set_xlabel(axis.label)
    axes.set_ylabel("difference of mean r")
    axes.set_title("trained minus untrained", loc="left")


def _draw_gains(axes, profile: Profile, rows) -> None:
    """Widest minus narrowest, four rows."""
    axis = get_axis(profile, "hidden_dim")
    axes.set_label("gains")
    entries = [
        (_words(p, profile, trained), found, _look(p, profile, trained), not trained)
        for (p, trained), found in _gains(profile, rows).items()
    ]
    drawing.difference_rows(axes, entries)
    axes.set_xlabel("difference of mean r")
    axes.set_title(f"hidden size {axis.levels[-1]} minus {axis.levels[0]}", loc="left")


def _shift(protocol: str) -> float:
    return -0.07 if protocol == NATIVE else 0.07


def _look(protocol: str, profile: Profile, trained: bool) -> dict:
    look = style.level_styles(3)[1 if protocol == NATIVE else 0]
    return look | {"linestyle": "-" if trained else (0, (1.5, 1))}


def _short(protocol: str, profile: Profile) -> str:
    return "native" if protocol == NATIVE else f"{profile.protocol.n_features} features"


def _words(protocol: str, profile: Profile, trained: bool) -> str:
    return f"{'trained' if trained else 'untrained'}, {_short(protocol, profile)}"


def _protocol_words(profile: Profile) -> str:
    """How the two ways read a model."""
    return (
        "Principal components of all tokens of a clip; native: as many as the model has hidden "
        f"units; matched: {profile.protocol.n_features} for every width."
    )
