"""When a training run validates, and how its learning rate goes."""

from __future__ import annotations

import math

WARMUP_SHARE = 0.05


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
