"""The real stack end to end: a network learns from the top half of a smear, and stains the bottom.

    PLSCTL_DATA=FOLDER python benchmarks/real_stack.py --out real-stack [--figure FILE.png]

The set `fpm_bloodsmear`: a stained smear under 225 single LEDs through a 2x lens of NA 0.1, in three
colours, and a reconstruction from all 675 images at four times the resolution. A network predicts
that colour image from a few of them. Crops of the top half become a data set, `plsctl train` makes
a run of it, `plsctl stain` stains a stack of the bottom half, and nuclei are looked for in the
result. Beside it stand single LEDs, the sum of the bright-field LEDs and the same few images, each
brought to the reference's colours by the best linear map of a pixel, fitted to the top half.
Runs that are finished are kept: the same command goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from plsctl.models.config import TrainingConfig
from plsctl.models.prediction import Predictor
from plsctl.models.run import Run
from plsctl.models.staining import stain
from plsctl.models.training import train
from plsctl.process.aperture_files import read_stack
from plsctl.process.dataset_writer import DatasetWriter

Image = NDArray[np.uint8]
Points = NDArray[np.float64]

COLOURS = ("red", "green", "blue")
FINER = 4
"""Pixels of the reference to a pixel of the camera."""
HALF_PX = 256
"""Rows of the reference in each half."""
CROP_PX, STEP_PX, VALIDATION_PX = 64, 16, 64
"""The lowest rows of the top half are for validation: they lie between training and test."""
NEAR_PX = 6.0
"""A nucleus is found where one is detected within half its diameter (11 px)."""
AREA_PX = (60, 400)
"""Of a nucleus; the listed ones have 75 to 159."""
PITCH = 0.0437
"""Sine of the first LED off the axis."""
SUMMED = "bright-field sum"
"""Name of the sum over the LEDs inside the aperture; other images are named by their LED's place."""


@dataclass(frozen=True)
class Field:
    """The set, top or bottom half: nothing in here comes from the other half.

    `images` maps the name of an LED (its place in the array, "x,y" in steps from the middle) or of
    the sum to intensities (y, x, rgb) on the pixels of the reference; `directions` gives the light
    of each LED in green.
    """

    images: dict[str, NDArray[np.float32]]
    directions: dict[str, tuple[float, float]]
    reference: Image
    nuclei: Points
    pixel_um: float


TRAINING: dict[str, object] = {
    "model": "maepnet", "blocks": 1, "width": 32, "batch": 8, "learning_rate": 1e-3,
    "schedule": "cosine", "average": 0.98, "patience": 1000, "device": "cpu", "threads": 1,
}  # fmt: skip
"""What `plsctl train` is told besides the data set, the run folder, the seed and the epochs."""

FIVE = ("0,0", "2,0", "-2,0", "0,2", "0,-2")
NINE = (*FIVE, "3,0", "-3,0", "0,3", "0,-3")


