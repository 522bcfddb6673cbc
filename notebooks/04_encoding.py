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
# **Reads** the models, the tokens, the parcel series. **Writes** one score table. **Time** about 3
# minutes on two cores for `quick`. **Hardware** any.

# %% tags=["parameters"]
profile = "quick"
data = ""
axes = ["data_size", "hidden_dim", "n_layers", "n_heads", "precision"]

# %%
from cobe.sweep import models
from cobe.sweep import pipeline as stages
from cobe.sweep.cells import load_tokens

study = stages.open_pipeline(profile, data)
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
# on clips that trained the video model: a wider model gets no more features than a narrow one. Each
# volume gets the mean of the clips inside it, weighted by how long they overlap. A volume that clips
# cover for less than half has no features.

# %%
import numpy as np

from cobe.encoding.delays import stack_delays
from cobe.sweep.features import load_features, model_features, role_rows
from cobe.sweep.scores import run_features

protocol = study.profile.protocol
base = study.profile.base
made = model_features(study, video.tokens, {base: trained[base]}, protocol)
blocks = load_features(made[base])
features = list(blocks.values())[-1]
clips = tokens.clips.loc[role_rows(tokens)]
key = next(clips[["subject", "session", "run"]].itertuples(index=False, name=None))
bold = {key: stages.load_bold(item) for key, item in series.items()}
x_tr = run_features(features, clips, key, len(bold[key]))
x_delayed = stack_delays(x_tr, protocol.delays_tr)

print("blocks:", *blocks, "- here the last one is shown")
print("features (n_windows, n_features):", features.shape)
print("one run  (n_trs, n_features):", x_tr.shape, key)
print("delayed by", protocol.delays_tr, "TR:", x_delayed.shape)
print("volumes with features:", int(np.isfinite(x_tr[:, 0]).sum()))
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

# %%
from cobe.encoding.design import row_counts

y_runs = [stages.load_bold(series[run.key]) for run in runs]
x_runs = [run_features(features, clips, run.key, len(y)) for run, y in zip(runs, y_runs)]
counts = row_counts(x_runs, y_runs, delays_tr=protocol.delays_tr, groups=groups)
print(counts.to_string(index=False))

# %% [markdown]
# Every volume of a run falls into one of these columns: nothing is dropped without being counted.
#
# ## The same regression, by another library
#
# The ridge here works from sums over runs (products of features with features and with BOLD), so that
# leaving a run out is a subtraction. himalaya fits each fold from the data. Same rows, folds and
# penalties: both have to choose the same penalty for every parcel and predict the same.

# %%
from cobe.encoding import ridge

scale = np.nanmean(np.nanvar(np.concatenate(x_runs), axis=0))
common = dict(
    groups=[run.key for run in runs],
    delays_tr=protocol.delays_tr,
    alphas=[alpha * scale for alpha in protocol.alphas],
)
ours = ridge.fit(x_runs, y_runs, **common)
peer = ridge.fit(x_runs, y_runs, **common, engine="himalaya")
predicted = [np.concatenate(model.predict(x_runs)) for model in (ours, peer)]
valid = np.isfinite(predicted[0]).all(1)
r_between = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(p[valid].T for p in predicted))]

print("weights (n_delays * n_features, n_parcels):", ours.weights.shape)
same = int((ours.alphas == peer.alphas).sum())
print("parcels with the same penalty:", same, "of", len(ours.alphas))
print("smallest correlation of the two predictions:", f"{min(r_between):.6f}")

# %% [markdown]
# ## Every model and every control, against every participant
#
# The controls need no training: principal components of the VQ-VAE's codes and of the pixels (fitted
# on the video sessions, as many as every model gets), luminance, contrast and motion energy on a
# grid, and the buttons. Which block of a model is read is chosen inside the training sessions.

# %%
from cobe.sweep.features import control_features
from cobe.sweep.scores import paper_scores, session_scores

controls = control_features(study, video)
everything = paper_scores(study, video.tokens, series, trained, controls, axes)
table = everything[everything.protocol == protocol.name]
overall = table[(table.held_out == "all") & (table.summary == "mean")]

