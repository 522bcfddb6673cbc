"""The ledger as a page: a block per claim, what is published beside what our run shows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cobe.report.audit.claims import CLAIMS
from cobe.report.audit.ledger import NUMBERS_NOTE, read_ledger
from cobe.site.notebooks import folded
from cobe.site.words import escaped


def ledger_page(path: Path) -> str:
    """Markdown of the ledger.

    Parameters
    ----------
    path : Path
        ``table_ledger.csv``.

    Raises
    ------
    CobeError
        It is not there, or its sources are not kept apart.
    """
    table = read_ledger(path)
    main = [claim.name for claim in CLAIMS if claim.in_readme]
    first = table[table["claim"].isin(main)]
    others = table[~table["claim"].isin(main)]
    parts = [
        "## How to read the numbers",
        escaped(NUMBERS_NOTE),
        "## Claims of the abstract and the figures",
        *map(_block, first.to_dict("records")),
        "## Further claims, controls and slips",
        *map(_block, others.to_dict("records")),
    ]
    return "\n\n".join(parts) + "\n"


def _block(row: dict) -> str:
    published = _source(
        "Published outputs", row["verdict_published"], [("", row["authors_outputs"])]
    )
    computed = _source(
        "Our run",
        row["verdict_here"],
        [("`as_published`", row["as_published_here"]), ("`corrected`", row["corrected_here"])],
    )
    return (
        f"### {escaped(row['claim'].capitalize())}\n\n"
        f":::{{container}} claim\n{escaped(row['claimed'])}\n:::\n\n"
        f"::::{{container}} evidence\n{published}\n{computed}\n::::\n\n"
        f"{folded('Details, how sure, sources', _details(row), 'details')}"
    )


def _source(name: str, verdict: str, findings: list[tuple[str, str]]) -> str:
    said = "\n\n".join(
        f"{label}: {escaped(text)}" if label else escaped(text) for label, text in findings
    )
    return f":::{{container}} source\n**{name}**\n\n{said}\n\n*Verdict.* {escaped(verdict)}\n:::"


def _details(row: dict) -> str:
    listed = [
        ("Where the claim is", row["where"]),
        ("Published, details", row["authors_details"]),
        ("How the published evidence is known", row["basis"]),
        ("How sure, published", row["sure_published"]),
        ("Sources", row["cites"]),
        ("`as_published`, details", row["as_published_details"]),
        ("`corrected`, details", row["corrected_details"]),
        ("How sure, our run", row["sure_here"]),
    ]
    return "\n".join(f"- **{what}**: {escaped(text)}" for what, text in listed if _said(text))


def _said(text) -> bool:
    return bool(text) and not pd.isna(text)
