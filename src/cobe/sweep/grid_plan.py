"""What the joint grid holds and what it costs: known from the profile, before anything is trained.

Four kinds of cells. ``grid``: every width with every number of frames, for as many passes over the
subset. ``anchor``: some of these with other seeds (of weights, order and dropout; the subset is the
same). ``isoflop``: several widths for one budget of FLOP on the largest subset, which they may see
less than once or many times. ``untrained``: the initial weights of every width of the grid: N
without data. The schedule of a cell ends with its last step.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from cobe.core.config import Cell, Profile
from cobe.core.errors import CobeError
from cobe.core.timing import CLIP_SPAN_FRAMES, FRAME_RATE_HZ
from cobe.sweep.features import N_FIT_WINDOWS
from cobe.video.flops import gpt_flops, total_flops
from cobe.video.gpt import build_gpt, check_shape, count_parameters

# fewer steps are a warm-up and no training
MIN_STEPS = 10


@dataclass(frozen=True)
class GridCell:
    """A cell and why it is in the grid.

    Attributes
    ----------
    cell : Cell
        With steps of its own.
    kind : str
        ``"grid"``, ``"anchor"``, ``"isoflop"`` or ``"untrained"``.
    slice_flop : float or None
        Budget of the slice of an isoflop cell.
    """

    cell: Cell
    kind: str
    slice_flop: float | None = None


@dataclass(frozen=True)
class Rate:
    """How fast a worker computes.

    Attributes
    ----------
    flop_per_s : float
        Of large products.
    step_s : float
        What an optimiser step takes besides, however small the model.
    fit_s : float
        One ridge fit: a participant, a held-out session, a level of scan hours, a block.
    source : str
        ``"assumed: ..."`` or ``"measured: ..."``.
    """

    flop_per_s: float
    step_s: float
    fit_s: float
    source: str


ASSUMED_CPU = Rate(9e10, 0.015, 0.06, "assumed: one thread of a server CPU")
ASSUMED_GPU = Rate(0.25 * 989e12, 0.03, 0.06, "assumed: 25 % of one H100's dense bf16")


def assumed_rate(profile: Profile) -> Rate:
    """Of one thread of a CPU for simulated data, of a GPU for data on disk."""
    return ASSUMED_CPU if profile.plan is not None else ASSUMED_GPU


def side_by_side(rate: Rate, workers: int) -> int:
    """How many cells are computed at a time at this rate: a GPU's has no use for more cores.

    Parameters
    ----------
    rate : Rate
        How fast each of them is.
    workers : int
        Processes.

    Returns
    -------
    n : int
        `workers`, or for the assumed rate of a GPU the GPUs of this machine, at least 1.
    """
    return max(1, torch.cuda.device_count()) if rate is ASSUMED_GPU else workers


def flop_per_window(profile: Profile, cell: Cell) -> float:
    """Counted FLOP of one training window, forward and backward (`cobe.video.flops`)."""
    cfg = profile.vqvae
    return total_flops(gpt_flops(cell, cfg.n_codes, cfg.code_dim, cfg.grid))


def grid_cells(profile: Profile) -> list[GridCell]:
    """All cells of the grid, cheapest first.

    Parameters
    ----------
    profile : Profile
        Its `grid`, base cell and VQ-VAE.

    Returns
    -------
    cells : list of GridCell
        Each cell once, by ascending FLOP of its training; untrained ones before all others.

    Raises
    ------
    CobeError
        An axis is empty or has a value twice, an anchor lies outside the grid, a width has no
        model, or a cell would be trained for fewer than 10 steps.
    """
    grid, base = profile.grid, profile.base
    _check(profile)
    clips = {n: n // CLIP_SPAN_FRAMES for n in grid.n_frames}
    per_clip = grid.passes / grid.train.batch_size
    plain = replace(base, trained=True, scheme=profile.protocol.scheme)

    def cell(hidden: int, n_frames: int) -> Cell:
        n_steps = round(per_clip * clips[n_frames])
        return replace(plain, hidden=hidden, n_frames=n_frames, n_steps=n_steps)

    found = [GridCell(cell(h, n), "grid") for h in grid.hidden for n in grid.n_frames]
    found += [
        GridCell(replace(cell(*anchor), seed=seed), "anchor")
        for anchor in grid.anchors
        for seed in grid.seeds
    ]
    for budget, widths in grid.slices:
        for hidden in widths:
            one = replace(plain, hidden=hidden, n_frames=max(grid.n_frames))
            n_windows = budget / flop_per_window(profile, one)
            steps = round(n_windows / grid.train.batch_size)
            found.append(GridCell(replace(one, n_steps=steps), "isoflop", float(budget)))
    for one in found:
        check_shape(one.cell)
        if one.cell.n_steps < MIN_STEPS:
            raise CobeError(
                f"GridConfig: {one.kind} cell of hidden {one.cell.hidden} and "
                f"{one.cell.n_frames:,} frames would have {one.cell.n_steps} steps, at least "
                f"{MIN_STEPS} make a training; raise its frames, passes or budget, or lower "
                "train.batch_size"
            )
    twins = {replace(plain, hidden=hidden).untrained(): None for hidden in grid.hidden}
    found = list({one.cell: one for one in reversed(found)}.values())
    found.sort(key=lambda one: (_train_flop(profile, one.cell), one.cell.name))
    return [GridCell(twin, "untrained") for twin in twins] + found


def _train_flop(profile: Profile, cell: Cell) -> float:
    if not cell.trained:
        return 0.0
    return cell.n_steps * profile.grid.train.batch_size * flop_per_window(profile, cell)


def work_flop(profile: Profile, cell: Cell) -> float:
    """Counted FLOP of a cell's training and its validations: what its seconds are spent on."""
    return _train_flop(profile, cell) + _validation_flop(profile, cell)


