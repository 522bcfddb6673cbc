"""Every block of every model against the brain, each on its own: parcels, and their mean."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from cobe.core.artifacts import Artifact
from cobe.core.config import Cell, Protocol
from cobe.sweep.cells import load_tokens
from cobe.sweep.features import load_features, model_features, ridge_data
from cobe.sweep.jobs import Job, make_all
from cobe.sweep.pipeline import Pipeline
from cobe.sweep.scores import SCORE_CODE, score_features

COLUMNS = "cell trained n_layers hidden subject block r ci_low ci_high chosen_share".split()
OF_PARCELS = "cell trained block subject target r".split()


def block_scores(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    models: dict[Cell, Artifact],
    nested: pd.DataFrame,
) -> pd.DataFrame:
    """Score each block of these models under the profile's protocol, without a choice among them.

    Parameters
    ----------
    pipeline, tokenised, bold, models
        As for `cobe.sweep.scores.scores`.
    nested : DataFrame
        Score table of the same models under the same protocol, in which the block was chosen inside
        the training rows.

    Returns
    -------
    table : DataFrame
        One row per cell, subject and block (counted from 0): cell, trained, n_layers, hidden,
        subject, block, r (mean over parcels, held-out groups pooled), ci_low, ci_high, chosen_share
        (share of the held-out groups whose nested choice was this block). No chance level: blocks
        are compared with each other.
    """
    table = _scored(pipeline, tokenised, bold, models)
    table = table[table.summary == "mean"]
    chosen = chosen_share(nested[nested.protocol == pipeline.profile.protocol.name])
    keys = ["cell", "subject", "block"]
    table = table.merge(chosen, on=keys, how="left", validate="1:1")
    scored = table.groupby(["cell", "subject"]).chosen_share.transform("count") > 0
    # not chosen by any group is 0; not scored with a choice at all stays missing
    table.loc[scored, "chosen_share"] = table.chosen_share[scored].fillna(0.0)
    return table[COLUMNS]


def parcel_layers(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    models: dict[Cell, Artifact],
) -> pd.DataFrame:
    """The same scores in each parcel.

    Parameters
    ----------
    pipeline, tokenised, bold, models
        As for `cobe.sweep.scores.scores`.

    Returns
    -------
    table : DataFrame
        One row per cell, block (from 0), subject and parcel (target, from 0): cell, trained, block,
        subject, target, r (held-out groups pooled). No chance level and no choice: the best block
        of a parcel in this table was picked with the held-out volumes.
    """
    table = _scored(pipeline, tokenised, bold, models)
    return table.loc[table.summary == "target", OF_PARCELS].reset_index(drop=True)


def chosen_share(scores: pd.DataFrame) -> pd.DataFrame:
    """How often nesting chose each block: cell, subject, block, chosen_share."""
    rows = scores[(scores.summary == "mean") & (scores.held_out != "all")]
    rows = rows[rows.features.isin(["gpt", "untrained"])]
    # without a second block there is no choice, and no name of it
    block = rows.readout.replace("", "block_0").str.removeprefix("block_").astype(int)
    counts = rows.assign(block=block).groupby(["cell", "subject", "block"]).size()
    share = counts / counts.groupby(["cell", "subject"]).transform("sum")
    return share.rename("chosen_share").reset_index()


def _scored(pipeline, tokenised, bold, models) -> pd.DataFrame:
    """Score each block of each model, once for all who ask: parcels, and their mean."""
    protocol = pipeline.profile.protocol
    features = model_features(pipeline, tokenised, models, protocol)
    series = {f"bold {key}": item for key, item in bold.items()}
    jobs = [
        Job(
            f"blocks/{cell.name}",
            _write_blocks,
            (protocol, item, tokenised, bold),
            params={"protocol": protocol},
            inputs={"features": item, "tokens": tokenised} | series,
            code=(*SCORE_CODE, "cobe.sweep.blocks"),
            suffix=".parquet",
        )
        for cell, item in features.items()
    ]
    made = make_all(pipeline.store, jobs, "scoring every block", "model")
    tables = []
    for cell, item in zip(features, made, strict=True):
        about = {"cell": cell.name, "trained": cell.trained}
        about |= {"n_layers": cell.n_layers, "hidden": cell.hidden}
        tables.append(pd.read_parquet(item.path).assign(**about))
    return pd.concat(tables, ignore_index=True)


def _write_blocks(path: Path, protocol: Protocol, source, tokenised, bold) -> None:
    torch.set_num_threads(1)
    clips, series = ridge_data(load_tokens(tokenised), bold)
    tables = []
    for name, values in load_features(source).items():
        table = score_features(values, clips, series, protocol, n_permutations=0)
        rows = table[(table.held_out == "all") & table.summary.isin(["mean", "target"])]
        columns = ["subject", "summary", "target", "r", "ci_low", "ci_high"]
        tables.append(rows[columns].assign(block=int(name.removeprefix("block_"))))
    pd.concat(tables, ignore_index=True).to_parquet(path)
