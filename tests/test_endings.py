"""A replay out of step is found by its end: real recordings, a custom integration, real playback.

The integration stands in for the dataset's: Shinobi's name and variables, the ROM of the game that
ships with the emulator. A play ends when a life is lost, as in the task.
"""

import json
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stable_retro as retro

import brain_tree
from brain_tree import Play, RunPlan, write_tree
from cobe.brain.dataset import main, read_dataset
from cobe.brain.endings import check_endings
from cobe.core.artifacts import Store
from cobe.core.errors import CobeError
from cobe.core.parallel import map_processes
from cobe.core.profiles import PROFILES
from cobe.stimulus.bk2 import read_bk2
from cobe.stimulus.frames import open_frames
from cobe.stimulus.playback import check_rom, decode, ending, installed_game, play
from cobe.sweep import pipeline as stages

AIRSTRIKER = "Airstriker-Genesis-v0"
LIFE = {"lives": -1}


def record(path, seed, while_reset, extra_frames=0):
    """Play until a life is lost; `while_reset` records the reset too: one line too many."""
    kwargs = {"use_restricted_actions": retro.Actions.ALL, "render_mode": "rgb_array"}
    env = retro.make(AIRSTRIKER, record=str(path.parent) if while_reset else False, **kwargs)
    env.reset()
    if not while_reset:
        env.record_movie(str(path))
    rng = np.random.default_rng(seed)
    keys, seen, left = np.zeros(12, np.uint8), [], extra_frames
    for i in range(3000):
        if i % 9 == 0:
            keys[4:8] = np.eye(4, dtype=np.uint8)[rng.integers(4)]
        keys[0] = i % 8 < 4
        frame, *_, info = env.step(keys)
        seen.append(frame[::7, ::10].copy())
        if info["lives"] < 3:
            left -= 1
        if left < 0:
            break
    env.stop_record()
    env.close()
    if while_reset:
        (path.parent / f"{AIRSTRIKER}-Level1-000000.bk2").rename(path)
    return np.stack(seen)


