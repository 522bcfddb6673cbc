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
# # Exercises 1 · Clocks, keys and lost replays
#
# **Question.** Would you notice if the features of one second met the brain of another?
#
# **Reads** the dataset of notebook 01. **Writes** nothing. **Time** half a minute of computing, an hour
# of thinking. **Hardware** any.
#
# Replace each `...` by your answer and run the check below it as often as you like. A check never
# shows the answer; it says what to look at. Hints get stronger from one to the next.

# %% tags=["parameters"]
profile = "quick"
data = ""

# %%
import numpy as np

from cobe.course import checks
from cobe.sweep import pipeline as stages

study = stages.open_pipeline(profile, data)
dataset = stages.inventory(study)
subject = stages.usable_runs(dataset)[0].subject
runs = [run for run in stages.usable_runs(dataset) if run.subject == subject]
run = runs[1]
repetition = stages.replayed(run)[-1]

print("run:", run.name, "with", run.n_trs, "volumes of", run.tr_s, "s")
print("its last repetition with a replay: row", repetition.row, "level", repetition.level)
print("onset (s):", round(repetition.onset_s, 3), " duration (s):", round(repetition.duration_s, 3))

# %% [markdown] tags=["exercise"]
# ## Exercise 1.1 · Which volume sees this frame?
#
# Frame 1000 of this repetition (the first one is frame 0; there are 60 in a second) was on screen
# while the scanner took one of the volumes of the run. Second 0 is the start of the first volume, and
# volume *k* covers the time from *k* TR to *k+1* TR. Which volume was it, counted from 0? And how many
# seconds of that volume had passed?

# %%
frame = 1000
onset_s, tr_s = repetition.onset_s, run.tr_s

# %% [markdown] tags=["hint"]
# Two clocks are involved: frames count from the repetition's onset, volumes from the start of the run.
# Bring the frame onto the clock of the run first.

# %% [markdown] tags=["hint"]
# The frame is on screen at `onset_s + frame / 60`. The volume is the number of *whole* TRs in that
# time, the rest is what has passed of it; `divmod` gives both.

