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
# # 06 · Compute-optimal: model, video or scan time?
#
# **Question.** With so many FLOP and so many hours of scans, which model size and how much video are
# best, how sure is that, and which of the three buys most?
#
# **You will learn** to fit a scaling law with its uncertainty, to find what is compute-optimal, and to
# say where the data cannot tell.
#
# **Reads** the tokens, the parcel series. **Writes** the joint grid (one model per cell, its scores),
# four figures and two tables. **Time** up to 45 minutes on two cores for `quick`; it goes on where it
# was stopped. **Hardware** any.
#
# **Run alone.** The dataset is made by [notebook 01](01_data.ipynb). Without notebook 02, frames,
# VQ-VAE and tokens are made here; this takes some 5 minutes more.
#
# **Words:** [FLOP](../docs/glossary.md#flop), [scaling law](../docs/glossary.md#scaling-law),
# [isoFLOP](../docs/glossary.md#isoflop), [frontier](../docs/glossary.md#frontier),
# [compute-optimal](../docs/glossary.md#compute-optimal),
# [bootstrap](../docs/glossary.md#bootstrap), [extrapolated](../docs/glossary.md#extrapolated),
# [seed](../docs/glossary.md#seed).
#
# The paper varies one factor at a time through one corner. Here model size and amount of video are
# crossed, and each model is read out with several amounts of scan time. Nothing is drawn that the data
# cannot carry: a fit that is refused is printed with its reason, and the notebook goes on.

# %% tags=["parameters"]
profile = "quick"
data = ""
budget_s = 0.0
budget_flop = 0.0
n_boot = 200
figures = [
    "fig_scaling_loss",
    "fig_scaling_isoflop",
    "fig_scaling_brain",
    "fig_scaling_allocation",
]

# %%
from cobe.report.asked import check_asked
from cobe.sweep import models
from cobe.sweep import pipeline as stages

study = stages.open_pipeline(profile, data)
check_asked(study.profile, figures=figures, group="scaling")
video = models.video_stages(study)
series = stages.parcel_bold(study, video.dataset)
print("runs with BOLD (n_runs):", len(series))

# %% [markdown]
# ## The grid, and what it costs
#
# Four kinds of cells. **grid**: every width with every amount of video, as many passes over it.
# **anchor**: some of these with other seeds. **isoflop**: several widths for one budget of FLOP.
# **untrained**: the initial weights of every width. Subsets are nested and spread over participants;
# the learning-rate schedule ends with the last step of each cell. FLOP are counted part by part.

# %%
from cobe.sweep.grid_plan import plan_table

plan = plan_table(study.profile)
costs = plan.groupby("kind", sort=False)[["flop", "train_s", "score_s"]].sum()
print(plan.groupby("kind", sort=False).size().rename("cells").to_frame().join(costs).to_string())
print("rate:", plan.rate[0])

# %% [markdown]
# Cells are trained cheapest first; one that is there is not trained again. With `budget_s` above 0,
# the cells that so many predicted seconds do not pay for are left out, and named; with `budget_flop`
# above 0, those that so many FLOP do not pay for, which is the same on every machine. At 0 there is no
# limit.
#
# With `COBE_CLUSTER` set to `local` or `slurm`, the same cells go to Dask workers instead.

# %%
import os
from contextlib import nullcontext

from cobe.core.cluster import cluster_client
from cobe.sweep.grid_scores import compute_grid

with cluster_client() if os.environ.get("COBE_CLUSTER") else nullcontext() as client:
    limits = {"budget_s": budget_s or None, "budget_flop": budget_flop or None}
    grid = compute_grid(study, video.tokens, series, **limits, client=client)
losses, scores = grid.losses, grid.scores

print("loss table  (n_models, n_columns):", losses.shape)
print("score table (n_rows, n_columns):", scores.shape)
print("cells beyond the budget:", ", ".join(grid.not_computed.cell) or "none")

# %% [markdown]
# Both tables are kept beside the executed notebooks. `keep` saves a figure and shows it.

# %%
from IPython.display import Image, display

from cobe.core.paths import build_dir, figures_dir
from cobe.report.save import preview, save_figure, write_results

