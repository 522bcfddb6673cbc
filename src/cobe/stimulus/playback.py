"""Playback: a key log and the user's own ROM, through the emulator, give the frames seen.

The loop is the one of stable-retro (reset to the recorded state, then one step per log line) and
equals it frame for frame; it drives the emulator without the gym layer, which costs a quarter of
the speed.
"""

import contextlib
import re
import shlex
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import stable_retro as retro

from cobe.core.errors import CobeError
from cobe.stimulus.bk2 import Movie, read_bk2
from cobe.stimulus.frames import write_frames

PIECE_FRAMES = 256
"""Frames held in memory at once while decoding: 48 MiB at 256 x 256."""


ENDINGS = {
    "ShinobiIIIReturnOfTheNinjaMaster-Genesis": {"lives": -1, "section": 1, "score": 1501},
}
"""How a play of a game ends, by its name without version: a life is lost, the next section comes,
or the score leaps by more than 1500. Each is the change of a variable of the integration's
``data.json`` from one frame to the next, at least so large and of that sign."""

END_FRAMES = 4
"""The end of a play comes within so many last frames of its replay."""


def _base(game: str) -> str:
    return re.sub(r"-v\d+$", "", game)


@contextlib.contextmanager
def _integrations(stimuli):
    """stable-retro's set of integrations: its own games, or those of a folder and no other."""
    if stimuli is None:
        yield retro.data.Integrations.STABLE
        return
    integrations = retro.data.Integrations
    before = list(getattr(integrations, "CUSTOM_PATHS", []))
    integrations.clear_custom_paths()
    integrations.add_custom_path(str(Path(stimuli).absolute()))
    try:
        yield integrations.CUSTOM_ONLY
    finally:
        integrations.clear_custom_paths()
        for path in before:
            integrations.add_custom_path(path)


def installed_game(game: str, stimuli=None) -> str:
    """Name under which stable-retro, or a folder of custom integrations, knows a game today.

    Recordings made before stable-retro 1.0 name it without the version, such as
    ``ShinobiIIIReturnOfTheNinjaMaster-Genesis``.

    Parameters
    ----------
    game : str
        Name of a recording.
    stimuli : str, Path or None
        Folder of custom integrations, one folder per game, such as the dataset's ``stimuli``;
        None: the games of stable-retro.

    Raises
    ------
    CobeError
        No game of that name is known.
    """
    with _integrations(stimuli) as kind:
        for name in (game, _base(game), f"{_base(game)}-v0"):
            # The name comes from a file: it may not wander through the file system.
            if re.fullmatch(r"[\w-]+", name) and retro.data.get_file_path(name, "rom.sha", kind):
                return name
    where = f"stable-retro {retro.__version__}" if stimuli is None else stimuli
    raise CobeError(f"game {game!r}: unknown to {where}; check the name")


def check_rom(game: str, stimuli=None) -> Path:
    """Path of the ROM of a game, after checking that it is the right one.

    Parameters
    ----------
    game : str
        Name of a recording or of stable-retro.
    stimuli : str, Path or None
        As in `installed_game`.

    Returns
    -------
    rom : Path

    Raises
    ------
    CobeError
        The game is unknown, its ROM is missing, or another ROM lies in its place (SHA-1).
    """
    name = installed_game(game, stimuli)
    remedy = (
        "import your own legal copy: python -m stable_retro.import DIR (DIR holds the ROM, such as "
        "the dataset's stimuli folder)"
    )
    if stimuli is not None:
        rom = Path(stimuli) / name / "rom.md"
        place = shlex.quote(str(rom))
        remedy = f"put your own legal copy there: cp -L --remove-destination YOUR_ROM {place}"
    try:
        with _integrations(stimuli) as kind:
            rom = Path(retro.data.get_romfile_path(name, kind))
            wrong = retro.data.verify_hash(name, kind)
    except OSError:
        raise CobeError(f"game {name}: its ROM is missing; {remedy}") from None
    if wrong:
        raise CobeError(f"{rom}: not the ROM that {name} expects (SHA-1 differs); {remedy}")
    return rom


