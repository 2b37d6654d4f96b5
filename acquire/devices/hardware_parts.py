"""Parts of a hardware file: camera, stage, objectives and turret, and what is checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from plsctl.acquire.coordinates import CameraOrientation
from plsctl.acquire.files.settings import Settings, refuse_truth

Range = Annotated[tuple[float, float], Field(examples=["[0, 1000]"])]


def _rises(span: tuple[float, float]) -> tuple[float, float]:
    if not 0 < span[0] <= span[1]:
        raise ValueError("the smallest comes first, above 0, then the largest")
    return span


Span = Annotated[tuple[float, float], AfterValidator(_rises), Field(examples=["[1, 32]"])]
PropertyValue = Annotated[str | int | float, BeforeValidator(refuse_truth)]
"""Of a device: `On` and `No` in quotes, for YAML takes them for true and false."""

Side = Annotated[int, Field(ge=16)]


class TriggerSettings(Settings):
    """How the camera is told whether the LED array or the computer begins an exposure.

    Only for a camera whose trigger input and exposure output are wired to the array
    (docs/timing.md).

    Parameters
    ----------
    property
        The camera's property that switches its trigger.
    external
        Its value where the array begins every exposure.
    internal
        Its value where the computer does.
    """

    property: str = "TriggerMode"
    external: PropertyValue = "External"
    internal: PropertyValue = "Internal"


class CameraSettings(Settings):
    """The camera: its device in the core and what its pixels mean.

    Parameters
    ----------
    device
        The camera's label in the core.
    bit_depth
        Bits of a value; 9 to 16 come in two bytes.
    bayer
        Order of the colours in a raw mosaic, from the top left; null for a camera that gives RGB.
    black_level
        Mean value without light.
    readout_ms
        Time to read out an image; by it a pass is forecast.
    gain_property
        The camera's property that holds its gain; null where it has none.
    gain_range
        Smallest and largest gain, as a factor.
    exposure_range_ms
        Shortest and longest exposure.
    properties
        Properties of the camera that are set when it is opened, such as `PixelType`.
    """

    device: str = "Camera"
    shutter: str | None = None
    """A shutter in the light path: opened with the microscope, closed with it."""
    pixel_pitch_um: float = Field(gt=0)
    """Of the sensor, whatever is binned."""
    binning: int = Field(default=1, ge=1, le=16)
    """So many pixels of the sensor, each way, are one of the image."""
    size_px: tuple[Side, Side]
    """Width and height of the images, binned."""
    bit_depth: int = Field(default=8, ge=8, le=16)
    bayer: Literal["RGGB", "BGGR", "GRBG", "GBRG"] | None = None
    black_level: float = Field(default=0.0, ge=0)
    readout_ms: float = Field(default=0.0, ge=0)
    rotation_deg: float = 0.0
    """The image, mirrored first where it is, turned by this lies along the axes of the stage."""
    mirrored: bool = False
    """The camera shows the sample mirrored left to right."""
    gain_property: str | None = None
    gain_range: Span = (1.0, 1.0)
    exposure_range_ms: Span = (0.01, 10_000.0)
    properties: dict[str, PropertyValue] = Field(default_factory=dict)
    trigger: TriggerSettings | None = None
    """Set if the trigger cables to the LED array are connected."""
    frame_number_tag: str | None = None
    """Name of the images' tag with the camera's frame count."""
    timestamp_tag: str | None = None
    """Name of the images' tag with the camera's time (milliseconds)."""
    rolling_shutter: bool = False
    """The light may change only after such a camera has read out its image."""

    @model_validator(mode="after")
    def _tells_black_from_white(self) -> CameraSettings:
        white = 2**self.bit_depth - 1
        if self.black_level >= white:
            raise ValueError(
                f"black_level = {self.black_level:g} is not below the largest value of "
                f"{self.bit_depth} bits ({white})"
            )
        return self

    @property
    def orientation(self) -> CameraOrientation:
        """How the images lie against the axes of stage and LED array."""
        return CameraOrientation(self.rotation_deg, self.mirrored)


class ZSpeed(Settings):
    """The focus drive's property that says how fast it moves."""

    property: str
    """Its name in the core."""
    um_per_s: float = Field(default=1.0, gt=0)
    """What 1 means in that property: 1 where it counts micrometres a second, 1000 for mm/s."""
    usual_um_per_s: float = Field(gt=0)
    """The speed of all moves but those of a sweep."""


