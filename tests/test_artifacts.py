import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing import get_context

import pytest

from cobe.core import artifacts, fingerprint
from cobe.core.artifacts import Store, content_sha256, external, is_intact
from cobe.core.disk import DiskError
from cobe.core.errors import CobeError
from cobe.core.machine import git_state


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", announce=lambda line: None)


def write_text(text):
    return lambda path: path.write_text(text)


def test_second_make_reuses_and_does_not_write(store):
    first = store.make("a", params={"x": 1}, write=write_text("one"))
    second = store.make("a", params={"x": 1}, write=lambda path: pytest.fail("written again"))
    assert (first.reused, second.reused) == (False, True)
    assert second.path.read_text() == "one"
    assert first.sha256 == second.sha256 == content_sha256(second.path)


@dataclass(frozen=True)
class Params:
    width: int = 3


@pytest.mark.parametrize(
    "change", [{"params": Params(4)}, {"inputs": True}, {"code": ("cobe.video",)}]
)
def test_key_follows_everything_it_depends_on(store, tmp_path, change):
    (tmp_path / "input").write_text("input")
    given = {"params": Params(3), "inputs": None, "code": ()} | change
    if given["inputs"]:
        given["inputs"] = {"raw": external(tmp_path / "input")}
    assert store.key("a", **given) != store.key("a", params=Params(3))
    assert store.key("a", params=Params(3)) == store.key("a", params={"width": 3})


def test_input_counts_by_content_not_by_key(store):
    one = store.make("in", params={"way": 1}, write=write_text("same"))
    two = store.make("in", params={"way": 2}, write=write_text("same"))
    assert one.key != two.key
    assert store.key("out", params={}, inputs={"x": one}) == store.key(
        "out", params={}, inputs={"x": two}
    )


@pytest.mark.parametrize("damage", ["truncate", "flip", "other", "sidecar"])
def test_damage_is_said_and_mended(tmp_path, damage):
    said = []
    store = Store(tmp_path, announce=said.append)
    made = store.make("a", params={}, write=write_text("precious content"))
    sidecar = made.path.with_name(made.path.name + ".meta.json")
    assert is_intact(sidecar)
    content = made.path.read_bytes()
    if damage == "truncate":
        made.path.write_bytes(content[:-1])
    elif damage == "flip":
        made.path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif damage == "other":
        other = store.make("b", params={}, write=write_text("something else"))
        made.path.write_bytes(other.path.read_bytes())
    else:
        sidecar.write_text("{")
    assert not is_intact(sidecar)
    again = store.make("a", params={}, write=write_text("precious content"))
    assert not again.reused and again.path.read_text() == "precious content"
    assert any("damaged" in line for line in said)


def test_folder_artifact_notices_a_lost_and_an_added_file(store):
    def write(path):
        path.mkdir()
        (path / "one").write_text("1")
        (path / "two").symlink_to("nowhere")

    made = store.make("folder", params={}, write=write)
    before = content_sha256(made.path)
    (made.path / "three").write_text("3")
    assert content_sha256(made.path) != before
    (made.path / "three").unlink()
    assert content_sha256(made.path) == before
    (made.path / "two").unlink()
    assert content_sha256(made.path) != before


def test_failed_write_leaves_nothing_that_looks_whole(store):
    def write(path):
        path.write_text("half")
        raise ValueError("broken in the middle")

    with pytest.raises(ValueError, match="broken"):
        store.make("a", params={}, write=write, suffix=".txt")
    assert not [p for p in store.root.rglob("*.txt*") if not p.name.startswith(".")]
    assert store.find("a", params={}, suffix=".txt") is None


def test_checkpoint_outlives_a_failure_and_goes_when_whole(store):
    seen = []

    def write(path, checkpoint):
        seen.append(checkpoint.exists())
        if not checkpoint.exists():
            checkpoint.mkdir()
            raise RuntimeError("interrupted")
        path.write_text("whole")

    with pytest.raises(RuntimeError):
        store.make("a", params={}, write=write, resumable=True)
    made = store.make("a", params={}, write=write, resumable=True)
    assert seen == [False, True]
    assert made.path.read_text() == "whole"
    assert not list(store.root.glob(".checkpoint-*"))


def test_full_disk_is_a_readable_error(tmp_path):
    root = tmp_path / "store"
    store = Store(root, announce=lambda line: None)

    def write(path):
        raise OSError(28, "No space left on device", str(path))

    with pytest.raises(CobeError, match="disk is full; free some space"):
        store.make("a", params={}, write=write)
    assert not [p for p in root.rglob("*") if p.is_file() and p.parent.name != ".locks"]


def test_sidecar_says_where_a_result_comes_from(store):
    source = store.make("source", params={"seed": 7}, write=write_text("x"))
    made = store.make("a", params={"seed": 8}, inputs={"source": source}, write=write_text("y"))
    meta = json.loads(made.path.with_name(made.path.name + ".meta.json").read_text())
    assert meta["params"] == {"seed": 8}
    assert meta["inputs"]["source"]["sha256"] == source.sha256
    assert {"commit", "dirty"} <= set(meta["git"])
    assert meta["packages"]["numpy"] and meta["python"] and meta["seconds"] >= 0


def _slow_make(root, marks):
    def write(path):
        with open(marks, "a") as handle:
            handle.write("x")
        time.sleep(0.3)
        path.write_text("done")

    Store(root, announce=lambda line: None).make("slow", params={}, write=write)


