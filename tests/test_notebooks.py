"""The notebooks: literal parameters, checked; pairs equal; every one run, by the real driver."""

import hashlib
import json
import os
import re
import subprocess
import time
from pathlib import Path

import nbformat
import pytest

from brain_tree import Play, RunPlan, write_tree
from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT
from cobe.core.profiles import PROFILES, get_profile
from cobe.course.scripts import read_script
from cobe.course.versions import sources
from cobe.driver import notebooks
from cobe.driver.__main__ import COMMANDS
from cobe.driver.notebooks import check_parameters, declared_parameters, is_pair
from cobe.driver.plan import DRAWN_BY, chosen_figures, plan
from cobe.driver.steps import Step
from cobe.report.manifest import build_manifest, figure_names
from cobe.report.save import Saved
from conftest import driver

SCRIPTS = notebooks.scripts()
NAMES = [script.stem for script in SCRIPTS]
OWN_STEPS = {group: DRAWN_BY[group] for group in ("scaling", "throughput")}
OF_DEFAULT = [name for name in NAMES if name not in OWN_STEPS.values()]


def test_there_are_the_notebooks():
    assert NAMES == [
        "00_tour",
        "01_data",
        "02_vqvae",
        "03_gpt_training",
        "04_encoding",
        "05_paper_figures",
        "06_compute_optimal",
        "07_audit",
        "08_throughput",
        "09_explore",
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_parameters_are_literals_and_run_the_default(script):
    defaults = declared_parameters(read_script(script), script.stem)
    assert defaults
    assert defaults.get("profile", "quick") == "quick"


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_committed_pair_equals_its_script_and_is_small(script):
    pair = script.with_suffix(".ipynb")
    assert is_pair(script), f"{pair.name}: differs from its .py; ./run_all.sh && ./run_all.sh pair"
    assert pair.stat().st_size < 500_000
    text = pair.read_text()
    for trace in (str(PROJECT), "papermill", os.path.expanduser("~") + "/", "PosixPath("):
        assert trace not in text
    executed = nbformat.read(pair, as_version=4)
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert any(cell.outputs for cell in code)
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_cells_are_short_and_prose_is_there(script):
    cells = read_script(script).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    lines = [len(source.splitlines()) for source in code]
    assert max(lines) <= 25
    words = sum(len(c.source.split()) for c in cells if c.cell_type == "markdown")
    code_lines = sum(bool(line.strip()) for source in code for line in source.splitlines())
    assert words / code_lines >= 3
    opening = cells[0].source
    for word in ("**Question.**", "**Reads**", "**Writes**", "**Time**", "**Hardware**"):
        assert word in opening


@pytest.mark.parametrize(
    "given, message",
    [
        ({"profil": "smoke"}, "has no parameter 'profil'"),
        ({"profile": 1}, "takes str, not int"),
        ({"axes": "data_size"}, "takes list, not str"),
        ({"flag": 1}, "takes bool, not int"),
    ],
)
def test_wrong_parameters_are_fatal(given, message):
    defaults = {"profile": "quick", "axes": ["data_size"], "flag": True}
    with pytest.raises(CobeError, match=message):
        check_parameters(given, defaults, "03_gpt_training")
    check_parameters({"profile": "smoke", "axes": [], "flag": False}, defaults, "x")


@pytest.mark.parametrize(
    "cells, message",
    [
        ([], "0 cells tagged"),
        (["a = 1", "b = 2"], "2 cells tagged"),
        (["a = 1\nb = a * 2"], "not `name = literal`"),
        (["print(1)"], "not `name = literal`"),
    ],
)
def test_bad_parameters_cell_is_fatal(cells, message):
    notebook = nbformat.v4.new_notebook()
    for source in cells:
        notebook.cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]}))
    with pytest.raises(CobeError, match=re.escape(message)):
        declared_parameters(notebook, "nb")


def test_pieces_of_one_stream_are_joined(tmp_path):
    script = tmp_path / "00_x.py"
    script.write_text("# %%\nprint(1)\nprint(2)\n")
    ran = read_script(script)
    pieces = [("stdout", "1\n"), ("stderr", "a bar"), ("stdout", "2\n")]
    ran.cells[0].outputs = [
        nbformat.v4.new_output("stream", name=name, text=text) for name, text in pieces
    ]
    made = notebooks.paired(ran, read_script(script), "00_x.py")
    assert [output.text for output in made.cells[0].outputs] == ["1\n2\n"]


def test_pair_refuses_a_copy_of_an_older_script(tmp_path):
    script = tmp_path / "00_x.py"
    script.write_text("# %%\nprint(1)\n")
    old = read_script(script)
    script.write_text("# %%\nprint(2)\n")
    with pytest.raises(CobeError, match="changed since it was executed"):
        notebooks.paired(old, read_script(script), script.name)


# ------------------------------------------------------------------------------------------------
# the real driver, in a folder of its own


