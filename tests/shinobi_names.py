"""A tree of the whole shinobi dataset as a fresh clone has it: links without content.

What is from the public repositories (courtois-neuromod/shinobi and shinobi.fmriprep): the labels of
subjects and sessions, the runs of each, which runs have no events or annexed ones, the form of the
names of files, the 7 empty cells, the odd names rep-00 and rep-010, the restarts of the numbers in
two sessions. From the inventory of that dataset: per subject the sum, least, median and most
volumes, the rows of events, those with a replay and the runs fully covered; the count of each
level; the ends of BOLD in sub-01/ses-013 and sub-02/ses-013, and the quantiles of the others.
All other numbers are made to fit these: onsets and durations are of nobody's play.
"""

import json
from collections import Counter

import numpy as np

from brain_tree import SPACE, TR_S, as_repository, dangling, write_rest

RUNS = {
    "sub-01": dict(zip(range(2, 14), (4, 4, 5, 4, 5, 5, 5, 4, 3, 4, 4, 6), strict=True)),
    "sub-02": dict(zip((2, *range(5, 16)), (5, 2, 3, 5, 5, 4, 6, 6, 5, 5, 4, 5), strict=True)),
    "sub-04": dict.fromkeys(range(1, 12), 5),
    "sub-06": dict(zip((1, *range(3, 14)), (4, 4, 4, 4, 4, 4, 5, 5, 4, 5, 4, 5), strict=True)),
}
ANNEXED_EVENTS = ("sub-04", 7)
NO_EVENTS = ("sub-06", 9)
DERIVATIVES_ONLY = ("sub-02", 1)
# Sum, least, median and most volumes of a run.
VOLUMES = {
    "sub-01": (23685, 407, 445, 508),
    "sub-02": (25331, 407, 458, 522),
    "sub-04": (25726, 408, 469, 538),
    "sub-06": (25486, 364, 499, 561),
}
# Runs with 2, 3, 4 and 5 rows of events: they give the rows of each subject and of each level.
ROWS = {
    "sub-01": (0, 0, 25, 28),
    "sub-02": (0, 1, 44, 10),
    "sub-04": (0, 1, 47, 2),
    "sub-06": (5, 41, 1, 0),
}
LEVELS = ("1-0", "4-1", "5-0")
# The first run of a session lost no replay; neither did so many others.
COVERED_LATER = {"sub-01": 1, "sub-02": 2, "sub-04": 0, "sub-06": 1}
# Nor did the run before which the task was started again; its replays are numbered anew.
RESTARTED = (("sub-01", 13, 2), ("sub-02", 5, 2))
LOST_TWICE = {"sub-01": 0, "sub-02": 0, "sub-04": 1, "sub-06": 2}
EMPTY_CELLS = {("sub-02", 7): (3, 4, 5), ("sub-04", 10): (2, 3, 4, 5)}
# Ends of BOLD after the last play in sub-01/ses-013, rotated back; as filed they are 3.9, 104.8 ...
ROTATED = ("sub-01", 13)
ROTATED_VOLUMES = (420, 482, 464, 424, 470, 421)
ROTATED_TAILS_S = (12.5, 21.3, 5.0, 5.5, 11.3, 5.4)
CUT = ("sub-02", 13, 2)
CUT_TAIL_S = -3.3
GAP_S = 6.05


def keys(subject):
    return [(subject, ses, run) for ses, n in RUNS[subject].items() for run in range(1, n + 1)]


def volumes(subject, rng):
    """Volumes of every run, to the sum, least, median and most of the subject."""
    total, least, median, most = VOLUMES[subject]
    all_keys = keys(subject)
    fixed = {}
    if subject == ROTATED[0]:
        fixed = {(*ROTATED, i + 1): n for i, n in enumerate(ROTATED_VOLUMES)}
    n = len(all_keys)
    values = [least, *([median] if n % 2 else [median, median]), most, *fixed.values()]
    below = (n - 1) // 2 - 1 - sum(v < median for v in fixed.values())
    above = (n - 1) // 2 - 1 - sum(v > median for v in fixed.values())
    low = np.linspace(least, median, below + 2)[1:-1].round().astype(int)
    high = np.linspace(median, most, above + 2)[1:-1].round().astype(int)
    # Pull the two halves toward the median or the ends, one volume at a time, until the sum fits.
    missing = total - sum(values) - low.sum() - high.sum()
    while missing:
        half, ends = ((low, (least, median)), (high, (median, most)))[int(rng.integers(2))]
        at, step = rng.integers(len(half)), int(np.sign(missing))
        if ends[0] <= half[at] + step <= ends[1]:
            half[at] += step
            missing -= step
    free = rng.permutation([*values[: -len(fixed) or None], *low, *high])
    rest = iter(free.tolist())
    return {key: fixed.get(key) or next(rest) for key in all_keys}


