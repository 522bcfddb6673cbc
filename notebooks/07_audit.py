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
# # 07 · The audit: published beside corrected
#
# **Question.** Which of the paper's statements follow from its outputs, and what do the same questions
# answer when one thing is changed at a time, chance is shown, and nothing leaks?
#
# **You will learn** to try a method on a brain in which there is nothing, and on one in which the answer
# is known; and to take a result apart, one change at a time.
#
# **Reads** the tokens, the models, the parcel series. **Writes** eight figures and the ledger, with
# captions. **Time** about 10 minutes on two cores for `quick`. **Hardware** any.
#
# **Run alone.** The dataset is made by [notebook 01](01_data.ipynb). Without notebooks 02 to 04,
# models and scores are made here; this takes some 15 minutes more.
#
# **Words:** [null brain](../docs/glossary.md#null-brain),
# [planted brain](../docs/glossary.md#planted-brain), [leakage](../docs/glossary.md#leakage),
# [block](../docs/glossary.md#block), [band](../docs/glossary.md#band),
# [unique variance](../docs/glossary.md#unique-variance), [seed](../docs/glossary.md#seed),
# [untrained twin](../docs/glossary.md#untrained-twin), [ledger](../docs/glossary.md#ledger).
#
# A **protocol** is the whole way from a training set to a number. `as_published` is the paper's, as far
# as its public code and outputs tell: the first part of a list as a smaller data set, as many passes
# for every set, volumes held out at random, one penalty for all parcels, the *largest* r of all
# parcels. `corrected` is ours: subsets over all participants, as many updates for every model, whole
# sessions held out, everything chosen inside the training sessions, as many features for every
# model, the *mean* over all parcels. BOLD is cleaned alike, and optimiser and schedule are ours, under
# both: only what is named here differs. Split, delays and penalties of `as_published` are inferred.

# %% tags=["parameters"]
profile = "quick"
data = ""
figures = [
    "fig_null_brain",
    "fig_planted_brain",
    "fig_audit_data_size",
    "fig_audit_readout",
    "fig_audit_width",
    "fig_audit_noise",
    "fig_audit_bands",
    "fig_audit_generality",
]

# %%
from cobe.report.asked import check_asked
from cobe.sweep import models
from cobe.sweep import pipeline as stages
from cobe.sweep.cells import load_tokens

study = stages.open_pipeline(profile, data)
check_asked(study.profile, figures=figures, group="audit")
video = models.video_stages(study)
tokens = load_tokens(video.tokens)
axes = [axis.name for axis in study.profile.axes]
trained = models.train_cells(study, video.tokens, models.paper_cells(study.profile, axes))
series = stages.parcel_bold(study, video.dataset)

print("tokens (n_clips, time, height, width):", tokens.codes.shape)
print("models:", len(trained), " runs with BOLD:", len(series))

# %% [markdown]
# A protocol is data, not code: every choice is a field of it.

# %%
corrected, published = study.profile.protocol, study.profile.published
for protocol in (published, corrected):
    print(protocol, end="\n\n")

# %% [markdown]
# The score table of notebook 04, with every model and every control under both protocols:

# %%
from cobe.sweep.features import control_features
from cobe.sweep.scores import paper_scores

controls = control_features(study, video)
table = paper_scores(study, video.tokens, series, trained, controls, axes)
print("score table (n_rows, n_columns):", table.shape)
print(table.groupby("protocol").cell.nunique().rename("models").to_string())

# %% [markdown]
# `keep` saves a figure with its caption and shows it; `results` gathers the tables for the ledger.

# %%
from IPython.display import Image, display

from cobe.core.paths import figures_dir
from cobe.report.save import preview, save_figure

folder, made_by = figures_dir(profile), "notebooks/07_audit.ipynb"
saved, results = [], {"scores": table}


def keep(name, figure, words):
    """Save a figure with its caption, and show it in small."""
    saved.append(save_figure(figure, name, folder, words, made_by))
    display(Image(preview(folder / f"{name}.png")))


# %% [markdown]
# ## A brain that sees nothing
#
# The fairest test of a method is to give it nothing to find. From the BOLD of one participant a
# **null brain** is made: the same spectrum in every parcel, the same correlations between parcels, and
# random phases, so that no relation to the video is left. Both protocols score the same model, the
# base, against 100 such brains, with fewer parcels, features and permutations to save time. Whatever
# they report is false.

# %%
from cobe.sweep.brains import null_brain

if "fig_null_brain" in figures:
    null = results["null_trials"] = null_brain(study, video.tokens, series, trained)
    print("trials (n_trials, n_columns):", null.shape)
    print("null brains:", null.draw.nunique(), " parcels:", null.n_parcels.iloc[0])

# %% [markdown]
# What does each protocol report (median and smallest over the brains), and how often does it find a
# parcel in which there is nothing?

