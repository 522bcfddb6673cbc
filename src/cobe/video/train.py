"""Training of one GPT cell from cached tokens: a plain loop, exact to resume."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cobe.core.config import Cell, TrainConfig
from cobe.core.errors import CobeError
from cobe.core.progress import progress
from cobe.core.seeds import rng_for, seed_for
from cobe.video.gpt import ConditionalGPT, build_gpt
from cobe.video.loop import (
    GRADIENT_CLIP,
    check_finite,
    eval_steps,
    learning_rate,
    make_accelerator,
    read_checkpoint,
    torch_threads,
    write_checkpoint,
)

WEIGHT_DECAY = 0.01
BETAS = (0.9, 0.95)
BASE_HIDDEN = 96
EVAL_BATCH = 64
NOTHING_SPENT = {"train_s": 0.0, "train_cpu_s": 0.0, "eval_s": 0.0}


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

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, index) -> tuple[torch.Tensor, torch.Tensor]:
        """Target tokens int64 (n, n_tokens) and context codes float32 (n, n_tokens, code_dim)."""
        context = self.clips[torch.as_tensor(self.context[index])]
        return self.clips[torch.as_tensor(self.target[index])], self.codebook[context]

    def batches(self, size: int = EVAL_BATCH):
        """All windows in order, so many at a time."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))


@torch.no_grad()
def mean_loss(model: ConditionalGPT, windows: Windows) -> float:
    """Mean cross-entropy over windows in nats per token: evaluation mode, float32."""
    was_training = model.training
    model.eval()
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
) -> tuple[ConditionalGPT, pd.DataFrame, dict]:
    """Train one cell and keep the weights of its best validation.

    Parameters
    ----------
    cell : Cell
        Shape, precision and seed. ``trained=False`` gives back the initial weights.
    cfg : TrainConfig
        Steps, batch, learning rate, validations, dropout.
    tokens : uint16 (n_clips, t, h, w)
        Tokens of all clips; a memory map will do.
    codebook : float32 (n_codes, code_dim)
        Code vectors of the VQ-VAE that made them.
    train_rows, val_rows : int (n_windows,)
        Target rows in `tokens`; the context of a row is the row before. No clip may be in both.
    checkpoint : Path or None
        File to write at every validation and to resume from.
    threads : int or None
        torch threads; None: as they are (one, in a worker of `cobe.core.parallel`).
    device : str or None
        ``"cpu"`` or ``"cuda"``; None: a GPU where there is one.

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
        trained on, without validation), best_step, device, precision, threads.

    Raises
    ------
    CobeError
        hidden not divisible by heads, precision unknown for the device, rows that share clips or
        lie outside the tokens, a checkpoint of another run, a loss that is not finite.

    Notes
    -----
    AdamW (betas .9, .95; weight decay .01 on matrices), gradients clipped at norm 1, 5 % warm-up,
    then a cosine that ends with the run. The order of windows, and dropout, come from streams named
    by epoch and step, so that a resumed run equals, bit by bit on a CPU with as many threads, one
    that was not interrupted. Validation is in float32 whatever the cell's precision.
    """
    with torch_threads(threads), torch.random.fork_rng(devices=[]):
        return _train(cell, cfg, tokens, codebook, train_rows, val_rows, checkpoint, device)


