"""The training loop itself: resume at any step, the log of steps, memory, remaining time."""

import dataclasses

import numpy as np
import pytest
import torch

from cobe.core.config import Cell, TrainConfig
from cobe.core.errors import CobeError
from cobe.video import checkpoint as checkpoint_module
from cobe.video import device as device_module
from cobe.video import loop
from cobe.video import train as train_module
from cobe.video.device import make_accelerator, readable_out_of_memory
from cobe.video.flops import gpt_flops, total_flops
from cobe.video.schedule import eval_steps, learning_rate
from cobe.video.steplog import StepLog
from cobe.video.train import train_gpt

CELL = Cell(n_frames=1000, hidden=16, n_layers=1, n_heads=2)
CFG = TrainConfig(n_steps=20, batch_size=8, learning_rate=1e-2, n_evals=5, dropout=0.1)
GRID, N_CODES = (2, 2, 2), 12
ROWS = np.arange(1, 60), np.arange(62, 80)
TIMES = ["tokens_per_s", "peak_memory_bytes"]


@pytest.fixture(scope="module")
def data():
    """Codes that go up by one: learnt at once, so that the best weights are the last."""
    tokens = ((np.arange(80)[:, None] + np.arange(8)) % N_CODES).reshape(80, *GRID)
    codebook = np.random.default_rng(1).normal(size=(N_CODES, 4)).astype(np.float32)
    return tokens.astype(np.uint16), codebook


def fit(data, cell=CELL, cfg=CFG, checkpoint=None, **more):
    log = StepLog()
    model, _, timing = train_gpt(
        cell, cfg, *data, *ROWS, checkpoint, threads=1, device="cpu", step_log=log, **more
    )
    return model, log.table(), timing


