"""Training of a GPT cell: best weights, exact resume, precision, refusals."""

import dataclasses

import numpy as np
import pytest
import torch

from cobe.core.config import Cell, TrainConfig
from cobe.core.errors import CobeError
from cobe.video import train as train_module
from cobe.video.gpt import build_gpt
from cobe.video.train import Windows, mean_loss, peak_learning_rate, train_gpt

CELL = Cell(n_frames=1000, hidden=16, n_layers=1, n_heads=2)
CFG = TrainConfig(n_steps=20, batch_size=8, learning_rate=1e-2, n_evals=5, dropout=0.1)
GRID, N_CODES = (2, 2, 2), 12
TRAIN_ROWS, VAL_ROWS = np.arange(1, 60), np.arange(62, 80)


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(0, N_CODES, (80, *GRID)).astype(np.uint16)


@pytest.fixture(scope="module")
def codebook():
    return np.random.default_rng(1).normal(size=(N_CODES, 4)).astype(np.float32)


def fit(tokens, codebook, cell=CELL, cfg=CFG, checkpoint=None, rows=(TRAIN_ROWS, VAL_ROWS), **more):
    return train_gpt(cell, cfg, tokens, codebook, *rows, checkpoint, threads=1, **more)


def same_weights(a, b):
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.fixture(scope="module")
def whole(tokens, codebook):
    return fit(tokens, codebook)


def test_resume_differs_from_a_fresh_run_of_another_seed(whole, tokens, codebook):
    other, _, _ = fit(tokens, codebook, dataclasses.replace(CELL, seed=1))
    assert not same_weights(other, whole[0])


def test_best_validation_weights_are_kept(tokens, codebook):
    """Random tokens cannot be predicted: training long on few windows overfits."""
    cfg = dataclasses.replace(CFG, n_steps=120, n_evals=12, dropout=0.0)
    rows = (np.arange(1, 12), VAL_ROWS)
    model, log, timing = fit(tokens, codebook, cfg=cfg, rows=rows)
    best = log.val_loss.min()
    assert log.val_loss.iloc[-1] > best + 0.2
    assert log.train_loss.iloc[-1] < best - 0.5
    assert mean_loss(model, Windows(tokens, codebook, VAL_ROWS)) == pytest.approx(best, abs=1e-6)
    assert timing["best_step"] == log.step[log.val_loss.idxmin()]


def test_log_counts(whole):
    model, log, timing = whole
    assert log.step.tolist() == [0, 1, 3, 7, 13, 20]
    assert log.tokens_seen.tolist() == [n * 8 * 8 for n in log.step]
    assert log.epoch.iloc[-1] == pytest.approx(20 * 8 / len(TRAIN_ROWS))
    assert np.isnan(log.train_loss.iloc[0])
    assert np.isfinite(log.train_loss.iloc[1:]).all()
    assert not model.training
    assert timing["n_steps"] == 20
    assert timing["threads"] == 1


def test_validation_loss_is_cross_entropy(whole, tokens, codebook):
    """Against a plain log-softmax in float64, window by window."""
    model, _, _ = whole
    windows, losses = Windows(tokens, codebook, VAL_ROWS), []
    for row in VAL_ROWS:
        target = torch.from_numpy(tokens[row].reshape(1, -1).astype(int))
        codes = torch.from_numpy(codebook[tokens[row - 1].reshape(1, -1)])
        with torch.no_grad():
            logits = model(target, codes)[0].double().numpy()
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        losses.append(-logp[np.arange(8), target[0].numpy()].mean())
    assert mean_loss(model, windows) == pytest.approx(np.mean(losses), abs=1e-5)


def test_bf16_trains_close_to_fp32_and_validates_in_float32(tokens, codebook):
    cfg = dataclasses.replace(CFG, dropout=0.0)
    full, log, _ = fit(tokens, codebook, cfg=cfg)
    half, half_log, timing = fit(
        tokens, codebook, dataclasses.replace(CELL, precision="bf16"), cfg=cfg
    )
    assert timing["precision"] == "bf16"
    assert half_log.val_loss.iloc[0] == log.val_loss.iloc[0]
    assert not same_weights(full, half)
    assert np.allclose(half_log.val_loss, log.val_loss, atol=0.05)
    assert all(p.dtype == torch.float32 for p in half.parameters())


