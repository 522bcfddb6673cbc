"""A dozen validation windows: what was seen, what came next, and what a model expects to come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cobe.core.arrays import read_npz
from cobe.core.artifacts import Artifact
from cobe.core.config import Cell
from cobe.core.errors import CobeError
from cobe.sweep.cells import clip_pixels, load_tokens
from cobe.sweep.models import VideoStages
from cobe.sweep.pipeline import Pipeline
from cobe.video.generate import predict_next
from cobe.video.gpt import load_gpt
from cobe.video.vqvae import VQVAE

N_WINDOWS = 12
# name, temperature, number of samples: the likeliest token has no second sample
TEMPERATURES = (("greedy", 0.0, 1), ("temperature 0.7", 0.7, 3), ("temperature 1", 1.0, 3))


@dataclass(frozen=True)
class NextClips:
    """Windows of validation clips in pixels and tokens.

    Attributes
    ----------
    labels : list of str
        Participant, session, run, level and second of each window's next clip.
    context, true_next : uint8 (n_windows, 16, height, width, 3)
        The clip that is given, and the one that came next.
    rebuilt_context, rebuilt_next : uint8 of the same shape
        The same after a passage through the VQ-VAE: the most that its tokens can show.
    context_codes, next_codes : uint16 (n_windows, time, height, width)
        Their tokens.
    samples : dict of str to uint8 (n_windows, n_samples, 16, height, width, 3)
        Next clips as the model expects them, by how tokens are drawn.
    sample_codes : dict of str to uint16 (n_windows, n_samples, time, height, width)
        Their tokens.
    n_codes : int
        Size of the codebook.
    """

    labels: list[str]
    context: np.ndarray
    true_next: np.ndarray
    rebuilt_context: np.ndarray
    rebuilt_next: np.ndarray
    context_codes: np.ndarray
    next_codes: np.ndarray
    samples: dict[str, np.ndarray]
    sample_codes: dict[str, np.ndarray]
    n_codes: int


def spread_windows(rows: np.ndarray, n_windows: int = N_WINDOWS) -> np.ndarray:
    """Windows spread evenly over all of them, in order, each once.

    Parameters
    ----------
    rows : int (n_rows,)
        Target rows of the windows to choose from.
    n_windows : int
        How many; all of them where there are fewer.

    Raises
    ------
    CobeError
        There is no window.
    """
    if not len(rows):
        raise CobeError("windows: there is none to show; give the video model a validation session")
    return rows[np.linspace(0, len(rows) - 1, min(n_windows, len(rows))).astype(int)]


def window_labels(clips: pd.DataFrame) -> list[str]:
    """Where and when each clip of a clip table was played."""
    return [
        f"{clip.subject} {clip.session} run {clip.run}, level {clip.level}, {clip.start_s:.0f} s"
        for clip in clips.itertuples()
    ]


def next_clips(
    pipeline: Pipeline, video: VideoStages, models: dict[Cell, Artifact], cell: Cell
) -> NextClips:
    """Sample next clips of validation windows from one cell, made once.

    Windows are spread evenly over the validation windows, not chosen by how well they look. Sample
    k of a window is drawn with seed k.

    Parameters
    ----------
    pipeline, video
        Whose store, tokens, frames and VQ-VAE are used.
    models : dict
        Cell to its trained model.
    cell : Cell
        Which of the models.

    Returns
    -------
    clips : NextClips

    Raises
    ------
    CobeError
        There is no validation window.
    """
    data = load_tokens(video.tokens)
    rows = spread_windows(data.windows_with_role("video_val"))

    def write(path: Path):
        vqvae = VQVAE.load(video.vqvae.path)
        model = load_gpt(models[cell].path, cell)
        arrays = {}
        for name, which in (("context", rows - 1), ("next", rows)):
            codes = np.asarray(data.codes[which])
            arrays |= {f"{name}_codes": codes, f"rebuilt_{name}": vqvae.decode(codes)}
        arrays["context"] = clip_pixels(data, video.frames, rows - 1)
        arrays["true_next"] = clip_pixels(data, video.frames, rows)
        for number, (_, temperature, n_samples) in enumerate(TEMPERATURES):
            codes = np.stack(
                [
                    predict_next(model, data.codes, data.codebook, rows, temperature, seed=seed)
                    for seed in range(n_samples)
                ],
                axis=1,
            )
            decoded = [vqvae.decode(codes[:, k]) for k in range(n_samples)]
            arrays |= {f"codes_{number}": codes, f"samples_{number}": np.stack(decoded, axis=1)}
        with open(path, "wb") as handle:
            np.savez_compressed(handle, **arrays)

    artifact = pipeline.store.make(
        f"explored/next_clips/{cell.name}",
        params={"rows": rows.tolist(), "temperatures": TEMPERATURES},
        inputs={"model": models[cell], "vqvae": video.vqvae, "tokens": video.tokens}
        | {f"frames {key}": item for key, item in video.frames.items()},
        write=write,
        code=("cobe.sweep.next_clips",),
        suffix=".npz",
    )
    arrays = read_npz(artifact.path)
    names = [name for name, _, _ in TEMPERATURES]
    own = {name: arrays[name] for name in arrays if not name[-1].isdigit()}
    return NextClips(
        labels=window_labels(data.clips.iloc[rows]),
        **own,
        samples={name: arrays[f"samples_{k}"] for k, name in enumerate(names)},
        sample_codes={name: arrays[f"codes_{k}"] for k, name in enumerate(names)},
        n_codes=len(data.codebook),
    )
