"""FLOP counts against torch's own counter on real models, and against closed forms."""

import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from cobe.core.config import Cell, VQVAEConfig
from cobe.core.errors import CobeError
from cobe.video.flops import gpt_flops, mfu, six_nd, total_flops, train_flops, vqvae_flops
from cobe.video.gpt import build_gpt, count_parameters
from cobe.video.vqvae import build_vqvae

GRID, N_CODES, CODE_DIM = (4, 4, 4), 64, 24
CELL = Cell(0, 32, 2, 4)
VQ = VQVAEConfig(
    resolution=32, downsample=(2, 8, 8), n_hiddens=16, n_res_blocks=2, n_codes=64, code_dim=8
)
# torch's counter knows attention's kernels on a GPU and not the one on a CPU.
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *args, out_shape=None, **kwargs: sdpa_flop_count(q, k, v)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *args, out_shape=None, **kwargs: sdpa_backward_flop_count(
            grad, q, k, v
        )
    ),
}


def counted(function):
    counter = FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION)
    with counter:
        function()
    return counter.get_total_flops()


def gpt_step(cell, dropout=0.0, n=3):
    model = build_gpt(cell, N_CODES, CODE_DIM, GRID, dropout).train()
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, N_CODES, (n, 64), generator=generator)
    codes = torch.randn(n, 64, CODE_DIM, generator=generator)
    return model, lambda: model.loss(targets, codes)


@pytest.mark.parametrize(
    "changes",
    [{}, {"hidden": 30, "head_rule": "floor"}, {"hidden": 96, "n_layers": 3, "n_heads": 1}],
)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_gpt_against_torchs_counter(changes, dropout):
    cell = dataclasses.replace(CELL, **changes)
    model, loss = gpt_step(cell, dropout)
    what = (cell, N_CODES, CODE_DIM, GRID, 3)
    fused = gpt_flops(*what, causal=False, fused=True)
    assert counted(lambda: loss().detach()) == pytest.approx(fused["forward"].sum(), rel=1e-9)
    assert counted(lambda: loss().backward()) == pytest.approx(total_flops(fused), rel=1e-9)
    with sdpa_kernel(SDPBackend.MATH):
        plain = counted(lambda: loss().backward())
    assert plain == pytest.approx(total_flops(gpt_flops(*what, causal=False)), rel=1e-9)
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    switches = {"causal": False, "fused": True, "checkpointing": True, "dropout": bool(dropout)}
    again = gpt_flops(*what, **switches)
    assert counted(lambda: loss().backward()) == pytest.approx(total_flops(again), rel=1e-9)
    assert again["recomputed"].sum() > 0.5 * again["forward"].sum()


def test_a_part_counts_what_its_module_computes():
    """The parts one by one against torch's count by module, not only their sum."""
    _, loss = gpt_step(CELL)
    counter = FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION)
    with counter:
        loss().detach()
    table = gpt_flops(CELL, N_CODES, CODE_DIM, GRID, 3, causal=False).set_index("part")["forward"]
    by_module = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    blocks = [f"ConditionalGPT.transformer.h.{i}" for i in range(CELL.n_layers)]
    for parts, modules in [
        (["context encoder"], ["ConditionalGPT.context_project"]),
        (["head"], ["ConditionalGPT.head"]),
        (["MLP"], [f"{block}.mlp" for block in blocks]),
        (["attention projections", "attention"], [f"{block}.attn" for block in blocks]),
        (
            ["cross-attention projections", "cross-attention"],
            [f"{block}.crossattention" for block in blocks],
        ),
    ]:
        expected = sum(by_module[name] for name in modules)
        assert table[parts].sum() == pytest.approx(expected, rel=1e-9), parts


def test_what_is_needed_is_less_than_what_is_computed():
    """The causal triangle of 64 tokens is 65 / 128 of the square; nothing is made twice."""
    what = (CELL, N_CODES, CODE_DIM, GRID)
    needed, square = gpt_flops(*what), gpt_flops(*what, causal=False, fused=True)
    ratio = needed.set_index("part")["forward"] / square.set_index("part")["forward"]
    assert ratio["attention"] == pytest.approx(65 / 128)
    assert ratio.drop(["attention", "token embedding"]).eq(1).all()
    assert needed["recomputed"].eq(0).all()
    assert total_flops(needed) < total_flops(square)


@pytest.mark.parametrize("hidden", [256, 1024])
def test_six_nd_is_near_where_attention_is_small(hidden):
    """6 N D of the blocks and the head equals the count without attention's own products."""
    cell = dataclasses.replace(CELL, hidden=hidden)
    counts = count_parameters(build_gpt(cell, N_CODES, CODE_DIM, GRID))
    table = gpt_flops(cell, N_CODES, CODE_DIM, GRID, 5).set_index("part")
    products = ["attention projections", "cross-attention projections", "MLP", "head"]
    counted_flops = table.loc[products, ["forward", "backward"]].to_numpy().sum()
    # biases and norms, which 6 N D takes for products, are a share of 1 / hidden of the blocks
    assert six_nd(counts["blocks"] + counts["head"], 5 * 64) == pytest.approx(
        counted_flops, rel=2 / hidden
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"downsample": (1, 2, 2), "resolution": 8},
        {"downsample": (1, 1, 1), "resolution": 8},
        {"downsample": (4, 16, 16), "flat_kernel": 4},
        {"quantizer": "fsq"},
    ],
)
def test_vqvae_against_torchs_counter(changes):
    cfg = dataclasses.replace(VQ, **changes)
    model = build_vqvae(cfg)
    x = torch.rand(2, 3, 16, cfg.resolution, cfg.resolution)
    table = vqvae_flops(cfg, 2, fused=True)
    forward = table.set_index("part")["forward"]
    encode = forward[forward.index.str.startswith("encode")].sum()
    decode = forward[forward.index.str.startswith("decode")].sum()
    model.eval()
    assert counted(lambda: model.quantize(model.latents(x))) == pytest.approx(encode, rel=1e-9)
    codes = torch.rand(2, cfg.code_dim, *model.grid)
    assert counted(lambda: model.reconstruct(codes)) == pytest.approx(decode, rel=1e-9)
    model.train()
    model(x)  # starts the codebook

    def step():
        y, commitment, _ = model(x)
        (y.sum() + commitment).backward()

    assert counted(step) == pytest.approx(total_flops(table), rel=1e-9)


def test_clip_length_counts():
    """All but time attention is linear in the number of frames."""
    short, long = (vqvae_flops(VQ, n_frames=n).set_index("part")["forward"] for n in (16, 32))
    linear = ~short.index.str.contains("axial")
    assert (long[linear] == 2 * short[linear]).all()
    assert (long[~linear] > 2 * short[~linear]).all()


def test_a_run_is_its_steps_and_mfu_a_share_of_the_peak():
    one = total_flops(gpt_flops(CELL, N_CODES, CODE_DIM, GRID))
    run = train_flops(CELL, N_CODES, CODE_DIM, GRID, n_steps=10, batch_size=4)
    assert run == pytest.approx(40 * one)
    assert mfu(run, 2.0, run) == pytest.approx(0.5)
    for seconds, peak in [(0, 1e12), (1.0, 0), (float("nan"), 1e12)]:
        with pytest.raises(CobeError, match="give both, above 0"):
            mfu(run, seconds, peak)
