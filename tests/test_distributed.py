"""Ridge over two Dask workers: the same numbers, whatever runs are given as and whoever dies."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import cloudpickle
import dask
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cobe.core.cluster import ClusterConfig, cluster_client
from cobe.core.errors import CobeError
from cobe.encoding import distributed
from cobe.encoding.ridge import fit

pytestmark = pytest.mark.filterwarnings("ignore:alphas")
cloudpickle.register_pickle_by_value(sys.modules[__name__])
OPTIONS = {"groups": "aabcd", "delays_tr": (1, 2), "alphas": np.logspace(0, 5, 6)}


@pytest.fixture(scope="module")
def client():
    with cluster_client(ClusterConfig(workers=2)) as client:
        yield client


def planted(n_targets=130, noise=10.0):
    """Runs with a gap, a missing and a constant target, and offsets that differ between runs."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((40, n_targets))
    runs_x = [rng.standard_normal((150, 40)) + 0.2 * k for k in range(5)]
    runs_y = [x @ weights + noise * rng.standard_normal((150, n_targets)) + 5 for x in runs_x]
    for y in runs_y:
        y[:, 4] = 1
    runs_x[0][5] = runs_y[1][:, 3] = runs_y[2][10:15] = np.nan
    return runs_x, runs_y


def same(found, wanted, atol=1e-6):
    for name in ("alphas", "missing_targets", "constant_targets", "n_rows", "band_weights"):
        assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert_allclose(found.cv_scores, wanted.cv_scores, atol=atol)
    loose = 10 * atol  # of the largest weight: single precision through two different sums
    assert_allclose(found.weights, wanted.weights, atol=loose * np.nanmax(np.abs(wanted.weights)))
    assert_allclose(found.intercept, wanted.intercept, rtol=loose, atol=loose)
    runs_x, runs_y = planted(len(wanted.alphas))
    r = [_correlate(model.predict(runs_x), runs_y) for model in (found, wanted)]
    assert_allclose(*r, atol=2 * atol)  # single precision keeps seven digits of every product


def _correlate(predicted, runs_y):
    p, y = np.concatenate(predicted).astype(float), np.concatenate(runs_y)
    rows = ~np.isnan(p).all(axis=1) & ~np.isnan(y).all(axis=1)
    p, y = p[rows] - p[rows].mean(axis=0), y[rows] - y[rows].mean(axis=0)
    with np.errstate(invalid="ignore"):
        return (p * y).sum(axis=0) / np.sqrt((p * p).sum(axis=0) * (y * y).sum(axis=0))


BANDS = {"bands": {"a": slice(0, 10), "b": slice(10, 40)}}
BANDS["band_weights"] = [[0.5, 0.5], [1, 0], [0.25, 0.75]]


@pytest.mark.parametrize("extra", [{}, BANDS, {"relative_alphas": True}, {"dtype": np.float64}])
def test_equals_one_process(client, extra, monkeypatch):
    monkeypatch.setattr(distributed, "BLOCK_BYTES", 1)  # as many blocks as there may be
    runs_x, runs_y = planted()
    wanted = fit(runs_x, runs_y, **OPTIONS, **extra)
    found = fit(runs_x, runs_y, client=client, **OPTIONS, **extra)
    assert found.weights.dtype == wanted.weights.dtype
    same(found, wanted, 1e-10 if "dtype" in extra else 1e-6)
    assert_allclose(found.alpha_scale, wanted.alpha_scale, rtol=1e-6)
    assert len(set(wanted.alphas[np.isfinite(wanted.alphas)])) > 1


def test_runs_may_be_loaders_futures_and_delayed_objects(client, tmp_path):
    runs_x, runs_y = planted(20)
    wanted = fit(runs_x, runs_y, **OPTIONS)
    for k, (x, y) in enumerate(zip(runs_x, runs_y, strict=True)):
        np.save(tmp_path / f"x{k}.npy", x)
        np.save(tmp_path / f"y{k}.npy", y)
    loaders = [[partial(np.load, tmp_path / f"{w}{k}.npy") for k in range(5)] for w in "xy"]
    same(fit(*loaders, **OPTIONS), wanted, 1e-12)
    same(fit(*loaders, client=client, **OPTIONS), wanted)
    futures = [client.submit(np.load, tmp_path / f"x{k}.npy") for k in range(5)]
    lazy = [dask.delayed(np.load)(tmp_path / f"y{k}.npy") for k in range(5)]
    same(fit(futures, lazy, client=client, **OPTIONS), wanted)


