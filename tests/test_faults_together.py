"""Two runs in one folder, two clusters on one machine, workers that are killed: one result."""

import json
import os
import signal
import threading
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

import tiny_pipeline
from cobe.core.artifacts import SIDECAR, Store, is_intact, sidecar_of
from cobe.core.cluster import ClusterConfig, cluster_client
from cobe.sweep.anywhere import make_anywhere
from cobe.sweep.jobs import Job

N_CELLS = 200


def quiet(root):
    return Store(root, announce=lambda line: None)


def checksums(root: Path) -> dict[str, str]:
    found = {}
    for sidecar in root.rglob(f"*{SIDECAR}"):
        assert is_intact(sidecar), sidecar
        found[sidecar.name] = json.loads(sidecar.read_text())["sha256"]
    return found


def test_two_whole_runs_in_one_folder_at_once(tmp_path):
    """Both end well; what they made is what one alone makes, and neither made all of it twice."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tiny_pipeline"])

    def run(folder, figures):
        folder.mkdir(exist_ok=True)
        process = context.Process(
            target=tiny_pipeline.in_its_own_group, args=(folder, 1, figures), daemon=True
        )
        process.start()
        return process

    for names in (["alone"], ["one", "two"]):
        folder = tmp_path / names[0]
        processes = [run(folder, tmp_path / f"figures-{name}") for name in names]
        for process in processes:
            process.join(300)
            assert process.exitcode == 0, (folder / "log").read_text()[-3000:]
    alone = checksums(tmp_path / "alone/artifacts")
    assert checksums(tmp_path / "one/artifacts") == alone
    assert not list((tmp_path / "one").rglob(".making*"))
    for name in ("one", "two"):
        for path in (tmp_path / "figures-alone").glob("[!.]*"):
            assert path.read_bytes() == (tmp_path / f"figures-{name}" / path.name).read_bytes()


def _cell(path, n, marks):
    with open(marks, "a") as handle:
        handle.write(f"{n}\n")
    time.sleep(0.02)
    values = np.random.default_rng(n).standard_normal(100)
    pd.DataFrame({"n": n, "x": values}).to_parquet(path)


def cells(marks):
    return [
        Job(f"cell/{n}", _cell, (n, marks), {"n": n, "seed": n}, suffix=".parquet")
        for n in range(N_CELLS)
    ]


def table(made):
    return pd.concat([pd.read_parquet(item.path) for item in made], ignore_index=True)


@pytest.mark.filterwarnings("ignore")
def test_workers_killed_at_random_lose_and_double_nothing(tmp_path):
    serial = [
        quiet(tmp_path / "serial").make(
            job.name,
            params=job.params,
            write=lambda path, job=job: job.write(path, *job.args),
            suffix=job.suffix,
        )
        for job in cells(tmp_path / "serial-marks")
    ]
    marks, killed = tmp_path / "marks", []
    with cluster_client(ClusterConfig(workers=2, directory=str(tmp_path))) as client:
        over, rng = threading.Event(), np.random.default_rng(5)

        def kill():
            while not over.wait(rng.uniform(0.5, 1.5)) and len(killed) < 8:
                pids = [w["pid"] for w in client.cluster.scheduler_info["workers"].values()
                        if "pid" in w] or list(client.run(os.getpid).values())  # fmt: skip
                victim = int(rng.choice(pids))
                if psutil.pid_exists(victim):
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            made = make_anywhere(quiet(tmp_path / "dask"), cells(marks), "x", "y", client)
        finally:
            over.set()
            thread.join()
    assert killed
    pd.testing.assert_frame_equal(table(made), table(serial), check_exact=True)
    names = [path.name for path in (tmp_path / "dask/cell").glob("*.parquet")]
    assert len(names) == N_CELLS
    assert checksums(tmp_path / "dask") == checksums(tmp_path / "serial")
    # what is made a second time is at most what a killed worker had in hand
    assert N_CELLS <= len(marks.read_text().split()) <= N_CELLS + 2 * len(killed)


@pytest.mark.filterwarnings("ignore")
def test_two_clusters_share_one_folder(tmp_path):
    marks, made = tmp_path / "marks", {}

    def sweep(name):
        directory = tmp_path / name
        directory.mkdir()
        with cluster_client(ClusterConfig(workers=1, directory=str(directory))) as client:
            made[name] = make_anywhere(quiet(tmp_path / "store"), cells(marks), "x", "y", client)

    threads = [threading.Thread(target=sweep, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert table(made["one"]).equals(table(made["two"]))
    assert sorted(map(int, marks.read_text().split())) == list(range(N_CELLS))


def _find_damaged(root, barrier, answers):
    store, real = quiet(root), Store._look

    def look(self, *about):
        """Both have read the damaged content before either does anything about it."""
        found = real(self, *about)
        if found[1]:
            barrier.wait(20)
        return found

    Store._look = look
    # after the first one mended it, the second looks again, and must not wait
    barrier_wait = barrier.wait

    def once(timeout):
        barrier.wait = lambda timeout: None
        return barrier_wait(timeout)

    barrier.wait = once
    made = store.make("a", params={}, write=lambda path: path.write_text("whole"))
    answers.put((made.reused, sidecar_of(made.path).stat().st_ino))


def test_two_that_find_one_damage_mend_it_once(tmp_path):
    """The second must not throw away, as damaged, what the first has just mended."""
    store = quiet(tmp_path)
    made = store.make("a", params={}, write=lambda path: path.write_text("whole"))
    made.path.write_text("spoilt")
    context = get_context("fork")
    barrier, answers = context.Barrier(2), context.Queue()
    both = [
        context.Process(target=_find_damaged, args=(tmp_path, barrier, answers)) for _ in range(2)
    ]
    for process in both:
        process.start()
    found = [answers.get(timeout=60) for _ in both]
    for process in both:
        process.join(60)
    assert sorted(reused for reused, _ in found) == [False, True]
    assert found[0][1] == found[1][1] and made.path.read_text() == "whole"
