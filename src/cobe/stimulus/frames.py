"""The frame store: decoded video, one compressed file per repetition, read at random.

A store is a plain blosc2 array (`.b2nd`, readable by any blosc2) of uint8 ``(n_frames, height,
width, 3)`` RGB at 60 Hz, lossless, in chunks of 16 frames that are one zstd block each, followed
by 16 bytes of seal: a magic word and a checksum of everything before it. The seal is written
last, so a file that was cut short or damaged anywhere is refused when it is opened.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import blosc2
import numpy as np

from cobe.core.errors import CobeError
from cobe.core.timing import CLIP_FRAMES, CLIP_SPAN_FRAMES, FRAME_STRIDE

CHUNK_FRAMES = 16
MAX_FRAMES = 4_000_000
"""Longest accepted video: 18 hours, as the key logs. A file may promise anything."""
_SEAL = struct.Struct("<8sII")
_MAGIC = b"cobe-frm"
# Bit shuffling makes such frames larger; level 5 is on the knee between size and speed.
_COMPRESSION = {
    "codec": blosc2.Codec.ZSTD,
    "clevel": 5,
    "filters": [blosc2.Filter.NOFILTER],
    "nthreads": 1,
}


def write_frames(path, frames) -> int:
    """Write a video to a new frame store.

    Parameters
    ----------
    path : str or Path
        File to make; an existing file is replaced. Nothing is left there when writing fails.
    frames : ndarray of uint8 (n_frames, height, width, 3), or iterable of such arrays
        RGB at 60 Hz. An iterable of pieces of any length is written as it comes: memory stays
        bounded by one piece.

    Returns
    -------
    n_frames : int
        Frames written.

    Raises
    ------
    CobeError
        There are no frames, a piece has another shape or dtype, or the disk refuses.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise CobeError(f"{path}: its folder does not exist; make it first")
    pieces = [frames] if isinstance(frames, np.ndarray) else frames
    array = None
    n_frames = 0
    try:
        for block in _blocks(pieces, path):
            if array is None:
                chunk = (CHUNK_FRAMES, *block.shape[1:])
                array = blosc2.empty(
                    (0, *block.shape[1:]),
                    dtype=np.uint8,
                    chunks=chunk,
                    blocks=chunk,
                    cparams=_COMPRESSION,
                    urlpath=str(path),
                    mode="w",
                    contiguous=True,
                )
            array.resize((n_frames + len(block), *block.shape[1:]))
            array[n_frames : n_frames + len(block)] = block
            n_frames += len(block)
        if array is None:
            raise CobeError(f"{path}: no frames to write; check the recording")
        del array
        _seal(path)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, RuntimeError | OSError):
            raise CobeError(
                f"{path}: could not be written ({error}); check free space and permissions"
            ) from None
        raise
    return n_frames


