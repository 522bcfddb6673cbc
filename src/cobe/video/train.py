"""Training of one GPT cell from cached tokens: a plain loop, exact to resume."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import nn

from cobe.core.config import Cell, TrainConfig
from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for, seed_for
from cobe.video.device import float32, make_accelerator, torch_threads
from cobe.video.flops import gpt_flops, total_flops
from cobe.video.gpt import ConditionalGPT, build_gpt
from cobe.video.loop import Progress, Task, fit
from cobe.video.recipe import check_recipe
from cobe.video.schedule import eval_steps
from cobe.video.steplog import StepLog

WEIGHT_DECAY = 0.01
BETAS = (0.9, 0.95)
BASE_HIDDEN = 96
EVAL_BATCH = 64
LOG_COLUMNS = ["step", "tokens_seen", "epoch", "train_loss", "val_loss", "learning_rate"]


class Windows:
    """Token windows on a device: context codes and target tokens by target row.

    Parameters
    ----------
    tokens : uint16 (n_clips, t, h, w)
        Tokens of all clips.
    codebook : float32 (n_codes, code_dim)
        Code vectors.
    rows : int (n_windows,)
        Positions of the target clips; the context clip is the row before.
    device : torch.device
        Where the arrays go.

    Raises
    ------
    CobeError
        A row without a clip before it or beyond the tokens, or tokens beyond the codebook.
    """

    def __init__(self, tokens, codebook, rows, device="cpu"):
        rows = np.asarray(rows, np.int64)
        if rows.ndim != 1 or not len(rows):
            raise CobeError("windows: no rows; give at least one target row")
        if rows.min() < 1 or rows.max() >= len(tokens):
            raise CobeError(
                f"windows: target rows {rows.min()} to {rows.max()}, but the tokens have rows 1 to "
                f"{len(tokens) - 1} with a clip before; use the clip table of these tokens"
            )
        used, where = np.unique(np.concatenate([rows - 1, rows]), return_inverse=True)
        clips = np.asarray(tokens[used]).reshape(len(used), -1).astype(np.int64)
        if clips.max() >= len(codebook):
            raise CobeError(
                f"tokens: code {clips.max()}, but the codebook has {len(codebook)} codes; "
                "use the codebook of the VQ-VAE that made the tokens"
            )
        self.clips = torch.from_numpy(clips).to(device)
        self.codebook = torch.as_tensor(np.asarray(codebook, np.float32), device=device)
        self.context, self.target = np.split(where, 2)
        self.rows = rows

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, index) -> tuple[torch.Tensor, torch.Tensor]:
        """Target tokens int64 (n, n_tokens) and context codes float32 (n, n_tokens, code_dim)."""
        context = self.clips[torch.as_tensor(self.context[index])]
        return self.clips[torch.as_tensor(self.target[index])], self.codebook[context]

    def encoded(self, index, clip_tokens) -> tuple[torch.Tensor, torch.Tensor]:
        """As `batch`, with the clips' tokens from ``clip_tokens(rows)`` and not from the cache."""
        rows = self.rows[index]
        clips = clip_tokens(np.concatenate([rows - 1, rows])).flatten(1)
        context, target = torch.as_tensor(clips, device=self.codebook.device).long().chunk(2)
        return target, self.codebook[context]

    def batches(self, size: int = EVAL_BATCH):
        """All windows in order, so many at a time."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))


@torch.no_grad()
def mean_loss(model: ConditionalGPT, windows: Windows) -> float:
    """Mean cross-entropy over windows in nats per token: evaluation mode, float32."""
    was_training = model.training
    model.eval()
    with float32(model.device):
        total = sum(model.loss(*batch).item() * len(batch[0]) for batch in windows.batches())
    model.train(was_training)
    return total / len(windows)


def peak_learning_rate(cell: Cell, cfg: TrainConfig) -> float:
    """The cell's peak learning rate: ``cfg.learning_rate`` at hidden 96, by the root of width."""
    return cfg.learning_rate * (BASE_HIDDEN / cell.hidden) ** 0.5


