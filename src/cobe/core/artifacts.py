"""The artifact store: every expensive result is written once, checksummed, and never half there.

An artifact is a file or a folder with a JSON sidecar beside it. Its key is a hash of what it
depends on: its name, its parameters, the content of its inputs, and the code that makes it. It is
written under a temporary name and renamed when whole, so a name without the temporary prefix is
always a whole result; the checksum in the sidecar finds what was damaged later.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path

from cobe.core.bounds import check_bytes
from cobe.core.disk import (
    content_sha256,
    disk_trouble,
    file_sha256,
    lock,
    readable_os_errors,
    remove,
    settle,
    settle_one,
)
from cobe.core.errors import CobeError
from cobe.core.fingerprint import fingerprint
from cobe.core.machine import device, environment
from cobe.core.origin import before_making
from cobe.core.records import MAX_BYTES, is_time

__all__ = [
    "SIDECAR",
    "TOUCHED_LOG",
    "Artifact",
    "Store",
    "age_text",
    "content_sha256",
    "device",
    "environment",
    "external",
    "file_sha256",
    "is_intact",
    "plain",
    "read_sidecar",
    "readable_os_errors",
    "sidecar_of",
]

TOUCHED_LOG = "COBE_TOUCHED_LOG"
SIDECAR = ".meta.json"


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


def age_text(created_s: float) -> str:
    """How long ago, in words."""
    seconds = max(0.0, time.time() - created_s)
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


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
        self._said: set[str] = set()

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

        Raises
        ------
        CobeError
            It is there and may not be read, or is damaged and may not be removed.
        """
        key = self.key(name, params=params, inputs=inputs, code=code)
        path = self._path(name, key, suffix)
        with readable_os_errors(path):
            found, damage = self._look(name, key, path)
            if damage:
                with self._lock(name, key):
                    found = self._look_again(name, key, path)
        if found is None:
            self._say_origin(name)
        return found

    def _look(self, name: str, key: str, path: Path) -> tuple[Artifact | None, str]:
        """What is there, and what is wrong with it; nothing is changed."""
        sidecar = sidecar_of(path)
        try:
            meta = read_sidecar(sidecar)
            if not path.exists():
                return None, "is gone"
            if meta["key"] != key:
                return None, f"has the sidecar of {meta['name']}"
            found = content_sha256(path)
        except FileNotFoundError:  # never made, or another process takes it away right now
            return None, ""
        except ValueError:
            return None, "has an unreadable sidecar"
        if found != meta["sha256"]:
            return None, "does not match its checksum"
        self._touch(sidecar)
        return Artifact(name, key, path, found, meta, reused=True), ""

    def _look_again(self, name: str, key: str, path: Path) -> Artifact | None:
        """Look under the lock, and take away what is damaged.

        Without the lock it might be the whole one that another process has put there meanwhile.
        """
        found, damage = self._look(name, key, path)
        if damage:
            self.announce(f"{name}: damaged ({path} {damage}); made again")
            remove(path)
            remove(sidecar_of(path))
        return found

    def _lock(self, name: str, key: str):
        def wait():
            self.announce(f"{name}: another process is making it; waiting")

        return lock(self.root / ".locks" / key, wait)

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
        key = self.key(name, params=params, inputs=inputs, code=code)
        path = self._path(name, key, suffix)
        checkpoint = path.with_name(f".checkpoint-{path.name}")
        with readable_os_errors(path):
            # what is whole needs no lock, and may lie where nothing can be written
            found, _ = self._look(name, key, path)
            if not found:
                self._say_origin(name)
            if not found or (checkpoint.exists() and os.access(path.parent, os.W_OK)):
                path.parent.mkdir(parents=True, exist_ok=True)
                with self._lock(name, key):
                    found = self._look_again(name, key, path)
                    if not found:
                        about = (plain(params), inputs or {})
                        return self._write(name, key, path, *about, write, resumable and checkpoint)
                    remove(checkpoint)  # the maker was killed between its last two steps
        self.announce(f"{name}: reused, made {age_text(found.meta['created_s'])} ago")
        return found

    def _write(self, name, key, path, params, inputs, write, checkpoint) -> Artifact:
        temporary = path.with_name(f".making-{path.name}")
        # with the drafts of libraries that write beside, such as that of zip files
        for left in [temporary, *path.parent.glob(f"{glob.escape(temporary.name)}.*"), path]:
            remove(left)
        resumed = bool(checkpoint) and checkpoint.exists()
        started = time.perf_counter()
        try:
            write(temporary, checkpoint) if checkpoint else write(temporary)
            settle(temporary)
        except BaseException as error:
            trouble = disk_trouble(error, temporary)
            remove(temporary)
            if trouble:
                raise trouble from error
            if resumed and str(error).startswith(f"{checkpoint}: damaged"):
                self.announce(f"{name}: damaged checkpoint ({checkpoint}); started over")
                remove(checkpoint)
                return self._write(name, key, path, params, inputs, write, checkpoint)
            raise
        seconds = time.perf_counter() - started
        sha256 = content_sha256(temporary)
        meta = {
            "name": name,
            "key": key,
            "sha256": sha256,
            "params": params,
            "inputs": {label: self._origin(item, path) for label, item in sorted(inputs.items())},
            "seconds": round(seconds, 3),
            "resumed": resumed,
            "created_s": round(time.time(), 3),
            **environment(),
        }
        sidecar = sidecar_of(path)
        draft = sidecar.with_name(f".making-{sidecar.name}")
        try:
            draft.write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")
            settle(draft)
        except OSError:
            remove(draft)
            remove(temporary)
            raise
        os.replace(temporary, path)
        os.replace(draft, sidecar)
        if checkpoint:
            settle_one(path.parent)
            remove(checkpoint)
        self._touch(sidecar)
        return Artifact(name, key, path, sha256, meta, reused=False)

    def _say_origin(self, name: str) -> None:
        line = before_making(name, self.root)
        if line and line not in self._said:
            self._said.add(line)
            self.announce(line)

    def _origin(self, item: Artifact, path: Path) -> dict:
        """What a sidecar says of an input: where it is from there, if both lie in this store."""
        root, place = Path(os.path.abspath(self.root)), Path(os.path.abspath(item.path))
        if place.is_relative_to(root):
            place = os.path.relpath(place, os.path.abspath(path.parent))
        origin = {"name": item.name, "key": item.key, "sha256": item.sha256, "path": str(place)}
        return origin if item.meta else origin | {"external": True}

    def _path(self, name: str, key: str, suffix: str) -> Path:
        return self.root / f"{name}-{key[:12]}{suffix}"

    def _touch(self, sidecar: Path) -> None:
        log = os.environ.get(TOUCHED_LOG)
        if log:
            with open(log, "a") as handle:
                # a path may hold what separates lines
                handle.write(json.dumps(str(sidecar.resolve())) + "\n")


