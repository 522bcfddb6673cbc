# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 3 · Encoding
#
# **Question.** How much of a correlation with the brain is made by the way it was measured?
#
# **Reads** the parcel series and the score table of a finished run (`./run_all.sh`). **Writes**
# nothing. **Time** under a minute. **Hardware** any.
#
# Five exercises around [notebook 04](../04_encoding.ipynb). Replace each `...` by your answer, run the
# cell, then the check below it. A check says "right", or what to look at. Hints grow in strength.

# %% tags=["parameters"]
profile = "quick"
data = ""

# %%
import numpy as np

from cobe.core.timing import TR_S
from cobe.course import checks
from cobe.sweep import pipeline as stages

study = stages.open_pipeline(profile, data)
series = stages.parcel_bold(study, stages.inventory(study))
subject = min(key[0] for key in series)
y_runs = [stages.load_bold(item) for key, item in series.items() if key[0] == subject]
measured = np.all([np.isfinite(y).any(axis=0) for y in y_runs], axis=0)
y_runs = [y[:, measured] for y in y_runs]
lengths = [len(y) for y in y_runs]

print("participant:", subject, " runs:", len(y_runs), " volumes of each:", lengths)
print("one run (n_trs, n_parcels):", y_runs[0].shape, " left out:", int((~measured).sum()))

# %% [markdown]
# Two small tools for all exercises: Pearson's r of columns, and noise that is as slow as you like. An
# AR(1) series keeps the share `lag_one` of its last value and adds fresh noise to it.

# %%
from scipy.signal import lfilter


