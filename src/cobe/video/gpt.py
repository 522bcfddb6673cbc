"""A GPT-2 that predicts the codes of the next clip, conditioned on the codes of the clip before."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2Model, PreTrainedModel

from cobe.core.config import Cell
from cobe.core.errors import CobeError
from cobe.core.seeds import seed_for


class ConditionalGPTConfig(GPT2Config):
    """GPT-2's settings with the token grid, the size of a code and of the codebook.

    Attributes
    ----------
    n_codes, code_dim : int
        Codebook size and length of a code vector.
    grid : sequence of int
        Tokens of a clip over (time, height, width).
    """

    model_type = "cobe_conditional_gpt"

    def __init__(self, n_codes: int = 512, code_dim: int = 32, grid=(4, 4, 4), **kwargs):
        self.n_codes = n_codes
        self.code_dim = code_dim
        self.grid = list(grid)
        super().__init__(**kwargs)


class ConditionalGPT(PreTrainedModel):
    """Next-clip model: causal over the target clip's tokens, with the whole context clip in view.

    Parts: `transformer` is transformers' GPT-2 with cross-attention in every block (token and
    position embedding, blocks, final norm); `context_*` turn the code vectors of the context clip
    into what the blocks attend to; `head` gives logits over the codes.

    Notes
    -----
    Position i of the input holds token i - 1 of the target clip (a start token for i = 0) and
    predicts token i, in raster order over (time, height, width).
    """

    config_class = ConditionalGPTConfig
    base_model_prefix = "cobe"
    _supports_sdpa = True

    def __init__(self, config: ConditionalGPTConfig):
        super().__init__(config)
        hidden, length = config.n_embd, config.n_positions
        self.transformer = GPT2Model(config)
        self.context_project = nn.Linear(config.code_dim, hidden)
        self.context_position = nn.Embedding(length, hidden)
        self.context_norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, config.n_codes, bias=False)
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    @property
    def n_tokens(self) -> int:
        """Tokens of one clip."""
        return self.config.n_positions

    def embed_context(self, codes: torch.Tensor) -> torch.Tensor:
        """What the blocks attend to.

        Parameters
        ----------
        codes : Tensor, float32 (n, n_tokens, code_dim)
            Code vectors of the context clip in raster order.

        Returns
        -------
        context : Tensor (n, n_tokens, hidden)
        """
        return self.context_norm(self.context_project(codes) + self.context_position.weight)

    def shift(self, targets: torch.Tensor) -> torch.Tensor:
        """Inputs of target tokens ``(n, length)``: the start token, then all but the last."""
        return F.pad(targets[:, :-1], (1, 0), value=self.config.n_codes)

    def forward(self, targets: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Teacher-forced logits.

        Parameters
        ----------
        targets : Tensor, int64 (n, length)
            The first ``length <= n_tokens`` tokens of the target clip.
        codes : Tensor, float32 (n, n_tokens, code_dim)
            Code vectors of the context clip.

        Returns
        -------
        logits : Tensor (n, length, n_codes)
            Row i is computed from the context clip and from tokens before i.
        """
        context = self.embed_context(codes)
        hidden = self.transformer(
            self.shift(targets), encoder_hidden_states=context, use_cache=False
        ).last_hidden_state
        return self.head(hidden)

    def loss(self, targets: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy in nats per token, in float32; arguments as for `forward`."""
        logits = self(targets, codes).float()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def check_shape(cell: Cell) -> None:
    """Raise CobeError when no GPT has the shape of `cell`."""
    if min(cell.hidden, cell.n_layers, cell.n_heads) < 1:
        raise CobeError(f"cell {cell.name}: hidden, layers and heads must be at least 1")
    if cell.hidden % cell.n_heads:
        near = max(1, round(cell.hidden / cell.n_heads)) * cell.n_heads
        raise CobeError(
            f"cell {cell.name}: hidden {cell.hidden} is not divisible by {cell.n_heads} heads; "
            f"take hidden {near}, or a number of heads that divides it"
        )


def build_gpt(
    cell: Cell,
    n_codes: int,
    code_dim: int,
    grid: tuple[int, int, int],
    dropout: float = 0.0,
) -> ConditionalGPT:
    """A GPT of the cell's shape with initial weights from ``cell.seed``.

    The weights depend on shape and seed alone: those of ``cell.untrained()`` are the ones that
    the training of `cell` starts from.

    Parameters
    ----------
    cell : Cell
        hidden, n_layers, n_heads and seed are used.
    n_codes, code_dim : int
        Size of the codebook and of a code vector.
    grid : tuple of int
        Tokens of a clip over (time, height, width).
    dropout : float
        Of embeddings and residual branches. Attention dropout is 0: it keeps attention off the
        fused kernels, and it is the dearest part of a small model's step.

    Raises
    ------
    CobeError
        hidden is not divisible by n_heads.
    """
    check_shape(cell)
    length = grid[0] * grid[1] * grid[2]
    config = ConditionalGPTConfig(
        n_codes=n_codes,
        code_dim=code_dim,
        grid=grid,
        vocab_size=n_codes + 1,
        n_positions=length,
        n_embd=cell.hidden,
        n_layer=cell.n_layers,
        n_head=cell.n_heads,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=0.0,
        # GPT-2's own function in one kernel; the default spells it out in seven passes.
        activation_function="gelu_pytorch_tanh",
        add_cross_attention=True,
        bos_token_id=n_codes,
        eos_token_id=n_codes,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(cell.seed, "gpt", "weights"))
        return ConditionalGPT(config)


def count_parameters(model: ConditionalGPT) -> dict[str, int]:
    """Parameters by part.

    Returns
    -------
    counts : dict
        ``total``; ``embedding`` (token and position tables), ``context`` (projection, positions
        and norm of the context clip), ``blocks`` (with the final norm), ``head``.
    """

    def count(*modules):
        return sum(p.numel() for module in modules for p in module.parameters())

    body = model.transformer
    return {
        "total": count(model),
        "embedding": count(body.wte, body.wpe),
        "context": count(model.context_project, model.context_position, model.context_norm),
        "blocks": count(body.h, body.ln_f),
        "head": count(model.head),
    }