def tails(n, rng):
    """Seconds of BOLD after the last play: the quantiles of the dataset."""
    at = np.linspace(0, 1, n)
    value = np.interp(at, [0, 0.05, 0.5, 0.91, 0.95, 1], [0.4, 2.1, 5.1, 14.5, 24.4, 63.6])
    return rng.permutation(value.round(1)).tolist()


def events_of(subject, rng):
    """(session, run) to rows of (level, replay there); by the rule that lost the replays."""
    with_events = [key for key in keys(subject) if key[:2] not in (ANNEXED_EVENTS, NO_EVENTS)]
    sizes = rng.permutation(np.repeat((2, 3, 4, 5), ROWS[subject])).tolist()
    for i, key in enumerate(with_events):
        if key[:2] == RESTARTED[1][:2]:  # four plays in both runs, known by their names
            four = max(j for j, size in enumerate(sizes) if size == 4)
            sizes[i], sizes[four] = sizes[four], sizes[i]
    later = [key for key in with_events if key[2] > 1 and key not in RESTARTED]
    later = [key for key in later if key[:2] not in EMPTY_CELLS]
    spared = {later[i] for i in rng.permutation(len(later))[: COVERED_LATER[subject]]}
    twice = [key for key in later if key not in spared][: LOST_TWICE[subject]]
    rows, before = {}, 0
    for key, size in zip(with_events, sizes, strict=True):
        there = [True] * size
        if key[2] > 1 and key not in spared and key not in RESTARTED:
            # The first play of the level that ended the run before is lost.
            lost = 0 if key[2] in EMPTY_CELLS.get(key[:2], ()) else (before - 1) % 3
            there[min(lost, size - 1)] = False
            if key in twice:
                there[there.index(True)] = False
        rows[key] = [(LEVELS[i % 3], there[i]) for i in range(size)]
        before = size
    return rows


def stem(key, padded=True):
    subject, session, run = key
    number = f"{run:02d}" if padded else run
    return f"{subject}_ses-{session:03d}_task-shinobi_run-{number}"


def write_names(root):
    """Write the tree, in the layout side by side; returns volumes and rows of every run."""
    rng = np.random.default_rng(0)
    raw, fmriprep = as_repository(root / "shinobi"), as_repository(root / "shinobi.fmriprep")
    (raw / "stimuli").mkdir()
    (raw / "task-shinobi_bold.json").write_text(json.dumps({"RepetitionTime": TR_S}))
    n_volumes, rows = {}, {}
    for subject in RUNS:
        n_volumes |= volumes(subject, rng)
        rows |= events_of(subject, rng)
    in_time = [key for key in rows if key[:2] != ROTATED and key != CUT]
    tail_s = dict(zip(in_time, tails(len(in_time), rng), strict=True)) | {CUT: CUT_TAIL_S}
    play_s = {key: n_volumes[key] * TR_S - tail_s[key] for key in tail_s}
    for bold_run, tail in enumerate(ROTATED_TAILS_S, start=1):
        # The events of run 2 belong to BOLD run 1, ..., those of run 1 to BOLD run 6.
        play_s[*ROTATED, bold_run % 6 + 1] = n_volumes[*ROTATED, bold_run] * TR_S - tail
    for key in n_volumes:
        _write_raw_run(raw, key, n_volumes[key])
        _write_derived_run(fmriprep, key)
    _write_derived_run(fmriprep, (*DERIVATIVES_ONLY, 1))
    count = Counter()
    for key in rows:
        if key in RESTARTED:
            count.clear()
        _write_events(raw, key, rows[key], play_s[key], count, rng)
    for run in range(1, 6):
        key = (*ANNEXED_EVENTS, run)
        dangling(_func(raw, key) / f"{stem(key)}_events.tsv")
        for level in (1, 4, 5):
            dangling(_gamelogs(raw, key) / f"{stem(key)}_level-{level}_rep-{run:02d}.bk2")
    first = (*ANNEXED_EVENTS, 1)
    dangling(_gamelogs(raw, first) / f"{stem(first)}_level-1_rep-00.bk2")
    return n_volumes, rows