write_results(losses, build_dir(profile) / "grid_losses.parquet")
write_results(scores, build_dir(profile) / "grid_scores.parquet")
folder, saved = figures_dir(profile), []
made_by = "notebooks/06_compute_optimal.ipynb"


def keep(figure, name, words):
    """Save a figure with its caption, if it was asked for, and show it in small."""
    if name in figures:
        saved.append(save_figure(figure, name, folder, words, made_by))
        display(Image(preview(folder / f"{name}.png")))


# %% [markdown]
# ## Loss: a floor and two power laws
#
# `loss = E + A N^-α + B D^-β`, with N all parameters and D the target tokens that were trained on.
# Tokens that are seen again count for less than fresh ones; by how much is taken from language models
# and not fitted here. Intervals resample whole designs (all seeds of a cell together).

# %%
from cobe.report.compute_optimal.rows import early_words, loss_rows

rows = loss_rows(losses)
how = {"n_boot": n_boot, "seed": 0}
print("models:", len(rows), " designs, seeds together:", rows.design.nunique())
seen, worth = rows.tokens_seen.sum(), rows.n_effective.sum().round()
print("tokens seen, and what they are worth:", seen, worth)
print(early_words(rows))

# %% [markdown]
# The fit, with the interval of each of its five numbers, and what has to be said about it:

# %%
from cobe.report.compute_optimal.rows import Refused, attempt, words_of
from cobe.report.compute_optimal.spending import fits_table
from cobe.report.scaling import compare_forms, fit_parametric

n, d = rows.n_params, rows.tokens_seen
options = {"n_unique": rows.unique_tokens, "blocks": rows.design, **how}
loss_fit = attempt(fit_parametric, n, d, rows.val_loss, **options)
print(fits_table({"loss": loss_fit}).drop(columns="said").to_string(index=False))
print(words_of(loss_fit))

# %% [markdown]
# A curve through the points says little. Two harder questions: which form predicts the largest cells,
# which it has not seen; and do these lie where the fit says that new models should lie?

# %%
from cobe.report.compute_optimal.evidence import predict_largest

factors = {"n_params": rows.n_params, "n_data": rows.n_effective}
forms = attempt(compare_forms, factors, rows.val_loss, blocks=rows.design, **how)
held_out = attempt(predict_largest, rows, "val_loss", **how)
shown = ["form", "error", "verdict"]
print(forms if isinstance(forms, Refused) else forms[shown].to_string(index=False))

# %% [markdown]
# **Figure.** The loss of every model against video and against size, with the fitted curves; the largest
# cells against what the smaller ones predict for them; the error of each form there.

# %%
from cobe.report.compute_optimal.captions import loss_caption
from cobe.report.compute_optimal.figures import scaling_loss

given = (rows, loss_fit, held_out, forms)
figure = scaling_loss(*given, study.simulated)
words = loss_caption(*given, simulated=study.simulated)
keep(figure, "fig_scaling_loss", words)

# %% [markdown]
# *What to see:* whether more video or a larger model lowers the loss, and whether the dots of panel c
# lie inside their grey intervals.
#
# *What it does not show:* anything beyond the largest cells; other shapes than width; what a learning
# rate tuned for each cell would do.
#
# ## Equal FLOP
#
# Models of one budget, small ones with more video and large ones with less, have their lowest loss in
# between. A parabola through them is the usual way to find it, and it is biased: where the two exponents
# differ, its vertex is off even without noise. The bias is measured on the fitted surface and shown,
# if the data fix that surface.

# %%
import numpy as np

from cobe.report.compute_optimal.rows import flop_counter

flops = attempt(flop_counter, rows)
cut = rows[rows.kind == "isoflop"]
budgets = sorted(cut.slice_flop.unique())
there_is = {"flops": flops, "n_unique": (rows.n_windows * rows.tokens_per_window).max()}
print("slices (FLOP):", ", ".join(f"{budget:.2g}" for budget in budgets) or "none")

# %% [markdown]
# The **frontier** is the best that each budget can buy, as the fitted surface has it.

# %%
from cobe.report.scaling import frontier, isoflop

