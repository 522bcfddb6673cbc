"""Sampling of the next clip with a key-value cache, and the baselines it is held against."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from cobe.core.errors import CobeError
from cobe.core.progress import progress
from cobe.core.seeds import rng_for
from cobe.video.device import float32
from cobe.video.features import check_grid
from cobe.video.gpt import ConditionalGPT
from cobe.video.train import EVAL_BATCH, Windows
from cobe.video.vqvae import VQVAE


def _decode(model: ConditionalGPT, codes: torch.Tensor, choose):
    """Walk over the target clip one token at a time; ``choose(position, logits)`` gives it."""
    context, cache = model.embed_context(codes), None
    token = torch.full((len(codes), 1), model.config.n_codes, device=codes.device)
    chosen = []
    for position in range(model.n_tokens):
        # Positions follow from the length of the cache; keys and values of the context clip are
        # computed once and cached too.
        out = model.transformer(
            token, encoder_hidden_states=context, past_key_values=cache, use_cache=True
        )
        cache = out.past_key_values
        token = choose(position, model.head(out.last_hidden_state[:, -1]).float())[:, None]
        chosen.append(token)
    return torch.cat(chosen, 1)


@torch.no_grad()
def cached_logits(model: ConditionalGPT, targets: torch.Tensor, codes: torch.Tensor):
    """Teacher-forced logits computed token by token with the cache.

    Parameters
    ----------
    targets : Tensor, int64 (n, n_tokens)
        The tokens that are fed, whatever the model would choose.
    codes : Tensor, float32 (n, n_tokens, code_dim)
        Code vectors of the context clip.

    Returns
    -------
    logits : Tensor, float32 (n, n_tokens, n_codes)
        Equal to ``model(targets, codes)`` up to rounding.
    """
    seen = []

    def choose(position, logits):
        seen.append(logits)
        return targets[:, position]

    model.eval()
    _decode(model, codes, choose)
    return torch.stack(seen, 1)


@torch.no_grad()
def predict_next(
    model: ConditionalGPT,
    tokens: np.ndarray,
    codebook: np.ndarray,
    rows: np.ndarray,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    batch: int = EVAL_BATCH,
) -> np.ndarray:
    """Sample the clip at each row from the clip before it.

    Parameters
    ----------
    model : ConditionalGPT
        Run in evaluation mode and float32.
    tokens : uint16 (n_clips, t, h, w)
        Tokens of all clips; those of the row itself are not shown to the model.
    codebook : float32 (n_codes, code_dim)
        Code vectors.
    rows : int (n_rows,)
        Rows to predict; the context of a row is the row before.
    temperature : float
        Logits are divided by it; 0 takes the most likely code.
    top_k : int or None
        Draw among so many most likely codes; None: among all.
    seed : int
        Every row has its own stream, so that neither batch nor other rows change its sample.
    batch : int
        Clips at a time.

    Returns
    -------
    predicted : uint16 (n_rows, t, h, w)

    Raises
    ------
    CobeError
        A negative temperature, top_k outside 1 to n_codes, rows outside the tokens, tokens of
        another grid than the model's.
    """
    n_codes = model.config.n_codes
    if not temperature >= 0:
        raise CobeError(f"temperature {temperature}: choose 0 (most likely code) or above")
    if top_k is not None and not 1 <= top_k <= n_codes:
        raise CobeError(f"top_k {top_k}: choose 1 to {n_codes}")
    check_grid(model, tokens)
    model.eval()
    rows = np.asarray(rows, np.int64)
    windows, predicted = Windows(tokens, codebook, rows, model.device), []
    steps = -(-len(windows) // batch)
    parts = progress(windows.batches(batch), total=steps, desc="next clip", unit="batch")
    for part, (_, codes) in enumerate(parts):
        here = rows[part * batch : (part + 1) * batch]
        draws = np.stack([rng_for(seed, "next", row).random(model.n_tokens) for row in here])
        draws = torch.from_numpy(draws).to(model.device)

        def choose(position, logits, draws=draws):
            if temperature == 0:
                return logits.argmax(-1)
            logits = logits.double() / temperature
            if top_k is not None:
                floor = logits.topk(top_k).values[:, -1:]
                logits = logits.masked_fill(logits < floor, -torch.inf)
            # Inverse of the distribution function at one uniform number per row.
            cumulative = logits.softmax(-1).cumsum(-1)
            below = draws[:, position, None] * cumulative[:, -1:]
            return (cumulative <= below).sum(-1).clamp(max=n_codes - 1)

        with float32(model.device):
            predicted.append(_decode(model, codes, choose).cpu().numpy())
    grid = tuple(model.config.grid)
    return np.concatenate(predicted).astype(np.uint16).reshape(-1, *grid)


@torch.no_grad()
def teacher_forced(model: ConditionalGPT, tokens, codebook, rows, batch: int = EVAL_BATCH) -> dict:
    """Loss and accuracy with the true tokens fed.

    Returns
    -------
    scores : dict
        ``loss`` in nats/token and ``accuracy``, the share of tokens whose most likely code is
        right.
    """
    check_grid(model, tokens)
    model.eval()
    windows = Windows(tokens, codebook, rows, model.device)
    loss, right = 0.0, 0
    for targets, codes in windows.batches(batch):
        with float32(model.device):
            logits = model(targets, codes)
        loss += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(),
                                                        reduction="sum"))  # fmt: skip
        right += int((logits.argmax(-1) == targets).sum())
    n = len(windows) * model.n_tokens
    return {"loss": loss / n, "accuracy": right / n}


def token_accuracy(predicted: np.ndarray, target: np.ndarray) -> float:
    """Share of equal tokens in two arrays (n_clips, t, h, w)."""
    if predicted.shape != target.shape:
        raise CobeError(f"token accuracy: {predicted.shape} against {target.shape}; compare equals")
    return float(np.mean(np.asarray(predicted) == np.asarray(target)))


def copy_last_clip(tokens: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Baseline for `predict_next`: the context clip again, uint16 (n_rows, t, h, w)."""
    return np.asarray(tokens[np.asarray(rows) - 1])


