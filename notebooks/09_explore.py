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
# # 09 · Explore: look at single clips, parcels and volumes
#
# **Question.** What is behind the means of the other notebooks: which clip, which token, which block,
# which parcel, which second?
#
# **You will learn** to go from a mean back to what it is a mean of, and to doubt a single example.
#
# **Reads** saved models, scores and parcel series; trains nothing. **Writes** `table_parcels`, from
# which the brains of the site are drawn. **Time** about a minute on two cores for `quick`, the first
# time. **Hardware** any.
#
# **Run alone.** It is the last of the default: notebooks 01 to 05, or `./run_all.sh`, make what it shows.
#
# **Words:** [clip](../docs/glossary.md#clip), [token](../docs/glossary.md#token),
# [codebook](../docs/glossary.md#codebook), [block](../docs/glossary.md#block),
# [parcel](../docs/glossary.md#parcel), [delay](../docs/glossary.md#delay),
# [held-out](../docs/glossary.md#held-out), [ceiling](../docs/glossary.md#ceiling).
#
# In JupyterLab, VS Code or Colab every figure below is a **widget**: drag a slider, or click it and use
# the arrow keys. The triangle runs a film at half the speed of the game. Without a kernel, a still view
# of the same data stands in its place.

# %% tags=["parameters"]
profile = "quick"
data = ""

# %% [markdown]
# ## What has to be there
#
# If a model or a score is missing, the next cell names the notebook and the command that make it.

# %%
from cobe.core.origin import saved_only
from cobe.sweep import models
from cobe.sweep import pipeline as stages
from cobe.sweep.features import control_features
from cobe.sweep.scores import paper_scores

study = stages.open_pipeline(profile, data)
base, axes = study.profile.base, [axis.name for axis in study.profile.axes]
with saved_only():
    video = models.video_stages(study)
    trained = models.train_cells(study, video.tokens, models.paper_cells(study.profile, axes))
    series = stages.parcel_bold(study, video.dataset)
    controls = control_features(study, video)
    table = paper_scores(study, video.tokens, series, trained, controls, axes)

print("models:", len(trained), "- base:", base.name)
print("score table (n_rows, n_columns):", table.shape)

# %% [markdown]
# ## Clips, and what is left of them
#
# The GPT never sees a pixel. All it knows of a second of play are the few tokens of the VQ-VAE, so what
# these lose, no model can predict. The clips are from validation repetitions, on which no model was
# trained, and are spread evenly over them, not chosen by how well they look. Move `frame` and watch
# the small moving things: do they come back?

# %%
from cobe.explore.clips import clip_browser
from cobe.sweep.next_clips import next_clips

clips = next_clips(study, video, trained, base)
print("clips (n_clips, n_frames, height, width, 3):", clips.true_next.shape)
clip_browser(clips.true_next, clips.rebuilt_next, clips.labels, study.simulated)

# %% [markdown]
# *What to see:* scenery and large objects come back; small, fast ones are blurred, displaced or gone.
# The error map lights up where things move. *What it does not show:* whether the lost detail matters to
# the brain; [notebook 07](07_audit.ipynb) compares with pixels, which lose less.
#
# ## The token map
#
# A clip is a small block of tokens, each an entry of one codebook. Move `token` to mark one, and see
# how often its code is used. Black on white is a token that changed since the latent frame before.

# %%
from cobe.explore.clips import token_map

changed = clips.next_codes[:, 1:] != clips.next_codes[:, :-1]
print("tokens (n_clips, n_times, n_rows, n_columns):", clips.next_codes.shape)
print(f"tokens that differ from the latent frame before: {changed.mean():.0%}")
token_map(
    clips.next_codes,
    clips.true_next,
    clips.rebuilt_next,
    clips.labels,
    clips.n_codes,
    study.simulated,
)

