"""The two quantizers of the VQ-VAE: a learned codebook, and finite scalars."""

from __future__ import annotations

from math import prod

import torch
from torch import nn
from vector_quantize_pytorch import FSQ, VectorQuantize

from cobe.core.config import VQVAEConfig
from cobe.core.errors import CobeError

EMA_DECAY = 0.95
COMMITMENT = 0.25
# A code is dead, and is replaced, below this share of the mean number of tokens per code.
DEAD_SHARE = 0.25
QUANTIZERS = ("vq", "fsq")
# Fewer levels than 3 cannot be rounded around zero.
MIN_LEVELS = 3


class LearnedCodebook(VectorQuantize):
    """`VectorQuantize` whose k-means start waits for training.

    Until then it holds random vectors: the first clips that an untrained model encodes do not
    become its codebook.
    """

    def __init__(self, **settings):
        super().__init__(kmeans_init=True, **settings)
        nn.init.normal_(self._codebook.embed)

    def forward(self, z):
        """Codes, tokens int64 and commitment loss for latents ``(n, code_dim, t, h, w)``."""
        started = self._codebook.initted
        if self.training or started:
            return super().forward(z)
        started.fill_(True)
        try:
            return super().forward(z)
        finally:
            started.fill_(False)

    def nearest(self, z) -> torch.Tensor:
        """Tokens int64 ``(n, t, h, w)`` alone: what `forward` picks, at a fifth of its cost."""
        codebook = self.codebook
        # Nearest is largest here; |z|^2 is the same for every code, and max is faster than argmax.
        nearness = 2 * (z.movedim(1, -1) @ codebook.T) - codebook.square().sum(1)
        return nearness.max(-1).indices


class FiniteScalar(FSQ):
    """Finite scalar quantisation behind the face of `VectorQuantize`.

    Notes
    -----
    Mentzer et al. 2023 (arXiv 2309.15505): latents are projected to one channel per entry of
    `levels`, each rounded to so many values. There is no codebook to collapse, no state and no
    commitment loss.
    """

    def forward(self, z):
        """Codes, tokens int64 and a commitment of 0 for latents ``(n, code_dim, t, h, w)``."""
        codes, tokens = super().forward(z)
        return codes, tokens.long(), z.new_zeros(())

    def nearest(self, z) -> torch.Tensor:
        """Tokens int64 ``(n, t, h, w)`` alone."""
        return self(z)[1]

    @property
    def codebook(self) -> torch.Tensor:
        """The vector that every index stands for, ``(n_codes, code_dim)``."""
        return self.indices_to_codes(torch.arange(self.codebook_size, device=self._basis.device))


def build_quantizer(cfg: VQVAEConfig, tokens_per_step: int) -> LearnedCodebook | FiniteScalar:
    """The quantizer of these settings.

    Both are called with latents ``(n, code_dim, t, h, w)`` and give codes of that shape, tokens
    int64 ``(n, t, h, w)`` and the commitment loss; both have ``nearest`` for tokens alone, and a
    ``codebook``.

    Parameters
    ----------
    cfg : VQVAEConfig
        quantizer, levels, n_codes and code_dim are used.
    tokens_per_step : int
        Tokens in a training step, to which the threshold of a dead code is scaled.
    """
    if cfg.quantizer == "fsq":
        return FiniteScalar(list(fsq_levels(cfg)), dim=cfg.code_dim)
    return LearnedCodebook(
        dim=cfg.code_dim,
        codebook_size=cfg.n_codes,
        decay=EMA_DECAY,
        commitment_weight=COMMITMENT,
        threshold_ema_dead_code=DEAD_SHARE * tokens_per_step / cfg.n_codes,
        accept_3d_fmap=True,
        rotation_trick=False,
    )


def fsq_levels(cfg: VQVAEConfig) -> tuple[int, ...]:
    """Levels of the FSQ channels: those given, else 16s and 8s whose product is n_codes.

    Raises
    ------
    CobeError
        Levels below 3, a product other than n_codes, or an n_codes that 8 and 16 do not make up.
    """
    if cfg.levels:
        product = prod(cfg.levels)
        if min(cfg.levels) < MIN_LEVELS or product != cfg.n_codes:
            raise CobeError(
                f"VQVAEConfig.levels: {cfg.levels} give {product} codes, n_codes is {cfg.n_codes}; "
                f"take levels of {MIN_LEVELS} or more whose product is n_codes"
            )
        return tuple(cfg.levels)
    for n_wide in range(3):
        n_narrow, rest = divmod(cfg.n_codes.bit_length() - 1 - 4 * n_wide, 3)
        if n_narrow >= 0 and not rest and 16**n_wide * 8**n_narrow == cfg.n_codes > 1:
            return (16,) * n_wide + (8,) * n_narrow
    raise CobeError(
        f"VQVAEConfig.n_codes: {cfg.n_codes} is no product of 8 and 16, of which FSQ takes its "
        "levels; take such a number (64, 128, 256, 512, 1024 ...), or give VQVAEConfig.levels"
    )


def check_quantizer(cfg: VQVAEConfig) -> None:
    """Raise CobeError for a quantizer that is unknown, or whose levels do not fit n_codes."""
    if cfg.quantizer not in QUANTIZERS:
        raise CobeError(
            f"VQVAEConfig.quantizer: {cfg.quantizer!r} is unknown; "
            f"choose one of {', '.join(QUANTIZERS)}"
        )
    if cfg.quantizer == "fsq":
        fsq_levels(cfg)
    elif cfg.levels:
        raise CobeError(
            f"VQVAEConfig.levels: {cfg.levels} belong to the quantizer 'fsq', not to 'vq'; "
            "leave them empty or choose 'fsq'"
        )
