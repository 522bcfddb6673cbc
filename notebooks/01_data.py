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
# **You will learn** to read an inventory in which every loss has a reason, and to say which video
# frame was on screen at which scanner volume.
#
# **Reads** a BIDS folder with its fMRIPrep derivative (the embedded default is written first).
# **Writes** the dataset, the frame store and one parcel series per run. **Time** about 6 minutes on
# two cores for `quick`. **Hardware** any; one emulator runs per core.
#
# **Run alone.** It needs no other notebook.
#
# **Words:** [run](../docs/glossary.md#run), [session](../docs/glossary.md#session),
# [level](../docs/glossary.md#level), [replay](../docs/glossary.md#replay),
# [BOLD](../docs/glossary.md#bold), [parcel](../docs/glossary.md#parcel),
# [volume](../docs/glossary.md#volume), [valid volume](../docs/glossary.md#valid-volume),
# [profile](../docs/glossary.md#profile).

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

# %% [markdown]
# The inventory joins what belongs together: the events file of a run, its key logs and its BOLD.

# %%
dataset = stages.inventory(study)
table = dataset.table()
columns = ["subject", "sessions", "runs", "volumes", "repetitions", "replays", "valid_trs"]

print("inventory (n_repetitions, n_columns):", table.shape)
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
from cobe.stimulus.frames import open_frames

frame_stores = stages.frames(study, dataset)
n_frames = sum(open_frames(item.path).shape[0] for item in frame_stores.values())
n_bytes = sum(item.path.stat().st_size for item in frame_stores.values())

print("replays played:", len(frame_stores))
print("frames at 60 Hz:", n_frames, "=", round(n_frames / 216000, 2), "h")
print("bytes per frame in the store:", round(n_bytes / n_frames))

# %% [markdown]
# A frame of 64 x 64 pixels in three colours has 12,288 bytes; a game that moves little packs well.
#
# **Figure.** One clip of the first replay: eight of its 16 frames, with their times.

# %%
from cobe.report.frames import frame_strip

key = sorted(frame_stores)[0]
clip = open_frames(frame_stores[key].path).clips([600])[0]
print("clip (n_frames, height, width, channels):", clip.shape)
frame_strip(clip, title=f"{key[0]} {key[1]} run {key[2]}, from second 10")

# %% [markdown]
# *What to see:* half of the frames of one clip. The clip itself is every fourth of 64 emulator
# frames, which makes 16; that is what the model is given.
#
# *What it does not show:* fine detail: the network sees 64 x 64 pixels, the player saw 320 x 224.
#
# ## Habits
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

# %% [markdown]
# A mean over the repetitions of a participant; buttons that nobody uses are left out.

# %%
habits = pd.DataFrame(pressed).groupby("subject").mean()
print("habits (n_subjects, n_buttons):", habits.shape)
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
series = stages.parcel_bold(study, dataset)
run = next(run for run in stages.usable_runs(dataset) if run.key in series)
bold = stages.load_bold(series[run.key])

print("runs with BOLD:", len(series))
print("BOLD of one run (n_trs, n_parcels):", bold.shape, bold.dtype)

# %% [markdown]
# **Figure.** BOLD of one parcel over one run; volumes inside a replay are shaded.

# %%
from cobe.brain.timeline import valid_trs
from cobe.report.small import parcel_series_figure

valid = valid_trs(run)
print("valid (n_trs,):", valid.shape, valid.dtype)
title = f"{run.name}, parcel 1"
parcel_series_figure(bold[:, 0], valid, run.tr_s, simulated=study.simulated, title=title)

# %% [markdown]
# *What to see:* a slow, noisy signal; the shaded volumes are those whose video we know. They come in
# stretches, one for each repetition.
#
# *What it does not show:* whether this parcel answers to the game. No eye can tell that from one run.
#
# ## One clock
#
# Second 0 is the start of the first volume; volume *k* covers the time from *k* TR to *k+1* TR; frame
# *i* of a repetition is at its onset plus *i*/60 s. A volume is valid if it lies wholly inside a
# repetition whose replay is there.
#
# **Figure.** All runs of one participant, a line each: the video of dark volumes is known, that of pale ones is not.

# %%
from cobe.report.small import usable_volumes_figure

several = [r for r in stages.usable_runs(dataset) if r.subject == run.subject]
of_runs = {f"{one.session} run {one.run}": valid_trs(one) for one in several}
usable_volumes_figure(of_runs, run.tr_s, simulated=study.simulated, title=run.subject)

# %% [markdown]
# *What to see:* each run is a few repetitions with gaps of six seconds between them (a text screen);
# whole repetitions are missing where a replay was lost; every run ends with volumes after the last
# play.
#
# *What it does not show:* which volumes the regression uses. It takes those that clips cover
# for at least half, and loses others because their delayed features would reach into a gap.
# Notebook 04 counts them.
#
# **Exercises:** [1 · data](exercises/ex1_data.ipynb).
#
# **Next:** [02 · the VQ-VAE](02_vqvae.ipynb).
