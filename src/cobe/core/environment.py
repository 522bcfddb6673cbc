"""Whether this Python has exactly the packages of a lock file; needs the standard library only."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def mismatches(lock: Path) -> list[str]:
    """One line for every pinned package that is missing or has another version.

    Parameters
    ----------
    lock : Path
        Lines of the form ``name==version``; blank lines and comments do not count.

    Returns
    -------
    lines : list of str
        Empty where the environment matches.
    """
    lines = []
    for line in lock.read_text().splitlines():
        name, _, wanted = line.partition("#")[0].strip().partition("==")
        if not name:
            continue
        try:
            # a local build tag, such as torch's +cpu, is the same release
            found = version(name).partition("+")[0]
        except PackageNotFoundError:
            found = "none"
        if found != wanted.partition("+")[0]:
            lines.append(f"{name}: wanted {wanted}, found {found}")
    return lines


if __name__ == "__main__":
    differences = mismatches(Path(sys.argv[1]))
    print("\n".join(differences))
    sys.exit(bool(differences))