@pytest.mark.notebook
def test_smoke_runs_every_notebook_and_makes_every_figure(smoke):
    folder, done = smoke
    for name in OF_DEFAULT:
        executed = nbformat.read(folder / f"build/smoke/{name}.ipynb", as_version=4)
        assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code"), (
            name
        )
        assert name in done.stdout
    figures = {path.stem for path in (folder / "figures/smoke").glob("*.pdf")}
    # tests that ran before may have added those of the steps of their own
    others = set(figure_names(get_profile("smoke"), OWN_STEPS))
    assert set(figure_names(get_profile("smoke"))) == figures - others
    for pdf in (folder / "figures/smoke").glob("*.pdf"):
        assert pdf.stat().st_size > 5000
        assert pdf.with_suffix(".png").stat().st_size > 5000
        assert "simulated" in pdf.with_suffix(".md").read_text().lower()


@pytest.mark.notebook
def test_second_run_does_no_work(smoke):
    folder, _ = smoke
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    started = time.monotonic()
    done = driver("--profile", "smoke", folder=folder)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60
    assert done.stdout.count(": nothing to do") == len(OF_DEFAULT)
    after = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    assert before == after


@pytest.mark.notebook
def test_a_damaged_figure_is_noticed_and_made_again(smoke):
    folder, _ = smoke
    victim = next((folder / "figures/smoke").glob("fig1*.png"))
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    done = driver("--profile", "smoke", folder=folder)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.count("] 05") == 2
        and done.stdout.count(": nothing to do") == len(OF_DEFAULT) - 1
    )
    assert victim.read_bytes() == whole


@pytest.mark.notebook
@pytest.mark.parametrize("group", OWN_STEPS)
def test_steps_of_their_own_run_on_what_the_default_made(smoke, request, group):
    folder, _ = smoke
    if group == "scaling":
        _, done = request.getfixturevalue("smoke_and_grid")
    else:
        done = driver("--profile", "smoke", "--only", group, folder=folder)
    assert done.returncode == 0, done.stderr[-5000:]
    assert f"{OWN_STEPS[group]} ..." in done.stdout
    for name in figure_names(get_profile("smoke"), [group]):
        assert (folder / f"figures/smoke/{name}.png").stat().st_size > 5000
        words = (folder / f"figures/smoke/{name}.md").read_text()
        assert "simulated" in words.lower() or group == "throughput"


