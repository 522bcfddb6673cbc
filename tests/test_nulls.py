"""The null simulation, small: the default holds its level and the shortcuts do not."""

import numpy as np
import pytest

from cobe.bench import nulls


@pytest.fixture(scope="module")
def shares():
    draws = [nulls.one_draw((0.8, 0.5), 4, 160, 4, 60, 99, 0, draw) for draw in range(10)]
    return {name: np.array([draw[name] for draw in draws]) for name in draws[0]}


def of(shares, method):
    return shares[f"false positives, {method}"]


def test_the_default_holds_its_level(shares):
    found = of(shares, "default: folds refitted, blocks of 40")
    # Targets of one draw share features: a draw varies more than 60 independent targets would.
    binomial = np.sqrt(0.05 * 0.95 / 60)
    error = max(found.std(ddof=1), binomial) / np.sqrt(len(found))
    assert error < 0.02
    assert abs(found.mean() - 0.05) < 3 * error
    assert 0.02 < found.mean() < 0.08


def test_the_shortcuts_do_not(shares):
    default = of(shares, "default: folds refitted, blocks of 40").mean()
    assert of(shares, "predictions moved, blocks of 40").mean() > default
    for method in ("TR shuffle", "parametric t"):
        assert of(shares, method).mean() > 0.1
    for method in ("shuffled split, TR shuffle", "shuffled split, parametric t"):
        assert of(shares, method).mean() > 0.4
    assert abs(shares["mean r, held-out runs"].mean()) < 0.03
    assert shares["mean r, shuffled split"].mean() > 0.05


def test_rows_are_those_of_a_bench():
    rows = nulls.measure(
        n_draws=2, n_runs=3, n_trs=90, n_features=2, n_targets=5, n_permutations=19
    )
    assert {"measurement", "value", "unit", "peer", "peer_value", "ratio"} == set(rows[0])
    assert len({row["measurement"] for row in rows}) == len(rows) == 2 * 10 + 1
    for row in rows[:-1]:
        assert -1 <= row["value"] <= 1
        assert row["peer_value"] == (0.0 if row["unit"] == "r" else 0.05)
    assert rows[-1]["unit"] == "CPU s" and rows[-1]["value"] > 0
    again = nulls.measure(
        n_draws=2, n_runs=3, n_trs=90, n_features=2, n_targets=5, n_permutations=19
    )
    assert [row["value"] for row in again[:-1]] == [row["value"] for row in rows[:-1]]
