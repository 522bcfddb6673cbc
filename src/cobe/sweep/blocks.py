"""Every block of every model against the brain, each on its own, beside what nesting chose."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from cobe.core.artifacts import Artifact
from cobe.core.config import Cell, Protocol
from cobe.sweep.cells import load_tokens
from cobe.sweep.features import load_features, model_features, role_rows
from cobe.sweep.jobs import Job, make_all
from cobe.sweep.pipeline import Pipeline, load_bold
from cobe.sweep.scores import SCORE_CODE, score_features

COLUMNS = "cell trained n_layers hidden subject block r ci_low ci_high chosen_share".split()


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
    chosen = chosen_share(nested[nested.protocol == protocol.name])
    tables = []
    for cell, item in zip(features, made, strict=True):
        about = {"cell": cell.name, "trained": cell.trained}
        about |= {"n_layers": cell.n_layers, "hidden": cell.hidden}
        tables.append(pd.read_parquet(item.path).assign(**about))
    table = pd.concat(tables, ignore_index=True)
    keys = ["cell", "subject", "block"]
    table = table.merge(chosen, on=keys, how="left", validate="1:1")
    scored = table.groupby(["cell", "subject"]).chosen_share.transform("count") > 0
    # not chosen by any group is 0; not scored with a choice at all stays missing
    table.loc[scored, "chosen_share"] = table.chosen_share[scored].fillna(0.0)
    return table[COLUMNS]


def chosen_share(scores: pd.DataFrame) -> pd.DataFrame:
    """How often nesting chose each block: cell, subject, block, chosen_share."""
    rows = scores[(scores.summary == "mean") & (scores.held_out != "all")]
    rows = rows[rows.features.isin(["gpt", "untrained"])]
    # without a second block there is no choice, and no name of it
    block = rows.readout.replace("", "block_0").str.removeprefix("block_").astype(int)
    counts = rows.assign(block=block).groupby(["cell", "subject", "block"]).size()
    share = counts / counts.groupby(["cell", "subject"]).transform("sum")
    return share.rename("chosen_share").reset_index()


def _write_blocks(path: Path, protocol: Protocol, source, tokenised, bold) -> None:
    torch.set_num_threads(1)
    data = load_tokens(tokenised)
    clips = data.clips.loc[role_rows(data)]
    series = {key: load_bold(item) for key, item in bold.items()}
    tables = []
    for name, values in load_features(source).items():
        table = score_features(values, clips, series, protocol, n_permutations=0)
        overall = table[(table.held_out == "all") & (table.summary == "mean")]
        columns = ["subject", "r", "ci_low", "ci_high"]
        tables.append(overall[columns].assign(block=int(name.removeprefix("block_"))))
    pd.concat(tables, ignore_index=True).to_parquet(path)
