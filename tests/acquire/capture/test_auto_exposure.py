"""Exposures measured on the simulated array, whose LEDs differ in brightness by up to 40 %."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from plsctl.acquire.capture.auto_exposure import PERCENTILE, TARGET, ExposureCalibration
from plsctl.acquire.devices.calibration_kinds import LedLight
from plsctl.acquire.devices.calibrations import made
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.devices.microscope import open_microscope
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.exposures import level_exposures
from plsctl.acquire.plans.recipes import load_recipe


def test_every_image_reaches_its_target_in_a_few_images_exact_and_snapped(tmp_path: Path) -> None:
    content = yaml.safe_load(load_hardware("simulator_small").file.read_text(encoding="utf-8"))
    content["camera"]["size_px"] = [240, 180]
    content["led_array"]["geometry"] = "shipped:leds_43.csv"
    content["options"]["led_spread"] = 0.4
    (tmp_path / "scope.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    hardware = load_hardware(tmp_path / "scope.yaml")
    frames = load_recipe("full-nohe").light(hardware.geometry(), 0.4)
    taken: Counter[str] = Counter()
    with open_microscope(hardware) as microscope:
        microscope.set_objective("20x")
        microscope.travel(11000, 5600)
        microscope.move_z(5008.0)
        calibration = ExposureCalibration(microscope, StopRequest())
        reached = calibration._reached
        count = 0

        def counted(light: object) -> float | None:
            nonlocal count
            count += 1
            return reached(light)  # type: ignore[arg-type]

        calibration._reached = counted  # type: ignore[method-assign]

        def note(label: str) -> None:
            nonlocal count
            taken[label], count = count, 0

        table = calibration.measure(frames, 0.4, note)
        assert len(taken) == len(frames) and max(taken.values()) <= 6
        for exposures, tolerance in ((table, 0.05), (level_exposures(table, 6, dim=True), 0.15)):
            for lit in frames:
                row = exposures.rows[lit.frame]
                microscope.light([led.led for led in lit.leds], row.brightness)
                image = microscope.snap(row.exposure_ms, row.gain)
                level = float(np.percentile(image.reshape(-1, 3), PERCENTILE, axis=0).max())
                wanted = TARGET * 255
                assert level == pytest.approx(wanted, rel=tolerance), lit.frame.label


def test_an_led_that_dimmed_is_named_whatever_the_field_and_the_lamp() -> None:
    hardware = load_hardware("simulator_small")
    leds = hardware.geometry().leds
    rng = np.random.default_rng(5)

    def light(factor: float, dim: str = "") -> LedLight:
        lights = {led.name: factor * float(rng.uniform(0.97, 1.03)) for led in leds}
        if dim:
            lights[dim] *= 0.8
        sines = {led.name: float(np.hypot(*led.direction)) for led in leds}
        fields = made(hardware, ["20x"], "", "array")
        return LedLight.model_validate(fields | {"lights": lights, "sines": sines})

    before = light(1.0)
    assert light(0.7).dimmed_since(before) == {}
    assert list(light(1.2, dim="arm2-30").dimmed_since(before)) == ["arm2-30"]
