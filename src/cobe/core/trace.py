"""``python -m cobe.core.artifacts trace FILE``: everything that a figure or an artifact came from.

Only what was written down when things were made is read, as plain data; no room is imported:

- ``manifest.json`` beside a figure: ``{"files": [{name, file, sha256, made_by, ...}]}``;
- ``build/<profile>/<notebook>.json``, the record of a step: ``artifacts`` (the sidecars of all that
  the notebook read or made), ``products`` (path to sha256 of what it drew), ``made_s``;
- the sidecar of each artifact, and of each of its inputs, down to files that cobe did not make.

A notebook draws several figures and its record does not tell which artifact went into which: the
trace of a figure is that of the notebook that drew it, and says so.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cobe.core.artifacts import (
    SIDECAR,
    content_sha256,
    file_sha256,
    read_sidecar,
    readable_os_errors,
    sidecar_of,
)
from cobe.core.disk import ANNEX_KEY
from cobe.core.errors import CobeError
from cobe.core.origin import command_of
from cobe.core.paths import PROJECT
from cobe.core.records import MANIFEST, read_manifest, read_record


@dataclass(eq=False)
class Node:
    """An artifact, or a file that cobe did not make.

    Attributes
    ----------
    name, sha256 : str
        What it is, and the checksum of its content; of a file in git-annex, its key.
    key : str
        Of an artifact; empty for a file that cobe did not make.
    path : Path or None
        Where it is; None where an older sidecar does not say.
    meta : dict
        The sidecar; empty for a file that cobe did not make.
    inputs : dict of str to Node
        What it was made from, by label.
    problems : list of str
        What does not fit.
    """

    name: str
    sha256: str
    key: str = ""
    path: Path | None = None
    meta: dict = field(default_factory=dict)
    inputs: dict = field(default_factory=dict)
    problems: list = field(default_factory=list)

    @property
    def kind(self) -> str:
        """First part of the name; of a file that cobe did not make, its extension."""
        if self.key:
            return self.name.partition("/")[0]
        return f"*{''.join(Path(self.name).suffixes[-2:])}" if "." in self.name else self.name

    @property
    def seeds(self) -> list:
        """Every seed among its parameters."""
        return sorted(set(_seeds(self.meta.get("params"))))


@dataclass(frozen=True)
class Trace:
    """What a file came from.

    Attributes
    ----------
    file : Path
        What was asked about.
    about : dict
        sha256, and for a figure: made_by, record, drawn (UTC).
    roots : list of Node
        What it was made from directly; for a figure, what its notebook read and nothing else that
        it read was made from.
    nodes : list of Node
        All of them, each once.
    """

    file: Path
    about: dict
    roots: list
    nodes: list


def trace(file: Path, build: Path | None = None, check: bool = False) -> Trace:
    """Follow a figure, a table or an artifact back to the key logs.

    Parameters
    ----------
    file : Path
        A file of a manifest, or an artifact.
    build : Path or None
        Folder of the profiles' work files; None: ``$COBE_BUILD``, else ``build/``.
    check : bool
        Compute every checksum again, of files that cobe did not make too.

    Raises
    ------
    CobeError
        The file is neither, has changed since it was written, or no record tells what drew it.
    """
    with readable_os_errors(Path(file)):
        return _trace(Path(file), build, check)


def _trace(file: Path, build: Path | None, check: bool) -> Trace:
    if not file.exists():
        raise CobeError(f"{file}: no such file; give a figure, a table or an artifact")
    walk = _Walk(check)
    if file.name and sidecar_of(file).is_file():
        roots = [walk.artifact(sidecar_of(file))]
        about = {"sha256": content_sha256(file)}
        if about["sha256"] != roots[0].sha256:
            raise CobeError(f"{file}: changed since it was made; run ./run_all.sh to make it again")
        return Trace(file, about, roots, walk.nodes())
    if file.is_dir():
        raise CobeError(f"{file}: a folder, and no artifact; give a figure, a table or an artifact")
    row = _manifest_row(file)
    build = Path(build or os.environ.get("COBE_BUILD") or PROJECT / "build")
    record_path, record = _record(file, row, build)
    sidecars = [_moved(Path(path), record_path) for path in record["artifacts"]]
    if not sidecars:
        raise CobeError(
            f"{record_path}: names no artifact, so what {file.name} came from cannot be told; draw "
            f"it again by {_again(file, row['made_by'])}"
        )
    read = [walk.artifact(path) for path in sidecars]
    below = {item for node in walk.nodes() for item in node.inputs.values()}
    roots = [node for node in dict.fromkeys(read) if node not in below]
    about = {
        "sha256": row["sha256"],
        "made_by": row["made_by"],
        "record": str(record_path),
        "drawn": _date(record["made_s"]),
    }
    return Trace(file, about, roots, walk.nodes())


def _again(file: Path, made_by: str = "") -> str:
    """The command that draws it again: figures lie in a folder named after their profile."""
    return command_of(made_by, file.absolute().parent.name)


def _manifest_row(file: Path) -> dict:
    path = file.with_name(MANIFEST)
    if not path.is_file():
        raise CobeError(
            f"{file}: no artifact, and {path} is not there, which would say what drew it; give a "
            "figure, or make the figures first (./run_all.sh)"
        )
    rows = [row for row in read_manifest(path.parent) if row["file"] == file.name]
    if not rows:
        raise CobeError(
            f"{file}: not in {path.name} beside it; make it by {_again(file)}, or give "
            "a file that is"
        )
    row, found = rows[0], file_sha256(file)
    if found != row["sha256"]:
        raise CobeError(
            f"{file}: changed since it was drawn (sha256 {found[:12]}, {row['sha256'][:12]} in "
            f"{path.name}); draw it again by {_again(file, row['made_by'])}"
        )
    return row


def _record(file: Path, row: dict, build: Path) -> tuple[Path, dict]:
    """The record of the step that made exactly this file."""
    stem = Path(row["made_by"]).stem
    others = []
    for path in sorted(build.glob(f"*/{glob.escape(stem)}.json")):
        try:
            record = read_record(path)
        except CobeError as error:
            others.append(str(error))
            continue
        drawn = {Path(name).name: sha256 for name, sha256 in record["products"].items()}
        if drawn.get(file.name) == row["sha256"]:
            return path, record
        others.append(f"{path} is of another run")
    raise CobeError(
        f"{build}: no record of {stem} says that it drew this {file.name}"
        f"{' (' + '; '.join(others) + ')' if others else ''}; give the folder of the run by "
        "--build or COBE_BUILD, or draw it again by "
        f"{_again(file, row['made_by'])}"
    )


def _moved(path: Path, record: Path) -> Path:
    """A sidecar of a record, also where the whole build folder lies elsewhere now."""
    parts = path.parts
    if path.exists() or "artifacts" not in parts:
        return path
    place = len(parts) - 1 - parts[::-1].index("artifacts")
    return record.parents[1].joinpath(*parts[place - 1 :])


class _Walk:
    """Sidecars read so far; each artifact and each outside file becomes one node."""

    def __init__(self, check: bool):
        self.check = check
        self.by_sidecar: dict[Path, Node] = {}
        self.by_key: dict[str, Node] = {}
        self.outside: dict[tuple, Node] = {}

    def nodes(self) -> list[Node]:
        """All nodes; what older sidecars do not place is looked for in folders that cobe made."""
        lost = {}
        for node in self.outside.values():
            if node.path is None:
                lost.setdefault(node.name, []).append(node)
        folders = [n.path for n in self.by_sidecar.values() if lost and n.path and n.path.is_dir()]
        for path in (path for folder in folders for path in folder.rglob("*")):
            for node in lost.get(path.name, []):
                if path.is_file() and file_sha256(path) == node.sha256:
                    node.path, node.problems = path, []
                    self._made_in(node)
        return [*self.by_sidecar.values(), *self.outside.values()]

    def artifact(self, sidecar: Path) -> Node:
        """The node of an artifact, its inputs followed."""
        sidecar = Path(os.path.abspath(sidecar))
        if sidecar in self.by_sidecar:
            return self.by_sidecar[sidecar]
        path = sidecar.with_name(sidecar.name.removesuffix(SIDECAR))
        try:
            meta = read_sidecar(sidecar)
        except (OSError, ValueError):
            raise CobeError(
                f"{sidecar}: missing or damaged, so what was made from it cannot be told; "
                "./run_all.sh makes it again"
            ) from None
        node = Node(meta["name"], meta["sha256"], meta["key"], path, meta)
        self.by_sidecar[sidecar] = self.by_key[node.key] = node
        if not path.exists():
            node.problems.append("is gone; its record is kept")
        elif self.check and content_sha256(path) != node.sha256:
            node.problems.append("does not match its checksum")
        root = sidecar.parents[min(node.name.count("/"), len(sidecar.parents) - 1)]
        for label, item in meta["inputs"].items():
            child = node.inputs[label] = self._input(item, path, root)
            if child.sha256 != item["sha256"]:
                node.problems.append(f"was made from another version of {label}")
        return node

    def _input(self, item: dict, path: Path, root: Path) -> Node:
        place = path.parent / item["path"] if "path" in item else None
        if not item.get("external") and item["key"] != item["sha256"]:
            names = [sidecar_of(place)] if place else []
            # older sidecars do not say where an input is: its name and key do
            known = glob.escape(f"{item['name'].lstrip('/')}-{item['key'][:12]}")
            names += sorted(root.glob(f"{known}*{SIDECAR}"))
            there = [sidecar for sidecar in names if sidecar.is_file()]
            if there:
                return self.artifact(there[0])
            if item["key"] in self.by_key:
                return self.by_key[item["key"]]
        mark = (item["name"], item["sha256"], place)
        if mark not in self.outside:
            node = self.outside[mark] = Node(item["name"], item["sha256"], path=place)
            if item["key"] != item["sha256"]:
                node.problems.append("an artifact that is no longer there")
            elif place is None:
                node.problems.append("where it lies was not recorded (an older sidecar)")
            elif not (place.is_file() or place.is_dir()):
                node.problems.append("is no file" if place.exists() else "is gone")
            elif self.check and (problem := _difference(place, node.sha256)):
                node.problems.append(problem)
            self._made_in(node)
        return self.outside[mark]

    def _made_in(self, node: Node) -> None:
        """A file of a folder that is an artifact itself, such as the embedded dataset."""
        for folder in Path(os.path.abspath(node.path)).parents[:-1] if node.path else ():
            if sidecar_of(folder).is_file():
                node.inputs["lies in"] = self.artifact(sidecar_of(folder))
                return


def _difference(place: Path, recorded: str) -> str:
    """How an input differs from what is on record: a checksum or a git-annex key; "" if not."""
    key = ANNEX_KEY.fullmatch(recorded)
    if not key:
        return "" if content_sha256(place) == recorded else "changed since"
    algorithm, n_bytes, stated = key.groups()
    try:
        digest = hashlib.new(algorithm.lower(), usedforsecurity=False)
    except ValueError:
        return f"not checked: no {algorithm} on this machine"
    if not place.is_file() or str(place.stat().st_size) != n_bytes:
        return "changed since"
    with open(place, "rb") as handle:
        hashlib.file_digest(handle, lambda: digest)
    return "" if digest.hexdigest() == stated else "changed since"


def _seeds(params) -> Iterable[int]:
    if isinstance(params, dict):
        for name, value in params.items():
            if name in ("seed", "seeds"):
                values = value if isinstance(value, list) else [value]
                yield from (seed for seed in values if isinstance(seed, int))
            else:
                yield from _seeds(value)
    elif isinstance(params, list):
        for value in params:
            yield from _seeds(value)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def main(arguments: list[str]) -> int:
    """The command line of ``python -m cobe.core.artifacts``: 0, or 1 after one line of error."""
    parser = argparse.ArgumentParser(prog="python -m cobe.core.artifacts")
    commands = parser.add_subparsers(dest="command", required=True)
    tracer = commands.add_parser("trace", help="all that a figure, table or artifact came from")
    tracer.add_argument("file", type=Path)
    tracer.add_argument("--build", type=Path, help="folder of the work files of the run")
    tracer.add_argument("--check", action="store_true", help="compute every checksum again")
    tracer.add_argument("--full", action="store_true", help="list every file, with its checksum")
    tracer.add_argument("--json", action="store_true", help="machine-readable, complete")
    options = parser.parse_args(arguments)
    from cobe.core.lineage import as_json, as_text  # which reads what is defined here

    try:
        found = trace(options.file, options.build, options.check)
    except CobeError as error:
        print(f"cobe: {error}", file=sys.stderr)
        return 1
    print(json.dumps(as_json(found), indent=1) if options.json else as_text(found, options.full))
    return 0
