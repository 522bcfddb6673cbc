"""Student and solution versions, what is wrong with a source, and what checks say to answers."""

import copy
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from cobe.core.errors import CobeError
from cobe.course import checks
from cobe.course.scripts import read_script
from cobe.course.versions import exercises, read_versions, solution, student

HEADER = '# %% tags=["parameters"]\nprofile = "quick"\n\n# %%\nfrom cobe.course import checks\n'
QUESTION = '# %% [markdown] tags=["exercise"]\n# ## Exercise 1.{n} · Sum\n#\n# What is 1 + {n}?\n'
HINT = '# %% [markdown] tags=["hint"]\n# Count `{n}` fingers.\n'
ANSWER = '# %% tags=["answer"]\n#: total = ...  # int\n# one by one\ntotal = 1 + {n}\n'
CHECK = '# %% tags=["check"]\nchecks.equal("1.{n}", total, 1 + {n}, "so it is")\n'
DISCUSSION = '# %% [markdown] tags=["discussion"]\n# Sums are like that.\n'
PARTS = [QUESTION, HINT, HINT, ANSWER, CHECK, DISCUSSION]
END = "# %%\nchecks.summary()\n"


@pytest.fixture(autouse=True)
def fresh():
    checks.reset()
    yield
    checks.reset()


def script(tmp_path, parts=PARTS, n=1, name="ex1_sums.py", header=HEADER, end=END):
    path = tmp_path / name
    path.write_text("\n".join([header, *(part.replace("{n}", str(n)) for part in parts), end]))
    return path


def with_part(old: str, new: str) -> list[str]:
    return [new if part is old else part for part in PARTS]


def test_cells_that_prepare_a_check_are_folded_for_students_and_others_are_not(tmp_path):
    helper = "# %%\nwanted = 1 + {n}\n"
    parts = [QUESTION, helper, HINT, ANSWER, "# %% [markdown]\n# Why\n", helper, CHECK, helper]
    for_students, solved = read_versions(script(tmp_path, [*parts, DISCUSSION]))
    folded = ["jupyter" in cell.metadata for cell in for_students.cells]
    assert [cell.source for cell, here in zip(for_students.cells, folded, strict=True) if here] == [
        "wanted = 1 + 1",
        'checks.equal("1.1", total, 1 + 1, "so it is")',
    ]
    assert sum(cell.source == "wanted = 1 + 1" for cell in for_students.cells) == 3
    assert not any("jupyter" in cell.metadata for cell in solved.cells)


def test_versions_show_what_is_theirs(tmp_path):
    path = script(tmp_path)
    before = read_script(path)
    for_students, solved = read_versions(path)
    assert read_script(path) == before
    texts = [cell.source for cell in for_students.cells]
    assert texts[5] == "total = ...  # int"
    assert not any("Sums are like that" in text or "1 + 1" in text for text in texts[3:6])
    assert texts[3] == "<details><summary>Hint 1</summary>\n\nCount `1` fingers.\n\n</details>"
    assert texts[4].startswith("<details><summary>Hint 2</summary>")
    assert for_students.cells[6].metadata.jupyter.source_hidden
    assert not any("jupyter" in cell.metadata for cell in for_students.cells[:6])
    answer = solved.cells[5]
    assert answer.source == "# one by one\ntotal = 1 + 1"
    assert answer.metadata.tags == ["answer", "hide-input"]
    assert solved.cells[-2].source == "Sums are like that."
    assert len(solved.cells) == len(before.cells) == len(for_students.cells) + 1
    for version in (for_students, solved):
        nbformat.validate(version)
        assert version.cells[0].metadata.tags == ["parameters"]
        ids = [cell.id for cell in version.cells]
        assert len(set(ids)) == len(ids)


def test_versions_are_the_same_every_time_and_hold_no_output(tmp_path):
    path = script(tmp_path)
    first, second = read_versions(path), read_versions(path)
    assert first == second
    notebook = read_script(path)
    ran = copy.deepcopy(notebook)
    ran.cells[-1].outputs = [nbformat.v4.new_output("stream", text="1 of 1 exercises right")]
    ran.cells[-1].execution_count = 3
    assert student(ran) == student(notebook)
    assert solution(ran) == solution(notebook)


