"""A VQ-VAE small enough for tests, and a video that it can learn."""

import numpy as np

from cobe.core.config import VQVAEConfig

TINY = VQVAEConfig(
    resolution=16,
    downsample=(4, 8, 8),
    n_hiddens=16,
    n_res_blocks=1,
    n_codes=32,
    code_dim=8,
    n_steps=12,
    batch_size=4,
)


def moving_squares(rng, n, size=16):
    """Bright 4 x 4 squares on black, each moving along a row."""
    clips = np.zeros((n, 16, size, size, 3), np.uint8)
    for clip in clips:
        y, x, step = rng.integers(0, size - 4), rng.integers(0, size), rng.integers(-1, 2)
        for i, frame in enumerate(clip):
            columns = (x + step * (i // 4) + np.arange(4)) % size
            frame[y : y + 4, columns] = (255, 160, 40)
    return clips
