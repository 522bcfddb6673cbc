"""The long runs of `python -m cobe.bench soak`, cut short: memory is flat, results are the same."""

import numpy as np
import pytest

from cobe.bench import soak
from cobe.stimulus.frames import open_frames


def test_frames_again_and_again_are_the_same_and_memory_stays(tmp_path):
    found = soak.soak_frames(3000, tmp_path)
    assert found["frames"] >= 3000
    assert found["n_different"] == 0
    assert found["growth_mib"] < 30
    assert not list(tmp_path.glob("*.b2nd"))


def test_a_pass_that_differs_is_counted(tmp_path, monkeypatch):
    class Other:
        passes = 0

        def __getitem__(self, _):
            Other.passes += 1
            return np.full(3, Other.passes == 2)

    monkeypatch.setattr(soak, "open_frames", lambda path: Other())
    assert soak.soak_frames(600, tmp_path)["n_different"] == 1
    assert open_frames is not soak.open_frames


def test_resuming_after_every_step_ends_where_a_whole_run_does():
    found = soak.soak_resumes(12)
    assert found["resumes"] == 12
    assert found["n_different"] == 0


def test_a_resume_that_loses_something_is_counted(monkeypatch):
    read = soak.loop.read_checkpoint

    def forgetful(path, identity, model, optimizer):
        saved = read(path, identity, model, optimizer)
        if saved:
            optimizer.state.clear()
        return saved

    monkeypatch.setattr(soak.loop, "read_checkpoint", forgetful)
    assert soak.soak_resumes(6)["n_different"] > 0


def test_a_leak_is_seen(monkeypatch):
    kept = []
    extend = soak.StepLog.extend
    monkeypatch.setattr(
        soak.StepLog,
        "extend",
        # more than what malloc would take from memory that it has kept of other tests
        lambda self, rows: kept.append(b"x" * (40 * 2**20)) or extend(self, rows),
    )
    monkeypatch.setattr(soak.loop, "CHECKPOINT_EVERY_S", 0.0)
    leaking = soak.soak_steps(60)["growth_mib"]
    monkeypatch.undo()
    assert leaking > 100
    kept.clear()
    assert soak.soak_steps(60)["growth_mib"] < leaking - 80


def test_rows_of_the_benchmark(monkeypatch):
    found = {"growth_mib": 0.5, "n_different": 0}
    monkeypatch.setattr(soak, "soak_frames", lambda n, folder: found | {"frames": n})
    monkeypatch.setattr(soak, "soak_steps", lambda n: found)
    monkeypatch.setattr(soak, "soak_resumes", lambda n: found | {"resumes": n})
    rows = soak.measure(1000, 20, 3)
    assert [row["value"] for row in rows] == pytest.approx([0.5, 0, 0.5, 0.5, 0])
