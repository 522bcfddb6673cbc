"""A key describes the code that runs: of a source that changed since nothing is filed."""

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import cobe.sweep
from cobe.core.fingerprint import _read
from conftest import copy_project

CHANGES = {
    "edited": "(room / 'recipe.py').open('a').write('NEW = 1\\n')",
    "written again": "os.utime(room / 'recipe.py', (1, 1))",
    "gone": "(room / 'recipe.py').unlink()",
}
ASK = """
import os
from pathlib import Path
from cobe.core.errors import MachineError
from cobe.core.fingerprint import fingerprint
import cobe.video

room = Path(cobe.video.__path__[0])
{before}
(room.parent / "bench/rows.py").open("a").write("# of another closure\\n")
if not {fresh}:
    fingerprint("cobe.video.recipe")
{change}
try:
    fingerprint("cobe.video.recipe")
except MachineError as error:
    print(error)
"""


def asked(folder: Path, **parts) -> str:
    """What a process says that runs on a copy of the project and changes it."""
    environ = os.environ | {"PYTHONPATH": str(copy_project(folder) / "src")}
    command = [sys.executable, "-c", ASK.format(**{"before": "", "fresh": False} | parts)]
    done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("fresh", [True, False], ids=["first asked", "asked before"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_source_that_changed_after_the_start_is_refused(change, fresh, tmp_path):
    said = asked(tmp_path, change=change, fresh=fresh)
    assert "video/recipe.py: changed after this process started" in said
    assert "start the process (or the notebook's kernel) again" in said and said.count("\n") == 1


def test_a_new_source_is_refused_and_others_do_not_count(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    new = "(room / 'fresh.py').write_text(''); fingerprint('cobe.video.fresh')"
    assert "video/fresh.py: changed after" in asked(
        tmp_path / "a", change=f"try:\n    {new}\nexcept MachineError as error:\n    print(error)"
    )
    assert asked(tmp_path / "b", change="") == ""


def _calls_of_job():
    for module in pkgutil.iter_modules(cobe.sweep.__path__, "cobe.sweep."):
        source = Path(module.module_finder.path, f"{module.name.rpartition('.')[2]}.py")
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Job":
                yield pytest.param(module.name, node, id=f"{module.name}:{node.lineno}")


CALLS = list(_calls_of_job())


def _names(module: str):
    return vars(importlib.import_module(module))


def _sources(code) -> set[str]:
    return {source for module in code for source in _read(module)[1]}


@pytest.mark.parametrize("module, call", CALLS)
def test_the_key_of_a_job_knows_the_code_of_its_own_writer(module, call):
    known = _names(module)
    write = known[call.args[1].id]
    (code,) = (each.value for each in call.keywords if each.arg == "code")
    code = eval(compile(ast.Expression(code), module, "eval"), known)
    assert sys.modules[write.__module__].__file__ in _sources(code)


def test_no_call_of_job_is_overlooked():
    found = {module.rpartition(".")[2] for module, _ in (each.values for each in CALLS)}
    assert found >= {"targets", "pipeline", "features", "scores", "bands", "blocks", "grid_scores"}
    assert found >= {"grid", "models", "recipes", "generality"}


def test_no_change_of_a_stage_decodes_replays_or_trains_anew():
    """What takes hours has the code in its key that makes it, and not that of the stages."""
    costly = ("cobe.sweep.decoding", "cobe.video.train", "cobe.video.vqvae_train")
    costly += ("cobe.sweep.cells", "cobe.video.tokens", "cobe.video.windows")
    sources = {Path(source).name for source in _sources(costly)}
    assert not sources & {"pipeline.py", "jobs.py", "targets.py", "models.py", "scores.py"}
