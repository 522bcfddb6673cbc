"""Every model and control against every participant's brain: one score table per protocol."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cobe.brain.dataset import Dataset, Run
from cobe.core.artifacts import Artifact
from cobe.core.config import Cell, Protocol
from cobe.core.timing import TR_S
from cobe.encoding import Reduction, evaluate
from cobe.encoding.align import clips_to_trs
from cobe.sweep.cells import load_tokens
from cobe.sweep.features import MIXED_UNITS, load_features, model_features, ridge_data
from cobe.sweep.jobs import Job, make_all
from cobe.sweep.models import sweep_cells, untrained_controls
from cobe.sweep.pipeline import Pipeline, repetition_keys, usable_runs
from cobe.sweep.protocols import holdout_of, protocol_options, quiet_edges

RunKey = namedtuple("RunKey", "subject session run")
SCORE_CODE = (
    "cobe.encoding.scoring",
    "cobe.encoding.align",
    "cobe.sweep.protocols",
    "cobe.sweep.scores",
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
    features: np.ndarray | dict[str, np.ndarray],
    clips: pd.DataFrame,
    bold: dict[tuple, np.ndarray],
    protocol: Protocol,
    **options,
) -> pd.DataFrame:
    """Score one set of clip features against every subject.

    Parameters
    ----------
    features : float32 (n_windows, n_features), or dict of str to such an array
        One row per row of `clips`. A dict holds several readouts of one model, its blocks: which
        one is read is chosen inside the training rows.
    clips : DataFrame
        Target clips of the windows.
    bold : dict
        (subject, session, run) to float32 (n_trs, n_parcels).
    protocol : Protocol
        What is held out, delays, penalties, permutations.
    **options
        Of `cobe.encoding.evaluate`, in place of the protocol's.

    Returns
    -------
    scores : DataFrame
        The columns of `cobe.encoding.evaluate`, and subject, protocol and holdout (what was held
        out: ``"run"`` in place of ``"session"`` where a subject has one session only).
    """
    if isinstance(features, dict) and len(features) == 1:
        (features,) = features.values()
    tables = []
    for subject, found in keys_by_subject(clips, bold).items():
        keys = [RunKey(*key) for key in found]
        asked = protocol_options(protocol, keys) | options
        if isinstance(features, dict):
            runs_x = {
                name: [run_features(block, clips, key, len(bold[key])) for key in keys]
                for name, block in features.items()
            }
        else:
            runs_x = [run_features(features, clips, key, len(bold[key])) for key in keys]
        with quiet_edges():
            table = evaluate(runs_x, [bold[key] for key in keys], **asked)
        about = {"subject": subject, "protocol": protocol.name}
        tables.append(table.assign(**about, holdout=holdout_of(protocol, keys)))
    return pd.concat(tables, ignore_index=True)


def keys_by_subject(clips: pd.DataFrame, bold: dict[tuple, np.ndarray]) -> dict[str, list[tuple]]:
    """Runs with both clips and BOLD, in order, by subject.

    A run whose BOLD was left out (and said so) has features all the same.
    """
    with_clips = set(clips[["subject", "session", "run"]].itertuples(index=False, name=None))
    present = sorted(with_clips & bold.keys())
    subjects = dict.fromkeys(key[0] for key in present)
    return {subject: [key for key in present if key[0] == subject] for subject in subjects}


def own_units(features: np.ndarray, protocol: Protocol) -> Reduction:
    """How features with columns in units of their own come to the ridge, which has one penalty.

    Every column gets variance 1 in the training rows: otherwise those in small units, such as
    motion energy beside contrast, would be shrunk away, and a control would lose for its units.
    Wider sets come to as many principal components as the protocol gives every model.

    Parameters
    ----------
    features : array (n_windows, n_features)
    protocol : Protocol

    Returns
    -------
    reduction : Reduction
    """
    n = protocol.n_features
    if n is None or features.shape[1] <= n:
        return Reduction("scale")
    return Reduction("pca", n)


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
    clips, series = ridge_data(load_tokens(tokenised), bold)
    features = load_features(source)
    options = {}
    if kind in MIXED_UNITS:
        options["reduce"] = own_units(features["features"], protocol)
    table = score_features(features, clips, series, protocol, **options)
    table.assign(cell=name, features=kind).to_parquet(path)


def scores(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    models: dict[Cell, Artifact],
    controls: dict[str, Artifact],
    protocol: Protocol | None = None,
) -> pd.DataFrame:
    """Score models and controls under a protocol, several at a time; what is there is reused.

    Parameters
    ----------
    pipeline : Pipeline
        Whose store is used.
    tokenised, bold : Artifact, dict of Artifact
        Tokens, and the parcel series of every run.
    models : dict
        Cell to its trained, or untrained, model.
    controls : dict
        Name to features that need no model.
    protocol : Protocol or None
        None: the profile's own, ``corrected``.

    Returns
    -------
    table : DataFrame
        One row per (cell, protocol, subject, parcel, held-out group), and summaries over parcels.
    """
    how = pipeline.profile.protocol if protocol is None else protocol
    features = model_features(pipeline, tokenised, models, how)
    sources = [
        (cell.name, "gpt" if cell.trained else "untrained", item) for cell, item in features.items()
    ]
    sources += [(name, name, item) for name, item in controls.items()]
    return score_sources(pipeline, tokenised, bold, sources, how)


def paper_scores(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    models: dict[Cell, Artifact],
    controls: dict[str, Artifact],
    axes: list[str],
) -> pd.DataFrame:
    """The score table of the paper's figures: every cell of these axes under both protocols.

    Parameters
    ----------
    pipeline, tokenised, bold, models, controls
        As for `scores`; `models` holds `cobe.sweep.models.paper_cells`.
    axes : list of str
        Names of axes.

    Returns
    -------
    table : DataFrame
        As of `scores`. Controls are scored under ``corrected`` and ``as_published``; the axes whose
        published figure was made in another way have a protocol of their own.
    """
    profile = pipeline.profile
    asked = {profile.protocol: axes, profile.published: []}
    for axis in axes:
        asked.setdefault(profile.published_for(axis), []).append(axis)
    tables = []
    for protocol, names in asked.items():
        cells = sweep_cells(profile, names, [protocol])
        cells += untrained_controls(cells)
        if protocol == profile.published:
            # read in the other way too, for what the choice of the block alone does
            others = [name for name in axes if profile.published_for(name) != protocol]
            cells += sweep_cells(profile, others)
        chosen = {cell: models[cell] for cell in dict.fromkeys(cells)}
        given = controls if protocol in (profile.protocol, profile.published) else {}
        tables.append(scores(pipeline, tokenised, bold, chosen, given, protocol))
    return pd.concat(tables, ignore_index=True)


def score_sources(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    sources: list[tuple[str, str, Artifact]],
    protocol: Protocol,
) -> pd.DataFrame:
    """Score named features under a protocol: (name in the table, kind, artifact of features)."""
    series = {f"bold {key}": item for key, item in bold.items()}
    jobs = [
        Job(
            f"scores/{protocol.name}/{name}",
            _write_scores,
            (name, kind, protocol, item, tokenised, bold),
            params={"protocol": protocol, "features": kind},
            inputs={"features": item, "tokens": tokenised} | series,
            code=SCORE_CODE,
            suffix=".parquet",
        )
        for name, kind, item in sources
    ]
    made = make_all(pipeline.store, jobs, f"scoring, {protocol.name}", "model")
    return pd.concat([pd.read_parquet(item.path) for item in made], ignore_index=True)


def session_scores(scores: pd.DataFrame, protocol: str = "corrected") -> pd.DataFrame:
    """Mean r over parcels of every (cell, subject, held-out group): the units of paired tests.

    Returns
    -------
    table : DataFrame
        Columns cell, features, subject, held_out, r.
    """
    chosen = scores[
        (scores.summary == "mean") & (scores.held_out != "all") & (scores.protocol == protocol)
    ]
    return chosen[["cell", "features", "subject", "held_out", "r"]].reset_index(drop=True)


def runs_of_ridge(dataset: Dataset, roles: pd.DataFrame) -> list[Run]:
    """The usable runs that belong to the ridge."""
    keys = {key[:3] for key in repetition_keys(roles, "ridge")}
    return [run for run in usable_runs(dataset) if run.key in keys]