def test_versions_run(tmp_path, capsys):
    for version, said in zip(read_versions(script(tmp_path)), ("0 of 1", "1 of 1"), strict=True):
        checks.reset()
        names = {}
        for cell in version.cells:
            if cell.cell_type == "code":
                exec(cell.source, names)
        assert f"{said} exercises right" in capsys.readouterr().out


@pytest.mark.parametrize(
    "parts, message",
    [
        (with_part(ANSWER, ""), "exercise 1.1: has 0 cells tagged 'answer'; it needs exactly 1"),
        ([*PARTS[:4], *PARTS[3:]], "has 2 cells tagged 'answer'"),
        (with_part(HINT, ""), "has 0 cells tagged 'hint'; it needs at least 1"),
        (with_part(CHECK, ""), "has 0 cells tagged 'check'"),
        (with_part(DISCUSSION, ""), "has 0 cells tagged 'discussion'"),
        (with_part(ANSWER, ANSWER.replace("#: ", "# ")), "its answer has no stub"),
        (with_part(ANSWER, ANSWER.replace("#: ", "#:")), "'#:total = ...  # int' is no stub line"),
        (with_part(ANSWER, ANSWER + "    #: b = ...\n"), "is no stub line"),
        (with_part(ANSWER, ANSWER.replace("= ...", "= 3")), "not `name = ...`"),
        (with_part(ANSWER, ANSWER.replace("#: total = ...", "#: total :=")), "is not Python"),
        (with_part(ANSWER, ANSWER.replace("total = 1 + {n}", "total =")), "solution is not Python"),
        (with_part(ANSWER, ANSWER.replace("total = 1 + {n}", "")), "no solution, only a stub"),
        (
            with_part(ANSWER, ANSWER.replace("#: total", "#: sum_")),
            "check 1.1 reads 'total', which the stub does not name",
        ),
        (
            with_part(ANSWER, ANSWER.replace("total = 1", "sum_ = 1")),
            "check 1.1 reads 'total', which the solution does not name",
        ),
        (with_part(CHECK, CHECK.replace("1.{n}", "1.7")), "has the number '1.7'"),
        (with_part(CHECK, CHECK.replace("total", "total + 1")), "is no check; write checks."),
        (with_part(CHECK, '# %% tags=["check"]\nprint(1)\n'), "calls none of cobe.course.checks"),
        (with_part(QUESTION, QUESTION.replace("##", "#")), "is no title; write '## Exercise N.k"),
        (with_part(QUESTION, QUESTION.replace("1.{n}", "1.2")), "has the number '1.1'"),
        (PARTS + PARTS, "exercise 1.1 stands where 1.2 has to be"),
        (with_part(QUESTION, ""), "cell 2 (hint) stands before the first exercise"),
        ([], "holds no exercise"),
        (with_part(HINT, HINT.replace('"hint"', '"hints"')), "is tagged hints; give it one of"),
        (with_part(HINT, HINT.replace('"hint"', '"hint", "check"')), "is tagged hint, check"),
        (with_part(HINT, HINT.replace(" [markdown]", "")), "(hint) has to be a markdown cell"),
        ([*PARTS[:3], CHECK, ANSWER, DISCUSSION], "have to come in the order exercise, hint"),
    ],
)
def test_what_is_wrong_with_a_source_is_said(parts, message, tmp_path):
    path = script(tmp_path, parts)
    for version in (student, solution):
        with pytest.raises(CobeError, match=re.escape(message)) as caught:
            version(read_script(path), path.name)
        assert str(caught.value).startswith("ex1_sums.py: ")


def test_numbers_belong_to_the_file_and_the_end_is_a_summary(tmp_path):
    with pytest.raises(CobeError, match="ex2_sums.py: exercise 1.1: in this file .* 2.1, 2.2"):
        read_versions(script(tmp_path, name="ex2_sums.py"))
    with pytest.raises(CobeError, match="its last cell has to be `checks.summary"):
        read_versions(script(tmp_path, end="# %%\nprint(1)\n"))
    two = PARTS + [part.replace("{n}", "2") for part in PARTS]
    assert [e.number for e in exercises(read_script(script(tmp_path, two)))] == ["1.1", "1.2"]