def read_halves(folder: Path) -> tuple[Field, Field]:
    """The top and the bottom half of the set."""
    reference = cv2.cvtColor(cv2.imread(str(folder / "ref_fp_rgb_256x512.png")), cv2.COLOR_BGR2RGB)
    listed = pd.read_csv(folder / "nuclei_auto.csv")[["x_hr", "y_hr"]].to_numpy(float)
    stacks = [read_stack(folder, colour) for colour in COLOURS]
    names = [_place(direction) for direction in stacks[1].directions]
    light = np.stack([np.square(stack.amplitude) for stack in stacks], axis=-1)
    inside = np.stack([stack.steepness <= stack.na for stack in stacks], axis=-1)
    summed = (light * inside[:, None, None, :]).sum(axis=0)
    wanted = {name: light[names.index(name)] for name in NINE} | {SUMMED: summed}
    directions = {name: tuple(stacks[1].directions[names.index(name)]) for name in NINE}
    halves = []
    for first in (0, HALF_PX):
        rows = slice(first // FINER, (first + HALF_PX) // FINER)
        # Each half is resampled on its own, so that no pixel of one looks into the other.
        images = {name: _finer(image[rows]) for name, image in wanted.items()}
        here = (listed[:, 1] >= first) & (listed[:, 1] < first + HALF_PX)
        halves.append(
            Field(
                images,
                directions,
                np.ascontiguousarray(reference[first : first + HALF_PX]),
                listed[here] - (0, first),
                stacks[1].pixel_um / FINER,
            )
        )
    return halves[0], halves[1]


def _place(direction: NDArray[np.float64]) -> str:
    """Steps along x and y; the columns and rows are shifted by a sixth of a step at most."""
    slope = direction / np.sqrt(1 - np.square(direction).sum())
    x, y = np.rint(-slope / PITCH)
    return f"{x:.0f},{y:.0f}"


def _finer(image: NDArray[np.float32]) -> NDArray[np.float32]:
    size = (image.shape[1] * FINER, image.shape[0] * FINER)
    finer = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    return np.maximum(finer, 0).astype(np.float32)


def make_stack(field: Field, exposed: Field, leds: Sequence[str], colours: Sequence[str]) -> Image:
    """Stack (image, y, x, rgb), 8 bit, exposed so that hardly a pixel of `exposed` is white.

    Of a single colour, the three channels are equal: the network gets nothing of the others.
    """
    channels = [COLOURS.index(colour) for colour in colours] * (3 // len(colours))
    frames = []
    for led in leds:
        white = np.percentile(exposed.images[led][..., channels], 99.5, axis=(0, 1))
        scaled = field.images[led][..., channels] / white * 235
        frames.append(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
    return np.stack(frames)


def crop_corners() -> Iterator[tuple[str, int, int]]:
    """Split, row and column of every crop of the top half; training and validation share no row."""
    trained = HALF_PX - VALIDATION_PX
    columns = range(0, HALF_PX - CROP_PX + 1, STEP_PX)
    for split, first, end in (("train", 0, trained), ("validation", trained, HALF_PX)):
        for y in range(first, end - CROP_PX + 1, STEP_PX):
            for x in columns:
                yield split, y, x


def write_crops(path: Path, top: Field, stack: Image, leds: Sequence[str]) -> Path:
    """Data set of the crops of the top half, with the reference as stained image."""
    frames = [
        {"label": f"led {led}", "led": led, "variant": "", "direction": list(top.directions[led])}
        for led in leds
    ]
    corners = list(crop_corners())
    rows = pd.DataFrame(corners, columns=["split", "pixel_y", "pixel_x"])
    place = {"slide": "fpm_bloodsmear", "patient": "", "stain": "", "position": "top half"}
    rows = rows.assign(**place, x_um=rows.pixel_x * top.pixel_um, y_um=rows.pixel_y * top.pixel_um)

    def cut(images: Image) -> Image:
        crops = [images[..., y : y + CROP_PX, x : x + CROP_PX, :] for _, y, x in corners]
        return np.ascontiguousarray(np.moveaxis(np.stack(crops), -1, -3))

    with DatasetWriter(
        path, frames, recipe=path.stem, pixel_um=top.pixel_um, crop_px=CROP_PX, overwrite=True
    ) as writer:
        writer.append(cut(stack), {"20x": cut(top.reference)}, rows)
        return writer.finish()


def train_and_stain(
    data: Path, bottom: Image, run: Path, options: Mapping[str, object]
) -> tuple[Image, float]:
    """The bottom half (y, x, rgb) as a network trained on the crops stains it; seconds."""
    config = TrainingConfig.model_validate({**TRAINING, "data": data, "out": run, **options})
    seconds = train(config).seconds
    source, out = run / "bottom.npy", run / "bottom.ome.zarr"
    np.save(source, bottom)
    stain(Predictor(Run.open(run), device="cpu"), source, out, StainingOptions(fresh=True))
    stained = np.asarray(zarr.open_array(out / "0", mode="r"))  # (1, rgb, 1, y, x)
    return np.ascontiguousarray(np.moveaxis(stained[0, :, 0], 0, -1)), seconds


def linear_colours(top: NDArray[np.float32], wanted: Image, bottom: NDArray[np.float32]) -> Image:
    """The bottom's values (y, x, n) by the linear map that suits the top best; (y, x, rgb)."""
    known, unknown = (np.dstack([v, np.ones(v.shape[:2])]) for v in (top, bottom))
    flat = known.reshape(-1, known.shape[-1])
    weights = np.linalg.lstsq(flat, wanted.reshape(-1, 3).astype(float), rcond=None)[0]
    return np.clip(np.rint(unknown @ weights), 0, 255).astype(np.uint8)


def values(field: Field, leds: Sequence[str], colours: Sequence[str]) -> NDArray[np.float32]:
    """What these images tell of each pixel, (y, x, n)."""
    channels = [COLOURS.index(colour) for colour in colours]
    return np.concatenate([field.images[led][..., channels] for led in leds], axis=-1)


@dataclass(frozen=True)
class Count:
    """Nuclei found and missed, and finds that are none."""

    found: int
    missed: int
    false: int

    @property
    def f1(self) -> float:
        return 2 * self.found / (2 * self.found + self.missed + self.false)

    def __str__(self) -> str:
        return f"{self.found} / {self.missed} / {self.false}"


def compare(finds: Points, at_border: NDArray[np.bool_], listed: Points) -> Count:
    """Finds (x, y) beside the listed nuclei, one to one, the nearest first.

    What the border cuts may be found but is never false: the list leaves such nuclei out.
    """
    distance = np.linalg.norm(finds[:, None] - listed[None], axis=-1)
    taken: set[int] = set()
    found: set[int] = set()
    for flat in np.argsort(distance, axis=None):
        i, j = divmod(int(flat), len(listed))
        if distance[i, j] <= NEAR_PX and i not in taken and j not in found:
            taken.add(i)
            found.add(j)
    false = sum(i not in taken and not at_border[i] for i in range(len(finds)))
    return Count(len(found), len(listed) - len(found), false)


def dark_nuclei(image: Image, limit: int) -> tuple[Points, NDArray[np.bool_]]:
    """Pieces darker than the limit in red, of the size of a nucleus; which ones the border cuts.

    The list was made so: of the reference, this finds 25 of its 26 and nothing else (limit 60).
    """
    dark = (image[..., 0] < limit).astype(np.uint8)
    _, _, boxes, centres = cv2.connectedComponentsWithStats(dark, connectivity=4)
    boxes, centres = boxes[1:], centres[1:]
    cut = (boxes[:, :2] == 0).any(axis=1)
    cut |= boxes[:, 0] + boxes[:, 2] == image.shape[1]
    cut |= boxes[:, 1] + boxes[:, 3] == image.shape[0]
    fits = (boxes[:, 4] >= AREA_PX[0]) & (boxes[:, 4] <= AREA_PX[1])
    return centres[fits], cut[fits]


def best_limit(image: Image, listed: Points) -> int:
    """The limit with the best F1 on the top half; the middle one of equals."""
    limits = np.arange(24, 200, 4)
    scores = np.array([compare(*dark_nuclei(image, int(t)), listed).f1 for t in limits])
    return int(np.median(limits[scores == scores.max()]))


def segmented_nuclei(image: Image) -> tuple[Points, NDArray[np.bool_]]:
    """Cells as `plsctl segment` finds them."""
    cells = segment(image).cells
    centres = np.array([(cell.centre_x, cell.centre_y) for cell in cells]).reshape(-1, 2)
    height, width = image.shape[:2]
    cut = [min(c.x, c.y) <= 0 or c.x + c.width >= width or c.y + c.height >= height for c in cells]
    return centres, np.array(cut, dtype=bool)


@dataclass(frozen=True)
class Score:
    """An image of the bottom half beside the reference and its nuclei."""

    name: str
    image: Image
    dark: Count
    segmented: Count
    ssim: float
    mae: float
    seconds: float = 0.0


def score(name: str, image: Image, limit: int, bottom: Field, seconds: float = 0.0) -> Score:
    """All figures of one image of the bottom half."""
    pair = [np.moveaxis(side, -1, 0)[None] for side in (image, bottom.reference)]
    return Score(
        name,
        image,
        compare(*dark_nuclei(image, limit), bottom.nuclei),
        compare(*segmented_nuclei(image), bottom.nuclei),
        float(ssim_colour(pair[0], pair[1])[0]),
        float(mean_absolute_error(pair[0], pair[1])[0]),
        seconds,
    )


def linear_score(
    name: str, top: Field, bottom: Field, leds: Sequence[str], colours: Sequence[str]
) -> Score:
    """These images brought to the reference's colours, with a limit of their own."""
    seen = values(top, leds, colours)
    image = linear_colours(seen, top.reference, values(bottom, leds, colours))
    limit = best_limit(linear_colours(seen, top.reference, seen), top.nuclei)
    return score(name, image, limit, bottom)


LINEAR: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "one LED, green": (("0,0",), ("green",)),
    "one LED, three colours": (("0,0",), COLOURS),
    "five LEDs, green": (FIVE, ("green",)),
    "bright-field sum, green": ((SUMMED,), ("green",)),
    "bright-field sum, three colours": ((SUMMED,), COLOURS),
}
NETWORKS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "one LED, green": (("0,0",), ("green",)),
    "five LEDs, green": (FIVE, ("green",)),
    "nine LEDs, green": (NINE, ("green",)),
    "five LEDs, three colours": (FIVE, COLOURS),
}


def predicted(
    top: Field, bottom: Field, which: str, out: Path, options: Mapping[str, object]
) -> Score:
    """The bottom half by a network; the limit is that of the reference's top half."""
    leds, colours = NETWORKS[which]
    stacks = [make_stack(field, top, leds, colours) for field in (top, bottom)]
    name = which.replace(", ", "-").replace(" ", "-")
    data = out / f"{name}.zarr"
    if not data.exists():
        write_crops(data, top, stacks[0], leds)
    tag = "-".join(str(options.get(key)) for key in ("augment", "seed", "epochs"))
    image, seconds = train_and_stain(data, stacks[1], out / f"{name}-{tag}", options)
    limit = best_limit(top.reference, top.nuclei)
    return score(f"network, {which}", image, limit, bottom, seconds)


def draw(scores: Sequence[Score], bottom: Field, target: Path) -> None:
    """The images side by side, the listed nuclei as rings."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(scores), figsize=(2.3 * len(scores), 2.6))
    for axis, shown in zip(axes, scores, strict=True):
        axis.imshow(shown.image, interpolation="nearest")
        axis.plot(*bottom.nuclei.T, "o", mfc="none", mec="yellow", ms=9, mew=0.6)
        axis.set_title(shown.name, fontsize=7)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(target, dpi=90)


def main() -> None:
    """Train what is missing, print the table, and draw on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of data sets and runs")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--augment", choices=("none", "mirrors"), default="mirrors")
    parser.add_argument("--figure", type=Path, help="write a picture here")
    options = parser.parse_args()
    data = os.environ.get("PLSCTL_DATA")
    if not data:
        raise SystemExit("PLSCTL_DATA names no folder with the real image sets.")
    top, bottom = read_halves(Path(data) / "fpm_bloodsmear")
    splits = [split for split, _, _ in crop_corners()]
    print(
        f"top half: {splits.count('train')} crops for training, {splits.count('validation')} for "
        f"validation, {len(top.nuclei)} nuclei; bottom half: {len(bottom.nuclei)} nuclei\n"
    )
    print("| image of the bottom half | found / missed / false | by `segment` | SSIM | MAE | s |")
    print("| --- | --- | --- | --- | --- | --- |")
    limit = best_limit(top.reference, top.nuclei)
    scores = [linear_score(name, top, bottom, *which) for name, which in LINEAR.items()]
    scores.append(score("reference", bottom.reference, limit, bottom))
    for row in scores:
        print_row(row)
    options.out.mkdir(parents=True, exist_ok=True)
    for which in options.networks:
        for seed in range(options.seeds):
            chosen = {"seed": seed, "epochs": options.epochs, "augment": options.augment}
            row = predicted(top, bottom, which, options.out, chosen)
            print_row(row)
            if seed == 0:
                scores.append(row)
    if options.figure:
        draw(scores, bottom, options.figure)


def print_row(row: Score) -> None:
    """A line of the table."""
    print(
        f"| {row.name} | {row.dark} | {row.segmented} | {row.ssim:.3f} | {row.mae:.3f} | "
        f"{row.seconds:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
