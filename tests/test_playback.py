"""Playback: frame for frame what was on the screen while the recording was made."""

import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
import stable_retro as retro

from cobe.core.errors import CobeError
from cobe.stimulus.bk2 import read_bk2
from cobe.stimulus.frames import open_frames
from cobe.stimulus.playback import check_rom, decode, installed_game, iter_frames, play

GAME = "Airstriker-Genesis-v0"
N_FRAMES = 300


def make(**kwargs):
    return retro.make(
        GAME, use_restricted_actions=retro.Actions.ALL, render_mode="rgb_array", **kwargs
    )


def edited(path, out, **changes):
    """A copy of a recording with other members."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, changes.get(name.split(".")[0].replace(" ", ""), old.read(name)))
    return out


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A recording, and the screens that were seen while it was made, the reset's included."""
    folder = tmp_path_factory.mktemp("recording")
    env = make(record=str(folder))
    rng = np.random.default_rng(3)
    seen = [env.reset()[0].copy()]
    keys = np.zeros(12, np.uint8)
    for i in range(N_FRAMES):
        if i % 9 == 0:
            keys[4:8] = np.eye(4, dtype=np.uint8)[rng.integers(4)]
        keys[0] = i % 8 < 4
        seen.append(env.step(keys)[0].copy())
    env.stop_record()
    env.close()
    return folder / f"{GAME}-Level1-000000.bk2", np.stack(seen)


def canonical(path, skip_first_line):
    """The playback loop of stable-retro's documentation."""
    movie = retro.Movie(str(path))
    if skip_first_line:
        movie.step()
    env = make(state=retro.State.NONE)
    env.initial_state = movie.get_state()
    env.reset()
    frames = []
    while movie.step():
        frames.append(env.step([movie.get_key(i, 0) for i in range(12)])[0].copy())
    env.close()
    return np.stack(frames)


def test_equals_what_was_seen_while_recording(recorded):
    path, seen = recorded
    frames = play(path, None, skip_first_line=True)
    assert frames.shape == (N_FRAMES, 224, 320, 3) and frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, seen[1:])
    moved = (np.diff(frames[::30].astype(int), axis=0) != 0).any((1, 2, 3))
    assert moved.all()


def test_a_recording_opened_after_the_reset_needs_no_skip(tmp_path):
    """So record the simulated participants, and the lab from the second repetition on."""
    env = make()
    env.reset()
    env.record_movie(str(tmp_path / "a.bk2"))
    keys = np.zeros(12, np.uint8)
    seen = []
    for i in range(60):
        keys[6] = i % 20 < 10
        seen.append(env.step(keys)[0].copy())
    env.stop_record()
    env.close()
    np.testing.assert_array_equal(play(tmp_path / "a.bk2", None), seen)


@pytest.mark.parametrize("skip_first_line", [False, True])
def test_equals_the_canonical_loop(recorded, skip_first_line):
    path, _ = recorded
    ours = play(path, None, skip_first_line)
    assert len(ours) == N_FRAMES + 1 - skip_first_line
    np.testing.assert_array_equal(ours, canonical(path, skip_first_line))


def test_strided_buttons_are_played_alike(recorded):
    """The emulator ignores strides: a column-ordered array once played other keys."""
    movie = read_bk2(recorded[0])
    strided = replace(movie, buttons=np.asfortranarray(movie.buttons))
    frames = np.concatenate(list(iter_frames(strided, 32)))
    np.testing.assert_array_equal(frames, play(recorded[0], 32))


def test_frames_are_resized_over_areas(recorded):
    path, seen = recorded
    frames = play(path, 32, skip_first_line=True)
    means = seen[1:].reshape(N_FRAMES, 32, 7, 32, 10, 3).mean((2, 4))
    assert frames.shape == (N_FRAMES, 32, 32, 3)
    assert np.abs(frames - means).max() <= 0.5 + 1e-3
    at_64 = play(path, 64, skip_first_line=True)
    expected = [cv2.resize(f, (64, 64), interpolation=cv2.INTER_AREA) for f in seen[1:]]
    np.testing.assert_array_equal(at_64, expected)


