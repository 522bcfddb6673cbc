"""FLOP counts of the video models by part: what a step needs, and what it computes.

A multiplication and the addition that follows it are two FLOP. Only matrix products and
convolutions are counted, as `torch.utils.flop_counter` does; norms, activations, softmax and the
optimizer are left out, whose share grows as the model gets narrower.
"""

from __future__ import annotations

import pandas as pd

from cobe.core.config import Cell, VQVAEConfig
from cobe.core.errors import CobeError
from cobe.core.timing import CLIP_FRAMES
from cobe.video.blocks import kernel_of, stages_of
from cobe.video.quantizer import fsq_levels

# The backward pass of a product makes two of the same size. Fused attention kernels make the
# scores again on the way back: 5 products for the 2 of the forward pass.
BACKWARD, FUSED_BACKWARD = 2.0, 2.5
COLUMNS = ["part", "forward", "backward", "recomputed"]


def gpt_flops(
    cell: Cell,
    n_codes: int,
    code_dim: int,
    grid: tuple[int, int, int],
    n_windows: int = 1,
    *,
    causal: bool = True,
    fused: bool = False,
    checkpointing: bool = False,
    dropout: bool = False,
) -> pd.DataFrame:
    """FLOP of one training step of the conditional GPT, by part.

    As called, it is what the model needs (the numerator of a model FLOP utilisation): attention
    over the causal triangle, nothing computed twice. The switches tell what is computed instead.

    Parameters
    ----------
    cell : Cell
        hidden, n_layers, n_heads are used; a head has ``hidden // n_heads`` channels.
    n_codes, code_dim : int
        Size of the codebook and of a code vector.
    grid : tuple of int
        Tokens of a clip over (time, height, width).
    n_windows : int
        Windows in the step.
    causal : bool
        Count the triangle of the target clip's attention; False: the whole square, which is what
        torch's counter counts and what a kernel that does not skip blocks computes.
    fused : bool
        Count the scores that fused attention makes again in the backward pass.
    checkpointing : bool
        Count the second forward pass through the blocks under activation checkpointing.
    dropout : bool
        There is dropout in the blocks: without it, the second pass stops before the last product of
        each block, whose output is not wanted again.

    Returns
    -------
    table : DataFrame
        Columns part, forward, backward, recomputed. Parts: context encoder, token embedding (a
        look-up: 0), attention projections, attention, cross-attention projections, cross-attention,
        MLP, head. "attention" is the two products with keys and values; projections stand apart.
    """
    tokens, hidden, layers = grid[0] * grid[1] * grid[2], cell.hidden, cell.n_layers
    inner = cell.hidden // cell.n_heads * cell.n_heads
    pairs = tokens * (tokens + 1) / 2 if causal else tokens**2
    attention_backward = FUSED_BACKWARD if fused else BACKWARD
    square = 2 * tokens * hidden * inner  # one projection of every token of a clip
    mlp = 2 * 2 * tokens * hidden * 4 * hidden
    # The context's code vectors need no gradient: only the projection's weights get one.
    rows = [
        ("context encoder", 2 * tokens * code_dim * hidden, 1.0, 0.0),
        ("token embedding", 0, 0.0, 0.0),
        ("attention projections", layers * 4 * square, BACKWARD, 1.0),
        ("attention", layers * 4 * pairs * inner, attention_backward, 1.0),
        ("cross-attention projections", layers * 4 * square, BACKWARD, 1.0),
        ("cross-attention", layers * 4 * tokens**2 * inner, attention_backward, 1.0),
        ("MLP", layers * mlp, BACKWARD, 1.0 if dropout else 0.5),
        ("head", 2 * tokens * hidden * n_codes, BACKWARD, 0.0),
    ]
    return _table(rows, n_windows, checkpointing)


