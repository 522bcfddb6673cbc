"""A run that is killed at any moment goes on where it was, to the same bytes."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import pytest

import tiny_pipeline
from cobe.core.artifacts import SIDECAR, is_intact
from kills import left_over, of_this_run, whole
from tiny_pipeline import STAGES

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
N_RANDOM, N_SOAK = 6, 50


@pytest.fixture(scope="module")
def processes():
    """Processes that begin with everything imported: what is killed is work, not imports."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tiny_pipeline"])

    def start(folder, workers=1, **options):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "started").unlink(missing_ok=True)
        process = context.Process(
            target=tiny_pipeline.in_its_own_group, args=(folder, workers), kwargs=options
        )
        process.start()
        deadline = time.monotonic() + 120
        while not (folder / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return process

    return start


@pytest.fixture(scope="module")
def reference(processes, tmp_path_factory):
    """A run that nothing interrupts: its content, and its seconds."""
    folder = tmp_path_factory.mktemp("reference")
    process = processes(folder)
    started = time.monotonic()
    process.join(300)
    assert process.exitcode == 0, (folder / "log").read_text()[-3000:]
    return contents(folder), time.monotonic() - started


def contents(folder: Path) -> dict[str, str]:
    """Checksums of all artifacts, by their sidecars, and of all figures and tables."""
    found = {}
    for sidecar in (folder / "artifacts").rglob(f"*{SIDECAR}"):
        assert is_intact(sidecar), sidecar
        found[sidecar.name] = json.loads(sidecar.read_text())["sha256"]
    for path in (folder / "figures").glob("[!.]*"):
        found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def strays(session: int) -> list[int]:
    """Processes of a session that still live."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def finish(processes, folder, before, reference, **options):
    """Run to the end; nothing that was whole is made again, and all is as if never killed."""
    process = processes(folder, **options)
    process.join(300)
    assert process.exitcode == 0, (folder / "log").read_text()[-3000:]
    after = whole(folder / "artifacts")
    assert {name: after[name] for name in before} == before
    assert contents(folder) == reference[0]
    assert not left_over(folder)


def kill_at_random(processes, reference, folder, n_kills, seed):
    rng = np.random.default_rng(seed)
    before, n, reached = {}, 0, []
    while n < n_kills:
        process = processes(folder)
        process.join(rng.uniform(0, 0.9) * reference[1])
        if process.exitcode is None:
            number = SIGNALS[n % 3]
            os.kill(process.pid, number)
            told = time.monotonic()
            process.join(60)
            assert time.monotonic() - told < 5, f"signal {number} took effect too late"
            assert not strays(process.pid)
            n += 1
            after = whole(folder / "artifacts")
            assert {name: after[name] for name in before} == before
            reached.append(len(after) - len(before))
            before = after
        else:
            assert process.exitcode == 0, (folder / "log").read_text()[-3000:]
            finish(processes, folder, before, reference)
            shutil.rmtree(folder)
            before = {}
    finish(processes, folder, before, reference)
    return reached


def test_killed_at_random_moments(processes, reference, tmp_path):
    reached = kill_at_random(processes, reference, tmp_path / "run", N_RANDOM, seed=1)
    assert sum(reached) > 0  # it was killed in the middle of something


@pytest.mark.skipif("COBE_SOAK" not in os.environ, reason="minutes: COBE_SOAK=1 runs it")
def test_killed_at_fifty_random_moments(processes, reference, tmp_path):
    reached = kill_at_random(processes, reference, tmp_path / "run", N_SOAK, seed=2)
    assert sum(n > 0 for n in reached) > 10


def test_killed_at_every_stage_boundary(processes, reference, tmp_path):
    """At each boundary in turn, in one folder: every start does one stage more, and no other."""
    folder, before = tmp_path / "run", {}
    for i, stage in enumerate(STAGES):
        number = SIGNALS[i % 3]
        process = processes(folder, die_after=f"{stage}:{int(number)}")
        process.join(120)
        assert process.exitcode in (-number, 1), (folder / "log").read_text()[-3000:]
        after = whole(folder / "artifacts")
        assert {name: after[name] for name in before} == before
        new = {
            Path(name).relative_to(folder / "artifacts").parts[0]
            for name in set(after) - set(before)
        }
        assert all(name.startswith(stage) for name in new)
        assert bool(new) == (stage not in ("table", "figure"))
        assert not left_over(folder)
        before = after
    finish(processes, folder, before, reference)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda s: s.name)
def test_worker_processes_go_with_their_parent(number, processes, reference, tmp_path):
    """Two workers are busy when their parent alone gets the signal."""
    process = processes(tmp_path, workers=2)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "artifacts").rglob(".making*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(strays(process.pid)) >= 3
    os.kill(process.pid, number)
    told = time.monotonic()
    process.join(60)
    while strays(process.pid) and time.monotonic() - told < 30:
        time.sleep(0.1)
    seconds = time.monotonic() - told
    assert not strays(process.pid) and seconds < 5, f"{seconds:.1f} s"
    finish(processes, tmp_path, whole(tmp_path / "artifacts"), reference)


@pytest.mark.notebook
@pytest.mark.parametrize("number", SIGNALS, ids=lambda s: s.name)
def test_the_driver_ends_at_once_with_its_kernel_and_workers(number, tmp_path):
    """The real one, in its first notebook with worker processes; the signal reaches it alone."""
    environment = os.environ | {
        "COBE_BUILD": str(tmp_path / "build"),
        "COBE_FIGURES": str(tmp_path / "figures"),
        "COBE_DATA": str(tmp_path / "data"),
        "COBE_WORKERS": "2",
    }
    (tmp_path / "data").mkdir()
    with open(tmp_path / "stderr", "w+") as stderr:
        run = subprocess.Popen(
            [sys.executable, "-m", "cobe.driver", "--profile", "smoke", "--only", "fig1"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        deadline = time.monotonic() + 240
        while not list((tmp_path / "data").glob(".making*/.work*/*")):
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        assert len(of_this_run(tmp_path)) >= 4
        run.send_signal(number)
        told = time.monotonic()
        time.sleep(0.05)
        run.send_signal(number)  # of a person in a hurry
        code = run.wait(60)
        ended_s = time.monotonic() - told
        while of_this_run(tmp_path) and time.monotonic() - told < 30:
            time.sleep(0.1)
        gone_s = time.monotonic() - told
        stderr.seek(0)
        words = stderr.read()
    assert ended_s < 5 and gone_s < 5, f"{ended_s:.1f} s, the last process {gone_s:.1f} s"
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL
    else:
        assert code == 130
        assert "what was finished is kept; run the same command to go on" in words
