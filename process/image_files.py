"""Ordinary image files as arrays (y, x, rgb), and arrays as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import location

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """An image file as colour: shape (y, x, rgb), uint8.

    Grey images become colour; 16-bit images are scaled by their full range of 65535.

    Raises
    ------
    UserError
        When the file is missing or is no image.
    """
    path = location(path)
    try:
        content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror}).", file=path, hint="Check the path."
        ) from None
    # imdecode and not imread: paths outside the code page fail in imread on Windows.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    image = cv2.imdecode(content, flags) if content.size else None
    if image is None:
        raise UserError(
            "is not an image that can be read.", file=path, hint="Give a PNG, JPEG, TIFF or BMP."
        )
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.dtype != np.uint8:
        raise UserError(
            f"holds {image.dtype} values.", file=path, hint="Save it with 8 or 16 bits a channel."
        )
    return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


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
