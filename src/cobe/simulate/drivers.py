"""Drivers of the planted brain: the screen, the hands, what is at stake, 15 times a second.

Everything is computed from the screen, the keys and the game's own variables, nothing from what a
network has learned. All drivers look at the present or the past, but those named "next": they
stand for a brain that foresees.
"""

from __future__ import annotations

import numpy as np

from cobe.core.timing import FRAME_STRIDE
from cobe.simulate.objects import HEIGHT, WIDTH
from cobe.simulate.play import FIRE, LEFT, RIGHT, START, Play

STEP_HZ = 15.0
GRID = (4, 6)
_DYING_BELOW = 3  # the game's state variable: 0, 1, 2 while the ship explodes, else above

_LOW = tuple(
    f"{kind}_{row}{column}"
    for kind in ("luminance", "contrast", "motion")
    for row in range(GRID[0])
    for column in range(GRID[1])
)
_OBJECT = (
    *(f"n_{name}" for name in ("ship", "enemy", "asteroid", "bullet", "shot", "explosion")),
    *(
        f"{name}_{row}{column}"
        for name in ("enemy", "asteroid", "bullet", "shot")
        for row in ("far", "near")
        for column in ("left", "middle", "right")
    ),
    *(f"ship_at_{i}" for i in range(5)),
)
_THREAT = (
    "nearest", "nearest_bullet", "n_ahead", "side", "left_near", "right_near", "enemy_lined_up",
)  # fmt: skip
_MOTOR = ("fire", "left", "right", "press_fire", "press_move", "turn", "start")
_EVENT = ("score_gain", "life_lost", "text", "dying", "off_game", "lives", "time_alive")
_ANTICIPATION = ("life_lost_next_1s", "life_lost_next_2s", "score_next_1s", "score_next_2s")
# Conjunctions: products of standardised drivers, standardised again.
PAIRS = (
    ("enemy_lined_up", "fire"),
    ("enemy_lined_up", "n_shot"),
    ("nearest", "left"),
    ("nearest", "right"),
    ("side", "ship_at_0"),
    ("side", "ship_at_4"),
    ("nearest_bullet", "n_enemy"),
    ("n_ahead", "lives"),
)
_RELATION = tuple(f"{a}*{b}" for a, b in PAIRS)
DRIVERS = {
    "low": _LOW,
    "object": _OBJECT,
    "threat": _THREAT,
    "relation": _RELATION,
    "motor": _MOTOR,
    "event": _EVENT,
    "anticipation": _ANTICIPATION,
}
SINGLE_NAMES = _LOW + _OBJECT + _THREAT + _MOTOR + _EVENT + _ANTICIPATION
DRIVER_NAMES = SINGLE_NAMES + _RELATION


def single_drivers(play: Play) -> np.ndarray:
    """Every driver but the conjunctions, at the steps of one repetition, in natural units.

    Parameters
    ----------
    play : Play

    Returns
    -------
    drivers : float32 array, shape (n_steps, len(SINGLE_NAMES))
    """
    drivers = np.concatenate(
        [
            _low_level(play.thumbs),
            _objects(play.scenes),
            _threat(play.scenes),
            _motor(play.buttons, len(play.scenes)),
            _events(play),
        ],
        axis=1,
    )
    assert drivers.shape[1] == len(SINGLE_NAMES)
    return drivers.astype(np.float32)


def _low_level(thumbs: np.ndarray) -> np.ndarray:
    """Luminance, contrast (spread) and motion (rms change since the last step) on the grid."""
    grey = thumbs.astype(np.float32) / 255
    rows, columns = GRID
    height, width = grey.shape[1] // rows, grey.shape[2] // columns
    grey = grey[:, : rows * height, : columns * width]

    def per_cell(image):
        cells = image.reshape(len(image), rows, height, columns, width)
        return cells.mean(axis=(2, 4)).reshape(len(image), -1)

    luminance = per_cell(grey)
    contrast = np.sqrt(np.maximum(per_cell(grey**2) - luminance**2, 0))
    motion = np.sqrt(per_cell(np.diff(grey, axis=0, prepend=grey[:1]) ** 2))
    return np.concatenate([luminance, contrast, motion], axis=1)


