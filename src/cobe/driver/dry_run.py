"""What a run would do, before it does it: steps, data, what is left out, disk, GPU-hours."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

from cobe.brain import layout
from cobe.brain.dataset import Dataset, read_dataset
from cobe.brain.fetch import annex_file, size_text
from cobe.brain.files import NOT_DOWNLOADED, why_absent
from cobe.brain.inventory import download_notes, listing_line, wanted
from cobe.brain.timeseries import find_dseg
from cobe.core.config import Cell, Profile, axis_cells
from cobe.core.errors import CobeError
from cobe.core.parallel import n_workers
from cobe.core.paths import build_dir, data_dir, figures_dir
from cobe.core.profiles import PROFILES
from cobe.core.timing import CLIP_SPAN_FRAMES, FRAME_RATE_HZ
from cobe.driver.plan import DRAWN_BY
from cobe.encoding.splits import split_sessions
from cobe.sweep.arms import all_arm_cells
from cobe.sweep.grid_plan import ASSUMED_GPU, assumed_rate, plan_table, side_by_side
from cobe.sweep.models import paper_cells
from cobe.sweep.pipeline import replayed, stimuli_with_rom, usable_runs
from cobe.sweep.scan_hours import check_run_hours
from cobe.sweep.targets import check_space, source_there
from cobe.video.flops import total_flops, train_flops, vqvae_flops

# compressed 128x128 frames of a detailed game, and the throughput assumed of one H100 (25 % of
# 989 TFLOP/s dense bf16): assumptions of the preview, not measurements
ASSUMED_BYTES_PER_FRAME = 6_000
ASSUMED_FLOP_PER_S = 0.25 * 989e12
N_SHOWN = 12


def training_flop(profile: Profile, cells: list[Cell]) -> tuple[float, float]:
    """Arithmetic of the training of the VQ-VAE and of these cells, counted part by part."""
    vqvae, train = profile.vqvae, profile.train
    of_vqvae = vqvae.n_steps * total_flops(vqvae_flops(vqvae, vqvae.batch_size))
    shape = (vqvae.n_codes, vqvae.code_dim, vqvae.grid)
    return of_vqvae, sum(
        train_flops(cell, *shape, cell.n_steps or train.n_steps, train.batch_size)
        for cell in cells
        if cell.trained
    )


def cells_of(profile: Profile, steps) -> list[Cell]:
    """The models that these steps make, each once; the joint grid has a table of its own."""
    cells: dict[Cell, None] = {}
    for step in steps:
        if "axes" in step.parameters:
            cells |= dict.fromkeys(paper_cells(profile, step.parameters["axes"]))
        if step.name == DRAWN_BY["audit"]:
            axes = [axis.name for axis in profile.axes]
            cells |= dict.fromkeys([*paper_cells(profile, axes), *all_arm_cells(profile)])
    return list(cells)


def grid_lines(profile: Profile) -> list[str]:
    """What the joint grid costs, by kind of cell, and what the prediction rests on."""
    rate = assumed_rate(profile)
    workers = side_by_side(rate, n_workers())
    unit = "GPU" if rate is ASSUMED_GPU else "worker"
    table = plan_table(profile, rate, workers)
    lines = [f"joint grid: {len(table)} models, cheapest first; predicted by {table.rate.iloc[0]}"]
    for kind, rows in table.groupby("kind", sort=False):
        seconds = rows.train_s.sum() + rows.score_s.fillna(0).sum()
        lines.append(
            f"  {kind:<10} {len(rows):>4} models, {rows.flop.sum():.2e} FLOP, "
            f"{seconds / 60:,.0f} minutes of one {unit}"
        )
    what = "" if table.score_s.notna().all() else ", scoring and validation not counted"
    lines.append(
        f"  in all {table.cum_s.iloc[-1] / 60:,.0f} minutes with {workers} {unit}"
        f"{'' if workers == 1 else 's'}{what}; it goes on where it was stopped"
    )
    return lines


def describe(profile: Profile, steps, figures: list[str]) -> str:
    """The preview as text."""
    lines = [f"profile {profile.name}: {len(steps)} notebooks, {len(figures)} figures"]
    for step in steps:
        state = "done already" if step.done() else "to do"
        lines.append(f"  {step.name:<20} {state}")
    cells = cells_of(profile, steps)
    n_trained = sum(cell.trained for cell in cells)
    if cells:
        lines.append(
            f"cells: {n_trained} to train, {len(cells) - n_trained} untrained controls, "
            f"{profile.train.n_steps} steps of {profile.train.batch_size} windows each (fewer "
            "where data sizes are compared at equal epochs)"
        )
    has_grid = any(step.name == DRAWN_BY["scaling"] for step in steps)
    if has_grid:
        lines += grid_lines(profile)
    if profile.plan is None:
        given = next((s.parameters["data"] for s in steps if s.parameters.get("data")), "")
        lines += _real_data(profile, data_dir(given), has_grid)
        vqvae, gpt = (n / ASSUMED_FLOP_PER_S / 3600 for n in training_flop(profile, cells))
        what = f"{gpt:.1f} hours on one H100 for the GPT cells and {vqvae:.1f} for the VQ-VAE"
        if not cells:
            what = f"{vqvae:.1f} hours on one H100 for the VQ-VAE"
        above = "; the joint grid is priced above" if has_grid else ""
        lines.append(
            f"GPU: {what}, if {ASSUMED_FLOP_PER_S / 1e12:.0f} TFLOP/s are reached (the arithmetic "
            f"is counted, the rate assumed and not measured){above}"
        )
    else:
        plan = profile.plan
        runs = len(plan.subjects) * sum(n_runs for _, n_runs in plan.sessions)
        seconds = runs * plan.repetitions_per_run * plan.repetition_s
        lines.append(
            f"data: simulated, {len(plan.subjects)} participants, {runs} runs, "
            f"{seconds * 60:,.0f} frames of play, about "
            f"{seconds * 60 / CLIP_SPAN_FRAMES:,.0f} clips"
        )
    lines.append(f"work files: {build_dir(profile.name)}; figures: {figures_dir(profile.name)}")
    lines.append(f"profiles: {', '.join(PROFILES)}")
    return "\n".join(lines)


def _real_data(profile: Profile, folder: Path, has_grid: bool) -> list[str]:
    """What the folder holds, what of it is left out and why, and what it would take."""
    space = os.environ.get("COBE_SPACE") or layout.SPACE
    source = os.environ.get("COBE_SOURCE") or source_there(folder, space)
    dataset = read_dataset(folder, space=space, source=source)
    usable = usable_runs(dataset)
    what = "extracted series" if source == "timeseries" else f"volumes, {space}"
    lines = [f"data: {folder} ({what}): {len(usable)} of {len(dataset.runs)} runs can be used"]
    table = dataset.totals()
    columns = ["subject", "sessions", "runs", "usable_runs", "volumes", "repetitions", "replays"]
    lines += [f"  {line}" for line in table[columns].to_string(index=False).splitlines()]
    left_out = [
        f"{run.name}: {'not downloaded' if NOT_DOWNLOADED in run.why else run.why}"
        for run in dataset.runs
        if not run.usable
    ]
    inventory = listing_line(folder, space, source)
    lines += _some("runs left out", left_out, inventory)
    reasons = Counter(_kind(rep.why) for run in usable for rep in run.repetitions if rep.why)
    lines += [f"  repetitions without a replay, {why}: {n}" for why, n in reasons.most_common()]
    lines += [
        f"  correction {c.correction.name}: {c.status}"
        for c in dataset.corrections
        if c.status != "absent"
    ]
    lines += _some("findings", list(dataset.findings), inventory)
    lines += _some(*download_notes(dataset), inventory)
    missing = [annex_file(path) for path in _files(dataset)]
    if missing:
        n_bytes = sum(file.n_bytes or 0 for file in missing)
        lines.append(f"  download: {len(missing)} files, {size_text(n_bytes)}")
    if source == "fmriprep":
        try:
            check_space(folder, space, os.environ.get("COBE_ATLAS", ""))
        except CobeError as error:
            lines.append(f"parcels: cannot be made: {error}")
    return lines + _rom(dataset) + _video(profile, dataset, has_grid) + _disk(profile, dataset)


def _files(dataset: Dataset) -> list[Path]:
    """Every file that is still to be downloaded: of BOLD and key logs, of runs of use."""
    paths = {rep.bk2 for run in dataset.runs for rep in run.repetitions}
    for run in filter(wanted, dataset.runs):
        if dataset.source != "timeseries":
            paths |= {run.bold, run.mask, run.confounds}
        elif run.timeseries:
            paths |= {run.timeseries, find_dseg(run.timeseries)}
    return sorted(path for path in paths if path and why_absent(path).startswith(NOT_DOWNLOADED))


def _some(title: str, entries: list[str], inventory: str) -> list[str]:
    lines = [f"  {len(entries)} {title}"] if entries else []
    lines += [f"    {entry}" for entry in entries[:N_SHOWN]]
    if len(entries) > N_SHOWN:
        lines.append(f"    ... and {len(entries) - N_SHOWN} more: {inventory}")
    return lines


def _kind(why: str) -> str:
    """A reason without the file that it is about."""
    if NOT_DOWNLOADED in why:
        return "not downloaded"
    if why.startswith("no replay"):
        return "none named in the events"
    if why.startswith("no file"):
        return "named in the events and not there"
    if " by its name " in why:
        return "named for another play"
    if " named by " in why or ": the same content as " in why:
        return "one replay for several plays"
    return "replay and play of different lengths" if " for a play of " in why else "unreadable"


def _rom(dataset: Dataset) -> list[str]:
    if not any(replayed(run) for run in usable_runs(dataset)):
        return ["ROM: not checked, no replay names a game"]
    try:
        place = stimuli_with_rom(dataset) or "stable-retro's own folder"
    except CobeError as error:
        return [f"ROM: missing, so nothing can be played: {error}"]
    return [f"ROM: there, in {place}"]


def _video(profile: Profile, dataset: Dataset, has_grid: bool) -> list[str]:
    """Whether the sessions hold what the largest cell and the grid's scan hours ask for."""
    try:
        split = split_sessions(usable_runs(dataset), profile.video_sessions)
    except CobeError as error:
        return [f"split: cannot be made: {error}"]
    n_frames = sum(_frames(run) for run in split.video)
    asked = [cell.n_frames for axis in profile.axes for cell in axis_cells(profile, axis)]
    largest = max(asked + (list(profile.grid.n_frames) if has_grid else []))
    state = "enough" if n_frames >= largest else "NOT ENOUGH: the run would stop there"
    line = (
        f"split: {len(split.video)} runs for the video model, {len(split.ridge)} for the ridge; "
        f"{n_frames:,} frames to train on, the largest cell takes {largest:,}: {state}"
    )
    return [line, *(hours_lines(profile, split.ridge) if has_grid else [])]


