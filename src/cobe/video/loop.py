"""The one training loop: steps, validations, a log of every step, checkpoints, exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from cobe.core.errors import CobeError
from cobe.core.progress import progress
from cobe.video.checkpoint import read_checkpoint, write_checkpoint
from cobe.video.device import peak_memory_bytes, readable_out_of_memory, wait
from cobe.video.schedule import learning_rate
from cobe.video.steplog import StepLog

GRADIENT_CLIP = 1.0
# Besides those at the validations, which lie far apart at the end of a long run.
CHECKPOINT_EVERY_S = 600.0


@dataclass(frozen=True)
class Task:
    """What one model brings to the loop.

    Attributes
    ----------
    name : str
        On the progress bar and in errors.
    model : nn.Module
        What is saved: weights and buffers.
    objective : nn.Module
        Called with the tensors of a batch: ``(loss to minimise, {column: scalar to log})``, with
        ``train_loss`` among the columns. It contains `model`, and may be compiled.
    optimizer : torch.optim.Optimizer
        Over the parameters of `model`.
    batch : callable
        ``batch(step)``: this process's tensors of that step.
    validate : callable
        ``validate(step, spent)``: what a validation says, with ``val_loss`` in it; `spent` is
        `Progress.spent`.
    identity : dict
        What the run is; a checkpoint of another one is refused.
    n_steps : int
        Optimiser steps; the schedule is as long.
    evals : list of int
        Steps done at which to validate, 0 and `n_steps` among them.
    learning_rate : float
        Peak of the schedule.
    seed : callable or None
        ``seed(step)`` seeds torch before a step that draws random numbers; None: none are drawn.
    tokens_per_step, flops_per_step : float
        Tokens trained on, and floating-point operations, in a step of all processes.
    keep_best : bool
        Keep the weights of the lowest ``val_loss`` beside the last ones.
    settings : str
        Name of the settings, for the error about a loss that is not finite.
    lower : str
        What to lower where memory does not suffice.
    """

    name: str
    model: nn.Module
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    batch: Callable[[int], tuple]
    validate: Callable[[int, dict], dict]
    identity: dict
    n_steps: int
    evals: list[int]
    learning_rate: float
    seed: Callable[[int], int] | None
    tokens_per_step: int
    flops_per_step: float
    keep_best: bool
    settings: str
    lower: str


@dataclass
class Progress:
    """How far a run has come.

    Attributes
    ----------
    step : int
        Optimiser steps done.
    log : list of dict
        A row per validation.
    spent : dict
        train_s and eval_s in seconds, train_cpu_s of this process, resumes summed.
    best : dict of str to Tensor
        Weights of the lowest validation loss, where the task keeps them.
    """

    step: int = 0
    log: list[dict] = field(default_factory=list)
    spent: dict = field(default_factory=lambda: {"train_s": 0.0, "train_cpu_s": 0.0, "eval_s": 0.0})
    best: dict = field(default_factory=dict)


class Stepper:
    """One optimiser step of a task: forward, backward over all processes, clipping, update."""

    def __init__(self, task: Task, accelerator: Accelerator):
        self.task, self.accelerator = task, accelerator
        self.objective = task.objective
        if accelerator.num_processes > 1:
            self.objective = accelerator.prepare_model(task.objective)
        self.optimizer = accelerator.prepare_optimizer(task.optimizer)

    def __call__(self, step: int) -> dict[str, torch.Tensor]:
        """Do step number `step`; scalars to log, on the device."""
        task, accelerator = self.task, self.accelerator
        if task.seed:
            torch.manual_seed(task.seed(step))
        for group in task.optimizer.param_groups:
            group["lr"] = learning_rate(step, task.n_steps, task.learning_rate)
        with accelerator.autocast():
            loss, logged = self.objective(*task.batch(step))
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(task.model.parameters(), GRADIENT_CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {**{name: value.detach() for name, value in logged.items()}, "grad_norm": norm}


def fit(
    task: Task,
    accelerator: Accelerator,
    checkpoint: Path | None = None,
    step_log: StepLog | None = None,
    start: Callable[[], None] | None = None,
) -> Progress:
    """Train a task to its last step, or resume it from its checkpoint.

    Parameters
    ----------
    task : Task
        Its model holds the last weights afterwards.
    accelerator : Accelerator
        Device, precision and processes.
    checkpoint : Path or None
        File that the main process writes, at every validation and every ten minutes.
    step_log : StepLog or None
        Filled with a row per step.
    start : callable or None
        What to do before the first step of a run that does not resume.

    Returns
    -------
    progress : Progress

    Raises
    ------
    CobeError
        A loss that is not finite, memory that does not suffice, a checkpoint of another run.

    Notes
    -----
    Nothing that a step depends on is left to the state of a generator: batches and seeds come from
    streams named by step, so that model, optimizer and step number are the whole state of a run
    (and, for fp16, the loss scale). On a CPU with as many threads, a run interrupted at any step
    and resumed equals the uninterrupted one bit by bit.
    """
    step_log = StepLog() if step_log is None else step_log
    return _Run(task, accelerator, checkpoint, step_log, start).to_the_end()


class _Run:
    """The state of `fit`."""

    def __init__(self, task, accelerator, checkpoint, step_log, start):
        self.task, self.accelerator, self.steps = task, accelerator, step_log
        self.checkpoint = checkpoint and Path(checkpoint)
        self.progress, self.pending = Progress(), []
        saved = self.checkpoint and read_checkpoint(
            self.checkpoint, task.identity, task.model, task.optimizer
        )
        if saved:
            self._restore(*saved)
        elif start:
            start()
        self.device = accelerator.device
        self.stepper, self.clock = Stepper(task, accelerator), _Clock(self.device)
        self.bar = _Bar(task, self.progress, accelerator.is_main_process)
        self._plan_write(1.0)

    def _restore(self, state, parts):
        self.progress = Progress(state["step"], state["log"], state["spent"], parts.get("best", {}))
        self.steps.columns = {k: v.numpy() for k, v in parts["steps"].items()}
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def to_the_end(self) -> Progress:
        task, progress = self.task, self.progress
        evals = set(task.evals)
        if not progress.log:
            self.steps.extend({"step": [0], "tokens_seen": [0], "flop": [0]})
            self._validate()
        task.model.train()
        self._start_clock()
        while progress.step < task.n_steps:
            where = f"{task.name}, step {progress.step} on {self.device}"
            with readable_out_of_memory(where, task.lower):
                self.pending.append(self.stepper(progress.step))
            self.clock.tick()
            progress.step += 1
            self.bar.step()
            if progress.step in evals or (self.checkpoint and progress.step >= self.next_write):
                self._flush()
                self._validate() if progress.step in evals else self._write()
                task.model.train()
                self._start_clock()
        self.bar.close()
        return progress

    def _start_clock(self):
        self.started_s = time.perf_counter()
        self.cpu_started_s = time.process_time()
        self.clock.start()

    def _flush(self) -> None:
        """Move what the steps since the last flush logged from the device into the log."""
        task, progress, pending = self.task, self.progress, self.pending
        seconds = self.clock.seconds()
        progress.spent["train_s"] += time.perf_counter() - self.started_s
        progress.spent["train_cpu_s"] += time.process_time() - self.cpu_started_s
        names = list(pending[0])
        rows = [torch.stack([row[name].float() for name in names]) for row in pending]
        mean_s = torch.full((len(rows), 1), seconds.mean(), device=self.device)
        values = self.accelerator.reduce(torch.cat([torch.stack(rows), mean_s], 1), "mean")
        values = values.cpu().numpy().astype(np.float64)
        pending.clear()
        self._plan_write(values[0, -1])
        step = np.arange(progress.step - len(values), progress.step) + 1
        rates = [learning_rate(int(s) - 1, task.n_steps, task.learning_rate) for s in step]
        self.steps.extend(
            {"step": step, "tokens_seen": step * task.tokens_per_step, "learning_rate": rates}
            | dict(zip(names, values.T[:-1], strict=True))
            | {"tokens_per_s": task.tokens_per_step / seconds, "flop": step * task.flops_per_step}
            | {"peak_memory_bytes": np.full(len(step), peak_memory_bytes(self.device))}
        )
        losses = values[:, names.index("train_loss")]
        if not np.isfinite(losses).all():
            first = np.argmin(np.isfinite(losses))
            self._refuse(losses[first], step[first])

    def _plan_write(self, step_s: float) -> None:
        """The step after which to write the next checkpoint: the same on all processes."""
        self.next_write = self.progress.step + max(1, int(CHECKPOINT_EVERY_S / step_s))

    def _refuse(self, loss, step):
        raise CobeError(
            f"{self.task.name}: loss is {loss} at step {step}; "
            f"lower {self.task.settings}.learning_rate"
        )

    def _validate(self) -> None:
        task, progress = self.task, self.progress
        started = time.perf_counter()
        row = {"step": progress.step}
        if progress.log:
            row |= self.steps.mean_since(progress.log[-1]["step"])
        row |= task.validate(progress.step, progress.spent)
        last = progress.step - 1
        rate = learning_rate(last, task.n_steps, task.learning_rate) if progress.step else 0.0
        row["learning_rate"] = rate
        loss = row["val_loss"]
        if not math.isfinite(loss):
            self._refuse(loss, progress.step)
        if task.keep_best and loss < min((r["val_loss"] for r in progress.log), default=math.inf):
            weights = task.model.state_dict().items()
            progress.best = {name: value.detach().cpu().clone() for name, value in weights}
        progress.log.append(row)
        self.steps.columns.setdefault("val_loss", np.full(len(self.steps), np.nan))[-1] = loss
        progress.spent["eval_s"] += time.perf_counter() - started
        self.bar.validated(loss)
        self._write()

    def _write(self) -> None:
        if not self.checkpoint or not self.accelerator.is_main_process:
            return
        progress, scaler = self.progress, self.accelerator.scaler
        state = {"identity": self.task.identity, "step": progress.step, "log": progress.log}
        state |= {"spent": progress.spent, "scaler": scaler and scaler.state_dict()}
        steps = {name: torch.from_numpy(column) for name, column in self.steps.columns.items()}
        write_checkpoint(
            self.checkpoint,
            state,
            self.task.model,
            self.task.optimizer,
            best=progress.best,
            steps=steps,
        )


class _Clock:
    """Seconds of every step: host time on a CPU, events on a GPU, which does not wait for them."""

    def __init__(self, device):
        self.device = device

    def _now(self):
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def start(self):
        self.marks = [self._now()]

    def tick(self):
        self.marks.append(self._now())

    def seconds(self) -> np.ndarray:
        wait(self.device)
        if self.device.type != "cuda":
            return np.diff(self.marks)
        pairs = zip(self.marks, self.marks[1:], strict=False)
        return np.array([a.elapsed_time(b) / 1e3 for a, b in pairs])


class _Bar:
    """Progress with the time that is left, the validations still to come counted in."""

    def __init__(self, task: Task, run: Progress, shown: bool):
        self.task, self.run, self.loss = task, run, float("nan")
        self.bar = tqdm(disable=True)
        if shown:
            self.bar = progress(total=task.n_steps, desc=task.name, unit="step")
        self.bar.bar_format = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"
        self.bar.update(run.step)
        self.first_step, self.first_eval_s = run.step, run.spent["eval_s"]
        self.started_s = time.perf_counter()

    def remaining_s(self) -> float:
        """Mean seconds of a step x steps left, and of a validation x validations left."""
        run, task = self.run, self.task
        elapsed_s = time.perf_counter() - self.started_s
        trained_s = elapsed_s - (run.spent["eval_s"] - self.first_eval_s)
        step_s = trained_s / (run.step - self.first_step)
        eval_s = run.spent["eval_s"] / len(run.log)
        evals_left = sum(step > run.step for step in task.evals)
        return step_s * (task.n_steps - run.step) + eval_s * evals_left

    def step(self) -> None:
        if not self.bar.disable:
            left = tqdm.format_interval(self.remaining_s())
            self.bar.set_postfix_str(f"val_loss={self.loss:.3f}, {left} left", refresh=False)
            self.bar.update()

    def validated(self, loss: float) -> None:
        self.loss = loss

    def close(self) -> None:
        self.bar.close()
