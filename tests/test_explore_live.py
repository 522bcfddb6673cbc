import sys

import pytest

from cobe.explore import live
from shown_widgets import enlarged, pixels, planted_clips


@pytest.fixture
def batch(monkeypatch):
    for name in ("JPY_SESSION_NAME", "VSCODE_PID"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["JPY_SESSION_NAME", "VSCODE_PID"])
def test_a_notebook_that_somebody_opened_is_live_and_a_batch_run_is_not(batch, monkeypatch, name):
    assert not live.is_live() and live.widgets_of(None) is None
    monkeypatch.setenv(name, "notebook.ipynb")
    assert live.is_live() and live.widgets_of(None).__name__ == "ipywidgets"
    assert live.widgets_of(False) is None


def test_colab_is_live(batch, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    assert live.is_live()


def test_without_ipywidgets_there_are_no_widgets_even_if_asked_for(monkeypatch):
    assert live.widgets_of(True) is not None
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert live.widgets_of(True) is None


def test_pixels_are_enlarged_to_squares_and_never_shrunk():
    frame = planted_clips()[0, 0]
    assert (pixels(live.pixels_png(frame)) == enlarged(frame)).all()
    wide = enlarged(frame, 5)
    assert (pixels(live.pixels_png(wide)) == wide).all()


def test_a_picture_of_another_state_is_hidden_and_states_are_drawn_once():
    widgets = live.widgets_of(True)
    number, drawn = live.slider(widgets, "n", 0, 2, 2), []

    def draw(n):
        drawn.append(n)
        return f"{n} < 3", [(f"p{k}", b"%d%d" % (n, k), f"picture {k}") for k in range(n)]

    box = live.assemble(widgets, [number], draw, simulated=True)
    row = box.children[-1]
    assert [bytes(each.children[1].value) for each in row.children] == [b"20", b"21"]
    number.value = 1
    assert [each.layout.display for each in row.children] == [None, "none"]
    assert bytes(row.children[0].children[1].value) == b"10"
    assert row.children[0].children[1].tooltip == "picture 0"
    number.value = 2
    assert [each.layout.display for each in row.children] == [None, None] and drawn == [2, 1]
    assert box.children[-2].value == "<b>simulated data</b>: 2 < 3"
    real = live.assemble(widgets, [number], draw, simulated=False)
    assert "real data" in real.children[-2].value


def test_controls_and_pictures_fit_a_narrow_screen():
    widgets = live.widgets_of(True)
    made = [
        live.slider(widgets, "n", 0, 2, 0),
        live.chooser(widgets, "c", ["a"]),
        live.stops(widgets, "s", [("a", 1)], 1),
    ]
    assert all(each.layout.width == "100%" for each in made)
    box = live.assemble(widgets, made[:1], lambda n: ("", [("a", b"", "b")]), True)
    row = box.children[-1]
    assert row.layout.flex_flow == "row wrap"
    assert row.children[0].children[1].layout.max_width == "100%"


def test_an_image_has_the_description_without_which_the_front_end_fails_on_its_tooltip():
    widgets = live.widgets_of(True)
    number = live.slider(widgets, "n", 0, 2, 0)
    box = live.assemble(widgets, [number], lambda n: ("", [("a", b"x", "of a")]), True)
    image = box.children[-1].children[0].children[1]
    state = image.get_state()
    assert (state["description"], state["tooltip"]) == ("", "of a")
    assert state["_model_name"] == "ImageModel"
