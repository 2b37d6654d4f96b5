"""Nuclei of a real smear in images that a network makes of few LEDs.

The set `fpm_bloodsmear`: a stained smear under 225 single LEDs through a 2x lens of NA 0.1. The
target is the synthetic aperture of all 225 LEDs, made of the top half of the field alone; the input
are the images of the few most central LEDs, interpolated to the target's pixels. Networks are
trained on the top half by `plsctl train` and applied to the bottom half by `plsctl stain`. There
the nuclei are counted that the set lists, found by others in another reconstruction: in the
predictions, in the images themselves, in their sums, and in the best linear map of their pixels.

    PLSCTL_DATA=data python benchmarks/models/real_stack.py --out real --figure real-stack.png
    PLSCTL_DATA=data python benchmarks/models/real_stack.py --quick

Runs that are finished are kept: the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tensorstore as ts
from helpers.dark_spots import best_limit, count, dark_spots
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from plsctl.models.metrics.intervals import share_interval
from plsctl.models.metrics.similarity import ssim_colour
from plsctl.process.aperture.files import read_stack
from plsctl.process.aperture.led_stack import LedStack
from plsctl.process.aperture.reconstruction import ApertureSettings, reconstruct
from plsctl.process.dataset.writer import DatasetWriter

PLSCTL = [sys.executable, "-c", "from plsctl.cli.app import main; main()"]
COLOURS = ("red", "green", "blue")
UP = 4
"""Target pixels along a camera pixel."""
CROP, STEP, VALIDATION = 64, 16, 64
"""Crops of the training half, the distance between them, and the rows kept for validation."""
WHITE_LEVEL, WHITE_PERCENTILE = 225, 99

Floats = NDArray[np.float64]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Smear:
    """The field in its three colours, and the nuclei of its upper and lower half.

    Places are (x, y) in pixels of the target, from the half's first pixel.
    """

    stacks: tuple[LedStack, ...]
    nuclei: tuple[Floats, Floats]

    @property
    def rows(self) -> int:
        """Camera pixels from the top to the middle."""
        return self.stacks[0].amplitude.shape[1] // 2

    def half(self, lower: bool) -> slice:
        """Rows of a half."""
        return slice(self.rows, None) if lower else slice(0, self.rows)

    def central(self, count: int) -> NDArray[np.int64]:
        """The most central LEDs, from the middle outwards."""
        return np.argsort(self.stacks[1].steepness, kind="stable")[:count]

    def bright_leds(self) -> list[NDArray[np.int64]]:
        """The LEDs inside the aperture, colour by colour."""
        return [np.flatnonzero(stack.steepness <= stack.na) for stack in self.stacks]


def read_smear(folder: Path) -> Smear:
    """The set's images, and the nuclei it lists."""
    stacks = tuple(read_stack(folder, colour) for colour in COLOURS)
    listed = pd.read_csv(folder / "nuclei_auto.csv")
    places = UP * listed[["x_lr", "y_lr"]].to_numpy(np.float64)
    middle = UP * (stacks[0].amplitude.shape[1] // 2)
    upper = places[:, 1] < middle
    return Smear(stacks, (places[upper], places[~upper] - (0, middle)))


def light(smear: Smear, leds: Sequence[NDArray[np.int64]], lower: bool) -> Image:
    """The sum of LEDs, given colour by colour, on the target's pixels: (y, x, 3).

    One exposure for both halves, from the upper one.
    """
    channels = []
    for stack, numbers in zip(smear.stacks, leds, strict=True):
        total = np.square(stack.amplitude[numbers].astype(np.float64)).sum(axis=0)
        white = np.percentile(total[smear.half(False)], WHITE_PERCENTILE)
        channels.append(_finer(total[smear.half(lower)]) / white)
    return _counts(np.stack(channels, axis=-1))


def _finer(image: Floats) -> Floats:
    """Cubic interpolation; the first pixel stays where it is."""
    rows, columns = (np.arange(UP * n) / UP for n in image.shape)
    grid = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(map_coordinates(image, grid, order=3, mode="nearest"))


def _counts(share_of_white: Floats) -> Image:
    return np.clip(np.rint(share_of_white * WHITE_LEVEL), 0, 255).astype(np.uint8)


def single_images(smear: Smear, count: int, lower: bool) -> Image:
    """The images of the most central LEDs, each exposed for itself: (image, y, x, 3)."""
    images = [light(smear, [np.array([led])] * 3, lower) for led in smear.central(count)]
    return np.stack(images)


def synthetic_aperture(smear: Smear, rounds: int) -> tuple[Image, Image]:
    """Intensity of the synthetic aperture of all LEDs, each half from its own rows alone."""
    settings = ApertureSettings(upsampling=UP, rounds=rounds)
    halves: list[list[Floats]] = [[], []]
    for stack in smear.stacks:
        for lower in (False, True):
            part = stack.part((smear.half(lower), slice(None)))
            halves[lower].append(np.square(reconstruct(part, settings).amplitude.astype(float)))
    white = np.percentile(np.stack(halves[0], axis=-1), WHITE_PERCENTILE, axis=(0, 1))
    upper, lower_half = (_counts(np.stack(half, axis=-1) / white) for half in halves)
    return upper, lower_half


def write_dataset(smear: Smear, target: Image, count: int, out: Path) -> None:
    """Crops of the upper half; its last rows are the validation split."""
    stack = single_images(smear, count, lower=False)
    directions = smear.stacks[1].directions[smear.central(count)]
    frames = [
        {"label": f"led-{led}", "led": f"led-{led}", "leds": [int(led)], "direction": list(s)}
        for led, s in zip(smear.central(count), directions.tolist(), strict=True)
    ]
    height, width = target.shape[:2]
    border = height - VALIDATION
    places = [
        (y, x, "train")
        for y in range(0, border - CROP + 1, STEP)
        for x in range(0, width - CROP + 1, STEP)
    ] + [(border, x, "validation") for x in range(0, width - CROP + 1, STEP)]
    pixel_um = smear.stacks[0].pixel_um / UP
    writer = DatasetWriter(
        out, frames, recipe="central", pixel_um=pixel_um, crop_px=CROP, overwrite=True
    )
    with writer:
        for y, x, split in places:
            window = (slice(y, y + CROP), slice(x, x + CROP))
            row = {"slide": "smear", "patient": "smear", "stain": "", "position": f"{y}-{x}"}
            row |= {"x_um": x * pixel_um, "y_um": y * pixel_um, "flags": "", "split": split}
            writer.append(
                np.moveaxis(stack[:, *window], -1, 1)[None],
                {"20x": np.moveaxis(target[window], -1, 0)[None]},
                pd.DataFrame([row]),
            )
        writer.finish()


def predict(
    smear: Smear, data: Path, run: Path, count: int, options: Sequence[str]
) -> tuple[Image, Image]:
    """Train on a data set and stain the upper and the lower half, all by the command line."""
    kept = [run.with_name(f"{run.name}-{half}.npy") for half in ("upper", "lower")]
    if not all(path.exists() for path in kept):
        subprocess.run([*PLSCTL, "train", "--data", data, "--out", run, *options], check=True)
    for path, lower in zip(kept, (False, True), strict=True):
        if not path.exists():
            source, out = run.with_suffix(".stack.npy"), run.with_suffix(".ome.zarr")
            np.save(source, single_images(smear, count, lower))
            subprocess.run([*PLSCTL, "stain", run, source, "-o", out, "--fresh"], check=True)
            store = {"driver": "file", "path": str(out / "0")}
            stained = np.asarray(ts.open({"driver": "zarr3", "kvstore": store}).result())
            np.save(path, np.moveaxis(np.squeeze(stained), 0, -1))
    upper, lower_half = (np.asarray(np.load(path)) for path in kept)
    return upper, lower_half


def linear_map(images: Image, target: Image) -> Callable[[Image], Image]:
    """The best linear map from a pixel's values in all images and colours to the target's colours.

    What a network must surpass: it sees no neighbours, but undoes what the colours' different
    focus does to a hue.
    """

    def design(stack: Image) -> Floats:
        values = np.moveaxis(stack, 0, -1).reshape(stack[0, ..., 0].size, -1)
        return np.column_stack([values, np.ones(len(values))])

    weights = np.linalg.lstsq(design(images), target.reshape(-1, 3).astype(float), rcond=None)[0]

    def apply(stack: Image) -> Image:
        colours = (design(stack) @ weights).reshape(*stack.shape[1:3], 3)
        return np.clip(np.rint(colours), 0, 255).astype(np.uint8)

    return apply


def line(smear: Smear, name: str, below: Image, limit_from: Image, truth: Image) -> None:
    """Print how many nuclei are found in an image of the lower half.

    The limit of density is the best one for the same kind of image of the upper half.
    """
    pixel_um = smear.stacks[0].pixel_um / UP
    limit = best_limit(dark_spots(limit_from, pixel_um), smear.nuclei[0], pixel_um)
    spots = dark_spots(below, pixel_um)
    found = count(spots, limit, smear.nuclei[1], pixel_um)
    low, high = share_interval(found.right, found.listed)
    at_best = count(spots, best_limit(spots, smear.nuclei[1], pixel_um), smear.nuclei[1], pixel_um)
    print(
        f"| {name} | {found.right} of {found.listed} ({low:.2f} to {high:.2f}) | {found.wrong} | "
        f"{found.f1:.2f} | {at_best.f1:.2f} | {similarity(below, truth):.3f} |",
        flush=True,
    )


def similarity(image: Image, truth: Image) -> float:
    """SSIM of two images (y, x, 3)."""
    one, other = (np.moveaxis(each, -1, 0)[None] for each in (image, truth))
    return float(ssim_colour(one, other)[0])


def draw(images: dict[str, Image], nuclei: Floats, target: Path) -> None:
    """The lower half in every way, listed nuclei marked in the last."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(images), figsize=(2.2 * len(images), 2.6))
    for axis, (title, image) in zip(axes, images.items(), strict=True):
        axis.imshow(image)
        axis.set_title(title, fontsize=7)
        axis.axis("off")
    axes[-1].scatter(*nuclei.T, s=60, facecolors="none", edgecolors="lime", linewidths=0.7)
    figure.tight_layout()
    figure.savefig(target, dpi=75)


def main() -> None:
    """Train what is missing, print a line an image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, help="folder of data sets and runs, to go on with")
    parser.add_argument("--counts", type=int, nargs="+", default=(1, 5, 9))
    parser.add_argument("--augment", nargs="+", choices=("none", "mirrors"), default=("mirrors",))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", default="24")
    parser.add_argument("--rounds", type=int, default=ApertureSettings().rounds)
    parser.add_argument("--figure", type=Path, help="write a picture here")
    parser.add_argument("--quick", action="store_true", help="one network, trained for an epoch")
    asked = parser.parse_args()
    if asked.quick:
        asked.counts, asked.seeds, asked.epochs, asked.rounds = (5,), 1, "1", 1
    with tempfile.TemporaryDirectory() as folder:
        asked.out = asked.out or Path(folder)
        run_all(asked)


