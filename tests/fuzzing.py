"""Mutated files for every reader, in a process of its own with bounded memory and time.

``python tests/fuzzing.py READER N SEED FOLDER`` prints what became of N files as one line of JSON:
how many were read, how many were refused with a `CobeError`, and what else was raised. A process
that dies (a C library that crashes, memory beyond the limit) prints nothing and has a status.
"""

import hashlib
import io
import json
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

LIMIT_BYTES = 2 * 2**30
LIMIT_S = 10
SEALED_FRAMES = 0.5
ODD_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
ODD_WORDS = (
    b"nan", b"inf", b"-1", b"1e999", b"n/a", b"", b"\0", b"\t", b"\n", b'"', b"'", b"../../../etc",
    b"/etc/passwd", b"{", b"}", b"[", b"null", b"true", b"\xff\xfe", b"\xef\xbb\xbf", b"%s",
    b"$(x)", b"9" * 400, "ü".encode(), "\u202e".encode(), b"-0", b"0x10", b"1_000", b"1e-400",
)  # fmt: skip


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A copy with one to eight changes: flipped, odd, lost, repeated, moved or inserted bytes."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 9)) if rng.random() < 0.5 else 1):
        if not data:
            break
        at = int(rng.integers(len(data)))
        n = min(int(rng.integers(1, 33)), len(data) - at)
        match int(rng.integers(8)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at : at + n] = rng.bytes(n)
            case 2:
                value = ODD_NUMBERS[int(rng.integers(len(ODD_NUMBERS)))]
                packed = struct.pack("<Q" if rng.random() < 0.5 else ">Q", value)
                width = (1, 2, 4, 8)[int(rng.integers(4))]
                data[at : at + width] = packed[:width] if packed[0] else packed[-width:]
            case 3:
                del data[at : at + n]
            case 4:
                data[at:at] = data[at : at + n]
            case 5:
                del data[at:]
            case 6:
                word = ODD_WORDS[int(rng.integers(len(ODD_WORDS)))]
                data[at : at + (n if rng.random() < 0.5 else 0)] = word
            case _:
                other = int(rng.integers(len(data)))
                data[at : at + n] = data[other : other + n]
    return bytes(data)


def mutated_table(content: bytes, rng, separator: bytes) -> bytes:
    """A text table with changed cells, rows or columns, so that the parser is passed."""
    if rng.random() < 0.3:
        return mutated(content, rng)
    rows = [line.split(separator) for line in content.rstrip(b"\n").split(b"\n")]
    for _ in range(int(rng.integers(1, 6))):
        row = int(rng.integers(len(rows)))
        column = int(rng.integers(len(rows[row]))) if rows[row] else 0
        match int(rng.integers(6)):
            case 0 | 1 | 2 if rows[row]:
                odd = ODD_WORDS[int(rng.integers(len(ODD_WORDS)))]
                rows[row][column] = odd if rng.random() < 0.6 else mutated(rows[row][column], rng)
            case 3:
                rows.insert(row, list(rows[int(rng.integers(len(rows)))]))
            case 4:
                del rows[row][column : column + 1]
            case _:
                rows[row].insert(column, b"7")
    return b"\n".join(separator.join(row) for row in rows) + b"\n"


# ------------------------------------------------------------------------------------------------
# one reader each: (content to start from, how to change it, how to read it)


def of_bk2(folder: Path):
    """Key logs: the zip's bytes, or a member's before it is packed."""
    from brain_tree import write_bk2
    from cobe.stimulus.bk2 import read_bk2

    source = folder / "seed.bk2"
    write_bk2(source, 40)
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def change(content, rng):
        if rng.random() < 0.5:
            return mutated(content, rng)
        names = sorted(members)
        victim = names[int(rng.integers(len(names)))]
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                changed = mutated(members[name], rng) if name == victim else members[name]
                archive.writestr(name if rng.random() < 0.98 else "../" + name, changed)
        return out.getvalue()

    return source.read_bytes(), change, read_bk2, "play.bk2"


def of_events(folder: Path):
    """Events tables."""
    from cobe.brain.events import read_events

    lines = [b"onset\tduration\ttrial_type\tlevel\tstim_file"]
    for k in range(5):
        name = b"sub-01/ses-001/gamelogs/x_%d.bk2" % k if k != 2 else b"Missing file"
        lines.append(b"%d.25\t40.5\tgym-retro_game\t%d-0\t%s" % (3 + 50 * k, k % 3 + 1, name))
    return (
        b"\n".join(lines) + b"\n",
        lambda c, rng: mutated_table(c, rng, b"\t"),
        read_events,
        "e.tsv",
    )


