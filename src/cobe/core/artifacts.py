"""The artifact store: every expensive result is written once, checksummed, and never half there.

An artifact is a file or a folder with a JSON sidecar beside it. Its key is a hash of what it
depends on: its name, its parameters, the content of its inputs, and the code that makes it. It is
written under a temporary name and renamed when whole, so a name without the temporary prefix is
always a whole result; the checksum in the sidecar finds what was damaged later.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cobe.core.errors import CobeError
from cobe.core.fingerprint import fingerprint

TOUCHED_LOG = "COBE_TOUCHED_LOG"
_RECORDED_PACKAGES = (
    "numpy pandas scikit-learn torch transformers vector-quantize-pytorch accelerate "
    "nilearn himalaya stable-retro blosc2 matplotlib"
).split()


@dataclass(frozen=True)
class Artifact:
    """A whole, checked result on disk.

    Attributes
    ----------
    name, key : str
        What it is, and the hash of what it depends on.
    path : Path
        The file or folder.
    sha256 : str
        Checksum of the content (of a folder: of its sorted file list with their checksums).
    meta : dict
        The sidecar: parameters, inputs, versions, commit, device, seconds.
    reused : bool
        True if it was there already.
    """

    name: str
    key: str
    path: Path
    sha256: str
    meta: dict
    reused: bool


def plain(value):
    """The same value as JSON-ready data: dataclasses to dicts, tuples to lists, paths to text."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        return value.item()
    return value


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def content_sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder's sorted relative names, links and file checksums."""
    if not path.is_dir():
        return file_sha256(path)
    lines = []
    for item in sorted(path.rglob("*")):
        relative = item.relative_to(path).as_posix()
        if item.is_symlink():
            lines.append(f"link {os.readlink(item)} {relative}")
        elif item.is_file():
            lines.append(f"{file_sha256(item)} {relative}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def git_state(folder: Path) -> dict:
    """Commit of the checkout that holds `folder`, and whether tracked files differ from it."""

    def git(*args):
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(git("status", "--porcelain", "-uno"))}


