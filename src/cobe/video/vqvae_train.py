"""Training of the VQ-VAE: weighted reconstruction, held-out error, exact resume."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cobe.core.config import VQVAEConfig
from cobe.core.errors import CobeError
from cobe.core.progress import progress
from cobe.core.seeds import rng_for, seed_for
from cobe.video.loop import (
    GRADIENT_CLIP,
    check_finite,
    eval_steps,
    fast_bf16,
    learning_rate,
    make_accelerator,
    read_checkpoint,
    torch_threads,
    write_checkpoint,
)
from cobe.video.vqvae import VQVAE, build_vqvae

WEIGHT_DECAY = 1e-4
N_EVALS = 8
STATISTICS_CLIPS = 128
# A pixel counts as non-black when its brightest channel is above this, of 255.
BLACK_LEVEL = 16


def reconstruction_error(model: VQVAE, clips: np.ndarray) -> dict:
    """Error of encoding and decoding clips, against predicting the training mean frame.

    Parameters
    ----------
    model : VQVAE
        Encodes in evaluation mode and float32.
    clips : uint8 (n, n_frames, height, width, 3)
        Held-out clips.

    Returns
    -------
    errors : dict
        ``val_loss``, the weighted squared error over that of the median frame on training clips;
        ``val_ratio``, the squared error on non-black pixels over that of the mean frame;
        ``val_ratio_all``, the same on all pixels; ``codes_used``, distinct codes in these clips.
    """
    tokens = model.encode(clips)
    mean = model.mean_frame.permute(1, 2, 0).cpu().numpy()
    sums, weighted = np.zeros(4), 0.0
    for start in range(0, len(clips), 16):
        part = clips[start : start + 16]
        decoded = model.decode(tokens[start : start + 16])
        with torch.no_grad():
            error = model.weighted_error(model.pixels(part), model.pixels(decoded))
        weighted += float(error) * len(part)
        bright = (part.max(-1) > BLACK_LEVEL)[..., None]
        x = part.astype(np.float32) / 255
        ours, theirs = (x - decoded.astype(np.float32) / 255) ** 2, (x - mean) ** 2
        sums += [(ours * bright).sum(), (theirs * bright).sum(), ours.sum(), theirs.sum()]
    ratio = np.divide(sums[[0, 2]], sums[[1, 3]], out=np.full(2, np.nan), where=sums[[1, 3]] > 0)
    return {
        "val_loss": weighted / len(clips) / float(model.background_error),
        "val_ratio": float(ratio[0]),
        "val_ratio_all": float(ratio[1]),
        "codes_used": len(np.unique(tokens)),
    }


def train_vqvae(
    cfg: VQVAEConfig,
    sample_clips: Callable[[np.random.Generator, int], np.ndarray],
    val_clips: np.ndarray,
    checkpoint: Path | None = None,
    threads: int | None = None,
    precision: str = "auto",
) -> tuple[VQVAE, pd.DataFrame]:
    """Train a VQ-VAE.

    Parameters
    ----------
    cfg : VQVAEConfig
        Shape, steps, batch and seed.
    sample_clips : callable
        ``sample_clips(rng, n)`` draws training clips, uint8 ``(n, n_frames, height, width, 3)``,
        and takes its randomness from ``rng`` alone.
    val_clips : uint8 (n, n_frames, height, width, 3)
        Held-out clips; each is encoded and decoded at every one of the 9 validations.
    checkpoint : Path or None
        File to write at every validation and to resume from.
    threads : int or None
        torch threads; None: as they are.
    precision : str
        Of the network; distances to the codes and the loss are float32 always. ``"auto"``: bf16
        where the hardware multiplies it, else fp32.

    Returns
    -------
    model : VQVAE
        In evaluation mode, with the weights of the last step.
    log : DataFrame
        A row per validation: step, train_loss (mean since the row before), commitment, val_loss,
        val_ratio, val_ratio_all, codes_used, learning_rate, seconds (trained, resumes summed).

    Raises
    ------
    CobeError
        Clips of another size, a loss that is not finite, a checkpoint of another run.

    Notes
    -----
    Every step draws from streams named by its number, so that an interrupted run that resumes is
    equal, bit by bit on a CPU, to one that was not interrupted. The schedule ends where the run
    ends, so the last weights are the ones to use.
    """
    if not len(val_clips):
        raise CobeError("val_clips: empty; hold out at least one clip for validation")
    if precision == "auto":
        precision = "bf16" if fast_bf16() else "fp32"
    with torch_threads(threads), torch.random.fork_rng(devices=[]):
        return _train(cfg, sample_clips, val_clips, checkpoint, precision)


def _train(cfg, sample_clips, val_clips, checkpoint, precision):
    accelerator = make_accelerator(precision)
    model = build_vqvae(cfg).to(accelerator.device)
    model.pixels(val_clips[:1])  # says at once when the size is wrong
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=cfg.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
    )
    evals, log, done, seconds = eval_steps(cfg.n_steps, N_EVALS), [], 0, 0.0
    identity = {**asdict(cfg), "precision": precision}
    saved = checkpoint and read_checkpoint(Path(checkpoint), identity, model, optimizer)
    if saved:
        state, _ = saved
        log, done, seconds = state["log"], state["step"], state["seconds"]
    else:
        _start(model, cfg, sample_clips)
    wrapped = accelerator.prepare(optimizer)
    started, losses = time.perf_counter(), []
    bar = progress(total=cfg.n_steps, desc="VQ-VAE", unit="step")
    bar.update(done)

    def validate():
        row = {"step": done, "train_loss": float("nan"), "commitment": float("nan")}
        if losses:
            row["train_loss"], row["commitment"] = np.mean(losses, axis=0).tolist()
            losses.clear()
        row |= reconstruction_error(model, val_clips)
        row["learning_rate"] = learning_rate(done, cfg.n_steps, cfg.learning_rate)
        row["seconds"] = seconds + time.perf_counter() - started
        log.append(row)
        bar.set_postfix(val_ratio=f"{row['val_ratio']:.3f}")
        if checkpoint:
            state = {"identity": identity, "step": done, "log": log, "seconds": row["seconds"]}
            write_checkpoint(Path(checkpoint), state, model, optimizer)

    if not log:
        validate()
    while done < cfg.n_steps:
        model.train()
        torch.manual_seed(seed_for(cfg.seed, "vqvae", "step", done))
        rng = rng_for(cfg.seed, "vqvae", "clips", done)
        x = model.pixels(sample_clips(rng, cfg.batch_size))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done, cfg.n_steps, cfg.learning_rate)
        with accelerator.autocast():
            y, commitment, _ = model(x)
        loss = model.weighted_error(x, y) / model.background_error
        optimizer.zero_grad()
        accelerator.backward(loss + commitment)
        accelerator.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
        wrapped.step()
        check_finite(loss.item(), done, "VQ-VAE training", "VQVAEConfig.learning_rate")
        losses.append((loss.item(), commitment.item()))
        done += 1
        bar.update()
        if done in evals:
            validate()
    bar.close()
    return model.cpu().eval(), pd.DataFrame(log)


def _start(model: VQVAE, cfg: VQVAEConfig, sample_clips) -> None:
    """Pixel statistics, and a k-means start of the codebook from enough latents."""
    clips = sample_clips(rng_for(cfg.seed, "vqvae", "statistics"), STATISTICS_CLIPS)
    model.set_statistics(clips)
    torch.manual_seed(seed_for(cfg.seed, "vqvae", "codebook"))
    needed = -(-4 * cfg.n_codes // int(np.prod(model.grid)))
    with torch.no_grad():
        model.train()
        model(model.pixels(clips[: max(needed, cfg.batch_size)]))
