"""Ten thousand changed files for every reader, and files made to do harm."""

import faulthandler
import gzip
import io
import json
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import blosc2
import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import fuzzing
from brain_tree import write_bk2
from cobe.brain.confounds import read_confounds
from cobe.brain.events import read_events
from cobe.brain.files import load_nifti, read_json, read_nifti_header
from cobe.brain.timeseries import read_timeseries, timeseries_shapes
from cobe.core.arrays import read_npz
from cobe.core.artifacts import Store
from cobe.core.bounds import check_bytes
from cobe.core.errors import CobeError
from cobe.report.audit.ledger import read_ledger
from cobe.report.manifest import read_manifest
from cobe.report.save import read_results, save_table
from cobe.stimulus import frames
from cobe.stimulus.bk2 import read_bk2
from cobe.stimulus.playback import installed_game
from cobe.video.checkpoint import read_checkpoint
from cobe.video.tokenset import open_token_set

N_FILES = int(os.environ.get("COBE_FUZZ_FILES", 10_000))
LIMIT_BYTES = 2**30
LIMIT_S = 10


def fuzzed(reader: str, n: int, folder: Path) -> dict:
    """What became of n changed files in a process of its own; the process must have lived."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, fuzzing.__file__, reader, str(n), "1", str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "COBE_BUILD": str(folder / "build")},
        capture_output=True,
        text=True,
        timeout=900,
    )
    last = folder / "last"
    assert done.returncode == 0, f"{done.returncode}: {last}: {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("reader", fuzzing.READERS)
def test_changed_files_are_read_or_refused(reader, tmp_path):
    found = fuzzed(reader, N_FILES, tmp_path)
    assert not found["other"], {key: n for key, (n, _) in found["other"].items()}
    assert found["read"] + found["refused"] == N_FILES
    # the changes reach both ends of the reader
    assert found["refused"] > N_FILES // 50 or reader == "sidecar"
    assert found["read"] > 0
    assert found["peak_bytes"] < 2**29


@pytest.mark.parametrize("kind", ["raises", "hangs", "dies", "takes"])
def test_a_reader_that_fails_is_seen(kind, tmp_path, monkeypatch):
    """The engine itself: a raw error, a hang, a crash and much memory are all found."""

    def of_broken(folder):
        def read(path):
            if path.read_bytes() != b"whole":
                match kind:
                    case "raises":
                        raise ValueError("raw")
                    case "hangs":
                        signal.pause()
                    case "dies":
                        os.kill(os.getpid(), signal.SIGSEGV)
                    case "takes":
                        np.ones(fuzzing.LIMIT_BYTES)

        return b"whole", fuzzing.mutated, read, "x"

    monkeypatch.setattr(fuzzing, "LIMIT_S", 1)
    monkeypatch.setitem(fuzzing.READERS, "broken", of_broken)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.write(writing, json.dumps(fuzzing.run("broken", 2, 1, tmp_path)).encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with open(reading) as pipe:
        said = pipe.read()
    if kind == "dies":
        assert os.WTERMSIG(status) == signal.SIGSEGV and not said
        return
    expected = {"raises": "ValueError", "hangs": "TimeoutError", "takes": "MemoryError"}
    # numpy's own name for it is private
    assert expected[kind] in next(iter(json.loads(said)["other"]))


# ------------------------------------------------------------------------------------------------
# files made to do harm


@contextmanager
def refused(words: str):
    """Refused with our error and these words, within 10 s and a gibibyte."""

    def too_long(*_):
        raise AssertionError(f"no answer within {LIMIT_S} s")

    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, too_long)
    resource.setrlimit(resource.RLIMIT_AS, (virtual + LIMIT_BYTES, limits[1]))
    signal.alarm(LIMIT_S)
    try:
        with pytest.raises(CobeError, match=words):
            yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)


class Harm:
    """Unpickling it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.fixture
def play(tmp_path):
    """A recording and its members."""
    path = tmp_path / "play.bk2"
    write_bk2(path, 40)
    return path, members_of(path)


@pytest.mark.parametrize("name", ["Header.txt", "Input Log.txt", "Core.bin"])
def test_a_zip_bomb_is_not_unpacked(play, name):
    path, members = play
    zipped(path, members | {name: bytes(80 * 2**20)})
    assert path.stat().st_size < 2**20
    with refused("unpacks to more than 64 MiB"):
        read_bk2(path)


def test_a_zip_bomb_that_declares_a_small_size_is_not_unpacked(play):
    path, members = play
    size = 100 * 2**20
    zipped(path, members | {"Core.bin": bytes(size)})
    content = path.read_bytes()
    assert content.count(struct.pack("<I", size)) >= 1
    path.write_bytes(content.replace(struct.pack("<I", size), struct.pack("<I", 100)))
    with refused("not a whole .bk2 zip|cut short|unpacks to more"):
        read_bk2(path)


def test_a_zip_in_a_zip_is_no_start_of_anything(play):
    path, members = play
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Core.bin", bytes(2**20))
    zipped(path, {"inner.bk2": inner.getvalue(), "Header.txt": members["Header.txt"]})
    with refused("member 'Input Log.txt' is missing"):
        read_bk2(path)


