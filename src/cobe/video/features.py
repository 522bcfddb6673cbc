"""Clip features for the encoding model: hidden states of the GPT, and code vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch

from cobe.core.errors import CobeError
from cobe.core.progress import progress
from cobe.video.device import float32
from cobe.video.gpt import ConditionalGPT
from cobe.video.pooling import check_pca, check_pooling, fit_pca, make_pool
from cobe.video.train import EVAL_BATCH, Windows

BRANCHES = ("residual", "mlp")
CODE_BATCH = 1024


def block_states(
    model: ConditionalGPT,
    tokens: np.ndarray,
    codebook: np.ndarray,
    rows: np.ndarray,
    blocks: Sequence[int] = (-1,),
    *,
    branch: str = "residual",
    pooling: str = "mean",
    n_features: int | None = None,
    seed: int = 0,
    fit_rows: np.ndarray | None = None,
    batch: int = EVAL_BATCH,
) -> dict[int, np.ndarray]:
    """Hidden states of several blocks in one pass, teacher-forced, one vector per target clip.

    Position i of a block has seen the context clip and the target clip's tokens before i. Blocks
    after the last one asked for are not computed.

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
    blocks : sequence of int
        Counted from 0; negative ones count from the last.
    branch : str
        ``"residual"``: the output of the block, its input plus attention, cross-attention and MLP
        branches, **before** the final norm, for block -1 as for every other. ``"mlp"``: the MLP
        branch before it is added (the paper's ``post_fc_dp``).
    pooling : str
        ``"mean"``: over all tokens, hidden values. ``"position"``: over time at every place of
        the h x w grid, ``h * w * hidden`` values. ``"random"``: all tokens through a seeded random
        projection to `n_features` values. ``"pca"``: all tokens to `n_features` principal
        components of the windows at `fit_rows` (a pass over these for each block).
    n_features : int, optional
        Values per clip, for "random" and "pca".
    seed : int
        Of the random projection.
    fit_rows : int (n_fit,), optional
        Target rows that the PCA is fitted on, such as training rows; no other row enters it.
    batch : int
        Windows at a time.

    Returns
    -------
    features : dict
        Block, as asked for, to float32 (n_rows, n_features). `clip_times` tells their times.

    Raises
    ------
    CobeError
        No such block, branch or pooling; rows outside the tokens; tokens of another grid than the
        model's; a PCA with too few rows or too many values.
    """
    n_layers = model.config.n_layer
    for block in blocks:
        if not -n_layers <= block < n_layers:
            raise CobeError(
                f"block {block}: the model has {n_layers} blocks; "
                f"choose {-n_layers} to {n_layers - 1}"
            )
    if not blocks or branch not in BRANCHES:
        raise CobeError(
            f"blocks {list(blocks)}, branch {branch!r}: "
            f"give at least one block, and one of {', '.join(BRANCHES)}"
        )
    check_pooling(pooling, n_features, fit_rows)
    check_grid(model, tokens)
    windows = Windows(tokens, codebook, rows, model.device)

    def states(of: Windows, chosen):
        return _states(model, of, chosen, branch, batch)

    if pooling == "pca":
        fit = Windows(tokens, codebook, fit_rows, model.device)
        n_values = model.n_tokens * model.config.n_embd
        check_pca(len(fit), n_values, n_features)
        pools = {
            block: fit_pca(_flat(states(fit, [block])), len(fit), n_values, n_features)
            for block in blocks
        }
    else:
        pools = dict.fromkeys(blocks, make_pool(pooling, model.config.grid, n_features, seed))
    return _collect(states(windows, list(blocks)), pools, -(-len(windows) // batch))


def hidden_states(
    model: ConditionalGPT,
    tokens: np.ndarray,
    codebook: np.ndarray,
    rows: np.ndarray,
    block: int = -1,
    pooling: str = "mean",
    batch: int = EVAL_BATCH,
    **settings,
) -> np.ndarray:
    """`block_states` of one block: float32 (n_rows, n_features), by default the residual stream."""
    asked = {"pooling": pooling, "batch": batch, **settings}
    return block_states(model, tokens, codebook, rows, (block,), **asked)[block]


def code_embeddings(
    tokens: np.ndarray,
    codebook: np.ndarray,
    pooling: str = "mean",
    *,
    n_features: int | None = None,
    seed: int = 0,
    fit_rows: np.ndarray | None = None,
) -> np.ndarray:
    """Code vectors of every clip, pooled in the same way as `block_states`.

    Parameters
    ----------
    tokens : uint16 (n_clips, t, h, w)
        Tokens of the clips.
    codebook : float32 (n_codes, code_dim)
        Code vectors.
    pooling, n_features, seed
        As for `block_states`; ``"mean"`` gives code_dim values, ``"position"`` h * w * code_dim.
    fit_rows : int (n_fit,), optional
        Rows of `tokens` that the PCA is fitted on.

    Returns
    -------
    features : float32 (n_clips, n_features)

    Raises
    ------
    CobeError
        No such pooling, tokens beyond the codebook, a PCA with too few rows or too many values.
    """
    check_pooling(pooling, n_features, fit_rows)
    codebook, grid = np.asarray(codebook, np.float32), tokens.shape[1:]
    if tokens.size and tokens.max() >= len(codebook):
        raise CobeError(
            f"tokens: code {tokens.max()}, but the codebook has {len(codebook)} codes; "
            "use the codebook of the VQ-VAE that made the tokens"
        )

    def states(clips) -> Iterator[dict]:
        for start in range(0, len(clips), CODE_BATCH):
            part = clips[start : start + CODE_BATCH].astype(np.int64)
            yield {0: torch.from_numpy(codebook[part.reshape(len(part), -1)])}

    if pooling == "pca":
        fit, n_values = tokens[np.asarray(fit_rows)], int(np.prod(grid)) * codebook.shape[1]
        check_pca(len(fit), n_values, n_features)
        pools = {0: fit_pca(_flat(states(fit)), len(fit), n_values, n_features)}
    else:
        pools = {0: make_pool(pooling, grid, n_features, seed)}
    if not len(tokens):
        # the pooling of one clip of zeros tells the number of values
        width = pools[0](torch.zeros(1, int(np.prod(grid)), codebook.shape[1])).shape[1]
        return np.empty((0, width), np.float32)
    return _collect(states(tokens), pools, -(-len(tokens) // CODE_BATCH))[0]


def clip_times(clips: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """Which clip every row of the features is, and when it was seen.

    Parameters
    ----------
    clips : DataFrame
        The clip table of the tokens.
    rows : int (n_rows,)
        Target rows that the features were made of.

    Returns
    -------
    times : DataFrame
        In the order of `rows`: subject, session, run, row, level, clip, start_s, end_s (seconds
        from the start of the run's first volume). Features of a clip are of what was on screen
        from start_s to end_s; its context is the clip before.
    """
    columns = ["subject", "session", "run", "row", "level", "clip", "start_s", "end_s"]
    return clips.iloc[np.asarray(rows)][columns].reset_index(drop=True)


class _Enough(Exception):
    """The last block that is wanted has been read."""


@torch.no_grad()
def _states(model, windows: Windows, blocks, branch: str, batch: int) -> Iterator[dict]:
    """States (n, n_tokens, hidden) of these blocks, a batch of windows at a time."""
    order = [range(model.config.n_layer)[block] for block in blocks]
    seen: dict[int, torch.Tensor] = {}

    def keep(index):
        def hook(module, args, output):
            seen[index] = output
            if index == max(order):
                raise _Enough

        return hook

    parts = [model.transformer.h[index] for index in sorted(set(order))]
    parts = [block.mlp if branch == "mlp" else block for block in parts]
    handles = [
        part.register_forward_hook(keep(index))
        for part, index in zip(parts, sorted(set(order)), strict=True)
    ]
    was_training = model.training
    model.eval()
    try:
        for part in windows.batches(batch):
            try:
                with float32(model.device):
                    model.last_hidden(*part)
            except _Enough:
                yield {block: seen[index] for block, index in zip(blocks, order, strict=True)}
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)


def _flat(states: Iterator[dict]) -> Iterator[np.ndarray]:
    """All values of each clip, float32 (n, n_tokens * d), of the one block in every batch."""
    for part in states:
        (block,) = part.values()
        yield block.flatten(1).float().cpu().numpy()


def _collect(states: Iterator[dict], pools: dict, n_batches: int) -> dict[int, np.ndarray]:
    features: dict[int, list] = {block: [] for block in pools}
    for part in progress(states, total=n_batches, desc="features", unit="batch"):
        for block, pool in pools.items():
            features[block].append(pool(part[block].float()).cpu().numpy())
    return {block: np.concatenate(parts) for block, parts in features.items()}


def check_grid(model: ConditionalGPT, tokens: np.ndarray) -> None:
    """Raise CobeError when the tokens are not on the model's grid."""
    if list(tokens.shape[1:]) != list(model.config.grid):
        raise CobeError(
            f"tokens: grid {tokens.shape[1:]}, but the model was built for "
            f"{tuple(model.config.grid)}; use tokens of the VQ-VAE it was trained with"
        )
