"""The site in a real browser, from disk and from a server: it draws, it finds, it asks nobody."""

import io
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import Watch, browser, chromium_path
from built_site import built_site

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
BLANK_SHARE, N_COLOURS = 0.1, 20
WIDER_THAN_SCREEN = "() => document.documentElement.scrollWidth - window.innerWidth"
NOT_LOADED = (
    "() => [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    chromium_path()
    return built_site()


@pytest.fixture(scope="module")
def chromium(site):
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def server(site):
    """The parent folder of the site is served, so that the site lies at a sub-path."""
    handler = partial(Quiet, directory=str(site.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}/{site.name}/"
        serving.shutdown()


@pytest.fixture(params=["disk", "server"])
def root(request, site):
    return site.as_uri() + "/" if request.param == "disk" else request.getfixturevalue("server")


def page_names(site: Path) -> list[str]:
    views = {path for path in (site / "brain").glob("*.html")}
    return sorted(p.relative_to(site).as_posix() for p in site.rglob("*.html") if p not in views)


def test_every_page_loads_fits_a_phone_and_asks_nobody(site, chromium, root):
    context = chromium.new_context(viewport=PHONE)
    page = context.new_page()
    page.set_default_timeout(120_000)
    watch = Watch(page, (root,))
    wide, unseen = [], []
    for name in page_names(site):
        page.goto(root + name)
        if page.evaluate(WIDER_THAN_SCREEN) > 0:
            wide.append(name)
        unseen += [f"{name}: {image}" for image in page.evaluate(NOT_LOADED)]
    context.close()
    assert not watch.complaints()
    assert not wide
    assert not unseen


def test_search_finds(chromium, root):
    context = chromium.new_context(viewport=DESKTOP)
    page = context.new_page()
    watch = Watch(page, (root,))
    page.goto(root + "search.html?q=himalaya")
    page.wait_for_selector("#search-results ul.search li", timeout=120_000)
    found = page.locator("#search-results ul.search li").all_inner_texts()
    page.wait_for_timeout(500)
    context.close()
    assert any("04" in text for text in found)
    assert not watch.complaints()


def drawn(png: bytes) -> tuple[float, int]:
    """Share of pixels that are not white, and how many colours there are."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    return float((pixels < 250).any(1).mean()), len(np.unique(pixels, axis=0))


def test_every_brain_draws(site, chromium, root):
    views = sorted((site / "brain").glob("*.html"))
    assert len(views) >= 2
    for view in views if root.startswith("file:") else views[:1]:
        context = chromium.new_context(viewport={"width": 640, "height": 480})
        page = context.new_page()
        page.set_default_timeout(120_000)
        watch = Watch(page, (root,))
        page.goto(f"{root}brain/{view.name}")
        page.wait_for_selector("#surface-plot canvas")
        page.wait_for_timeout(1_000)
        share, n_colours = drawn(page.locator("#surface-plot").screenshot())
        context.close()
        assert share > BLANK_SHARE and n_colours >= N_COLOURS, view.name
        assert not watch.complaints()


def test_brain_turns_on_its_page_when_opened(chromium, root):
    context = chromium.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.set_default_timeout(120_000)
    watch = Watch(page, (root,))
    page.goto(root + "brain.html")
    assert [frame.url for frame in page.frames[1:] if "brain/" in frame.url] == []
    page.locator("figure.brain summary").first.click()
    frame = page.frame_locator("figure.brain iframe").first
    frame.locator("#surface-plot canvas").first.wait_for()
    page.wait_for_timeout(1_000)
    before = page.locator("figure.brain iframe").first.screenshot()
    frame.locator("#select-view").select_option("right")
    page.wait_for_timeout(1_000)
    after = page.locator("figure.brain iframe").first.screenshot()
    context.close()
    share, n_colours = drawn(before)
    assert share > BLANK_SHARE and n_colours >= N_COLOURS
    assert before != after
    assert not watch.complaints()


def test_without_webgl_words_take_the_place_of_the_view(chromium, root):
    context = chromium.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto(root + "brain.html")
    page.locator("figure.brain summary").first.click()
    page.get_by_text("draws no WebGL").first.wait_for()
    assert page.locator("figure.brain details").first.locator("iframe").count() == 0
    context.close()
