"""The light of each LED as exposures measured it, kept for the next calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from plsctl.acquire.devices.calibration_kinds import LedLight
from plsctl.acquire.devices.calibrations import foreign, made, read_calibrations
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.devices.microscope import Microscope
from plsctl.acquire.plans.recipe_frames import LitFrame


def kept_light(
    hardware: Hardware, objective: str, answers: tuple[str, str] = ("", "")
) -> LedLight | None:
    """What an earlier calibration of this hardware kept; None where there was none.

    `answers` is what camera and LED array say of themselves, where that is known.
    """
    return next(
        (
            each
            for each in read_calibrations(hardware)
            if isinstance(each, LedLight)
            and each.objective == objective
            and foreign(each, hardware, *answers) is None
        ),
        None,
    )


def led_light(
    microscope: Microscope,
    objective: str,
    frames: Sequence[LitFrame],
    lights: Mapping[str, float],
) -> LedLight:
    """What is kept of `lights` (`ExposureCalibration.lights`): those of LEDs that shone alone."""
    alone = {
        lit.leds[0].name: lit
        for lit in frames
        if len(lit.leds) == 1 and lit.colour == "white" and lit.frame.label in lights
    }
    return LedLight.model_validate(
        made(microscope.hardware, [objective], *microscope.answers)
        | {
            "lights": {
                name: float(f"{lights[lit.frame.label] / lit.weight:.4g}")
                for name, lit in alone.items()
            },
            "sines": {
                name: round(math.hypot(*lit.leds[0].direction), 4) for name, lit in alone.items()
            },
        }
    )
