"""Which runs train the video model, which are scored against the brain, and in which folds."""

from dataclasses import dataclass

import numpy as np

from cobe.core.errors import CobeError


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
                "train "
                "the video model and none is left for the ridge; lower n_video_sessions or "
                "leave the "
                "subject out"
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


def describe_folds(groups, holdout="session"):
    """The folds in one sentence, for a caption.

    Parameters
    ----------
    groups : sequence of hashable
        One label per run.
    holdout : str
        What a label stands for.

    Returns
    -------
    text : str
    """
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
