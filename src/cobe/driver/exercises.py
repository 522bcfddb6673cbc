"""``./run_all.sh exercises``: every solution, run on saved results, has to be right."""

from __future__ import annotations

import argparse
import re

import nbformat

from cobe.core.artifacts import readable_os_errors
from cobe.core.config import Profile
from cobe.core.errors import CobeError
from cobe.core.origin import TABLES
from cobe.core.paths import build_dir
from cobe.core.profiles import PROFILES, get_profile
from cobe.course.versions import FOLDER, read_versions, sources
from cobe.driver.figures import run_steps
from cobe.driver.notebooks import check_parameters, declared_parameters
from cobe.driver.steps import ROOMS, Step

_SUMMARY = re.compile(r"(\d+) of (\d+) exercises right")


def run(arguments: list[str]) -> None:
    """The command: run all solutions, and refuse any that is not right."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh exercises",
        description="Run the solution of every exercise on the results of a profile (run "
        "./run_all.sh and ./run_all.sh --only scaling with that profile first).",
    )
    parser.add_argument("--profile", default="quick", help=f"one of {', '.join(PROFILES)}")
    profile = get_profile(parser.parse_args(arguments).profile)
    with readable_os_errors(build_dir(profile.name)):
        steps = exercise_steps(profile)
        if not steps:
            raise CobeError(f"{FOLDER}: holds no exercise (ex1_name.py); get the whole repository")
        run_steps(steps)
        for step in steps:
            print(f"{step.name}: {_checked(step)} exercises right")


def exercise_steps(profile: Profile) -> list[Step]:
    """One step per exercise notebook: its solution version."""
    steps = []
    for source in sources():
        defaults = declared_parameters(solution_of(source), source.stem)
        given = {"profile": profile.name}
        check_parameters(given, defaults, source.stem)
        steps.append(
            Step(
                source,
                given,
                build_dir(profile.name) / "exercises",
                profile=profile,
                read=solution_of,
                rooms=(*ROOMS, "cobe.course"),
                reads=tuple(build_dir(profile.name) / n for n in TABLES if n.endswith(".parquet")),
            )
        )
    return steps


def solution_of(source) -> nbformat.NotebookNode:
    """The solution version of an exercise's source."""
    return read_versions(source)[1]


def _checked(step: Step) -> str:
    """How many exercises a run found right, of how many.

    Raises
    ------
    CobeError
        Not all of them, or none is counted.
    """
    last = nbformat.read(step.executed, as_version=4).cells[-1]
    said = "".join(output.get("text", "") for output in last.get("outputs", []))
    counted = _SUMMARY.search(said)
    if not counted or counted[1] != counted[2] or counted[2] == "0":
        found = counted[0] if counted else "its last cell prints no 'k of n exercises right'"
        raise CobeError(f"{step.script.name}: {found}; see {step.executed}")
    return f"{counted[1]} of {counted[2]}"
