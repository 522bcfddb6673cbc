"""Ridge beside himalaya and scikit-learn, and beside the arithmetic that cannot be avoided.

All sides get the same float32 data, folds and penalties, in one process, on the same threads, and
predict a held-out run. Times are CPU seconds of the whole process. Floors are products and
decompositions counted in full, at the rate of a matrix product measured in the same run; a
symmetric product needs only half of what is counted, so a floor can be undercut.
"""

import time
import warnings
from contextlib import contextmanager

import numpy as np
import torch
from himalaya.ridge import GroupRidgeCV, RidgeCV
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from cobe.bench.ridge_memory import measure_extra
from cobe.core.cluster import ClusterConfig, cluster_client
from cobe.core.seeds import rng_for
from cobe.encoding.banded import sample_band_weights
from cobe.encoding.ridge import fit

EIGH_FLOPS = 14  # times p^3: a generous allowance for a symmetric eigendecomposition
GIB = 2**30
CASES = ("p512", "p1024", "targets20k", "banded", "dask", "memory", "memory100k")
N_RUNS, N_BAND_WEIGHTS = 5, 5


def measure(cases=CASES):
    """All comparisons; about six minutes of CPU time, most of it the peers'.

    Parameters
    ----------
    cases : sequence of str
        Some of `CASES`: ``p512`` and ``p1024`` (15k rows, 444 targets, that many features),
        ``targets20k`` (5k rows, 1024 features), ``banded`` (2k rows, 512 features), ``dask`` (two
        local workers), ``memory`` (444 targets) and ``memory100k`` (100k targets).

    Returns
    -------
    rows : list of dict
        Keys measurement, value, unit, peer, peer_value, ratio; ratio is peer over ours where the
        peer is a library, and ours over the floor where it is arithmetic.
    """
    made = {
        "p512": lambda: compare(15_000, 512, 444, loop=True),
        "p1024": lambda: compare(15_000, 1024, 444),
        "targets20k": lambda: compare(5_000, 1024, 20_000, repeats=1),
        "banded": compare_banded,
        "dask": compare_dask,
        "memory": lambda: memory(15_000, 512, 444),
        "memory100k": lambda: memory(5_000, 1024, 100_000),
    }
    return [row for case in cases for row in made[case]()]


