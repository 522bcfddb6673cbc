"""The tests on other versions: `pip install nox`, then `nox` or `nox -s locked-3.12 -- tests/...`.

Each session has an environment of its own; a Python that is not on the machine is skipped. The
lock file stays as it is: what breaks here is mended, or pinned there with its reason.
"""

import os

import nox

nox.options.error_on_missing_interpreters = False
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
# the libraries that numbers come from or files go through, and the one that runs notebooks
MAIN = """
    accelerate blosc2 dask h5py himalaya joblib matplotlib nibabel nilearn numpy pandas papermill
    pyarrow safetensors scikit-learn scipy stable-retro transformers vector-quantize-pytorch
""".split()
TORCH = "torch==2.13.0"


def _test(session: nox.Session, which: str) -> None:
    session.install("--no-deps", "--no-build-isolation", "-e", ".")
    cores = str(len(os.sched_getaffinity(0)))
    asked = session.posargs or ("-n", cores, "--dist", "loadfile")
    session.run("python", "-m", "pytest", "-m", which, *asked, env={"OMP_NUM_THREADS": "1"})


@nox.session(python=PYTHONS)
def locked(session: nox.Session) -> None:
    """Exactly the lock file's versions."""
    session.install("setuptools", "-r", "requirements.txt")
    _test(session, "not notebook")


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """The main libraries at the newest version that this Python can have; torch stays."""
    session.install("setuptools", "-r", "requirements.txt")
    session.install("--upgrade", TORCH, *MAIN)
    session.run("python", "src/cobe/core/environment.py", "requirements.txt", success_codes=[0, 1])
    _test(session, "not notebook and not locked")
