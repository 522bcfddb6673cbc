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
# # 08 · Where the time of a training step goes
#
# **Question.** The paper reports that 16 bits train 1.17 times as fast as 32. Why so little, and what
# would buy more?
#
# **You will learn** to count the arithmetic of a training step, and to see what a step does besides.
#
# **Reads** the tokens, the frames, the parcel series. **Writes** `fig_throughput`, `table_throughput`
# and `table_cost`. **Time** about 4 minutes on two cores for `quick`. **Hardware** any: it measures
# the machine that it runs on, and says of the rest "not measured".
#
# **Run alone.** The dataset is made by [notebook 01](01_data.ipynb). Without notebook 02, frames,
# VQ-VAE and tokens are made here; this takes some 5 minutes more.
#
# **Words:** [FLOP](../docs/glossary.md#flop), [MFU](../docs/glossary.md#mfu),
# [precision](../docs/glossary.md#precision), [recipe](../docs/glossary.md#recipe),
# [checkpointing](../docs/glossary.md#checkpointing).

# %% tags=["parameters"]
profile = "quick"
data = ""
share_of_steps = 0.2
most_steps = 1000

# %%
from cobe.sweep import models
from cobe.sweep import pipeline as stages
from cobe.sweep.cells import load_tokens

study = stages.open_pipeline(profile, data)
video = models.video_stages(study)
series = stages.parcel_bold(study, video.dataset)
tokens = load_tokens(video.tokens)

print("tokens (n_clips, time, height, width):", tokens.codes.shape)
print("base cell:", study.profile.base.name)
print("windows in a step:", study.profile.train.batch_size)

# %% [markdown]
# ## What the arithmetic is
#
# A product of an m × k and a k × n matrix takes 2 m k n operations (FLOP). Counted part by part, a
# training step of the base cell needs the following.

# %%
from cobe.video.flops import gpt_flops

base, train = study.profile.base, study.profile.train
flops = gpt_flops(base, *tokens.codebook.shape, tokens.codes.shape[1:], train.batch_size)
print((flops.set_index("part") / 1e6).round(1).to_string(), "\n(million FLOP per step)")

# %% [markdown]
# The usual shorthand, six times parameters times tokens, leaves out attention's own products and takes
# the embedding tables for products.

# %%
from cobe.sweep.cells import untrained_gpt
from cobe.video.flops import six_nd, total_flops
from cobe.video.gpt import count_parameters

n_parameters = count_parameters(untrained_gpt(base, tokens))["total"]
n_tokens = train.batch_size * tokens.codes[0].size
print(f"counted by part: {total_flops(flops) / 1e9:.2f} GFLOP a step")
print(f"6 N D          : {six_nd(n_parameters, n_tokens) / 1e9:.2f} GFLOP a step")

# %% [markdown]
# ## The same step, from the published recipe to ours
#
# The published training step reads pixels and runs the VQ-VAE's encoder in every step, drops
# attention weights, computes attention in separate passes, and computes every activation twice to
# save memory. Each of these is a setting of the same code here, so one can be changed at a time. All
# recipes take turns in one process; the median turn counts.

# %%
import pandas as pd

from cobe.sweep import recipes

timed = recipes.step_times(study)
times = pd.read_parquet(timed.path)
columns = ["change", "precision", "step_s", "ratio", "tokens_per_s", "mfu", "note"]
print("times (n_recipes, n_columns):", times.shape)
print("clock:", times.clock[0], "· device:", times.device[0], "· threads:", times.threads[0])
print(times[columns].round(4).to_string(index=False))

# %% [markdown]
# *How to read it.* `mfu` is the share of the device's own matrix-product rate, measured beside it at
# the same precision, that the needed arithmetic makes up. A small model on any device spends most of
# a step on something else; bits make only the arithmetic cheaper.
#
# ## What 16 bits buy under each recipe
#
# The time of a step in 32 bit over that in 16 bit, otherwise alike. Above 1, 16 bit is faster; a CPU
# without arithmetic for 16 bit may well be slower with it.

# %%
step_s = times.set_index("change").step_s
pairs = {
    "published recipe": ("published recipe", "published recipe in bf16"),
    "ours": ("no checkpointing", "bf16"),
}
for name, (full, half) in pairs.items():
    print(f"{name:17s}: 16 bit is {step_s[full] / step_s[half]:.2f} times as fast as 32 bit")
