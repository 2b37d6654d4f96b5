"""What camera and hardware file must agree about, and gains that a property lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.clock import WallClock
from plsctl.acquire.devices.camera import Camera
from plsctl.acquire.devices.core_camera import check_core_camera
from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.hardware_parts import TriggerSettings
from plsctl.acquire.errors import UserError
from plsctl.acquire.scanning.preflight import check_image


class Core:
    """A core with one camera whose properties are a table."""

    def __init__(self, gains: tuple[str, ...] = (), bits: int = 8) -> None:
        self.gains, self.bits = gains, bits
        self.values: dict[str, str] = {}
        self.exposure_ms = 0.0

    def getAllowedPropertyValues(self, device: str, name: str) -> tuple[str, ...]:
        return self.gains

    def setProperty(self, device: str, name: str, value: str) -> None:
        if self.gains and value not in self.gains:
            raise RuntimeError(f"{value} is not in the list")
        self.values[name] = value

    def getProperty(self, device: str, name: str) -> str:
        return self.values[name]

    def hasProperty(self, device: str, name: str) -> bool:
        return name in self.values

    def getDevicePropertyNames(self, device: str) -> tuple[str, ...]:
        return tuple(self.values)

    def setCameraDevice(self, device: str) -> None:
        pass

    def setExposure(self, device: str, exposure_ms: float) -> None:
        self.exposure_ms = exposure_ms

    def getExposure(self, device: str) -> float:
        return self.exposure_ms

    def getROI(self, device: str) -> list[int]:
        return [0, 0, 800, 600]

    def getImageBitDepth(self) -> int:
        return self.bits

    def snapImage(self) -> None:
        pass


def described(**camera: Any) -> Hardware:
    hardware = load_hardware("simulator_small")
    changed = hardware.camera.model_copy(update={"exposure_range_ms": (0.02, 4000.0)} | camera)
    return hardware.model_copy(update={"camera": changed, "core": "scope.cfg"})


@pytest.mark.parametrize(
    ("gains", "gain", "set_as"),
    [((), 2.5, "2.5"), (("1", "2", "4"), 2.0, "2"), (("1.00", "2.50"), 2.5, "2.50")],
)
def test_a_gain_is_set_as_its_property_lists_it(
    gains: tuple[str, ...], gain: float, set_as: str
) -> None:
    core = Core(gains)
    Camera(described(), core, WallClock()).expose(1.0, gain)  # type: ignore[arg-type]
    assert core.values["Gain"] == set_as


@pytest.mark.parametrize(
    ("camera", "field"),
    [
        ({"gain_property": "gain"}, "camera.gain_property"),
        ({"properties": {"Gian": 1}}, "camera.properties.Gian"),
        ({"trigger": TriggerSettings(property="Gains")}, "camera.trigger.property"),
    ],
)
def test_a_property_that_the_camera_does_not_have_is_named(
    camera: dict[str, Any], field: str
) -> None:
    core = Core()
    core.values["Gain"] = "1"
    with pytest.raises(UserError, match=r"has no property .*Did you mean 'Gain'") as caught:
        Camera(described(**camera), core, WallClock()).prepare()  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_gain_that_is_not_listed_is_refused() -> None:
    camera = Camera(described(), Core(("1", "4")), WallClock())  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"asks for gain 2, and .* takes only 1, 4"):
        camera.expose(1.0, 2.0)


@pytest.mark.parametrize(("bits", "said"), [(16, 12), (8, 16), (12, 12)])
def test_a_bit_depth_unlike_the_cores_is_refused(bits: int, said: int) -> None:
    hardware = described(bit_depth=said)
    if bits == said:
        check_core_camera(Core(bits=bits), hardware, None)  # type: ignore[arg-type]
        return
    with pytest.raises(UserError, match=f"values of {bits} bits.*Write bit_depth: {bits}"):
        check_core_camera(Core(bits=bits), hardware, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "camera", "field"),
    [
        (np.zeros((600, 800, 3), np.uint8), {"bayer": "RGGB"}, "camera.bayer"),
        (np.full((600, 800), 5000, np.uint16), {"bit_depth": 12}, "camera.bit_depth"),
        (np.zeros((600, 800), np.uint16), {"bit_depth": 8}, "camera.bit_depth"),
        (np.zeros((300, 800, 3), np.uint8), {}, "camera.size_px"),
        (np.full((600, 800), 4095, np.uint16), {"bit_depth": 12, "bayer": "RGGB"}, None),
        (np.zeros((600, 800, 3), np.uint8), {}, None),
    ],
)
def test_an_image_unlike_the_hardware_file_is_refused(
    image: RawImage, camera: dict[str, Any], field: str | None
) -> None:
    hardware = described(**camera)
    if field is None:
        check_image(image, hardware)
        return
    with pytest.raises(UserError) as caught:
        check_image(image, hardware)
    assert caught.value.field == field
