"""The null brain and the planted brain of a study, as artifacts: one participant, few features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from cobe.core.artifacts import Artifact
from cobe.core.config import Cell, Protocol
from cobe.core.seeds import rng_for
from cobe.core.timing import TR_S
from cobe.encoding import HRF
from cobe.encoding.surrogates import slow_noise
from cobe.sweep.cells import load_tokens
from cobe.sweep.features import load_features, model_features, role_rows
from cobe.sweep.pipeline import Pipeline, load_bold
from cobe.sweep.scores import RunKey, keys_by_subject, run_features
from cobe.sweep.trials import null_trials, planted_trials

# A draw costs in proportion to all of these; none of them favours a protocol.
N_NULL_FEATURES = 24
N_NULL_PARCELS, N_PLANTED_PARCELS = 60, 20
PLANTED_HRF_S = 12.0
N_PERMUTATIONS = 100
TRIAL_CODE = (
    "cobe.sweep.trials",
    "cobe.sweep.protocols",
    "cobe.sweep.brains",
    "cobe.encoding.surrogates",
    "cobe.encoding.scoring",
    "cobe.encoding.align",
)


def null_brain(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    models: dict[Cell, Artifact],
    n_draws: int = 100,
) -> pd.DataFrame:
    """What both protocols report of null brains, from the base model's features.

    Parameters
    ----------
    pipeline, tokenised, bold, models
        As for `cobe.sweep.scores.scores`; `models` holds the base cell.
    n_draws : int
        Null brains, made of the first participant's BOLD.

    Returns
    -------
    trials : DataFrame
        `cobe.sweep.trials.null_trials`. Each protocol reads the last of the blocks that it may
        read, and the first `N_NULL_FEATURES` features of it.
    """
    profile = pipeline.profile
    base = {profile.base: models[profile.base]}
    read = {
        protocol.name: model_features(pipeline, tokenised, base, protocol)[profile.base]
        for protocol in (profile.published, profile.protocol)
    }

    def write(path: Path):
        runs, on_volumes, y = _one_participant(tokenised, bold)
        features = {name: list(load_features(item).values())[-1] for name, item in read.items()}
        x = {name: on_volumes(values[:, :N_NULL_FEATURES]) for name, values in features.items()}
        few = _every(y, N_NULL_PARCELS)
        trials = null_trials(x, few, runs, cheaper(pipeline), n_draws=n_draws)
        trials.assign(subject=runs[0].subject).to_parquet(path)

    params = {"n_draws": n_draws, "n_features": N_NULL_FEATURES, "n_parcels": N_NULL_PARCELS}
    return _kept(pipeline, "null-brain", params, tokenised, bold, read, write)


def planted_brain(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    sets: dict[str, tuple[int, float, float]],
    n_draws: int = 40,
) -> pd.DataFrame:
    """What both protocols say of feature sets whose shares of the brain are known.

    The sets are noise, unrelated to each other: a share is the truth only of a set that none of the
    others can stand in for.

    Parameters
    ----------
    pipeline, tokenised, bold
        As for `cobe.sweep.scores.scores`.
    sets : dict of str to (int, float, float)
        Name to number of features, correlation of neighbouring volumes, and share of variance.
    n_draws : int
        Planted brains, with noise made of the first participant's BOLD.

    Returns
    -------
    trials : DataFrame
        `cobe.sweep.trials.planted_trials`.
    """

    def write(path: Path):
        runs, _, y = _one_participant(tokenised, bold)
        x = {
            name: [
                slow_noise(rng_for(0, "planted set", name, *run), len(of_run), n_features, lag_one)
                for run, of_run in zip(runs, y, strict=True)
            ]
            for name, (n_features, lag_one, _) in sets.items()
        }
        shares = {name: share for name, (_, _, share) in sets.items()}
        few, hrf = _every(y, N_PLANTED_PARCELS), HRF(TR_S, span_s=PLANTED_HRF_S)
        trials = planted_trials(x, shares, few, runs, cheaper(pipeline), hrf=hrf, n_draws=n_draws)
        trials.assign(subject=runs[0].subject).to_parquet(path)

    params = {"n_draws": n_draws, "sets": sets, "n_parcels": N_PLANTED_PARCELS}
    return _kept(pipeline, "planted-brain", params, tokenised, bold, {}, write)


def _every(y: list[np.ndarray], n_parcels: int) -> list[np.ndarray]:
    """So many parcels, spread evenly over all."""
    n_all = y[0].shape[1]
    chosen = np.linspace(0, n_all - 1, min(n_parcels, n_all)).astype(int)
    return [of_run[:, chosen] for of_run in y]


def cheaper(pipeline: Pipeline) -> list[Protocol]:
    """Both protocols with fewer permutations: so many draws with all of them would take hours."""
    both = (pipeline.profile.published, pipeline.profile.protocol)
    return [replace(p, n_permutations=N_PERMUTATIONS) for p in both]


def _one_participant(tokenised: Artifact, bold: dict[tuple, Artifact]):
    """Runs of the first participant, a function that brings features onto their volumes, BOLD."""
    data = load_tokens(tokenised)
    clips = data.clips.loc[role_rows(data)]
    series = {key: load_bold(item) for key, item in bold.items()}
    keys = next(iter(keys_by_subject(clips, series).values()))

    def on_volumes(values: np.ndarray) -> list[np.ndarray]:
        return [run_features(values, clips, key, len(series[key])) for key in keys]

    return [RunKey(*key) for key in keys], on_volumes, [series[key] for key in keys]


def _kept(pipeline, name, params, tokenised, bold, features, write) -> pd.DataFrame:
    made = pipeline.store.make(
        name,
        params=params | {"protocols": cheaper(pipeline), "tr_s": TR_S},
        inputs={"tokens": tokenised}
        | {f"features {key}": item for key, item in features.items()}
        | {f"bold {key}": item for key, item in bold.items()},
        write=write,
        code=TRIAL_CODE,
        suffix=".parquet",
    )
    return pd.read_parquet(made.path)