def external(path: Path, name: str | None = None) -> Artifact:
    """A file or folder that cobe did not make, as an input: only its content counts."""
    sha256 = content_sha256(path)
    return Artifact(name or path.name, sha256, path, sha256, {}, reused=True)


def is_intact(sidecar: Path) -> bool:
    """Whether the artifact beside this sidecar is there and matches its checksum."""
    try:
        meta = read_sidecar(sidecar)
        path = sidecar.with_name(sidecar.name.removesuffix(SIDECAR))
        return path.exists() and content_sha256(path) == meta["sha256"]
    except (OSError, ValueError):
        return False


def sidecar_of(path: Path) -> Path:
    """The sidecar of an artifact."""
    return path.with_name(path.name + SIDECAR)


def read_sidecar(sidecar: Path) -> dict:
    """What a sidecar says.

    Raises
    ------
    ValueError
        It is none: name, key, checksum, time and inputs are always there.
    """
    try:
        check_bytes(sidecar, MAX_BYTES)
        meta = json.loads(sidecar.read_text())
    except CobeError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError(f"{sidecar}: nested too deep") from None
    texts = dict.fromkeys(("name", "key", "sha256"), str)
    if not (_has(meta, texts | {"inputs": dict}) and is_time(meta.get("created_s"))):
        raise ValueError(f"{sidecar}: no sidecar")
    for item in meta["inputs"].values():
        place = item.get("path", "older") if _has(item, texts) else None
        if not isinstance(place, str) or not Path(place).name:
            raise ValueError(f"{sidecar}: an input that is none")
    return meta


def _has(found, fields: dict[str, type]) -> bool:
    return isinstance(found, dict) and all(isinstance(found.get(k), v) for k, v in fields.items())


if __name__ == "__main__":
    import signal

    from cobe.core.trace import main

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    sys.exit(main(sys.argv[1:]))
