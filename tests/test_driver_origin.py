"""What is missing is said with the notebook and the command that make it."""

import re

import pytest

from cobe.core import origin
from cobe.core.artifacts import Store
from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT
from cobe.core.profiles import get_profile
from cobe.driver.plan import chosen_figures, plan
from cobe.sweep.jobs import Job, make_all


def write_text(path):
    path.write_text("made")


@pytest.fixture
def store(tmp_path):
    said = []
    store = Store(tmp_path / "quick/artifacts", said.append)
    return store, said


@pytest.fixture
def in_notebook(monkeypatch):
    for name in (origin.NOTEBOOK, "JPY_SESSION_NAME"):
        monkeypatch.delenv(name, raising=False)

    def enter(name):
        monkeypatch.setenv(origin.NOTEBOOK, name)

    return enter


def test_every_origin_is_a_notebook_and_a_command_that_runs_it():
    known = {path.stem for path in (PROJECT / "notebooks").glob("*.py")}
    smoke = get_profile("smoke")
    for one in {*origin.ARTIFACTS.values(), *origin.TABLES.values()}:
        assert {one.notebook, *one.also, origin.TOUR} <= known
        assert one.command("quick").startswith("./run_all.sh")
        only = re.search(r"--only (\S+)", one.command("smoke"))
        figures = chosen_figures(smoke, only[1] if only else "")
        assert one.notebook in [step.name for step in plan(smoke, "", figures)]


def test_every_kind_of_artifact_has_an_origin():
    """Names are read off the stages; the atlas and the dataset are not a notebook's alone."""
    named = re.compile(r"""(?:\.make|\bJob)\(\s*f?"([a-z_-]+)""")
    text = "\n".join(path.read_text() for path in (PROJECT / "src/cobe/sweep").glob("*.py"))
    kinds = set(named.findall(text)) - {"atlas"}
    assert len(kinds) > 12
    assert kinds <= set(origin.ARTIFACTS)


def test_work_out_of_order_is_announced_before_it_begins(store, in_notebook):
    store, said = store
    in_notebook("04_encoding")

    def write(path):
        assert said == [
            "tokens: not there yet; notebook 02_vqvae, or ./run_all.sh, makes it (about 3 min); "
            "making it now"
        ]
        write_text(path)

    store.make("tokens", params={}, write=write)
    store.make("tokens", params={}, write=write)
    assert len(said) == 2 and "reused" in said[1]


@pytest.mark.parametrize("name", ["02_vqvae", "00_tour"])
def test_a_notebook_that_does_its_own_work_says_nothing(store, in_notebook, name):
    store, said = store
    in_notebook(name)
    store.make("tokens", params={}, write=write_text)
    assert said == []


def test_outside_notebooks_nothing_is_said(store, in_notebook):
    store, said = store
    store.make("tokens", params={}, write=write_text)
    assert said == []


def test_a_notebook_that_jupyterlab_opened_is_known(store, in_notebook, monkeypatch):
    store, said = store
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/me/cobe/notebooks/02_vqvae.ipynb")
    store.make("tokens", params={}, write=write_text)
    assert said == []
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/me/cobe/notebooks/Untitled.ipynb")
    store.make("vqvae", params={}, write=write_text)
    assert "notebook 02_vqvae" in said[0]


def test_many_artifacts_of_a_kind_take_one_line(store, in_notebook):
    store, said = store
    in_notebook("05_paper_figures")
    jobs = [Job(f"gpt/{n}", _write_number, (n,), params={"n": n}) for n in range(3)]
    make_all(store, jobs, "training cells", "cell")
    assert [line for line in said if "not there yet" in line] == [
        "gpt: not there yet; notebook 03_gpt_training, or ./run_all.sh, makes it (about 6 min); "
        "making it now"
    ]


def _write_number(path, n):
    path.write_text(str(n))


def test_a_notebook_that_adds_to_a_kind_says_whose_the_others_are(store, in_notebook):
    store, said = store
    in_notebook("07_audit")
    store.make("gpt/arm", params={}, write=write_text)
    assert said == [
        "gpt: not all there yet; notebook 03_gpt_training makes those of the figures "
        "(about 6 min), this one its own; making them now"
    ]


def test_the_profile_is_in_the_command_and_times_are_of_the_default(tmp_path, in_notebook):
    said = []
    in_notebook("07_audit")
    Store(tmp_path / "smoke/artifacts", said.append).make("grid/1", params={}, write=write_text)
    assert said == [
        "grid: not there yet; notebook 06_compute_optimal, or ./run_all.sh --profile smoke --only "
        "scaling, makes it; making it now"
    ]


def test_readers_of_saved_results_make_nothing(store, in_notebook):
    store, _ = store
    made = []
    with pytest.raises(CobeError, match=r"notebook 02_vqvae makes it: run \./run_all\.sh$"):
        with origin.saved_only():
            store.make("tokens", params={}, write=made.append)
    assert not made
    first = store.make("tokens", params={}, write=write_text)
    with origin.saved_only():
        assert store.make("tokens", params={}, write=made.append).reused
    first.path.write_text("damaged")
    with pytest.raises(CobeError, match="only saved results are read here"):
        with origin.saved_only():
            store.make("tokens", params={}, write=made.append)
    assert first.path.exists() and not made  # nor is anything thrown away
    with pytest.raises(CobeError, match="03_gpt_training"), origin.saved_only():
        make_all(store, [Job("gpt/1", _write_number, (1,), params={})], "cells", "cell")


def test_tables_that_are_missing_are_all_named(tmp_path, monkeypatch):
    monkeypatch.setenv("COBE_BUILD", str(tmp_path / "build"))
    monkeypatch.setenv("COBE_FIGURES", str(tmp_path / "figures"))
    with pytest.raises(CobeError) as caught:
        origin.require("smoke", "scores.parquet", "table_ledger.csv", "grid_scores.parquet")
    said = str(caught.value)
    assert "notebook 05_paper_figures makes it: run ./run_all.sh --profile smoke;" in said
    assert "notebook 07_audit makes it: run ./run_all.sh --profile smoke;" in said
    assert said.endswith("run ./run_all.sh --profile smoke --only scaling")
    for path in ("build/smoke/scores.parquet", "figures/smoke/table_ledger.csv"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("")
    found = origin.require("smoke", "scores.parquet", "table_ledger.csv")
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "build/smoke/scores.parquet",
        "figures/smoke/table_ledger.csv",
    ]
    with pytest.raises(CobeError, match="table 'score.parquet': unknown; choose from"):
        origin.require("smoke", "score.parquet")