def of_confounds(folder: Path):
    """Confound tables of fMRIPrep."""
    from brain_tree import confounds_table
    from cobe.brain.confounds import read_confounds
    from cobe.brain.records import Run

    stem = "sub-01_ses-001_task-shinobi_run-1"
    bold = folder / f"{stem}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
    bold.write_bytes(b"not read")
    name = f"{stem}_desc-confounds_timeseries.tsv"
    run = Run("sub-01", "ses-001", 1, bold, None, folder / name, 12, 1.49, (), True)
    table = confounds_table(np.random.default_rng(0), 12)
    content = table.to_csv(sep="\t", index=False, na_rep="n/a").encode()

    def read(path):
        return read_confounds(run, "minimal")

    return content, lambda c, rng: mutated_table(c, rng, b"\t"), read, name


def of_nifti(folder: Path):
    """NIfTI headers; every tenth image is loaded as well."""
    import nibabel as nib

    from cobe.brain.files import load_nifti, read_nifti_header

    image = nib.Nifti1Image(np.arange(5 * 4 * 3 * 6, dtype=np.int16).reshape(5, 4, 3, 6), np.eye(4))
    nib.save(image, folder / "seed.nii")
    counted = [0]

    def change(content, rng):
        # most changes in the 348 bytes of the header
        if rng.random() < 0.8:
            return mutated(content[:352], rng) + content[352:]
        return mutated(content, rng)

    def read(path):
        counted[0] += 1
        read_nifti_header(path)
        if counted[0] % 10 == 0:
            load_nifti(path)

    return (folder / "seed.nii").read_bytes(), change, read, "x.nii"


def of_h5(folder: Path):
    """Extracted parcel series."""
    from cobe.brain.timeseries import read_timeseries, timeseries_shapes
    from real_tree import write_timeseries

    seed = write_timeseries(folder / "seed", {("sub-01", "ses-002", 1): 30}, n_columns=4)["sub-01"]

    def read(path):
        for key, (n_trs, _) in timeseries_shapes(path).items():
            read_timeseries(path, key, n_trs)

    return seed.read_bytes(), mutated, read, seed.name


def of_tokens(folder: Path):
    """Token sets, with the JSON header of safetensors changed more often than the rest."""
    import pandas as pd
    from safetensors.numpy import load_file, save

    from cobe.video.tokens import CLIP_COLUMNS
    from cobe.video.tokenset import FORMAT, _checksum, open_token_set, write_token_set

    texts = {"subject": "sub-01", "session": "ses-001", "level": "1"}
    clips = pd.DataFrame({name: [texts.get(name, k) for k in range(6)] for name in CLIP_COLUMNS})
    codes = np.arange(48, dtype=np.uint16).reshape(6, 2, 2, 2)
    codebook = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
    write_token_set(folder / "seed.safetensors", codes, clips, codebook, "model")

    table = load_file(folder / "seed.safetensors")["clips"].tobytes()

    def change(content, rng):
        if rng.random() < 0.3:  # a clip table that is none under a checksum that fits
            clips = np.frombuffer(mutated(table, rng), np.uint8)
            tensors = {"codes": codes, "codebook": codebook, "clips": clips}
            about = {"format": FORMAT, "model_id": "model", "sha256": _checksum(tensors)}
            return save(tensors, metadata={"cobe": json.dumps(about)})
        return changed_header(content, rng)

    return (folder / "seed.safetensors").read_bytes(), change, open_token_set, "t.safetensors"


def changed_header(content: bytes, rng) -> bytes:
    """Safetensors with its JSON header changed, mostly; else any bytes of it."""
    n_header = int.from_bytes(content[:8], "little")
    if rng.random() < 0.6:
        header = mutated(content[8 : 8 + n_header], rng)
        return len(header).to_bytes(8, "little") + header + content[8 + n_header :]
    return mutated(content, rng)


