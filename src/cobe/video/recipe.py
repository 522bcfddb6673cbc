"""The published recipe as settings, on the same code: what a step did there, and does here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from cobe.core.config import TrainConfig
from cobe.core.errors import CobeError
from cobe.video.vqvae import VQVAE

# What the authors' training step does beside the arithmetic of the model: give them to
# ``dataclasses.replace(TrainConfig(...), **PUBLISHED_RECIPE)``.
PUBLISHED_RECIPE = {
    "dropout": 0.2,
    "attention": "eager",
    "attention_dropout": 0.3,
    "activation_checkpointing": True,
    "compile": False,
    "tokens_once": False,
}
ATTENTIONS = ("sdpa", "eager")


def check_recipe(cfg: TrainConfig, has_pixels: bool) -> None:
    """Raise CobeError for settings that no step can be run with."""
    if cfg.attention not in ATTENTIONS:
        raise CobeError(
            f"TrainConfig.attention {cfg.attention!r}: unknown; choose {' or '.join(ATTENTIONS)}"
        )
    for name in ("dropout", "attention_dropout"):
        if not 0 <= getattr(cfg, name) < 1:
            raise CobeError(f"TrainConfig.{name} {getattr(cfg, name)}: take it from 0 up to 1")
    if not cfg.tokens_once and not has_pixels:
        raise CobeError(
            "TrainConfig.tokens_once is False, but no clip_tokens were given to encode pixels "
            "with; give a PixelTokens, or set tokens_once to True"
        )


class PixelTokens:
    """Tokens from pixels, made again at every call, as the published training step makes them.

    Parameters
    ----------
    model : VQVAE
        The frozen VQ-VAE, on the device of the training.
    clips : callable
        ``clips(rows)``: pixels of rows of the clip table, uint8 ``(n, 16, height, width, 3)``.

    Notes
    -----
    Under a 16-bit precision the encoder runs in 16 bit too, as under the authors' trainer, and some
    per cent of the tokens then differ from the cached ones; distances to the codes stay float32.
    Clips are encoded as they come, without the padded groups of `VQVAE.encode`.
    """

    def __init__(self, model: VQVAE, clips: Callable[[np.ndarray], np.ndarray]):
        self.model, self.clips = model.eval(), clips

    @torch.no_grad()
    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        """Tokens of these rows: int64 ``(n, t, h, w)``, on the model's device."""
        z = self.model.latents(self.model.pixels(self.clips(rows)))
        with torch.autocast(z.device.type, enabled=False):
            return self.model.quantize(z.float())[1]
