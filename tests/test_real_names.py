"""The whole dataset by its names alone: totals, corrections, lines to type, in seconds."""

import json
import subprocess
import sys

import numpy as np
import pytest

import brain_tree
import shinobi_names
import test_fetch
from brain_tree import Play, RunPlan, write_tree
from cobe.brain.checks import doubt_sessions
from cobe.brain.dataset import read_dataset
from cobe.brain.inventory import as_text, downloads, not_needed
from cobe.brain.records import Repetition, Run

LONG = (Play("1-0", 16.0), Play("4-1", 12.0), Play("5-0", 10.0))

# ---- the whole dataset, by its names

INVENTORY = """
import pathlib, sys, time
from cobe.brain.dataset import main
began = time.monotonic()
code = main([sys.argv[1], "--json"])
status = pathlib.Path("/proc/self/status").read_text()  # not ru_maxrss: it keeps the parent's
peak_gib = int(status.partition("VmHWM:")[2].split()[0]) / 2**20
print(time.monotonic() - began, peak_gib, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole") / "data"
    return root, *shinobi_names.write_names(root)


@pytest.fixture(scope="module")
def listing(whole):
    command = [sys.executable, "-c", INVENTORY, str(whole[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak_gib = map(float, done.stderr.split("\n")[-2].split())
    return json.loads(done.stdout), seconds, peak_gib


def test_the_whole_dataset_is_listed_in_seconds_and_little_memory(listing):
    _, seconds, peak_gib = listing
    assert seconds < 30
    assert peak_gib < 1


def test_totals_are_those_of_the_dataset(listing):
    listed, _, _ = listing
    totals = {row["subject"]: row for row in listed["subjects"]}
    expected = {
        "runs": (53, 55, 55, 52),
        "sessions": (12, 12, 11, 12),
        "volumes": (23685, 25331, 25726, 25486),
        "repetitions": (240, 229, 201, 137),
        "named": (201, 189, 160, 100),
        "covered_runs": (14, 15, 10, 12),
        "replays": (0, 0, 0, 0),
        "usable_runs": (0, 0, 0, 0),
        "unknown_runs": (0, 0, 0, 0),
    }
    for column, values in expected.items():
        assert tuple(row[column] for row in totals.values()) == values, column
    hours = [row["hours"] for row in totals.values()]
    assert [round(h, 2) for h in hours] == [9.80, 10.48, 10.65, 10.55]
    for row in totals.values():
        assert 0.6 * row["volumes"] < row["named_trs"] < 0.9 * row["volumes"]


def test_repetitions_are_those_of_the_dataset(listing):
    listed, _, _ = listing
    repetitions = [r for run in listed["runs"] for r in run["repetitions"]]
    assert len(repetitions) == 807
    assert sum(r["bk2"] is None for r in repetitions) == 157
    levels = [r["level"] for r in repetitions]
    assert [levels.count(level) for level in ("1-0", "4-1", "5-0")] == [362, 245, 200]
    with_events = [run for run in listed["runs"] if run["repetitions"]]
    assert len(with_events) == 205
    assert sum(all(r["bk2"] for r in run["repetitions"]) for run in with_events) == 51
    assert len(listed["runs"]) == 216
    names = " ".join(str(r["bk2"]) for r in repetitions)
    assert "_rep-00.bk2" in names and "run-05_level-1_rep-0" in names
    assert "sub-04_ses-007" not in names  # on disk, and no readable events name them


def test_every_run_says_what_is_missing(listing):
    listed, _, _ = listing
    why = {(run["subject"], run["session"], run["run"]): run["why"] for run in listed["runs"]}
    assert all("no events" in why["sub-06", "ses-009", run] for run in range(1, 6))
    events = why["sub-04", "ses-007", 3]
    assert events.startswith("events not downloaded: cd ")
    assert "datalad get sub-04/ses-007/func/sub-04_ses-007_task-shinobi_run-03_events.tsv" in events
    assert why["sub-02", "ses-001", 1].startswith("excluded")
    assert all("datalad get" in reason for key, reason in why.items() if key[1] == "ses-002")


def test_the_four_corrections_are_found(listing):
    listed, _, _ = listing
    assert {c["name"]: c["status"] for c in listed["corrections"]} == {
        "sub-01_ses-013_events_moved": "applied",
        "sub-02_ses-005_replays_swapped": "applied",
        "sub-04_ses-007_replays_swapped": "waiting",
        "sub-02_ses-001_excluded": "applied",
    }
    tails = [run["tail_s"] for run in listed["runs"] if "/ses-013/" in run["bold"]]
    assert tails[:6] == pytest.approx([12.5, 21.3, 5.0, 5.5, 11.3, 5.4])
    (cut,) = listed["findings"]
    assert cut.startswith("sub-02_ses-013_run-2: BOLD ends 3.3 s before the last play")


def test_the_rotated_session_is_found_without_its_correction(whole):
    dataset = read_dataset(whole[0], without=["sub-01_ses-013_events_moved"])
    rotated = [run for run in dataset.runs if run.key[:2] == ("sub-01", "ses-013")]
    filed = [3.9, 104.8, -5.5, -54.6, 74.0, -61.7]
    # Volumes count in steps of 1.49 s, and the two lists of ends were each rounded.
    assert [run.tail_s for run in rotated] == pytest.approx(filed, abs=1.0)
    finding = next(f for f in dataset.findings if f.startswith("sub-01/ses-013"))
    assert "with the events of runs 2, 3, 4, 5, 6, 1 12.5, 21.3, 5.0, 5.5, 11.3, 5.4 s" in finding
    # No other of the 47 sessions is suspected, and the run that was cut is named.
    assert len(dataset.findings) == 2
    assert [c.status for c in dataset.corrections] == ["off", "applied", "waiting", "applied"]


def test_download_lines_name_every_missing_file_once(whole):
    dataset = read_dataset(whole[0])
    lines = dict(downloads(dataset))
    raw, fmriprep = whole[0] / "shinobi", whole[0] / "shinobi.fmriprep"
    assert lines[f"cd {raw} && datalad get sub-01/ses-*/gamelogs/*.bk2"] == 201
    assert lines[f"cd {raw} && datalad get sub-04/ses-*/func/*_run-*[0-9]_events.tsv"] == 5
    assert lines[f"cd {raw} && datalad get -n stimuli"] == 1
    bold = "*_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
    assert lines[f"cd {fmriprep} && datalad get sub-02/ses-*/func/{bold}"] == 55
    # not counted: the withdrawn run of sub-02, and five of sub-06 that have no events
    assert sum(lines.values()) == 1 + 5 + 650 + 3 * (216 - 6)
    assert not_needed(dataset) == 3 * 6
    note = "(they also name 18 files of runs excluded or without events, not counted)"
    assert f"{len(lines)} lines to type for what is not downloaded {note}" in as_text(dataset)
    besides = {"sub-02": 1, "sub-06": 5}
    for line in lines:
        # The shell fills in the pattern, also where the names are links without content.
        echoed = line.replace("datalad get -n", "echo").replace("datalad get", "echo")
        found = subprocess.run(["sh", "-c", echoed], capture_output=True, text=True, check=True)
        names = found.stdout.split()
        if "events" in line:  # those in git itself are named too; DataLad leaves them alone
            assert len(names) == 55 and "annotated" not in found.stdout
        else:  # ses-007 has 16 replays that no readable events name
            more = 16 * ("sub-04" in line and ".bk2" in line)
            if f"cd {fmriprep}" in line:
                more = next((n for subject, n in besides.items() if subject in line), 0)
            assert len(names) == lines[line] + more, line


def test_numbers_of_the_tree_are_those_it_was_made_for(whole):
    _, n_volumes, rows = whole
    for subject, (total, least, median, most) in shinobi_names.VOLUMES.items():
        values = [n for key, n in n_volumes.items() if key[0] == subject]
        assert (sum(values), min(values), max(values)) == (total, least, most)
        assert np.median(values) == median
    assert len(rows) == 205


@test_fetch.pytestmark
def test_the_lines_to_type_download_what_they_name(tmp_path):
    """With real DataLad, in a folder whose name the shell would split."""
    source = tmp_path / "source"
    raw, _ = write_tree(source, [RunPlan("sub-01", "ses-002", 1, LONG, derived="absent")])
    for path in raw.rglob("*"):
        if path.is_symlink():
            path.unlink()
    test_fetch.sh(raw, "git", "init", "-q", "-b", "main")
    test_fetch.sh(raw, "git", "annex", "init", "-q")
    test_fetch.sh(raw, "git", "annex", "add", "-q", "sub-01/ses-002/gamelogs")
    test_fetch.sh(raw, "git", "-c", "annex.largefiles=nothing", "add", ".")
    test_fetch.sh(raw, "git", "commit", "-qm", "data")
    clone = tmp_path / "my data" / "shinobi"
    test_fetch.sh(tmp_path, "git", "clone", "-q", str(raw), str(clone))
    test_fetch.sh(clone, "git", "annex", "init", "-q")

    first, *rest = read_dataset(clone).runs[0].repetitions
    assert not any(r.has_replay for r in (first, *rest))
    test_fetch.sh("/", "sh", "-c", first.why.removeprefix("not downloaded: "))
    (run,) = read_dataset(clone).runs
    assert [r.has_replay for r in run.repetitions] == [True, False, False]
    ((line, n_files),) = downloads(read_dataset(clone))
    assert n_files == 2
    test_fetch.sh("/", "sh", "-c", line)
    assert all(r.has_replay for r in read_dataset(clone).runs[0].repetitions)
    assert downloads(read_dataset(clone)) == []


def test_rotated_sessions_are_found_and_others_are_not():
    """Over datasets of made ends of BOLD: quantiles and lengths of runs as in the real one."""
    found, falsely, n_sessions = 0, 0, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        volumes = {}
        for subject in shinobi_names.RUNS:
            volumes |= shinobi_names.volumes(subject, rng)
        ends = dict(zip(volumes, shinobi_names.tails(len(volumes), rng), strict=True))

        def run(key, source, volumes=volumes, ends=ends):
            play_s = volumes[source] * brain_tree.TR_S - ends[source]
            plays = (Repetition(0, "1-0", 0.0, play_s, None),)
            name = (key[0], f"ses-{key[1]:03d}", key[2])
            return Run(*name, None, None, None, volumes[key], brain_tree.TR_S, plays, True)

        sessions = {}
        for key in volumes:
            sessions.setdefault(key[:2], []).append(key)
        n_sessions += len(sessions)
        falsely += len(doubt_sessions([run(key, key) for key in volumes])[1])
        for keys in sessions.values():
            shift = rng.integers(1, len(keys))
            pairs = zip(keys, np.roll(np.arange(len(keys)), -shift), strict=True)
            found += len(doubt_sessions([run(key, keys[i]) for key, i in pairs])[1])
    assert falsely == 0
    assert found / n_sessions > 0.94