def _check(profile: Profile) -> None:
    grid = profile.grid
    for name in ("hidden", "n_frames", "scan_hours"):
        values = getattr(grid, name)
        if not values:
            raise CobeError(f"GridConfig.{name}: empty; give at least one value")
        if len(set(values)) < len(values) or min(values) <= 0:
            raise CobeError(f"GridConfig.{name}: {values}; give values above 0, each once")
    if not grid.passes > 0:
        raise CobeError(f"GridConfig.passes: {grid.passes}; give a number above 0")
    for hidden, n_frames in grid.anchors:
        if hidden not in grid.hidden or n_frames not in grid.n_frames:
            raise CobeError(
                f"GridConfig.anchors: hidden {hidden} with {n_frames:,} frames is no cell of the "
                "grid; take values of GridConfig.hidden and n_frames"
            )
    if profile.base.seed in grid.seeds or len(set(grid.seeds)) < len(grid.seeds):
        raise CobeError(
            f"GridConfig.seeds: {grid.seeds}; the grid has seed {profile.base.seed} already, give "
            "others, each once"
        )
    for budget, widths in grid.slices:
        if not budget > 0 or not widths or len(set(widths)) < len(widths):
            raise CobeError(
                f"GridConfig.slices: budget {budget:g} with widths {widths}; give a budget above "
                "0 and at least one width, each once"
            )


def plan_table(
    profile: Profile, rate: Rate | None = None, workers: int = 1, there: Collection[str] = ()
) -> pd.DataFrame:
    """What the grid will cost, cell by cell, cheapest first.

    Parameters
    ----------
    profile : Profile
        Whose grid.
    rate : Rate or None
        How fast a worker is; None: assumed, of one thread of a CPU for simulated data and of a GPU
        for data on disk.
    workers : int
        Cells computed side by side.
    there : collection of str
        Names of cells that are on disk already: their seconds are 0.

    Returns
    -------
    table : DataFrame
        One row per cell: cell, kind, slice_flop, hidden, n_layers, n_frames, seed, n_steps,
        n_params, n_windows (processed: steps times batch), flop (of the training, counted by part;
        validations are not in it, as in the tables of results), train_s and score_s (predicted
        seconds of one worker), cum_flop, cum_s (predicted, with all workers busy) and rate (what
        the prediction rests on). How many validations and ridge fits data on disk need is not known
        before they are read: score_s is then NaN, and neither is in cum_s.
    """
    if rate is None:
        rate = assumed_rate(profile)
    rows, n_params = [], {}
    for one in grid_cells(profile):
        cell, flop = one.cell, _train_flop(profile, one.cell)
        work = work_flop(profile, cell)
        if cell.hidden not in n_params:
            n_params[cell.hidden] = _count(profile, cell)
        rows.append(
            {
                "cell": cell.name,
                "kind": one.kind,
                "slice_flop": one.slice_flop,
                "hidden": cell.hidden,
                "n_layers": cell.n_layers,
                "n_frames": cell.n_frames,
                "seed": cell.seed,
                "n_steps": cell.n_steps,
                "n_params": n_params[cell.hidden],
                "n_windows": cell.n_steps * profile.grid.train.batch_size,
                "flop": flop,
                "train_s": work / rate.flop_per_s + cell.n_steps * rate.step_s,
                "score_s": _score_s(profile, cell, rate),
            }
        )
    table = pd.DataFrame(rows).astype({"slice_flop": float})
    table.loc[table.cell.isin(list(there)), ["train_s", "score_s"]] = 0.0
    seconds = table.train_s + table.score_s.fillna(0)
    return table.assign(
        cum_flop=table.flop.cumsum(), cum_s=seconds.cumsum() / workers, rate=rate.source
    )


