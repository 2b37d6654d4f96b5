"""The first picture of a report: one place unstained, virtually stained and really stained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.reader import PassReader
from plsctl.models.report.stained import scan_of
from plsctl.process.dataset.reader import Dataset
from plsctl.process.pages.pictures import comparison, enlarge
from plsctl.process.report.dataset import as_image, sample_crops, used_samples
from plsctl.process.report.fields import field_layers

_COLUMNS, _ROWS, _ZOOM, _GAP_PX = 4, 3, 3, 4

Crops = NDArray[np.generic]


def field_picture(scans: Sequence[ScanFolder], plates: Sequence[PassReader]) -> str:
    """A field of the first stained plate, or of the first scan that has two stains; or ""."""
    pairs: list[tuple[ScanFolder, PassReader | None]] = [
        (scan_of(plate.path, scans), plate) for plate in plates
    ]
    pairs += [(scan, None) for scan in scans]
    for scan, plate in pairs:
        found = field_layers(scan, plate)
        if found is not None:
            name, layers, um_per_px = found
            return comparison(layers, f"Field {name} of slide {scan.path.name}.", um_per_px)
    return ""


def cell_picture(layers: Mapping[str, Crops], numbers: Sequence[int], pixel_um: float) -> str:
    """Cells in one picture for each of the layers, which are (n, 3, y, x)."""
    count = min(len(numbers), _COLUMNS * _ROWS)
    count -= count % _COLUMNS if count > _COLUMNS else 0
    images = [(name, _sheet([as_image(crop) for crop in crops[:count]])) for name, crops in
              layers.items()]  # fmt: skip
    shown = ", ".join(f"#{number}" for number in numbers[:count])
    return comparison(images, f"Cells {shown}.", pixel_um / _ZOOM)


def dataset_picture(data: Dataset) -> str:
    """Cells of a data set unstained and stained; "" where it holds none."""
    numbers = used_samples(data, _COLUMNS * _ROWS)
    if not numbers:
        return ""
    return cell_picture(sample_crops(data, numbers), numbers, data.pixel_um)


def _sheet(crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Crops (y, x, rgb) in lines of equal length, white between them."""
    columns = min(_COLUMNS, len(crops))
    rows = -(-len(crops) // columns)
    side = crops[0].shape[0] * _ZOOM
    step = side + _GAP_PX
    sheet = np.full((rows * step - _GAP_PX, columns * step - _GAP_PX, 3), 255, np.uint8)
    for index, crop in enumerate(crops):
        top, left = step * (index // columns), step * (index % columns)
        sheet[top : top + side, left : left + side] = enlarge(crop, _ZOOM)
    return sheet