# %% [markdown]
# *What to see:* most tokens change from one latent frame to the next, also where the screen is black and
# nothing moves: several codes stand for the same picture, and a model is asked to tell them apart. In the default, most codes of a dozen clips occur once or twice. The still view shows the clip whose tokens change most.
# *What it does not show:* what a code "means": the decoder reads all tokens of a clip together.
#
# ## What comes next?
#
# The base model reads a clip and draws the tokens of the next one, one after the other. `greedy` takes
# the likeliest each time; at temperature 1 tokens are drawn with the probabilities of the model, and
# at 0.7 the likelier ones are favoured. Samples differ by their seed only: each is a future that the
# model holds for possible. Choose one under `tokens drawn`, press play, and compare with what came.

# %%
from cobe.explore.sampler import next_clip_sampler

for name, samples in clips.samples.items():
    print(f"{name:16s} (n_windows, n_samples, n_frames, height, width, 3): {samples.shape}")
came = clips.true_next, clips.rebuilt_next
next_clip_sampler(clips.context, *came, clips.samples, clips.labels, study.simulated)

# %% [markdown]
# *What to see:* what stands still goes on in nearly every sample; what moves, or is about to appear,
# differs between them. `rebuilt` is the most that tokens allow; the still view shows the window that
# moves most. *What it does not show:* how good the model is. A sample that looks right can be wrong
# where it matters, and a black screen has a high PSNR; the likelihood of
# [notebook 03](03_gpt_training.ipynb) judges all futures at once.
#
# ## Which block, which parcel
#
# The scores of the other notebooks read the block that the training sessions preferred, one for all
# parcels. Here every block of the models of the depth axis predicts every parcel on its own. Choose
# `model` and `participant`, and under `shown` the trained model, the untrained one, or the difference.

# %%
from cobe.explore.parcels import block_parcel_explorer
from cobe.sweep.blocks import parcel_layers

cells = models.sweep_cells(study.profile, ["n_layers"])
cells += models.untrained_controls(cells)
layers = parcel_layers(study, video.tokens, series, {cell: trained[cell] for cell in cells})
print("table (n_rows, n_columns):", layers.shape, *layers.columns)
block_parcel_explorer(layers, study.simulated)

# %% [markdown]
# *What to see:* parcels differ far more than blocks do; a parcel that one block predicts, nearly all
# blocks predict. *What it does not show:* that a parcel "belongs" to its best block. It was picked by
# looking at the held-out sessions, has no chance level, and would flatter any model; this is why the
# scores choose the block inside the training sessions.
#
# ## How late is the brain?
#
# Blood answers seconds after the neurons do. Here the features of a single earlier volume predict BOLD,
# for one delay after the other, on the same held-out sessions and, for all delays, on the same volumes:
# those with features at every delay. Move `delay (TR)` from 0 upwards and watch the parcels rise and
# fall; `parcel` marks one of them.

# %%
from cobe.core.timing import TR_S
from cobe.explore.delays import delay_scrubber
from cobe.sweep.single_delays import delay_table

delays = delay_table(study, video.tokens, series, trained, base)
print("table (n_rows, n_columns):", delays.shape, *delays.columns)
mean_r = delays.groupby("delay_tr").r.mean()
print("best delay on average:", mean_r.idxmax(), f"TR, {mean_r.idxmax() * TR_S:.1f} s")
delay_scrubber(delays, TR_S, study.simulated)

# %% [markdown]
# *What to see:* a hill a few volumes after the frame, as a haemodynamic response has, and parcels that
# peak earlier or later. *What it does not show:* the response itself. Features of neighbouring volumes
# resemble each other, which widens the hill, and a parcel that foresees peaks early without faster
# blood. The other notebooks use five delays at once, and their mean r is higher than any here.
#
# ## More data, more width
#
# One axis of the paper at a time, level by level: the loss of the video model, mean r under both
# protocols, and the parcels of one participant. Choose `axis`, then move `level` upwards and watch
# which of the three answers.

