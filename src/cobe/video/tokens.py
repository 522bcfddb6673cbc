"""Tokens once: clips through the VQ-VAE to a uint16 array, beside a table of their times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from cobe.core.errors import CobeError
from cobe.core.parallel import map_processes
from cobe.core.progress import progress
from cobe.core.timing import CLIP_SPAN_FRAMES, FRAME_RATE_HZ
from cobe.stimulus.frames import open_frames
from cobe.video.device import torch_threads
from cobe.video.vqvae import VQVAE

CLIP_COLUMNS = ("subject", "session", "run", "row", "level", "clip", "start_s", "end_s")


def n_whole_clips(n_frames: int) -> int:
    """Whole clips in a repetition of `n_frames` frames at 60 Hz."""
    return n_frames // CLIP_SPAN_FRAMES


def clip_table(repetitions: Iterable[tuple]) -> pd.DataFrame:
    """One row per clip: clips tile a repetition from its first frame.

    Parameters
    ----------
    repetitions : iterable of tuple
        ``(subject, session, run, row, level, onset_s, n_frames)``, one per repetition: keys,
        events row, level, onset in seconds from the run's first volume, frames at 60 Hz.

    Returns
    -------
    table : DataFrame
        Columns subject, session, run, row, level, clip, start_s, end_s. Clip c covers
        ``onset_s + 64 c / 60`` to ``onset_s + 64 (c + 1) / 60``. ``table.attrs["left_out_frames"]``
        counts the frames after the last whole clip of the repetitions, which no clip covers.

    Raises
    ------
    CobeError
        A repetition given twice, or with a negative number of frames.
    """
    parts, seen, left_out = [], set(), 0
    span_s = CLIP_SPAN_FRAMES / FRAME_RATE_HZ
    for subject, session, run, row, level, onset_s, n_frames in repetitions:
        key = (subject, session, int(run), int(row))
        if key in seen:
            raise CobeError(f"repetitions: {key} is listed twice; list every repetition once")
        if n_frames < 0:
            raise CobeError(f"repetitions: {key} has {n_frames} frames; decode its replay again")
        seen.add(key)
        clips = np.arange(n_whole_clips(n_frames))
        left_out += int(n_frames) - len(clips) * CLIP_SPAN_FRAMES
        columns = (*key, level, clips, onset_s + clips * span_s, onset_s + (clips + 1) * span_s)
        parts.append(pd.DataFrame(dict(zip(CLIP_COLUMNS, columns, strict=True)), index=clips))
    if not parts:
        kinds = dict(zip(CLIP_COLUMNS, (str, str, int, int, str, int, float, float), strict=True))
        parts = [pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})]
    table = pd.concat(parts, ignore_index=True)
    table.attrs["left_out_frames"] = left_out
    return table


def store_clips(store, batch: int = 64) -> Iterator[np.ndarray]:
    """The whole clips of one repetition's frame store, a batch at a time.

    Parameters
    ----------
    store : FrameStore
        ``store.shape[0]`` frames at 60 Hz; ``store.clips(starts)`` gives uint8
        ``(n, 16, height, width, 3)`` for the first frames `starts`.
    batch : int
        Clips in memory at once.
    """
    starts = np.arange(n_whole_clips(store.shape[0])) * CLIP_SPAN_FRAMES
    for first in range(0, len(starts), batch):
        yield store.clips(starts[first : first + batch])


def tokenize(model, clips, batch: int = 64, total: int | None = None) -> np.ndarray:
    """Tokens of many clips, in evaluation mode and float32.

    Parameters
    ----------
    model : VQVAE
        Its ``encode`` is used.
    clips : array, FrameStore, or iterable of arrays
        uint8 ``(n_clips, 16, height, width, 3)``; or one repetition's frame store; or an iterator
        of such arrays, of any lengths, in the order of the clip table.
    batch : int
        Clips read at once. The tokens do not depend on it.
    total : int or None
        Number of clips, for the progress bar.

    Returns
    -------
    tokens : uint16 (n_clips, t, h, w)

    Raises
    ------
    CobeError
        Clips of another type or size than the model's.
    """
    if isinstance(clips, np.ndarray):
        total = len(clips)
        parts = (clips[i : i + batch] for i in range(0, total, batch))
    elif hasattr(clips, "clips"):
        check_store(model, clips)
        total, parts = n_whole_clips(clips.shape[0]), store_clips(clips, batch)
    else:
        parts = iter(clips)
    bar = progress(total=total, desc="tokens", unit="clip")
    tokens = [np.empty((0, *model.grid), np.uint16)]
    for part in parts:
        tokens.append(model.encode(part))
        bar.update(len(part))
    bar.close()
    return np.concatenate(tokens)


def check_store(model, store) -> None:
    """Raise CobeError when a frame store's frames are not of the VQ-VAE's size."""
    side = model.cfg.resolution
    if store.shape[1:] != (side, side, 3):
        raise CobeError(
            f"{getattr(store, 'path', 'frame store')}: frames of {store.shape[1]} x "
            f"{store.shape[2]} pixels, but the VQ-VAE takes {side} x {side}; decode the replay at "
            "that size, or train a VQ-VAE for these frames"
        )


def tokenize_stores(model_path, stores: Sequence, workers: int | None = None) -> np.ndarray:
    """Tokens of the whole clips of many frame stores, over local processes.

    Every store is one job with one thread, and every clip is encoded in float32 in a padded group
    of fixed size: the tokens are the same bytes with one process or many. On a GPU one process is
    enough: call `tokenize` with the model there.

    Parameters
    ----------
    model_path : path-like
        Folder of `VQVAE.save`; each process loads it once.
    stores : sequence of path-like
        Files of `cobe.stimulus.frames.write_frames`, one per repetition, in the order of the clip
        table.
    workers : int or None
        Processes; None: as many as there are cores.

    Returns
    -------
    tokens : uint16 (n_clips, t, h, w)

    Raises
    ------
    CobeError
        A store that is damaged or holds frames of another size than the model's, before any clip
        is encoded.
    """
    model = VQVAE.load(model_path)
    for path in stores:
        check_store(model, open_frames(path))
    jobs = [(str(model_path), str(path)) for path in stores]
    parts = map_processes(_store_tokens, jobs, desc="tokens", unit="replay", workers=workers)
    return np.concatenate([np.empty((0, *model.grid), np.uint16), *parts])


def _store_tokens(model_path: str, store_path: str) -> np.ndarray:
    changed = (Path(model_path) / "model.safetensors").stat().st_mtime_ns
    with torch_threads(1):
        return tokenize(_load(model_path, changed), open_frames(store_path))


@lru_cache(maxsize=1)
def _load(model_path: str, changed: int) -> VQVAE:
    """The model of this process: one process encodes many stores."""
    return VQVAE.load(model_path)
