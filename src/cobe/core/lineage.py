"""A trace in words and as JSON: what each kind of thing was made from, each told once."""

from __future__ import annotations

from collections import Counter

from cobe.core.trace import Node, Trace


def as_json(found: Trace) -> dict:
    """The trace as JSON-ready data: ``artifacts`` and ``outside`` by number, inputs by number."""
    number = {node: i for i, node in enumerate(found.nodes)}
    rows = []
    for node in found.nodes:
        row = {"id": number[node], "name": node.name, "sha256": node.sha256}
        row |= {"key": node.key, "path": str(node.path) if node.path else None}
        row |= {"seeds": node.seeds, "problems": node.problems}
        row["inputs"] = {label: number[item] for label, item in node.inputs.items()}
        known = ("params", "created_s", "seconds", "python", "packages", "machine", "device", "git")
        rows.append(row | {name: node.meta[name] for name in known if name in node.meta})
    return {
        "file": str(found.file),
        **found.about,
        "roots": [number[node] for node in found.roots],
        "artifacts": [row for row in rows if row["key"]],
        "outside": [row for row in rows if not row["key"]],
    }


def as_text(found: Trace, full: bool = False) -> str:
    """The trace to read: what each kind of thing was made from, each kind in full once."""
    about, made = found.about, [node for node in found.nodes if node.key]
    lines = [f"{found.file}", f"  sha256 {about['sha256']}"]
    if "made_by" in about:
        lines += [
            f"  drawn by {about['made_by']}, {about['drawn']}; record: {about['record']}",
            "  below is all that was read by the notebook that drew it: this file shows a part",
        ]
    lines += ["", *_kinds(found.roots, full), ""]
    lines.append(f"{len(made)} artifacts, {len(found.nodes) - len(made)} other files")
    commits = Counter(_commit(node) for node in made)
    lines.append("commits: " + _counted(commits))
    lines.append("python: " + _counted(Counter(str(node.meta.get("python")) for node in made)))
    lines.append("devices: " + _counted(Counter(str(node.meta.get("device")) for node in made)))
    versions: dict[str, Counter] = {}
    for node in made:
        for name, version in _dict(node, "packages").items():
            versions.setdefault(name, Counter())[str(version)] += 1
    for name, counts in sorted(versions.items()):
        lines.append(f"  {name} {_counted(counts)}")
    lines.append("seeds: " + (", ".join(map(str, sorted({s for n in made for s in n.seeds})))))
    problems = Counter(f"{n.kind}: {problem}" for n in found.nodes for problem in n.problems)
    lines.append(f"problems: {_counted(problems) if problems else 'none'}")
    return "\n".join(lines)


def _counted(counts: Counter) -> str:
    if len(counts) == 1:
        return str(next(iter(counts)))
    return ", ".join(f"{value} ({n})" for value, n in counts.most_common())


def _commit(node: Node) -> str:
    git = _dict(node, "git")
    dirty = " + uncommitted changes" if git.get("dirty") else ""
    return f"{str(git.get('commit') or 'unknown')[:12]}{dirty}"


def _dict(node: Node, name: str) -> dict:
    found = node.meta.get(name)
    return found if isinstance(found, dict) else {}


def _kinds(roots: list[Node], full: bool) -> list[str]:
    lines: list[str] = []
    told: set[Node] = set()

    def tell(nodes: list[Node], depth: int, label: str):
        groups: dict[str, list[Node]] = {}
        for node in nodes:
            groups.setdefault(node.kind, []).append(node)
        for kind, members in sorted(groups.items()):
            new = [node for node in members if node not in told]
            told.update(new)
            one = members[0]
            head = f"{'  ' * depth}{label}{kind if len(members) > 1 or not full else one.name}"
            if not new:
                lines.append(f"{head}: {_number(members)}, see above")
                continue
            seeds = sorted({seed for node in members for seed in node.seeds})
            facts = [_number(members)]
            facts += [f"seeds {', '.join(map(str, seeds))}"] if seeds else []
            if one.key:
                facts.append("commits " + _counted(Counter(map(_commit, members))))
            if len(members) == 1:
                facts.append(f"sha256 {one.sha256[:16]}")
            lines.append(f"{head}: {'; '.join(facts)}")
            if full:
                for node in new:
                    where = node.path or "place not recorded"
                    lines.append(f"{'  ' * depth}  | {node.name} {node.sha256} {where}")
            children = [item for node in new for item in node.inputs.values()]
            tell(list(dict.fromkeys(children)), depth + 1, "from ")

    tell(roots, 0, "")
    return lines


def _number(members: list[Node]) -> str:
    what = "artifact" if members[0].key else "file"
    return f"{len(members)} {what}{'s' * (len(members) > 1)}"
