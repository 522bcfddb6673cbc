"""A hash of the code that makes a result, blind to comments, docstrings and layout."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from cobe.core.errors import MachineError

PACKAGE = "cobe"
# Where things are kept and how they are announced changes no result. Profiles and cells reach
# a result through its parameters; clocks do not.
BLIND_TO = f"{PACKAGE}.core"
SEEN_IN_IT = (f"{PACKAGE}.core.seeds", f"{PACKAGE}.core.timing")


def _sources(folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Every source below a folder, with what changes when it is written again."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir() and entry.name != "__pycache__":
                yield from _sources(entry.path)
            elif entry.name.endswith(".py"):
                with suppress(OSError):  # the draft of an editor may go in this very moment
                    yield entry.path, _mark(entry.stat())


def _mark(found: os.stat_result) -> tuple[int, int]:
    return found.st_mtime_ns, found.st_size


def _folder() -> Path:
    return Path(find_spec(PACKAGE).origin).parent


# What this process runs: a source that changes later is not what it runs.
_AT_START = dict(_sources(str(_folder())))


def fingerprint(module: str) -> str:
    """Hash of a module's statements and of all of cobe that it imports, in turn.

    Parameters
    ----------
    module : str
        Dotted name; it is read, not imported.

    Returns
    -------
    digest : str
        SHA-256 in hex. Of `cobe.core` only seeds and clocks count. Comments and docstrings
        do not.

    Raises
    ------
    MachineError
        One of these sources was changed, added or removed after this process started.
    """
    digest, sources = _read(module)
    _check_unchanged(sources)
    return digest


def _check_unchanged(sources: Sequence[str]) -> None:
    for source in sources:
        try:
            now = _mark(os.stat(source))
        except FileNotFoundError:
            now = None
        if now is None or now != _AT_START.get(source):
            # no plain CobeError: who leaves out a run that cannot be read must not take it for one
            raise MachineError(
                f"{source}: changed after this process started, so results would be filed under "
                "code that did not make them; start the process (or the notebook's kernel) again "
                "and run the same command"
            )


@cache
def _read(module: str) -> tuple[str, tuple[str, ...]]:
    """The hash of a module and of all of cobe that it imports, and the files that were read."""
    seen: dict[str, str] = {}
    sources = []
    waiting = [module]
    while waiting:
        name = waiting.pop()
        blind = name.startswith(BLIND_TO) and name not in SEEN_IN_IT
        if name in seen or blind or name == PACKAGE:
            continue
        source = _source(name)
        if source is None:
            continue
        sources.append(str(source))
        _check_unchanged(sources[-1:])  # before it is read: it may be gone
        tree = ast.parse(source.read_text())
        is_package = source.name == "__init__.py"
        waiting.extend(_imports(tree, name if is_package else name.rpartition(".")[0]))
        waiting.append(name.rpartition(".")[0])
        seen[name] = ast.dump(_without_docstrings(tree))
    text = "\n".join(f"{name} {seen[name]}" for name in sorted(seen))
    return hashlib.sha256(text.encode()).hexdigest(), tuple(sources)


def _source(name: str) -> Path | None:
    """The file of a cobe module; None where `name` is something inside a module."""
    folder = _folder().joinpath(*name.split(".")[1:])
    for candidate in (folder.with_suffix(".py"), folder / "__init__.py"):
        if candidate.is_file() or str(candidate) in _AT_START:
            return candidate
    return None


def _imports(tree: ast.AST, package: str) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]) if base else ".".join(parents)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.startswith(f"{PACKAGE}.")]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not body or not isinstance(body[0], ast.Expr):
            continue
        if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
            node.body = body[1:]
    return tree
