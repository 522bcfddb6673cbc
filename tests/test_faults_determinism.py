"""The same run twice, from nothing: the same bytes, with one worker process or two."""

import json
from multiprocessing import get_context
from pathlib import Path

import pytest

import tiny_pipeline
from cobe.core.artifacts import SIDECAR


def run_alone(folder: Path, workers: int) -> Path:
    context = get_context("forkserver")
    context.set_forkserver_preload(["tiny_pipeline"])
    process = context.Process(
        target=tiny_pipeline.in_its_own_group,
        args=(folder, workers),
    )
    process.start()
    process.join(600)
    assert process.exitcode == 0, (folder / "log").read_text()[-3000:]
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs from nothing, with one worker and with two."""
    return {
        name: run_alone(tmp_path_factory.mktemp(name), workers)
        for name, workers in (("first", 1), ("again", 2))
    }


def checksums(folder: Path) -> dict[str, str]:
    sidecars = (folder / "artifacts").rglob(f"*{SIDECAR}")
    return {path.name: json.loads(path.read_text())["sha256"] for path in sidecars}


def test_twice_from_nothing_is_the_same_bytes(runs):
    """Artifacts, tables and figures; the second run in two worker processes."""
    assert checksums(runs["first"]) == checksums(runs["again"])
    files = sorted(path.name for path in (runs["first"] / "figures").glob("[!.]*"))
    assert {"fig_tiny.pdf", "fig_tiny.png", "table_tiny.csv", "manifest.json"} <= set(files)
    for name in files:
        first, again = (runs[run] / "figures" / name for run in ("first", "again"))
        assert first.read_bytes() == again.read_bytes(), name


def test_what_is_random_has_its_seed_on_record(runs):
    for sidecar in (runs["first"] / "artifacts").rglob(f"*{SIDECAR}"):
        meta = json.loads(sidecar.read_text())
        kind = meta["name"].partition("/")[0]
        if kind in ("keys", "vqvae", "gpt", "bold", "scores"):
            assert '"seed": ' in json.dumps(meta["params"]), meta["name"]
        else:
            assert kind in ("frames", "tokens", "features"), f"{kind}: is it random?"
