"""What the disk may do to a result: checksums, locks, what is gone, and errors with a remedy."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from cobe.core.errors import MachineError

# A file of a git-annex repository is known by its key, such as MD5E-s<bytes>--<checksum>.nii.gz; no
# shorter checksum is one; the suffix is that of the file.
ANNEX_KEY = re.compile(r"(MD5|SHA\d+)E?-s(\d+)--([0-9a-f]{32,})[^/]*")
_FULL_BYTES = 2**20
_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "the file is larger than this process may write; raise its limit (ulimit -f)",
    errno.EACCES: "permission denied; make the folder writable or choose another one",
    errno.EPERM: "permission denied; make the folder writable or choose another one",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EIO: "the disk reports an error; copy what is readable and choose another disk",
    errno.ESTALE: "its server has replaced the file meanwhile; run the same command again",
    errno.ETIMEDOUT: "the file server does not answer; run the same command again",
    errno.ENOMEM: "too little memory; free some and run the same command again",
    errno.ENOTDIR: "a part of this path is a file; choose another folder, or move that file away",
    errno.EISDIR: "a folder is where a file should be; move it away",
    errno.ELOOP: "links that lead in a circle; correct them, or choose another folder",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter folder",
    errno.ENOLCK: "the file system has no locks; choose a folder on one that has",
}


class DiskError(MachineError):
    """The disk is full, or a folder may not be written."""


@contextmanager
def readable_os_errors(path: Path):
    """Turn a full disk, a missing permission and the like into a `DiskError` with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in _REMEDIES:
            where = str(error.filename2 or error.filename or path)
            where = where if len(where) < 1000 else f"{where[:100]}..."
            raise DiskError(f"{where}: {_REMEDIES[error.errno]}") from error
        raise


def disk_trouble(error: BaseException, path: Path) -> DiskError | None:
    """The disk's part in a failed write, where a library has put its own words around it.

    Parameters
    ----------
    error : BaseException
        What the write raised.
    path : Path
        What was to be written; what is there of it must not have been removed yet.

    Returns
    -------
    trouble : DiskError or None
        None: the disk has no part in it.
    """
    if not isinstance(error, Exception):
        return None
    link = error
    while link is not None:
        code = link.errno if isinstance(link, OSError) else None
        for known in (errno.ENOSPC, errno.EDQUOT):
            if os.strerror(known) in str(link):
                code = known
        if code in _REMEDIES:
            return DiskError(f"{getattr(link, 'filename', None) or path}: {_REMEDIES[code]}")
        link = link.__cause__ or link.__context__
    if not path.parent.is_dir():
        return DiskError(
            f"{path.parent}: is gone, removed while in use; run the same command again"
        )
    room = os.statvfs(path.parent)
    if room.f_bavail * room.f_frsize < _FULL_BYTES:
        return DiskError(f"{path}: {_REMEDIES[errno.ENOSPC]} ({error})")
    return None


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


def settle(path: Path) -> None:
    """See to it that a file, or all of a folder, is on the disk and outlives a loss of power."""
    for item in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if not item.is_symlink():
            settle_one(item)


def settle_one(path: Path) -> None:
    """The same for a file, or the names in a folder, such as what was just renamed in it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, write: Callable[[Path], object], alone: bool = False) -> None:
    """Let ``write(draft)`` write beside the place, then rename: a file is always whole.

    Parameters
    ----------
    path : Path
        Its place.
    write : callable
        Writes the file that it is given.
    alone : bool
        A lock keeps others from this file: the draft of one that was killed is written over.
    """
    # not the process's number: machines that share a folder may share that
    draft = path.with_name(f".making-{path.name}{'' if alone else '-' + secrets.token_hex(4)}")
    try:
        write(draft)
        settle_one(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str, alone: bool = False) -> None:
    """Write a text as `write_whole` does, in UTF-8 with plain line ends."""
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8", newline="\n"), alone)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.is_dir():
        shutil.rmtree(path)


@contextmanager
def lock(path: Path, wait: Callable[[], None]):
    """One maker at a time for one artifact, on this machine; the lock goes with the process.

    Parameters
    ----------
    path : Path
        File of the lock; it stays.
    wait : callable
        Called once where another process holds it, before waiting for that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
