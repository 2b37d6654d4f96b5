"""The hardware file: which devices there are and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr

from plsctl.acquire.coordinates import CameraOrientation
from plsctl.acquire.devices.hardware_parts import (
    CameraSettings,
    ChecksSettings,
    Objective,
    StageSettings,
    TurretSettings,
)
from plsctl.acquire.devices.heights import check_heights
from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import beside, real_path, refuse_impossible
from plsctl.acquire.files.settings import Settings, add_line, load_settings, suggest
from plsctl.acquire.files.shipped import SHIPPED, shipped_file, shipped_names
from plsctl.acquire.leds.array import LedArraySettings
from plsctl.acquire.leds.geometry import LedGeometry, load_geometry

if TYPE_CHECKING:
    from plsctl.acquire.devices.calibration_kinds import Calibration


class Hardware(Settings):
    """A microscope as its hardware file describes it.

    Parameters
    ----------
    name
        Name of the microscope; the name of the file without one.
    core
        A Micro-Manager configuration (`.cfg`, from the folder of this file), or a backend:
        `simulator`.
    camera
        The camera.
    stage
        The stage and its limits.
    turret
        The objectives.
    led_array
        The LED array.
    checks
        What is checked on every frame.
    """

    name: str = ""
    core: str
    camera: CameraSettings
    stage: StageSettings
    turret: TurretSettings
    led_array: LedArraySettings
    focus_z_um: float
    """Where the search for focus starts, at the first objective."""
    timing: Literal["auto", "hardware", "software"] = "auto"
    """Who steps through a stack: camera and array by their trigger cables, or this computer."""
    checks: ChecksSettings = ChecksSettings()
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the backend, checked by it."""

    _file: Path = PrivateAttr(default=Path())
    _described: Hardware | None = PrivateAttr(default=None)
    _calibrations: tuple[Calibration, ...] = PrivateAttr(default=())

    @property
    def file(self) -> Path:
        """Where this description was read from."""
        return self._file

    @property
    def described(self) -> Hardware:
        """The microscope as its file alone describes it, without what was measured."""
        return self if self._described is None else self._described

    @property
    def calibrations(self) -> tuple[Calibration, ...]:
        """What was measured and stands here in place of what the file says."""
        return self._calibrations

    def objective(self, name: str) -> Objective:
        """The objective of that name."""
        try:
            return self.turret.objectives[name]
        except KeyError:
            raise UserError(
                f"the turret has no objective '{name}'.",
                file=self.file,
                field="turret.objectives",
                hint=suggest(name, self.turret.objectives),
            ) from None

    @property
    def low_power(self) -> str:
        """The objective of lowest magnification.

        Positions are given for it, and its aperture divides the LEDs into bright and dark field.
        """
        objectives = self.turret.objectives
        return min(objectives, key=lambda name: objectives[name].magnification)

    @property
    def high_power(self) -> str:
        """The objective of highest magnification."""
        objectives = self.turret.objectives
        return max(objectives, key=lambda name: objectives[name].magnification)

    def pixel_um(self, objective: str) -> float:
        """Size of a camera pixel in the sample: as measured, else pitch over magnification."""
        measured_um = self.objective(objective).pixel_um
        if measured_um is not None:
            return measured_um
        pitch_um = self.camera.pixel_pitch_um * self.camera.binning
        return pitch_um / self.objective(objective).magnification

    def orientation(self, objective: str) -> CameraOrientation:
        """How the images under an objective lie against the axes of stage and LED array."""
        camera = self.camera.orientation
        turned = camera.rotation_deg + self.objective(objective).rotation_deg
        return CameraOrientation(turned, camera.mirrored)

    @property
    def measured_directions(self) -> Mapping[int, tuple[float, float]]:
        """Direction cosines towards the LEDs as a calibration measured them, by their numbers.

        In the axes of the LED table, whatever the objective; empty without a calibration.
        """
        measured = (
            each.directions for each in self.calibrations if each.objective == self.low_power
        )
        return next(filter(None, measured), {})

    def resolve(self, name: str) -> Path:
        """A file named in the hardware file (`find_file`)."""
        return find_file(name, self.file.parent)

    def geometry(self) -> LedGeometry:
        """The LED geometry the hardware file names."""
        return load_geometry(self.resolve(self.led_array.geometry))


def shipped_configurations() -> list[str]:
    """Names of the hardware configurations that come with the package."""
    return [name.removesuffix(".yaml") for name in shipped_names(".yaml")]


def find_file(name: str | Path, folder: Path) -> Path:
    """The file that a name in a file of `folder` means, whether it is there or not.

    `shipped:NAME` is one that comes with the package; any other path starts at the folder.

    Raises
    ------
    UserError
        No such file comes with the package, or none can have that name.
    """
    if str(name).startswith(SHIPPED):
        return shipped_file(str(name).removeprefix(SHIPPED))
    path = beside(name, folder)
    return real_path(path) if path.is_file() else path


def load_hardware(name: str | Path, folder: Path = Path()) -> Hardware:
    """A hardware configuration by name (`simulator`) or path (`lab/our_scope.yaml`).

    A name is one of those that come with the package; a path starts at `folder`.

    Raises
    ------
    UserError
        There is no such configuration, or its file has a mistake.
    """
    path = _hardware_file(str(name), folder)
    hardware = load_settings(path, Hardware)
    if not hardware.name:
        hardware = hardware.model_copy(update={"name": path.stem})
    hardware._file = path
    try:
        check_heights(hardware)
    except UserError as error:
        add_line(error)
        raise
    leds = hardware.led_array.read_from(path, hardware.resolve)
    return hardware.model_copy(update={"led_array": leds})


def _hardware_file(name: str, folder: Path) -> Path:
    refuse_impossible(name)
    known = shipped_configurations()
    if name in known:
        return shipped_file(f"{name}.yaml")
    is_path = name.endswith((".yaml", ".yml")) or "/" in name or name.startswith(SHIPPED)
    path = find_file(name, folder)
    if is_path and path.is_file():
        return path
    if is_path and path.stem in known:
        hint = f"The one that comes with plsctl is named without its ending: {path.stem}."
    elif (folder / f"{name}.yaml").is_file():
        hint = f"Write {name}.yaml for the file that lies there."
    else:
        hint = suggest(name, known) + " Or give the path of a YAML file."
    raise UserError(
        f"there is no hardware configuration '{name}'.",
        file=path if is_path else None,
        field="hardware",
        hint=hint,
    )
