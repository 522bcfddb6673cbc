"""Jobs that kill their process, or fail in a way that nothing foresaw, stop no other one."""

import os
import resource
import signal

import numpy as np
import pytest

from cobe.core.apart import map_surviving
from cobe.core.artifacts import Store
from cobe.core.errors import CobeError, MachineError
from cobe.sweep.jobs import Job, make_all


def _square(n):
    if n in (2, 4):
        os.kill(os.getpid(), signal.SIGSEGV)  # as an emulator does on a bad start state
    return n * n


def _too_large(path):
    resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))
    np.ones(2**33)


def _killed(path, n):
    if n == 1:
        os.kill(os.getpid(), signal.SIGKILL)  # as a system does that is short of memory
    path.write_text("made")


def _write_or_die(path, n):
    path.write_text(str(_square(n)))


def _write_or_raise(path, kind):
    if kind is not None:
        raise kind("of a kind that no check knows")
    path.write_text("made")


@pytest.fixture(autouse=True)
def two_workers(monkeypatch):
    monkeypatch.setenv("COBE_WORKERS", "2")


@pytest.mark.filterwarnings("ignore:A worker stopped")
def test_a_job_that_kills_its_process_is_an_error_in_its_place():
    results = map_surviving(_square, [(n,) for n in range(6)])
    assert [r for r in results if not isinstance(r, CobeError)] == [0, 1, 9, 25]
    assert [i for i, r in enumerate(results) if isinstance(r, CobeError)] == [2, 4]
    assert "its process died" in str(results[2])


def test_jobs_that_all_live_come_back_in_order():
    assert map_surviving(_square, [(5,), (3,), (1,)]) == [25, 9, 1]
    assert map_surviving(_square, []) == []


@pytest.mark.filterwarnings("ignore:A worker stopped")
def test_with_one_worker_too_another_process_dies(monkeypatch):
    monkeypatch.setenv("COBE_WORKERS", "1")
    (pid,) = map_surviving(os.getpid, [()], apart=True)
    assert pid != os.getpid()
    first, second = map_surviving(_square, [(2,), (3,)], apart=True)
    assert isinstance(first, CobeError) and second == 9
    assert map_surviving(_square, [], apart=True) == []


@pytest.mark.filterwarnings("ignore:A worker stopped")
def test_the_job_that_kills_its_process_is_named_and_the_others_are_kept(tmp_path):
    store = Store(tmp_path, announce=lambda line: None)
    jobs = [Job(f"n/{n}", _write_or_die, (n,), {}, apart=True) for n in range(4)]
    with pytest.raises(CobeError, match="n/2: its process died: .*the others are kept"):
        make_all(store, jobs, "x", "y")
    assert [store.find(f"n/{n}", params={}) is not None for n in range(4)] == [1, 1, 0, 1]
    failures = {}
    made = make_all(store, jobs[:3], "x", "y", failures)
    assert [item is not None for item in made] == [True, True, False]
    assert list(failures) == ["n/2"] and "its process died" in failures["n/2"]


def test_a_job_that_raises_what_no_check_knows_stops_no_other_one(tmp_path):
    store = Store(tmp_path, announce=lambda line: None)
    kinds = [TypeError, None, ValueError]
    jobs = [Job(f"n/{i}", _write_or_raise, (kind,), {}) for i, kind in enumerate(kinds)]
    failures = {}
    made = make_all(store, jobs, "x", "y", failures)
    assert [item is not None for item in made] == [False, True, False]
    assert failures == {
        f"n/{i}": f"n/{i}: {kinds[i].__name__}: of a kind that no check knows" for i in (0, 2)
    }


def test_too_little_memory_leaves_nothing_out(tmp_path):
    """Another machine would have kept it: the result must not depend on that."""
    store, failures = Store(tmp_path, announce=lambda line: None), {}
    jobs = [Job("large", _too_large, (), {}, apart=True)]
    with pytest.raises(MachineError, match="large: too little memory .*run the same command again"):
        make_all(store, jobs, "x", "y", failures)
    assert not failures and store.find("large", params={}) is None


@pytest.mark.filterwarnings("ignore:A worker stopped")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_process_killed_from_outside_leaves_nothing_out(workers, tmp_path, monkeypatch):
    monkeypatch.setenv("COBE_WORKERS", workers)
    store, failures = Store(tmp_path, announce=lambda line: None), {}
    jobs = [Job(f"n/{n}", _killed, (n,), {}, apart=True) for n in range(3)]
    with pytest.raises(MachineError, match="^series: a process was killed.*COBE_WORKERS=1"):
        make_all(store, jobs, "series", "y", failures)
    assert not failures and store.find("n/0", params={}) is not None
