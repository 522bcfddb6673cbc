"""The API reference: an index of the rooms, a page per room, a page per module."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT

PACKAGE = Path(__file__).resolve().parents[1]


def room_names(pyproject: Path = PROJECT / "pyproject.toml") -> list[str]:
    """The rooms in the order in which data flow, from the contract that import-linter checks.

    Raises
    ------
    CobeError
        A folder of the package is in no layer of the contract, or a layer has no folder.
    """
    settings = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rooms = [room.strip() for layer in reversed(layers) for room in re.split("[|:]", layer)]
    there = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    if set(rooms) != there:
        odd = ", ".join(sorted(set(rooms) ^ there))
        raise CobeError(f"{pyproject}: layers and folders of src/cobe differ in {odd}; name both")
    return rooms


def write_api(folder: Path, readme: str) -> None:
    """Write the pages of the API reference as reStructuredText.

    Parameters
    ----------
    folder : Path
        Gets ``<room>/index.rst`` and ``<room>/<module>.rst``, and ``rooms.txt``, the list and
        the table of contents that the index page includes.
    readme : str
        The README, whose layout says in a line what each room is for.

    Raises
    ------
    CobeError
        As in `room_names`, or the README's layout lacks a room.
    """
    listed = []
    for room in room_names():
        found = re.search(rf"^src/cobe/{room} +(\S.*)$", readme, re.MULTILINE)
        if found is None:
            raise CobeError(f"README.md: its layout has no line for src/cobe/{room}; add one")
        words = found[1]
        modules = _modules(room)
        own = folder / room
        own.mkdir(parents=True)
        (own / "index.rst").write_text(_room_page(room, words, modules), encoding="utf-8")
        for module in modules:
            (own / f"{module}.rst").write_text(_module_page(module), encoding="utf-8")
        listed.append(f":doc:`cobe.{room} <api/{room}/index>`\n   {_rst(words)}\n")
    tree = [".. toctree::", "   :hidden:", "", *(f"   api/{room}/index" for room in room_names())]
    (folder / "rooms.txt").write_text("\n".join([*listed, *tree, ""]), encoding="utf-8")


def _modules(room: str) -> list[str]:
    """Dotted names of a room's modules, those of its sub-packages included."""
    names = []
    for path in sorted((PACKAGE / room).rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[-1] == "__main__" or (parts[-1] == "__init__" and not ast.parse(_text(path)).body):
            continue
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return sorted(names)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _source(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    single = path.with_suffix(".py")
    return single if single.is_file() else path / "__init__.py"


def _room_page(room: str, words: str, modules: list[str]) -> str:
    title = f"cobe.{room}"
    lines = [title, "=" * len(title), "", _rst(words[0].upper() + words[1:]) + ".", ""]
    for module in modules:
        tree = ast.parse(_text(_source(module)))
        summary = " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())
        named = ", ".join(f":py:obj:`{name} <{target}>`" for name, target in _names(module, tree))
        lines += [f":doc:`{module} <{module}>`", f"   {_rst(summary)}", ""]
        lines += [f"   {named}", ""] if named else []
    return "\n".join(lines)


def _names(module: str, tree: ast.Module) -> list[tuple[str, str]]:
    """Public names of a module and where each is defined; of a package, what it hands on."""
    if _source(module).name == "__init__.py":
        return [
            (alias.name, f"{node.module}.{alias.name}")
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module != "__future__"
            for alias in node.names
        ]
    return [
        (node.name, f"{module}.{node.name}")
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]


def _module_page(module: str) -> str:
    # not in the tree of contents, which every page repeats: two hundred entries would drown it
    named = _names(module, ast.parse(_text(_source(module))))
    room = module.split(".")[1]
    page = f":orphan:\n\n{module}\n{'=' * len(module)}\n\n"
    page += f":doc:`All of cobe.{room} <index>`\n\n.. automodule:: {module}\n"
    if _source(module).name == "__init__.py":
        return page + "\n" + "".join(f"- :py:obj:`{name} <{target}>`\n" for name, target in named)
    # named one by one: decorated imports would pass for the module's own
    return page + f"   :members: {', '.join(name for name, _ in named)}\n" if named else page


def _rst(text: str) -> str:
    """Markdown words of the README in reStructuredText: code as code, the rest as it is."""
    return re.sub(r"`([^`]+)`", r"``\1``", text.replace("*", r"\*"))