sliced = (cut.n_params, cut.tokens_seen, cut.val_loss)
slices = attempt(isoflop, *sliced, budgets_flop=budgets, fit=loss_fit, **there_is, **how)
trained_flop = rows.flop.min(), rows.flop.max()
best = attempt(frontier, loss_fit, np.geomspace(*trained_flop, 12), **there_is)
print(words_of(slices))

# %% [markdown]
# **Figure.** Loss against model size for each budget, with its parabola; the best size against the
# budget; and the loss of all models against the FLOP of their training.

# %%
from cobe.report.compute_optimal.captions import isoflop_caption
from cobe.report.compute_optimal.figures import scaling_isoflop

figure = scaling_isoflop(rows, slices, best, study.simulated)
words = isoflop_caption(rows, slices, best, simulated=study.simulated)
keep(figure, "fig_scaling_isoflop", words)

# %% [markdown]
# *What to see:* whether the slices have a minimum at all, how fast the best size grows with the
# budget, and how far the rings (parabola, no noise) lie from the line (the surface's own optimum).
#
# *What it does not show:* seconds or money; the VQ-VAE; video that there is not.
#
# ## Brain score: a third factor
#
# The same models, scored on held-out sessions with the corrected protocol, each with several amounts of
# scan time for the readout. `r = 1 - E - A N^-α - B D^-β - C H^-γ` is fitted to the mean over
# participants and to each participant alone: with few participants an interval over participants would
# be worth nothing, so agreement is counted instead.

# %%
from cobe.report.compute_optimal.rows import MEAN, of_subject, score_rows, subjects_of

scored = score_rows(scores, rows, plan.set_index("cell").n_params)
print("scored (n_rows, n_columns):", scored.shape)
print("participants:", ", ".join(subjects_of(scored)))

# %% [markdown]
# One fit for the mean, and one for each participant.

# %%
from cobe.report.scaling import fit_brain_score

fits = {"loss": loss_fit}
for subject in [MEAN, *subjects_of(scored)]:
    mine = of_subject(scored, subject)
    measured = (mine.n_params, mine.tokens_seen, mine.scan_hours, mine.r)
    options = {"n_unique": mine.unique_tokens, "blocks": mine.design, **how}
    fits[subject] = attempt(fit_brain_score, *measured, **options)

# %% [markdown]
# The numbers of the mean's fit; below them, for every fit, what was done or why it was refused.

# %%
table = fits_table(fits)
print(table[table.fit == MEAN].drop(columns="said").to_string(index=False))
print(*table.groupby("fit", sort=False).said.first().items(), sep="\n")

# %% [markdown]
# The two harder questions again, now with scan time as a third factor: which form predicts the largest
# cells best, and do these lie where they should?

# %%
mine = of_subject(scored)
factors = {"n_params": mine.n_params, "n_data": mine.n_effective, "scan_hours": mine.scan_hours}
designs = {"blocks": mine.design, "groups": mine.design}
score_forms = attempt(compare_forms, factors, 1 - mine.r, **designs, **how)
largest = attempt(predict_largest, mine, "r", **how)
refused = isinstance(score_forms, Refused)
print(score_forms if refused else score_forms[shown].to_string(index=False))
inside = largest if isinstance(largest, Refused) else f"{largest.inside.sum()} of {len(largest)}"
print("held-out largest cells inside their interval:", inside)

# %% [markdown]
# ## Does the brain score follow the loss?
#
# A lower loss is only a stand-in for what is wanted. Over all cells the two go together if both depend
# on size and video, even when one does not carry the other; so the rank correlation is also taken at
# equal model size, and at equal video.

# %%
from cobe.report.compute_optimal.evidence import link_of

link = attempt(link_of, rows, scored, **how)
print(words_of(link))

# %% [markdown]
# **Figure.** The brain score against video, model size and scan time, beside untrained models; and
# against the loss.

# %%
from cobe.report.compute_optimal.brain import scaling_brain
from cobe.report.compute_optimal.captions import brain_caption

figure = scaling_brain(scored, fits[MEAN], link, study.simulated)
words = brain_caption(scored, fits[MEAN], link, simulated=study.simulated)
keep(figure, "fig_scaling_brain", words)

