from dataclasses import FrozenInstanceError, replace

import pytest

from cobe.core.config import Cell, axis_cells
from cobe.core.errors import CobeError
from cobe.core.profiles import PROFILES, get_profile
from cobe.core.seeds import rng_for, seed_for
from cobe.sweep.models import sweep_cells, untrained_controls
from cobe.video.gpt import check_shape


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_every_axis_holds_the_base_cell(profile):
    names = [axis.name for axis in profile.axes]
    assert names == ["data_size", "hidden_dim", "n_layers", "n_heads", "precision"]
    for axis in profile.axes:
        cells = axis_cells(profile, axis)
        assert profile.base in cells and len(set(cells)) == len(axis.levels) >= 2
        for cell in cells:
            check_shape(cell)


def test_sweep_trains_each_cell_once_dearest_first():
    profile = PROFILES["quick"]
    cells = sweep_cells(profile, [axis.name for axis in profile.axes])
    assert len(cells) == len(set(cells)) == 4 + 3 + 2 + 2 + 1
    costs = [cell.hidden * cell.n_layers for cell in cells]
    assert costs == sorted(costs, reverse=True)
    assert sweep_cells(profile, []) == [profile.base]
    with pytest.raises(CobeError, match="axis 'depth': unknown; choose from data_size"):
        sweep_cells(profile, ["depth"])


def test_untrained_control_is_one_per_shape():
    base = PROFILES["quick"].base
    cells = [
        base,
        replace(base, n_frames=10),
        replace(base, precision="bf16"),
        replace(base, hidden=12),
    ]
    controls = untrained_controls(cells)
    assert [cell.hidden for cell in controls] == [96, 12]
    assert not any(cell.trained for cell in controls)


def test_cell_names_are_distinct_and_fit_a_file_name():
    base = PROFILES["quick"].base
    variants = [
        replace(base, **change)
        for change in (
            {},
            {"n_frames": 1},
            {"hidden": 1},
            {"n_layers": 1},
            {"n_heads": 1},
            {"precision": "bf16"},
            {"seed": 1},
            {"trained": False},
            {"scheme": "prefix"},
            {"head_rule": "floor"},
        )
    ]
    names = [cell.name for cell in variants]
    assert len(set(names)) == len(names)
    assert not any(set(name) & set("/\\ :") for name in names)


def test_config_is_frozen_and_unknown_profiles_are_named():
    with pytest.raises(FrozenInstanceError):
        Cell(1, 2, 3, 4).hidden = 5
    with pytest.raises(CobeError, match="'nope': unknown; choose one of smoke, quick, paper"):
        get_profile("nope")


def test_seeds_are_named_streams():
    assert seed_for(0, "a", 1) == seed_for(0, "a", "1") != seed_for(0, "a", 2)
    assert 0 <= seed_for(3, "x") < 2**63
    assert rng_for(0, "a").random() == rng_for(0, "a").random() != rng_for(1, "a").random()
