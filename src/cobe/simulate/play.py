"""Simulated participants play Airstriker in the real emulator and are recorded as real .bk2."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import stable_retro as retro

from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.core.timing import FRAME_STRIDE
from cobe.simulate.objects import WIDTH, Scene, segment
from cobe.simulate.savestate import portable_state
from cobe.stimulus.bk2 import BUTTONS
from cobe.stimulus.playback import check_rom

GAME = "Airstriker-Genesis-v0"
THUMB = (56, 80)
N_BUTTONS = len(BUTTONS)
FIRE, START, LEFT, RIGHT = (BUTTONS.index(name) for name in ("B", "START", "LEFT", "RIGHT"))
LEVELS = ("1", "4", "5")
PLAYING = 9  # value of the game's own state variable while the ship flies

_SCOUT_FRAMES = 100 * 60
_BANK_EVERY_STEPS = 30
_EARLY_S, _LATE_S = 4.0, 12.0  # seconds into a life
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Player:
    """How somebody plays; every probability is per decision, 15 times a second.

    Attributes
    ----------
    dodge : float
        Moves away from a near hazard in its column.
    line_up : float
        Moves under an enemy.
    change : float
        Picks a new direction.
    fire_duty : float
        Share of time spent in firing spells.
    idle : float
        Starts a spell of doing nothing.
    temperature : float
        An action is replaced by a random one.
    """

    dodge: float
    line_up: float
    change: float
    fire_duty: float
    idle: float
    temperature: float


# Careful, hunter, restless, easy-going: the temperaments that participants are drawn around.
_TEMPERAMENTS = (
    Player(0.80, 0.10, 0.04, 0.65, 0.004, 0.04),
    Player(0.55, 0.45, 0.06, 0.90, 0.002, 0.05),
    Player(0.50, 0.15, 0.25, 0.75, 0.003, 0.10),
    Player(0.35, 0.20, 0.05, 0.45, 0.015, 0.08),
)
_SCOUT = Player(0.90, 0.15, 0.04, 0.80, 0.0, 0.02)


def player_of(seed: int, index: int, subject: str) -> Player:
    """The participant's way to play, the same in all runs of a dataset.

    Parameters
    ----------
    seed : int
        Seed of the plan.
    index : int
        Position of the participant in the plan; chooses the temperament.
    subject : str
        Label of the participant; seeds the individual difference.
    """
    base = _TEMPERAMENTS[index % len(_TEMPERAMENTS)]
    factor = rng_for(seed, "player", subject).uniform(0.85, 1.15, 6)
    values = np.array([base.dodge, base.line_up, base.change, base.fire_duty, base.idle])
    return Player(*np.minimum(values * factor[:5], 0.95).tolist(), base.temperature * factor[5])


@dataclass(frozen=True)
class Play:
    """One repetition as it was seen, 15 times a second.

    Attributes
    ----------
    buttons : bool array, shape (n_frames, 12)
        Keys held during every emulated frame, in stable-retro's order.
    scenes : list of Scene, length n_steps
        Step j is the screen after frame 4 j.
    thumbs : uint8 array, shape (n_steps, 56, 80)
        Grey screen at steps, averaged over 4 x 4 pixels.
    score, lives, state : int64 arrays, shape (n_steps,)
        The game's own variables at steps.
    """

    buttons: np.ndarray
    scenes: list
    thumbs: np.ndarray
    score: np.ndarray
    lives: np.ndarray
    state: np.ndarray


class Policy:
    """Chooses keys from what is on the screen.

    Parameters
    ----------
    player : Player
    rng : numpy.random.Generator
    """

    def __init__(self, player: Player, rng: np.random.Generator):
        self.player = player
        self.rng = rng
        self.temperature = player.temperature * rng.uniform(0.5, 2.0)
        self.direction = 0
        self.firing = rng.random() < player.fire_duty
        self.idle_steps = 0
        self.wait_steps = 0
        self.step = 0

    def __call__(self, scene: Scene) -> np.ndarray:
        """Keys for the next four frames, uint8 (12,)."""
        keys = np.zeros(N_BUTTONS, np.uint8)
        self.step += 1
        chance = self.rng.random(7)
        if scene.title or scene.menu:
            self._leave_menu(scene, keys, chance[0])
            return keys
        self.wait_steps = 0
        if self.idle_steps > 0:
            self.idle_steps -= 1
            return keys
        if chance[0] < self.player.idle:
            self.idle_steps = int(self.rng.integers(7, 40))
            return keys
        self._steer(scene, chance)
        if self.direction:
            keys[LEFT if self.direction < 0 else RIGHT] = 1
        # A firing spell ends, or starts, about every 2 s; inside one the key is pressed and let go.
        if chance[5] < 1 / 30:
            self.firing = self.rng.random() < self.player.fire_duty
        keys[FIRE] = self.firing and self.step % 4 < 2
        return keys

    def _leave_menu(self, scene: Scene, keys: np.ndarray, chance: float) -> None:
        """After the last life: wait a moment, then start a new game."""
        if self.wait_steps == 0:
            self.wait_steps = int(6 + 12 * chance)
        self.wait_steps = max(self.wait_steps - 1, 1)
        if self.wait_steps == 1 and self.step % 4 < 2:
            keys[START if scene.title else FIRE] = 1

    def _steer(self, scene: Scene, chance: np.ndarray) -> None:
        ship = scene.ship
        if ship is None:
            return
        if chance[1] < self.temperature:
            self.direction = int(self.rng.integers(-1, 2))
            return
        ahead = scene.hazards - ship
        near = ahead[(np.abs(ahead[:, 0]) < 26) & (ahead[:, 1] > -95) & (ahead[:, 1] < 16)]
        if len(near):
            if chance[2] < self.player.dodge:
                away = -np.sign(near[np.argmax(near[:, 1]), 0]) or np.sign(WIDTH / 2 - ship[0])
                if ship[0] < 24:
                    away = 1
                elif ship[0] > WIDTH - 24:
                    away = -1
                self.direction = int(away)
            return
        beside = ahead[(np.abs(ahead[:, 0]) < 48) & (ahead[:, 1] > -60) & (ahead[:, 1] < 16)]
        if len(beside) and chance[2] < self.player.dodge:
            # Do not run into what flies beside the ship.
            if self.direction and np.any(np.sign(beside[:, 0]) == self.direction):
                self.direction = 0
            return
        enemies = scene.objects["enemy"]
        if len(enemies) and chance[3] < self.player.line_up:
            dx = enemies[np.argmin(np.abs(enemies[:, 0] - ship[0])), 0] - ship[0]
            self.direction = 0 if abs(dx) < 6 else int(np.sign(dx))
        elif chance[4] < self.player.change:
            self.direction = int(self.rng.integers(-1, 2))


class Emulator:
    """The emulator with Airstriker in it; one per process, to be closed (a context manager).

    Raises
    ------
    CobeError
        The ROM is missing, or this process holds another emulator.
    """

    def __init__(self):
        check_rom(GAME)
        cv2.setNumThreads(1)
        try:
            self._env = retro.make(
                GAME, use_restricted_actions=retro.Actions.ALL, render_mode="rgb_array"
            )
        except RuntimeError as error:
            raise CobeError(f"emulator: {error}; one process holds one emulator") from None
        self.start_state = self._env.initial_state

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Give the process's one emulator back."""
        self._env.close()

    def play(
        self,
        state: bytes,
        n_frames: int,
        policy: Policy,
        bk2: Path | None = None,
        watch=None,
    ) -> Play:
        """Play from a savestate, recorded by stable-retro's own movie recorder.

        As in the scanner's task the emulator is reset first (the state is loaded and one frame
        runs without keys) and the file is opened afterwards: line i of the key log is frame i.

        Parameters
        ----------
        state : bytes
            Savestate to start from; stored in the movie.
        n_frames : int
            Frames to play, at 60 Hz.
        policy : Policy
            Asked every fourth frame; the first answer acts from frame 1 on.
        bk2 : Path or None
            Where to record.
        watch : callable or None
            Called as ``watch(step, scene, state, savestate)`` at every step, where
            `savestate` is a function that gives the emulator's present state.

        Returns
        -------
        play : Play
        """
        em, data = self._env.em, self._env.data
        keys = np.zeros(N_BUTTONS, np.uint8)
        em.set_state(state)
        em.set_button_mask(keys, 0)
        em.step()
        movie = None
        if bk2 is not None:
            movie = retro.Movie(str(bk2), True, 1)
            movie.configure(GAME, em)
            movie.set_state(state)
        buttons = np.zeros((n_frames, N_BUTTONS), bool)
        scenes, thumbs, variables = [], [], []
        for frame in range(n_frames):
            buttons[frame] = keys
            if movie is not None:
                for button in range(N_BUTTONS):
                    movie.set_key(button, bool(keys[button]), 0)
                movie.step()
            em.step()
            if frame % FRAME_STRIDE:
                continue
            screen = em.get_screen()
            grey = cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY)
            scene = segment(screen, grey)
            data.update_ram()
            values = data.lookup_all()
            scenes.append(scene)
            thumbs.append(cv2.resize(grey, THUMB[::-1], interpolation=cv2.INTER_AREA))
            variables.append((values["score"], values["lives"], values["gameover"]))
            if watch is not None:
                watch(len(scenes) - 1, scene, values["gameover"], em.get_state)
            keys = policy(scene)
            em.set_button_mask(keys, 0)
        if movie is not None:
            movie.close()
            _fix_dates(bk2)
        score, lives, game_state = np.array(variables, np.int64).T
        return Play(buttons, scenes, np.stack(thumbs), score, lives, game_state)


