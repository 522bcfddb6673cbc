"""A hash of the code that makes a result, blind to comments, docstrings and layout."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "cobe"
# Where things are kept and how they are announced changes no result. Profiles and cells reach
# a result through its parameters; clocks do not.
BLIND_TO = f"{PACKAGE}.core"
SEEN_IN_IT = (f"{PACKAGE}.core.seeds", f"{PACKAGE}.core.timing")


@cache
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
    """
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        blind = name.startswith(BLIND_TO) and name not in SEEN_IN_IT
        if name in seen or blind or name == PACKAGE:
            continue
        source = _source(name)
        if source is None:
            continue
        tree = ast.parse(source.read_text())
        is_package = source.name == "__init__.py"
        waiting.extend(_imports(tree, name if is_package else name.rpartition(".")[0]))
        waiting.append(name.rpartition(".")[0])
        seen[name] = ast.dump(_without_docstrings(tree))
    text = "\n".join(f"{name} {seen[name]}" for name in sorted(seen))
    return hashlib.sha256(text.encode()).hexdigest()


def _source(name: str) -> Path | None:
    """The file of a cobe module; None where `name` is something inside a module."""
    folder = Path(find_spec(PACKAGE).origin).parent.joinpath(*name.split(".")[1:])
    for candidate in (folder.with_suffix(".py"), folder / "__init__.py"):
        if candidate.is_file():
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
