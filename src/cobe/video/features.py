"""Clip features for the encoding model: hidden states of the GPT, and code vectors."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange

from cobe.core.errors import CobeError
from cobe.core.progress import progress
from cobe.video.gpt import ConditionalGPT
from cobe.video.train import EVAL_BATCH, Windows

POOLINGS = ("mean", "position")


@torch.no_grad()
def hidden_states(
    model: ConditionalGPT,
    tokens: np.ndarray,
    codebook: np.ndarray,
    rows: np.ndarray,
    block: int = -1,
    pooling: str = "mean",
    batch: int = EVAL_BATCH,
) -> np.ndarray:
    """The residual stream after one block, teacher-forced, pooled to one vector per target clip.

    What is read is the output of the block: its input plus attention, cross-attention and MLP
    branches, **before** the final norm, for block -1 as for every other, so that all blocks are
    read alike. Position i has seen the context clip and the target clip's tokens before i.

    Parameters
    ----------
    model : ConditionalGPT
        Trained or untrained; it is run in evaluation mode and float32.
    tokens : uint16 (n_clips, t, h, w)
        Tokens of all clips.
    codebook : float32 (n_codes, code_dim)
        Code vectors of the VQ-VAE that made them.
    rows : int (n_rows,)
        Target rows; the context of a row is the row before.
    block : int
        Counted from 0; negative counts from the last.
    pooling : str
        ``"mean"``: over all tokens, hidden values. ``"position"``: over time at every place of
        the h x w grid, ``h * w * hidden`` values.
    batch : int
        Windows at a time.

    Returns
    -------
    features : float32 (n_rows, n_features)

    Raises
    ------
    CobeError
        No such block or pooling; rows outside the tokens; tokens of another grid than the model's.
    """
    n_layers = model.config.n_layer
    if not -n_layers <= block < n_layers:
        raise CobeError(
            f"block {block}: the model has {n_layers} blocks; choose {-n_layers} to {n_layers - 1}"
        )
    _check_pooling(pooling)
    check_grid(model, tokens)
    windows, features, seen = Windows(tokens, codebook, rows, model.device), [], []
    handle = model.transformer.h[block].register_forward_hook(
        lambda module, args, output: seen.append(output)
    )
    was_training = model.training
    model.eval()
    try:
        steps = -(-len(windows) // batch)
        for part in progress(windows.batches(batch), total=steps, desc="features", unit="batch"):
            model(*part)
            features.append(_pool(seen.pop(), model.config.grid, pooling).float().cpu().numpy())
    finally:
        handle.remove()
        model.train(was_training)
    return np.concatenate(features)


def code_embeddings(tokens: np.ndarray, codebook: np.ndarray, pooling: str = "mean") -> np.ndarray:
    """Code vectors of every clip, pooled in the same way as `hidden_states`.

    Parameters
    ----------
    tokens : uint16 (n_clips, t, h, w)
        Tokens of the clips.
    codebook : float32 (n_codes, code_dim)
        Code vectors.
    pooling : str
        ``"mean"`` gives code_dim values, ``"position"`` ``h * w * code_dim``.

    Returns
    -------
    features : float32 (n_clips, n_features)

    Raises
    ------
    CobeError
        No such pooling, or tokens beyond the codebook.
    """
    _check_pooling(pooling)
    tokens, codebook = np.asarray(tokens), np.asarray(codebook, np.float32)
    if tokens.size and tokens.max() >= len(codebook):
        raise CobeError(
            f"tokens: code {tokens.max()}, but the codebook has {len(codebook)} codes; "
            "use the codebook of the VQ-VAE that made the tokens"
        )
    axes = (1, 2, 3) if pooling == "mean" else (1,)
    n_places = 1 if pooling == "mean" else int(np.prod(tokens.shape[2:]))
    n_features = n_places * codebook.shape[1]
    parts = [
        codebook[tokens[i : i + 1024].astype(np.int64)].mean(axes).reshape(-1, n_features)
        for i in range(0, len(tokens), 1024)
    ]
    return np.concatenate([np.empty((0, n_features), np.float32), *parts])


def check_grid(model: ConditionalGPT, tokens: np.ndarray) -> None:
    """Raise CobeError when the tokens are not on the model's grid."""
    if list(tokens.shape[1:]) != list(model.config.grid):
        raise CobeError(
            f"tokens: grid {tokens.shape[1:]}, but the model was built for "
            f"{tuple(model.config.grid)}; use tokens of the VQ-VAE it was trained with"
        )


def _check_pooling(pooling: str) -> None:
    if pooling not in POOLINGS:
        raise CobeError(f"pooling {pooling!r}: unknown; choose one of {', '.join(POOLINGS)}")


def _pool(states, grid, pooling):
    if pooling == "mean":
        return states.mean(1)
    t, h, w = grid
    return rearrange(states, "n (t h w) d -> n t (h w d)", t=t, h=h, w=w).mean(1)
