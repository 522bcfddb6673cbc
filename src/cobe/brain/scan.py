"""What the images and sidecars of one run say, and whether they fit each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from cobe.brain.files import NiftiHeader, read_json, read_nifti_header, why_absent
from cobe.brain.layout import RunKey
from cobe.brain.records import Run
from cobe.core.errors import CobeError

TR_TOLERANCE_S = 1e-3
# Two days of scanning: a JSON that states more is damaged.
MAX_VOLUMES = 100_000
NO_FMRIPREP = "no fMRIPrep derivatives found: name their folder with --fmriprep"
NO_TIMESERIES = "no extracted series found: name their folder with --timeseries"


@dataclass(frozen=True)
class Series:
    """A file of extracted series: (n_trs, n_columns) of every run in it, or why it is unread."""

    path: Path | None
    shapes: dict[RunKey, tuple[int, int]]
    why: str = ""


@dataclass(frozen=True)
class Scan:
    """A run without its plays, what is wrong with its files, and the header of its BOLD."""

    run: Run
    problems: tuple[str, ...]
    header: NiftiHeader | None


def scan_run(
    key: RunKey,
    raw: dict[str, Path],
    derived: dict[str, Path] | None,
    task_tr_s: float | None,
    series: Series | None = None,
    source: str = "fmriprep",
) -> Scan:
    """A run without its plays, and everything that is wrong with its files.

    Only headers, sidecars and the number of rows of the confounds are read.

    Parameters
    ----------
    key : tuple
        Subject, session, number of the run.
    raw, derived : dict of str to Path
        Files of the run by kind, see `cobe.brain.layout`; `derived` None: no derivatives at all.
    task_tr_s : float or None
        TR of the task, for a run without a JSON of its own.
    series : Series or None
        File of extracted series of the subject.
    source : str
        "fmriprep" or "timeseries": which BOLD has to be there and fit.

    Returns
    -------
    scan : Scan
    """
    problems = [
        f"{files['twice']}: a second file for the same run; remove one"
        for files in (raw, derived or {})
        if "twice" in files
    ]
    paths = {kind: (derived or {}).get(kind) for kind in ("bold", "mask", "confounds")}
    run = Run(
        *key, **paths, n_trs=None, tr_s=math.nan, repetitions=(), usable=False,
        timeseries=series.path if series else None,
    )  # fmt: skip
    tr_s, volumes = _read_sidecars(raw, derived or {}, problems)
    if tr_s.get("raw JSON") is None:
        tr_s["task JSON"] = task_tr_s
    rows, grid = {}, None
    if source == "timeseries":
        rows = _series_rows(run, series, problems)
    else:
        problems += [NO_FMRIPREP] if derived is None else []
        grid = _read_images(run, derived is not None, tr_s, volumes, rows, problems)

    tr_s = {source: float(tr) for source, tr in tr_s.items() if isinstance(tr, int | float)}
    problems += _disagreement("TR", tr_s, TR_TOLERANCE_S, " s")
    problems += _disagreement("volumes", volumes | rows, 0, "")
    n_trs = volumes.get("BOLD", volumes.get("raw JSON", rows.get("extracted series")))
    known_tr_s = next(iter(tr_s.values()), math.nan)
    if not n_trs:
        problems.append("number of volumes unknown: no BOLD and no dcmmeta_shape in the raw JSON")
        n_trs = None
    if not known_tr_s > 0:
        problems.append("TR unknown: no RepetitionTime above 0 in any JSON or header")
        known_tr_s = math.nan
    return Scan(replace(run, n_trs=n_trs, tr_s=known_tr_s), tuple(problems), grid)


def _read_sidecars(raw, derived, problems: list[str]) -> tuple[dict, dict]:
    """TR in s and number of volumes by the JSON that states it."""
    tr_s, volumes = {}, {}
    for name, files in (("raw", raw), ("fMRIPrep", derived)):
        if "json" in files and not why_absent(files["json"]):
            try:
                sidecar = read_json(files["json"])
            except CobeError as error:
                problems.append(str(error))
                continue
            tr = tr_s[f"{name} JSON"] = sidecar.get("RepetitionTime")
            if tr is not None and (isinstance(tr, bool) or not isinstance(tr, int | float)):
                problems.append(f"{files['json']}: RepetitionTime {tr!r} is no number; correct it")
            shape = sidecar.get("dcmmeta_shape")
            if isinstance(shape, list) and len(shape) == 4:
                n = shape[3]
                if isinstance(n, int) and 0 < n < MAX_VOLUMES:
                    volumes[f"{name} JSON"] = n
                else:
                    problems.append(
                        f"{files['json']}: dcmmeta_shape of {n!r:.20} volumes; correct it"
                    )
    return tr_s, volumes


def _read_images(run: Run, derived: bool, tr_s, volumes, rows, problems) -> NiftiHeader | None:
    """Headers of BOLD and mask and rows of the confounds, into the given tables."""
    headers, paths = {}, {}
    for kind in ("bold", "mask", "confounds"):
        path = getattr(run, kind)
        if why := _why_missing(kind, path):
            problems += [why] if derived else []
            continue
        paths[kind] = path
        try:
            if kind == "confounds":
                rows["confounds"] = _count_rows(path)
            else:
                headers[kind] = read_nifti_header(path)
        except CobeError as error:
            problems.append(str(error))
    problems += _grid_problems(headers, paths)
    if "bold" not in headers or len(headers["bold"].shape) != 4:
        return None
    volumes["BOLD"] = headers["bold"].shape[3]
    tr_s["BOLD header"] = headers["bold"].tr_s
    return headers["bold"]


def _series_rows(run: Run, series: Series | None, problems: list[str]) -> dict[str, int]:
    if series is None:
        problems.append(NO_TIMESERIES)
    elif series.why:
        problems.append(series.why)
    elif run.key not in series.shapes:
        problems.append(f"{series.path}: no series of the run in it")
    else:
        return {"extracted series": series.shapes[run.key][0]}
    return {}


def _why_missing(kind: str, path: Path | None) -> str:
    return why_absent(path) if path else f"no {kind} in the fMRIPrep derivatives"


def _grid_problems(headers: dict[str, NiftiHeader], paths: dict[str, Path]) -> list[str]:
    problems = []
    if "bold" in headers and len(headers["bold"].shape) != 4:
        n = len(headers["bold"].shape)
        problems.append(f"{paths['bold']}: {n} dimensions, not 4; get it again")
    if len(headers) == 2 and not headers["bold"].same_grid(headers["mask"]):
        problems.append(f"{paths['mask']}: not on the grid of the BOLD; get both again")
    return problems


def _disagreement(what: str, values: dict[str, float], tolerance: float, unit: str) -> list[str]:
    if not values or max(values.values()) - min(values.values()) <= tolerance:
        return []
    return [f"{what} differ: " + ", ".join(f"{v:g}{unit} in {k}" for k, v in values.items())]


def _count_rows(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip()) - 1
