"""A real headless Chromium for tests: found on this machine, never fetched."""

import os
import shutil
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
# WebGL by software, so that 3-D views draw without a GPU
OPTIONS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]


def chromium_path() -> str:
    """Path of Chromium; without one the test is skipped, or fails with COBE_NEED_BROWSER=1."""
    named = os.environ.get("COBE_CHROMIUM", "")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)
    if found:
        return found
    reason = (
        f"COBE_CHROMIUM={named}: no such program"
        if named
        else f"no browser: none of {', '.join(NAMES)} on PATH; install one or set COBE_CHROMIUM"
    )
    if os.environ.get("COBE_NEED_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def browser():
    """A running Chromium (playwright's sync API); closed at the end."""
    path = chromium_path()
    from playwright.sync_api import sync_playwright

    options = [*OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=options)
        try:
            yield running
        finally:
            running.close()


class Watch:
    """What a page asks for and complains about.

    Attributes
    ----------
    foreign : list of str
        Requests to other hosts than those allowed; they are aborted.
    failed : list of str
        Requests that failed or were answered with an error.
    errors : list of str
        Console errors and uncaught exceptions.
    """

    def __init__(self, page, allowed: tuple[str, ...]):
        self.foreign, self.failed, self.errors = [], [], []
        self._allowed = (*allowed, "data:", "blob:", "about:")
        page.route("**/*", self._decide)
        page.on("requestfailed", lambda r: self.failed.append(f"{r.url}: {r.failure}"))
        page.on("response", lambda r: r.status >= 400 and self.failed.append(f"{r.url} {r.status}"))
        page.on("console", lambda m: m.type == "error" and self.errors.append(m.text))
        page.on("pageerror", lambda e: self.errors.append(str(e)))

    def _decide(self, route):
        if route.request.url.startswith(self._allowed):
            route.continue_()
        else:
            self.foreign.append(route.request.url)
            route.abort()

    def complaints(self) -> dict[str, list[str]]:
        """Everything that was wrong, by kind; empty where all was well."""
        kinds = {"foreign": self.foreign, "failed": self.failed, "errors": self.errors}
        return {kind: list(found) for kind, found in kinds.items() if found}