# %%
if "fig_null_brain" in figures:
    summary = null.groupby("protocol").agg(
        reported=("r", "median"),
        smallest=("r", "min"),
        false_finds=("n_found", lambda n: (n > 0).mean()),
    )
    print(summary.round(3).to_string())

# %% [markdown]
# **Figure.** What each protocol reports on null brains, and the same against its chance level.

# %%
from cobe.report.audit.trial_captions import null_caption, planted_caption
from cobe.report.audit.trials import fig_null_brain, fig_planted_brain

protocols = (published, corrected)
if "fig_null_brain" in figures:
    words = null_caption(null, protocols, study.simulated)
    keep("fig_null_brain", fig_null_brain(null, study.simulated), words)

# %% [markdown]
# *What to see:* the largest of many parcels is well above zero when there is nothing: a maximum needs
# its own chance level, and the published figures have none. The mean over parcels stays around
# zero. If more than 5 of 100 brains pass their chance level in **b**, that is a limit of ours: a null
# brain keeps the rhythm of the plays, which the features share, and moved blocks do not.
#
# *What it does not show:* how high a published maximum had to be. The level depends on the features,
# parcels and held-out volumes, which are fewer here; no published value can be set beside it.
#
# ## A brain in which the answer is known
#
# Now four feature sets are planted with known shares of the variance, and against their width: the
# narrowest drives most, and one that is wide and slow drives nothing. Each protocol scores each set
# alone. Does it find the order? The sets are noise as slow as real features (the last one slower),
# unrelated to each other; the rest of the BOLD is a null brain.

# %%
planted_sets = {
    "narrow": (4, 0.45, 0.20),
    "medium": (24, 0.45, 0.10),
    "wide": (96, 0.45, 0.05),
    "wide and slow": (96, 0.95, 0.0),
}
for name, (n_features, lag_one, share) in planted_sets.items():
    print(f"{name:14s} {n_features:3d} features, lag-one {lag_one:.2f}, {share:4.0%} planted")

# %% [markdown]
# Each draw is a new planted brain. In what share of them does a protocol recover the order, and name
# the right winner?

# %%
from cobe.sweep.brains import planted_brain
from cobe.sweep.trials import order_recovered

if "fig_planted_brain" in figures:
    planted = planted_brain(study, video.tokens, series, planted_sets)
    orders = results["orders"] = order_recovered(planted)
    print("trials (n_trials, n_columns):", planted.shape)
    print(orders.groupby("protocol")[["recovered", "right_winner"]].mean().round(2).to_string())

# %% [markdown]
# The simulated participants have a planted truth too: the ceiling of each region.

# %%
import pandas as pd

from cobe.sweep.trials import planted_order

base, truth, regions = study.profile.base, None, None
if study.simulated:
    truth = pd.read_parquet(stages.dataset_root(study) / "truth" / "parcels.parquet")
    of_base = table[(table.cell == base.name) & (table.features == "gpt")]
    of_base = of_base[of_base.protocol.isin([p.name for p in protocols])]
    regions = planted_order(of_base, truth)
    print("regions (n_rows, n_columns):", regions.shape)

# %% [markdown]
# **Figure.** What was planted, what each protocol makes of it, and scores against ceilings by region.

# %%
if "fig_planted_brain" in figures:
    words = planted_caption(planted, regions, protocols, study.simulated)
    keep("fig_planted_brain", fig_planted_brain(planted, regions, study.simulated), words)

# %% [markdown]
# *What to see:* which protocol puts the feature sets in the order of what they really drive, and, for
# the simulated participants, in which regions the score follows the ceiling that was planted.
#
# *What it does not show:* sets that share variance, as real ones do: each then predicts a part of the
# others'.
#
# ## Data size, taken apart
#
# The published smaller sets are the first of a list: fewer frames, *and* one participant, one level,
# *and* fewer updates. Here each of these changes alone.

# %%
from cobe.sweep.arms import all_arm_cells, arm_table, reachable
from cobe.sweep.tables import loss_table

arms = results["arms"] = arm_table(study.profile)
repeated = bool({"fig_audit_data_size", "fig_audit_noise"} & set(figures))
cells, left_out = reachable(tokens, all_arm_cells(study.profile)) if repeated else ([], {})
extra = [cell for cell in cells if cell not in trained]
everything = trained | models.train_cells(study, video.tokens, extra)
losses = results["losses"] = loss_table(everything)

print(arms.groupby("arm").cell.nunique().rename("cells").to_string())
print("cells trained besides:", len(extra), " without enough video:", left_out or "none")
print("loss table (n_rows, n_columns):", losses.shape)

# %% [markdown]
# They are scored in the same way as all others; cells with another seed also as published.

