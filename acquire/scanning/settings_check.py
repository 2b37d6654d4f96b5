"""Whether a slide can be scanned as its files say, found out before any device is opened."""

from __future__ import annotations

import os
from itertools import pairwise

from plsctl.acquire.devices.hardware_check import check_hardware
from plsctl.acquire.devices.heights import Heights
from plsctl.acquire.errors import PlsctlError, UserError, about
from plsctl.acquire.files.locations import is_remote
from plsctl.acquire.files.settings import add_line
from plsctl.acquire.scanning.preflight import check_frames
from plsctl.acquire.scanning.scan import Scan
from plsctl.acquire.store.records import PASSES
from plsctl.acquire.store.writer import check_disk


def check_settings(scan: Scan) -> None:
    """Check everything that the passes of a slide will need, as far as files can tell.

    Hardware file, LED driver and its options, Micro-Manager's configuration; tables; the frames of
    every pass against the array and the camera; the region against the stage's limits; the
    folder.

    Raises
    ------
    UserError
        Something cannot work; file, line and field are named.
    """
    try:
        _check(scan)
    except PlsctlError as error:
        add_line(error)
        raise


def _check(scan: Scan) -> None:
    hardware, slide = scan.hardware, scan.slide
    able = check_hardware(hardware)
    if hardware.timing == "hardware" and hardware.camera.trigger is None:
        raise UserError(
            "timing = hardware: the file has no `camera.trigger`, by which the camera waits for "
            "the array.",
            file=hardware.file,
            field="timing",
            hint="Write it (docs/timing.md), or timing: auto.",
        )
    for before, name in pairwise(PASSES):
        if name in slide.passes and before not in slide.passes:
            raise UserError(
                f"the {name} pass comes after the {before} pass, which the file does not have.",
                file=slide.file,
                field=f"passes.{name}",
                hint=f"Write '{before}:' with its objective too.",
            )
    for name in slide.passes:
        with about(hardware.resolve(hardware.led_array.geometry)):
            frames = scan.planner.frames(name)
        if able is not None:
            count = hardware.led_array.led_count or len(hardware.geometry().leds)
            check_frames(frames, able, hardware, hardware.led_array.driver, count)
    scan.planner.check_region()
    _check_heights(scan)
    check_folder(scan)


def _check_heights(scan: Scan) -> None:
    """`UserError` where a map of focus leads outside the limits of the first objective."""
    slide, name = scan.slide, scan.hardware.low_power
    if slide.focus.mode != "map":
        return
    limits = Heights(scan.hardware).limits(name)
    for x, y, z in slide.load_heights():
        if not limits.holds(z):
            field = "map" if slide.focus.map else "heights_um"
            raise UserError(
                f"focus at ({x:g}, {y:g}) is said to lie at z = {z:g} µm, outside the limits of "
                f"{name} ({limits.low_um:g} to {limits.high_um:g} µm).",
                file=slide.file,
                field=f"focus.{field}",
                hint="Give heights of z as the stage counts them under that objective.",
            )


def check_folder(scan: Scan) -> None:
    """`UserError` when the scan's folder cannot be made or written."""
    folder = scan.folder.path
    if is_remote(folder):
        raise UserError(
            "a scan is written to a disk of this computer.",
            file=folder,
            hint="Choose a folder with --out, and copy it into the store afterwards.",
        )
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(
            "this is a file, and scans go into a folder.",
            file=existing,
            hint="Choose another place with --out.",
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(
            "nothing can be written into this folder.",
            file=existing,
            hint="Check its permissions, or choose another place with --out.",
        )


def check_room(scan: Scan, frames: int) -> None:
    """`UserError` when the disk has no room for so many frames."""
    camera = scan.hardware.camera
    width, height = camera.size_px
    shape = (height, width, 1 if camera.bayer else 3)
    check_disk(scan.folder.path, shape, 1 if camera.bit_depth == 8 else 2, frames)
