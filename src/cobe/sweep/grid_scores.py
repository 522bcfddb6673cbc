"""The grid against the brain, crossed with the scan time that the ridge is trained on.

Each session of a participant is held out in turn. The ridge is trained on nested parts of the
others: their runs are put in order, first the first run of every session, then the second of every
session, and so on, and a level of so many hours takes the volumes from the beginning of that order,
the last run perhaps not whole. A level of a single run chooses penalties over four parts of it with
purged borders, as `cobe.encoding.evaluate` does. Penalties and the block that is read are chosen
inside the training volumes of the level: with few hours they are chosen badly, too, as in a study
that has no more.

Scores are those that `cobe.encoding.evaluate` gives a held-out group: predictions and BOLD centred
in each run, Pearson r over all volumes of the held-out session for each parcel, and the mean over
parcels. At the level of all hours the two agree. A parcel without data in any run of a participant,
or without a score at any level, is left out at all levels: every mean of a participant is over the
same parcels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cobe.core.artifacts import Artifact
from cobe.core.config import Profile, Protocol
from cobe.encoding.crossval import fit_folds, load, make_plan
from cobe.encoding.stats import centre_in_segments
from cobe.encoding.table import correlate
from cobe.sweep.anywhere import make_anywhere
from cobe.sweep.cells import load_tokens
from cobe.sweep.features import gpt_features, ridge_data, role_rows
from cobe.sweep.grid import grid_losses, train_grid
from cobe.sweep.grid_plan import GridCell
from cobe.sweep.jobs import Job
from cobe.sweep.models import cell_columns
from cobe.sweep.pipeline import Pipeline, load_bold
from cobe.sweep.scan_hours import Level, check_scan_hours
from cobe.sweep.scores import keys_by_subject, run_features

HELD_OUT, TRAINING = "held out", "training"


@dataclass(frozen=True)
class GridResult:
    """The joint grid, trained and scored.

    Attributes
    ----------
    losses : DataFrame
        From `cobe.sweep.grid.grid_losses`.
    scores : DataFrame
        From `grid_scores`.
    not_computed : DataFrame
        Cells that the budget did not pay for, as `cobe.sweep.grid_plan.plan_table` lists them.
    """

    losses: pd.DataFrame
    scores: pd.DataFrame
    not_computed: pd.DataFrame


def compute_grid(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    *,
    budget_s: float | None = None,
    budget_flop: float | None = None,
    client=None,
) -> GridResult:
    """Check, train and score the grid; arguments as for `train_grid` and `grid_scores`.

    Raises
    ------
    CobeError
        What `train_grid` and `check_scan_hours` refuse, all before the first training.
    """
    _checked_series(pipeline.profile, tokenised, bold)
    trained = train_grid(
        pipeline, tokenised, budget_s=budget_s, budget_flop=budget_flop, client=client
    )
    scores = grid_scores(pipeline, tokenised, bold, trained.models, client=client)
    return GridResult(grid_losses(trained.models), scores, trained.not_computed)


def score_levels(
    features: dict[str, np.ndarray],
    clips: pd.DataFrame,
    bold: dict[tuple, np.ndarray],
    levels: dict[str, list[Level]],
    protocol: Protocol,
) -> pd.DataFrame:
    """Score one model at every level of scan hours.

    Parameters
    ----------
    features : dict
        Block to float32 (n_windows, n_features), one row per row of `clips`.
    clips : DataFrame
        Target clips of the windows.
    bold : dict
        (subject, session, run) to float32 (n_trs, n_parcels).
    levels : dict
        From `check_scan_hours`.
    protocol : Protocol
        Delays and penalties.

    Returns
    -------
    scores : DataFrame
        One row per participant, held-out session and level: subject, held_out, scan_hours (asked
        for), n_train_trs (volumes that trained: with BOLD, and clips at all delays), n_test_trs, r
        (mean over parcels), n_parcels (that have a score at every level and in every held-out
        session: the same parcels, and number, in all rows of a participant), n_alpha_edge (parcels
        whose penalty is at an edge of the grid), block (chosen inside the training volumes).
    """
    plan = make_plan(
        delays_tr=protocol.delays_tr,
        alphas=protocol.alphas,
        relative_alphas=protocol.relative_alphas,
        alpha_per_target=protocol.alpha_per_target,
    )
    rows = []
    for subject, own in levels.items():
        keys = keys_by_subject(clips, bold)[subject]
        runs_x = {
            str(block): {key: run_features(values, clips, key, len(bold[key])) for key in keys}
            for block, values in features.items()
        }
        series = _without_absent({key: bold[key] for key in keys})
        scored = [_score_level(level, runs_x, series, keys, plan) for level in own]
        there = np.all([np.isfinite(r) for r, _ in scored], axis=0)
        for level, (r, told) in zip(own, scored, strict=True):
            mean = float(r[there].mean()) if there.any() else np.nan
            row = {"subject": subject, "held_out": level.held_out} | told
            rows.append(row | {"r": mean, "n_parcels": int(there.sum())})
    return pd.DataFrame(rows)


def _without_absent(series: dict) -> dict:
    """Series of one participant; a parcel that is NaN throughout one run is NaN in all."""
    absent = np.any([np.isnan(y).all(axis=0) for y in series.values()], axis=0)
    return {key: np.where(absent, np.float32(np.nan), y) for key, y in series.items()}


def _score_level(
    level: Level, runs_x: dict, bold: dict, keys: list[tuple], plan
) -> tuple[np.ndarray, dict]:
    """r of every parcel, NaN where there is none, and what else is told of a level."""
    held = [key for key in keys if key[1] == level.held_out]
    used = held + list(level.volumes)
    groups = [HELD_OUT] * len(held)
    for key, n in level.volumes.items():
        labels = np.full(len(bold[key]), None, object)
        labels[:n] = TRAINING
        groups.append(labels)
    readouts = {block: [runs[key] for key in used] for block, runs in runs_x.items()}
    data = load(readouts, [bold[key] for key in used], groups, plan)
    fit = next(fit_folds(data, plan))  # the first fold holds out the first label
    test = fit.fold.test
    segment = data.split.segment[test]
    y = centre_in_segments(data.y.cpu().numpy()[test], segment)
    y[:, data.missing] = np.nan
    r = correlate(centre_in_segments(fit.predicted, segment), y)[0]
    return r, {
        "scan_hours": level.hours,
        "n_train_trs": len(fit.fold.train),
        "n_test_trs": len(test),
        "r": np.nan,  # both are known when all levels are
        "n_parcels": 0,
        "n_alpha_edge": int((fit.low | fit.high).sum()),
        "block": int(fit.readout),
    }


def grid_scores(
    pipeline: Pipeline,
    tokenised: Artifact,
    bold: dict[tuple, Artifact],
    models: dict[GridCell, Artifact],
    *,
    client=None,
) -> pd.DataFrame:
    """Score every model of the grid at every level of scan hours; what is there is reused.

    Features are the principal components of each block, as many as the protocol gives every model,
    fitted on windows that trained the video model, the same for all cells.

    Parameters
    ----------
    pipeline : Pipeline
        Its profile's grid and protocol, and the store.
    tokenised : Artifact
        Tokens of all clips.
    bold : dict
        (subject, session, run) to the parcel series of every run.
    models : dict
        `cobe.sweep.grid.GridModels.models`.
    client : distributed.Client or None
        Score on its workers; None: in processes of this machine.

    Returns
    -------
    scores : DataFrame
        One row per cell, participant, held-out session and level of scan hours. Columns: cell,
        n_frames, hidden, n_layers, n_heads, precision, scheme, seed, n_steps (untrained: n_frames
        and n_steps 0); kind ("grid", "anchor", "isoflop", "untrained"), slice_flop, trained (bool);
        subject, held_out, scan_hours, n_train_trs, n_test_trs, r, n_parcels, n_alpha_edge, block as
        `score_levels` gives them.

    Raises
    ------
    CobeError
        What `check_scan_hours` refuses.
    """
    profile = pipeline.profile
    ridge = _checked_series(profile, tokenised, bold)
    series = {f"bold {key}": item for key, item in ridge.items()}
    hours = profile.grid.scan_hours
    jobs = [
        Job(
            f"grid_scores/{one.cell.name}",
            _write_scores,
            (item, tokenised, ridge, profile),
            params={"protocol": profile.protocol, "scan_hours": hours},
            inputs={"model": item, "tokens": tokenised} | series,
            code=("cobe.sweep.grid_scores",),
            suffix=".parquet",
        )
        for one, item in models.items()
    ]
    made = make_anywhere(pipeline.store, jobs, "scoring the grid", "model", client)
    tables = [
        pd.read_parquet(item.path).assign(
            **cell_columns(one.cell),
            kind=one.kind,
            slice_flop=np.nan if one.slice_flop is None else one.slice_flop,
            trained=one.cell.trained,
        )
        for one, item in zip(models, made, strict=True)
    ]
    table = pd.concat(tables, ignore_index=True)
    first = [*cell_columns(next(iter(models)).cell), "kind", "slice_flop", "trained"]
    return table[first + [name for name in table.columns if name not in first]]


def _checked_series(profile: Profile, tokenised: Artifact, bold: dict) -> dict[tuple, Artifact]:
    """The series of the ridge's runs; CobeError if the grid's hours cannot be had of them."""
    data = load_tokens(tokenised)
    clips = data.clips.loc[role_rows(data)]
    ridge = {key: bold[key] for keys in keys_by_subject(clips, bold).values() for key in keys}
    check_scan_hours(profile, clips, {key: len(load_bold(item)) for key, item in ridge.items()})
    return ridge


def _write_scores(
    path: Path, model: Artifact, tokenised: Artifact, bold: dict[tuple, Artifact], profile: Profile
) -> None:
    torch.set_num_threads(1)
    data = load_tokens(tokenised)
    clips, series = ridge_data(data, bold)
    levels = check_scan_hours(profile, clips, {key: len(y) for key, y in series.items()})
    features = gpt_features(model.path, data, profile.protocol)
    score_levels(features, clips, series, levels, profile.protocol).to_parquet(path)