def test_many_members_and_names_that_lead_out(play):
    path, members = play
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(20_000):
            archive.writestr(f"../../{k}", b"")
        for name, content in members.items():
            archive.writestr("../" + name, content)
    with refused("member 'Header.txt' is missing"):
        read_bk2(path)
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]  # nothing was unpacked
    assert not (path.parent.parent / "0").exists()


@pytest.mark.parametrize("game", ["../../etc", "/etc", "a/b", "..", "x\0y", "a b"])
def test_a_game_s_name_is_no_path(play, game):
    path, members = play
    zipped(path, members | {"Header.txt": f"GameName {game}\n".encode()})
    with refused("unknown to"):
        installed_game(read_bk2(path).game)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.bk2", "sub-01/../../x.bk2", "a\0b.bk2"])
def test_a_replay_does_not_lead_out_of_the_dataset(tmp_path, name):
    path = tmp_path / "events.tsv"
    path.write_text(f"onset\tduration\tlevel\tstim_file\n1\t2\t1-0\t{name}\n")
    with refused("leads out of the dataset|not readable|no column"):
        read_events(path)


def test_a_table_of_ten_million_plays_is_not_read(tmp_path):
    path = tmp_path / "events.tsv"
    with open(path, "wb") as file:
        file.write(b"onset\tduration\tlevel\tstim_file\n")
        for _ in range(100):
            file.write(b"1\t2\t1-0\tn/a\n" * 100_000)
    with refused("MiB, more than the 1 MiB"):
        read_events(path)


def test_a_cell_of_a_hundred_megabytes_is_not_read(tmp_path):
    for name, read in {"events.tsv": read_events, "table_ledger.csv": read_ledger}.items():
        (tmp_path / name).write_bytes(b"onset,claim\n" + b"x" * 100 * 2**20)
        with refused("MiB, more than the"):
            read(tmp_path / name)
    table = tmp_path / "sub-01_desc-confounds_timeseries.tsv"
    with open(table, "wb") as file:
        file.truncate(2**30)
    with refused("1,024 MiB, more than the 256 MiB"):
        read_confounds(SimpleNamespace(confounds=table, bold=table), "minimal")


def test_a_device_is_not_read(tmp_path):
    (tmp_path / "manifest.json").symlink_to("/dev/zero")
    with refused("no file"):
        read_manifest(tmp_path)
    check_bytes(tmp_path / "absent", 1)  # its reader says that


@pytest.mark.parametrize("opening", ["[", '{"files":', '{"a":['])
def test_json_nested_a_million_deep(tmp_path, opening):
    path = tmp_path / "manifest.json"
    path.write_text(opening * 1_000_000)
    with refused("not a manifest"):
        read_manifest(tmp_path)
    with refused("not readable as JSON"):
        read_json(path)
    # a sidecar like this is no sidecar, and what is beside it is made again
    store = Store(tmp_path / "store", announce=lambda line: None)
    made = store.make("a", params={}, write=lambda place: place.write_text("x"))
    path.replace(made.path.with_name(made.path.name + ".meta.json"))
    assert not store.make("a", params={}, write=lambda place: place.write_text("x")).reused


@pytest.mark.parametrize("file", ["../x.png", "/etc/passwd", ".hidden", "a/b", "", 3])
def test_a_manifest_names_files_beside_it_only(tmp_path, file):
    row = {"name": "a", "sha256": "", "bytes": 0, "caption": "", "made_by": "", "file": file}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": [row]}))
    with refused("not a manifest"):
        read_manifest(tmp_path)


def test_pickles_in_arrays_are_not_opened(tmp_path):
    harm = tmp_path / "harm"
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([Harm(harm)], dtype=object))
    with refused("not whole arrays"):
        read_npz(path)
    with open(path, "wb") as file:
        pickle.dump(Harm(harm), file)
    with refused("not whole arrays"):
        read_npz(path)
    assert not harm.exists()


def test_an_array_that_promises_an_exabyte(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846976,), }"
    header += b" " * (117 - len(header)) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    zipped(tmp_path / "a.npz", {"a.npy": array})
    with refused("not whole arrays"):
        read_npz(tmp_path / "a.npz")


def test_a_pickle_in_the_schema_of_a_table_is_not_opened(tmp_path):
    """As in CVE-2023-47248: pyarrow once unpickled a type that a file names."""
    harm, path = tmp_path / "harm", tmp_path / "scores.parquet"
    field = pa.field(
        "r",
        pa.int64(),
        metadata={
            b"ARROW:extension:name": b"arrow.py_extension_type",
            b"ARROW:extension:metadata": pickle.dumps(Harm(harm)),
        },
    )
    pq.write_table(pa.table([pa.array([1, 2])], schema=pa.schema([field])), path)
    try:
        read_results(path)
    except CobeError:
        pass
    assert not harm.exists()


