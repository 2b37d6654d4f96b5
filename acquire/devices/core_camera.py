"""What the core itself says of the camera, compared with the hardware file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from plsctl.acquire.errors import HardwareError, UserError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from plsctl.acquire.devices.hardware import Hardware

SAME_PIXEL = 0.05
"""Sizes of a pixel that differ by less are the same: nominal and measured magnifications."""

SAME_EXPOSURE = 0.05
STEP_MS = 0.05
"""Cameras expose in steps of a line or of a clock; so much is rounding."""

SAME_GAIN = 0.02

BINNING = "Binning"
TRANSPOSES = ("TransposeMirrorX", "TransposeMirrorY", "TransposeXY")


def check_core_camera(core: CMMCorePlus, hardware: Hardware, objective: str | None) -> None:
    """`UserError` when binning, region, mirror or pixel size contradict the hardware file.

    The pixel size is that under the objective in the light path; None where that is not known.
    """
    _check_binning(core, hardware)
    _check_region(core, hardware)
    _check_mirror(core, hardware)
    _check_bit_depth(core, hardware)
    if objective is not None:
        _check_pixel(core, hardware, objective)


def _check_binning(core: CMMCorePlus, hardware: Hardware) -> None:
    camera = hardware.camera
    said = _property(core, camera.device, BINNING)
    number = re.match(r"\d+", said or "")
    if number is None or int(number[0]) == camera.binning:
        return
    raise UserError(
        f"the camera bins {number[0]} x {number[0]} pixels, the hardware file says "
        f"{camera.binning} x {camera.binning}: pixels would count as {camera.binning}/{number[0]} "
        "of their size.",
        file=hardware.file,
        field="camera.binning",
        hint=f"Write binning: {number[0]} (size_px is the binned image's, pixel_pitch_um the "
        f"sensor's), or {BINNING}: {camera.binning} under camera.properties.",
    )


def _check_region(core: CMMCorePlus, hardware: Hardware) -> None:
    try:
        x, y, width, height = core.getROI(hardware.camera.device)
    except (RuntimeError, ValueError):
        return  # an adapter that does not tell; its images are measured
    if 0 in (width, height) or (width, height) == tuple(hardware.camera.size_px):
        return
    raise UserError(
        f"the camera reads out {width} x {height} pixels from ({x}, {y}) of its sensor, the "
        f"hardware file says {hardware.camera.size_px[0]} x {hardware.camera.size_px[1]}.",
        file=hardware.file,
        field="camera.size_px",
        hint="Correct the file, or clear the camera's region of interest and its binning.",
    )


def _check_mirror(core: CMMCorePlus, hardware: Hardware) -> None:
    camera = hardware.camera
    set_ones = [name for name in TRANSPOSES if _property(core, camera.device, name) == "1"]
    if not set_ones or (len(set_ones) % 2 == 1) == camera.mirrored:
        return
    raise UserError(
        f"the camera's {' and '.join(set_ones)} is 1, so Micro-Manager takes the image for "
        f"{'not ' if camera.mirrored else ''}mirrored, and the hardware file says mirrored: "
        f"{str(camera.mirrored).lower()}.",
        file=hardware.file,
        field="camera.mirrored",
        hint=f"Write mirrored: {str(not camera.mirrored).lower()}, or {set_ones[0]}: 0 under "
        "camera.properties; the core hands images over as they come, whatever it says there.",
    )


def _check_bit_depth(core: CMMCorePlus, hardware: Hardware) -> None:
    # Python devices give the size of a value, which may have room to spare.
    said = int(core.getImageBitDepth()) if hardware.core.endswith(".cfg") else 0
    camera = hardware.camera
    if said <= 0 or said == camera.bit_depth:
        return
    raise UserError(
        f"the camera gives values of {said} bits, the hardware file says {camera.bit_depth}: full "
        "scale would be another.",
        file=hardware.file,
        field="camera.bit_depth",
        hint=f"Write bit_depth: {said}, or set the camera's pixel type under camera.properties.",
    )


def _check_pixel(core: CMMCorePlus, hardware: Hardware, objective: str) -> None:
    core_um = float(core.getPixelSizeUm())
    said_um = hardware.pixel_um(objective)
    # 0: the core has no pixel size for this objective.
    if core_um <= 0 or abs(core_um / said_um - 1) <= SAME_PIXEL:
        return
    pitch_um = core_um * hardware.objective(objective).magnification / hardware.camera.binning
    raise UserError(
        f"the core says that a pixel is {core_um:g} µm under {objective}, the hardware file makes "
        f"it {said_um:.3g} µm.",
        file=hardware.file,
        field="camera.pixel_pitch_um",
        hint=f"Write pixel_pitch_um: {pitch_um:.4g}, or correct the objective's magnification; or "
        "the pixel size in Micro-Manager's configuration.",
    )


def check_exposure(core: CMMCorePlus, device: str, wanted_ms: float) -> None:
    """`UserError` when the camera has taken another exposure than it was given."""
    taken_ms = float(core.getExposure(device))
    # So written that NaN is none.
    if not abs(taken_ms - wanted_ms) <= max(STEP_MS, SAME_EXPOSURE * wanted_ms):
        raise UserError(
            f"the camera was given an exposure of {wanted_ms:g} ms and took {taken_ms:g} ms.",
            field="exposure_ms",
            hint="Correct the exposure table, or `camera.exposure_range_ms` in the hardware file.",
        )


def check_gain(core: CMMCorePlus, device: str, name: str, wanted: float) -> None:
    """`UserError` when the camera has taken another gain than it was given."""
    said = str(core.getProperty(device, name))
    try:
        taken = float(said)
    except ValueError:
        raise HardwareError(
            f"the camera's property '{name}' was set to {wanted:g} and reads '{said}'.",
            field="camera.gain_property",
            hint="Name the property that holds the gain as a number.",
        ) from None
    if not abs(taken - wanted) <= SAME_GAIN * max(1.0, abs(wanted)):
        raise UserError(
            f"the camera was given a gain of {wanted:g} and took {taken:g}.",
            field="gain",
            hint="Correct the exposure table, or `camera.gain_range` in the hardware file.",
        )


def _property(core: CMMCorePlus, device: str, name: str) -> str | None:
    return str(core.getProperty(device, name)) if core.hasProperty(device, name) else None