@contextlib.contextmanager
def _emulator(movie: Movie, stimuli):
    """A reset emulator at the start of the movie; closed at the end, whatever happens."""
    name = installed_game(movie.game, stimuli)
    check_rom(name, stimuli)
    try:
        with _integrations(stimuli) as kind:
            env = retro.make(
                name,
                state=retro.State.NONE,
                inttype=kind,
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


def _pressed(movie: Movie, skip_first_line: bool) -> np.ndarray:
    # The emulator reads a mask as twelve bytes in a row and ignores strides.
    buttons = movie.buttons[int(skip_first_line) :].astype(np.uint8, order="C")
    if not len(buttons):
        raise CobeError(f"{movie.path}: holds no frame to play; leave the recording out")
    return buttons


def ending(
    path,
    skip_first_line: bool = False,
    stimuli=None,
    endings: Mapping[str, int] | None = None,
) -> str | None:
    """How a replay ends: the check that it is still in step with what was played.

    It is played to its end, without making frames, and the variables of the game are read on its
    last frames. A replay that is out of step (a line too many or too few, another game's state)
    seldom has its last life lost, or its level won, just there.

    Parameters
    ----------
    path : str or Path
        A `.bk2` file.
    skip_first_line, stimuli
        As in `iter_frames`.
    endings : mapping of str to int or None
        Variable of the game to its change from one frame to the next that ends a play; None: those
        of `ENDINGS` for the game.

    Returns
    -------
    variable : str or None
        The variable that changed within the last `END_FRAMES` frames; "" where none did; None
        where none did and nothing can be told: there is no known ending for the game, or its
        integration lacks one of the variables.

    Raises
    ------
    CobeError
        As `read_bk2` and `iter_frames`.
    """
    movie = read_bk2(path)
    endings = ENDINGS.get(_base(movie.game), {}) if endings is None else endings
    if not endings:
        return None
    buttons = _pressed(movie, skip_first_line)
    values = deque(maxlen=END_FRAMES + 1)
    with _emulator(movie, stimuli) as env:
        for i, mask in enumerate(buttons):
            env.em.set_button_mask(mask, 0)
            env.em.step()
            if i >= len(buttons) - END_FRAMES - 1:
                env.data.update_ram()
                values.append(dict(env.data.lookup_all()))
    for variable, change in endings.items():
        series = [value[variable] for value in values if variable in value]
        steps = np.diff(np.array(series, np.int64))
        if (steps * np.sign(change) >= abs(change)).any():
            return variable
    return "" if all(variable in values[-1] for variable in endings) else None


def iter_frames(
    movie: Movie,
    size: int | None,
    skip_first_line: bool = False,
    piece: int = PIECE_FRAMES,
    stimuli=None,
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
    stimuli : str, Path or None
        Folder of custom integrations that holds the game, as in `installed_game`.

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
    buttons = _pressed(movie, skip_first_line)
    cv2.setNumThreads(1)
    with _emulator(movie, stimuli) as env:
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


def play(path, size: int | None, skip_first_line: bool = False, stimuli=None) -> np.ndarray:
    """Play a recording into memory.

    Parameters
    ----------
    path : str or Path
        A `.bk2` file.
    size, skip_first_line, stimuli
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
    frames = iter_frames(read_bk2(path), size, skip_first_line, stimuli=stimuli)
    return np.concatenate(list(frames))


def decode(path, out_path, size: int | None, skip_first_line: bool = False, stimuli=None) -> int:
    """Play a recording straight into a frame store; memory stays bounded by a piece.

    Parameters
    ----------
    path : str or Path
        A `.bk2` file.
    out_path : str or Path
        Frame store to make.
    size, skip_first_line, stimuli
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
    frames = iter_frames(read_bk2(path), size, skip_first_line, stimuli=stimuli)
    with contextlib.closing(frames):
        return write_frames(out_path, frames)
