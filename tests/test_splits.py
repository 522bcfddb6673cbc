from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cobe.core.errors import CobeError
from cobe.encoding.splits import (
    SessionSplit,
    contiguous_parts,
    describe_folds,
    holdout_groups,
    split_sessions,
)


@dataclass(frozen=True)
class Run:
    subject: str
    session: str
    run: int


def runs_of(n_sessions, subject="sub-sim1", n_runs=2):
    return [
        Run(subject, f"ses-{s:03d}", r)
        for s in range(1, n_sessions + 1)
        for r in range(1, n_runs + 1)
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(2, 6), st.integers(1, 5), st.randoms())
def test_every_run_has_one_side_and_sessions_stay_whole(a, b, n_video, random):
    runs = runs_of(a, "sub-a") + runs_of(b, "sub-b")
    random.shuffle(runs)
    if n_video >= min(a, b):
        with pytest.raises(CobeError, match="none is left"):
            split_sessions(runs, n_video)
        return
    split = split_sessions(runs, n_video)
    assert sorted(map(str, split.video + split.ridge)) == sorted(map(str, runs))
    for subject, n in (("sub-a", a), ("sub-b", b)):
        video = {r.session for r in split.video if r.subject == subject}
        ridge = {r.session for r in split.ridge if r.subject == subject}
        assert (len(video), len(ridge)) == (n_video, n - n_video)
        assert max(video) < min(ridge)


def test_a_session_on_both_sides_is_a_leak():
    runs = runs_of(2)
    with pytest.raises(CobeError, match="sub-sim1/ses-001: train the video model"):
        SessionSplit(video=tuple(runs[:1]), ridge=tuple(runs[1:]))
    with pytest.raises(CobeError, match="at least 1"):
        split_sessions(runs, 0)


def test_groups_and_their_caption():
    runs = runs_of(3)[:-1]
    assert holdout_groups(runs) == ["ses-001", "ses-001", "ses-002", "ses-002", "ses-003"]
    assert holdout_groups(runs, "run")[1] == "ses-001_run-02"
    text = describe_folds(holdout_groups(runs))
    assert text.startswith("leave-one-session-out, 3 folds (ses-001: 2 runs, ses-002: 2 runs")
    assert "ses-003: 1 run)" in text and "leave-one-run-out inside the training runs" in text
    assert "parts of one run" in describe_folds(["a", "b"], "run")


@pytest.mark.parametrize(
    ("runs", "holdout", "words"),
    [
        (runs_of(1), "session", "hold out runs"),
        (runs_of(1)[:1], "run", "add runs"),
        (runs_of(2), "level", "'level' is unknown"),
        (runs_of(1) + runs_of(1, "sub-b"), "run", "one subject at a time"),
    ],
)
def test_groups_refuse(runs, holdout, words):
    with pytest.raises(CobeError, match=words):
        holdout_groups(runs, holdout)


@settings(max_examples=50, deadline=None)
@given(st.integers(40, 300), st.integers(2, 5), st.integers(0, 6))
def test_parts_are_contiguous_with_purged_borders(n_rows, n_parts, purge_trs):
    part = contiguous_parts(n_rows, n_parts, purge_trs)
    assert len(part) == n_rows
    assert set(part) - {-1} == set(range(n_parts))
    assert (part == -1).sum() == purge_trs * (n_parts - 1)
    for k in range(n_parts):
        rows = np.flatnonzero(part == k)
        assert (np.diff(rows) == 1).all()
        if k:
            assert rows[0] - np.flatnonzero(part == k - 1)[-1] == purge_trs + 1


def test_parts_refuse_a_short_run():
    with pytest.raises(CobeError, match="too short for 4 parts"):
        contiguous_parts(20, 4, 5)
