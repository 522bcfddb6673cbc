"""How much of the way from the smallest to the largest design each factor explains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cobe.report.scaling.fitted import CONFIDENCE, ScalingFit, interval

SURE = (1 + CONFIDENCE) / 2


@dataclass(frozen=True)
class Shares:
    """What each factor adds over the range in which it was varied.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per factor: factor, range_low, range_high, gain (in units of the response,
        positive is better) and share of the gain of all, each with ``_low`` and ``_high`` (95 %
        intervals). In a factor in which the response follows no power law the gain is not known
        (NaN), and then no share of the whole is: all are NaN. Of a factor whose exponent is not
        fixed the gain has no interval (NaN ends), and then no share has one.
    largest : str or None
        The factor whose share is the largest in 97.5 % of the resamples or more, if its exponent
        is fixed and every factor follows a power law; None: the data cannot tell.
    """

    table: pd.DataFrame
    largest: str | None


def gain_shares(fit: ScalingFit) -> Shares:
    """Share of each factor in the fitted gain from its smallest to its largest value.

    The surface adds one term per factor, so that the gain splits into one part per factor without
    a rest. The shares are those of the ranges that were tried: a factor that was varied over a
    wider range gets more.

    Parameters
    ----------
    fit : ScalingFit
        Of losses or of brain scores.

    Returns
    -------
    shares : Shares
    """
    k = len(fit.factors)
    thetas = np.concatenate([fit.theta[None], fit.draws])
    ends = np.log(np.array([fit.ranges[name] for name in fit.factors])) - fit.centre[:, None]
    scale, exponent = thetas[:, 1 : 1 + k, None], thetas[:, 1 + k :, None]
    terms = np.exp(scale - exponent * ends)
    gains = terms[..., 0] - terms[..., 1]
    # A surface without any slope gives no shares, and then NaN says so.
    with np.errstate(invalid="ignore"):
        shares = gains / gains.sum(axis=1, keepdims=True)
    rows = [
        {"factor": name, "range_low": fit.ranges[name][0], "range_high": fit.ranges[name][1]}
        | _ends("gain", gains[:, i])
        | _ends("share", shares[:, i])
        for i, name in enumerate(fit.factors)
    ]
    table = pd.DataFrame(rows)
    numbers = table.columns[3:]
    table.loc[table.factor.isin(fit.lost), numbers] = np.nan
    if fit.lost:
        table[["share", "share_low", "share_high"]] = np.nan
    # Every share holds the gains of all factors: one that is not fixed leaves no interval usable.
    table.loc[table.factor.isin(fit.unfixed), ["gain_low", "gain_high"]] = np.nan
    if fit.unfixed:
        table[["share_low", "share_high"]] = np.nan
    top = int(np.argmax(gains[0]))
    others = np.delete(gains[1:], top, axis=1)
    sure = (gains[1:, top, None] > others).all(axis=1).mean() >= SURE
    named = sure and not fit.lost and fit.factors[top] not in fit.unfixed
    return Shares(table, fit.factors[top] if named else None)


def _ends(name: str, values) -> dict:
    drawn = values[1:]
    # A resample without any gain has no shares: they could be any, and widen both ends.
    low, _ = interval(np.where(np.isnan(drawn), 0.0, drawn))
    _, high = interval(np.where(np.isnan(drawn), 1.0, drawn))
    return {name: float(values[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