@pytest.mark.notebook
def test_every_solution_is_right_on_what_the_default_made(smoke_and_grid):
    folder, _ = smoke_and_grid
    done = driver("exercises", "--profile", "smoke", folder=folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
    for source in sources():
        assert re.search(rf"^{source.stem}: (\d+) of \1 exercises right$", done.stdout, re.M)


@pytest.mark.notebook
def test_notebooks_in_order_make_nothing_out_of_order(smoke):
    _, done = smoke
    assert "not there yet" not in done.stderr


@pytest.mark.notebook
def test_failing_notebook_stops_the_run_with_its_name_and_copy(tmp_path):
    from cobe.driver.steps import Step

    script = tmp_path / "01_broken.py"
    script.write_text('# %% tags=["parameters"]\nx = 1\n# %%\nraise ValueError("no luck")\n')
    with pytest.raises(CobeError) as caught:
        Step(script, {}, tmp_path / "build").run(show_progress=False)
    message = str(caught.value)
    assert "01_broken" in message and "ValueError: no luck" in message
    copy = Path(message.rsplit("executed copy: ", 1)[1])
    assert "no luck" in copy.read_text()
    assert Step(script, {}, tmp_path / "build").done() is None


@pytest.mark.notebook
def test_killed_kernel_is_said(tmp_path):
    from cobe.driver.steps import Step

    script = tmp_path / "01_dies.py"
    script.write_text('# %% tags=["parameters"]\nx = 1\n# %%\nimport os\nos.kill(os.getpid(), 9)\n')
    with pytest.raises(CobeError, match="01_dies stopped"):
        Step(script, {}, tmp_path / "build").run(show_progress=False)


# ------------------------------------------------------------------------------------------------
# bad input on the command line: one line that says what to do, before any work


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--profile", "huge"], "profile 'huge': unknown; choose one of smoke, quick, paper"),
        (["--only", "fig9"], "--only 'fig9': no such figure; choose from paper, audit"),
        (["--profile", "paper", "--data", "{tmp}/none"], "none: no such folder"),
        (["--profile", "paper", "--data", "{tmp}"], "{tmp}"),
        (["--data", "{tmp}/file"], "is a file"),
        (["--data", "{tmp}/missing"], "no such folder"),
        (["figure"], "'figure': no such command; choose from figures, test, lab, exercises"),
        (["exercises", "--profile", "huge"], "profile 'huge': unknown"),
        (["address", "somewhere"], "somewhere: no address of a repository"),
    ],
)
@pytest.mark.locked
def test_bad_command_lines(arguments, message, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = [a.format(tmp=tmp_path) for a in arguments]
    done = driver(*arguments, folder=tmp_path / "work")
    assert done.returncode == 1, done.stdout
    assert message.format(tmp=tmp_path) in done.stderr
    assert done.stderr.startswith("cobe: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "work/build").exists()


@pytest.mark.parametrize("command", ["figures", "exercises", "site", "pair", "address"])
@pytest.mark.locked
def test_unknown_option_is_refused(command, tmp_path):
    done = driver(command, "--bogus", folder=tmp_path)
    assert done.returncode == 2 and f"usage: ./run_all.sh {command}"[:20] in done.stderr


def test_help_needs_no_environment(tmp_path):
    done = subprocess.run(
        ["bash", str(PROJECT / "run_all.sh"), "--help"],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
        check=True,
    )
    for word in ("--profile", "--only", "--dry-run", "--data", *COMMANDS):
        assert word in done.stdout


@pytest.mark.parametrize("profile", list(PROFILES))
@pytest.mark.locked
def test_dry_run_says_and_does_nothing(profile, tmp_path):
    given = ["--profile", profile, "--dry-run"]
    if profile == "paper":
        write_tree(tmp_path / "real", [RunPlan("sub-01", "ses-002", 1, (Play("1-0"),))])
        given += ["--data", str(tmp_path / "real")]
    done = driver(*given, folder=tmp_path / "work")
    assert done.returncode == 0, done.stderr
    for name in OF_DEFAULT:
        assert name in done.stdout
    assert "cells:" in done.stdout
    if profile == "paper":
        assert "GiB" in done.stdout and "GPU" in done.stdout
    assert not (tmp_path / "work/build").exists()


@pytest.mark.locked
def test_dry_run_prices_the_joint_grid(tmp_path):
    done = driver("--only", "scaling", "--dry-run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "06_compute_optimal" in done.stdout and "joint grid: " in done.stdout
    for kind in ("grid", "anchor", "isoflop", "untrained"):
        assert re.search(rf"^  {kind} .* models, .* FLOP, .* minutes", done.stdout, re.M)


@pytest.mark.locked
def test_no_python_is_said(tmp_path):
    """A machine with bash and the usual tools, but no python 3.11 or newer."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "cat", "mkdir", "tail", "grep", "head"):
        found = subprocess.run(["which", name], capture_output=True, text=True, check=True)
        (tools / name).symlink_to(found.stdout.strip())
    project = _copy_of_driver(tmp_path)
    done = subprocess.run(
        ["bash", "run_all.sh"],
        cwd=project,
        capture_output=True,
        text=True,
        env={"PATH": str(tools)},
    )
    assert done.returncode == 1
    assert "python 3.11 to 3.14: not found; install one" in done.stderr


@pytest.mark.locked
def test_no_network_at_install_is_said(tmp_path):
    project = _copy_of_driver(tmp_path)
    (project / "requirements.txt").write_text("numpy==2.4.6\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "0",
    }
    done = subprocess.run(
        ["bash", "run_all.sh"], cwd=project, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1
    assert "no network" in done.stderr
    log = json.dumps((project / "build/install.log").read_text())
    assert "127.0.0.1" in log


def _copy_of_driver(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    (project / "src/cobe/core").mkdir(parents=True)
    for name in ("run_all.sh", "requirements.txt", "src/cobe/core/environment.py"):
        (project / name).write_bytes((PROJECT / name).read_bytes())
    return project


def test_the_throughput_figure_needs_its_own_notebooks_only():
    profile = get_profile("smoke")
    names = [step.name for step in plan(profile, "", ["fig_throughput"])]
    assert names == ["01_data", "02_vqvae", "08_throughput"]
    names = [step.name for step in plan(profile, "", figure_names(profile, ["scaling"]))]
    assert names == ["01_data", "02_vqvae", "06_compute_optimal"]
    assert [s.name for s in plan(profile, "", figure_names(profile))] == OF_DEFAULT
    assert chosen_figures(profile, "audit,fig1") == [
        *figure_names(profile, ["audit"]),
        "fig1_data_size",
    ]
    names = [step.name for step in plan(profile, "", ["fig1_data_size"])]
    assert names == ["01_data", "02_vqvae", "03_gpt_training", "04_encoding", "05_paper_figures"]
    (drawn,) = [s.parameters["figures"] for s in plan(profile, "", ["fig1_data_size"])[-1:]]
    assert drawn == ["fig1_data_size"]


def test_a_step_is_done_only_if_the_manifest_names_its_figures(tmp_path):
    step = Step(SCRIPTS[0], {}, tmp_path, products=tmp_path)
    products = {str(tmp_path / "fig.png"): hashlib.sha256(b"png").hexdigest()}
    assert not step._listed(products)  # no manifest
    (tmp_path / "fig.png").write_bytes(b"png")
    (tmp_path / "fig.md").write_text("a caption")
    build_manifest(tmp_path, [Saved("fig", ("fig.png",), "fig.md", "a notebook")])
    assert step._listed(products)
    assert not step._listed(dict.fromkeys(products, "0" * 64))  # of another figure
    build_manifest(tmp_path, [])
    assert not step._listed(products)
    (tmp_path / "manifest.json").write_text("{")
    assert not step._listed(products)
    # a damaged manifest keeps nothing, and stops no one from writing a new one
    build_manifest(tmp_path, [Saved("fig", ("fig.png",), "fig.md", "a notebook")], keep=True)
    assert step._listed(products)