def copy_last_frame(tokens: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Baseline for `teacher_forced`: the token at the same place one latent frame before.

    Returns
    -------
    predicted : uint16 (n_rows, t, h, w)
        The first latent frame repeats the last one of the context clip.
    """
    rows = np.asarray(rows)
    return np.concatenate([tokens[rows - 1][:, -1:], tokens[rows][:, :-1]], axis=1)


def score_predictions(
    model: ConditionalGPT,
    vqvae: VQVAE,
    tokens: np.ndarray,
    rows: np.ndarray,
    clips: np.ndarray,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    batch: int = EVAL_BATCH,
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Sample the next clips, decode them, and hold them against what costs nothing.

    Nothing of a target clip enters a prediction of it. ``model`` is `predict_next`; ``copy last
    clip`` and ``copy last frame`` (its last latent frame, held still) are decoded like it; ``mean
    frame`` is the VQ-VAE's mean training frame, and its tokens those that it is encoded to. ``true
    tokens`` decodes the target's own tokens: no prediction, but the most that these tokens allow.

    Parameters
    ----------
    model : ConditionalGPT
        Predicts tokens.
    vqvae : VQVAE
        The one that made `tokens`.
    tokens : uint16 (n_clips, t, h, w)
        Tokens of all clips.
    rows : int (n_rows,)
        Rows to predict; the context of a row is the row before.
    clips : uint8 (n_rows, n_frames, height, width, 3)
        What was on screen in the clips at `rows`.
    temperature, top_k, seed, batch
        As for `predict_next`.

    Returns
    -------
    table : DataFrame
        A row per prediction and clip: prediction, row, token_accuracy (share of right tokens), mse
        (mean squared error of pixels in 0..1), psnr_db (infinite for an exact clip; for a mean over
        clips take `psnr_db` of the mean mse).
    frames : dict
        Prediction to uint8 (n_rows, n_frames, height, width, 3), with ``true frames`` first.

    Raises
    ------
    CobeError
        A model of another codebook than the VQ-VAE's, clips of another shape than the decoded ones,
        and what `predict_next` raises.
    """
    if model.config.n_codes != vqvae.cfg.n_codes:
        raise CobeError(
            f"predictions: the GPT has {model.config.n_codes} codes, the VQ-VAE "
            f"{vqvae.cfg.n_codes}; use the VQ-VAE whose tokens the GPT was trained on"
        )
    rows = np.asarray(rows, np.int64)
    check_grid(model, tokens)
    side, n_frames = vqvae.cfg.resolution, tokens.shape[1] * vqvae.cfg.downsample[0]
    if clips.shape != (len(rows), n_frames, side, side, 3):
        raise CobeError(
            f"clips: {clips.shape}, but the predictions of {len(rows)} rows are "
            f"{(len(rows), n_frames, side, side, 3)}; give the frames of exactly these rows"
        )
    target = np.asarray(tokens[rows])
    predicted = {
        "model": predict_next(
            model, tokens, vqvae.codebook(), rows, temperature, top_k, seed, batch
        ),
        "copy last clip": copy_last_clip(tokens, rows),
        "copy last frame": np.repeat(tokens[rows - 1][:, -1:], target.shape[1], axis=1),
        "true tokens": target,
    }
    frames = {"true frames": clips} | {name: vqvae.decode(t) for name, t in predicted.items()}
    mean = vqvae.mean_frame.permute(1, 2, 0).cpu().numpy()
    mean_clip = np.broadcast_to((mean * 255).round().astype(np.uint8), clips.shape[1:])[None]
    predicted["mean frame"] = np.broadcast_to(vqvae.encode(mean_clip), target.shape)
    frames["mean frame"] = np.broadcast_to(mean_clip, clips.shape)
    table = [
        (name, row, float(np.mean(made == true)), _mse(image, seen))
        for name, values in predicted.items()
        for row, made, true, image, seen in zip(
            rows, values, target, frames[name], clips, strict=True
        )
    ]
    table = pd.DataFrame(table, columns=["prediction", "row", "token_accuracy", "mse"])
    return table.assign(psnr_db=psnr_db(table["mse"])), frames


def psnr_db(mse):
    """Peak signal-to-noise ratio of squared errors of pixels in 0..1; infinite at 0."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(mse)


def _mse(made: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean((made.astype(np.float64) - true) ** 2) / 255**2)
