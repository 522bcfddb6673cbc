"""Which volumes of a run show play that can be seen again, and what the other volumes are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cobe.core.errors import CobeError

if TYPE_CHECKING:
    from cobe.brain.records import Run

KINDS = ("replay", "edge", "no_replay", "gap", "after")
# Below a microsecond a border of a volume and of a repetition are the same.
TOLERANCE_S = 1e-6


def volume_kinds(run: Run) -> np.ndarray:
    """What happens during each volume; volume k covers ``[k * TR, (k + 1) * TR)``.

    Parameters
    ----------
    run : cobe.brain.records.Run
        A run whose number of volumes and TR are known.

    Returns
    -------
    kinds : ndarray of str, shape (n_trs,)
        One of "replay" (wholly inside a repetition whose replay is there), "edge" (partly inside
        such a repetition), "no_replay" (touches only repetitions whose replay is not there),
        "gap" (before, or between repetitions), "after" (after the last repetition).

    Raises
    ------
    CobeError
        The number of volumes or the TR is unknown.
    """
    if run.n_trs is None or not np.isfinite(run.tr_s):
        raise CobeError(f"{run.name}: number of volumes or TR unknown ({run.why})")
    start_s = np.arange(run.n_trs) * run.tr_s
    end_s = start_s + run.tr_s
    kinds = np.full(run.n_trs, "gap", dtype="<U9")
    last_s = max((r.onset_s + r.duration_s for r in run.repetitions), default=0.0)
    kinds[start_s >= last_s - TOLERANCE_S] = "after"
    # Replays last, so that a volume that touches both kinds of repetition counts as an edge.
    for repetition in sorted(run.repetitions, key=lambda r: r.has_replay):
        onset_s, offset_s = repetition.onset_s, repetition.onset_s + repetition.duration_s
        touches = (end_s > onset_s + TOLERANCE_S) & (start_s < offset_s - TOLERANCE_S)
        inside = (start_s >= onset_s - TOLERANCE_S) & (end_s <= offset_s + TOLERANCE_S)
        if repetition.has_replay:
            kinds[touches & (kinds != "replay")] = "edge"
            kinds[inside] = "replay"
        else:
            kinds[touches] = "no_replay"
    return kinds


def valid_trs(run: Run) -> np.ndarray:
    """Volumes that lie wholly inside a repetition whose replay is there.

    Parameters
    ----------
    run : cobe.brain.records.Run

    Returns
    -------
    valid : ndarray of bool, shape (n_trs,)
        All False in a run that is not usable.

    Raises
    ------
    CobeError
        The number of volumes or the TR is unknown.
    """
    return (volume_kinds(run) == "replay") & run.usable


def volume_counts(run: Run) -> dict[str, int]:
    """Number of volumes of each kind of `volume_kinds`; they add up to the volumes of the run."""
    kinds = volume_kinds(run)
    return {kind: int((kinds == kind).sum()) for kind in KINDS}
