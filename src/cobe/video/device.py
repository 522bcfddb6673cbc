"""What a run computes on: processes, precision, threads, memory, and what to do without enough."""

from __future__ import annotations

import math
import resource
from contextlib import contextmanager

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState

from cobe.core.errors import CobeError
from cobe.core.memory import process_bytes

_MIXED = {"fp32": "no", "tf32": "no", "bf16": "bf16", "fp16": "fp16"}


def fast_bf16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware (else it is slower than float32)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def default_precision() -> str:
    """``"bf16"`` where the machine multiplies it in hardware, else ``"fp32"``."""
    return "bf16" if fast_bf16() else "fp32"


def precisions(device: str) -> list[str]:
    """The precisions that ``"cpu"`` or this machine's ``"cuda"`` trains in."""
    if device == "cpu":
        return ["fp32", "bf16"]
    ampere = torch.cuda.get_device_capability() >= (8, 0)
    return ["fp32", "tf32", "bf16", "fp16"] if ampere else ["fp32", "fp16"]


def make_accelerator(precision: str, device: str | None = None) -> Accelerator:
    """accelerate's handle on device, processes and precision, for one training run.

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
    allowed = precisions("cpu" if cpu else "cuda")
    if precision not in allowed:
        raise CobeError(
            f"precision {precision!r}: not available on "
            f"{'a CPU' if cpu else torch.cuda.get_device_name()}; "
            f"choose one of {', '.join(allowed)}"
        )
    if not cpu:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
    # accelerate keeps one precision per process; cells of several precisions share ours.
    AcceleratorState._reset_state()
    # Buffers are equal on all processes as it is: the codebook's sums are reduced over them.
    handler = DistributedDataParallelKwargs(broadcast_buffers=False)
    return Accelerator(mixed_precision=_MIXED[precision], cpu=cpu, kwargs_handlers=[handler])


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


def wait(device: torch.device) -> None:
    """Let queued GPU work end, so that its time is counted where it belongs."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_bytes(device: torch.device) -> int:
    """Largest memory so far: torch's on a GPU, the resident set of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = process_bytes("VmHWM")
    if math.isnan(peak):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(peak)


@contextmanager
def float32(device: torch.device):
    """Whole float32 arithmetic whatever autocast and TF32 are set to around it.

    Tokens are made once for every precision: under bfloat16 some 3 % of them change.
    """
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


@contextmanager
def readable_out_of_memory(what: str, lower: str):
    """Turn torch's out-of-memory errors into a `CobeError` with the settings to lower.

    Parameters
    ----------
    what : str
        What was being done, and where.
    lower : str
        The settings that need less memory, with their present values.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        on_cpu = "can't allocate memory" in str(error)
        if not isinstance(error, torch.OutOfMemoryError) and not on_cpu:
            raise
        reason = str(error).strip().splitlines()[0]
        raise CobeError(f"{what}: out of memory ({reason}); {lower}") from error
