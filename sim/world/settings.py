"""Settings of the simulated microscope and its slide: the `options` of its hardware file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from plsctl.acquire.files.settings import Settings
from plsctl.sim.faults import Fault
from plsctl.sim.smear.settings import SmearSettings
from plsctl.sim.world.sensor import SensorSettings

Share = Annotated[float, Field(gt=0)]


class MountSettings(Settings):
    """How the slide lies on the stage, and how it comes back after staining."""

    reference_um: tuple[float, float] = (10_000.0, 5_000.0)
    """The place where focus is at the hardware file's `focus_z_um` plus `focus_error_um`."""
    focus_error_um: float = 6.0
    """How far focus lies from the hardware file's `focus_z_um`."""
    tilt_um_per_mm: float = 2.0
    """Slope of the slide."""
    tilt_azimuth_deg: float = 30.0
    """Direction in which it rises."""
    bow_um: float = 3.0
    """How far the slide bulges from a plane."""
    bow_length_um: float = 25_000.0
    """Distance over which it bulges."""
    drift_um_per_min: float = 0.2
    """How fast focus drifts."""
    return_centre_um: tuple[float, float] = (11_000.0, 5_600.0)
    """Point about which the returned slide is turned."""
    return_shift_um: tuple[float, float] = (24.0, -18.0)
    """Shift of the slide when it comes back stained."""
    return_rotation_deg: float = 0.1
    """Rotation of the slide when it comes back."""
    return_z_um: float = 0.0
    """How much farther up focus lies when it comes back: with the same z all is out of focus."""
    creep_um_per_min: tuple[float, float] = (0.0, 0.0)
    """How fast the slide slides over the stage, in x and y, as one does that is not held."""


class ObjectiveTruth(Settings):
    """How a simulated objective departs from what the hardware file says."""

    scale: float = Field(default=1.0, gt=0)
    """True magnification over the nominal one."""
    rotation_deg: float = 0.0
    """Rotation of the image against that of the first objective."""
    offset_x_um: float = 0.0
    """True offset less the one in the hardware file."""
    offset_y_um: float = 0.0
    """The same in y."""
    offset_z_um: float = 0.0
    """The same in z."""


class StageTruth(Settings):
    """How the simulated stage departs from a perfect one."""

    repeatability_um: float = Field(default=0.3, ge=0)
    """Scatter of the place at which a move ends."""
    backlash_um: float = Field(default=2.0, ge=0)
    """Play of the drive when it reverses."""


class CameraTruth(Settings):
    """What the simulated camera can do, and how it departs from what the hardware file says."""

    exposure_sequence: int = Field(default=1024, ge=0)
    """Longest sequence of exposures that it can be given; 0: one exposure for all."""
    rotation_deg: float | None = None
    """True rotation against the stage; None: as the hardware file says."""
    mirrored: bool | None = None
    """Whether it really shows the sample mirrored; None: as the hardware file says."""
    pixel_scale: float = Field(default=1.0, gt=0)
    """True size of a pixel over that of the hardware file."""
    serial_number: str = "SIM-1"
    """What it says of itself."""


class LampSettings(Settings):
    """How the light departs from what the array shows, all LEDs alike."""

    drift_percent_per_min: float = 0.0
    """Slow change of what is left: LEDs that warm up, a supply that sags. Steps are a fault
    (`light_steps`)."""
    drifts_from_s: float = Field(default=0.0, ge=0)
    """When that begins, by the microscope's clock, which begins anew with every pass."""
    when_stained: tuple[Share, Share, Share] = (1.0, 1.0, 1.0)
    """Red, green and blue light of the passes after staining over that of the one before."""


class LedArrayTruth(Settings):
    """How the simulated LED array departs from its table."""

    table: str | None = None
    """LED table of the array that is really there; null: that of the hardware file."""
    moved_mm: tuple[float, float] = (0.0, 0.0)
    """Shift along the axes of the table."""
    raised_mm: float = 0.0
    """Shift towards the objective."""
    rotation_deg: float = 0.0
    """Turn about the optical axis, from x towards y."""
    tilt_deg: tuple[float, float] = (0.0, 0.0)
    """How steeply the array rises along its x and its y axis."""
    scatter_mm: float = Field(default=0.0, ge=0)
    """Standard deviation, along each axis, of the place of every single LED."""
    swapped: tuple[tuple[int, int], ...] = ()
    """Pairs of LEDs, by number, that are wired in each other's place."""
    light: tuple[tuple[int, Annotated[float, Field(ge=0)]], ...] = ()
    """LEDs by number, and what is left of their light; 0: the LED is dead."""


class SimulatorSettings(Settings):
    """The simulated microscope; every number of physics.md that is not in the hardware file."""

    seed: int = 1
    """Of everything that is drawn at random and not said elsewhere."""
    smear: SmearSettings = Field(default_factory=SmearSettings)
    """What the blood smear is like."""
    sensor: SensorSettings = Field(default_factory=SensorSettings)
    """What the sensor is like."""
    mount: MountSettings = Field(default_factory=MountSettings)
    """How the slide lies."""
    stage: StageTruth = Field(default_factory=StageTruth)
    """How the stage errs."""
    camera: CameraTruth = Field(default_factory=CameraTruth)
    """How the camera errs."""
    objectives: dict[str, ObjectiveTruth] = Field(default_factory=dict)
    """Departures from the hardware file, by the objective's name."""
    wavelengths_um: tuple[float, float, float] = (0.630, 0.530, 0.460)
    """Of red, green and blue light."""
    lamp: LampSettings = Field(default_factory=LampSettings)
    """How the light of all LEDs drifts."""
    led_array: LedArrayTruth = Field(default_factory=LedArrayTruth)
    """How the LED array stands, and what is wrong with its LEDs."""
    led_spread: float = Field(default=0.4, ge=0, lt=1)
    """LEDs differ in brightness by up to this share either way."""
    operator: Literal["careful", "forgets to stain"] = "careful"
    """Whether the simulated person stains the slide when asked to."""
    image_cache_mb: int = Field(default=400, ge=0)
    """Memory for images that were made before."""
    clock: Literal["jumping", "real"] = "jumping"
    """`jumping`: nothing waits; `real`: exposure, readout, travel and serial line take their time,
    and the clock stands still only while an image is made that was not prepared."""
    prepared: Path | None = None
    """Folder of images made ahead (seen from where the command is run): what is missing in it is
    made once and kept there."""
    wiring: Literal["handshake", "none"] = "handshake"
    """Trigger cables between camera and LED array."""
    light_from: str | None = None
    """Where an emulated array in another process tells what it shines (`host:port`, as `plsctl
    simulate led-array --light-port` gives it); its serial port is the hardware file's."""
    led_log: Path | None = None
    """File to which the array adds a line (JSON: time and lit LEDs) whenever what shines changes:
    it tells what was left lit when the process that held the array has died."""
    faults: tuple[Fault, ...] = ()
    """Faults that happen, for trials."""
