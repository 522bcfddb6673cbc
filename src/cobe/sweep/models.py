"""The video models as stages: one VQ-VAE, its tokens, and one GPT per cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cobe.brain.dataset import Dataset
from cobe.core.artifacts import Artifact
from cobe.core.config import Cell, Profile, Protocol, axis_cells
from cobe.core.errors import CobeError
from cobe.core.timing import CLIP_SPAN_FRAMES
from cobe.stimulus.frames import open_frames
from cobe.sweep.cells import write_cell, write_tokens, write_vqvae
from cobe.sweep.jobs import Job, make_all
from cobe.sweep.pipeline import Pipeline, frames, inventory, repetition_keys, video_roles
from cobe.video.device import default_precision

N_VAL_CLIPS = 128
VQVAE_THREADS = 2


def vqvae(pipeline: Pipeline, stores: dict[tuple, Artifact], roles: pd.DataFrame) -> Artifact:
    """Train the one VQ-VAE on the video model's training repetitions.

    Returns
    -------
    artifact : Artifact
        A folder with the model and its log (``log.parquet``).
    """
    cfg = pipeline.profile.vqvae
    # resolved here, so that the key tells models of one machine from those of another
    precision = default_precision()
    train_keys = repetition_keys(roles, "video_train")
    val_keys = repetition_keys(roles, "video_val")

    def write(path, checkpoint):
        train = [stores[key].path for key in train_keys]
        val = [stores[key].path for key in val_keys]
        settings = (N_VAL_CLIPS, VQVAE_THREADS, precision)
        write_vqvae(path, checkpoint, cfg, train, val, *settings)

    keys = train_keys + val_keys
    return pipeline.store.make(
        "vqvae",
        params={
            "vqvae": cfg,
            "n_val_clips": N_VAL_CLIPS,
            "threads": VQVAE_THREADS,
            "precision": precision,
            "train": train_keys,
            "val": val_keys,
        },
        inputs={"/".join(map(str, key)): stores[key] for key in keys},
        write=write,
        code=("cobe.video.vqvae_train", "cobe.sweep.cells"),
        resumable=True,
    )


def tokens(
    pipeline: Pipeline, stores: dict[tuple, Artifact], roles: pd.DataFrame, trained: Artifact
) -> Artifact:
    """Tokenise every clip once, in float32.

    Returns
    -------
    artifact : Artifact
        A token set (`cobe.video.tokenset`): one file, all that training and features need. Its clip
        table has the column role besides.
    """

    def write(path: Path):
        write_tokens(path, roles, {key: item.path for key, item in stores.items()}, trained.path)

    return pipeline.store.make(
        "tokens",
        params={"roles": roles.to_dict("list")},
        inputs={"vqvae": trained} | {f"frames {key}": item for key, item in stores.items()},
        write=write,
        code=("cobe.video.tokens", "cobe.video.tokenset", "cobe.sweep.cells"),
        suffix=".safetensors",
    )


@dataclass(frozen=True)
class VideoStages:
    """Everything up to the tokens, made or reused.

    Attributes
    ----------
    dataset : Dataset
        The inventory.
    frames : dict
        (subject, session, run, row) to the artifact of its frames.
    roles : DataFrame
        What each repetition is for.
    vqvae, tokens : Artifact
        The VQ-VAE, and the tokens of every clip.
    """

    dataset: Dataset
    frames: dict[tuple, Artifact]
    roles: pd.DataFrame
    vqvae: Artifact
    tokens: Artifact


def video_stages(pipeline: Pipeline) -> VideoStages:
    """Inventory, frames, roles, VQ-VAE and tokens, in one call."""
    dataset = inventory(pipeline)
    stores = frames(pipeline, dataset)
    roles = video_roles(pipeline, dataset)
    _check_enough_video(pipeline.profile, stores, roles)
    trained = vqvae(pipeline, stores, roles)
    return VideoStages(dataset, stores, roles, trained, tokens(pipeline, stores, roles, trained))


def _check_enough_video(profile: Profile, stores, roles: pd.DataFrame) -> None:
    """Say that a data size is out of reach before the VQ-VAE is trained, not after."""
    keys = repetition_keys(roles, "video_train")
    n_clips = sum(open_frames(stores[key].path).shape[0] // CLIP_SPAN_FRAMES for key in keys)
    cells = [cell for axis in profile.axes for cell in axis_cells(profile, axis)]
    largest = max(cell.n_frames for cell in cells)
    if largest // CLIP_SPAN_FRAMES > n_clips:
        raise CobeError(
            f"profile {profile.name!r}: its largest cell trains on {largest:,} frames, and the "
            f"video sessions hold {n_clips * CLIP_SPAN_FRAMES:,}; lower n_frames, or give the "
            "video model more sessions"
        )


def sweep_cells(
    profile: Profile, axes: list[str], protocols: Sequence[Protocol] = ()
) -> list[Cell]:
    """The trained cells of these axes and the base cell, each once, dearest first.

    Parameters
    ----------
    profile : Profile
        Whose axes and base cell.
    axes : list of str
        Names of axes.
    protocols : sequence of Protocol
        How smaller training subsets are drawn and trained, each a cell of its own; none: as the
        profile's own protocol does.

    Raises
    ------
    CobeError
        An axis is unknown.
    """
    known = {axis.name: axis for axis in profile.axes}
    unknown = sorted(set(axes) - set(known))
    if unknown:
        raise CobeError(f"axis {unknown[0]!r}: unknown; choose from {', '.join(known)}")
    cells = {profile.base: None}
    for protocol in protocols or (profile.protocol,):
        for name in axes:
            cells |= dict.fromkeys(axis_cells(profile, known[name], protocol))
    return sorted(cells, key=lambda cell: -cell.n_layers * cell.hidden * (cell.n_steps or 10**9))


def untrained_controls(cells: list[Cell]) -> list[Cell]:
    """The untrained model of every shape among `cells`, each once."""
    return list(dict.fromkeys(cell.untrained() for cell in cells))


def paper_cells(profile: Profile, axes: list[str]) -> list[Cell]:
    """All models of the paper's figures: trained under either protocol, and their untrained twins.

    Returns
    -------
    cells : list of Cell
        Trained ones first, dearest first, each once.
    """
    cells = sweep_cells(profile, axes, (profile.protocol, profile.published))
    return cells + untrained_controls(cells)


def train_cells(pipeline: Pipeline, tokenised: Artifact, cells: list[Cell]) -> dict[Cell, Artifact]:
    """Train these cells, several at a time, one thread each; what is there is reused.

    Returns
    -------
    models : dict
        Cell to a folder with the model and its log (``log.parquet``).
    """
    cfg = pipeline.profile.train
    if not cfg.tokens_once:
        raise CobeError(
            "TrainConfig.tokens_once is False: the sweep trains from tokens; set it to True "
            "(cobe.sweep.recipes trains from pixels, for comparison)"
        )
    jobs = [
        Job(
            f"gpt/{cell.name}",
            write_cell,
            (cell, cfg, tokenised),
            params={"cell": cell, "train": cfg if cell.trained else None},
            inputs={"tokens": tokenised},
            code=("cobe.video.train", "cobe.video.windows", "cobe.sweep.cells"),
            resumable=True,
        )
        for cell in cells
    ]
    made = make_all(pipeline.store, jobs, "training cells", "cell")
    return dict(zip(cells, made, strict=True))


def cell_columns(cell: Cell) -> dict:
    """What identifies a cell in a table."""
    return {
        "cell": cell.name,
        "n_frames": cell.n_frames,
        "hidden": cell.hidden,
        "n_layers": cell.n_layers,
        "n_heads": cell.n_heads,
        "precision": cell.precision,
        "scheme": cell.scheme,
        "seed": cell.seed,
        "n_steps": cell.n_steps,
    }