def hours_lines(profile: Profile, runs) -> list[str]:
    """Whether the scan hours of the joint grid can be had of these runs of the ridge."""
    asked = ", ".join(f"{hours:g}" for hours in profile.grid.scan_hours)
    try:
        check_run_hours(profile, {run.key: run.n_trs for run in runs})
    except CobeError as error:
        return [f"scan hours of the joint grid: CANNOT BE HAD: the run would stop there: {error}"]
    return [f"scan hours of the joint grid: {asked}: enough volumes"]


def _frames(run) -> int:
    return sum(round(rep.replay_s * FRAME_RATE_HZ) for rep in replayed(run))


def _disk(profile: Profile, dataset: Dataset) -> list[str]:
    """Frames to store, besides the dataset, against what is free where they would go."""
    replays = [rep for run in usable_runs(dataset) for rep in replayed(run)]
    n_frames = sum(_frames(run) for run in usable_runs(dataset))
    named = [rep for run in dataset.runs for rep in run.repetitions if rep.bk2]
    named_gib = _gib(sum(rep.duration_s for rep in named) * FRAME_RATE_HZ)
    work = build_dir(profile.name)
    there = next(path for path in (work, *work.parents) if path.is_dir())
    free_gib = shutil.disk_usage(there).free / 2**30
    state = "" if named_gib < free_gib else ": TOO LITTLE; set COBE_BUILD to a larger disk"
    return [
        f"disk: about {_gib(n_frames):.1f} GiB for the frame store, if the {n_frames:,} frames of "
        f"{len(replays)} replays take {ASSUMED_BYTES_PER_FRAME:,} bytes each (assumed); "
        f"{named_gib:.1f} GiB with all {len(named)} replays that the events name; "
        f"{free_gib:.1f} GiB are free at {there}{state}"
    ]


def _gib(n_frames: float) -> float:
    return n_frames * ASSUMED_BYTES_PER_FRAME / 2**30
