"""Who times a stack: the computer, or camera and array themselves."""

from __future__ import annotations

from collections.abc import Sequence

from plsctl.acquire.capture.hardware_stack import FEWEST_IN_SERIES, HardwareStack
from plsctl.acquire.capture.software_stack import SoftwareStack
from plsctl.acquire.capture.stack import StackTaker, reference_frame
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.errors import UserError
from plsctl.acquire.store.records import FrameRecord


def open_stack(
    microscope: Microscope, frames: Sequence[FrameRecord], closes: bool = False
) -> StackTaker:
    """The fastest way of taking a stack that camera and array offer.

    Parameters
    ----------
    closes
        Take the reference frame once more at the end, to compare the light; not of one frame
        alone, nor of a short series.

    Raises
    ------
    UserError
        The hardware file asks for hardware timing, and they cannot do it.
    """
    wish = microscope.hardware.timing
    lacks = lacks_for_hardware(microscope)
    reference = reference_frame(frames) if closes else None
    if wish == "software":
        return SoftwareStack(microscope, "as the hardware file says", reference)
    if wish == "auto" and not lacks and len(frames) < FEWEST_IN_SERIES:
        reason = "markers would take longer than so few frames"
        return SoftwareStack(microscope, reason, reference)
    if not lacks:
        stack = HardwareStack(microscope, frames, closes)
        if wish == "hardware" or stack.longest_series >= FEWEST_IN_SERIES:
            return stack
        reason = "no exposure is that of enough frames for a series"
        return SoftwareStack(microscope, reason, reference)
    if wish == "hardware":
        raise UserError(
            f"hardware timing is not possible: {lacks}.",
            file=microscope.hardware.file,
            field="timing",
            hint="Say `timing: auto` or `timing: software` (docs/timing.md).",
        )
    return SoftwareStack(microscope, lacks, reference)


def lacks_for_hardware(microscope: Microscope) -> str:
    """What is missing for hardware timing, in words; empty if nothing is."""
    able = microscope.leds.capabilities
    if not (able.sequence and able.trigger):
        return "the LED array cannot step through patterns by trigger"
    if not microscope.camera.can_be_triggered:
        return "the hardware file has no `camera.trigger`"
    return ""
