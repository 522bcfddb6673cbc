"""Checkpoints of a training run: one file, renamed when whole, from which it resumes exactly."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cobe.core.errors import CobeError


def write_checkpoint(path: Path, state: dict, model, optimizer, **parts) -> None:
    """Write one safetensors file, to a temporary name that is then renamed.

    Parameters
    ----------
    path : Path
        The checkpoint.
    state : dict
        Whatever JSON can hold; floats come back bit by bit.
    model : nn.Module
        Its whole state: weights and buffers, the codebook and its start flag with them.
    optimizer : torch.optim.Optimizer
        Its state by parameter; its settings are the run's and are not stored.
    **parts : dict of str to Tensor
        More tensors, such as the best weights so far.
    """
    tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{k}": v for k, v in values.items()}
    for part, values in parts.items():
        tensors |= {f"{part}/{k}": v for k, v in values.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    # A copy each: safetensors refuses tensors that share memory.
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    text = json.dumps(state)
    save_file(tensors, draft, metadata={"state": text, "sha256": _checksum(tensors, text)})
    os.replace(draft, path)


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
    state : dict
        What was given to `write_checkpoint`; the result is None where there is no checkpoint.
    parts : dict of str to dict of str to Tensor
        The further tensors, by part.

    Raises
    ------
    CobeError
        The file is damaged, or belongs to another run; both sides are named.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            about = file.metadata()
            if _checksum(tensors, about["state"]) != about["sha256"]:
                raise ValueError("its checksum differs")
            state = json.loads(about["state"])
            theirs = state["identity"]
    except (
        SafetensorError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
    ) as error:
        raise CobeError(f"{path}: damaged checkpoint ({error}); delete it to start over") from error
    sides = _differences(theirs, json.loads(json.dumps(identity)))
    if sides:
        raise CobeError(
            f"{path}: checkpoint of another run ({', '.join(sides)}); delete it to start over, "
            "or give this run a checkpoint file of its own"
        )
    parts: dict[str, dict] = {"model": {}, "optimizer": {}}
    for key, value in tensors.items():
        part, name = key.split("/", 1)
        parts.setdefault(part, {})[name] = value
    model.load_state_dict(parts.pop("model"))
    _load_moments(optimizer, parts.pop("optimizer"))
    return state, parts


def _checksum(tensors: dict[str, torch.Tensor], text: str) -> str:
    """SHA-256 of state and tensors: safetensors has none of its own."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load_moments(optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """The optimizer's state by parameter, laid out in memory as the parameters are."""
    # The fused optimizer walks through memory: moments must lie in it as their weights do.
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[int, dict] = {}
    for key, value in tensors.items():
        index, name = key.split("/")
        like = weights[int(index)]
        value = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        moments.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _differences(theirs, ours, name: str = "") -> list[str]:
    """Where two nested settings differ: one text per leaf, naming both sides."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = sorted(theirs.keys() | ours.keys())
        return [x for k in keys for x in _differences(theirs.get(k), ours.get(k), k)]
    return [] if theirs == ours else [f"{name} {theirs} there, {ours} here"]
