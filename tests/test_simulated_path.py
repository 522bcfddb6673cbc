"""The simulated dataset takes the path of a real one: inventory, timeline, parcel series."""

import numpy as np
import pandas as pd
import pytest

from cobe.brain.bold import parcel_series
from cobe.brain.dataset import read_dataset
from cobe.brain.parcels import grey_matter_parcels
from cobe.brain.timeline import valid_trs, volume_kinds
from cobe.core.config import PlayPlan
from cobe.simulate import write_dataset


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    plan = PlayPlan(
        subjects=("sub-sim1",),
        sessions=(("ses-001", 2),),
        repetitions_per_run=3,
        repetition_s=20.0,
        n_parcels=60,
    )
    root = tmp_path_factory.mktemp("simulated") / "data"
    atlas = grey_matter_parcels(plan.n_parcels, plan.voxel_mm, plan.seed)
    counts = write_dataset(root, plan, atlas)
    return root, atlas, counts


def test_every_run_is_usable_and_every_count_agrees(simulated):
    root, _, counts = simulated
    dataset = read_dataset(root)
    assert [run.why for run in dataset.runs] == ["", ""]
    totals = dataset.totals().iloc[0]
    assert totals["runs"] == counts["runs"]
    assert totals["repetitions"] == counts["repetitions"]
    assert totals["replays"] == counts["replays"] == counts["repetitions"] - 1
    assert totals["volumes"] == counts["volumes"]
    assert not any(r.skip_first_line for run in dataset.runs for r in run.repetitions)


def test_valid_volumes_are_those_in_play_without_the_lost_replay(simulated):
    root, _, _ = simulated
    truth = np.load(root / "truth" / "truth.npz", allow_pickle=False)
    for run in read_dataset(root).runs:
        in_play, valid = truth[f"in_play/{run.name}"], valid_trs(run)
        lost = volume_kinds(run) == "no_replay"
        np.testing.assert_array_equal(in_play & ~lost, valid)
        assert lost.any() == (run.run == 2)


def test_parcel_series_follow_the_planted_response_at_lag_zero(simulated):
    root, atlas, _ = simulated
    truth = np.load(root / "truth" / "truth.npz", allow_pickle=False)
    planted = pd.read_parquet(root / "truth" / "parcels.parquet")
    responds = planted["ceiling"].to_numpy() > 0
    for run in read_dataset(root).runs:
        series, labels = parcel_series(run, atlas)
        np.testing.assert_array_equal(labels, planted["parcel"])
        response = truth[f"response/{run.name}"][:, responds]
        r = []
        for lag in (-2, -1, 0, 1, 2):
            shifted = np.roll(series[:, responds], -lag, axis=0)[2:-2]
            pairs = zip(shifted.T, response[2:-2].T, strict=True)
            r.append(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))
        assert np.argmax(r) == 2
        assert 0.25 < r[2] < planted["ceiling"][responds].mean()
