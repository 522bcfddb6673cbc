"""Fetching real data: DataLad on datasets that the test makes, in the lab's names and layout."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from cobe.brain import fetch
from cobe.brain.layout import find_folders
from cobe.core.errors import CobeError
from cobe.driver import fetch as command
from cobe.driver.__main__ import main as driver

BIN = str(Path(sys.executable).parent)
ENV = {
    "PATH": os.pathsep.join([BIN, os.environ["PATH"]]),
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_NAME": "someone" for role in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{role}_EMAIL": "someone@localhost" for role in ("AUTHOR", "COMMITTER")},
}
KEY, SECRET = "FAKEKEYID0123456789", "fake/secret+never+shown"
pytestmark = pytest.mark.skipif(
    any(shutil.which(name, path=ENV["PATH"]) is None for name in ("datalad", "git-annex", "git")),
    reason="needs git, git-annex and datalad",
)


def sh(folder, *words):
    done = subprocess.run(words, cwd=folder, env=ENV, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def put(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def dataset(root, annexed, plain=()):
    """A dataset with these files, the first in the annex, the second in git itself."""
    root.mkdir()
    sh(root, "git", "init", "-q", "-b", "main")
    sh(root, "git", "annex", "init", "-q", "origin")
    sh(root, "git", "config", "annex.backend", "MD5E")
    put(root, annexed)
    sh(root, "git", "annex", "add", "-q", *annexed)
    put(root, dict(plain))
    if plain:
        sh(root, "git", "-c", "annex.largefiles=nothing", "add", *dict(plain))
    sh(root, "git", "commit", "-qm", "data")
    return root


def build(root):
    """The four datasets: two sessions each of two subjects, sizes told apart by content."""
    game = "ShinobiIIIReturnOfTheNinjaMaster-Genesis"
    dataset(
        root / "shinobi.stimuli.git",
        {f"{game}/rom.md": b"the lab's copy" * 99, f"{game}/Level1-0.state": b"state"},
        {
            f"{game}/rom.sha": "1e07d7998e3048fcfba4238ae96496460e91b3a5\n",
            f"{game}/data.json": "{}",
        },
    )
    annexed, plain, derived, series = {}, {"README": "raw"}, {}, {}
    for subject in ("sub-01", "sub-04"):
        for session in ("ses-002", "ses-003"):
            place = f"{subject}/{session}"
            stem = f"{subject}_{session}_task-shinobi_run-"
            for run in (1, 2):
                annexed[f"{place}/gamelogs/{stem}{run:02d}_level-1_rep-01.bk2"] = f"{stem}{run}"
                annexed[f"{place}/func/{stem}{run:02d}_bold.nii.gz"] = b"raw" * 999
                annexed[f"{place}/func/{stem}{run:02d}_desc-annotated_events.tsv"] = b"big" * 99
                plain[f"{place}/func/{stem}{run:02d}_events.tsv"] = "onset\tduration\n"
                for space, size in (("MNI152NLin2009cAsym", 1000), ("T1w", 500)):
                    name = f"{place}/func/{stem}{run}_space-{space}"
                    derived[f"{name}_desc-preproc_bold.nii.gz"] = os.urandom(size)
                    derived[f"{name}_desc-brain_mask.nii.gz"] = os.urandom(10)
                    derived[f"{name}_boldref.nii.gz"] = os.urandom(20)
                table = f"{place}/func/{stem}{run}_desc-confounds_timeseries.tsv"
                derived[table] = os.urandom(100)
        space = "space-MNI152NLin2009cAsym"
        for folder, atlas in (
            ("cneuromod2026", "atlas-cneuromod26_desc-1134Parcels"),
            ("schaefer1000", "atlas-Schaefer18_desc-1000Parcels7Networks"),
            ("voxel_mni", "desc-voxelwise"),
        ):
            stem = f"timeseries/{folder}/{subject}/{subject}_task-shinobi_{space}_{atlas}"
            series[f"{stem}_timeseries.h5"] = os.urandom(300)
            series[f"{stem}_dseg.nii.gz"] = os.urandom(30)
    raw = dataset(root / "shinobi.git", annexed, plain)
    url = (root / "shinobi.stimuli.git").as_uri()
    sh(
        raw,
        "git",
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        url,
        "stimuli",
    )
    sh(raw, "git", "commit", "-qm", "stimuli")
    dataset(root / "shinobi.fmriprep.git", derived, {"dataset_description.json": "{}"})
    dataset(root / "shinobi.timeseries.git", series, {"README": "series"})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("server")
    build(root)
    return root


@pytest.fixture
def run(server, tmp_path, monkeypatch, capfd):
    """Run the command on the test's own server; (exit code, stdout, stderr)."""
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    for role in ("AUTHOR", "COMMITTER"):  # a user who never told git their name
        monkeypatch.delenv(f"GIT_{role}_NAME")
        monkeypatch.delenv(f"GIT_{role}_EMAIL")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(fetch.BASE_VARIABLE, server.as_uri())
    for name in fetch.SECRETS:
        monkeypatch.delenv(name, raising=False)

    def call(*words, dest=tmp_path / "data"):
        capfd.readouterr()
        code = driver(["fetch", "--dest", str(dest), *words])
        return namedtuple("Done", "code out err")(code, *capfd.readouterr())

    return call


