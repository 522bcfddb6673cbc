"""The null and the planted brain: what each protocol reports where the truth is known."""

from collections import namedtuple
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, false_discovery_control, spearmanr

from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.core.timing import TR_S
from cobe.encoding import HRF
from cobe.encoding.surrogates import slow_noise
from cobe.sweep.trials import (
    Q_FOUND,
    fewest_findable,
    null_trials,
    order_recovered,
    planted_order,
    planted_trials,
)

Key = namedtuple("Key", "subject session run")
RUNS = [Key("sub-sim1", f"ses-00{s}", r) for s in (2, 3, 4) for r in (1, 2)]
ONE_A_SESSION = RUNS[::2]
N_TRS, N_PARCELS, N_DRAWS = 150, 60, 100
# lag-one autocorrelation measured in the default data: GPT features of volumes 0.46, BOLD 0.45
FEATURE_AR, BOLD_AR = 0.46, 0.45
QUICK = get_profile("quick")


def both_protocols(n_permutations):
    return [replace(p, n_permutations=n_permutations) for p in (QUICK.protocol, QUICK.published)]


def noise_runs(seed, n_columns, rho, n_trs=N_TRS, runs=RUNS):
    rng = np.random.default_rng(seed)
    return [slow_noise(rng, n_trs, n_columns, rho) for _ in runs]


@pytest.fixture(scope="module")
def null():
    # as many permutations as the profile makes, since they decide how much can be found
    protocols = [QUICK.protocol, replace(QUICK.published, n_permutations=99)]
    features = noise_runs(0, 8, FEATURE_AR, runs=ONE_A_SESSION)
    return null_trials(
        {p.name: features for p in protocols},
        noise_runs(1, N_PARCELS, BOLD_AR, runs=ONE_A_SESSION),
        ONE_A_SESSION,
        protocols,
        n_draws=N_DRAWS,
        workers=1,
    )


def test_corrected_finds_nothing_on_the_null_brain(null):
    corrected = null[null["protocol"] == "corrected"]
    assert len(corrected) == N_DRAWS and not corrected["leaks"].any()
    # permutations bound what can be found: here the same share of parcels as in the profile
    share = corrected["fewest_findable"].unique() / N_PARCELS
    quick = fewest_findable(QUICK.plan.n_parcels, QUICK.protocol.n_permutations)
    assert share == pytest.approx(quick / QUICK.plan.n_parcels, abs=1 / N_PARCELS)
    assert (corrected["n_found"] == 0).sum() >= 95
    mean = corrected["r"].mean()
    assert abs(mean) < 4 * corrected["r"].std() / np.sqrt(N_DRAWS) and abs(mean) < 0.01
    # its own p-value holds its level; 99.9 % of binomial draws at .05 lie below
    assert (corrected["p"] <= 0.05).sum() <= binom.ppf(0.999, N_DRAWS, 0.05)


def test_as_published_reports_a_positive_maximum_in_all(null):
    published = null[null["protocol"] == "as_published"]
    assert published["leaks"].all() and (published["summary"] == "max").all()
    assert (published["r"] > 0).all() and published["r"].median() > 0.2
    assert (published["r"] == published["r_max"]).all()
    # the leak moves the mean too, and a chance level under the same split would have told
    assert published["r_mean"].mean() > 0.05
    assert (published["r"] > published["chance_95"]).sum() <= binom.ppf(0.999, N_DRAWS, 0.05)


def test_protocols_see_the_same_brains_and_draws_do_not_depend_on_their_number():
    protocols = both_protocols(9)
    features, responses = noise_runs(2, 3, 0.9, 90), noise_runs(3, 4, 0.5, 90)
    args = ({p.name: features for p in protocols}, responses, RUNS)
    few = null_trials(*args, protocols, n_draws=2, seed=4, workers=1)
    more = null_trials(*args, protocols[::-1], n_draws=3, seed=4, workers=1)
    keys = ["draw", "protocol"]
    together = few.merge(more, on=keys, suffixes=("", "_more"))
    assert len(together) == 4
    for column in few.columns.drop(keys):
        assert (together[column] == together[f"{column}_more"]).all()
    other = null_trials(*args, protocols, n_draws=2, seed=5, workers=1)
    assert not (other["r"] == few["r"]).any()


@pytest.mark.parametrize("n_parcels", [5, 20, 24, 240])
@pytest.mark.parametrize("n_permutations", [99, 199, 499, 5000])
def test_fewest_findable_is_what_scipys_fdr_needs(n_parcels, n_permutations):
    smallest = 1 / (1 + n_permutations)
    least = [
        k
        for k in range(1, n_parcels + 1)
        if false_discovery_control([smallest] * k + [1.0] * (n_parcels - k))[0] <= Q_FOUND + 1e-12
    ]
    expected = least[0] if least else n_parcels + 1
    assert min(fewest_findable(n_parcels, n_permutations), n_parcels + 1) == expected


SETS = {"narrow": (3, 0.7, 0.3), "middle": (16, 0.85, 0.1), "wide": (64, 0.95, 0.0)}


@pytest.fixture(scope="module")
def planted():
    runs_x = {
        name: noise_runs(10 + i, n, rho) for i, (name, (n, rho, _)) in enumerate(SETS.items())
    }
    return planted_trials(
        runs_x,
        {name: share for name, (_, _, share) in SETS.items()},
        noise_runs(20, 12, BOLD_AR),
        RUNS,
        both_protocols(19),
        hrf=HRF(TR_S, span_s=12.0),
        n_draws=8,
        workers=1,
    )


