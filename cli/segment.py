"""`plsctl segment`: white cells in image files, or in the stained pass of scans."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plsctl.acquire.errors import UserError
from plsctl.cli.common import JsonFlag, VerboseFlag, emit, progress, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METHODS = ("hsv",)


def segment(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of scans.")
    ],
    method: Annotated[str, typer.Option(help="How cells are told: hsv.")] = "hsv",
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
    """
    from plsctl.process.segmentation import SegmentationSettings
    from plsctl.process.segmentation import segment as find_cells

    if method not in METHODS:
        raise UserError(
            f"there is no method '{method}'.", field="--method", hint=f"Choose {METHODS[0]}."
        )
    if pixel_um is not None and pixel_um <= 0:
        raise UserError(
            f"a pixel of {pixel_um:g} um cannot be.", field="--pixel-um", hint="Give it above 0."
        )
    if masks is not None:
        masks.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    written: set[Path] = set()
    with progress("images") as advance:
        for name, pixels, scale in _images(images, pixel_um):
            result = find_cells(pixels, SegmentationSettings(pixel_um=scale))
            cells = [
                {"x": c.x, "y": c.y, "width": c.width, "height": c.height, "area": c.area}
                for c in result.cells
            ]
            found.append({"image": name, "cells": cells})
            if masks is not None:
                _write_mask(masks, name, result.mask_image(), written)
            say(f"{name}: {len(cells)} white cells")
            advance()
    emit({"images": found}, json)


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