def there(root, pattern):
    """Relative paths that match and have content."""
    found = (path for path in root.rglob(pattern) if ".git" not in path.parts)
    return sorted(str(path.relative_to(root)) for path in found if path.exists())


def test_gets_what_cobe_reads_and_nothing_else_then_goes_on(run, tmp_path):
    data = tmp_path / "data"
    done = run("--subject", "sub-01", "--sessions", "1")
    assert done.code == 0, done.err
    assert there(data, "*.bk2") == [
        f"shinobi/sub-01/ses-002/gamelogs/sub-01_ses-002_task-shinobi_run-0{k}_level-1_rep-01.bk2"
        for k in (1, 2)
    ]
    func = "shinobi.fmriprep/sub-01/ses-002/func/sub-01_ses-002_task-shinobi_run-"
    ends = ("desc-brain_mask", "desc-preproc_bold")
    assert there(data, "*.nii.gz") == [
        f"{func}{run}_space-MNI152NLin2009cAsym_{end}.nii.gz" for run in (1, 2) for end in ends
    ]
    assert len(there(data, "*_desc-confounds_timeseries.tsv")) == 2
    assert there(data, "*annotated*") == []
    # the integration is there, the lab's copy of the ROM is not
    assert len(there(data, "*.state")) == 1 and there(data, "rom.md") == []
    assert "your own legal copy" in done.out and "acknowledges" in done.out
    # sizes come before the first download
    sizes = done.out.index(
        "to download: 2.3 kB"
    )  # 2 runs of 33 + 1000 + 10 + 100 bytes, and a state of 5
    assert sizes < done.out.index("get(ok)")
    folders = find_folders(data)
    assert (folders.raw, folders.fmriprep) == (data / "shinobi", data / "shinobi.fmriprep")

    again = run("--subject", "sub-01", "--sessions", "1")
    assert again.code == 0
    assert "to download: 0 bytes" in again.out and "get(" not in again.out.split("download")[1]

    more = run("--subject", "sub-01")
    assert more.code == 0
    assert len(there(data, "*.bk2")) == 4
    got = [line for line in more.out.splitlines() if "get(ok)" in line]
    assert len(got) == 8 and all("ses-003" in line for line in got)


def test_series_need_no_volume(run, tmp_path):
    done = run("--timeseries")
    assert done.code == 0, done.err
    data = tmp_path / "data"
    assert [Path(name).name for name in there(data, "*.h5")] == [
        "sub-01_task-shinobi_space-MNI152NLin2009cAsym_atlas-cneuromod26_desc-1134Parcels"
        "_timeseries.h5"
    ]
    assert f"cobe.brain.dataset {data} --source timeseries --atlas cneuromod26\n" in done.out
    assert len(there(data, "*_dseg.nii.gz")) == 1
    assert len(there(data, "*.bk2")) == 4
    assert not (data / "shinobi.fmriprep").exists()
    wrong = run("--timeseries", "schaefer400")
    assert wrong.code == 1
    assert "takes one of cneuromod2026, schaefer1000, voxel_mni" in wrong.err


