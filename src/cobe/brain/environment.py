"""The environment in which DataLad, git-annex and git run: no prompt, and no key kept on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def environment(with_keys: bool) -> dict[str, str]:
    """This process's environment for the commands; with the S3 keys only where wanted."""
    env = dict(os.environ)
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
    # git-annex keeps no copy of the keys: there is none to remove if all this is killed
    n = int(env.get("GIT_CONFIG_COUNT") or 0)
    env |= {
        "GIT_CONFIG_COUNT": str(n + 1),
        f"GIT_CONFIG_KEY_{n}": "annex.cachecreds",
        f"GIT_CONFIG_VALUE_{n}": "false",
    }
    # never a prompt for a name or password in the middle of the night
    env |= {"GIT_TERMINAL_PROMPT": "0", "DATALAD_UI_PROGRESSBAR": "none"}
    if not with_keys:
        env = {name: value for name, value in env.items() if name not in SECRETS}
    return env


def identity(env: dict) -> dict:
    """Name and address for git-annex's own records, where the user gave git none."""
    asked = subprocess.run(
        ["git", "config", "user.email"], capture_output=True, env=env, check=False
    )
    if asked.returncode == 0 or env.get("GIT_AUTHOR_EMAIL"):
        return {}
    roles = ("AUTHOR", "COMMITTER")
    return {f"GIT_{role}_NAME": "cobe fetch" for role in roles} | {
        f"GIT_{role}_EMAIL": "cobe@localhost" for role in roles
    }