def train_gpt(
    cell: Cell,
    cfg: TrainConfig,
    tokens: np.ndarray,
    codebook: np.ndarray,
    train_rows: np.ndarray,
    val_rows: np.ndarray,
    checkpoint: Path | None = None,
    threads: int | None = None,
    device: str | None = None,
    clip_tokens: Callable[[np.ndarray], torch.Tensor] | None = None,
    step_log: StepLog | None = None,
) -> tuple[ConditionalGPT, pd.DataFrame, dict]:
    """Train one cell and keep the weights of its best validation.

    Parameters
    ----------
    cell : Cell
        Shape, precision and seed. ``trained=False`` gives back the initial weights.
    cfg : TrainConfig
        Steps, batch (of all processes together), learning rate, validations, dropout, switches.
    tokens : uint16 (n_clips, t, h, w)
        Tokens of all clips; a memory map will do.
    codebook : float32 (n_codes, code_dim)
        Code vectors of the VQ-VAE that made them.
    train_rows, val_rows : int (n_windows,)
        Target rows in `tokens`; the context of a row is the row before. No clip may be in both.
    checkpoint : Path or None
        File to write at every validation, and every ten minutes, and to resume from: it holds the
        last weights and the best.
    threads : int or None
        torch threads; None: as they are (one, in a worker of `cobe.core.parallel`).
    device : str or None
        ``"cpu"`` or ``"cuda"``; None: a GPU where there is one.
    clip_tokens : callable or None
        With ``cfg.tokens_once`` False: ``clip_tokens(rows)`` encodes the pixels of rows of the clip
        table, to int64 ``(n, t, h, w)``; it is called in every training step. Validation is from
        `tokens`.
    step_log : StepLog or None
        Filled with a row per training step.

    Returns
    -------
    model : ConditionalGPT
        On the CPU, in evaluation mode, with the weights of the lowest validation loss.
    log : DataFrame
        A row per validation: step, tokens_seen (target tokens trained on), epoch (passes over
        `train_rows`), train_loss (mean since the row before; NaN at step 0), val_loss, both in
        nats/token, learning_rate.
    timing : dict
        train_s, train_cpu_s (of the process), eval_s, n_steps, tokens_per_s (target tokens
        trained on, without validation), best_step, skipped_steps (under fp16, for too large a loss
        scale), device, precision, threads, n_processes.

    Raises
    ------
    CobeError
        hidden not divisible by heads, precision unknown for the device, rows that share clips or
        lie outside the tokens, a checkpoint of another run, a loss that is not finite, memory that
        does not suffice, a batch that the processes cannot share evenly.

    Notes
    -----
    AdamW (betas .9, .95; weight decay .01 on matrices), gradients clipped at norm 1, 5 % warm-up,
    then a cosine that ends with the run. The order of windows, and dropout, come from streams named
    by epoch and step, so that a resumed run equals, bit by bit on a CPU with as many threads, one
    that was not interrupted. Validation is in float32 whatever the cell's precision.

    Started by ``accelerate launch`` or torchrun, every process takes its share of each batch and
    gradients are averaged: the run is that of one process up to rounding, dropout masks apart. Only
    the main process writes.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch_threads(threads), torch.random.fork_rng(devices=devices):
        check_recipe(cfg, clip_tokens is not None)
        accelerator = make_accelerator(cell.precision, device)
        val = Windows(tokens, codebook, val_rows, accelerator.device)
        if not cell.trained:
            return _untrained(cell, tokens.shape[1:], val, accelerator)
        train = Windows(tokens, codebook, train_rows, accelerator.device)
        _check_disjoint(train_rows, val_rows)
        task = gpt_task(cell, cfg, train, val, tokens.shape[1:], accelerator, clip_tokens)
        step_log = StepLog() if step_log is None else step_log
        progress = fit(task, accelerator, checkpoint, step_log)
        model = task.model
        model.load_state_dict(progress.best)
        timing = _timing(cell, accelerator, progress, task.tokens_per_step)
        timing["skipped_steps"] = int((~np.isfinite(step_log.columns["grad_norm"][1:])).sum())
        return model.cpu().eval(), pd.DataFrame(progress.log)[LOG_COLUMNS], timing


def _untrained(cell, grid, val, accelerator):
    """The result of `train_gpt` for a cell that is not trained."""
    started = time.perf_counter()
    model = build_gpt(cell, *val.codebook.shape, grid).to(accelerator.device)
    row = {"step": 0, "tokens_seen": 0, "epoch": 0.0, "train_loss": float("nan")}
    row |= {"val_loss": mean_loss(model, val), "learning_rate": 0.0}
    progress = Progress(log=[row])
    progress.spent["eval_s"] = time.perf_counter() - started
    timing = _timing(cell, accelerator, progress, 0) | {"skipped_steps": 0}
    return model.cpu().eval(), pd.DataFrame([row])[LOG_COLUMNS], timing


class _Objective(nn.Module):
    """Cross-entropy of a batch, as a module: what processes share and torch compiles."""

    def __init__(self, model: ConditionalGPT):
        super().__init__()
        self.model = model

    def forward(self, targets, codes):
        loss = self.model.loss(targets, codes)
        return loss, {"train_loss": loss}


def gpt_task(
    cell: Cell,
    cfg: TrainConfig,
    train: Windows,
    val: Windows,
    grid: tuple[int, int, int],
    accelerator: Accelerator,
    clip_tokens: Callable[[np.ndarray], torch.Tensor] | None = None,
) -> Task:
    """What a GPT cell brings to the training loop; arguments as for `train_gpt`.

    Raises
    ------
    CobeError
        hidden not divisible by heads, a batch that the processes cannot share evenly.
    """
    n_processes, process = accelerator.num_processes, accelerator.process_index
    if cfg.batch_size % n_processes:
        raise CobeError(
            f"TrainConfig.batch_size {cfg.batch_size}: {n_processes} processes cannot share it "
            "evenly; take a multiple of the number of processes"
        )
    model = build_gpt(
        cell, *train.codebook.shape, grid, cfg.dropout, cfg.attention, cfg.attention_dropout
    ).to(accelerator.device)
    if cfg.activation_checkpointing:
        model.activation_checkpointing_enable()
    order = _Order(len(train), cfg.batch_size, cell.seed)
    n_tokens = cfg.batch_size * model.n_tokens

    def batch(step):
        share = np.split(order.step(step), n_processes)[process]
        return train.batch(share) if cfg.tokens_once else train.encoded(share, clip_tokens)

    def validate(step, spent):
        epoch = step * cfg.batch_size / len(train)
        return {"tokens_seen": step * n_tokens, "epoch": epoch, "val_loss": mean_loss(model, val)}

    def seed(step):
        # Every process draws dropout masks of its own.
        others = (process,) if process else ()
        return seed_for(cell.seed, "gpt", "step", step, *others)

    objective = _Objective(model)
    return Task(
        name=f"cell {cell.name}",
        model=model,
        objective=torch.compile(objective) if cfg.compile else objective,
        optimizer=make_optimizer(model),
        batch=batch,
        validate=validate,
        identity={"cell": asdict(cell), "train": asdict(cfg), "data": _digest(train, val)},
        n_steps=cfg.n_steps,
        evals=eval_steps(cfg.n_steps, cfg.n_evals),
        learning_rate=peak_learning_rate(cell, cfg),
        seed=seed if cfg.dropout or cfg.attention_dropout else None,
        tokens_per_step=n_tokens,
        flops_per_step=total_flops(gpt_flops(cell, *train.codebook.shape, grid, cfg.batch_size)),
        keep_best=True,
        settings="TrainConfig",
        lower=_lower_memory(cell, cfg, n_processes),
    )


def _lower_memory(cell: Cell, cfg: TrainConfig, n_processes: int) -> str:
    """What would need less memory, with the present values."""
    ways = [f"lower TrainConfig.batch_size (now {cfg.batch_size}, over {n_processes} processes)"]
    if not cfg.activation_checkpointing:
        ways.append("set TrainConfig.activation_checkpointing to True (now False)")
    if cfg.attention == "eager":
        ways.append("set TrainConfig.attention to 'sdpa' (now 'eager')")
    if cell.precision in ("fp32", "tf32"):
        ways.append(f"take Cell.precision 'bf16' (now {cell.precision!r})")
    return ", or ".join([*ways, "spread the batch over more processes (accelerate launch)"])


def make_optimizer(model: torch.nn.Module) -> torch.optim.AdamW:
    """Fused AdamW, with weight decay on matrices alone."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, fused=True)


