"""From light to disk: microscope, LED array, scans.

The names below are stable (docs/python.md). What an LED driver needs is in `plsctl.acquire.leds`.
"""

from typing import TYPE_CHECKING

from plsctl.acquire.lazy_names import lazy_names

if TYPE_CHECKING:
    from plsctl.acquire.capture.position_stack import take_stack
    from plsctl.acquire.devices.hardware import Hardware, load_hardware
    from plsctl.acquire.devices.microscope import Microscope, open_microscope
    from plsctl.acquire.errors import HardwareError, PlsctlError, UserError
    from plsctl.acquire.scanning.pass_run import run_pass
    from plsctl.acquire.scanning.scan import open_scan
    from plsctl.acquire.store.folder import ScanFolder
    from plsctl.acquire.store.reader import PassReader
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "plsctl.acquire.capture.position_stack": ("take_stack",),
            "plsctl.acquire.devices.hardware": ("Hardware", "load_hardware"),
            "plsctl.acquire.devices.microscope": ("Microscope", "open_microscope"),
            "plsctl.acquire.errors": ("HardwareError", "PlsctlError", "UserError"),
            "plsctl.acquire.scanning.pass_run": ("run_pass",),
            "plsctl.acquire.scanning.scan": ("open_scan",),
            "plsctl.acquire.store.folder": ("ScanFolder",),
            "plsctl.acquire.store.reader": ("PassReader",),
        },
    )

__all__ = [
    "Hardware",
    "HardwareError",
    "Microscope",
    "PassReader",
    "PlsctlError",
    "ScanFolder",
    "UserError",
    "load_hardware",
    "open_microscope",
    "open_scan",
    "run_pass",
    "take_stack",
]
