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
# # 05 · The figures of the paper
#
# **Question.** What do data size, width, depth, heads and 16-bit precision buy, in validation loss and
# in predicted BOLD?
#
# **You will learn** to read a figure that sets three ways of scoring side by side, and to tell a
# maximum over parcels from a mean.
#
# **Reads** all models and the score table. **Writes** every figure and table of `figures/`, each with
# its caption, and a manifest. **Time** about a minute on two cores for `quick`. **Hardware** any.
#
# **Run alone.** The dataset is made by [notebook 01](01_data.ipynb). Without notebooks 02 to 04,
# models and scores are made here; this takes some 15 minutes more.
#
# **Words:** [protocol](../docs/glossary.md#protocol),
# [as_published](../docs/glossary.md#as_published), [corrected](../docs/glossary.md#corrected),
# [artifact](../docs/glossary.md#artifact), [manifest](../docs/glossary.md#manifest),
# [unique variance](../docs/glossary.md#unique-variance), [PSNR](../docs/glossary.md#psnr).
#
# Each figure puts three things side by side and keeps them apart: what was computed here; what the
# authors of arXiv 2410.19810 published, which is another statistic on other data; and chance.

# %% tags=["parameters"]
profile = "quick"
data = ""
axes = ["data_size", "hidden_dim", "n_layers", "n_heads", "precision"]
figures = [
    "fig1_data_size",
    "fig2_hidden_dim",
    "fig3_n_layers",
    "fig4_n_heads",
    "fig5_precision",
    "fig6_predicted_frames",
    "fig_controls",
]

# %%
from cobe.report.asked import check_asked
from cobe.sweep import models
from cobe.sweep import pipeline as stages
from cobe.sweep.tables import loss_table

study = stages.open_pipeline(profile, data)
check_asked(study.profile, axes=axes, figures=figures)
video = models.video_stages(study)
trained = models.train_cells(study, video.tokens, models.paper_cells(study.profile, axes))
losses = loss_table(trained)
print("loss table (n_rows, n_columns):", losses.shape)

# %% [markdown]
# The score table of notebook 04: every model and every control, under each protocol.

# %%
from cobe.sweep.features import control_features
from cobe.sweep.scores import paper_scores

series = stages.parcel_bold(study, video.dataset)
controls = control_features(study, video)
table = paper_scores(study, video.tokens, series, trained, controls, axes)
print("score table (n_rows, n_columns):", table.shape)

# %% [markdown]
# The two tables are kept beside the executed notebooks, with every digit, if all axes were asked for.

# %%
from cobe.core.paths import build_dir, figures_dir
from cobe.report.save import write_results

complete = len(axes) == len(study.profile.axes)
if complete:
    write_results(losses, build_dir(profile) / "losses.parquet")
    write_results(table, build_dir(profile) / "scores.parquet")
folder = figures_dir(profile)

# %% [markdown]
# ## Figures 1 to 5: one axis each
#
# In each figure: **a** validation loss per step of our cells; **b** the published loss per epoch. Then
# the three ways: **c** the published bars, which are the *maximum* over 1,095 parcels; **d** our run
# under `as_published`, the same statistic over our parcels; **e** our run under `corrected`: mean r on
# held-out sessions with interval and chance, and the untrained model of the same shape as an open
# diamond. **f** is the cortex under `corrected`, one colour scale, grey where nothing survives.
# Published and computed values never share an axis. All five are drawn and saved first:

# %%
from cobe.report.captions import caption
from cobe.report.figures import axis_figure, get_axis
from cobe.report.manifest import FIGURE_AXES
from cobe.report.save import save_figure

made_by = "notebooks/05_paper_figures.ipynb"
atlas = stages.load_atlas(study)
saved = []
for name in [name for name in figures if name in FIGURE_AXES]:
    axis = get_axis(study.profile, FIGURE_AXES[name])
    figure = axis_figure(study.profile, axis, losses, table, atlas, study.simulated)
    words = caption(name, study.profile, table, losses, simulated=study.simulated)
    saved.append(save_figure(figure, name, folder, words, made_by))
    print(f"{name}: {', '.join(saved[-1].files)}")

# %% [markdown]
# Then they are looked at, one after the other.
#
# ### Data size
#
# **Figure 1.** Loss, brain score and cortex for training sets of growing size.

# %%
from IPython.display import Image, display

from cobe.report.save import preview


def show(name):
    """Show a saved figure in small, if it was asked for."""
    if name in figures:
        display(Image(preview(folder / f"{name}.png")))


show("fig1_data_size")

# %% [markdown]
# *What to see:* more video lowers the loss and stops overfitting. The brain score moves far less than
# the loss does, and the untrained diamond is never far away. Under `as_published` (dashed) the smaller
# sets are the first of a list and get fewer updates, so their curves end early.
#
# *What it does not show:* which of these two makes the difference; [notebook 07](07_audit.ipynb) takes
# them apart.
#
# ### Width
#
# **Figure 2.** The same for hidden sizes from narrow to wide.

# %%
show("fig2_hidden_dim")

# %% [markdown]
# *What to see:* the loss falls with the width.
#
# *What it does not show:* learning alone. Under `as_published` a wider model also hands more features
# to the ridge; under `corrected` all hand on equally many, and each bar is read against the untrained
# model of the **same** width.
#
# ### Depth
#
# **Figure 3.** The same for models of few and of more layers.

# %%
show("fig3_n_layers")

# %% [markdown]
# *What to see:* the published figure reads the last block here and another one in its other figures;
# `as_published` (d) does so too, `corrected` (e) chooses the block inside the training sessions.
#
# *What it does not show:* each block on its own, which is in [notebook 07](07_audit.ipynb).
#
# ### Heads and precision
#
# **Figures 4 and 5.** The same for the number of attention heads, and for training in 16 and 32 bit.

