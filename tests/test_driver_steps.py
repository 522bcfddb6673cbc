"""A step runs in this environment's kernel, alone in its folder, whatever surrounds it."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import nbformat
import pytest

from cobe.core.artifacts import age_text
from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.driver.figures import run_steps
from cobe.driver.steps import Step
from cobe.report.manifest import build_manifest
from cobe.report.save import Saved
from conftest import copy_project

SCRIPT = """
# %% tags=["parameters"]
folder = ""

# %%
import sys
from pathlib import Path

from cobe.core.artifacts import Store

with open(Path(folder) / "ran", "a") as handle:
    handle.write(f"{sys.executable}\\n")
made = Store(Path(folder) / "smoke/artifacts").make(
    "a", params={}, write=lambda path: path.write_text("x")
)
"""


def step_in(folder: Path) -> Step:
    folder.mkdir(exist_ok=True)
    script = folder / "00_made.py"
    script.write_text(SCRIPT.lstrip())
    return Step(
        script, {"folder": str(folder)}, folder / "smoke", profile=get_profile("smoke"), rooms=()
    )


def test_another_python3_kernel_and_start_up_files_of_the_user_do_not_count(tmp_path, monkeypatch):
    """Such as of a cluster's module system, or of another environment of the user."""
    theirs = tmp_path / "theirs/kernels/python3"
    theirs.mkdir(parents=True)
    spec = {"argv": ["/none/python", "{connection_file}"], "display_name": "Other"}
    (theirs / "kernel.json").write_text(json.dumps(spec | {"language": "python"}))
    startup = tmp_path / "ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text(f"open({str(tmp_path / 'started')!r}, 'w').close()\n")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "theirs"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("COBE_BUILD", str(tmp_path / "build"))
    step_in(tmp_path / "work").run(False)
    assert (tmp_path / "work/ran").read_text() == f"{sys.executable}\n"
    assert not (tmp_path / "started").exists()


def test_a_folder_with_any_name(tmp_path, monkeypatch):
    """What a step made is known again where the path holds what separates lines and words."""
    folder = tmp_path / "a 'b' \"c\" \n ü\u2028$(x)"
    folder.mkdir()
    monkeypatch.setenv("COBE_BUILD", str(folder / "build"))
    step = step_in(folder / "work")
    record = step.run(False)
    assert len(record["artifacts"]) == 1 and Path(record["artifacts"][0]).is_file()
    assert step.done()


def _run(folder, build, started):
    os.environ["COBE_BUILD"] = str(build)
    step = step_in(folder)
    started.wait(60)
    run_steps([step])


def test_two_drivers_in_one_folder_run_a_step_once(tmp_path):
    context = get_context("fork")
    started = context.Barrier(2)
    step_in(tmp_path / "work")
    both = [
        context.Process(target=_run, args=(tmp_path / "work", tmp_path / "build", started))
        for _ in range(2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    assert len((tmp_path / "work/ran").read_text().splitlines()) == 1
    executed = nbformat.read(tmp_path / "work/smoke/00_made.ipynb", as_version=4)
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
    assert len(json.loads((tmp_path / "work/smoke/00_made.json").read_text())["artifacts"]) == 1


def test_a_clock_that_goes_backwards(tmp_path, monkeypatch, capsys):
    """Files seem to come from tomorrow, and the hour goes back while a notebook runs."""
    monkeypatch.setenv("COBE_BUILD", str(tmp_path / "build"))
    figures, clock = tmp_path / "figures", [2e9]
    figures.mkdir()
    (figures / "old.pdf").write_text("not of this step")

    def backwards():
        clock[0] -= 3600
        return clock[0]

    monkeypatch.setattr(time, "time", backwards)
    step = replace(step_in(tmp_path / "work"), products=figures)
    draw = "(Path(folder) / '../figures/new.pdf').touch()\n"
    step.script.write_text(step.script.read_text() + draw)
    run_steps([step])
    assert float(re.search(r"00_made: (-?\d+) s, peak", capsys.readouterr().out)[1]) >= 0
    for path in tmp_path.rglob("*"):
        os.utime(path, (3e9, 3e9))
    build_manifest(figures, [Saved("new", ("new.pdf",), "", "00_made.ipynb")])
    record = step.done()
    assert [Path(name).name for name in record["products"]] == ["new.pdf"]
    # a changed script runs again, takes up the artifact, and its figure is known as written anew
    step.script.write_text(step.script.read_text().replace(".touch()", ".write_text('anew')"))
    assert step.done() is None
    record = step.run(False)
    assert [Path(name).name for name in record["products"]] == ["new.pdf"]
    assert record["seconds"] >= 0 and len(record["artifacts"]) == 1
    assert age_text(record["made_s"]) and age_text(3e9)


@pytest.mark.parametrize("wrong", ["two", "0", "-1", "1.5", "²"])
def test_a_wrong_number_of_workers_is_refused_before_any_step(wrong, monkeypatch):
    monkeypatch.setenv("COBE_WORKERS", wrong)
    with pytest.raises(CobeError, match="COBE_WORKERS: .* no whole number of 1 or more"):
        run_steps([])


def test_called_by_a_link_from_elsewhere(tmp_path):
    """Folders are those of the caller's folder; a module that lies there is not taken for ours."""
    (tmp_path / "the project").mkdir()
    project = copy_project(tmp_path / "the project")
    elsewhere = tmp_path / "else where"
    (elsewhere / "mine").mkdir(parents=True)
    (elsewhere / "json.py").write_text("raise SystemExit('taken from the folder of the caller')")
    (elsewhere / "cobe-run").symlink_to(project / "run_all.sh")
    options = {"cwd": elsewhere, "capture_output": True, "text": True}
    environment = os.environ | {"COBE_BUILD": "work"}
    command = ["./cobe-run", "--profile", "paper", "--data", "mine"]
    done = subprocess.run(command, env=environment, **options)
    assert done.returncode == 1 and str(elsewhere / "mine") in done.stderr, done.stderr
    assert sorted(p.name for p in elsewhere.iterdir()) == ["cobe-run", "json.py", "mine"]
