"""``python -m cobe.driver``: what run_all.sh calls once the environment is there."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys

from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT, build_dir, make_absolute
from cobe.core.profiles import PROFILES
from cobe.report.manifest import GROUPS


def _test(arguments: list[str]) -> int:
    from cobe.core.parallel import n_workers

    def pytest(*words, **more):
        command = [sys.executable, "-m", "pytest", *words]
        return subprocess.call(command, cwd=PROJECT, env=os.environ | more)

    if arguments:
        return pytest(*arguments)
    # files side by side, one thread each; then what runs notebooks, which takes all cores by itself
    aside = ("-m", "not notebook", "-n", str(n_workers()), "--dist", "loadfile")
    return max(pytest(*aside, OMP_NUM_THREADS="1"), pytest("-m", "notebook"))


def _lab(arguments: list[str]) -> None:
    from cobe.driver.lab import run

    run(arguments)


def _fetch(arguments: list[str]) -> int:
    from cobe.driver.fetch import main as fetch

    return fetch(arguments)


def _pair(arguments: list[str]) -> None:
    _only_help(
        "pair",
        "Refresh the committed notebooks: the executed ones from the last run of the default, the "
        "exercises from their sources.",
        arguments,
    )
    from cobe.driver.pairs import pair

    pair()


def _exercises(arguments: list[str]) -> None:
    from cobe.driver.exercises import run

    run(arguments)


def _site(arguments: list[str]) -> None:
    _only_help(
        "site",
        "Build the static site from the committed notebooks and figures, into build/site.",
        arguments,
    )
    from cobe.site.build import build_site

    out = build_dir("site")
    build_site(out)
    print(f"open {out / 'index.html'}")


def _address(arguments: list[str]) -> None:
    from cobe.driver.address import run

    run(arguments)


def _figures(arguments: list[str]) -> None:
    options = parse(arguments)
    from cobe.driver.figures import run

    run(options)


SIGNALS = (signal.SIGINT, signal.SIGTERM)
# each takes the words after its own, and may hand back an exit status
COMMANDS = {
    "figures": _figures,
    "test": _test,
    "lab": _lab,
    "exercises": _exercises,
    "site": _site,
    "fetch": _fetch,
    "pair": _pair,
    "address": _address,
}


def _only_help(name: str, words: str, arguments: list[str]) -> None:
    argparse.ArgumentParser(prog=f"./run_all.sh {name}", description=words).parse_args(arguments)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line of run_all.sh without a command, or with ``figures``."""
    parser = argparse.ArgumentParser(
        prog="./run_all.sh",
        description="Run every notebook in order and regenerate every figure.",
        epilog=f"Other commands, each with its --help: {', '.join(list(COMMANDS)[1:])}.",
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


def _interrupt(number, frame):
    """A second one, of a person in a hurry, would stop what ends the kernel and its workers."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Run a command; errors are one line on stderr.

    Returns
    -------
    code : int
        Exit status: 0, 1 for an error, 130 after an interrupt.
    """
    # a shell starts background jobs with interrupts ignored, and Python would leave it at that
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    named = arguments[:1] if arguments and not arguments[0].startswith("-") else []
    try:
        make_absolute()
        if named and named[0] not in COMMANDS:
            raise CobeError(f"{named[0]!r}: no such command; choose from {', '.join(COMMANDS)}")
        command = COMMANDS[named[0] if named else "figures"]
        return command(arguments[len(named) :]) or 0
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
