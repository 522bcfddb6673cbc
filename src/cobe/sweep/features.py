"""What the ridge gets of each model: clip features under a protocol, and those of the controls."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cobe.brain.dataset import Dataset
from cobe.core.arrays import read_npz
from cobe.core.artifacts import Artifact
from cobe.core.config import Cell, Protocol
from cobe.core.errors import CobeError
from cobe.core.timing import CLIP_SPAN_FRAMES
from cobe.encoding.controls import buttons, fit_pixel_pca, pixel_pca
from cobe.stimulus.bk2 import read_bk2
from cobe.stimulus.frames import open_frames
from cobe.stimulus.lowlevel import clip_features
from cobe.sweep.cells import load_tokens
from cobe.sweep.jobs import Job, make_all
from cobe.sweep.models import VideoStages
from cobe.sweep.pipeline import Pipeline, load_bold, repetition_keys, replayed, usable_runs
from cobe.video.clips import spread_clips
from cobe.video.features import block_states, code_embeddings
from cobe.video.gpt import load_gpt
from cobe.video.tokenset import TokenSet

CONTROLS = ("pixel_pca", "lowlevel", "vq", "buttons")
# columns in units of their own; those of all other feature sets share one, and their variances say
# which directions are loud
MIXED_UNITS = ("lowlevel", "buttons")
N_PIXEL_FIT_CLIPS = 1500
# at least; components need as many windows to fit on
N_FIT_WINDOWS = 1000
READOUTS = ("nested", "middle", "last")


def read_blocks(protocol: Protocol, n_layers: int) -> list[int]:
    """The blocks of a model that a protocol reads, counted from 0.

    Raises
    ------
    CobeError
        The protocol names a readout that does not exist.
    """
    if protocol.readout not in READOUTS:
        raise CobeError(
            f"protocol {protocol.name!r}: readout {protocol.readout!r} is unknown; choose one of "
            f"{', '.join(READOUTS)}"
        )
    chosen = {"nested": range(n_layers), "middle": [n_layers // 2], "last": [n_layers - 1]}
    return list(chosen[protocol.readout])


def role_rows(data: TokenSet, role: str = "ridge") -> np.ndarray:
    """Target rows of the windows with that role, int (n_windows,): by default, the ridge's."""
    return data.windows_with_role(role)


def ridge_data(
    data: TokenSet, bold: dict[tuple, Artifact]
) -> tuple[pd.DataFrame, dict[tuple, np.ndarray]]:
    """What the ridge works on beside features: its clips, and the series of each run, read.

    Parameters
    ----------
    data : TokenSet
        Whose clips.
    bold : dict of Artifact
        Series by subject, session and run.

    Returns
    -------
    clips : DataFrame
        Rows of the token set's clips, one for each of the model's features.
    series : dict of float32 array (n_trs, n_targets)
        By subject, session and run.
    """
    return data.clips.loc[role_rows(data)], {key: load_bold(item) for key, item in bold.items()}


def fit_rows(data: TokenSet, n_features: int) -> np.ndarray:
    """Windows that components are fitted on: spread evenly over the video model's training."""
    rows = data.windows_with_role("video_train")
    n_rows = min(len(rows), max(N_FIT_WINDOWS, 2 * n_features))
    return rows[np.linspace(0, len(rows) - 1, n_rows).astype(np.int64)]


def gpt_features(
    model_path: Path, data: TokenSet, protocol: Protocol, role: str = "ridge"
) -> dict[int, np.ndarray]:
    """Hidden states of a saved model for the windows of one role.

    Returns
    -------
    features : dict
        Block (from 0) that the protocol reads to float32 (n_windows, n_features).
    """
    model = load_gpt(model_path)
    fitted = protocol.pooling == "pca"
    return block_states(
        model,
        data.codes,
        data.codebook,
        role_rows(data, role),
        read_blocks(protocol, model.config.n_layer),
        branch=protocol.branch,
        pooling=protocol.pooling,
        n_features=protocol.n_features if fitted else None,
        fit_rows=fit_rows(data, protocol.n_features) if fitted else None,
    )


def model_features(
    pipeline: Pipeline,
    tokenised: Artifact,
    models: dict[Cell, Artifact],
    protocol: Protocol,
    role: str = "ridge",
) -> dict[Cell, Artifact]:
    """Features of these models under a protocol, several at a time; what is there is reused.

    Returns
    -------
    features : dict
        Cell to an npz with one float32 (n_windows, n_features) array per block, ``block_0`` ...
    """
    jobs = [
        features_job(cell.name, cell.n_layers, item, tokenised, protocol, role)
        for cell, item in models.items()
    ]
    made = make_all(pipeline.store, jobs, "features", "model")
    return dict(zip(models, made, strict=True))


