"""The scan hours of the grid: nested training sets of the ridge, checked before any training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cobe.core.config import Profile
from cobe.core.errors import CobeError
from cobe.core.timing import TR_S
from cobe.encoding.align import MIN_COVERAGE, coverage
from cobe.encoding.delays import delayed_rows
from cobe.encoding.folds import INNER_PARTS
from cobe.sweep.scores import keys_by_subject

# a piece of a level with fewer rows would be an inner fold that is mostly noise
MIN_PIECE_ROWS = 20
# of a run that is scored: `cobe.encoding.design.find_rows` refuses fewer
MIN_RUN_ROWS = 2


@dataclass(frozen=True)
class Level:
    """What one fit is trained on.

    Attributes
    ----------
    held_out : str
        Session that is scored.
    hours : float
        Scan time asked for.
    volumes : dict
        (subject, session, run) to how many volumes from its start train, in order.
    """

    held_out: str
    hours: float
    volumes: dict[tuple, int]


def scan_levels(n_trs: dict[tuple, int], hours) -> list[Level]:
    """Nested training sets of one participant, for every held-out session.

    Parameters
    ----------
    n_trs : dict
        (subject, session, run) to volumes; the runs of one participant.
    hours : sequence of float
        Levels of scan time.

    Returns
    -------
    levels : list of Level

    Raises
    ------
    CobeError
        Fewer than two sessions, or a level that is longer than what is left without a session.
    """
    sessions = sorted({key[1] for key in n_trs})
    subject = next(iter(n_trs))[0]
    if len(sessions) < 2:
        raise CobeError(
            f"{subject}: one session with clips and BOLD for the ridge, {sessions[0]}, and none to "
            "train on when it is held out; add sessions or leave the participant out"
        )
    levels = []
    for held_out in sessions:
        by_session = [
            sorted(key for key in n_trs if key[1] == session)
            for session in sessions
            if session != held_out
        ]
        longest = max(map(len, by_session))
        order = [runs[i] for i in range(longest) for runs in by_session if i < len(runs)]
        there = sum(n_trs[key] for key in order)
        for level in sorted(hours):
            wanted = int(level * 3600 / TR_S + 1e-9)
            if wanted > there:
                raise CobeError(
                    f"GridConfig.scan_hours: {level:g} h are {wanted} volumes, and {subject} has "
                    f"{there} ({there * TR_S / 3600:.3g} h) in {len(order)} runs without {held_out}"
                    "; lower the level, or leave the participant out"
                )
            volumes, left = {}, wanted
            for key in order:
                if left > 0:
                    volumes[key] = min(left, n_trs[key])
                    left -= volumes[key]
            levels.append(Level(held_out, float(level), volumes))
    return levels


def check_run_hours(profile: Profile, n_trs: dict[tuple, int]) -> None:
    """Raise CobeError when the grid's hours cannot be had of these runs: no clip is needed.

    Parameters
    ----------
    profile : Profile
        Whose grid.
    n_trs : dict
        (subject, session, run) to volumes, of the runs that the ridge would have.
    """
    for subject in dict.fromkeys(key[0] for key in n_trs):
        own = {key: n for key, n in n_trs.items() if key[0] == subject}
        scan_levels(own, profile.grid.scan_hours)


def check_scan_hours(
    profile: Profile, clips: pd.DataFrame, n_trs: dict[tuple, int]
) -> dict[str, list[Level]]:
    """The levels of every participant, checked before anything is trained.

    Parameters
    ----------
    profile : Profile
        Its grid's hours and its protocol's delays.
    clips : DataFrame
        Target clips of the ridge's windows: subject, session, run, start_s, end_s.
    n_trs : dict
        (subject, session, run) to the volumes of every run with BOLD.

    Returns
    -------
    levels : dict
        Subject to its levels. A piece with fewer than `MIN_PIECE_ROWS` volumes that have clips at
        all delays, such as the last one of a level, is left out.

    Raises
    ------
    CobeError
        No hours, hours that a participant does not have, no participant, so few that penalties
        cannot be chosen, a session with too little to score, or two levels that train on the same.
    """
    if not profile.grid.scan_hours:
        raise CobeError("GridConfig.scan_hours: empty; give at least one level")
    delays = profile.protocol.delays_tr
    found = {}
    for subject, keys in keys_by_subject(clips, n_trs).items():
        rows = {key: _usable_rows(clips, key, n_trs[key], delays) for key in keys}
        levels = scan_levels({key: n_trs[key] for key in keys}, profile.grid.scan_hours)
        _check_held_out(subject, rows)
        found[subject] = [_checked(level, subject, rows, max(delays)) for level in levels]
        _check_different(found[subject], subject, rows)
    if not found:
        raise CobeError("grid: no run has both clips and BOLD; see the inventory for why")
    return found


def _usable_rows(clips: pd.DataFrame, key: tuple, n_trs: int, delays) -> np.ndarray:
    """Volumes of a run whose delayed volumes are all covered by clips, ascending."""
    here = (clips[["subject", "session", "run"]] == list(key)).all(axis=1)
    start_s, end_s = clips.start_s[here].to_numpy(), clips.end_s[here].to_numpy()
    return np.asarray(
        delayed_rows(coverage(start_s, end_s, n_trs, TR_S) >= MIN_COVERAGE - 1e-9, delays)
    )


def _checked(level: Level, subject: str, rows: dict, purge_trs: int) -> Level:
    """The level without pieces that are too short; CobeError if too little is left."""
    n_rows = {key: int((rows[key] < n).sum()) for key, n in level.volumes.items()}
    kept = {key: n for key, n in level.volumes.items() if n_rows[key] >= MIN_PIECE_ROWS}
    total = sum(n_rows[key] for key in kept)
    if not kept or (len(kept) == 1 and total // INNER_PARTS <= purge_trs + 1):
        raise CobeError(
            f"GridConfig.scan_hours: {level.hours:g} h of {subject} without {level.held_out} are "
            f"{total} usable volumes, too few to choose a penalty in; raise the level"
        )
    return Level(level.held_out, level.hours, kept)


def _check_held_out(subject: str, rows: dict) -> None:
    """Every session is held out once: CobeError if one has too little to be scored on."""
    for session in sorted({key[1] for key in rows}):
        n_rows = {key: len(found) for key, found in rows.items() if key[1] == session}
        if sum(n_rows.values()) < MIN_PIECE_ROWS:
            raise CobeError(
                f"{subject} {session}: {sum(n_rows.values())} volumes with clips at all delays, at "
                f"least {MIN_PIECE_ROWS} make a held-out session; leave the session out"
            )
        for key, n in n_rows.items():
            if n < MIN_RUN_ROWS:
                raise CobeError(
                    f"{subject} {session} run {key[2]}: {n} volumes with clips at all delays, at "
                    f"least {MIN_RUN_ROWS} are needed; leave the run out"
                )


def _check_different(levels: list[Level], subject: str, rows: dict) -> None:
    """CobeError if two levels of a held-out session train on the same volumes."""
    seen = {}
    for level in levels:
        used = tuple((key, int((rows[key] < n).sum())) for key, n in level.volumes.items())
        other = seen.setdefault((level.held_out, used), level.hours)
        if other != level.hours:
            raise CobeError(
                f"GridConfig.scan_hours: {other:g} h and {level.hours:g} h of {subject} without "
                f"{level.held_out} train on the same {sum(n for _, n in used)} usable volumes "
                f"(parts of a run with fewer than {MIN_PIECE_ROWS} are left out); change one"
            )
