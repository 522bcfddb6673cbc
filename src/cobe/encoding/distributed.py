"""Ridge over a Dask cluster: products where a run's data lies, then blocks of targets.

A run is loaded, checked and centred by one task, and stays with the worker that did it. Its
products (`cobe.encoding.moments.Moments`) are summed as a tree; every fold is decomposed once, by
one task; then every block of targets is scored and refitted by tasks of its own. Only products
travel, never rows, so all errors come from products (the primal form). A worker that dies takes
nothing along that its tasks cannot make again: arrays that the caller holds travel inside their
task for that reason, which the scheduler keeps, so give functions that load large data instead.
"""

import warnings
from dataclasses import dataclass

import dask
import numpy as np
import torch
from dask.delayed import Delayed
from distributed import KilledWorker

from cobe.core.errors import CobeError
from cobe.encoding.banded import band_numbers
from cobe.encoding.design import centred_responses, check_arrays, check_dtype, find_rows, stack_rows
from cobe.encoding.forms import (
    CANCELLING,
    decompose,
    fold_from_grams,
    score_crosses,
    weights_from_cross,
)
from cobe.encoding.moments import Moments, summed, total
from cobe.encoding.solver import Search, check_precision, choose, finish

BLOCK_BYTES = 64 * 2**20  # of cross-products with a block of targets, over all folds
MIN_BLOCK = 64
FAN_IN = 4


@dataclass(frozen=True)
class Run:
    """Valid rows of one run on its worker, minus their means."""

    x: torch.Tensor
    y: torch.Tensor
    x_shift: torch.Tensor
    y_shift: torch.Tensor
    facts: dict


def load_run(name, x, y, delays, dtype, device):
    """Load, check and centre one run; `x` and `y` are arrays or functions that return them."""
    try:
        x, y = (np.asarray(a() if callable(a) else a) for a in (x, y))
    except Exception as error:
        raise CobeError(f"{name}: cannot be loaded ({error!r}); mend what was given") from error
    check_arrays([name], [x], [y], max(delays))
    rows, absent, _ = find_rows([name], [[x]], [y], delays)
    kept = np.where(absent, 0, y[rows[0]]).astype(dtype)
    facts = {
        "n_rows": len(rows[0]),
        "n_features": x.shape[1],
        "n_targets": y.shape[1],
        "absent": absent,
        "low": kept.min(axis=0),
        "high": kept.max(axis=0),
    }
    x, x_shift = stack_rows([x], rows, delays, dtype)
    y, y_shift = centred_responses([y], rows, absent, dtype)
    x, y, *shifts = (torch.from_numpy(a).to(device) for a in (x, y, x_shift, y_shift))
    return Run(x, y, *(shift.double() for shift in shifts), facts)


def _facts(run):
    return run.facts


def _gram(run):
    return Moments.gram(run.x).moved(run.x_shift, run.x_shift)


def _cross(run, block):
    return Moments.cross(run.x, run.y[:, block]).moved(run.x_shift, run.y_shift[block])


def _errors(folds, everything, crosses, grid):
    """Mean squared errors (n_alphas, n_block) and variance (n_block,), averaged over folds."""
    mse = var = 0
    for fold, held in zip(folds, crosses, strict=True):
        sse, square = score_crosses(fold, everything, held, grid)
        mse = mse + sse / (held.n * len(folds))
        var = var + square / (held.n * len(folds))
    return mse.cpu().numpy(), var.cpu().numpy()


def _basis_facts(basis):
    return basis.scale, float(basis.values[-1])


def _weights(basis, everything, kept, alphas):
    kept = torch.from_numpy(kept).to(everything.product.device)
    few = [everything.y[kept], everything.product[:, kept], everything.square[kept]]
    found = weights_from_cross(basis, Moments(everything.n, everything.x, *few), alphas)
    return [tensor.cpu().numpy() for tensor in found]


