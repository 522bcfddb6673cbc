"""The clocks of game and scanner, and how long a clip is.

They reach no result through its parameters, so the fingerprint of code sees this module.
"""

FRAME_RATE_HZ = 60.0
CLIP_FRAMES = 16
FRAME_STRIDE = 4
CLIP_SPAN_FRAMES = CLIP_FRAMES * FRAME_STRIDE
TR_S = 1.49
