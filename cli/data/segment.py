"""`plsctl segment`: white cells in image files, or in the stained pass of scans."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plsctl.acquire.errors import UserError, about
from plsctl.acquire.words import counted
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import JsonFlag, VerboseFlag, emit, location, print_message, progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from plsctl.process.segmentation.cells import Cell

METHODS = ("hsv", "ek-means")

Range = tuple[int, int]


def segment(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="Image files, or folders of scans.", parser=location
        ),
    ],
    method: Annotated[
        str,
        typer.Option(
            help="How cells are told: hsv or ek-means.", autocompletion=completion.values(*METHODS)
        ),
    ] = "hsv",
    crops: Annotated[
        bool | None,
        typer.Option(
            "--crops/--fields",
            help="Each image shows one white cell, or a field; without either each image decides.",
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="Write a PNG per image here: 0, 128 cytoplasm, 255 nucleus."),
    ] = None,
    pixel_um: Annotated[
        float | None,
        typer.Option("--pixel-um", help="Micrometres a pixel; measured by red cells without it."),
    ] = None,
    hue: Annotated[
        tuple[int, int] | None, typer.Option(help="Fixed limits of hue, 0 to 180.")
    ] = None,
    saturation: Annotated[
        tuple[int, int] | None, typer.Option(help="Fixed limits of saturation, 0 to 255.")
    ] = None,
    value: Annotated[
        tuple[int, int] | None, typer.Option(help="Fixed limits of value, 0 to 255.")
    ] = None,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Find white cells: boxes of the whole cells in pixels, and masks on request.

    Smudge cells, platelets and clumps are listed apart. Limits come from the image itself; with
    any of --hue, --saturation and --value they are fixed.

    Example: plsctl segment smear.jpg --masks masks --json
    or plsctl segment cell.png --method ek-means --crops --masks masks
    or plsctl segment smear.jpg --hue 110 165 --saturation 60 255
    """
    from plsctl.process.segmentation.settings import LARGEST_PIXEL_UM

    if method not in METHODS:
        raise UserError(
            f"there is no method '{method}'.", field="--method", hint="Choose hsv or ek-means."
        )
    if pixel_um is not None and not 0 < pixel_um < LARGEST_PIXEL_UM:
        raise UserError(
            f"a pixel of {pixel_um:g} µm shows no cells.",
            field="--pixel-um",
            hint="Give its size in the sample, in micrometres, such as 0.293.",
        )
    limits = _fixed_limits(hue, saturation, value)
    if limits and (crops or method != "hsv"):
        raise UserError(
            "fixed limits are for fields and the method hsv.",
            field=f"--{next(iter(limits))}",
            hint="Leave out --crops and --method, or the limits.",
        )
    found: list[dict[str, Any]] = []
    written: set[Path] = set()
    total = None if any(path.is_dir() for path in images) else len(images)
    with progress("segmenting", total, "image") as advance:
        for name, pixels, scale in _images(images, pixel_um):
            with about(name):
                if _is_crop(pixels, method, False if limits else crops, scale):
                    mask, result = _crop_cell(method, pixels)
                else:
                    mask, result = _field_cells(method, pixels, scale, limits)
            found.append({"image": name, **result})
            if masks is not None:
                _write_mask(masks, name, mask, written)
            print_message(f"{name}: {_summary(result)}")
            advance()
    emit({"images": found}, json)


def _fixed_limits(
    hue: Range | None, saturation: Range | None, value: Range | None
) -> dict[str, Range]:
    given = {"hue": hue, "saturation": saturation, "value": value}
    limits = {name: limit for name, limit in given.items() if limit is not None}
    for name, (low, high) in limits.items():
        if not 0 <= low <= high <= (180 if name == "hue" else 255):
            raise UserError(
                f"{low} to {high} are no limits of {name}.",
                field=f"--{name}",
                hint=f"Give two numbers from 0 to {180 if name == 'hue' else 255}, rising.",
            )
    return limits


def _is_crop(
    pixels: "NDArray[np.uint8]", method: str, asked: bool | None, scale: float | None
) -> bool:
    """Whether an image is taken for that of one cell; one with a scale is a field."""
    from plsctl.process.segmentation.single_cells import shows_one_cell

    if asked is not None:
        return asked
    return scale is None and shows_one_cell(pixels, "hsv" if method == "hsv" else "ek-means")


def _field_cells(
    method: str, pixels: "NDArray[np.uint8]", scale: float | None, limits: dict[str, Range]
) -> tuple["NDArray[np.uint8]", dict[str, Any]]:
    """Mask image, and cells and other objects of a field."""
    from plsctl.process.segmentation.segment import segment as find_cells
    from plsctl.process.segmentation.settings import SegmentationSettings

    settings = SegmentationSettings.model_validate(
        {"method": method, "pixel_um": scale, "limits": limits or None}
    )
    result = find_cells(pixels, settings)

    def listed(objects: Iterable["Cell"]) -> list[dict[str, Any]]:
        return [
            {
                **{n: getattr(cell, n) for n in ("x", "y", "width", "height", "area")},
                "nucleus_area": cell.nucleus_area,
                "kind": cell.kind,
            }
            for cell in objects
        ]

    return result.mask_image(), {"cells": listed(result.cells), "others": listed(result.others)}


def _crop_cell(
    method: str, pixels: "NDArray[np.uint8]"
) -> tuple["NDArray[np.uint8]", dict[str, Any]]:
    """Mask image and the cell of an image that shows one."""
    import cv2

    from plsctl.process.segmentation.single_cells import segment_crop

    mask = segment_crop(pixels, method="hsv" if method == "hsv" else "ek-means")
    x, y, width, height = cv2.boundingRect(mask)
    cell = {
        "x": x,
        "y": y,
        "width": width,
        "height": height,
        "area": int(cv2.countNonZero(mask)),
        "nucleus_area": int((mask == 255).sum()),
        "kind": "white cell",
    }
    return mask, {"cells": [cell] if mask.any() else [], "others": []}


def _summary(result: dict[str, Any]) -> str:
    """Counts of each kind, in words."""
    text = counted(len(result["cells"]), "white cell")
    kinds = [item["kind"] for item in result["others"]]
    for kind, noun in {"smudge": "smudge cell", "platelet": "platelet", "clump": "clump"}.items():
        if kind in kinds:
            text += f", {counted(kinds.count(kind), noun)}"
    return text


def _images(
    paths: list[Path], pixel_um: float | None
) -> Iterator[tuple[str, "NDArray[np.uint8]", float | None]]:
    """Name, pixels (y, x, rgb) and scale of each image; a scan gives its stained fields."""
    from plsctl.acquire.store.folder import ScanFolder
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
    folder.mkdir(parents=True, exist_ok=True)
    write_image(target, mask)
