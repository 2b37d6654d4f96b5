"""Calibrations: what each kind measured, on which hardware, and what it changes.

The directions of LEDs have a module of their own, `led_directions`.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

import numpy as np

from plsctl.acquire.arrays import FloatArray
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.files.settings import Settings

DIMMED = 0.87
"""An LED that gives less than this share of what it gave has dimmed."""

RING_WIDTH, LEAST_RING = 0.02, 3
"""LEDs whose sines differ by less are a ring, if there are so many."""


class CameraMark(Settings):
    """What tells one camera from another; `answers` is what the device says of itself."""

    device: str
    pixel_pitch_um: float
    binning: int
    size_px: tuple[int, int]
    bayer: str | None
    answers: str = ""


class ObjectiveMark(Settings):
    """What tells one objective from another."""

    label: str
    magnification: float
    na: float
    immersion: str


class ArrayMark(Settings):
    """What tells one LED array from another.

    `leds` is a checksum of their names, `directions` one of where the table puts them.
    """

    driver: str
    leds: str
    directions: str | None = None
    answers: str = ""


class Marks(Settings):
    """The hardware that a calibration belongs to."""

    camera: CameraMark
    objectives: dict[str, ObjectiveMark]
    array: ArrayMark | None = None


class Calibration(Settings):
    """A calibration of one objective.

    Parameters
    ----------
    objective
        The objective that was in the light path.
    measured
        When.
    plsctl
        The version that measured it.
    hardware
        What it was measured with.
    """

    kind: ClassVar[str]
    objective: str
    measured: datetime
    plsctl: str
    hardware: Marks

    @property
    def title(self) -> str:
        """As people read it: `pixel-size of 20x`."""
        return f"{self.kind} of {self.objective}"

    @property
    def file_name(self) -> str:
        """The name of its file: `pixel-size_20x.yaml`."""
        return f"{_plain(self.kind, self.objective)}.yaml"

    @property
    def directions(self) -> Mapping[int, tuple[float, float]]:
        """Measured direction cosines by the LED's number; most kinds measure none."""
        return {}

    def apply(self, hardware: Hardware) -> Hardware:
        """The hardware with what was measured in place of what its file says."""
        return hardware


class PixelSize(Calibration):
    """The pixels of an objective, and how the camera stands against the stage.

    Parameters
    ----------
    pixel_um
        Size of a pixel in the sample.
    rotation_deg
        Of the camera; the image, mirrored first where it is, turned by this lies along the axes of
        the stage.
    mirrored
        The camera shows the sample mirrored left to right.
    backlash_um
        Play of the stage in x and in y.
    residual_um
        How far places depart from what was fitted.
    images
        So many images it rests on.
    """

    kind: ClassVar[str] = "pixel-size"

    pixel_um: float
    pixel_um_error: float
    rotation_deg: float
    rotation_deg_error: float
    mirrored: bool
    backlash_um: tuple[float, float]
    residual_um: float
    images: int

    def apply(self, hardware: Hardware) -> Hardware:
        """The hardware with what was measured in place of what its file says.

        The lowest objective tells how the camera stands, the others how they turn the image.
        """
        turn_deg = 0.0
        if self.objective == hardware.low_power:
            orientation = {"rotation_deg": self.rotation_deg, "mirrored": self.mirrored}
            camera = hardware.camera.model_copy(update=orientation)
            hardware = hardware.model_copy(update={"camera": camera})
        else:
            turn_deg = (self.rotation_deg - hardware.camera.rotation_deg + 180) % 360 - 180
        stage, play_um = hardware.stage, max(self.backlash_um)
        if play_um > max(stage.backlash_um, stage.tolerance_um):
            stage = stage.model_copy(update={"backlash_um": 2 * play_um})
        measured = {"pixel_um": self.pixel_um, "rotation_deg": turn_deg}
        return _with_objective(hardware, self.objective, measured).model_copy(
            update={"stage": stage}
        )


