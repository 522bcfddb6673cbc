"""Speed of tokenising a frame store, beside that of the encoder on tensors already in memory."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cobe.bench.rows import cpu_seconds, row
from cobe.core.config import VQVAEConfig
from cobe.core.seeds import rng_for
from cobe.core.timing import CLIP_SPAN_FRAMES
from cobe.stimulus.frames import open_frames, write_frames
from cobe.video.device import torch_threads
from cobe.video.tokens import tokenize, tokenize_stores
from cobe.video.vqvae import GROUP_CLIPS, build_vqvae


def moving_blocks(n_frames: int, size: int, seed: int) -> np.ndarray:
    """Frames of bright blocks that move over black, uint8 ``(n_frames, size, size, 3)``."""
    rng = rng_for(seed, "bench", "blocks")
    frames = np.zeros((n_frames, size, size, 3), np.uint8)
    for _ in range(6):
        y, x, step = rng.integers(size), rng.integers(size), rng.integers(1, 4)
        colour = rng.integers(80, 256, 3)
        for i, frame in enumerate(frames):
            columns = (x + i * step // 4 + np.arange(size // 12)) % size
            frame[y : y + size // 12, columns] = colour
    return frames


def measure(
    *,
    n_clips: int = 96,
    cfg: VQVAEConfig | None = None,
    batch: int = 64,
    repeats: int = 5,
    threads: int = 1,
    seed: int = 0,
) -> list[dict]:
    """Clips per CPU second from a compressed frame store to tokens.

    The goals: at least 0.9 of the rate of the encoder's network, and the same bytes from two
    processes as from one.

    The model has initial weights, and a codebook started on the clips. Both sides take turns in one
    process on the same threads, and the median of their turns counts. One peer gets float32 pixels
    in memory in groups of 16 and runs the encoder's network alone: no reading, no conversion of
    pixels, no search for the nearest code. The other does all but the reading.

    Parameters
    ----------
    n_clips : int
        Clips of 16 frames in the store.
    cfg : VQVAEConfig or None
        Shape of the model; None: the default's.
    batch : int
        Clips read at once.
    repeats : int
        Turns of either side.
    threads : int
        torch threads.
    seed : int
        Seed of the frames.

    Returns
    -------
    rows : list of dict
        Keys measurement, value, unit, peer, peer_value, ratio.
    """
    cfg = cfg or VQVAEConfig()
    model = build_vqvae(replace(cfg, seed=seed)).eval()
    with tempfile.TemporaryDirectory() as folder, torch_threads(threads), torch.no_grad():
        path = Path(folder) / "frames.b2nd"
        frames = moving_blocks(n_clips * CLIP_SPAN_FRAMES, cfg.resolution, seed)
        write_frames(path, frames)
        store = open_frames(path)
        clips = store.clips(np.arange(n_clips) * CLIP_SPAN_FRAMES)
        model.train()(model.pixels(clips[:GROUP_CLIPS]))  # starts the codebook
        model.eval()
        groups = [model.pixels(clips[i : i + GROUP_CLIPS]) for i in range(0, n_clips, GROUP_CLIPS)]
        whole = tokenize(model, store, batch)
        parts = [tokenize(model, part) for part in np.array_split(clips, 3)]
        same = float(np.mean(whole == np.concatenate(parts)))
        model.save(Path(folder) / "model")
        halves = [Path(folder) / f"half-{i}.b2nd" for i in range(2)]
        for half, part in zip(halves, np.array_split(frames, 2), strict=True):
            write_frames(half, part)
        one, two = (
            tokenize_stores(Path(folder) / "model", halves, workers=n).tobytes() for n in (1, 2)
        )
        turns = [
            (
                cpu_seconds(lambda: tokenize(model, store, batch)),
                cpu_seconds(lambda: [model.latents(x) for x in groups]),
                cpu_seconds(lambda: model.encode(clips)),
            )
            for _ in range(repeats)
        ]
    ours, network, memory = (n_clips / np.median(turns, axis=0)).tolist()
    equal = float(one == two)
    size = f"{cfg.resolution}x{cfg.resolution}, {cfg.n_hiddens} channels, {threads} thread(s)"
    what = f"tokenise a frame store, {size}"
    return [
        row(what, ours, "clips/CPU s", "encoder network alone", network, ours / network),
        row(what, ours, "clips/CPU s", "clips in memory", memory, ours / memory),
        row("equal tokens from other batches", same, "fraction", "one batch", 1.0, same),
        row("equal bytes from two processes", equal, "1 or 0", "one process", 1.0, equal),
        row("codes among these tokens", len(np.unique(whole)), "codes"),
    ]
