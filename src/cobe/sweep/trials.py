"""What protocols report on brains whose truth is known: the null brain and the planted brain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, spearmanr

from cobe.core.errors import CobeError
from cobe.core.parallel import map_processes
from cobe.core.seeds import seed_for
from cobe.encoding import evaluate
from cobe.encoding.ceilings import planted_ceiling
from cobe.encoding.stats import fewest_findable
from cobe.encoding.surrogates import lag_one, null_bold, planted_bold
from cobe.sweep.protocols import protocol_options, quiet_edges

Q_FOUND = 0.05
ALL_REGIONS = "all"


def null_trials(runs_x, runs_y, runs, protocols, *, n_draws, seed=0, workers=None):
    """What every protocol reports of BOLD that is related to nothing on screen.

    Every draw makes new surrogates of the responses (`cobe.encoding.surrogates.null_bold`), the
    same for all protocols; the features stay. Whatever is found, is false.

    Parameters
    ----------
    runs_x : dict of str to list of arrays of shape (n_trs, n_features)
        Features of every run by the protocol's name, as `cobe.encoding.evaluate` takes them (a dict
        of readouts where the protocol chooses).
    runs_y : list of arrays of shape (n_trs, n_parcels)
        Responses of the same runs that surrogates are made of.
    runs : sequence of runs
        Of one participant, with attributes `subject`, `session` and `run`.
    protocols : sequence of Protocol
        How each scores; its seed serves the permutations and random splits of every draw anew.
    n_draws : int
        Surrogate brains.
    seed : int
        Seed of all draws.
    workers : int or None
        Processes; None: as many as there are cores.

    Returns
    -------
    trials : DataFrame
        One row per draw and protocol:

        - ``draw``, ``protocol``, ``summary``: the protocol's own statistic, ``"mean"`` or
          ``"max"``;
        - ``r``: that statistic; ``r_mean``, ``r_max``: both, over parcels;
        - ``chance_95``, ``p``: of the protocol's own statistic, by block permutation within its
          own split;
        - ``n_found``: parcels with q of at most .05; ``n_parcels``; ``fewest_findable``: so many
          parcels must reach the smallest p-value of the permutations before any is found;
        - ``n_permutations``, ``n_trs`` (held out), ``leaks``.

    Raises
    ------
    CobeError
        Fewer than one draw, a protocol without features or permutations, or as
        `cobe.encoding.evaluate` and `null_bold` do.
    """
    _check(protocols, n_draws)
    missing = [protocol.name for protocol in protocols if protocol.name not in runs_x]
    if missing:
        raise CobeError(f"runs_x: no features for {', '.join(missing)}; give them by its name")
    jobs = [(runs_x, runs_y, runs, protocols, seed, draw) for draw in range(n_draws)]
    made = map_processes(_null_draw, jobs, desc="null brain", unit="draw", workers=workers)
    return pd.DataFrame([row for rows in made for row in rows])


def _check(protocols, n_draws):
    if n_draws < 1:
        raise CobeError(f"n_draws: {n_draws}; give 1 or more")
    names = [protocol.name for protocol in protocols]
    if not names or len(set(names)) < len(names):
        raise CobeError(f"protocols: {', '.join(names) or 'none'}; give each once")
    untested = [protocol.name for protocol in protocols if protocol.n_permutations < 1]
    if untested:
        raise CobeError(f"protocol {untested[0]}: no permutations, so no chance level; set some")


def _null_draw(runs_x, runs_y, runs, protocols, seed, draw):
    brain = null_bold(runs_y, seed_for(seed, "null brain", draw))
    return [
        {"draw": draw} | _report(runs_x[protocol.name], brain, runs, protocol, seed, draw)
        for protocol in protocols
    ]


def _report(runs_x, runs_y, runs, protocol, seed, draw):
    """What one protocol reports of one brain, as one row."""
    options = protocol_options(_with_seed(protocol, seed, draw), runs)
    with quiet_edges():
        table = evaluate(runs_x, runs_y, **options, n_bootstrap=0)
    table = table[table["held_out"] == "all"].set_index("summary")
    own, parcels = table.loc[protocol.summary], table.loc[["target"]]
    n_parcels = int(parcels["r"].notna().sum())
    return {
        "protocol": protocol.name,
        "summary": protocol.summary,
        "r": own["r"],
        "r_mean": table.loc["mean", "r"],
        "r_max": table.loc["max", "r"],
        "chance_95": own["chance_95"],
        "p": own["p"],
        "n_found": int((parcels["q"] <= Q_FOUND).sum()),
        "n_parcels": n_parcels,
        "fewest_findable": fewest_findable(n_parcels, protocol.n_permutations),
        "n_permutations": protocol.n_permutations,
        "n_trs": int(own["n_trs"]),
        "leaks": bool(own["leaks"]),
    }


def _with_seed(protocol, seed, draw):
    return replace(protocol, seed=seed_for(seed, "protocol", protocol.seed, draw) % 2**32)


def planted_trials(
    runs_x, shares, runs_y, runs, protocols, *, hrf, n_draws, seed=0, workers=None
):  # fmt: skip
    """What every protocol says of feature sets whose shares of the brain are known.

    Every draw plants the sets anew (`cobe.encoding.surrogates.planted_bold`), all of them in every
    parcel, and every protocol scores each set alone against the same brain, as the audit scores
    models. The truth is the order of the shares. It is that of the attainable scores if the sets
    are unrelated, such as made of `cobe.encoding.surrogates.slow_noise`; sets that are related
    predict each other's parts.

    Parameters
    ----------
    runs_x : dict of str to list of arrays of shape (n_trs, n_features), or callable
        Feature sets, the same for all protocols; ``runs_x(draw)`` gives those of one draw.
    shares : dict of str to float
        Share of variance of each set, all different; 0 plants nothing.
    runs_y, runs, protocols, n_draws, seed, workers
        As `null_trials`; the responses are what noise is made of.
    hrf : HRF
        Response function of the planted brain.

    Returns
    -------
    trials : DataFrame
        One row per draw, protocol and set: ``draw``, ``set``, ``share``, ``n_features``,
        ``lag_one`` (how slow the features are, `cobe.encoding.surrogates.lag_one`), ``ceiling``
        (correlation of the set's own noiseless response with the planted BOLD, mean over parcels)
        and the other columns of `null_trials`.

    Raises
    ------
    CobeError
        Fewer than two sets, equal shares, or as `null_trials` and `planted_bold` do.
    """
    _check(protocols, n_draws)
    if len(shares) < 2 or len(set(shares.values())) < len(shares):
        raise CobeError(f"shares: {dict(shares)}; an order needs two sets or more, none equal")
    jobs = [(runs_x, shares, runs_y, runs, protocols, hrf, seed, draw) for draw in range(n_draws)]
    made = map_processes(_planted_draw, jobs, desc="planted brain", unit="draw", workers=workers)
    return pd.DataFrame([row for rows in made for row in rows])


def _planted_draw(runs_x, shares, runs_y, runs, protocols, hrf, seed, draw):
    runs_x = runs_x(draw) if callable(runs_x) else runs_x
    brain, drives = planted_bold(
        runs_x, shares, runs_y, hrf=hrf, seed=seed_for(seed, "planted brain", draw)
    )
    rows = []
    for name, features in runs_x.items():
        planted = {
            "draw": draw,
            "set": name,
            "share": shares[name],
            "n_features": features[0].shape[1],
            "lag_one": lag_one(features),
            "ceiling": float(planted_ceiling(drives[name], brain).mean()),
        }
        for protocol in protocols:
            rows.append(planted | _report(features, brain, runs, protocol, seed, draw))
    return rows


def order_recovered(trials):
    """Whether each protocol ranks the feature sets of each draw as they were planted.

    Parameters
    ----------
    trials : DataFrame
        From `planted_trials`.

    Returns
    -------
    orders : DataFrame
        One row per draw and protocol: ``tau`` (Kendall's, between planted shares and the
        protocol's own statistic), ``recovered`` (the whole order is right), ``winner`` (the set
        that scores highest), ``driver`` (the set with the largest share), ``right_winner``.

    Raises
    ------
    CobeError
        A set has no score.
    """
    rows = []
    for (draw, protocol), here in trials.groupby(["draw", "protocol"], sort=False):
        if here["r"].isna().any():
            raise CobeError(f"trials: draw {draw} has sets without a score under {protocol}")
        tau = kendalltau(here["share"], here["r"]).statistic
        winner, driver = (here.loc[here[column].idxmax(), "set"] for column in ("r", "share"))
        row = {"draw": draw, "protocol": protocol, "tau": tau, "recovered": tau > 1 - 1e-9}
        rows.append(row | {"winner": winner, "driver": driver, "right_winner": winner == driver})
    return pd.DataFrame(rows)


def planted_order(scores, truth):
    """Scores of parcels beside the ceilings that were planted there: simulated data only.

    Parameters
    ----------
    scores : DataFrame
        Score table of the sweep, with columns protocol, cell, features, subject.
    truth : DataFrame
        What the simulation wrote down: subject, parcel (from 1), region, ceiling (correlation of
        the noiseless response with the BOLD; 0 where nothing is planted).

    Returns
    -------
    table : DataFrame
        One row per protocol, cell, features, subject and region, and for the region ``"all"``:
        ``n_parcels``, ``r`` and ``ceiling`` (means over parcels), ``n_found`` (q of at most .05),
        ``rank_correlation`` (Spearman's, between r and ceiling over the parcels; NaN where the
        ceiling is the same everywhere).

    Raises
    ------
    CobeError
        The truth lacks a scored parcel, or names one twice.
    """
    kept = (scores["summary"] == "target") & (scores["held_out"] == "all")
    keys = ["protocol", "cell", "features", "subject"]
    parcels = scores.loc[kept, [*keys, "target", "r", "q"]]
    truth = truth.assign(target=truth["parcel"] - 1)[["subject", "target", "region", "ceiling"]]
    if truth.duplicated(["subject", "target"]).any():
        raise CobeError("truth: names some parcels of a participant twice; give each once")
    joined = parcels.merge(truth, on=["subject", "target"], how="left", validate="m:1")
    unknown = joined["region"].isna()
    if unknown.any():
        first = joined[unknown].iloc[0]
        raise CobeError(
            f"truth: lacks {int(unknown.sum())} of {len(joined)} scored parcels (first: "
            f"{first['subject']}, parcel {first['target'] + 1}); give that of the same data"
        )
    both = pd.concat([joined, joined.assign(region=ALL_REGIONS)])
    rows = [
        dict(zip([*keys, "region"], names, strict=True)) | _beside_ceiling(here)
        for names, here in both.groupby([*keys, "region"], sort=True)
    ]
    return pd.DataFrame(rows)


def _beside_ceiling(parcels):
    scored = parcels[parcels["r"].notna()]
    varies = scored["ceiling"].nunique() > 1
    correlation = spearmanr(scored["r"], scored["ceiling"]).statistic if varies else np.nan
    return {
        "n_parcels": len(scored),
        "r": scored["r"].mean(),
        "ceiling": scored["ceiling"].mean(),
        "n_found": int((scored["q"] <= Q_FOUND).sum()),
        "rank_correlation": correlation,
    }
