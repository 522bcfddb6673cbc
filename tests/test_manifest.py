"""Saved figures: the same bytes each time, whole or not there, and damage is found."""

import json
import os
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cobe.core.errors import CobeError
from cobe.core.profiles import PROFILES, get_profile
from cobe.report.manifest import (
    GROUPS,
    MANIFEST,
    build_manifest,
    check_manifest,
    figure_names,
    read_manifest,
)
from cobe.report.save import Saved, markdown, read_results, save_figure, save_table, write_results


def figure(value=1.0):
    drawn = Figure(figsize=(2, 1))
    axes = drawn.add_subplot()
    axes.plot([0, value], [0, 1], label="a")
    axes.fill_between([0, 1], [0, 1], hatch="//")
    axes.imshow(np.eye(3), extent=(0, 1, 0, 1))
    axes.set_title("r, simulated")
    return drawn


@pytest.fixture
def folder(tmp_path):
    entries = [
        save_figure(figure(), "fig1_data_size", tmp_path, "n = 2 subjects", "05_paper_figures"),
        save_table(pd.DataFrame({"a": [1.5], "b": ["x"]}), "table_timing", tmp_path, "Seconds."),
    ]
    build_manifest(tmp_path, entries)
    return tmp_path


def test_a_whole_folder_passes_and_lists_everything(folder):
    check_manifest(folder, ["fig1_data_size", "table_timing"])
    rows = {row["file"]: row for row in read_manifest(folder)}
    assert set(rows) == {
        "fig1_data_size.pdf",
        "fig1_data_size.png",
        "fig1_data_size.md",
        "table_timing.csv",
        "table_timing.md",
    }
    assert rows["fig1_data_size.pdf"]["caption"] == "fig1_data_size.md"
    assert rows["fig1_data_size.pdf"]["made_by"] == "05_paper_figures"
    assert set(os.listdir(folder)) - {".locks"} == {*rows, MANIFEST}  # no draft is left


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        save_figure(figure(), "fig", tmp_path / name, "caption")
    for suffix in ("pdf", "png", "md"):
        one, two = (tmp_path / name / f"fig.{suffix}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    save_figure(figure(2.0), "fig", tmp_path / "two", "caption")
    assert (tmp_path / "one/fig.pdf").read_bytes() != (tmp_path / "two/fig.pdf").read_bytes()
    assert b"CreationDate" not in (tmp_path / "one/fig.pdf").read_bytes()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"), "changed"),
    ],
)
@pytest.mark.parametrize("file", ["fig1_data_size.pdf", "fig1_data_size.md", "table_timing.csv"])
def test_damage_is_named(folder, file, damage, said):
    damage(folder / file)
    with pytest.raises(CobeError, match=f"{file} {said}") as error:
        check_manifest(folder, ["fig1_data_size"])
    assert "\n" not in str(error.value)


