"""Long runs with flat memory: a million frames, 20,000 training steps, 1,000 resumes.

`python -m cobe.bench soak` takes a quarter of an hour and more. Memory is what the process holds
(VmRSS), read at a tenth of the way, when everything is loaded, and at the end.
"""

import hashlib
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

from cobe.bench.frames import record_movie
from cobe.bench.rows import row
from cobe.core.config import Cell, TrainConfig
from cobe.core.memory import process_bytes
from cobe.core.seeds import rng_for
from cobe.stimulus.bk2 import read_bk2
from cobe.stimulus.frames import open_frames
from cobe.stimulus.playback import decode
from cobe.video import loop
from cobe.video.steplog import StepLog
from cobe.video.train import train_gpt

MOVIE_FRAMES = 20_000
CELL = Cell(n_frames=1000, hidden=16, n_layers=1, n_heads=2)
GRID, N_CODES, CODE_DIM, N_CLIPS = (2, 2, 2), 32, 4, 400
TRAIN_ROWS, VAL_ROWS = np.arange(1, 300), np.arange(302, N_CLIPS)
MIB = 2**20


class _Interrupted(Exception):
    """Stands for a killed run."""


class _Memory:
    """Memory at a tenth of the way and at its end."""

    def __init__(self, n: int):
        self.early, self.last, self._at = float("nan"), float("nan"), max(1, n // 10)

    def look(self, done: int) -> None:
        self.last = process_bytes("VmRSS")
        if done <= self._at:
            self.early = self.last

    @property
    def growth_mib(self) -> float:
        return (self.last - self.early) / MIB


class _WatchedLog(StepLog):
    """A step log that looks at the memory, and stops the run after `n_flushes` if given."""

    def __init__(self, memory: _Memory, n_flushes: int | None = None):
        super().__init__()
        self._memory, self._left = memory, n_flushes

    def extend(self, columns):
        if self._left == 0:
            raise _Interrupted
        if self._left is not None:
            self._left -= 1
        super().extend(columns)
        self._memory.look(int(columns["step"][-1]))


def _tokens():
    """Codes that go up by one, and code vectors."""
    rng = rng_for(0, "bench", "soak")
    codes = (np.arange(N_CLIPS)[:, None] + np.arange(8)) % N_CODES
    codebook = rng.normal(size=(N_CODES, CODE_DIM)).astype(np.float32)
    return codes.reshape(N_CLIPS, *GRID).astype(np.uint16), codebook


def _train(n_steps: int, log: StepLog, checkpoint: Path | None = None):
    cfg = TrainConfig(n_steps=n_steps, batch_size=8, learning_rate=1e-3, n_evals=5, dropout=0.1)
    rows = TRAIN_ROWS, VAL_ROWS
    return train_gpt(
        CELL, cfg, *_tokens(), *rows, checkpoint, threads=1, device="cpu", step_log=log
    )[0]


def soak_frames(n_frames: int, folder: Path) -> dict:
    """Play one key log back, again and again, in one process, into the frame store.

    Parameters
    ----------
    n_frames : int
        Frames to play in all.
    folder : Path
        An empty folder for the key log and the store.

    Returns
    -------
    found : dict
        frames played, growth_mib of memory, n_different: passes whose frames differ from the first.
    """
    movie = record_movie(folder, min(n_frames, MOVIE_FRAMES), seed=0)
    each = read_bk2(movie).n_frames
    n_passes = max(2, round(n_frames / each))
    memory, digests = _Memory(n_passes), []
    for number in range(n_passes):
        store = folder / "frames.b2nd"
        decode(movie, store, 64)
        digests.append(hashlib.sha256(open_frames(store)[:].tobytes()).hexdigest())
        store.unlink()
        memory.look(number)
    return {
        "frames": n_passes * each,
        "growth_mib": memory.growth_mib,
        "n_different": sum(digest != digests[0] for digest in digests),
    }


def soak_steps(n_steps: int) -> dict:
    """Train a small GPT for many steps.

    Parameters
    ----------
    n_steps : int
        Optimiser steps.

    Returns
    -------
    found : dict
        steps, growth_mib of memory.
    """
    memory = _Memory(n_steps)
    with mock.patch.object(loop, "CHECKPOINT_EVERY_S", 1.0), tempfile.TemporaryDirectory() as name:
        _train(n_steps, _WatchedLog(memory), Path(name) / "gpt.safetensors")
    return {"steps": n_steps, "growth_mib": memory.growth_mib}


def soak_resumes(n_resumes: int) -> dict:
    """Interrupt a run in every one of its steps and resume it from its checkpoint each time.

    Parameters
    ----------
    n_resumes : int
        How often; the run has so many steps and one more.

    Returns
    -------
    found : dict
        resumes, growth_mib of memory, n_different: tensors that differ from those of a run that
        was left alone.
    """
    n_steps = n_resumes + 1
    memory, done = _Memory(n_resumes), 0
    whole = _train(n_steps, StepLog()).state_dict()
    with mock.patch.object(loop, "CHECKPOINT_EVERY_S", 0.0), tempfile.TemporaryDirectory() as name:
        checkpoint, model = Path(name) / "gpt.safetensors", None
        while model is None:
            try:
                # the first cycle logs step 0 besides
                log = _WatchedLog(memory, n_flushes=2 if done == 0 else 1)
                model = _train(n_steps, log, checkpoint)
            except _Interrupted:
                done += 1
    pairs = [(whole[key], value) for key, value in model.state_dict().items()]
    return {
        "resumes": done,
        "growth_mib": memory.growth_mib,
        "n_different": sum(not one.equal(other) for one, other in pairs),
    }


def measure(n_frames: int = 1_000_000, n_steps: int = 20_000, n_resumes: int = 1000) -> list[dict]:
    """All three, as rows of the benchmark.

    Parameters
    ----------
    n_frames, n_steps, n_resumes : int
        How long.

    Returns
    -------
    rows : list of dict
    """
    with tempfile.TemporaryDirectory(prefix="cobe-soak-") as name:
        frames = soak_frames(n_frames, Path(name))
    steps, resumes = soak_steps(n_steps), soak_resumes(n_resumes)
    played, again = f"{frames['frames']:,} frames played", f"{resumes['resumes']:,} resumes"
    return [
        row(f"{played}: growth of memory", frames["growth_mib"], "MiB"),
        row(f"{played}: passes that differ", frames["n_different"], "passes"),
        row(f"{n_steps:,} training steps: growth of memory", steps["growth_mib"], "MiB"),
        row(f"{again}: growth of memory", resumes["growth_mib"], "MiB"),
        row(f"{again}: tensors that differ", resumes["n_different"], "tensors"),
    ]
