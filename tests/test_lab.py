"""``./run_all.sh lab``: a real server, and a real browser, on a copy of the notebooks."""

import difflib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from browser import Watch, browser, chromium_path
from cobe.core.paths import PROJECT
from cobe.course.scripts import read_script
from cobe.driver import lab
from conftest import copy_project, driver

pytestmark = pytest.mark.locked

PLACES = ("COBE_BUILD", "COBE_FIGURES", "COBE_DATA")
TOKEN = "a-token-of-the-tests"
SCRIPT = "notebooks/02_vqvae.py"
PAIR = "notebooks/02_vqvae.ipynb"


@contextmanager
def running(project: Path, home: Path, **variables):
    """`./run_all.sh lab` on a free port of this machine; yields how to ask its API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"HOME": str(home), "JUPYTER_TOKEN": TOKEN} | variables
    environment.pop("PYTHONPATH", None)
    log = home / "lab.log"
    root = ["--allow-root"] if os.geteuid() == 0 else []
    with open(log, "w") as out:
        process = subprocess.Popen(
            ["./run_all.sh", "lab", "--no-browser", f"--ServerApp.port={port}", *root],
            cwd=project,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"

    def ask(path: str, method: str = "GET", body: dict | None = None, token: str = TOKEN):
        request = urllib.request.Request(
            f"{url}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {token}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    ask.url, ask.log = url, log
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                ask("status")
                break
            except (urllib.error.URLError, ConnectionError) as error:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, f"{error}\n{log.read_text()}"
                time.sleep(0.3)
        yield ask
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A copy of the checkout and its lab, for a user whose own `python3` kernel is broken."""
    folder = tmp_path_factory.mktemp("lab")
    project = copy_project(folder)
    own = folder / "home/.local/share/jupyter/kernels/python3"
    own.mkdir(parents=True)
    spec = {"argv": ["/none/python", "{connection_file}"], "display_name": "Another", "env": {}}
    (own / "kernel.json").write_text(json.dumps(spec | {"language": "python"}))
    made = project / "notebooks/exercises"
    made.mkdir(exist_ok=True)
    (made / "ex9_made.py").write_text('# %% tags=["answer"]\n#: x = ...\nx = 42\n')
    student = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = ...")])
    nbformat.write(student, made / "ex9_made.ipynb")
    with running(project, folder / "home", COBE_BUILD=str(folder / "build")) as ask:
        yield project, ask


def put(ask, path: str, content) -> None:
    ask(f"contents/{path}", "PUT", {"type": "notebook", "format": "json", "content": content})


def changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def code_places(content) -> list[int]:
    return [i for i, cell in enumerate(content["cells"]) if cell["cell_type"] == "code"]


def test_the_kernel_is_the_one_of_this_environment(served):
    project, ask = served
    spec = ask("kernelspecs")["kernelspecs"]["python3"]["spec"]
    assert spec["argv"][0] == str(project / ".venv/bin/python")
    assert spec["display_name"] == "Python 3"  # as in the headers of the notebooks


def test_a_token_is_asked_for_on_this_machine_only(served):
    _, ask = served
    with pytest.raises(urllib.error.HTTPError, match="403"):
        ask("contents", token="wrong")
    lines = [line for line in ask.log.read_text().splitlines() if "http://" in line]
    assert lines and all("http://127.0.0.1:" in line for line in lines)


@pytest.mark.parametrize(
    "script", sorted((PROJECT / "notebooks").glob("*.py")), ids=lambda p: p.stem
)
def test_saving_what_was_opened_leaves_the_script_as_it_is(served, script):
    project, ask = served
    copy = project / "notebooks" / script.name
    before = copy.read_text()
    path = f"notebooks/{script.stem}.ipynb"
    put(ask, path, ask(f"contents/{path}")["content"])
    assert changed_lines(before, copy.read_text()) == []


def test_a_clone_opens_whatever_its_times_are(served):
    """After a clone any file of a pair may be the newer one; the same cells are no conflict."""
    project, ask = served
    for newer, older in ((SCRIPT, PAIR), (PAIR, SCRIPT)):
        os.utime(project / newer, (2e9, 2e9))
        os.utime(project / older, (1e9, 1e9))
        assert ask(f"contents/{PAIR}")["content"]["cells"]


def test_saving_changes_the_edited_cell_only(served):
    project, ask = served
    before = (project / SCRIPT).read_text()
    content = ask(f"contents/{PAIR}")["content"]
    cell = content["cells"][code_places(content)[2]]
    # as JupyterLab saves them: times and folding of a cell, what the kernel told of itself
    cell["source"] += "\nprint('mine')"
    cell["metadata"] |= {"execution": {"iopub.status.busy": "2026-01-01"}, "collapsed": True}
    content["metadata"]["language_info"] = {"name": "python", "version": "3.11.9"}
    put(ask, PAIR, content)
    assert changed_lines(before, (project / SCRIPT).read_text()) == ["+print('mine')"]
    saved = nbformat.read(project / PAIR, as_version=4)
    assert saved.cells[code_places(content)[2]].source.endswith("print('mine')")
    (project / SCRIPT).write_text(before)