# %% tags=["answer"]
#: volume = ...  # int: number of the volume, from 0
#: into_s = ...  # float: seconds since the volume began
time_s = onset_s + frame / 60
volume = int(time_s // tr_s)
into_s = time_s - volume * tr_s

# %% tags=["check"]
starts_s = np.arange(run.n_trs) * run.tr_s
since_s = repetition.onset_s + frame / 60 - starts_s
here = np.flatnonzero(since_s >= 0)[-1]
no_onset = [(int(frame / 60 / run.tr_s), "frames count from the onset, volumes do not")]
after = [(here + 1, "that volume begins only after the frame: whole TRs, not rounded ones")]
checks.equal("1.1a", volume, here, "both clocks agree on the volume", remarks=no_onset + after)
late = [(run.tr_s - since_s[here], "that is what is left of the volume")]
checks.close("1.1b", into_s, since_s[here], "0 to 1.49 s, never more", atol=1e-3, remarks=late)

# %% [markdown] tags=["discussion"]
# One volume mixes about 89 frames, and more than one clip. This is why features are *averaged* over
# the volume, weighted by overlap (`cobe.encoding.align`), and not picked from the nearest frame.
# *What it does not show:* when the brain answers. The blood that this frame calls for arrives three
# to four volumes later; that is what delays are for.

# %% [markdown]
# The replay of that repetition is a zip file. One of its members is a text with one line per frame:

# %%
import zipfile

from cobe.stimulus.bk2 import BUTTONS, read_bk2

with zipfile.ZipFile(repetition.bk2) as archive:
    log = archive.read("Input Log.txt").decode().splitlines()
key_line, lines = log[1], log[2:-1]

print("members:", archive.namelist())
print("key line:", key_line)
print("two of", len(lines), "lines:", lines[0], lines[600])

# %% [markdown] tags=["exercise"]
# ## Exercise 1.2 · How long was the button held?
#
# Each button has its letter, a dot stands for "up". For how many seconds of this repetition was
# RIGHT (letter `R`) down? How long was its longest press? And by how much do the length of the
# replay and the duration in the events file differ (`lines` and `repetition.duration_s`)?

# %% [markdown] tags=["hint"]
# A line is one frame, so counts of lines become seconds when divided by 60. The letter `R` stands in
# a line exactly where RIGHT is down.

# %% [markdown] tags=["hint"]
# Presses are stretches of consecutive lines. `itertools.groupby("R" in line for line in lines)` walks
# over such stretches: each one is a key (down or not) and the lines in it.

# %% tags=["answer"]
#: held_s = ...  # float: seconds that RIGHT was down, in all
#: longest_s = ...  # float: seconds of its longest press
#: off_s = ...  # float: length of the replay minus duration in the events, in seconds
from itertools import groupby

down = ["R" in line for line in lines]
held_s = sum(down) / 60
longest_s = max(len(list(press)) for is_down, press in groupby(down) if is_down) / 60
off_s = len(lines) / 60 - repetition.duration_s

# %% tags=["check"]
pressed = read_bk2(repetition.bk2).buttons[:, BUTTONS.index("RIGHT")]
edges = np.flatnonzero(np.diff(np.concatenate([[False], pressed, [False]]).astype(int)))
presses = edges[1::2] - edges[::2]
in_frames = [(pressed.sum(), "those are frames, not seconds"), (len(presses), "those are presses")]
checks.close("1.2a", held_s, presses.sum() / 60, "columns are found by name", remarks=in_frames)
mean_press = [(presses.mean() / 60, "that is the mean press")]
mean_press += [(presses.max(), "those are frames, not seconds")]
checks.close("1.2b", longest_s, presses.max() / 60, "one press, one stretch", remarks=mean_press)
off_by = repetition.replay_s - repetition.duration_s
sign = [(-off_by, "the other way round: replay minus events")]
checks.close("1.2c", off_s, off_by, "the clocks agree", rtol=0, atol=2e-3, remarks=sign)

# %% [markdown] tags=["discussion"]
# The two clocks agree within a fraction of a second, because the events were timed by the computer that
# showed the game. This is the first check that each replay has to pass before it is used: a replay
# that differs by more than half a second from its event belongs to another play. *What it does not
# show:* that the replay is the right one. Plays may last equally long, which exercise 1.4 uses.

# %% [markdown]
# Not all volumes of a run show play that can be seen again. `valid` marks those that do:

# %%
from cobe.brain.timeline import valid_trs

valid = valid_trs(run)
delays_tr = (3, 4, 5, 6)

print("valid (n_trs,):", valid.shape, "True in", int(valid.sum()), "volumes")
print("".join("#" if here else "." for here in valid))

# %% [markdown] tags=["exercise"]
# ## Exercise 1.3 · What do delays cost?
#
# The regression predicts volume *t* from the features of volumes *t-3*, *t-4*, *t-5* and *t-6*, side
# by side. A row counts only if all four have features, that is, are `valid`. Features are never
# carried across a gap, nor filled with zeros.
#
# Take a stretch of *L* valid volumes in a row, followed by a long gap. How many rows fewer than *L*
# does it give? Then count the rows of the whole run above, with your own code.

# %% [markdown] tags=["hint"]
# Volume *t* itself need not be valid! Blood is late: the volumes after a stretch still answer to it.
# Draw a stretch of five volumes and mark each *t* for which *t-3* to *t-6* lie inside.

# %% [markdown] tags=["hint"]
# For every *t* from 6 to the end of the run, ask whether `valid[t - 6 : t - 2].all()`. Rows beyond the
# last volume do not exist, however valid their past.

# %% tags=["answer"]
#: fewer = ...  # int: rows that one stretch loses
#: n_rows = ...  # int: rows of the whole run
fewer = max(delays_tr) - min(delays_tr)
n_rows = sum(bool(valid[t - 6 : t - 2].all()) for t in range(6, run.n_trs))

# %% tags=["check"]
from cobe.encoding.delays import stack_delays

stretch = np.pad(np.ones(20), 30, constant_values=np.nan)[:, None]
lost_rows = 20 - int(np.isfinite(stack_delays(stretch, delays_tr)).all(axis=1).sum())
x = np.where(valid, 1.0, np.nan)[:, None]
kept = np.isfinite(stack_delays(x, delays_tr)).all(axis=1)
six = [(6, "only if the rows had to lie in the stretch themselves; they are later")]
four = [(4, "four delays span how many steps?")]
checks.equal("1.3a", fewer, lost_rows, "the span of the delays, not their size", remarks=six + four)
strict = [(int((kept & valid).sum()), "volume t itself need not be valid: the brain answers late")]
strict += [(int(valid.sum()), "that is before any delay")]
checks.equal("1.3b", n_rows, int(kept.sum()), "rows are counted, never filled", remarks=strict)

# %% [markdown] tags=["discussion"]
# Only the *span* of the delays costs rows, once per stretch; a common shift costs none but those that
# would fall after the end of the run. So many short stretches are dear and few long ones are cheap: one
# lost replay in the middle of a run costs more than its own length. The pipeline asks a little less of
# a volume than `valid` does: clips have to cover half of it. *What it does not show:* whether
# rows inside the gap are good ones. The text screen between plays moves the brain too, and a model
# that has no features of it cannot know.

# %% [markdown]
# ## Lost replays
#
# In the real dataset 157 of 807 repetitions have no replay, because a recording of the same name
# overwrote it. The default loses its replays by the same rule. Here is what all events files name,
# and what lies in the folders, both sorted by name.

# %%
import pandas as pd

tables = sorted(dataset.raw.glob("sub-*/ses-*/func/*_events.tsv"))
events = pd.concat([pd.read_csv(path, sep="\t") for path in tables], keys=range(len(tables)))
events = events.reset_index(names=["table", "row"])
files = sorted(dataset.raw.glob("sub-*/ses-*/gamelogs/*.bk2"))
length_s = [len(read_bk2(path).buttons) / 60 for path in files]

print("events (n_repetitions, n_columns):", events.shape, " replays:", len(files))
shown = ["table", "row", "duration", "level", "stim_file"]
print(events[shown].head(8).to_string(index=False, max_colwidth=20))

# %% [markdown] tags=["exercise"]
# ## Exercise 1.4 · Matched by rank instead of by name
#
# Someone pairs the *k*-th replay of `files` with the *k*-th row of `events`. It runs without an error.
# How many repetitions have no replay in truth? How many replays does this rule give to a repetition
# that is not theirs? And how many of those wrong pairs would a check of lengths let pass, because
# `length_s` and `duration` differ by no more than half a second?

# %% [markdown] tags=["hint"]
# `stim_file` is the truth: the name of the replay, behind its folder, or `Missing file` (or nothing).
# Whether a pair is right can be read off the names alone.

# %% [markdown] tags=["hint"]
# `zip(files, events.itertuples())` makes the pairs and stops with the shorter list. A pair is right if
# `str(event.stim_file).endswith(path.name)`. It is wrong otherwise, also where there is no right one.

# %% [markdown] tags=["hint"]
# Put `length_s` into the same `zip`, and count the wrong pairs with
# `abs(length - event.duration) <= 0.5`.

# %% tags=["answer"]
#: n_lost = ...  # int: repetitions without a replay
#: n_wrong = ...  # int: replays that are given to a repetition that is not theirs
#: n_unnoticed = ...  # int: wrong pairs whose lengths differ by no more than 0.5 s
n_lost = int((~events.stim_file.astype(str).str.endswith(".bk2")).sum())
by_rank = zip(files, length_s, events.itertuples())
wrong = [(s, e) for path, s, e in by_rank if not str(e.stim_file).endswith(path.name)]
n_wrong = len(wrong)
n_unnoticed = sum(abs(s - e.duration) <= 0.5 for s, e in wrong)

# %% tags=["check"]
plays = [play for one in dataset.runs for play in one.repetitions]
without = sum(play.bk2 is None for play in plays)
checks.equal("1.4a", n_lost, without, "the name in the events is the only proof")
false = [k for k, path in enumerate(files) if path != plays[k].bk2]
some = [(without, "those have none; the rule shifts all that follow")]
some += [(len(plays) - len(files) + len(false), "those at the end are given none at all")]
lesson = f"one gap shifts all that follow: {len(false)} of {len(files)}"
checks.equal("1.4b", n_wrong, len(false), lesson, remarks=some)
near = [k for k in false if abs(length_s[k] - plays[k].duration_s) <= 0.5]
stopped = [(len(false) - len(near), "those are the ones that it stops")]
checks.equal("1.4c", n_unnoticed, len(near), "lengths alone do not tell", remarks=stopped)

# %% [markdown] tags=["discussion"]
# One missing file shifts everything after it, and sorting by name is not sorting by time either:
# levels come before plays. Nothing crashes, scores just fall, and they fall most for those who
# lost most. Here names, lengths, contents and, with the ROM, the end of every replay are checked, and
# what fails is left out with its reason. *What it does not show:* which play overwrote which; that is
# lost for good.

# %% [markdown]
# ## Levels that are not of the brain
#
# The scanner's signal has no unit. Its level drifts and jumps between runs. These are parcel means of
# four runs of one participant, straight from the volumes, before any cleaning:

# %%
from nilearn.maskers import NiftiLabelsMasker

masker = NiftiLabelsMasker(stages.load_atlas(study), standardize=None)
raw = [masker.fit_transform(one.bold) for one in runs[:4]]

print("runs:", len(raw), " first one (n_trs, n_parcels):", raw[0].shape)
print("mean level of parcel 1, by run:", [round(float(series[:, 0].mean()), 1) for series in raw])

# %% [markdown] tags=["exercise"]
# ## Exercise 1.5 · A model that only knows the run
#
# Imagine a "model" that knows nothing but which run it is in, and predicts the mean of that run for
# each of its volumes. Put the four runs end to end and z-score each parcel **across** all of them.
# What correlation does this model reach in each parcel? And what if each run is z-scored **within**
# itself first?

# %% [markdown] tags=["hint"]
# The prediction of such a model is a staircase: one level per run. Build it with the shape of the
# data and correlate the two, parcel by parcel.

# %% [markdown] tags=["hint"]
# For z-scored data, the correlation with a staircase of the run means is the standard deviation of
# that staircase over all volumes. If every run has mean 0, the staircase is flat.

# %% tags=["answer"]
#: r_across = ...  # array (n_parcels,): correlation, z-scored across runs
#: level_within = ...  # float: largest absolute mean of any run and parcel, z-scored within runs
whole = np.concatenate(raw)
z = (whole - whole.mean(0)) / whole.std(0)
parts = np.split(z, np.cumsum([len(series) for series in raw])[:-1])
stairs = np.concatenate([np.repeat(part.mean(0)[None], len(part), 0) for part in parts])
r_across = stairs.std(0)
within = [(series - series.mean(0)) / series.std(0) for series in raw]
level_within = max(float(np.abs(series.mean(0)).max()) for series in within)

# %% tags=["check"]
long = pd.concat([pd.DataFrame(series) for series in raw], keys=range(len(raw)))
r_run = long.corrwith(long.groupby(level=0).transform("mean")).to_numpy()
squared = [(r_run**2, "that is the share of variance; the correlation is its root")]
lesson = f"knowing the run alone gives r = {r_run.mean():.2f} on average over parcels"
checks.close("1.5a", r_across, r_run, lesson, remarks=squared)
checks.between("1.5b", level_within, "no level is left to know", low=0, high=1e-3)

# %% [markdown] tags=["discussion"]
# A model without any idea of the game can score as an encoding model does, if levels are left in and
# volumes of one run stand on both sides of the split. Z-scoring within runs takes it away, and so does
# holding out whole runs: the level of an unseen run cannot be known. The price is paid by the brain: an
# effect that lasts for a whole run, such as tiredness, is removed too. *What it does not show:* slow
# drift *inside* a run, which is why confounds and cosines are regressed out as well.
#
# **Next:** [exercises 2 · video](ex2_video.ipynb).

# %%
checks.summary()
