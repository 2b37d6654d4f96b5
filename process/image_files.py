"""Ordinary image files as arrays (y, x, rgb), and arrays as files."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import location

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

Pixels: TypeAlias = NDArray[np.integer[Any] | np.floating[Any]]

_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DEPTHS = (8, 10, 12, 14, 16)
_COLOURS = 3
_OPAQUE = 0.5  # of full cover: what is more transparent shows nothing


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """An image file as colour: shape (y, x, rgb), uint8.

    Grey images become colour, deeper ones 8 bits (`to_8_bits`); what is transparent becomes black.

    Raises
    ------
    UserError
        When the file is missing, is no image or holds several.
    """
    images = read_pages(path)
    if len(images) > 1:
        raise UserError(
            f"holds {len(images)} images, and one is wanted here.",
            file=location(path),
            hint="Save the one that is meant as a file of its own.",
        )
    return to_8_bits(images)[0]


def read_pages(path: str | Path) -> list[Pixels]:
    """All images of a file, each (y, x, rgb), in 8 bits or 16; most files hold one.

    Pages of a TIFF are images, unless the file says that they are the colours of one; smaller
    copies of an image are passed over.

    Raises
    ------
    UserError
        When the file is missing, is no image, or holds other than one or three colours.
    """
    path = location(path)
    try:
        content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror}).", file=path, hint="Check the path."
        ) from None
    # imdecode and not imread: paths outside the code page fail in imread on Windows.
    several = content[:4].tobytes() in (*_TIFF, b"GIF8")
    images = _all_images(content, path) if several else [_decoded(content, path)]
    for index, image in enumerate(images):
        if image.dtype not in (np.uint8, np.uint16):
            raise UserError(
                f"holds {image.dtype} values.",
                file=path,
                hint="Save it with 8 or 16 bits a channel.",
            )
        images[index] = np.ascontiguousarray(image)
    return images


def to_8_bits(images: Sequence[Pixels]) -> list[NDArray[np.uint8]]:
    """Images (y, x, rgb) in 8 bits, all by one scale.

    The scale is that of the camera: cameras of 10, 12 or 14 bits fill the lower bits of 16, and how
    many are in use is seen by the largest value of all images.
    """
    bits = significant_bits(images)
    scale = 255 / (2**bits - 1)
    return [
        _bytes(image if image.dtype == np.uint8 else cv2.convertScaleAbs(image, alpha=scale))
        for image in images
    ]


def significant_bits(images: Sequence[Pixels]) -> int:
    """Bits a channel that images use: 8, 10, 12, 14 or 16."""
    deep = [int(image.max(initial=0)) for image in images if image.dtype != np.uint8]
    used = max(deep, default=0).bit_length()
    return next(depth for depth in _DEPTHS if used <= depth)


def _bytes(image: object) -> NDArray[np.uint8]:
    return np.asarray(image, dtype=np.uint8)


def _decoded(content: NDArray[np.uint8], path: Path) -> Pixels:
    """The first image, (y, x, rgb), black where it is transparent."""
    image = cv2.imdecode(content, _FLAGS) if content.size else None
    if image is None:
        raise _unreadable(path)
    pixels: Pixels = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    if _may_be_transparent(content):
        _blacken(pixels, cv2.imdecode(content, cv2.IMREAD_UNCHANGED), path)
    return pixels


def _unreadable(path: Path) -> UserError:
    return UserError(
        "is not an image that can be read: damaged, cut off or of another kind.",
        file=path,
        hint="Give a whole PNG, JPEG, TIFF or BMP.",
    )


def _may_be_transparent(content: NDArray[np.uint8]) -> bool:
    head = content[:4096].tobytes()
    if head.startswith(b"\x89PNG"):
        return head[25] in (4, 6) or b"tRNS" in head
    return head.startswith(_TIFF) or head[8:12] == b"WEBP"


def _blacken(image: Pixels, whole: Pixels | None, path: Path) -> None:
    """Make black what `whole`, the image with its fourth channel, says is transparent."""
    if whole is None or whole.ndim != 3 or whole.shape[2] != 4:
        return
    cover = whole[..., 3]
    full = 255 if whole.dtype == np.uint8 else 65535
    gone = np.asarray(cover < _OPAQUE * full)
    if gone.shape != image.shape[:2]:
        raise UserError(
            "is partly transparent and turned by a note in it.",
            file=path,
            hint="Save it turned, or without transparency.",
        )
    image[gone] = 0


def _all_images(content: NDArray[np.uint8], path: Path) -> list[Pixels]:
    layout = _layout(path)
    if layout == [[0]]:
        return [_decoded(content, path)]
    read, pages = cv2.imdecodemulti(content, _FLAGS)
    if layout is None:
        layout = [[index] for index in range(len(pages))]
    if not read or len(pages) <= max(index for group in layout for index in group):
        raise _unreadable(path)
    if len(layout) == 1 and layout[0] == [0]:
        return [_decoded(content, path)]
    images: list[Pixels] = []
    for group in layout:
        page = pages[group[0]]
        if len(group) == _COLOURS:
            page = np.stack([pages[index][..., 0] for index in group], axis=-1)
        else:
            page = cv2.cvtColor(page, cv2.COLOR_BGR2RGB)
        images.append(page)
    return images


def _layout(path: Path) -> list[list[int]] | None:
    """Numbers of the pages of every image, one or three; None where the file does not say."""
    try:
        with path.open("rb") as opened, tifffile.TiffFile(opened) as file:
            return [group for series in file.series for group in _groups(series, path)] or None
    except (tifffile.TiffFileError, struct.error, LookupError, TypeError, ZeroDivisionError):
        return None


def _groups(series: tifffile.TiffPageSeries, path: Path) -> Iterator[list[int]]:
    pages = [page for page in series.pages if page is not None]
    if not pages or getattr(pages[0], "subfiletype", 0) & 1:
        return
    axes = [
        (axis, n) for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YXS"
    ]
    shape = [n for _, n in axes]
    colours = dict(axes).get("C", 1)
    if prod(shape) == 1:
        yield [pages[0].index]
        return
    if len(pages) != prod(shape):
        raise UserError(
            f"holds {prod(shape)} images in {len(pages)} pages.",
            file=path,
            hint="Save each image as a file of its own.",
        )
    if colours not in (1, _COLOURS):
        raise UserError(
            f"holds {colours} colours as pages; one or three are wanted.",
            file=path,
            hint="Save red, green and blue as one colour image.",
        )
    numbers = np.array([page.index for page in pages]).reshape(shape)
    if colours == 1:
        yield from ([int(number)] for number in numbers.ravel())
        return
    place = [axis for axis, _ in axes].index("C")
    yield from np.moveaxis(numbers, place, -1).reshape(-1, _COLOURS).tolist()


def refuse_name(path: Path) -> None:
    """UserError if no image can be written there, to be asked before long work."""
    if path.suffix.lower() not in ENDINGS:
        raise UserError(
            f"cannot write an image as '{path.suffix}'.",
            file=path,
            hint=f"Give a name that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.",
        )
    if not path.parent.is_dir():
        raise UserError("its folder does not exist.", file=path, hint="Make the folder first.")


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write (y, x, rgb) or (y, x) in the format of the file's ending.

    Raises
    ------
    UserError
        When it cannot be written.
    """
    refuse_name(path)
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    _, content = cv2.imencode(path.suffix, pixels)
    try:
        path.write_bytes(content.tobytes())
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror}).", file=path) from None
