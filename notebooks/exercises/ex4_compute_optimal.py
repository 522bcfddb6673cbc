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
# # Exercises 4 · Compute-optimal
#
# **Question.** Given a budget, which model size and how much data? And when is the answer a guess?
#
# **Reads** the committed tables of [notebook 06](../06_compute_optimal.ipynb) (default profile, simulated
# data), and, if they are there, the grid results of this profile. **Writes** nothing. **Time** under a
# minute. **Hardware** any.
#
# Five exercises. The first three use points made from a law that is stated, so the truth is known.
# Replace each `...` by your answer, run the cell, then the check below it.

# %% tags=["parameters"]
profile = "quick"

# %% [markdown]
# The law is `loss = E + A / N^α + B / D^β`: N parameters, D training tokens. Its constants are those of
# Hoffmann et al. 2022 for language models (arXiv 2203.15556). Each loss gets 0.3 % of noise.

# %%
import numpy as np

from cobe.course import checks

law = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}


def loss_of(n, d):
    """Loss of the law for n parameters and d tokens, without noise."""
    return law["E"] + law["A"] / n ** law["alpha"] + law["B"] / d ** law["beta"]


rng = np.random.default_rng(0)
sizes, amounts = np.geomspace(1e7, 1e10, 6), np.geomspace(1e8, 1e12, 6)
n, d = (axis.ravel() for axis in np.meshgrid(sizes, amounts))
loss = loss_of(n, d) * np.exp(0.003 * rng.standard_normal(len(n)))

print(
    "n, d, loss (n_models,):", n.shape, " loss from", loss.min().round(2), "to", loss.max().round(2)
)

# %% [markdown] tags=["exercise"]
# ## Exercise 4.1 · Fit the law by hand
#
# From `n`, `d` and `loss` alone, find the five constants: E, A, B, α, β, in this order. Make the squared
# differences of the *logarithms* of loss and law as small as you can, so that a model with a high loss
# does not count for more.

# %% [markdown] tags=["hint"]
# `scipy.optimize.least_squares(residuals, start).x` finds them, where `residuals(theta)` gives one
# difference of logarithms per model.

# %% [markdown] tags=["hint"]
# A runs over orders of magnitude and must stay positive: let the optimiser move log E, log A and log B.
# A start such as `[0, 5, 5, 0.5, 0.5]` is near enough. At the end, take `np.exp` of the first three.

# %% tags=["answer"]
#: constants = ...  # list or array of 5 floats: E, A, B, alpha, beta
from scipy.optimize import least_squares


def residuals(theta):
    """Log of the law minus log of the loss."""
    e, a, b, alpha, beta = theta
    modelled = np.exp(e) + np.exp(a - alpha * np.log(n)) + np.exp(b - beta * np.log(d))
    return np.log(modelled) - np.log(loss)


found = least_squares(residuals, [0, 5, 5, 0.5, 0.5]).x
constants = [*np.exp(found[:3]), *found[3:]]

# %% [markdown]
# The check goes another way: for given exponents the law is linear in E, A and B, so only two numbers
# have to be searched.

# %%
from scipy.optimize import minimize


def best_scales(exponents):
    """E, A, B for given exponents, by weighted linear least squares, and what is left over."""
    terms = np.stack([np.ones_like(n), n ** -exponents[0], d ** -exponents[1]], axis=1)
    scales, *_ = np.linalg.lstsq(terms / loss[:, None], np.ones_like(loss), rcond=None)
    return scales, np.sum((terms @ scales / loss - 1) ** 2)


options = {"xatol": 1e-8, "fatol": 1e-14}
search = minimize(lambda e: best_scales(e)[1], [0.5, 0.5], method="Nelder-Mead", options=options)
wanted = np.r_[best_scales(search.x)[0], search.x]

