"""Known faults of the shinobi dataset, as data: what is wrong, the evidence, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from cobe.core.errors import CobeError


@dataclass(frozen=True)
class Correction:
    """One known fault of one session.

    Attributes
    ----------
    subject, session : str
        Where it lies.
    kind : str
        ``"events_moved"``, ``"replays_swapped"`` or ``"excluded"``.
    evidence : str
        How we know.
    events_to_bold : tuple of (int, int)
        For moved events: run number of the events, run number of the BOLD that they belong to.
    swap : tuple of str
        For swapped replays: the two parts of a file name that have to change places.
    """

    subject: str
    session: str
    kind: str
    evidence: str
    events_to_bold: tuple[tuple[int, int], ...] = ()
    swap: tuple[str, str] = ("", "")

    @property
    def name(self) -> str:
        """What switches it off, such as "sub-01_ses-013_events_moved"."""
        return f"{self.subject}_{self.session}_{self.kind}"


CORRECTIONS = (
    Correction(
        "sub-01",
        "ses-013",
        "events_moved",
        "as filed, BOLD ends 3.9, 104.8, -5.5, -54.6, 74.0, -61.7 s after the last event; moved, "
        "5.0 to 21.3 s; acquisition times and time stamps of the task agree",
        events_to_bold=((2, 1), (3, 2), (4, 3), (5, 4), (6, 5), (1, 6)),
    ),
    Correction(
        "sub-02",
        "ses-005",
        "replays_swapped",
        "level-4 replays last 67 s where the event lasts 150 s, and the other way round",
        swap=("_run-01_", "_run-02_"),
    ),
    Correction(
        "sub-04",
        "ses-007",
        "replays_swapped",
        "savestate size and start position of each are those of the other level",
        swap=("_run-04_level-4_rep-04.bk2", "_run-04_level-5_rep-04.bk2"),
    ),
    Correction(
        "sub-02",
        "ses-001",
        "excluded",
        "the raw session was withdrawn; only derivatives are left, without events",
    ),
)


def corrections_without(names) -> tuple[Correction, ...]:
    """The known corrections but for those named.

    Raises
    ------
    CobeError
        There is no correction of that name.
    """
    known = {correction.name for correction in CORRECTIONS}
    for name in names:
        if name not in known:
            raise CobeError(f"correction {name!r}: unknown; there are {', '.join(sorted(known))}")
    return tuple(correction for correction in CORRECTIONS if correction.name not in names)


def correction_for(
    subject: str, session: str, kind: str, among: tuple[Correction, ...] = CORRECTIONS
) -> Correction | None:
    """The correction of that kind for a session, if there is one."""
    for correction in among:
        if (correction.subject, correction.session, correction.kind) == (subject, session, kind):
            return correction
    return None


def swapped(replay: PurePosixPath, correction: Correction) -> PurePosixPath:
    """The path under which the replay of an event really lies."""
    first, second = correction.swap
    if first in replay.name:
        return replay.with_name(replay.name.replace(first, second))
    return replay.with_name(replay.name.replace(second, first))