# %% [markdown]
# *What to see:* the distance of each curve from the untrained models of the same size, and which of
# the three factors still climbs at its right end.
#
# *What it does not show:* other participants, or that a lower loss is the cause of a higher score.
#
# ## What to spend
#
# For a budget and an amount of scan time: the best size and video, with intervals; the range of sizes
# that do as well to within 1 %; and what doubling the compute or the scan time would add.

# %%
from cobe.report.compute_optimal.spending import allocation_table

asked = np.geomspace(trained_flop[0], 10 * trained_flop[1], 9)
hours = sorted(scored.scan_hours.unique())
by_loss = attempt(allocation_table, loss_fit, rows, flops, asked)
by_score = attempt(allocation_table, fits[MEAN], rows, flops, asked, hours)
print("budgets (FLOP):", ", ".join(f"{budget:.2g}" for budget in asked))

# %% [markdown]
# Budgets reach to ten times the dearest training that was done; what lies beyond the data is marked as
# extrapolated. Then: how much of the range of the response does each factor account for?

# %%
import pandas as pd

from cobe.report.compute_optimal.spending import share_statements, shares_table

made = [each for each in (by_loss, by_score) if not isinstance(each, Refused)]
spend = pd.concat(made, ignore_index=True) if made else pd.DataFrame()
shares = shares_table(fits)
print("allocations (n_settings, n_columns):", spend.shape)
print("\n".join(share_statements(shares, fits)))

# %% [markdown]
# **Figure.** The best model size and amount of video for each budget, with intervals, what doubling
# adds, and the share of each factor.

# %%
from cobe.report.compute_optimal.captions import allocation_caption
from cobe.report.compute_optimal.spending import scaling_allocation

figure = scaling_allocation(spend, shares, fits, trained_flop, study.simulated)
words = allocation_caption(spend, shares, fits, simulated=study.simulated)
keep(figure, "fig_scaling_allocation", words)

# %% [markdown]
# *What to see:* how wide the hatched regions are. Inside them the choice does not matter. Panel d says
# which factor explains the largest share, or that the data cannot tell.
#
# *What it does not show:* prices. An hour of scanning costs far more than an hour of video, and both
# more than most of these trainings.
#
# ## Try it
#
# A few settings in words: what to train for this budget and so many hours of scans.

# %%
from cobe.explore.allocation import allocation_slider, few_settings, setting_words

for settings in made:
    for _, row in few_settings(settings).iterrows():
        print("-", setting_words(row))

# %% [markdown]
# In JupyterLab, VS Code or Colab the next cell shows two sliders, budget and scan hours. All settings
# were computed above, so they answer at once.
#
# **Figure.** The best size and amount of video for a few settings (or the two sliders), for the brain
# score, or for the loss where the data cannot tell any setting of the brain score.

# %%
told = [settings for settings in made if settings.told.any()] or made
attempt(allocation_slider, told[-1] if told else by_score, study.simulated)

# %% [markdown]
# *What to see:* one row per setting, with intervals; open dots are extrapolated. Where "cannot tell"
# stands, these data do not fix the best size.
#
# *What it does not show:* settings outside the table, or models of another kind than these.
#
# ## Tables

# %%
from cobe.report.compute_optimal.captions import ALLOCATION_CAPTION, FITS_CAPTION
from cobe.report.compute_optimal.spending import LOSS, SCORE, allocations
from cobe.report.manifest import build_manifest
from cobe.report.save import save_table

saved.append(save_table(table, "table_scaling_fits", folder, FITS_CAPTION, made_by))
spend = allocations({LOSS: by_loss, SCORE: by_score})
saved.append(save_table(spend, "table_allocation", folder, ALLOCATION_CAPTION, made_by))
build_manifest(folder, saved, keep=True)
print("in the manifest:", ", ".join(item.name for item in saved))

# %% [markdown]
# **Exercises:** [4 · compute-optimal](exercises/ex4_compute_optimal.ipynb).
#
# **Next:** [07 · the audit](07_audit.ipynb): the paper's way beside this one, one change at a time.
