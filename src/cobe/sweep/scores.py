"""Every model and control against every participant's brain: one score table."""

from __future__ import annotations

import warnings
from collections import namedtuple
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cobe.brain.dataset import Dataset, Run
from cobe.core.artifacts import Artifact
from cobe.core.config import Cell, Protocol
from cobe.core.timing import CLIP_SPAN_FRAMES, TR_S
from cobe.encoding import evaluate
from cobe.encoding.align import clips_to_trs
from cobe.encoding.controls import buttons, fit_pixel_pca, pixel_pca
from cobe.encoding.splits import holdout_groups
from cobe.stimulus.bk2 import read_bk2
from cobe.stimulus.frames import open_frames
from cobe.stimulus.lowlevel import clip_features
from cobe.sweep.jobs import Job, make_all
from cobe.sweep.models import VideoStages, load_tokens, spread_clips
from cobe.sweep.pipeline import (
    Pipeline,
    load_bold,
    repetition_keys,
    replayed,
    usable_runs,
)
from cobe.video.features import code_embeddings, hidden_states
from cobe.video.gpt import load_gpt
from cobe.video.tokenset import TokenSet

RunKey = namedtuple("RunKey", "subject session run")
CONTROLS = ("pixel_pca", "lowlevel", "vq", "buttons")
N_PCA_FIT_CLIPS = 1500
SCORE_CODE = (
    "cobe.encoding.scoring",
    "cobe.encoding.align",
    "cobe.video.features",
    "cobe.sweep.scores",
)


def ridge_rows(data: TokenSet) -> np.ndarray:
    """Target rows of the windows that the ridge sees: int (n_windows,)."""
    return data.windows_with_role("ridge")


def gpt_features(model_path: Path, data: TokenSet, protocol: Protocol) -> np.ndarray:
    """Hidden states of a saved model for the ridge's windows: float32 (n_windows, n_features)."""
    model = load_gpt(model_path)
    return hidden_states(
        model,
        data.codes,
        data.codebook,
        ridge_rows(data),
        block=protocol.block,
        pooling=protocol.pooling,
    )


def run_features(features: np.ndarray, clips: pd.DataFrame, key: tuple, n_trs: int) -> np.ndarray:
    """Features of one run's volumes.

    Parameters
    ----------
    features : float32 (n_windows, n_features)
        One row per row of `clips`.
    clips : DataFrame
        Target clips of the windows: subject, session, run, start_s, end_s.
    key : (subject, session, run)
        Which run.
    n_trs : int
        Volumes of that run.

    Returns
    -------
    x : float32 (n_trs, n_features)
        NaN rows where no clip covers half of the volume.
    """
    subject, session, run = key
    here = ((clips.subject == subject) & (clips.session == session) & (clips.run == run)).to_numpy()
    start_s, end_s = clips.start_s.to_numpy()[here], clips.end_s.to_numpy()[here]
    return clips_to_trs(features[here], start_s, end_s, n_trs, TR_S)


def score_features(
    features: np.ndarray,
    clips: pd.DataFrame,
    bold: dict[tuple, np.ndarray],
    protocol: Protocol,
) -> pd.DataFrame:
    """Score one set of clip features against every subject.

    Parameters
    ----------
    features : float32 (n_windows, n_features)
        One row per row of `clips`.
    clips : DataFrame
        Target clips of the ridge's windows.
    bold : dict
        (subject, session, run) to float32 (n_trs, n_parcels).
    protocol : Protocol
        What is held out, delays, penalties, permutations.

    Returns
    -------
    scores : DataFrame
        The columns of `cobe.encoding.evaluate`, and subject.
    """
    tables = []
    # a run whose BOLD was left out (and said so) has features all the same
    with_clips = set(clips[["subject", "session", "run"]].itertuples(index=False, name=None))
    present = with_clips & bold.keys()
    for subject in sorted({key[0] for key in present}):
        keys = sorted(key for key in present if key[0] == subject)
        groups = holdout_groups([RunKey(*key) for key in keys], protocol.holdout)
        table = _evaluate_quietly(
            [run_features(features, clips, key, len(bold[key])) for key in keys],
            [bold[key] for key in keys],
            groups=groups,
            delays_tr=protocol.delays_tr,
            alphas=protocol.alphas,
            relative_alphas=protocol.relative_alphas,
            n_permutations=protocol.n_permutations,
            block_trs=protocol.block_trs,
            seed=protocol.seed,
        )
        tables.append(table.assign(subject=subject))
    return pd.concat(tables, ignore_index=True)