def renamed(path, more_lines=0):
    """Make a recording one of Shinobi, as recorders before stable-retro 1.0 named it.

    Lines after the end, fewer than END_FRAMES, tell it from others of the same play.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["Header.txt"] = members["Header.txt"].replace(
        AIRSTRIKER.encode(), brain_tree.GAME.encode()
    )
    head, end = members["Input Log.txt"].rsplit(b"[/Input]", 1)
    last = re.sub(rb"[^|.\r]", b".", head.splitlines()[-1])
    members["Input Log.txt"] = head + (last + b"\n") * more_lines + b"[/Input]" + end
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    """Recordings: name to path and what was seen."""
    folder = tmp_path_factory.mktemp("movies")
    made = {}
    for name, seed, while_reset in (("first", 1, True), ("later", 0, False), ("other", 3, False)):
        path = folder / f"{name}.bk2"
        made[name] = (path, record(path, seed, while_reset))
    return made


def write_integration(folder, game=brain_tree.GAME, **variables):
    """A custom integration of the game that ships, under another name, without a scenario."""
    source = Path(retro.data.get_file_path(AIRSTRIKER, "rom.sha")).parent
    target = folder / game
    target.mkdir(parents=True)
    for name in ("rom.md", "rom.sha", "metadata.json"):
        shutil.copy(source / name, target)
    info = json.loads((source / "data.json").read_text())["info"] | variables
    (target / "data.json").write_text(json.dumps({"info": info}))
    return folder


SECTION = {"section": {"address": 16712282, "type": ">u2"}}


# ---- the end of one replay


@pytest.mark.parametrize(("name", "skip"), [("first", True), ("later", False), ("other", False)])
def test_a_replay_in_step_ends_with_the_life_lost(movies, name, skip):
    path, _ = movies[name]
    assert ending(path, skip, endings=LIFE) == "lives"
    assert ending(path, not skip, endings=LIFE) == ""


def test_what_cannot_be_told_is_none_and_what_did_not_come_is_empty(movies, tmp_path):
    path, _ = movies["later"]
    assert ending(path) is None  # no ending is known for this game
    assert ending(path, endings={"lives": 1}) == ""
    assert ending(path, endings={"lives": -2}) == ""
    assert ending(path, endings={"score": 1501}) == ""
    assert ending(path, endings={"section": 1, "score": 1501}) is None
    assert ending(path, endings={"section": 1, "lives": -1}) == "lives"
    late = tmp_path / "late.bk2"
    record(late, 0, while_reset=False, extra_frames=3)
    assert ending(late, endings=LIFE) == "lives"
    record(late, 0, while_reset=False, extra_frames=4)
    assert ending(late, endings=LIFE) == ""


def test_ending_has_the_errors_of_playback(tmp_path):
    with pytest.raises(CobeError, match="no such file"):
        ending(tmp_path / "a.bk2", endings=LIFE)


# ---- custom integrations


def test_a_custom_integration_plays_the_same_frames(movies, tmp_path):
    path, seen = movies["later"]
    stimuli = write_integration(tmp_path / "stimuli")
    copy = tmp_path / "a.bk2"
    shutil.copy(path, copy)
    renamed(copy)
    assert installed_game(read_bk2(copy).game, stimuli) == brain_tree.GAME
    assert check_rom(brain_tree.GAME, stimuli) == stimuli / brain_tree.GAME / "rom.md"
    frames = play(copy, None, stimuli=stimuli)
    np.testing.assert_array_equal(frames[:, ::7, ::10], seen)
    assert decode(copy, tmp_path / "a.b2nd", 32, stimuli=stimuli) == len(seen)
    # Other games, and the game itself without the folder, are what they were.
    with pytest.raises(CobeError, match=f"'Airstriker-Genesis-v0': unknown to {stimuli}"):
        play(path, 32, stimuli=stimuli)
    assert len(play(path, 16)) == len(seen)
    with pytest.raises(CobeError, match="its ROM is missing"):
        play(copy, 32)


def test_own_custom_paths_are_left_as_they_were(tmp_path):
    integrations = retro.data.Integrations
    integrations.add_custom_path("/mine")
    try:
        installed_game(brain_tree.GAME, write_integration(tmp_path / "stimuli"))
        assert integrations.CUSTOM_PATHS == ["/mine"]
    finally:
        integrations.clear_custom_paths()


@pytest.mark.parametrize("case", ["absent", "link", "pointer", "other"])
def test_rom_of_a_custom_integration_missing_or_wrong(tmp_path, case):
    stimuli = write_integration(tmp_path / "stimuli")
    rom = stimuli / brain_tree.GAME / "rom.md"
    rom.unlink()
    if case == "link":
        brain_tree.dangling(rom)
    elif case == "pointer":
        brain_tree.pointer(rom)
    elif case == "other":
        rom.write_bytes(b"another game")
    expected = {"absent": "its ROM is missing", "link": "its ROM is missing"}
    with pytest.raises(CobeError, match=expected.get(case, "SHA-1 differs")) as raised:
        check_rom(brain_tree.GAME, stimuli)
    assert f"your own legal copy there: cp -L --remove-destination YOUR_ROM {rom}" in str(
        raised.value
    )
    assert "\n" not in str(raised.value)


# ---- in other processes, in parallel


def test_playback_is_bit_exact_in_other_processes_side_by_side(movies, tmp_path):
    jobs, expected = [], []
    for i in range(2):
        for name, (path, seen) in movies.items():
            jobs.append((path, tmp_path / f"{name}{i}.b2nd", None, name == "first"))
            expected.append(seen)
    counts = map_processes(decode, jobs, workers=2)
    assert counts == [len(seen) for seen in expected]
    for (_, store, *_), seen in zip(jobs, expected, strict=True):
        np.testing.assert_array_equal(open_frames(store)[:][:, ::7, ::10], seen)


# ---- the whole dataset


@pytest.fixture
def dataset_tree(tmp_path, movies):
    """Two runs of two plays: row 0 recorded while resetting, row 1 after it; returns write."""

    def write(order=("first", "later"), **variables):
        root = tmp_path / "data"
        lengths = [read_bk2(movies[name][0]).n_frames / 60 for name in order]
        plays = tuple(Play("1-0", seconds) for seconds in lengths)
        raw, _ = write_tree(root, [RunPlan("sub-01", "ses-002", run, plays) for run in (1, 2)])
        for run in read_dataset(root).runs:
            for name, repetition in zip(order, run.repetitions, strict=True):
                shutil.copy(movies[name][0], repetition.bk2)
                renamed(repetition.bk2, more_lines=run.run)
        write_integration(raw / "stimuli", **variables)
        return root

    return write


def test_replays_in_step_all_pass(dataset_tree):
    dataset = read_dataset(dataset_tree(**SECTION))
    assert [r.skip_first_line for run in dataset.runs for r in run.repetitions] == [True, False] * 2
    checked = check_endings(dataset, workers=2)
    assert checked == dataset
    assert all(r.has_replay for run in checked.runs for r in run.repetitions)


def test_a_replay_out_of_step_is_found_and_left_out(dataset_tree, capsys):
    # Row 0 holds a recording that was started after the reset: its first line was played.
    root = dataset_tree(("other", "later"), **SECTION)
    dataset = read_dataset(root)
    assert all(run.usable for run in dataset.runs)
    checked = check_endings(dataset, workers=1)
    for run, before in zip(checked.runs, dataset.runs, strict=True):
        assert [r.has_replay for r in run.repetitions] == [False, True]
        why = run.repetitions[0].why
        assert why == (
            f"{before.repetitions[0].bk2}: does not end as a play ends, but would with its first "
            "input line"
        )
        assert f"{run.name} row 0: {why}; not used" in checked.findings
    assert main([str(root), "--play"]) == 0
    assert "row 0: " in capsys.readouterr().out


def test_a_run_without_a_replay_in_step_is_not_usable(dataset_tree):
    dataset = read_dataset(dataset_tree(("other", "later"), **SECTION))
    alone = replace(dataset.runs[0], repetitions=dataset.runs[0].repetitions[:1])
    (run,) = check_endings(replace(dataset, runs=(alone,)), workers=1).runs
    assert not run.usable and run.why == "no repetition with a replay"


def test_what_cannot_be_checked_is_counted_and_used(dataset_tree):
    dataset = read_dataset(dataset_tree(("other", "later")))  # no section among the variables
    checked = check_endings(dataset, workers=1)
    assert checked.runs == dataset.runs
    assert checked.findings[0].startswith("2 replays were not checked for their end")


def test_a_replay_that_cannot_be_played_stops_no_other(dataset_tree):
    root = dataset_tree(**SECTION)
    dataset = read_dataset(root)
    path = dataset.runs[0].repetitions[0].bk2
    movie = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"Core.bin": b"no state"}).items():
            archive.writestr(name, content)
    assert path.read_bytes() != movie
    first, second = check_endings(dataset, workers=1).runs
    assert [r.has_replay for r in first.repetitions] == [False, True]
    assert "refuses its start state" in first.repetitions[0].why
    assert all(r.has_replay for r in second.repetitions)


def test_a_missing_rom_is_one_error_and_no_fault_of_the_replays(dataset_tree, capsys):
    root = dataset_tree(**SECTION)
    rom = next(root.rglob("rom.md"))
    rom.unlink()
    assert main([str(root), "--play"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "its ROM is missing; put your own legal copy there" in err
    assert err.splitlines()[-1].startswith("error: ")
    assert main([str(root)]) == 0


# ---- a start state that crashes the emulator


def spoil_state(path):
    """Bytes where the emulator's state should be, behind a header that it accepts."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    state = members["Core.bin"]
    noise = np.random.default_rng(0).bytes(len(state) - 64)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"Core.bin": state[:64] + noise}).items():
            archive.writestr(name, content)


@pytest.mark.filterwarnings("ignore:A worker stopped")
@pytest.mark.parametrize("whole_stage", [False, True])
def test_a_replay_that_crashes_the_emulator_stops_no_other(
    dataset_tree, tmp_path, monkeypatch, whole_stage
):
    monkeypatch.setenv("COBE_WORKERS", "2")
    root = dataset_tree(**SECTION)
    dataset = read_dataset(root)
    bad = dataset.runs[0].repetitions[0].bk2
    spoil_state(bad)
    dataset = read_dataset(root)
    assert all(run.usable for run in dataset.runs)
    if whole_stage:
        store = Store(tmp_path / "store", announce=lambda line: None)
        pipeline = stages.Pipeline(PROFILES["paper"], store, root, atlas=None)
        checked = stages.inventory(pipeline)
    else:
        checked = check_endings(dataset)
    first, second = checked.runs
    assert [r.has_replay for r in first.repetitions] == [False, True]
    assert all(r.has_replay for r in second.repetitions)
    assert str(bad) in first.repetitions[0].why
    assert any(f"row 0: {bad}" in finding for finding in checked.findings)