def compare(n_trs, n_features, n_targets, *, n_alphas=10, repeats=3, threads=1, seed=0, loop=False):
    """One fit with leave-one-run-out and one penalty per target.

    Parameters
    ----------
    n_trs : int
        Training rows over all runs.
    n_features, n_targets : int
        Columns of the features and of the responses.
    n_alphas : int
        Penalties from 10 to 1e7.
    repeats : int
        Fits of ours to take the best of; the peers' are done once.
    threads : int
        Threads for all sides.
    seed : int
        Seed of the data.
    loop : bool
        Also compare with a loop of scikit-learn's Ridge over folds and penalties.

    Returns
    -------
    rows : list of dict
        See `measure`.
    """
    alphas = np.logspace(1, 7, n_alphas)
    *runs, test = _data(n_trs // N_RUNS, n_features, n_targets, N_RUNS + 1, seed)
    size = f"n={n_trs} p={n_features} t={n_targets} folds={N_RUNS} alphas={n_alphas}"
    with _threads(threads):
        ours_s, ours = _best(repeats, lambda: _ours(runs, test, alphas))
        rate = _gemm_rate(n_trs, n_features)
        rows = _beside_floor(
            size, ours_s, _floor_flops(n_trs, n_features, n_targets, n_alphas), rate
        )
        rows += _beside_peer(
            size, "himalaya RidgeCV", ours_s, ours, lambda: _himalaya(runs, test, alphas)
        )
        if loop:
            rows += _beside_peer(
                size, "scikit-learn Ridge loop", ours_s, ours, lambda: _sklearn(runs, test, alphas)
            )
    return rows


def compare_banded(
    n_trs=2_000, n_features=512, n_targets=444, *, n_alphas=10, repeats=3, threads=1, seed=0
):
    """One fit with two bands and the same candidate weights; see `compare`.

    Penalties end at 1e5: far above, weights are so small that all bands tie in single precision.
    """
    alphas = np.logspace(1, 5, n_alphas)
    *runs, test = _data(n_trs // N_RUNS, n_features, n_targets, N_RUNS + 1, seed)
    half = n_features // 2
    candidates = sample_band_weights(2, N_BAND_WEIGHTS, seed, concentrations=1.0, corners=False)
    bands = {"first": slice(0, half), "second": slice(half, n_features)}
    size = f"n={n_trs} p={n_features} t={n_targets} folds={N_RUNS} alphas={n_alphas} " + (
        f"2 bands, {N_BAND_WEIGHTS} weights"
    )
    floor = _floor_flops(n_trs, n_features, n_targets, n_alphas, N_BAND_WEIGHTS)
    with _threads(threads):
        ours_s, ours = _best(
            repeats, lambda: _ours(runs, test, alphas, bands=bands, band_weights=candidates)
        )
        rows = _beside_floor(size, ours_s, floor, _gemm_rate(n_trs, n_features))
        numbers = np.repeat([0, 1], [half, n_features - half])
        rows += _beside_peer(
            size,
            "himalaya GroupRidgeCV",
            ours_s,
            ours,
            lambda: _himalaya(runs, test, alphas, numbers, candidates),
        )
    return rows


def compare_dask(n_trs=5_000, n_features=512, n_targets=444, *, n_alphas=10, seed=0):
    """Wall time of a fit over two local Dask workers, beside the same fit in this process.

    One thread each; workers are started before, and have done one fit.
    """
    alphas = np.logspace(1, 7, n_alphas)
    *runs, test = _data(n_trs // N_RUNS, n_features, n_targets, N_RUNS + 1, seed)

    def wall(**where):
        start = time.perf_counter()
        found = _ours(runs, test, alphas, **where)
        return time.perf_counter() - start, found

    with _threads(1), cluster_client(ClusterConfig(workers=2)) as client:
        wall(client=client)
        before = sum(client.run(time.process_time).values())
        over_s, over = min((wall(client=client) for _ in range(3)), key=lambda pair: pair[0])
        cpu_s = (sum(client.run(time.process_time).values()) - before) / 3
        here_s, here = min((wall() for _ in range(3)), key=lambda pair: pair[0])
    size = f"n={n_trs} p={n_features} t={n_targets}"
    peer = "one process"
    return [
        _row(
            f"fit and predict over 2 Dask workers, {size}",
            over_s,
            "wall s",
            peer,
            here_s,
            here_s / over_s,
        ),
        _row("CPU time of both workers", cpu_s, "CPU s", "", None, None),
        _row(
            "targets with the same penalty", np.mean(over[0] == here[0]), "fraction", peer, 1, None
        ),
        _row("largest difference of test r", np.abs(over[1] - here[1]).max(), "r", peer, 0, None),
    ]


def memory(n_trs, n_features, n_targets):
    """Most memory of a fit beyond its data, in a process of its own."""
    extra = measure_extra(n_trs, n_features, n_targets)
    size = f"n={n_trs} p={n_features} t={n_targets}"
    data = 4 * n_trs * (n_features + n_targets)
    return [
        _row(f"memory beyond the data, {size}", extra / GIB, "GiB", "the data", data / GIB, None)
    ]


@contextmanager
def _threads(n):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        with threadpool_limits(n), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(before)


def _beside_floor(size, ours_s, flops, rate):
    floor_s = flops / rate
    return [
        _row(
            f"fit and predict, {size}",
            ours_s,
            "CPU s",
            "arithmetic floor",
            floor_s,
            ours_s / floor_s,
        ),
        _row("matrix product rate", rate / 1e9, "GFLOP/s", "", None, None),
    ]


def _beside_peer(size, peer, ours_s, ours, function):
    (alphas, r), (peer_s, (peer_alphas, peer_r)) = ours, _best(1, function)
    same = float(np.isclose(alphas, peer_alphas, rtol=1e-5).mean())
    return [
        _row(f"fit and predict, {size}", ours_s, "CPU s", peer, peer_s, peer_s / ours_s),
        _row("targets with the same penalty", same, "fraction", peer, 1, same),
        _row("largest difference of test r", np.abs(r - peer_r).max(), "r", peer, 0, None),
        _row("mean test r", r.mean(), "r", peer, peer_r.mean(), peer_r.mean() / r.mean()),
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
    # A target that follows nothing ties between large penalties in single precision.
    weights *= rng.uniform(0.1, 0.6, n_targets).astype(np.float32)
    runs = []
    for _ in range(n_runs):
        x = rng.standard_normal((n_rows, n_features), np.float32)
        y = x @ weights
        y += rng.standard_normal((n_rows, n_targets), np.float32)
        runs.append((x, y))
    return runs


def _pearson(a, b):
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))


def _ours(runs, test, alphas, **options):
    runs_x, runs_y = zip(*runs, strict=True)
    groups = range(len(runs))
    model = fit(runs_x, runs_y, groups=groups, delays_tr=(0,), alphas=alphas, **options)
    return model.alphas, _pearson(model.predict(test[:1])[0], test[1])


def _folds(runs):
    n = len(runs[0][0])
    rows = np.arange(n * len(runs))
    return [(rows[rows // n != k], rows[rows // n == k]) for k in range(len(runs))]


def _himalaya(runs, test, alphas, bands=None, candidates=None):
    x, y = (np.concatenate(arrays) for arrays in zip(*runs, strict=True))
    options = {"fit_intercept": True, "cv": _folds(runs)}
    if bands is None:
        model = RidgeCV(alphas=alphas, **options)
    else:
        found = {"alphas": alphas.astype(np.float32), "n_iter": candidates.astype(np.float32)}
        model = GroupRidgeCV(
            groups=bands, solver_params={**found, "progress_bar": False}, **options
        )
    model.fit(x, y)
    return np.asarray(model.best_alphas_, float), _pearson(model.predict(test[0]), test[1])


def _sklearn(runs, test, alphas):
    x, y = (np.concatenate(arrays) for arrays in zip(*runs, strict=True))
    mse = np.zeros((len(alphas), y.shape[1]))
    for train, held in _folds(runs):
        for a, alpha in enumerate(alphas):
            model = Ridge(alpha=alpha, solver="cholesky").fit(x[train], y[train])
            mse[a] += ((y[held] - model.predict(x[held])) ** 2).mean(axis=0)
    best = mse.argmin(axis=0)
    predicted = np.empty_like(test[1])
    for a in np.unique(best):
        model = Ridge(alpha=alphas[a], solver="cholesky").fit(x, y[:, best == a])
        predicted[:, best == a] = model.predict(test[0]).reshape(len(test[0]), -1)
    return alphas[best], _pearson(predicted, test[1])


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


def _floor_flops(n, p, t, n_alphas, n_candidates=1):
    """Products and decompositions of an exact ridge by Gram matrices, the refit included.

    Errors come from products or from predictions, whichever is less; so does `n_candidates` times
    what depends on band weights.
    """
    scores = n_alphas * min(2 * n * p * t, N_RUNS * 2 * p * p * t)
    weighted = (N_RUNS + 1) * (EIGH_FLOPS * p**3 + 2 * p * p * t) + scores + 2 * p * p * t
    return 2 * n * p * p + 2 * n * p * t + n_candidates * weighted + 2 * (n // N_RUNS) * p * t
