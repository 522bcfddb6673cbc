"""What cobe runs, opens and listens on, and what its repository and lock file hold."""

import ast
import re
import runpy
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from unittest.mock import MagicMock

import psutil
import pytest

from cobe.core.cluster import ClusterConfig, cluster_client
from cobe.core.parallel import map_processes
from cobe.core.paths import PROJECT

SOURCES = sorted((PROJECT / "src").rglob("*.py"))
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}

# Modules that run what they read, and calls that do.
FORBIDDEN_MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle"),
    *("code", "codeop", "runpy", "pty", "commands", "yaml", "telnetlib", "ftplib"),
}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "os.spawnl", "os.spawnv", "os.spawnlp", "os.spawnvp"),
    *("subprocess.getoutput", "subprocess.getstatusoutput"),
    *("torch.load", "torch.save", "torch.hub.load", "joblib.load", "joblib.dump"),
    *("pd.read_pickle", "pandas.read_pickle", "np.fromregex"),
}
RUNS = {"run", "call", "check_call", "check_output", "Popen"}
# Allowed to import by a name that they hold themselves; each must still be there.
IMPORTS_BY_NAME = {
    "explore/live.py": "ipywidgets only where it is installed",
    "bench/__main__.py": "benchmarks by a name from a fixed list",
}


