"""Bright-field images of a slide and where each lies: of a scan, or of a folder with a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from plsctl.acquire.arrays import Image
from plsctl.acquire.coordinates import CameraOrientation, ImageAxes
from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import location
from plsctl.acquire.files.tables import number, read_table
from plsctl.acquire.roles import FieldView
from plsctl.acquire.store.folder import ScanFolder, is_begun
from plsctl.acquire.store.reader import PassReader, say_unchecked
from plsctl.process.image_files import read_image

TABLE = "positions.csv"
COLUMNS = ("file", "x_um", "y_um")
TWENTY_FOLD = ("unstained", "stained")
"""Passes that show whole fields, the one that is taken unless a plate is named first."""


@dataclass(frozen=True)
class SlideImages:
    """Images of one slide, read when they are asked for.

    Parameters
    ----------
    path
        Scan, plate or folder that holds them.
    pixel_um
        Size of a pixel in the sample.
    orientation
        Of the camera against the stage.
    places_um
        Stage position (x, y) of the middle of each image.
    read
        An image by its number, (y, x, rgb), uint8.
    """

    path: Path
    pixel_um: float
    orientation: CameraOrientation
    places_um: tuple[tuple[float, float], ...]
    read: Callable[[int], Image]

    def view(self, index: int, pixel_um: float, rotation_deg: float) -> FieldView:
        """An image as a camera with other pixels and another rotation would have taken it."""
        image = self.read(index)
        turned = CameraOrientation(self.orientation.rotation_deg - rotation_deg)
        if self.pixel_um == pixel_um and turned.rotation_deg == 0:
            image = np.ascontiguousarray(image[:, ::-1]) if self.orientation.mirrored else image
            return FieldView(*self.places_um[index], image)
        shrink = pixel_um / self.pixel_um
        height, width = image.shape[:2]
        sides = turned.upright(width / shrink, height / shrink)
        size = (int(sides[0]), int(sides[1]))
        ours = ImageAxes((0.0, 0.0), (width, height), self.pixel_um, self.orientation)
        theirs = ImageAxes((0.0, 0.0), size, pixel_um, CameraOrientation(rotation_deg))
        last = [[0.0, 0.0, 1.0]]
        to_ours = np.linalg.inv(np.vstack([ours.matrix, last])) @ np.vstack([theirs.matrix, last])
        if shrink > 1:
            # What is finer than the new pixels would turn up as patterns that are not there.
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.5 * (shrink**2 - 1) ** 0.5))
        warped = cv2.warpAffine(
            image,
            to_ours[:2],
            size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return FieldView(*self.places_um[index], np.asarray(warped, np.uint8))


def open_slide(
    path: str | Path, pixel_um: float | None = None, orientation: CameraOrientation | None = None
) -> SlideImages:
    """The images of a scan's folder, of one pass's plate, or of a folder with `positions.csv`.

    Parameters
    ----------
    pixel_um, orientation
        Of the folder's images. A scan knows its own, and these are refused.

    Raises
    ------
    UserError
        There is nothing of the kind, a scan is given a pixel size, or a folder is given none.
    """
    path = location(path)
    if not path.is_dir():
        raise UserError(
            "there is no such folder.",
            file=path,
            hint=f"Name a scan, a pass such as S001/stained.ome.zarr, or a folder with {TABLE}.",
        )
    plate = _plate(path)
    if plate is None:
        return _folder(path, pixel_um, orientation or CameraOrientation())
    if pixel_um is not None or orientation is not None:
        raise UserError(
            "a scan says itself how large its pixels are and how its camera stood.",
            file=path,
            hint="Leave out --pixel-um, --camera-rotation-deg and --camera-mirrored.",
        )
    reader = PassReader(plate)
    say_unchecked(reader)
    places = reader.positions
    if not places:
        raise UserError("no position of this pass is finished.", file=plate)
    return SlideImages(
        plate,
        reader.attributes.pixel_um,
        reader.attributes.orientation,
        tuple((place.x_um, place.y_um) for place in places),
        lambda index: reader.brightfield(places[index].name),
    )


def is_scan(path: str | Path) -> bool:
    """Whether a path is a scan's folder or a pass of one."""
    return _plate(location(path)) is not None


def _plate(path: Path) -> Path | None:
    """The plate that a path names; None where it is no scan."""
    folder = ScanFolder(path)
    begun = [folder.pass_path(name) for name in TWENTY_FOLD if is_begun(folder.pass_path(name))]
    if begun:
        return begun[0]
    return path if path.name.endswith(".zarr") else None


def _folder(path: Path, pixel_um: float | None, orientation: CameraOrientation) -> SlideImages:
    table = path / TABLE
    if not table.exists():
        raise UserError(
            f"this folder is no scan and has no {TABLE}.",
            file=path,
            hint=f"Write {TABLE} into it: {','.join(COLUMNS)}, one row an image, the stage "
            "position of its middle in micrometres.",
        )
    if pixel_um is None:
        raise UserError(
            "the size of a pixel is not known.",
            file=path,
            hint="Say it with --pixel-um: micrometres of the sample.",
        )
    rows = read_table(table, COLUMNS)
    files = [_file(path, row["file"], line) for line, row in rows]
    return SlideImages(
        path,
        pixel_um,
        orientation,
        tuple(
            (number(row, "x_um", table, line), number(row, "y_um", table, line))
            for line, row in rows
        ),
        lambda index: read_image(files[index]),
    )


def _file(folder: Path, name: str, line: int) -> Path:
    if not name or not (folder / name).is_file():
        raise UserError(
            f"there is no image '{name}' in this folder.",
            file=folder / TABLE,
            line=line,
            field="file",
            hint="Write the file's name as it stands in the folder.",
        )
    return folder / name
