"""Arrays of an artifact, without pickles and never from a damaged file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from cobe.core.errors import CobeError, short_of_memory


def read_npz(path: Path, *names: str) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` by name.

    Parameters
    ----------
    path : Path
        The file. Objects in it, which would have to be unpickled, are refused.
    names : str
        Those to read; none: all.

    Raises
    ------
    CobeError
        It is missing, no such file, cut or damaged (each array's checksum is compared), or lacks
        one of `names`.
    MachineError
        An array is larger than the memory, or says so.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names or arrays.files}
    except FileNotFoundError:
        raise CobeError(f"{path}: not there; run the stage that makes it again") from None
    except MemoryError as error:
        raise short_of_memory(f"{path}: not whole arrays, or too large ({error})") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        NotImplementedError,
        RuntimeError,
        SyntaxError,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CobeError(
            f"{path}: not whole arrays ({reason}); run the stage that makes it again"
        ) from error
