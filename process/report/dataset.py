"""Report sections on a data set: matched cells, and one cell's whole stack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.splits import is_damaged, left_out
from plsctl.process.pages.pictures import tile_sets, tiles
from plsctl.process.pages.scale_bar import bar_length_um
from plsctl.process.report.page import Section

Image = NDArray[np.uint8]

_SHOWN = 12


def dataset_key_figures(data: Dataset) -> list[tuple[str, str]]:
    """Key figures of a data set."""
    figures = [("samples", str(len(data)))]
    return [*figures, ("of the samples left out", str(data.dropped))] if data.dropped else figures


def dataset_sections(data: Dataset) -> list[Section]:
    """Sections about the samples of a data set."""
    return [_matched_section(data), _stack_section(data)] if len(data) else []


def as_image(crop: NDArray[np.generic]) -> Image:
    """A crop of a data set, (3, y, x), as an 8-bit image (y, x, rgb)."""
    if crop.dtype == np.uint16:
        crop = (crop.astype(np.float32) * (255.0 / max(1, int(crop.max())))).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(crop, 0, -1)).astype(np.uint8)


def spread_samples(data: Dataset, count: int, among: Sequence[int] | None = None) -> list[int]:
    """Sample numbers spread evenly over a data set (or over some of its samples)."""
    numbers = list(range(len(data))) if among is None else list(among)
    if len(numbers) <= count:
        return numbers
    return [numbers[round(i)] for i in np.linspace(0, len(numbers) - 1, count)]


def used_samples(data: Dataset, count: int) -> list[int]:
    """Samples with every target, spread over those that are used (over all where none is)."""
    used = ~left_out(data.table)
    if not used.any():
        used = ~is_damaged(data.table)
    if "targets" in data.table.columns:
        lists = data.table["targets"].str.split(";")
        whole = lists.map(lambda names: set(data.targets) <= set(names))
        used = used & whole if (used & whole).any() else used
    return spread_samples(data, count, [int(n) for n in data.table.loc[used, "sample"]])


def sample_crops(data: Dataset, numbers: Sequence[int]) -> dict[str, NDArray[np.generic]]:
    """Bright field and targets of samples, each (n, 3, y, x), by what they show."""
    first = "brightfield" if "brightfield" in data.labels else data.labels[0]
    crops = {"unstained": data.read_images(numbers, data.channels_of([first]))[:, 0]}
    return crops | {f"stained {name}": data.read_target(name, numbers) for name in data.targets}


def brightened(image: Image) -> Image:
    """The image with its brightest values brought up to white, at most eight times brighter."""
    top = float(np.percentile(image, 99.8))
    gain = min(8.0, 255.0 / max(top, 1.0))
    bright = np.clip(image.astype(np.float32) * max(gain, 1.0), 0, 255)
    return np.asarray(bright, dtype=np.uint8)


def bar_note(data: Dataset) -> str:
    """What the bars in crops stand for."""
    return f"Bars: {bar_length_um(data.crop_px * data.pixel_um)} µm."


def _matched_section(data: Dataset) -> Section:
    numbers = used_samples(data, _SHOWN)
    crops = sample_crops(data, numbers)
    sets = [
        (f"#{number}", [(as_image(images[index]), name) for name, images in crops.items()])
        for index, number in enumerate(numbers)
    ]
    note = (
        f"White cells of {', '.join(sorted(set(data.table['slide'].astype(str))))}, each as "
        f"{', '.join(crops)}: the same cell, cut out and aligned to the pixel. {bar_note(data)}"
    )
    if "100x" in data.targets:
        note += " The 100x image was brought to the grid of the 20x camera."
    for verdict in data.verdicts:
        said = [*verdict.get("reasons", ()), *verdict.get("notes", ())]
        if said:
            fate = "accepted" if verdict.get("accepted") else "rejected"
            note += f" Slide {verdict.get('slide')}, {fate}: {'; '.join(map(str, said))}"
            note += "" if note.endswith(".") else "."
    columns = max(1, 12 // len(crops))
    return Section("Matched cells", note, tile_sets(sets, columns, um_per_px=data.pixel_um))


def _stack_section(data: Dataset) -> Section:
    numbers = used_samples(data, 3)
    number = numbers[len(numbers) // 2]
    stack = data.read_input([number])[0]
    images = [
        (brightened(as_image(image)), label)
        for image, label in zip(stack, data.labels, strict=True)
    ]
    note = (
        f"Everything that was taken of one cell (sample {number}): the bright-field image and "
        f"one image per LED, {len(images)} in all. Up to 18 degrees light enters directly and the "
        "cell shows in relief; beyond it only scattered light makes an image. Dim images are shown "
        f"brightened, up to eight times. {bar_note(data)}"
    )
    body = tiles(images, columns=10, um_per_px=data.pixel_um)
    return Section("One cell under every LED", note, body)
