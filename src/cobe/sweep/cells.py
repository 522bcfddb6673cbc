"""What worker processes train: the VQ-VAE and the GPT cells.

This module imports little, so that a change in how models are scored, or data found, leaves the
trained models what they are: their keys see the code from here on upwards only.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers

from cobe.core.artifacts import Artifact
from cobe.core.config import Cell, TrainConfig, VQVAEConfig
from cobe.core.timing import CLIP_SPAN_FRAMES
from cobe.stimulus.frames import open_frames
from cobe.video.clips import clip_sampler, spread_clips
from cobe.video.gpt import ConditionalGPT, build_gpt
from cobe.video.recipe import PixelTokens
from cobe.video.steplog import StepLog
from cobe.video.tokens import clip_table, tokenize_stores
from cobe.video.tokenset import TokenSet, open_token_set, write_token_set
from cobe.video.train import train_gpt
from cobe.video.vqvae import VQVAE
from cobe.video.vqvae_train import train_vqvae
from cobe.video.windows import subset

# a bar per saved model says nothing; the one over cells does
transformers.utils.logging.disable_progress_bar()


def write_vqvae(
    path: Path,
    checkpoint: Path,
    cfg: VQVAEConfig,
    train: list[Path],
    val: list[Path],
    n_val_clips: int,
    threads: int,
    precision: str,
) -> None:
    """Train the VQ-VAE on the frame stores `train`; the model, its log and its steps go to disk."""
    stores = [open_frames(store) for store in train]
    val_clips = spread_clips([open_frames(store) for store in val], n_val_clips)
    steps = StepLog()
    model, log = train_vqvae(
        cfg,
        clip_sampler(stores),
        val_clips,
        checkpoint,
        threads=threads,
        precision=precision,
        step_log=steps,
    )
    model.save(path)
    steps.table().to_parquet(steps_path(path))
    log.drop(columns="seconds", errors="ignore").to_parquet(path / "log.parquet")


def write_tokens(
    path: Path, roles: pd.DataFrame, stores: dict[tuple, Path], vqvae_folder: Path
) -> None:
    """Tokenise every clip of these frame stores, with the role of its repetition, into one file."""
    rows = list(roles.itertuples(index=False))
    paths = [stores[tuple(row[:4])] for row in rows]
    table = clip_table(
        (*row[:4], row.level, row.onset_s, open_frames(store).shape[0])
        for row, store in zip(rows, paths, strict=True)
    )
    columns = ["subject", "session", "run", "row"]
    table = table.merge(roles[[*columns, "role"]], on=columns, how="left", validate="m:1")
    model = VQVAE.load(vqvae_folder)
    codes = tokenize_stores(vqvae_folder, paths)
    write_token_set(path, codes, table, model.codebook(), model.identity())


def load_tokens(artifact: Artifact) -> TokenSet:
    """The tokens, their clip table and the codebook."""
    return open_token_set(artifact.path)


def write_cell(
    path: Path,
    checkpoint: Path,
    cell: Cell,
    cfg: TrainConfig,
    tokenised: Artifact,
    vqvae_trained: Artifact | None = None,
    stores: dict[tuple, Artifact] | None = None,
) -> None:
    """Train one cell in a worker process; the VQ-VAE and frames are for ``tokens_once=False``.

    A cell with steps of its own takes these in place of the settings'.
    """
    torch.set_num_threads(1)
    cfg = replace(cfg, n_steps=cell.n_steps or cfg.n_steps)
    data = load_tokens(tokenised)
    if cell.trained:
        clip_tokens = None
        if not cfg.tokens_once:
            encoder = VQVAE.load(vqvae_trained.path)
            clip_tokens = PixelTokens(encoder, partial(clip_pixels, data, stores))
        allowed = (data.clips.role == "video_train").to_numpy()
        steps = StepLog()
        model, log, _ = train_gpt(
            cell,
            cfg,
            data.codes,
            data.codebook,
            subset(data.clips, cell.n_frames, cell.scheme, allowed=allowed),
            data.windows_with_role("video_val"),
            checkpoint,
            clip_tokens=clip_tokens,
            step_log=steps,
        )
        steps.table().to_parquet(steps_path(path))
    else:
        model, log = untrained_gpt(cell, data), pd.DataFrame()
    model.save_pretrained(path)
    log.to_parquet(path / "log.parquet")


def steps_path(path: Path) -> Path:
    """Where the log of every step lies: beside the model, whose bytes its timings must not change.

    Parameters
    ----------
    path : Path
        The model's folder, or the temporary one that it is written to.
    """
    return path.with_name(f"{path.name.removeprefix('.making-')}.steps.parquet")


def untrained_gpt(cell: Cell, data: TokenSet) -> ConditionalGPT:
    """The initial weights of a cell's shape."""
    n_codes, code_dim = data.codebook.shape
    return build_gpt(cell, n_codes, code_dim, data.codes.shape[1:])


def clip_pixels(data: TokenSet, stores: dict[tuple, Artifact], rows: np.ndarray) -> np.ndarray:
    """The frames of some clips of the table: uint8 (n_rows, 16, height, width, 3)."""
    made = []
    for clip in data.clips.iloc[rows].itertuples():
        store = open_frames(stores[clip.subject, clip.session, clip.run, clip.row].path)
        made.append(store.clips([clip.clip * CLIP_SPAN_FRAMES])[0])
    return np.stack(made)