class ObjectiveOffsets(Calibration):
    """An objective against another one, `reference`.

    Parameters
    ----------
    offset_um
        How far x, y and z must go for the same point, in focus, as under the reference.
    scale
        Its magnification over that of the reference.
    rotation_deg
        How the image is turned against that under the reference.
    fields
        So many images it rests on.
    """

    kind: ClassVar[str] = "objectives"

    reference: str
    offset_um: tuple[float, float, float]
    offset_um_error: tuple[float, float]
    scale: float
    scale_error: float
    rotation_deg: float
    rotation_deg_error: float
    fields: int

    def apply(self, hardware: Hardware) -> Hardware:
        """The hardware with what was measured in place of what its file says."""
        before = hardware.objective(self.reference)
        start = (before.offset_x_um, before.offset_y_um, before.offset_z_um)
        names = ("offset_x_um", "offset_y_um", "offset_z_um")
        offsets = {
            name: first + more
            for name, first, more in zip(names, start, self.offset_um, strict=True)
        }
        return _with_objective(
            hardware,
            self.objective,
            {
                **offsets,
                "pixel_um": hardware.pixel_um(self.reference) / self.scale,
                "rotation_deg": before.rotation_deg + self.rotation_deg,
            },
        )


class FlatSurface:
    """A smooth surface, (row, column, rgb), as text: what a YAML file can hold."""

    @staticmethod
    def pack(grid: FloatArray) -> str:
        """The surface as text."""
        shape = " ".join(str(side) for side in grid.shape)
        return f"{shape} {b64encode(grid.astype('<f2').tobytes()).decode('ascii')}"

    @staticmethod
    def unpack(text: str) -> FloatArray:
        """The surface that stands in a text, float32."""
        *shape, data = text.split()
        values = np.frombuffer(b64decode(data), "<f2").astype(np.float32)
        return values.reshape([int(side) for side in shape])


class FlatField(Calibration):
    """How light and sensor depart from an even image.

    Parameters
    ----------
    surfaces
        Levels of glass in parts of the image, 1 on average, by light: `brightfield` and the names
        of the LEDs in bright field (`FlatSurface`).
    vignette
        Share of the light that the darkest part lacks.
    dust
        x, y and radius in pixels of specks, and the share of the light that each takes.
    dead_px, hot_px
        Pixels (x, y) that stay dark, or are bright in the dark.
    """

    kind: ClassVar[str] = "flatfield"

    surfaces: dict[str, str]
    vignette: float
    dust: tuple[tuple[float, float, float, float], ...]
    dead_px: tuple[tuple[int, int], ...]
    hot_px: tuple[tuple[int, int], ...]
    places: int


class LedLight(Calibration):
    """The light of each LED, kept by `calibrate exposures`: a later one tells which have dimmed.

    Parameters
    ----------
    lights
        By LED: level of its image for a millisecond at gain 1, as a share of the wanted one.
    sines
        By LED: the sine of the angle from which it shines.
    """

    kind: ClassVar[str] = "exposures"

    lights: dict[str, float]
    sines: dict[str, float]

    def dimmed_since(self, before: LedLight) -> dict[str, float]:
        """LEDs that give clearly less than they did, and the share that is left.

        Each is compared with the others of its ring, so that neither the field nor a lamp that has
        changed as a whole matters.
        """
        ratio = {
            led: self.lights[led] / before.lights[led]
            for led in self.lights.keys() & before.lights.keys()
        }
        found = {}
        for led, value in ratio.items():
            ring = [
                other
                for name, other in ratio.items()
                if abs(self.sines[name] - self.sines[led]) < RING_WIDTH
            ]
            usual = float(np.median(ring if len(ring) >= LEAST_RING else list(ratio.values())))
            if value < DIMMED * usual:
                found[led] = value / usual
        return found


def _with_objective(hardware: Hardware, name: str, values: dict[str, float]) -> Hardware:
    turret = hardware.turret
    objectives = turret.objectives | {name: turret.objectives[name].model_copy(update=values)}
    return hardware.model_copy(
        update={"turret": turret.model_copy(update={"objectives": objectives})}
    )


def _plain(*words: str) -> str:
    """Words as the name of a file."""
    return "_".join(re.sub(r"[^\w.+-]+", "-", word).strip("-.") for word in words)