class Tasks:
    """Tasks on a client, each made anew: equal arguments are never looked for."""

    def __init__(self, client):
        self.client = client

    def __call__(self, function, *arguments):
        """A future of ``function(*arguments)``."""
        return self.client.submit(function, *arguments, pure=False)

    def tree(self, function, futures):
        """One future of `function` over lists of at most `FAN_IN` futures, level by level."""
        while len(futures) > 1:
            futures = [
                self(function, futures[i : i + FAN_IN]) for i in range(0, len(futures), FAN_IN)
            ]
        return futures[0]

    def gather(self, futures):
        """Results in order."""
        try:
            return self.client.gather(futures)
        except KilledWorker as error:
            raise CobeError(
                "client: workers died again and again at the same task, most likely for want of "
                f"memory ({error}); give each worker more memory"
            ) from error

    def lent(self, what):
        """What a task can take for a run: a future for a delayed object, else itself."""
        return self.client.compute(what) if isinstance(what, Delayed) else what


def fit_runs(
    client, runs_x, runs_y, groups, delays, grid, relative, bands, candidates, dtype, device
):
    """What `cobe.encoding.ridge.fit` does, over a client.

    Parameters
    ----------
    client : distributed.Client
    runs_x, runs_y : lists
        For each run an array, a function without arguments that returns it (called where the run
        is worked on), a future of the client, or a delayed object.
    groups : sequence of hashable
        One label per run.
    delays : tuple of int
        Delays in volumes.
    grid : float64 array of shape (n_alphas,)
    relative : bool
    bands : mapping or None
    candidates : float64 array of shape (n_candidates, n_bands) or None
    dtype : numpy dtype
    device : str or torch.device
        On the workers.

    Returns
    -------
    solution : Solution
    x_shift, y_shift : float64 arrays of shape (n_columns,), (n_targets,)
        0: the solution is in the coordinates of the data.
    missing : bool array of shape (n_targets,)
    n_rows : list of int

    Raises
    ------
    CobeError
        As `fit`; or workers keep dying.

    Warns
    -----
    RuntimeWarning
        Targets are explained so well that single precision cannot tell penalties apart.
    """
    dtype, labels = check_dtype(dtype), check_labels(runs_x, runs_y, groups)
    tasks = Tasks(client)
    # Arrays inside tasks survive their worker; Dask would rather have them scattered, which do not.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
        runs = [
            tasks(load_run, f"run {i} (group {g!r})", *map(tasks.lent, pair), delays, dtype, device)
            for i, (g, *pair) in enumerate(zip(groups, runs_x, runs_y, strict=True))
        ]
    facts = tasks.gather([tasks(_facts, run) for run in runs])
    check_facts(facts, groups)
    missing = np.any([fact["absent"] for fact in facts], axis=0)
    low, high = (pick([f[key] for f in facts], axis=0) for key, pick in _EXTREMES)
    constant = (low == high) & ~missing
    folds = [[run for run, g in zip(runs, groups, strict=True) if g == label] for label in labels]
    scales = [None]
    if bands is not None:
        columns = np.tile(band_numbers(bands, facts[0]["n_features"]), len(delays))
        scales = list(torch.from_numpy(np.sqrt(candidates[:, columns]).astype(dtype)).to(device))

    grams = [tasks.tree(summed, [tasks(_gram, run) for run in fold]) for fold in folds]
    gram = tasks(total, [tasks.tree(total, grams)])
    n_columns = facts[0]["n_features"] * len(delays)
    kind = torch.from_numpy(low[:0]).dtype
    blocks = target_blocks(client, len(missing), n_columns * len(folds) * dtype.itemsize)
    crosses = [
        [tasks.tree(summed, [tasks(_cross, run, block) for run in fold]) for fold in folds]
        for block in blocks
    ]
    everything = [tasks(total, [tasks.tree(total, held)]) for held in crosses]

    search = Search(len(grid), len(missing))
    for c, scale in enumerate(scales):
        ready = [
            tasks(fold_from_grams, gram, held, scale, relative, kind, grid[0]) for held in grams
        ]
        errors = [
            tasks(_errors, ready, *pair, grid) for pair in zip(everything, crosses, strict=True)
        ]
        for block, found in zip(blocks, tasks.gather(errors), strict=True):
            search.offer(c, block, *found)
    unusable = missing | constant
    alphas, scores = choose(search, grid, unusable)
    warn_cancelling(search, unusable, dtype)

    weights = torch.zeros(n_columns, len(missing), dtype=kind)
    intercept = weights.new_zeros(len(missing))
    for c in np.unique(search.candidate):
        chosen = search.candidate == c
        lowest = alphas[chosen].min()
        basis = tasks(decompose, gram, scales[c], relative, kind, lowest)
        found = [
            tasks(_weights, basis, cross, chosen[block], alphas[block][chosen[block]])
            for block, cross in zip(blocks, everything, strict=True)
        ]
        alpha_scale, largest = tasks.gather(tasks(_basis_facts, basis))
        lowest = alphas[chosen & ~unusable].min(initial=np.inf)
        check_precision(kind, lowest * alpha_scale, largest)
        for block, (w, b) in zip(blocks, tasks.gather(found), strict=True):
            kept = np.flatnonzero(chosen[block]) + block.start
            weights[:, kept], intercept[kept] = torch.from_numpy(w), torch.from_numpy(b)
    solution = finish(
        search,
        grid,
        (weights, intercept, alphas, scores),
        unusable,
        alpha_scale=alpha_scale,
        constant=constant,
        form="primal",
        band_weights=None if bands is None else candidates[search.candidate],
    )
    shifts = np.zeros(n_columns), np.zeros(len(missing))
    return solution, *shifts, missing, [fact["n_rows"] for fact in facts]