def _evaluate_quietly(runs_x, runs_y, **options) -> pd.DataFrame:
    """`evaluate` without a line for penalties at the grid's edge: ``n_alpha_edge`` counts them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="alphas: .* edge of the grid")
        return evaluate(runs_x, runs_y, **options)


def _write_scores(
    path: Path,
    name: str,
    kind: str,
    protocol: Protocol,
    source: Artifact,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
) -> None:
    torch.set_num_threads(1)
    data = load_tokens(tokenised)
    if kind in ("gpt", "untrained"):
        features = gpt_features(source.path, data, protocol)
    else:
        with np.load(source.path, allow_pickle=False) as arrays:
            features = arrays["features"]
    clips = data.clips.loc[ridge_rows(data)]
    series = {key: load_bold(item) for key, item in bold.items()}
    table = score_features(features, clips, series, protocol)
    table.assign(cell=name, features=kind, protocol=protocol.name).to_parquet(path)


def scores(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    models: dict[Cell, Artifact],
    controls: dict[str, Artifact],
) -> pd.DataFrame:
    """Score all models and controls, several at a time; what is there is reused.

    Returns
    -------
    table : DataFrame
        One row per (cell, protocol, subject, parcel, held-out group), and summaries over parcels.
    """
    sources = [
        (cell.name, "gpt" if cell.trained else "untrained", item) for cell, item in models.items()
    ]
    sources += [(name, name, item) for name, item in controls.items()]
    return score_sources(pipeline, tokenised, bold, sources)


def score_sources(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    sources: list[tuple[str, str, Artifact]],
) -> pd.DataFrame:
    """Score named sources of features: (name in the table, kind, model or features)."""
    protocol = pipeline.profile.protocol
    series = {f"bold {key}": item for key, item in bold.items()}
    jobs = [
        Job(
            f"scores/{name}",
            _write_scores,
            (name, kind, protocol, item, tokenised, bold),
            params={"protocol": protocol, "features": kind},
            inputs={"source": item, "tokens": tokenised} | series,
            code=SCORE_CODE,
            suffix=".parquet",
        )
        for name, kind, item in sources
    ]
    made = make_all(pipeline.store, jobs, "scoring", "model")
    return pd.concat([pd.read_parquet(item.path) for item in made], ignore_index=True)


def control_features(pipeline: Pipeline, video: VideoStages) -> dict[str, Artifact]:
    """Features that need no GPT: pixels, low-level statistics, VQ codes, buttons.

    The principal components of the pixels are fitted on the video model's training clips, as many
    as the base model has hidden units; no clip of the ridge's runs enters them.

    Returns
    -------
    features : dict
        Name to an npz with ``features`` float32 (n_windows, n_features).
    """
    n_components = pipeline.profile.base.hidden
    pooling = pipeline.profile.protocol.pooling

    def write(path: Path, name: str):
        data = load_tokens(video.tokens)
        rows = ridge_rows(data)
        if name == "vq":
            values = code_embeddings(data.codes[rows], data.codebook, pooling=pooling)
        elif name == "buttons":
            values = _button_rows(video.dataset, data.clips.loc[rows])
        else:
            values = _pixel_rows(name, video, data.clips.loc[rows], n_components)
        with open(path, "wb") as handle:
            np.savez(handle, features=values.astype(np.float32))

    made = {}
    for name in CONTROLS:
        made[name] = pipeline.store.make(
            f"controls/{name}",
            params={"n_components": n_components, "pooling": pooling, "name": name},
            inputs={"tokens": video.tokens}
            | {f"frames {key}": item for key, item in video.frames.items()},
            write=lambda path, name=name: write(path, name),
            code=("cobe.encoding.controls", "cobe.stimulus.lowlevel", "cobe.sweep.scores"),
            suffix=".npz",
        )
    return made


def _pixel_rows(name, video: VideoStages, clips: pd.DataFrame, n_components: int) -> np.ndarray:
    """Pixel components or low-level statistics of every clip of the table, in its order."""
    if name == "pixel_pca":
        keys = repetition_keys(video.roles, "video_train")
        train = [open_frames(video.frames[key].path) for key in keys]
        fit_clips = spread_clips(train, N_PCA_FIT_CLIPS)
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


def session_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean r over parcels of every (cell, subject, held-out group): the units of paired tests.

    Returns
    -------
    table : DataFrame
        Columns cell, features, subject, held_out, r.
    """
    chosen = scores[(scores.summary == "mean") & (scores.held_out != "all")]
    return chosen[["cell", "features", "subject", "held_out", "r"]].reset_index(drop=True)


def runs_of_ridge(dataset: Dataset, roles: pd.DataFrame) -> list[Run]:
    """The usable runs that belong to the ridge."""
    keys = {key[:3] for key in repetition_keys(roles, "ridge")}
    return [run for run in usable_runs(dataset) if run.key in keys]
