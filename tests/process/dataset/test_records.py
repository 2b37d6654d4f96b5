from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plsctl.acquire.errors import UserError
from plsctl.acquire.store.records import FrameRecord
from plsctl.process.dataset.records import DatasetFrame, parse_attributes

TAKEN = FrameRecord(
    label="arm1-24:low", led="arm1-24", variant="low", leds=(5,), exposure_ms=4.0, gain=1.5,
    brightness=0.5, direction=(0.1, -0.2), bright_field=False,
)  # fmt: skip

OLD: dict[str, Any] = {
    "format": "plsctl-dataset", "version": 1, "axes": ["sample", "image", "channel", "y", "x"],
    "recipe": "brightfield", "frames": [{"label": "brightfield", "note": [1]}],
    "targets": ["20x"], "pixel_um": 0.293, "crop_px": 64, "complete": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("said", "light"),
    [
        ({}, None),
        ({"exposure_ms": 4.0, "gain": 1.5}, None),
        ({"exposure_ms": 4.0, "gain": None, "brightness": 0.5}, None),
        ({"exposure_ms": 4.0, "gain": 1.5, "brightness": 0}, None),
        ({"exposure_ms": 4, "gain": "1.5", "brightness": 0.5}, 3.0),
        (TAKEN, 3.0),
    ],
)
def test_light_is_exposure_times_gain_times_brightness(said: Any, light: float | None) -> None:
    frame = DatasetFrame.of(said if said is TAKEN else {"label": "a", **said})
    assert frame.light == light
    assert TAKEN.light == 3.0


def test_frames_are_written_as_they_were_said() -> None:
    assert DatasetFrame.of(TAKEN).model_dump_json() == TAKEN.model_dump_json()
    assert DatasetFrame.of(TAKEN).record() == TAKEN
    assert DatasetFrame.of({"label": "a", "led": "x"}).model_dump() == {"label": "a", "led": "x"}


def test_data_sets_of_before_are_read_and_damaged_ones_named() -> None:
    found = parse_attributes(OLD, Path("zarr.json"))
    assert found.model_dump(mode="json", exclude_unset=True) == OLD
    assert (found.margin_px, found.black, found.white, found.quality) == (0, 0.0, 255, None)
    with pytest.raises(UserError) as error:
        parse_attributes(OLD | {"pixel_um": "wide"}, Path("zarr.json"))
    assert error.value.field == "pixel_um" and "'wide'" in error.value.message