_EXTREMES = (("low", np.min), ("high", np.max))


def check_labels(runs_x, runs_y, groups):
    """Labels of the folds in order; CobeError where groups do not match the runs."""
    if not len(runs_x) or len(runs_y) != len(runs_x):
        raise CobeError(
            f"runs: {len(runs_x)} of features and {len(runs_y)} of responses; give both per run"
        )
    if len(groups) != len(runs_x):
        raise CobeError(f"groups: {len(groups)} labels for {len(runs_x)} runs; give one per run")
    labels = list(dict.fromkeys(groups))
    if len(labels) < 2:
        raise CobeError(
            f"groups: only {labels[0]!r} in {len(runs_x)} runs; give at least two, such as one per "
            "run"
        )
    return labels


def check_facts(facts, groups):
    """CobeError where runs differ in width."""
    for what, key in (("features", "n_features"), ("targets", "n_targets")):
        for i, fact in enumerate(facts):
            if fact[key] != facts[0][key]:
                raise CobeError(
                    f"run {i} (group {groups[i]!r}): {fact[key]} {what}, but run 0 has "
                    f"{facts[0][key]}; give every run the same {what}"
                )


def target_blocks(client, n_targets, bytes_each):
    """Slices of targets: small enough for memory, and one or more for every thread."""
    threads = max(1, sum(client.nthreads().values()))
    size = min(BLOCK_BYTES // bytes_each, -(-n_targets // threads))
    size = max(1, min(n_targets, max(size, MIN_BLOCK)))
    return [slice(i, min(i + size, n_targets)) for i in range(0, n_targets, size)]


def warn_cancelling(search, unusable, dtype):
    """Say where errors from products of single precision are mostly rounding."""
    with np.errstate(invalid="ignore"):
        lost = (search.mse.min(axis=0) < CANCELLING * search.var) & ~unusable
    if dtype == np.float32 and lost.any():
        warnings.warn(
            f"targets: {int(lost.sum())} (first: {int(np.argmax(lost))}) are explained to more "
            f"than {1 - CANCELLING:.1%}, too well to compare penalties in single precision over a "
            "client; use dtype float64",
            RuntimeWarning,
            stacklevel=3,
        )
