"""The log of a training run: one row per optimiser step."""

from __future__ import annotations

import numpy as np
import pandas as pd

_NOT_TRAINED = {
    "step",
    "tokens_seen",
    "learning_rate",
    "grad_norm",
    "val_loss",
    "tokens_per_s",
    "flop",
    "peak_memory_bytes",
}


class StepLog:
    """A row per optimiser step; give one to a training function to have it filled.

    Values stay on the device until the next validation or checkpoint, so that logging does not
    make a GPU wait.
    """

    def __init__(self):
        self.columns: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.columns.get("step", ()))

    def extend(self, rows: dict[str, np.ndarray]) -> None:
        """Append rows given as columns of equal length; columns that are missing become NaN."""
        n_old, n_new = len(self), len(rows["step"])
        for name in self.columns.keys() | rows.keys():
            old = self.columns.get(name, np.full(n_old, np.nan))
            new = np.asarray(rows.get(name, np.full(n_new, np.nan)), np.float64)
            self.columns[name] = np.concatenate([old, new])

    def mean_since(self, step: int) -> dict[str, float]:
        """Means of the training columns (``train_loss`` ...) over the steps after `step`."""
        after = self.columns["step"] > step
        names = [name for name in self.columns if name not in _NOT_TRAINED]
        return {name: float(np.mean(self.columns[name][after])) for name in names}

    def table(self) -> pd.DataFrame:
        """The log.

        Returns
        -------
        steps : DataFrame
            A row per step done, and one for step 0: step, tokens_seen, learning_rate (of that
            step), train_loss (of that step, mean over processes; NaN at step 0) and what else the
            model logs of its loss, grad_norm (before clipping; under fp16 infinite or NaN where the
            loss scale was too large and the step was skipped), val_loss (NaN between validations),
            tokens_per_s (of that step, over all processes), flop (of the run so far, as
            `cobe.video.flops` counts what the model needs; validation not counted),
            peak_memory_bytes (of this process so far: torch's memory on a GPU, the resident set on
            a CPU; read at validations and checkpoints).
        """
        first = ["step", "tokens_seen", "learning_rate", "train_loss"]
        table = pd.DataFrame({name: self.columns.get(name, []) for name in first} | self.columns)
        return table.astype({"step": "int64", "tokens_seen": "int64"})
