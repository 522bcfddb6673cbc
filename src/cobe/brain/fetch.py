"""What of the CNeuroMod datasets a user needs, how large it is, and the commands that get it.

Everything is done by DataLad, in clones that stay the user's own; nothing is ever cloned with all
its sub-datasets. Sizes are read from the names of git-annex keys, before anything is downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cobe.brain.environment import SECRETS, environment, identity
from cobe.brain.files import why_absent
from cobe.core.errors import CobeError

BASE_VARIABLE = "COBE_FETCH_BASE"
BASE = "https://github.com/courtois-neuromod"
S3_HOST = "s3.unf-montreal.ca"
RAW, FMRIPREP, TIMESERIES = "shinobi", "shinobi.fmriprep", "shinobi.timeseries"
# Play and BOLD of these have been open since 2024; those of sub-04 are shared on agreement.
OPEN_SUBJECTS = ("sub-01", "sub-02", "sub-06")
CLOSED_SUBJECTS = ("sub-04",)
N_RUNS = {"sub-01": 53, "sub-02": 55, "sub-04": 55, "sub-06": 52}
N_SESSIONS = {"sub-01": 12, "sub-02": 12, "sub-04": 11, "sub-06": 12}

_KEY_SIZE = re.compile(r"-s(\d+)(?:-[A-Za-z]\d+)*--")


@dataclass(frozen=True)
class AnnexFile:
    """A file of a clone: path, bytes (None: its key tells no size), whether it is there."""

    path: Path
    n_bytes: int | None
    present: bool


@dataclass(frozen=True)
class Part:
    """Files that belong together: what they are, the clone they lie in, and the files."""

    what: str
    clone: Path
    files: tuple[AnnexFile, ...]

    @property
    def missing(self) -> tuple[AnnexFile, ...]:
        """Files that are still to be downloaded."""
        return tuple(file for file in self.files if not file.present)

    @property
    def missing_bytes(self) -> int:
        """Bytes to download, as far as the keys tell."""
        return sum(file.n_bytes or 0 for file in self.missing)


def url_of(dataset: str) -> str:
    """Where a dataset is cloned from: https, unless ``COBE_FETCH_BASE`` names another place.

    Raises
    ------
    CobeError
        There is a password in that name: it would be shown, and kept in the clone.
    """
    base = os.environ.get(BASE_VARIABLE, BASE)
    scheme, _, place = base.partition("://")
    user = place.rpartition("@")[0]
    if user and (scheme.lower().startswith("http") or ":" in user):
        raise CobeError(
            f"{BASE_VARIABLE}: holds a user name or password, which would be shown and stored; "
            "take it out and leave it to a credential helper of git"
        )
    return f"{base.rstrip('/')}/{dataset}.git"


def annex_file(path: Path) -> AnnexFile:
    """A file, and the size that its git-annex key promises.

    A key reads ``MD5E-s<bytes>--<checksum>``; it is the target of the link, or the text of a
    pointer file.
    """
    absent = bool(why_absent(path))
    if path.is_symlink():
        key = os.readlink(path)
    elif absent and path.is_file():
        key = path.read_text(errors="replace")
    else:
        return AnnexFile(path, path.stat().st_size if path.is_file() else None, not absent)
    size = _KEY_SIZE.search(key)
    return AnnexFile(path, int(size[1]) if size else None, not absent)


def sessions_of(clone: Path, subject: str, limit: int | None) -> list[str]:
    """The first sessions of a subject that have key logs, in the order of their labels.

    Raises
    ------
    CobeError
        The subject is not in the clone, or has no session with key logs.
    """
    found = sorted(path.parent.name for path in (clone / subject).glob("ses-*/gamelogs"))
    if not found:
        raise CobeError(f"{clone}: no session of {subject} with key logs; check the subject")
    return found[:limit]


def raw_parts(clone: Path, subject: str, sessions: list[str]) -> list[Part]:
    """Key logs, and events tables that are in the annex, one part per session."""
    parts = []
    for session in sessions:
        folder = clone / subject / session
        wanted = sorted((folder / "gamelogs").glob("*.bk2"))
        wanted += sorted(
            path for path in (folder / "func").glob("*_events.tsv") if "_desc-" not in path.name
        )
        files = tuple(annex_file(path) for path in wanted)
        parts.append(Part(f"{subject} {session} key logs and events", clone, files))
    return parts


def fmriprep_parts(clone: Path, subject: str, sessions: list[str], space: str) -> list[Part]:
    """BOLD, brain mask and confounds of every run of the sessions, one part per session.

    Raises
    ------
    CobeError
        The subject has no BOLD in that space.
    """
    ends = (
        f"_space-{space}_desc-preproc_bold.nii.gz",
        f"_space-{space}_desc-preproc_bold.json",
        f"_space-{space}_desc-brain_mask.nii.gz",
        "_desc-confounds_timeseries.tsv",
        "_desc-confounds_timeseries.json",
    )
    parts = []
    for session in sessions:
        names = sorted((clone / subject / session / "func").glob("*"))
        files = tuple(annex_file(path) for path in names if path.name.endswith(ends))
        parts.append(Part(f"{subject} {session} BOLD, masks, confounds ({space})", clone, files))
    if not any(file.path.name.endswith(ends[0]) for part in parts for file in part.files):
        spaces = sorted(
            {
                name.split("_space-")[1].split("_")[0]
                for name in (p.name for p in (clone / subject).glob("ses-*/func/*_bold.nii.gz"))
                if "_space-" in name
            }
        )
        raise CobeError(
            f"{clone}: no BOLD of {subject} in space {space!r}; "
            f"--space takes one of {', '.join(spaces) or 'none'}"
        )
    return parts


def timeseries_parts(clone: Path, subject: str, atlas: str) -> list[Part]:
    """Extracted series of a subject in one atlas, with its label image.

    Raises
    ------
    CobeError
        There is no such atlas for the subject.
    """
    folders = sorted(
        path.parent.parent for path in clone.glob(f"**/{subject}/{subject}_*_timeseries.h5")
    )
    known = sorted({folder.name for folder in folders})
    chosen = sorted({folder for folder in folders if folder.name == atlas})
    if not chosen:
        raise CobeError(
            f"{clone}: no series {atlas!r} of {subject}; --timeseries takes one of "
            f"{', '.join(known) or 'none'}"
        )
    files = sorted(path for folder in chosen for path in (folder / subject).iterdir())
    return [Part(f"{subject} series ({atlas})", clone, tuple(annex_file(p) for p in files))]


def stimuli_part(clone: Path) -> Part:
    """What the emulator needs to know of the games, without their ROMs.

    The ROM is under copyright: the user brings a copy of their own.
    """
    games = sorted(path.parent for path in (clone / "stimuli").glob("*/rom.sha"))
    wanted = [
        path
        for game in games
        for path in sorted(game.iterdir())
        if not (path.stem == "rom" and path.suffix != ".sha") and not path.is_dir()
    ]
    return Part("game integration, without the ROM", clone, tuple(map(annex_file, wanted)))


def check_access(subject: str) -> None:
    """Say what a subject's data need before anything is cloned.

    Raises
    ------
    CobeError
        The subject has no shinobi data, or needs keys that are not in the environment.
    """
    if subject not in OPEN_SUBJECTS + CLOSED_SUBJECTS:
        raise CobeError(
            f"--subject {subject!r}: no such subject in shinobi; choose from "
            f"{', '.join(OPEN_SUBJECTS)} (open) and {', '.join(CLOSED_SUBJECTS)} (on agreement)"
        )
    if subject in CLOSED_SUBJECTS and not all(os.environ.get(name) for name in SECRETS[:2]):
        raise CobeError(
            f"--subject {subject}: shared on a data transfer agreement only; apply at "
            "https://www.cneuromod.ca/access/access/, then set AWS_ACCESS_KEY_ID and "
            f"AWS_SECRET_ACCESS_KEY in the environment; {', '.join(OPEN_SUBJECTS)} are open"
        )


def check_disk(folder: Path, n_bytes: int) -> None:
    """Make sure that what is to be downloaded fits.

    Raises
    ------
    CobeError
        The disk has less room than that, with one gigabyte to spare.
    """
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    free = shutil.disk_usage(there).free
    if n_bytes + 1e9 > free:
        raise CobeError(
            f"{folder}: {size_text(n_bytes)} to download and {size_text(free)} free; ask for fewer "
            "--sessions, take --timeseries, or give another --dest"
        )


def size_text(n_bytes: float) -> str:
    """Bytes in decimal units, as disks are sold."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes:.0f} bytes"


