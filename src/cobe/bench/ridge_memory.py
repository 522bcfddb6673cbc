"""Most memory that a ridge fit takes beyond its data, in a process of its own (Linux)."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from cobe.core.errors import CobeError
from cobe.core.memory import process_bytes
from cobe.core.seeds import rng_for
from cobe.encoding.ridge import fit

RESET = Path("/proc/self/clear_refs")


def measure_extra(n_trs, n_features, n_targets, n_runs=5):
    """Bytes of resident memory at the peak of a fit, minus those before it.

    Parameters
    ----------
    n_trs, n_features, n_targets, n_runs : int
        Rows over all runs, columns, runs; float32 arrays, ten penalties.

    Returns
    -------
    extra : int

    Raises
    ------
    CobeError
        The child process failed, or the system does not tell.
    """
    if not RESET.exists():
        raise CobeError("memory: /proc is needed to measure a peak; leave this case out")
    command = [sys.executable, "-m", __name__, *map(str, (n_trs, n_features, n_targets, n_runs))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CobeError(
            f"memory: the fit of its own ended with {done.returncode} ({done.stderr[-300:]}); free "
            "memory or leave this case out"
        )
    return int(done.stdout)


def _main(n_trs, n_features, n_targets, n_runs):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rng = rng_for(0, "bench", "ridge")
    alphas = np.logspace(1, 7, 10)
    options = {"groups": range(n_runs), "delays_tr": (0,), "alphas": alphas}
    n = n_trs // n_runs

    def draw(columns, rows=n):
        return [rng.standard_normal((rows, columns), np.float32) for _ in range(n_runs)]

    fit(draw(8, 50), draw(3, 50), **options)  # libraries load what they need
    runs_x, runs_y = draw(n_features), draw(n_targets)
    RESET.write_text("5")  # the peak starts from here
    before = process_bytes("VmRSS")
    fit(runs_x, runs_y, **options)
    print(int(process_bytes("VmHWM") - before))


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
