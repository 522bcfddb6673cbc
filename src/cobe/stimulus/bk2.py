"""Key logs (`.bk2`): who pressed what on which frame, read without ROM or emulator.

A `.bk2` of stable-retro is a zip with three members: `Header.txt` (names the game),
`Input Log.txt` (one line per emulated frame) and `Core.bin` (the emulator's state before
the first frame).
"""

import hashlib
import shlex
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cobe.core.errors import CobeError

BUTTONS = ("B", "A", "MODE", "START", "UP", "DOWN", "LEFT", "RIGHT", "C", "Y", "X", "Z")
"""The buttons of a Genesis pad in the order of stable-retro: the columns of `Movie.buttons`."""

LETTERS = dict(zip(BUTTONS, "BAMSUDLRCYXZ", strict=True))
"""The letter that marks a pressed button in a log line."""

MAX_MEMBER_BYTES = 64 * 2**20
"""Largest accepted size of an unpacked member: 64 MiB is 18 hours of play."""

_MEMBERS = ("Header.txt", "Input Log.txt", "Core.bin")
_REMEDY = "the recording was damaged or never finished: get or make it again, or leave it out"
# What zipfile raises on damaged bytes, besides OSError.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class Movie:
    """One recorded play.

    Attributes
    ----------
    path : Path
        The `.bk2` file.
    game : str
        The game as the recording names it, such as ``"Airstriker-Genesis-v0"``.
    buttons : ndarray of bool, shape (n_frames, 12)
        Pressed buttons on each 60 Hz frame; columns as `BUTTONS`.
    state : bytes
        State of the emulator before the first frame.
    """

    path: Path
    game: str
    buttons: np.ndarray = field(repr=False)
    state: bytes = field(repr=False)

    @property
    def n_frames(self) -> int:
        """Lines of the log, one per emulated frame."""
        return len(self.buttons)

    @property
    def digest(self) -> str:
        """SHA-256 of buttons and start state: the same play, whatever the zip around it."""
        content = hashlib.sha256(np.packbits(self.buttons, axis=None).tobytes())
        content.update(b"%d %s" % (self.n_frames, self.game.encode()))
        content.update(self.state)
        return content.hexdigest()


def read_bk2(path) -> Movie:
    """Read a recording: game, buttons and start state.

    Columns are found by the names in the log's key line, since their order differs between
    builds of stable-retro.

    Parameters
    ----------
    path : str or Path
        A `.bk2` file of one player on a Genesis pad.

    Returns
    -------
    movie : Movie

    Raises
    ------
    CobeError
        The file is missing, not downloaded, no zip, cut short or damaged, lacks a member, unpacks
        to more than 64 MiB, or its log is not one of a single Genesis pad.
    """
    path = Path(path)
    members = _read_members(path)
    game = _game(members["Header.txt"], path)
    buttons = _buttons(members["Input Log.txt"], path)
    if not members["Core.bin"]:
        raise CobeError(f"{path}: Core.bin (the start state) is empty; {_REMEDY}")
    return Movie(path, game, buttons, members["Core.bin"])


def _read_members(path: Path) -> dict[str, bytes]:
    try:
        with path.open("rb") as file:
            start = file.read(32)
            if start.startswith((b"/annex/objects/", b"../")):
                raise CobeError(f"{path}: a git-annex pointer; {_download(path)}")
            if not start:
                raise CobeError(f"{path}: empty file; {_REMEDY}")
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                return {name: _read_member(archive, name, path) for name in _MEMBERS}
    except FileNotFoundError:
        if path.is_symlink():
            raise CobeError(f"{path}: not downloaded; {_download(path)}") from None
        raise CobeError(f"{path}: no such file; check the path") from None
    except OSError as error:
        reason = error.strerror or error
        raise CobeError(f"{path}: cannot be read ({reason}); check the file") from None
    except _DAMAGE as error:
        raise CobeError(f"{path}: not a whole .bk2 zip ({error}); {_REMEDY}") from None


def _download(path: Path) -> str:
    folder = shlex.quote(str(path.absolute().parent))
    return f"run: cd {folder} && datalad get {shlex.quote(path.name)}"