def of_checkpoint(folder: Path):
    """Checkpoints of a training run; the state of some is changed under a checksum that fits."""
    import torch
    from safetensors.torch import load_file, save

    from cobe.video.checkpoint import _checksum, read_checkpoint, write_checkpoint

    torch.set_num_threads(1)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    identity = {"seed": 1, "cell": {"d_model": 2}}
    state = {"identity": identity, "step": 3, "log": [0.5, 0.25]}
    write_checkpoint(folder / "seed.ckpt", state, model, optimizer, best=model.state_dict())
    tensors = load_file(folder / "seed.ckpt")

    def change(content, rng):
        if rng.random() < 0.3:
            text = mutated(json.dumps(state).encode(), rng).decode("utf-8", "replace")
            return save(tensors, metadata={"state": text, "sha256": _checksum(tensors, text)})
        return changed_header(content, rng)

    def read(path):
        read_checkpoint(path, identity, model, optimizer)

    return (folder / "seed.ckpt").read_bytes(), change, read, "c.ckpt"


def of_frames(folder: Path):
    """Frame stores; the seal of half of them is made to fit, so that the content is reached."""
    from cobe.stimulus import frames

    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    frames.write_frames(folder / "seed.b2nd", pixels)

    sealed = [False]

    def change(content, rng):
        sealed[0] = rng.random() < SEALED_FRAMES
        if not sealed[0]:
            return mutated(content, rng)
        body = mutated(content[: -frames._SEAL.size], rng)
        return body + frames._SEAL.pack(frames._MAGIC, len(body), zlib.crc32(body))

    def read(path):
        found = frames.open_frames(path)[:]
        if not sealed[0] and not np.array_equal(found, pixels):
            raise AssertionError("changed frames passed as whole")

    return (folder / "seed.b2nd").read_bytes(), change, read, "f.b2nd"


def of_config(folder: Path):
    """Settings of a saved VQ-VAE."""
    from cobe.video.vqvae import VQVAE, build_vqvae
    from small_video import TINY

    build_vqvae(replace(TINY, n_hiddens=4, n_codes=8, code_dim=2)).save(folder / "model")
    content = (folder / "model" / "config.json").read_bytes()

    def read(path):
        path.replace(folder / "model" / "config.json")
        VQVAE.load(folder / "model")

    return content, mutated, read, "config.json"


def of_results(folder: Path):
    """Tables of results."""
    import pandas as pd

    from cobe.report.save import read_results, write_results

    columns = {"cell": ["a", "b", None], "r": [0.1, np.nan, -0.2], "fold": [0, 1, 2]}
    write_results(pd.DataFrame(columns), folder / "seed.parquet")
    content = (folder / "seed.parquet").read_bytes()
    n_footer = int.from_bytes(content[-8:-4], "little") + 8

    def change(content, rng):
        if rng.random() < 0.5:  # its schema, which a checksum of pages does not cover
            return content[:-n_footer] + mutated(content[-n_footer:], rng)
        return mutated(content, rng)

    return content, change, read_results, "scores.parquet"


def of_ledger(folder: Path):
    """The ledger's table, as committed."""
    from cobe.core.paths import PROJECT
    from cobe.report.audit.ledger import read_ledger

    content = (PROJECT / "figures" / "table_ledger.csv").read_bytes()
    # a table of two claims is read faster than the whole
    head = b"\n".join(content.split(b"\n")[:7]) + b"\n"
    return head, lambda c, rng: mutated_table(c, rng, b","), read_ledger, "table_ledger.csv"


def of_manifest(folder: Path):
    """The manifest of a folder of figures."""
    from cobe.report.manifest import read_manifest

    fields = {"sha256": "0" * 64, "bytes": 3, "caption": "a.md", "made_by": "n"}
    rows = [{"name": "a", "file": "a.png", **fields}, {"name": "b", "file": "b.pdf", **fields}]
    content = json.dumps({"files": rows}, indent=1).encode()
    return content, mutated, lambda path: read_manifest(path.parent), "manifest.json"


def of_sidecar(folder: Path):
    """Sidecars of artifacts: behind a damaged one the artifact is made again; it is no error."""
    from cobe.core.artifacts import Store, is_intact

    store = Store(folder / "store", announce=lambda line: None)
    made = store.make("a", params={"x": 1}, write=lambda path: path.write_text("content"))
    sidecar = made.path.with_name(f"{made.path.name}.meta.json")
    content = sidecar.read_bytes()

    whole, counted = made.path.read_bytes(), [0]

    def read(path):
        path.replace(sidecar)
        is_intact(sidecar)
        store.find("a", params={"x": 1})
        counted[0] += 1
        if counted[0] % 100 == 0:  # it waits for the disk
            store.make("a", params={"x": 1}, write=lambda path: path.write_text("content"))
        made.path.write_bytes(whole)

    return content, mutated, read, "sidecar.json"