# ------------------------------------------------------------------------------------------------
# checks


class Broken:
    def __array__(self, *_, **__):
        raise RuntimeError("no\narray")

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None


def said(capsys, check, *arguments, **options) -> str:
    check("1.1", *arguments, **options)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert checks.results()["1.1"] == out.startswith("1.1 right: ")
    assert out.startswith(("1.1 right: ", "1.1 not yet: "))
    return out.removeprefix("1.1 ").strip()


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.float32(3), torch.tensor(3), pd.NA])
def test_equal_whole_number(value, capsys):
    right = value is not pd.NA
    assert said(capsys, checks.equal, value, 3, "yes").startswith("right: yes") == right


@pytest.mark.parametrize(
    "value, words",
    [
        (..., "no answer so far"),
        (None, "no answer so far"),
        ([1, ...], "no answer so far"),
        (4, "too large"),
        (2, "too small"),
        (3.5, "too large"),
        (np.nan, "is NaN"),
        (True, "is a bool; give one number"),
        ("3", "is a str; give one number"),
        ([3], "has shape (1,); wanted is one number"),
        (np.ones((2, 2)), "has shape (2, 2)"),
        (3 + 1j, "give one number"),
        (Broken(), "is a Broken, which cannot be judged (no array)"),
        (print, "give one number"),
    ],
)
def test_wrong_answers_are_told_what_to_look_at_and_never_raise(value, words, capsys):
    for check in (checks.equal, checks.close):
        assert words in said(capsys, check, value, 3, "yes")
    assert "not yet" in said(capsys, checks.holds, value, lambda v: v == 3, "yes")
    assert "not yet" in said(capsys, checks.one_of, value, ["a", "b"], "a", "yes")


def test_close_has_a_tolerance_and_a_shape(capsys):
    wanted = np.array([1.0, 2.0, 4.0])
    assert said(capsys, checks.close, [1.0005, 2, 4], wanted, "yes").startswith("right")
    assert said(capsys, checks.close, pd.Series(wanted), wanted, "yes").startswith("right")
    found = said(capsys, checks.close, [1, 2.01, 4.1], wanted, "yes")
    assert found == "not yet: 2 of 3 entries are off; the first at index 1"
    assert "wanted is shape (3,)" in said(capsys, checks.close, 1.0, wanted, "yes")
    assert "1 entries are NaN" in said(capsys, checks.close, [1, np.nan, 4], wanted, "yes")
    assert "too large" in said(capsys, checks.close, np.inf, 1.0, "yes")
    assert said(capsys, checks.close, 0.5, 0.0, "yes", atol=0.5).startswith("right")
    assert "too large" in said(capsys, checks.close, 1.2, 1.0, "yes", rtol=0.1, atol=0.05)


def test_equal_texts_truth_sets_and_arrays(capsys):
    assert said(capsys, checks.equal, True, True, "yes").startswith("right")
    assert "other way" in said(capsys, checks.equal, np.False_, True, "yes")
    assert "wanted is True or False" in said(capsys, checks.equal, 1, True, "yes")
    assert said(capsys, checks.equal, {(1, 2)}, {(np.int64(1), 2)}, "yes").startswith("right")
    assert said(capsys, checks.equal, [2, 1], {1, 2}, "yes").startswith("right")
    assert "1 missing and 2 too many" in said(capsys, checks.equal, {1, 5, 6}, {1, 2}, "yes")
    assert "give a set" in said(capsys, checks.equal, "ab", {"a", "b"}, "yes")
    assert said(capsys, checks.equal, pd.Series(["a", "b"]), ["a", "b"], "y").startswith("right")
    assert "something else" in said(capsys, checks.equal, ["a", "c"], ["a", "b"], "yes")
    assert "wanted is a text" in said(capsys, checks.equal, 3, "three", "yes")
    assert "index 1" in said(capsys, checks.equal, [1, 3], np.array([1, 2]), "yes")
    assert "wanted is shape (2,)" in said(capsys, checks.equal, ["a"], ["a", "b"], "yes")


