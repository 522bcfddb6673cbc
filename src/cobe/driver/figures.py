"""``./run_all.sh [figures]``: the notebooks in order, what is done already left alone."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from cobe.core.artifacts import age_text, readable_os_errors
from cobe.core.config import Profile
from cobe.core.errors import CobeError
from cobe.core.parallel import n_workers
from cobe.core.paths import build_dir, data_dir, figures_dir
from cobe.core.profiles import get_profile
from cobe.driver.plan import chosen_figures, plan
from cobe.driver.steps import Step
from cobe.report.manifest import check_manifest, read_manifest


def run(options: argparse.Namespace) -> None:
    """Run the notebooks, check the figures, say what was made and how long it took."""
    with readable_os_errors(build_dir(options.profile)):
        _run(options)


def _run(options: argparse.Namespace) -> None:
    profile = get_profile(options.profile)
    if options.data or profile.plan is None:
        check_data(profile, options.data)
    figures = chosen_figures(profile, options.only)
    steps = plan(profile, str(data_dir(options.data)) if options.data else "", figures)
    if options.dry_run:
        # it prices the cells, and so needs torch: seconds that other commands need not wait
        from cobe.driver.dry_run import describe

        print(describe(profile, steps, figures))
        return
    started_s = time.monotonic()
    rows = run_steps(steps)
    folder = figures_dir(profile.name)
    check_manifest(folder, figures, profile.name)
    _print_summary(rows, folder, figures, time.monotonic() - started_s)


def run_steps(steps: list[Step]) -> list[tuple[str, str]]:
    """Run those that are not done; name of each, and what it took in words."""
    n_workers()  # a wrong COBE_WORKERS is refused before the first one
    rows = []
    for number, step in enumerate(steps, 1):
        record, ran = step.done(), None
        if not record:
            print(f"[{number}/{len(steps)}] {step.name} ...", flush=True)
            with step.alone():
                # another process may have run it while this one waited
                record = step.done() or (ran := _run_step(step, sys.stderr.isatty()))
        if ran:
            what = f"{ran['seconds']:.0f} s, peak {ran['peak_gib']:.1f} GiB"
        else:
            what = f"nothing to do (made {age_text(record['made_s'])} ago)"
        print(f"[{number}/{len(steps)}] {step.name}: {what}", flush=True)
        rows.append((step.name, what))
    return rows


class Interrupted(KeyboardInterrupt):
    """An interrupt, and where it came."""


def _run_step(step: Step, show_progress: bool) -> dict:
    try:
        return step.run(show_progress)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted in notebook {step.name}") from None


def check_data(profile: Profile, given: str) -> None:
    """Refuse a folder of data that is not there or that the profile cannot read."""
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
