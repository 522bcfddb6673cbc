"""Training of the VQ-VAE: exact resume with its codebook, log, refusals."""

import dataclasses

import numpy as np
import pytest
import torch

from cobe.core.errors import CobeError
from cobe.video import loop, vqvae_train
from cobe.video.flops import total_flops, vqvae_flops
from cobe.video.steplog import StepLog
from cobe.video.vqvae import VQVAE
from cobe.video.vqvae_train import train_vqvae
from small_video import TINY, moving_squares


@pytest.fixture(scope="module")
def val_clips():
    return moving_squares(np.random.default_rng(99), 4)


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def whole(request, val_clips):
    steps = StepLog()
    model, log = train_vqvae(TINY, moving_squares, val_clips, None, 1, request.param, steps)
    return request.param, model, log, steps.table()


def assert_same_state(a, b):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("step", [0, 4, 7, 11])
def test_resume_at_any_step_is_bit_identical_and_keeps_the_codebook(
    step, every_step, whole, val_clips, tmp_path, monkeypatch
):
    """Weights, codebook, its running sums and its start flag; interrupted inside a step."""
    precision, model, log, steps = whole
    path, again = tmp_path / "vq.safetensors", StepLog()
    if every_step:
        monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)

    with monkeypatch.context() as patch:
        forward, n_calls = VQVAE.forward, []

        def failing(self, x):
            y = forward(self, x)  # moves the codebook
            n_calls.append(1)
            if len(n_calls) == step + 2:  # the first call is the start of the codebook
                raise KeyboardInterrupt
            return y

        patch.setattr(VQVAE, "forward", failing)
        with pytest.raises(KeyboardInterrupt):
            train_vqvae(TINY, moving_squares, val_clips, path, 1, precision)
    monkeypatch.setattr(vqvae_train, "_start", None)  # no second start
    resumed, rows = train_vqvae(TINY, moving_squares, val_clips, path, 1, precision, again)
    assert_same_state(resumed, model)
    columns = log.columns.drop("seconds")
    assert log[columns].equals(rows[columns])
    columns = steps.columns.drop(["tokens_per_s", "peak_memory_bytes"])
    assert steps[columns].equals(again.table()[columns])


def test_a_finished_checkpoint_gives_the_model_back(whole, val_clips, tmp_path):
    precision, model, _, _ = whole
    path = tmp_path / "vq.safetensors"
    train_vqvae(TINY, moving_squares, val_clips, path, 1, precision)

    def no_clips_wanted(rng, n):
        raise AssertionError("a finished run asked for clips")

    finished, _ = train_vqvae(TINY, no_clips_wanted, val_clips, path, 1, precision)
    assert_same_state(finished, model)
    assert finished.quantize._codebook.initted


def test_a_row_per_step(whole):
    _, _, log, steps = whole
    assert steps.step.tolist() == list(range(13))
    assert steps.step[steps.val_loss.notna()].tolist() == log.step.tolist()
    assert steps.val_loss.dropna().tolist() == log.val_loss.tolist()
    flop = total_flops(vqvae_flops(TINY, TINY.batch_size))
    assert steps.flop.iloc[-1] == pytest.approx(12 * flop)
    assert steps.tokens_seen.iloc[-1] == 12 * TINY.batch_size * 16
    assert (steps.commitment[1:] >= 0).all()
    after = (steps.step > log.step.iloc[-2]) & (steps.step <= log.step.iloc[-1])
    for name in ("train_loss", "commitment"):
        assert log[name].iloc[-1] == pytest.approx(steps[name][after].mean(), rel=1e-12)


def test_training_leaves_global_state_alone(val_clips):
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train_vqvae(dataclasses.replace(TINY, n_steps=1), moving_squares, val_clips, None, 1, "fp32")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_out_of_memory_says_what_to_lower(val_clips, monkeypatch):
    def no_memory(self, codes):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(vqvae_train, "reconstruction_error", lambda *a: {"val_loss": 1.0})
    monkeypatch.setattr(VQVAE, "reconstruct", no_memory)
    monkeypatch.setattr(vqvae_train, "_start", lambda *a: None)
    with pytest.raises(CobeError, match=r"batch_size \(now 4, .*bf16 \(now fp32\)"):
        train_vqvae(TINY, moving_squares, val_clips, None, 1, "fp32")
    with pytest.raises(CobeError, match="step 0 on cpu: out of memory .CUDA"):
        train_vqvae(TINY, moving_squares, val_clips, None, 1, "bf16")


def test_checkpoint_of_another_run_is_refused(val_clips, tmp_path):
    path = tmp_path / "vq.safetensors"
    cfg = dataclasses.replace(TINY, n_steps=2)
    train_vqvae(cfg, moving_squares, val_clips[:2], path, 1, "fp32")
    with pytest.raises(CobeError, match="seed 0 there, 1 here"):
        train_vqvae(
            dataclasses.replace(cfg, seed=1), moving_squares, val_clips[:2], path, 1, "fp32"
        )
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CobeError, match="damaged checkpoint"):
        train_vqvae(cfg, moving_squares, val_clips[:2], path, 1, "fp32")


def test_a_diverging_run_says_what_to_lower(val_clips):
    cfg = dataclasses.replace(TINY, learning_rate=float("inf"), n_steps=4)
    with pytest.raises(CobeError, match="lower VQVAEConfig.learning_rate"):
        train_vqvae(cfg, moving_squares, val_clips[:2], None, 1, "fp32")
