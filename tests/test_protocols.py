"""Protocols as the options of `evaluate`: what is held out, and what leaks."""

import inspect
from collections import namedtuple

import numpy as np
import pytest

from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.encoding import RandomVolumes, evaluate
from cobe.sweep.protocols import holdout_of, protocol_options

Key = namedtuple("Key", "subject session run")
RUNS = [Key("sub-01", f"ses-00{s}", r) for s in (2, 3, 4) for r in (1, 2)]


def test_corrected_holds_out_sessions_and_as_published_volumes():
    profile = get_profile("quick")
    corrected = protocol_options(profile.protocol, RUNS)
    assert corrected["groups"] == [run.session for run in RUNS]
    assert corrected["alpha_per_target"] and corrected["relative_alphas"]
    published = protocol_options(profile.published, RUNS)
    assert published["groups"] == RandomVolumes(0.1, seed=profile.published.seed)
    assert not published["alpha_per_target"] and not published["relative_alphas"]
    for protocol, options in ((profile.protocol, corrected), (profile.published, published)):
        for name in options.keys() - {"groups"}:
            assert options[name] == getattr(protocol, name)
        assert options.keys() <= inspect.signature(evaluate).parameters.keys()


def test_evaluate_takes_them_and_says_which_leaks():
    profile = get_profile("smoke")
    rng = np.random.default_rng(0)
    runs_x = [rng.standard_normal((60, 3)) for _ in RUNS]
    runs_y = [rng.standard_normal((60, 4)) for _ in RUNS]
    for protocol, n_groups in ((profile.protocol, 3), (profile.published, 1)):
        options = protocol_options(protocol, RUNS) | {"n_permutations": 9}
        with pytest.warns(RuntimeWarning, match="edge of the grid"):
            table = evaluate(runs_x, runs_y, **options)
        assert table["leaks"].all() == (protocol.holdout == "volumes")
        assert table[table["held_out"] != "all"]["held_out"].nunique() == n_groups


def test_runs_of_several_subjects_and_of_none_are_refused():
    for protocol in (get_profile("quick").protocol, get_profile("quick").published):
        with pytest.raises(CobeError, match="score one subject"):
            protocol_options(protocol, [*RUNS, Key("sub-02", "ses-002", 1)])
        with pytest.raises(CobeError):
            protocol_options(protocol, [])


def test_runs_are_held_out_of_a_participant_with_one_session():
    profile = get_profile("quick")
    runs = [Key("sub-01", "ses-001", run) for run in (1, 2, 3)]
    options = protocol_options(profile.protocol, runs)
    assert len(set(options["groups"])) == 3
    assert holdout_of(profile.protocol, runs) == "run"
    two = [*runs, Key("sub-01", "ses-002", 1)]
    assert holdout_of(profile.protocol, two) == "session"
    assert holdout_of(profile.published, runs) == "volumes"
