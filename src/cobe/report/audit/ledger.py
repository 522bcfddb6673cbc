"""The ledger: claim by claim, what the authors' outputs show and what our run shows, kept apart.

The verdict on the published evidence comes from the published numbers alone, that on our run from
our tables alone. Neither is averaged with or corrected by the other.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cobe.core.bounds import check_bytes
from cobe.core.config import Profile
from cobe.core.disk import write_text
from cobe.core.errors import CobeError
from cobe.report.audit.claims import CLAIMS, Claim
from cobe.report.audit.measured import (
    NOT_APPLICABLE,
    NOT_COMPUTED,
    RISES,
    SAME,
    UNCLEAR,
    Finding,
    NotComputed,
    Results,
)
from cobe.report.save import markdown

PROTOCOLS = ("as_published", "corrected")
SHARED = ["claim", "where", "claimed"]
OF_PUBLISHED = [
    "authors_outputs",
    "authors_details",
    "cites",
    "basis",
    "verdict_published",
    "sure_published",
]
OF_RUN = [f"{p}_{what}" for p in PROTOCOLS for what in ("here", "details")]
COLUMNS = [*SHARED, *OF_PUBLISHED, *OF_RUN, "verdict_here", "sure_here"]
LONG_COLUMNS = [
    *SHARED,
    *"source protocol finding details verdict how_sure cites basis".split(),
]
HOLDS, FAILS, CANNOT_TELL = "holds", "does not hold", "cannot tell"
MAX_BYTES = 16 * 2**20
BEGIN, END = "<!-- ledger:begin -->", "<!-- ledger:end -->"
NUMBERS_NOTE = (
    "Differences are the first minus the second; in parentheses their 95 % interval over pairs of "
    "participant and held-out group (without six pairs: the value of every participant), and in "
    "how many participants the difference is above 0. An effect counts if its interval leaves out "
    "0 (without six pairs: if all of at least four participants agree, as chance makes them one "
    "time in eight) and it is larger than what two models may differ by through their seeds alone "
    "(95 %, from the repeats of the base model), where there are repeats."
)
MORE = "All claims, with files, details and how sure: [the ledger](figures/table_ledger.md)."
CAPTION = (
    "The ledger: every claim of the paper's abstract and figures beside what the authors' public "
    "outputs show (`source` published, repository Sana3883/compute-optimal_GPT_brain-encoding) and "
    "what our run shows under each protocol (`source` computed). `basis` says how the published "
    "evidence is known: stated in a file, derived from stated values, or inferred. `as_published` "
    "holds out volumes at random, which leaks, and takes the maximum over parcels; `corrected` "
    f"holds out whole sessions and takes the mean. {NUMBERS_NOTE}"
)


def ledger(tables: dict, profile: Profile, simulated: bool) -> pd.DataFrame:
    """Every claim with both kinds of evidence and a verdict on each.

    Parameters
    ----------
    tables : dict of str to (pandas.DataFrame or None)
        Result tables of one run: ``scores`` (all protocols), ``losses``, ``arms``, ``blocks``,
        ``bands``, ``null_trials``, ``orders``, ``throughput``. What is absent is said to be not
        computed.
    profile : Profile
        What was run.
    simulated : bool
        Whether the brain data are.

    Returns
    -------
    table : pandas.DataFrame
        One row per claim, all text. Columns claim, where, claimed; authors_outputs,
        authors_details, cites, basis, verdict_published, sure_published (from published values
        only); as_published_here, as_published_details, corrected_here, corrected_details,
        verdict_here, sure_here (from the tables only).

    Raises
    ------
    CobeError
        A table has another name, lacks a column, holds published values, or has a row twice.
    """
    results = Results.of(tables, profile)
    return pd.DataFrame([_row(claim, results, simulated) for claim in CLAIMS], columns=COLUMNS)


def _row(claim: Claim, results: Results, simulated: bool) -> dict:
    shown = claim.shows()
    found = [_find(claim, results, kind) for kind in PROTOCOLS]
    row = {
        "claim": claim.name,
        "where": claim.where,
        "claimed": claim.claimed,
        "authors_outputs": shown.text,
        "authors_details": shown.details,
        "cites": "; ".join(claim.cites),
        "basis": claim.basis,
        "verdict_published": shown.verdict,
        "sure_published": claim.sure,
        "verdict_here": verdict_here(claim, *found, simulated),
        "sure_here": _sure_here(claim, found, results.profile, simulated),
    }
    for kind, finding in zip(PROTOCOLS, found, strict=True):
        row |= {f"{kind}_here": finding.text, f"{kind}_details": finding.details}
    return row


def _find(claim: Claim, results: Results, kind: str) -> Finding:
    """The finding of one protocol, or what is missing and the command that makes it."""
    try:
        return claim.measure(results, kind)
    except NotComputed as gap:
        command = "./run_all.sh"
        if results.profile.name != "quick":
            command += f" --profile {results.profile.name}"
        return Finding(f"not computed: {gap}; {command} --only {claim.figure}", NOT_COMPUTED)


def verdict_here(claim: Claim, as_published: Finding, corrected: Finding, simulated: bool) -> str:
    """What our run says of a claim, by one rule.

    A claim holds under a protocol if the finding's direction is the one that the claim expects; it
    does not if the direction is another clear one, or no difference; an unclear direction tells
    nothing, nor does a difference against a claim of none that was not held against repeats.
    Protocols that agree give one verdict, others a verdict each. Where the brain score does not
    rise under either and the loss falls, the verdict says so.
    """
    what, *ways = claim.ways
    found = dict(zip(ways, (as_published, corrected), strict=True))
    told = {way: f for way, f in found.items() if f.direction != NOT_APPLICABLE}
    if not told:
        return "Does not depend on a run"
    words = {way: _outcome(claim.expected, f) for way, f in told.items()}
    which = f"both {what}s" if len(told) == 2 else next(iter(told))
    data = f"{'Simulated' if simulated else 'Real'} data: " if claim.about_brains else "Here: "
    if set(words.values()) == {FAILS} and claim.expected == RISES and corrected.loss_falls:
        return f"{data}holds for the loss, not for the brain score, under {which}"
    if len(set(words.values())) == 1:
        return f"{data}{next(iter(words.values()))} under {which}"
    each = ", ".join(f"{word} under {way}" for way, word in words.items())
    depends = "" if NOT_COMPUTED in words.values() else f"depends on the {what}: "
    return f"{data}{depends}{each}"


def _outcome(expected: str, finding: Finding) -> str:
    if finding.direction == NOT_COMPUTED:
        return NOT_COMPUTED
    if finding.direction == expected:
        return HOLDS
    untested = expected == SAME and not finding.repeated
    return CANNOT_TELL if finding.direction == UNCLEAR or untested else FAILS


def _sure_here(claim: Claim, found: list[Finding], profile: Profile, simulated: bool) -> str:
    directions = {f.direction for f in found}
    if directions == {NOT_APPLICABLE}:
        return ""
    if directions <= {NOT_APPLICABLE, NOT_COMPUTED}:
        return "Nothing was computed."
    if not claim.about_brains:
        return f"One device, at the sizes of profile {profile.name!r}; another may differ."
    if simulated:
        return (
            "One run on simulated data: it says what the method does with planted responses, and "
            "can neither confirm nor refute a claim about brains."
        )
    return (
        "One run on real data; intervals are over the recordings of these participants and do not "
        "reach other people."
    )


def long_form(table: pd.DataFrame) -> pd.DataFrame:
    """The ledger with one row per claim and source, for the file: published and computed apart.

    Parameters
    ----------
    table : pandas.DataFrame
        From `ledger`.

    Returns
    -------
    long : pandas.DataFrame
        Three rows per claim: source ``"published"`` (no protocol), and ``"computed"`` under
        ``"as_published"`` and ``"corrected"``; columns claim, where, claimed, source, protocol,
        finding, details, verdict, how_sure, cites, basis.
    """
    rows = []
    for row in table.to_dict("records"):
        shared = {name: row[name] for name in SHARED}
        rows.append(
            shared
            | {"source": "published", "protocol": ""}
            | {"finding": row["authors_outputs"], "details": row["authors_details"]}
            | {"verdict": row["verdict_published"], "how_sure": row["sure_published"]}
            | {"cites": row["cites"], "basis": row["basis"]}
        )
        for kind in PROTOCOLS:
            rows.append(
                shared
                | {"source": "computed", "protocol": kind}
                | {"finding": row[f"{kind}_here"], "details": row[f"{kind}_details"]}
                | {"verdict": row["verdict_here"], "how_sure": row["sure_here"]}
                | {"cites": "", "basis": ""}
            )
    return pd.DataFrame(rows, columns=LONG_COLUMNS)


def wide_form(long: pd.DataFrame) -> pd.DataFrame:
    """The ledger again, from its long form.

    Raises
    ------
    CobeError
        A column is missing, or a claim has not exactly one published row without a protocol and one
        computed row for each protocol: sources were lost or exchanged.
    """
    missing = [c for c in LONG_COLUMNS if c not in long.columns]
    if missing:
        raise CobeError(f"ledger: no column {', '.join(missing)}; make it with ./run_all.sh")
    wanted = [("computed", "as_published"), ("computed", "corrected"), ("published", "")]
    rows = []
    for name, here in long.groupby("claim", sort=False):
        if sorted(zip(here["source"], here["protocol"], strict=True)) != wanted:
            raise CobeError(
                f"ledger: the rows of claim {name!r} are not one published row and one computed "
                "row per protocol; make the file again with ./run_all.sh"
            )
        rows.append(_of_rows(here.set_index(["source", "protocol"])))
    return pd.DataFrame(rows, columns=COLUMNS)


def _of_rows(here: pd.DataFrame) -> dict:
    theirs, ours = here.loc[("published", "")], here.loc[("computed", "corrected")]
    row = {name: theirs[name] for name in [*SHARED, "cites", "basis"]}
    row |= {"authors_outputs": theirs["finding"], "authors_details": theirs["details"]}
    row |= {"verdict_published": theirs["verdict"], "sure_published": theirs["how_sure"]}
    row |= {"verdict_here": ours["verdict"], "sure_here": ours["how_sure"]}
    for kind in PROTOCOLS:
        mine = here.loc[("computed", kind)]
        row |= {f"{kind}_here": mine["finding"], f"{kind}_details": mine["details"]}
    return row


def read_ledger(path: Path) -> pd.DataFrame:
    """The ledger from the file that `long_form` was written to, such as ``table_ledger.csv``.

    Raises
    ------
    CobeError
        It is not there or no table, or its sources are not kept apart.
    """
    check_bytes(path, MAX_BYTES)
    try:
        long = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise CobeError(f"{path}: not there; make it with ./run_all.sh") from None
    except (OSError, ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise CobeError(f"{path}: no table ({reason}); make it again with ./run_all.sh") from error
    return wide_form(long)


def readme_section(table: pd.DataFrame) -> str:
    """The short table of the README, between its markers.

    Parameters
    ----------
    table : pandas.DataFrame
        From `ledger` or `read_ledger`.

    Returns
    -------
    text : str
        Markdown: claims of the abstract and of the figures that change its reading.
    """
    short = [claim.name for claim in CLAIMS if claim.in_readme]
    rows = table[table["claim"].isin(short)]
    shown = pd.DataFrame(
        {
            "claim": rows["claimed"],
            "published outputs": rows["authors_outputs"],
            "our run, `as_published`": rows["as_published_here"],
            "our run, `corrected`": rows["corrected_here"],
            "verdict on the published outputs": rows["verdict_published"],
            "verdict on our run": rows["verdict_here"],
        }
    )
    sure = rows["sure_here"].mode()[0]
    return f"{BEGIN}\n{markdown(shown)}\n{NUMBERS_NOTE} {sure} {MORE}\n{END}\n"


def write_readme_section(path: Path, text: str) -> None:
    """Put the section in place of the one between its markers, and touch nothing else.

    Parameters
    ----------
    path : Path
        The README; written whole under another name and renamed.
    text : str
        From `readme_section`.

    Raises
    ------
    CobeError
        The file is not there, cannot be written, or does not have each marker once, in order.
    """
    path = Path(path)
    try:
        before = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CobeError(f"{path}: {error.strerror}; give the README's path") from error
    if (
        before.count(BEGIN) != 1
        or before.count(END) != 1
        or before.index(BEGIN) > before.index(END)
    ):
        raise CobeError(f"{path}: needs {BEGIN} and, after it, {END}, once each; put them in")
    head, rest = before.split(BEGIN)
    try:
        write_text(path, head + text.rstrip("\n") + rest.split(END)[1])
    except OSError as error:
        raise CobeError(f"{path}: {error.strerror}; make room or make it writable") from error
