"""Whether writing keeps up with the camera, and what SIGKILL costs.

    python benchmarks/acquire/storage.py [--quick]

A producer hands over frames of 1920 x 1200 with 8 bit (a Bayer camera's), 74 to a position, 160 a
second, to each of: plsctl's own writer, tensorstore alone, acquire-zarr and ome-writers; then as
many as each takes; then a writer is killed in the middle of a position and what lies on the disk is
compared with what was sent. The comparison is unequal in one way: plsctl also measures each frame,
takes its checksum and writes two lower levels; the others write full resolution and nothing else.

It wants about 230 MB of disk for each of the `--seconds` and takes 15 times as long as them.
`--quick` is a trial of 1 s. Writers that are not installed are left out and named:
`pip install acquire-zarr ome-writers[all]`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
from helpers.storage_writers import FRAMES, WRITERS, Frame, is_missing, read_back
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

POOL = 31
"""Different frames; a number without a common factor with 74."""

ELECTRONS = 10_000
"""Full well of a typical sensor: shot noise is what compression has to cope with."""

SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Task:
    """What one process has to write."""

    writer: str
    folder: Path
    pool: Path
    frames: int
    rate: float
    """Frames a second; 0 for as many as the writer takes."""


@dataclass(frozen=True)
class Outcome:
    """How it went."""

    frames_per_s: float
    """Over the whole time, until the last frame was on the disk."""
    late_ms: float
    late_99_ms: float
    waiting: int
    behind_s: float
    """How long the disk still worked after the last frame was handed over."""
    cores: float


def make_pool(path: Path, shape: tuple[int, int]) -> None:
    """Smears with cells on a vignetted ground, bright and dark, with shot and read noise."""
    rng = np.random.default_rng(0)
    height, width = shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    ground = 0.75 - 0.25 * (((x - width / 2) / width) ** 2 + ((y - height / 2) / height) ** 2)
    cells = np.zeros(shape, np.float32)
    for _ in range(width * height // 6000):
        cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(11, 14)
        box = np.s_[max(int(cy) - 15, 0) : int(cy) + 16, max(int(cx) - 15, 0) : int(cx) + 16]
        cells[box] += np.hypot(y[box] - cy, x[box] - cx) < radius
    cells = gaussian_filter(np.minimum(cells, 1), 1.5)
    frames = np.empty((POOL, *shape), np.uint8)
    for frame in frames:
        light = (ground - 0.2 * cells) * rng.choice([1.0, 0.3, 0.08])
        electrons = ELECTRONS * light
        noisy = rng.normal(electrons, np.sqrt(electrons + 36))
        frame[:] = np.clip(np.rint(4 + noisy * 250 / ELECTRONS), 0, 255)
    np.save(path, frames)


def produce(
    task: Task,
    report: Connection | None,
    counts: Synchronized[int] | None = None,
    acknowledged: Synchronized[int] | None = None,
) -> None:
    """Hand frames over at their times and report an `Outcome`; runs in a process of its own."""
    pool: Frame = np.load(task.pool)
    shape = (pool.shape[1], pool.shape[2])
    writer = WRITERS[task.writer](task.folder, shape, -(-task.frames // FRAMES))
    late: list[float] = []
    waiting = 0
    busy = _cpu_seconds()
    start = time.perf_counter()
    for number in range(task.frames):
        due = start + number / task.rate if task.rate else start
        time.sleep(max(0.0, due - time.perf_counter()))
        # The camera hands over a new image each time.
        writer.write(number, pool[number % POOL].copy())
        late.append(1000 * (time.perf_counter() - due))
        waiting = max(waiting, writer.waiting)
        if counts is not None and acknowledged is not None:
            counts.value = number + 1
            acknowledged.value = writer.acknowledged
    handed_over = time.perf_counter()
    writer.close()
    end = time.perf_counter()
    outcome = Outcome(
        frames_per_s=task.frames / (end - start),
        late_ms=max(late),
        late_99_ms=statistics.quantiles(late, n=100)[98],
        waiting=waiting,
        behind_s=end - handed_over,
        cores=(_cpu_seconds() - busy) / (end - start),
    )
    if report is not None:
        report.send(outcome)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run(task: Task) -> Outcome:
    """A task in a process of its own, from a disk at rest."""
    receiver, sender = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=produce, args=(task, sender))
    process.start()
    # The other end must be closed here for a dead child to be noticed.
    sender.close()
    try:
        outcome: Outcome = receiver.recv()
    finally:
        process.join()
        shutil.rmtree(task.folder, ignore_errors=True)
    return outcome


def kill(task: Task, frames: int) -> tuple[int, int, int, int]:
    """Kill a writer when it has got `frames` frames.

    Returns
    -------
    Frames handed over, acknowledged, right on the disk, and acknowledged but not right.
    """
    counts, acknowledged = SPAWN.Value("q", 0), SPAWN.Value("q", 0)
    process = SPAWN.Process(target=produce, args=(task, None, counts, acknowledged))
    process.start()
    while counts.value < frames and process.is_alive():
        time.sleep(0.001)
    process.kill()
    process.join()
    pool: Frame = np.load(task.pool, mmap_mode="r")
    right = np.array([_is_right(task, number, pool) for number in range(counts.value)], bool)
    shutil.rmtree(task.folder, ignore_errors=True)
    lost = int(np.count_nonzero(~right[: acknowledged.value]))
    return counts.value, acknowledged.value, int(right.sum()), lost


def _is_right(task: Task, number: int, pool: NDArray[np.uint8]) -> bool:
    found = read_back(task.writer, task.folder, number)
    return found is not None and np.array_equal(found, pool[number % POOL])


def main() -> None:
    """Print three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each run")
    parser.add_argument("--rate", type=float, default=160.0, help="frames a second")
    parser.add_argument("--size", type=int, nargs=2, default=(1920, 1200), help="width, height")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured (default: here)")
    parser.add_argument("--rounds", type=int, default=3, help="full-speed runs of each writer")
    parser.add_argument("--writers", nargs="+", choices=list(WRITERS), default=list(WRITERS))
    parser.add_argument("--quick", action="store_true", help="one second, one round")
    given = parser.parse_args()
    if given.quick:
        given.seconds, given.rounds = 1.0, 1
    names = [name for name in given.writers if not is_missing(name)]
    for name in set(given.writers) - set(names):
        print(f"{name} is not installed and left out")
    with tempfile.TemporaryDirectory(dir=given.folder or Path.cwd()) as folder:
        pool = Path(folder) / "pool.npy"
        make_pool(pool, (given.size[1], given.size[0]))
        compare(names, Path(folder), pool, given.seconds, given.rate, given.rounds)