# %%
from cobe.explore.axes import axis_explorer
from cobe.sweep.tables import loss_table

losses = loss_table(trained)
print("loss table (n_rows, n_columns):", losses.shape)
axis_explorer(study.profile, table, losses, study.simulated)

# %% [markdown]
# *What to see:* with more data or width the loss falls, and mean r under `corrected` moves little beside it;
# under `as_published` it seems to move more, with wider intervals. *What it does not show:* the noise
# between seeds, which is in [notebook 07](07_audit.ipynb), nor two axes varied at once, which is
# [notebook 06](06_compute_optimal.ipynb).
#
# ## The base model in every parcel
#
# One row per participant, parcel and model, trained or untrained, from the score table. The site draws
# its brains from this table, without any data or model. The ceiling of a parcel is what the simulation
# wrote down; no score has read it, and for real data it is empty.

# %%
import pandas as pd

from cobe.core.paths import figures_dir
from cobe.report.manifest import build_manifest
from cobe.report.save import save_table
from cobe.sweep.parcel_table import CAPTION, parcel_table

truth, folder = None, figures_dir(profile)
if study.simulated:
    truth = pd.read_parquet(stages.dataset_root(study) / "truth" / "parcels.parquet")
parcels = parcel_table(table, study.profile, truth)
made_by = "notebooks/09_explore.ipynb"
build_manifest(folder, [save_table(parcels, "table_parcels", folder, CAPTION, made_by)], keep=True)
print("table (n_rows, n_columns):", parcels.shape)
print(parcels.groupby(["features", "subject"])[["r", "ceiling"]].mean().round(3))

# %% [markdown]
# ## BOLD against prediction, with the frames on screen
#
# A score is one number for hundreds of volumes. Here is one parcel through one run: what was measured,
# and what models predicted that were fitted without this session. These predictions have exactly the
# r of the score table. Where features are missing, after an onset or in a gap, there is no prediction,
# and the line is broken. Choose a `run` (the first held-out one of each participant), a `parcel, by
# rank`, best first, and a `volume`. BOLD is late, so two frames are shown: the one at the volume, and
# the one that the blood answers to.

# %%
from cobe.explore.moments import moment_browser
from cobe.sweep.moments import predictions, run_moments

predicted = predictions(study, video.tokens, series, trained, base)
of_base = parcels[parcels.features == "gpt"]
first = {key[0]: key for key in reversed(predicted)}.values()
runs = [
    run_moments(video, key, predicted[key], stages.load_bold(series[key]), of_base)
    for key in sorted(first)
]
for run in runs:
    print(f"{run.label}: BOLD (n_trs, n_parcels) {run.bold.shape}, frames {run.frames_at.shape}")
moment_browser(runs, study.simulated)

# %% [markdown]
# *What to see:* the prediction follows the slow rises and falls with a smaller swing, as a ridge that
# is unsure of itself does. Look what was on screen some seconds before a peak. *What it does not show:* a
# typical parcel. The still view shows the best one, which is chosen by its score; ranks in the middle of
# the slider are what most parcels look like. A frame beside a peak is an example, not a cause.
#
# ## Where in the brain
#
# Parcels of the first participant that are predicted better than chance, base model, false discovery
# rate 5 %. In a live notebook the cortex turns: drag it, or choose a view; otherwise there are four.

# %%
from cobe.explore.brain import brain_browser

brain_browser(parcels, stages.load_atlas(study), study.simulated)

# %% [markdown]
# *What to see:* where prediction succeeds, on one scale from 0; grey parcels are not above chance.
# *What it does not show:* parcels below the cortex, which are in `table_parcels`, and depth: a parcel is
# painted where it comes near the surface. The simulation put the regions there: such a map says nothing
# about real anatomy.
#
# **Next:** [exercises](exercises/README.md) on all of this, or back to the [tour](00_tour.ipynb).