# %%
show("fig4_n_heads")
show("fig5_precision")

# %% [markdown]
# *What to see:* small differences.
#
# *What it does not show:* whether they are larger than the noise from one training run to the next:
# there is one seed per level here, and more in [notebook 07](07_audit.ipynb).
#
# ## Trained, untrained, and controls
#
# **Figure.** Mean r of the base model, of its untrained twin and of each control, per participant.

# %%
from cobe.report.figures import fig_controls

if "fig_controls" in figures:
    figure = fig_controls(study.profile, table, study.simulated)
    words = caption("fig_controls", study.profile, table, losses, simulated=study.simulated)
    saved.append(save_figure(figure, "fig_controls", folder, words, made_by))
show("fig_controls")

# %% [markdown]
# *What to see:* which simple features a learned model has to beat, and the sentence that says whether it
# does.
#
# *What it does not show:* unique variance; features that tie may explain different parts.
#
# ## Figure 6: what the model expects to see
#
# From a validation clip that it never trained on, the base model predicts the tokens of the next clip
# one at a time, each the likeliest given those before; the VQ-VAE turns them into frames. The clips
# are spread evenly over the validation windows, not chosen by how well they look.

# %%
import numpy as np

from cobe.sweep.cells import clip_pixels, load_tokens
from cobe.video.generate import predict_next
from cobe.video.gpt import load_gpt
from cobe.video.vqvae import VQVAE

fig6 = "fig6_predicted_frames"
if fig6 in figures:
    tokens, decoder = load_tokens(video.tokens), VQVAE.load(video.vqvae.path)
    model = load_gpt(trained[study.profile.base].path, study.profile.base)
    val_rows = tokens.windows_with_role("video_val")
    rows = val_rows[np.linspace(0, len(val_rows) - 1, 6).astype(int)[1:-1]]
    codes = predict_next(model, tokens.codes, tokens.codebook, rows, top_k=1)
    predicted = decoder.decode(codes)
    print("predicted (n_clips, n_frames, height, width, channels):", predicted.shape)

# %% [markdown]
# Beside it stand the clip that the model was given and the one that really came next.
#
# **Figure 6.** Four examples: given clip, true next clip, predicted clip, and a clip that stands still.

# %%
from cobe.report.frames import fig6_predicted_frames

if fig6 in figures:
    context, true_next = (clip_pixels(tokens, video.frames, r) for r in (rows - 1, rows))
    figure = fig6_predicted_frames(context, true_next, predicted, simulated=study.simulated)
    note = "Four clips spread evenly over the validation windows; likeliest token at each step."
    words = caption(fig6, study.profile, simulated=study.simulated, note=note)
    saved.append(save_figure(figure, fig6, folder, words, made_by))
show(fig6)

# %% [markdown]
# *What to see:* what stays goes on, what is about to appear cannot be known. PSNR is of the whole,
# nearly black frame, so standing still is hard to beat.
#
# *What it does not show:* an average over clips, which comes next.
#
# The same clips in motion are saved as `film6_predicted_frames.gif`.

# %%
from cobe.report.frames import prediction_film
from cobe.report.save import save_gif

if fig6 in figures:
    film = prediction_film(context, true_next, predicted)
    film6 = "film6_predicted_frames"
    words = caption(film6, study.profile, simulated=study.simulated, note=note)
    saved.append(save_gif(film, film6, folder, words, made_by))
    print("film (n_frames, height, width, channels):", film.shape)

# %% [markdown]
# Now the average, over every fourth validation window, beside predictions that cost nothing.

# %%
from cobe.video.generate import psnr_db, score_predictions

if fig6 in figures:
    rows = val_rows[::4]
    clips = clip_pixels(tokens, video.frames, rows)
    scored, _ = score_predictions(model, decoder, tokens.codes, rows, clips, top_k=1)
    means = scored.groupby("prediction", sort=False)[["token_accuracy", "mse"]].mean()
    print("clips (n_clips, n_frames, height, width, channels):", clips.shape)
    print(means.assign(psnr_db=psnr_db(means.mse)).round(4))

# %% [markdown]
# **How to read it.** `true tokens` decodes the target's own tokens: no prediction can do better with this
# VQ-VAE. A model that samples one future is punished for the futures it did not choose, and the mean
# frame never is; this is why a likelihood, and not a pixel error, was trained on.
#
# ## Tables
#
# Sizes part by part, what was set, and how long each stage took.

# %%
from cobe.report.tables import hyperparameter_table, model_size_table, timing_table
from cobe.sweep.tables import size_table, stage_timings

contents = {
    "table_model_size": model_size_table(size_table(trained, video.vqvae)),
    "table_hyperparameters": hyperparameter_table(study.profile),
    "table_timing": timing_table(stage_timings(video, series, trained)),
}
print(contents["table_model_size"].to_string(index=False))

# %% [markdown]
# Everything that was saved goes into the manifest, which holds a checksum of each file.

# %%
from cobe.report.manifest import build_manifest
from cobe.report.save import save_table
from cobe.report.tables import TABLE_CAPTIONS

for name, rows in contents.items() if complete else ():
    saved.append(save_table(rows, name, folder, TABLE_CAPTIONS[name], made_by))
build_manifest(folder, saved, keep=True)
print("files in the manifest:", sum(len(item.files) for item in saved), "and a caption for each")

# %% [markdown]
# Your own features can be scored in the same way: `cobe.encoding.evaluate(runs_x, runs_y, ...)`.
#
# **Next:** [06 · what to spend](06_compute_optimal.ipynb) (a step of its own), or
# [07 · the audit](07_audit.ipynb).