def run_all(asked: argparse.Namespace) -> None:
    """Reconstruct, train what is missing, print."""
    data = os.environ.get("PLSCTL_DATA")
    if not data:
        raise SystemExit("PLSCTL_DATA names no folder with the real image sets.")
    asked.out.mkdir(parents=True, exist_ok=True)
    smear = read_smear(Path(data) / "fpm_bloodsmear")
    upper, lower = synthetic_aperture(smear, asked.rounds)
    print("| image of the lower half | nuclei found | wrong | F1 | at best | SSIM |")
    print("| --- | --- | --- | --- | --- | --- |")
    mean = np.broadcast_to(np.rint(upper.mean(axis=(0, 1))).astype(np.uint8), lower.shape)
    print(f"| mean colour of the upper half | | | | | {similarity(mean, lower):.3f} |")
    counts = sorted({1, *asked.counts})
    sums = {f"{n} LEDs added": [smear.central(n)] * 3 for n in counts if n > 1}
    sums = {"central LED": [smear.central(1)] * 3, **sums}
    shown = {}
    for name, leds in {**sums, "bright-field LEDs added": smear.bright_leds()}.items():
        above, below = (light(smear, leds, lower=half) for half in (False, True))
        shown[name] = below
        line(smear, name, below, above, lower)
    for n in counts:
        above, below = (single_images(smear, n, lower=half) for half in (False, True))
        mapped = linear_map(above, upper)
        line(smear, f"linear map of {n}", mapped(below), mapped(above), lower)
    for number in asked.counts:
        folder = asked.out / f"{number}.zarr"
        if not folder.exists():
            write_dataset(smear, upper, number, folder)
        for augment in asked.augment:
            for seed in range(asked.seeds):
                options = [
                    "maepnet", "--augment", augment, "--seed", str(seed), "--epochs", asked.epochs,
                    "--patience", asked.epochs, "--blocks", "1", "--width", "32", "--batch", "8",
                    "--learning-rate", "1e-3", "--schedule", "cosine", "--average", "0.98",
                    "--threads", "1",
                ]  # fmt: skip
                run = asked.out / f"{number}-{augment}-{seed}"
                name = f"predicted from {number}, {augment}, seed {seed}"
                above, below = predict(smear, folder, run, number, options)
                line(smear, name, below, above, lower)
                shown[f"predicted from {number}"] = below
    line(smear, "synthetic aperture of 225", lower, upper, lower)
    shown["synthetic aperture of 225"] = lower
    if asked.figure:
        draw(shown, smear.nuclei[1], asked.figure)


if __name__ == "__main__":
    main()
