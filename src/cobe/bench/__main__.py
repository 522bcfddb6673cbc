"""`python -m cobe.bench frames tokens train ridge [--json]`: speed beside a peer, in one run.

``soak`` among the names: long runs with flat memory, a quarter of an hour and more.
"""

import argparse
import importlib
import json
import sys

from cobe.core.errors import CobeError
from cobe.core.parallel import n_workers

MODULES = {
    "frames": ("frames",),
    "tokens": ("tokens",),
    "train": ("train",),
    "ridge": ("ridge", "nulls"),
    "soak": ("soak",),
}
COLUMNS = ("measurement", "value", "unit", "peer", "peer_value", "ratio")


def run(names) -> list[dict]:
    """Measure.

    Parameters
    ----------
    names : sequence of str
        Some of `MODULES`.

    Returns
    -------
    rows : list of dict
        Keys bench, measurement, value, unit, peer, peer_value (in the same unit) and ratio
        (how many times better than the peer: of rates ours by the peer's, of times the peer's by
        ours); the last three None where a measurement has no peer.
    """
    rows = []
    for name in names:
        for stem in MODULES[name]:
            made = importlib.import_module(f"cobe.bench.{stem}").measure()
            rows += [{"bench": name} | {key: row[key] for key in COLUMNS} for row in made]
    return rows


def format_rows(rows: list[dict]) -> str:
    """A table of fixed-width text, one line per measurement."""

    def number(value):
        if value is None:
            return ""
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

    table = [("bench", "measurement", "value", "unit", "peer", "peer value", "ratio")]
    for row in rows:
        cells = [row["bench"], row["measurement"], number(row["value"]), row["unit"]]
        cells += [row["peer"] or "", number(row["peer_value"]), number(row["ratio"])]
        table.append(tuple(cells))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    right = {2, 5, 6}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if k in right else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def main(argv=None) -> int:
    """Command line: measure, print a table or JSON, return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cobe.bench", description=__doc__)
    metavar = "{" + ",".join(MODULES) + "}"
    parser.add_argument("names", nargs="+", choices=list(MODULES), metavar=metavar)
    parser.add_argument("--json", action="store_true", help="print a list of rows as JSON")
    options = parser.parse_args(argv)
    try:
        rows = run(options.names)
    except CobeError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        print(format_rows(rows))
        print(f"\non {n_workers()} cores; a ratio above 1: better than the peer")
    return 0


if __name__ == "__main__":
    sys.exit(main())
