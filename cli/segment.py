"""`plsctl segment`: white cells in image files, or in the stained pass of scans."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plsctl.acquire.errors import UserError
from plsctl.cli.common import JsonFlag, VerboseFlag, emit, progress, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METHODS = ("hsv", "ek-means")


def segment(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of scans.")
    ],
    method: Annotated[str, typer.Option(help="How cells are told: hsv or ek-means.")] = "hsv",
    crops: Annotated[
        bool, typer.Option("--crops", help="Each image shows one white cell (with ek-means).")
    ] = False,
    masks: Annotated[
        Path | None,
        typer.Option(help="Write a PNG per image here: 0, 128 cytoplasm, 255 nucleus."),
    ] = None,
    pixel_um: Annotated[
        float | None,
        typer.Option("--pixel-um", help="Micrometres a pixel; measured by red cells without it."),
    ] = None,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Find white cells: boxes of the whole cells in pixels, and masks on request.

    Example: plsctl segment smear.jpg --masks masks --json
    or plsctl segment cell.png --method ek-means --crops --masks masks
    """
    if method not in METHODS:
        raise UserError(
            f"there is no method '{method}'.", field="--method", hint="Choose hsv or ek-means."
        )
    if crops and method != "ek-means":
        raise UserError(
            "single cells are segmented by EK-means only.",
            field="--crops",
            hint="Add --method ek-means.",
        )
    if pixel_um is not None and pixel_um <= 0:
        raise UserError(
            f"a pixel of {pixel_um:g} um cannot be.", field="--pixel-um", hint="Give it above 0."
        )
    if masks is not None:
        masks.mkdir(parents=True, exist_ok=True)
    find = _crop_cell if crops else partial(_field_cells, method)
    found: list[dict[str, Any]] = []
    written: set[Path] = set()
    with progress("images") as advance:
        for name, pixels, scale in _images(images, pixel_um):
            mask, cells = find(pixels, scale)
            found.append({"image": name, "cells": cells})
            if masks is not None:
                _write_mask(masks, name, mask, written)
            say(f"{name}: {len(cells)} white cells")
            advance()
    emit({"images": found}, json)


def _field_cells(
    method: str, pixels: "NDArray[np.uint8]", scale: float | None
) -> tuple["NDArray[np.uint8]", list[dict[str, int]]]:
    """Mask image and cells of a field."""
    from plsctl.process.segmentation import SegmentationSettings
    from plsctl.process.segmentation import segment as find_cells

    settings = SegmentationSettings.model_validate({"method": method, "pixel_um": scale})
    result = find_cells(pixels, settings)
    cells = [
        {"x": c.x, "y": c.y, "width": c.width, "height": c.height, "area": c.area}
        for c in result.cells
    ]
    return result.mask_image(), cells


def _crop_cell(
    pixels: "NDArray[np.uint8]", _: float | None
) -> tuple["NDArray[np.uint8]", list[dict[str, int]]]:
    """Mask image and the cell of an image that shows one."""
    import cv2

    from plsctl.process.cell_crops import segment_crop

    mask = segment_crop(pixels)
    x, y, width, height = cv2.boundingRect(mask)
    area = int(cv2.countNonZero(mask))
    box = {"x": x, "y": y, "width": width, "height": height, "area": area}
    return mask, [box] if area else []


def _images(
    paths: list[Path], pixel_um: float | None
) -> Iterator[tuple[str, "NDArray[np.uint8]", float | None]]:
    """Name, pixels (y, x, rgb) and scale of each image; a scan gives its stained fields."""
    from plsctl.acquire.store import ScanFolder
    from plsctl.process.image_files import read_image

    for path in paths:
        if not path.is_dir():
            yield str(path), read_image(path), pixel_um
            continue
        reader = ScanFolder(path).open_pass("stained")
        for name in reader.names:
            scale = pixel_um or reader.attributes.pixel_um
            yield f"{path}/stained/{name}", reader.brightfield(name), scale


def _write_mask(folder: Path, name: str, mask: "NDArray[np.uint8]", written: set[Path]) -> None:
    from plsctl.process.image_files import write_image

    # Fields of a scan are named row/column: their masks get the whole name, without the slashes.
    stem = Path(name).stem if Path(name).suffix else "_".join(Path(name).parts[-4:])
    target = folder / f"{stem}.png"
    if target in written:
        raise UserError(
            f"two images would write the mask {target}.", hint="Segment them one after the other."
        )
    written.add(target)
    write_image(target, mask)