print("published, on four GPUs of unknown type: 1.17 times")

# %% [markdown]
# ## Does a cheaper step learn less?
#
# The base cell is trained under every recipe for a short while: same seed, same windows, same number
# of steps. Changes that only reorder the arithmetic should leave the loss where it was; dropout may
# move it.

# %%
n_steps = int(min(most_steps, share_of_steps * study.profile.train.n_steps))
trained = recipes.train_recipes(study, video, n_steps)
learned = recipes.learned(study, video, series, trained)
print("steps of each training:", n_steps)
print(learned.round(3).to_string(index=False))

# %% [markdown]
# **Figure.** Time of a step as the published recipe is changed, one thing at a time, to ours; the loss
# and the brain score that each recipe reaches.

# %%
from cobe.report.throughput import fig_throughput

figure = fig_throughput(times, learned, study.simulated)
figure

# %% [markdown]
# *What to see:* how much of the published step is not arithmetic, which change saves most, and whether
# loss and brain score move while the time of a step falls.
#
# *What it does not show:* a GPU, unless this ran on one; the order of the changes matters too, since
# what is removed later has less left to save. A short training says nothing about where a long one
# ends.
#
# ## What the whole paper costs
#
# First the rate that our recipe reaches on this device at a few of the paper's widths.

# %%
rated = recipes.paper_rates(study)
rates = pd.read_parquet(rated.path)
columns = ["change", "hidden", "step_s", "tokens_per_s", "mfu", "note"]
print("rates (n_rows, n_columns):", rates.shape)
print(rates[columns].round(3).to_string(index=False))

# %% [markdown]
# Then the cells of the paper's grids. Arithmetic is counted, the rate interpolated between widths.

# %%
from cobe.core.profiles import get_profile
from cobe.video.throughput import project_hours

paper = get_profile("paper")
cells = models.sweep_cells(paper, [axis.name for axis in paper.axes])
cost = project_hours(cells, paper.train, paper.vqvae, rates)
hours = f"{cost.train_hours.sum():,.0f} hours"
print("all cells:", hours, "of", rates.device[0], f"({rates.threads[0]} thread)")
outside = cost.train_hours[cost.outside].sum() / cost.train_hours.sum()
print(f"of these, {outside:.0%} are of widths outside those measured")

# %% [markdown]
# Cell by cell, the cheapest first:

# %%
shown = cost[["hidden", "n_layers", "n_heads", "precision", "flop", "train_hours", "outside"]]
print(shown.sort_values("flop").to_string(index=False, float_format="{:.3g}".format))

# %% [markdown]
# **How to read it.** Not in these hours: the VQ-VAE, validation, start-up, a second seed. Cells that
# differ in data size alone cost the same, because every cell takes the same number of steps. On a device
# that was not measured here nothing is claimed.
#
# ## Captions
#
# A time without a date and a device means little: both stand in the captions.

# %%
from datetime import UTC, datetime

from cobe.report.throughput import throughput_caption

made_s = [made.meta["created_s"] for made in (timed, rated)]
date, rate_date = (datetime.fromtimestamp(one, UTC).date().isoformat() for one in made_s)
n_subjects = len({key[0] for key in series})
words = throughput_caption(times, n_steps, n_subjects, date, simulated=study.simulated)
print(words)

# %% [markdown]
# The figure and both tables are saved, and named in the manifest.

# %%
from cobe.core.paths import figures_dir
from cobe.report.manifest import build_manifest
from cobe.report.save import save_figure, save_table
from cobe.report.throughput import COST_CAPTION, TIMES_CAPTION

folder, made_by = figures_dir(profile), "notebooks/08_throughput.ipynb"
saved = [
    save_figure(figure, "fig_throughput", folder, words, made_by),
    save_table(times, "table_throughput", folder, TIMES_CAPTION.format(date=date), made_by),
    save_table(cost, "table_cost", folder, COST_CAPTION.format(date=rate_date), made_by),
]
build_manifest(folder, saved, keep=True)
print("in the manifest:", ", ".join(item.name for item in saved))

# %% [markdown]
# **Next:** [09 · explore](09_explore.ipynb), or back to [03 · GPT training](03_gpt_training.ipynb), where
# the cells of the sweep are trained.