@pytest.mark.parametrize("precision", ["fp16", "tf32", "fp8"])
def test_precision_unknown_for_a_cpu(precision, tokens, codebook):
    cell = dataclasses.replace(CELL, precision=precision)
    with pytest.raises(CobeError, match="not available on a CPU; choose one of fp32, bf16"):
        fit(tokens, codebook, cell, device="cpu")


def test_checkpoint_of_another_cell_or_other_data(tokens, codebook, tmp_path):
    path, cfg = tmp_path / "c.safetensors", dataclasses.replace(CFG, n_steps=2)
    fit(tokens, codebook, cfg=cfg, checkpoint=path)
    with pytest.raises(CobeError, match="another run .hidden 16 there, 32 here.; delete it"):
        fit(tokens, codebook, dataclasses.replace(CELL, hidden=32), cfg, path)
    with pytest.raises(CobeError, match=r"another run \(data"):
        fit(tokens, codebook, cfg=cfg, checkpoint=path, rows=(TRAIN_ROWS[:30], VAL_ROWS))
    path.write_bytes(b"broken")
    with pytest.raises(CobeError, match="damaged checkpoint"):
        fit(tokens, codebook, cfg=cfg, checkpoint=path)


def test_refusals(tokens, codebook):
    with pytest.raises(CobeError, match="share 2 clips"):
        fit(tokens, codebook, rows=(TRAIN_ROWS, np.arange(59, 70)))
    with pytest.raises(CobeError, match="not divisible by 3 heads"):
        fit(tokens, codebook, dataclasses.replace(CELL, n_heads=3))
    with pytest.raises(CobeError, match="codebook has 5 codes"):
        fit(tokens, codebook[:5])
    with pytest.raises(CobeError, match="no rows"):
        fit(tokens, codebook, rows=(TRAIN_ROWS, []))


def test_a_diverging_run_says_what_to_lower(tokens, codebook):
    cfg = dataclasses.replace(CFG, learning_rate=float("inf"))
    with pytest.raises(CobeError, match="lower TrainConfig.learning_rate"):
        fit(tokens, codebook, cfg=cfg)


def test_every_window_is_seen_once_in_an_epoch():
    order = train_module._Order(n_windows=59, batch_size=8, seed=0)
    steps = np.concatenate([order.step(i) for i in range(3 * 59)])
    for epoch in steps[: 59 * 24].reshape(24, 59):
        assert np.array_equal(np.sort(epoch), np.arange(59))
    assert not np.array_equal(steps[:59], steps[59:118])
    assert np.array_equal(train_module._Order(59, 8, 0).step(20), steps[160:168])


def test_peak_learning_rate_falls_with_the_root_of_width():
    assert peak_learning_rate(CELL, CFG) == pytest.approx(CFG.learning_rate * 6**0.5)


def test_training_leaves_global_state_alone(tokens, codebook):
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    fit(tokens, codebook, cfg=dataclasses.replace(CFG, n_steps=2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_tokens_may_be_a_memory_map(whole, tokens, codebook, tmp_path):
    np.save(tmp_path / "tokens.npy", tokens)
    model, _, _ = fit(np.load(tmp_path / "tokens.npy", mmap_mode="r"), codebook)
    assert same_weights(model, whole[0])


def test_windows_pair_each_target_with_the_clip_before(tokens, codebook):
    rows = np.array([5, 9, 6])
    targets, codes = Windows(tokens, codebook, rows).batch(slice(None))
    assert np.array_equal(targets.numpy(), tokens[rows].reshape(3, -1))
    assert np.array_equal(codes.numpy(), codebook[tokens[rows - 1].reshape(3, -1)])


def test_initial_loss_is_that_of_the_initial_weights(whole, tokens, codebook):
    model = build_gpt(CELL, N_CODES, 4, GRID)
    assert whole[1].val_loss.iloc[0] == mean_loss(model, Windows(tokens, codebook, VAL_ROWS))
