"""One build of the site for all tests of a process: what the repository holds, no notebook run."""

import atexit
import shutil
import tempfile
import time
from functools import lru_cache
from pathlib import Path

from cobe.site.build import build_site


@lru_cache(maxsize=1)
def built_site() -> Path:
    """Folder of a site, built once."""
    folder = Path(tempfile.mkdtemp(prefix="cobe-site-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    started_s = time.process_time()
    build_site(folder / "site")
    print(f"gathered in {time.process_time() - started_s:.0f} s")
    return folder / "site"