class _Order:
    """Window indices of every step: a new seeded shuffle each epoch, batches run across epochs."""

    def __init__(self, n_windows: int, batch_size: int, seed: int):
        self.n, self.batch, self.seed, self.shuffles = n_windows, batch_size, seed, {}

    def _shuffle(self, epoch: int) -> np.ndarray:
        if epoch not in self.shuffles:
            rng = rng_for(self.seed, "gpt", "order", epoch)
            self.shuffles = {k: v for k, v in self.shuffles.items() if k == epoch - 1}
            self.shuffles[epoch] = rng.permutation(self.n)
        return self.shuffles[epoch]

    def step(self, step: int) -> np.ndarray:
        position = np.arange(step * self.batch, (step + 1) * self.batch)
        epochs, inside = np.divmod(position, self.n)
        parts = [self._shuffle(epoch)[inside[epochs == epoch]] for epoch in np.unique(epochs)]
        return np.concatenate(parts)


def _timing(cell, accelerator, progress: Progress, tokens_per_step: int) -> dict:
    train_s, n_steps = progress.spent["train_s"], progress.step
    return {
        **progress.spent,
        "n_steps": n_steps,
        "tokens_per_s": n_steps * tokens_per_step / train_s if train_s else 0.0,
        "best_step": min(progress.log, key=lambda row: row["val_loss"])["step"],
        "device": accelerator.device.type,
        "precision": cell.precision,
        "threads": torch.get_num_threads(),
        "n_processes": accelerator.num_processes,
    }


def _digest(*parts: Windows) -> str:
    """Fingerprint of the windows: token values, codebook and their order."""
    digest = hashlib.sha256()
    for part in parts:
        for array in (part.clips.cpu().numpy(), part.codebook.cpu().numpy(), part.target):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _check_disjoint(train_rows, val_rows) -> None:
    train = np.union1d(train_rows, np.asarray(train_rows) - 1)
    shared = np.intersect1d(train, np.union1d(val_rows, np.asarray(val_rows) - 1))
    if len(shared):
        raise CobeError(
            f"train_rows and val_rows: they share {len(shared)} clips; validate on other runs"
        )
