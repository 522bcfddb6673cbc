"""What the figures of the null and the planted brain show, in words, counted in their tables."""

from __future__ import annotations

import pandas as pd

from cobe.core.errors import CobeError
from cobe.report import style
from cobe.report.audit.trials import looks_of, sets_of, statistic_words
from cobe.sweep.trials import ALL_REGIONS, Q_FOUND, order_recovered


def null_caption(trials: pd.DataFrame, protocols, simulated: bool) -> str:
    """What `fig_null_brain` shows, with n, split, statistic and data, counted in the table.

    Parameters
    ----------
    trials : pandas.DataFrame
        As drawn.
    protocols : sequence of Protocol
        Those of the trials.
    simulated : bool
        As drawn.

    Raises
    ------
    CobeError
        A protocol of the trials is not among `protocols`.
    """
    looks = looks_of(trials)
    splits, findable, above = [], [], []
    for name in looks:
        here = trials[trials["protocol"] == name]
        splits.append(_split_words(here, protocols))
        passes = int((here["r"] > here["chance_95"]).sum())
        above.append(f"{passes} of {len(here)} under {name}")
        fewest, n = int(here["fewest_findable"].iloc[0]), int(here["n_parcels"].iloc[0])
        findable.append(f"{fewest} of {n} under {name}" if fewest <= n else f"none under {name}")
    return (
        f"**The null brain**: {trials['draw'].nunique()} surrogates of the BOLD of one participant "
        f"({style.data_words(simulated)}): random phases at every frequency of a run, the same for "
        "all parcels, so that the power spectrum of each parcel and the correlations between "
        "parcels stay and the relation to the game is lost. The features stay the same. "
        f"{' '.join(splits)} **a** The statistic that each protocol reports, over "
        "surrogates; line: the truth. **b** The same against the 95th percentile of that "
        "statistic under block permutations within the protocol's own split, one point per "
        "surrogate; above the line a null brain passes for a result, which may happen in 5 of 100 "
        f"and does in {', '.join(above)}.{_mean_words(trials)} "
        "The published figures have no chance level. **c** Parcels that pass a false discovery "
        f"rate of {Q_FOUND:g}; with so many permutations the fewest that can be found are "
        f"{', '.join(findable)}."
    )


def _mean_words(trials) -> str:
    """What is known of the chance level of a mean; nothing where no protocol reports one."""
    if not (trials["summary"] == "mean").any():
        return ""
    return " Means over parcels may be judged significant somewhat too often."


def _split_words(here, protocols) -> str:
    name = here["protocol"].iloc[0]
    known = {protocol.name: protocol for protocol in protocols}
    if name not in known:
        raise CobeError(f"protocols: {name} of the trials is not among {', '.join(known)}")
    protocol = known[name]
    if protocol.holdout == "volumes":
        split = f"{protocol.test_fraction:.0%} of the volumes held out at random"
    else:
        split = f"each {protocol.holdout} held out in turn"
    penalty = "a penalty for each parcel" if protocol.alpha_per_target else "one penalty for all"
    return (
        f"{name}: {statistic_words(here)}, {split} ({_range(here['n_trs'])} held-out volumes), "
        f"ridge with {penalty}, {here['n_permutations'].iloc[0]:,} permutations."
    )


def planted_caption(
    trials: pd.DataFrame, order: pd.DataFrame | None, protocols, simulated: bool
) -> str:
    """What `fig_planted_brain` shows, with n, split, statistic and data, counted in the tables.

    Parameters
    ----------
    trials, order, simulated
        As drawn.
    protocols : sequence of Protocol
        Those of the trials.

    Raises
    ------
    CobeError
        A protocol of the trials is not among `protocols`.
    """
    sets = sets_of(trials)
    orders = order_recovered(trials).groupby("protocol")
    looks = looks_of(trials)
    splits = [_split_words(trials[trials["protocol"] == name], protocols) for name in looks]
    verdicts = []
    for name in looks:
        here = orders.get_group(name)
        tops = here["winner"].value_counts()
        first = ", ".join(f"{top} {n}" for top, n in tops.items())
        verdicts.append(f"{name} (Kendall's tau {here['tau'].mean():.2f}; ranked first: {first})")
    planted = ", ".join(
        f"{name} {100 * row.share:.3g} % ({row.n_features:.0f} features, lag-one correlation "
        f"{row.lag_one:.2f})"
        for name, row in sets.iterrows()
    )
    words = (
        f"**The planted brain**: {trials['draw'].nunique()} draws. **a** In every parcel random "
        "directions of the feature sets, through a haemodynamic response function, make up these "
        f"shares of the variance: {planted}; the rest is noise from surrogates of the BOLD of one "
        f"participant ({style.data_words(simulated)}). **b** Every set is scored alone. "
        f"{' '.join(splits)} Bars: median over draws; lines: 2.5 to 97.5 % of draws; black ticks: "
        "median chance level (95 %) by block permutation within the same split; diamonds: ceiling, "
        "the correlation of the set's own noiseless part with the BOLD, mean over parcels, which a "
        "mean over parcels (circles, where the protocol reports the maximum) cannot truly exceed "
        "if the sets are unrelated; numbers: rank of the median, in colour "
        f"where it is wrong. Means over draws: {'; '.join(verdicts)}."
    )
    if order is None:
        return words
    whole = order[order["region"] == ALL_REGIONS]
    model = ", ".join(f"{c}" for c in dict.fromkeys(order["cell"]))
    return (
        f"{words} **c** The embedded data set (simulated), model {model}: one dot per region and "
        f"participant ({whole['subject'].nunique()} participants, "
        f"{_range(whole['n_parcels'])} parcels each): mean of r over its parcels; diamonds: "
        "the planted ceiling there, 0 where nothing is planted. Rank correlation: "
        "Spearman's between r and planted ceiling over all parcels of a participant, range over "
        "participants; no interval, as parcels are not independent."
    )


def _range(values) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