def test_corrected_recovers_the_planted_order_and_as_published_does_not(planted):
    assert len(planted) == 8 * 2 * len(SETS)
    orders = order_recovered(planted).groupby("protocol")
    assert orders["recovered"].mean()["corrected"] == 1
    assert orders["recovered"].mean()["as_published"] <= 0.5


def test_scores_lie_below_the_planted_ceiling_only_without_a_leak(planted):
    means = planted.groupby(["protocol", "set"])[["r_mean", "ceiling", "share"]].mean()
    for name, (_, _, share) in SETS.items():
        row = means.loc["corrected", name]
        assert row["ceiling"] == pytest.approx(np.sqrt(share), abs=0.06)
        assert row["r_mean"] < row["ceiling"] + 0.02
    # the widest and slowest set, which drives nothing, under a split that leaks
    assert means.loc[("as_published", "wide"), "r_mean"] > 0.2


def test_order_is_kendalls_over_sets():
    rows = [("narrow", 0.3, 0.5, 0.1), ("middle", 0.2, 0.3, 0.4), ("wide", 0.1, 0.1, 0.3)]
    trials = pd.concat(
        pd.DataFrame(
            {
                "draw": 0,
                "protocol": name,
                "set": [r[0] for r in rows],
                "share": [r[1] for r in rows],
            }
        ).assign(r=[r[column] for r in rows])
        for name, column in (("right", 2), ("wrong", 3))
    ).reset_index(drop=True)
    orders = order_recovered(trials).set_index("protocol")
    assert orders.loc["right", "tau"] == pytest.approx(1) and orders.loc["right", "recovered"]
    # one of three pairs in order
    assert orders.loc["wrong", "tau"] == pytest.approx(-1 / 3)
    assert orders.loc["wrong", "winner"] == "middle" and not orders.loc["wrong", "right_winner"]
    with pytest.raises(CobeError, match="draw 0 has sets without a score under wrong"):
        order_recovered(trials.assign(r=trials["r"].mask(trials["r"] == 0.4)))


def truth_table(subjects=("sub-1", "sub-2")):
    regions = np.array(["low", "object", "null", "null"])
    ceiling = np.array([0.8, 0.5, 0.0, 0.0])
    return pd.concat(
        pd.DataFrame({"subject": s, "parcel": range(1, 5), "region": regions, "ceiling": ceiling})
        for s in subjects
    )


def score_rows(r, subject="sub-1", protocol="corrected"):
    common = {"subject": subject, "protocol": protocol, "cell": "c", "features": "gpt"}
    table = pd.DataFrame({"target": range(len(r)), "summary": "target", "held_out": "all", "r": r})
    table["q"] = np.where(table["r"] > 0.2, 0.01, 0.6)
    mean = {"target": -1, "summary": "mean", "held_out": "all", "r": 99.0}
    session = {"target": 0, "summary": "target", "held_out": "ses-002", "r": 99.0}
    return pd.concat([table, pd.DataFrame([mean, session])]).assign(**common)


def test_parcels_beside_their_ceilings():
    r = [0.4, 0.3, 0.1, -0.2]
    scores = pd.concat(
        [score_rows(r), score_rows([0.1, 0.2, 0.3, np.nan], "sub-2", "as_published")]
    )
    table = planted_order(scores, truth_table()).set_index(["protocol", "subject", "region"])
    whole = table.loc["corrected", "sub-1", "all"]
    assert whole["rank_correlation"] == pytest.approx(spearmanr(r, [0.8, 0.5, 0, 0]).statistic)
    assert whole["n_parcels"] == 4 and whole["n_found"] == 2
    null = table.loc["corrected", "sub-1", "null"]
    assert null["r"] == pytest.approx(-0.05) and null["ceiling"] == 0
    assert np.isnan(null["rank_correlation"]) and null["n_found"] == 0
    partly = table.loc["as_published", "sub-2", "all"]
    assert partly["n_parcels"] == 3
    assert partly["rank_correlation"] == pytest.approx(-1)


def test_truth_of_other_data_is_refused():
    with pytest.raises(CobeError, match="lacks 4 of 4 scored parcels .first: sub-1, parcel 1"):
        planted_order(score_rows([0.1] * 4), truth_table(["sub-2"]))
    with pytest.raises(CobeError, match="twice"):
        planted_order(score_rows([0.1] * 4), truth_table(["sub-1", "sub-1"]))


def test_plans_that_cannot_work_are_refused():
    protocols = both_protocols(9)
    features, responses = noise_runs(2, 3, 0.9, 60), noise_runs(3, 4, 0.5, 60)
    named = {p.name: features for p in protocols}
    with pytest.raises(CobeError, match="n_draws: 0"):
        null_trials(named, responses, RUNS, protocols, n_draws=0)
    with pytest.raises(CobeError, match="no features for as_published"):
        null_trials({"corrected": features}, responses, RUNS, protocols, n_draws=1)
    with pytest.raises(CobeError, match="corrected, corrected; give each once"):
        null_trials(named, responses, RUNS, [protocols[0]] * 2, n_draws=1)
    with pytest.raises(CobeError, match="protocol corrected: no permutations"):
        null_trials(named, responses, RUNS, both_protocols(0), n_draws=1)
    sets = {"a": features, "b": features}
    for shares in ({"a": 0.2, "b": 0.2}, {"a": 0.2}):
        with pytest.raises(CobeError, match="an order needs two sets or more"):
            planted_trials(
                sets, shares, responses, RUNS, protocols, hrf=HRF(TR_S), n_draws=1, workers=1
            )
