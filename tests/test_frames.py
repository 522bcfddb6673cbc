"""The frame store: against plain arrays, by damage; and the bench that measures it."""

import json

import blosc2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cobe.bench import __main__ as bench
from cobe.bench import frames as bench_frames
from cobe.core.errors import CobeError
from cobe.stimulus import frames as frames_module
from cobe.stimulus.frames import open_frames, write_frames


def video(n_frames, height=6, width=8, seed=0):
    """A wandering square on a grey ramp: compressible, no two frames alike."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((n_frames, height, width, 3), np.uint8)
    frames[:] = np.arange(width, dtype=np.uint8)[:, None]
    for i, frame in enumerate(frames):
        frame[rng.integers(height), rng.integers(width)] = rng.integers(0, 256, 3)
        frame[0, 0, :2] = divmod(i, 256)
    return frames


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    frames = video(200)
    path = tmp_path_factory.mktemp("store") / "a.b2nd"
    assert write_frames(path, frames) == 200
    return path, frames


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any))
def test_pieces_of_any_length_give_the_same_bytes(tmp_path_factory, lengths):
    folder = tmp_path_factory.mktemp("pieces")
    frames = video(sum(lengths))
    pieces = np.split(frames, np.cumsum(lengths)[:-1])
    assert write_frames(folder / "pieces.b2nd", iter(pieces)) == len(frames)
    write_frames(folder / "whole.b2nd", frames)
    assert (folder / "pieces.b2nd").read_bytes() == (folder / "whole.b2nd").read_bytes()
    np.testing.assert_array_equal(open_frames(folder / "pieces.b2nd")[:], frames)


bounds = st.none() | st.integers(-250, 250)


@settings(max_examples=200, deadline=None)
@given(start=bounds, stop=bounds, step=st.none() | st.integers(-70, 70).filter(bool))
def test_slices_are_those_of_the_array(stored, start, stop, step):
    path, frames = stored
    picked = open_frames(path)[start:stop:step]
    assert picked.dtype == np.uint8
    np.testing.assert_array_equal(picked, frames[start:stop:step])


def test_array_behaviour(stored):
    path, frames = stored
    store = open_frames(path)
    assert store.shape == frames.shape and store.dtype == np.uint8 and len(store) == 200
    for index in (0, 15, 16, 199, -1, -200, np.int64(7)):
        np.testing.assert_array_equal(store[index], frames[index])
    for index in (200, -201):
        with pytest.raises(IndexError):
            store[index]


def test_clips(stored):
    path, frames = stored
    store = open_frames(path)
    starts = [136, 0, 64, 13, 13]
    clips = store.clips(starts)
    assert clips.shape == (5, 16, 6, 8, 3) and clips.dtype == np.uint8
    for clip, start in zip(clips, starts, strict=True):
        np.testing.assert_array_equal(clip, frames[start : start + 64 : 4])
    in_a_row = store.clips(np.array([184, 9]), stride=1)
    np.testing.assert_array_equal(in_a_row, [frames[184:], frames[9:25]])
    assert store.clips([]).shape == (0, 16, 6, 8, 3)
    for start in (-1, 137):
        with pytest.raises(CobeError, match="does not lie inside the 200 frames"):
            store.clips([0, start])


def test_any_blosc2_reads_it(stored):
    path, frames = stored
    np.testing.assert_array_equal(blosc2.open(str(path), mode="r")[:], frames)


def test_any_damage_is_refused(stored, tmp_path):
    content = stored[0].read_bytes()
    path = tmp_path / "damaged.b2nd"
    for at in np.linspace(0, len(content) - 1, 60).astype(int):
        damaged = bytearray(content)
        damaged[at] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CobeError, match="frame store"):
            open_frames(path)
    for n_bytes in (0, 10, 16, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:n_bytes])
        with pytest.raises(CobeError, match="cut short|too short"):
            open_frames(path)
    path.write_bytes(content + b"more")
    with pytest.raises(CobeError, match="cut short, or another file"):
        open_frames(path)


def test_damage_after_opening_is_refused(tmp_path):
    path = tmp_path / "a.b2nd"
    noise = np.random.default_rng(0).integers(0, 16, (64, 32, 32, 3), dtype=np.uint8)
    write_frames(path, noise)
    store = open_frames(path)
    with path.open("r+b") as file:
        file.seek(2000)
        file.write(bytes(path.stat().st_size - 2000))
    with pytest.raises(CobeError, match="changed after it was opened"):
        store[:]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((32, 4, 4, 3), np.float32), "holds float32"),
        (np.zeros((32, 4, 4), np.uint8), "holds uint8"),
        (np.zeros((32, 4, 4, 4), np.uint8), "not frames"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, message):
    path = tmp_path / "other.b2nd"
    blosc2.asarray(array, urlpath=str(path), mode="w", contiguous=True)
    with pytest.raises(CobeError, match="cut short, or another file"):
        open_frames(path)
    frames_module._seal(path)
    with pytest.raises(CobeError, match=message):
        open_frames(path)


def test_frames_split_in_space_are_refused(tmp_path):
    path = tmp_path / "split.b2nd"
    blosc2.asarray(video(32), chunks=(16, 3, 8, 3), urlpath=str(path), mode="w", contiguous=True)
    frames_module._seal(path)
    with pytest.raises(CobeError, match="split in space"):
        open_frames(path)


def test_missing_store(tmp_path):
    with pytest.raises(CobeError, match="no such frame store"):
        open_frames(tmp_path / "none.b2nd")
    with pytest.raises(CobeError, match="cannot be read|too short"):
        open_frames(tmp_path)


def interrupted(frames):
    yield frames
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("pieces", "error", "message"),
    [
        ([], CobeError, "no frames to write"),
        ([video(0)], CobeError, "no frames to write"),
        ([video(20).astype(float)], CobeError, "float64"),
        ([video(20)[0]], CobeError, "give uint8"),
        ([video(20), video(20, height=5)], CobeError, "size of frames changes"),
        (interrupted(video(40)), KeyboardInterrupt, None),
    ],
)
def test_failed_writing_leaves_nothing(tmp_path, pieces, error, message):
    with pytest.raises(error, match=message):
        write_frames(tmp_path / "a.b2nd", pieces)
    assert not list(tmp_path.iterdir())


def test_full_disk_and_missing_folder(tmp_path, monkeypatch):
    with pytest.raises(CobeError, match="folder does not exist"):
        write_frames(tmp_path / "none" / "a.b2nd", video(3))

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frames_module, "_seal", full)
    with pytest.raises(CobeError, match="No space left on device.*check free space"):
        write_frames(tmp_path / "a.b2nd", video(3))
    assert not list(tmp_path.iterdir())


def test_writing_replaces_an_older_store(tmp_path):
    path = tmp_path / "a.b2nd"
    write_frames(path, video(90))
    write_frames(path, video(20, seed=1))
    np.testing.assert_array_equal(open_frames(path)[:], video(20, seed=1))


def test_bench_measures_all_it_promises():
    rows = bench_frames.measure(n_frames=150, n_clips=32, n_rounds=1)
    measured = {row["measurement"] for row in rows}
    assert {
        "playback into the store, 1 core",
        "playback into the store, 2 processes",
        "random clips, 16 frames in a row, 1 core",
        "random clips, every 4th of 64 frames, 1 core",
        "size of the store",
    } == measured
    for row in rows:
        assert set(row) == set(bench.COLUMNS) and row["value"] > 0
        ours_by_peer = row["value"] / row["peer_value"]
        smaller_is_better = row["unit"] == "bytes/frame"
        assert row["ratio"] == pytest.approx(ours_by_peer ** (-1 if smaller_is_better else 1))
    size = next(row for row in rows if row["measurement"] == "size of the store")
    assert size["value"] < size["peer_value"] == pytest.approx(64 * 64 * 3, rel=0.01)


ROW = {
    "measurement": "m",
    "value": 1234.5,
    "unit": "frames/s",
    "peer": None,
    "peer_value": None,
    "ratio": None,
}


def test_bench_prints_a_table_or_json(monkeypatch, capsys):
    monkeypatch.setattr(bench_frames, "measure", lambda: [ROW])
    assert bench.main(["frames", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"bench": "frames"} | ROW]
    assert bench.main(["frames"]) == 0
    head, line, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["bench", "measurement", "value", "unit"]
    assert line.split() == ["frames", "m", "1,234", "frames/s"]


def test_bench_says_what_is_wrong_in_one_line(monkeypatch, capsys):
    def fail():
        raise CobeError("ROM: missing; import it")

    monkeypatch.setattr(bench_frames, "measure", fail)
    assert bench.main(["frames"]) == 2
    assert capsys.readouterr().err == "ROM: missing; import it\n"
    with pytest.raises(SystemExit):
        bench.main(["nothing"])
