"""Windows never cross a repetition; subsets are nested, balanced and honest about their size."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cobe.core.errors import CobeError
from cobe.video.tokens import clip_table
from cobe.video.windows import CHUNK_CLIPS, subset, windows


@st.composite
def tables(draw, max_clips=40):
    """A clip table of some subjects, runs and repetitions of any length, even none."""
    repetitions = [
        (f"sub-{s}", "ses-001", run, row, "1-0", 0.0, 64 * draw(st.integers(0, max_clips)) + 5)
        for s in range(draw(st.integers(1, 3)))
        for run in range(1, draw(st.integers(1, 3)) + 1)
        for row in range(draw(st.integers(0, 3)))
    ]
    return clip_table(repetitions)


def even_table(n_subjects=4, n_runs=3, n_repetitions=4, n_clips=60):
    return clip_table(
        (f"sub-{s}", "ses-001", run, row, "1-0", 70.0 * row, 64 * n_clips)
        for s in range(n_subjects)
        for run in range(1, n_runs + 1)
        for row in range(n_repetitions)
    )


def clips_of(rows):
    return set(rows) | set(rows - 1)


@settings(max_examples=40, deadline=None)
@given(tables())
def test_windows_against_a_plain_search(table):
    keys = list(table[["subject", "session", "run", "row", "clip"]].itertuples(index=False))
    expected = [
        i
        for i in range(1, len(keys))
        if keys[i][:4] == keys[i - 1][:4] and keys[i].clip == keys[i - 1].clip + 1
    ]
    assert windows(table).tolist() == expected


def test_a_missing_clip_breaks_the_window():
    table = even_table(1, 1, 1, 6).drop(index=3).reset_index(drop=True)
    assert windows(table).tolist() == [1, 2, 4]


@settings(max_examples=40, deadline=None)
@given(tables(), st.integers(0, 3), st.data())
def test_subsets_are_nested_and_exact(table, seed, data):
    total = len(table)
    small = data.draw(st.integers(0, total))
    large = data.draw(st.integers(small, total))
    scheme = data.draw(st.sampled_from(["stratified", "prefix"]))
    found = []
    for n_clips in (small, large):
        try:
            rows = subset(table, 64 * n_clips + 63, scheme, seed)
        except CobeError as error:
            assert "two neighbouring clips" in str(error)
            rows = np.empty(0, int)
        assert len(clips_of(rows)) <= n_clips
        assert set(rows) <= set(windows(table))
        found.append(set(rows))
    assert found[0] <= found[1]
    if large == total:
        assert found[1] == set(windows(table))


@pytest.mark.parametrize("n_frames", [10_000, 30_000, 100_000])
def test_balance_over_subjects_and_runs(n_frames):
    table = even_table()
    rows = subset(table, n_frames, seed=4)
    used = table.iloc[sorted(clips_of(rows))]
    assert len(used) == n_frames // 64
    for keys in (["subject"], ["subject", "run"]):
        everyone = table.groupby(keys).size().index
        counts = used.groupby(keys).size().reindex(everyone, fill_value=0)
        assert counts.max() - counts.min() <= CHUNK_CLIPS


def test_chunks_are_neighbouring_clips():
    """Most clips of even a small subset have their context: 15 windows in a chunk of 16."""
    rows = subset(even_table(), 10_000, seed=0)
    n_clips = 10_000 // 64
    assert len(rows) >= n_clips - -(-n_clips // CHUNK_CLIPS) - 4


def test_seed_draws_another_subset_and_repeats():
    table = even_table()
    assert np.array_equal(subset(table, 10_000, seed=1), subset(table, 10_000, seed=1))
    assert not np.array_equal(subset(table, 10_000, seed=1), subset(table, 10_000, seed=2))


def test_prefix_takes_the_table_in_order():
    assert subset(even_table(), 64 * 30, "prefix").tolist() == list(range(1, 30))


@settings(max_examples=40, deadline=None)
@given(tables(), st.data())
def test_only_allowed_rows_are_used(table, data):
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(table), max_size=len(table))))
    n_clips = int(allowed.sum())
    try:
        rows = subset(table, 64 * n_clips, allowed=allowed)
    except CobeError as error:
        assert "two neighbouring clips" in str(error)
        rows = np.empty(0, int)
    expected = [r for r in windows(table) if allowed[r] and allowed[r - 1]]
    assert rows.tolist() == expected


def test_more_than_there_is():
    table = even_table(2, 1, 1, 10)
    with pytest.raises(CobeError, match=r"there are 1,280 frames in 20 clips"):
        subset(table, 21 * 64)
    with pytest.raises(CobeError, match="unknown; choose one of stratified, prefix"):
        subset(table, 64, "random")
    with pytest.raises(CobeError, match="at least 128 frames"):
        subset(table, 100)
    with pytest.raises(CobeError, match="there are 0 frames"):
        subset(pd.DataFrame(table.iloc[:0]), 640)


@pytest.mark.parametrize("scheme", ["stratified", "prefix"])
def test_windows_longer_than_every_repetition(scheme):
    """One clip in each: said with both lengths, before anything is trained."""
    table = clip_table([("s", "ses-001", 1, row, "1-0", 70.0 * row, 127) for row in range(5)])
    words = "are 128 frames, but the longest of 5 repetitions has 1 usable"
    with pytest.raises(CobeError, match=words):
        subset(table, 5 * 64, scheme)
    long = even_table(1, 1, 1, 8)
    with pytest.raises(CobeError, match="longest of 1 repetitions has 4 usable"):
        subset(long, 4 * 64, scheme, allowed=np.arange(8) % 2 == 0)
