"""The scan store: a scan's folder, and one OME-Zarr plate for each of its passes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from plsctl.acquire.arrays import Image, RawImage
from plsctl.acquire.errors import DamagedData, UserError
from plsctl.acquire.files.locations import location, open_group
from plsctl.acquire.store.images import checksum, develop, halved
from plsctl.acquire.store.ome_zarr import (
    StoredImages,
    damage_in_words,
    open_array,
    read_group,
    row_number,
)
from plsctl.acquire.store.ome_zarr import one_core as one_core_context
from plsctl.acquire.store.records import Box, PositionRecord, parse_pass

if TYPE_CHECKING:
    import zarr


class PassReader:
    """Reads the images of one pass.

    Parameters
    ----------
    without
        Positions that are passed over.

    Raises
    ------
    UserError
        The folder is not a pass that plsctl wrote, or an image of it cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        one_core: bool = False,
        without: frozenset[str] = frozenset(),
    ) -> None:
        self.path = path = location(path)
        self._context = one_core_context() if one_core else None
        found = read_group(path)
        content = found.get("plsctl")
        if not isinstance(content, dict) or content.get("format") != "plsctl-pass":
            raise UserError(
                "this zarr folder is not a pass of a scan.",
                file=path,
                hint="Name a folder such as S001/unstained.ome.zarr.",
            )
        self.attributes = parse_pass(content, path)
        wells = [well["path"] for well in found["ome"]["plate"]["wells"]]
        self._wells = [name for name in wells if name not in without]
        self._open = lru_cache(maxsize=8)(self._open_uncached)
        self._noted = lru_cache(maxsize=8)(self._read_noted)
        # Thousands of 100x positions are looked through for every cell.
        self.position = lru_cache(maxsize=None)(self._read_position)

    @cached_property
    def group(self) -> zarr.Group:
        """The plate for zarr-python: `group["A/1/0/0"]` is an array (led, c, z, y, x)."""
        return open_group(self.path)

    @property
    def names(self) -> list[str]:
        """Wells of the finished positions, in the order they were taken."""
        return list(self._wells)

    def add(self, name: str) -> None:
        """Read a position, too, that was finished since the pass was opened."""
        if name not in self._wells:
            self._wells.append(name)

    @property
    def labels(self) -> list[str]:
        """Labels of the frames, in the order of the stack."""
        return [frame.label for frame in self.attributes.frames]

    @property
    def positions(self) -> list[PositionRecord]:
        """The finished positions in the order they were taken."""
        return [self.position(name) for name in self._wells]

    def _read_position(self, name: str) -> PositionRecord:
        """One finished position."""
        metadata = self.position_metadata(name)
        row, column = name.split("/")
        place = metadata["position"]
        return PositionRecord(
            name=name,
            row=row_number(row),
            column=int(column) - 1,
            x_um=place["x_um"],
            y_um=place["y_um"],
            z_um=place["z_um"],
            slide_x_um=place["slide_x_um"],
            slide_y_um=place["slide_y_um"],
        )

    def position_metadata(self, name: str) -> dict[str, Any]:
        """What was noted about a position and its frames while they were taken."""
        metadata: dict[str, Any] = read_group(self.path / name / "0")["plsctl"]
        return metadata

    def _open_uncached(self, name: str, level: int) -> StoredImages:
        if name not in self._wells:
            raise UserError(f"the pass has no position '{name}'.", file=self.path)
        return open_array(self.path / name / "0" / str(level), self._context)

    def _read_noted(self, name: str) -> tuple[int, ...]:
        """CRC-32 of each frame as it was taken; of stained plates nothing was noted."""
        frames = self.position_metadata(name).get("frames") or ()
        try:
            return tuple(int(frame["crc32"]) for frame in frames)
        except (KeyError, TypeError, ValueError):
            raise DamagedData(
                f"what was noted of position {name}",
                "is damaged",
                file=self.path / name / "0" / "zarr.json",
                hint=_REMEDY,
            ) from None

    @property
    def has_checksums(self) -> bool:
        """Whether parts of frames carry checksums; scans of before have those of frames only."""
        return not self._wells or self._open(self._wells[0], 0).checked

    def raw_frame(self, name: str, index: int, level: int = 0) -> RawImage:
        """One frame as the camera gave it: (y, x, rgb) or (y, x).

        Raises
        ------
        DamagedData
            Its file is missing, or it is not what was written.
        """
        if level and not self._open(name, level).checked:
            # Scans of before have no checksums of lower levels: they are made anew.
            frame = self.raw_frame(name, index)
            for _ in range(level):
                frame = halved(frame)
            return frame
        frame = self.stored_frame(name, index, level)
        if level == 0:
            self._compare(name, index, frame)
        return frame

    def stored_frame(self, name: str, index: int, level: int = 0) -> RawImage:
        """As `raw_frame`, not compared with the checksum that was noted when it was taken."""
        try:
            planes: RawImage = self._open(name, level).array[index, :, 0].read().result()
        except (ValueError, OSError) as error:
            raise self._unreadable(name, index, error, level) from None
        return _interleaved(planes)

    def _compare(self, name: str, index: int, frame: RawImage) -> None:
        """`DamagedData` where a frame is not what was taken, or was filled in for no file."""
        noted = self._noted(name)
        if index < len(noted):
            wrong = checksum(frame) != noted[index]
        else:
            stained = self.position_metadata(name).get("stained") or {}
            # Plates of before left out black files: those of fields without cells.
            there = self._file(name, index).exists() or stained.get("cells_only", False)
            wrong = not (self._open(name, 0).checked or there)
        if wrong and not self._file(name, index).exists():
            raise self._damaged(name, index, "is missing")
        if wrong:
            raise self._damaged(name, index, "is not what was taken: its file is damaged")

    def _file(self, name: str, index: int, level: int = 0) -> Path:
        """The file of a frame; lower levels share files."""
        shared = self._open(name, level).frames
        return self.path / name / "0" / str(level) / "c" / str(index // shared) / "0/0/0/0"

    def _unreadable(self, name: str, index: int, error: Exception, level: int = 0) -> DamagedData:
        if "NOT_FOUND" in str(error):
            return self._damaged(name, index, "is missing", level)
        reason = damage_in_words(error)
        return self._damaged(name, index, f"cannot be read: its file is damaged ({reason})", level)

    def _damaged(self, name: str, index: int, problem: str, level: int = 0) -> DamagedData:
        return DamagedData(
            f"frame '{self.labels[index]}' of position {name}",
            problem,
            file=self._file(name, index, level),
            hint=_REMEDY,
        )

    def size_px(self, name: str) -> tuple[int, int]:
        """Width and height of a position's images."""
        height, width = self._open(name, 0).array.shape[3:]
        return int(width), int(height)

    def windows(self, name: str, index: int, boxes: Sequence[Box]) -> list[Image]:
        """Parts of one frame, developed: what `frame` gives, cut, without reading the rest.

        Parameters
        ----------
        boxes
            (left, top, right, bottom) in pixels, inside the image.

        Returns
        -------
        One (y, x, rgb) uint8 array per box.
        """
        margin = _DEVELOPING_PX if self.attributes.bayer is not None else 0
        wider = [_widened(box, margin, self.size_px(name)) for box in boxes]
        parts = []
        for box, read, planes in zip(boxes, wider, self._parts(name, index, wider), strict=True):
            left, top = box[0] - read[0], box[1] - read[1]
            image = develop(_interleaved(planes), self.attributes)
            parts.append(image[top : top + box[3] - box[1], left : left + box[2] - box[0]])
        return parts

    def planes(self, name: str, index: int, boxes: Sequence[Box]) -> list[Image]:
        """As `windows`, each part (rgb, y, x): colour of 8 bits comes as it is stored."""
        array = self._open(name, 0).array
        if array.shape[1] != 3 or array.dtype.name != "uint8":
            parts = self.windows(name, index, boxes)
            return [np.ascontiguousarray(np.moveaxis(part, -1, 0)) for part in parts]
        return [np.asarray(part) for part in self._parts(name, index, boxes)]

    def _parts(self, name: str, index: int, boxes: Sequence[Box]) -> list[RawImage]:
        """Parts of one frame as they are stored, each (channel, y, x), none of them damaged."""
        stored = self._open(name, 0)
        if not stored.checked:
            # Only the frame as a whole has a checksum: it is read and compared, then cut.
            frame = self.raw_frame(name, index)
            frame = frame[..., None] if frame.ndim == 2 else frame
            return [
                np.ascontiguousarray(np.moveaxis(frame[top:bottom, left:right], -1, 0))
                for left, top, right, bottom in boxes
            ]
        pending = [
            stored.array[index, :, 0, top:bottom, left:right].read()
            for left, top, right, bottom in boxes
        ]
        try:
            return [future.result() for future in pending]
        except (ValueError, OSError) as error:
            raise self._unreadable(name, index, error) from None

    def frame(self, name: str, index: int) -> Image:
        """One frame developed to colour: shape (y, x, rgb), uint8, linear."""
        return develop(self.raw_frame(name, index), self.attributes)

    def brightfield(self, name: str) -> Image:
        """The bright-field image of a position: shape (y, x, rgb), uint8."""
        return self.frame(name, self.labels.index("brightfield"))

    @property
    def brightfield_light(self) -> float:
        """Exposure (ms) x gain x brightness of the bright-field images."""
        return self.attributes.frames[self.labels.index("brightfield")].light

    def stack(self, name: str, labels: Sequence[str] | None = None) -> Image:
        """All frames of a position, or those named: shape (frame, y, x, rgb), uint8.

        Raises
        ------
        UserError
            The pass has no such frame.
        """
        place = {label: index for index, label in enumerate(self.labels)}
        wanted = self.labels if labels is None else labels
        missing = [label for label in wanted if label not in place]
        if missing:
            raise UserError(f"the pass has no frame '{missing[0]}'.", file=self.path)
        return np.stack([self.frame(name, place[label]) for label in wanted])


log = logging.getLogger(__name__)

_SAID: set[str] = set()
"""Passes of which it was said that they carry no checksums."""


def say_unchecked(reader: PassReader) -> None:
    """Say once that a pass was written before parts of frames carried checksums."""
    with contextlib.suppress(UserError):
        if str(reader.path) in _SAID or reader.has_checksums:
            return
        _SAID.add(str(reader.path))
        noted = bool(reader.names) and "frames" in reader.position_metadata(reader.names[0])
        log.warning(
            "%s carries no checksums of parts of frames%s.",
            reader.path,
            ": whole frames are read and compared with what was noted of them, which takes longer"
            if noted
            else ": values that have changed in it are not noticed",
        )


_REMEDY = (
    "Take the file from a copy, or leave the position out with --skip-damaged; plsctl scan "
    "SLIDE.yaml --verify finds all that is damaged."
)

_DEVELOPING_PX = 8
"""Room around a part of a mosaic, even: its pixels then have the neighbours of the whole image."""


def _widened(box: Box, margin: int, size: tuple[int, int]) -> Box:
    """A box with a margin inside an image (width, height), starting at even pixels of a mosaic."""
    if not margin:
        return box
    left, top, right, bottom = box
    return (
        max(0, left - left % 2 - margin),
        max(0, top - top % 2 - margin),
        min(size[0], right + margin),
        min(size[1], bottom + margin),
    )


def _interleaved(planes: RawImage) -> RawImage:
    """Colour planes as an image (y, x, rgb), a single one as (y, x)."""
    if planes.shape[0] == 1:
        grey: RawImage = planes[0]
        return grey
    return np.asarray(cv2.merge(list(planes)))  # ten times as fast as transposing in NumPy
