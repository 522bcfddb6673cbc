"""Scores and losses of single cells, and differences over pairs of participant and held-out group.

Nothing here fills, averages over protocols or guesses: what a table lacks is None, and what cannot
be paired is counted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cobe.core.config import Profile
from cobe.core.errors import CobeError
from cobe.encoding.stats import paired_comparison
from cobe.report.captions import REAL_DATA, SIMULATED_DATA
from cobe.report.rows import LOSS_COLUMNS, check_source, of_protocol, require, summary_row
from cobe.report.style import signed_r

COMMAND = "./run_all.sh --only audit"
NATIVE = "native"
ARM_COLUMNS = "arm cell n_frames scheme updates n_steps precision seed".split()
FEW_PAIRS = 10


@dataclass(frozen=True)
class Difference:
    """First minus second, over pairs of participant and held-out group.

    Attributes
    ----------
    mean, low, high : float
        Mean difference and its 95 % bootstrap interval over pairs.
    n_pairs : int
        Pairs that both have, with finite scores.
    n_left_out : int
        Pairs that only one has, or with a score that is not finite.
    """

    mean: float
    low: float
    high: float
    n_pairs: int
    n_left_out: int

    @property
    def reads(self) -> str:
        """Where the interval lies, in words."""
        if self.low > 0:
            return "interval above 0"
        return "interval below 0" if self.high < 0 else "interval holds 0"

    @property
    def text(self) -> str:
        """The mean with its interval: ``+.021 [+.010, +.030]``; small ones with four digits."""
        values = (self.mean, self.low, self.high)
        small = max(map(abs, values)) < 0.01
        mean, low, high = (
            f"{v:+.4f}".replace("0.", ".", 1) if small else signed_r(v) for v in values
        )
        return f"{mean} [{low}, {high}]"


def mean_rows(scores: pd.DataFrame, profile: Profile, protocol: str = "") -> pd.DataFrame:
    """Rows "mean over parcels" of one protocol, computed values only.

    Parameters
    ----------
    scores : pandas.DataFrame
        Score table of the sweep.
    profile : Profile
        Whose own protocol is meant without a name.
    protocol : str
        Name of another protocol, such as ``"native"``.

    Raises
    ------
    CobeError
        A column is missing, or the table holds published values.
    """
    named = replace(profile.protocol, name=protocol or profile.protocol.name)
    rows = of_protocol(scores, named)
    return rows[rows["summary"] == "mean"]


def overall(rows: pd.DataFrame, cell: str, features: str, subject: str) -> pd.Series | None:
    """One participant's score of one cell, all held-out data; None: not there, or not finite.

    Raises
    ------
    CobeError
        Two rows answer.
    """
    row = summary_row(rows, cell, features, subject)
    return row if row is not None and np.isfinite(row["r"]) else None


def units(rows: pd.DataFrame, cell: str, features: str = "gpt") -> pd.Series:
    """Scores of one cell by (participant, held-out group); empty where it was not scored.

    Raises
    ------
    CobeError
        A held-out group of a participant has two rows.
    """
    chosen = rows[
        (rows["cell"] == cell)
        & (rows["features"] == features)
        & (rows["held_out"].astype(str) != "all")
    ]
    series = chosen.set_index(["subject", "held_out"])["r"].astype(float)
    if not series.index.is_unique:
        raise CobeError(f"score table: a held-out group of {cell} has two rows; keep one of them")
    return series


def difference(first: pd.Series, second: pd.Series) -> Difference | None:
    """First minus second over the pairs that both have; None with fewer than two.

    Parameters
    ----------
    first, second : pandas.Series
        From `units`.
    """
    both = pd.concat([first, second], axis=1, keys=["first", "second"])
    kept = both[np.isfinite(both).all(axis=1)]
    if len(kept) < 2:
        return None
    found = paired_comparison(kept["first"], kept["second"])
    return Difference(
        found.difference, found.ci_low, found.ci_high, found.n_units, len(both) - len(kept)
    )


def lowest_loss(losses: pd.DataFrame, cell: str) -> float | None:
    """Lowest validation loss of a cell (nats per token), whose weights are scored.

    None: not trained, or no finite loss.

    Raises
    ------
    CobeError
        A column is missing, the values are not computed ones, or a step appears twice.
    """
    require(losses, LOSS_COLUMNS, "loss table")
    if "source" in losses.columns:
        check_source(losses, "computed", "loss table")
    rows = losses[losses["cell"] == cell]
    if rows["step"].duplicated().any():
        raise CobeError(f"loss table: {cell} has a step twice; keep one run of it")
    values = rows["val_loss"].to_numpy(float)
    values = values[np.isfinite(values)]
    return float(values.min()) if len(values) else None


def arm_rows(arms: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Rows of one arm.

    Raises
    ------
    CobeError
        A column is missing, or the arm is.
    """
    require(arms, ARM_COLUMNS, "arm table")
    rows = arms[arms["arm"] == arm]
    if rows.empty:
        raise CobeError(f"arm table: no arm {arm!r}; hand over the whole table of the sweep")
    return rows


def caption_of(name: str, words: list[str], gaps: list[str], profile: Profile, simulated) -> str:
    """A caption: what is drawn, the gaps with the command that fills them, and the data."""
    missing = [f"Not computed: {', '.join(gaps)}; `{COMMAND}` fills the gaps."] if gaps else []
    data = f"{SIMULATED_DATA if simulated else REAL_DATA}; profile {profile.name!r}."
    return " ".join([f"**{name}.**", *words, *missing, data])


def score_words(rows: pd.DataFrame, profile: Profile) -> str:
    """What a score is, of how many participants, groups and volumes, counted in the rows."""
    groups = rows[rows["held_out"].astype(str) != "all"]
    n_groups = groups.groupby("subject")["held_out"].nunique()
    n_trs = rows.loc[rows["held_out"].astype(str) == "all", "n_trs"]
    return (
        "Scores: mean over all parcels of Pearson r between predicted and measured BOLD of "
        f"held-out data, n = {rows['subject'].nunique()} participants, {_span(n_groups)} held-out "
        f"{profile.protocol.holdout}s and {_span(n_trs)} held-out volumes each; their whiskers: "
        f"95 % interval by resampling blocks of at least {profile.protocol.block_trs} volumes; "
        f"chance: 95th percentile under {profile.protocol.n_permutations:,} block permutations."
    )


def pair_words(found: list[Difference | None], holdout: str) -> str:
    """What a difference is, of how many pairs, and what was left out."""
    known = [d for d in found if d is not None]
    if not known:
        return "No difference could be computed."
    text = (
        f"Differences: mean over {_span([d.n_pairs for d in known])} pairs of participant and "
        f"held-out {holdout}, with a 95 % bootstrap interval over pairs; it holds for these "
        "participants and these trained models"
    )
    if min(d.n_pairs for d in known) < FEW_PAIRS:
        text += f"; with fewer than {FEW_PAIRS} pairs the interval is too narrow"
    if any(d.n_left_out for d in known):
        text += f"; up to {max(d.n_left_out for d in known)} pairs without a partner are left out"
    return f"{text}."


def _span(values) -> str:
    values = [int(v) for v in values]
    if not values:
        return "no"
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
