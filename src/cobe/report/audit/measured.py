"""What our own run shows of each claim, read from the result tables under one protocol at a time.

A function here takes the tables of a run (`Results`) and a protocol, and returns a `Finding`: words
with numbers, and which way the effect goes by one rule:

- its reach is the 95 % interval over pairs of participant and held-out group, or, with fewer than
  `MIN_PAIRS` pairs, the smallest to the largest difference of at least `MIN_SUBJECTS` participants
  (four of one sign come by chance one time in eight);
- its yardstick is the range of the base model's repeats with other seeds under the same protocol,
  where there are any;
- it is no difference if all its reach lies within the yardstick on both sides of 0;
- it rises or falls if its reach leaves out 0 and the effect is larger than the yardstick;
- everything else is unclear.

What the tables do not hold raises `NotComputed`, which says what is missing; it is never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.stats import t as t_distribution

from cobe.core.config import Axis, Cell, Profile, Protocol, axis_cells
from cobe.core.errors import CobeError
from cobe.encoding.stats import Comparison, fewest_findable, paired_comparison
from cobe.report.audit import pairs
from cobe.report.audit.evidence import number, numbers
from cobe.report.maps import Q_SURVIVES
from cobe.report.rows import LOSS_COLUMNS, SCORE_COLUMNS, check_source, require, subjects_of
from cobe.report.style import level_text

RISES, FALLS, SAME, UNCLEAR = "rises", "falls", "no difference", "unclear"
NOT_COMPUTED, NOT_APPLICABLE = "not computed", "not applicable"
MIN_PAIRS, MIN_SUBJECTS = 6, 4
COLUMNS = {
    "scores": SCORE_COLUMNS,
    "losses": LOSS_COLUMNS,
    "arms": "arm cell n_frames scheme updates precision seed".split(),
    "blocks": "cell trained n_layers subject block r".split(),
    "bands": "summary held_out band delta_r2 subject".split(),
    "null_trials": ("protocol r r_mean r_max chance_95 n_found n_parcels fewest_findable".split()),
    "orders": "protocol recovered right_winner".split(),
    "throughput": (
        "change precision step_s device dropout attention attention_dropout "
        "activation_checkpointing compile tokens_once"
    ).split(),
}


class NotComputed(Exception):
    """The tables lack what a finding needs; the message says what."""


@dataclass(frozen=True)
class Finding:
    """What a run shows under one protocol.

    Attributes
    ----------
    text : str
        The number that counts, in words.
    direction : str
        ``RISES``, ``FALLS``, ``SAME``, ``UNCLEAR``, ``NOT_COMPUTED`` or ``NOT_APPLICABLE``.
    loss_falls : bool or None
        Whether the validation loss falls from the first level to the last; None: not asked.
    details : str
        What else belongs to it.
    repeated : bool
        Whether the effect was held against repeats with other seeds.
    """

    text: str
    direction: str
    loss_falls: bool | None = None
    details: str = ""
    repeated: bool = True


@dataclass(frozen=True)
class Results:
    """The tables of one run; a table that was not made is None.

    Attributes
    ----------
    profile : Profile
        What was run.
    scores, losses, arms, blocks, bands, null_trials, orders, throughput : DataFrame or None
        As the sweep makes them (orders: `cobe.sweep.trials.order_recovered`); computed values only.
    """

    profile: Profile
    scores: pd.DataFrame | None = None
    losses: pd.DataFrame | None = None
    arms: pd.DataFrame | None = None
    blocks: pd.DataFrame | None = None
    bands: pd.DataFrame | None = None
    null_trials: pd.DataFrame | None = None
    orders: pd.DataFrame | None = None
    throughput: pd.DataFrame | None = None

    @classmethod
    def of(cls, tables: dict, profile: Profile) -> Results:
        """Check the tables and hold them.

        Raises
        ------
        CobeError
            A table has no such name, lacks a column, or holds published values.
        """
        unknown = sorted(set(tables) - set(COLUMNS))
        if unknown:
            raise CobeError(
                f"tables: no such table {', '.join(unknown)}; give {', '.join(COLUMNS)}"
            )
        for name, table in tables.items():
            if table is None:
                continue
            require(table, COLUMNS[name], f"{name} table")
            if "source" in table.columns:
                check_source(table, "computed", f"{name} table")
        return cls(profile, **tables)

    @cached_property
    def summaries(self) -> pd.DataFrame:
        """The rows of the score table over all parcels, without those of single ones."""
        scores = self.table("scores")
        return scores[scores["summary"] != "target"]

    def table(self, name: str) -> pd.DataFrame:
        """One of the tables, or `NotComputed`."""
        table = getattr(self, name)
        if table is None or table.empty:
            raise NotComputed(f"no {name} table")
        return table


@dataclass(frozen=True)
class Scored:
    """Scores of one set of features under one protocol.

    Attributes
    ----------
    subjects : Series
        By participant, all held-out data.
    pairs : Series
        By (participant, held-out group): the units of paired comparisons.
    """

    subjects: pd.Series
    pairs: pd.Series

    def __sub__(self, other: Scored) -> Scored:
        """Differences, unit by unit."""
        return Scored(self.subjects - other.subjects, self.pairs - other.pairs)


@dataclass(frozen=True)
class Effect:
    """A difference between two scores: by participant, and over pairs where there are enough."""

    subjects: pd.Series
    n_pairs: int
    compared: Comparison | None
    units: str = "pairs"

    @property
    def size(self) -> float:
        """Mean difference: over pairs where they are compared, else over participants."""
        return self.compared.difference if self.compared else float(self.subjects.mean())

    def words(self) -> str:
        """The difference, its interval over pairs, and in how many participants it is above 0."""
        up = f"above 0 in {int((self.subjects > 0).sum())} of {len(self.subjects)}"
        if self.compared is None:
            each = numbers(self.subjects)
            return f"{number(self.size)} ({each}; {self.n_pairs} {self.units}: no interval; {up})"
        low, high = number(self.compared.ci_low), number(self.compared.ci_high)
        return f"{number(self.size)} ({low} to {high}; {self.n_pairs} pairs; {up})"

    def direction(self, repeats: float | None) -> str:
        """The rule of this module; without repeats nothing can be no difference."""
        if self.compared is not None:
            low, high = self.compared.ci_low, self.compared.ci_high
        elif len(self.subjects) >= MIN_SUBJECTS:
            low, high = self.subjects.min(), self.subjects.max()
        else:
            return UNCLEAR
        if repeats is not None and max(-low, high) <= repeats:
            return SAME
        if abs(self.size) <= (repeats or 0.0):
            return UNCLEAR
        return RISES if low > 0 else FALLS if high < 0 else UNCLEAR

    def finding(self, text: str, repeats: float | None, details: str, loss_falls=None) -> Finding:
        """A finding of this effect: `text`, what it is of."""
        direction = self.direction(repeats)
        return Finding(
            f"{text}: {self.words()}", direction, loss_falls, details, repeats is not None
        )


def protocol_of(results: Results, kind: str, axis: str = "") -> Protocol:
    """``"corrected"`` or ``"as_published"`` of a profile, as one axis was published."""
    profile = results.profile
    return profile.protocol if kind == "corrected" else profile.published_for(axis)


def axis_of(results: Results, name: str) -> Axis:
    """The axis of that name, or `NotComputed` where the profile does not vary it."""
    for axis in results.profile.axes:
        if axis.name == name:
            return axis
    raise NotComputed(f"profile {results.profile.name} does not vary {name}")


def scored(results: Results, cell: str, features: str, protocol: Protocol) -> Scored:
    """The protocol's own summary (mean or maximum over parcels) of one set of features.

    Raises
    ------
    NotComputed
        A participant has no score.
    CobeError
        A row appears twice.
    """
    table = results.summaries
    rows = table[
        (table["summary"] == protocol.summary)
        & (table["cell"] == cell)
        & (table["features"] == features)
        & (table["protocol"] == protocol.name)
    ]
    if rows.duplicated(["subject", "held_out"]).any():
        raise CobeError(
            f"score table: two rows for {cell}, {features}, {protocol.name}; keep one of them"
        )
    whole = rows["held_out"].astype(str) == "all"
    subjects = rows[whole].set_index("subject")["r"].sort_index()
    by_group = rows[~whole].set_index(["subject", "held_out"])["r"].sort_index()
    known = set(subjects.index[np.isfinite(subjects)])
    missing = [s for s in subjects_of(table, results.profile) if s not in known]
    if missing or not np.isfinite(by_group).all():
        whom = f" of {', '.join(missing)}" if known and missing else ""
        whom += " in every held-out group" if known and not missing else ""
        name = f"{features} {cell}" if features == "gpt" else cell
        raise NotComputed(f"{name} under {protocol.name}{whom}")
    return Scored(subjects, by_group)


def compare(first: Scored, second: Scored) -> Effect:
    """First minus second over the same participants and held-out groups."""
    difference = first.subjects - second.subjects
    if set(first.pairs.index) != set(second.pairs.index):
        raise NotComputed("scores over the same held-out groups")
    n_pairs = len(first.pairs)
    enough = n_pairs >= MIN_PAIRS
    return Effect(
        difference, n_pairs, paired_comparison(first.pairs, second.pairs) if enough else None
    )


def arm_cells(results: Results, arm: str) -> pd.DataFrame:
    """Rows of one arm, or `NotComputed`."""
    table = results.table("arms")
    rows = table[table["arm"] == arm]
    if rows.empty:
        raise NotComputed(f"no arm {arm!r}")
    return rows


def repeats_of(
    results: Results, protocol: Protocol, n_averaged: int = 1
) -> tuple[float | None, str]:
    """How far two models may lie apart by their seeds alone, from repeats of the base model.

    All pairs of participant and held-out group share the same two trained models, so an interval
    over pairs does not see the noise of training. The least significant difference does: the t
    quantile (two-sided 5 %) of so few seeds, times their standard deviation, times the square root
    of two over the number of seeds that each side is averaged over.
    """
    try:
        rows = arm_cells(results, "noise")
        rows = rows[rows["precision"] == results.profile.base.precision]
        means = [scored(results, c, "gpt", protocol).subjects.mean() for c in rows["cell"]]
    except NotComputed:
        means = []
    if len(means) < 2:
        return None, "no repeats with other seeds under this protocol"
    spread = np.std(means, ddof=1) * np.sqrt(2 / n_averaged)
    least = float(t_distribution.ppf(0.975, len(means) - 1) * spread)
    words = f"two models may differ by {number(least, sign=False)} by their seeds alone (95 %, from"
    return least, f"{words} {len(means)} seeds of the base model)"


def lowest_loss(results: Results, cell: str) -> float:
    """Lowest validation loss of a cell in nats per token.

    Raises
    ------
    NotComputed
        It was not trained.
    CobeError
        A step appears twice.
    """
    loss = pairs.lowest_loss(results.table("losses"), cell)
    if loss is None:
        raise NotComputed(f"loss of {cell}")
    return loss


def loss_words(results: Results, first: str, last: str) -> tuple[str, bool | None]:
    """Lowest losses of two cells in words, and whether the second is lower (None: not computed)."""
    try:
        before, after = lowest_loss(results, first), lowest_loss(results, last)
    except NotComputed:
        return "loss not computed", None
    words = f"lowest validation loss {number(before, 2, False)} to {number(after, 2, False)}"
    return words, after < before - _loss_noise(results)


def _loss_noise(results: Results) -> float:
    """Range of the base model's lowest losses over its seeds; 0 without repeats."""
    try:
        rows = arm_cells(results, "noise")
        rows = rows[rows["precision"] == results.profile.base.precision]
        return float(np.ptp([lowest_loss(results, cell) for cell in rows["cell"]]))
    except NotComputed:
        return 0.0


