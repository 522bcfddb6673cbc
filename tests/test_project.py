"""The house rules that a tool can check: rooms, style, lock file."""

import re
import subprocess
import sys

import pytest

from cobe.core.paths import PROJECT


def run(*command):
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_rooms_import_only_from_rooms_above():
    done = run(sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()")
    assert done.returncode == 0, done.stdout
    assert "2 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_is_content(command):
    done = run(sys.executable, "-m", "ruff", *command, ".")
    assert done.returncode == 0, done.stdout


def test_lock_file_holds_names_and_exact_versions_only():
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line) for line in lines)
    assert "torch==2.13.0" in lines


def test_modules_are_short():
    long = {
        path.name: n
        for path in (PROJECT / "src").rglob("*.py")
        if (n := len(path.read_text().splitlines())) > 400
    }
    assert not long


def test_nothing_unpickles():
    allowed = re.compile(r"allow_pickle=False")
    pattern = re.compile(
        r"import pickle|pickle\.load|allow_pickle=True|torch\.(load|save)\(|read_pickle"
    )
    for path in (PROJECT / "src").rglob("*.py"):
        text = allowed.sub("", path.read_text())
        assert not pattern.search(text), path
