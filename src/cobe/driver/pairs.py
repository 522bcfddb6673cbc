"""``./run_all.sh pair``: the committed notebooks, from what was run last."""

from __future__ import annotations

import nbformat

from cobe.core.artifacts import readable_os_errors
from cobe.core.disk import write_text
from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT, figures_dir
from cobe.core.profiles import get_profile
from cobe.course.scripts import read_script
from cobe.course.versions import read_versions, solution_path, student_path
from cobe.driver.exercises import exercise_steps
from cobe.driver.notebooks import paired
from cobe.driver.plan import plan
from cobe.report.manifest import DEFAULT_GROUPS, GROUPS, figure_names


def pair() -> None:
    """Refresh the committed `.ipynb` of every notebook from the last run of the default.

    The steps of their own and the solutions of exercises are refreshed where they have been run,
    and named where not. The student versions are made from their sources.

    Raises
    ------
    CobeError
        A notebook of the default has not been run, or changed since.
    """
    profile = get_profile("quick")
    steps = {step.name: step for step in plan(profile, "", figure_names(profile))}
    of_default = set(steps)
    for group in set(GROUPS) - set(DEFAULT_GROUPS):
        extra = plan(profile, "", figure_names(profile, [group]))
        steps |= {step.name: step for step in extra if step.name not in steps}
    for name, step in sorted(steps.items()):
        if name in of_default and not step.done():
            raise CobeError(f"{step.executed}: not of the whole default; run ./run_all.sh first")
        _refresh(step, read_script(step.script), step.script.with_suffix(".ipynb"))
    for step in exercise_steps(profile):
        student, solution = read_versions(step.script)
        _write(student, student_path(step.script))
        _refresh(step, solution, solution_path(step.script))
    from cobe.report.audit.ledger import read_ledger, readme_section, write_readme_section

    book = read_ledger(figures_dir(profile.name) / "table_ledger.csv")
    write_readme_section(PROJECT / "README.md", readme_section(book))
    print("README.md: its ledger")


def _refresh(step, source, pair) -> None:
    if not step.done():
        print(f"{pair.relative_to(PROJECT)}: left as it is, not run since it or the code changed")
        return
    _write(paired(nbformat.read(step.executed, as_version=4), source, step.script.name), pair)


def _write(notebook, pair) -> None:
    with readable_os_errors(pair):
        pair.parent.mkdir(exist_ok=True)
        write_text(pair, nbformat.writes(notebook).rstrip("\n") + "\n")
    print(pair.relative_to(PROJECT))