def _fix_dates(bk2: Path) -> None:
    """Write the movie's zip again with one date, so that the same play gives the same bytes."""
    with zipfile.ZipFile(bk2) as movie:
        members = [(info.filename, movie.read(info)) for info in movie.infolist()]
    with zipfile.ZipFile(bk2, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as movie:
        for name, content in members:
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o666 << 16
            movie.writestr(info, content)


def bank_states(seed: int) -> dict[str, list[bytes]]:
    """Savestates that repetitions start from, from the seeded play of a careful scout.

    Level 1 starts where the game itself starts. Levels 4 and 5 start from moments of the scout's
    play: 4 to 12 s into a life in the game's first stage; after that, or in the stages beyond.

    Parameters
    ----------
    seed : int
        Seed of the plan.

    Returns
    -------
    bank : dict of str to list of bytes
        Level to zlib-compressed savestates, at least one each.
    """
    bank = {level: [] for level in LEVELS}
    born, beyond = 0, False

    def watch(step, scene, state, savestate):
        nonlocal born, beyond
        if scene.title:
            beyond = False
        elif scene.menu and state == PLAYING:
            beyond = True  # "Warping to level 2"
        if state != PLAYING or scene.ship is None or scene.title or scene.menu:
            born = step
            return
        age_s = (step - born) / 15
        if step % _BANK_EVERY_STEPS:
            return
        level = "4" if _EARLY_S <= age_s < _LATE_S and not beyond else "5"
        if age_s >= _EARLY_S:
            state_now = portable_state(savestate(), emulator.start_state)
            bank[level].append(zlib.compress(state_now, 6))

    with Emulator() as emulator:
        bank["1"].append(zlib.compress(emulator.start_state, 1))
        policy = Policy(_SCOUT, rng_for(seed, "scout"))
        emulator.play(emulator.start_state, _SCOUT_FRAMES, policy, watch=watch)
    for level, states in bank.items():
        if not states:
            raise CobeError(
                f"simulated play: the scout of seed {seed} never lived long enough for level "
                f"{level}; choose another seed of the plan"
            )
    return bank