def same_weights(a, b):
    pairs = zip(a.state_dict().items(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for (_, x), y in pairs)


@pytest.fixture(scope="module")
def whole(data):
    model, steps, timing = fit(data)
    assert timing["best_step"] == 20
    return model, steps, timing


class Stop(Exception):
    pass


def stop_at(monkeypatch, step):
    """Let the step of that number fail after its forward and backward passes."""
    call = loop.Stepper.__call__

    def called(self, number):
        logged = call(self, number)
        if number == step:
            raise Stop
        return logged

    monkeypatch.setattr(loop.Stepper, "__call__", called)


# Validations are after steps 1, 3, 7, 13 and 20.
@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("step", [0, 2, 5, 6, 13, 19])
def test_resume_at_any_step_is_bit_identical(step, every_step, whole, data, tmp_path, monkeypatch):
    """Interrupted inside a step; checkpoints at validations alone, or after every step."""
    path = tmp_path / "gpt.safetensors"
    if every_step:
        monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(Stop):
            fit(data, checkpoint=path)
    state = {"identity": None}
    with pytest.raises(CobeError, match="another run"):
        loop.read_checkpoint(path, state, None, None)
    torch.manual_seed(step)  # the outer random state must not matter
    calls = []
    with monkeypatch.context() as patch:
        call = loop.Stepper.__call__
        patch.setattr(loop.Stepper, "__call__", lambda self, n: calls.append(n) or call(self, n))
        model, steps, _ = fit(data, checkpoint=path)
    resumed_at = step if every_step else max(s for s in (0, 1, 3, 7, 13) if s <= step)
    assert calls == list(range(resumed_at, 20))
    assert same_weights(model, whole[0])
    columns = whole[1].columns.drop(TIMES)
    assert steps[columns].equals(whole[1][columns])


def test_a_checkpoint_holds_the_last_weights_and_the_best(data, tmp_path):
    """Random codes and few windows: the run overfits, so the two differ."""
    tokens = np.random.default_rng(0).integers(0, N_CODES, (80, *GRID)).astype(np.uint16)
    data = tokens, data[1]
    cfg = dataclasses.replace(CFG, n_steps=100, dropout=0.0)
    path, log = tmp_path / "c.safetensors", StepLog()
    rows = np.arange(1, 12), ROWS[1]
    model, evals, timing = train_gpt(CELL, cfg, *data, *rows, path, threads=1, step_log=log)
    assert timing["best_step"] < 100
    accelerator = make_accelerator("fp32", "cpu")
    windows = [train_module.Windows(*data, r) for r in rows]
    task = train_module.gpt_task(CELL, cfg, *windows, GRID, accelerator)
    state, parts = loop.read_checkpoint(path, task.identity, task.model, task.optimizer)
    assert state["step"] == 100
    assert train_module.mean_loss(task.model, windows[1]) == evals.val_loss.iloc[-1]
    task.model.load_state_dict(parts["best"])
    assert same_weights(task.model, model)


def test_a_row_per_step(whole, data):
    model, steps, timing = whole
    assert steps.step.tolist() == list(range(21))
    assert steps.tokens_seen.tolist() == [64 * n for n in range(21)]
    assert steps.step[steps.val_loss.notna()].tolist() == [0, 1, 3, 7, 13, 20]
    assert np.isnan(steps.train_loss[0])
    assert (steps.train_loss[1:] > 0).all() and (steps.grad_norm[1:] > 0).all()
    assert (steps.tokens_per_s[1:] > 0).all()
    assert (steps.peak_memory_bytes[1:] > 1e7).all()
    rates = [learning_rate(n, 20, 1e-2 * 6**0.5) for n in range(20)]
    assert steps.learning_rate[1:].tolist() == pytest.approx(rates)
    flop = total_flops(gpt_flops(CELL, N_CODES, 4, GRID, 8))
    assert steps.flop.tolist() == pytest.approx([n * flop for n in range(21)])
    assert timing["skipped_steps"] == 0
    seconds = (64 / steps.tokens_per_s[1:]).sum()
    assert seconds == pytest.approx(timing["train_s"], rel=0.2)


def test_the_first_row_is_the_loss_of_the_first_batch(whole, data):
    """Of the initial weights, recomputed without the loop (dropout off)."""
    cfg = dataclasses.replace(CFG, dropout=0.0)
    steps = fit(data, cfg=cfg)[1]
    windows = train_module.Windows(*data, ROWS[0])
    model = train_module.build_gpt(CELL, N_CODES, 4, GRID)
    loss = model.loss(*windows.batch(train_module._Order(59, 8, 0).step(0)))
    assert steps.train_loss[1] == pytest.approx(loss.item(), abs=1e-6)
    loss.backward()
    norm = sum(p.grad.double().square().sum() for p in model.parameters()) ** 0.5
    assert steps.grad_norm[1] == pytest.approx(norm.item(), rel=1e-5)


def test_out_of_memory_says_what_to_lower(data, monkeypatch):
    def no_memory(self, targets, codes):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")

    monkeypatch.setattr(train_module.ConditionalGPT, "loss", no_memory)
    monkeypatch.setattr(train_module, "mean_loss", lambda model, windows: 1.0)
    with pytest.raises(CobeError) as caught:
        fit(data)
    text = str(caught.value)
    assert "h16-l1-a2-fp32" in text and "step 0 on cpu: out of memory" in text
    for setting in (
        "TrainConfig.batch_size (now 8, over 1 processes)",
        "TrainConfig.activation_checkpointing to True",
        "Cell.precision 'bf16' (now 'fp32')",
    ):
        assert setting in text
    assert "eager" not in text and "\n" not in text
    cfg = dataclasses.replace(CFG, activation_checkpointing=True, attention="eager")
    with pytest.raises(CobeError) as caught:
        fit(data, dataclasses.replace(CELL, precision="bf16"), cfg)
    text = str(caught.value)
    assert "activation_checkpointing" not in text and "bf16'" not in text
    assert "TrainConfig.attention to 'sdpa' (now 'eager')" in text


def test_only_want_of_memory_is_reworded():
    with pytest.raises(CobeError, match="out of memory .*DefaultCPUAllocator.*; lower it"):
        with readable_out_of_memory("here", "lower it"):
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")
    with pytest.raises(RuntimeError, match="shapes"):
        with readable_out_of_memory("here", "lower it"):
            raise RuntimeError("shapes do not fit")


def test_precision_and_device_are_both_named(monkeypatch):
    with pytest.raises(CobeError, match="'tf32': not available on a CPU; choose one of fp32, bf16"):
        make_accelerator("tf32", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    with pytest.raises(CobeError, match="'bf16': not available on Old GPU; choose one of fp32, fp"):
        make_accelerator("bf16", "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    assert device_module.precisions("cuda") == ["fp32", "tf32", "bf16", "fp16"]


def test_device_is_checked():
    with pytest.raises(CobeError, match="choose cpu or cuda"):
        make_accelerator("fp32", "tpu")
    if not torch.cuda.is_available():
        with pytest.raises(CobeError, match="no GPU"):
            make_accelerator("fp32", "cuda")


def test_an_interrupted_write_leaves_the_old_checkpoint(data, tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    fit(data, cfg=dataclasses.replace(CFG, n_steps=2), checkpoint=path)
    before = path.read_bytes()

    def half(tensors, draft, metadata):
        draft.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint_module, "save_file", half)
    model = torch.nn.Linear(2, 2)
    with pytest.raises(OSError, match="disk full"):
        loop.write_checkpoint(path, {}, model, torch.optim.AdamW(model.parameters()))
    assert path.read_bytes() == before


def test_remaining_time_counts_the_validations_to_come():
    run = loop.Progress(step=30, log=[{}, {}], spent={"eval_s": 8.0})
    task = type("Task", (), {"n_steps": 100, "evals": [0, 10, 40, 100], "name": "x"})()
    bar = loop._Bar(task, run, shown=False)
    bar.first_step, bar.first_eval_s = 10, 4.0
    bar.started_s -= 44.0  # 20 steps in 44 s, of which 4 s were a validation
    # 70 steps of 2 s, and 2 validations of 4 s
    assert bar.remaining_s() == pytest.approx(148, abs=0.5)


def test_schedule_spans_the_run():
    rates = [learning_rate(step, 200, 2.0) for step in range(200)]
    assert np.argmax(rates) == 9
    assert max(rates) == 2.0
    assert rates[0] == pytest.approx(0.2)
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert np.all(np.diff(rates[10:]) < 0)


@pytest.mark.parametrize(("n_steps", "n_evals"), [(20, 5), (7, 3), (3, 10), (1, 1)])
def test_validations_are_denser_at_the_start_and_include_both_ends(n_steps, n_evals):
    steps = eval_steps(n_steps, n_evals)
    assert steps[0] == 0
    assert steps[-1] == n_steps
    assert len(set(steps)) == len(steps) == min(n_evals, n_steps) + 1
    assert (np.diff(steps, 2) >= -1).all()
