"""A GPT-2 that predicts the codes of the next clip, conditioned on the codes of the clip before."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2Model, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from cobe.core.config import Cell
from cobe.core.errors import CobeError
from cobe.core.seeds import seed_for

HEAD_RULES = ("divide", "floor")


class ConditionalGPTConfig(GPT2Config):
    """GPT-2's settings with the token grid, the size of a code and of the codebook.

    Attributes
    ----------
    n_codes, code_dim : int
        Codebook size and length of a code vector.
    grid : sequence of int
        Tokens of a clip over (time, height, width).
    head_rule : str
        ``"divide"``, or ``"floor"``: a head has ``n_embd // n_head`` channels, so that attention is
        narrower than ``n_embd`` where that is no multiple of ``n_head``.
    """

    model_type = "cobe_conditional_gpt"

    def __init__(
        self, n_codes: int = 512, code_dim: int = 32, grid=(4, 4, 4), head_rule="divide", **kwargs
    ):
        self.n_codes = n_codes
        self.code_dim = code_dim
        self.grid = list(grid)
        self.head_rule = head_rule
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

    The published model differs in parts, so sizes differ by part and in all (44.1 M against 40.3 M
    at hidden 576 and 8 layers). Blocks, 42.6 M against 37.2 M: its cross-attention reads 240
    channels and has values of 240 where ours has hidden for both. Context, 0.2 M against 2.4 M: it
    has a convolutional residual stack where ours has a projection. Embedding, 0.74 M against
    0.07 M: it projects code vectors and adds positions by axis where ours has tables. The heads
    are equal. Its context stack is as large at every width, so its narrow models are mostly that.
    """

    config_class = ConditionalGPTConfig
    base_model_prefix = "cobe"
    _supports_sdpa = True
    supports_gradient_checkpointing = True

    def __init__(self, config: ConditionalGPTConfig):
        super().__init__(config)
        hidden, length = config.n_embd, config.n_positions
        self.transformer = _body(config)
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
        return self.head(self.last_hidden(targets, codes))

    def last_hidden(self, targets: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """What the head reads, ``(n, length, hidden)``; arguments as for `forward`."""
        return self.transformer(
            self.shift(targets), encoder_hidden_states=self.embed_context(codes), use_cache=False
        ).last_hidden_state

    def loss(self, targets: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy in nats per token, in float32; arguments as for `forward`."""
        logits = self(targets, codes).float()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _body(config: ConditionalGPTConfig) -> GPT2Model:
    """transformers' GPT-2, with narrower attention where the size of a head is floored."""
    if config.head_rule == "divide" or config.n_embd % config.n_head == 0:
        return GPT2Model(config)
    # GPT-2 refuses such a width; with one head it takes any, and its attention is then exchanged.
    whole = copy.deepcopy(config)
    whole.n_head = 1
    body = GPT2Model(whole)
    for block in body.h:
        for attention in (block.attn, block.crossattention):
            _floor_heads(attention, config.n_head)
            body._init_weights(attention)  # scales c_proj by depth
    return body


def _floor_heads(attention, n_heads: int) -> None:
    """Give GPT-2's attention `n_heads` heads of ``embed_dim // n_heads`` channels."""
    hidden, size = attention.embed_dim, attention.embed_dim // n_heads
    inner = n_heads * size
    attention.num_heads, attention.head_dim, attention.split_size = n_heads, size, inner
    attention.scaling = size**-0.5
    attention.c_proj = Conv1D(hidden, inner)
    if attention.is_cross_attention:
        attention.q_attn = Conv1D(inner, hidden)
        attention.c_attn = Conv1D(2 * inner, hidden)
    else:
        attention.c_attn = Conv1D(3 * inner, hidden)
    # Drawn by Conv1D itself; transformers must not draw them again, unscaled, at the end.
    for part in attention.modules():
        part._is_hf_initialized = True


def check_shape(cell: Cell) -> None:
    """Raise CobeError when no GPT has the shape of `cell`."""
    if min(cell.hidden, cell.n_layers, cell.n_heads) < 1:
        raise CobeError(f"cell {cell.name}: hidden, layers and heads must be at least 1")
    if cell.head_rule not in HEAD_RULES:
        raise CobeError(
            f"cell {cell.name}: head_rule {cell.head_rule!r} is unknown; "
            f"choose one of {', '.join(HEAD_RULES)}"
        )
    if cell.hidden < cell.n_heads:
        raise CobeError(
            f"cell {cell.name}: hidden {cell.hidden} leaves nothing for each of {cell.n_heads} "
            "heads; take fewer heads or a larger hidden"
        )
    if cell.hidden % cell.n_heads and cell.head_rule == "divide":
        near = max(1, round(cell.hidden / cell.n_heads)) * cell.n_heads
        raise CobeError(
            f"cell {cell.name}: hidden {cell.hidden} is not divisible by {cell.n_heads} heads; "
            f"take hidden {near}, a number of heads that divides it, or head_rule 'floor'"
        )


def build_gpt(
    cell: Cell,
    n_codes: int,
    code_dim: int,
    grid: tuple[int, int, int],
    dropout: float = 0.0,
    attention: str = "sdpa",
    attention_dropout: float = 0.0,
) -> ConditionalGPT:
    """A GPT of the cell's shape with initial weights from ``cell.seed``.

    The weights depend on shape and seed alone: those of ``cell.untrained()`` are the ones that
    the training of `cell` starts from.

    Parameters
    ----------
    cell : Cell
        hidden, n_layers, n_heads, head_rule and seed are used.
    n_codes, code_dim : int
        Size of the codebook and of a code vector.
    grid : tuple of int
        Tokens of a clip over (time, height, width).
    dropout : float
        Of embeddings and residual branches.
    attention : str
        ``"sdpa"``: torch's fused attention; ``"eager"``: spelled out.
    attention_dropout : float
        Of attention weights, cross-attention included. It keeps attention off the fused kernels,
        and is then the dearest part of a small model's step.

    Raises
    ------
    CobeError
        hidden is not divisible by n_heads, and head_rule is not ``"floor"``.
    """
    check_shape(cell)
    length = grid[0] * grid[1] * grid[2]
    config = ConditionalGPTConfig(
        n_codes=n_codes,
        code_dim=code_dim,
        grid=grid,
        head_rule=cell.head_rule,
        vocab_size=n_codes + 1,
        n_positions=length,
        n_embd=cell.hidden,
        n_layer=cell.n_layers,
        n_head=cell.n_heads,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=attention_dropout,
        # GPT-2's own function in one kernel; the default spells it out in seven passes.
        activation_function="gelu_pytorch_tanh",
        add_cross_attention=True,
        bos_token_id=n_codes,
        eos_token_id=n_codes,
        attn_implementation=attention,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(cell.seed, "gpt", "weights"))
        return ConditionalGPT(config)


def load_gpt(path, cell: Cell | None = None) -> ConditionalGPT:
    """The model that `save_pretrained` wrote, in evaluation mode.

    Parameters
    ----------
    path : path-like
        The folder.
    cell : Cell, optional
        The cell whose shape it must have.

    Raises
    ------
    CobeError
        The folder holds no such model, or one of another shape than the cell's; both are named.
    """
    path = Path(path)
    if not (path / "config.json").is_file():
        raise CobeError(f"{path}: no saved GPT; train the cell and save it there")
    try:
        model, info = ConditionalGPT.from_pretrained(
            path, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise CobeError(f"{path}: no readable GPT ({reason}); train and save it again") from error
    wrong = [name for kind in ("missing_keys", "unexpected_keys") for name in info[kind]]
    if wrong:
        raise CobeError(
            f"{path}: weights and settings do not belong together ({len(wrong)} missing or "
            f"unknown, such as {sorted(wrong)[0]}); train and save it again"
        )
    if cell is not None:
        config = model.config
        words = "hidden {}, {} layers, {} heads".format
        found = words(config.n_embd, config.n_layer, config.n_head)
        wanted = words(cell.hidden, cell.n_layers, cell.n_heads)
        if found != wanted:
            raise CobeError(
                f"{path}: a GPT of {found}, but cell {cell.name} has {wanted}; "
                "give that cell's own folder, or train it"
            )
    return model.eval()


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
