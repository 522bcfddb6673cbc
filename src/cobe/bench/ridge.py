"""Ridge beside himalaya's RidgeCV, and beside the arithmetic that cannot be avoided."""

import time
import warnings

import numpy as np
import torch
from himalaya.ridge import RidgeCV
from threadpoolctl import threadpool_limits

from cobe.core.seeds import rng_for
from cobe.encoding.ridge import fit

EIGH_FLOPS = 14  # times p^3: a generous allowance for a symmetric eigendecomposition


def measure(
    *,
    n_trs=5000,
    n_features=512,
    n_targets=444,
    n_runs=5,
    n_alphas=10,
    repeats=3,
    threads=1,
    seed=0,
):
    """CPU time of one fit with leave-one-run-out and one penalty per target.

    Both sides get the same float32 data, folds and penalties, in this process, on the same
    threads, and predict a held-out run. CPU seconds are those of the whole process; ours is the
    best of `repeats`, the peer's is the best of two.

    Parameters
    ----------
    n_trs : int
        Training rows over all runs.
    n_features, n_targets : int
        Columns of the features and of the responses.
    n_runs, n_alphas : int
        Folds, and penalties from 10 to 1e7.
    repeats : int
        Fits of ours to take the best of.
    threads : int
        Threads for either side.
    seed : int
        Seed of the data.

    Returns
    -------
    rows : list of dict
        Keys measurement, value, unit, peer, peer_value, ratio; ratio is peer over ours where the
        peer is a library, and ours over the floor where it is arithmetic.
    """
    alphas = np.logspace(1, 7, n_alphas)
    runs_x, runs_y = _data(n_trs // n_runs, n_features, n_targets, n_runs + 1, seed)
    test_x, test_y = runs_x.pop(), runs_y.pop()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours_s, (alphas_ours, r_ours) = _best(
                repeats, lambda: _ours(runs_x, runs_y, test_x, test_y, alphas)
            )
            peer_s, (alphas_peer, r_peer) = _best(
                2, lambda: _himalaya(runs_x, runs_y, test_x, test_y, alphas)
            )
            rate = _gemm_rate(n_trs, n_features)
    finally:
        torch.set_num_threads(before)
    flops = _floor_flops(n_trs, n_features, n_targets, n_runs, n_alphas, len(test_x))
    floor_s = flops / rate
    peer = "himalaya RidgeCV (numpy)"
    size = f"n={n_trs} p={n_features} t={n_targets} folds={n_runs} alphas={n_alphas}"
    same = float(np.isclose(alphas_ours, alphas_peer, rtol=1e-5).mean())
    worst = float(np.abs(r_ours - r_peer).max())
    return [
        _row(f"fit and predict, {size}", ours_s, "CPU s", peer, peer_s, peer_s / ours_s),
        _row("targets with the same penalty", same, "fraction", peer, 1.0, same),
        _row("largest difference of test r", worst, "r", peer, 0.0, None),
        _row("mean test r", r_ours.mean(), "r", peer, r_peer.mean(), r_peer.mean() / r_ours.mean()),
        _row("fit and predict", ours_s, "CPU s", "arithmetic floor", floor_s, ours_s / floor_s),
        _row("matrix product rate", rate / 1e9, "GFLOP/s", "", None, None),
    ]


def _row(measurement, value, unit, peer, peer_value, ratio):
    return {
        "measurement": measurement,
        "value": float(value),
        "unit": unit,
        "peer": peer,
        "peer_value": None if peer_value is None else float(peer_value),
        "ratio": None if ratio is None else float(ratio),
    }


def _best(repeats, function):
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def _data(n_rows, n_features, n_targets, n_runs, seed):
    rng = rng_for(seed, "bench", "ridge")
    weights = rng.standard_normal((n_features, n_targets), np.float32) / np.sqrt(n_features)
    weights *= rng.uniform(0, 0.6, n_targets).astype(np.float32)
    runs_x = [rng.standard_normal((n_rows, n_features), np.float32) for _ in range(n_runs)]
    runs_y = [x @ weights + rng.standard_normal((n_rows, n_targets), np.float32) for x in runs_x]
    return runs_x, runs_y


def _pearson(a, b):
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))


def _ours(runs_x, runs_y, test_x, test_y, alphas):
    groups = list(range(len(runs_x)))
    model = fit(runs_x, runs_y, groups=groups, delays_tr=(0,), alphas=alphas)
    return model.alphas, _pearson(model.predict([test_x])[0], test_y)


def _himalaya(runs_x, runs_y, test_x, test_y, alphas):
    n = len(runs_x[0])
    rows = np.arange(n * len(runs_x))
    folds = [(rows[rows // n != k], rows[rows // n == k]) for k in range(len(runs_x))]
    model = RidgeCV(alphas=alphas, fit_intercept=True, cv=folds)
    model.fit(np.concatenate(runs_x), np.concatenate(runs_y))
    return np.asarray(model.best_alphas_, float), _pearson(model.predict(test_x), test_y)


def _gemm_rate(n, p):
    """Floating-point operations per CPU second of the Gram matrix's own product."""
    x = torch.ones(n, p)
    out = x.T @ x
    best = 0.0
    for _ in range(5):
        start = time.process_time()
        for _ in range(5):
            torch.mm(x.T, x, out=out)
        best = max(best, 5 * 2 * n * p * p / (time.process_time() - start))
    return best


def _floor_flops(n, p, t, folds, n_alphas, n_test):
    """Products and decompositions that an exact ridge of this kind cannot do without."""
    scores = n_alphas * min(2 * n * p * t, folds * 2 * p * p * t)
    return (
        2 * n * p * p
        + 2 * n * p * t
        + (folds + 1) * (EIGH_FLOPS * p**3 + 2 * p * p * t)
        + scores
        + 2 * p * p * t
        + 2 * n_test * p * t
    )