def levels_words(axis: Axis) -> str:
    """First and last level of an axis."""
    return f"{axis.label} {level_text(axis.levels[0])} to {level_text(axis.levels[-1])}"


def gain(results: Results, axis: Axis, protocol: Protocol, trained: bool = True) -> Effect:
    """Last level of an axis minus its first."""
    cells = axis_cells(results.profile, axis, protocol)
    return compare(*(_of_cell(results, cell, protocol, trained) for cell in (cells[-1], cells[0])))


def _of_cell(results: Results, cell: Cell, protocol: Protocol, trained: bool = True) -> Scored:
    name, features = (cell.name, "gpt") if trained else (cell.untrained().name, "untrained")
    return scored(results, name, features, protocol)


def trend(results: Results, kind: str, axis_name: str) -> Finding:
    """Last level of an axis minus its first, in the brain score and in the loss."""
    axis, protocol = axis_of(results, axis_name), protocol_of(results, kind, axis_name)
    effect = gain(results, axis, protocol)
    repeats, seeds = repeats_of(results, protocol)
    cells = axis_cells(results.profile, axis, protocol)
    loss, falls = loss_words(results, cells[0].name, cells[-1].name)
    text = f"{protocol.summary} r, {levels_words(axis)}"
    return effect.finding(text, repeats, f"{seeds}; {loss}", falls)


