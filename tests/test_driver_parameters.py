"""Parameters that somebody edits in a notebook are checked before anything is computed."""

import pytest

from cobe.core.errors import CobeError
from cobe.core.paths import PROJECT
from cobe.core.profiles import get_profile
from cobe.course.scripts import read_script
from cobe.driver.notebooks import declared_parameters
from cobe.report.asked import check_asked
from cobe.report.manifest import GROUPS

SMOKE = get_profile("smoke")
WRONG = {
    "profile": ("quik", "profile 'quik': unknown; choose one of smoke, quick, paper"),
    "tour_profile": ("quik", "profile 'quik': unknown; choose one of smoke, quick, paper"),
    "data": (__file__, "is a file; give the folder"),
    "axes": (["datasize"], "'datasize' is unknown; choose from data_size, hidden_dim"),
    "figures": (["fig9"], "'fig9' is unknown; choose from fig"),
}
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("[0-9]*.py"))
CASES = [
    (script, name)
    for script in NOTEBOOKS
    for name in declared_parameters(read_script(script), script.stem)
    if name in WRONG
]


@pytest.mark.parametrize("script, name", CASES, ids=lambda given: getattr(given, "stem", given))
def test_a_wrong_parameter_stops_a_notebook_before_any_work(script, name, tmp_path, monkeypatch):
    """The cells are executed as JupyterLab would, with one value changed by hand."""
    for variable in ("COBE_BUILD", "COBE_FIGURES", "COBE_DATA"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    value, message = WRONG[name]
    scope = {}
    with pytest.raises(CobeError, match=message):
        for cell in read_script(script).cells:
            tags = cell.metadata.get("tags", [])
            if cell.cell_type == "code":
                exec(cell.source, scope)
            if "parameters" in tags:
                assert type(scope[name]) is type(value)
                scope |= {"profile": "smoke"} if "profile" in scope else {}
                scope[name] = value
    made = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert all(file.startswith("atlas") or "." not in file or len(file) == 64 for file in made), (
        made
    )


def test_names_that_are_known_pass():
    check_asked(SMOKE, axes=[axis.name for axis in SMOKE.axes], figures=GROUPS["paper"])
    check_asked(SMOKE, figures=GROUPS["audit"], group="audit")
    check_asked(SMOKE, axes=[], figures=[])


@pytest.mark.parametrize(
    "given, message",
    [
        ({"axes": "data_size"}, r"axes = 'data_size': give a list, \['data_size'\]"),
        ({"axes": ["data_size", "width"]}, "'width' is unknown; choose from data_size"),
        ({"figures": ["fig_null_brain"]}, "'fig_null_brain' is unknown; choose from fig1"),
        ({"figures": ["fig1_data_size"], "group": "audit"}, "choose from fig_null_brain"),
    ],
)
def test_other_names_are_refused_with_those_to_choose_from(given, message):
    with pytest.raises(CobeError, match=message):
        check_asked(SMOKE, **given)
