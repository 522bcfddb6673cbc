"""What a folder of figures must hold, what it holds, and whether that is still what was written."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from cobe.core.artifacts import file_sha256
from cobe.core.config import Profile
from cobe.core.disk import lock, readable_os_errors, write_text
from cobe.core.errors import CobeError
from cobe.core.origin import command_of
from cobe.core.records import MANIFEST, read_manifest

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
    files = {row["file"] for row in rows}
    # two notebooks may add theirs at once
    with readable_os_errors(path), lock(folder / ".locks" / "manifest", lambda: None):
        if keep:
            with suppress(CobeError):  # a damaged one has nothing to keep
                others = [row for row in read_manifest(folder) if row["name"] not in names]
                rows += [row for row in others if row["file"] not in files]
        rows.sort(key=lambda row: (row["name"], row["file"]))
        write_text(path, json.dumps({"files": rows}, indent=1) + "\n", alone=True)
    return path


def check_manifest(folder: Path, expected, profile: str = "quick") -> None:
    """Check that every expected figure is there, whole and unchanged.

    Parameters
    ----------
    folder : Path
        Where the figures are.
    expected : iterable of str
        Names; each needs at least one file and a caption. All other files of the manifest are
        checked too.
    profile : str
        Whose figures they are, for the command that makes them again.

    Raises
    ------
    CobeError
        Lists everything that is missing, empty or changed.
    """
    folder = Path(folder)
    rows = read_manifest(folder)
    problems, commands = [], []
    for name in expected:
        mine = [row for row in rows if row["name"] == name]
        if not mine or not all(row["caption"] for row in mine):
            problems.append(f"{name} missing ({'no caption' if mine else 'never made'})")
            commands.append(command_of(mine[0]["made_by"] if mine else "", profile))
    for row in rows:
        path = folder / row["file"]
        if not path.is_file():
            problems.append(f"{row['file']} missing")
        elif path.stat().st_size == 0:
            problems.append(f"{row['file']} empty")
        elif file_sha256(path) != row["sha256"]:
            problems.append(f"{row['file']} changed")
        else:
            continue
        commands.append(command_of(row["made_by"], profile))
    if problems:
        again = " and ".join(dict.fromkeys(commands))
        raise CobeError(f"{folder}: {'; '.join(problems)}; run {again} again")
