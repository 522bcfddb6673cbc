"""Differences by region: a planted one is found where it was planted, and nowhere else."""

import numpy as np
import pandas as pd
import pytest

from cobe.core.errors import CobeError
from cobe.sweep.regions import region_differences

SUBJECTS, GROUPS, N_PARCELS = ("a", "b", "c", "d"), ("s1", "s2", "s3"), 40


def tables(effect=0.05, seed=0):
    rng = np.random.default_rng(seed)
    truth = pd.DataFrame(
        [(s, p + 1, "object" if p % 2 else "null") for s in SUBJECTS for p in range(N_PARCELS)],
        columns=["subject", "parcel", "region"],
    )
    rows = []
    for cell in ("trained", "untrained"):
        for subject in SUBJECTS:
            for group in (*GROUPS, "all"):
                for p in range(N_PARCELS):
                    gain = effect * (cell == "trained") * (p % 2)
                    rows.append((cell, subject, group, p, 0.2 + gain + 0.02 * rng.normal()))
    scores = pd.DataFrame(rows, columns=["cell", "subject", "held_out", "target", "r"])
    return scores.assign(summary="target", protocol="corrected"), truth


def test_a_planted_difference_is_found_in_its_region_only():
    scores, truth = tables()
    table = region_differences(scores, truth, "trained", "untrained").set_index("region")
    assert table.loc["object", "ci_low"] > 0 and table.loc["object", "units_above"] == 12
    assert abs(table.loc["object", "difference"] - 0.05) < 0.01
    assert table.loc["null", "ci_low"] < 0 < table.loc["null", "ci_high"]
    assert (table.n_parcels == len(SUBJECTS) * N_PARCELS / 2).all() and (table.n_units == 12).all()
    back = region_differences(scores, truth, "untrained", "trained").set_index("region")
    np.testing.assert_allclose(back.difference, -table.difference, atol=1e-12)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda s, t: (s.assign(protocol=np.arange(len(s)) % 2), t), "several protocols"),
        (lambda s, t: (s[s.cell == "trained"], t), "0 rows of untrained"),
        (lambda s, t: (pd.concat([s, s]), t), "give each parcel once"),
        (lambda s, t: (s.iloc[1:].iloc[::-1].iloc[:-40], t), "different parcels"),
        (lambda s, t: (s, t[t.subject != "a"]), "lacks scored parcels"),
    ],
)
def test_tables_that_do_not_fit_are_refused(spoil, message):
    with pytest.raises(CobeError, match=message):
        region_differences(*spoil(*tables()), "trained", "untrained")
