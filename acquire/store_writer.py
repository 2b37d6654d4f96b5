"""Writing a pass: frames stream to disk while the microscope works; a position appears whole.

A position is written beside the plate and moved into it by one rename when all of its frames are
on disk. So a position in the plate is a finished one, whatever happened.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections import deque
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorstore

from plsctl.acquire.errors import PlsctlError, UserError, disk_error
from plsctl.acquire.ome_zarr import (
    LEVELS,
    WELL_METADATA,
    create_array,
    image_metadata,
    plate_metadata,
    read_group,
    write_group,
)
from plsctl.acquire.store import PassAttributes, RawImage, is_begun

WRITES_IN_FLIGHT = 8
"""Frames under way to the disk at once; more would only hide a disk that is too slow."""


class PassWriter:
    """Adds positions to the plate of a pass, new or begun earlier.

    Raises
    ------
    UserError
        The plate on disk was taken with other settings.
    """

    def __init__(self, path: Path, attributes: PassAttributes) -> None:
        self.path = path
        self.attributes = attributes
        self._staging = path.with_name(f".{path.name}.writing")
        self._wells: list[str] = []
        if is_begun(path):
            self._continue()
        shutil.rmtree(self._staging, ignore_errors=True)
        self._publish()

    def _continue(self) -> None:
        known = read_group(self.path)
        found = PassAttributes.model_validate(known["plsctl"])
        if found.settings_hash != self.attributes.settings_hash:
            raise UserError(
                f"the pass '{found.pass_name}' on disk was taken with other settings.",
                file=self.path,
                hint="Restore the slide, hardware and exposure files it was begun with, "
                "or scan into another folder with --out.",
            )
        listed = [well["path"] for well in known["ome"]["plate"]["wells"]]
        folders = (found.parent for found in self.path.glob("*/*/zarr.json"))
        present = [f"{well.parent.name}/{well.name}" for well in folders]
        # A kill between the rename and the new listing leaves a finished position unlisted; one
        # that somebody removed counts as not taken.
        kept = [well for well in listed if well in present]
        self._wells = kept + sorted(set(present) - set(listed))

    @property
    def wells(self) -> list[str]:
        """Finished positions in the order they were taken."""
        return list(self._wells)

    def _publish(self, finished: bool = False) -> None:
        attributes = self.attributes.model_copy(update={"finished": finished})
        plate = plate_metadata(f"{attributes.slide} {attributes.pass_name}", self._wells)
        write_group(self.path, {"ome": plate, "plsctl": attributes.model_dump(mode="json")})

    def position(self, name: str, centre_um: tuple[float, float, float]) -> PositionWriter:
        """Begin a position; it joins the plate when its `finish` is called."""
        return PositionWriter(self._staging / name.replace("/", "-"), name, centre_um, self)

    def adopt(self, folder: Path, name: str) -> None:
        """Move a finished position into the plate and list it."""
        row = self.path / name.split("/", maxsplit=1)[0]
        if not row.exists():
            write_group(row, {})
        folder.rename(self.path / name)
        self._wells.append(name)
        self._publish()

    def finish(self) -> None:
        """Mark the pass as finished."""
        shutil.rmtree(self._staging, ignore_errors=True)
        self._publish(finished=True)


class PositionWriter:
    """Writes the frames of one position, a bounded number at once."""

    def __init__(
        self, folder: Path, name: str, centre_um: tuple[float, float, float], plate: PassWriter
    ) -> None:
        self._folder = folder
        self._name = name
        self._centre_um = centre_um
        self._plate = plate
        self._levels: list[tensorstore.TensorStore] = []
        self._pending: deque[tensorstore.WriteFutures] = deque()
        self._shape: tuple[int, int, int] | None = None
        shutil.rmtree(folder, ignore_errors=True)

    def write(self, index: int, image: RawImage) -> None:
        """Send one frame, (y, x, rgb) or (y, x), to the disk; returns while it is under way."""
        colour = image[..., None] if image.ndim == 2 else image
        try:
            if not self._levels:
                self._create(colour)
            for level, array in enumerate(self._levels):
                planes = np.moveaxis(_reduced(colour, level), -1, 0)
                self._pending.append(array[index, :, 0].write(planes))
            while len(self._pending) > WRITES_IN_FLIGHT * LEVELS:
                self._pending.popleft().result()
        except (ValueError, OSError) as error:
            raise disk_error(error, self._folder) from None

    def _create(self, image: RawImage) -> None:
        height, width, channels = image.shape
        self._shape = (height, width, channels)
        count = len(self._plate.attributes.frames)
        for level in range(LEVELS):
            shape = (count, channels, 1, height >> level, width >> level)
            folder = self._folder / "0" / str(level)
            self._levels.append(create_array(folder, shape, image.dtype))

    def flush(self) -> None:
        """Wait until every frame is on the disk; a full or broken disk is an error here."""
        try:
            while self._pending:
                self._pending.popleft().result()
        except (ValueError, OSError) as error:
            raise disk_error(error, self._folder) from None

    def finish(self, facts: dict[str, Any]) -> None:
        """Wait for the disk, write the metadata and move the position into the plate."""
        self.flush()
        if self._shape is None:
            raise PlsctlError(f"position {self._name} was finished without a frame.")
        height, width, channels = self._shape
        attributes = self._plate.attributes
        x, y, z = self._centre_um
        pixel = attributes.pixel_um
        corner = (x - (width - 1) / 2 * pixel, y - (height - 1) / 2 * pixel, z)
        name = f"{attributes.slide} {attributes.pass_name} {self._name}"
        ome = image_metadata(name, pixel, corner, channels, attributes.full_scale)
        try:
            write_group(self._folder / "0", {"ome": ome, "plsctl": facts})
            write_group(self._folder, {"ome": WELL_METADATA})
            self._plate.adopt(self._folder, self._name)
        except OSError as error:
            raise disk_error(error, self._folder) from None

    def discard(self) -> None:
        """Give the position up; nothing of it stays."""
        # Writes under way hold on to images; they must end before the interpreter may.
        while self._pending:
            with contextlib.suppress(ValueError, OSError):
                self._pending.popleft().result()
        self._levels.clear()
        shutil.rmtree(self._folder, ignore_errors=True)


def _reduced(image: RawImage, level: int) -> RawImage:
    if level == 0:
        return image
    height, width = image.shape[0] >> level, image.shape[1] >> level
    factor = 2**level
    # Cropping to whole blocks keeps every pixel of a lower level the mean of its own block.
    blocks = image[: height * factor, : width * factor]
    reduced = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_AREA)
    return reduced.reshape(height, width, -1)  # type: ignore[return-value]


def frame_bytes(shape: tuple[int, int, int], bytes_per_value: int) -> int:
    """Bytes of a frame (y, x, channel) with its lower levels, before compression."""
    return math.prod(shape) * bytes_per_value * 21 // 16