# %% tags=["check"]
logs = np.r_[np.log(wanted[:3]), wanted[3:]]
remarks = [
    (lambda c: np.allclose(c, wanted[[0, 2, 1, 4, 3]], rtol=0.05), "N and D are exchanged"),
    (lambda c: np.allclose(c, logs, rtol=0.05), "take np.exp of the first three"),
    (
        lambda c: np.allclose(np.abs(c), wanted, rtol=0.05),
        "exponents are positive here: A / N^alpha",
    ),
    (lambda c: c[0] < 0.2, "a law without a floor; E belongs to it"),
    (lambda c: np.allclose(c[3:], wanted[3:], rtol=0.3), "near; let the optimiser converge"),
]
lesson = "constants " + ", ".join(f"{value:.3g}" for value in wanted)
checks.close("4.1", constants, wanted, lesson, rtol=0.03, remarks=remarks)

# %% [markdown]
# The same by `cobe.report.scaling.fit_parametric`, which starts from many places, is robust to outliers,
# and says how sure it is:

# %%
import pandas as pd

from cobe.report.scaling import fit_parametric

fit = fit_parametric(n, d, loss, n_boot=100, seed=0)
ours = pd.DataFrame({k: [v.low, v.value, v.high] for k, v in fit.estimates.items()}).T
ours.columns = ["low", "value", "high"]
print(ours.assign(truth=law).round(3).to_string())

# %% [markdown] tags=["discussion"]
# The interval of each exponent spans a few per cent, that of A more than 20 %: a slightly steeper slope
# with a larger scale draws the same curve over the range that was seen. So never quote A without α. Here the form is
# right, the noise small, and every pair of N and D was trained. *What this does not teach:* real
# losses, where a learning rate that suits only some sizes bends the curve. Then the five constants fit
# well and predict badly; notebook 06 therefore predicts the largest models from the smaller ones.

# %% [markdown] tags=["exercise"]
# ## Exercise 4.2 · The best model for a budget
#
# Training costs about C = 6 N D FLOP. With the stated constants in `law` (not your fit) and
# C = 10²¹ FLOP, which N and D give the lowest loss? And if the budget grows tenfold, by which factor does
# the best N grow? Find formulas first.

# %% [markdown] tags=["hint"]
# D = C / (6 N), so the loss is a function of N alone. Set its derivative to zero: at the best N the two
# terms are in balance, `α A / N^α = β B / D^β`.

# %% [markdown] tags=["hint"]
# N = G (C / 6)^(β / (α + β)) with G = (α A / (β B))^(1 / (α + β)), and D = C / (6 N).

# %% tags=["answer"]
#: n_opt = ...  # float: best number of parameters at 1e21 FLOP
#: d_opt = ...  # float: best number of tokens
#: growth = ...  # float: best N at 1e22 over best N at 1e21
a, b = law["alpha"], law["beta"]
scale = (a * law["A"] / (b * law["B"])) ** (1 / (a + b))
n_opt = scale * (1e21 / 6) ** (b / (a + b))
d_opt = 1e21 / (6 * n_opt)
growth = 10 ** (b / (a + b))

# %%
from scipy.optimize import minimize_scalar


def searched(budget, per_token=6):
    """Best N by search along a budget, without calculus."""
    lowest = minimize_scalar(
        lambda log_n: loss_of(np.exp(log_n), budget / (per_token * np.exp(log_n))),
        bounds=(np.log(1e5), np.log(1e14)), method="bounded", options={"xatol": 1e-9},
    )  # fmt: skip
    return float(np.exp(lowest.x))


numeric = searched(1e21)

# %% tags=["check"]
exchanged = 1e21 / 6 / numeric
remarks = [
    (searched(1e21, per_token=1), "training costs 6 N D, not N D"),
    (exchanged, "this is D; N and D are exchanged"),
    (np.sqrt(1e21 / 6), "this would be right if the terms had equal scales and exponents"),
]
checks.close("4.2a", n_opt, numeric, f"{numeric:.3g} parameters", rtol=0.01, remarks=remarks)

# %% tags=["check"]
remarks = [(numeric, "this is N"), (6 * exchanged, "training costs 6 N D, not N D")]
checks.close("4.2b", d_opt, exchanged, f"{exchanged:.3g} tokens", rtol=0.01, remarks=remarks)

# %% tags=["check"]
tenfold = searched(1e22) / numeric
remarks = [
    (10 / tenfold, "this is the growth of D"),
    (np.log10(tenfold), "this is the exponent; the factor is 10 to its power"),
    (np.sqrt(10), "N and D grow alike only if the exponents are equal"),
]
lesson = f"N {tenfold:.2f} times, D {10 / tenfold:.2f} times"
checks.close("4.2c", growth, tenfold, lesson, remarks=remarks)

