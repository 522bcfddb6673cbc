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
# # 04 · From hidden states to BOLD
#
# **Question.** Do the hidden states of a network that learned to expect the game predict the brain of
# the one who plays it, better than the same network untrained, and better than simple controls?
#
# **You will learn** how features get onto the clock of the scanner, why whole sessions are held out,
# what chance would reach, and how two models are compared.
#
# **Reads** the models, the tokens, the parcel series. **Writes** one score table. **Time** about 3
# minutes on two cores for `quick`. **Hardware** any.
#
# **Run alone.** The dataset is made by [notebook 01](01_data.ipynb). Without notebooks 02 and 03, all
# models are trained here; this takes some 12 minutes more.
#
# **Words:** [readout](../docs/glossary.md#readout), [delay](../docs/glossary.md#delay),
# [ridge](../docs/glossary.md#ridge), [penalty](../docs/glossary.md#penalty),
# [held-out](../docs/glossary.md#held-out), [leakage](../docs/glossary.md#leakage),
# [nested cross-validation](../docs/glossary.md#nested-cross-validation),
# [control](../docs/glossary.md#control), [permutation](../docs/glossary.md#permutation),
# [chance level](../docs/glossary.md#chance-level), [FDR](../docs/glossary.md#fdr),
# [ceiling](../docs/glossary.md#ceiling).

# %% tags=["parameters"]
profile = "quick"
data = ""
axes = ["data_size", "hidden_dim", "n_layers", "n_heads", "precision"]

# %%
from cobe.report.asked import check_asked
from cobe.sweep import models
from cobe.sweep import pipeline as stages
from cobe.sweep.cells import load_tokens

study = stages.open_pipeline(profile, data)
check_asked(study.profile, axes=axes)
video = models.video_stages(study)
tokens = load_tokens(video.tokens)
trained = models.train_cells(study, video.tokens, models.paper_cells(study.profile, axes))
series = stages.parcel_bold(study, video.dataset)

print("models:", len(trained), " runs with BOLD:", len(series))

# %% [markdown]
# ## Features on the clock of the scanner
#
# Each window gives one vector per block: its hidden states while the model reads the target clip. The
# values of all tokens are brought to the same number of principal components for every model, fitted
# on clips that trained the video model: a wider model gets no more features than a narrow one.

# %%
from cobe.sweep.features import load_features, model_features

protocol = study.profile.protocol
base = study.profile.base
made = model_features(study, video.tokens, {base: trained[base]}, protocol)
blocks = load_features(made[base])
features = list(blocks.values())[-1]

print("blocks:", *blocks, "- here the last one is shown")
print("features (n_windows, n_features):", features.shape)

# %% [markdown]
# Each volume gets the mean of the clips inside it, weighted by how long they overlap. A volume that
# clips cover for less than half has no features.

# %%
import numpy as np

from cobe.sweep.features import role_rows
from cobe.sweep.scores import run_features

clips = tokens.clips.loc[role_rows(tokens)]
key = next(clips[["subject", "session", "run"]].itertuples(index=False, name=None))
x_tr = run_features(features, clips, key, len(stages.load_bold(series[key])))

print("one run (n_trs, n_features):", x_tr.shape, key)
print("volumes with features:", int(np.isfinite(x_tr[:, 0]).sum()))

# %% [markdown]
# The blood answers some seconds late, and not in all parcels alike. So each volume is given the
# features of several volumes before it, side by side, and the regression finds the weights.

# %%
from cobe.encoding.delays import stack_delays

x_delayed = stack_delays(x_tr, protocol.delays_tr)
print("delays in TR:", protocol.delays_tr)
print("delayed (n_trs, n_delays * n_features):", x_delayed.shape)
print("volumes whose delays are all there:", int(np.isfinite(x_delayed).all(1).sum()))

# %% [markdown]
# Delays are built inside the run. A row that would need features from a gap is left out, exactly, and
# counted above; it is never filled with zeros.
#
# ## Held-out sessions
#
# Neighbouring volumes look alike, because blood is slow. If volumes were split at random, nearly the
# same volume would stand on both sides, and the score would measure that. Whole sessions are held out
# instead; the penalty of the ridge is chosen for each parcel by leaving out runs *inside* the
# training sessions.