def pearson(a, b):
    """Pearson r of the columns of a with those of b: (n_columns,)."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return (a * b).sum(axis=0) / np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))


def slow_noise(rng, n_trs, n_columns, lag_one):
    """AR(1) noise of variance 1, float64 (n_trs, n_columns)."""
    fresh = rng.standard_normal((n_trs + 200, n_columns)) * np.sqrt(1 - lag_one**2)
    return lfilter([1.0], [1.0, -lag_one], fresh, axis=0)[200:]


# %% [markdown]
# Features that know nothing: 150 columns of slow noise, drawn without a look at the brain, delayed by 1
# to 4 volumes inside each run.

# %%
from cobe.encoding.delays import stack_delays

rng = np.random.default_rng(0)
noise = [slow_noise(rng, n, 150, lag_one=0.9) for n in lengths]
run = np.repeat(np.arange(len(lengths)), lengths)
x = np.concatenate([stack_delays(one, (1, 2, 3, 4)) for one in noise])
y = np.concatenate(y_runs)
kept = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
x, y, run = x[kept], y[kept], run[kept]
shuffled = rng.random(len(x)) < 0.1

print("x (n_rows, n_columns):", x.shape, " y (n_rows, n_parcels):", y.shape)
print("rows left out, because a delay or the BOLD is missing:", int((~kept).sum()))
print("rows drawn at random to be held out:", int(shuffled.sum()))

# %% [markdown] tags=["exercise"]
# ## Exercise 3.1 · What happens to r if you shuffle TRs?
#
# The features know nothing, so the honest answer is r = 0. Fit a ridge regression with penalty 100
# twice. First hold out the rows in `shuffled`, which lie anywhere, and train on all others. Then hold
# out the whole last run, and train on the other runs. Score each with the mean over parcels of Pearson's
# r on the held-out rows.

# %% [markdown] tags=["hint"]
# `sklearn.linear_model.Ridge(alpha=100)` takes all parcels at once. Rows of the last run are
# `run == run.max()`; `pearson` above gives one r per parcel.

# %% [markdown] tags=["hint"]
# One split is `model = Ridge(alpha=100).fit(x[~held], y[~held])`, then
# `pearson(model.predict(x[held]), y[held]).mean()`. Do it for `held = shuffled` and for the last run.

# %% tags=["answer"]
#: r_shuffled = ...  # float: mean r over parcels, rows held out at random
#: r_last_run = ...  # float: mean r over parcels, the last run held out
from sklearn.linear_model import Ridge

found = []
for held in (shuffled, run == run.max()):
    model = Ridge(alpha=100).fit(x[~held], y[~held])
    found.append(pearson(model.predict(x[held]), y[held]).mean())
r_shuffled, r_last_run = found

# %% [markdown]
# What the checks expect comes from the normal equations, not from scikit-learn:

# %%
wanted, largest, seen = {}, {}, {}
for name, held in {"shuffled": shuffled, "last": run == run.max()}.items():
    means = x[~held].mean(axis=0), y[~held].mean(axis=0)
    x_train, y_train = x[~held] - means[0], y[~held] - means[1]
    weights = np.linalg.solve(x_train.T @ x_train + 100 * np.eye(x.shape[1]), x_train.T @ y_train)
    r = [np.corrcoef(p, q)[0, 1] for p, q in zip(((x - means[0]) @ weights)[held].T, y[held].T)]
    wanted[name], largest[name] = np.mean(r), np.max(r)
    seen[name] = pearson(x_train @ weights, y_train).mean()

# %% tags=["check"]
remarks = [
    (wanted["last"], "this is the r of the last run; hold out the rows in `shuffled` here"),
    (largest["shuffled"], "this is the largest r of all parcels; take the mean"),
    (seen["shuffled"], "this is r on the rows that were trained on; score the held-out ones"),
]
right, lesson = wanted["shuffled"], f"r = {wanted['shuffled']:.3f} from features that know nothing"
checks.close("3.1a", r_shuffled, right, lesson, atol=5e-4, remarks=remarks)

# %% tags=["check"]
remarks = [
    (wanted["shuffled"], "this is the r of the random rows; hold out the whole last run here"),
    (largest["last"], "this is the largest r of all parcels; take the mean"),
    (seen["last"], "this is r on the rows that were trained on; score the last run"),
]
right, lesson = wanted["last"], f"r = {wanted['last']:.3f}: same features, same brain, honest split"
checks.close("3.1b", r_last_run, right, lesson, atol=5e-4, remarks=remarks)

# %% [markdown]
# The same question to `cobe.encoding.evaluate`, for noise of several speeds:

# %%
import pandas as pd

from cobe.encoding import evaluate
from cobe.encoding.splits import RandomVolumes

ways = {"rows at random": RandomVolumes(n_folds=5), "whole runs": list(range(len(lengths)))}
options = dict(delays_tr=(1,), alphas=[100.0], n_permutations=0, n_bootstrap=0)
rows = []
for lag_one in (0.0, 0.5, 0.8, 0.9, 0.95):
    runs_x = [slow_noise(rng, n, 150, lag_one) for n in lengths]
    for way, groups in ways.items():
        table = evaluate(runs_x, y_runs, groups=groups, **options)
        whole = table[(table.summary == "mean") & (table.held_out == "all")]
        rows.append({"held out": way, "lag_one": lag_one, "r": whole.r.item()})
leak = pd.DataFrame(rows).pivot(index="lag_one", columns="held out", values="r")

# %%
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(4.6, 2.6), layout="constrained")
ax.axhline(0, color="0.7", lw=0.8)
for (way, values), look in zip(leak.items(), ("o-", "s--")):
    ax.plot(leak.index, values, look, label=f"{way} held out")
ax.set(xlabel="lag-one correlation of the features", ylabel="mean r over parcels")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *What to see:* a random split invents a correlation for every feature that is slow, and none for
# features that are new in every volume (0). With whole runs held out, r stays around zero at every
# speed. *What it does not show:* how large the leak is in real data. It depends on the number of
# features and volumes, and on how slow the BOLD is.

# %% [markdown] tags=["discussion"]
# A held-out volume has nearly the same volume beside it in training: features and BOLD are both slow,
# and many features act like a clock that tells the ridge which moment it is. Nothing about the game
# was learned. The paper's way, as far as it can be inferred, holds out 10 % of volumes at random; so
# part of every published r is of this kind, the same part for good and bad models. *What this does not
# teach:* that shuffling explains all of a published value. That needs the data that were published.

# %% [markdown]
# Two exercises about time. In the first, every feature value says where it comes from: volume 7 of
# run 3 has the value 3007.

# %%
labels = [1000.0 * (k + 1) + np.arange(n)[:, None] for k, n in enumerate(lengths)]
starts = np.cumsum([0, *lengths[:-1]])
delays = (1, 2, 3, 4, 5)

print("first values of run 2:", labels[1][:4, 0], " its first row in all:", starts[1])

# %% [markdown] tags=["exercise"]
# ## Exercise 3.2 · Delays that cross the border of a run
#
# A colleague first joins all runs, `np.concatenate(labels)`, and then shifts the long series down by
# each of `delays`, with NaN where the shift leaves a row empty. Build this design: one column for each
# delay, as many rows as all runs have. Then find the rows (counted from 0 over all runs) in which some
# column comes from another run than the row itself.

# %% [markdown] tags=["hint"]
# For delay `d`, row `t` holds the value of row `t - d` of the joined series. The thousands of a value
# tell its run. The first rows of the first run have no past: NaN, which is honest and not wrong.

# %% [markdown] tags=["hint"]
# Start from `wrong = np.full((len(joined), len(delays)), np.nan)` and fill
# `wrong[d:, column] = joined[:-d]`. A row is bad if `wrong // 1000` differs from the thousands of the row
# in a column that is not NaN.

# %% tags=["answer"]
#: wrong = ...  # float array (n_rows, n_delays): the design of the joined series
#: bad_rows = ...  # array or set of int: rows that see another run
joined = np.concatenate(labels)[:, 0]
wrong = np.full((len(joined), len(delays)), np.nan)
for column, delay in enumerate(delays):
    wrong[delay:, column] = joined[:-delay]
other = np.isfinite(wrong) & (wrong // 1000 != joined[:, None] // 1000)
bad_rows = set(np.flatnonzero(other.any(axis=1)).tolist())

# %%
shifts = [pd.Series(np.concatenate(labels)[:, 0]).shift(d) for d in delays]
design = np.stack(shifts, axis=1)


def same_design(answer):
    """Whether it is the design of the joined series, NaN where that has no past."""
    return np.shape(answer) == design.shape and np.array_equal(answer, design, equal_nan=True)


# %% tags=["check"]
remarks = [
    (lambda a: np.shape(a) == design.shape[::-1], "one row per volume, one column per delay"),
    (
        lambda a: np.isfinite(a).all() and (np.asarray(a)[:5, -1] == 0).any(),
        "filled with zeros; leave NaN where there is no past",
    ),
    (
        lambda a: np.isfinite(a).all(),
        "no NaN: np.roll carries the end of the last run to the start of the first",
    ),
    (
        lambda a: np.isnan(np.asarray(a)[-1]).any(),
        "shifted up; the brain answers later: shift down",
    ),
]
checks.holds("3.2a", wrong, same_design, "this is the design that looks harmless", remarks=remarks)

# %%
per_run = np.concatenate([stack_delays(one, delays) for one in labels])
differs = np.isnan(per_run).any(axis=1) & ~np.isnan(design).any(axis=1)
crossing = {int(start) + k for start in starts[1:] for k in range(max(delays))}
all_starts = crossing | set(range(max(delays)))
print("rows in which both designs differ:", int(differs.sum()))

# %% tags=["check"]
remarks = [
    (
        lambda rows: set(rows) == all_starts,
        "the first run has no run before it: NaN there, not bad",
    ),
    (lambda rows: set(rows) == {int(s) for s in starts[1:]}, "the longest delay reaches further"),
    (lambda rows: len(rows) == len(design), "give the numbers of the rows, not a mask"),
]
lesson = f"{len(crossing)} of {len(design)} rows see another run"
checks.equal("3.2b", bad_rows, crossing, lesson, remarks=remarks)

# %% [markdown] tags=["discussion"]
# `cobe.encoding.delays.stack_delays` takes one run at a time, so it cannot make this mistake: rows that
# lack their past are NaN, left out and counted. Few rows are wrong, and r hardly moves, which is why the
# fault lives long. It is worse where the last run before the border is held out: training rows then
# hold features of the test set. *What this does not teach:* gaps inside a run, which are treated the
# same way.

# %% [markdown] tags=["exercise"]
# ## Exercise 3.3 · Which way does the brain look?
#
# Something flashes in volume 20 of 60: `flash` below. Convolve it with the haemodynamic response
# `kernel` so that the answer comes after the flash and has 60 volumes. A popular line,
# `np.convolve(flash, kernel, mode="same")`, gives 60 volumes too. By how many seconds is its answer too
# early? (The kernel is sampled once per volume, of `TR_S` seconds.)

# %%
from cobe.encoding.hrf import HRF

kernel = HRF(tr_s=TR_S).kernel
flash = np.zeros(60)
flash[20] = 1.0
same = np.convolve(flash, kernel, mode="same")

print("kernel (n_lags,):", kernel.shape, " largest at lag", int(kernel.argmax()), "volumes")

# %% [markdown] tags=["hint"]
# Write down the sum: the answer in volume `t` is the sum over `d >= 0` of `kernel[d] * flash[t - d]`. The
# full convolution starts there; `mode="same"` cuts a piece out of its middle.

# %% [markdown] tags=["hint"]
# `np.convolve(flash, kernel)[:60]` is causal. Compare where the two answers are largest, and count the
# volumes between.

# %% tags=["answer"]
#: causal = ...  # float array (60,): the answer, in time
#: too_early_s = ...  # float: seconds by which mode="same" is early
causal = np.convolve(flash, kernel)[: len(flash)]
too_early_s = (causal.argmax() - same.argmax()) * TR_S

# %% tags=["check"]
answer = lfilter(kernel, [1.0], flash)
remarks = [
    (same, "this is mode='same': it begins before the flash"),
    (np.convolve(flash, kernel), "the right order, but longer than the run; cut its end off"),
    (lfilter(kernel[::-1], [1.0], flash), "the kernel runs backwards in time"),
]
checks.close(
    "3.3a", causal, answer, "nothing before the flash, the peak 4 or 5 s after it", remarks=remarks
)

# %% tags=["check"]
cut = (len(kernel) - 1) // 2
remarks = [
    (float(cut), "these are volumes; a volume takes TR_S seconds"),
    (-cut * TR_S, "the amount is right; too early counts as positive"),
    (float(kernel.argmax() * TR_S), "this is when the causal answer peaks; compare the two peaks"),
]
checks.close(
    "3.3b",
    too_early_s,
    cut * TR_S,
    "half the kernel: a brain that knows the future",
    remarks=remarks,
)

# %%
time_s = (np.arange(len(flash)) - 20) * TR_S
library = HRF(tr_s=TR_S).convolve(flash[:, None])[:, 0]
fig, ax = plt.subplots(figsize=(5, 2.4), layout="constrained")
ax.axvline(0, color="0.5", lw=0.8)
ax.plot(time_s, same, "--", color="#c1440e", label='mode="same"')
ax.plot(time_s, library, "o-", ms=3, color="#31688e", label="cobe.encoding.hrf.HRF")
ax.set(xlabel="seconds from the flash", ylabel="answer", xlim=(-30, 60))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# *What to see:* the dashed answer peaks before the flash that causes it. The other one starts at the
# flash; its rows in the first 24 s of a run are missing, because their past is not known. *What it
# does not show:* that a brain has this response. Free delays, as in notebook 04, let the data say.

# %% [markdown] tags=["discussion"]
# A response that comes too early makes features predict worse, unless another fault shifts them back;
# two such faults in a row look like a good model. A test takes a minute: put one flash in, look where the
# answer is. *What this does not teach:* the right delay of a real brain, which differs by region and
# participant.

# %% [markdown] tags=["exercise"]
# ## Exercise 3.4 · Is .2 a large correlation?
#
# Below are 500 pairs of series with 190 volumes, slow and unrelated. Every test that calls one of them
# significant is wrong, and at p < .05 it may be wrong in 5 % of pairs. Take one-sided tests (r greater
# than 0) of two kinds: Student's t with n - 2 degrees of freedom, as every table offers; and block
# permutation, with p = (1 + b) / (1 + B), where b of the B `orders` of `first` reach at least the r
# that was found. How many pairs, as a share, does each call significant?

# %%
from cobe.encoding.stats import block_permutations

rng = np.random.default_rng(4)
first, second = (slow_noise(rng, 190, 500, lag_one=0.8) for _ in range(2))
orders = block_permutations([190], block_trs=40, n_permutations=199, rng=rng)

print(
    "series (n_trs, n_pairs):", first.shape, " orders of volumes (n_orders, n_trs):", orders.shape
)

# %% [markdown] tags=["hint"]
# With r of each pair, t = r √((n - 2) / (1 - r²)), and `scipy.stats.t.sf(t, n - 2)` is its one-sided
# p-value. Under permutation, r of order `o` is `pearson(first[o], second)`.

# %% [markdown] tags=["hint"]
# `null = np.array([pearson(first[o], second) for o in orders])` has one row per order. Then
# `p = (1 + (null >= r).sum(axis=0)) / (1 + len(orders))`, and the share is `(p < 0.05).mean()`.

# %% tags=["answer"]
#: false_t = ...  # float: share of pairs with p < .05 by t
#: false_blocks = ...  # float: share of pairs with p < .05 by block permutation
from scipy import stats

r = pearson(first, second)
p_t = stats.t.sf(r * np.sqrt((190 - 2) / (1 - r**2)), 190 - 2)
null = np.array([pearson(first[order], second) for order in orders])
p_blocks = (1 + (null >= r).sum(axis=0)) / (1 + len(orders))
false_t, false_blocks = (p_t < 0.05).mean(), (p_blocks < 0.05).mean()

# %%
from scipy.stats import pearsonr

from cobe.encoding.stats import chance_of, moved_null

pairs = list(zip(first.T, second.T))
by_table = [pearsonr(a, b, alternative="greater").pvalue for a, b in pairs]
both_sides = [pearsonr(a, b).pvalue for a, b in pairs]
centred = [a - a.mean(axis=0) for a in (first, second)]
found_r = np.array([np.corrcoef(a, b)[0, 1] for a, b in pairs])
moved = moved_null(*centred, orders)
by_blocks = chance_of(found_r, moved).p

# %% tags=["check"]
share_t, share_two = (float(np.mean(np.array(p) < 0.05)) for p in (by_table, both_sides))
remarks = [
    (share_two, "this is the two-sided test; count r above 0 only"),
    (100 * share_t, "a percentage; give a share"),
    (500 * share_t, "this is the number of pairs; give a share"),
]
lesson = f"{share_t:.1%}, not 5 %: slow volumes are not independent"
checks.close("3.4a", false_t, share_t, lesson, remarks=remarks)

# %% tags=["check"]
share_blocks = float(np.mean(by_blocks < 0.05))
remarks = [
    (share_t, "this is the share by t"),
    (
        (moved >= found_r).mean(axis=0).__lt__(0.05).mean(),
        "this is b / B; the true order counts too",
    ),
    (1 - share_blocks, "these are the pairs that are not significant"),
]
lesson = f"{share_blocks:.1%}, near the 5 % that were promised"
checks.close("3.4b", false_blocks, share_blocks, lesson, remarks=remarks)

# %%
from scipy.stats import t as student_t

t_95 = student_t.ppf(0.95, 188)
lines = {"t": t_95 / np.sqrt(188 + t_95**2), "blocks": np.quantile(moved, 0.95)}
fig, ax = plt.subplots(figsize=(5, 2.4), layout="constrained")
ax.hist(found_r, bins=40, color="0.8")
for (name, level), look in zip(lines.items(), (("#c1440e", "--"), ("#31688e", "-"))):
    ax.axvline(level, color=look[0], ls=look[1], label=f"5 % level by {name}: r = {level:.2f}")
ax.set(xlabel="Pearson r of unrelated series", ylabel="pairs")
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# *What to see:* unrelated series reach r = .3. The dashed line, of the t-test, has far more than 5 % of
# the pairs to its right. *What it does not show:* r of a fitted model, where the fit has to be repeated
# for every order.

# %% [markdown] tags=["discussion"]
# The variance of r between two AR(1) series is about (1 + φ²) / (1 - φ²) / n: with φ = .8, 190 volumes
# count as 42 (Bartlett 1946). Moving blocks keeps the rhythm within blocks and breaks only the
# relation. The price: blocks have to be long beside the rhythm and many beside one another, and 190
# volumes hold only four. `cobe.encoding.evaluate` moves blocks of BOLD and fits every fold again. *What
# this does not teach:* a cure for a slow drift that both series share; no reordering can know it.

# %% [markdown]
# The last exercise is about saved scores: r of the base model, trained and untrained, by participant
# and held-out session (`corrected` protocol). All sign flips of up to 12 units can be tried by hand.

# %%
from cobe.course.inputs import saved_table
from cobe.sweep.scores import session_scores

table = saved_table(profile, "scores")
base, protocol = study.profile.base, study.profile.protocol.name
cells = {base.name: "trained", base.untrained().name: "untrained"}
of_pair = session_scores(table, protocol).query("cell in @cells").replace({"cell": cells})
wide = of_pair.pivot_table(index=["subject", "held_out"], columns="cell", values="r")
units = wide.head(12)

print("units used:", len(units), "of", len(wide))
print(units.round(4).to_string())

# %% [markdown] tags=["exercise"]
# ## Exercise 3.5 · Did training buy anything?
#
# Take the mean over `units` of trained minus untrained, and test it two-sided by sign flips: if training
# did nothing, each unit's difference could as well have had the other sign. Try all combinations of
# signs; p is the share of them, the observed one included, whose mean is at least as far from 0.

# %% [markdown] tags=["hint"]
# Twelve units have 2¹² = 4096 combinations; `itertools.product((1, -1), repeat=len(d))` lists them.

# %% [markdown] tags=["hint"]
# With `d` the differences, `null = np.array(list(product((1, -1), repeat=len(d)))) @ d / len(d)`, and p is
# the mean of `np.abs(null) >= abs(d.mean()) - 1e-12`. The 1e-12 lets equal sums be equal.

# %% tags=["answer"]
#: difference = ...  # float: mean of trained minus untrained
#: p = ...  # float: two-sided p-value of all sign flips
from itertools import product

d = (units.trained - units.untrained).to_numpy()
null = np.array(list(product((1, -1), repeat=len(d)))) @ d / len(d)
difference = d.mean()
p = (np.abs(null) >= abs(difference) - 1e-12).mean()

# %%
from scipy.stats import permutation_test, ttest_rel

from cobe.encoding.stats import paired_comparison

pair = units.trained.to_numpy() - units.untrained.to_numpy()
options = dict(permutation_type="samples", n_resamples=np.inf)
flips = {side: permutation_test((pair,), np.mean, alternative=side, **options).pvalue
         for side in ("two-sided", "greater", "less")}  # fmt: skip
ours = paired_comparison(units.trained, units.untrained)

# %% tags=["check"]
remarks = [
    (-pair.mean(), "the other way round: trained minus untrained"),
    (pair.sum(), "this is the sum; take the mean"),
    (np.median(pair), "this is the median; take the mean"),
]
checks.close("3.5a", difference, ours.difference, f"{ours.difference:+.4f}", remarks=remarks)

# %% tags=["check"]
independent = ttest_rel(units.trained, units.untrained).pvalue
remarks = [
    (flips["greater"], "this is one-sided; count means far from 0 on both sides"),
    (flips["less"], "this is one-sided, and the wrong side; count both"),
    (independent, "this is a t-test; flip signs"),
    (0.0, "no p-value is 0: the observed signs are among the combinations"),
]
lesson = (
    f"{ours.p:.4g}, as ours and scipy's; {len(units)} units cannot go below {ours.smallest_p:.4g}"
)
checks.close("3.5b", p, flips["two-sided"], lesson, remarks=remarks)

# %% [markdown] tags=["discussion"]
# The units are participant and session, because these were drawn: another session gives another
# difference. Parcels are not units; they share one recording and one pair of models, and a test over
# hundreds of them finds anything. Few units cannot reach a small p, however clear the difference: with
# four, the smallest is .125, and that is what the data can say. Flips assume that units are alike and
# independent; sessions of one participant are not quite, so the result speaks of these participants.
# *What this does not teach:* noise of training. Both models are one draw of a seed
# ([notebook 07](../07_audit.ipynb)).

# %% [markdown]
# **Next:** [exercises 4 · compute-optimal](ex4_compute_optimal.ipynb).

# %%
checks.summary()