# %%
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(5, 2.8), layout="constrained")
wide = np.geomspace(1e7, 1e12, 200)
for budget, shade in zip((1e19, 1e20, 1e21, 1e22, 1e23), np.linspace(0, 0.86, 5)):
    colour = plt.cm.viridis(shade)
    curve = loss_of(wide, budget / 6 / wide)
    ax.plot(wide, np.where(curve < 4.5, curve, np.nan), color=colour, label=f"{budget:.0e} FLOP")
    ax.plot(
        searched(budget), loss_of(searched(budget), budget / 6 / searched(budget)), "o", c=colour
    )
ax.set(xscale="log", xlabel="parameters N", ylabel="loss, with D = C / (6 N)")
ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# *What to see:* each budget has a best size, it moves right as the budget grows, and the valley is wide:
# half or twice the best size costs little. *What it does not show:* that 6 N D is the cost of a small
# model. There attention and the output head weigh most, and notebook 06 counts them part by part.

# %% [markdown] tags=["discussion"]
# At the best N one more FLOP on size buys as much as one on data. The smaller exponent gets the larger
# share of new compute: β < α here, so D grows faster than N. Because the valley is flat, its bottom
# is hard to find, but missing it by a little costs little too. *What this does not teach:* budgets with
# a limit on D. Where there is no more video, N D = C / 6 is not the border that counts.

# %% [markdown]
# Two slices of one budget, 10²¹ FLOP: seven sizes on both sides of the best, and seven below it.

# %%
slices = {"around": np.geomspace(4e8, 8e9, 7), "below": np.geomspace(2e7, 6e8, 7)}
losses = {name: loss_of(size, 1e21 / 6 / size) for name, size in slices.items()}

for name, size in slices.items():
    print(f"{name:7s} N {size.min():.1e} to {size.max():.1e}  losses {losses[name].round(3)}")

# %% [markdown] tags=["exercise"]
# ## Exercise 4.3 · The bottom of a slice, by a parabola
#
# A common way to find the best size does without a law: a parabola through the losses of one budget, in
# log N; its vertex is the answer. Find the vertex of each slice (as a number of parameters). Which of
# the two may you report: "around", "below", "both" or "neither"?

# %% [markdown] tags=["hint"]
# `np.polyfit(np.log(size), loss, 2)` gives c2, c1, c0 of `c2 x² + c1 x + c0`. Its vertex is at
# `x = -c1 / (2 c2)`, and x is the log of N.

# %% [markdown] tags=["hint"]
# N = `np.exp(-c1 / (2 * c2))`. A vertex outside the sizes that were trained is not a minimum that
# anybody has seen.

# %% tags=["answer"]
#: n_around = ...  # float: vertex of the slice "around", in parameters
#: n_below = ...  # float: vertex of the slice "below", in parameters
#: report = ...  # str: "around", "below", "both" or "neither"
vertex = {}
for name, size in slices.items():
    c2, c1, _ = np.polyfit(np.log(size), losses[name], 2)
    vertex[name] = float(np.exp(-c1 / (2 * c2)))
n_around, n_below = vertex["around"], vertex["below"]
report = "around"

# %%


def bottom(size, values):
    """Vertex from a parabola in log10 N, by the normal equations."""
    x = np.log10(size) - np.log10(size).mean()
    c = np.linalg.solve([[np.sum(x ** (i + j)) for j in range(3)] for i in range(3)],
                        [values @ x**i for i in range(3)])  # fmt: skip
    return float(10 ** (np.log10(size).mean() - c[1] / (2 * c[2])))


bottoms = {name: bottom(size, losses[name]) for name, size in slices.items()}
flat = {name: np.polyfit(size, losses[name], 2) for name, size in slices.items()}
linear = {name: float(-c[1] / (2 * c[0])) for name, c in flat.items()}

# %% tags=["check"]
told = {name: f"{value / numeric:.2f} times the true best" for name, value in bottoms.items()}
for_around = [
    (linear["around"], "a parabola in N; take it in log N"),
    (np.log(bottoms["around"]), "this is log N; take np.exp"),
    (slices["around"][losses["around"].argmin()], "this is the best of the seven; fit a parabola"),
]
checks.close("4.3a", n_around, bottoms["around"], told["around"], remarks=for_around)