def compare(
    names: list[str], folder: Path, pool: Path, seconds: float, rate: float, rounds: int
) -> None:
    """Run every writer and print what came out."""

    def task(name: str, frames: int, pace: float) -> Task:
        out = folder / name
        out.mkdir()
        return Task(name, out, pool, frames, pace)

    # Whole positions: the last one counts as well.
    count = max(1, round(seconds * rate / FRAMES)) * FRAMES
    print(f"{rate:g} frames/s, {count} frames ({count / rate:.0f} s)")
    print("  writer         late, worst / 99 %, ms   waiting, frames   behind, s   cores")
    for name in names:
        o = run(task(name, count, rate))
        print(
            f"  {name:14s} {o.late_ms:12.1f} / {o.late_99_ms:6.1f} {o.waiting:17d} "
            f"{o.behind_s:11.2f} {o.cores:7.2f}",
            flush=True,
        )
    print("as fast as it goes: median frames/s, cores")
    writing = [name for name in names if name != "nothing"]
    found: dict[str, list[Outcome]] = {name: [] for name in writing}
    # Turn by turn, so that what else the computer does meets all of them.
    for _ in range(rounds):
        for name in writing:
            found[name].append(run(task(name, max(count // rounds // FRAMES, 1) * FRAMES, 0)))
    speed = {name: statistics.median(o.frames_per_s for o in found[name]) for name in writing}
    for name in writing:
        cores = statistics.median(o.cores for o in found[name])
        share = speed[name] / max(speed.values())
        print(f"  {name:14s} {speed[name]:7.0f} {cores:6.2f}   {share:.2f} of the fastest")
    killed = (max(2, round(count / 2 / FRAMES)) * FRAMES) + FRAMES // 2
    print(f"killed after {killed} frames, in the middle of a position, at {rate:g} frames/s")
    print("  writer         handed over   acknowledged   right on the disk   acknowledged, lost")
    for name in writing:
        over, known, right, lost = kill(task(name, 4 * killed, rate), killed)
        print(f"  {name:14s} {over:11d} {known:14d} {right:19d} {lost:20d}", flush=True)


if __name__ == "__main__":
    main()
