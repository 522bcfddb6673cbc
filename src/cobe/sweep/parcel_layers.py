"""Every block against every parcel, each block on its own."""

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
from cobe.sweep.scores import score_features

COLUMNS = ["cell", "trained", "block", "subject", "target", "r"]


def parcel_layers(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    models: dict[Cell, Artifact],
) -> pd.DataFrame:
    """Score each block of these models in each parcel, without a choice among the blocks.

    The scores are those whose mean over parcels is in `cobe.sweep.blocks.block_scores`.

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
    protocol = pipeline.profile.protocol
    features = model_features(pipeline, tokenised, models, protocol)
    series = {f"bold {key}": item for key, item in bold.items()}
    jobs = [
        Job(
            f"explored/layers/{cell.name}",
            _write_layers,
            (protocol, item, tokenised, bold),
            params={"protocol": protocol},
            inputs={"features": item, "tokens": tokenised} | series,
            code=("cobe.sweep.parcel_layers",),
            suffix=".parquet",
        )
        for cell, item in features.items()
    ]
    made = make_all(pipeline.store, jobs, "scoring every block in every parcel", "model")
    tables = [
        pd.read_parquet(item.path).assign(cell=cell.name, trained=cell.trained)
        for cell, item in zip(features, made, strict=True)
    ]
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def _write_layers(path: Path, protocol: Protocol, source, tokenised, bold) -> None:
    torch.set_num_threads(1)
    data = load_tokens(tokenised)
    clips = data.clips.loc[role_rows(data)]
    series = {key: load_bold(item) for key, item in bold.items()}
    tables = []
    for name, values in load_features(source).items():
        options = {"n_permutations": 0, "n_bootstrap": 0}
        table = score_features(values, clips, series, protocol, **options)
        rows = table[(table.held_out == "all") & (table.summary == "target")]
        block = int(name.removeprefix("block_"))
        tables.append(rows[["subject", "target", "r"]].assign(block=block))
    pd.concat(tables, ignore_index=True).to_parquet(path)