def device() -> str:
    """The processor that this process computes on, in words: a GPU where torch has one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {len(os.sched_getaffinity(0))} cores"


def environment() -> dict:
    """What a result was made with: Python, packages, machine, device, commit."""
    packages = {}
    for name in _RECORDED_PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "python": platform.python_version(),
        "packages": packages,
        "machine": platform.machine(),
        "device": device(),
        "git": git_state(Path(__file__).parent),
    }


def age_text(created_s: float) -> str:
    """How long ago, in words."""
    seconds = max(0.0, time.time() - created_s)
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


@contextmanager
def readable_os_errors(path: Path):
    """Turn a full disk, a missing permission and the like into a `CobeError` with a remedy."""
    remedies = {
        errno.ENOSPC: "the disk is full; free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
        errno.EACCES: "permission denied; make the folder writable or choose another one",
        errno.EROFS: "the file system is read-only; choose another folder",
    }
    try:
        yield
    except OSError as error:
        if error.errno in remedies:
            where = error.filename or path
            raise CobeError(f"{where}: {remedies[error.errno]}") from error
        raise


class Store:
    """A folder of artifacts.

    Parameters
    ----------
    root : Path
        Folder of the store; made when the first artifact is.
    announce : callable
        Takes one line of text about what is reused, made, or damaged.
    """

    def __init__(self, root: Path, announce: Callable[[str], None] | None = None):
        self.root = Path(root)
        self._announce = announce

    def announce(self, line: str) -> None:
        """Say one line: on stderr unless the store was given another way."""
        if self._announce is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self._announce(line)

    def key(self, name, *, params, inputs: Mapping[str, Artifact] | None = None, code=()) -> str:
        """The key that an artifact of this description has."""
        description = {
            "name": name,
            "params": plain(params),
            "inputs": {label: item.sha256 for label, item in sorted((inputs or {}).items())},
            "code": {module: fingerprint(module) for module in sorted(code)},
        }
        text = json.dumps(description, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def find(self, name, *, params, inputs=None, code=(), suffix="") -> Artifact | None:
        """The artifact of this description if it is there and intact, else None.

        A damaged one is said so and moved out of the way.
        """
        key = self.key(name, params=params, inputs=inputs, code=code)
        path = self._path(name, key, suffix)
        sidecar = _sidecar(path)
        if not sidecar.is_file() or not path.exists():
            return None
        try:
            meta = json.loads(sidecar.read_text())
            found = content_sha256(path)
            intact = meta["sha256"] == found and meta["key"] == key
        except (ValueError, KeyError, TypeError, OSError):
            intact = False
        if not intact:
            self.announce(f"{name}: damaged ({path} does not match its checksum); made again")
            _remove(path)
            sidecar.unlink(missing_ok=True)
            return None
        self._touch(sidecar)
        return Artifact(name, key, path, found, meta, reused=True)

    def make(
        self,
        name: str,
        *,
        params,
        write: Callable,
        inputs: Mapping[str, Artifact] | None = None,
        code=(),
        suffix: str = "",
        resumable: bool = False,
    ) -> Artifact:
        """Reuse the artifact of this description, or make it.

        Parameters
        ----------
        name : str
            What it is; slashes make sub-folders.
        params : dict or dataclass
            Everything that changes the content, seeds included.
        write : callable
            ``write(path)`` writes the file or folder; with `resumable`,
            ``write(path, checkpoint)``, where `checkpoint` outlives an interruption.
        inputs : mapping of str to Artifact
            What it is made from.
        code : tuple of str
            Modules whose source, with all of cobe that they import, changes the content.
        suffix : str
            File extension; empty for a folder.
        resumable : bool
            Hand `write` a folder for checkpoints, removed once the artifact is whole.

        Returns
        -------
        artifact : Artifact

        Raises
        ------
        CobeError
            The disk is full, or the folder cannot be written.
        """
        description = dict(params=params, inputs=inputs, code=code)
        key = self.key(name, **description)
        path = self._path(name, key, suffix)
        with readable_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _lock(self.root / ".locks" / key):
                found = self.find(name, **description, suffix=suffix)
                if found:
                    self.announce(f"{name}: reused, made {age_text(found.meta['created_s'])} ago")
                    return found
                return self._write(name, key, path, plain(params), inputs or {}, write, resumable)

    def _write(self, name, key, path, params, inputs, write, resumable) -> Artifact:
        temporary = path.with_name(f".making-{path.name}")
        _remove(temporary)
        _remove(path)
        checkpoint = path.with_name(f".checkpoint-{path.name}")
        resumed = checkpoint.exists()
        started = time.perf_counter()
        try:
            write(temporary, checkpoint) if resumable else write(temporary)
        except BaseException:
            _remove(temporary)
            raise
        seconds = time.perf_counter() - started
        sha256 = content_sha256(temporary)
        meta = {
            "name": name,
            "key": key,
            "sha256": sha256,
            "params": params,
            "inputs": {
                label: {"name": item.name, "key": item.key, "sha256": item.sha256}
                for label, item in sorted(inputs.items())
            },
            "seconds": round(seconds, 3),
            "resumed": resumed,
            "created_s": round(time.time(), 3),
            **environment(),
        }
        sidecar = _sidecar(path)
        draft = sidecar.with_name(f".making-{sidecar.name}")
        draft.write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")
        os.replace(temporary, path)
        os.replace(draft, sidecar)
        _remove(checkpoint)
        self._touch(sidecar)
        return Artifact(name, key, path, sha256, meta, reused=False)

    def _path(self, name: str, key: str, suffix: str) -> Path:
        return self.root / f"{name}-{key[:12]}{suffix}"

    def _touch(self, sidecar: Path) -> None:
        log = os.environ.get(TOUCHED_LOG)
        if log:
            with open(log, "a") as handle:
                handle.write(f"{sidecar.resolve()}\n")


def external(path: Path, name: str | None = None) -> Artifact:
    """A file or folder that cobe did not make, as an input: only its content counts."""
    sha256 = content_sha256(path)
    return Artifact(name or path.name, sha256, path, sha256, {}, reused=True)


def is_intact(sidecar: Path) -> bool:
    """Whether the artifact beside this sidecar is there and matches its checksum."""
    try:
        meta = json.loads(sidecar.read_text())
        path = sidecar.with_name(sidecar.name.removesuffix(".meta.json"))
        return path.exists() and content_sha256(path) == meta["sha256"]
    except (OSError, ValueError, KeyError):
        return False


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.meta.json")


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


@contextmanager
def _lock(path: Path):
    """One maker at a time for one artifact, on this machine; the lock goes with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