def test_a_frame_store_that_holds_code_is_refused(tmp_path):
    source = blosc2.asarray(np.arange(10.0), urlpath=str(tmp_path / "a.b2nd"), mode="w")
    path = tmp_path / "e.b2nd"
    blosc2.lazyexpr("a + 1", {"a": source}).save(str(path))
    frames._seal(path)
    with refused("not readable as blosc2"):
        frames.open_frames(path)


def test_a_frame_store_of_more_than_a_day_is_refused(tmp_path):
    """Black frames cost nothing on disk, so that a small file may promise any number."""
    path = tmp_path / "f.b2nd"
    chunk = (16, 64, 64, 3)
    shape = (2**23, 64, 64, 3)
    blosc2.zeros(shape, np.uint8, chunks=chunk, blocks=chunk, urlpath=str(path), contiguous=True)
    frames._seal(path)
    with refused("more than 18 hours"):
        frames.open_frames(path)


@pytest.mark.parametrize("n_header", [2**40, 2**63, 2**64 - 1, 0, 7])
def test_a_header_of_a_terabyte(tmp_path, n_header):
    path = tmp_path / "t.safetensors"
    path.write_bytes(struct.pack("<Q", n_header) + b'{"codes": {}}')
    with refused("no readable token set"):
        open_token_set(path)
    model = torch.nn.Linear(2, 2)
    with refused("damaged checkpoint"):
        read_checkpoint(path, {}, model, torch.optim.AdamW(model.parameters()))


def nifti_header(shape, dtype=np.float64) -> bytes:
    image = nib.Nifti1Image(np.zeros((1, 1, 1, 1), dtype), np.eye(4))
    header = image.header.copy()
    header["dim"] = [len(shape), *shape, *[1] * (7 - len(shape))]
    header["vox_offset"] = 352
    return header.binaryblock + bytes(4)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_an_image_that_promises_exabytes(tmp_path, name):
    content = nifti_header((32767, 32767, 32767, 32767)) + bytes(1000)
    path = tmp_path / name
    expected = 352 + 8 * 32767**4
    if name.endswith("gz"):
        # and a length at its end that fits
        content = gzip.compress(content)[:-4] + struct.pack("<I", expected % 2**32)
    path.write_bytes(content)
    for read in (read_nifti_header, load_nifti):
        with refused("damaged NIfTI"):
            read(path)


def test_an_image_with_more_behind_it(tmp_path):
    path = tmp_path / "x.nii.gz"
    packer = zlib.compressobj(1, wbits=31)
    content = packer.compress(nifti_header((2, 2, 2, 2)) + bytes(128))
    block = bytes(2**24)
    for _ in range(8):
        content += packer.compress(block)
    path.write_bytes(content + packer.flush())
    for read in (read_nifti_header, load_nifti):
        with refused("damaged NIfTI .more than"):
            read(path)


SERIES = "sub-01_task-shinobi_space-T1w_atlas-x_desc-4Parcels_timeseries.h5"
NAME = "ses-001_task-shinobi_run-1_timeseries"


def test_series_that_promise_a_terabyte(tmp_path):
    path = tmp_path / SERIES
    with h5py.File(path, "w") as file:
        file.create_dataset(f"ses-001/{NAME}", (10**8, 4000), "f4", chunks=(10, 10))
    with refused("far more than the file holds"):
        timeseries_shapes(path)


def test_series_in_other_files_are_not_read(tmp_path):
    path, other = tmp_path / SERIES, tmp_path / "other"
    other.write_bytes(np.zeros((30, 4), "f4").tobytes())
    with h5py.File(path, "w") as file:
        session = file.create_group("ses-001")
        session.create_dataset(NAME, (30, 4), "f4", external=[(str(other), 0, 480)])
    with refused("lies in another file"):
        timeseries_shapes(path)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset(f"ses-001/{NAME}", data=np.zeros((30, 4), "f4"))
    for link in (h5py.ExternalLink("b.h5", "/ses-001"), h5py.SoftLink("/ses-001")):
        with h5py.File(path, "w") as file:
            file["ses-001"] = link
        assert timeseries_shapes(path) == {}
        with refused("no series of sub-01_ses-001_run-1"):
            read_timeseries(path, ("sub-01", "ses-001", 1))


def test_nothing_is_written_through_a_link(tmp_path):
    """A link in the place of a result is replaced; what it leads to is left as it is."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "t.csv").symlink_to(victim)
    save_table(pd.DataFrame({"a": [1]}), "t", folder, "caption")
    assert victim.read_text() == "precious" and not (folder / "t.csv").is_symlink()
    store = Store(tmp_path / "store", announce=lambda line: None)
    made = store.make("a", params={}, write=lambda path: path.write_text("x"))
    made.path.unlink()
    made.path.symlink_to(victim)
    again = store.make("a", params={}, write=lambda path: path.write_text("x"))
    assert victim.read_text() == "precious" and not again.path.is_symlink()


def test_what_a_link_leads_to_is_read_as_what_it_is(tmp_path):
    """git-annex links to files elsewhere; one that leads to another file holds no recording."""
    path = tmp_path / "play.bk2"
    path.symlink_to("/etc/passwd")
    with refused("not a whole .bk2 zip"):
        read_bk2(path)
