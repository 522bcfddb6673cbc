"""What is on the screen: Airstriker's objects by colour, from the full-resolution frame.

The game draws with a dozen colours on black, so that a connected component of lit pixels and its
share of each colour tell what it is. Touching objects melt into one component, named after its
strongest sign; that is rare, and the planted brain is defined by what is found here.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

HEIGHT, WIDTH = 224, 320
CLASSES = ("ship", "enemy", "asteroid", "bullet", "shot", "explosion")

# Codes of the palette: two bits per channel (r << 4 | g << 2 | b of value >> 6).
_WHITE, _RED, _GREEN, _YELLOW, _BLUE = range(5)
_COLOUR = np.full(64, -1, np.int64)
_COLOUR[[63, 42]] = _WHITE
_COLOUR[[48, 32]] = _RED
_COLOUR[[12, 8]] = _GREEN
_COLOUR[[60, 40]] = _YELLOW
_COLOUR[[3, 2]] = _BLUE

_BLACK = 10  # the darkest colour of the palette, dark blue, has a grey value of 16
_GLYPH = (slice(0, 9), slice(0, 9))  # a leftover character that the game always shows
_HUD_ROWS = (13, 27)
_CENTRE_ROWS, _CENTRE_COLUMNS = (88, 116), (90, 235)
_LOGO_PIXELS = 800


@dataclass(frozen=True)
class Scene:
    """Objects of one frame.

    Attributes
    ----------
    objects : dict of str to float32 array, shape (n, 2)
        For every name in `CLASSES`, the centres as (x, y) in pixels of the 320 x 224 screen.
    text_px : int
        Yellow text pixels in the middle of the screen ("Get ready", "You died").
    title : bool
        The title screen is shown.
    menu : bool
        No score line and no title: a menu or a change of screens.
    """

    objects: dict
    text_px: int
    title: bool
    menu: bool

    @property
    def ship(self) -> np.ndarray | None:
        """Centre (x, y) of the player's ship, None where there is none."""
        ships = self.objects["ship"]
        return ships[0] if len(ships) else None

    @property
    def hazards(self) -> np.ndarray:
        """Centres of all that kills: enemies, asteroids and bullets, shape (n, 2)."""
        return np.concatenate([self.objects[name] for name in ("enemy", "asteroid", "bullet")])


def segment(frame: np.ndarray, grey: np.ndarray | None = None) -> Scene:
    """Find the objects of one frame.

    Parameters
    ----------
    frame : uint8 array, shape (224, 320, 3)
        RGB, as the emulator gives it.
    grey : uint8 array, shape (224, 320), or None
        The same frame in grey, where the caller has it already.

    Returns
    -------
    scene : Scene
    """
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) if grey is None else grey
    lit = cv2.threshold(grey, _BLACK, 255, cv2.THRESH_BINARY)[1]
    lit[_GLYPH] = 0
    n, labels, stats, centres = cv2.connectedComponentsWithStatsWithAlgorithm(
        lit, 8, cv2.CV_16U, cv2.CCL_SPAGHETTI
    )
    where = np.flatnonzero(lit > 0)
    pixels = frame.reshape(-1, 3)[where] >> 6
    colour = _COLOUR[(pixels[:, 0] << 4) | (pixels[:, 1] << 2) | pixels[:, 2]]
    known = colour >= 0
    counts = np.bincount(
        labels.reshape(-1)[where[known]].astype(np.int64) * 5 + colour[known], minlength=5 * n
    ).reshape(n, 5)
    white, red, green, yellow, blue = counts.T
    width, height, area = stats[:, 2], stats[:, 3], stats[:, 4]
    small = (width <= 32) & (height <= 36)

    kind = np.full(n, -1)
    free = np.arange(n) > 0
    for name, sign in (
        ("ship", (white >= 150) & small & (centres[:, 1] > 150)),
        ("bullet", (green >= 6) & small),
        ("enemy", (red >= 40) & (white >= 4)),
        ("explosion", (yellow >= 4) & (red >= 2) & (white <= 3)),
        ("shot", (red >= 4) & (area <= 20)),
        ("asteroid", (white >= 25) & (area <= 200) & small & (yellow <= 3)),
    ):
        hit = free & sign
        kind[hit] = CLASSES.index(name)
        free &= ~hit
    text = free & (yellow > 0) & (yellow == area)
    x, y = centres[:, 0], centres[:, 1]
    in_centre = (
        (y > _CENTRE_ROWS[0])
        & (y < _CENTRE_ROWS[1])
        & (x > _CENTRE_COLUMNS[0])
        & (x < _CENTRE_COLUMNS[1])
    )
    title = bool(blue[free].sum() > _LOGO_PIXELS)
    score_line = text & (y > _HUD_ROWS[0]) & (y < _HUD_ROWS[1])
    return Scene(
        {name: centres[kind == i].astype(np.float32) for i, name in enumerate(CLASSES)},
        0 if title else int(yellow[text & in_centre].sum()),
        title,
        not title and int(score_line.sum()) < 8,
    )
