"""Writing a pass: a thread takes frames to the disk while the microscope works on.

A position is written beside the plate and moved into it by one rename when all of its frames are
on disk. So a position in the plate is a finished one, whatever happened. While one position is
taken, at most one other may be on its way to the disk.
"""

from __future__ import annotations

import math
import shutil
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.errors import PlsctlError, UserError, disk_error, disk_errors
from plsctl.acquire.files.whole_files import rename, sync_folder
from plsctl.acquire.store.disk_queue import DiskQueue, Job
from plsctl.acquire.store.folder import is_begun
from plsctl.acquire.store.ome_zarr import (
    WELL_METADATA,
    image_metadata,
    plate_metadata,
    read_group,
    write_group,
)
from plsctl.acquire.store.position_files import PositionFiles
from plsctl.acquire.store.records import PassAttributes, parse_pass

QUEUED_POSITIONS = 1
"""Positions that may wait for the disk while the next one is taken."""

QUEUED_BYTES = 2**30
"""Images that may wait for the disk, whatever their size: the memory that scanning needs."""


class PassWriter:
    """Adds positions to the plate of a pass, new or begun earlier.

    Raises
    ------
    UserError
        The plate on disk was taken with other settings, or the disk does not take this one.
    """

    def __init__(self, path: Path, attributes: PassAttributes) -> None:
        self.path = path
        self.attributes = attributes
        self._staging = path.with_name(f".{path.name}.writing")
        self._wells: list[str] = []
        self._finished: deque[str] = deque()
        self._queued: list[str] = []
        self.queue = DiskQueue(QUEUED_BYTES)
        if is_begun(path):
            self._continue()
        shutil.rmtree(self._staging, ignore_errors=True)
        with disk_errors(path):
            self._publish()

    def _continue(self) -> None:
        known = read_group(self.path)
        found = parse_pass(known.get("plsctl"), self.path)
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

    @property
    def queued_positions(self) -> int:
        """Positions whose frames are all taken and not all on the disk."""
        return len(self._queued)

    def position(self, name: str, centre_um: tuple[float, float, float]) -> PositionWriter:
        """Begin a position; waits while more than one is still on its way to the disk.

        Raises
        ------
        UserError
            The disk is full or does not take the images.
        """
        self.queue.wait_until(lambda: self.queued_positions <= QUEUED_POSITIONS)
        return PositionWriter(self._staging / name.replace("/", "-"), name, centre_um, self)

    def take_finished(self) -> list[str]:
        """Positions that have joined the plate since the last call; does not wait."""
        return [self._finished.popleft() for _ in range(len(self._finished))]

    def expect(self, name: str) -> None:
        """Count a position as queued: all of its frames are handed over."""
        self._queued.append(name)

    def adopt(self, folder: Path, name: str, then: Job | None) -> None:
        """Move a finished position into the plate and list it; called by the disk thread."""
        row = self.path / name.split("/", maxsplit=1)[0]
        # A kill may have left the row's folder without its metadata.
        if not (row / "zarr.json").exists():
            write_group(row, {})
        rename(folder, self.path / name)
        sync_folder(row)
        self._wells.append(name)
        self._publish()
        if then is not None:
            then()
        self._queued.remove(name)
        self._finished.append(name)

    def drain(self) -> None:
        """Wait for the disk; `UserError` when it did not take everything."""
        self.queue.drain()

    def settle(self) -> None:
        """Wait for the disk; positions that were handed over whole are finished, if it can."""
        self.queue.settle()

    def finish(self) -> None:
        """Wait for the disk and mark the pass as finished."""
        self.drain()
        shutil.rmtree(self._staging, ignore_errors=True)
        with disk_errors(self.path):
            self._publish(finished=True)


class PositionWriter:
    """Takes the frames of one position and hands them to the disk thread."""

    def __init__(
        self, folder: Path, name: str, centre_um: tuple[float, float, float], plate: PassWriter
    ) -> None:
        self._folder = folder
        self._name = name
        self._centre_um = centre_um
        self._plate = plate
        self._files = PositionFiles(folder, len(plate.attributes.frames))
        self._given_up = False

    def write(self, index: int, image: RawImage) -> None:
        """Hand over one frame, (y, x, rgb) or (y, x); it must not be changed afterwards.

        Frames may come in any order; one that comes again replaces the earlier one. Returns at
        once, or as soon as the queue has room.

        Raises
        ------
        UserError
            The disk is full or does not take the images, of this position or the one before.
        """
        self._put(lambda: self._files.write(index, image), image.nbytes)

    def finish_later(self, metadata: dict[str, Any], then: Job | None = None) -> None:
        """All frames are handed over: once on the disk, the position joins the plate.

        Parameters
        ----------
        then
            Called by the disk thread when the position is in the plate; what it raises counts
            as a failure of the disk. `PassWriter.take_finished` tells the caller's own thread.
        """
        self._plate.expect(self._name)
        self._put(lambda: self._complete(metadata, then))

    def finish(self, metadata: dict[str, Any]) -> None:
        """Wait until the position is on the disk and in the plate."""
        self.finish_later(metadata)
        self._plate.drain()

    def discard(self) -> None:
        """Discard the position and its files. Frames still queued are skipped."""
        self._given_up = True
        self._plate.queue.put_clearing(self._files.remove)

    def _put(self, job: Job, nbytes: int = 0) -> None:
        self._plate.queue.put(lambda: self._run(job), nbytes)

    def _run(self, job: Job) -> None:
        if self._given_up:
            return
        try:
            job()
        except Exception as error:
            self._files.remove()
            if isinstance(error, (ValueError, OSError)) and not isinstance(error, PlsctlError):
                raise disk_error(error, self._plate.path) from None
            raise

    def _complete(self, metadata: dict[str, Any], then: Job | None) -> None:
        self._files.flush()
        height, width, channels = self._files.shape
        attributes = self._plate.attributes
        x, y, z = self._centre_um
        pixel = attributes.pixel_um
        corner = (x - (width - 1) / 2 * pixel, y - (height - 1) / 2 * pixel, z)
        name = f"{attributes.slide} {attributes.pass_name} {self._name}"
        ome = image_metadata(name, pixel, corner, channels, attributes.full_scale, attributes.bayer)
        write_group(self._folder / "0", {"ome": ome, "plsctl": metadata})
        write_group(self._folder, {"ome": WELL_METADATA})
        self._plate.adopt(self._folder, self._name, then)


def frame_bytes(shape: tuple[int, int, int], bytes_per_value: int) -> int:
    """Bytes of a frame (y, x, channel) with its lower levels, before compression."""
    return math.prod(shape) * bytes_per_value * 21 // 16


def check_disk(folder: Path, image_shape: Sequence[int], bytes_per_value: int, frames: int) -> None:
    """`UserError` when the disk has no room for what is still to be written.

    Compression roughly halves what noise leaves to compress; half is what must be free.
    """
    shape = (image_shape[0], image_shape[1], image_shape[2] if len(image_shape) == 3 else 1)
    needed = frame_bytes(shape, bytes_per_value) * frames // 2
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"the disk has {free / 1e6:,.0f} MB free, and what is still to be taken needs about "
            f"{needed / 1e6:,.0f} MB.",
            file=folder,
            hint="Make room and run the same command again, choose another folder with --out, or "
            "scan a smaller region.",
        )