# %%
from cobe.encoding.splits import describe_folds, holdout_groups
from cobe.sweep.scores import runs_of_ridge

subject = key[0]
runs = [run for run in runs_of_ridge(video.dataset, video.roles) if run.subject == subject]
groups = holdout_groups(runs, protocol.holdout)
print(subject, "-", describe_folds(groups, protocol.holdout))

# %% [markdown]
# How many volumes of each run are left to fit and to test on?

# %%
from cobe.encoding.design import row_counts

y_runs = [stages.load_bold(series[run.key]) for run in runs]
x_runs = [run_features(features, clips, run.key, len(y)) for run, y in zip(runs, y_runs)]
counts = row_counts(x_runs, y_runs, delays_tr=protocol.delays_tr, groups=groups)
print("y of the first run (n_trs, n_parcels):", y_runs[0].shape)
print(counts.to_string(index=False))

# %% [markdown]
# n_without_features counts volumes whose own video is unknown. The columns after it add up to n_trs:
# nothing is dropped without being counted.
#
# ## The same regression, by another library
#
# The ridge here works from sums over runs (products of features with features and with BOLD), so that
# leaving a run out is a subtraction. himalaya fits each fold from the data. Same rows, folds and
# penalties: both have to choose the same penalty for every parcel and predict the same.

# %%
from cobe.encoding import ridge

scale = np.nanmean(np.nanvar(np.concatenate(x_runs), axis=0))
alphas = [alpha * scale for alpha in protocol.alphas]
common = dict(groups=[run.key for run in runs], delays_tr=protocol.delays_tr, alphas=alphas)
ours = ridge.fit(x_runs, y_runs, **common)
peer = ridge.fit(x_runs, y_runs, **common, engine="himalaya")

print("weights (n_delays * n_features, n_parcels):", ours.weights.shape)
same = int((ours.alphas == peer.alphas).sum())
print("parcels with the same penalty:", same, "of", len(ours.alphas))

# %% [markdown]
# The two predictions are correlated parcel by parcel; the worst parcel is printed.

# %%
predicted = [np.concatenate(model.predict(x_runs)) for model in (ours, peer)]
valid = np.isfinite(predicted[0]).all(1)
r_between = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(p[valid].T for p in predicted))]
print("predicted (n_trs of all runs, n_parcels):", predicted[0].shape)
print("smallest correlation of the two predictions:", f"{min(r_between):.6f}")

# %% [markdown]
# ## Every model and every control, against every participant
#
# The controls have not learned to predict: principal components of the VQ-VAE's codes and of the pixels (fitted
# on the video sessions, as many as every model gets), luminance, contrast and motion energy on a
# grid, and the buttons. One penalty serves all columns, so those with units of their own (luminance,
# contrast, motion; buttons) are first brought to variance 1 on the training sessions: else motion energy, a
# small number beside contrast, would be shrunk away, and the control would lose for its units alone.
# Which block of a model is read is chosen inside the training sessions.

# %%
from cobe.sweep.features import control_features
from cobe.sweep.scores import paper_scores

controls = control_features(study, video)
everything = paper_scores(study, video.tokens, series, trained, controls, axes)
print("score table, all protocols (n_rows, n_columns):", everything.shape)
print(everything.groupby("protocol").cell.nunique().rename("models").to_string())

# %% [markdown]
# From here on only the protocol `corrected` is shown; notebook 07 sets the other beside it.

# %%
table = everything[everything.protocol == protocol.name]
overall = table[(table.held_out == "all") & (table.summary == "mean")]
print("mean r over parcels, held-out sessions; rows: model, columns: participant")
means = overall.pivot_table(index=["features", "cell"], columns="subject", values="r")
print(means.round(3).to_string())

# %% [markdown]
# **How to read it.** r is the correlation of prediction and BOLD over all held-out volumes of a
# participant, averaged over *all* parcels, those that nothing drives included. A mean over parcels is
# a small number; the published figures show the *maximum* over parcels, which is a large one even by
# chance.
#
# ## Against chance
#
# Chance is what the same regression reaches when blocks of at least 40 volumes (a minute; 20 in smoke) of BOLD
# change places inside each run and every fold is fitted again: the slow rhythm of both series stays,
# their relation goes. The same moves are made for all parcels.

