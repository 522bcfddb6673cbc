"""The null brain and the planted brain of a study, as artifacts: one participant, few features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from cobe.core.artifacts import Artifact
from cobe.core.config import Cell, Protocol
from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for
from cobe.core.timing import TR_S
from cobe.encoding import HRF
from cobe.encoding.surrogates import slow_noise
from cobe.sweep.cells import load_tokens
from cobe.sweep.features import load_features, model_features, ridge_data
from cobe.sweep.pipeline import Pipeline
from cobe.sweep.scores import RunKey, keys_by_subject, run_features
from cobe.sweep.trials import null_trials, planted_trials

# A draw costs in proportion to all of these, and what a null brain gives depends on them: fewer
# features and parcels make its maximum smaller. So few parcels can each be found by themselves with
# so many permutations (`cobe.encoding.stats.fewest_findable` is 1).
N_NULL_FEATURES, N_NULL_PARCELS, N_NULL_PERMUTATIONS = 24, 20, 400
N_PLANTED_PARCELS, N_PLANTED_PERMUTATIONS = 20, 100
PLANTED_HRF_S = 12.0
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
    profile, protocols = pipeline.profile, cheaper(pipeline, N_NULL_PERMUTATIONS)
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
        trials = null_trials(x, few, runs, protocols, n_draws=n_draws)
        trials.assign(subject=runs[0].subject).to_parquet(path)

    params = {"n_draws": n_draws, "n_features": N_NULL_FEATURES, "n_parcels": N_NULL_PARCELS}
    params["protocols"] = protocols
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

    protocols = cheaper(pipeline, N_PLANTED_PERMUTATIONS)

    def write(path: Path):
        runs, _, y = _one_participant(tokenised, bold)
        x = SlowSets(tuple(sets.items()), tuple(len(of_run) for of_run in y))
        shares = {name: share for name, (_, _, share) in sets.items()}
        few, hrf = _every(y, N_PLANTED_PARCELS), HRF(TR_S, span_s=PLANTED_HRF_S)
        trials = planted_trials(x, shares, few, runs, protocols, hrf=hrf, n_draws=n_draws)
        trials.assign(subject=runs[0].subject).to_parquet(path)

    params = {"n_draws": n_draws, "sets": sets, "n_parcels": N_PLANTED_PARCELS}
    params["protocols"] = protocols
    return _kept(pipeline, "planted-brain", params, tokenised, bold, {}, write)


def _every(y: list[np.ndarray], n_parcels: int) -> list[np.ndarray]:
    """So many parcels, spread evenly over those with a series in every run."""
    whole = np.flatnonzero(np.all([np.isfinite(of_run).all(axis=0) for of_run in y], axis=0))
    if not len(whole):
        raise CobeError("trials: no parcel has a whole series in every run of the participant")
    chosen = whole[np.linspace(0, len(whole) - 1, min(n_parcels, len(whole))).astype(int)]
    return [of_run[:, chosen] for of_run in y]


@dataclass(frozen=True)
class SlowSets:
    """Feature sets of noise, others in every draw.

    Attributes
    ----------
    sets : tuple of (str, (int, float, float))
        Name to number of features, correlation of neighbouring volumes, and share.
    lengths : tuple of int
        Volumes of every run.
    """

    sets: tuple
    lengths: tuple[int, ...]

    def __call__(self, draw: int) -> dict[str, list[np.ndarray]]:
        """The sets of one draw, by name: one (n_trs, n_features) array per run."""
        made = {}
        for name, (n_features, lag_one, _) in self.sets:
            rng = rng_for(0, "planted set", name, draw)
            made[name] = [slow_noise(rng, n, n_features, lag_one) for n in self.lengths]
        return made


def cheaper(pipeline: Pipeline, n_permutations: int) -> list[Protocol]:
    """Both protocols with fewer permutations: so many draws with all of them would take hours."""
    both = (pipeline.profile.published, pipeline.profile.protocol)
    return [replace(p, n_permutations=n_permutations) for p in both]


def _one_participant(tokenised: Artifact, bold: dict[tuple, Artifact]):
    """Runs of the first participant, a function that brings features onto their volumes, BOLD."""
    clips, series = ridge_data(load_tokens(tokenised), bold)
    keys = next(iter(keys_by_subject(clips, series).values()))

    def on_volumes(values: np.ndarray) -> list[np.ndarray]:
        return [run_features(values, clips, key, len(series[key])) for key in keys]

    return [RunKey(*key) for key in keys], on_volumes, [series[key] for key in keys]


def _kept(pipeline, name, params, tokenised, bold, features, write) -> pd.DataFrame:
    made = pipeline.store.make(
        name,
        params=params | {"tr_s": TR_S},
        inputs={"tokens": tokenised}
        | {f"features {key}": item for key, item in features.items()}
        | {f"bold {key}": item for key, item in bold.items()},
        write=write,
        code=TRIAL_CODE,
        suffix=".parquet",
    )
    return pd.read_parquet(made.path)