def test_an_edit_of_the_script_is_opened_with_the_outputs_of_the_other_cells(served):
    project, ask = served
    content = ask(f"contents/{PAIR}")["content"]
    places = [i for i in code_places(content) if content["cells"][i]["outputs"]]
    old = content["cells"][places[0]]["source"].splitlines()[-1]
    before = (project / SCRIPT).read_text()
    (project / SCRIPT).write_text(before.replace(old, f"{old}  # mine"))
    opened = ask(f"contents/{PAIR}")["content"]["cells"]
    assert opened[places[0]]["source"].endswith("# mine")
    for place in places[1:]:
        assert opened[place]["outputs"] == content["cells"][place]["outputs"]
    (project / SCRIPT).write_text(before)


def test_saving_an_exercise_never_reaches_its_source(served):
    project, ask = served
    for stem in sorted(path.stem for path in (project / "notebooks/exercises").glob("*.ipynb")):
        source = project / f"notebooks/exercises/{stem}.py"
        before = source.read_bytes()
        path = f"notebooks/exercises/{stem}.ipynb"
        content = ask(f"contents/{path}")["content"]
        sources = [cell["source"] for cell in content["cells"]]
        assert stem != "ex9_made" or sources == ["x = ..."]  # nor is it read from there
        content["cells"][0]["source"] = "the answer of a student"
        put(ask, path, content)
        assert source.read_bytes() == before
        assert "of a student" in (project / path).read_text()


def test_work_files_are_not_paired(served):
    project, ask = served
    (project / "build").mkdir(exist_ok=True)
    shutil.copy(project / PAIR, project / "build/copy.ipynb")
    put(ask, "build/copy.ipynb", ask("contents/build/copy.ipynb")["content"])
    assert not (project / "build/copy.py").exists()


def made_pair(folder: Path, ours: str, theirs: str) -> Path:
    script = folder / "notebooks/00_x.py"
    script.parent.mkdir()
    script.write_text(f"# %%\n{ours}\n")
    cells = [nbformat.v4.new_code_cell(theirs)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), script.with_suffix(".ipynb"))
    return script


def test_pairs_that_differ_are_named_with_what_to_do(tmp_path):
    script = made_pair(tmp_path, "a = 1", "a = 2")
    pair = script.with_suffix(".ipynb")
    os.utime(script, (2e9, 2e9))
    (line,) = lab.disagreement(script)
    assert line.startswith("notebooks/00_x: .py and .ipynb differ in 1 cells, first 'a = 1'")
    assert "JupyterLab shows the .py" in line
    os.utime(pair, (2e9 + 60, 2e9 + 60))
    said = "\n".join(lab.disagreement(script))
    assert "the .ipynb is newer: JupyterLab will not open it" in said
    assert "touch notebooks/00_x.py" in said
    assert "-m jupytext --to py:percent notebooks/00_x.ipynb" in said
    script.write_text("# %%\na = 2\n")
    assert lab.disagreement(script) == []
    pair.unlink()
    assert lab.disagreement(script) == []


def test_what_is_said_of_a_newer_notebook_is_so(served):
    """Refused by the server; the command that is named takes the notebook's cells over."""
    project, ask = served
    script = project / "notebooks/01_data.py"
    pair = script.with_suffix(".ipynb")
    notebook = nbformat.read(pair, as_version=4)
    before = script.read_text()
    place = code_places(notebook)[1]
    notebook.cells[place].source += "\nprint('elsewhere')"
    nbformat.write(notebook, pair)
    os.utime(script, (1e9, 1e9))
    with pytest.raises(urllib.error.HTTPError, match="400"):
        ask("contents/notebooks/01_data.ipynb")
    said = lab.disagreement(script)[1]
    words = said.split(": ", 1)[1].split()
    subprocess.run(words, cwd=project, check=True, capture_output=True)
    assert changed_lines(before, script.read_text()) == ["+print('elsewhere')"]
    assert ask("contents/notebooks/01_data.ipynb")["content"]["cells"]


def test_what_is_not_there_is_said_by_the_lab(tmp_path):
    done = driver("lab", "--no-browser", "--allow-root", "notebooks/none.ipynb", folder=tmp_path)
    assert done.returncode != 0 and "none.ipynb" in done.stderr


# ------------------------------------------------------------------------------------------------
# a browser


MADE = """
# %% tags=["parameters"]
points = 4

# %%
import sys

import numpy as np
import pandas as pd

from cobe.explore.allocation import allocation_slider

rows = [
    dict(response="brain score", budget_flop=b, scan_hours=h, told=True, extrapolated=False)
    | dict(n_params=b**0.5, n_params_low=b**0.4, n_params_high=b**0.6, said="made for a test")
    | dict(flat_n_low=b**0.4, flat_n_high=b**0.6, video_hours=1.0, video_hours_low=0.5)
    | dict(video_hours_high=2.0, reached=0.2, reached_low=0.1, reached_high=0.3)
    for b in np.geomspace(1e9, 1e12, points) for h in (0.1, 0.2, 0.4)
]
print("executable:", sys.executable)
allocation_slider(pd.DataFrame(rows), simulated=True)
"""