def test_decode_streams_the_same_frames_into_a_store(recorded, tmp_path):
    path, _ = recorded
    assert decode(path, tmp_path / "a.b2nd", 64) == N_FRAMES + 1
    np.testing.assert_array_equal(open_frames(tmp_path / "a.b2nd")[:], play(path, 64))
    assert decode(path, tmp_path / "b.b2nd", 64) == N_FRAMES + 1
    assert (tmp_path / "a.b2nd").read_bytes() == (tmp_path / "b.b2nd").read_bytes()
    assert decode(path, tmp_path / "c.b2nd", 64, skip_first_line=True) == N_FRAMES


def test_pieces_do_not_change_the_frames(recorded):
    path, _ = recorded
    pieces = list(iter_frames(read_bk2(path), 16, piece=70))
    assert [len(p) for p in pieces] == [70, 70, 70, 70, 21]
    np.testing.assert_array_equal(np.concatenate(pieces), play(path, 16))


def test_leaving_early_closes_the_emulator(recorded, tmp_path):
    path, _ = recorded
    frames = iter_frames(read_bk2(path), 16, piece=10)
    next(frames)
    frames.close()
    with pytest.raises(CobeError, match="folder does not exist"):
        decode(path, tmp_path / "none" / "a.b2nd", 16)
    make().close()


def test_names_without_a_version_are_known(recorded, tmp_path):
    path, _ = recorded
    header = "MovieVersion Retro\nPlatform GEN\nGameName Airstriker-Genesis\n"
    old = edited(path, tmp_path / "old.bk2", Header=header)
    assert read_bk2(old).game == "Airstriker-Genesis"
    np.testing.assert_array_equal(play(old, 16), play(path, 16))
    shinobi = "ShinobiIIIReturnOfTheNinjaMaster-Genesis"
    assert installed_game(shinobi) == f"{shinobi}-v0"


@pytest.mark.parametrize("name", ["Tetris", "../stable/Airstriker-Genesis-v0", ""])
def test_unknown_game(name):
    with pytest.raises(CobeError, match="unknown to stable-retro"):
        check_rom(name)


@pytest.fixture
def other_games(tmp_path, monkeypatch):
    """stable-retro looks for its games in this folder."""

    def get_file_path(game, file, inttype=None):
        path = tmp_path / game / file
        return str(path) if path.exists() else None

    monkeypatch.setattr(retro.data, "get_file_path", get_file_path)
    folder = tmp_path / "Some-Genesis-v0"
    folder.mkdir()
    # SHA-1 of b"abc", a test vector of FIPS 180.
    (folder / "rom.sha").write_text("a9993e364706816aba3e25717850c26c9cd0d89d\n")
    return folder


def test_rom_missing_wrong_or_right(other_games):
    with pytest.raises(CobeError, match="its ROM is missing; import .* stable_retro.import"):
        check_rom("Some-Genesis")
    (other_games / "rom.md").write_bytes(b"abd")
    with pytest.raises(CobeError, match="SHA-1 differs"):
        check_rom("Some-Genesis-v0")
    (other_games / "rom.md").write_bytes(b"abc")
    assert check_rom("Some-Genesis") == other_games / "rom.md"


def test_the_rom_that_ships_is_right():
    assert check_rom(GAME).stat().st_size == 119_580


def test_refused_state_is_no_silent_power_on(recorded, tmp_path):
    path, _ = recorded
    state = read_bk2(path).state
    for name, bad in (("short", state[:1000]), ("other", bytes(len(state)))):
        with pytest.raises(CobeError, match="refuses its start state"):
            play(edited(path, tmp_path / f"{name}.bk2", Core=bad), 16)
    make().close()


def test_one_emulator_at_a_time(recorded):
    env = make()
    try:
        with pytest.raises(CobeError, match="one process holds one emulator"):
            play(recorded[0], 16)
    finally:
        env.close()


def test_nothing_to_play(recorded, tmp_path):
    path, _ = recorded
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("Input Log.txt").split(b"\n")
    log = b"\n".join([*lines[:3], lines[-1]])
    short = edited(path, tmp_path / "short.bk2", InputLog=log)
    assert len(play(short, 16)) == 1
    with pytest.raises(CobeError, match="no frame to play"):
        play(short, 16, skip_first_line=True)
    with pytest.raises(CobeError, match="no frame size"):
        play(short, 0)
