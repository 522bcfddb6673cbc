"""The smoke profile by the real driver, killed within and after every notebook."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cobe.core.artifacts import SIDECAR
from cobe.core.profiles import get_profile
from cobe.driver.plan import plan
from cobe.report.manifest import figure_names, read_manifest
from conftest import driver, environment_of
from kills import identity, left_over, of_this_run, whole

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
PROFILE = get_profile("smoke")
NOTEBOOKS = [step.name for step in plan(PROFILE, "", figure_names(PROFILE))]
MEASURED = "table_timing"  # seconds, which no two runs share


def start(folder: Path) -> subprocess.Popen:
    """The driver, once it is under way: what is killed is work, not imports."""
    with open(folder / "log", "w") as log:
        run = subprocess.Popen(
            [sys.executable, "-m", "cobe.driver", "--profile", "smoke"],
            env=environment_of(folder),
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + 120
    while not (folder / "log").read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    return run


def record(folder: Path, name: str) -> Path:
    return folder / f"build/smoke/{name}.json"


def end(run: subprocess.Popen, number: int, folder: Path) -> None:
    """Send a signal to the driver alone; all that it started goes with it, within 5 s."""
    run.send_signal(number)
    told = time.monotonic()
    code = run.wait(60)
    while of_this_run(folder) and time.monotonic() - told < 30:
        time.sleep(0.05)
    seconds = time.monotonic() - told
    log = (folder / "log").read_text()
    assert seconds < 5, (
        f"signal {number}: the last process went after {seconds:.1f} s; {log[-2000:]}"
    )
    assert code == (-number if number == signal.SIGKILL else 130), log[-3000:]
    if number != signal.SIGKILL:
        assert "what was finished is kept; run the same command to go on" in log


def contents(folder: Path) -> dict[str, str]:
    """Checksums of all artifacts, by their sidecars, and of all figures and tables."""
    found = {}
    for top in ("data", "build/smoke/artifacts"):
        for sidecar in (folder / top).rglob(f"*{SIDECAR}"):
            name = str(sidecar.relative_to(folder))
            found[name] = json.loads(sidecar.read_text())["sha256"]
    for row in read_manifest(folder / "figures/smoke"):
        path = folder / "figures/smoke" / row["file"]
        found[row["file"]] = hashlib.sha256(path.read_bytes()).hexdigest()
        assert found[row["file"]] == row["sha256"]
    return found


def same_as(reference: Path, folder: Path) -> None:
    """All that this run made has the content that it has in the reference."""
    expected, found = contents(reference), contents(folder)
    assert set(found) <= set(expected)  # where tests of steps of their own made more
    different = {name for name in found if found[name] != expected[name]}
    assert all(Path(name).stem in (MEASURED, "table_ledger") for name in different), different
    ledgers = [run / "figures/smoke/table_ledger.csv" for run in (reference, folder)]
    first, second = (pd.read_csv(path, dtype=str).fillna("") for path in ledgers)
    assert set(first.claim[(first != second).any(axis=1)]) <= {"16 bit, speed"}
    for path in (folder / "build/smoke").glob("*.parquet"):
        expected_rows = pd.read_parquet(reference / "build/smoke" / path.name)
        pd.testing.assert_frame_equal(expected_rows, pd.read_parquet(path), check_exact=True)


class Watched:
    """What was whole at the last look must stay; no finished notebook runs again."""

    def __init__(self, folder: Path):
        self.folder, self.before, self.progress, self.steps = folder, {}, 0, {}

    def look(self) -> None:
        after = whole(self.folder)
        assert {name: after[name] for name in self.before} == self.before
        self.progress += len(after) > len(self.before)
        self.before = after
        for name in NOTEBOOKS:
            path = record(self.folder, name)
            if path.exists():
                found = identity(path)
                assert self.steps.setdefault(name, found) == found, f"{name}: run again"


def killed_all_the_way(reference: Path, folder: Path, rng) -> int:
    """A run from nothing with a kill within each notebook and one behind it; kills within."""
    (folder / "data").mkdir(parents=True)
    watched, n_kills = Watched(folder), 0
    for i, name in enumerate(NOTEBOOKS):
        seconds = json.loads(record(reference, name).read_text())["seconds"]
        run = start(folder)
        try:
            assert run.wait(rng.uniform(0, seconds)) == 0, (folder / "log").read_text()[-3000:]
        except subprocess.TimeoutExpired:
            end(run, SIGNALS[rng.integers(3)], folder)
            n_kills += 1
        watched.look()
        if record(folder, name).exists():
            continue
        run, deadline = start(folder), time.monotonic() + 600
        while not record(folder, name).exists() and time.monotonic() < deadline:
            assert run.poll() is None, (folder / "log").read_text()[-3000:]
            time.sleep(0.02)
        if run.poll() is None:
            end(run, SIGNALS[i % 3], folder)
        watched.look()
    assert watched.progress >= 5
    done = driver("--profile", "smoke", folder=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    watched.look()
    same_as(reference, folder)
    assert not left_over(folder)
    shutil.rmtree(folder)
    return n_kills


@pytest.mark.notebook
def test_killed_within_and_after_every_notebook(smoke, tmp_path):
    assert killed_all_the_way(smoke[0], tmp_path / "run", np.random.default_rng(3)) >= 5


@pytest.mark.notebook
@pytest.mark.skipif("COBE_SOAK" not in os.environ, reason="half an hour: COBE_SOAK=1 runs it")
def test_killed_at_fifty_random_moments(smoke, tmp_path):
    rng, n_kills, passes = np.random.default_rng(4), 0, 0
    while n_kills < 50:
        n_kills += killed_all_the_way(smoke[0], tmp_path / str(passes), rng)
        passes += 1
        print(f"{n_kills} kills at random moments in {passes} runs from nothing", flush=True)
