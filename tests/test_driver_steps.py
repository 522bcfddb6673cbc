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
from cobe.core.paths import data_dir, make_absolute
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
    (figures / "new.md").write_text("a caption")
    build_manifest(figures, [Saved("new", ("new.pdf",), "new.md", "00_made.ipynb")])
    record = step.done()
    assert [Path(name).name for name in record["products"]] == ["new.pdf"]
    # a changed script runs again, takes up the artifact, and its figure is known as written anew
    step.script.write_text(step.script.read_text().replace(".touch()", ".write_text('anew')"))
    assert step.done() is None
    record = step.run(False)
    assert [Path(name).name for name in record["products"]] == ["new.pdf"]
    assert record["seconds"] >= 0 and len(record["artifacts"]) == 1
    assert age_text(record["made_s"]) and age_text(3e9)


@pytest.mark.parametrize("variable", ["COBE_BUILD", "COBE_FIGURES", "COBE_DATA"])
@pytest.mark.parametrize(
    "place, message",
    [
        ("file", "is a file"),
        ("file/below", "Not a directory"),
        ("circle", "symbolic links"),
        ("n" * 300, "File name too long"),
        ("~no-such-user/x", "no such user"),
    ],
)
def test_a_place_that_can_be_no_folder_is_refused(variable, place, message, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    given = place if place.startswith("~") else str(tmp_path / place)
    monkeypatch.setenv(variable, given)
    with pytest.raises(CobeError, match=f"{variable}=.*{message}"):
        make_absolute()
    if variable == "COBE_DATA" and place != "file/below":
        with pytest.raises(CobeError, match="no folder|is a file"):
            data_dir()


def spoil_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


RECORD = "work/smoke/07_audit.json"
EXECUTED = "work/smoke/07_audit.ipynb"
TABLE = "work/smoke/audit_scores.parquet"
FILES = "figures/manifest.json"
DAMAGES = {
    "record is a list": lambda top: (top / RECORD).write_text("[]"),
    "record is deep": lambda top: (top / RECORD).write_text("[" * 100_000),
    "record without products": lambda top: spoil_json(top / RECORD, products=None),
    "record without artifacts": lambda top: spoil_json(top / RECORD, artifacts=[]),
    "record of no time": lambda top: spoil_json(top / RECORD, made_s="x"),
    "record names other files": lambda top: spoil_json(top / RECORD, tables={}),
    "executed copy cut": lambda top: (top / EXECUTED).write_text("{}"),
    "executed copy gone": lambda top: (top / EXECUTED).unlink(),
    "table cut": lambda top: (top / TABLE).write_bytes(b"PAR1"),
    "table gone": lambda top: (top / TABLE).unlink(),
    "another sha256 in the manifest": lambda top: (top / FILES).write_text(
        (top / FILES).read_text().replace('"sha256": "', '"sha256": "f')
    ),
    "no caption in the manifest": lambda top: (top / FILES).write_text(
        (top / FILES).read_text().replace('"new.md"', '""')
    ),
    "figure gone": lambda top: (top / "figures/new.pdf").unlink(),
}


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """A step that writes an artifact, a table beside it and a figure; tests damage copies."""
    top = tmp_path_factory.mktemp("audited")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COBE_BUILD", str(top / "build"))
        step = audit_in(top)
        record = step.run(False)
    assert [Path(name).name for name in record["products"]] == ["new.md", "new.pdf"]
    assert [Path(name).name for name in record["tables"]] == ["07_audit.ipynb", Path(TABLE).name]
    return top


def audit_in(top: Path) -> Step:
    (top / "figures").mkdir(exist_ok=True)
    step = step_in(top / "work")
    script = step.script.rename(step.script.with_name("07_audit.py"))
    script.write_text(
        script.read_text()
        + """
from cobe.report.manifest import build_manifest
from cobe.report.save import Saved
(Path(folder) / "smoke/audit_scores.parquet").write_text("a table")
figures = Path(folder).parent / "figures"
for name in ("new.pdf", "new.md"):
    (figures / name).write_text(name)
build_manifest(figures, [Saved("new", ("new.pdf",), "new.md", "07_audit.ipynb")])
"""
    )
    return replace(step, script=script, products=top / "figures")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_what_a_step_wrote_past_the_store_is_watched_too(damage, audited):
    """The folder stays where it is: paths are on record."""
    saved = {path: path.read_bytes() for path in audited.rglob("*") if path.is_file()}
    step = audit_in(audited)
    assert step.done()
    damage(audited)
    assert step.done() is None
    for path, content in saved.items():
        path.write_bytes(content)
    assert step.done()


def test_a_reader_of_tables_runs_again_when_they_change(tmp_path, monkeypatch):
    monkeypatch.setenv("COBE_BUILD", str(tmp_path / "build"))
    table = tmp_path / "scores.parquet"
    step = replace(step_in(tmp_path / "work"), reads=(table,))
    step.run(False)
    assert step.done()
    table.write_text("made meanwhile")
    assert step.done() is None


@pytest.mark.parametrize("edited", ["00_made.py", "scores.parquet"])
def test_what_is_edited_while_it_runs_is_not_what_was_run(edited, tmp_path, monkeypatch):
    monkeypatch.setenv("COBE_BUILD", str(tmp_path / "build"))
    folder = tmp_path / "work"
    step = replace(step_in(folder), reads=(folder / "scores.parquet",))
    (folder / "scores.parquet").write_text("")
    edit = f"(Path(folder) / {edited!r}).open('a').write('# edited meanwhile\\n')\n"
    step.script.write_text(step.script.read_text() + edit)
    step.run(False)
    assert step.done() is None


@pytest.mark.parametrize("wrong", ["two", "0", "-1", "1.5", "²", "9" * 20, "9" * 5000])
def test_a_wrong_number_of_workers_is_refused_before_any_step(wrong, monkeypatch):
    monkeypatch.setenv("COBE_WORKERS", wrong)
    with pytest.raises(CobeError, match="COBE_WORKERS: .* no whole number from 1 to 9999"):
        run_steps([])


@pytest.mark.locked
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
