"""``./run_all.sh fetch``: the real data by DataLad, sizes first, resumable."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
import threading
from pathlib import Path

from cobe.brain import fetch
from cobe.brain.fetch import FMRIPREP, RAW, TIMESERIES, DataLad, Part, size_text
from cobe.brain.inventory import listing_line
from cobe.brain.layout import SPACE
from cobe.brain.timeseries import entities
from cobe.core.artifacts import readable_os_errors
from cobe.core.errors import CobeError
from cobe.core.paths import data_dir

# Bytes per run or subject before there is a clone to read them from: totals of the dataset, shared
# out evenly.
ABOUT_BOLD = {"MNI152NLin2009cAsym": 1.18e9, "T1w": 0.60e9}
ABOUT_CONFOUNDS = 4e6
ABOUT_KEY_LOGS = 0.2e6
ABOUT_SERIES = 0.1e9

ACCESS = """access
  open, without an account: {open}
  on a data transfer agreement (https://www.cneuromod.ca/access/access/): {closed}; set
  AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, which are handed on and never stored or shown
  whoever publishes acknowledges the Courtois project on neural modelling in the words of the
  dataset's README and of https://www.cneuromod.ca
  the ROM of the game is under copyright and is not fetched: use your own legal copy
  (put it at stimuli/ShinobiIIIReturnOfTheNinjaMaster-Genesis/rom.md of the raw dataset, or
  python -m stable_retro.import DIR)
"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line of ``fetch``."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh fetch",
        description="Get real data (CNeuroMod shinobi) with DataLad: only what cobe reads, sizes "
        "first. The same command again goes on where it stopped.",
    )
    parser.add_argument("--subject", nargs="+", default=["sub-01"], metavar="SUB")
    parser.add_argument(
        "--sessions", type=int, metavar="N", help="only the first N sessions (default: all)"
    )
    parser.add_argument(
        "--timeseries",
        nargs="?",
        const="cneuromod2026",
        metavar="ATLAS",
        help="extracted parcel series (about 0.1 GB a subject) instead of BOLD "
        "(default: %(const)s; or schaefer1000)",
    )
    parser.add_argument("--space", default=SPACE, help="space of the BOLD: %(default)s or T1w")
    parser.add_argument("--dest", default="", metavar="DIR", help="default: $COBE_DATA, else data/")
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="downloads at a time (4)")
    parser.add_argument(
        "--dry-run", action="store_true", help="commands and sizes as far as known, and no more"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run the command; 0 if all that was asked for is there, else 1."""
    options = parse(arguments)
    try:
        dest = data_dir(options.dest)
        with readable_os_errors(dest), _ended_as_by_hand():
            return run(options, dest)
    except CobeError as error:
        print(f"cobe: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cobe: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


@contextlib.contextmanager
def _ended_as_by_hand():
    """A signal that ends the command, or a closed terminal, leaves nothing behind either."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return

    def stop(*_):
        raise KeyboardInterrupt

    before = {kind: signal.signal(kind, stop) for kind in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def run(options: argparse.Namespace, dest: Path) -> int:
    """Clone, list, say the sizes, download, and check what came."""
    if options.sessions is not None and options.sessions < 1:
        raise CobeError(f"--sessions {options.sessions}: give 1 or more, or leave it out")
    if options.jobs < 1:
        raise CobeError(f"--jobs {options.jobs}: give 1 or more")
    subjects = list(dict.fromkeys(options.subject))
    for subject in subjects:
        fetch.check_access(subject)
    fetch.url_of(RAW)  # a password in it is refused before anything is shown
    print(
        ACCESS.format(open=", ".join(fetch.OPEN_SUBJECTS), closed=", ".join(fetch.CLOSED_SUBJECTS))
    )
    derived = TIMESERIES if options.timeseries else FMRIPREP
    clones = {name: dest / name for name in (RAW, derived)}
    missing = [name for name, path in clones.items() if not (path / ".git").exists()]
    if options.dry_run and missing:
        _describe_unseen(options, subjects, clones, missing)
        return 0
    closed = any(subject in fetch.CLOSED_SUBJECTS for subject in subjects)
    datalad = DataLad(closed, lambda line: print(line, flush=True))
    kept_keys = [path for path in clones.values() if fetch.keys_folder(path).exists()]
    try:
        return _fetch(options, subjects, clones, derived, datalad, closed)
    finally:
        for path in clones.values():
            if path not in kept_keys:
                fetch.forget_keys(path)


def _fetch(options, subjects, clones, derived, datalad: DataLad, closed: bool) -> int:
    stimuli = True
    if not options.dry_run:
        for name, path in clones.items():
            print(f"  datalad clone {fetch.url_of(name)} {_quoted(path)}", flush=True)
            datalad.clone(name, path)
            if closed:
                datalad.enable_s3(path)
        print(f"  cd {_quoted(clones[RAW])} && datalad get -n stimuli", flush=True)
        stimuli = datalad.install_stimuli(clones[RAW])
    parts = _parts(options, subjects, clones, derived)
    n_bytes = _print_sizes(parts)
    if options.dry_run:
        for part in parts:
            if part.missing:
                names = shlex.join(str(f.path.relative_to(part.clone)) for f in part.missing)
                print(f"  cd {_quoted(part.clone)} && datalad get -J{options.jobs} {names}")
        return 0
    fetch.check_disk(clones[RAW].parent, n_bytes)
    problems = [] if stimuli else [f"{clones[RAW] / 'stimuli'}: sub-dataset not installed"]
    for number, part in enumerate(parts, 1):
        if part.missing:
            size = size_text(part.missing_bytes)
            print(f"[{number}/{len(parts)}] {part.what}: {len(part.missing)} files, {size}")
            problems += datalad.get(part, options.jobs)
    if problems:
        print(f"cobe: {len(problems)} files could not be downloaded:", file=sys.stderr)
        for line in problems[:20]:
            print(f"  {line}", file=sys.stderr)
        if len(problems) > 20:
            print(f"  ... and {len(problems) - 20} more", file=sys.stderr)
        print("run the same command again to go on with these", file=sys.stderr)
        return 1
    source = "timeseries" if options.timeseries else "fmriprep"
    line = listing_line(clones[RAW].parent, options.space, source, _atlas(options, parts))
    print(f"all there; see it: {line}")
    if options.space != SPACE:
        print(f"and set COBE_SPACE={shlex.quote(options.space)} for the pipeline")
    return 0


def _parts(options, subjects: list[str], clones: dict[str, Path], derived: str) -> list[Part]:
    parts = []
    for subject in subjects:
        sessions = fetch.sessions_of(clones[RAW], subject, options.sessions)
        parts += fetch.raw_parts(clones[RAW], subject, sessions)
        if options.timeseries:
            parts += fetch.timeseries_parts(clones[derived], subject, options.timeseries)
        else:
            parts += fetch.fmriprep_parts(clones[derived], subject, sessions, options.space)
    return [*parts, fetch.stimuli_part(clones[RAW])]


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _atlas(options, parts: list[Part]) -> str:
    """What the names of the series call their atlas; "" for voxels and without series."""
    if not options.timeseries:
        return ""
    names = (file.path for part in parts for file in part.files if file.path.suffix == ".h5")
    return next((entities(path).get("atlas", "") for path in names), "")


def _print_sizes(parts: list[Part]) -> int:
    """The table of sizes; the bytes to download."""
    width = max(len(part.what) for part in parts)
    for part in parts:
        there = len(part.files) - len(part.missing)
        unknown = sum(file.n_bytes is None for file in part.missing)
        note = f", {unknown} of unknown size" if unknown else ""
        print(
            f"  {part.what:<{width}}  {len(part.missing):>4} files to get, "
            f"{size_text(part.missing_bytes):>9}{note}; {there} there"
        )
    n_bytes = sum(part.missing_bytes for part in parts)
    print(f"  to download: {size_text(n_bytes)}", flush=True)
    return n_bytes


def _describe_unseen(options, subjects, clones, missing) -> None:
    """Commands and rough sizes where there is no clone yet."""
    for name, path in clones.items():
        state = "" if name in missing else "   (there already)"
        print(f"  datalad clone {fetch.url_of(name)} {_quoted(path)}{state}")
    print(f"  cd {_quoted(clones[RAW])} && datalad get -n stimuli")
    total = 0.0
    for subject in subjects:
        n_sessions = min(options.sessions or 99, fetch.N_SESSIONS[subject])
        n_runs = fetch.N_RUNS[subject] * n_sessions / fetch.N_SESSIONS[subject]
        n_bytes = n_runs * ABOUT_KEY_LOGS
        if options.timeseries:
            n_bytes += ABOUT_SERIES
            what = f"series ({options.timeseries})"
        else:
            about = ABOUT_BOLD.get(options.space)
            if about is None:
                raise CobeError(f"--space {options.space!r}: choose from {', '.join(ABOUT_BOLD)}")
            n_bytes += n_runs * (about + ABOUT_CONFOUNDS)
            what = f"BOLD, masks, confounds ({options.space})"
        print(
            f"  datalad get: {subject}, {n_sessions} sessions (about {n_runs:.0f} runs): key logs, "
            f"events, {what}: about {size_text(n_bytes)}"
        )
        total += n_bytes
    print(
        f"  to download: about {size_text(total)}, from averages over the dataset; exact sizes are "
        "shown once the clones (without content) are there"
    )