def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    entries = [entry for entry in archive.infolist() if entry.filename == name]
    if len(entries) != 1:
        found = "missing" if not entries else f"there {len(entries)} times"
        raise CobeError(f"{path}: member {name!r} is {found}; {_REMEDY}")
    # The declared size is a claim of the file, so it is checked before and while unpacking.
    too_large = CobeError(
        f"{path}: member {name!r} unpacks to more than {MAX_MEMBER_BYTES >> 20} MiB; "
        "this is no recording of a play: leave it out"
    )
    if entries[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CobeError(f"{path}: member {name!r} is packed in an unusual way; {_REMEDY}")
    if entries[0].file_size > MAX_MEMBER_BYTES:
        raise too_large
    with archive.open(entries[0]) as member:
        content = member.read(MAX_MEMBER_BYTES + 1)
    if len(content) > MAX_MEMBER_BYTES:
        raise too_large
    if len(content) != entries[0].file_size:
        raise CobeError(f"{path}: member {name!r} is cut short; {_REMEDY}")
    return content


def _game(header: bytes, path: Path) -> str:
    for line in header.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition(" ")
        if key == "GameName" and value.strip():
            return value.strip()
    raise CobeError(f"{path}: Header.txt names no game (GameName); {_REMEDY}")


def _buttons(log: bytes, path: Path) -> np.ndarray:
    lines = log.replace(b"\r\n", b"\n").split(b"\n")
    if lines[0].strip() != b"[Input]":
        raise CobeError(f"{path}: Input Log.txt does not start with [Input]; {_REMEDY}")
    while lines and not lines[-1].strip():
        lines.pop()
    if lines[-1].strip() != b"[/Input]":
        raise CobeError(f"{path}: Input Log.txt does not end with [/Input]; {_REMEDY}")
    columns = _columns(lines[1], path)
    frames = lines[2:-1]
    if not frames:
        raise CobeError(f"{path}: Input Log.txt holds no frame; {_REMEDY}")

    width = len("|..|") + len(columns) + len("|")
    for number, line in enumerate(frames, start=3):
        if len(line) != width:
            raise CobeError(
                f"{path}: Input Log.txt line {number} has {len(line)} characters, "
                f"expected {width}; {_REMEDY}"
            )
    table = np.frombuffer(b"".join(frames), np.uint8).reshape(len(frames), width)
    blank = np.frombuffer(b"|..|" + b"." * len(columns) + b"|", np.uint8)
    pressed_row = blank.copy()
    pressed_row[4:-1] = [ord(LETTERS[name]) for name in columns]
    pressed = table == pressed_row
    bad = ~(pressed | (table == blank))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise CobeError(
            f"{path}: Input Log.txt line {row + 3} has {chr(table[row, column])!r} at character "
            f"{column + 1}, expected {chr(blank[column])!r} or {chr(pressed_row[column])!r}; "
            f"{_REMEDY}"
        )
    # Picking columns leaves them strided; a row must lie in one piece for the emulator.
    return np.ascontiguousarray(pressed[:, [4 + columns.index(name) for name in BUTTONS]])


def _columns(key_line: bytes, path: Path) -> Sequence[str]:
    """Button of each column, from a key line such as ``LogKey:#Reset|Power|#P1 Up|P1 B|...``.

    The Reset and Power columns are the two characters before the pad and stand in their own
    field; stable-retro 1.0 writes the line without them and without ``LogKey:``.
    """
    text = key_line.decode("ascii", "replace").strip().removeprefix("LogKey:")
    names = [name.strip().lstrip("#") for name in text.split("|")]
    names = [name for name in names if name not in ("", "Reset", "Power")]
    if any(name.startswith("P2 ") for name in names):
        raise CobeError(f"{path}: recorded with two players; cobe reads one-player recordings")
    columns = [name.removeprefix("P1 ").upper() for name in names]
    if sorted(columns) != sorted(BUTTONS):
        raise CobeError(
            f"{path}: the key line of Input Log.txt does not name the 12 buttons of a Genesis "
            f"pad once each; {_REMEDY}"
        )
    return columns
