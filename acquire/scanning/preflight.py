"""Checks before a pass: whether array and camera fit what it needs."""

from __future__ import annotations

from collections.abc import Sequence

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.array import Capabilities
from plsctl.acquire.store.records import FrameRecord


def check_array(frames: Sequence[FrameRecord], microscope: Microscope) -> None:
    """`UserError` when the LED array of an opened microscope cannot light the frames."""
    array = microscope.leds
    driver, count = array.identity.driver, array.identity.led_count
    check_frames(frames, array.capabilities, microscope.hardware, driver, count)


def check_frames(
    frames: Sequence[FrameRecord], able: Capabilities, hardware: Hardware, driver: str, count: int
) -> None:
    """`UserError` when an array of `count` LEDs cannot light what the frames ask for."""
    for frame in frames:
        if not frame.leds:
            raise UserError(
                f"the frame '{frame.label}' lights no LED: of the LED table none lies inside the "
                f"aperture of the objective {hardware.low_power}.",
                file=hardware.file,
                field=f"turret.objectives.{hardware.low_power}.na",
                hint="Check the objective's na and the places in the LED table (millimetres).",
            )
        if len(frame.leds) == 1 and not able.single:
            what = "one LED alone"
        elif 1 < len(frame.leds) < count and able.single and not able.several:
            what = f"{len(frame.leds)} LEDs together"
        elif frame.brightness != 1.0 and not able.brightness:
            what = f"a brightness of {frame.brightness:g}"
        elif frame.colour != "white" and not able.colour:
            what = f"{frame.colour} light"
        else:
            continue
        raise UserError(
            f"the frame '{frame.label}' needs {what}, which the LED array ({driver}) cannot light.",
            file=hardware.file,
            field="led_array.driver",
            hint="Choose a recipe and exposures that the array can do "
            "(docs/led-arrays.md), or another array."
            if frame.colour == "white"
            else "Leave `colour` out of the recipe: this array has LEDs of one colour.",
        )


def check_image(image: RawImage, hardware: Hardware) -> None:
    """`UserError` if the camera's images differ from the hardware file."""
    camera = hardware.camera
    width, height = camera.size_px
    if image.dtype.itemsize != (1 if camera.bit_depth == 8 else 2):
        raise UserError(
            f"the camera gives values of {8 * image.dtype.itemsize} bits, the hardware file "
            f"says {camera.bit_depth}.",
            file=hardware.file,
            field="camera.bit_depth",
            hint="Correct the hardware file, or the camera's pixel type.",
        )
    if image.max(initial=0) >= 2**camera.bit_depth:
        raise UserError(
            f"the camera gives values up to {image.max()}, and {camera.bit_depth} bits end at "
            f"{2**camera.bit_depth - 1}.",
            file=hardware.file,
            field="camera.bit_depth",
            hint="Correct the hardware file: full scale counts from there.",
        )
    if image.ndim == 3 and camera.bayer is not None:
        raise UserError(
            f"the camera gives colour images, the hardware file says that they are mosaics "
            f"({camera.bayer}).",
            file=hardware.file,
            field="camera.bayer",
            hint="Write bayer: null, or set the camera to its raw pixel type.",
        )
    if image.shape[:2] != (height, width):
        raise UserError(
            f"the camera gives images of {image.shape[1]} x {image.shape[0]} pixels, the "
            f"hardware file says {width} x {height}.",
            file=hardware.file,
            field="camera.size_px",
            hint="Correct the hardware file, or the camera's region of interest.",
        )
