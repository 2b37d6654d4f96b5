"""Injected faults: the share that quality control catches, and of good samples that it flags.

    python benchmarks/process/quality.py --seed 22 --cells 100 --cache quality [--scan scans/S001]
    python benchmarks/process/quality.py --quick

Renders cells with the recipe `full` (2 s of one core each; kept in the folder `quality`), each a
position of its own, injects one fault at a time, and prints for every kind the share of samples
with the right flag. `--scan` injects faults of frames into the positions of a scan with the
recipe `full` as well, where all cells of a position are evidence together. The default limits
were set on seed 21. `--quick` (6 cells) shows that it works.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from helpers.quality_faults import MARGIN_PX, Bench, render_samples
from numpy.typing import NDArray

from plsctl.acquire.plans.recipes import recipe as frames_of
from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.records import FrameRecord
from plsctl.process.building.inputs import position_jobs
from plsctl.process.quality.flags import SampleLimits, flag_samples
from plsctl.process.quality.frame_samples import frames_of_pass
from plsctl.process.quality.frames import FrameReference, frame_agreement, learn_frames
from plsctl.process.quality.measures import measure_position
from plsctl.process.samples.position import cut_position
from plsctl.process.samples.settings import BuildSettings

Image = NDArray[np.uint8]
Arrays = Mapping[str, Image]
Sample = tuple[Image, dict[str, Image]]
"""A stack (image, rgb, y, x) with margin, and targets (rgb, y, x) by name."""

RECIPES = ("full", "le18deg", "le8deg")
BLUR_PX = 1.5
TOGETHER = 10
"""Faulty samples among the good ones of a slide at a time."""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=22)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--trials", type=int, default=2, help="faults of frames per cell")
    parser.add_argument("--hardware", default="simulator_small")
    parser.add_argument("--cache", type=Path, help="rendered cells are kept here")
    parser.add_argument("--scan", type=Path)
    parser.add_argument("--quick", action="store_true", help="6 cells, one trial")
    options = parser.parse_args()
    if options.quick:
        options.cells, options.trials = 6, 1
    with tempfile.TemporaryDirectory() as folder:
        options.cache = options.cache or Path(folder)
        run(options)


def run(options: argparse.Namespace) -> None:
    """Render, inject, print."""
    options.cache.mkdir(parents=True, exist_ok=True)
    file = options.cache / f"samples-{options.seed}.npz"
    arrays = render_samples(options.hardware, options.seed, options.cells, file)
    frames = Bench(options.hardware, options.seed).frames
    black = 4.0
    for name in RECIPES:
        labels = [frame.label for frame in frames_of(name)]
        places = [index for index, frame in enumerate(frames) if frame.label in labels]
        chosen = [frames[index] for index in places]
        slide = Slide(arrays, places, chosen, black, options.seed)
        print(f"\n{name}: {len(slide.good)} good samples, {slide.ms:.1f} ms each", flush=True)
        slide.report(options.trials)
    if options.scan:
        report_scan(options.scan, options.trials, options.seed)


class Slide:
    """Samples of one simulated slide, each a position of its own."""

    def __init__(
        self,
        arrays: Arrays,
        places: Sequence[int],
        frames: Sequence[FrameRecord],
        black_level: float,
        seed: int,
    ) -> None:
        self._arrays, self._places, self._frames = arrays, list(places), frames
        self._black, self._rng = black_level, np.random.default_rng(seed)
        self._count = len(arrays["stack"])
        stacks = [inner(self._sample(index)[0])[None] for index in range(self._count)]
        self._reference = learn_frames(stacks, frames)
        began = time.process_time()
        self.good = pd.concat([self._measure(self._sample(i)) for i in range(self._count)])
        self.ms = 1000 * (time.process_time() - began) / self._count

    def _sample(self, index: int, stack: str = "stack", targets: str = "good") -> Sample:
        images = self._arrays[stack][index][self._places]
        return images, {name: self._arrays[f"{targets}_{name}"][index] for name in ("20x", "100x")}

    def _measure(self, sample: Sample) -> pd.DataFrame:
        stack, targets = sample
        return measure_position(
            np.ascontiguousarray(inner(stack))[None],
            {name: image[None] for name, image in targets.items()},
            self._frames,
            self._black,
            self._reference,
        )

    def report(self, trials: int) -> None:
        """Print a row for every kind of fault."""
        every = range(len(self._frames))
        kinds: dict[str, tuple[tuple[str, ...], Callable[[int], Sample], int]] = {
            "frame moved 1 px": (("frame_shift",), lambda i: self._moved(i, 1), trials),
            "frame moved 3 px": (("frame_shift", "frame_misfit"), lambda i: self._moved(i, 3), 1),
            "frames swapped, any two": (("frame_swap",), lambda i: self._swapped(i, every), trials),
            "dust in the input": (("dirt",), lambda i: self._sample(i, "dusty"), 1),
            "precipitate in the targets": (
                ("artefact",), lambda i: self._sample(i, targets="precipitate"), 1,
            ),
            "cell lost": (("lost_cell",), lambda i: self._sample(i, targets="lost"), 1),
            f"input blurred, {BLUR_PX} px": (
                ("blurred_input",), lambda i: blurred(self._sample(i), "input"), 1,
            ),
            f"20x target blurred, {BLUR_PX} px": (
                ("blurred_20x",), lambda i: blurred(self._sample(i), "20x"), 1,
            ),
            f"100x target blurred, {BLUR_PX} px": (
                ("blurred_100x",), lambda i: blurred(self._sample(i), "100x"), 1,
            ),
        }  # fmt: skip
        for kind, pairs in pair_kinds(self._frames).items():
            if pairs:
                kinds[f"frames swapped, {kind}"] = (
                    ("frame_swap",), lambda i, p=pairs: self._swapped_pair(i, p), trials,
                )  # fmt: skip
        for kind, (flags, make, times) in kinds.items():
            faulty = pd.concat(
                [self._measure(make(i)) for _ in range(times) for i in range(self._count)]
            )
            caught, false = self._rates(faulty, flags)
            print(f"| {kind} | {len(faulty)} | {100 * caught:.1f} % | {100 * false:.1f} % |",
                  flush=True)  # fmt: skip
        excluded = flag_samples(self.good.reset_index(drop=True))["excluded"] != ""
        print(f"good samples excluded for any reason: {100 * excluded.mean():.1f} %")

    def _rates(self, faulty: pd.DataFrame, flags: Sequence[str]) -> tuple[float, float]:
        """Share of the faulty and of the good samples that have one of the flags."""

        def has(table: pd.DataFrame) -> NDArray[np.bool_]:
            lists = table["flags"].str.split(";")
            return lists.map(lambda found: bool(set(found) & set(flags))).to_numpy(dtype=bool)

        false = has(flag_samples(self.good.reset_index(drop=True))).mean()
        caught = [
            has(flag_samples(pd.concat([self.good, some], ignore_index=True)))[len(self.good) :]
            for some in (
                faulty.iloc[start : start + TOGETHER] for start in range(0, len(faulty), TOGETHER)
            )
        ]
        return float(np.concatenate(caught).mean()), float(false)

    def _moved(self, index: int, distance_px: int) -> Sample:
        stack, targets = self._sample(index)
        return moved(stack, int(self._rng.integers(len(stack))), distance_px, self._rng), targets

    def _swapped(self, index: int, frames: Sequence[int]) -> Sample:
        stack, targets = self._sample(index)
        return swapped(stack, *self._rng.choice(frames, 2, replace=False)), targets

    def _swapped_pair(self, index: int, pairs: Sequence[tuple[int, int]]) -> Sample:
        stack, targets = self._sample(index)
        return swapped(stack, *pairs[int(self._rng.integers(len(pairs)))]), targets


def inner(stack: Image) -> Image:
    """A stack without its margin."""
    return stack[..., MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]


def moved(stack: Image, frame: int, distance_px: int, rng: np.random.Generator) -> Image:
    """A stack, (..., image, rgb, y, x), with one frame moved along x or y."""
    result = stack.copy()
    step = distance_px * int(rng.choice([-1, 1]))
    axis = int(rng.choice([-1, -2]))
    result[..., frame, :, :, :] = np.roll(stack[..., frame, :, :, :], step, axis=axis)
    return result


def swapped(stack: Image, one: int, other: int) -> Image:
    """A stack, (..., image, rgb, y, x), with two frames exchanged."""
    order = list(range(stack.shape[-4]))
    order[one], order[other] = order[other], order[one]
    return np.ascontiguousarray(np.take(stack, order, axis=-4))


def blurred(sample: Sample, what: str) -> Sample:
    """The whole stack ("input") or one target blurred by a Gaussian."""

    def blur(image: Image) -> Image:
        flat = image.reshape(-1, *image.shape[-2:])
        return np.stack([cv2.GaussianBlur(one, (0, 0), BLUR_PX) for one in flat]).reshape(
            image.shape
        )

    stack, targets = sample
    if what == "input":
        return blur(stack), targets
    return stack, targets | {what: blur(targets[what])}


def pair_kinds(frames: Sequence[FrameRecord]) -> dict[str, list[tuple[int, int]]]:
    """Pairs of frames that are much alike."""
    kinds: dict[str, list[tuple[int, int]]] = {
        "same angle": [], "same arm, next angle": [], "same LED, other exposure": [],
    }  # fmt: skip
    for one, first in enumerate(frames):
        for other in range(one + 1, len(frames)):
            second = frames[other]
            if first.direction is None or second.direction is None:
                continue
            sines = [float(np.hypot(*frame.direction)) for frame in (first, second)]
            arms = [frame.led.split("-")[0] for frame in (first, second)]
            if first.led == second.led:
                kinds["same LED, other exposure"].append((one, other))
            elif first.variant == second.variant and abs(sines[0] - sines[1]) < 0.01:
                kinds["same angle"].append((one, other))
            elif (
                first.variant == second.variant
                and arms[0] == arms[1] != "plate"
                and abs(sines[0] - sines[1]) < 0.15
            ):
                kinds["same arm, next angle"].append((one, other))
    return kinds


def report_scan(scan: Path, trials: int, seed: int) -> None:
    """Faults of frames in the positions of a scan, whose cells all are evidence."""
    folder = ScanFolder(scan)
    reader = folder.open_pass("unstained", one_core=True)
    reference = frames_of_pass(reader)
    if reference is None:
        return
    settings = BuildSettings(margin_px=MARGIN_PX)
    jobs = position_jobs(folder, None, settings)
    stacks = [cut_position(job).stacks for job in jobs]
    stacks = [found for found in stacks if len(found)]
    rng, frames = np.random.default_rng(seed), reader.attributes.frames
    good = np.array([_verdict(found, reference) for found in stacks])
    print(f"\n{scan.name}: {len(stacks)} positions, {sum(map(len, stacks))} cells")
    print(f"good positions flagged: shift {good[:, 0].mean():.3f}, swap {good[:, 1].mean():.3f}")
    pairs = {"any two": [(a, b) for a in range(len(frames)) for b in range(a)]} | pair_kinds(frames)
    hits = [
        _verdict(moved(found, int(rng.integers(len(frames))), 1, rng), reference)[0]
        for _ in range(5 * trials) for found in stacks
    ]  # fmt: skip
    print(f"| frame moved 1 px | {len(hits)} | {100 * np.mean(hits):.1f} % |", flush=True)
    for kind, choices in pairs.items():
        if choices:
            hits = [
                _verdict(swapped(found, *choices[int(rng.integers(len(choices)))]), reference)[1]
                for _ in range(2 * trials) for found in stacks
            ]  # fmt: skip
            print(f"| frames swapped, {kind} | {len(hits)} | {100 * np.mean(hits):.1f} % |",
                  flush=True)  # fmt: skip


def _verdict(stacks: Image, reference: FrameReference) -> tuple[bool, bool]:
    """Whether a position's frames are flagged as moved and as swapped."""
    limits = SampleLimits()
    found = frame_agreement(np.ascontiguousarray(inner(stacks)), reference)
    return found.shift_px > limits.frame_shift_px, found.exchange > limits.frame_exchange


if __name__ == "__main__":
    main()
