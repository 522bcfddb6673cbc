"""A step of our training loop, beside a bare loop around transformers' own GPT-2."""

import time

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from cobe.core.config import Cell, TrainConfig
from cobe.core.seeds import rng_for
from cobe.video.gpt import build_gpt, count_parameters
from cobe.video.loop import torch_threads
from cobe.video.train import BETAS, Windows, train_gpt

N_CODES, CODE_DIM = 512, 32


def measure(
    *,
    shapes=((96, 2, 4), (132, 4, 4)),
    precisions=("fp32",),
    grid=(4, 4, 4),
    batch_size: int = 32,
    n_steps: int = 10,
    repeats: int = 5,
    threads: int = 1,
    seed: int = 0,
) -> list[dict]:
    """CPU time of a training step, from tokens, forward and backward and optimizer.

    Ours is `train_gpt` as the sweep calls it, without its validations. The peer is
    `GPT2LMHeadModel` with cross-attention, of the same width, depth, heads, length and codes, with
    the same activation, fused AdamW and gradient clipping, in a bare loop over one batch that is
    already a tensor; its context vectors are given, while ours are computed from codes. Both take
    turns in one process; the median over the turns counts.

    Parameters
    ----------
    shapes : sequence of (int, int, int)
        Hidden size, layers, heads.
    precisions : sequence of str
        Of both sides.
    grid : tuple of int
        Tokens of a clip over (time, height, width).
    batch_size, n_steps, repeats : int
        Windows in a step, steps in a turn, turns.
    threads : int
        torch threads.
    seed : int
        Seed of tokens and weights.

    Returns
    -------
    rows : list of dict
        Keys measurement, value, unit, peer, peer_value, ratio; times the peer's by ours, so that
        1 means that the loop costs nothing.
    """
    rng = rng_for(seed, "bench", "tokens")
    tokens = rng.integers(0, N_CODES, (batch_size * 4, *grid)).astype(np.uint16)
    codebook = rng.standard_normal((N_CODES, CODE_DIM)).astype(np.float32)
    rows = []
    with torch_threads(threads):
        for hidden, n_layers, n_heads in shapes:
            for precision in precisions:
                cell = Cell(0, hidden, n_layers, n_heads, precision, seed=seed)
                rows += _compare(cell, tokens, codebook, batch_size, n_steps, repeats)
    return rows


def _compare(cell, tokens, codebook, batch_size, n_steps, repeats) -> list[dict]:
    cfg = TrainConfig(n_steps=n_steps, batch_size=batch_size, n_evals=1, dropout=0.0)
    train_rows, val_rows = np.arange(1, len(tokens) - 2), np.array([len(tokens) - 1])
    bare = _BareLoop(cell, tokens, batch_size)
    ours_s, peer_s = [], []
    bare.steps(2)
    for _ in range(repeats):
        _, _, timing = train_gpt(
            cell, cfg, tokens, codebook, train_rows, val_rows, threads=None, device="cpu"
        )
        ours_s.append(timing["train_cpu_s"] / n_steps)
        start = time.process_time()
        bare.steps(n_steps)
        peer_s.append((time.process_time() - start) / n_steps)
    ours, peer = float(np.median(ours_s)), float(np.median(peer_s))
    model = build_gpt(cell, N_CODES, CODE_DIM, tokens.shape[1:])
    n_tokens = batch_size * model.n_tokens
    what = (
        f"step, hidden {cell.hidden}, {cell.n_layers} layers, {cell.precision}, "
        f"{n_tokens} tokens, {count_parameters(model)['total'] / 1e6:.2f}M parameters"
    )
    return [_row(what, ours * 1e3, "CPU ms", "bare GPT2LMHeadModel loop", peer * 1e3, peer / ours)]


class _BareLoop:
    """transformers' GPT-2 with cross-attention on one fixed batch."""

    def __init__(self, cell, tokens, batch_size):
        torch.manual_seed(0)
        length = int(np.prod(tokens.shape[1:]))
        config = GPT2Config(
            vocab_size=N_CODES,
            n_positions=length,
            n_embd=cell.hidden,
            n_layer=cell.n_layers,
            n_head=cell.n_heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            activation_function="gelu_pytorch_tanh",
            add_cross_attention=True,
            tie_word_embeddings=False,
            bos_token_id=0,
            eos_token_id=0,
            attn_implementation="sdpa",
        )
        self.model = GPT2LMHeadModel(config).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-4, BETAS, fused=True)
        windows = Windows(tokens, np.zeros((N_CODES, 1), np.float32), np.arange(1, batch_size + 1))
        self.targets, _ = windows.batch(slice(None))
        self.context = torch.randn(batch_size, length, cell.hidden)
        self.bf16 = cell.precision == "bf16"

    def steps(self, n: int) -> None:
        """Train for n steps."""
        for _ in range(n):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                logits = self.model(
                    input_ids=self.targets, encoder_hidden_states=self.context, use_cache=False
                ).logits
            loss = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), self.targets.flatten()
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()


def _row(measurement, value, unit, peer, peer_value, ratio) -> dict:
    return {
        "measurement": measurement,
        "value": value,
        "unit": unit,
        "peer": peer,
        "peer_value": peer_value,
        "ratio": ratio,
    }
