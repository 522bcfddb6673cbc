"""Tokens once: clips through the VQ-VAE to a uint16 array, beside a table of their times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from cobe.core.config import CLIP_SPAN_FRAMES, FRAME_RATE_HZ
from cobe.core.errors import CobeError
from cobe.core.progress import progress

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


def write_tokens(path, tokens: np.ndarray) -> None:
    """Write tokens as one ``.npy`` file that can be memory-mapped.

    Raises
    ------
    CobeError
        Not uint16 ``(n_clips, t, h, w)``.
    """
    _check(path, tokens)
    with open(path, "wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(tokens), allow_pickle=False)


def open_tokens(path, n_clips: int | None = None, grid=None) -> np.ndarray:
    """Memory-map tokens, read-only.

    Parameters
    ----------
    path : path-like
        What `write_tokens` wrote.
    n_clips : int or None
        Rows of the clip table that belongs to it.
    grid : tuple of int or None
        The grid (t, h, w) that the tokens must have.

    Returns
    -------
    tokens : uint16 memmap (n_clips, t, h, w)

    Raises
    ------
    CobeError
        Not a token file, or of another length or grid than asked for; both sides are named.
    """
    path = Path(path)
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CobeError(f"{path}: no readable token file ({error}); tokenise again") from error
    _check(path, tokens)
    if n_clips is not None and len(tokens) != n_clips:
        raise CobeError(
            f"{path}: {len(tokens)} clips, but the clip table has {n_clips}; tokenise again"
        )
    if grid is not None and tokens.shape[1:] != tuple(grid):
        raise CobeError(
            f"{path}: grid {tokens.shape[1:]}, but the VQ-VAE gives {tuple(grid)}; tokenise again"
        )
    return tokens


def _check(path, tokens) -> None:
    kind, shape = getattr(tokens, "dtype", type(tokens)), getattr(tokens, "shape", ())
    if kind != np.uint16 or len(shape) != 4:
        raise CobeError(
            f"{path}: {kind} {shape}, but tokens are uint16 (n_clips, t, h, w); tokenise again"
        )
