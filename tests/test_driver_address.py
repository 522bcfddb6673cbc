"""The address of the repository: written everywhere at once, and what Colab does with it."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT
from cobe.course.scripts import read_script
from cobe.driver import address
from conftest import copy_project, driver

URL = "https://github.com/someone/cobe"


@pytest.fixture
def project(tmp_path):
    copy_project(tmp_path)
    (tmp_path / "README.md").write_text(
        f"# cobe\n\n{address.BEGIN}\nNot yet.\n{address.END}\n\nMore.\n"
    )
    return tmp_path


def test_the_readme_has_a_place_for_badges():
    text = (PROJECT / "README.md").read_text()
    block = text.partition(address.BEGIN)[2].partition(address.END)[0]
    assert "run_all.sh address" in block or "mybinder.org" in block


def test_it_is_in_every_file_that_names_it(project):
    changed = address.write(URL, project)
    scripts = sorted((project / "notebooks").glob("[0-9]*.py"))
    assert len(changed) == 3 + len(scripts)
    settings = tomllib.loads((project / "pyproject.toml").read_text())
    assert settings["project"]["urls"] == {"Repository": URL}
    before = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    settings["project"].pop("urls")
    before["project"].pop("urls", None)
    assert settings == before
    citation = yaml.safe_load((project / "CITATION.cff").read_text())
    assert citation["repository-code"] == URL and citation["license"] == "MIT"
    readme = (project / "README.md").read_text()
    assert readme.startswith("# cobe\n") and readme.endswith(f"{address.END}\n\nMore.\n")
    assert "Not yet." not in readme
    for script in scripts:
        assert f"/someone/cobe/blob/main/notebooks/{script.stem}.ipynb)" in readme
    assert "https://mybinder.org/v2/gh/someone/cobe/main?urlpath=lab/tree/notebooks" in readme


def test_again_changes_nothing_and_another_one_replaces_it(project):
    address.write(URL, project)
    assert address.write(URL, project) == []
    moved = "https://github.com/other/name"
    assert address.write(moved, project)
    for path in (
        project / "README.md",
        project / "pyproject.toml",
        *project.glob("notebooks/0*.py"),
    ):
        text = path.read_text()
        assert moved.removeprefix("https://github.com/") in text and "someone/cobe" not in text


def test_notebooks_gain_one_cell_before_their_parameters_and_nothing_else(project):
    scripts = sorted((PROJECT / "notebooks").glob("[0-9]*.py"))
    address.write(URL, project)
    for script in scripts:
        new = read_script(project / "notebooks" / script.name).cells
        tags = [cell.metadata.get("tags", []) for cell in new]
        (place,) = [i for i, found in enumerate(tags) if "colab" in found]
        assert tags[place + 1] == ["parameters"]
        rest = [cell.source for i, cell in enumerate(new) if i != place]
        old = [c for c in read_script(script).cells if "colab" not in c.metadata.get("tags", [])]
        assert rest == [cell.source for cell in old]


@pytest.mark.parametrize(
    "given", ["https://github.com/a/b", "https://github.com/a/b.git", "https://github.com/a/b/"]
)
def test_addresses_come_in_one_form(given):
    assert address.checked(given) == "https://github.com/a/b"


@pytest.mark.parametrize(
    "given",
    ["github.com/a/b", "https://github.com/a", "https://x.org/a/b", 'https://github.com/a/"'],
)
def test_other_addresses_are_refused(given):
    with pytest.raises(CobeError, match="no address of a repository on GitHub"):
        address.checked(given)


@pytest.mark.parametrize(
    "file, old, message",
    [
        ("README.md", address.END, "holds no block between"),
        ("CITATION.cff", "license: MIT", "holds no line `license:`"),
        ("notebooks/01_data.py", '"parameters"', "holds no cell tagged 'parameters'"),
    ],
)
def test_without_a_place_for_it_nothing_is_written(project, file, old, message):
    path = project / file
    path.write_text(path.read_text().replace(old, "gone"))
    before = {p: p.read_bytes() for p in project.glob("*.*") if p.is_file()}
    with pytest.raises(CobeError, match=message):
        address.write(URL, project)
    assert before == {p: p.read_bytes() for p in project.glob("*.*") if p.is_file()}


@pytest.mark.locked
def test_the_command_writes_and_names_the_files(project):
    done = driver("address", f"{URL}.git", folder=project / "work", project=project)
    assert done.returncode == 0, done.stderr
    assert "README.md\n" in done.stdout and "notebooks/00_tour.py\n" in done.stdout


# ------------------------------------------------------------------------------------------------
# Colab and Binder


def cell_of(project: Path) -> str:
    cells = read_script(project / "notebooks/00_tour.py").cells
    return next(c.source for c in cells if "colab" in c.metadata.get("tags", []))


def test_the_cell_makes_cobe_importable_on_colab_from_a_clone(project):
    """With a stand-in for Colab's module, from a clone by file://, also when it is run again."""
    bare = project / "published"
    shutil.copytree(project / "src", bare / "src")
    shutil.copytree(project / "binder", bare / "binder")
    shutil.copy(project / "requirements.txt", bare)
    git = ["git", "-C", str(bare), "-c", "user.name=a", "-c", "user.email=a@b", "-c"]
    for words in (["init"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, "commit.gpgsign=false", *words], check=True, capture_output=True)
    address.write(bare.as_uri(), project)
    cell = cell_of(project)
    (project / "content").mkdir()
    lines = [
        "import sys, types",
        "sys.modules['google.colab'] = types.ModuleType('google.colab')",
        *2 * [f"exec({cell!r})"],
        "import cobe.core.paths, subprocess",
        "print('cobe of', cobe.core.paths.PROJECT)",
        "code = 'import cobe.core.paths as p; print(\"child of\", p.PROJECT)'",
        "print(subprocess.check_output([sys.executable, '-c', code], text=True))",
    ]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=project / "content",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    clone = project / "content/cobe"
    assert f"cobe of {clone}\n" in done.stdout and f"child of {clone}\n" in done.stdout