def test_dry_run_clones_nothing_and_then_knows_every_byte(run, tmp_path, server):
    data = tmp_path / "data"
    first = run("--dry-run", "--sessions", "2")
    assert first.code == 0 and not data.exists()
    for name in ("shinobi", "shinobi.fmriprep"):
        assert f"datalad clone {server.as_uri()}/{name}.git {data / name}" in first.out
    assert "about 10.5 GB" in first.out  # 2 of 12 sessions of 53 runs of 1.18 GB
    assert "-r" not in first.out.split()
    run("--space", "T1w", "--sessions", "1")
    before = there(data, "*")
    second = run("--dry-run")
    assert second.code == 0
    assert "MNI152NLin2009cAsym" in second.out and "to download: 4.3 kB" in second.out
    assert "datalad get -J4 sub-01/ses-003/func/" in second.out
    assert there(data, "*") == before


def test_one_file_that_cannot_be_had_stops_no_other(server, run, tmp_path, monkeypatch):
    mine = tmp_path / "server"
    shutil.copytree(server, mine, symlinks=True)
    monkeypatch.setenv(fetch.BASE_VARIABLE, mine.as_uri())
    name = "sub-01_ses-002_task-shinobi_run-2_space-T1w_desc-preproc_bold.nii.gz"
    lost = mine / "shinobi.fmriprep.git/sub-01/ses-002/func" / name
    content = lost.resolve()
    os.chmod(content.parent, 0o700)
    kept = content.read_bytes()
    content.unlink()
    done = run("--space", "T1w")
    assert done.code == 1
    assert "1 files could not be downloaded" in done.err and name in done.err
    assert "run the same command again" in done.err
    data = tmp_path / "data"
    assert len(there(data, "*_desc-preproc_bold.nii.gz")) == 3
    assert len(there(data, "*_desc-brain_mask.nii.gz")) == 4

    content.write_bytes(kept)
    again = run("--space", "T1w")
    assert again.code == 0, again.err
    assert len(there(data, "*_desc-preproc_bold.nii.gz")) == 4
    assert again.out.count("get(ok)") == 1
    assert f"see it: python -m cobe.brain.dataset {data} --space T1w\n" in again.out
    assert "set COBE_SPACE=T1w" in again.out


def test_lines_to_type_survive_a_blank_in_a_path(run, tmp_path):
    dest = tmp_path / "my data"
    done = run("--dry-run", dest=dest)
    assert f"shinobi.git '{dest}/shinobi'" in done.out
    assert f"cd '{dest}/shinobi' && datalad get -n stimuli" in done.out


def test_keys_are_never_stored_or_shown(server, run, tmp_path, monkeypatch):
    """An S3 remote, as the lab's: its keys come from the environment and stay there."""
    mine = tmp_path / "server"
    shutil.copytree(server, mine, symlinks=True)
    monkeypatch.setenv(fetch.BASE_VARIABLE, mine.as_uri())
    for bucket in ("cneuromod.shinobi.mri", "cneuromod.shinobi.mri.sensitive"):
        _name_s3_remote(mine / "shinobi.git", bucket)
    monkeypatch.setattr(fetch, "S3_HOST", "127.0.0.1")
    # killed at any time: there is never a copy of the keys that would have to be removed
    monkeypatch.setattr(fetch, "forget_keys", lambda clone: None)
    refused = run("--subject", "sub-04")
    assert refused.code == 1
    assert "agreement" in refused.err and "AWS_ACCESS_KEY_ID" in refused.err
    assert not (tmp_path / "data").exists()

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    done = run("--subject", "sub-04", "--sessions", "1")
    assert done.code == 0, done.err
    assert len(there(tmp_path / "data", "*.bk2")) == 2
    remotes = sh(tmp_path / "data/shinobi", "git", "remote").split()
    assert sorted(remotes) == ["cneuromod.shinobi.mri", "origin"]
    config = (tmp_path / "data/shinobi/.git/config").read_text()
    assert "annex-verified = verified" in config
    for secret in (KEY, SECRET):
        assert secret not in done.out + done.err
        for path in (tmp_path / "data").rglob("*"):
            if path.is_file():
                assert secret.encode() not in path.read_bytes(), path
    assert not fetch.keys_folder(tmp_path / "data/shinobi").exists()