def features_job(
    name: str,
    n_layers: int,
    model: Artifact,
    tokenised: Artifact,
    protocol: Protocol,
    role: str = "ridge",
) -> Job:
    """The job that makes the features of one model of `n_layers` layers."""
    how = {
        "blocks": read_blocks(protocol, n_layers),
        "branch": protocol.branch,
        "pooling": protocol.pooling,
        "n_features": protocol.n_features,
        "role": role,
    }
    return Job(
        f"features/{name}",
        _write_gpt_features,
        (model, tokenised, protocol, role),
        params=how,
        inputs={"model": model, "tokens": tokenised},
        code=("cobe.video.features", "cobe.sweep.features"),
        suffix=".npz",
    )


def _write_gpt_features(path: Path, model, tokenised, protocol: Protocol, role: str) -> None:
    torch.set_num_threads(1)
    found = gpt_features(model.path, load_tokens(tokenised), protocol, role)
    with open(path, "wb") as handle:
        np.savez(handle, **{f"block_{block}": values for block, values in found.items()})


def load_features(artifact: Artifact) -> dict[str, np.ndarray]:
    """The arrays of an artifact of features by name, each float32 (n_windows, n_features)."""
    return read_npz(artifact.path)


def control_features(
    pipeline: Pipeline, video: VideoStages, role: str = "ridge"
) -> dict[str, Artifact]:
    """Features that need no GPT: pixels, low-level statistics, VQ codes, buttons.

    Principal components of pixels and codes are fitted on the video model's training clips, as many
    as the protocol gives every model; no clip of the ridge's runs enters them.

    Returns
    -------
    features : dict
        Name to an npz with ``features`` float32 (n_windows, n_features).
    """
    n_features = pipeline.profile.protocol.n_features

    def write(path: Path, name: str):
        data = load_tokens(video.tokens)
        rows = role_rows(data, role)
        if name == "vq":
            # of the same values for every clip: those to fit on are in the same table
            values = code_embeddings(
                data.codes,
                data.codebook,
                pooling="pca",
                n_features=min(n_features, data.codebook.shape[1] * data.codes[0].size),
                fit_rows=fit_rows(data, n_features),
            )[rows]
        elif name == "buttons":
            values = _button_rows(video.dataset, data.clips.loc[rows])
        else:
            values = _pixel_rows(name, video, data.clips.loc[rows], n_features)
        with open(path, "wb") as handle:
            np.savez(handle, features=values.astype(np.float32))

    made = {}
    for name in CONTROLS:
        made[name] = pipeline.store.make(
            f"controls/{name}",
            params={"n_features": n_features, "name": name, "role": role},
            inputs={"tokens": video.tokens}
            | {f"frames {key}": item for key, item in video.frames.items()},
            write=lambda path, name=name: write(path, name),
            code=("cobe.encoding.controls", "cobe.stimulus.lowlevel", "cobe.sweep.features"),
            suffix=".npz",
        )
    return made


def _pixel_rows(name, video: VideoStages, clips: pd.DataFrame, n_components: int) -> np.ndarray:
    """Pixel components or low-level statistics of every clip of the table, in its order."""
    if name == "pixel_pca":
        keys = repetition_keys(video.roles, "video_train")
        train = [open_frames(video.frames[key].path) for key in keys]
        fit_clips = spread_clips(train, N_PIXEL_FIT_CLIPS)
        transform = partial(pixel_pca, fit_pixel_pca(fit_clips, n_components, seed=0))
    else:
        transform = clip_features
    blocks = []
    for key, here in clips.groupby(["subject", "session", "run", "row"], sort=False):
        starts = here["clip"].to_numpy() * CLIP_SPAN_FRAMES
        blocks.append(transform(open_frames(video.frames[key].path).clips(starts)))
    return np.concatenate(blocks)


def _button_rows(dataset: Dataset, clips: pd.DataFrame) -> np.ndarray:
    """Button features of every clip of the table, in its order."""
    replays = {(*run.key, rep.row): rep for run in usable_runs(dataset) for rep in replayed(run)}
    blocks = []
    for key, here in clips.groupby(["subject", "session", "run", "row"], sort=False):
        rep = replays[key]
        pressed = read_bk2(rep.bk2).buttons[int(rep.skip_first_line) :]
        features = buttons(pressed, len(pressed) // CLIP_SPAN_FRAMES)
        blocks.append(features[here["clip"].to_numpy()])
    return np.concatenate(blocks)
