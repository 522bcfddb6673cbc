"""The frames of one replay as an artifact; alone here, since its code is in the key of them all."""

from pathlib import Path

from cobe.stimulus.playback import decode


def write_frames(
    path: Path, bk2: Path, size: int, skip_first_line: bool, stimuli: Path | None
) -> None:
    """Play a replay into a frame store."""
    decode(bk2, path, size, skip_first_line, stimuli)