# %% tags=["check"]
for_below = [
    (linear["below"], "a parabola in N; take it in log N"),
    (np.log(bottoms["below"]), "this is log N; take np.exp"),
    (slices["below"][losses["below"].argmin()], "this is the best of the seven; fit a parabola"),
]
checks.close("4.3b", n_below, bottoms["below"], told["below"], remarks=for_below)

# %% tags=["check"]
inside = [name for name, s in slices.items() if s.min() <= bottoms[name] <= s.max()]
right = {0: "neither", 1: inside[0] if inside else "", 2: "both"}[len(inside)]
lesson = "the other vertex lies where no model was trained"
remarks = [("both", "compare each vertex with the largest and smallest size of its slice")]
choices = ["around", "below", "both", "neither"]
checks.one_of("4.3c", report, choices, right, lesson, remarks=remarks)

# %% [markdown]
# Real slices have noise. Here each of them is drawn 500 times, with 0.5 % of noise on the loss:

# %%
fig, ax = plt.subplots(figsize=(5, 2.4), layout="constrained")
bins = np.geomspace(0.1, 10, 61)
for (name, size), colour in zip(slices.items(), ("#31688e", "#c1440e")):
    noisy = losses[name] * np.exp(0.005 * rng.standard_normal((500, len(size))))
    c2, c1, _ = np.polyfit(np.log(size), noisy.T, 2)
    found = np.exp(-c1[c2 > 0] / (2 * c2[c2 > 0])) / numeric
    beyond = int(((found < bins[0]) | (found > bins[-1])).sum()) + int((c2 <= 0).sum())
    ax.hist(found, bins, alpha=0.6, color=colour, label=f"{name} ({beyond} of 500 not shown)")
ax.axvline(1, color="0.2", lw=0.8)
ax.set(xscale="log", xlabel="vertex over the true best N", ylabel="draws")
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# *What to see:* with models on both sides the vertex scatters around the truth. With models on one side it
# is off to the left as a whole: not noise, but a bias that more models would not cure. *What it does
# not show:* a slice whose models all lie far from the bottom on *both* sides; the law is not a parabola.

# %%
from cobe.core.paths import build_dir

grid = build_dir(profile) / "grid_losses.parquet"
if grid.is_file():
    cut = pd.read_parquet(grid).query("kind == 'isoflop'")
    for budget, rows in cut.groupby("slice_flop"):
        at = bottom(rows.n_params.to_numpy(), rows.val_loss.to_numpy())
        place = "inside" if rows.n_params.min() <= at <= rows.n_params.max() else "outside"
        opens_up = np.polyfit(np.log(rows.n_params), rows.val_loss, 2)[0] > 0
        said = f"vertex {at:.2e}, {place} the models" if opens_up else "no bottom: it bends down"
        print(f"{budget:.1e} FLOP, {len(rows)} models: {said}")
else:
    print(f"no grid of profile {profile} yet: ./run_all.sh --only scaling --profile {profile}")

# %% [markdown]
# These are the slices of notebook 06 in this profile, if its grid was computed.

# %% [markdown] tags=["discussion"]
# Even around the bottom the vertex is off by a few per cent without any noise, because the exponents
# differ and the valley is not symmetric. `cobe.report.scaling.isoflop` measures this bias on the fitted
# law and prints it beside the vertex; a vertex outside the models is refused there. *What this does not
# teach:* how to choose the sizes before you know the bottom. Train a coarse slice first, then refine it.

# %% [markdown]
# From here on the law is that of our own grid, of small models on simulated play: the constants in the
# committed `figures/table_scaling_fits.csv`. They belong to the default profile, whatever profile you run.

# %%
from cobe.course.inputs import committed_table

fits = committed_table("table_scaling_fits").set_index(["fit", "constant"])
game = fits.value["loss"].loc[list(law)]
allocation = committed_table("table_allocation")
of_loss = allocation[(allocation.response == "loss") & allocation.told.astype(bool)]
largest_seen = of_loss.budget_flop[~of_loss.extrapolated.astype(bool)].max()

