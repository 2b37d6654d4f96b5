"""`plsctl segment`: white cells in image files, or in the stained pass of scans."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
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
    failed: list[dict[str, str]] = []
    if masks is not None:
        _refuse_masks(masks, [path for path in images if not path.is_dir()])
    written: set[Path] = set()
    total = None if any(path.is_dir() for path in images) else len(images)
    with progress("segmenting", total, "image") as advance:
        for source, parts in _sources(images, pixel_um):
            try:
                for name, read, scale in parts():
                    with about(name):
                        mask, result = _cells_in(read(), method, crops, scale, limits)
                    found.append({"image": name, **result})
                    if masks is not None and mask is not None:
                        _write_mask(masks, name, mask, written)
                    print_message(f"{name}: {_summary(result)}")
            except UserError as error:
                failed.append({"image": source, "message": str(error)})
                if total != 1:
                    print_message(f"Left out: {error}")
            advance()
    _tell(found, failed, json)


def _tell(found: list[dict[str, Any]], failed: list[dict[str, str]], json: bool) -> None:
    """Print the result; exit code 2 if an image could not be read or not be judged."""
    problems = [item["message"] for item in failed]
    problems += [
        f"{item['image']}: {_summary(item)}." for item in found if item["cannot_judge"] is not None
    ]
    result: dict[str, Any] = {"images": found, "failed": failed}
    if not problems:
        emit(result, json)
        return
    text = problems[0]
    if len(problems) > 1:
        text = (
            f"{counted(len(failed), 'file')} could not be read and "
            f"{counted(len(problems) - len(failed), 'image')} not be judged; they are named above."
        )
    error = UserError(text, file=failed[0]["image"] if len(failed) == 1 else None)
    emit(result | {"error": error.as_dict() | {"message": text}}, json)
    print_message(f"error: {text}")
    raise typer.Exit(error.exit_code)


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


def _cells_in(
    pixels: "NDArray[np.uint8]",
    method: str,
    crops: bool | None,
    scale: float | None,
    limits: dict[str, Range],
) -> tuple["NDArray[np.uint8] | None", dict[str, Any]]:
    """Mask image and finds of an image; no mask, and the reason, where it cannot be judged.

    Without `crops` the image decides whether it is one of a single cell; one with a scale is a
    field.
    """
    from plsctl.process.segmentation.image_area import FlatField
    from plsctl.process.segmentation.single_cells import shows_one_cell

    field = FlatField.of(pixels)
    if field.cannot_judge is not None:
        return None, {"cells": [], "others": [], "cannot_judge": field.cannot_judge}
    if crops is None and not limits and scale is None:
        shown = pixels if field.gone is None else field.flat(pixels)
        crops = shows_one_cell(shown, "hsv" if method == "hsv" else "ek-means")
    if crops and not limits:
        mask, result = _crop_cell(method, pixels if field.gone is None else field.flat(pixels))
    else:
        return _field_cells(method, pixels, scale, limits)
    return mask, result | {"cannot_judge": None}


def _field_cells(
    method: str, pixels: "NDArray[np.uint8]", scale: float | None, limits: dict[str, Range]
) -> tuple["NDArray[np.uint8] | None", dict[str, Any]]:
    """Mask image, and cells and other objects of a field, or why it cannot be judged."""
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

    found = {"cells": listed(result.cells), "others": listed(result.others)}
    mask = result.mask_image() if result.cannot_judge is None else None
    return mask, found | {"cannot_judge": result.cannot_judge}


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
    """Counts of each kind, in words, or why there are none to tell."""
    if result["cannot_judge"] is not None:
        return f"cannot judge: {result['cannot_judge']}"
    text = counted(len(result["cells"]), "white cell")
    kinds = [item["kind"] for item in result["others"]]
    for kind, noun in {"smudge": "smudge cell", "platelet": "platelet", "clump": "clump"}.items():
        if kind in kinds:
            text += f", {counted(kinds.count(kind), noun)}"
    return text


Part = tuple[str, Callable[[], "NDArray[np.uint8]"], float | None]
"""Name of an image, what reads its pixels (y, x, rgb), and its scale."""


def _sources(
    paths: list[Path], pixel_um: float | None
) -> Iterator[tuple[str, Callable[[], Iterable[Part]]]]:
    """What fails on its own, by name: a file with its pages, a position of a scan's stained pass.

    What it holds is read when it is called.
    """
    from plsctl.acquire.store.folder import ScanFolder

    for path in paths:
        if not path.is_dir():
            yield str(path), lambda path=path: _pages(path, pixel_um)  # type: ignore[misc]
            continue
        reader = ScanFolder(path).open_pass("stained")
        scale = pixel_um or reader.attributes.pixel_um
        for position in reader.names:
            name = f"{path}/stained/{position}"
            read = partial(reader.brightfield, position)
            yield name, lambda part=(name, read, scale): [part]  # type: ignore[misc]


def _pages(path: Path, pixel_um: float | None) -> Iterator[Part]:
    """The images of a file: `x.tif`, or `x.tif, page 2` where it holds several."""
    from plsctl.process.image_files import read_pages, to_8_bits

    pages = to_8_bits(read_pages(path))
    for number in range(len(pages)):
        name = str(path) if len(pages) == 1 else f"{path}, page {number + 1}"
        yield name, partial(pages.__getitem__, number), pixel_um


def _refuse_masks(folder: Path, images: list[Path]) -> None:
    """UserError if masks would be written over pictures, or over one another."""
    targets: dict[Path, Path] = {}
    for path in images:
        target = _mask_name(folder, str(path))
        if target in targets:
            raise UserError(
                f"the masks of {targets[target]} and {path} would be written into one file.",
                file=target,
                field="--masks",
                hint="Segment them one after the other.",
            )
        targets[target] = path
        _refuse_picture(target)


def _refuse_picture(target: Path) -> None:
    """UserError if a picture that is no mask stands where a mask is to be written."""
    import numpy as np

    from plsctl.process.image_files import read_image

    if not target.exists():
        return
    try:
        is_mask = bool(np.isin(read_image(target), (0, 128, 255)).all())
    except UserError:
        is_mask = False
    if not is_mask:
        raise UserError(
            "this is no mask and would be overwritten.",
            file=target,
            field="--masks",
            hint="Choose another folder.",
        )


def _mask_name(folder: Path, name: str) -> Path:
    # Fields of a scan are named row/column: their masks get the whole name, without the slashes.
    path, _, page = name.partition(", page ")
    stem = Path(path).stem if Path(path).suffix else "_".join(Path(path).parts[-4:])
    return folder / f"{stem}{f'_page{page}' if page else ''}.png"


def _write_mask(folder: Path, name: str, mask: "NDArray[np.uint8]", written: set[Path]) -> None:
    from plsctl.process.image_files import write_image

    target = _mask_name(folder, name)
    if target in written:
        raise UserError(
            f"two images would write the mask {target}.", hint="Segment them one after the other."
        )
    _refuse_picture(target)
    written.add(target)
    folder.mkdir(parents=True, exist_ok=True)
    write_image(target, mask)
