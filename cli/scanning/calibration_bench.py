"""What calibration commands share: the microscope at a place, results, and pages about failures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plsctl.acquire.errors import InterruptedScan, PlsctlError
from plsctl.cli.shared.output import print_message, progress

if TYPE_CHECKING:
    from plsctl.acquire.bench.bright_field import BrightFieldBench, Seen
    from plsctl.acquire.devices.calibration_kinds import Calibration
    from plsctl.acquire.devices.hardware import Hardware
    from plsctl.acquire.devices.microscope import Microscope
    from plsctl.acquire.interrupt import StopRequest
    from plsctl.acquire.roles import Operator


@dataclass(frozen=True)
class Opened:
    """A bench, the person at it, and how to break off."""

    bench: "BrightFieldBench"
    operator: "Operator"
    stop: "StopRequest"


def calibrated_so_far(name: str) -> "Hardware":
    """The hardware of that name with the calibrations it has, those of other hardware left out."""
    from plsctl.acquire.devices.calibrations import calibrated, foreign, read_calibrations
    from plsctl.acquire.devices.hardware import load_hardware

    described = load_hardware(name)
    known = read_calibrations(described)
    return calibrated(described, [each for each in known if foreign(each, described) is None])


@contextmanager
def failure_page(hardware: "Hardware", title: str) -> "Iterator[list[Seen]]":
    """A page beside the hardware file shows why a calibration failed: the images in this list."""
    seen: list[Seen] = []
    try:
        yield seen
    except InterruptedScan:
        raise
    except PlsctlError as error:
        _tell_failure(hardware, title, error, seen)
        raise


@contextmanager
def opened_bench(hardware: "Hardware", seen: "list[Seen]", yes: bool) -> Iterator[Opened]:
    """The microscope, ready; the images that it took last go into `seen`."""
    from plsctl.acquire.bench.bright_field import BrightFieldBench
    from plsctl.acquire.bench.handling import make_ready
    from plsctl.acquire.interrupt import stop_on_signals
    from plsctl.cli.shared.roles import make_operator
    from plsctl.process.focus.sharpness import GradientFocusMeasure

    with (
        stop_on_signals("nothing was written") as stop,
        progress(f"starting the devices of {hardware.name}") as advance,
        _open(hardware) as microscope,
    ):
        operator = make_operator(microscope.operator, yes, advance.paused)
        make_ready(microscope, operator, stop)
        bench = BrightFieldBench(microscope, GradientFocusMeasure(), stop, advance.steps)
        try:
            yield Opened(bench, operator, stop)
        finally:
            seen.extend(bench.seen)


def _open(hardware: "Hardware") -> "Microscope":
    """The microscope without calibrations of another camera or array: they are measured anew."""
    from plsctl.acquire.devices.calibrations import ForeignCalibration, calibrated
    from plsctl.acquire.devices.microscope import open_microscope

    while True:
        try:
            return open_microscope(hardware)
        except ForeignCalibration as error:
            left = [each for each in hardware.calibrations if each is not error.calibration]
            hardware = calibrated(hardware.described, left)
            print_message(f"Not used: {error.message}")


def keep(hardware: "Hardware", calibration: "Calibration") -> Path | None:
    """Write a calibration beside the hardware file, and say so; None for the package's own file."""
    from plsctl.acquire.devices.calibrations import (
        calibration_folder,
        has_folder,
        write_calibration,
    )

    if not has_folder(hardware):
        print_message(
            f"Nothing was written: {hardware.file.stem} comes with plsctl. Make a file of your own "
            f"with plsctl init DIR --hardware {hardware.file.stem} --own, and calibrate that."
        )
        return None
    path = write_calibration(calibration, calibration_folder(hardware))
    path.with_suffix(".failed.html").unlink(missing_ok=True)
    print_message(f"Written to {path}; scans with {hardware.file.name} use it from now on.")
    return path


def page_path(hardware: "Hardware", title: str) -> Path | None:
    """Where the page of a calibration goes; None for the package's own file."""
    from plsctl.acquire.devices.calibrations import calibration_folder, has_folder

    return calibration_folder(hardware) / f"{title}.html" if has_folder(hardware) else None


def _tell_failure(hardware: "Hardware", title: str, error: PlsctlError, seen: "list[Seen]") -> None:
    from plsctl.process.report.calibration import write_failure

    path = page_path(hardware, f"{title}.failed")
    if path is None or not seen:
        return
    write_failure(path, title.replace("_", " of "), str(error), seen)
    error.hint = f"{error.hint or ''} {path} shows what the camera saw.".strip()
