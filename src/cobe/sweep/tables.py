"""Tables of the trained models: losses, sizes, seconds."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd

from cobe.core.artifacts import Artifact
from cobe.core.config import Cell
from cobe.sweep.models import VideoStages, cell_columns
from cobe.video.gpt import count_parameters, load_gpt
from cobe.video.vqvae import VQVAE, count_vqvae_parameters


def loss_table(models: dict[Cell, Artifact]) -> pd.DataFrame:
    """Training logs of all trained cells: one row per cell and validation.

    Returns
    -------
    losses : DataFrame
        The cell's columns, step, tokens_seen, epoch, train_loss and val_loss (nats per token).
    """
    logs = [
        pd.read_parquet(item.path / "log.parquet").assign(**cell_columns(cell))
        for cell, item in models.items()
        if cell.trained
    ]
    table = pd.concat(logs, ignore_index=True)
    first = list(cell_columns(next(iter(models))))
    return table[first + [c for c in table.columns if c not in first]].sort_values(
        ["cell", "step"], ignore_index=True
    )


def parameter_table(models: dict[Cell, Artifact]) -> pd.DataFrame:
    """Parameter counts by part, one row per cell."""
    rows = []
    for cell, item in models.items():
        model = load_gpt(item.path, cell)
        rows.append(cell_columns(cell) | count_parameters(model))
    return pd.DataFrame(rows).sort_values("cell", ignore_index=True)


def size_table(models: dict[Cell, Artifact], vqvae_artifact: Artifact) -> pd.DataFrame:
    """Parameters by part of every trained cell and of the VQ-VAE: column model, total, parts."""
    cells = {cell: item for cell, item in models.items() if cell.trained}
    counts = parameter_table(cells).rename(columns={"cell": "model"})
    ours = count_vqvae_parameters(VQVAE.load(vqvae_artifact.path))
    return pd.concat([counts, pd.DataFrame([{"model": "VQ-VAE", **ours}])])


def stage_timings(
    video: VideoStages, series: dict[tuple, Artifact], models: dict[Cell, Artifact]
) -> pd.DataFrame:
    """Seconds of each stage from the sidecars: columns stage, seconds, device, date.

    Stages of many artifacts give the sum over them, which ran side by side.
    """
    groups = {
        f"playback, {len(video.frames)} replays": list(video.frames.values()),
        f"parcel series, {len(series)} runs": list(series.values()),
        "VQ-VAE": [video.vqvae],
        "tokens": [video.tokens],
    }
    groups |= {f"GPT {cell.name}": [item] for cell, item in models.items() if cell.trained}
    rows = []
    for stage, items in groups.items():
        latest = max(items, key=lambda item: item.meta["created_s"])
        date = datetime.fromtimestamp(latest.meta["created_s"], UTC).date().isoformat()
        seconds = sum(item.meta["seconds"] for item in items)
        rows.append((stage, seconds, latest.meta["device"], date))
    return pd.DataFrame(rows, columns=["stage", "seconds", "device", "date"])