def test_two_processes_make_one_artifact_once(tmp_path):
    marks = tmp_path / "marks"
    context = get_context("fork")
    processes = [
        context.Process(target=_slow_make, args=(tmp_path / "store", marks)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert marks.read_text() == "x"


def test_killed_in_mid_write_is_made_again(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from cobe.core.artifacts import Store\n"
        "def write(path):\n"
        "    path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "Store(Path(sys.argv[1])).make('a', params={}, write=write)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    store = Store(tmp_path, announce=lambda line: None)
    assert store.find("a", params={}) is None
    assert store.make("a", params={}, write=write_text("whole")).path.read_text() == "whole"
    assert not list(tmp_path.glob(".making*"))


def test_touched_log_names_what_was_used(store, tmp_path, monkeypatch):
    monkeypatch.setenv(artifacts.TOUCHED_LOG, str(tmp_path / "log"))
    made = store.make("a", params={}, write=write_text("x"))
    store.make("a", params={}, write=write_text("x"))
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(lines) == 2 and set(lines) == {f"{made.path.resolve()}.meta.json"}


def test_age_is_in_words():
    assert artifacts.age_text(time.time() - 7200) == "2 hours"
    assert artifacts.age_text(time.time() + 50) == "0 seconds"  # a clock that went backwards


def test_fingerprint_is_blind_to_comments_and_follows_imports(tmp_path, monkeypatch):
    package = tmp_path / "cobe"
    for name, text in {
        "__init__.py": "",
        "room/__init__.py": "",
        "room/upper.py": "X = 1\n",
        "room/lower.py": "from cobe.room.upper import X\nY = X\n",
        "core/__init__.py": "",
        "core/thing.py": "Z = 1\n",
    }.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def digest():
        """As a process gives that starts now."""
        fingerprint._read.cache_clear()
        now = dict(fingerprint._sources(str(package)))
        monkeypatch.setattr(fingerprint, "_AT_START", now)
        return fingerprint.fingerprint("cobe.room.lower")

    spec = type("Spec", (), {"origin": str(package / "__init__.py")})
    monkeypatch.setattr(fingerprint, "find_spec", lambda name: spec)
    before = digest()
    (package / "room/lower.py").write_text(
        '"""Doc."""\n# comment\nfrom cobe.room.upper import X\n\nY = X\n'
    )
    assert digest() == before
    (package / "core/thing.py").write_text("Z = 2\n")
    assert digest() == before
    (package / "room/upper.py").write_text("X = 2\n")
    assert digest() != before
    (package / "core/timing.py").write_text("TR_S = 1.49\n")
    (package / "room/upper.py").write_text("from cobe.core.timing import TR_S\n")
    before = digest()
    (package / "core/timing.py").write_text("TR_S = 2.0\n")
    assert digest() != before  # a clock reaches no result through its parameters
    fingerprint._read.cache_clear()


def test_environment_check_names_the_difference(tmp_path):
    from cobe.core.environment import mismatches

    lock = tmp_path / "requirements.txt"
    lock.write_text("numpy==0.0.1\n# comment\n\nnot-a-package==1.0\n")
    lines = mismatches(lock)
    assert lines[0].startswith("numpy: wanted 0.0.1, found ")
    assert lines[1] == "not-a-package: wanted 1.0, found none"
    assert os.path.exists(lock)


def _git(folder, *words):
    about = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *about, *words]
    subprocess.run(command, check=True, capture_output=True)


def test_the_commit_is_that_of_the_checkout_itself(tmp_path):
    """A copy without a repository, unpacked inside another one, has none."""
    _git(tmp_path, "init")
    (tmp_path / "file").write_text("one")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "first")
    found = git_state(tmp_path)
    assert len(found["commit"]) == 40 and found["dirty"] is False
    (tmp_path / "file").write_text("two")
    assert git_state(tmp_path) == found | {"dirty": True}
    _git(tmp_path, "worktree", "add", "-q", str(tmp_path / "tree"))
    assert git_state(tmp_path / "tree") == found
    (tmp_path / "unpacked").mkdir()
    assert git_state(tmp_path / "unpacked") == {"commit": None, "dirty": None}


def test_without_git_artifacts_are_made_all_the_same(store, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    made = store.make("a", params={}, write=write_text("x"))
    assert made.meta["git"] == {"commit": None, "dirty": None}


def test_a_folder_that_is_removed_during_the_work_is_said(store, tmp_path):
    def write(path):
        shutil.rmtree(path.parent)
        path.write_text("x")

    with pytest.raises(DiskError, match="is gone, removed while in use"):
        store.make("deep/a", params={}, write=write)


def test_drafts_of_a_library_that_was_killed_are_cleared_away(tmp_path):
    """Such as `.making-NAME.bk2.NTVS28`, which the writer of zip files leaves."""
    store = Store(tmp_path, announce=lambda line: None)
    path = store.make("a", params={}, write=lambda p: p.write_text("x"), suffix=".bk2").path
    path.unlink()
    (tmp_path / f".making-{path.name}.NTVS28").write_text("half")
    store.make("a", params={}, write=lambda p: p.write_text("x"), suffix=".bk2")
    assert not list(tmp_path.glob(".making-*")) and path.read_text() == "x"
