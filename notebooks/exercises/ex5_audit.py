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
# # Exercises 5 · The audit
#
# **Question.** Which differences between numbers come from the models, and which from the way of counting?
#
# **Reads** the parcel series and the score table of a finished run (`./run_all.sh`), and published
# numbers. **Writes** nothing. **Time** under a minute. **Hardware** any.
#
# Five exercises around [notebook 07](../07_audit.ipynb). Replace each `...` by your answer, run the
# cell, then the check below it. A check says "right", or what to look at. Hints grow in strength.

# %% tags=["parameters"]
profile = "quick"
data = ""

# %%
import numpy as np

from cobe.course import checks
from cobe.course.inputs import saved_table

rng = np.random.default_rng(0)
table = saved_table(profile, "audit_scores")
print("score table (n_rows, n_columns):", table.shape)

# %% [markdown] tags=["exercise"]
# ## Exercise 5.1 · The largest of many parcels
#
# The published figures show the *largest* r of 1,095 parcels. Suppose there is nothing to find: in each
# parcel, r is the correlation of two unrelated series of 100 independent volumes, and parcels do not
# depend on each other. For each number of parcels in `counts`, what is the median of the largest r?

# %%
counts = np.array([1, 10, 100, 1095])
n_volumes = 100

# %% [markdown] tags=["hint"]
# If F(r) is the probability that one parcel stays below r, the probability that all k stay below it is
# F(r)^k. The median of the largest is where this is one half: F(r) = 0.5^(1 / k).

# %% [markdown] tags=["hint"]
# For unrelated normal series, t = r √((n - 2) / (1 - r²)) has Student's distribution with n - 2 degrees
# of freedom. So `t = scipy.stats.t.ppf(0.5 ** (1 / counts), n - 2)`, and r = t / √(n - 2 + t²).

# %% tags=["answer"]
#: median_largest = ...  # float array (4,): median of the largest r of so many parcels
from scipy.stats import t as student_t

t = student_t.ppf(0.5 ** (1 / counts), n_volumes - 2)
median_largest = t / np.sqrt(n_volumes - 2 + t**2)

# %% [markdown]
# The check knows no formula. It draws 400 null brains of 1,095 parcels and looks.

# %%
drawn = np.empty((400, 1095))
for one in drawn:
    brain, feature = rng.standard_normal((n_volumes, 1095)), rng.standard_normal(n_volumes)
    brain, feature = brain - brain.mean(axis=0), feature - feature.mean()
    one[:] = feature @ brain / np.sqrt((feature @ feature) * (brain**2).sum(axis=0))
