"""From a figure back to the key logs: every step is found, and what does not fit is said."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from cobe.core.artifacts import SIDECAR, Artifact, Store, external, file_sha256, sidecar_of
from cobe.core.errors import CobeError
from cobe.core.lineage import as_json, as_text
from cobe.core.records import read_manifest, read_record, write_record
from cobe.core.trace import main, trace
from cobe.sweep.targets import known_content


def text(content):
    return lambda path: path.write_text(content)


@pytest.fixture
def run(tmp_path):
    """Key logs in an embedded dataset and one from elsewhere; two models; a figure of one run."""
    data = Store(tmp_path / "data", announce=lambda line: None)

    def dataset(path):
        path.mkdir()
        for n in range(3):
            (path / f"play_{n}.bk2").write_text(f"keys {n}")

    embedded = data.make("embedded-smoke", params={"seed": 11}, write=dataset)
    (tmp_path / "mine.bk2").write_text("my keys")
    logs = [*sorted(embedded.path.iterdir()), tmp_path / "mine.bk2"]
    store = Store(tmp_path / "build/smoke/artifacts", announce=lambda line: None)
    frames = [
        store.make(f"frames/{n}", params={}, inputs={"bk2": external(log)}, write=text(f"f {n}"))
        for n, log in enumerate(logs)
    ]
    tokens = store.make(
        "tokens", params={}, inputs={str(n): f for n, f in enumerate(frames)}, write=text("tokens")
    )
    models = [
        store.make(f"gpt/{n}", params={"cell": {"seed": n}}, inputs={"t": tokens}, write=text("m"))
        for n in (3, 4)
    ]
    figures = tmp_path / "figures/smoke"
    figures.mkdir(parents=True)
    figure = figures / "fig1.pdf"
    figure.write_text("a figure")
    row = {"name": "fig1", "file": "fig1.pdf", "sha256": file_sha256(figure)}
    row |= {"made_by": "notebooks/05_paper_figures.ipynb", "bytes": 8, "caption": "fig1.md"}
    (figures / "manifest.json").write_text(json.dumps({"files": [row]}))
    touched = [*models, tokens, *frames, embedded]
    record = {
        "artifacts": [str(sidecar_of(item.path)) for item in touched],
        "products": {str(figure): row["sha256"]},
        "made_s": 1.8e9,
    }
    record |= {"tables": {}, "seconds": 1.0, "peak_gib": 0.1}
    write_record(tmp_path / "build/smoke/05_paper_figures.json", record)
    return figure, tmp_path / "build", models


def test_everything_down_to_the_key_logs(run):
    figure, build, models = run
    found = trace(figure, build)
    assert {node.name for node in found.roots} == {"gpt/3", "gpt/4"}
    by_name = {node.name: node for node in found.nodes}
    assert set(by_name) == {
        "gpt/3", "gpt/4", "tokens", "frames/0", "frames/1", "frames/2", "frames/3",
        "embedded-smoke", "play_0.bk2", "play_1.bk2", "play_2.bk2", "mine.bk2",
    }  # fmt: skip
    assert len(found.nodes) == 12 and not any(node.problems for node in found.nodes)
    for n, log in enumerate(["play_0.bk2", "play_1.bk2", "play_2.bk2", "mine.bk2"]):
        (source,) = by_name[f"frames/{n}"].inputs.values()
        assert source is by_name[log] and file_sha256(source.path) == source.sha256
    # a log of the embedded dataset leads on to what simulated it
    assert by_name["play_1.bk2"].inputs["lies in"] is by_name["embedded-smoke"]
    assert not by_name["mine.bk2"].inputs
    assert by_name["gpt/4"].seeds == [4] and by_name["embedded-smoke"].seeds == [11]


def test_words_and_json_say_the_same(run):
    figure, build, models = run
    found = trace(figure, build)
    words, data = as_text(found), as_json(found)
    assert "drawn by notebooks/05_paper_figures.ipynb" in words
    assert "all that was read by the notebook that drew it" in words
    assert "gpt: 2 artifacts; seeds 3, 4" in words
    assert "  from tokens: 1 artifact" in words and "*.bk2: 4 files" in words
    assert "8 artifacts, 4 other files" in words
    assert "seeds: 3, 4, 11" in words and "problems: none" in words
    commit = models[0].meta["git"]["commit"]
    assert f"commits: {(commit or 'unknown')[:12]}" in words
    assert f"numpy {models[0].meta['packages']['numpy']}" in words
    assert "play_1.bk2" not in words and "play_1.bk2" in as_text(found, full=True)
    assert len(data["artifacts"]) == 8 and len(data["outside"]) == 4
    rows = {row["id"]: row for row in data["artifacts"] + data["outside"]}
    (tokens,) = {i for root in data["roots"] for i in rows[root]["inputs"].values()}
    assert rows[tokens]["name"] == "tokens" and len(rows[tokens]["inputs"]) == 4
    assert json.loads(json.dumps(data)) == data


def test_an_artifact_and_a_moved_folder(run, tmp_path):
    figure, build, models = run
    found = trace(models[0].path)
    assert [node.name for node in found.roots] == ["gpt/3"] and len(found.nodes) == 11
    moved = tmp_path / "elsewhere"
    shutil.move(build, moved)
    assert not any(node.problems for node in trace(figure, moved).nodes)


def test_older_sidecars_say_less_and_are_followed(run):
    """Without paths: artifacts by name and key, key logs of cobe's own by name and checksum."""
    figure, build, _ = run
    for sidecar in build.rglob("*.meta.json"):
        meta = json.loads(sidecar.read_text())
        for item in meta["inputs"].values():
            del item["path"]
            item.pop("external", None)
        sidecar.write_text(json.dumps(meta))
    found = trace(figure, build)
    assert len(found.nodes) == 12
    problems = {node.name: node.problems for node in found.nodes if node.problems}
    assert problems == {"mine.bk2": ["where it lies was not recorded (an older sidecar)"]}
    assert "where it lies was not recorded" in as_text(found)


