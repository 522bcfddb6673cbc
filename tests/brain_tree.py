"""Builds a tiny tree in the exact names, paddings, columns and gaps of the shinobi dataset."""

import json
import zipfile
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pandas as pd

TR_S = 1.49
SPACE = "space-MNI152NLin2009cAsym"
SHAPE = (8, 9, 8)
AFFINE = np.array([[20.0, 0, 0, -70], [0, 20, 0, -105], [0, 0, 20, -60], [0, 0, 0, 1]])
GAME = "ShinobiIIIReturnOfTheNinjaMaster-Genesis"
MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]


@dataclass
class Play:
    """A row of events; `stim` None: the replay is written and named, else the cell as it is."""

    level: str = "1-0"
    duration_s: float = 20.0
    stim: str | None = None
    bk2_frames: int | None = None
    bk2: str = "file"  # "file", "link", "pointer", "absent", "broken"


@dataclass
class RunPlan:
    subject: str
    session: str
    run: int
    plays: tuple = ()
    n_trs: int | None = None
    events: str = "file"  # "file", "link", "absent"
    raw: bool = True
    derived: str = "file"  # "file", "link", "pointer", "absent"

    @property
    def volumes(self):
        if self.n_trs is not None:
            return self.n_trs
        return int(np.ceil((self.onsets[-1] + self.plays[-1].duration_s + 5.0) / TR_S))

    @property
    def onsets(self):
        onsets, time = [], 0.012
        for play in self.plays:
            onsets.append(time)
            time += play.duration_s + 6.05
        return onsets


def dangling(path):
    """A git-annex link whose content was not downloaded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(f"../../../.git/annex/objects/aa/bb/MD5E-s99--ff/{path.name}")


def pointer(path):
    """A git-annex pointer file, as in an unlocked branch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("/annex/objects/MD5E-s99--ff.nii.gz\n")