def test_a_copy_that_an_older_git_annex_keeps_is_removed(run, tmp_path, monkeypatch):
    folders = [fetch.keys_folder(tmp_path / "data" / name) for name in (fetch.RAW, fetch.FMRIPREP)]
    folders[1].mkdir(parents=True)  # of the user's own: there before

    def copy_keys(*_):
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "uuid").write_text(SECRET)
        return 0

    monkeypatch.setattr(command, "_fetch", copy_keys)
    assert run().code == 0
    assert [folder.exists() for folder in folders] == [False, True]


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_removes_them_too(run, tmp_path, monkeypatch, kind):
    folder = fetch.keys_folder(tmp_path / "data" / fetch.RAW)

    def copy_keys_and_be_ended(*_):
        folder.mkdir(parents=True)
        (folder / "uuid").write_text(SECRET)
        os.kill(os.getpid(), kind)
        time.sleep(5)

    before = signal.getsignal(kind)
    monkeypatch.setattr(command, "_fetch", copy_keys_and_be_ended)
    done = run()
    assert done.code == 130 and "the same command goes on" in done.err
    assert not folder.exists() and signal.getsignal(kind) == before


@pytest.mark.parametrize(
    "base",
    [
        "https://me:hunter2@host.example",
        "HTTPS://hunter2@host.example/lab",
        "https://me:hun/hunter2@host.example",
        "ssh://me:hunter2@host.example/lab",
    ],
)
@pytest.mark.parametrize("words", [["--dry-run"], []])
def test_a_password_in_the_place_of_the_clones_is_refused_and_not_shown(
    run, tmp_path, monkeypatch, base, words
):
    monkeypatch.setenv(fetch.BASE_VARIABLE, base)
    done = run(*words)
    assert done.code == 1 and f"{fetch.BASE_VARIABLE}: holds a user name or password" in done.err
    assert "hunter2" not in done.out + done.err and not (tmp_path / "data").exists()


@pytest.mark.parametrize("base", ["ssh://git@host/lab", "git@host:lab", "file:///a/b@c"])
def test_a_place_without_a_password_is_taken(monkeypatch, base):
    monkeypatch.setenv(fetch.BASE_VARIABLE, base)
    assert fetch.url_of("shinobi") == f"{base}/shinobi.git"


def test_keys_are_not_sent_to_another_host(server, run, tmp_path, monkeypatch):
    mine = tmp_path / "server"
    shutil.copytree(server, mine, symlinks=True)
    monkeypatch.setenv(fetch.BASE_VARIABLE, mine.as_uri())
    _name_s3_remote(mine / "shinobi.git", "cneuromod.shinobi.mri")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    done = run("--subject", "sub-04")
    assert done.code == 1
    assert "on '127.0.0.1', not on s3.unf-montreal.ca; your keys are not sent there" in done.err
    assert sh(tmp_path / "data/shinobi", "git", "remote").split() == ["origin"]


def _name_s3_remote(repository, bucket):
    """Write an S3 remote into the git-annex branch, as `git annex initremote` would."""
    uuid = f"0000000{len(bucket)}-1111-4222-8333-444444444444"[-36:]
    line = (
        f"{uuid} bucket={bucket} datacenter=US encryption=none host=127.0.0.1 name={bucket} "
        f"port=1 protocol=http storageclass=STANDARD type=S3 timestamp=1600000000s\n"
    )
    (repository / ".git/remote.log").write_text(
        sh(repository, "git", "cat-file", "-p", "git-annex:remote.log") + line
        if "remote.log" in sh(repository, "git", "ls-tree", "--name-only", "git-annex")
        else line
    )
    blob = sh(repository, "git", "hash-object", "-w", ".git/remote.log").strip()
    (repository / ".git/remote.log").unlink()
    index = {**ENV, "GIT_INDEX_FILE": str(repository / ".git/made-index")}

    def git(*words):
        return subprocess.run(
            ["git", *words], cwd=repository, env=index, capture_output=True, text=True, check=True
        ).stdout.strip()

    git("read-tree", "git-annex")
    git("update-index", "--add", "--cacheinfo", f"100644,{blob},remote.log")
    tree = git("write-tree")
    commit = git("commit-tree", tree, "-p", "git-annex", "-m", "remote")
    git("update-ref", "refs/heads/git-annex", commit)
    (repository / ".git/made-index").unlink()