def above_chance(results: Results, kind: str) -> Finding:
    """The base model against its chance level, and how many parcels survive correction."""
    protocol, base = protocol_of(results, kind), results.profile.base.name
    values = scored(results, base, "gpt", protocol).subjects
    table = results.table("scores")
    mine = table[
        (table["cell"] == base)
        & (table["features"] == "gpt")
        & (table["protocol"] == protocol.name)
        & (table["held_out"].astype(str) == "all")
    ]
    summary = mine[mine["summary"] == protocol.summary].set_index("subject")
    chance = summary["chance_95"].reindex(values.index)
    if not np.isfinite(chance).all():
        raise NotComputed(f"chance level under {protocol.name}")
    targets = mine[mine["summary"] == "target"]
    targets = targets[np.isfinite(targets["q"])]
    n_targets, n_pass = len(targets), int((targets["q"] <= Q_SURVIVES).sum())
    n_parcels = int(targets.groupby("subject").size().max()) if n_targets else 0
    fewest = fewest_findable(n_parcels, max(protocol.n_permutations, 1))
    up = int((values > chance).sum())
    text = (
        f"{protocol.summary} r over parcels {numbers(values, sign=False)}; chance level "
        f"{numbers(chance, sign=False)}; above it in {up} of {len(values)}"
    )
    details = (
        f"{n_pass} of {n_targets} parcels (all participants together) pass a false discovery rate "
        f"of {Q_SURVIVES:.0%} (with so many permutations, {fewest} of {n_parcels} at the least)"
    )
    means = mine[mine["summary"] == "mean"].set_index("subject")["r"].reindex(values.index)
    if protocol.summary == "max" and np.isfinite(means).all():
        details += f"; the mean over the same parcels is {numbers(means, sign=False)}"
    direction = RISES if up == len(values) else SAME if up == 0 else UNCLEAR
    return Finding(text, direction, details=details)