class DataLad:
    """Runs DataLad and git-annex commands, with nothing secret in what is shown.

    Parameters
    ----------
    with_keys : bool
        Let the commands see the S3 keys of the environment; otherwise they are taken out.
    say : callable
        Takes one line of text.
    """

    def __init__(self, with_keys: bool, say: Callable[[str], None]):
        self._say = say
        self._secrets = [os.environ[name] for name in SECRETS if os.environ.get(name)]
        env = environment(with_keys)
        for name in ("datalad", "git-annex", "git"):
            if shutil.which(name, path=env["PATH"]) is None:
                raise CobeError(
                    f"{name}: not found; install it (git by your system, the others by "
                    "pip install datalad git-annex) and run again"
                )
        self._env = env | identity(env)

    def clone(self, dataset: str, path: Path) -> None:
        """Clone a dataset, without any content and any sub-dataset; one that is there is kept.

        Raises
        ------
        CobeError
            Something else is in the way, or the clone fails.
        """
        if path.is_dir() and (path / ".git").exists():
            return
        if path.exists() or path.is_symlink():
            raise CobeError(f"{path}: in the way of the clone and no DataLad dataset; move it")
        draft = path.with_name(f".cloning-{path.name}")
        _remove_clone(draft)
        path.parent.mkdir(parents=True, exist_ok=True)
        code, lines = self._run(["datalad", "clone", url_of(dataset), str(draft)], path.parent)
        if code:
            _remove_clone(draft)
            reason = next((line for line in reversed(lines) if line), "no reason given")
            raise CobeError(
                f"{url_of(dataset)}: cannot be cloned ({reason[:300]}); check the network and run "
                "the same command again"
            )
        draft.rename(path)

    def install_stimuli(self, clone: Path) -> bool:
        """Make the stimuli sub-dataset known, without content; True where it is there."""
        if not (clone / ".gitmodules").is_file():
            return False
        self._run(["datalad", "get", "-n", "stimuli"], clone)
        return (clone / "stimuli" / ".git").exists()

    def get(self, part: Part, jobs: int) -> list[str]:
        """Download what is missing of a part; problems, one line per file, empty if all is there.

        One file that cannot be had stops no other one.
        """
        if not part.missing:
            return []
        names = [str(file.path.relative_to(part.clone)) for file in part.missing]
        _, lines = self._run(["datalad", "get", f"-J{jobs}", "--", *names], part.clone)
        errors = {
            name: line for line in lines for name in names if name in line and "error" in line
        }
        return [
            f"{path.path}: {errors.get(name, 'not downloaded')}"
            for name, path in zip(names, part.missing, strict=True)
            if why_absent(path.path)
        ]

    def enable_s3(self, clone: Path) -> None:
        """Let git-annex use the lab's S3 remotes of a dataset, with the keys at hand.

        Raises
        ------
        CobeError
            A remote is on another host than the lab's: the keys are not sent there.
        """
        code, lines = self._run(["git", "show", "git-annex:remote.log"], clone, quiet=True)
        for line in [] if code else lines:
            fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
            # the bucket of what nobody may share needs an agreement of its own
            if fields.get("type") != "S3" or "sensitive" in fields.get("bucket", ""):
                continue
            name, host = fields.get("name", ""), fields.get("host", "")
            if host != S3_HOST:
                raise CobeError(
                    f"{clone}: its S3 remote {name!r} is on {host!r}, not on {S3_HOST}; your keys "
                    "are not sent there: ask the data manager"
                )
            _, answer = self._run(["git", "annex", "enableremote", name], clone)
            # recent versions want a word that the place is the expected one, which it is
            for verify in (line.split() for line in answer if "verifyremote" in line):
                if "--safe" in verify:
                    self._run(["git", "annex", "verifyremote", name, "--safe", verify[-1]], clone)

    def _run(self, command: list[str], folder: Path, quiet: bool = False) -> tuple[int, list[str]]:
        lines = []
        with subprocess.Popen(
            command,
            cwd=folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                for line in process.stdout:
                    line = line.rstrip()
                    for secret in self._secrets:
                        line = line.replace(secret, "***")
                    lines.append(line)
                    if not quiet:
                        self._say(f"    {line}")
            except BaseException:  # nothing goes on behind the back of a user who ended this
                process.terminate()
                raise
        return process.returncode, lines


def keys_folder(clone: Path) -> Path:
    """Where a git-annex that knows no ``annex.cachecreds`` keeps a copy of the keys of a clone."""
    return clone / ".git" / "annex" / "creds"


def forget_keys(clone: Path) -> None:
    """Remove the copy of the keys that git-annex keeps in a clone for later."""
    shutil.rmtree(keys_folder(clone), ignore_errors=True)


def _remove_clone(path: Path) -> None:
    """Remove a clone that was cut off; git-annex makes its folders read-only."""
    if path.is_dir():
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o700)
        shutil.rmtree(path)
