"""The switches of a training step, and the published recipe as their values."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from cobe.core.config import Cell, TrainConfig, VQVAEConfig
from cobe.core.errors import CobeError
from cobe.video.gpt import build_gpt
from cobe.video.recipe import PUBLISHED_RECIPE, PixelTokens
from cobe.video.train import Windows, gpt_task, make_accelerator, train_gpt
from cobe.video.vqvae import build_vqvae

CELL = Cell(n_frames=1000, hidden=16, n_layers=2, n_heads=2)
CFG = TrainConfig(n_steps=6, batch_size=8, learning_rate=1e-2, n_evals=2, dropout=0.1)
GRID, N_CODES = (2, 2, 2), 12
ROWS = np.arange(1, 60), np.arange(62, 80)


@pytest.fixture(scope="module")
def data():
    """Codes that go up by one: learnt at once, so that the best weights are the last."""
    tokens = ((np.arange(80)[:, None] + np.arange(8)) % N_CODES).reshape(80, *GRID)
    codebook = np.random.default_rng(1).normal(size=(N_CODES, 4)).astype(np.float32)
    return tokens.astype(np.uint16), codebook


def fit(data, clip_tokens=None, **changes):
    cfg = dataclasses.replace(CFG, **changes)
    model, log, timing = train_gpt(
        CELL, cfg, *data, *ROWS, threads=1, device="cpu", clip_tokens=clip_tokens
    )
    assert timing["best_step"] == cfg.n_steps
    return torch.cat([p.detach().flatten() for p in model.parameters()]), log


@pytest.fixture(scope="module")
def plain(data):
    return fit(data)[0]


def test_tokens_made_again_each_step_give_the_same_weights_when_they_are_the_same(data, plain):
    asked = []

    def clip_tokens(rows):
        asked.append(rows)
        return torch.from_numpy(data[0][rows].astype(np.int64))

    assert torch.equal(fit(data, clip_tokens, tokens_once=False)[0], plain)
    assert len(asked) == CFG.n_steps
    for rows in asked:
        context, target = np.split(rows, 2)
        assert np.array_equal(context + 1, target)
        assert set(target) <= set(ROWS[0])
    # ... and other tokens other ones: they do reach the model.
    other = fit(data, lambda rows: (clip_tokens(rows) + 1) % N_CODES, tokens_once=False)[0]
    assert not torch.equal(other, plain)


def test_activation_checkpointing_recomputes_the_same_step(data, plain, monkeypatch):
    """Dropout included: the masks of the second pass are those of the first."""
    calls = []
    mlp = type(build_gpt(CELL, N_CODES, 4, GRID).transformer.h[0].mlp)
    forward = mlp.forward
    monkeypatch.setattr(mlp, "forward", lambda self, x: calls.append(1) or forward(self, x))
    weights = fit(data, activation_checkpointing=True)[0]
    with_twice = len(calls)
    calls.clear()
    fit(data)
    assert with_twice == len(calls) + CFG.n_steps * CELL.n_layers
    assert torch.equal(weights, plain)


def test_eager_and_fused_attention_agree(data):
    eager, log = fit(data, attention="eager", dropout=0.0)
    fused, fused_log = fit(data, dropout=0.0)
    assert not torch.equal(eager, fused)
    assert torch.allclose(eager, fused, atol=1e-3)
    assert np.allclose(log.val_loss, fused_log.val_loss, atol=1e-4)


def test_compiled_training_agrees(data, plain, monkeypatch):
    """Traced by dynamo but not turned to C++, which would take minutes."""
    compiled = functools.partial(torch.compile, backend="eager")
    used = []
    monkeypatch.setattr(torch, "compile", lambda module: used.append(1) or compiled(module))
    assert torch.allclose(fit(data, compile=True)[0], plain, atol=1e-5)
    assert used == [1]


def test_the_published_recipe_reaches_every_part(data):
    cfg = dataclasses.replace(CFG, **PUBLISHED_RECIPE)
    windows = [Windows(*data, rows) for rows in ROWS]
    accelerator = make_accelerator("fp32", "cpu")
    task = gpt_task(CELL, cfg, *windows, GRID, accelerator, lambda rows: None)
    body = task.model.transformer
    assert body.config._attn_implementation == "eager"
    for block in body.h:
        assert block.attn.attn_dropout.p == block.crossattention.attn_dropout.p == 0.3
        assert block.attn.resid_dropout.p == block.mlp.dropout.p == 0.2
        assert block.gradient_checkpointing
    assert body.drop.p == 0.2
    assert not cfg.tokens_once


def test_published_recipe_trains_and_resumes_exactly(data, tmp_path):
    def clip_tokens(rows):
        return torch.from_numpy(data[0][rows].astype(np.int64))

    whole = fit(data, clip_tokens, **PUBLISHED_RECIPE)[0]
    path, n_calls = tmp_path / "c.safetensors", []

    def failing(rows):
        n_calls.append(1)
        if len(n_calls) == 4:
            raise RuntimeError("lost the disk")
        return clip_tokens(rows)

    cfg = dataclasses.replace(CFG, **PUBLISHED_RECIPE)
    with pytest.raises(RuntimeError, match="lost the disk"):
        train_gpt(CELL, cfg, *data, *ROWS, path, 1, "cpu", failing)
    model, _, _ = train_gpt(CELL, cfg, *data, *ROWS, path, 1, "cpu", clip_tokens)
    again = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert torch.equal(again, whole)


def test_pixel_tokens_are_those_of_the_cache():
    model = build_vqvae(
        VQVAEConfig(resolution=16, downsample=(4, 8, 8), n_hiddens=8, n_codes=16, code_dim=4)
    )
    clips = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 16, 3)).astype(np.uint8)
    model.train()
    model(model.pixels(clips))  # starts the codebook
    cached = model.encode(clips)
    rows = np.array([3, 9, 4])
    made = PixelTokens(model, lambda rows: clips[rows])(rows)
    assert made.dtype == torch.int64
    assert len(np.unique(cached)) > 4
    assert np.array_equal(made.numpy(), cached[rows])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention": "flash"}, "attention 'flash': unknown; choose sdpa or eager"),
        ({"attention_dropout": 1.0}, "attention_dropout 1.0: take it from 0 up to 1"),
        ({"dropout": -0.1}, "dropout -0.1"),
        ({"tokens_once": False}, "give a PixelTokens, or set tokens_once to True"),
    ],
)
def test_refusals(data, changes, words):
    with pytest.raises(CobeError, match=words):
        fit(data, **changes)
