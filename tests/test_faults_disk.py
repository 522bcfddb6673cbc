"""A disk that is full, read-only, forbidden or damaged: said in one line, nothing half there."""

import json
import os
import shutil
import subprocess
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cobe.core import artifacts
from cobe.core.artifacts import SIDECAR, Store, is_intact
from cobe.core.config import Cell
from cobe.core.disk import DiskError
from cobe.core.errors import CobeError
from cobe.stimulus.frames import write_frames
from cobe.sweep.jobs import Job, make_all
from cobe.video.checkpoint import read_checkpoint, write_checkpoint
from cobe.video.gpt import build_gpt
from cobe.video.tokens import clip_table
from cobe.video.tokenset import write_token_set
from cobe.video.vqvae import build_vqvae
from small_video import TINY

RNG = np.random.default_rng(0)
# of bytes that cannot be compressed, and about 2 MB each
NOISE = RNG.integers(0, 256, (300, 48, 48, 3)).astype(np.uint8)


def _frames(path):
    write_frames(path, NOISE)


def _npz(path):
    with open(path, "wb") as handle:
        np.savez(handle, bold=NOISE)


def _parquet(path):
    pd.DataFrame({"x": RNG.standard_normal(260_000)}).to_parquet(path)


def _tokens(path):
    n = 8000
    codes = RNG.integers(0, 32, (n, 4, 4, 8)).astype(np.uint16)
    clips = clip_table([("sub-1", "ses-1", 1, 0, "1-0", 0.0, 64 * n)]).assign(role="ridge")
    write_token_set(path, codes, clips, np.zeros((32, 4), np.float32), "none")


def _json(path):
    path.write_text(json.dumps([0.1] * 400_000))


def _gpt(path):
    cell = Cell(n_frames=640, hidden=64, n_layers=8, n_heads=2)
    build_gpt(cell, 32, 8, (4, 4, 4)).save_pretrained(path)
    pd.DataFrame({"step": [0]}).to_parquet(path / "log.parquet")


def _vqvae(path):
    build_vqvae(TINY).save(path)
    (path / "more").write_bytes(NOISE.tobytes())


def _checkpoint(path):
    model = torch.nn.Linear(700, 700)
    write_checkpoint(path, {"identity": {}}, model, torch.optim.AdamW(model.parameters()))


WRITERS = {
    ".b2nd": _frames, ".npz": _npz, ".parquet": _parquet, ".safetensors": _tokens, ".json": _json,
    "gpt": _gpt, "vqvae": _vqvae, "checkpoint": _checkpoint,
}  # fmt: skip


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "cobe-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    yield folder
    # blosc2 may still hold the file that it could not write
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def suffix_of(kind):
    return kind if kind.startswith(".") else ""


def quiet(root):
    return Store(root, announce=lambda line: None)