def dotted(node) -> str:
    """``a.b.c`` of an expression of names; ``?.c`` for an attribute of anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            before = dotted(value)
            return f"{before or '?'}.{name}"
    return ""


def faults_of(source: str) -> list[str]:
    """What of a module may run data as code."""
    found, names = [], {}
    tree = ast.parse(source)
    for node in ast.walk(tree):  # ``from os import system as s`` is os.system
        if isinstance(node, ast.ImportFrom) and not node.level:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.asname: a.name for a in node.names if a.asname}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                found += [a.name for a in aliases if a.name.split(".")[0] in FORBIDDEN_MODULES]
            case ast.ImportFrom(module=str(module), level=0):
                found += [module] if module.split(".")[0] in FORBIDDEN_MODULES else []
            case ast.Call(func=func, args=args, keywords=keywords):
                written = dotted(func)
                head, _, rest = written.partition(".")
                name = names.get(head, head) + ("." + rest if rest else "")
                found += [name] if {name, written} & FORBIDDEN_CALLS else []
                options = {word.arg: word.value for word in keywords}
                for option, harmless in (("shell", False), ("allow_pickle", False)):
                    value = options.get(option)
                    if value is not None and getattr(value, "value", None) is not harmless:
                        found.append(f"{name}({option}=...)")
                if name.startswith("subprocess.") and name.split(".")[-1] in RUNS:
                    found += [f"{name}(text)"] if args and _is_text(args[0]) else []
                if name in ("importlib.import_module", "import_module"):
                    found.append("import_module")
    return found


def _is_text(node) -> bool:
    """A command in one text, which needs a shell."""
    return isinstance(node, (ast.JoinedStr, ast.BinOp)) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PROJECT / "src/cobe")))
def test_no_source_runs_what_it_reads(path):
    name = str(path.relative_to(PROJECT / "src/cobe"))
    allowed = ["import_module"] if name in IMPORTS_BY_NAME else []
    assert faults_of(path.read_text()) == allowed, name


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import dill as json",
        "eval('1')",
        "exec(text)",
        "import os\nos.system('ls')",
        "from os import system as s\ns('ls')",
        "import subprocess as p\np.run('ls', shell=True)",
        "from subprocess import run\nrun(f'ls {x}')",
        "import subprocess\nsubprocess.check_output(words, shell=flag)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import torch\ntorch.load(path)",
        "import torch as t\nt.load(path)",
        "import pandas as pd\npd.read_pickle(path)",
        "from importlib import import_module\nimport_module(name)",
        "__import__(name)",
    ],
)
def test_the_walk_finds(line):
    assert faults_of(line)


def test_the_walk_leaves_harmless_code_alone():
    assert not faults_of(
        "import subprocess\nsubprocess.run(['ls', x], shell=False)\n"
        "import ast\nast.literal_eval(x)\nmodel.eval()\nre.compile(x)\n"
        "np.load(path, allow_pickle=False)"
    )


# ------------------------------------------------------------------------------------------------
# what listens


def listening(process: psutil.Process) -> dict[tuple[str, int], str]:
    """Addresses that a process and its descendants listen on, and which of them does."""
    found = {}
    for one in [process, *process.children(recursive=True)]:
        try:
            for link in one.net_connections(kind="inet"):
                bound = link.status == psutil.CONN_LISTEN or (
                    link.type == socket.SOCK_DGRAM and not link.raddr
                )
                if bound:
                    found[link.laddr.ip, link.laddr.port] = " ".join(one.cmdline()[:4])
        except psutil.NoSuchProcess:
            continue
    return found


def foreign(found) -> dict:
    return {place: who for place, who in found.items() if place[0] not in LOOPBACK}


def _listening_of_parent(_):
    return listening(psutil.Process().parent())


def test_a_listener_on_every_address_is_seen():
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        assert ("0.0.0.0", server.getsockname()[1]) in foreign(listening(psutil.Process()))


def test_a_local_cluster_listens_on_this_machine_only(tmp_path):
    config = ClusterConfig(workers=2, memory="512MB", directory=str(tmp_path))
    before = listening(psutil.Process())
    with cluster_client(config) as client:
        assert client.submit(sum, [1, 2]).result() == 3
        found = listening(psutil.Process())
        assert len(found.keys() - before.keys()) >= 3  # a scheduler and two workers
        assert not foreign(found)
        assert all("://127.0.0.1:" in address for address in client.scheduler_info()["workers"])


def test_worker_processes_listen_on_nothing():
    before = listening(psutil.Process()).keys()
    for found in map_processes(_listening_of_parent, [(1,), (2,)], workers=2):
        assert found.keys() <= before


@pytest.mark.locked
def test_the_lab_and_its_kernel_listen_on_this_machine_and_ask_for_the_token(tmp_path):
    from conftest import copy_project
    from test_lab import running

    project = copy_project(tmp_path)
    (tmp_path / "home").mkdir()
    with running(project, tmp_path / "home", COBE_BUILD=str(tmp_path / "build")) as ask:
        ask("kernels", "POST", {"name": "python3"})
        port = int(ask.url.rsplit(":", 1)[1])
        (server,) = (
            one
            for one in psutil.Process().children(recursive=True)
            if port in {place for _, place in listening(one)} and psutil.Process().pid == one.ppid()
        )
        deadline = time.monotonic() + 60
        while len(found := listening(server)) < 6:  # a kernel has five sockets
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        assert not foreign(found)
        for path, statuses in {
            "api/contents": {403},
            "lab": {302, 403},
            "tree": {302, 403, 404},
        }.items():
            assert status_of(f"{ask.url}/{path}") in statuses, path
        assert status_of(f"{ask.url}/api/contents?token=wrong") == 403


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def status_of(url: str) -> int:
    try:
        with urllib.request.build_opener(_Stay).open(url, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


# ------------------------------------------------------------------------------------------------
# what the repository holds

SECRETS = {
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----",
    "AWS key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\b(gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}\b",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "PyPI token": r"\bpypi-[A-Za-z0-9_-]{50,}",
    "Google key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "web token": r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{10,}",
    "password in an address": r"://[^\s/:@\"'{}<>]{1,60}:[^\s/:@\"'{}<>]{1,60}@[\w.-]",
    "password": r"(?i)\b(password|passwd|secret|api_?key|access_?token)\b"
    r"\s*[:=]\s*[\"'][^\"'{}<>\s]{8,}[\"']",
    "path of a home": r"(/home/[a-z_][a-z0-9_-]*/|/Users/[A-Za-z][\w.-]*/|/root/)",
}
# Made up by tests of what cobe does with such things.
EXAMPLES = {
    "tests/test_driver_origin.py": ["path of a home"],
    "tests/test_fetch.py": ["password in an address", "password"],
}
# This file writes patterns down; nothing else is left out.
THIS = "tests/test_security.py"


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no git checkout: which files are tracked is not known")
    return [name for name in done.stdout.decode().split("\0") if name]


def _is_scanned(name: str) -> bool:
    # pixels and packed streams have no words
    packed = (".png", ".gif", ".pdf", ".gz", ".safetensors", ".parquet")
    return (PROJECT / name).is_file() and not name.endswith(packed)


def secrets_in(text: str) -> list[str]:
    return [name for name, pattern in SECRETS.items() if re.search(pattern, text)]


def test_no_tracked_file_holds_a_secret():
    names = [name for name in tracked() if name != THIS and _is_scanned(name)]
    assert len(names) > 100
    found = {
        name: kinds
        for name in names
        if (kinds := secrets_in((PROJECT / name).read_bytes().decode("latin-1")))
    }
    assert found == EXAMPLES


def test_no_tracked_name_is_one_of_a_secret():
    wrong = re.compile(r"(^|/)(\.env|\.netrc|\.pypirc|id_rsa|id_ed25519|.*\.(pem|p12|pfx|kdbx))$")
    assert not [name for name in tracked() if wrong.search(name)]


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("private key", ("-----BEGIN OPENSSH PRIV", "ATE KEY-----")),
        ("AWS key", ("AKIA", "IOSFODNN7EXAMPLE")),
        ("GitHub token", ("ghp_", "a1B2" * 9)),
        ("Hugging Face token", ("hf_", "aB3" * 12)),
        ("password in an address", ("https://me:", "hunter22@example.org/x")),
        ("password", ("api_key = '", "0123456789abcdef'")),
        ("path of a home", ("/ho", "me/someone/data")),
    ],
)
def test_the_scan_finds(kind, parts):
    assert kind in secrets_in("x = 1\n" + "".join(parts) + "\n")


def locked() -> dict[str, str]:
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines)


@pytest.mark.locked
def test_every_installed_version_is_the_locked_one():
    """So what was tested is what `requirements.txt` installs."""
    wrong = {}
    for name, wanted in locked().items():
        try:
            found = version(name).split("+")[0]  # torch tells its build
        except PackageNotFoundError:
            found = "not installed"
        if found != wanted:
            wrong[name] = f"{found}, not {wanted}"
    assert not wrong


def test_the_matrix_of_versions_knows_the_lock_file(monkeypatch):
    """Its session of newest versions holds torch at the lock's, and leaves out what needs that."""
    nox = SimpleNamespace(
        session=lambda **_: lambda function: function, options=SimpleNamespace(), Session=None
    )
    monkeypatch.setitem(sys.modules, "nox", nox)
    matrix = runpy.run_path(str(PROJECT / "noxfile.py"))
    assert matrix["TORCH"] == f"torch=={locked()['torch']}"
    assert set(matrix["MAIN"]) <= locked().keys()
    assert {"3.11", "3.12", "3.13"} <= set(matrix["PYTHONS"])
    for name, left_out in (("locked", False), ("newest", True)):
        session = MagicMock(posargs=[])
        matrix[name](session)
        installed = {word for call in session.install.call_args_list for word in call.args}
        assert {"requirements.txt", "-e"} <= installed
        assert ("numpy" in installed and matrix["TORCH"] in installed) == left_out
        ran = session.run.call_args_list[-1].args
        assert ran[:4] == ("python", "-m", "pytest", "-m")
        assert ran[4] == "not notebook" + " and not locked" * left_out


def test_every_package_is_locked_once():
    names = [
        re.sub(r"[-_.]+", "-", line.split("==")[0]).lower()
        for line in (PROJECT / "requirements.txt").read_text().splitlines()
    ]
    assert len(names) == len(set(names))