def _func(root, key):
    return root / key[0] / f"ses-{key[1]:03d}" / "func"


def _gamelogs(root, key):
    return root / key[0] / f"ses-{key[1]:03d}" / "gamelogs"


def _write_raw_run(raw, key, n_volumes):
    folder, name = _func(raw, key), stem(key)
    for end in ("bold.nii.gz", "sbref.nii.gz", "desc-annotated_events.tsv"):
        dangling(folder / f"{name}_{end}")
    (folder / f"{name}_physio.tsv.gz").write_text("/annex/objects/MD5E-s99--ff.tsv.gz\n")
    sidecar = {"RepetitionTime": TR_S, "dcmmeta_shape": [104, 104, 60, n_volumes]}
    sidecar["dcmmeta_slices"] = ["0" * 100] * 400
    (folder / f"{name}_bold.json").write_text(json.dumps(sidecar))
    if key[2] == 1 and key[1] in (2, 5):
        dangling(folder / f"{name}_bold__dup-01.nii.gz")
        (folder / f"{name}_bold__dup-01.json").write_text('{"dcmmeta_shape": [104, 104, 60, 3]}')


def _write_derived_run(fmriprep, key):
    folder, name = _func(fmriprep, key), stem(key, padded=False)
    for space in ("space-T1w", SPACE):
        for end in ("boldref", "desc-aseg_dseg", "desc-brain_mask", "desc-preproc_bold"):
            dangling(folder / f"{name}_{space}_{end}.nii.gz")
        sidecar = {"RepetitionTime": TR_S, "TaskName": "shinobi"}
        (folder / f"{name}_{space}_desc-preproc_bold.json").write_text(json.dumps(sidecar))
    dangling(folder / f"{name}_space-fsLR_den-91k_bold.dtseries.nii")
    dangling(folder / f"{name}_desc-confounds_timeseries.tsv")
    (folder / f"{name}_desc-confounds_timeseries.json").write_text("{}")


def _write_events(raw, key, rows, play_s, count, rng):
    """Durations that fill the time of play; replays numbered by level within the session."""
    share = rng.uniform(0.8, 1.2, len(rows))
    duration_s = share / share.sum() * (play_s - 0.012 - GAP_S * (len(rows) - 1))
    lines, onset_s = ["trial_type\tonset\tduration\tduration_bk2\tlevel\tstim_file"], 0.012
    for (level, there), duration in zip(rows, duration_s, strict=True):
        stim = "Missing file"
        if key[2] in EMPTY_CELLS.get(key[:2], ()) and not there:
            stim = ""
        if there:
            name = _replay_name(key, level[0], count)
            stim = f"{key[0]}/ses-{key[1]:03d}/gamelogs/{name}"
            dangling(raw / stim)
        lines.append(f"gym-retro_game\t{onset_s}\t{duration}\t{duration}\t{level}\t{stim}")
        onset_s += duration + GAP_S
    path = _func(raw, key) / f"{stem(key)}_events.tsv"
    path.write_text("\n".join(lines) + "\n")


def _replay_name(key, level, count):
    session = (*key[:2], level)
    number = count[session] + (key[:2] != ("sub-04", 10))
    count[session] += 1
    odd = key == ("sub-01", 6, 5) and level == "1"
    return f"{stem(key)}_level-{level}_rep-{'0' * odd}{number:02d}.bk2"


def write_all(root):
    """The tree with anatomy and extracted series beside it."""
    made = write_names(root)
    (root / "shinobi" / "stimuli").rmdir()
    write_rest(root, RUNS)
    return made