def test_the_cell_does_nothing_anywhere_else(project):
    address.write(URL, project)
    (project / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", cell_of(project)],
        cwd=project / "empty",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == done.stderr == "" and not any((project / "empty").iterdir())


def test_colab_gets_what_it_lacks_and_keeps_what_it_has(monkeypatch, capsys):
    setup = runpy.run_path(str(PROJECT / "binder/colab.py"))
    has = {"torch": "2.9.0", "himalaya": None}
    pins = setup["pinned"]()
    calls = []
    space = setup["main"].__globals__
    monkeypatch.setitem(space, "found", lambda name: has.get(name, pins[name]))
    monkeypatch.setattr(subprocess, "run", lambda words, check: calls.append(words))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    setup["main"]()
    (words,) = calls
    assert words[-1] == f"himalaya=={pins['himalaya']}" and not [w for w in words if "torch" in w]
    assert "torch 2.9.0 (tested: 2.13.0)" in capsys.readouterr().out


def test_all_that_notebooks_import_is_listed_for_colab():
    apart = {"bench", "driver", "site"}  # not what a notebook imports
    modules = [p for p in (PROJECT / "src/cobe").rglob("*.py")]
    modules = [p for p in modules if p.relative_to(PROJECT / "src/cobe").parts[0] not in apart]
    names = set()
    for path in [*modules, *(PROJECT / "notebooks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    names -= {*sys.stdlib_module_names, "cobe", "google", "IPython"}
    distributions = packages_distributions()
    wanted = {distributions[name][0] for name in names}
    listed = set((PROJECT / "binder/colab.txt").read_text().split())
    assert {name.lower() for name in wanted} <= listed


def test_binder_installs_the_lock_file_and_makes_the_smoke_results():
    lines = (PROJECT / "binder/requirements.txt").read_text().splitlines()
    assert lines == [
        "--extra-index-url https://download.pytorch.org/whl/cpu",
        "-r ../requirements.txt",
    ]
    assert re.fullmatch(r"python-3\.1[1-4]\n", (PROJECT / "binder/runtime.txt").read_text())
    for name in ("postBuild", "start"):
        path = PROJECT / "binder" / name
        assert os.access(path, os.X_OK)
        subprocess.run(["bash", "-n", str(path)], check=True)
    assert "cobe.driver --profile smoke" in (PROJECT / "binder/postBuild").read_text()