def deadly(path, folder):
    """Load a run; the last one first kills, once, another worker that has loaded some."""
    (folder / f"{os.getpid()}-{path.stem}-{time.time_ns()}").touch()
    if path.stem == "x4":
        others = []
        for _ in range(200):
            names = [p.name.split("-") for p in folder.iterdir() if "-" in p.name]
            others = [int(pid) for pid, *_ in names if int(pid) != os.getpid()]
            if others:
                break
            time.sleep(0.05)
        try:
            (folder / "killed").touch(exist_ok=False)
        except FileExistsError:
            return np.load(path)
        os.kill(others[0], signal.SIGKILL)
        time.sleep(0.5)
    return np.load(path)


@pytest.mark.filterwarnings("ignore:.*")
def test_a_worker_killed_in_mid_run_changes_nothing(client, tmp_path):
    runs_x, runs_y = planted(20)
    marks = tmp_path / "marks"
    marks.mkdir()
    for k, x in enumerate(runs_x):
        np.save(tmp_path / f"x{k}.npy", x)
    loaders = [partial(deadly, Path(tmp_path / f"x{k}.npy"), marks) for k in range(5)]
    undisturbed = fit(runs_x, runs_y, client=client, **OPTIONS)
    before = {worker["pid"] for worker in workers(client)}
    found = fit(loaders, runs_y, client=client, **OPTIONS)
    same(found, undisturbed, 1e-12)
    assert (marks / "killed").exists()
    loaded = [mark.name.split("-")[1] for mark in marks.iterdir() if "-" in mark.name]
    assert len(loaded) > len(set(loaded)) == 5  # what died with its worker was made again
    client.wait_for_workers(2, timeout=30)
    assert {worker["pid"] for worker in workers(client)} != before


def workers(client):
    return [{"pid": pid} for pid in client.run(os.getpid).values()]


@pytest.mark.parametrize(("over", "offset_y"), [(False, 2000), (True, 0)])
def test_offsets_between_runs_survive_single_precision(client, over, offset_y):
    """Far from their own means the rows of a run would cancel in sums of squares."""
    runs_x, runs_y = planted(20)
    for k, (x, y) in enumerate(zip(runs_x, runs_y, strict=True)):
        x[:, 7] += 5000 * k
        y += offset_y * k
    wanted = fit(runs_x, runs_y, dtype=np.float64, **OPTIONS).cv_mse[:, 5:]
    found = fit(runs_x, runs_y, client=client if over else None, **OPTIONS).cv_mse[:, 5:]
    assert_allclose(found, wanted, rtol=1e-4)


def test_targets_too_well_explained_for_single_precision_are_said(client):
    runs_x, runs_y = planted(20, noise=1e-3)
    with pytest.warns(RuntimeWarning, match=r"18 \(first: 0\) are explained to more than 99.9%"):
        fit(runs_x, runs_y, client=client, **OPTIONS | {"delays_tr": (0,)})


def bad(change):
    runs_x, runs_y = planted(5)
    options = dict(OPTIONS)
    change(runs_x, runs_y, options)
    return runs_x, runs_y, options


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda x, y, o: x.__setitem__(1, x[1][:, :3]),
            r"run 1 \(group 'a'\): 3 features, but run",
        ),
        (lambda x, y, o: y.__setitem__(2, y[2][:, :3]), r"run 2 \(group 'b'\): 3 targets, but run"),
        (lambda x, y, o: x[3].fill(np.nan), r"run 3 \(group 'c'\): 0 valid rows"),
        (lambda x, y, o: x[3].fill(np.inf), r"run 3 \(group 'c'\): infinite features"),
        (lambda x, y, o: x.__setitem__(4, gone), r"run 4 .*cannot be loaded .*gone.npy"),
        (lambda x, y, o: o.update(groups="ab"), "2 labels for 5 runs"),
        (lambda x, y, o: o.update(groups="aaaaa"), "at least two"),
        (lambda x, y, o: x.pop(), "4 of features and 5 of responses"),
        (lambda x, y, o: o.update(delays_tr=(200,)), r"run \d .*delay 200 does not fit"),
        (lambda x, y, o: o.update(bands={"a": [0]}), r"39 features \(first: 1\) are in no band"),
    ],
)
def test_bad_input_is_named(client, change, words):
    runs_x, runs_y, options = bad(change)
    with pytest.raises(CobeError, match=words):
        fit(runs_x, runs_y, client=client, **options)


def gone():
    raise FileNotFoundError("gone.npy")