groups = {k: drawn[:, : 1095 // k * k].reshape(-1, k) for k in counts.tolist()}
simulated = np.array([np.median(group.max(axis=1)) for group in groups.values()])
upper = np.array([np.quantile(group.max(axis=1), 0.95) for group in groups.values()])

# %% tags=["check"]
remarks = [
    (
        lambda r: np.allclose(r, upper, atol=0.015),
        "the level that 5 % pass; the median is asked for",
    ),
    (lambda r: np.allclose(r, 0, atol=0.01), "the median of one parcel; take the largest of k"),
    (lambda r: np.max(r) > 1, "a t-value, or a z-value; make an r of it"),
    (lambda r: (np.diff(r) < 0).any(), "the largest of more parcels cannot be smaller"),
]
lesson = f"with nothing to find, 1095 parcels show r = {simulated[-1]:.2f}"
checks.close("5.1", median_largest, simulated, lesson, rtol=0.02, atol=0.008, remarks=remarks)

# %% [markdown]
# Real parcels are slow and depend on each other. So the same with null brains made from the BOLD of
# one participant (same spectrum, same correlations between parcels, random phases), each beside a
# feature that is as slow:

# %%
from scipy.signal import lfilter

from cobe.encoding.surrogates import null_bold
from cobe.sweep import pipeline as stages

study = stages.open_pipeline(profile, data)
series = stages.parcel_bold(study, stages.inventory(study))
bold = stages.load_bold(next(iter(series.values())))
bold = bold[np.isfinite(bold).any(axis=1)]
bold = bold[:, np.isfinite(bold).all(axis=0)]
n_trs, n_parcels = bold.shape
few = np.unique(np.geomspace(1, n_parcels, 8).round().astype(int))
print("BOLD of one run (n_trs, n_parcels):", bold.shape)

# %%
largest = np.empty((300, len(few)))
for draw, row in enumerate(largest):
    brain = null_bold([bold], seed=draw)[0]
    feature = lfilter([1.0], [1.0, -0.8], rng.standard_normal(n_trs + 100))[100:]
    brain, feature = brain - brain.mean(axis=0), feature - feature.mean()
    r = feature @ brain / np.sqrt((feature @ feature) * (brain**2).sum(axis=0))
    row[:] = [rng.permutation(r)[:k].max() for k in few]

# %%
import matplotlib.pyplot as plt
from scipy.stats import norm

fig, ax = plt.subplots(figsize=(5, 2.6), layout="constrained")
independent = norm.ppf(0.5 ** (1 / few)) / np.sqrt(n_trs)
low, middle, high = np.quantile(largest, [0.05, 0.5, 0.95], axis=0)
ax.fill_between(few, low, high, color="#31688e", alpha=0.2, lw=0, label="90 % of null brains")
ax.plot(few, middle, "o-", color="#31688e", label="median of null brains from BOLD")
ax.plot(few, independent, "--", color="#c1440e", label="median if all were independent")
ax.set(xscale="log", xlabel="parcels", ylabel="largest r")
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# *What to see:* more parcels, larger maximum, with nothing to find. Against independence two things pull:
# slow series spread the r of each parcel, and parcels that resemble each other count as fewer. The
# band shows that one null brain differs much from the next. *What it does not show:* the level for the
# published 1,095 parcels, which depends on their smoothing and on the features.

# %% [markdown] tags=["discussion"]
# A maximum answers "is there any parcel?", and needs a chance level for maxima; beside the usual level of
# one parcel it looks like a finding. It also favours atlases with more parcels. A mean over parcels
# that were chosen beforehand has no such trouble. *What this does not teach:* that the published maxima
# are chance. Most of them are larger than this and a few are not, but 100 independent volumes are not
# theirs: which level chance reached there was not published.

# %% [markdown]
# The next exercise is about four published training sets: the first parts of one list of plays, each
# trained for 100 passes (epochs) in batches of 64 windows.

# %%
from cobe.report.audit.evidence import subsets as training_subsets
from cobe.report.published import val_loss_base, val_loss_points

subsets = training_subsets().set_index("level")
digitised = val_loss_points("data_size")
minima = digitised[digitised.is_minimum].set_index("level")
base_curve = val_loss_base().set_index("epoch").val_loss

print(subsets[["frames", "participants", "game_levels", "steps_per_epoch"]].to_string())
print(minima[["epoch", "val_loss"]].to_string())

# %% [markdown] tags=["exercise"]
# ## Exercise 5.2 · Equal epochs, or equal updates?
#
# How many optimiser updates did each of the four models get (in the order of the table)? And is the
# smaller number of updates why less data is worse? Take the 1M model at its best, at the epoch of
# its minimum in `minima`. Count its updates till then. Which validation loss had the 6M model after the
# same number of updates (at its nearest whole epoch in `base_curve`)?

# %% [markdown] tags=["hint"]
# An update is one step. 100 epochs are 100 times `steps_per_epoch`.

# %% [markdown] tags=["hint"]
# The 1M model made `minima.epoch["1M"] * subsets.steps_per_epoch["1M"]` updates till its minimum. Divide by
# the steps of one 6M epoch, round, and look that epoch up.

# %% tags=["answer"]
#: updates = ...  # int array (4,): updates of 10K, 100K, 1M and 6M in 100 epochs
#: loss_6m = ...  # float: loss of the 6M model after as many updates as the 1M model at its best
steps = subsets.steps_per_epoch
updates = 100 * steps.to_numpy()
same_updates = minima.epoch["1M"] * steps["1M"]
loss_6m = base_curve[round(same_updates / steps["6M"])]

# %%
per_epoch = {level: int(n) for level, n in zip(subsets.index, subsets.steps_per_epoch)}
till_best = int(minima.epoch["1M"]) * per_epoch["1M"]
nearest = min(base_curve.index, key=lambda epoch: abs(epoch * per_epoch["6M"] - till_best))
then = float(base_curve[nearest])

# %% tags=["check"]
steps_given = np.array(list(per_epoch.values()))
remarks = [
    (steps_given, "the steps of one epoch; there were 100 epochs"),
    (100 * subsets.frames.to_numpy(), "frames are not updates; a batch holds 64 windows"),
    (np.full(4, 145_000), "equal epochs are not equal updates"),
]
ratio = steps_given[-1] / steps_given[0]
lesson = f"the largest set got {ratio:.0f} times the updates of the smallest"
checks.equal("5.2a", updates, 100 * steps_given, lesson, remarks=remarks)

# %% tags=["check"]
same_epoch = float(base_curve[int(minima.epoch["1M"])])
remarks = [
    (same_epoch, "this is after as many epochs; count updates"),
    (float(minima.val_loss["1M"]), "this is the loss of the 1M model"),
    (float(base_curve.min()), "this is the best of the 6M model, after far more updates"),
]
gap = minima.val_loss["1M"] - then
lesson = f"lower by {gap:.2f} nats after as many updates: updates are not all of it"
checks.close("5.2b", loss_6m, then, lesson, remarks=remarks)

# %% [markdown] tags=["discussion"]
# With equal epochs the smallest set gets a 483rd of the updates: more data and more training are one.
# Yet after as many updates the model of the large set is ahead, so at 1M frames the updates alone do
# not explain the loss. The sets differ in a third way, too: 1M frames are of one participant and two
# levels (inferred from the order of the list), and the validation clips are not. Three things change at once; only new runs that change
# one at a time can part them, which is what notebook 07 does. *What this does not teach:* a clean
# comparison. The learning-rate schedules differ, and the small models' losses were read off a plot.

# %% [markdown]
# For the width, our own runs: r of each hidden size, mean over participants and held-out sessions.
# `native` hands the ridge as many features as the model has hidden units, `corrected` equally many.

# %%
from cobe.sweep.models import sweep_cells

cells = sweep_cells(study.profile, ["hidden_dim"])
widths = {cell.name: cell.hidden for cell in cells}
widths |= {cell.untrained().name: cell.hidden for cell in cells}
mean_rows = table[(table.summary == "mean") & (table.held_out != "all")]
of_width = mean_rows[mean_rows.cell.isin(widths) & mean_rows.protocol.isin(["native", "corrected"])]
of_width = of_width.assign(hidden=of_width.cell.map(widths))
columns = ["protocol", "features", "hidden", "subject", "held_out", "r"]
of_width = of_width[columns].reset_index(drop=True)

print("rows: protocol x trained or not x hidden size x participant x session:", len(of_width))
print(of_width.pivot_table(index="hidden", columns=["protocol", "features"], values="r").round(4))

# %% [markdown] tags=["exercise"]
# ## Exercise 5.3 · Does width help if the number of features is matched?
#
# From `of_width`: what is the mean gain in r from the narrowest to the widest trained model, first under
# `native`, then under `corrected`? Third, under `corrected`: by how much does the *learned* part, trained
# minus untrained, grow from the narrowest to the widest? (`features` is "gpt" for trained models.)

# %% [markdown] tags=["hint"]
# `of_width.groupby(["protocol", "features", "hidden"]).r.mean()` holds all the means. Every participant
# has all sessions in every row, so a difference of means is the mean of differences.

# %% [markdown] tags=["hint"]
# With `m` these means and `w`, `n` the widest and narrowest: `m["native", "gpt", w] - m["native", "gpt", n]`.
# The third is the gain of the trained models minus the gain of the untrained ones.

# %% tags=["answer"]
#: gain_native = ...  # float: widest minus narrowest, trained, native
#: gain_matched = ...  # float: widest minus narrowest, trained, corrected
#: learned_growth = ...  # float: growth of trained minus untrained, corrected
means = of_width.groupby(["protocol", "features", "hidden"]).r.mean().unstack()
gains = means[means.columns.max()] - means[means.columns.min()]
gain_native, gain_matched = gains["native", "gpt"], gains["corrected", "gpt"]
learned_growth = gain_matched - gains["corrected", "untrained"]

# %%
from cobe.encoding.stats import paired_comparison

ends = int(of_width.hidden.min()), int(of_width.hidden.max())
gain = {}
for key, rows in of_width.groupby(["protocol", "features"]):
    by_unit = rows.set_index(["hidden", "subject", "held_out"]).r
    gain[key] = paired_comparison(by_unit[ends[1]], by_unit[ends[0]])
trained, random = (gain["corrected", kind].difference for kind in ("gpt", "untrained"))
told = {key: f"{g.difference:+.4f} [{g.ci_low:+.4f}, {g.ci_high:+.4f}]" for key, g in gain.items()}

# %% tags=["check"]
native = gain["native", "gpt"].difference
remarks = [
    (gain["native", "untrained"].difference, "these are the untrained models"),
    (trained, "this is `corrected`"),
    (-native, "widest minus narrowest"),
]
checks.close("5.3a", gain_native, native, told["native", "gpt"], atol=1e-4, remarks=remarks)
remarks = [
    (random, "these are the untrained models"),
    (native, "this is `native`"),
    (-trained, "widest minus narrowest"),
]
told_matched = told["corrected", "gpt"]
checks.close("5.3b", gain_matched, trained, told_matched, atol=1e-4, remarks=remarks)

# %% tags=["check"]
at_widest = of_width[(of_width.protocol == "corrected") & (of_width.hidden == ends[1])]
at_widest = at_widest.groupby("features").r.mean()
remarks = [
    (random - trained, "trained minus untrained, not the other way"),
    (at_widest.gpt - at_widest.untrained, "the learned part of the widest; how much did it grow?"),
    (trained, "this is the gain of the trained models; take off that of the untrained ones"),
]
lesson = f"{trained - random:+.4f}, after what width gives to random features is taken off"
checks.close("5.3c", learned_growth, trained - random, lesson, atol=1e-4, remarks=remarks)

# %% [markdown] tags=["discussion"]
# An untrained network is a set of random features of the video, and a wider one is a richer set, even
# if equally many components of it are handed on. What training adds has to be measured above the
# untrained model of the *same* width. In the default run that part does not grow with the width: it
# shrinks, because the random features catch up. *What this does not teach:* that width is useless for
# large models. Ours are small, and each was trained from one seed.

# %% [markdown]
# Now many tests at once: the base model's p-value in each parcel of one participant.

# %%
base, protocol = study.profile.base, study.profile.protocol
chosen = table[(table.cell == base.name) & (table.protocol == protocol.name)]
chosen = chosen[(chosen.summary == "target") & (chosen.held_out == "all")]
one = chosen[chosen.subject == chosen.subject.iloc[0]].dropna(subset=["p"])
p = one.p.to_numpy()

print("p (n_parcels,):", p.shape, " smallest:", p.min().round(4), " block permutations:",
      protocol.n_permutations)  # fmt: skip

# %% [markdown] tags=["exercise"]
# ## Exercise 5.4 · False discovery rate by hand
#
# Compute the Benjamini-Hochberg q-value of each p in `p` without a library: sort p, multiply the i-th
# smallest by n / i, then, from the largest p down, let no q exceed the one above it. Give q in the order
# of the parcels. How many parcels have q < .05? And how many survive Bonferroni, p · n < .05?

# %% [markdown] tags=["hint"]
# `order = np.argsort(p)` sorts; `raw = p[order] * n / np.arange(1, n + 1)`. "From the largest down" is a
# running minimum of the reversed array: `np.minimum.accumulate(raw[::-1])[::-1]`.

# %% [markdown] tags=["hint"]
# Back into the order of parcels: `q = np.empty(n)`, then `q[order] = sorted_q`.

# %% tags=["answer"]
#: q = ...  # float array (n_parcels,): Benjamini-Hochberg q-values
#: n_fdr = ...  # int: parcels with q < .05
#: n_bonferroni = ...  # int: parcels with p * n < .05
n = len(p)
order = np.argsort(p)
raw = p[order] * n / np.arange(1, n + 1)
q = np.empty(n)
q[order] = np.minimum.accumulate(raw[::-1])[::-1]
n_fdr, n_bonferroni = int((q < 0.05).sum()), int((p * n < 0.05).sum())

# %% [markdown]
# The check uses the definition instead: q of a parcel is the smallest false discovery rate, among all
# thresholds that let it pass, of "as many false ones as expected, of all that pass".

# %%
from cobe.encoding.stats import fdr, fewest_findable

n_tests = len(one)
p_given = one.p.to_numpy()
rate = {t: t * n_tests / np.sum(p_given <= t) for t in p_given}
by_definition = np.array([min(rate[t] for t in rate if t >= mine) for mine in p_given])
print("largest difference to cobe.encoding.stats.fdr:", np.abs(fdr(p_given) - by_definition).max())

# %% tags=["check"]
ranks = np.argsort(np.argsort(p_given)) + 1
no_minimum = p_given * n_tests / ranks
remarks = [
    (lambda a: np.allclose(a, no_minimum) and not np.allclose(a, by_definition),
     "the running minimum is missing: a larger p may not have a smaller q"),
    (np.minimum(p_given * n_tests, 1), "this is Bonferroni"),
    (lambda a: np.allclose(np.sort(a), np.sort(by_definition)), "sorted; give them by parcel"),
]  # fmt: skip
lesson = "the same as by definition, and as scipy's"
checks.close("5.4a", q, by_definition, lesson, atol=1e-9, remarks=remarks)

# %% tags=["check"]
kept = int((by_definition < 0.05).sum())
uncorrected = int((p_given < 0.05).sum())
remarks = [(uncorrected, "this is p < .05, uncorrected"), (n_tests - kept, "the others")]
lesson = f"{kept} of {n_tests}; uncorrected there are {uncorrected}"
checks.equal("5.4b", n_fdr, kept, lesson, remarks=remarks)
strict = sum(mine * n_tests < 0.05 for mine in p_given.tolist())
remarks = [(kept, "this is the FDR"), (uncorrected, "this is p < .05, uncorrected")]
smallest = 1 / (1 + protocol.n_permutations)
lesson = f"{strict}; the smallest possible p times n is {smallest * n_tests:.2f}"
checks.equal("5.4c", n_bonferroni, strict, lesson, remarks=remarks)
print(
    "parcels at the smallest p that the FDR needs:",
    fewest_findable(n_tests, protocol.n_permutations),
)

# %% [markdown] tags=["discussion"]
# Bonferroni bounds the chance of *any* false find; FDR bounds the share of false ones among the finds.
# With B permutations no p is below 1 / (1 + B): if that times n is above .05, Bonferroni cannot find
# anything, however strong the effect. A zero may come from the number of permutations and not from
# the brain. The maximum statistic (`p_max` in the score table) controls the same as Bonferroni and
# does not have this limit. *What this does not teach:* FDR for parcels that are negatively related;
# Benjamini and Hochberg assume independence or positive dependence.

# %% [markdown]
# Last, two bands of features that share. `first` is half its own signal and half a common one, `second`
# likewise; the brain follows the own part of `first`, the common part, and noise.

# %%
n_trs = 8000
rng = np.random.default_rng(5)
common, own_first, own_second, noise = rng.standard_normal((4, n_trs))
first = (common + own_first) / np.sqrt(2)
second = (common + own_second) / np.sqrt(2)
y = 0.3 * own_first + 0.5 * common + noise
half = n_trs // 2

print("first, second, y (n_trs,):", first.shape, " r of the bands:",
      np.corrcoef(first, second)[0, 1].round(3))  # fmt: skip

# %% [markdown] tags=["exercise"]
# ## Exercise 5.5 · What belongs to whom?
#
# Fit linear regressions on the first half of the volumes and score R² on the second half: with both
# bands, with `first` alone, and with `second` alone. What is the unique variance of each band (R² of both
# minus R² of the other alone), and how much R² is shared (R² of both minus both unique parts)?

# %% [markdown] tags=["hint"]
# `LinearRegression().fit(x[:half], y[:half]).score(x[half:], y[half:])` is R² of held-out volumes; x has
# shape (n_trs, n_bands), so a single band is `first[:, None]`.

# %% [markdown] tags=["hint"]
# What is unique to `first` is lost when `first` is taken away: R² of both minus R² of `second` alone.

# %% tags=["answer"]
#: unique_first = ...  # float: R2 that only the first band explains
#: unique_second = ...  # float: R2 that only the second band explains
#: shared = ...  # float: R2 that either explains
from sklearn.linear_model import LinearRegression

r2 = {}
bands = {"both": (first, second), "first": (first,), "second": (second,)}
for name, columns in bands.items():
    x = np.stack(columns, axis=1)
    r2[name] = LinearRegression().fit(x[:half], y[:half]).score(x[half:], y[half:])
unique_first, unique_second = r2["both"] - r2["second"], r2["both"] - r2["first"]
shared = r2["both"] - unique_first - unique_second

# %% [markdown]
# R² also follows from the covariances that were planted; held-out halves differ from it by chance. The
# check solves the normal equations of your halves.

# %%
bands_cov = np.array([[1, 0.5], [0.5, 1]])
with_y = np.array([0.8, 0.5]) / np.sqrt(2)
variance = 0.3**2 + 0.5**2 + 1
whole = with_y @ np.linalg.solve(bands_cov, with_y) / variance
alone = with_y**2 / variance
planted = {"first": whole - alone[1], "second": whole - alone[0], "shared": alone.sum() - whole}


def r2_of(x, fit, test):
    """R2 on the rows of test of a least-squares fit with intercept on those of fit."""
    x = np.column_stack([np.ones(n_trs), x])
    left = y[test] - x[test] @ np.linalg.lstsq(x[fit], y[fit], rcond=None)[0]
    return 1 - left @ left / np.sum((y[test] - y[test].mean()) ** 2)


# %%
parts = {"both": [first, second], "first": [first], "second": [second]}
fit, test = slice(half), slice(half, n_trs)
out, same = ({name: r2_of(np.transpose(x), fit, rows) for name, x in parts.items()}
             for rows in (test, fit))  # fmt: skip
own = {"first": out["both"] - out["second"], "second": out["both"] - out["first"]}
either = out["first"] + out["second"] - out["both"]

# %% tags=["check"]
remarks = [
    (out["first"], "this is R2 of the first band alone"),
    (own["second"], "what is lost without `first` is its own"),
    (-own["first"], "R2 of both minus R2 of the other, in this order"),
    (same["both"] - same["second"], "scored on the half that it was fitted on"),
]
lesson = f"{own['first']:.3f}; planted are {planted['first']:.3f}"
checks.close("5.5a", unique_first, own["first"], lesson, rtol=0, atol=1e-4, remarks=remarks)

# %% tags=["check"]
remarks = [
    (out["second"], "this is R2 of the second band alone"),
    (own["first"], "what is lost without `second` is its own"),
    (same["both"] - same["first"], "scored on the half that it was fitted on"),
]
lesson = f"{own['second']:.3f}, though alone the second band reaches {out['second']:.3f}"
checks.close("5.5b", unique_second, own["second"], lesson, rtol=0, atol=1e-4, remarks=remarks)

# %% tags=["check"]
remarks = [
    (out["both"], "this is R2 of both"),
    (-either, "R2 of both minus the unique parts, in this order"),
    (same["first"] + same["second"] - same["both"], "scored on the half that it was fitted on"),
]
lesson = f"{either:.3f}; nothing says to whom it belongs"
checks.close("5.5c", shared, either, lesson, rtol=0, atol=1e-4, remarks=remarks)

# %%
from cobe.encoding.unique import unique_variance

runs = np.arange(n_trs).reshape(4, -1)
of_band = {
    "first": [first[rows, None] for rows in runs],
    "second": [second[rows, None] for rows in runs],
}
how = dict(groups=list(range(4)), delays_tr=(0,), alphas=[1.0, 10.0, 100.0])
for band in of_band:
    found = unique_variance(of_band, [y[rows, None] for rows in runs], band=band, **how)
    row = found[(found.summary == "target") & (found.held_out == "all")].iloc[0]
    print(
        f"{band:6s} unique R2 {row.delta_r2:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}], p = {row.p:.3f}"
    )

# %% [markdown]
# This is `cobe.encoding.unique.unique_variance` on the same data: banded ridge, four runs, each held out
# once. Its values are R² as above, with an interval and a test.

# %% [markdown] tags=["discussion"]
# Each band alone looks good, because each carries the common signal; what is left for one beside the
# other is small. A learned feature set that ties with pixels alone may own something, or nothing: only
# the unique part can tell. It is a lower bound. A band may cause all of the shared part and still own
# none of it. *What this does not teach:* which band the brain uses. That is a question about causes,
# and regression cannot answer it.

# %% [markdown]
# **Back to** [07 · the audit](../07_audit.ipynb), where these questions are asked of the real tables.

# %%
checks.summary()
