"""A token set: tokens, clip table and codebook in one checksummed file.

The file is all that training and features need: a machine with a GPU gets this one file, and no
video. A clip of 4 x 4 x 4 tokens takes 128 bytes, one of 4 x 8 x 8 takes 512: 6 million frames are
93,750 clips, 12 or 48 MB, with 1 MB for the table and the codebook.

A set of that size from the embedded game takes the quick profile with a longer first session::

    plan = PROFILES["quick"].plan
    replace(plan, sessions=(("ses-001", 98), *plan.sessions[1:]))

which is 98 runs of 4 repetitions of 65 s for 4 subjects, 6.1 million frames. Its replays are
decoded to frame stores, encoded by the profile's VQ-VAE (`cobe.video.tokens.tokenize_stores`, one
process per core) and written here by `write_token_set`. Measured on one busy x86 core: playback to
stores about 1,400 frames/s, so 70 core-minutes and 1 to 3 GB that can be deleted afterwards;
encoding 64 x 64 pixels about 290 clips/s, so 6 core-minutes.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cobe.core.errors import CobeError
from cobe.video.tokens import CLIP_COLUMNS
from cobe.video.windows import windows

FORMAT = "cobe tokens 1"


@dataclass(frozen=True)
class TokenSet:
    """All clips as tokens, with the table that says which clip is which.

    Attributes
    ----------
    codes : uint16 (n_clips, t, h, w)
        Memory-mapped, read-only.
    clips : DataFrame
        One row per clip: subject, session, run, row (the repetition's row of the events), level,
        clip, start_s, end_s (seconds from the run's first volume), and what the writer added.
    codebook : float32 (n_codes, code_dim)
        Code vectors of the VQ-VAE.
    model_id : str
        `VQVAE.identity` of the model that made the tokens.
    """

    codes: np.ndarray
    clips: pd.DataFrame
    codebook: np.ndarray
    model_id: str

    def windows_with_role(self, role: str) -> np.ndarray:
        """Target rows of the windows of one role, int (n_windows,): the table's column ``role``."""
        rows = windows(self.clips)
        return rows[(self.clips.role.to_numpy() == role)[rows]]


def write_token_set(
    path, codes: np.ndarray, clips: pd.DataFrame, codebook: np.ndarray, model_id: str
) -> None:
    """Write a token set.

    Parameters
    ----------
    path : path-like
        The file; one that is there is replaced.
    codes : uint16 (n_clips, t, h, w)
        Tokens in the order of the table.
    clips : DataFrame
        The clip table, with the columns of `cobe.video.tokens.clip_table` and any more.
    codebook : float32 (n_codes, code_dim)
        ``VQVAE.codebook()``.
    model_id : str
        ``VQVAE.identity()``.

    Raises
    ------
    CobeError
        Tokens of another type or number than the table's rows, tokens beyond the codebook, or a
        table without one of its columns.
    """
    if codes.dtype != np.uint16 or codes.ndim != 4:
        raise CobeError(
            f"{path}: {codes.dtype} {codes.shape}, but tokens are uint16 (n_clips, t, h, w); "
            "tokenise again"
        )
    if len(codes) != len(clips):
        raise CobeError(
            f"{path}: {len(codes)} clips of tokens and {len(clips)} rows of the clip table; "
            "give the table of these tokens"
        )
    missing = [name for name in CLIP_COLUMNS if name not in clips]
    if missing:
        raise CobeError(f"{path}: the clip table lacks {', '.join(missing)}; use clip_table")
    _check_codes(path, codes, codebook)
    table = io.BytesIO()
    clips.to_parquet(table, index=False)
    tensors = {
        "codes": np.ascontiguousarray(codes),
        "codebook": np.ascontiguousarray(codebook, np.float32),
        "clips": np.frombuffer(table.getvalue(), np.uint8),
    }
    about = {"format": FORMAT, "model_id": model_id, "sha256": _checksum(tensors)}
    # One entry: safetensors writes several in no fixed order.
    save_file(tensors, path, metadata={"cobe": json.dumps(about)})


def open_token_set(path, model_id: str | None = None) -> TokenSet:
    """Open a token set after checking that it is whole and the wanted model's.

    Parameters
    ----------
    path : path-like
        What `write_token_set` wrote.
    model_id : str or None
        `VQVAE.identity` of the model that must have made the tokens; None: any.

    Returns
    -------
    tokens : TokenSet

    Raises
    ------
    CobeError
        No token set, a checksum that does not match, tokens of another model; both sides are named.
    """
    path = Path(path)
    try:
        with safe_open(path, "np") as file:
            about = json.loads((file.metadata() or {}).get("cobe", "{}"))
            tensors = {name: file.get_tensor(name) for name in ("codebook", "clips")}
        tensors["codes"] = _mapped(path, "codes")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise CobeError(f"{path}: no readable token set ({error}); tokenise again") from error
    said = about if isinstance(about, dict) else {}
    if said.get("format") != FORMAT:
        raise CobeError(
            f"{path}: its format is {said.get('format')!r}, not {FORMAT!r}; tokenise again"
        )
    if not {"sha256", "model_id"} <= said.keys():
        raise CobeError(f"{path}: no checksum or no model in its header; tokenise again")
    found = _checksum(tensors)
    if found != about["sha256"]:
        raise CobeError(
            f"{path}: damaged, checksum {found[:12]} but {str(about['sha256'])[:12]} was written; "
            "copy the file again or tokenise again"
        )
    if model_id not in (None, about["model_id"]):
        raise CobeError(
            f"{path}: tokens of VQ-VAE {about['model_id']}, but the model given is {model_id}; "
            "give the model that made them, or tokenise again with this one"
        )
    try:
        clips = pd.read_parquet(io.BytesIO(tensors["clips"].tobytes()))
    except Exception as error:  # pandas and pyarrow raise of many kinds here
        raise CobeError(f"{path}: no readable clip table ({error}); tokenise again") from error
    return TokenSet(tensors["codes"], clips, tensors["codebook"], about["model_id"])


def _mapped(path: Path, name: str) -> np.ndarray:
    """A uint16 tensor of a safetensors file as a memory map: its place is in the header."""
    with open(path, "rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(n_header))[name]
    if entry["dtype"] != "U16":
        raise ValueError(f"{name} is {entry['dtype']}, not U16")
    start, stop = entry["data_offsets"]
    if start == stop:
        return np.empty(entry["shape"], np.uint16)
    offset = 8 + n_header + start
    return np.memmap(path, "<u2", "r", offset, tuple(entry["shape"]))


def _checksum(tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def _check_codes(path, codes, codebook) -> None:
    if codes.size and codes.max() >= len(codebook):
        raise CobeError(
            f"{path}: code {codes.max()}, but the codebook has {len(codebook)} codes; "
            "use the codebook of the VQ-VAE that made the tokens"
        )