def _blocks(pieces: Iterable[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    """Cut pieces of any length into blocks of exactly one chunk, the last one shorter."""
    shape = None
    rest = None
    for piece in pieces:
        piece = np.asarray(piece)
        if piece.dtype != np.uint8 or piece.ndim != 4 or piece.shape[3] != 3:
            raise CobeError(
                f"{path}: frames are {piece.dtype} {piece.shape}; give uint8 (n, height, width, 3)"
            )
        if shape is None:
            shape = piece.shape[1:]
        if piece.shape[1:] != shape:
            raise CobeError(
                f"{path}: the size of frames changes from {shape} to {piece.shape[1:]}; "
                "resize them to one size"
            )
        if rest is not None and len(rest):
            piece = np.concatenate([rest, piece])
        whole = len(piece) - len(piece) % CHUNK_FRAMES
        for start in range(0, whole, CHUNK_FRAMES):
            yield piece[start : start + CHUNK_FRAMES]
        rest = piece[whole:].copy()
    if rest is not None and len(rest):
        yield rest


def _checksum(file, n_bytes: int) -> int:
    checksum = 0
    while n_bytes:
        content = file.read(min(n_bytes, 2**20))
        if not content:
            break
        checksum = zlib.crc32(content, checksum)
        n_bytes -= len(content)
    return checksum


def _seal(path: Path) -> None:
    n_bytes = path.stat().st_size
    with path.open("r+b") as file:
        checksum = _checksum(file, n_bytes)
        file.seek(n_bytes)
        file.write(_SEAL.pack(_MAGIC, n_bytes & 0xFFFFFFFF, checksum))


def _check_seal(path: Path) -> None:
    remedy = "make it again from the recording"
    try:
        n_bytes = path.stat().st_size - _SEAL.size
        with path.open("rb") as file:
            if n_bytes <= 0:
                raise CobeError(f"{path}: too short for a frame store; {remedy}")
            checksum = _checksum(file, n_bytes)
            seal = _SEAL.pack(_MAGIC, n_bytes & 0xFFFFFFFF, checksum)
            found = file.read(_SEAL.size)
    except FileNotFoundError:
        raise CobeError(f"{path}: no such frame store; decode the recording first") from None
    except OSError as error:
        raise CobeError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    if not found.startswith(_MAGIC):
        raise CobeError(f"{path}: no whole frame store (cut short, or another file); {remedy}")
    if found != seal:
        raise CobeError(f"{path}: damaged frame store (checksum differs); {remedy}")


class FrameStore:
    """Frames of one repetition on disk, read like an array; made by `open_frames`.

    Attributes
    ----------
    path : Path
        The file.
    shape : tuple of int
        ``(n_frames, height, width, 3)``.
    dtype : numpy.dtype
        uint8.
    """

    def __init__(self, path: Path, array: blosc2.NDArray):
        self.path = path
        self.shape = tuple(array.shape)
        self.dtype = array.dtype
        self._array = array
        self._chunk_frames = array.chunks[0]

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"FrameStore({str(self.path)!r}, shape={self.shape})"

    def __getitem__(self, index) -> np.ndarray:
        """One frame (an int), or the frames of a slice with any step; uint8."""
        if isinstance(index, slice):
            picked = range(*index.indices(len(self)))
            ascending = picked if picked.step > 0 else picked[::-1]
            frames = np.empty((len(picked), *self.shape[1:]), np.uint8)
            self._read(ascending, frames, self._buffer())
            return frames if picked.step > 0 else frames[::-1]
        frame = np.empty((1, *self.shape[1:]), np.uint8)
        start = range(len(self))[index]
        self._read(range(start, start + 1), frame, self._buffer())
        return frame[0]

    def clips(self, starts, stride: int = FRAME_STRIDE) -> np.ndarray:
        """Clips of 16 frames from given first frames.

        Parameters
        ----------
        starts : sequence of int, shape (n,)
            First frame of each clip, in any order.
        stride : int
            Frames from one frame of a clip to the next: 4 gives 15 frames a second.

        Returns
        -------
        clips : ndarray of uint8, shape (n, 16, height, width, 3)

        Raises
        ------
        CobeError
            A clip of ``16 * stride`` frames does not lie inside the repetition.
        """
        starts = np.asarray(starts, dtype=np.int64).reshape(-1)
        span = CLIP_SPAN_FRAMES // FRAME_STRIDE * stride
        outside = starts[(starts < 0) | (starts + span > len(self))]
        if len(outside):
            raise CobeError(
                f"{self.path}: a clip of {span} frames from frame {outside[0]} does not lie "
                f"inside the {len(self)} frames; leave incomplete clips out"
            )
        clips = np.empty((len(starts), CLIP_FRAMES, *self.shape[1:]), np.uint8)
        buffer = self._buffer()
        for clip, start in zip(clips, starts.tolist(), strict=True):
            self._read(range(start, start + span, stride), clip, buffer)
        return clips

    def _buffer(self) -> np.ndarray:
        return np.empty((self._chunk_frames, *self.shape[1:]), np.uint8)

    def _read(self, frames: range, out: np.ndarray, buffer: np.ndarray) -> None:
        """Fill `out` with ascending frames.

        Whole chunks are unpacked: five times as fast as slicing the blosc2 array.
        """
        size = self._chunk_frames
        done = 0
        while done < len(frames):
            chunk, first = divmod(frames[done], size)
            n = min(len(frames) - done, -(-(size - first) // frames.step))
            try:
                self._array.schunk.decompress_chunk(chunk, dst=buffer)
            except RuntimeError as error:
                raise CobeError(
                    f"{self.path}: chunk {chunk} cannot be unpacked ({error}); the file changed "
                    "after it was opened: make it again from the recording"
                ) from None
            out[done : done + n] = buffer[first :: frames.step][:n]
            done += n


def open_frames(path) -> FrameStore:
    """Open a frame store for reading, after checking that it is whole.

    Parameters
    ----------
    path : str or Path
        A file of `write_frames`.

    Returns
    -------
    store : FrameStore

    Raises
    ------
    CobeError
        The file is missing, cut short, damaged, or holds anything but uint8 RGB frames.
    """
    path = Path(path)
    _check_seal(path)
    try:
        array = blosc2.open(str(path), mode="r", mmap_mode="r", dparams={"nthreads": 1})
    except Exception as error:
        raise CobeError(
            f"{path}: not readable as blosc2 ({error}); make it again from the recording"
        ) from None
    shape = getattr(array, "shape", ())
    dtype = getattr(array, "dtype", None)
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
        raise CobeError(
            f"{path}: holds {dtype} {tuple(shape)}, not frames uint8 (n, height, width, 3); "
            "make it again from the recording"
        )
    if shape[0] > MAX_FRAMES:
        raise CobeError(
            f"{path}: promises {shape[0]} frames, more than 18 hours; make it again from the "
            "recording"
        )
    # A chunk can be unpacked as it lies only if it splits nothing but time and is one block.
    if array.chunks[1:] != shape[1:] or array.blocks != array.chunks:
        raise CobeError(f"{path}: frames are split in space; make it again from the recording")
    return FrameStore(path, array)
