"""What both training loops share: precision, schedule, and checkpoints that resume exactly."""

from __future__ import annotations

import json
import math
import os
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cobe.core.errors import CobeError

GRADIENT_CLIP = 1.0
WARMUP_SHARE = 0.05
_MIXED = {"fp32": "no", "tf32": "no", "bf16": "bf16", "fp16": "fp16"}


def fast_bf16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware (else it is slower than float32)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def make_accelerator(precision: str, device: str | None = None) -> Accelerator:
    """accelerate's handle on device and precision, for one training run.

    Parameters
    ----------
    precision : str
        ``"fp32"``, ``"tf32"`` (GPU), ``"bf16"``, ``"fp16"`` (GPU, with loss scaling).
    device : str or None
        ``"cpu"`` or ``"cuda"``; None: a GPU where there is one.

    Raises
    ------
    CobeError
        A precision that is unknown, or that the device cannot train in.
    """
    if device not in (None, "cpu", "cuda"):
        raise CobeError(f"device {device!r}: unknown; choose cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise CobeError("device 'cuda': torch sees no GPU here; choose cpu")
    cpu = device == "cpu" or not torch.cuda.is_available()
    allowed = ["fp32", "bf16"] if cpu else list(_MIXED)
    if precision not in allowed:
        raise CobeError(
            f"precision {precision!r}: not available on {'a CPU' if cpu else 'this GPU'}; "
            f"choose one of {', '.join(allowed)}"
        )
    if not cpu:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
    # accelerate keeps one precision per process; cells of several precisions share ours.
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=_MIXED[precision], cpu=cpu)


def learning_rate(step: int, n_steps: int, peak: float) -> float:
    """Linear warm-up over the first 5 % of the steps, then a cosine down to 0 at the last one.

    Parameters
    ----------
    step : int
        Counted from 0.
    n_steps : int
        Length of the run, which is the length of the schedule.
    peak : float
        Highest learning rate.
    """
    warmup = max(1, round(WARMUP_SHARE * n_steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step + 1 - warmup) / max(1, n_steps - warmup)))


def eval_steps(n_steps: int, n_evals: int) -> list[int]:
    """Steps done at which to validate: 0 and `n_evals` more, the last step among them.

    They grow with the square of their number, so that the early minimum of a small training set,
    which overfits within some tens of steps, is not stepped over.
    """
    n_evals = max(1, min(n_evals, n_steps))
    steps = [0]
    for i in range(1, n_evals + 1):
        steps.append(max(steps[-1] + 1, round(n_steps * (i / n_evals) ** 2)))
    return steps


@contextmanager
def torch_threads(threads: int | None):
    """Run with so many torch threads (None: as it is) and put the number back."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_finite(loss: float, step: int, what: str, settings: str) -> None:
    """Raise CobeError for a loss that is not a number, with the settings to lower."""
    if not math.isfinite(loss):
        raise CobeError(f"{what}: loss is {loss} at step {step}; lower {settings}")


def write_checkpoint(path: Path, state: dict, model, optimizer, extra=None) -> None:
    """Write one safetensors file, to a temporary name that is then renamed.

    Parameters
    ----------
    path : Path
        The checkpoint.
    state : dict
        Whatever JSON can hold; floats come back bit by bit.
    model : nn.Module
        Its whole state: weights and buffers, the codebook with them.
    optimizer : torch.optim.Optimizer
        Its state by parameter; its settings are the run's and are not stored.
    extra : dict of str to Tensor, optional
        More tensors, such as the best weights so far.
    """
    tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{k}": v for k, v in values.items()}
    tensors |= {f"extra/{k}": v for k, v in (extra or {}).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    # A copy each: safetensors refuses tensors that share memory.
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    save_file(tensors, part, metadata={"state": json.dumps(state)})
    os.replace(part, path)


def read_checkpoint(path: Path, identity: dict, model, optimizer) -> tuple[dict, dict] | None:
    """Load a checkpoint into model and optimizer.

    Parameters
    ----------
    path : Path
        The checkpoint.
    identity : dict
        What the run is; must equal ``state["identity"]`` of the checkpoint.
    model, optimizer
        Of the shape that was saved.

    Returns
    -------
    state, extra : dict, dict of str to Tensor
        What was given to `write_checkpoint`; None where there is no checkpoint.

    Raises
    ------
    CobeError
        The file is damaged, or belongs to another run; both sides are named.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CobeError(f"{path}: damaged checkpoint ({error}); delete it to start over") from error
    theirs, ours = state["identity"], json.loads(json.dumps(identity))
    if theirs != ours:
        keys = sorted(k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k))
        sides = ", ".join(f"{k} {theirs.get(k)} there, {ours.get(k)} here" for k in keys)
        raise CobeError(f"{path}: checkpoint of another run ({sides}); delete it to start over")
    parts = {"model": {}, "optimizer": {}, "extra": {}}
    for key, value in tensors.items():
        part, name = key.split("/", 1)
        parts[part][name] = value
    model.load_state_dict(parts["model"])
    # The fused optimizer walks through memory: moments must lie in it as their weights do.
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[int, dict] = {}
    for key, value in parts["optimizer"].items():
        index, name = key.split("/")
        like = weights[int(index)]
        value = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        moments.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return state, parts["extra"]
