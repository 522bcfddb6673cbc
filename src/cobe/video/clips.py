"""Clips of pixels, drawn evenly over all possible first frames of many repetitions."""

from __future__ import annotations

import numpy as np

from cobe.core.errors import CobeError
from cobe.core.timing import CLIP_SPAN_FRAMES


class FirstFrames:
    """All possible first frames of clips in some repetitions, numbered through.

    Raises
    ------
    CobeError
        Every repetition is shorter than a clip.
    """

    def __init__(self, stores):
        self.stores = stores
        n_frames = np.array([store.shape[0] for store in stores], dtype=np.int64)
        self.n_starts = np.maximum(n_frames - CLIP_SPAN_FRAMES + 1, 0)
        self.edges = np.cumsum(self.n_starts)
        if not self.n_starts.sum():
            raise CobeError("replays: all are shorter than one clip (64 frames); add longer ones")

    def clips(self, numbers: np.ndarray) -> np.ndarray:
        """The clips that start there, for ascending numbers: uint8 (n, 16, height, width, 3)."""
        which = np.searchsorted(self.edges, numbers, side="right")
        starts = numbers - (self.edges - self.n_starts)[which]
        return np.concatenate([self.stores[i].clips(starts[which == i]) for i in np.unique(which)])


def clip_sampler(stores):
    """Clips drawn evenly over all possible first frames of all repetitions."""
    places = FirstFrames(stores)

    def sample(rng: np.random.Generator, n_clips: int) -> np.ndarray:
        drawn = np.sort(rng.integers(places.edges[-1], size=n_clips))
        return places.clips(drawn)[rng.permutation(n_clips)]

    return sample


def spread_clips(stores, n_clips: int) -> np.ndarray:
    """Clips spread evenly over all possible first frames of all repetitions.

    Returns
    -------
    clips : uint8 (n_clips, 16, height, width, 3)
    """
    places = FirstFrames(stores)
    return places.clips(np.linspace(0, places.edges[-1] - 1, n_clips).astype(np.int64))
