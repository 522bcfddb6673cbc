"""Windows of two clips, and nested subsets of a wanted number of frames."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.core.timing import CLIP_SPAN_FRAMES

CHUNK_FRAMES = 1000
# A chunk is a whole number of clips: 16, or 1,024 frames.
CHUNK_CLIPS = round(CHUNK_FRAMES / CLIP_SPAN_FRAMES)
SCHEMES = ("stratified", "prefix", "single")
_REPETITION = ["subject", "session", "run", "row"]


def windows(clip_table: pd.DataFrame) -> np.ndarray:
    """Target rows of all windows: the row before is the clip before, in the same repetition.

    Parameters
    ----------
    clip_table : DataFrame
        One row per clip, with columns subject, session, run, row, clip.

    Returns
    -------
    rows : int64 (n_windows,)
        Positions of the target clips in the table; ``rows - 1`` are the context clips.
    """
    if len(clip_table) < 2:
        return np.empty(0, np.int64)
    same = np.ones(len(clip_table) - 1, bool)
    for name in _REPETITION:
        values = clip_table[name].to_numpy()
        same &= values[1:] == values[:-1]
    same &= np.diff(clip_table["clip"].to_numpy()) == 1
    return np.flatnonzero(same) + 1


def subset(
    clip_table: pd.DataFrame,
    n_frames: int,
    scheme: str = "stratified",
    seed: int = 0,
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """Target rows of the windows in a training subset of `n_frames` frames.

    A subset is the first ``n_frames // 64`` clips of a fixed order, so that a smaller subset lies
    inside every larger one; its windows are those with both clips in it. No frame outside the
    subset is used.

    Parameters
    ----------
    clip_table : DataFrame
        One row per clip, with columns subject, session, run, row, level, clip.
    n_frames : int
        60 Hz frames in the subset; a clip is 64 of them.
    scheme : str
        ``"stratified"``: chunks of 16 neighbouring clips (about 1,000 frames) in seeded order; the
        next comes always from the subject that has fewest clips so far, and there from the run
        that has fewest. ``"prefix"``: in the order of the published list, by subject and then
        by level. ``"single"``: as stratified, among the clips of the table's first subject only.
    seed : int
        Of the order of chunks, subjects and runs.
    allowed : bool (n_clips,), optional
        Rows that may be used, such as those of the training runs; None: all.

    Returns
    -------
    rows : int64 (n_windows,)
        Positions of the target clips in the table, ascending.

    Raises
    ------
    CobeError
        An unknown scheme; fewer frames in the table than asked for; no repetition as long as a
        window; or so few frames that they hold no window.
    """
    if scheme not in SCHEMES:
        raise CobeError(f"subset scheme {scheme!r}: unknown; choose one of {', '.join(SCHEMES)}")
    usable = np.arange(len(clip_table)) if allowed is None else np.flatnonzero(allowed)
    if scheme == "single" and len(usable):
        subjects = clip_table["subject"].to_numpy()[usable]
        usable = usable[subjects == subjects[0]]
    n_clips, available = n_frames // CLIP_SPAN_FRAMES, len(usable) * CLIP_SPAN_FRAMES
    if n_clips > len(usable):
        raise CobeError(
            f"subset of {n_frames:,} frames ({scheme}): there are {available:,} frames in "
            f"{len(usable):,} clips to draw from; ask for fewer frames or record more play"
        )
    targets = windows(clip_table)
    may = np.zeros(len(clip_table), bool)
    may[usable] = True
    if n_clips > 1 and not (may[targets] & may[targets - 1]).any():
        counts = clip_table.iloc[usable].groupby(_REPETITION).size()
        raise CobeError(
            f"windows: two neighbouring clips are {2 * CLIP_SPAN_FRAMES} frames, but the longest "
            f"of {len(counts)} repetitions has {counts.max()} usable, none with the clip before; "
            "use longer repetitions"
        )
    in_order = _listed_order if scheme == "prefix" else _stratified_order
    order = in_order(clip_table, usable, seed)
    chosen = np.zeros(len(clip_table), bool)
    chosen[order[:n_clips]] = True
    rows = targets[chosen[targets] & chosen[targets - 1]]
    if not len(rows):
        raise CobeError(
            f"subset of {n_frames:,} frames: it holds no two neighbouring clips; "
            f"ask for at least {2 * CLIP_SPAN_FRAMES} frames in one repetition"
        )
    return rows


def _listed_order(clip_table, usable, seed) -> np.ndarray:
    """All usable rows as the published list has them: by subject, then by level; no seed."""
    names = ["subject", "level", "session", "run", "row", "clip"]
    table = clip_table.iloc[usable][names]
    return usable[np.lexsort([table[name].to_numpy() for name in reversed(names)])]


def _stratified_order(clip_table, usable, seed) -> np.ndarray:
    """All usable rows, chunk by chunk, balanced over subjects and over their runs."""
    table = clip_table.iloc[usable][["subject", "session", "run", "row"]]
    chunks: dict[tuple, dict[tuple, list]] = {}
    for (subject, session, run, _), positions in table.groupby(
        _REPETITION, sort=True
    ).indices.items():
        rows = usable[np.sort(positions)]
        runs = chunks.setdefault(subject, {})
        pieces = [rows[i : i + CHUNK_CLIPS] for i in range(0, len(rows), CHUNK_CLIPS)]
        runs.setdefault((subject, session, run), []).extend(pieces)
    rng = rng_for(seed, "windows", "stratified")
    subjects = [list(chunks)[i] for i in rng.permutation(len(chunks))]
    queues = {}
    for subject in subjects:
        keys = [list(chunks[subject])[i] for i in rng.permutation(len(chunks[subject]))]
        queues[subject] = {
            key: [chunks[subject][key][i] for i in rng.permutation(len(chunks[subject][key]))]
            for key in keys
        }
    taken = {key: 0 for subject in subjects for key in (subject, *queues[subject])}
    order = []
    while queues:
        subject = min(queues, key=taken.__getitem__)
        key = min(queues[subject], key=taken.__getitem__)
        piece = queues[subject][key].pop()
        order.append(piece)
        taken[subject] += len(piece)
        taken[key] += len(piece)
        if not queues[subject][key]:
            del queues[subject][key]
        if not queues[subject]:
            del queues[subject]
    return np.concatenate(order) if order else np.empty(0, np.int64)