print("score table, all protocols (n_rows, n_columns):", everything.shape)
print(everything.groupby("protocol").cell.nunique().rename("models").to_string())

# %%
print("mean r over parcels, held-out sessions; rows: model, columns: participant")
print(overall.pivot_table(index=["features", "cell"], columns="subject", values="r").round(3))

# %% [markdown]
# **How to read it.** This is the protocol `corrected`. r is the correlation of prediction and BOLD over all held-out volumes of a
# participant, averaged over *all* parcels, those that nothing drives included. A mean over parcels is
# a small number; the published figures show the *maximum* over parcels, which is a large one even by
# chance.
#
# ## Against chance
#
# Chance is what the same regression reaches when blocks of at least 40 volumes (a minute) of BOLD
# change places inside each run and every fold is fitted again: the slow rhythm of both series stays,
# their relation goes. The same moves are made for all parcels.

# %%
base_rows = table[(table.cell == base.name) & (table.held_out == "all")]
columns = ["subject", "r", "ci_low", "ci_high", "chance_95", "p"]
print("base cell:", base.name)
print(base_rows[base_rows.summary == "mean"][columns].round(4).to_string(index=False))
parcels = base_rows[base_rows.summary == "target"]
print("parcels with q < .05 (false discovery rate):")
print((parcels.q < 0.05).groupby(parcels.subject).sum().to_string())
groups_held_out = table[table.held_out != "all"].held_out.nunique()
edge = int(parcels.n_alpha_edge.sum())
print(
    f"penalties at an edge of the grid: {edge} of {len(parcels) * groups_held_out} (parcel, fold) pairs"
)

# %% [markdown]
# ## Trained against untrained
#
# The right question is not whether two bars overlap, but whether the difference is positive in each
# participant and held-out session. The units of this test are those pairs.

# %%
import pandas as pd

from cobe.encoding.stats import paired_comparison

units = session_scores(table, protocol.name)
wide = units.pivot_table(index=["subject", "held_out"], columns="cell", values="r")
rivals = [base.untrained().name, "pixel_pca", "vq", "lowlevel", "buttons"]
rows = []
for rival in rivals:
    test = paired_comparison(wide[base.name], wide[rival], seed=protocol.seed)
    wins = int((wide[base.name] > wide[rival]).sum())
    rows.append([rival, test.difference, test.ci_low, test.ci_high, test.p, f"{wins}/{len(wide)}"])
names = ["base minus", "difference of r", "ci_low", "ci_high", "p", "units above"]
print(pd.DataFrame(rows, columns=names).round(4).to_string(index=False))

# %%
from cobe.report.figures import fig_controls

fig_controls(study.profile, table, study.simulated)

# %% [markdown]
# *What to see:* whether training buys anything over the same network untrained, and how far plain
# pixels already get. *What it does not show:* unique variance. Two features can score alike and
# explain different things.
#
# ## The planted truth
#
# This section is for teaching and exists for simulated data only: the simulation wrote down what it
# planted. Nothing above has read it.

# %%
if study.simulated:
    truth = pd.read_parquet(stages.dataset_root(study) / "truth" / "parcels.parquet")
    truth = truth.assign(target=truth.parcel - 1)
    joined = parcels.merge(truth, on=["subject", "target"], validate="1:1")
    by_region = joined.groupby("region").agg(
        parcels=("target", "nunique"),
        r=("r", "mean"),
        ceiling=("ceiling", "mean"),
        found=("q", lambda q: float((q < 0.05).mean())),
    )
    print("base cell, by what was planted in the parcel")
    print(by_region.round(3))
    planted = joined[joined.ceiling > 0]
    print(
        "planted parcels whose r is above their ceiling:", int((planted.r > planted.ceiling).sum())
    )

# %% [markdown]
# *What to see:* next to nothing is found in `null` parcels, where nothing was planted (a false
# discovery rate of 5 % allows some), and no region exceeds its ceiling. *What it does not show:* that
# real brains are made like this one.
#
# **Next:** [05 · the figures of the paper](05_paper_figures.ipynb).