def test_the_children_see_keys_only_where_they_are_needed(monkeypatch, capfd):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    said = []
    for with_keys in (False, True):
        runner = fetch.DataLad(with_keys, said.append)
        _, lines = runner._run([sys.executable, "-c", "import os; print(dict(os.environ))"], ".")
        assert ("AWS_SECRET_ACCESS_KEY" in "".join(lines)) == with_keys
    assert SECRET not in "".join(said) and "***" in "".join(said)


# ---- before any download


def test_what_does_not_fit_is_not_begun(run, tmp_path, monkeypatch):
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12, 5000))
    done = run("--sessions", "1")
    assert done.code == 1
    assert "2.3 kB to download and 5.0 kB free; ask for fewer --sessions" in done.err
    assert there(tmp_path / "data", "*.bk2") == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--subject", "sub-03"], "no such subject in shinobi; choose from sub-01"),
        (["--sessions", "0"], "--sessions 0: give 1 or more"),
        (["--jobs", "0"], "--jobs 0: give 1 or more"),
        (["--space", "MNI", "--dry-run"], "--space 'MNI': choose from"),
    ],
)
def test_what_cannot_be_is_said_at_once(run, tmp_path, words, reason):
    done = run(*words)
    assert done.code == 1 and reason in done.err and "\n" not in done.err.strip()
    assert not (tmp_path / "data").exists()


def test_an_unknown_space_names_the_known_ones(run):
    done = run("--space", "fsaverage")
    assert done.code == 1 and "takes one of MNI152NLin2009cAsym, T1w" in done.err


def test_things_in_the_way(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    assert "is a file" in run(dest=tmp_path / "file").err
    data = tmp_path / "data"
    (data / "shinobi").mkdir(parents=True)
    assert "in the way of the clone and no DataLad dataset; move it" in run().err
    (data / "shinobi").rmdir()
    (data / ".cloning-shinobi/.git").mkdir(parents=True)  # cut off in the middle of a clone
    assert run("--sessions", "1").code == 0
    assert not (data / ".cloning-shinobi").exists()
    monkeypatch.setenv(fetch.BASE_VARIABLE, (tmp_path / "nowhere").as_uri())
    done = run(dest=tmp_path / "other")
    assert done.code == 1 and "cannot be cloned" in done.err and "check the network" in done.err
    assert not (tmp_path / "other/shinobi").exists()


def test_tools_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(CobeError, match="datalad: not found; install it"):
        fetch.DataLad(False, print)


def test_sizes_come_from_the_keys(tmp_path):
    link = tmp_path / "a.nii.gz"
    link.symlink_to("../.git/annex/objects/x/MD5E-s1234567--ff.nii.gz/MD5E-s1234567--ff.nii.gz")
    chunked = tmp_path / "b"
    chunked.symlink_to(".git/annex/objects/x/SHA256E-s99-S10-C2--ff/SHA256E-s99-S10-C2--ff")
    url = tmp_path / "c"
    url.symlink_to(".git/annex/objects/x/URL--http&c%%x/URL--http&c%%x")
    text = tmp_path / "d"
    text.write_text("/annex/objects/MD5E-s42--ff.tsv.gz\n")
    whole = tmp_path / "e"
    whole.write_text("seven b")
    found = [fetch.annex_file(path) for path in (link, chunked, url, text, whole)]
    assert [f.n_bytes for f in found] == [1234567, 99, None, 42, 7]
    assert [f.present for f in found] == [False, False, False, False, True]
    assert [fetch.size_text(n) for n in (0, 999, 1e3, 33e6, 64.2e9, 2e12)] == [
        "0 bytes", "999 bytes", "1.0 kB", "33.0 MB", "64.2 GB", "2.0 TB",
    ]  # fmt: skip


def test_the_command_line_is_documented():
    assert command.parse([]).subject == ["sub-01"]
    assert command.parse(["--timeseries"]).timeseries == "cneuromod2026"