def of_record(folder: Path):
    from cobe.core.records import read_record, write_record

    record = {"artifacts": ["/a/b.meta.json"], "products": {"/f/x.pdf": "0" * 64}, "tables": {}}
    record |= {"made_s": 1.8e9, "seconds": 3.0, "peak_gib": 0.5, "source": "1" * 64}
    write_record(folder / "whole", record)
    content = (folder / "whole").read_bytes()

    def change(content, rng):
        if rng.random() < 0.5:
            return mutated(content, rng)
        # a record of odd values whose checksum is right
        odd = (
            None,
            3,
            -1.0,
            float("nan"),
            1e300,
            "x",
            [],
            [3],
            {},
            {"a": 3},
            True,
            [[]],
            "x" * 300,
        )
        name = ("artifacts", "products", "tables", "made_s", "seconds")[int(rng.integers(5))]
        changed = record | {name: odd[int(rng.integers(len(odd)))]}
        seal = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()
        return json.dumps(changed | {"record_sha256": seal}).encode()

    def read(path):
        found = read_record(path)
        sorted(found["artifacts"]), sorted(found["products"].items()), round(found["seconds"])
        time.gmtime(found["made_s"])

    return content, change, read, "07_audit.json"


def of_trace(folder: Path):
    """Sidecars again, read by whoever follows a result to what it was made from."""
    from cobe.core.artifacts import Store, sidecar_of
    from cobe.core.lineage import as_json, as_text
    from cobe.core.trace import trace

    store = Store(folder / "store", announce=lambda line: None)
    first = store.make("a/x", params={"seed": 1}, write=lambda path: path.write_text("content"))
    made = store.make("b", params={}, inputs={"a": first}, write=lambda path: path.write_text("c"))
    sidecar = sidecar_of(first.path)
    content = sidecar.read_bytes()
    odd = (None, 3, "x", "/", "", "../../x", [], [[3]], {}, {"seed": []}, True, "x" * 300)

    def change(content, rng):
        if rng.random() < 0.5:
            return mutated(content, rng)
        meta = json.loads(content)
        name = sorted(meta)[int(rng.integers(len(meta)))]
        return json.dumps(meta | {name: odd[int(rng.integers(len(odd)))]}).encode()

    def read(path):
        path.replace(sidecar)
        found = trace(made.path, check=True)
        as_text(found, full=True), json.dumps(as_json(found))

    return content, change, read, "sidecar.json"


READERS = {
    name.removeprefix("of_"): function
    for name, function in dict(globals()).items()
    if name.startswith("of_")
}


def _too_long(*_):
    raise TimeoutError(f"no answer within {LIMIT_S} s")


def run(reader: str, n: int, seed: int, folder: Path) -> dict:
    """Give a reader `n` changed files.

    Returns
    -------
    found : dict
        read, refused (counts), other (exception and place: count and an example as hex),
        slowest_s, peak_bytes beyond what was in use before.
    """
    from cobe.core.errors import CobeError

    content, change, read, name = READERS[reader](folder)
    place = folder / "given"
    place.mkdir()
    path = folder / name if reader == "confounds" else place / name
    path.write_bytes(content)
    read(path)  # the unchanged file is fine
    rng = np.random.default_rng([seed, len(reader)])
    found = {"read": 0, "refused": 0, "other": {}, "slowest_s": 0.0}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + LIMIT_BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, _too_long)
    last = folder / "last"
    for _ in range(n):
        given = change(content, rng)
        path.write_bytes(given)
        last.write_bytes(given)  # what a crash leaves behind
        signal.alarm(LIMIT_S)
        started = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
            found["read"] += 1
        except CobeError as error:
            found["refused"] += 1
            assert len(str(error)) < 5000, "an error nobody can read"
        except Exception as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "cobe" in f.filename]
            at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
            key = f"{type(error).__name__} at {at}: {str(error)[:120]}"
            kept = found["other"].setdefault(key, [0, given[:4000].hex()])
            kept[0] += 1
        finally:
            signal.alarm(0)
        found["slowest_s"] = max(found["slowest_s"], time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found | {"peak_bytes": (peak - before) * 1024, "used_bytes": used}


if __name__ == "__main__":
    which, count, first_seed, where = sys.argv[1:]
    print(json.dumps(run(which, int(count), int(first_seed), Path(where))))
