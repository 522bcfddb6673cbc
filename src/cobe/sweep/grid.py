"""The joint grid: models of every size on every number of frames, and what they reached."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cobe.core.artifacts import Artifact, Store
from cobe.core.config import Cell, Profile
from cobe.core.errors import CobeError
from cobe.core.parallel import n_workers
from cobe.core.timing import CLIP_SPAN_FRAMES
from cobe.sweep.anywhere import make_anywhere
from cobe.sweep.cells import load_tokens, write_cell
from cobe.sweep.grid_plan import (
    ASSUMED_CPU,
    GridCell,
    Rate,
    assumed_rate,
    grid_cells,
    plan_table,
    side_by_side,
    within_budget,
    work_flop,
)
from cobe.sweep.jobs import Job
from cobe.sweep.models import cell_columns
from cobe.sweep.pipeline import Pipeline
from cobe.video.flops import gpt_flops, total_flops
from cobe.video.gpt import count_parameters, load_gpt

# finished cells that a measured rate rests on, at least
MIN_MEASURED = 5


@dataclass(frozen=True)
class GridModels:
    """The trained grid.

    Attributes
    ----------
    models : dict
        GridCell to a folder with the model and its log (``log.parquet``), cheapest first; untrained
        twins first of all.
    not_computed : DataFrame
        Rows of `cobe.sweep.grid_plan.plan_table` that the budget did not pay for; empty without a
        budget.
    """

    models: dict[GridCell, Artifact]
    not_computed: pd.DataFrame


def train_grid(
    pipeline: Pipeline,
    tokenised: Artifact,
    *,
    budget_s: float | None = None,
    budget_flop: float | None = None,
    client=None,
) -> GridModels:
    """Train the grid, cheapest cell first; what is there is reused.

    Every cell is an artifact of its own with a checkpoint: after a kill, only the cells in flight
    are taken up again, from their last validation.

    Parameters
    ----------
    pipeline : Pipeline
        Its profile's grid, and the store.
    tokenised : Artifact
        Tokens of all clips.
    budget_s, budget_flop : float or None
        Stop before the first cell with which the predicted seconds (all workers busy, scoring
        included; the rate is measured once five cells are there, and a cell that is there counts
        0 s), or the counted FLOP of training, pass this; None: no limit.
    client : distributed.Client or None
        Train on its workers; None: in processes of this machine.

    Returns
    -------
    trained : GridModels

    Raises
    ------
    CobeError
        What `grid_cells` and `within_budget` refuse, or a subset larger than the frames on disk:
        all before the first training.
    """
    profile = pipeline.profile
    cells = grid_cells(profile)
    check_frames(profile, load_tokens(tokenised).clips)
    workers = n_workers() if client is None else max(1, sum(client.nthreads().values()))
    jobs = [_job(profile, one, tokenised) for one in cells]
    rate, there = assumed_rate(profile), {}
    if budget_s is not None:
        there = _there(pipeline.store, cells, jobs)
        rate = measured_rate(profile, there) or rate
    if client is None:
        workers = side_by_side(rate, workers)
    plan = plan_table(profile, rate, workers, {cell.name for cell in there})
    within = within_budget(plan, budget_s, budget_flop)
    chosen = [one for one, paid in zip(cells, within, strict=True) if paid]
    wanted = [job for job, paid in zip(jobs, within, strict=True) if paid]
    left = plan[~within].reset_index(drop=True)
    if len(left):
        pipeline.store.announce(
            f"grid: {len(left)} of {len(plan)} cells are beyond the budget and not computed, the "
            f"cheapest of them {left.cell[0]}"
        )
    made = make_anywhere(pipeline.store, wanted, "training the grid", "cell", client)
    return GridModels(dict(zip(chosen, made, strict=True)), left)


def _job(profile: Profile, one: GridCell, tokenised: Artifact) -> Job:
    cfg = profile.grid.train if one.cell.trained else None
    return Job(
        f"grid/{one.cell.name}",
        write_cell,
        (one.cell, profile.grid.train, tokenised),
        params={"cell": one.cell, "train": cfg},
        inputs={"tokens": tokenised},
        code=("cobe.video.train", "cobe.video.windows", "cobe.sweep.cells"),
        resumable=True,
    )


def check_frames(profile: Profile, clips: pd.DataFrame) -> None:
    """Raise CobeError when the grid's largest subset is larger than what may train.

    Parameters
    ----------
    profile : Profile
        Whose grid.
    clips : DataFrame
        Clip table with the column role.
    """
    largest = max(profile.grid.n_frames)
    n_clips = int((clips.role == "video_train").sum())
    if largest // CLIP_SPAN_FRAMES > n_clips:
        raise CobeError(
            f"GridConfig.n_frames: the largest subset has {largest:,} frames, and the video "
            f"sessions hold {n_clips * CLIP_SPAN_FRAMES:,} in whole clips; lower it, or give the "
            "video model more sessions"
        )


def _there(store: Store, cells: list[GridCell], jobs: list[Job]) -> dict[Cell, Artifact]:
    """What is on disk already of these cells."""
    found = {}
    for one, job in zip(cells, jobs, strict=True):
        item = store.find(job.name, params=job.params, inputs=job.inputs, code=job.code)
        if item is not None:
            found[one.cell] = item
    return found


def measured_rate(profile: Profile, there: dict[Cell, Artifact]) -> Rate | None:
    """How fast this machine trained the cells that are there already; None with too few.

    Least squares, with no negative part, of a cell's seconds on its FLOP, validations included as
    `plan_table` includes them, and its steps. Cells that were resumed are left out: their seconds
    are of the last piece only.

    Parameters
    ----------
    profile : Profile
        Whose grid.
    there : dict
        Cell to its artifact; untrained cells may be among them.

    Returns
    -------
    rate : Rate or None
    """
    rows, seconds = [], []
    for cell, item in there.items():
        if cell.trained and not item.meta["resumed"]:
            rows.append((work_flop(profile, cell), cell.n_steps))
            seconds.append(item.meta["seconds"])
    if len(rows) < MIN_MEASURED:
        return None
    from scipy.optimize import nnls

    # relative errors count: the dearest cell must not decide alone
    design = np.array(rows) / np.array(seconds)[:, None]
    scale = design.max(axis=0)
    per_flop, per_step = nnls(design / scale, np.ones(len(rows)))[0] / scale
    if not per_flop > 0:
        return None
    return Rate(
        1 / per_flop, per_step, ASSUMED_CPU.fit_s, f"measured: {len(rows)} cells trained before"
    )


def grid_losses(models: dict[GridCell, Artifact]) -> pd.DataFrame:
    """What every trained cell was given and what it reached: one row per cell.

    Parameters
    ----------
    models : dict
        `GridModels.models`. Untrained twins have no row: they were given no data.

    Returns
    -------
    losses : DataFrame
        - cell, n_frames, hidden, n_layers, n_heads, precision, scheme, seed, n_steps;
        - kind ("grid", "anchor", "isoflop"), slice_flop (NaN but for isoflop);
        - n_params: all; n_params_body: without token and position tables, context and head;
        - n_windows: windows of the subset; tokens_per_window;
        - unique_tokens: target tokens of the different windows that were trained on by the end;
        - tokens_seen: target tokens processed in the whole run, repeats counted, and epochs: passes
          over the subset's windows that these are (below 1: it was not seen whole);
        - tokens_seen_best: the same until the lowest validation;
        - flop: of the whole run, counted by part;
        - val_loss: lowest of the run's validations, nats per token. It is the loss to fit, against
          tokens_seen and flop: both are what was paid for it. The scored weights are those of it;
        - val_loss_end: at the last step.
    """
    rows = []
    for one, item in models.items():
        if not one.cell.trained:
            continue
        model = load_gpt(item.path, one.cell)
        log = pd.read_parquet(item.path / "log.parquet")
        last, best = log.iloc[-1], log.loc[log.val_loss.idxmin()]
        counts, tokens = count_parameters(model), model.n_tokens
        n_seen = int(last.tokens_seen) // tokens
        n_windows = round(n_seen / last.epoch)
        shape = (model.config.n_codes, model.config.code_dim, tuple(model.config.grid))
        rows.append(
            cell_columns(one.cell)
            | {
                "kind": one.kind,
                "slice_flop": np.nan if one.slice_flop is None else one.slice_flop,
                "n_params": counts["total"],
                "n_params_body": counts["blocks"],
                "n_windows": n_windows,
                "tokens_per_window": tokens,
                "unique_tokens": min(n_seen, n_windows) * tokens,
                "tokens_seen": n_seen * tokens,
                "tokens_seen_best": int(best.tokens_seen),
                "epochs": float(last.epoch),
                "flop": n_seen * total_flops(gpt_flops(one.cell, *shape)),
                "val_loss": float(best.val_loss),
                "val_loss_end": float(last.val_loss),
            }
        )
    return pd.DataFrame(rows)
