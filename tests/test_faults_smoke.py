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
from cobe.core.records import read_manifest, read_record
from cobe.driver.plan import plan
from cobe.report.manifest import figure_names
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
    if "checked against the manifest" in log:  # it had done everything, and was on its way out
        assert code in (0, 130, -number), log[-3000:]
        return
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
    for path in (folder / "build/smoke").glob("*.parquet"):
        found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def of_default(folder: Path) -> set[str]:
    """What the notebooks of the default read or made, by their records."""
    names = set()
    for name in NOTEBOOKS:
        found = read_record(record(folder, name))
        names |= {os.path.relpath(path, folder.resolve()) for path in found["artifacts"]}
        names |= {Path(path).name for path in found["products"] | found["tables"]}
    return names - {f"{name}.ipynb" for name in NOTEBOOKS}


def same_as(reference: Path, folder: Path) -> None:
    """This run made all that the default makes, each with the content that it has there."""
    expected, found = contents(reference), contents(folder)
    # tests of steps of their own may have made more in the reference
    assert set(found) == of_default(reference) == of_default(folder)
    different = {name for name in found if found[name] != expected[name]}
    assert all(Path(name).stem in (MEASURED, "table_ledger") for name in different), different
    ledgers = [run / "figures/smoke/table_ledger.csv" for run in (reference, folder)]
    first, second = (pd.read_csv(path, dtype=str).fillna("") for path in ledgers)
    assert set(first.claim[(first != second).any(axis=1)]) <= {"16 bit, speed"}


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


def until(moment: float, run: subprocess.Popen, path: Path) -> None:
    """Wait for a moment of the monotonic clock, or for a record, or for the end of the run."""
    while time.monotonic() < moment and not path.exists() and run.poll() is None:
        time.sleep(0.02)


def killed_all_the_way(reference: Path, folder: Path, rng, n_kills: int = 1) -> int:
    """A run from nothing, killed within each notebook and behind it.

    Returns how often it was killed within: at most `n_kills` times each, while it is not done.
    """
    (folder / "data").mkdir(parents=True)
    watched, done = Watched(folder), 0
    for i, name in enumerate(NOTEBOOKS):
        seconds = json.loads(record(reference, name).read_text())["seconds"]
        # the last start is killed as soon as the notebook is done
        for wait_s in [*rng.uniform(0, seconds, n_kills), 600]:
            if record(folder, name).exists():
                break
            run = start(folder)
            until(time.monotonic() + wait_s, run, record(folder, name))
            within = not record(folder, name).exists()
            assert wait_s < 600 or not within, (folder / "log").read_text()[-3000:]
            if run.poll() is None:
                end(run, SIGNALS[(rng.integers(3) if within else i) % 3], folder)
                done += within
            else:
                assert run.returncode == 0, (folder / "log").read_text()[-3000:]
            watched.look()
    assert watched.progress >= 5
    last = driver("--profile", "smoke", folder=folder)
    assert last.returncode == 0, last.stderr[-3000:]
    watched.look()
    same_as(reference, folder)
    assert not left_over(folder)
    shutil.rmtree(folder)
    return done


@pytest.mark.notebook
def test_killed_within_and_after_every_notebook(smoke, tmp_path):
    assert killed_all_the_way(smoke[0], tmp_path / "run", np.random.default_rng(3)) >= 5


@pytest.mark.notebook
@pytest.mark.skipif("COBE_SOAK" not in os.environ, reason="half an hour: COBE_SOAK=1 runs it")
def test_killed_at_fifty_random_moments(smoke, tmp_path):
    rng, n_kills, passes = np.random.default_rng(4), 0, 0
    while n_kills < 50:
        n_kills += killed_all_the_way(smoke[0], tmp_path / str(passes), rng, n_kills=5)
        passes += 1
        print(f"{n_kills} kills at random moments in {passes} runs from nothing", flush=True)
