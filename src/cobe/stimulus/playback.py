"""Playback: a key log and the user's own ROM, through the emulator, give the frames seen.

The loop is the one of stable-retro (reset to the recorded state, then one step per log line) and
equals it frame for frame; it drives the emulator without the gym layer, which costs a quarter of
the speed.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import stable_retro as retro

from cobe.core.errors import CobeError
from cobe.stimulus.bk2 import Movie, read_bk2
from cobe.stimulus.frames import write_frames

PIECE_FRAMES = 256
"""Frames held in memory at once while decoding: 48 MiB at 256 x 256."""


def installed_game(game: str) -> str:
    """Name under which stable-retro knows a game today.

    Recordings made before stable-retro 1.0 name it without the version, such as
    ``ShinobiIIIReturnOfTheNinjaMaster-Genesis``.

    Parameters
    ----------
    game : str
        Name of a recording.

    Raises
    ------
    CobeError
        No game of that name is known.
    """
    base = re.sub(r"-v\d+$", "", game)
    for name in (game, base, f"{base}-v0"):
        # The name comes from a file: it may not wander through the file system.
        if re.fullmatch(r"[\w-]+", name) and retro.data.get_file_path(name, "rom.sha"):
            return name
    raise CobeError(f"game {game!r}: unknown to stable-retro {retro.__version__}; check the name")


def check_rom(game: str) -> Path:
    """Path of the ROM of a game, after checking that it is the right one.

    Parameters
    ----------
    game : str
        Name of a recording or of stable-retro.

    Returns
    -------
    rom : Path

    Raises
    ------
    CobeError
        The game is unknown, its ROM is missing, or another ROM lies in its place (SHA-1).
    """
    name = installed_game(game)
    remedy = (
        "import your own legal copy: python -m stable_retro.import DIR (DIR holds the ROM, such as "
        "the dataset's stimuli folder)"
    )
    try:
        rom = Path(retro.data.get_romfile_path(name))
        wrong = retro.data.verify_hash(name)
    except OSError:
        raise CobeError(f"game {name}: its ROM is missing; {remedy}") from None
    if wrong:
        raise CobeError(f"{rom}: not the ROM that {name} expects (SHA-1 differs); {remedy}")
    return rom


@contextlib.contextmanager
def _emulator(movie: Movie):
    """A reset emulator at the start of the movie; closed at the end, whatever happens."""
    name = installed_game(movie.game)
    check_rom(name)
    try:
        env = retro.make(
            name,
            state=retro.State.NONE,
            use_restricted_actions=retro.Actions.ALL,
            render_mode="rgb_array",
        )
    except RuntimeError as error:
        raise CobeError(
            f"{movie.path}: no emulator ({error}); one process holds one emulator at a time"
        ) from None
    try:
        # A refused state would leave the emulator at power-on and the replay silently wrong.
        if not env.em.set_state(movie.state):
            raise CobeError(
                f"{movie.path}: the emulator refuses its start state (damaged, or recorded with "
                f"another emulator core than that of stable-retro {retro.__version__}); leave the "
                "recording out, or install the version it was made with"
            )
        env.initial_state = movie.state
        env.reset()
        yield env
    finally:
        env.close()


def iter_frames(
    movie: Movie, size: int | None, skip_first_line: bool = False, piece: int = PIECE_FRAMES
) -> Iterator[np.ndarray]:
    """Play a movie and give its frames piece by piece.

    Parameters
    ----------
    movie : Movie
        A recording, from `cobe.stimulus.bk2.read_bk2`.
    size : int or None
        Height and width of a frame in pixels, averaged over areas; None: as the console drew it.
    skip_first_line : bool
        Leave out the first log line: recorders that reset while recording write one line too many.
    piece : int
        Frames in a piece.

    Yields
    ------
    frames : ndarray of uint8, shape (<= piece, height, width, 3)
        RGB at 60 Hz; frame i is the screen after log line i.

    Raises
    ------
    CobeError
        No frame is left, the game or its ROM is missing, the emulator refuses the start state or
        is already in use in this process, or `size` is None and the console changes resolution.
    """
    if size is not None and size < 1:
        raise CobeError(f"size {size}: no frame size; give pixels, 1 or more")
    # The emulator reads a mask as twelve bytes in a row and ignores strides.
    buttons = movie.buttons[int(skip_first_line) :].astype(np.uint8, order="C")
    if not len(buttons):
        raise CobeError(f"{movie.path}: holds no frame to play; leave the recording out")
    cv2.setNumThreads(1)
    with _emulator(movie) as env:
        shape = env.get_screen(apply_rotation=True).shape if size is None else (size, size, 3)
        for start in range(0, len(buttons), piece):
            pressed = buttons[start : start + piece]
            frames = np.empty((len(pressed), *shape), np.uint8)
            for mask, frame in zip(pressed, frames, strict=True):
                env.em.set_button_mask(mask, 0)
                env.em.step()
                screen = env.get_screen(apply_rotation=True)
                if size is not None:
                    cv2.resize(screen, (size, size), dst=frame, interpolation=cv2.INTER_AREA)
                elif screen.shape == shape:
                    frame[:] = screen
                else:
                    raise CobeError(
                        f"{movie.path}: the console's resolution changes from {shape[:2]} to "
                        f"{screen.shape[:2]}; give a size to resize to"
                    )
            yield frames


def play(path, size: int | None, skip_first_line: bool = False) -> np.ndarray:
    """Play a recording into memory.

    Parameters
    ----------
    path : str or Path
        A `.bk2` file.
    size, skip_first_line
        As in `iter_frames`.

    Returns
    -------
    frames : ndarray of uint8, shape (n_frames, size, size, 3)
        RGB at 60 Hz.

    Raises
    ------
    CobeError
        As `read_bk2` and `iter_frames`.
    """
    return np.concatenate(list(iter_frames(read_bk2(path), size, skip_first_line)))


def decode(path, out_path, size: int | None, skip_first_line: bool = False) -> int:
    """Play a recording straight into a frame store; memory stays bounded by a piece.

    Parameters
    ----------
    path : str or Path
        A `.bk2` file.
    out_path : str or Path
        Frame store to make.
    size, skip_first_line
        As in `iter_frames`.

    Returns
    -------
    n_frames : int
        Frames written.

    Raises
    ------
    CobeError
        As `read_bk2`, `iter_frames` and `cobe.stimulus.frames.write_frames`.
    """
    # The emulator closes with the generator, also where writing fails in the middle.
    with contextlib.closing(iter_frames(read_bk2(path), size, skip_first_line)) as frames:
        return write_frames(out_path, frames)