def _count(profile: Profile, cell: Cell) -> int:
    cfg = profile.vqvae
    with torch.device("meta"):
        return count_parameters(build_gpt(cell, cfg.n_codes, cfg.code_dim, cfg.grid))["total"]


def _validation_flop(profile: Profile, cell: Cell) -> float:
    """FLOP of all validations of a cell; 0 for data whose repetitions are not planned here."""
    plan = profile.plan
    if plan is None or not cell.trained:
        return 0.0
    # the last repetition of each of the video model's sessions validates
    clips = plan.repetition_s * FRAME_RATE_HZ / CLIP_SPAN_FRAMES
    n_windows = len(plan.subjects) * profile.video_sessions * (clips - 1)
    return (profile.grid.train.n_evals + 1) * n_windows * flop_per_window(profile, cell) / 3


def _score_s(profile: Profile, cell: Cell, rate: Rate) -> float:
    """Features and ridge fits of one model; NaN for data whose sessions are not planned here."""
    plan = profile.plan
    if plan is None:
        return float("nan")
    runs = [n_runs for _, n_runs in plan.sessions[profile.video_sessions :]]
    run_clips = plan.repetitions_per_run * plan.repetition_s * FRAME_RATE_HZ / CLIP_SPAN_FRAMES
    n_windows = len(plan.subjects) * sum(runs) * run_clips + cell.n_layers * N_FIT_WINDOWS
    forward = n_windows * flop_per_window(profile, cell) / 3
    n_fits = len(plan.subjects) * len(runs) * len(profile.grid.scan_hours) * cell.n_layers
    return forward / rate.flop_per_s + n_fits * rate.fit_s


def within_budget(
    table: pd.DataFrame, budget_s: float | None = None, budget_flop: float | None = None
) -> np.ndarray:
    """Which cells a budget pays for, cheapest first.

    Parameters
    ----------
    table : DataFrame
        From `plan_table`.
    budget_s, budget_flop : float or None
        Limits on cum_s and on cum_flop; None: no limit.

    Returns
    -------
    within : bool (n_cells,)
        True up to the first cell that is beyond a limit. In FLOP what is on disk already counts
        like what is not, so that a budget always gives the same cells; in seconds it does not
        count where `plan_table` was told of it.

    Raises
    ------
    CobeError
        A budget that is not above 0, or that does not pay for the cheapest trained cell.
    """
    within = np.ones(len(table), bool)
    for name, budget, column in (
        ("budget_s", budget_s, "cum_s"),
        ("budget_flop", budget_flop, "cum_flop"),
    ):
        if budget is None:
            continue
        if not budget > 0:
            raise CobeError(f"{name}: {budget}; give a number above 0, or None for no limit")
        within &= (table[column] <= budget).to_numpy()
    trained = (table.kind != "untrained").to_numpy()
    if not (within & trained).any():
        first = table[trained].iloc[0]
        raise CobeError(
            f"budget: does not pay for the cheapest trained cell, {first.cell} (all up to it: "
            f"{first.cum_flop:.3g} FLOP, {first.cum_s:.0f} s predicted); give more"
        )
    return within