def test_all_problems_are_listed_at_once(folder):
    (folder / "fig1_data_size.png").unlink()
    (folder / "table_timing.csv").write_text("")
    with pytest.raises(CobeError) as error:
        check_manifest(folder, ["fig1_data_size", "fig2_hidden_dim"])
    for words in ("fig2_hidden_dim missing", "fig1_data_size.png missing", "timing.csv empty"):
        assert words in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", '{"files": [{"file": "x"}]}', "{", '{"files": 3}'])
def test_a_manifest_that_is_none_is_an_error(folder, text):
    (folder / MANIFEST).write_text(text)
    with pytest.raises(CobeError, match="not a manifest"):
        check_manifest(folder, [])


def test_no_manifest_is_an_error(tmp_path):
    with pytest.raises(CobeError, match="make the figures first"):
        check_manifest(tmp_path, [])


def test_other_figures_are_kept_on_request_only(folder):
    entry = save_figure(figure(2.0), "fig2_hidden_dim", folder, "n = 2")
    build_manifest(folder, [entry], keep=True)
    check_manifest(folder, ["fig1_data_size", "fig2_hidden_dim"])
    build_manifest(folder, [entry])
    assert {row["name"] for row in read_manifest(folder)} == {"fig2_hidden_dim"}


def _add(folder, numbers):
    for n in numbers:
        (folder / f"t{n}.csv").write_text(f"{n}")
        build_manifest(folder, [Saved(f"t{n}", (f"t{n}.csv",), "", "a test")], keep=True)


def test_two_notebooks_that_add_to_one_manifest_at_once_lose_nothing(tmp_path):
    context = get_context("fork")
    both = [context.Process(target=_add, args=(tmp_path, range(k, 80, 4))) for k in range(4)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert len(read_manifest(tmp_path)) == 80
    assert not list(tmp_path.glob(".making-*"))


@pytest.mark.parametrize("field", ["name", "file", "sha256", "caption", "made_by"])
@pytest.mark.parametrize("odd", [3, None, ["x"]], ids=str)
def test_rows_of_other_types_are_refused(folder, field, odd):
    path = folder / MANIFEST
    rows = json.loads(path.read_text())["files"]
    path.write_text(json.dumps({"files": [rows[0] | {field: odd}, *rows[1:]]}))
    with pytest.raises(CobeError, match="not a manifest"):
        read_manifest(folder)


def test_what_is_wrong_comes_with_the_command_of_its_notebook(folder):
    (folder / "fig_scaling_loss.pdf").write_text("x")
    made_by = "notebooks/06_compute_optimal.ipynb"
    entry = Saved("fig_scaling_loss", ("fig_scaling_loss.pdf",), "", made_by)
    build_manifest(folder, [entry], keep=True)
    (folder / "fig_scaling_loss.pdf").unlink()
    with pytest.raises(CobeError, match="run ./run_all.sh --profile smoke --only scaling again"):
        check_manifest(folder, ["fig1_data_size"], "smoke")


def test_a_file_has_one_row(tmp_path):
    (tmp_path / "x.csv").write_text("1")
    for name in "ab":
        build_manifest(tmp_path, [Saved(name, ("x.csv",), "", "a test")], keep=True)
    assert [row["name"] for row in read_manifest(tmp_path)] == ["b"]


def test_entries_are_checked(folder):
    entry = save_figure(figure(), "fig2_hidden_dim", folder, "n = 2")
    with pytest.raises(CobeError, match="fig2_hidden_dim saved twice"):
        build_manifest(folder, [entry, entry])
    (folder / "fig2_hidden_dim.png").unlink()
    before = json.loads((folder / MANIFEST).read_text())
    with pytest.raises(CobeError, match=r"fig2_hidden_dim\.png: not there"):
        build_manifest(folder, [entry])
    assert json.loads((folder / MANIFEST).read_text()) == before


def test_bad_names_and_empty_captions_are_errors(tmp_path):
    with pytest.raises(CobeError, match="not a file name"):
        save_figure(figure(), "../fig1", tmp_path, "caption")
    with pytest.raises(CobeError, match="no caption"):
        save_figure(figure(), "fig1", tmp_path, "  ")
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(CobeError, match="choose a folder"):
        save_figure(figure(), "fig1", tmp_path / "taken", "caption")


def test_a_failure_while_drawing_leaves_the_old_file(tmp_path, monkeypatch):
    save_figure(figure(), "fig", tmp_path, "caption")
    before = (tmp_path / "fig.pdf").read_bytes()
    broken = figure(3.0)

    def full(path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(broken, "savefig", full)
    with pytest.raises(CobeError, match="fig.pdf: the disk is full"):
        save_figure(broken, "fig", tmp_path, "caption")
    assert (tmp_path / "fig.pdf").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == [".locks", "fig.md", "fig.pdf", "fig.png"]


def test_the_draft_of_one_that_was_killed_is_written_over(tmp_path):
    save_figure(figure(), "fig", tmp_path, "caption")
    (tmp_path / ".making-fig.pdf").write_bytes(b"half")
    save_figure(figure(), "fig", tmp_path, "caption")
    assert sorted(os.listdir(tmp_path)) == [".locks", "fig.md", "fig.pdf", "fig.png"]


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_the_paper_s_figures(name):
    profile = get_profile(name)
    names = figure_names(profile)
    assert names[0] == "fig1_data_size"
    assert names[:7] == figure_names(profile, ["paper"])
    everything = figure_names(profile, GROUPS)
    assert len(everything) == len(set(everything)) > len(names) > 7
    fewer = replace(profile, axes=profile.axes[:1])
    assert [n for n in figure_names(fewer) if n.startswith("fig2")] == []


def test_markdown_keeps_the_digits_that_matter():
    table = pd.DataFrame({"n": [40_300_000, 5], "r": [0.12345, np.nan], "s": ["a|b", None]})
    lines = markdown(table).splitlines()
    assert lines[0] == "| n | r | s |"
    assert lines[1] == "| ---: | ---: | --- |"
    assert lines[2] == "| 40,300,000 | 0.1235 | a\\|b |"
    assert lines[3] == "| 5 |  |  |"


def test_results_come_back_and_a_flipped_bit_is_found(tmp_path):
    table = pd.DataFrame({"r": np.random.default_rng(0).normal(size=500), "cell": ["a", "b"] * 250})
    path = tmp_path / "scores.parquet"
    write_results(table, path)
    pd.testing.assert_frame_equal(read_results(path), table)
    content = path.read_bytes()
    for at in range(20, 3000, 97):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(CobeError, match="damaged"):
            read_results(path)
    with pytest.raises(CobeError, match="not there"):
        read_results(tmp_path / "none.parquet")
    with pytest.raises(CobeError, match="none: no such folder"):
        write_results(table, tmp_path / "none" / "scores.parquet")