class StageSettings(Settings):
    """XY and Z stage: devices, hard limits, and how they move.

    Parameters
    ----------
    xy_device
        Label of the xy stage in the core.
    z_device
        Label of the focus drive in the core.
    x_um
        Limits that x never leaves, as [low, high].
    y_um
        Limits that y never leaves.
    z_um
        Limits that z never leaves.
    speed_um_per_s
        Speed of the stage; by it a pass is forecast.
    settle_ms
        Wait after every move until nothing trembles.
    tolerance_um
        How far the stage may stand from where it was sent.
    backlash_um
        The last stretch of a move in x and y is so long and always in the same direction; 0: no
        such stretch.
    timeout_s
        Longest time that a move may take.
    """

    xy_device: str = "XY"
    z_device: str = "Z"
    x_um: Range
    y_um: Range
    z_um: Range
    speed_um_per_s: float = Field(default=5000.0, gt=0)
    settle_ms: float = Field(default=50.0, ge=0)
    tolerance_um: float = Field(default=1.0, gt=0)
    backlash_um: float = Field(default=0.0, ge=0)
    timeout_s: float = Field(default=30.0, gt=0)
    z_speed: ZSpeed | None = Field(
        default=None, examples=["{property: Speed, um_per_s: 1000, usual_um_per_s: 1000}"]
    )
    """Property for the speed of the focus drive: with it, a sweep takes its images while z moves;
    null: it stops for each of them."""
    loading_um: tuple[float, ...] | None = Field(
        default=None, min_length=2, max_length=3, examples=["[2000, 12000]"]
    )
    """Where a slide is put in and taken out (x, y, and z if the lens must be farther away than
    `turret.retract_z_um`): the stage goes there before a person is asked, and after a pass."""
    homing: Literal["none", "ask", "core"] = "none"
    """`none`: the stage knows where it is; `ask`: before a pass a person is asked whether it has
    been homed since it was switched on; `core`: Micro-Manager homes x and y when they agree."""

    @model_validator(mode="after")
    def _ordered(self) -> StageSettings:
        for name in ("x_um", "y_um", "z_um"):
            low, high = getattr(self, name)
            if low >= high:
                raise ValueError(f"the limits of {name} must be [low, high]")
        return self


class Objective(Settings):
    """An objective: what it does to the image and where it sits relative to the first one.

    Parameters
    ----------
    label
        Place of the turret as Micro-Manager labels it; without a turret any word.
    magnification
        As engraved; with the pixel pitch it gives the pixel size, until that is measured.
    na
        Numerical aperture: LEDs inside of it give bright field.
    immersion
        What is between lens and slide.
    offset_x_um
        How far the stage must go in x for the same point as under the first objective.
    offset_y_um
        The same in y.
    offset_z_um
        The same in z: the difference of the heights of focus.
    """

    label: str | int
    magnification: float = Field(gt=0)
    na: float = Field(gt=0)
    immersion: Literal["air", "water", "oil"] = "air"
    offset_x_um: float = 0.0
    offset_y_um: float = 0.0
    offset_z_um: float = 0.0
    z_um: Range | None = Field(default=None, examples=["[3000, 5100]"])
    """Limits of z under this objective, with room for `turret.retract_z_um`; None: the stage's."""
    pixel_um: float | None = Field(default=None, gt=0)
    """Size of a pixel of the image in the sample where it has been measured, binning included
    (`plsctl calibrate pixel-size` measures it); None: pitch over magnification."""
    rotation_deg: float = 0.0
    """How the image is turned against that under the lowest objective."""

    @property
    def refractive_index(self) -> float:
        """Of the immersion medium."""
        return {"air": 1.0, "water": 1.333, "oil": 1.515}[self.immersion]

    @model_validator(mode="after")
    def _takes_in_a_half_space(self) -> Objective:
        if self.na >= self.refractive_index:
            raise ValueError(
                f"na = {self.na:g} is impossible in {self.immersion}, whose refractive index is "
                f"{self.refractive_index:g}. Check `na` (0.4 of a 20x, for example) and `immersion`"
            )
        return self


class TurretSettings(Settings):
    """The objective turret; without a device the one objective is fixed, or turned by hand.

    Parameters
    ----------
    device
        Label of the turret in the core; null where there is none.
    objectives
        The objectives by the names that slide files use.
    """

    device: str | None = "Turret"
    manual: bool = False
    """A person turns it, asked to whenever another objective is needed; a `device` that is written
    too only tells where it stands."""
    objectives: dict[str, Objective] = Field(min_length=1)
    retract_z_um: float = Field(default=500.0, ge=0)
    """How far z withdraws from focus before the turret turns, before the stage travels far or out
    of the scanned region, and before a person is asked."""
    long_travel_um: float = Field(default=1000.0, gt=0)
    """z withdraws before the stage travels farther than this."""
    retract_direction: Literal["down", "up"] = "down"
    """The direction of the z axis in which slide and objective move apart."""

    @model_validator(mode="before")
    @classmethod
    def _no_device_by_hand(cls, found: Any) -> Any:
        if isinstance(found, dict) and found.get("manual") and "device" not in found:
            return found | {"device": None}
        return found

    @model_validator(mode="after")
    def _one_when_fixed(self) -> TurretSettings:
        if self.device is None and not self.manual and len(self.objectives) > 1:
            raise ValueError(
                "without a turret device there can be only one objective. Write manual: true where "
                "a person turns it"
            )
        labels = [str(objective.label) for objective in self.objectives.values()]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if self.device is not None and twice is not None:
            raise ValueError(
                f"two objectives have the label '{twice}', and at one place of the turret is one "
                "objective. Correct the labels"
            )
        return self


class ChecksSettings(Settings):
    """What is checked; off only for devices that do not see the LEDs."""

    brightness: bool = True
    """The light is as strong as the frame's LED and exposure let expect."""
    repeats: bool = True
    """An image differs from the one before it, at least by its noise."""
    direction: bool = True
    """Slopes are shaded as the LED's direction lets expect (bright field)."""
    orientation: bool = True
    """Moves of the stage shift the image as the camera's description lets expect."""
    drift: bool = True
    """Array, camera and focus are as calibrated: told by the pass's frames, by a process beside the
    scan."""
