"""Training of the VQ-VAE: weighted reconstruction, held-out error, exact resume."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import nn
from vector_quantize_pytorch import VectorQuantize

from cobe.core.config import VQVAEConfig
from cobe.core.errors import CobeError
from cobe.core.seeds import rng_for, seed_for
from cobe.video.device import default_precision, make_accelerator, torch_threads
from cobe.video.flops import total_flops, vqvae_flops
from cobe.video.loop import Task, fit
from cobe.video.schedule import eval_steps
from cobe.video.steplog import StepLog
from cobe.video.vqvae import VQVAE, build_vqvae

WEIGHT_DECAY = 1e-4
N_EVALS = 8
STATISTICS_CLIPS = 128
LOG_COLUMNS = ["step", "train_loss", "commitment", "val_loss", "val_ratio", "val_ratio_all"]
LOG_COLUMNS += ["codes_used", "learning_rate", "seconds"]
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
    step_log: StepLog | None = None,
) -> tuple[VQVAE, pd.DataFrame]:
    """Train a VQ-VAE.

    Parameters
    ----------
    cfg : VQVAEConfig
        Shape, steps, batch (of all processes together) and seed.
    sample_clips : callable
        ``sample_clips(rng, n)`` draws training clips, uint8 ``(n, n_frames, height, width, 3)``,
        and takes its randomness from ``rng`` alone.
    val_clips : uint8 (n, n_frames, height, width, 3)
        Held-out clips; each is encoded and decoded at every one of the 9 validations.
    checkpoint : Path or None
        File to write at every validation, and every ten minutes, and to resume from.
    threads : int or None
        torch threads; None: as they are.
    precision : str
        Of the network; distances to the codes and the loss are float32 always. ``"auto"``: bf16
        where the hardware multiplies it, else fp32.
    step_log : StepLog or None
        Filled with a row per training step.

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
        Clips of another size, a loss that is not finite, memory that does not suffice, a checkpoint
        of another run, a batch that the processes cannot share evenly.

    Notes
    -----
    Every step draws from streams named by its number, so that an interrupted run that resumes is
    equal, bit by bit on a CPU, to one that was not interrupted. The schedule ends where the run
    ends, so the last weights are the ones to use.

    Started by ``accelerate launch`` or torchrun, every process draws the whole batch and trains on
    its share; gradients are averaged, and the codebook's counts and sums are added up, over all.
    The run is that of one process up to rounding, until a dead code is replaced: the new one is
    drawn from the latents of all processes, and another one than on a single process.
    """
    if not len(val_clips):
        raise CobeError("val_clips: empty; hold out at least one clip for validation")
    if precision == "auto":
        precision = default_precision()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch_threads(threads), torch.random.fork_rng(devices=devices):
        accelerator = make_accelerator(precision)
        task = vqvae_task(cfg, sample_clips, val_clips, precision, accelerator)
        task.model.pixels(val_clips[:1])  # says at once when the size is wrong
        progress = fit(
            task, accelerator, checkpoint, step_log, lambda: _start(task.model, cfg, sample_clips)
        )
        return task.model.cpu().eval(), pd.DataFrame(progress.log)[LOG_COLUMNS]


class _Objective(nn.Module):
    """The loss of a batch of pixels, as a module: what processes share."""

    def __init__(self, model: VQVAE):
        super().__init__()
        self.model = model

    def forward(self, x):
        y, commitment, _ = self.model(x)
        loss = self.model.weighted_error(x, y) / self.model.background_error
        return loss + commitment, {"train_loss": loss, "commitment": commitment}


def vqvae_task(
    cfg: VQVAEConfig, sample_clips, val_clips, precision: str, accelerator: Accelerator
) -> Task:
    """What a VQ-VAE brings to the training loop; arguments as for `train_vqvae`.

    Raises
    ------
    CobeError
        A batch that the processes cannot share evenly.
    """
    n_processes, process = accelerator.num_processes, accelerator.process_index
    if cfg.batch_size % n_processes:
        raise CobeError(
            f"VQVAEConfig.batch_size {cfg.batch_size}: {n_processes} processes cannot share it "
            "evenly; take a multiple of the number of processes"
        )
    model = build_vqvae(cfg).to(accelerator.device)

    def batch(step):
        clips = sample_clips(rng_for(cfg.seed, "vqvae", "clips", step), cfg.batch_size)
        return (model.pixels(np.split(clips, n_processes)[process]),)

    def validate(step, spent):
        errors = reconstruction_error(model, val_clips)
        return errors | {"seconds": spent["train_s"] + spent["eval_s"]}

    return Task(
        name="VQ-VAE training",
        model=model,
        objective=_Objective(model),
        optimizer=torch.optim.AdamW(
            model.parameters(), lr=cfg.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
        ),
        batch=batch,
        validate=validate,
        identity={**asdict(cfg), "precision": precision},
        n_steps=cfg.n_steps,
        evals=eval_steps(cfg.n_steps, N_EVALS),
        learning_rate=cfg.learning_rate,
        seed=lambda step: seed_for(cfg.seed, "vqvae", "step", step),
        tokens_per_step=cfg.batch_size * int(np.prod(model.grid)),
        flops_per_step=total_flops(vqvae_flops(cfg, cfg.batch_size)),
        keep_best=False,
        settings="VQVAEConfig",
        lower=f"lower VQVAEConfig.batch_size (now {cfg.batch_size}, over {n_processes} processes), "
        + (f"or train it in bf16 (now {precision}), " if precision != "bf16" else "")
        + "or spread the batch over more processes (accelerate launch)",
    )


def _start(model: VQVAE, cfg: VQVAEConfig, sample_clips) -> None:
    """Pixel statistics, and a k-means start of the codebook from enough latents."""
    clips = sample_clips(rng_for(cfg.seed, "vqvae", "statistics"), STATISTICS_CLIPS)
    model.set_statistics(clips)
    needed = -(-4 * cfg.n_codes // int(np.prod(model.grid)))
    with torch.no_grad(), _by_itself(model.quantize):
        torch.manual_seed(seed_for(cfg.seed, "vqvae", "codebook"))
        model.train()
        model(model.pixels(clips[: max(needed, cfg.batch_size)]))


@contextmanager
def _by_itself(quantizer):
    """Let the codebook take every process's latents as all there are.

    At the start all processes draw the same clips and random numbers: each then finds the codebook
    that one process would.
    """
    if not (isinstance(quantizer, VectorQuantize) and quantizer._codebook.use_ddp):
        yield
        return
    codebook, alone = quantizer._codebook, VectorQuantize(2, 2, sync_codebook=False)._codebook
    names = ("sample_fn", "replace_sample_fn", "kmeans_all_reduce_fn", "all_reduce_fn")
    together = {name: getattr(codebook, name) for name in names}
    for name in names:
        setattr(codebook, name, getattr(alone, name))
    try:
        yield
    finally:
        for name, function in together.items():
            setattr(codebook, name, function)
