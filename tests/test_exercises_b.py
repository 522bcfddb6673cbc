"""Exercises 3 to 5 on a made-up run: values that closed forms know, remarks on wrong answers."""

import contextlib
import io
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter
from scipy.stats import norm, spearmanr

from cobe.core.errors import CobeError
from cobe.core.profiles import get_profile
from cobe.course import checks, inputs
from cobe.course.scripts import read_script
from cobe.course.versions import FOLDER, exercises, solution
from cobe.sweep import pipeline
from cobe.sweep.models import sweep_cells

NAMES = ("ex3_encoding", "ex4_compute_optimal", "ex5_audit")
GAIN = {("native", "gpt"): 0.04, ("corrected", "gpt"): 0.01}
GAIN |= {("native", "untrained"): 0.05, ("corrected", "untrained"): 0.025}
LEARNED = 0.03  # of the narrowest; the widest has 0.015


def slow(rng, n, k, lag_one=0.8):
    return lfilter([1.0], [1.0, -lag_one], rng.standard_normal((n + 100, k)), axis=0)[100:]


def planted_scores(profile):
    """Score table with known gains with width, and p-values of 20 parcels; 2 x 2 units."""
    rng, rows = np.random.default_rng(1), []
    cells = sweep_cells(profile, ["hidden_dim"])
    cells += [cell.untrained() for cell in cells]
    widths = sorted({cell.hidden for cell in cells})
    for protocol, features in GAIN:
        for cell in (cell for cell in cells if cell.trained == (features == "gpt")):
            r = 0.1 + GAIN[protocol, features] * (widths.index(cell.hidden) / (len(widths) - 1))
            r += LEARNED if cell.trained else 0.0
            about = {"cell": cell.name, "protocol": protocol, "features": features}
            for subject in ("sub-a", "sub-b"):
                one = about | {"subject": subject, "target": -1, "summary": "mean", "p": np.nan}
                shift = 0.004 if cell.trained else 0.003
                sessions = {"ses-2": shift, "ses-3": -shift}
                rows += [one | {"held_out": k, "r": r + v} for k, v in sessions.items()]
                p = np.r_[np.full(9, 1 / 101), 4 / 101, rng.integers(10, 101, 10) / 101]
                for target in range(20):
                    of_parcel = {"target": target, "summary": "target", "held_out": "all"}
                    rows.append(one | of_parcel | {"r": 0.1, "p": p[target]})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Every solution, run cell by cell: what names held before each check, and what was said."""
    profile = get_profile("smoke")
    folder = tmp_path_factory.mktemp("run") / "build"
    (folder / "smoke").mkdir(parents=True)
    table = planted_scores(profile)
    for name in ("scores", "audit_scores"):
        table.to_parquet(folder / "smoke" / f"{name}.parquet")
    rng = np.random.default_rng(0)
    bold = {("sub-a", "ses-1", run): slow(rng, 150, 30) for run in range(4)}
    study = SimpleNamespace(profile=profile, simulated=True)
    matplotlib.use("agg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COBE_BUILD", str(folder))
        patch.setattr(pipeline, "open_pipeline", lambda *_: study)
        patch.setattr(pipeline, "inventory", lambda _: None)
        patch.setattr(pipeline, "parcel_bold", lambda *_: bold)
        patch.setattr(pipeline, "load_bold", lambda item: item)
        patch.setattr("matplotlib.pyplot.show", lambda: None)
        yield {name: run_all(name) for name in NAMES}


def run_all(name):
    checks.reset()
    notebook = read_script(FOLDER / f"{name}.py")
    made, before = solution(notebook, name), {}
    place_of = {k: e.number for e in exercises(notebook, name) for k in e.checks}
    names, said = {}, io.StringIO()
    for place, cell in enumerate(made.cells):
        if cell.cell_type != "code":
            continue
        if place in place_of:
            before.setdefault(place_of[place], []).append((dict(names), cell.source))
        with contextlib.redirect_stdout(said):
            exec(compile(cell.source, f"{name} cell {place}", "exec"), names)
        if "parameters" in cell.metadata.get("tags", []):
            names["profile"] = "smoke"
    return SimpleNamespace(names=names, before=before, said=said.getvalue())


def at(done, number):
    """Names before the first check of an exercise, solution included."""
    return run_of(done, number).before[number][0][0]


def run_of(done, number):
    return done[next(name for name in NAMES if name.startswith(f"ex{number[0]}"))]


@pytest.mark.parametrize("name", NAMES)
def test_all_solutions_are_right(done, name):
    assert "5 of 5 exercises right" in done[name].said, done[name].said


# number, wrong answer as code that runs after the solution, what the remark says
REMARKS = [
    ("3.1a", "r_shuffled = r_last_run", "r of the last run"),
    ("3.1a", "r_shuffled = pearson(Ridge(alpha=100).fit(x[~shuffled], y[~shuffled])"
             ".predict(x[shuffled]), y[shuffled]).max()", "take the mean"),
    ("3.1b", "r_last_run = r_shuffled", "hold out the whole last run"),
    ("3.1b", "r_last_run = pearson(model.predict(x[~held]), y[~held]).mean()", "trained on"),
    ("3.2a", "wrong = np.stack([np.roll(joined, d) for d in delays], axis=1)", "np.roll"),
    ("3.2a", "wrong = np.nan_to_num(wrong)", "zeros"),
    ("3.2a", "wrong = wrong.T", "one row per volume"),
    ("3.2a", "wrong = np.stack([np.r_[joined[d:], np.full(d, np.nan)] for d in delays], axis=1)",
     "shift down"),
    ("3.2b", "bad_rows = bad_rows | set(range(5))", "no run before it"),
    ("3.2b", "bad_rows = starts[1:]", "longest delay"),
    ("3.2b", "bad_rows = other.any(axis=1)", "not a mask"),
    ("3.3a", "causal = same", "mode='same'"),
    ("3.3a", "causal = np.convolve(flash, kernel)", "cut its end"),
    ("3.3a", "causal = np.convolve(flash, kernel[::-1])[:60]", "backwards"),
    ("3.3b", "too_early_s = too_early_s / TR_S", "TR_S seconds"),
    ("3.3b", "too_early_s = -too_early_s", "too early counts as positive"),
    ("3.4a", "false_t = np.mean(2 * stats.t.sf(np.abs(r) * np.sqrt(188 / (1 - r**2)), 188) < .05)",
     "two-sided"),
    ("3.4b", "false_blocks = ((null >= r).mean(axis=0) < 0.05).mean()", "b / B"),
    ("3.4b", "false_blocks = false_t", "share by t"),
    ("3.5a", "difference = -difference", "other way round"),
    ("3.5b", "p = p / 2", "one-sided"),
    ("3.5b", "p = stats.ttest_rel(units.trained, units.untrained).pvalue", "t-test"),
    ("4.1", "constants = found", "np.exp"),
    ("4.1", "constants = np.array(constants)[[0, 2, 1, 4, 3]]", "exchanged"),
    ("4.1", "constants = [*constants[:3], -constants[3], -constants[4]]", "positive here"),
    ("4.1", "constants = [1e-6, 40, 40, .1, .1]", "floor"),
    ("4.2a", "n_opt = d_opt", "exchanged"),
    ("4.2a", "n_opt = scale * 1e21 ** (b / (a + b))", "6 N D"),
    ("4.2b", "d_opt = 1e21 / n_opt", "6 N D"),
    ("4.2c", "growth = 10 / growth", "growth of D"),
    ("4.2c", "growth = b / (a + b)", "exponent"),
    ("4.3a", "n_around = np.log(n_around)", "np.exp"),
    ("4.3a", "c = np.polyfit(slices['around'], losses['around'], 2); "
             "n_around = -c[1] / 2 / c[0]", "in log N"),
    ("4.3b", "n_below = slices['below'][-1]", "best of the seven"),
    ("4.3c", "report = 'both'", "largest and smallest size"),
    ("4.4a", "flop = flop / 0.35", "35 %"),
    ("4.4a", "flop = flop / 3600", "3600 seconds"),
    ("4.4b", "best_n = flop / 6 / best_n", "exchanged"),
    ("4.4c", "video_hours = video_hours * 3600", "seconds"),
    ("4.4c", "video_hours = video_hours * 64", "one stretch"),
    ("4.4d", "times_beyond = 1 / times_beyond", "other way round"),
    ("4.5a", "gains = -gains", "sign"),
    ("4.5a", "gains = readout.C * hours**-readout.gamma", "term itself"),
    ("4.5b", "n_reliable = len(asked)", "gain_scan_hours_extrapolated"),
    ("4.5c", "buys_more = 'scan hours'", "unknown is not small"),
    ("5.1", "median_largest = np.zeros(4)", "median of one parcel"),
    ("5.1", "median_largest = t", "make an r"),
    ("5.1", "median_largest = median_largest[::-1]", "cannot be smaller"),
    ("5.1", "t = student_t.ppf(0.95 ** (1 / counts), 98); "
            "median_largest = t / np.sqrt(98 + t**2)", "the median is asked"),
    ("5.2a", "updates = steps.to_numpy()", "100 epochs"),
    ("5.2b", "loss_6m = base_curve[int(minima.epoch['1M'])]", "count updates"),
    ("5.2b", "loss_6m = minima.val_loss['1M']", "1M model"),
    ("5.3a", "gain_native = gain_matched", "`corrected`"),
    ("5.3b", "gain_matched = gains['corrected', 'untrained']", "untrained"),
    ("5.3c", "learned_growth = -learned_growth", "not the other way"),
    ("5.3c", "learned_growth = gain_matched", "take off"),
    ("5.4a", "q = np.empty(n); q[order] = raw", "running minimum"),
    ("5.4a", "q = np.minimum(p * n, 1)", "Bonferroni"),
    ("5.4a", "q = np.sort(q)", "by parcel"),
    ("5.4b", "n_fdr = int((p < 0.05).sum())", "uncorrected"),
    ("5.4c", "n_bonferroni = n_fdr", "FDR"),
    ("5.5a", "unique_first = r2['first']", "first band alone"),
    ("5.5a", "unique_first = unique_second", "its own"),
    ("5.5b", "unique_second = LinearRegression().fit(x2 := np.stack([first, second], 1)[:half], "
             "y[:half]).score(x2, y[:half]) - LinearRegression().fit(first[:half, None], y[:half])"
             ".score(first[:half, None], y[:half])", "fitted on"),
    ("5.5c", "shared = r2['both']", "R2 of both"),
]  # fmt: skip


@pytest.mark.parametrize(
    "number, wrong, remark", REMARKS, ids=[f"{n}-{remark}" for n, _, remark in REMARKS]
)
def test_wrong_answers_get_their_remark(done, number, wrong, remark):
    said = io.StringIO()
    for names, source in run_of(done, number).before[number.rstrip("abcd")]:
        names = dict(names)
        exec(wrong, names)
        with contextlib.redirect_stdout(said):
            exec(source, names)
    line = next(x for x in said.getvalue().splitlines() if x.startswith(f"{number} "))
    assert "not yet" in line and remark in line


# ------------------------------------------------------------------------------------------------
# what is expected, held against closed forms and what was planted


def test_leak_is_there_and_gone(done):
    names = at(done, "3.1")
    assert names["r_shuffled"] > 0.1
    assert abs(names["r_last_run"]) < 0.05


def test_rows_that_see_another_run(done):
    crossing = run_of(done, "3.2").names["crossing"]
    runs = np.repeat(np.arange(4), 150)
    for t in range(600):
        sees = {runs[t - d] for d in (1, 2, 3, 4, 5) if t >= d}
        assert (t in crossing) == bool(sees - {runs[t]})


def test_false_alarms_are_those_of_the_effective_number_of_volumes(done):
    names = run_of(done, "3.4").names
    effective = 190 * (1 - 0.64) / (1 + 0.64)  # Bartlett
    critical = names["t_95"] / np.sqrt(188 + names["t_95"] ** 2)
    assert abs(names["share_t"] - norm.sf(critical * np.sqrt(effective))) < 0.04
    assert names["share_blocks"] < 0.09


def test_planted_difference_of_training(done):
    names = at(done, "3.5")
    assert names["difference"] == pytest.approx(0.015)
    assert len(names["units"]) == 4
    assert names["p"] == 2 / 16  # four units, all of one sign


def test_best_model_balances_both_terms(done):
    names = at(done, "4.2")
    law, n, d = names["law"], names["numeric"], 1e21 / 6 / names["numeric"]
    size = law["alpha"] * law["A"] / n ** law["alpha"]
    amount = law["beta"] * law["B"] / d ** law["beta"]
    assert size == pytest.approx(amount, rel=1e-4)


def test_committed_tables_serve_the_exercises(done):
    names = at(done, "4.5")
    assert np.isfinite(names["game"]).all() and np.isfinite(names["readout"]).all()
    assert 0 < names["largest_seen"] < 1e15
    assert names["asked"].scan_hours.is_unique and len(names["asked"]) >= 2


def test_maxima_grow_as_order_statistics_say(done):
    names = run_of(done, "5.1").names
    assert spearmanr(names["counts"], names["simulated"])[0] == pytest.approx(1)
    normal = norm.ppf(0.5 ** (1 / names["counts"])) / 10
    np.testing.assert_allclose(names["simulated"], normal, atol=0.015)


def test_steps_follow_from_the_frames(done):
    subsets = at(done, "5.2")["subsets"]
    np.testing.assert_allclose(
        subsets.steps_per_epoch, np.ceil(subsets.frames / 64 / 64), rtol=0.015, atol=0.5
    )


def test_planted_gains_with_width(done):
    names = at(done, "5.3")
    assert names["gain_native"] == pytest.approx(0.04)
    assert names["gain_matched"] == pytest.approx(0.01)
    assert names["learned_growth"] == pytest.approx(0.01 - 0.025)


def test_bands_hold_what_was_planted(done):
    names = at(done, "5.5")
    for name, found in (*names["own"].items(), ("shared", names["either"])):
        assert found == pytest.approx(names["planted"][name], abs=0.04)


# ------------------------------------------------------------------------------------------------


def test_missing_results_name_who_makes_them(tmp_path, monkeypatch):
    monkeypatch.setenv("COBE_BUILD", str(tmp_path))
    with pytest.raises(CobeError, match=r"notebook 07_audit makes it: run ./run_all.sh"):
        inputs.saved_table("smoke", "audit_scores")
    with pytest.raises(CobeError, match="table 'loss.parquet': unknown; choose from scores"):
        inputs.saved_table("smoke", "loss")
    monkeypatch.setattr(inputs, "PROJECT", tmp_path)
    with pytest.raises(CobeError, match="table_allocation.csv: not there; restore it"):
        inputs.committed_table("table_allocation")