def vqvae_flops(
    cfg: VQVAEConfig, n_clips: int = 1, n_frames: int = CLIP_FRAMES, *, fused: bool = False
) -> pd.DataFrame:
    """FLOP of a step of the VQ-VAE, by part.

    Parameters
    ----------
    cfg : VQVAEConfig
        Shape of the model.
    n_clips, n_frames : int
        Clips in the step, and frames in a clip.
    fused : bool
        As for `gpt_flops`.

    Returns
    -------
    table : DataFrame
        Columns part, forward, backward, recomputed (0). Parts of encoding: "encode:
        convolutions", "encode: blocks", "encode: axial attention" and "encode: quantizer" (forward
        the search for the nearest code; backward what training adds: the look-up as a product with
        one-hot rows, and the codes' moving averages. Or FSQ's projections); of decoding the first
        three with "decode:". Encoding alone takes the forward column of the parts of encoding.
    """
    hidden, stages = cfg.n_hiddens, stages_of(cfg.downsample)
    sizes = [(n_frames, cfg.resolution, cfg.resolution)]
    for stride in stages:
        sizes.append(tuple(n // s for n, s in zip(sizes[-1], stride, strict=True)))
    tokens = _volume(sizes[-1])
    taps = [_volume(kernel_of(stride, cfg.flat_kernel)) for stride in stages]
    down = [
        2 * _volume(size) * tap * (hidden if i else 3) * hidden
        for i, (size, tap) in enumerate(zip(sizes[1:], taps, strict=True))
    ]
    up = [
        2 * _volume(size) * tap * hidden * (hidden if i else 3)
        for i, (size, tap) in enumerate(zip(sizes[1:], taps, strict=True))
    ]
    last_down = 2 * tokens * 27 * (hidden if stages else 3) * hidden
    first = down[0] if stages else last_down
    flat_up = 0 if stages else 2 * tokens * 27 * hidden * 3
    to_codes = 2 * tokens * hidden * cfg.code_dim
    encoder = sum(down) + last_down + to_codes
    block = 2 * tokens * hidden * (hidden // 2) * (27 + 1)
    axial = 3 * 4 * 2 * tokens * hidden * hidden
    scores = 4 * tokens * hidden * sum(sizes[-1])
    blocks, scores = cfg.n_res_blocks * (block + axial), cfg.n_res_blocks * scores
    if cfg.quantizer == "vq":
        quantizer = ("encode: quantizer", 2 * tokens * cfg.n_codes * cfg.code_dim, 2.0, 0.0)
    else:
        n_levels = len(fsq_levels(cfg))
        width = 0 if n_levels == cfg.code_dim else 2 * n_levels
        quantizer = ("encode: quantizer", 2 * tokens * width * cfg.code_dim, BACKWARD, 0.0)
    attention_backward = FUSED_BACKWARD if fused else BACKWARD
    rows = [
        # Pixels need no gradient, so the first convolution has one product less.
        ("encode: convolutions", encoder, (BACKWARD * encoder - first) / encoder, 0.0),
        ("encode: blocks", blocks, BACKWARD, 0.0),
        ("encode: axial attention", scores, attention_backward, 0.0),
        quantizer,
        ("decode: convolutions", to_codes + sum(up) + flat_up, BACKWARD, 0.0),
        ("decode: blocks", blocks, BACKWARD, 0.0),
        ("decode: axial attention", scores, attention_backward, 0.0),
    ]
    return _table(rows, n_clips)


def total_flops(table: pd.DataFrame) -> float:
    """All FLOP of a table of `gpt_flops` or `vqvae_flops`: forward, backward and recomputed."""
    return float(table[COLUMNS[1:]].to_numpy().sum())


def train_flops(
    cell: Cell, n_codes: int, code_dim: int, grid, n_steps: int, batch_size: int, **switches
) -> float:
    """FLOP of a training run of a GPT: `n_steps` steps of `batch_size` windows.

    Parameters
    ----------
    cell, n_codes, code_dim, grid, **switches
        As for `gpt_flops`.
    n_steps, batch_size : int
        Optimiser steps, and windows in a step over all processes.
    """
    return n_steps * total_flops(gpt_flops(cell, n_codes, code_dim, grid, batch_size, **switches))


def six_nd(n_parameters: int, n_tokens: int) -> float:
    """The usual estimate 6 N D, to be set beside the count and never instead of it.

    It leaves out attention's products, and here takes the embedding tables for products.

    Parameters
    ----------
    n_parameters : int
        Trained parameters.
    n_tokens : int
        Target tokens trained on.
    """
    return 6.0 * n_parameters * n_tokens


def mfu(flops: float, seconds: float, peak_flops_per_s: float) -> float:
    """Model FLOP utilisation: the share of the device's peak that the needed arithmetic makes up.

    Parameters
    ----------
    flops : float
        What the model needs (`train_flops` as called, no switches), so that work done twice does
        not count as use.
    seconds : float
        Time of the training steps.
    peak_flops_per_s : float
        The device's dense peak at the precision of the run.

    Raises
    ------
    CobeError
        Times or peaks that are not above 0.
    """
    if not (seconds > 0 and peak_flops_per_s > 0):
        raise CobeError(
            f"mfu: {seconds} s and a peak of {peak_flops_per_s} FLOP/s; give both, above 0"
        )
    return flops / seconds / peak_flops_per_s


def _volume(size) -> int:
    return size[0] * size[1] * size[2]


def _table(rows, n: int, checkpointing: bool = False) -> pd.DataFrame:
    """Rows of (part, forward FLOP, backward over forward, share made again) for `n` examples."""
    made = [
        (part, n * forward, n * forward * back, n * forward * again * checkpointing)
        for part, forward, back, again in rows
    ]
    return pd.DataFrame(made, columns=COLUMNS)