def nothing_half(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_file() and ".locks" not in path.parts:
            assert path.name.endswith(SIDECAR) or (path.parent / (path.name + SIDECAR)).is_file()


@pytest.mark.parametrize("kind", WRITERS)
def test_full_disk(kind, small_disk):
    store = quiet(small_disk / "store")
    with pytest.raises(CobeError, match="disk is full; free some space|check free space") as error:
        store.make(kind.strip("."), params={}, write=WRITERS[kind], suffix=suffix_of(kind))
    assert "\n" not in str(error.value)
    nothing_half(small_disk / "store")
    subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
    made = store.make(kind.strip("."), params={}, write=WRITERS[kind], suffix=suffix_of(kind))
    assert is_intact(artifacts.sidecar_of(made.path))


def test_a_disk_that_fills_just_before_the_sidecar(small_disk):
    """The content fits to the last block and its record does not."""
    store = quiet(small_disk / "store")

    def write(path):
        path.write_bytes(b"x")
        block = b"y" * 4096
        with open(path, "ab") as handle:
            try:
                while True:
                    handle.write(block)
                    handle.flush()
            except OSError:
                handle.truncate(os.fstat(handle.fileno()).st_size // 4096 * 4096)

    with pytest.raises(DiskError, match="disk is full"):
        store.make("a", params={}, write=write)
    nothing_half(small_disk / "store")


def test_a_run_is_not_left_out_because_the_disk_is_full(small_disk):
    """`failures` is for what cannot be read: a table without that run would look right."""
    jobs = [Job("small", _small, (), {}), Job("big", _npz, (), {}, suffix=".npz")]
    failures = {}
    with pytest.raises(DiskError, match="disk is full"):
        make_all(quiet(small_disk / "store"), jobs, "x", "y", failures)
    assert not failures


def _small(path):
    path.write_text("small")


def test_read_only_file_system(small_disk):
    store = quiet(small_disk / "store")
    made = store.make("a", params={}, write=_small)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    again = store.make("a", params={}, write=_small)  # what is whole needs no writing
    assert again.reused and again.sha256 == made.sha256
    with pytest.raises(DiskError, match="read-only; choose another folder"):
        store.make("b", params={}, write=_small)


def _as_another_user(folder, answers):
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    store = quiet(folder)
    try:
        answers.send(store.make("a", params={}, write=None).reused)
        for name in ("new", "secret", "spoilt"):
            with pytest.raises(DiskError) as error:
                store.make(name, params={}, write=_small)
            answers.send(str(error.value))
    finally:
        answers.close()


def test_permission_denied(tmp_path_factory):
    """As a user who may read the folder of another one, but not write it."""
    folder = tmp_path_factory.mktemp("theirs")
    for parent in [folder, *list(folder.parents)[:-2]]:
        parent.chmod(0o755)
    store = quiet(folder)
    store.make("a", params={}, write=_small)
    secret = store.make("secret", params={}, write=_small)
    spoilt = store.make("spoilt", params={}, write=_small)
    spoilt.path.write_text("other")
    secret.path.chmod(0)
    (folder / ".locks").chmod(0o555)
    folder.chmod(0o555)
    context = get_context("fork")  # another user may not even be allowed to start this python
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_as_another_user, args=(folder, there))
    process.start()
    there.close()
    process.join(60)
    folder.chmod(0o755)
    assert process.exitcode == 0
    assert here.recv() is True  # what is whole is read without writing anything
    for _ in range(3):
        assert "permission denied; make the folder writable" in here.recv()
    assert spoilt.path.exists() and secret.path.exists()


# ------------------------------------------------------------------------------------------------
# damage


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def halved(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def emptied(path):
    path.write_bytes(b"")


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = (truncated, halved, emptied, flipped)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """Each kind written once; tests damage copies."""
    folder = tmp_path_factory.mktemp("kinds")
    for kind, write in WRITERS.items():
        if kind != "checkpoint":
            write(folder / kind.strip("."))
    return folder


def copy(source: Path, to: Path) -> None:
    shutil.copytree(source, to) if source.is_dir() else shutil.copyfile(source, to)


@pytest.mark.parametrize("damage", [*DAMAGES, "others"], ids=lambda d: getattr(d, "__name__", d))
@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "checkpoint"])
def test_every_kind_of_artifact_damaged(kind, damage, made_once, tmp_path):
    said = []
    store = Store(tmp_path, announce=said.append)

    def make():
        return store.make(
            kind.strip("."), params={}, suffix=suffix_of(kind),
            write=lambda path: copy(made_once / kind.strip("."), path),
        )  # fmt: skip

    made = make()
    files = [made.path] if made.path.is_file() else [p for p in made.path.iterdir()]
    for file in files:
        if damage == "others":
            other = store.make("other", params={"of": file.name}, write=_small)
            file.write_bytes(other.path.read_bytes())
        else:
            damage(file)
        assert not is_intact(artifacts.sidecar_of(made.path))
        said.clear()
        again = make()
        assert not again.reused and again.sha256 == made.sha256
        assert any(f"{kind.strip('.')}: damaged" in line for line in said)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_damaged_checkpoint_is_said_and_training_starts_over(damage, tmp_path):
    said, resumed = [], []
    store = Store(tmp_path, announce=said.append)
    model = torch.nn.Linear(3, 3)
    about = ({"id": 1}, model, torch.optim.AdamW(model.parameters()))

    def write(path, checkpoint):
        resumed.append(read_checkpoint(checkpoint, *about) is not None)
        write_checkpoint(checkpoint, {"identity": about[0]}, *about[1:])
        if not path.parent.joinpath("second").exists():
            raise InterruptedError
        path.write_text("trained")

    with pytest.raises(InterruptedError):
        store.make("a", params={}, write=write, resumable=True)
    (checkpoint,) = tmp_path.glob(".checkpoint-*")
    damage(checkpoint)
    (tmp_path / "second").touch()
    made = store.make("a", params={}, write=write, resumable=True)
    assert made.path.read_text() == "trained" and resumed == [False, False]
    assert len(said) == 1 and said[0].startswith("a: damaged checkpoint (")
    assert not list(tmp_path.glob(".checkpoint-*"))


