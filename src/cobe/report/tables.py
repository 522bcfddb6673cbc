"""Tables of the paper: model sizes, hyperparameters, timings; computed and published side by side.

Every row or column says whether it is computed or published; the two are never averaged.
"""

from __future__ import annotations

import pandas as pd
import torch

from cobe.core.config import Profile, Protocol, axis_cells
from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.core.timing import CLIP_FRAMES
from cobe.report import published
from cobe.report.rows import check_source
from cobe.video.gpt import build_gpt, count_parameters

SIZE_COLUMNS = ("total", "blocks", "context", "embedding", "head", "encoder", "decoder")
TIMING_COLUMNS = ("stage", "seconds", "device", "date")
PUBLISHED_GPT = "GPT (hidden 576, 8 layers, 4 heads)"
NOT_PUBLISHED = "not published"
SCHEME_WORDS = {
    "stratified": "spread evenly over subjects and runs",
    "prefix": "the first repetitions of the list",
    "single": "of one subject",
}
BRANCH_WORDS = {"mlp": "MLP branch, before it is added", "residual": "output of the block"}
POOLING_WORDS = {"mean": "mean", "pca": "principal components of all tokens"}
SUMMARY_WORDS = {"mean": "mean over parcels", "max": "maximum over parcels"}

TABLE_CAPTIONS = {
    "table_model_size": (
        "Trainable parameters by part. Rows with source `published` are those of the authors' "
        "README; their model is larger and was trained on other data."
    ),
    "table_hyperparameters": (
        "Hyperparameters: published, and of our runs under both protocols. as_published is the "
        "paper's procedure as far as it is known. The note says where a published value is "
        "inferred and where the authors' sources contradict each other; what their outputs do not "
        "show is `not published`; what has no counterpart here is empty."
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
        A column is missing, a model appears twice, or the counts say that they are published.
    """
    missing = {"model", "total"} - set(counts.columns)
    if missing:
        raise CobeError(f"parameter counts: no column {', '.join(sorted(missing))}; give both")
    if counts["model"].duplicated().any():
        raise CobeError("parameter counts: a model has two rows; keep one")
    if "source" in counts.columns:
        check_source(counts, "computed", "parameter counts")
    ours = counts.reindex(columns=["model", *SIZE_COLUMNS]).assign(source="computed")
    theirs = published.model_size()
    check_source(theirs, "published", "published parameter counts")
    theirs = theirs.pivot(index="model", columns="part", values="n_parameters")
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
    """Hyperparameters: the published ones, and a profile's under both of its protocols.

    Parameters
    ----------
    profile : Profile

    Returns
    -------
    table : pandas.DataFrame
        Columns part, name, published, ``as_published here``, ``corrected here`` (all str), note
        (how a published value is known).
    """
    ours = [_computed(profile, protocol) for protocol in (profile.published, profile.protocol)]
    theirs = published.hyperparameters()
    check_source(theirs, "published", "published hyperparameters")
    rows = []
    for row in theirs.to_dict("records"):
        key = (row["part"], row["name"])
        values = [values.pop(key, "") for values in ours]
        rows.append((*key, row["value"], *values, row["note"]))
    rows += [
        (part, name, NOT_PUBLISHED, value, ours[1][part, name], "")
        for (part, name), value in ours[0].items()
    ]
    names = ["part", "name", "published", "as_published here", "corrected here", "note"]
    table = pd.DataFrame(rows, columns=names)
    # parts together, in the order of their first rows
    order = {part: i for i, part in enumerate(table["part"].unique())}
    return table.sort_values("part", key=lambda part: part.map(order), kind="stable").reset_index(
        drop=True
    )


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


def _computed(profile: Profile, protocol: Protocol) -> dict[tuple[str, str], str]:
    """Hyperparameters of a profile under one of its protocols, as text."""
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
        ("GPT", "smaller training subsets"): SCHEME_WORDS[protocol.scheme],
        ("GPT", "steps of smaller subsets"): (
            "as many as every other model"
            if protocol.updates == "steps"
            else "as many epochs as the base model"
        ),
    } | {("ridge", name): value for name, value in _ridge(profile, protocol).items()}
    return {key: str(value) for key, value in values.items()}


def _ridge(profile: Profile, protocol: Protocol) -> dict[str, object]:
    """How a protocol scores, in words."""
    at_random = protocol.holdout == "volumes"
    unit = "mean variance of the feature columns in training"
    if not protocol.relative_alphas:
        unit = "that of the products of features, as they are"
    return {
        "parcels": profile.plan.n_parcels if profile.plan else "those of the atlas",
        "confounds": protocol.confounds,
        "smoothing (mm)": protocol.smoothing_mm or "none",
        "held out": (
            f"{100 * protocol.test_fraction:g} % of volumes, drawn at random"
            if at_random
            else f"every {protocol.holdout} in turn"
        ),
        "delays (TR)": ", ".join(map(str, protocol.delays_tr)),
        "penalties": ", ".join(f"{alpha:g}" for alpha in protocol.alphas),
        "unit of the penalties": unit,
        "penalty is chosen": (
            "for each parcel" if protocol.alpha_per_target else "one for all parcels"
        ),
        "block that is read": _readout(profile, protocol),
        "branch that is read": BRANCH_WORDS[protocol.branch],
        "pooling of a clip's tokens": POOLING_WORDS[protocol.pooling],
        "features": protocol.n_features or "as wide as the model",
        "statistic of the figures": SUMMARY_WORDS[protocol.summary],
        "intervals and chance levels": (
            f"{'chance' if protocol.summary == 'max' else 'both'}; "
            f"{protocol.n_permutations} permutations of blocks of {protocol.block_trs} TR"
        ),
    }


def _readout(profile: Profile, protocol: Protocol) -> str:
    """The block that is read, and the axes on which it is another."""
    if protocol.readout == "nested":
        return "chosen inside training"
    words = {
        "middle": f"{profile.base.n_layers // 2} (n_layers // 2, counted from 0)",
        "last": f"{profile.base.n_layers - 1} (the last, counted from 0)",
    }
    text = words[protocol.readout]
    for axis, other in profile.published_by_axis if protocol == profile.published else ():
        text += f"; the {other.readout} block on the axis {axis}"
    return text
