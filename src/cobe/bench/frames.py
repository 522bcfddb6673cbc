"""Speed of playback into the frame store, and of random clips out of it.

Rates come in pairs: by the clock, and by the CPU time used, which a busy machine disturbs less.
Every measurement is repeated in turns with its peers and the fastest turn counts.
"""

import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import stable_retro as retro

from cobe.core.parallel import map_processes
from cobe.core.seeds import rng_for
from cobe.core.timing import CLIP_FRAMES, CLIP_SPAN_FRAMES, FRAME_STRIDE
from cobe.stimulus.bk2 import BUTTONS, read_bk2
from cobe.stimulus.frames import open_frames
from cobe.stimulus.playback import decode

GAME = "Airstriker-Genesis-v0"


def record_movie(folder, n_frames: int, seed: int) -> Path:
    """Record a play of random directions that last a fifth of a second, and autofire.

    Parameters
    ----------
    folder : str or Path
        Where to put the `.bk2`; it must be empty of other recordings of the game.
    n_frames : int
        Frames to play.
    seed : int
        Seed of the play.

    Returns
    -------
    path : Path
        The recording; it has one line more than `n_frames`, written by the recorder's reset.
    """
    rng = rng_for(seed, "bench", "play")
    changes = rng.random(n_frames) < 1 / 12
    directions = rng.integers(BUTTONS.index("UP"), BUTTONS.index("RIGHT") + 1, n_frames)
    env = retro.make(
        GAME,
        use_restricted_actions=retro.Actions.ALL,
        render_mode="rgb_array",
        record=str(folder),
    )
    try:
        env.reset()
        keys = np.zeros(len(BUTTONS), np.uint8)
        for i in range(n_frames):
            if changes[i]:
                keys[:] = 0
                keys[directions[i]] = 1
            keys[BUTTONS.index("B")] = i % 8 < 4
            env.step(keys)
        env.stop_record()
    finally:
        env.close()
    return next(Path(folder).glob(f"{GAME}-*.bk2"))


def _emulator_loop(path, size: int | None) -> None:
    """The peers: the emulator alone (`size` None), or the gym API and a resize to `size`."""
    movie = read_bk2(path)
    env = retro.make(
        movie.game,
        state=retro.State.NONE,
        use_restricted_actions=retro.Actions.ALL,
        render_mode="rgb_array",
    )
    env.initial_state = movie.state
    env.reset()
    for mask in movie.buttons.astype(np.uint8, order="C"):
        if size is None:
            env.em.set_button_mask(mask, 0)
            env.em.step()
        else:
            screen = env.step(mask)[0]
            cv2.resize(screen, (size, size), interpolation=cv2.INTER_AREA)
    env.close()


def _timed(function, *args) -> tuple[float, float]:
    """Seconds by the clock and of CPU that a call takes."""
    clock_s, cpu_s = time.perf_counter(), time.process_time()
    function(*args)
    return time.perf_counter() - clock_s, time.process_time() - cpu_s


def _fastest(n_rounds: int, tasks: dict) -> dict:
    """(clock_s, cpu_s), the least of each over rounds in which the tasks take turns."""
    times = {name: [] for name in tasks}
    for _ in range(n_rounds):
        for name, (function, *args) in tasks.items():
            times[name].append(_timed(function, *args))
    return {name: tuple(np.min(rounds, axis=0)) for name, rounds in times.items()}


def _row(measurement, value, unit, peer, peer_value, smaller_is_better=False) -> dict:
    ratio = peer_value / value if smaller_is_better else value / peer_value
    return {
        "measurement": measurement,
        "value": float(value),
        "unit": unit,
        "peer": peer,
        "peer_value": float(peer_value),
        "ratio": float(ratio),
    }


def _rates(measurement, n, unit, times, peers) -> list[dict]:
    """Rows of a task against each of its peers, by the clock and by CPU time."""
    return [
        _row(measurement, n / times["ours"][k], f"{unit}/s ({clock})", peer, n / times[peer][k])
        for peer in peers
        for k, clock in enumerate(("wall", "CPU"))
    ]


