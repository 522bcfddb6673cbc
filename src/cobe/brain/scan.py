"""What the images and sidecars of one run say, and whether they fit each other."""

from __future__ import annotations

import math
from pathlib import Path

from cobe.brain.files import NiftiHeader, read_json, read_nifti_header, why_absent
from cobe.brain.layout import RunKey
from cobe.brain.records import Run
from cobe.core.errors import CobeError

TR_TOLERANCE_S = 1e-3
NO_FMRIPREP = "no fMRIPrep derivatives found: name their folder with --fmriprep"


def scan_run(
    key: RunKey,
    raw: dict[str, Path],
    derived: dict[str, Path] | None,
    task_tr_s: float | None,
) -> tuple[Run, list[str]]:
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

    Returns
    -------
    run : Run
        Not usable yet, without repetitions.
    problems : list of str
    """
    problems = [
        f"{files['twice']}: a second file for the same run; remove one"
        for files in (raw, derived or {})
        if "twice" in files
    ]
    paths = {kind: (derived or {}).get(kind) for kind in ("bold", "mask", "confounds")}
    missing = {kind: _why_missing(kind, path) for kind, path in paths.items()}
    problems += [NO_FMRIPREP] if derived is None else [why for why in missing.values() if why]
    there = {kind: path for kind, path in paths.items() if not missing[kind]}

    tr_s, volumes = {}, {}
    for name, files in (("raw", raw), ("fMRIPrep", derived or {})):
        if "json" in files and not why_absent(files["json"]):
            try:
                sidecar = read_json(files["json"])
            except CobeError as error:
                problems.append(str(error))
                continue
            tr_s[f"{name} JSON"] = sidecar.get("RepetitionTime")
            shape = sidecar.get("dcmmeta_shape")
            if isinstance(shape, list) and len(shape) == 4 and isinstance(shape[3], int):
                volumes[f"{name} JSON"] = shape[3]
    if tr_s.get("raw JSON") is None:
        tr_s["task JSON"] = task_tr_s

    headers = {}
    for kind in ("bold", "mask"):
        if kind in there:
            try:
                headers[kind] = read_nifti_header(there[kind])
            except CobeError as error:
                problems.append(str(error))
    problems += _grid_problems(headers, there)
    if "bold" in headers and len(headers["bold"].shape) == 4:
        volumes["BOLD"] = headers["bold"].shape[3]
        tr_s["BOLD header"] = headers["bold"].tr_s
    rows = {"confounds": _count_rows(there["confounds"])} if "confounds" in there else {}

    tr_s = {source: float(tr) for source, tr in tr_s.items() if isinstance(tr, int | float)}
    problems += _disagreement("TR", tr_s, TR_TOLERANCE_S, " s")
    problems += _disagreement("volumes", volumes | rows, 0, "")
    n_trs = volumes.get("BOLD", volumes.get("raw JSON"))
    known_tr_s = next(iter(tr_s.values()), math.nan)
    if not n_trs:
        problems.append("number of volumes unknown: no BOLD and no dcmmeta_shape in the raw JSON")
        n_trs = None
    if not known_tr_s > 0:
        problems.append("TR unknown: no RepetitionTime above 0 in any JSON or header")
        known_tr_s = math.nan
    run = Run(*key, **paths, n_trs=n_trs, tr_s=known_tr_s, repetitions=(), usable=False)
    return run, problems


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