# %%
base_rows = table[(table.cell == base.name) & (table.held_out == "all")]
columns = ["subject", "r", "ci_low", "ci_high", "chance_95", "p"]
print("base cell:", base.name)
print(base_rows[base_rows.summary == "mean"][columns].round(4).to_string(index=False))

# %% [markdown]
# The same for each parcel. Of hundreds some would pass a plain 5 % by luck, so their p-values are
# corrected for how many there are: at q < .05, at most 5 % of all finds are expected to be false.

# %%
parcels = base_rows[base_rows.summary == "target"]
print("rows (n_subjects * n_parcels, n_columns):", parcels.shape)
print("parcels with q < .05 (false discovery rate):")
print((parcels.q < 0.05).groupby(parcels.subject).sum().to_string())

# %% [markdown]
# A penalty at an end of the grid may mean that the grid is too short. They are counted:

# %%
groups_held_out = table[table.held_out != "all"].held_out.nunique()
pairs = len(parcels) * groups_held_out
edge = int(parcels.n_alpha_edge.sum())
print(f"penalties at an edge of the grid: {edge} of {pairs} (parcel, fold) pairs")

# %% [markdown]
# ## Trained against untrained
#
# The right question is not whether two bars overlap, but whether the difference is positive in each
# participant and held-out session. The units of this test are those pairs.

# %%
from cobe.sweep.scores import session_scores

units = session_scores(table, protocol.name)
wide = units.pivot_table(index=["subject", "held_out"], columns="cell", values="r")
print("scores (n_subjects * n_sessions, n_models):", wide.shape)

# %% [markdown]
# `paired_comparison` flips the signs of the differences to get p, and draws units again and again to
# get the interval (which it widens as Student's t does, since units are few).

# %%
import pandas as pd

from cobe.encoding.stats import paired_comparison

rivals = [base.untrained().name, "pixel_pca", "vq", "lowlevel", "buttons"]
rows = []
for rival in rivals:
    test = paired_comparison(wide[base.name], wide[rival], seed=protocol.seed)
    wins = int((wide[base.name] > wide[rival]).sum())
    rows.append([rival, test.difference, test.ci_low, test.ci_high, test.p, f"{wins}/{len(wide)}"])
names = ["base minus", "difference of r", "ci_low", "ci_high", "p", "units above"]
print(pd.DataFrame(rows, columns=names).round(4).to_string(index=False))

# %% [markdown]
# **Figure.** Mean r of the base model, of its untrained twin and of each control, per participant,
# with intervals and chance.

# %%
from cobe.report.figures import fig_controls

fig_controls(study.profile, table, study.simulated)

# %% [markdown]
# *What to see:* whether training buys anything over the same network untrained, and how far plain
# features of the picture already get.
#
# *What it does not show:* unique variance. Two features can score alike and explain different things.
#
# ## The planted truth
#
# This section is for teaching and exists for simulated data only: the simulation wrote down what it
# planted. Nothing above has read it. A **ceiling** is the r that a perfect model of what was planted
# would reach: the rest is noise.

# %%
if study.simulated:
    truth = pd.read_parquet(stages.dataset_root(study) / "truth" / "parcels.parquet")
    truth = truth.assign(target=truth.parcel - 1)
    joined = parcels.merge(truth, on=["subject", "target"], validate="1:1")
    print("parcels with their truth (n_rows, n_columns):", joined.shape)
    planted = joined[joined.ceiling > 0]
    above = int((planted.r > planted.ceiling).sum())
    print("planted parcels whose r is above their ceiling:", above, "of", len(planted))

# %% [markdown]
# By what was planted in a parcel: how many there are, their mean r and ceiling, the share found.

# %%
if study.simulated:
    by_region = joined.groupby("region").agg(
        parcels=("target", "nunique"),
        r=("r", "mean"),
        ceiling=("ceiling", "mean"),
        found=("q", lambda q: float((q < 0.05).mean())),
    )
    print(by_region.round(3))

# %% [markdown]
# **How to read it.** Next to nothing is found in `null` parcels, where nothing was planted (a false
# discovery rate of 5 % allows some), and no region exceeds its ceiling. It does not say that real
# brains are made like this one.
#
# **Exercises:** [3 · encoding](exercises/ex3_encoding.ipynb), from what shuffled volumes do to r to
# what leaks.
#
# **Next:** [05 · the figures of the paper](05_paper_figures.ipynb).