def _objects(scenes) -> np.ndarray:
    out = np.zeros((len(scenes), len(_OBJECT)))
    for step, scene in enumerate(scenes):
        found = scene.objects
        counts = [len(found[n]) for n in ("ship", "enemy", "asteroid", "bullet", "shot")]
        places = []
        for name in ("enemy", "asteroid", "bullet", "shot"):
            x, y = found[name].T
            cell = 3 * (y > HEIGHT / 2).astype(int) + np.clip(3 * x // WIDTH, 0, 2).astype(int)
            places.extend(np.bincount(cell, minlength=6))
        tuning = np.zeros(5)
        if scene.ship is not None:
            tuning = np.exp(-((scene.ship[0] / WIDTH - np.linspace(0.1, 0.9, 5)) ** 2) / 0.02)
        out[step] = [*counts, len(found["explosion"]), *places, *tuning]
    return out


def _threat(scenes) -> np.ndarray:
    out = np.zeros((len(scenes), len(_THREAT)))
    for step, scene in enumerate(scenes):
        if scene.ship is None:
            continue
        ahead = scene.hazards - scene.ship
        ahead = ahead[ahead[:, 1] < 20]
        distance = np.hypot(ahead[:, 0], ahead[:, 1])
        close = np.exp(-distance / 45)
        bullets = scene.objects["bullet"] - scene.ship
        enemies = scene.objects["enemy"] - scene.ship
        left, right = close[ahead[:, 0] < 0].sum(), close[ahead[:, 0] >= 0].sum()
        out[step] = [
            close.max(initial=0),
            np.exp(-np.hypot(bullets[:, 0], bullets[:, 1]) / 45).max(initial=0),
            (np.abs(ahead[:, 0]) < 24).sum(),
            right - left,
            left,
            right,
            (np.abs(enemies[:, 0]) < 16).any(),
        ]
    return out


def _motor(buttons: np.ndarray, n_steps: int) -> np.ndarray:
    """Keys and their switches; step j takes the frames since the last step, up to its own."""
    held = np.zeros((n_steps * FRAME_STRIDE, 4))
    keys = buttons[:, [FIRE, LEFT, RIGHT, START]].astype(float)
    # Frame 4 j belongs to step j together with the three frames before it.
    held[FRAME_STRIDE - 1 : FRAME_STRIDE - 1 + len(keys)] = keys[: len(held) - FRAME_STRIDE + 1]
    press = np.maximum(np.diff(held, axis=0, prepend=0), 0)
    fire, left, right, start = held.reshape(n_steps, FRAME_STRIDE, 4).mean(axis=1).T
    pressed = press.reshape(n_steps, FRAME_STRIDE, 4).sum(axis=1)
    direction = np.sign(right - left)
    turn = np.abs(np.diff(direction, prepend=direction[:1])) > 1
    return np.column_stack(
        [fire, left, right, pressed[:, 0], pressed[:, 1] + pressed[:, 2], turn, start]
    )


def _events(play: Play) -> np.ndarray:
    gain = np.clip(np.diff(play.score, prepend=play.score[:1]), 0, 100) / 20
    off = np.array([scene.title or scene.menu for scene in play.scenes])
    dying = (play.state < _DYING_BELOW) & ~off
    # A life is lost where the ship blows up, one second before the counter falls.
    before = np.concatenate([play.state[:1], play.state[:-1]])
    lost = (dying & (before >= _DYING_BELOW)).astype(float)
    text = np.array([scene.text_px > 40 for scene in play.scenes], float)
    alive = np.zeros(len(off))
    for step in range(1, len(off)):
        flying = not dying[step] and not off[step]
        alive[step] = alive[step - 1] + 1 / STEP_HZ if flying else 0
    time_alive = 1 - np.exp(-alive / 10)
    soon = [_next(signal, s) for signal in (lost, gain) for s in (1, 2)]
    return np.column_stack([gain, lost, text, dying, off, play.lives, time_alive, *soon])


def _next(signal: np.ndarray, seconds: float) -> np.ndarray:
    """What the signal adds up to within the next seconds, this step left out."""
    n = round(seconds * STEP_HZ)
    total = np.concatenate([[0], np.cumsum(signal)])
    steps = np.arange(len(signal))
    return total[np.minimum(steps + 1 + n, len(signal))] - total[steps + 1]