def _playback_rows(movies, n_frames: int, size: int, n_rounds: int, folder: Path) -> list[dict]:
    floor, gym = "emulator step alone", "gym step + cv2.resize, nothing stored"
    stores = [folder / f"{k}.b2nd" for k in range(len(movies))]
    times = _fastest(
        n_rounds,
        {
            "ours": (decode, movies[0], stores[0], size),
            floor: (_emulator_loop, movies[0], None),
            gym: (_emulator_loop, movies[0], size),
        },
    )
    rows = _rates("playback into the store, 1 core", n_frames, "frames", times, (floor, gym))

    jobs = [(decode, movie, store, size) for movie, store in zip(movies, stores, strict=True)]
    map_processes(_timed, jobs, workers=2)  # starts the processes: not measured
    apart, together = [], []
    for _ in range(n_rounds):
        start_s = time.perf_counter()
        cpu_s = [_timed(*job)[1] for job in jobs]
        apart.append((time.perf_counter() - start_s, *cpu_s))
        start_s = time.perf_counter()
        cpu_s = [cpu for _, cpu in map_processes(_timed, jobs, workers=2)]
        together.append((time.perf_counter() - start_s, *cpu_s))
    clock_1, *cpu_1 = np.min(apart, axis=0)
    clock_2, *cpu_2 = np.min(together, axis=0)
    what = "playback into the store, 2 processes"
    total = n_frames * len(jobs)
    rows.append(_row(what, total / clock_2, "frames/s (wall)", "1 process", total / clock_1))
    # By CPU time: the two processes' rates added up, beside the rate of one on its own.
    both = sum(n_frames / cpu for cpu in cpu_2)
    rows.append(_row(what, both, "frames/s (CPU)", "1 process", total / sum(cpu_1)))
    return rows


def _clip_rows(store_path: Path, n_clips: int, n_rounds: int, folder: Path) -> list[dict]:
    store = open_frames(store_path)
    raw_path = folder / "raw.npy"
    np.save(raw_path, store[:])
    raw = np.load(raw_path, mmap_mode="r")
    # Batches of 16 clips, as training draws them.
    starts = rng_for(0, "bench", "clips").integers(
        0, len(store) - CLIP_SPAN_FRAMES + 1, (n_clips // 16, 16)
    )
    floor = "uncompressed file in memory map"

    def from_store(stride):
        for batch in starts:
            store.clips(batch, stride)

    def from_raw(stride):
        clips = np.empty((starts.shape[1], CLIP_FRAMES, *store.shape[1:]), np.uint8)
        for batch in starts:
            for clip, start in zip(clips, batch, strict=True):
                clip[:] = raw[start : start + CLIP_FRAMES * stride : stride]

    rows = []
    for stride, what in ((1, "16 frames in a row"), (FRAME_STRIDE, "every 4th of 64 frames")):
        times = _fastest(n_rounds, {"ours": (from_store, stride), floor: (from_raw, stride)})
        rows += _rates(f"random clips, {what}, 1 core", starts.size, "clips", times, (floor,))
    rows.append(
        _row(
            "size of the store",
            store_path.stat().st_size / len(store),
            "bytes/frame",
            "uncompressed",
            raw_path.stat().st_size / len(store),
            smaller_is_better=True,
        )
    )
    return rows


def measure(
    n_frames: int = 2400, size: int = 64, n_clips: int = 1600, n_rounds: int = 3
) -> list[dict]:
    """Measure playback and clip reading on this machine, beside peers in the same run.

    Parameters
    ----------
    n_frames : int
        Length of each of two recordings, made for the purpose.
    size : int
        Height and width of a stored frame in pixels.
    n_clips : int
        Random clips read.
    n_rounds : int
        Turns; the fastest counts.

    Returns
    -------
    rows : list of dict
        Keys measurement, value, unit, peer, peer_value, ratio. The ratio of the rows of two
        processes is their speed-up.
    """
    with tempfile.TemporaryDirectory(prefix="cobe-bench-") as name:
        folder = Path(name)
        movies = []
        for seed in range(2):
            place = folder / f"movie{seed}"
            place.mkdir()
            movies.append(record_movie(place, n_frames, seed))
        n_lines = read_bk2(movies[0]).n_frames
        return _playback_rows(movies, n_lines, size, n_rounds, folder) + _clip_rows(
            folder / "0.b2nd", n_clips, n_rounds, folder
        )
