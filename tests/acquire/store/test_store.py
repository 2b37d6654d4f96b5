"""The scan store: parts of a frame are what the whole frame holds there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plsctl.acquire.errors import UserError
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import FrameRecord, PassAttributes
from plsctl.acquire.store.writer import PassWriter


def _write(path: Path, image: np.ndarray, bayer: str | None, full_scale: int) -> PassReader:
    frame = FrameRecord(
        label="brightfield", led="brightfield", variant="", leds=(0,), exposure_ms=1.0, gain=1.0,
        brightness=1.0, direction=None, bright_field=True,
    )  # fmt: skip
    attributes = PassAttributes(
        slide="S1", patient=None, stain="s", pass_name="unstained", recipe="brightfield",
        objective="20x", magnification=20, na=0.4, pixel_um=0.293, camera_rotation_deg=0.0,
        bayer=bayer, bit_depth=8, black_level=4.0, full_scale=full_scale, frames=(frame,),
        settings_hash="h",
    )  # fmt: skip
    writer = PassWriter(path, attributes)
    position = writer.position("A/1", (0.0, 0.0, 0.0))
    position.write(0, image)
    position.finish({"position": {}})
    writer.finish()
    return PassReader(path, one_core=True)


@pytest.mark.parametrize("bayer", [None, "RGGB", "GBRG"])
@pytest.mark.parametrize("full_scale", [255, 4095])
def test_windows_are_parts_of_the_developed_frame(
    tmp_path: Path, bayer: str | None, full_scale: int
) -> None:
    rng = np.random.default_rng(2)
    shape = (250, 331) if bayer else (250, 331, 3)
    raw = rng.integers(0, full_scale, shape).astype(np.uint16 if full_scale > 255 else np.uint8)
    reader = _write(tmp_path / "p.ome.zarr", raw, bayer, full_scale)
    assert reader.size_px("A/1") == (331, 250)
    whole = reader.frame("A/1", 0)
    boxes = [(0, 0, 64, 64), (267, 186, 331, 250), (101, 35, 165, 99), (236, 0, 331, 7)]
    windows, planes = reader.windows("A/1", 0, boxes), reader.planes("A/1", 0, boxes)
    for box, part, turned in zip(boxes, windows, planes, strict=True):
        left, top, right, bottom = box
        np.testing.assert_array_equal(part, whole[top:bottom, left:right])
        np.testing.assert_array_equal(turned, np.moveaxis(part, -1, 0))


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    reader = _write(tmp_path / "p.ome.zarr", np.full((250, 331, 3), 7, np.uint8), None, 255)
    shard = tmp_path / "p.ome.zarr" / "A" / "1" / "0" / "0" / "c" / "0" / "0" / "0" / "0" / "0"
    shard.write_bytes(b"torn")
    for read in (reader.windows, reader.planes):
        with pytest.raises(UserError, match="frame 'brightfield' of position A/1 cannot be read"):
            read("A/1", 0, [(0, 0, 64, 64)])