def test_what_changed_below_is_said(run, tmp_path):
    figure, build, models = run
    (tmp_path / "mine.bk2").write_text("other keys")
    assert "problems: none" in as_text(trace(figure, build))
    assert "problems: *.bk2: changed since" in as_text(trace(figure, build, check=True))
    (tmp_path / "mine.bk2").unlink()
    assert "*.bk2: is gone" in as_text(trace(figure, build))
    tokens = next((build / "smoke/artifacts").glob("tokens-????????????"))
    sidecar = sidecar_of(tokens)
    sidecar.write_text(sidecar.read_text().replace('"sha256": "', '"sha256": "00', 1))
    meta = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(meta | {"sha256": "0" * 64}))
    assert "gpt: was made from another version of t" in as_text(trace(figure, build))


@pytest.mark.parametrize(
    "algorithm, backend",
    [
        ("md5", "MD5E"),
        ("md5", "MD5"),
        ("sha1", "SHA1"),
        ("sha256", "SHA256E"),
        ("sha512", "SHA512"),
    ],
)
def test_an_annexed_input_is_compared_by_its_key(algorithm, backend, run, tmp_path):
    figure, build, models = run
    content = b"a gigabyte"
    digest, suffix = hashlib.new(algorithm, content).hexdigest(), ".nii.gz" * backend.endswith("E")
    key = f"{backend}-s{len(content)}--{digest}{suffix}"
    place = tmp_path / ".git/annex/objects" / key / key
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    (tmp_path / "bold.nii.gz").symlink_to(place)
    store = Store(tmp_path / "build/smoke/artifacts", announce=lambda line: None)
    bold = known_content(tmp_path / "bold.nii.gz")
    assert bold.sha256 == key
    made = store.make("series", params={}, inputs={"bold": bold}, write=text("s")).path
    assert "problems: none" in as_text(trace(made, build, check=True))
    for other in (b"A gigabyte", b"cut"):
        place.write_bytes(other)
        assert "problems: *.nii.gz: changed since" in as_text(trace(made, build, check=True))
        assert "problems: none" in as_text(trace(made, build))


def test_an_annexed_input_of_an_unknown_checksum_is_not_called_changed(run, tmp_path):
    _, build, _ = run
    (tmp_path / "bold.nii.gz").write_text("x")
    key = f"SHA999E-s1--{'0' * 64}.nii.gz"
    bold = Artifact("bold.nii.gz", key, tmp_path / "bold.nii.gz", key, {}, reused=True)
    store = Store(tmp_path / "build/smoke/artifacts", announce=lambda line: None)
    made = store.make("series", params={}, inputs={"bold": bold}, write=text("s")).path
    said = as_text(trace(made, build, check=True))
    assert "*.nii.gz: not checked: no SHA999 on this machine" in said


RECORD = "smoke/05_paper_figures.json"
AGAIN = "./run_all.sh --profile smoke"


def rewrite(path, **changes):
    record = read_record(path)
    write_record(path, record | changes)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda f, b: f.unlink(), "no such file"),
        (
            lambda f, b: f.write_text("touched up"),
            f"changed since it was drawn.*{AGAIN}$",
        ),
        (lambda f, b: (f.parent / "manifest.json").unlink(), r"make the figures first \(./run_all"),
        (lambda f, b: (f.parent / "manifest.json").write_text("{"), "not a manifest"),
        (
            lambda f, b: (f.parent / "manifest.json").write_text('{"files": []}'),
            f"not in manifest.json beside it; make it by {AGAIN}",
        ),
        (
            lambda f, b: (b / RECORD).unlink(),
            f"no record.*{AGAIN}$",
        ),
        (
            lambda f, b: (b / RECORD).write_text("[]"),
            "damaged record of a step",
        ),
        (
            lambda f, b: rewrite(b / RECORD, products={str(f): "0"}),
            "json is of another run",
        ),
        (
            lambda f, b: rewrite(b / RECORD, artifacts=[]),
            "names no artifact",
        ),
        (
            lambda f, b: rewrite(b / RECORD, artifacts=["/dev/zero"]),
            "/dev/zero: missing or damaged",
        ),
        (
            lambda f, b: rewrite(b / RECORD, artifacts=["x" * 5000]),
            "xxx...: the name is too long",
        ),
        (lambda f, b: shutil.rmtree(b / "smoke/artifacts"), "meta.json: missing or damaged"),
    ],
)
def test_what_cannot_be_traced_says_why(spoil, message, run, capsys):
    figure, build, _ = run
    spoil(figure, build)
    with pytest.raises(CobeError, match=message):
        trace(figure, build)
    assert main(["trace", str(figure), "--build", str(build)]) == 1
    assert capsys.readouterr().err.startswith("cobe: ")


