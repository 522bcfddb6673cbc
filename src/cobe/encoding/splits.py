"""Which runs train the video model, which are scored against the brain, and in which folds."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cobe.core.errors import CobeError

LEAK_TEXT = "random split of TRs: neighbouring volumes are on both sides, this leaks"


@dataclass(frozen=True)
class RandomVolumes:
    """Volumes drawn at random, whatever run they are of: how the paper scored, and a leak.

    BOLD and features are slow, so a held-out volume has nearly the same volume beside it in
    training, and a model that knows nothing scores well. For the protocol ``as_published`` and for
    showing the leak; tables that come of it say ``leaks``.

    Attributes
    ----------
    test_fraction : float
        Share of the rows that is held out once, when there is no `n_folds`.
    n_folds : int or None
        Shuffled folds, each held out once, in place of the single split.
    seed : int
        Seed of the draw.
    """

    test_fraction: float = 0.1
    n_folds: int | None = None
    seed: int = 0
    leaks: ClassVar[bool] = True

    def __post_init__(self):
        if self.n_folds is None and not 0 < self.test_fraction < 1:
            raise CobeError(
                f"test_fraction: {self.test_fraction}; give a share between 0 and 1, such as 0.1"
            )
        if self.n_folds is not None and (self.n_folds != int(self.n_folds) or self.n_folds < 2):
            raise CobeError(f"n_folds: {self.n_folds}; give 2 or more, or None for a single split")


@dataclass(frozen=True)
class SessionSplit:
    """Runs of the video model and runs of the ridge, disjoint by session.

    Attributes
    ----------
    video, ridge : tuples of runs
        In the order given.
    """

    video: tuple
    ridge: tuple

    def __post_init__(self):
        check_disjoint(self.video, self.ridge)


def check_disjoint(video, ridge):
    """Make sure that no session of a subject serves both the video model and the ridge.

    Parameters
    ----------
    video, ridge : sequences of runs
        Anything with attributes `subject` and `session`.

    Raises
    ------
    CobeError
        A session is on both sides.
    """
    shared = {(r.subject, r.session) for r in video} & {(r.subject, r.session) for r in ridge}
    if shared:
        named = ", ".join("/".join(key) for key in sorted(shared))
        raise CobeError(
            f"sessions {named}: train the video model and are scored against the brain, which "
            "leaks; "
            "give each session to one side"
        )


def split_sessions(runs, n_video_sessions):
    """Give the first sessions of every subject to the video model, the rest to the ridge.

    Parameters
    ----------
    runs : sequence of runs
        Anything with attributes `subject`, `session` and `run`; usable runs only.
    n_video_sessions : int
        Sessions per subject for the video model, in the order of their labels.

    Returns
    -------
    split : SessionSplit

    Raises
    ------
    CobeError
        A subject has no session left for one of the sides.
    """
    sessions = {}
    for run in runs:
        sessions.setdefault(run.subject, set()).add(run.session)
    if n_video_sessions < 1:
        raise CobeError(f"n_video_sessions: {n_video_sessions}; give at least 1")
    for subject, labels in sessions.items():
        if len(labels) <= n_video_sessions:
            raise CobeError(
                f"{subject}: {len(labels)} usable sessions, of which {n_video_sessions} would "
                "train the video model and none is left for the ridge; get more sessions, or "
                "leave the participant out"
            )
    first = {
        (subject, label)
        for subject, labels in sessions.items()
        for label in sorted(labels)[:n_video_sessions]
    }
    return SessionSplit(
        video=tuple(r for r in runs if (r.subject, r.session) in first),
        ridge=tuple(r for r in runs if (r.subject, r.session) not in first),
    )


def holdout_groups(runs, holdout="session"):
    """One group label per run: runs of one label are held out together.

    Parameters
    ----------
    runs : sequence of runs
        Runs of one subject, with attributes `session` and `run`.
    holdout : str
        ``"session"`` or ``"run"``.

    Returns
    -------
    groups : list of str
        For `cobe.encoding.evaluate`.

    Raises
    ------
    CobeError
        Unknown `holdout`, runs of several subjects, or only one group.
    """
    subjects = {r.subject for r in runs}
    if len(subjects) > 1:
        raise CobeError(f"runs of {', '.join(sorted(subjects))}: score one subject at a time")
    if holdout == "session":
        groups = [r.session for r in runs]
    elif holdout == "run":
        groups = [f"{r.session}_run-{r.run:02d}" for r in runs]
    else:
        raise CobeError(f"holdout: {holdout!r} is unknown; give 'session' or 'run'")
    if len(set(groups)) < 2:
        remedy = "hold out runs" if holdout == "session" and len(runs) > 1 else "add runs"
        raise CobeError(f"holdout: {len(runs)} runs make {len(set(groups))} {holdout}; {remedy}")
    return groups


def level_groups(repetitions, n_trs, tr_s):
    """Level that is played at each volume of a run, to hold levels out.

    Parameters
    ----------
    repetitions : sequence of repetitions
        Of one run, with attributes `level` (str), `onset_s` and `duration_s` (seconds from the
        start of the first volume).
    n_trs : int
        Volumes of the run.
    tr_s : float
        Repetition time in seconds.

    Returns
    -------
    levels : object array of shape (n_trs,)
        Level of the repetition that the middle of the volume lies in; None between repetitions.
        One such array per run makes the `groups` of `cobe.encoding.evaluate`.

    Raises
    ------
    CobeError
        Repetitions overlap, or a time is not finite.
    """
    if not (n_trs > 0 and tr_s > 0):
        raise CobeError(f"volumes: {n_trs} volumes of {tr_s} s; both must be positive")
    levels = np.full(n_trs, None, object)
    middle_s = (np.arange(n_trs) + 0.5) * tr_s
    for number, repetition in enumerate(repetitions):
        begin_s, end_s = repetition.onset_s, repetition.onset_s + repetition.duration_s
        if not np.isfinite([begin_s, end_s]).all():
            raise CobeError(
                f"repetition {number}: from {begin_s} to {end_s} s; leave it out or correct it"
            )
        inside = (middle_s >= begin_s) & (middle_s < end_s)
        if any(level is not None for level in levels[inside]):
            raise CobeError(
                f"repetition {number}: begins at {begin_s} s, before another one ends; correct it"
            )
        levels[inside] = str(repetition.level)
    return levels


def describe_folds(groups, holdout="session"):
    """The folds in one sentence, for a caption.

    Parameters
    ----------
    groups : sequence of hashable or of arrays, or RandomVolumes
        One label per run, or one label per volume.
    holdout : str
        What a label stands for.

    Returns
    -------
    text : str
        A random split of volumes is said to leak.
    """
    inner = "leave-one-run-out"
    if isinstance(groups, RandomVolumes):
        folds = f"{groups.test_fraction:.0%} held out once"
        if groups.n_folds is not None:
            folds = f"{groups.n_folds} folds"
        return (
            f"{LEAK_TEXT} ({folds}, seed {groups.seed}); "
            f"ridge penalties chosen by {inner} inside the training rows"
        )
    if any(has_rows(group) for group in groups):
        rows = [
            label
            for group in groups
            for label in (np.asarray(group, object) if has_rows(group) else [group])
        ]
        labels = sorted({str(label) for label in rows if not is_no_label(label)})
        return (
            f"leave-one-{holdout}-out, {len(labels)} folds ({', '.join(labels)}), labelled by "
            "volume, with purged borders; "
            f"ridge penalties chosen by {inner} inside the training rows"
        )
    labels = list(dict.fromkeys(groups))
    counts = [sum(g == label for g in groups) for label in labels]
    listed = ", ".join(
        f"{label}: {n} run{'s' * (n > 1)}" for label, n in zip(labels, counts, strict=True)
    )
    inner = "leave-one-run-out" if len(groups) - max(counts) > 1 else "parts of one run"
    return (
        f"leave-one-{holdout}-out, {len(labels)} folds ({listed}); "
        f"ridge penalties chosen by {inner} inside the training runs"
    )


def has_rows(group):
    """Whether an entry of `groups` is one label per volume (an array or a list), not a label."""
    return isinstance(group, list) or np.ndim(group) == 1 and not isinstance(group, tuple)


def is_no_label(label):
    """Whether a volume's label says that it belongs to no fold: None, an empty text or NaN."""
    return label is None or label == "" or label != label


def contiguous_parts(n_rows, n_parts, purge_trs):
    """Cut one run into parts in time, with a purged border between neighbours.

    Parameters
    ----------
    n_rows : int
        Rows of the run.
    n_parts : int
        Parts to make.
    purge_trs : int
        Rows left out at each inner border, so that no part touches the delays of another.

    Returns
    -------
    part : int array of shape (n_rows,)
        Number of the part, -1 for purged rows.

    Raises
    ------
    CobeError
        The parts would be empty.
    """
    if n_rows // n_parts <= purge_trs + 1:
        raise CobeError(
            f"run of {n_rows} valid rows: too short for {n_parts} parts with {purge_trs} purged "
            "rows "
            "between them; give more runs, or a single alpha"
        )
    edges = np.linspace(0, n_rows, n_parts + 1).round().astype(int)
    part = np.repeat(np.arange(n_parts), np.diff(edges))
    for edge in edges[1:-1]:
        part[edge - purge_trs // 2 : edge + purge_trs - purge_trs // 2] = -1
    return part