def test_checkpoint_of_another_run_stops_and_is_kept(tmp_path):
    store = quiet(tmp_path)
    model = torch.nn.Linear(3, 3)
    about = (model, torch.optim.AdamW(model.parameters()))

    def write(path, checkpoint):
        read_checkpoint(checkpoint, {"id": 2}, *about)
        write_checkpoint(checkpoint, {"identity": {"id": 1}}, *about)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        store.make("a", params={}, write=write, resumable=True)
    with pytest.raises(CobeError, match="checkpoint of another run"):
        store.make("a", params={}, write=write, resumable=True)
    assert list(tmp_path.glob(".checkpoint-*"))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", "{}", "[" * 100_000, '{"sha256": 1}', "\x00\xff"],
    ids=["empty", "open", "list", "null", "number", "no fields", "deep", "wrong type", "binary"],
)
def test_damaged_sidecar(text, tmp_path):
    said = []
    store = Store(tmp_path, announce=said.append)
    made = store.make("a", params={}, write=_small)
    sidecar = artifacts.sidecar_of(made.path)
    sidecar.write_text(text, encoding="latin-1")
    assert not is_intact(sidecar)
    again = store.make("a", params={}, write=_small)
    assert not again.reused and is_intact(sidecar)
    assert any("damaged" in line and "unreadable sidecar" in line for line in said)


def test_another_artifact_with_its_own_sidecar_is_not_taken_for_this_one(tmp_path):
    """Content and record fit each other, and are of something else."""
    said = []
    store = Store(tmp_path, announce=said.append)
    one = store.make("one", params={}, write=_small)
    two = store.make("two", params={}, write=lambda path: path.write_text("two"))
    one.path.write_bytes(two.path.read_bytes())
    artifacts.sidecar_of(one.path).write_bytes(artifacts.sidecar_of(two.path).read_bytes())
    again = store.make("one", params={}, write=_small)
    assert not again.reused and again.path.read_text() == "small"
    assert any("has the sidecar of two" in line for line in said)


def test_what_vanished_is_said_and_made_again(tmp_path):
    said = []
    store = Store(tmp_path, announce=said.append)
    made = store.make("a", params={}, write=_small)
    made.path.unlink()
    assert store.make("a", params={}, write=_small).path.read_text() == "small"
    assert any("damaged" in line and "is gone" in line for line in said)


def test_what_vanishes_while_it_is_looked_at_is_made_again(tmp_path, monkeypatch):
    store = quiet(tmp_path)
    made = store.make("a", params={}, write=_small)
    real = artifacts.content_sha256

    def vanish(path):
        monkeypatch.setattr(artifacts, "content_sha256", real)
        path.unlink()
        return real(path)

    monkeypatch.setattr(artifacts, "content_sha256", vanish)
    again = store.make("a", params={}, write=_small)
    assert again.sha256 == made.sha256 and is_intact(artifacts.sidecar_of(again.path))


def test_what_cannot_be_read_is_not_thrown_away(tmp_path, monkeypatch):
    """A disk that fails to answer says nothing about the artifact."""
    store = quiet(tmp_path)
    made = store.make("a", params={}, write=_small)

    def fails(path):
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "content_sha256", fails)
        with pytest.raises(DiskError, match="disk reports an error"):
            store.find("a", params={})
        with pytest.raises(DiskError, match="disk reports an error"):
            store.make("a", params={}, write=_small)
    assert made.path.exists() and store.find("a", params={}).reused


def test_a_clock_that_went_backwards(tmp_path):
    store = Store(tmp_path, announce=(said := []).append)
    made = store.make("a", params={}, write=_small)
    sidecar = artifacts.sidecar_of(made.path)
    meta = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(meta | {"created_s": meta["created_s"] + 1e6}))
    assert store.make("a", params={}, write=_small).reused
    assert said[-1] == "a: reused, made 0 seconds ago"
