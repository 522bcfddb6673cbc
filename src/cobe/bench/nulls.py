"""How often noise is called significant: the default of the encoding engine, and what it replaces.

Features and responses are independent and autocorrelated, so every finding is false. A method that
holds its level finds 5 % of targets at .05.
"""

import time
import warnings

import numpy as np
from scipy import stats

from cobe.core.seeds import rng_for
from cobe.encoding import RandomVolumes, evaluate
from cobe.encoding.surrogates import slow_noise

LEVEL = 0.05
# Lag-one autocorrelation of features and of responses, slow and less slow. Volumes of 1.49 s.
SPEEDS = ((0.95, 0.9), (0.8, 0.5))


def measure(
    *,
    n_draws=40,
    n_runs=6,
    n_trs=300,
    n_features=8,
    n_targets=50,
    n_permutations=199,
    speeds=SPEEDS,
    seed=0,
):
    """False positives at nominal .05 of the default and of what else is in use.

    Parameters
    ----------
    n_draws : int
        Data sets; the targets of one share its features, so the error is that of so many draws.
    n_runs, n_trs : int
        Runs held out in turn, and volumes of each.
    n_features, n_targets : int
        Columns of the features, before five delays, and of the responses.
    n_permutations : int
        For the methods that permute.
    speeds : sequence of (float, float)
        Lag-one autocorrelations of features and responses.
    seed : int
        Seed of the data and of permutations.

    Returns
    -------
    rows : list of dict
        Keys measurement, value, unit, peer, peer_value, ratio, as of the other benches. The peer of
        a share of false positives is the nominal level, with no ratio.
    """
    rows, begin_s = [], time.process_time()
    for speed in speeds:
        draws = [
            one_draw(speed, n_runs, n_trs, n_features, n_targets, n_permutations, seed, draw)
            for draw in range(n_draws)
        ]
        for method in draws[0]:
            values = np.array([draw[method] for draw in draws])
            error = values.std(ddof=1) / np.sqrt(n_draws) if n_draws > 1 else float("nan")
            unit = "r" if method.startswith("mean r") else "share of targets"
            rows.append(
                {
                    "measurement": f"{method}; AR {speed[0]:g} / {speed[1]:g} (s.e. {error:.3f})",
                    "value": float(values.mean()),
                    "unit": unit,
                    "peer": "truth" if unit == "r" else "nominal",
                    "peer_value": 0.0 if unit == "r" else LEVEL,
                    "ratio": None,
                }
            )
    rows.append(
        {
            "measurement": f"null simulation, {n_draws} data sets of {n_runs} x {n_trs} volumes",
            "value": time.process_time() - begin_s,
            "unit": "CPU s",
            "peer": None,
            "peer_value": None,
            "ratio": None,
        }
    )
    return rows


def one_draw(speed, n_runs, n_trs, n_features, n_targets, n_permutations, seed, draw):
    """One data set of noise, and what each method makes of it.

    Parameters
    ----------
    speed : (float, float)
        Lag-one autocorrelation of features and responses.
    n_runs, n_trs, n_features, n_targets, n_permutations, seed
        See `measure`.
    draw : int
        Number of the data set.

    Returns
    -------
    shares : dict of str to float
        False positives at .05 of each method; two means of r over targets.
    """
    rng = rng_for(seed, "nulls", speed, draw)
    runs_x = [slow_noise(rng, n_trs, n_features, speed[0]) for _ in range(n_runs)]
    runs_y = [slow_noise(rng, n_trs, n_targets, speed[1]) for _ in range(n_runs)]

    def scores(groups, **options):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="alphas")
            table = evaluate(
                runs_x,
                runs_y,
                groups=groups,
                delays_tr=(1, 2, 3, 4, 5),
                alphas=np.logspace(0, 6, 7),
                n_bootstrap=0,
                seed=draw,
                **{"n_permutations": n_permutations} | options,
            )
        return table[(table["held_out"] == "all") & (table["summary"] == "target")]

    default = scores(range(n_runs))
    shuffled = scores(RandomVolumes(n_folds=5, seed=draw), null="moved", block_trs=1)
    p = {
        "default: folds refitted, blocks of 40": default["p"],
        "folds refitted, blocks of 10": scores(range(n_runs), block_trs=10)["p"],
        "predictions moved, blocks of 40": scores(range(n_runs), null="moved")["p"],
        "predictions moved, blocks of 10": scores(range(n_runs), null="moved", block_trs=10)["p"],
        "TR shuffle": scores(range(n_runs), null="moved", block_trs=1)["p"],
        "parametric t": parametric_p(default),
        "shuffled split, TR shuffle": shuffled["p"],
        "shuffled split, parametric t": parametric_p(shuffled),
    }
    shares = {f"false positives, {name}": (values <= LEVEL).mean() for name, values in p.items()}
    shares["mean r, held-out runs"] = default["r"].mean()
    shares["mean r, shuffled split"] = shuffled["r"].mean()
    return {name: float(value) for name, value in shares.items()}


def parametric_p(scores):
    """One-sided p-values of correlations as if volumes were independent: (n_targets,)."""
    r, n = scores["r"].to_numpy(), scores["n_trs"].to_numpy()
    return stats.t.sf(r * np.sqrt((n - 2) / (1 - r**2)), n - 2)
