"""Savestates of Genesis Plus GX without what does not belong to the game.

The core writes its structures as they lie in memory, with addresses of this process in them, some
padding, and an unused rest of the buffer. It never reads these bytes back (a state loads in any
process), but they differ from run to run, and a dataset must be the same bytes each time.
"""

import numpy as np

from cobe.core.errors import CobeError

_MAGIC = b"GENPLUS-GX 1.7.5"
_END = 144_680  # of what the core writes; the rest of the buffer is whatever was there
_ADDRESS = 8
# YM2612: six channels of 400 bytes, each with four slots of 80 that begin with the address of
# their detune table, and five addresses of its connections at the end. Then the Z80's callback.
_CHANNELS = [140_651 + 400 * channel for channel in range(6)]
_ADDRESSES = [
    *(start + 80 * slot for start in _CHANNELS for slot in range(4)),
    *(start + 336 + _ADDRESS * k for start in _CHANNELS for k in range(5)),
    144_605,
]
_PADDING = slice(144_228, 144_276, 2)


def portable_state(state: bytes, start_state: bytes) -> bytes:
    """A savestate whose bytes depend on the game alone.

    Addresses are taken from the state that ships with the game, padding and the unused rest are
    zero.

    Parameters
    ----------
    state : bytes
        As the emulator gives it.
    start_state : bytes
        The game's own start state, written by the same core.

    Returns
    -------
    state : bytes
        Of the same length; it loads to the same game.

    Raises
    ------
    CobeError
        The state is not of the version of the core whose layout is known here.
    """
    if not state.startswith(_MAGIC) or len(state) != len(start_state) or len(state) < _END:
        raise CobeError(
            "emulator: savestates have an unknown layout; install the version of stable-retro "
            "that requirements.txt names"
        )
    cleaned = np.frombuffer(state, np.uint8).copy()
    start = np.frombuffer(start_state, np.uint8)
    for first in _ADDRESSES:
        cleaned[first : first + _ADDRESS] = start[first : first + _ADDRESS]
    cleaned[_PADDING] = 0
    cleaned[_END:] = 0
    return cleaned.tobytes()
