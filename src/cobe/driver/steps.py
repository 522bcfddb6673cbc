"""One step of a run: a notebook, what it was given, and whether it is done already."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
import papermill
import psutil
from papermill.exceptions import PapermillExecutionError

from cobe.core.artifacts import TOUCHED_LOG, content_sha256, is_intact, plain
from cobe.core.config import Profile
from cobe.core.disk import lock
from cobe.core.errors import CobeError
from cobe.core.fingerprint import fingerprint
from cobe.core.origin import NOTEBOOK, TABLES
from cobe.core.paths import PROJECT, data_dir
from cobe.core.records import MANIFEST, read_manifest, read_record, write_record
from cobe.course.scripts import read_script
from cobe.driver.kernel import kernel_environment, own_settings

# modules that a notebook may use: a change in any of them means that it must run again
ROOMS = tuple(
    f"cobe.{room}" for room in "stimulus simulate brain video encoding sweep report explore".split()
)


@dataclass(frozen=True)
class Step:
    """A notebook with the parameters of this run.

    Attributes
    ----------
    script : Path
        The percent script.
    parameters : dict
        Checked against the script's own.
    build : Path
        Folder of the executed copy and of the step's record.
    products : Path or None
        Folder that the step writes besides artifacts (the figures), watched for damage.
    profile : Profile or None
        What its name stood for in this run.
    read : callable
        The notebook of a script.
    rooms : tuple of str
        Packages whose code it may use.
    reads : tuple of Path
        Tables of other notebooks that it reads past the store.
    """

    script: Path
    parameters: dict
    build: Path
    products: Path | None = None
    profile: Profile | None = None
    read: Callable[[Path], nbformat.NotebookNode] = read_script
    rooms: tuple[str, ...] = ROOMS
    reads: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """Name of the notebook."""
        return self.script.stem

    @property
    def executed(self) -> Path:
        """The executed copy."""
        return self.build / f"{self.name}.ipynb"

    @property
    def _record(self) -> Path:
        return self.build / f"{self.name}.json"

    def _wanted(self) -> dict:
        modules = {name: _room_fingerprint(name) for name in self.rooms}
        return {
            "source": hashlib.sha256(self.script.read_bytes()).hexdigest(),
            "parameters": self.parameters,
            "profile": plain(self.profile),
            "data": str(data_dir(self.parameters.get("data", ""))),
            "packages": content_sha256(PROJECT / "requirements.txt"),
            "code": hashlib.sha256(json.dumps(modules).encode()).hexdigest(),
            "reads": _checksums(self.reads),
        }

    def done(self) -> dict | None:
        """The record of an earlier run of exactly this, if all that it made is intact.

        A step on data that cobe did not make is never done: its artifacts know the files that they
        were made from, and make running it again cheap.
        """
        if self.profile is not None and self.profile.plan is None:
            return None
        try:
            record = read_record(self._record)
        except CobeError:
            return None
        wanted = self._wanted()
        if {key: record.get(key) for key in wanted} != wanted:
            return None
        if not all(is_intact(Path(sidecar)) for sidecar in record["artifacts"]):
            return None
        made = record["products"] | record["tables"]
        if _checksums(map(Path, made)) != made:
            return None
        return record if self._listed(record["products"]) else None

    def _listed(self, products: dict) -> bool:
        """Whether the manifest, which several steps write to, has all that this one made."""
        if self.products is None:
            return True
        try:
            listed = {row["file"]: row for row in read_manifest(self.products)}
        except CobeError:
            return False
        rows = [(listed.get(Path(path).name, {}), sha256) for path, sha256 in products.items()]
        return all(row.get("sha256") == sha256 and row["caption"] for row, sha256 in rows)

    def alone(self) -> AbstractContextManager:
        """Inside it, no other process executes this notebook into the same folder."""

        def wait():
            print(f"{self.name}: another process is running it; waiting", file=sys.stderr)

        return lock(self.build / ".locks" / self.name, wait)

    def run(self, show_progress: bool) -> dict:
        """Execute the notebook in a kernel of its own, inside `alone`.

        Returns
        -------
        record : dict
            Seconds, peak memory, artifacts, products.

        Raises
        ------
        CobeError
            The notebook failed: its name, its error, and the path of the executed copy.
        """
        # before it runs: what is edited meanwhile is not what was run
        wanted = self._wanted()
        self.build.mkdir(parents=True, exist_ok=True)
        touched = self.build / f".touched-{self.name}"
        touched.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
        nbformat.write(self.read(self.script), self.executed)
        started_s, before = time.monotonic(), self._written()
        saved = dict(os.environ)
        os.environ |= {TOUCHED_LOG: str(touched), "COBE_PROGRESS": str(int(show_progress))}
        os.environ |= {NOTEBOOK: self.name} | kernel_environment() | own_settings()
        try:
            with Watch() as watch:
                _in_thread(self._execute)
        finally:
            os.environ.clear()
            os.environ.update(saved)
        lines = touched.read_text().splitlines() if touched.is_file() else []
        artifacts = sorted({json.loads(line) for line in lines})
        touched.unlink(missing_ok=True)
        record = wanted | {
            "seconds": round(time.monotonic() - started_s, 1),
            "peak_gib": round(watch.peak_bytes / 2**30, 2),
            "made_s": time.time(),
            "artifacts": artifacts,
        }
        new = [path for path, mark in self._written().items() if mark != before.get(path)]
        record["products"] = _checksums(path for path in new if path.parent != self.build)
        record["tables"] = _checksums(path for path in new if path.parent == self.build)
        write_record(self._record, record)
        return record

    def _written(self) -> dict[Path, tuple[int, int]]:
        """What it may have written past the store, and what changes when that is written again.

        Not the time alone: the clock may go backwards.
        """
        mine = [name for name, origin in TABLES.items() if origin.notebook == self.name]
        files = [self.executed, *(self.build / name for name in mine if name.endswith(".parquet"))]
        if self.products is not None and self.products.is_dir():
            files += [p for p in sorted(self.products.iterdir()) if not p.name.startswith(".")]
        files = [path for path in files if path.is_file() and path.name != MANIFEST]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    def _execute(self) -> None:
        try:
            papermill.execute_notebook(
                str(self.executed),
                str(self.executed),
                parameters=self.parameters,
                kernel_name="python3",
                cwd=str(PROJECT),
                progress_bar=False,
                # progress bars and what the stages announce, as they come
                stderr_file=sys.stderr,
                autosave_cell_every=0,
                # or the kernel warns, each time, that its loopback sockets are not encrypted
                extra_arguments=["--log-level=40"],
            )
        except PapermillExecutionError as error:
            raise CobeError(
                f"notebook {self.name} failed: {error.ename}: {error.evalue}; "
                f"executed copy: {self.executed}"
            ) from error
        except RuntimeError as error:
            raise CobeError(
                f"notebook {self.name} stopped: {error}; the kernel was killed, perhaps for want "
                f"of memory; executed copy: {self.executed}"
            ) from error


def _checksums(paths: Iterable[Path]) -> dict[str, str]:
    """Of files; "" for what is not there."""
    return {str(path): content_sha256(path) if path.is_file() else "" for path in paths}


def _in_thread(function) -> None:
    """Call a function in a thread of its own, so that an interrupt reaches the caller at once.

    In the main thread the notebook client would catch the interrupt, and wait for a kernel that is
    busy; nothing of the kernel's needs saving, since finished artifacts are on disk.
    """
    raised = []

    def call():
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if raised:
        raise raised[0]


def _room_fingerprint(room: str) -> str:
    source = PROJECT / "src"
    paths = sorted((source / Path(*room.split("."))).rglob("*.py"))
    modules = [".".join(path.relative_to(source).with_suffix("").parts) for path in paths]
    modules = [name.removesuffix(".__init__") for name in modules]
    return "".join(fingerprint(module) for module in modules)


class Watch:
    """Peak memory of all processes below this one, sampled twice a second, and their end.

    Memory is the proportional set size, so that pages shared by worker processes count once.
    Whatever was started below this process since then is ended on exit: a kernel that was killed
    cannot end its own workers.
    """

    def __enter__(self):
        self.peak_bytes = 0
        self._before = set(psutil.Process().children(recursive=True))
        self._seen: set[psutil.Process] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._seen.update(psutil.Process().children(recursive=True))
        for process in self._seen - self._before:
            # compares the time of creation too: a number that is used again is another process
            with suppress(psutil.NoSuchProcess):  # it may end by itself in this very moment
                if process.is_running():
                    process.kill()

    def _sample(self):
        while not self._stop.wait(0.5):
            me = psutil.Process()
            below = me.children(recursive=True)
            self._seen.update(below)
            total = 0
            for process in [me, *below]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak_bytes = max(self.peak_bytes, total)
