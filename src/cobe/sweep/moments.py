"""Held-out predictions beside measured BOLD, with what was on screen in each volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cobe.core.arrays import read_npz
from cobe.core.artifacts import Artifact
from cobe.core.config import Cell, Protocol
from cobe.core.errors import CobeError
from cobe.core.timing import FRAME_RATE_HZ, TR_S
from cobe.encoding.crossval import fit_folds, load, make_plan
from cobe.encoding.stats import centre_in_segments
from cobe.stimulus.frames import open_frames
from cobe.sweep.cells import load_tokens
from cobe.sweep.features import load_features, model_features, ridge_data
from cobe.sweep.models import VideoStages
from cobe.sweep.pipeline import Pipeline
from cobe.sweep.protocols import protocol_options
from cobe.sweep.scores import RunKey, keys_by_subject, run_features

# of `protocol_options`: they are about the null, not about the fit
ONLY_SCORING = ("n_permutations", "block_trs")


@dataclass(frozen=True)
class Predicted:
    """Predictions of one run by models that were fitted without its session.

    Attributes
    ----------
    values : float32 (n_trs, n_parcels)
        In the units of the BOLD (z in the run), minus their mean over the run's predicted volumes:
        a run's offset is not predicted. NaN rows where a delayed volume has no features.
    held_out : str
        Group that was held out with the run, such as its session.
    readout : str
        Block that was chosen in the other sessions; "" without a choice.
    """

    values: np.ndarray
    held_out: str
    readout: str


@dataclass(frozen=True)
class Moments:
    """One run, volume by volume: what was measured, what was predicted, what was on screen.

    Attributes
    ----------
    subject, session : str
        Labels with their prefixes.
    run : int
        Number of the run.
    tr_s : float
        Volume k covers ``[k * tr_s, (k + 1) * tr_s)`` seconds from the run's first volume.
    bold : float32 (n_trs, n_parcels)
        Measured, z in the run, minus its mean over the volumes with a prediction.
    predicted : float32 (n_trs, n_parcels)
        Held-out prediction, as `Predicted.values`.
    frames_at : uint8 (n_trs, height, width, 3)
        Frame on screen in the middle of the volume; black where `has_frame` is False. BOLD answers
        seconds later.
    has_frame : bool (n_trs,)
        Whether a replay tells what was on screen.
    r : float64 (n_parcels,)
        Of the score table: over all held-out sessions of the participant, not of this run alone.
    readout : str
        Block that the prediction was read from.
    """

    subject: str
    session: str
    run: int
    tr_s: float
    bold: np.ndarray
    predicted: np.ndarray
    frames_at: np.ndarray
    has_frame: np.ndarray
    r: np.ndarray
    readout: str

    @property
    def label(self) -> str:
        """The run in words."""
        return f"{self.subject} {self.session} run {self.run}"


def held_out_predictions(
    features: np.ndarray | Mapping[str, np.ndarray],
    clips: pd.DataFrame,
    bold: dict[tuple, np.ndarray],
    protocol: Protocol,
) -> dict[tuple, Predicted]:
    """The predictions behind a score table: each run by the fold that holds its session out.

    Folds, penalties and the choice of the block are those of `cobe.sweep.scores.score_features`.

    Parameters
    ----------
    features, clips, bold, protocol
        As for `cobe.sweep.scores.score_features`.

    Returns
    -------
    predicted : dict
        (subject, session, run) to `Predicted`.

    Raises
    ------
    CobeError
        The protocol holds out single volumes, so that a run has no prediction of its own; or as
        from `cobe.encoding.evaluate`.
    """
    if protocol.holdout == "volumes":
        raise CobeError(
            f"protocol {protocol.name!r}: holds out volumes drawn at random, which predicts no run "
            "as a whole; take one that holds out sessions or runs"
        )
    if not isinstance(features, Mapping):
        features = {"": features}
    readouts = features if len(features) > 1 else {"": next(iter(features.values()))}
    predicted = {}
    for found in keys_by_subject(clips, bold).values():
        keys = [RunKey(*key) for key in found]
        options = protocol_options(protocol, keys)
        groups = options.pop("groups")
        plan = make_plan(**{k: v for k, v in options.items() if k not in ONLY_SCORING})
        runs_x = {
            name: [run_features(values, clips, key, len(bold[key])) for key in keys]
            for name, values in readouts.items()
        }
        made = _predict(runs_x, [bold[key] for key in keys], groups, plan)
        predicted |= dict(zip(found, made, strict=True))
    return predicted


def _predict(runs_x, runs_y, groups, plan) -> list[Predicted]:
    data = load(runs_x, runs_y, groups, plan)
    values = np.full((len(data.y), data.y.shape[1]), np.nan)
    readout = {}
    for fit in fit_folds(data, plan):
        values[fit.fold.test] = fit.predicted
        readout[fit.fold.label] = fit.readout
    # as they are scored: a run's offset is not predicted
    values = centre_in_segments(values, data.split.segment)
    rows = next(iter(data.readouts.values())).rows
    made, first = [], 0
    for volumes, y, group in zip(rows, runs_y, groups, strict=True):
        whole = np.full(y.shape, np.nan, np.float32)
        whole[volumes] = values[first : first + len(volumes)]
        made.append(Predicted(whole, str(group), readout[str(group)]))
        first += len(volumes)
    return made


def predictions(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    models: dict[Cell, Artifact],
    cell: Cell,
) -> dict[tuple, Predicted]:
    """Held-out predictions of one cell under the profile's protocol, made once.

    Parameters
    ----------
    pipeline, tokenised, bold, models
        As for `cobe.sweep.scores.scores`.
    cell : Cell
        Which of the models.

    Returns
    -------
    predicted : dict
        As of `held_out_predictions`.
    """
    protocol = pipeline.profile.protocol
    (source,) = model_features(pipeline, tokenised, {cell: models[cell]}, protocol).values()

    def write(path: Path):
        torch.set_num_threads(1)
        clips, series = ridge_data(load_tokens(tokenised), bold)
        made = held_out_predictions(load_features(source), clips, series, protocol)
        about = zip(*((*key, one.held_out, one.readout) for key, one in made.items()), strict=True)
        names = ("subject", "session", "run", "held_out", "readout")
        arrays = dict(zip(names, map(np.array, about), strict=True))
        values = {f"values_{number}": one.values for number, one in enumerate(made.values())}
        with open(path, "wb") as handle:
            np.savez(handle, **arrays, **values)

    artifact = pipeline.store.make(
        f"explored/predictions/{cell.name}",
        params={"protocol": protocol},
        inputs={"features": source, "tokens": tokenised}
        | {f"bold {key}": item for key, item in bold.items()},
        write=write,
        code=("cobe.sweep.moments",),
        suffix=".npz",
    )
    arrays = read_npz(artifact.path)
    about = [arrays[name].tolist() for name in ("subject", "session", "run")]
    more = [arrays[name].tolist() for name in ("held_out", "readout")]
    return {
        key: Predicted(arrays[f"values_{number}"], *words)
        for number, (key, words) in enumerate(
            zip(zip(*about, strict=True), zip(*more, strict=True), strict=True)
        )
    }


def frames_at_volumes(video: VideoStages, key: tuple, n_trs: int) -> tuple[np.ndarray, np.ndarray]:
    """What was on screen in the middle of each volume of a run.

    Parameters
    ----------
    video : VideoStages
        Frames, and when each repetition began.
    key : (subject, session, run)
        Which run.
    n_trs : int
        Volumes of that run.

    Returns
    -------
    frames_at : uint8 (n_trs, height, width, 3)
        Black where there is no replay.
    has_frame : bool (n_trs,)

    Raises
    ------
    CobeError
        The run has no replay.
    """
    roles = video.roles
    here = roles[(roles[["subject", "session", "run"]] == list(key)).all(axis=1)]
    if here.empty:
        raise CobeError(f"{' '.join(map(str, key))}: no repetition with a replay; show another run")
    middle_s = (np.arange(n_trs) + 0.5) * TR_S
    frames_at, has_frame = None, np.zeros(n_trs, bool)
    for row, onset_s in zip(here.row, here.onset_s, strict=True):
        store = open_frames(video.frames[*key, row].path)
        if frames_at is None:
            frames_at = np.zeros((n_trs, *store.shape[1:]), np.uint8)
        frame = np.floor((middle_s - onset_s) * FRAME_RATE_HZ).astype(int)
        inside = np.flatnonzero((frame >= 0) & (frame < len(store)))
        for volume in inside:
            frames_at[volume] = store[int(frame[volume])]
        has_frame[inside] = True
    return frames_at, has_frame


def run_moments(
    video: VideoStages,
    key: tuple,
    predicted: Predicted,
    bold: np.ndarray,
    parcel_scores: pd.DataFrame,
) -> Moments:
    """One run as a reader looks at it.

    Parameters
    ----------
    video : VideoStages
        For the frames.
    key : (subject, session, run)
        Which run.
    predicted : Predicted
        Of that run.
    bold : float32 (n_trs, n_parcels)
        Of that run.
    parcel_scores : DataFrame
        Rows of the score table for this model and protocol, over ``"all"`` held-out volumes, one
        per subject and parcel: subject, target, r.

    Raises
    ------
    CobeError
        The run has no replay, or the scores are not one per parcel.
    """
    subject, session, run = key
    r = parcel_scores[parcel_scores.subject == subject].set_index("target").r.sort_index()
    if not np.array_equal(r.index, np.arange(bold.shape[1])):
        raise CobeError(
            f"scores: {len(r)} rows of {subject} for {bold.shape[1]} parcels; give the parcels of "
            "one model under one protocol"
        )
    there = np.isfinite(predicted.values).any(axis=1)
    centred = bold - bold[there].mean(axis=0)
    frames_at, has_frame = frames_at_volumes(video, key, len(bold))
    return Moments(
        subject=subject,
        session=session,
        run=int(run),
        tr_s=TR_S,
        bold=centred,
        predicted=predicted.values,
        frames_at=frames_at,
        has_frame=has_frame,
        r=r.to_numpy(),
        readout=predicted.readout,
    )
