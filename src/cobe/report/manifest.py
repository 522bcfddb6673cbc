"""What a folder of figures must hold, what it holds, and whether that is still what was written."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

from cobe.core.artifacts import file_sha256
from cobe.core.bounds import check_bytes
from cobe.core.config import Profile
from cobe.core.disk import folder_to_itself, write_text
from cobe.core.errors import CobeError

MANIFEST = "manifest.json"
MAX_BYTES = 16 * 2**20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
FIGURE_AXES = {
    "fig1_data_size": "data_size",
    "fig2_hidden_dim": "hidden_dim",
    "fig3_n_layers": "n_layers",
    "fig4_n_heads": "n_heads",
    "fig5_precision": "precision",
}
# what is drawn together, by one notebook; FIGURE_AXES belong to "paper"
GROUPS = {
    "paper": (*FIGURE_AXES, "fig6_predicted_frames", "fig_controls"),
    "audit": (
        "fig_null_brain",
        "fig_planted_brain",
        "fig_audit_data_size",
        "fig_audit_readout",
        "fig_audit_width",
        "fig_audit_noise",
        "fig_audit_bands",
        "fig_audit_generality",
    ),
    "scaling": (
        "fig_scaling_loss",
        "fig_scaling_isoflop",
        "fig_scaling_brain",
        "fig_scaling_allocation",
    ),
    "throughput": ("fig_throughput",),
}
# the others are steps of their own, which take long or measure time
DEFAULT_GROUPS = ("paper", "audit")


def figure_names(profile: Profile, groups=DEFAULT_GROUPS) -> list[str]:
    """Names of the figures of some groups, in order; those of axes only where the profile varies.

    Parameters
    ----------
    profile : Profile
        Whose axes.
    groups : sequence of str
        Names in `GROUPS`; by default those of a run without ``--only``.
    """
    varied = {axis.name for axis in profile.axes}
    names = [name for group in groups for name in GROUPS[group]]
    return [name for name in names if FIGURE_AXES.get(name, name) in varied | {name}]


def build_manifest(folder: Path, entries, keep: bool = False) -> Path:
    """Write ``manifest.json``: every file with its checksum, its caption and what made it.

    Parameters
    ----------
    folder : Path
        Where the files are.
    entries : iterable of Saved
        What `cobe.report.save` returned: name, files, caption (file name or ""), made_by.
    keep : bool
        Keep what an earlier manifest says of other names, if it can be read (for a run of some
        figures only).

    Returns
    -------
    path : Path
        Of the manifest.

    Raises
    ------
    CobeError
        A file of an entry is not there, or two entries have one name.
    """
    folder = Path(folder)
    entries = list(entries)
    names = [entry.name for entry in entries]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise CobeError(f"{folder}: {', '.join(double)} saved twice; give each its own name")
    rows = []
    for entry in entries:
        listed = dict.fromkeys([*entry.files, *([entry.caption] if entry.caption else [])])
        for file in listed:
            path = folder / file
            if not path.is_file():
                raise CobeError(f"{path}: not there; save the figure before the manifest")
            rows.append(
                {
                    "name": entry.name,
                    "file": file,
                    "sha256": file_sha256(path),
                    "bytes": path.stat().st_size,
                    "caption": entry.caption,
                    "made_by": entry.made_by,
                }
            )
    path = folder / MANIFEST
    with folder_to_itself(folder):  # two notebooks may add theirs at once
        if keep:
            with suppress(CobeError):  # a damaged one has nothing to keep
                rows += [row for row in read_manifest(folder) if row["name"] not in names]
        rows.sort(key=lambda row: (row["name"], row["file"]))
        write_text(path, json.dumps({"files": rows}, indent=1) + "\n")
    return path


def read_manifest(folder: Path) -> list[dict]:
    """The rows of a manifest: name, file, sha256, bytes, caption, made_by.

    Raises
    ------
    CobeError
        There is none, or it is not one.
    """
    path = Path(folder) / MANIFEST
    check_bytes(path, MAX_BYTES)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["files"]
        wanted = {"name", "file", "sha256", "bytes", "caption", "made_by"}
        if not all(isinstance(row, dict) and wanted <= row.keys() for row in rows):
            raise ValueError("rows lack fields")
        # files lie beside their manifest: a name with a path in it is none of ours
        if not all(isinstance(row["file"], str) and _NAME.fullmatch(row["file"]) for row in rows):
            raise ValueError("a file name that is none")
    except FileNotFoundError:
        raise CobeError(f"{path}: not there; make the figures first (./run_all.sh)") from None
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise CobeError(
            f"{path}: not a manifest ({type(error).__name__}); delete it and make the figures again"
        ) from None
    return rows


def check_manifest(folder: Path, expected) -> None:
    """Check that every expected figure is there, whole and unchanged.

    Parameters
    ----------
    folder : Path
        Where the figures are.
    expected : iterable of str
        Names; each needs at least one file and a caption. All other files of the manifest are
        checked too.

    Raises
    ------
    CobeError
        Lists everything that is missing, empty or changed.
    """
    folder = Path(folder)
    rows = read_manifest(folder)
    problems = []
    for name in expected:
        mine = [row for row in rows if row["name"] == name]
        if not mine:
            problems.append(f"{name} missing (never made)")
        elif not all(row["caption"] for row in mine):
            problems.append(f"{name} missing (no caption)")
    for row in rows:
        path = folder / row["file"]
        if not path.is_file():
            problems.append(f"{row['file']} missing")
        elif path.stat().st_size == 0:
            problems.append(f"{row['file']} empty")
        elif file_sha256(path) != row["sha256"]:
            problems.append(f"{row['file']} changed")
    if problems:
        raise CobeError(f"{folder}: {'; '.join(problems)}; run ./run_all.sh again")
