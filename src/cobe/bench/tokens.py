"""Speed of tokenising a frame store, beside that of the encoder on tensors already in memory."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cobe.core.config import CLIP_SPAN_FRAMES, VQVAEConfig
from cobe.core.seeds import rng_for
from cobe.stimulus.frames import open_frames, write_frames
from cobe.video.loop import torch_threads
from cobe.video.tokens import tokenize
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

    The model has initial weights: speed does not depend on them. Both sides take turns in one
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
        write_frames(path, moving_blocks(n_clips * CLIP_SPAN_FRAMES, cfg.resolution, seed))
        store = open_frames(path)
        clips = store.clips(np.arange(n_clips) * CLIP_SPAN_FRAMES)
        groups = [model.pixels(clips[i : i + GROUP_CLIPS]) for i in range(0, n_clips, GROUP_CLIPS)]
        whole = tokenize(model, store, batch)
        parts = [tokenize(model, part) for part in np.array_split(clips, 3)]
        same = float(np.mean(whole == np.concatenate(parts)))
        turns = [
            (
                _seconds(lambda: tokenize(model, store, batch)),
                _seconds(lambda: [model.latents(x) for x in groups]),
                _seconds(lambda: model.encode(clips)),
            )
            for _ in range(repeats)
        ]
    ours, network, memory = (n_clips / np.median(turns, axis=0)).tolist()
    size = f"{cfg.resolution}x{cfg.resolution}, {cfg.n_hiddens} channels, {threads} thread(s)"
    what = f"tokenise a frame store, {size}"
    return [
        _row(what, ours, "clips/CPU s", "encoder network alone", network, ours / network),
        _row(what, ours, "clips/CPU s", "clips in memory", memory, ours / memory),
        _row("equal tokens from other batches", same, "fraction", "one batch", 1.0, same),
    ]


def _seconds(function) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def _row(measurement, value, unit, peer, peer_value, ratio) -> dict:
    return {
        "measurement": measurement,
        "value": value,
        "unit": unit,
        "peer": peer,
        "peer_value": peer_value,
        "ratio": ratio,
    }
