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
# # 01 · From a folder of files to runs that can be analysed
#
# **Question.** What is on the disk, what of it can be used, and how do key logs, events and BOLD
# come onto one clock?
#
# **Reads** a BIDS folder with its fMRIPrep derivative (the embedded default is written first).
# **Writes** the frame store and one parcel series per run. **Time** about 5 minutes on two cores for
# `quick`. **Hardware** any; one emulator runs per core.

# %% tags=["parameters"]
profile = "quick"
data = ""

# %% [markdown]
# ## The dataset
#
# With the embedded default, simulated participants play *Airstriker* with different skill and
# habits, and a planted brain answers. What is written has the names, the columns, the paddings and
# the gaps of the real CNeuroMod `shinobi` dataset, so that everything after this cell cannot tell
# the difference. With `profile = "paper"` nothing is written: your own folder is read.

# %%
from cobe.core.artifacts import Store
from cobe.simulate import write_dataset
from cobe.sweep import pipeline as stages

study = stages.open_pipeline(profile, data)
if study.simulated:
    Store(study.data).make(
        **stages.embedded_dataset(study),
        write=lambda path: write_dataset(path, study.profile.plan, stages.load_atlas(study)),
    )
dataset = stages.inventory(study)
table = dataset.table()

print("repetitions (rows of all events files):", len(table))
columns = ["subject", "sessions", "runs", "volumes", "repetitions", "replays", "valid_trs"]
print(dataset.totals()[columns].to_string(index=False))

# %% [markdown]
# There are fewer `replays` (key logs) than `repetitions` (plays): in the real dataset 157 of 807
# repetitions have none, because a recording of the same name overwrote them. The simulation loses its
# replays by the same rule. Nothing is dropped in silence; each one says why it is not used:

# %%
lost = table[~table.replay]
print("repetitions without a replay:", len(lost), "of", len(table))
print(lost.why.value_counts().to_string())

# %% [markdown]
# Without the key log we do not know what was on screen, so those volumes cannot be predicted. They
# stay in the series, marked as invalid.
#
# ## Frames
#
# Each key log is played back in an emulator of its own, several at a time, into a compressed store.

# %%
import numpy as np

from cobe.report.frames import frame_strip
from cobe.stimulus.frames import open_frames

frame_stores = stages.frames(study, dataset)
lengths = {key: open_frames(item.path).shape[0] for key, item in frame_stores.items()}
n_bytes = sum(item.path.stat().st_size for item in frame_stores.values())

print("replays played:", len(lengths))
print("frames at 60 Hz:", sum(lengths.values()), "=", round(sum(lengths.values()) / 216000, 2), "h")
print("bytes per frame in the store:", round(n_bytes / sum(lengths.values())))
key = sorted(lengths)[0]
clip = open_frames(frame_stores[key].path).clips([600])[0]
frame_strip(clip, title=f"{key[0]} {key[1]} run {key[2]}, from second 10")

# %% [markdown]
# *What to see:* every fourth frame of 64; a clip of the model is these 16 frames. *What it does not
# show:* colour detail or full resolution: the network sees 64 x 64 pixels, the player saw 320 x 224.
#
# The participants do not play alike, and a model trained on one of them has not seen the play of
# the others. Buttons tell them apart:

# %%
import pandas as pd

from cobe.stimulus.bk2 import BUTTONS, read_bk2

pressed = []
for run in stages.usable_runs(dataset):
    for repetition in stages.replayed(run):
        share = read_bk2(repetition.bk2).buttons.mean(axis=0)
        pressed.append({"subject": run.subject, **dict(zip(BUTTONS, share))})
habits = pd.DataFrame(pressed).groupby("subject").mean()
print("share of frames with the button down")
print(habits.loc[:, habits.max() > 0.005].round(2))

# %% [markdown]
# ## BOLD
#
# fMRIPrep's volumes are cleaned with nilearn: motion, slow drift, and the signal of white matter and
# cerebrospinal fluid are regressed out; the mean of each parcel is kept and z-scored within its run.
# The global signal stays in. Removing it would push the response of active parcels, upside down,
# into parcels that did not respond at all.

# %%
from cobe.brain.timeline import valid_trs
from cobe.report.small import parcel_series_figure

series = stages.parcel_bold(study, dataset)
run = next(run for run in stages.usable_runs(dataset) if run.key in series)
bold = stages.load_bold(series[run.key])

print("runs with BOLD:", len(series))
print("BOLD of one run (n_trs, n_parcels):", bold.shape, bold.dtype)
valid = valid_trs(run)
parcel_series_figure(
    bold[:, 0], valid, run.tr_s, simulated=study.simulated, title=f"{run.name}, parcel 1"
)

# %% [markdown]
# ## One clock
#
# Second 0 is the start of the first volume; volume *k* covers the time from *k* TR to *k+1* TR; frame
# *i* of a repetition is at its onset plus *i*/60 s. A volume is valid if it lies wholly inside a
# repetition whose replay is there.

# %%
import matplotlib.pyplot as plt

several = [r for r in stages.usable_runs(dataset) if r.subject == run.subject]
fig, ax = plt.subplots(figsize=(7, 0.35 * len(several) + 0.8))
for height, one in enumerate(several):
    valid = valid_trs(one)
    seconds = np.arange(len(valid)) * one.tr_s
    colours = np.where(valid, "#0072B2", "#D9D9D9")
    ax.scatter(seconds, np.full(len(valid), height), c=colours, s=9, marker="s")
labels = [f"{one.session} run {one.run}" for one in several]
ax.set(yticks=range(len(several)), yticklabels=labels, xlabel="time from the first volume (s)")
ax.set_title(f"{run.subject}: volumes that can be used (blue)", loc="left")
ax.invert_yaxis()

# %% [markdown]
# *What to see:* each run is a few repetitions with gaps of six seconds between them (a text screen);
# whole repetitions are missing where a replay was lost; every run ends with volumes after the last
# play. *What it does not show:* which volumes the regression uses. It takes those that clips cover
# for at least half, and loses others because their delayed features would reach into a gap.
# Notebook 04 counts them.
#
# **Next:** [02 · the VQ-VAE](02_vqvae.ipynb).
