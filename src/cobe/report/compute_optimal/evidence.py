"""What stands beside the fits: held-out largest cells, and whether the score follows the loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.report.compute_optimal.rows import MEAN, of_subject, subjects_of
from cobe.report.scaling import fit_brain_score, fit_parametric, surface
from cobe.report.scaling.alternatives import largest_cells
from cobe.report.scaling.fitted import interval

MIN_CELLS = 6
MIN_IN_GROUP = 3
AXES = {
    "all cells": None,
    "equal model size": ["n_params"],
    "equal video": ["n_frames", "tokens_seen"],
}


def predict_largest(
    rows: pd.DataFrame, response: str, *, n_boot: int, seed: int, held_out_share=0.25
) -> pd.DataFrame:
    """Fit all but the largest cells, and set what that predicts beside what was seen there.

    The largest cells are those of `cobe.report.scaling.compare_forms`. For scores they are the
    largest designs in size and video, held out with all their scan hours: a network that was
    trained once is never on both sides.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of `loss_rows`, or of one participant (or the mean) of `score_rows`, trained models.
    response : str
        ``"val_loss"`` or ``"r"``; the latter is fitted with scan hours as a factor.
    n_boot, seed : int
        Resamples, and their seed.
    held_out_share : float
        Share of the cells that is held out.

    Returns
    -------
    table : pandas.DataFrame
        One row per held-out model: the columns of `ScalingFit.predict`, cell, observed and inside
        (whether it lies in the 95 % interval of one new model).

    Raises
    ------
    CobeError
        As the fits do, for the cells that are left; or a share that leaves too few out.
    """
    factors = {"n_params": rows.n_params, "n_data": rows.n_effective}
    if response == "r":
        factors["scan_hours"] = rows.scan_hours
    seen = rows[response] if response != "r" else 1 - rows[response]
    checked = surface.checked_rows(factors, seen, response)
    held = largest_cells(checked, held_out_share, rows.design if response == "r" else None)
    both = set(rows.design[held]) & set(rows.design[~held])
    if both:
        raise CobeError(f"held-out cells: design {min(both)} is also among those fitted")
    there = [column[~held].to_numpy() for column in factors.values()]
    given = rows[~held]
    fit = fit_brain_score if response == "r" else fit_parametric
    found = fit(
        *there, given[response].to_numpy(), n_boot=n_boot, seed=seed, blocks=given.design.to_numpy()
    )
    if found.lost:
        raise CobeError(
            f"held-out cells: without them the fit finds no power law in {', '.join(found.lost)}, "
            "so it predicts nothing there"
        )
    table = found.predict(*[column[held].to_numpy() for column in factors.values()])
    observed = rows[response][held].to_numpy()
    return table.assign(
        cell=rows.cell[held].to_numpy(),
        observed=observed,
        inside=(table.cell_low <= observed) & (observed <= table.cell_high),
    )


@dataclass(frozen=True)
class Link:
    """Whether the brain score follows the loss.

    Attributes
    ----------
    models : pandas.DataFrame
        One row per design, seeds averaged: n_params, n_frames, tokens_seen, val_loss, r.
    trends : pandas.DataFrame
        One row per subject (and "mean") and axis ("all cells", "equal model size", "equal video"):
        rho (rank correlation of the score with the loss, sign turned, so that 1 is "the lower the
        loss, the higher the score"), low and high (95 % bootstrap over cells), n_cells, n_groups.
    statements : tuple of str
        In plain words, of the mean over participants.
    """

    models: pd.DataFrame
    trends: pd.DataFrame
    statements: tuple[str, ...]


def link_of(losses: pd.DataFrame, scores: pd.DataFrame, *, n_boot: int, seed: int) -> Link:
    """Rank correlation of brain score and loss over models, over all and at one factor held.

    Both responses depend on both factors, so that over all models they go together even if one
    does not carry the other; at equal model size (or video) one common cause less is left.

    Parameters
    ----------
    losses : pandas.DataFrame
        Of `loss_rows`.
    scores : pandas.DataFrame
        Of `score_rows`; the largest amount of scan time is taken.
    n_boot, seed : int
        Resamples of cells, and their seed.

    Returns
    -------
    link : Link

    Raises
    ------
    CobeError
        Fewer than six designs with both, or no resamples.
    """
    if n_boot < 1:
        raise CobeError(f"n_boot: {n_boot} resamples give no interval; ask for 200 or more")
    rng = rng_for(seed, "link")
    trends, models = [], None
    for subject in [MEAN, *subjects_of(scores)]:
        mine = of_subject(scores, subject)
        mine = mine[mine.scan_hours == mine.scan_hours.max()]
        both = mine.merge(losses[["cell", "val_loss"]], on="cell", validate="1:1")
        keys = ["design", "n_params", "n_frames", "tokens_seen"]
        each = both.groupby(keys, as_index=False)[["val_loss", "r"]].mean()
        if len(each) < MIN_CELLS:
            raise CobeError(
                f"link of loss and score: {len(each)} designs with both; it needs {MIN_CELLS}"
            )
        models = each if models is None else models
        for axis, held in AXES.items():
            trends.append({"subject": subject, "axis": axis, **_trend(each, held, rng, n_boot)})
    table = pd.DataFrame(trends)
    return Link(models, table, tuple(_said(table)))


def _trend(models, held, rng, n_boot) -> dict:
    group = np.zeros(len(models), int) if held is None else models.groupby(held).ngroup().to_numpy()
    x, y = -models.val_loss.to_numpy(), models.r.to_numpy()
    labels, counts = np.unique(group, return_counts=True)
    kept = np.isin(group, labels[counts >= MIN_IN_GROUP])
    x, y, group = x[kept], y[kept], group[kept]
    row = {"rho": np.nan, "low": np.nan, "high": np.nan, "n_cells": len(x)}
    row["n_groups"] = len(np.unique(group))
    if len(x) < MIN_CELLS:
        return row
    drawn = rng.integers(len(x), size=(n_boot, len(x)))
    rhos = np.array([_pooled_rho(x[take], y[take], group[take]) for take in drawn])
    low, high = interval(rhos[np.isfinite(rhos)])
    return {**row, "rho": _pooled_rho(x, y, group), "low": low, "high": high}


def _pooled_rho(x, y, group) -> float:
    """Correlation of ranks within groups, each group's ranks centred and scaled to its size."""
    ranks = []
    for label in np.unique(group):
        mine = group == label
        if mine.sum() >= MIN_IN_GROUP:
            pair = np.stack([rankdata(x[mine]), rankdata(y[mine])])
            ranks.append((pair - pair.mean(axis=1, keepdims=True)) / mine.sum())
    if not ranks:
        return np.nan
    a, b = np.concatenate(ranks, axis=1)
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else np.nan


def _said(trends) -> list[str]:
    """In words; that the score follows the loss only where it does at either factor held."""
    held = trends[(trends.subject == MEAN) & (trends.axis != "all cells")]
    verb = "follows" if (held.low > 0).all() else "goes together with"
    said = []
    for row in trends[trends.subject == MEAN].itertuples():
        if not np.isfinite(row.rho):
            said.append(f"{row.axis}: too few cells to tell ({row.n_cells})")
            continue
        numbers = f"rho {row.rho:.2f} [{row.low:.2f}, {row.high:.2f}], {row.n_cells} cells"
        each = trends[(trends.axis == row.axis) & (trends.subject != MEAN)]
        same = int((np.sign(each.rho) == np.sign(row.rho)).sum())
        if row.low > 0:
            verdict = f"the brain score {verb} the loss"
        elif row.high < 0:
            verdict = "the brain score falls where the loss improves"
        else:
            verdict = "the data cannot tell whether the brain score goes together with the loss"
        said.append(
            f"{row.axis}: {verdict} ({numbers}; same sign in {same} of {len(each)} participants)"
        )
    return said
