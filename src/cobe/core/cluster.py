"""A Dask client, chosen by configuration: processes of this machine, or a SLURM queue."""

import os
from contextlib import contextmanager
from dataclasses import dataclass, fields

from cobe.core.errors import CobeError
from cobe.core.parallel import n_workers

KINDS = ("local", "slurm")


@dataclass(frozen=True)
class ClusterConfig:
    """Which workers to start.

    Attributes
    ----------
    kind : str
        ``"local"``: processes of this machine; ``"slurm"``: one job of the queue per worker.
    workers : int
        Worker processes, one thread each; 0: as many as `cobe.core.parallel.n_workers` says, which
        a queue does not know.
    cores : int
        Cores of one worker; a SLURM job asks for them and the worker's arithmetic may use them.
    memory : str
        Memory of one worker, such as ``"4GB"``; empty: a share of this machine's, which a queue
        does not know.
    walltime : str
        Longest time of a SLURM job, ``"HH:MM:SS"``.
    queue, account : str
        SLURM partition and account; empty: the user's default.
    directory : str
        Where workers put what does not fit their memory; empty: Dask's default.
    """

    kind: str = "local"
    workers: int = 0
    cores: int = 1
    memory: str = ""
    walltime: str = "01:00:00"
    queue: str = ""
    account: str = ""
    directory: str = ""

    def __post_init__(self):
        if self.kind not in KINDS:
            raise CobeError(f"cluster: kind {self.kind!r} is unknown; give one of {KINDS}")
        for name, value, least in (("workers", self.workers, 0), ("cores", self.cores, 1)):
            if not isinstance(value, int) or value < least:
                raise CobeError(
                    f"cluster: {name} is {value!r}; give a whole number, {least} or more"
                )
        if self.kind == "slurm" and not (self.workers and self.memory):
            raise CobeError(
                "cluster: a SLURM cluster needs to know workers and memory; give both, such as "
                "workers=8 and memory='16GB' (COBE_CLUSTER_WORKERS, COBE_CLUSTER_MEMORY)"
            )

    @classmethod
    def from_environment(cls):
        """What ``COBE_CLUSTER`` (the kind) and ``COBE_CLUSTER_WORKERS``, ``_MEMORY`` ... say.

        Raises
        ------
        CobeError
            A value is not of its kind.
        """
        given = {}
        for field in fields(cls):
            name = "COBE_CLUSTER" + (f"_{field.name.upper()}" if field.name != "kind" else "")
            value = os.environ.get(name)
            if not value:
                continue
            if field.type is int:
                if not value.isdecimal():
                    raise CobeError(f"{name}: {value!r} is no whole number; correct or unset it")
                value = int(value)
            given[field.name] = value
        return cls(**given)


@contextmanager
def cluster_client(config=None):
    """A Dask client with its cluster, both closed at the end.

    Parameters
    ----------
    config : ClusterConfig or None
        None: what the environment says, see `ClusterConfig.from_environment`.

    Yields
    ------
    client : distributed.Client
        For `cobe.encoding.ridge.fit`. Workers of a queue may come later; work waits for the first.

    Raises
    ------
    CobeError
        The cluster cannot be started.

    Examples
    --------
    >>> with cluster_client(ClusterConfig("slurm", workers=8, memory="16GB")) as client:
    ...     model = fit(runs_x, runs_y, client=client, **options)
    """
    config = ClusterConfig.from_environment() if config is None else config
    from distributed import Client  # Dask takes a second to import

    try:
        cluster = (_slurm if config.kind == "slurm" else _local)(config)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise CobeError(
            f"cluster: {config.kind} workers cannot be started ({error}); correct the configuration"
        ) from error
    with cluster, Client(cluster) as client:
        yield client


def _local(config):
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=config.workers or n_workers(),
        threads_per_worker=1,
        processes=True,
        memory_limit=config.memory or "auto",
        local_directory=config.directory or None,
        dashboard_address=None,
    )


def _slurm(config):
    from shutil import which

    if which("sbatch") is None:
        raise CobeError(
            "cluster: sbatch is not on this machine; run where SLURM is, or use kind 'local'"
        )
    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(
        cores=1,
        job_cpu=config.cores,
        processes=1,
        memory=config.memory,
        walltime=config.walltime,
        queue=config.queue or None,
        account=config.account or None,
        local_directory=config.directory or None,
        job_script_prologue=[f"export OMP_NUM_THREADS={config.cores}"],
        scheduler_options={"dashboard_address": None},
    )
    cluster.scale(jobs=config.workers)
    return cluster