ODD_INPUTS = [
    3,
    {"name": "x"},
    {"key": 3},
    {"name": 3},
    {"path": 3},
    {"path": "/"},
    {"path": ""},
    {"sha256": None},
]
ODD_FIELDS = [
    {"packages": ["numpy"]},
    {"git": "abc"},
    {"git": {"commit": 3}},
    {"python": []},
    {"device": {"a": 1}},
    {"params": {"seed": {"a": 1}}},
    {"params": {"seed": [[1], "x", 2]}},
]


@pytest.mark.parametrize("odd", ODD_INPUTS, ids=str)
def test_an_input_that_is_none_is_refused(odd, run):
    figure, build, models = run
    sidecar = sidecar_of(models[0].path)
    meta = json.loads(sidecar.read_text())
    given = meta["inputs"]["t"] | odd if isinstance(odd, dict) and len(odd) == 1 else odd
    if odd == {"name": "x"}:
        given = odd  # and nothing else
    sidecar.write_text(json.dumps(meta | {"inputs": {"t": given}}))
    with pytest.raises(CobeError, match="missing or damaged"):
        trace(figure, build)


@pytest.mark.parametrize("odd", ODD_FIELDS, ids=str)
def test_odd_words_about_a_machine_are_shown_as_they_are(odd, run):
    figure, build, models = run
    sidecar = sidecar_of(models[0].path)
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | odd))
    found = trace(figure, build)
    assert "gpt: 2 artifacts" in as_text(found) and json.dumps(as_json(found))


@pytest.mark.parametrize("path", ["/dev/zero", "x" * 5000, "a/b/c"])
def test_an_input_that_leads_elsewhere_ends_in_words(path, run):
    figure, build, models = run
    sidecar = sidecar_of(models[0].path)
    meta = json.loads(sidecar.read_text())
    meta["inputs"]["t"] |= {"path": path, "external": True, "name": "/etc/x"}
    sidecar.write_text(json.dumps(meta))
    try:
        found = trace(figure, build, check=True)
    except CobeError as error:
        assert "name is too long" in str(error)
    else:
        assert any("is " in problem for node in found.nodes for problem in node.problems)


def test_a_changed_artifact_is_refused(run):
    models = run[2]
    models[0].path.write_text("another model")
    with pytest.raises(CobeError, match="changed since it was made"):
        trace(models[0].path)


def test_the_command(run):
    figure, build, _ = run
    command = [sys.executable, "-m", "cobe.core.artifacts", "trace", str(figure)]
    environment = os.environ | {"COBE_BUILD": str(build)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "8 artifacts, 4 other files" in done.stdout, done.stderr
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, env=environment)
    assert len(json.loads(done.stdout)["artifacts"]) == 8


@pytest.mark.parametrize("file", ["/", ".", "figures", "figures/smoke", "mine.bk2"])
def test_what_is_neither_figure_nor_artifact(file, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["trace", file]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"cobe: {file}: ") and "give a figure" in said


@pytest.mark.notebook
def test_every_figure_table_and_kind_of_artifact_of_a_real_run(smoke):
    """From each to the key logs that the simulation wrote."""
    folder, _ = smoke
    figures, build = folder / "figures/smoke", folder / "build"
    files = [figures / row["file"] for row in read_manifest(figures)]
    assert len({path.suffix for path in files}) >= 4
    for path in files:
        found = trace(path, build)
        logs = [node for node in found.nodes if node.path and node.path.suffix == ".bk2"]
        assert logs and not any(node.problems for node in found.nodes), path
        assert all(node.inputs["lies in"].name.startswith("embedded") for node in logs)
        assert any(node.seeds for node in found.nodes)
    sidecars = sorted((build / "smoke/artifacts").rglob(f"*{SIDECAR}"))
    kinds = {json.loads(path.read_text())["name"].partition("/")[0]: path for path in sidecars}
    assert len(kinds) >= 12
    for kind, sidecar in kinds.items():
        found = trace(sidecar.with_name(sidecar.name.removesuffix(SIDECAR)), check=True)
        assert not any(node.problems for node in found.nodes), kind
        if kind == "throughput":  # seconds of a model on tokens drawn at random
            assert not found.roots[0].inputs
            continue
        # the scanner's series come from images, and the atlas from its package
        source = {"bold": ".gz", "atlas": ".gz"}.get(kind, ".bk2")
        assert any(node.path and node.path.suffix == source for node in found.nodes), kind
