"""Checks before a pass: whether array and camera fit what it needs."""

from __future__ import annotations

from collections.abc import Sequence

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import UserError
from plsctl.acquire.store.records import FrameRecord


def check_array(frames: Sequence[FrameRecord], microscope: Microscope) -> None:
    """`UserError` when the LED array cannot light what the frames ask for."""
    able = microscope.leds.capabilities
    for frame in frames:
        if len(frame.leds) == 1 and not able.single:
            what = "one LED alone"
        elif frame.brightness != 1.0 and not able.brightness:
            what = f"a brightness of {frame.brightness:g}"
        else:
            continue
        raise UserError(
            f"the frame '{frame.label}' needs {what}, which the LED array "
            f"({microscope.leds.identity.driver}) cannot light.",
            file=microscope.hardware.file,
            field="led_array.driver",
            hint="Choose a recipe and exposures that the array can do "
            "(docs/led-arrays.md), or another array.",
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
