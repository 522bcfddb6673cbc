"""Tables of the paper: model sizes, hyperparameters, timings; computed and published side by side.

Every row or column says whether it is computed or published; the two are never averaged.
"""

from __future__ import annotations

import pandas as pd
import torch

from cobe.core.config import Profile, axis_cells, get_profile
from cobe.core.errors import CobeError
from cobe.core.timing import CLIP_FRAMES
from cobe.report import published
from cobe.video.gpt import build_gpt, count_parameters

SIZE_COLUMNS = ("total", "blocks", "context", "embedding", "head", "encoder", "decoder")
TIMING_COLUMNS = ("stage", "seconds", "device", "date")
PUBLISHED_GPT = "GPT (hidden 576, 8 layers, 4 heads)"
NOT_PUBLISHED = "not published"

TABLE_CAPTIONS = {
    "table_model_size": (
        "Trainable parameters by part. Rows with source `published` are those of the authors' "
        "README; their model is larger and was trained on other data."
    ),
    "table_hyperparameters": (
        "Hyperparameters of this run beside the published ones; what the authors' outputs do not "
        "show is left empty."
    ),
    "table_timing": (
        "Seconds that each stage took when it was made, with its device and date. Stages of many "
        "replays or runs are summed over processes that ran side by side; each GPT cell has one "
        "thread. Of a stage that was interrupted and resumed it is the last sitting."
    ),
}


def model_size_table(counts: pd.DataFrame) -> pd.DataFrame:
    """Parameter counts, with the published ones in rows of their own.

    Parameters
    ----------
    counts : pandas.DataFrame
        One row per model: column model (a cell's name, or ``"VQ-VAE"``), total, and any of blocks,
        context, embedding, head, encoder, decoder; a part that a model does not have is NaN.

    Returns
    -------
    table : pandas.DataFrame
        Columns model, source ("computed" or "published"), total and the parts, Int64.

    Raises
    ------
    CobeError
        A column is missing, or a model appears twice.
    """
    missing = {"model", "total"} - set(counts.columns)
    if missing:
        raise CobeError(f"parameter counts: no column {', '.join(sorted(missing))}; give both")
    if counts["model"].duplicated().any():
        raise CobeError("parameter counts: a model has two rows; keep one")
    ours = counts.reindex(columns=["model", *SIZE_COLUMNS]).assign(source="computed")
    theirs = published.model_size().pivot(index="model", columns="part", values="n_parameters")
    theirs = theirs.reindex(columns=list(SIZE_COLUMNS)).reset_index().assign(source="published")
    theirs["model"] = theirs["model"].replace("GPT", PUBLISHED_GPT)
    table = pd.concat([ours, theirs], ignore_index=True)
    table[list(SIZE_COLUMNS)] = table[list(SIZE_COLUMNS)].astype("Float64").round().astype("Int64")
    return table[["model", "source", *SIZE_COLUMNS]]


def paper_size_table() -> pd.DataFrame:
    """Our GPT at every shape of the paper's grids, beside the published count of the same shape.

    Returns
    -------
    table : DataFrame
        Columns axis, level, blocks, context, embedding, head, total (computed; no weight is made),
        published (total, of a model with another context reader and embedding), precision (how the
        published count is known).
    """
    paper = get_profile("paper")
    rows = []
    for axis in paper.axes:
        known = published.gpt_size(axis.name).set_index("level")
        for cell in axis_cells(paper, axis):
            level = getattr(cell, axis.field)
            if str(level) not in known.index:
                continue
            with torch.device("meta"):
                model = build_gpt(cell, paper.vqvae.n_codes, paper.vqvae.code_dim, paper.vqvae.grid)
            theirs = known.loc[str(level)]
            rows.append(
                {"axis": axis.name, "level": level}
                | count_parameters(model)
                | {"published": theirs.n_parameters, "precision": theirs.precision}
            )
    names = "axis level blocks context embedding head total published precision"
    return pd.DataFrame(rows)[names.split()]


def hyperparameter_table(profile: Profile) -> pd.DataFrame:
    """Hyperparameters of a profile's base models beside the published ones.

    Parameters
    ----------
    profile : Profile

    Returns
    -------
    table : pandas.DataFrame
        Columns part, name, computed (str; of this profile), published (str), note.
    """
    ours = _computed(profile)
    rows = []
    for row in published.hyperparameters().to_dict("records"):
        value = ours.pop((row["part"], row["name"]), "")
        rows.append((row["part"], row["name"], value, row["value"], row["note"]))
    rows += [(part, name, value, NOT_PUBLISHED, "") for (part, name), value in ours.items()]
    return pd.DataFrame(rows, columns=["part", "name", "computed", "published", "note"])


def timing_table(stages: pd.DataFrame) -> pd.DataFrame:
    """Seconds of each stage, as the sidecars of the artifacts say, with device and date.

    Parameters
    ----------
    stages : pandas.DataFrame
        Columns stage, seconds (float), device, date (of making); other columns are kept.

    Returns
    -------
    table : pandas.DataFrame
        In the order given, with source = "computed"; published wall times do not exist.

    Raises
    ------
    CobeError
        A column is missing, or a time is not a number of seconds.
    """
    missing = [column for column in TIMING_COLUMNS if column not in stages.columns]
    if missing:
        raise CobeError(f"timings: no column {', '.join(missing)}; read them from the sidecars")
    seconds = pd.to_numeric(stages["seconds"], errors="coerce")
    if seconds.isna().any() or (seconds < 0).any():
        bad = stages.loc[seconds.isna() | (seconds < 0), "stage"].iloc[0]
        raise CobeError(f"timings: seconds of {bad} are not a time; read them from the sidecar")
    return stages.assign(seconds=seconds.round(1), source="computed").reset_index(drop=True)


def _computed(profile: Profile) -> dict[tuple[str, str], str]:
    vqvae, train, base = profile.vqvae, profile.train, profile.base
    values = {
        ("video", "resolution (pixels)"): vqvae.resolution,
        ("video", "frames in a clip"): CLIP_FRAMES,
        ("VQ-VAE", "downsampling (time x height x width)"): " x ".join(map(str, vqvae.downsample)),
        ("VQ-VAE", "hidden channels"): vqvae.n_hiddens,
        ("VQ-VAE", "residual blocks"): vqvae.n_res_blocks,
        ("VQ-VAE", "codes"): vqvae.n_codes,
        ("VQ-VAE", "code dimension"): vqvae.code_dim,
        ("VQ-VAE", "learning rate"): vqvae.learning_rate,
        ("VQ-VAE", "batch size (clips)"): vqvae.batch_size,
        ("VQ-VAE", "optimiser steps"): vqvae.n_steps,
        ("GPT", "hidden size"): base.hidden,
        ("GPT", "layers"): base.n_layers,
        ("GPT", "attention heads"): base.n_heads,
        ("GPT", "training data (frames)"): base.n_frames,
        ("GPT", "precision"): base.precision,
        ("GPT", "dropout"): train.dropout,
        ("GPT", "learning rate"): train.learning_rate,
        ("GPT", "batch size (windows)"): train.batch_size,
        ("GPT", "optimiser steps"): train.n_steps,
        ("ridge", "held out"): profile.protocol.holdout,
        ("ridge", "delays (TR)"): ", ".join(map(str, profile.protocol.delays_tr)),
        ("ridge", "penalties"): ", ".join(f"{alpha:g}" for alpha in profile.protocol.alphas),
        ("ridge", "pooling of tokens"): profile.protocol.pooling,
        ("ridge", "block that is read"): profile.protocol.block,
    }
    return {key: str(value) for key, value in values.items()}