print(game.round(3).to_string())
print(f"largest budget whose best model lies within what was trained: {largest_seen:.2g} FLOP")

# %% [markdown] tags=["exercise"]
# ## Exercise 4.4 · Choose a model for 10 GPU-hours
#
# You may use one GPU for 10 hours. Its data sheet says 312 · 10¹² FLOP per second (16 bit); a training
# loop like ours reaches 35 % of that. How many FLOP are that? Which N does the law `game` call best, with
# C = 6 N D? How many hours of video are the D tokens, if all are fresh (a clip is 64 tokens and 64
# frames at 60 Hz)? And how many times larger is the budget than `largest_seen`?

# %% [markdown] tags=["hint"]
# FLOP = hours · 3600 · peak · utilisation. N and D follow as in exercise 4.2, with the constants of
# `game`; a clip lasts 64 / 60 s.

# %% [markdown] tags=["hint"]
# `best_n = scale * (flop / 6) ** (b / (a + b))` with `a = game.alpha`, `b = game.beta`; the hours are
# `flop / 6 / best_n / 64 * (64 / 60) / 3600`.

# %% tags=["answer"]
#: flop = ...  # float: FLOP of 10 GPU-hours
#: best_n = ...  # float: parameters that the law calls best
#: video_hours = ...  # float: hours of fresh video
#: times_beyond = ...  # float: flop over largest_seen
flop = 10 * 3600 * 312e12 * 0.35
a, b = game.alpha, game.beta
scale = (a * game.A / (b * game.B)) ** (1 / (a + b))
best_n = scale * (flop / 6) ** (b / (a + b))
video_hours = flop / 6 / best_n / 64 * (64 / 60) / 3600
times_beyond = flop / largest_seen

# %%
usable = 36_000 * 0.35 * 312e12
trial = np.geomspace(1e3, 1e13, 400_001)
curve = game.A * trial**-game.alpha + game.B * (usable / 6 / trial) ** -game.beta
n_found = float(trial[curve.argmin()])
hours_found = usable / 6 / n_found / 60 / 3600

# %% tags=["check"]
remarks = [
    (usable / 0.35, "this is the data sheet; a training loop reaches 35 % of it"),
    (usable / 3600, "hours have 3600 seconds"),
    (usable / 60, "an hour has 3600 seconds, not 60"),
]
checks.close("4.4a", flop, usable, f"{usable:.3g} FLOP", remarks=remarks)

# %% tags=["check"]
remarks = [
    (searched(usable), "this is the law of the language models; use the constants in `game`"),
    (usable / 6 / n_found, "this is D; N and D are exchanged"),
]
lesson = f"{n_found:.2g} parameters, says the law"
checks.close("4.4b", best_n, n_found, lesson, rtol=0.01, remarks=remarks)

# %% tags=["check"]
remarks = [
    (hours_found * 64, "a clip of 64 tokens is one stretch of 64 / 60 s"),
    (hours_found * 3600, "these are seconds"),
    (usable / 6 / n_found, "these are tokens; make hours of them"),
]
years = hours_found / 24 / 365
lesson = f"{hours_found:.2g} hours, or {years:.0f} years of play: there is no such video"
checks.close("4.4c", video_hours, hours_found, lesson, rtol=0.01, remarks=remarks)

# %% tags=["check"]
ratio = usable / largest_seen
remarks = [(1 / ratio, "the other way round"), (np.log10(ratio), "this is the power of ten")]
lesson = f"{ratio:.1g} times what was tried: an extrapolation, not an answer"
checks.close("4.4d", times_beyond, ratio, lesson, remarks=remarks)

# %% [markdown] tags=["discussion"]
# The sum is easy and its result is useless, which is the lesson: a law that was fitted on budgets of
# minutes is asked about one that is millions of times larger, and needs more video than was ever played. With
# 10 GPU-hours the compute is no longer what is short. The sensible use is another one: many small models,
# several seeds, or a grid that reaches ten times further than this one. Also look at the interval of α in
# the table before you believe any N. *What this does not teach:* the speed of your GPU on your model.
# [Notebook 08](../08_throughput.ipynb) measures it; small models seldom reach 35 %.

