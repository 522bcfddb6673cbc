"""What a training recipe costs and what it buys: time of a step, loss and brain score beside it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from cobe.core.artifacts import Artifact, device
from cobe.core.config import Cell, Profile, TrainConfig
from cobe.core.profiles import get_profile
from cobe.sweep.cells import write_cell
from cobe.sweep.features import features_job
from cobe.sweep.jobs import Job, make_all
from cobe.sweep.models import VideoStages
from cobe.sweep.pipeline import Pipeline
from cobe.sweep.scores import score_sources
from cobe.video.device import precisions
from cobe.video.throughput import RecipeStep, recipe_steps, throughput

COST_WIDTHS = (16, 64, 256, 576)
COST_BATCH = 4


def step_times(pipeline: Pipeline, rounds: int = 5) -> Artifact:
    """Time of a step of the base cell under every recipe, one thread, in turns.

    Measured once: what the device does today is kept with its date, not measured at every run.

    Returns
    -------
    artifact : Artifact
        Parquet with the columns of `cobe.video.throughput.throughput`.
    """
    profile = pipeline.profile

    def write(path: Path):
        throughput(profile.base, profile.train, profile.vqvae, rounds=rounds, threads=1).to_parquet(
            path
        )

    return pipeline.store.make(
        "throughput/base",
        params={
            "cell": profile.base,
            "train": profile.train,
            "vqvae": profile.vqvae,
            "rounds": rounds,
            "device": device(),
        },
        inputs={},
        write=write,
        code=("cobe.video.throughput", "cobe.sweep.recipes"),
        suffix=".parquet",
    )


def paper_rates(pipeline: Pipeline, rounds: int = 1) -> Artifact:
    """Rates of our recipe on this device, at widths of the paper's grid and its depth and heads.

    Returns
    -------
    artifact : Artifact
        Parquet with the columns of `cobe.video.throughput.throughput`.
    """
    paper = get_profile("paper")
    # a GPU is filled as the paper's runs would fill it; one thread of a CPU is full with less
    batch = paper.train.batch_size if torch.cuda.is_available() else COST_BATCH
    cfg = replace(paper.train, batch_size=batch)
    recipes = [RecipeStep(f"ours, {kind}", cfg, kind) for kind in ("fp32", "bf16")]

    def write(path: Path):
        # one at a time: the widest with its optimiser takes a gigabyte
        tables = [
            throughput(
                replace(paper.base, hidden=hidden),
                cfg,
                paper.vqvae,
                [recipe],
                rounds=rounds,
                steps_per_round=1,
                threads=1,
            )
            for hidden in COST_WIDTHS
            for recipe in recipes
        ]
        pd.concat(tables, ignore_index=True).to_parquet(path)

    return pipeline.store.make(
        "throughput/paper",
        params={
            "paper": paper,
            "widths": COST_WIDTHS,
            "recipes": recipes,
            "rounds": rounds,
            "device": device(),
        },
        inputs={},
        write=write,
        code=("cobe.video.throughput", "cobe.sweep.recipes"),
        suffix=".parquet",
    )


def recipe_cells(profile: Profile, n_steps: int) -> dict[str, tuple[Cell, TrainConfig]]:
    """The base cell under every recipe that this device can train in, for a short training.

    Returns
    -------
    cells : dict
        Name of the change to (cell, training settings). Compilation is left out: it changes the
        time of a step and not what is learnt.
    """
    able = precisions("cuda" if torch.cuda.is_available() else "cpu")
    return {
        step.change: (
            replace(profile.base, precision=step.precision),
            replace(step.train, n_steps=n_steps),
        )
        for step in recipe_steps(profile.train)
        if step.precision in able and not step.train.compile
    }


def train_recipes(pipeline: Pipeline, video: VideoStages, n_steps: int) -> dict[str, Artifact]:
    """Train the base cell for `n_steps` steps under every recipe, same seed and windows.

    Returns
    -------
    models : dict
        Name of the change to a folder with the model and its log.
    """
    cells = recipe_cells(pipeline.profile, n_steps)
    stores = {"/".join(map(str, key)): item for key, item in video.frames.items()}
    jobs = []
    for change, (cell, cfg) in cells.items():
        sources = {} if cfg.tokens_once else {"vqvae": video.vqvae} | stores
        jobs.append(
            Job(
                f"recipes/{re.sub(r'[^a-z0-9.]+', '-', change)}",
                write_cell,
                (cell, cfg, video.tokens, video.vqvae, video.frames),
                params={"cell": cell, "train": cfg},
                inputs={"tokens": video.tokens} | sources,
                code=("cobe.video.train", "cobe.video.windows", "cobe.sweep.cells"),
                resumable=True,
            )
        )
    made = make_all(pipeline.store, jobs, "training under recipes", "recipe")
    return dict(zip(cells, made, strict=True))


def learned(
    pipeline: Pipeline,
    video: VideoStages,
    bold: dict[tuple, Artifact],
    models: dict[str, Artifact],
) -> pd.DataFrame:
    """What each short training reached.

    Returns
    -------
    table : DataFrame
        One row per recipe: change, val_loss (nats per token, lowest validation), step (of it), and
        r, ci_low, ci_high, chance_95: means over subjects of the mean over parcels on held-out
        groups, and of the ends of their intervals.
    """
    logs = {change: pd.read_parquet(item.path / "log.parquet") for change, item in models.items()}
    best = {change: log.loc[log.val_loss.idxmin()] for change, log in logs.items()}
    protocol, n_layers = pipeline.profile.protocol, pipeline.profile.base.n_layers
    names = [f"recipe {change}" for change in models]
    jobs = [
        features_job(re.sub(r"[^a-z0-9.]+", "-", name), n_layers, item, video.tokens, protocol)
        for name, item in zip(names, models.values(), strict=True)
    ]
    features = make_all(pipeline.store, jobs, "features", "recipe")
    sources = [(name, "gpt", item) for name, item in zip(names, features, strict=True)]
    table = score_sources(pipeline, video.tokens, bold, sources, protocol)
    overall = table[(table.held_out == "all") & (table.summary == "mean")]
    brain = overall.groupby("cell")[["r", "ci_low", "ci_high", "chance_95"]].mean()
    rows = [
        {"change": change, "val_loss": best[change].val_loss, "step": int(best[change].step)}
        | brain.loc[f"recipe {change}"].to_dict()
        for change in models
    ]
    return pd.DataFrame(rows)