def write_bk2(path, n_frames, game=GAME):
    """A recording with n_frames input lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = f"MovieVersion Retro\nAuthor ?\nPlatform GEN\nGameName {game}\nrerecordCount 1\n"
    key = "LogKey:#Reset|Power|#" + "|".join(f"P1 {b}" for b in "B A MODE START UP DOWN".split())
    key += "|" + "|".join(f"P1 {b}" for b in "LEFT RIGHT C Y X Z".split()) + "|"
    lines = ["|..|.......R....|" if i % 3 else "|..|B...........|" for i in range(n_frames)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Header.txt", header)
        archive.writestr("Input Log.txt", "\n".join(["[Input]", key, *lines, "[/Input]", ""]))
        archive.writestr("Core.bin", b"state of " + path.name.encode())  # nobody plays one twice


def confounds_table(rng, n_trs):
    """Columns as fMRIPrep 20.2.3 writes them; the first row of derivatives is n/a."""
    table = {}
    for name in [*MOTION, "csf", "white_matter", "global_signal"]:
        value = np.cumsum(rng.normal(size=n_trs)) * 0.01
        difference = np.r_[np.nan, np.diff(value)]
        table |= {
            name: value,
            f"{name}_derivative1": difference,
            f"{name}_power2": value**2,
            f"{name}_derivative1_power2": difference**2,
        }
    table["framewise_displacement"] = np.r_[np.nan, np.abs(rng.normal(size=n_trs - 1))]
    time = (np.arange(n_trs) + 0.5) / n_trs
    for k in range(3):
        table[f"cosine{k:02d}"] = np.cos(np.pi * (k + 1) * time)
    table["a_comp_cor_00"] = rng.normal(size=n_trs)
    table["motion_outlier00"] = (np.arange(n_trs) == n_trs // 2).astype(float)
    return pd.DataFrame(table)


def _write_raw(raw, plan):
    folder = raw / plan.subject / plan.session / "func"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{plan.subject}_{plan.session}_task-shinobi_run-{plan.run:02d}"
    dangling(folder / f"{stem}_bold.nii.gz")
    dangling(folder / f"{stem}_sbref.nii.gz")
    dangling(folder / f"{stem}_desc-annotated_events.tsv")
    dangling(folder / f"{stem}_bold__dup-01.nii.gz")
    (folder / f"{stem}_bold__dup-01.json").write_text('{"dcmmeta_shape": [104, 104, 60, 3]}')
    shape = {"RepetitionTime": TR_S, "TaskName": "shinobi"}
    shape["dcmmeta_shape"] = [104, 104, 60, plan.volumes]
    (folder / f"{stem}_bold.json").write_text(json.dumps(shape))
    rows, count = [], {}
    for onset, play in zip(plan.onsets, plan.plays, strict=True):
        level = play.level.split("-")[0]
        count[level] = count.get(level, 0) + 1
        name = f"{plan.subject}/{plan.session}/gamelogs/{stem}_level-{level}_rep-{count[level]:02d}"
        stim = play.stim
        if stim is None:
            stim = f"{name}.bk2"
            _write_replay(raw / stim, play)
            (raw / f"{name}.json").write_text('{"duration": 1.0, "shurikens used": "5"}')
        row = ("gym-retro_game", onset, play.duration_s, play.duration_s, play.level, stim)
        rows.append(row)
    columns = "trial_type onset duration duration_bk2 level stim_file".split()
    path = folder / f"{stem}_events.tsv"
    if plan.events == "file":
        pd.DataFrame(rows, columns=columns).to_csv(path, sep="\t", index=False)
    elif plan.events == "link":
        dangling(path)


def _write_replay(path, play):
    if play.bk2 == "link":
        dangling(path)
    elif play.bk2 == "pointer":
        pointer(path)
    elif play.bk2 == "broken":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"PK\x03\x04 never closed")
    elif play.bk2 == "file":
        write_bk2(path, play.bk2_frames or round(play.duration_s * 60))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)


def _write_derived(fmriprep, plan, rng):
    folder = fmriprep / plan.subject / plan.session / "func"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{plan.subject}_{plan.session}_task-shinobi_run-{plan.run}"
    for name in ("space-T1w_desc-preproc_bold.nii.gz", "space-fsLR_den-91k_bold.dtseries.nii"):
        dangling(folder / f"{stem}_{name}")
    sidecar = {"DelayTime": 0.1175, "RepetitionTime": TR_S, "SkullStripped": False}
    (folder / f"{stem}_{SPACE}_desc-preproc_bold.json").write_text(json.dumps(sidecar))
    (folder / f"{stem}_desc-confounds_timeseries.json").write_text("{}")
    names = [f"{SPACE}_desc-preproc_bold.nii.gz", f"{SPACE}_desc-brain_mask.nii.gz"]
    names += ["desc-confounds_timeseries.tsv", f"{SPACE}_boldref.nii.gz"]
    if plan.derived in ("link", "pointer"):
        for name in names:
            {"link": dangling, "pointer": pointer}[plan.derived](folder / f"{stem}_{name}")
        return
    data = rng.normal(1000, 10, (*SHAPE, plan.volumes)).astype(np.float32)
    image = nib.Nifti1Image(data, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((20.0, 20.0, 20.0, TR_S))
    image.to_filename(folder / f"{stem}_{names[0]}")
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:-1, 1:-1, 1:-1] = 1
    nib.Nifti1Image(mask, AFFINE).to_filename(folder / f"{stem}_{names[1]}")
    confounds_table(rng, plan.volumes).to_csv(
        folder / f"{stem}_{names[2]}", sep="\t", index=False, na_rep="n/a"
    )
    dangling(folder / f"{stem}_{names[3]}")


LAYOUTS = {
    "side_by_side": ("shinobi", "shinobi.fmriprep"),
    "cneuromod_all": ("shinobi/bids", "shinobi/fmriprep"),
    "old": ("cneuromod/shinobi", "cneuromod.processed/fmriprep/shinobi"),
    "fmriprep_only": ("shinobi.fmriprep/sourcedata/shinobi", "shinobi.fmriprep"),
}


ANATOMY = {
    "side_by_side": "cneuromod.processed/smriprep",
    "cneuromod_all": "anat/smriprep",
    "old": "cneuromod.processed/smriprep",
    "fmriprep_only": "shinobi.fmriprep/sourcedata/smriprep",
}
TIMESERIES = {
    "side_by_side": "shinobi.timeseries",
    "cneuromod_all": "shinobi/timeseries",
    "old": "cneuromod.processed/timeseries",
    "fmriprep_only": "shinobi.timeseries",
}
ATLASES = {
    "cneuromod2026": "atlas-cneuromod26_desc-1134Parcels",
    "schaefer1000": "atlas-Schaefer2018_desc-1000Parcels7Networks",
    "voxel_mni": "desc-voxelwise",
}


def write_rest(root, subjects, layout="side_by_side"):
    """Anatomy, integrations and extracted series, all of them links but for what is plain."""
    anatomy, series = root / ANATOMY[layout], root / TIMESERIES[layout]
    stimuli = root / LAYOUTS[layout][0] / "stimuli"
    game = stimuli / GAME
    game.mkdir(parents=True)
    (game / "rom.sha").write_text("1e07d7998e3048fcfba4238ae96496460e91b3a5\n")
    (game / "data.json").write_text('{"info": {}}')
    dangling(game / "rom.md")
    for subject in subjects:
        for name in ("desc-brain_mask", "desc-preproc_T1w", "label-GM_probseg"):
            dangling(anatomy / subject / "anat" / f"{subject}_{SPACE}_{name}.nii.gz")
        for folder, name in ATLASES.items():
            stem = f"{subject}_task-shinobi_{SPACE}_{name}"
            dangling(series / folder / subject / f"{stem}_timeseries.h5")
            dangling(series / folder / subject / f"{stem}_dseg.nii.gz")
    return anatomy, stimuli, series


def as_repository(folder):
    """The root of a git repository, as far as a look at the folder can tell."""
    (folder / ".git").mkdir(parents=True, exist_ok=True)
    return folder


def write_tree(root, plans, layout="side_by_side", seed=0):
    """Write raw dataset and derivatives; returns their roots."""
    raw, fmriprep = (root / part for part in LAYOUTS[layout])
    raw.mkdir(parents=True, exist_ok=True)
    (raw / "dataset_description.json").write_text('{"Name": "TODO", "BIDSVersion": "1.4.1"}')
    (raw / "participants.tsv").write_text("participant_id\nsub-06\nsub-04\n")
    (raw / "task-shinobi_bold.json").write_text(json.dumps({"RepetitionTime": TR_S}))
    rng = np.random.default_rng(seed)
    for plan in plans:
        if plan.raw:
            _write_raw(raw, plan)
        if plan.derived != "absent":
            _write_derived(fmriprep, plan, rng)
    return raw, fmriprep


def atlas_image(n_side=2):
    """Labels 1..n_side**3, blocks of the grid inside the outermost voxels."""
    labels = np.zeros(SHAPE, np.int16)
    cuts = [np.array_split(np.arange(1, n - 1), n_side) for n in SHAPE]
    label = 0
    for x in cuts[0]:
        for y in cuts[1]:
            for z in cuts[2]:
                label += 1
                labels[np.ix_(x, y, z)] = label
    return nib.Nifti1Image(labels, AFFINE)
