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
# # 03 · Learning to expect: one GPT per cell
#
# **Question.** How well can the next second of the game be predicted, and what does that cost in
# data, width, depth, heads and bits?
#
# **You will learn** what one cell of the sweep is, how to read its loss curve, and against which
# simple predictor it has to stand.
#
# **Reads** the tokens. **Writes** one trained model per cell, and its untrained twin. **Time** about
# 6 minutes on two cores for `quick`. **Hardware** any; cells train side by side, one thread each.
#
# **Run alone.** The dataset is made by [notebook 01](01_data.ipynb). Without notebook 02, frames,
# VQ-VAE and tokens are made here; this takes some 5 minutes more.
#
# **Words:** [window](../docs/glossary.md#window), [context](../docs/glossary.md#context),
# [cell](../docs/glossary.md#cell), [axis](../docs/glossary.md#axis),
# [validation loss](../docs/glossary.md#validation-loss),
# [overfitting](../docs/glossary.md#overfitting), [seed](../docs/glossary.md#seed),
# [untrained twin](../docs/glossary.md#untrained-twin).

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

print("tokens (n_clips, time, height, width):", tokens.codes.shape)
print("codebook (n_codes, code_dim):", tokens.codebook.shape)

# %% [markdown]
# ## Windows
#
# A **window** is a context clip and the clip right after it in the same repetition. The model reads
# the context through cross-attention and predicts the tokens of the target one by one. Windows hop by
# one clip, and never join two repetitions.

# %%
for role in ("video_train", "video_val", "ridge"):
    print(f"{role:12s} windows:", len(tokens.windows_with_role(role)))

# %% [markdown]
# ## Which data a smaller data size keeps
#
# If 3,000 frames were the first 3,000 of the list, they would all come from one participant, and
# "more data" would also mean "more kinds of data". Here every subset takes chunks of 1,000 frames in
# turn from all participants and runs, and each larger subset contains the smaller ones.

# %%
from cobe.video.windows import subset

allowed = (tokens.clips.role == "video_train").to_numpy()
cells = models.sweep_cells(study.profile, axes)
sizes = sorted({cell.n_frames for cell in cells})
for n_frames in sizes:
    rows = subset(tokens.clips, n_frames, "stratified", allowed=allowed)
    per_subject = tokens.clips.iloc[rows].groupby("subject").size().to_dict()
    print(f"{n_frames:>9,} frames: {len(rows):>6} windows, {per_subject}")

# %% [markdown]
# ## The cells
#
# A **cell** is one trained model. Each axis of the paper varies one quantity and shares the base cell
# with the others. All cells take the same number of optimiser steps with the same batch, so a larger
# data size means *more different* windows, not more training.

# %%
both = models.paper_cells(study.profile, axes)
print(len(cells), "cells to train; base:", study.profile.base.name)
print(study.profile.train)

# %% [markdown]
# The paper did it otherwise: its smaller sets are the first part of a list that is ordered by
# participant, and every set was passed 100 times, so that updates grow with the data. Those cells are
# trained too (protocol `as_published`); only the data axis has any of its own.

# %%
published = [cell for cell in both if cell.trained and cell not in cells]
print("besides, as published:", *[cell.name for cell in published], sep="\n  ")
print(sum(not cell.trained for cell in both), "untrained models of the same shapes")

# %% [markdown]
# Training is resumable: what is finished is kept, and an interrupted cell goes on from its last
# checkpoint to the very same weights.

# %%
from cobe.sweep.tables import loss_table

trained = models.train_cells(study, video.tokens, both)
losses = loss_table(trained)
best = losses.loc[losses.groupby("cell").val_loss.idxmin()]

print("loss table (n_rows, n_columns):", losses.shape)
print("best validation loss, nats per token")
print(best[["cell", "step", "epoch", "val_loss"]].round(3).to_string(index=False))

# %% [markdown]
# The name of a cell says what it is: frames, hidden size, layers, attention heads, precision, how the
# subset is drawn, seed.
#
# **Figure.** Validation loss per step: a panel for each axis, a curve for each of its levels, all on
# one logarithmic scale.

# %%
from cobe.report.small import axis_losses_figure

shown = [axis for axis in study.profile.axes if axis.name in axes]
axis_losses_figure(study.profile, shown, losses, simulated=study.simulated)

# %% [markdown]
# *What to see:* in the default run, small data sets reach a minimum early and then overfit: the loss rises again; only
# the weights of the minimum are kept, as in the paper. Width lowers the
# curve there, depth a little.
#
# *What it does not show:* that a lower loss means better features; and one seed per cell says nothing
# about run-to-run noise.
#
# ## Is it better than saying "as before"?
#
# The base model is given windows that it never trained on. Its rival says, for each token, what stood
# at the same place one latent frame before. Both are given the truth up to the token that they guess.

# %%
from cobe.video.generate import copy_last_frame, teacher_forced, token_accuracy
from cobe.video.gpt import load_gpt

model = load_gpt(trained[study.profile.base].path, study.profile.base)
val_rows = tokens.windows_with_role("video_val")
ours = teacher_forced(model, tokens.codes, tokens.codebook, val_rows)
as_before = token_accuracy(copy_last_frame(tokens.codes, val_rows), tokens.codes[val_rows])

# %% [markdown]
# Guessing evenly among all codes would cost the logarithm of their number.

# %%
import numpy as np

print("next token right, base model  :", round(ours["accuracy"], 3))
print("next token right, 'as before' :", round(as_before, 3))
print("loss of the base model        :", round(ours["loss"], 3), "nats per token")
print("loss of guessing              :", round(float(np.log(tokens.codebook.shape[0])), 3))

# %% [markdown]
# Notebook 05 asks for more: there the model has to go on from its own guesses.
#
# ## Where the parameters are
#
# Total parameters are a poor measure at this size: in narrow cells embeddings, the context reader and the output head make up much of the total. They are counted apart.

# %%
from cobe.sweep.tables import parameter_table

sizes = parameter_table({cell: trained[cell] for cell in cells})
columns = ["cell", "blocks", "context", "embedding", "head", "total"]
print(sizes[columns].to_string(index=False))

# %% [markdown]
# The same count for the shapes of the paper (no such model is made here), beside the published ones.
# Ours has another context reader, a linear map instead of convolutions, and every block attends with
# its full width to the context; the published embedding of a position is a sum over three axes.

# %%
from cobe.report.tables import paper_size_table

paper_sizes = paper_size_table()
print(paper_sizes.drop(columns="precision").to_string(index=False))

# %% [markdown]
# **How to read it.** At the paper's base ours is a tenth larger, in its blocks; at small widths the
# published models are mostly context reader, which is why their size hardly falls. The published
# counts by part are known for the base only, so the others cannot be compared part by part.
#
# **Exercises:** [2 · video](exercises/ex2_video.ipynb).
#
# **Next:** [04 · encoding](04_encoding.ipynb): do these expectations predict a brain?