# %%
score = allocation[allocation.response == "brain score"]
budget = score.budget_flop.drop_duplicates().sort_values().iloc[4]
asked = score[score.budget_flop == budget].sort_values("scan_hours")
columns = ["scan_hours", "gain_scan_hours_extrapolated", "gain_compute"]
readout = fits.value["mean"].loc[["C", "gamma"]]

print(f"what doubling adds to the mean r, at {budget:.2g} FLOP")
print(asked[columns].round(4).to_string(index=False))
print(readout.round(4).to_string())

# %% [markdown] tags=["exercise"]
# ## Exercise 4.5 · Scan hours, or video and compute?
#
# The brain score was fitted by r = 1 - E - A / N^α - B / D^β - C / H^γ, with H the hours of scans that the
# readout is fitted on. From C and γ in `readout`, compute what doubling H adds to r, for each row of
# `asked` (in its order). At how many of these rows may you rely on it without extrapolating? And which
# buys more, doubling the scan hours or doubling the compute: "scan hours", "compute", or "cannot tell"?

# %% [markdown] tags=["hint"]
# Only the last term changes: C / H^γ - C / (2 H)^γ. A NaN in the table is not a zero: it stands where the
# fit cannot give the number.

# %% [markdown] tags=["hint"]
# `gains = C * (H**-gamma - (2 * H)**-gamma)` with `H = asked.scan_hours.to_numpy()`. Count the rows that
# are not extrapolated. Then look at the column of the compute.

# %% tags=["answer"]
#: gains = ...  # float array (n_rows of asked,): what doubling the scan hours adds to r
#: n_reliable = ...  # int: rows that are not extrapolated
#: buys_more = ...  # str: "scan hours", "compute" or "cannot tell"
hours = asked.scan_hours.to_numpy()
gains = readout.C * (hours**-readout.gamma - (2 * hours) ** -readout.gamma)
n_reliable = int((~asked.gain_scan_hours_extrapolated.astype(bool)).sum())
buys_more = "cannot tell"

# %% tags=["check"]
by_library = asked.gain_scan_hours.to_numpy()
remarks = [
    (-by_library, "the sign: more hours make the term smaller and r larger"),
    (readout.C * asked.scan_hours**-readout.gamma, "this is the term itself; what does it lose?"),
    (readout.C / 2 * asked.scan_hours**-readout.gamma, "half the term; hours are inside a power"),
]
lesson = "as in the table; each doubling adds less than the one before"
checks.close("4.5a", gains, by_library, lesson, rtol=0.01, remarks=remarks)

# %% tags=["check"]
reliable = sum(str(flag) != "True" for flag in asked.gain_scan_hours_extrapolated)
remarks = [(len(asked), "see the column gain_scan_hours_extrapolated")]
lesson = f"{reliable} of {len(asked)}; the last one would need hours that were not tried"
checks.equal("4.5b", n_reliable, reliable, lesson, remarks=remarks)

# %% tags=["check"]
known = asked.dropna(subset=["gain_compute"])
more = {"scan hours": (known.gain_scan_hours_low > known.gain_compute_high).all(),
        "compute": (known.gain_compute_low > known.gain_scan_hours_high).all()}  # fmt: skip
right = next((name for name in more if len(known) and more[name]), "cannot tell")
remarks = [
    ("scan hours", "the gain of the compute is not known here; unknown is not small"),
    ("compute", "is its gain known? look for a number in the column"),
]
lesson = "one of the two gains has no number that may be used"
choices = ["scan hours", "compute", "cannot tell"]
checks.one_of("4.5c", buys_more, choices, right, lesson, remarks=remarks)

# %% [markdown] tags=["discussion"]
# What more scan time buys is known over the range that was tried. What more compute buys for the brain is
# not: in the fit of the score the exponent of N runs into its limit, so the best model and its gain
# are left out rather than printed. "Cannot tell" is a result; it says which cells to train next. The
# prices differ as well: an hour of scanning costs far more than an hour of video. *What this does not
# teach:* anything about a real brain. The data are simulated, and H does not reach a third of an hour.

# %% [markdown]
# **Next:** [exercises 5 · the audit](ex5_audit.ipynb).

# %%
checks.summary()