def test_between_one_of_and_holds(capsys):
    assert said(capsys, checks.between, 1, "yes", low=1).startswith("right")
    assert "too small" in said(capsys, checks.between, 0.99, "yes", low=1, high=2)
    assert "too large" in said(capsys, checks.between, np.array(2.1), "yes", high=2)
    assert "is NaN" in said(capsys, checks.between, np.nan, "yes", high=2)
    assert said(capsys, checks.one_of, " gpt", ["GPT", "neither"], "GPT", "y").startswith("right")
    assert "another one" in said(capsys, checks.one_of, "neither", ["GPT", "neither"], "GPT", "y")
    assert "choose one of 'GPT'" in said(capsys, checks.one_of, "it", ["GPT", "no"], "GPT", "y")
    assert said(capsys, checks.holds, 4, lambda v: v % 2 == 0, "yes").startswith("right")
    assert "does not hold" in said(capsys, checks.holds, 3, lambda v: v % 2 == 0, "yes")
    array = said(capsys, checks.holds, np.arange(3), lambda v: v > 1, "yes")
    assert "is a ndarray, which cannot be judged" in array


def test_remarks_are_for_wrong_answers_only(capsys):
    remarks = [(lambda v: v < 0, "it cannot be negative"), (60.0, "frames"), ([1, 2], "a list")]
    assert said(capsys, checks.close, -1, 1.0, "yes", remarks=remarks) == (
        "not yet: it cannot be negative"
    )
    assert said(capsys, checks.close, 60.01, 1.0, "yes", remarks=remarks) == "not yet: frames"
    assert said(capsys, checks.close, 61, 1.0, "yes", remarks=remarks) == "not yet: too large"
    assert said(capsys, checks.close, "x", 1.0, "yes", remarks=remarks).endswith("one number")
    # where the wrong answer happens to be the right one, right it is
    assert said(capsys, checks.close, 60, 60.0, "yes", remarks=remarks) == "right: yes"
    assert said(capsys, checks.between, 60, "yes", high=5, remarks=remarks) == "not yet: frames"


def test_nothing_is_told_before_it_is_right(capsys):
    for value in (..., 1.0, np.nan, "x", [1, 2]):
        assert "271828" not in said(capsys, checks.close, value, 271828.0, "it is 271828")
    assert "kestrel" not in said(capsys, checks.equal, "owl", "kestrel", "a kestrel")


@pytest.mark.parametrize(
    "check, arguments, options",
    [
        (checks.close, (1.0, np.nan, "x"), {}),
        (checks.close, (..., [1.0, np.inf], "x"), {}),
        (checks.equal, (1.0, {1.0, np.nan}, "x"), {}),
        (checks.between, (1.0, "x"), {}),
        (checks.between, (1.0, "x"), {"low": 2, "high": 1}),
        (checks.between, (1.0, "x"), {"low": np.nan, "high": 1}),
        (checks.one_of, ("a", ["b"], "a", "x"), {}),
    ],
)
def test_a_check_that_nobody_can_pass_raises(check, arguments, options):
    with pytest.raises(CobeError, match="check 1.1: "):
        check("1.1", *arguments, **options)
    assert checks.results() == {}


def test_a_check_has_the_number_of_an_exercise():
    with pytest.raises(CobeError, match="check '1': no number of an exercise"):
        checks.equal("1", 1, 1, "x")


def test_summary_counts_exercises_by_their_last_checks(capsys):
    checks.equal("1.1b", 2, 1, "x")
    checks.equal("1.1a", 1, 1, "x")
    checks.equal("1.2", 1, 1, "x")
    checks.equal("1.10", ..., 1, "x")
    capsys.readouterr()
    checks.summary()
    assert capsys.readouterr().out == "1 of 3 exercises right\nnot yet: 1.1, 1.10\n"
    checks.equal("1.1b", 1, 1, "x")
    checks.equal("1.2", 3, 1, "x")
    capsys.readouterr()
    checks.summary()
    assert capsys.readouterr().out == "1 of 3 exercises right\nnot yet: 1.2, 1.10\n"
