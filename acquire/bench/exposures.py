"""Exposures at the bench: measured where the slide stands, refused where they cannot be right."""

from __future__ import annotations

from collections.abc import Sequence

from plsctl.acquire.bench.bright_field import BenchLight, BrightFieldBench, Seen
from plsctl.acquire.bench.led_light import led_light
from plsctl.acquire.capture.auto_exposure import ExposureCalibration, Light, TooLittleLight
from plsctl.acquire.devices.calibration_kinds import LedLight
from plsctl.acquire.errors import UserError
from plsctl.acquire.plans.exposures import ExposureTable
from plsctl.acquire.plans.recipe_frames import LitFrame

FEWEST = 3
"""LEDs in bright field, or in dark field, without which a table cannot be judged."""

EVEN = 0.2
"""Median of a bright-field image over the level of its brightest parts, at least: 0.4 and more in
bright field, 0.05 in dark field (simulated smear)."""

MOST_ODD = 1 / 3
"""Share of the LEDs in bright field by the table that may be dark, and the other way round."""

SHOWN = 4
"""So many of them are shown."""


def measure_exposures(
    bench: BrightFieldBench, frames: Sequence[LitFrame], longest_ms: float = 500.0
) -> tuple[ExposureTable, LedLight]:
    """Exposures of the frames where the bench stands in focus, and the light of single LEDs.

    Raises
    ------
    TooLittleLight
        A bright-field LED gives no light.
    UserError
        The slide has moved meanwhile, or the LED table is that of another array.
    """
    microscope = bench.microscope
    hardware, name = microscope.hardware, microscope.objective_name
    na = hardware.objective(hardware.low_power).na
    calibration = ExposureCalibration(microscope, bench.stop, longest_ms)
    done: list[str] = []

    def told(label: str) -> None:
        done.append(label)
        bench.progress("measuring exposures", len(done), len(frames))

    try:
        table = calibration.measure(frames, na, told)
    except TooLittleLight:
        lit = frames[len(done)]
        leds = tuple(led.led for led in lit.leds)
        image = bench.snap(BenchLight(leds, Light(longest_ms, 1.0)))
        bench.remember(Seen(f"under {lit.frame.label}, {longest_ms:g} ms", image))
        raise
    _check_table(bench, frames, calibration, na)
    bench.check_still()
    return table, led_light(microscope, name, frames, calibration.lights)


def _check_table(
    bench: BrightFieldBench,
    frames: Sequence[LitFrame],
    calibration: ExposureCalibration,
    na: float,
) -> None:
    """`UserError` where light comes from elsewhere than the LED table says."""
    labels = calibration.evenness
    single = [lit for lit in frames if len(lit.leds) == 1 and lit.frame.label in labels]
    for is_bright in (True, False):
        group = [lit for lit in single if lit.leds[0].is_within(na) == is_bright]
        odd = [lit for lit in group if (labels[lit.frame.label] > EVEN) != is_bright]
        if len(odd) >= FEWEST and len(odd) > MOST_ODD * len(group):
            break
    else:
        return
    says = "bright" if is_bright else "dark"
    for lit in odd[:SHOWN]:
        leds = (lit.leds[0].led,)
        light = calibration.search(leds, False, lit.frame.led)
        image = bench.snap(BenchLight(leds, light))
        bench.remember(Seen(f"under {lit.frame.led}, {says} field by the table", image))
    raise other_table(bench, is_bright, len(odd), len(group))


def other_table(bench: BrightFieldBench, is_bright: bool, odd: int, group: int) -> UserError:
    """So many of the LEDs in bright field, or in dark field, by the table give the other one."""
    says, gives = ("bright", "dark") if is_bright else ("dark", "bright")
    return UserError(
        f"{odd} of {group} LEDs that are {says} field by the LED table give {gives} "
        "field: it looks like the table of another array.",
        file=bench.microscope.hardware.file,
        field="led_array.geometry",
        hint="Name the LED table of this array, or see whether plugs are exchanged.",
    )
