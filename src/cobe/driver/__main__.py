"""``python -m cobe.driver``: what run_all.sh calls once the environment is there."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat

from cobe.core.artifacts import age_text, readable_os_errors
from cobe.core.config import Profile
from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT, build_dir, data_dir, figures_dir
from cobe.core.profiles import PROFILES, get_profile
from cobe.driver.notebooks import check_parameters, declared_parameters, paired, read_script
from cobe.driver.notebooks import scripts as notebook_scripts
from cobe.driver.steps import Step
from cobe.report.manifest import (
    DEFAULT_GROUPS,
    GROUPS,
    check_manifest,
    figure_names,
    read_manifest,
)

# the notebook that draws each group of figures, and what has to run before it
DRAWN_BY = {
    "paper": "05_paper_figures",
    "scaling": "06_compute_optimal",
    "audit": "07_audit",
    "throughput": "08_throughput",
}
BEFORE_ALL = ("01_data", "02_vqvae")
BEFORE_PAPER = ("03_gpt_training", "04_encoding")
# only with the whole default
ALONE = "00_tour"


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line of run_all.sh."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh",
        description="Run every notebook in order and regenerate every figure.",
        epilog="./run_all.sh test runs the tests; ./run_all.sh lab opens JupyterLab; "
        "./run_all.sh fetch gets real data.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        default="figures",
        choices=["figures", "test", "lab", "pair"],
        help="figures (the default): run the notebooks; test: the test suite; lab: JupyterLab; "
        "pair: refresh the committed notebooks from the last run of the default",
    )
    parser.add_argument("--profile", default="quick", help=f"one of {', '.join(PROFILES)}")
    parser.add_argument("--data", default="", metavar="DIR", help="folder of the data")
    parser.add_argument(
        "--only",
        default="",
        metavar="FIG,...",
        help="only these figures, such as fig1,fig6, or a group of them: " + ", ".join(GROUPS),
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and do nothing"
    )
    return parser.parse_args(arguments)


def chosen_figures(profile: Profile, only: str) -> list[str]:
    """Names of the figures to make: those of the default, or what is asked for.

    Parameters
    ----------
    profile : Profile
        Whose axes.
    only : str
        Names of groups, or of figures or how these begin, with commas between.

    Raises
    ------
    CobeError
        A word fits no figure.
    """
    if not only:
        return figure_names(profile)
    names = figure_names(profile, GROUPS)
    chosen = []
    for word in only.split(","):
        hits = [n for n in names if n == word or n.startswith(f"{word}_")]
        if word in GROUPS:
            hits = figure_names(profile, [word])
        if not hits:
            raise CobeError(
                f"--only {word!r}: no such figure; choose from {', '.join((*GROUPS, *names))}"
            )
        chosen += hits
    return list(dict.fromkeys(chosen))


def plan(profile: Profile, data: str, figures: list[str]) -> list[Step]:
    """The steps of a run, with every parameter checked before the first one starts."""
    everything = figures == figure_names(profile)
    asked = {group: [n for n in figures if n in GROUPS[group]] for group in GROUPS}
    drawing = {DRAWN_BY[group]: names for group, names in asked.items() if names}
    wanted_stems = {*BEFORE_ALL, *drawing}
    wanted_stems |= {*BEFORE_PAPER} if asked["paper"] else set()
    wanted_stems |= {ALONE} if everything else set()
    axes = [
        axis.name
        for axis in profile.axes
        if everything or any(axis.name in name for name in asked["paper"])
    ]
    steps = []
    for script in notebook_scripts():
        if script.stem not in wanted_stems:
            continue
        wanted = {"profile": profile.name, "data": data, "axes": axes}
        wanted["figures"] = drawing.get(script.stem, [])
        defaults = declared_parameters(read_script(script), script.stem)
        given = {key: value for key, value in wanted.items() if key in defaults}
        check_parameters(given, defaults, script.stem)
        products = figures_dir(profile.name) if script.stem in drawing else None
        steps.append(Step(script, given, build_dir(profile.name), products, profile))
    return steps


def run_figures(options: argparse.Namespace) -> None:
    """Run the notebooks, check the figures, say what was made and how long it took."""
    profile = get_profile(options.profile)
    if options.data or profile.plan is None:
        _check_data(profile, options.data)
    figures = chosen_figures(profile, options.only)
    steps = plan(profile, str(data_dir(options.data)) if options.data else "", figures)
    if options.dry_run:
        # it prices the cells, and so needs torch: seconds that other commands need not wait
        from cobe.driver.dry_run import describe

        print(describe(profile, steps, figures))
        return
    started_s = time.time()
    rows = []
    show_progress = sys.stderr.isatty()
    for number, step in enumerate(steps, 1):
        record = step.done()
        if record:
            what = f"nothing to do (made {age_text(record['made_s'])} ago)"
        else:
            print(f"[{number}/{len(steps)}] {step.name} ...", flush=True)
            record = _run_step(step, show_progress)
            what = f"{record['seconds']:.0f} s, peak {record['peak_gib']:.1f} GiB"
        print(f"[{number}/{len(steps)}] {step.name}: {what}", flush=True)
        rows.append((step.name, what))
    folder = figures_dir(profile.name)
    check_manifest(folder, figures)
    _print_summary(rows, folder, figures, time.time() - started_s)


class Interrupted(KeyboardInterrupt):
    """An interrupt, and where it came."""


def _run_step(step: Step, show_progress: bool) -> dict:
    try:
        return step.run(show_progress)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted in notebook {step.name}") from None


def _check_data(profile: Profile, given: str) -> None:
    folder = data_dir(given)
    if profile.plan is None and not folder.is_dir():
        raise CobeError(
            f"{folder}: no such folder; profile {profile.name!r} reads the CNeuroMod shinobi "
            "dataset: give its folder with --data DIR or $COBE_DATA"
        )
    if given and not folder.is_dir():
        raise CobeError(f"{folder}: no such folder; make it first, or leave --data out")
    if profile.plan is None:
        from cobe.brain.dataset import read_dataset

        read_dataset(folder)


def _print_summary(rows, folder: Path, figures: list[str], seconds: float) -> None:
    width = max(len(name) for name, _ in rows)
    print("\nsteps")
    for name, what in rows:
        print(f"  {name:<{width}}  {what}")
    made = read_manifest(folder)
    print(f"\nfigures and tables in {folder}")
    for entry in made:
        print(f"  {entry['file']}")
    print(f"\n{len(figures)} figures, checked against the manifest; {seconds:.0f} s in all")


def pair() -> None:
    """Refresh the committed `.ipynb` of every notebook from the last run of the default.

    The steps of their own are refreshed where they have been run, and named where not.

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
        if not step.done():
            if name in of_default:
                raise CobeError(
                    f"{step.executed}: not of the whole default; run ./run_all.sh first"
                )
            print(f"{name}: left as it is, not run since it or the code changed")
            continue
        script = step.script
        notebook = paired(nbformat.read(step.executed, as_version=4), script)
        nbformat.write(notebook, script.with_suffix(".ipynb"))
        print(script.with_suffix(".ipynb").relative_to(PROJECT))
    from cobe.report.audit.ledger import read_ledger, readme_section, write_readme_section

    book = read_ledger(figures_dir(profile.name) / "table_ledger.csv")
    write_readme_section(PROJECT / "README.md", readme_section(book))
    print("README.md: its ledger")


def main(arguments: list[str]) -> int:
    """Run a command; errors are one line on stderr.

    Returns
    -------
    code : int
        Exit status: 0, 1 for an error, 130 after an interrupt.
    """
    if arguments[:1] == ["test"]:
        return subprocess.call([sys.executable, "-m", "pytest", *arguments[1:]], cwd=PROJECT)
    if arguments[:1] == ["fetch"]:
        from cobe.driver.fetch import main as fetch

        return fetch(arguments[1:])
    if arguments[:1] == ["lab"]:
        os.chdir(PROJECT)
        os.execv(
            sys.executable,
            [sys.executable, "-m", "jupyterlab", "notebooks/00_tour.ipynb", *arguments[1:]],
        )
    options = parse(arguments)
    # a shell starts background jobs with interrupts ignored, and Python would leave it at that
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        if options.command == "pair":
            pair()
        else:
            with readable_os_errors(build_dir(options.profile)):
                run_figures(options)
    except CobeError as error:
        print(f"cobe: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        where = str(interrupt) or "interrupted"
        print(
            f"cobe: {where}: what was finished is kept; run the same command to go on",
            file=sys.stderr,
            flush=True,
        )
        # the notebook client's exit hooks would wait for a kernel that has been ended
        os._exit(130)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
