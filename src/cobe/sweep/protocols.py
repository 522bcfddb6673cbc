"""A protocol as the options of the scoring function."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cobe.brain.dataset import Run
from cobe.core.config import Protocol
from cobe.core.errors import CobeError
from cobe.encoding.splits import RandomVolumes, holdout_groups


def protocol_options(protocol: Protocol, runs: Sequence[Run]) -> dict:
    """What `cobe.encoding.evaluate` is told under a protocol, besides features and responses.

    Parameters
    ----------
    protocol : Protocol
        What is held out, delays, penalties, permutations. Which features are read (readout,
        pooling, width) is decided before.
    runs : sequence of runs
        Of one participant, in the order of the arrays; anything with attributes `subject`,
        `session` and `run`.

    Returns
    -------
    options : dict
        groups, delays_tr, alphas, relative_alphas, alpha_per_target, n_permutations, block_trs and
        seed. Volumes that are held out at random are drawn over all runs, which leaks. Of a
        participant with one session, runs are held out in place of sessions.

    Raises
    ------
    CobeError
        Runs of several participants, or too few to hold one out.
    """
    if protocol.holdout == "volumes":
        subjects = sorted({run.subject for run in runs})
        if len(subjects) != 1:
            raise CobeError(f"runs of {', '.join(subjects) or 'nobody'}: score one subject at once")
        groups = RandomVolumes(protocol.test_fraction, seed=protocol.seed)
    else:
        groups = holdout_groups(runs, holdout_of(protocol, runs))
    return {
        "groups": groups,
        "delays_tr": protocol.delays_tr,
        "alphas": protocol.alphas,
        "relative_alphas": protocol.relative_alphas,
        "alpha_per_target": protocol.alpha_per_target,
        "n_permutations": protocol.n_permutations,
        "block_trs": protocol.block_trs,
        "seed": protocol.seed,
    }


def holdout_of(protocol: Protocol, runs: Sequence[Run]) -> str:
    """What is held out of these runs of one participant: runs, where there is one session only."""
    one_session = len({run.session for run in runs}) == 1
    return "run" if protocol.holdout == "session" and one_session else protocol.holdout


@contextmanager
def quiet_edges() -> Iterator[None]:
    """Scoring without a line for penalties at the grid's edge: ``n_alpha_edge`` counts them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="alphas: .* edge of the grid")
        yield
