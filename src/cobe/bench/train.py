"""A training step: our loop beside a bare one, and our recipe beside the published one."""

import time
from dataclasses import replace

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from cobe.bench.rows import row
from cobe.core.config import Cell, TrainConfig, VQVAEConfig
from cobe.core.seeds import rng_for
from cobe.video.device import torch_threads
from cobe.video.gpt import build_gpt, count_parameters
from cobe.video.recipe import PUBLISHED_RECIPE
from cobe.video.throughput import RecipeStep, throughput
from cobe.video.train import BETAS, Windows, train_gpt

N_CODES, CODE_DIM = 512, 32
# 16 x 64 x 64 clips of 4 x 16 x 16 tokens, from VideoGPT's default encoder.
VIDEOGPT = VQVAEConfig(
    resolution=64,
    downsample=(4, 4, 4),
    n_hiddens=240,
    n_res_blocks=4,
    n_codes=2048,
    code_dim=256,
)


def measure(
    *,
    loop_shapes=((96, 2, 4), (132, 4, 4)),
    recipe_shapes=((132, 4, 4), (576, 8, 4)),
    vqvae: VQVAEConfig = VIDEOGPT,
    rounds: int = 5,
    threads: int = 1,
    seed: int = 0,
) -> list[dict]:
    """Times of a training step: loop against bare loop, recipe against recipe.

    The goals: the loop adds at most 5 % (a ratio of 0.95); from tokens and without dropout, a step
    takes at most 0.20 of the published recipe's in float32 at hidden 132 and 4 layers (a ratio of
    5), and 0.55 in float32 and 0.30 in bf16 at hidden 576 and 8 layers (1.8 and 3.3).

    Parameters
    ----------
    loop_shapes, recipe_shapes : sequence of (int, int, int)
        Hidden size, layers, heads: of the loop's overhead, and of the recipes.
    vqvae : VQVAEConfig
        The encoder of the published recipe.
    rounds : int
        Turns of all sides.
    threads : int
        torch threads.
    seed : int
        Seed of tokens and weights.

    Returns
    -------
    rows : list of dict
        Keys measurement, value, unit, peer, peer_value, ratio; the ratio is the peer's time by
        ours.
    """
    rows = []
    for shape in loop_shapes:
        rows.append(loop_overhead(shape, repeats=rounds, threads=threads, seed=seed))
    for shape in recipe_shapes:
        rows += recipes(shape, vqvae, "cpu", rounds, threads, seed)
    if torch.cuda.is_available():
        for shape in recipe_shapes:
            rows += recipes(shape, vqvae, "cuda", rounds, threads, seed)
    else:
        rows.append(row("step on a GPU", None, "not measured: torch sees no GPU here"))
    return rows


def recipes(shape, vqvae, device, rounds, threads, seed) -> list[dict]:
    """Our step in every precision of the device, beside the published recipe's in float32."""
    hidden, n_layers, n_heads = shape
    cell = Cell(0, hidden, n_layers, n_heads, seed=seed)
    ours = TrainConfig(batch_size=1 if device == "cpu" else 16, dropout=0.0)
    published = replace(ours, **PUBLISHED_RECIPE)
    steps = [RecipeStep("published recipe", published)]
    steps += [RecipeStep("our recipe", ours, p) for p in ("fp32", "tf32", "bf16", "fp16")]
    steps.append(RecipeStep("our recipe, dropout 0.1", replace(ours, dropout=0.1)))
    table = throughput(
        cell, ours, vqvae, steps, rounds=rounds, steps_per_round=1, device=device,
        threads=threads, seed=seed,
    )  # fmt: skip
    peer, rows = table.iloc[0], []
    for made in table.iloc[1:].itertuples():
        what = f"{made.change} from tokens, {device}, hidden {hidden}, {n_layers} layers, "
        what += f"{made.precision}, {made.n_tokens} tokens"
        if made.note and device == "cpu":
            continue  # precisions that no CPU has
        if made.note:
            rows.append(row(what, None, made.note))
            continue
        unit = "CPU ms" if device == "cpu" else "ms"
        rows.append(
            row(
                what, made.step_s * 1e3, unit,
                "published recipe in fp32", peer.step_s * 1e3, peer.step_s / made.step_s,
            )
        )  # fmt: skip
        rows.append(row(f"MFU of {what}", made.mfu, "fraction of the measured matrix product"))
    return rows


def loop_overhead(
    shape=(132, 4, 4),
    *,
    precision: str = "fp32",
    grid=(4, 4, 4),
    batch_size: int = 32,
    n_steps: int = 10,
    repeats: int = 5,
    threads: int = 1,
    seed: int = 0,
) -> dict:
    """CPU time of a step of `train_gpt`, beside a bare loop around transformers' own GPT-2.

    Ours is `train_gpt` as the sweep calls it, without its validations, its log of every step
    included. The peer is `GPT2LMHeadModel` with cross-attention, of the same width, depth, heads,
    length and codes, with the same activation, fused AdamW and gradient clipping, in a bare loop
    over one batch that is already a tensor; its context vectors are given, while ours are computed
    from codes. Both take turns in one process; the median over the turns counts.

    Parameters
    ----------
    shape : (int, int, int)
        Hidden size, layers, heads.
    precision : str
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
    row : dict
        As of `measure`; a ratio of 1 means that the loop costs nothing.
    """
    rng = rng_for(seed, "bench", "tokens")
    tokens = rng.integers(0, N_CODES, (batch_size * 4, *grid)).astype(np.uint16)
    codebook = rng.standard_normal((N_CODES, CODE_DIM)).astype(np.float32)
    cell = Cell(0, *shape, precision, seed=seed)
    cfg = TrainConfig(n_steps=n_steps, batch_size=batch_size, n_evals=1, dropout=0.0)
    train_rows, val_rows = np.arange(1, len(tokens) - 2), np.array([len(tokens) - 1])
    ours_s, peer_s = [], []
    with torch_threads(threads), torch.random.fork_rng(devices=[]):
        bare = _BareLoop(cell, tokens, batch_size)
        bare.steps(2)
        for _ in range(repeats):
            _, _, timing = train_gpt(
                cell, cfg, tokens, codebook, train_rows, val_rows, device="cpu"
            )
            ours_s.append(timing["train_cpu_s"] / n_steps)
            start = time.process_time()
            bare.steps(n_steps)
            peer_s.append((time.process_time() - start) / n_steps)
    ours, peer = float(np.median(ours_s)), float(np.median(peer_s))
    model = build_gpt(cell, N_CODES, CODE_DIM, grid)
    what = (
        f"step of the loop, hidden {cell.hidden}, {cell.n_layers} layers, {precision}, "
        f"{batch_size * model.n_tokens} tokens, "
        f"{count_parameters(model)['total'] / 1e6:.2f}M parameters"
    )
    return row(what, ours * 1e3, "CPU ms", "bare GPT2LMHeadModel loop", peer * 1e3, peer / ours)


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
