"""The Dask client that configuration chooses."""

import os
import stat

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cobe.core.cluster import ClusterConfig, cluster_client
from cobe.core.errors import CobeError
from cobe.encoding.ridge import fit

SBATCH = """#!/bin/sh
cp "$1" {folder}/script
setsid bash {folder}/script >/dev/null 2>&1 &
echo $! >> {folder}/started
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
echo $1 >> {folder}/ended
kill -- -$1
"""


def test_configuration_comes_from_the_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("COBE_CLUSTER"):
            monkeypatch.delenv(name)
    assert ClusterConfig.from_environment() == ClusterConfig("local")
    monkeypatch.setenv("COBE_CLUSTER", "slurm")
    monkeypatch.setenv("COBE_CLUSTER_WORKERS", "8")
    monkeypatch.setenv("COBE_CLUSTER_MEMORY", "16GB")
    monkeypatch.setenv("COBE_CLUSTER_QUEUE", "long")
    expected = ClusterConfig("slurm", workers=8, memory="16GB", queue="long")
    assert ClusterConfig.from_environment() == expected
    monkeypatch.setenv("COBE_CLUSTER_WORKERS", "many")
    with pytest.raises(CobeError, match="COBE_CLUSTER_WORKERS: 'many' is no whole number"):
        ClusterConfig.from_environment()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "pbs"}, "kind 'pbs' is unknown"),
        ({"workers": -1}, "workers is -1"),
        ({"cores": 0}, "cores is 0"),
        ({"workers": "2"}, "workers is '2'"),
        ({"kind": "slurm"}, "needs to know workers and memory"),
        ({"kind": "slurm", "workers": 2}, "needs to know workers and memory"),
    ],
)
def test_bad_configuration_is_named(given, words):
    with pytest.raises(CobeError, match=words):
        ClusterConfig(**given)


def test_what_cannot_be_started_is_said(monkeypatch, tmp_path):
    with pytest.raises(CobeError, match="local workers cannot be started"):
        with cluster_client(ClusterConfig(workers=1, memory="much")):
            pass
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CobeError, match="sbatch is not on this machine"):
        with cluster_client(ClusterConfig("slurm", workers=1, memory="1GB")):
            pass


def test_slurm_jobs_are_submitted_work_and_are_ended(monkeypatch, tmp_path):
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        script = tmp_path / name
        script.write_text(text.format(folder=tmp_path))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    rng = np.random.default_rng(0)
    runs_x = [rng.standard_normal((40, 5)) for _ in range(3)]
    runs_y = [rng.standard_normal((40, 4)) for _ in range(3)]
    options = {"groups": range(3), "delays_tr": (0,), "alphas": [10.0], "dtype": np.float64}
    config = ClusterConfig(
        "slurm",
        workers=1,
        cores=2,
        memory="1GB",
        walltime="00:10:00",
        queue="short",
        account="lab",
        directory=str(tmp_path),
    )
    with cluster_client(config) as client:
        found = fit(runs_x, runs_y, client=client, **options)
        assert client.run(os.getpid)
    assert_allclose(found.weights, fit(runs_x, runs_y, **options).weights, atol=1e-10)
    script = (tmp_path / "script").read_text()
    for line in ("-p short", "-A lab", "-t 00:10:00", "--cpus-per-task=2", "--mem=954M"):
        assert f"#SBATCH {line}" in script
    assert (tmp_path / "started").read_text() == (tmp_path / "ended").read_text()