# %%
from cobe.sweep.arms import with_arm_scores
from cobe.sweep.scores import scores

if repeated:
    table = with_arm_scores(study, video.tokens, series, everything, table)
    repeats = {c: everything[c] for c in cells if c.seed != base.seed}
    for way in dict.fromkeys([published, *dict(study.profile.published_by_axis).values()]):
        again = scores(study, video.tokens, series, repeats, {}, way)
        table = pd.concat([table, again], ignore_index=True)
results["scores"] = table
print("score table (n_rows, n_columns):", table.shape)

# %% [markdown]
# **Figure.** Loss and brain score when only the participants change, only the updates, or both.

# %%
from cobe.report.audit.data_size import caption_audit_data_size, fig_audit_data_size
from cobe.report.audit.designs import subset_contents

if "fig_audit_data_size" in figures:
    named = set(arms[arms.arm != "noise"].cell)
    chosen = [cell for cell in all_arm_cells(study.profile) if cell.name in named]
    contents = subset_contents(tokens.clips, chosen)
    shown = (table, losses, arms, contents, study.profile, study.simulated)
    keep("fig_audit_data_size", fig_audit_data_size(*shown), caption_audit_data_size(*shown))

# %% [markdown]
# *What to see:* whether the same number of frames is worth less when they come from one participant,
# and how much of the published slope is the number of updates.
#
# *What it does not show:* more frames of one participant than that one played, nor a participant who
# plays in another way.
#
# ## Depth, and the block that is read
#
# The published figure of the layers reads the last block, all other figures the middle one. Here every
# block of every model is scored. (With two layers, as in our base model, the middle one is the last.)

# %%
from cobe.sweep.blocks import block_scores

if "fig_audit_readout" in figures:
    ours = models.sweep_cells(study.profile, axes)
    chosen = {cell: trained[cell] for cell in ours + models.untrained_controls(ours)}
    blocks = results["blocks"] = block_scores(study, video.tokens, series, chosen, table)
    print("block table (n_rows, n_columns):", blocks.shape)

# %% [markdown]
# **Figure.** Mean r of each block of each model, and what depth seems to buy under each choice.

# %%
from cobe.report.audit.readout import caption_audit_readout, fig_audit_readout

if "fig_audit_readout" in figures:
    shown = (blocks, table, study.profile, study.simulated)
    keep("fig_audit_readout", fig_audit_readout(*shown), caption_audit_readout(*shown))

# %% [markdown]
# *What to see:* how much the choice of the block moves the score, beside how much depth does; and what
# the choice inside the training sessions picks.
#
# *What it does not show:* readouts across blocks.
#
# ## Width, and the number of features
#
# A wider model learns more, and it also hands the ridge more numbers. `native` gives each model as many
# principal components as it has hidden units; `corrected` gives all of them equally many.

# %%
from dataclasses import replace

if "fig_audit_width" in figures and "hidden_dim" in axes:
    for cell in models.sweep_cells(study.profile, ["hidden_dim"]):
        native = replace(corrected, name="native", n_features=cell.hidden)
        pair = {cell: trained[cell], cell.untrained(): trained[cell.untrained()]}
        own = scores(study, video.tokens, series, pair, {}, native)
        table = pd.concat([table, own], ignore_index=True)
    results["scores"] = table
    print("score table (n_rows, n_columns):", table.shape)

# %% [markdown]
# **Figure.** Scores by hidden size, with native and with equal numbers of features, and what training
# adds.

# %%
from cobe.report.audit.width import caption_audit_width, fig_audit_width

if "fig_audit_width" in figures and "hidden_dim" in axes:
    shown = (table, study.profile, study.simulated)
    keep("fig_audit_width", fig_audit_width(*shown), caption_audit_width(*shown))

# %% [markdown]
# *What to see:* trained minus untrained at the same width is what was learned; the rest is width.
#
# *What it does not show:* widths beyond these.
#
# ## 16 bit, and the noise from run to run
#
# The base model was trained again with other seeds, in each precision. A seed sets the initial weights
# and the order of the windows, and so how far two equal trainings end apart.
#
# **Figure.** Loss and score of each training, and the change by precision beside the change by seed.

# %%
from cobe.report.audit.noise import caption_audit_noise, fig_audit_noise

if "fig_audit_noise" in figures:
    shown = (table, losses, arms, study.profile, study.simulated)
    keep("fig_audit_noise", fig_audit_noise(*shown), caption_audit_noise(*shown))

# %% [markdown]
# *What to see:* whether the difference between precisions is larger than the difference between two
# seeds.
#
# *What it does not show:* rare failures of 16-bit training; so few seeds would miss them.
#
# ## Learned, and given
#
# Seven **bands** of features stand side by side in one banded ridge regression: the trained model, the
# same model untrained, the codes of the VQ-VAE, pixels, low-level statistics, buttons, level and time.
# What a band explains that all others together do not is its **unique variance**.

