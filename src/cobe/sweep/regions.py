"""Two models by planted region: where does the difference between them lie? Simulated data only."""

from __future__ import annotations

import pandas as pd

from cobe.core.errors import CobeError
from cobe.encoding.stats import paired_comparison

COLUMNS = "region n_parcels difference ci_low ci_high p units_above n_units".split()


def region_differences(
    scores: pd.DataFrame, truth: pd.DataFrame, first: str, second: str
) -> pd.DataFrame:
    """Paired difference in r of two models, region by region.

    Parameters
    ----------
    scores : DataFrame
        Score table of one protocol.
    truth : DataFrame
        What the simulation wrote down: subject, parcel (from 1), region.
    first, second : str
        Names of cells; differences are of the first minus the second.

    Returns
    -------
    table : DataFrame
        One row per region: region, n_parcels (over all participants), difference, ci_low, ci_high
        and p (`cobe.encoding.stats.paired_comparison`; units are pairs of participant and held-out
        group, each the mean over the region's parcels), units_above (where it is above 0), n_units.

    Raises
    ------
    CobeError
        The table holds several protocols, lacks a model, or holds one of them for other parcels.
    """
    if scores.protocol.nunique() > 1:
        raise CobeError("scores: several protocols; hand over the rows of one")
    rows = scores[(scores.summary == "target") & (scores.held_out != "all")]
    truth = truth.assign(target=truth.parcel - 1)[["subject", "target", "region"]]
    keys = ["subject", "held_out", "target"]
    r = {}
    for name in (first, second):
        r[name] = rows[rows.cell == name].set_index(keys).r
        if r[name].empty or not r[name].index.is_unique:
            raise CobeError(f"scores: {len(r[name])} rows of {name}; give each parcel once")
    if not r[first].index.sort_values().equals(r[second].index.sort_values()):
        raise CobeError(f"scores: {first} and {second} are of different parcels or groups")
    both = (r[first] - r[second]).rename("difference").reset_index()
    both = both.merge(truth, on=["subject", "target"], how="left", validate="m:1")
    if both.region.isna().any():
        raise CobeError("truth: lacks scored parcels; give that of the same data")
    table = []
    for region, here in both.groupby("region"):
        units = here.groupby(["subject", "held_out"]).difference.mean()
        test = paired_comparison(units, 0 * units)
        n_parcels = len(here[["subject", "target"]].drop_duplicates())
        above = int((units > 0).sum())
        row = (region, n_parcels, test.difference, test.ci_low, test.ci_high, test.p)
        table.append((*row, above, len(units)))
    return pd.DataFrame(table, columns=COLUMNS)