def _train(cell, cfg, tokens, codebook, train_rows, val_rows, checkpoint, device):
    accelerator = make_accelerator(cell.precision, device)
    device = accelerator.device
    n_codes, code_dim = codebook.shape
    model = build_gpt(cell, n_codes, code_dim, tokens.shape[1:], cfg.dropout).to(device)
    val = Windows(tokens, codebook, val_rows, device)
    if not cell.trained:
        started = time.perf_counter()
        log = [_row(0, 0, 0.0, [], mean_loss(model, val), 0.0)]
        spent = {**NOTHING_SPENT, "eval_s": time.perf_counter() - started}
        timing = _timing(cell, device, spent, 0, 0, 0)
        return model.cpu().eval(), pd.DataFrame(log), timing
    train = Windows(tokens, codebook, train_rows, device)
    _check_disjoint(train_rows, val_rows)
    optimizer = make_optimizer(model)
    peak, evals = peak_learning_rate(cell, cfg), set(eval_steps(cfg.n_steps, cfg.n_evals))
    identity = {"cell": asdict(cell), "train": asdict(cfg), "data": _digest(train, val)}
    saved = checkpoint and read_checkpoint(Path(checkpoint), identity, model, optimizer)
    if saved:
        state, best = saved
        log, done, spent = state["log"], state["step"], state["spent"]
        if accelerator.scaler is not None and state["scaler"]:
            accelerator.scaler.load_state_dict(state["scaler"])
    else:
        log, done, best, spent = [], 0, {}, dict(NOTHING_SPENT)
    wrapped, losses = accelerator.prepare(optimizer), []
    order = _Order(len(train), cfg.batch_size, cell.seed)
    bar = progress(total=cfg.n_steps, desc=cell.name, unit="step")
    bar.update(done)

    def validate():
        nonlocal best
        started = time.perf_counter()
        means = torch.stack(losses).tolist() if losses else []
        losses.clear()
        if means:
            check_finite(sum(means), done, f"cell {cell.name}", "TrainConfig.learning_rate")
        loss = mean_loss(model, val)
        check_finite(loss, done, f"cell {cell.name}", "TrainConfig.learning_rate")
        if not log or loss < min(row["val_loss"] for row in log):
            best = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        seen = done * cfg.batch_size
        rate = learning_rate(done, cfg.n_steps, peak)
        log.append(_row(done, seen * model.n_tokens, seen / len(train), means, loss, rate))
        bar.set_postfix(val_loss=f"{loss:.3f}")
        spent["eval_s"] += time.perf_counter() - started
        if checkpoint:
            scaler = accelerator.scaler.state_dict() if accelerator.scaler is not None else None
            state = {"identity": identity, "step": done, "log": log, "spent": spent}
            write_checkpoint(Path(checkpoint), {**state, "scaler": scaler}, model, optimizer, best)

    if not log:
        validate()
    model.train()
    started, cpu_started = time.perf_counter(), time.process_time()
    while done < cfg.n_steps:
        if cfg.dropout:
            torch.manual_seed(seed_for(cell.seed, "gpt", "step", done))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done, cfg.n_steps, peak)
        with accelerator.autocast():
            loss = model.loss(*train.batch(order.step(done)))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
        wrapped.step()
        wrapped.zero_grad()
        losses.append(loss.detach())
        done += 1
        bar.update()
        if done in evals:
            _wait(device)
            spent["train_s"] += time.perf_counter() - started
            spent["train_cpu_s"] += time.process_time() - cpu_started
            validate()
            started, cpu_started = time.perf_counter(), time.process_time()
    bar.close()
    model.load_state_dict(best)
    best_step = min(log, key=lambda row: row["val_loss"])["step"]
    seen = done * cfg.batch_size * model.n_tokens
    timing = _timing(cell, device, spent, done, seen, best_step)
    return model.cpu().eval(), pd.DataFrame(log), timing


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


def _row(step, tokens_seen, epoch, losses, val_loss, rate) -> dict:
    return {
        "step": step,
        "tokens_seen": tokens_seen,
        "epoch": epoch,
        "train_loss": float(np.mean(losses)) if losses else float("nan"),
        "val_loss": val_loss,
        "learning_rate": rate,
    }


def _timing(cell, device, spent, n_steps, tokens_seen, best_step) -> dict:
    train_s = spent["train_s"]
    return {
        **spent,
        "n_steps": n_steps,
        "tokens_per_s": tokens_seen / train_s if train_s else 0.0,
        "best_step": best_step,
        "device": device.type,
        "precision": cell.precision,
        "threads": torch.get_num_threads(),
    }


def _wait(device) -> None:
    """Let queued GPU work end, so that it is counted where it belongs."""
    if device.type == "cuda":
        torch.cuda.synchronize()


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
