"""What a data set looks like: matched triples, one cell's whole stack, the scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plsctl.process.dataset import Dataset
from plsctl.process.report_page import Section, table, tiles
from plsctl.process.splits import SPLITS

Image = NDArray[np.uint8]

_TRIPLES = 12


def dataset_facts(path: Path) -> list[tuple[str, str]]:
    """Key figures of a data set."""
    data = Dataset.open(path)
    facts = [("samples", str(len(data))), ("images a sample", str(len(data.frames)))]
    return [*facts, ("left out as unfit", str(data.dropped))] if data.dropped else facts


def dataset_sections(path: Path) -> list[Section]:
    """The sections of a report on a data set."""
    data = Dataset.open(path)
    sections = [_triples_section(data), _stack_section(data)]
    if "split" in data.table.columns:
        sections.append(_table_section(data))
    return sections


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


def brightened(image: Image) -> Image:
    """The image with its brightest values brought up to white, at most eight times brighter."""
    top = float(np.percentile(image, 99.8))
    gain = min(8.0, 255.0 / max(top, 1.0))
    bright = np.clip(image.astype(np.float32) * max(gain, 1.0), 0, 255)
    return np.asarray(bright, dtype=np.uint8)


def _triples_section(data: Dataset) -> Section:
    numbers = spread_samples(data, _TRIPLES, _with_all_targets(data))
    brightfield = data.read_images(numbers, data.channels_of(["brightfield"]))[:, 0]
    columns = {"unstained": brightfield}
    for target in data.targets:
        columns[f"stained {target}"] = data.read_target(target, numbers)
    images = [
        (as_image(crops[index]), f"{name} #{number}" if place == 0 else name)
        for index, number in enumerate(numbers)
        for place, (name, crops) in enumerate(columns.items())
    ]
    note = (
        f"White cells of {', '.join(sorted(set(data.table['slide'])))}: unstained, then the same "
        "cell stained, cut out and aligned to the pixel. The 100x image was brought to the grid of "
        "the 20x camera."
    )
    return Section("Matched cells", note, tiles(images, columns=3 * len(columns)))


def _with_all_targets(data: Dataset) -> list[int]:
    if "targets" not in data.table.columns:
        return list(range(len(data)))
    whole = data.table["targets"].str.split(";").map(lambda names: set(data.targets) <= set(names))
    return [int(number) for number in data.table.loc[whole, "sample"]]


def _stack_section(data: Dataset) -> Section:
    number = len(data) // 2
    stack = data.read_input([number])[0]
    images = [
        (brightened(as_image(image)), label)
        for image, label in zip(stack, data.labels, strict=True)
    ]
    note = (
        f"Everything the network sees of one cell (sample {number}): the bright-field image and "
        f"one image per LED, {len(images)} in all. Up to 18 degrees light enters directly and the "
        "cell shows in relief; beyond it only scattered light makes an image. Dim images are shown "
        "brightened, up to eight times."
    )
    return Section("One cell under every LED", note, tiles(images, columns=10))


def _table_section(data: Dataset) -> Section:
    rows = [
        (name, int(count), f"{count / len(data):.0%}")
        for name, count in data.table["split"].value_counts().reindex(SPLITS).dropna().items()
    ]
    body = table(("split", "samples", "share"), rows)
    scores = [name for name in data.table.columns if name.startswith("score_")]
    if scores:
        quantiles = data.table[scores].quantile([0.05, 0.5, 0.95])
        lines = [
            (f"match {name.removeprefix('score_')}", *(float(v) for v in quantiles[name]))
            for name in scores
        ]
        body += "<br>" + table(("score", "5 %", "median", "95 %"), lines)
    note = "No field of view is on both sides of a split."
    return Section("Splits and scores", note, body)
