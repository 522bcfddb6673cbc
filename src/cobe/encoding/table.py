"""Rows and summaries of a score table."""

import numpy as np
import pandas as pd

COLUMNS = (
    "target summary held_out r r2 p q p_max chance_95 ci_low ci_high n_trs alpha n_alpha_edge "
    "readout leaks"
).split()
ONLY_ALL = ["p", "q", "p_max", "chance_95", "ci_low", "ci_high"]


def correlate(predicted, measured):
    """Pearson r and R2 of columns that are centred within their segments."""
    with np.errstate(divide="ignore", invalid="ignore"):
        total = (measured * measured).sum(axis=0)
        r = (predicted * measured).sum(axis=0)
        r = r / np.sqrt((predicted * predicted).sum(axis=0) * total)
        r2 = 1 - ((measured - predicted) ** 2).sum(axis=0) / total
    return r, np.where(np.isfinite(r), r2, np.nan)


def equalise(p, row_fold):
    """Predictions divided by their root mean square in each held-out group."""
    equal = p.copy()
    for k in np.unique(row_fold):
        rms = np.sqrt((p[row_fold == k] ** 2).mean(axis=0))
        equal[row_fold == k] /= np.where(rms > 0, rms, 1)
    return equal


def target_rows(held_out, r, r2, n_trs, alpha, n_alpha_edge, **extra):
    """One row per target."""
    return pd.DataFrame(
        {
            "target": np.arange(len(r)),
            "summary": "target",
            "held_out": held_out,
            **dict.fromkeys(ONLY_ALL, np.nan),
            "r": r,
            "r2": r2,
            "n_trs": n_trs,
            "alpha": alpha,
            "n_alpha_edge": n_alpha_edge,
            **extra,
        }
    )


def summary_rows(held_out, r, r2, n_trs, n_alpha_edge, chance=None, ci_mean=(np.nan, np.nan)):
    """The mean and the maximum over targets that have a score."""
    there = np.isfinite(r)
    found = there.any()
    best = int(np.nanargmax(r)) if found else -1
    common = {
        "target": -1,
        "held_out": held_out,
        "n_trs": n_trs,
        "alpha": np.nan,
        "n_alpha_edge": int(n_alpha_edge),
    }
    mean = {
        **common,
        "summary": "mean",
        "r": r[there].mean() if found else np.nan,
        "r2": r2[there].mean() if found else np.nan,
    }
    largest = {
        **common,
        "summary": "max",
        "r": r[best] if found else np.nan,
        "r2": r2[best] if found else np.nan,
    }
    if chance is not None:
        mean |= {"p": chance.p_mean, "chance_95": chance.chance_95_mean}
        mean |= {"ci_low": ci_mean[0], "ci_high": ci_mean[1]}
        p_max = chance.p_max[best] if found else np.nan
        largest |= {"p": p_max, "p_max": p_max, "chance_95": chance.chance_95_max}
    return [mean, largest]


def joined(blocks, summaries, readouts, leaks):
    """The table of all rows.

    Parameters
    ----------
    blocks : list of DataFrame
        From `target_rows`.
    summaries : list of dict
        From `summary_rows`.
    readouts : dict of str to str
        What was read, by held-out group and for ``"all"``.
    leaks : bool
        Whether the split leaks.

    Returns
    -------
    table : DataFrame
    """
    table = pd.concat([*blocks, pd.DataFrame(summaries)], ignore_index=True)
    table = table.assign(readout=table["held_out"].map(readouts), leaks=leaks)
    table = table.reindex(columns=COLUMNS)
    return table.astype({"target": int, "n_trs": int, "n_alpha_edge": int})