# %%
from cobe.sweep.features import model_features

twin = base.untrained()
pair = {"gpt": {base: trained[base]}, "untrained": {twin: trained[twin]}}
of_pair = {}
for name, item in pair.items():
    (of_pair[name],) = model_features(study, video.tokens, item, corrected).values()
print("bands:", *of_pair, *controls)

# %% [markdown]
# For every parcel and held-out session: the variance explained by all bands, and without each of them.

# %%
from cobe.sweep.bands import band_table

if "fig_audit_bands" in figures:
    bands = results["bands"] = band_table(study, video.tokens, series, of_pair | controls)
    print("band table (n_rows, n_columns):", bands.shape)

# %% [markdown]
# **Figure.** Unique variance of each band by planted region (solid), and what it explains alone (pale).

# %%
from cobe.report.audit.bands import bands_caption, fig_audit_bands

if "fig_audit_bands" in figures:
    words = bands_caption(bands, truth, simulated=study.simulated)
    keep("fig_audit_bands", fig_audit_bands(bands, truth, study.simulated), words)

# %% [markdown]
# *What to see:* which band owns which region, and whether the learned one owns any.
#
# *What it does not show:* shared variance. Bands that carry the same information have little that is
# their own, even if each predicts well alone (pale bars).
#
# The winner of each region, its interval, and the band that was expected there:

# %%
from cobe.sweep.bands import band_winners

if "fig_audit_bands" in figures and study.simulated:
    print(band_winners(bands, truth).round(4).to_string(index=False))

# %% [markdown]
# What training adds can also be asked without bands: r of the trained minus the untrained model.

# %%
from cobe.sweep.regions import region_differences

if "fig_audit_bands" in figures and study.simulated:
    ours = table[table.protocol == corrected.name]
    print("r of the base model, trained minus untrained, by what was planted")
    gains = region_differences(ours, truth, base.name, twin.name)
    print(gains.round(4).to_string(index=False))

# %% [markdown]
# ## Memorised, and general
#
# The paper's video model was trained on video of all sessions. If it memorised them, its features fit
# these sessions better than new ones. Trained minus untrained is compared between sessions that the
# video model has seen and has not seen, and between held-out runs and held-out levels.

# %%
from cobe.sweep.generality import generality_table

if "fig_audit_generality" in figures:
    seen = {}
    for name, item in pair.items():
        made = model_features(study, video.tokens, item, corrected, "video_train")
        (seen[name],) = made.values()
    general = generality_table(study, video.tokens, series, of_pair, seen)
    print("generality table (n_rows, n_columns):", general.shape)

# %% [markdown]
# **Figure.** Trained and untrained scores in sessions seen and not seen, and on held-out runs and levels.

# %%
from cobe.report.audit.generality import fig_audit_generality, generality_caption

if "fig_audit_generality" in figures:
    words = generality_caption(general, simulated=study.simulated)
    keep("fig_audit_generality", fig_audit_generality(general, study.simulated), words)

# %% [markdown]
# *What to see:* whether what training adds holds in sessions that the video model never saw.
#
# *What it does not show:* another game, or another participant's brain.
#
# ## The ledger
#
# Claim by claim: what was claimed, what the authors' public outputs show, what our run shows under each
# protocol, and a verdict on each. The published evidence is judged from published numbers only, ours
# from the tables above only. It is meant as one would put it to a colleague.

# %%
from cobe.report.audit.ledger import CAPTION, ledger, long_form

steps = folder / "table_throughput.csv"  # of notebook 08, a step of its own
results["throughput"] = pd.read_csv(steps) if steps.is_file() else None
book = ledger(results, study.profile, study.simulated)
print("ledger (n_claims, n_columns):", book.shape)
for row in book.itertuples():
    print(f"{row.claimed}\n  published: {row.verdict_published}\n  here: {row.verdict_here}\n")

# %% [markdown]
# The ledger and the score table are kept if all eight figures were asked for.

# %%
from cobe.core.paths import build_dir
from cobe.report.manifest import build_manifest
from cobe.report.save import save_table, write_results

if len(figures) == 8:
    saved.append(save_table(long_form(book), "table_ledger", folder, CAPTION, made_by))
    write_results(table, build_dir(profile) / "audit_scores.parquet")
build_manifest(folder, saved, keep=True)
print("figures and tables written:", [item.name for item in saved])

# %% [markdown]
# **Exercises:** [5 · audit](exercises/ex5_audit.ipynb).
#
# **Next:** [09 · explore](09_explore.ipynb), to look behind these means, clip by clip and parcel by
# parcel. [06 · what to spend](06_compute_optimal.ipynb) and [08 · throughput](08_throughput.ipynb) are
# steps of their own.
