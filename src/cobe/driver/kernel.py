"""The kernel of this environment, whatever else is installed for this user."""

from __future__ import annotations

import json
import os
import sys

from cobe.core.artifacts import readable_os_errors
from cobe.core.disk import lock, write_text
from cobe.core.paths import build_dir
from cobe.course.scripts import KERNEL


def kernel_environment() -> dict[str, str]:
    """Variables that make ``python3`` the kernel of this environment.

    ``JUPYTER_PATH`` is where Jupyter looks first. The kernel there has the name that the headers of
    the notebooks have, so that running and saving one leaves its header as it is.
    """
    share = build_dir("jupyter")
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": KERNEL["display_name"],
        "language": KERNEL["language"],
        "metadata": {"debugger": True},
    }
    with readable_os_errors(share):
        folder = share / "kernels" / KERNEL["name"]
        folder.mkdir(parents=True, exist_ok=True)
        with lock(share / ".locks" / KERNEL["name"], lambda: None):
            write_text(folder / "kernel.json", json.dumps(spec, indent=1) + "\n", alone=True)
    given = os.environ.get("JUPYTER_PATH")
    return {"JUPYTER_PATH": os.pathsep.join([str(share), given]) if given else str(share)}


def own_settings() -> dict[str, str]:
    """Variables that keep what a user starts in every session out of a run: it could change it."""
    return {"IPYTHONDIR": str(build_dir("jupyter") / "ipython")}