@contextmanager
def opened(ask, stem: str):
    """A notebook in JupyterLab in a browser, all of it run; yields its page and what it watched."""
    with browser() as running_browser:
        page = running_browser.new_page(viewport={"width": 1280, "height": 900})
        watch = Watch(page, (ask.url, ask.url.replace("http", "ws")))
        page.goto(f"{ask.url}/lab/tree/notebooks/{stem}.ipynb?token={TOKEN}")
        page.locator(".jp-NotebookPanel .jp-CodeCell").first.wait_for(timeout=60_000)
        page.get_by_text("Python 3 | Idle").wait_for(timeout=60_000)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        last = page.locator(".jp-CodeCell .jp-InputArea-prompt").last
        deadline = time.monotonic() + 240
        while not re.search(r"\d", last.inner_text()):
            assert time.monotonic() < deadline, page.locator(".jp-Notebook").inner_text()[-3000:]
            page.wait_for_timeout(300)
        yield page, watch


def settle_lab(home: Path) -> None:
    """Settings of a user: all cells are drawn, also those out of sight, and no news are offered."""
    settings = home / ".jupyter/lab/user-settings/@jupyterlab"
    for name, text in {
        "notebook-extension/tracker": {"windowingMode": "none"},
        "apputils-extension/notification": {"fetchNews": "false"},
    }.items():
        path = settings / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(text))


def shown(output) -> tuple[str, list[str]]:
    """Words and pictures of an output, as they are on screen."""
    pictures = [image.get_attribute("src") for image in output.locator("img").all()]
    return output.inner_text(), pictures


def moved(page, output) -> bool:
    """Whether pictures or words change when the first slider is moved by one, by keyboard."""
    handle = output.locator(".noUi-handle").first
    at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
    readout = output.locator(".widget-readout").first.inner_text()
    before = shown(output)
    handle.focus()
    page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
    for _ in range(100):
        words, pictures = shown(output)
        # the slider's own readout is no answer
        new = output.locator(".widget-readout").first.inner_text()
        if pictures != before[1] or words.replace(new, "") != before[0].replace(readout, ""):
            return True
        page.wait_for_timeout(200)
    return False


def take_pictures(page, folder: Path) -> None:
    """Screenshots at the width of a desktop and of a phone, for a person to look at."""
    page.screenshot(path=folder / "lab-desktop.png")
    page.keyboard.press("Control+b")  # the list of files would take all of a phone's width
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(1000)
    page.screenshot(path=folder / "lab-phone.png")


@pytest.mark.notebook
def test_a_slider_moved_by_keyboard_changes_what_is_shown(tmp_path):
    chromium_path()
    project = copy_project(tmp_path)
    header = (project / SCRIPT).read_text().split("# %%")[0]
    script = project / "notebooks/90_made.py"
    script.write_text(header + MADE.lstrip())
    nbformat.write(read_script(script), script.with_suffix(".ipynb"))
    settle_lab(tmp_path / "home")
    with (
        running(project, tmp_path / "home", COBE_BUILD=str(tmp_path / "build")) as ask,
        opened(ask, script.stem) as (page, watch),
    ):
        output = page.locator(".jp-OutputArea-child").last
        output.locator("img").first.wait_for(timeout=20_000)
        assert str(project / ".venv") in page.locator(".jp-OutputArea").last.inner_text()
        assert moved(page, output)
        page.keyboard.press("Control+s")
        page.get_by_text("Python 3 | Idle").wait_for()
        page.wait_for_timeout(2000)
        take_pictures(page, tmp_path)
        assert not watch.foreign + watch.errors
    # running and saving it in JupyterLab has left header and cells as they were
    assert changed_lines(header + MADE.lstrip(), script.read_text()) == []
    saved = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert saved.cells[-1].outputs


@pytest.mark.notebook
def test_every_widget_of_the_explore_notebook_answers_a_slider(smoke, tmp_path):
    chromium_path()
    folder, _ = smoke
    project = copy_project(tmp_path)
    script = project / "notebooks/09_explore.py"
    script.write_text(script.read_text().replace('profile = "quick"', 'profile = "smoke"'))
    nbformat.write(read_script(script), script.with_suffix(".ipynb"))
    settle_lab(tmp_path / "home")
    places = {name: str(folder / name.removeprefix("COBE_").lower()) for name in PLACES}
    with (
        running(project, tmp_path / "home", **places) as ask,
        opened(ask, script.stem) as (page, watch),
    ):
        outputs = [
            output
            for output in page.locator(".jp-OutputArea-child").all()
            if output.locator(".noUi-handle").count()
        ]
        assert len(outputs) >= 6
        stuck = []
        for output in outputs:
            output.scroll_into_view_if_needed()
            if not moved(page, output):
                stuck.append(output.inner_text())
        take_pictures(page, tmp_path)
        assert not stuck + watch.foreign + watch.errors
