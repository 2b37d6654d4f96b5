"""Coloured light: what reaches the controller, what the simulated camera sees, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.devices.hardware_check import check_hardware
from plsctl.acquire.devices.microscope import open_microscope
from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.array import (
    Colour,
    LedArraySettings,
    SequenceTiming,
    open_led_array,
)
from plsctl.acquire.leds.geometry import standard_array
from plsctl.acquire.leds.squid import LOW_NA
from plsctl.acquire.scanning.preflight import check_array, check_frames
from plsctl.acquire.store.records import FrameRecord
from plsctl.sim.firmware.arduino import ArduinoFirmware
from plsctl.sim.firmware.board import LedBoard
from plsctl.sim.firmware.illuminate import IlluminateFirmware
from plsctl.sim.firmware.illuminate_v1 import IlluminateV1Firmware
from plsctl.sim.firmware.openuc2 import OpenUc2Firmware
from plsctl.sim.firmware.ports import register, unregister
from plsctl.sim.firmware.squid import SquidFirmware, matrix_positions
from plsctl.sim.world.clock import SimulatedClock

PLACES = [(led.x_mm, led.y_mm, led.z_mm) for led in standard_array().leds]
ARDUINO = load_hardware("arduino_43_leds").led_array.options
OWN_COMMAND = {"colour": {"send": "C{r},{g},{b}", "reply": r"OK C(?P<r>\d+),(?P<g>\d+),(?P<b>\d+)"}}
PURE: dict[Colour, tuple[float, float, float]] = {
    "red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0),
}  # fmt: skip


class CarriedColours(ArduinoFirmware):
    """A sketch whose lists carry red, green and blue: `P3,7/255,0,0`."""

    def _add_list(self, argument: str) -> str:
        leds, _, colour = argument.partition("/")
        red, green, blue = (int(part) for part in colour.split(","))
        self._brightness = max(red, green, blue)
        self._set_colour(colour)
        super()._add_list(leds)
        return f"OK P{len(leds.split(','))}"


class Coloured(IlluminateFirmware):
    """A board of three colours, which it drives with a third each after power-on."""

    colour_channels = 3


class ColouredV1(IlluminateV1Firmware):
    """The same with the older firmware."""

    colour_channels = 3


CARRIED = {
    **{k: v for k, v in ARDUINO.items() if k not in ("single", "all", "brightness", "several")},
    "several": {
        "send": "P{leds}/{r},{g},{b}", "reply": r"OK P(?P<count>\d+)", "max_leds": 20,
        "clears": False,
    },
}  # fmt: skip


def board_and_settings(
    firmware: type[LedBoard], driver: str, options: Mapping[str, object], places: object = PLACES
) -> tuple[LedBoard, LedArraySettings]:
    board = firmware(places, SimulatedClock())  # type: ignore[arg-type]
    port = register("colours", board)
    values = {"driver": driver, "port": port, "geometry": "x.csv", "options": dict(options)}
    return board, LedArraySettings.model_validate(values)


@pytest.mark.parametrize(
    ("firmware", "driver", "options", "leds"),
    [
        (Coloured, "illuminate", {}, (3, 5)),
        (ColouredV1, "illuminate", {}, (3, 5)),
        (OpenUc2Firmware, "openuc2", {}, (3, 5)),
        (SquidFirmware, "squid", {}, LOW_NA),
        (ArduinoFirmware, "template", ARDUINO | OWN_COMMAND, (3, 5)),
        (CarriedColours, "template", CARRIED, (3, 5)),
    ],
    ids=["illuminate", "illuminate-v1", "openuc2", "squid", "template", "template, carried"],
)
def test_a_colour_shines_and_white_follows_it(
    firmware: type[LedBoard], driver: str, options: dict[str, object], leds: tuple[int, ...]
) -> None:
    places = matrix_positions() if firmware is SquidFirmware else PLACES
    board, settings = board_and_settings(firmware, driver, options, places)
    with open_led_array(settings) as array:
        assert array.capabilities.colour
        for colour, pure in PURE.items():
            array.light(leds, 0.6, colour)
            assert set(board.lit) == set(leds)
            assert board.lit[leds[0]] == pytest.approx(0.6, abs=0.02)
            assert board.tints == dict.fromkeys(leds, pure)
        array.light(leds, 0.6)
        assert set(board.lit) == set(leds) and board.tints == {}
    assert board.lit == {} and board.violations == []
    unregister("colours")


@pytest.mark.parametrize("firmware", [Coloured, ColouredV1])
def test_a_sequence_shines_in_its_colour(firmware: type[LedBoard]) -> None:
    board, settings = board_and_settings(firmware, "illuminate", {})
    seen: list[tuple[dict[int, float], dict[int, tuple[float, float, float]]]] = []
    with open_led_array(settings) as array:
        array.load_sequence([[3], [4, 5]], 1.0, "green")
        board.on_change = lambda _, lit: seen.append((lit, board.tints))
        timing = SequenceTiming(delay_ms=20, wait_for_camera=False, pulse_camera=False)
        array.start_sequence(timing)
        array.finish_sequence(5)
        green = PURE["green"]
        assert ({3: 1.0}, {3: green}) in seen
        assert ({4: 1.0, 5: 1.0}, {4: green, 5: green}) in seen
        array.light([7])
        assert board.lit == {7: 1.0} and board.tints == {}
    unregister("colours")


def test_an_array_of_one_colour_refuses_others_before_anything_is_sent() -> None:
    board, settings = board_and_settings(ArduinoFirmware, "template", ARDUINO)
    with open_led_array(settings) as array:
        array.light([3])
        with pytest.raises(UserError, match="LEDs of one colour, and red was asked for"):
            array.light([4], colour="red")
        assert board.lit == {3: 1.0}
    unregister("colours")
    board, settings = board_and_settings(OpenUc2Firmware, "openuc2", {"colour": [255, 255, 0]})
    with (
        open_led_array(settings) as array,
        pytest.raises(UserError, match="the array's white has no blue"),
    ):
        array.light([4], colour="blue")
    unregister("colours")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"several": {"send": "P{leds}", "reply": "OK.*"}}, "must all stand in every command"),
        (OWN_COMMAND | {"single": None}, "one is too many"),
        ({"colour": {"send": "C{r},{g}", "reply": "OK"}, "single": None}, "{b} is missing"),
    ],
)
def test_a_description_with_half_a_colour_is_refused(change: dict[str, object], words: str) -> None:
    single = {"send": "L{led}/{r},{g},{b}", "reply": "OK.*", "clears": False}
    options = {k: v for k, v in {**CARRIED, "single": single, **change}.items() if v is not None}
    _, settings = board_and_settings(ArduinoFirmware, "template", options)
    with pytest.raises(UserError) as caught:
        open_led_array(settings)
    assert words in str(caught.value)
    unregister("colours")


def test_the_camera_sees_the_colour_in_its_channel(tmp_path: Path) -> None:
    described = yaml.safe_load(load_hardware("simulator_small").file.read_text())
    described["camera"]["size_px"] = [64, 48]
    described["led_array"]["driver"] = "openuc2"
    (tmp_path / "scope.yaml").write_text(yaml.safe_dump(described))
    with open_microscope(load_hardware(tmp_path / "scope.yaml")) as microscope:
        microscope.move_xy(10000, 5000)
        microscope.move_z(5000)
        leds = microscope.pattern("brightfield")
        dark = microscope.hardware.camera.black_level
        white = 0.0
        for colour in (*PURE, "white"):
            microscope.light(leds, 1.0, colour)  # type: ignore[arg-type]
            means = np.asarray(microscope.snap(2.0)).mean(axis=(0, 1)) - dark
            if colour == "white":
                assert means == pytest.approx(white, rel=0.02)
                break
            lit = list(PURE).index(colour)
            assert means[lit] > 20
            assert np.delete(means, lit) == pytest.approx(0, abs=1)
            white = white + means * (np.arange(3) == lit)


HALF_LEFT = FrameRecord(
    label="half-left", led="half-left", variant="", leds=(1, 2), exposure_ms=1, gain=1,
    brightness=1, direction=None, bright_field=True, colour="green",
)  # fmt: skip


def test_a_scan_in_colour_on_an_array_without_is_refused_by_name() -> None:
    with (
        open_microscope("simulator_small") as microscope,
        pytest.raises(UserError, match=r"'half-left' needs green light.*Leave `colour` out"),
    ):
        check_array([HALF_LEFT], microscope)


def test_a_scan_in_colour_goes_ahead_on_an_illuminate_board_of_three_colours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(IlluminateFirmware, "colour_channels", 3)
    hardware = load_hardware("simulator_small")
    able = check_hardware(hardware)  # of which nothing is known before it is opened
    assert able is not None
    check_frames([HALF_LEFT], able, hardware, "illuminate", 43)
    with open_microscope(hardware) as microscope:
        check_array([HALF_LEFT], microscope)
