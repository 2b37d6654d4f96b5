"""What is particular to one LED driver; what all keep is in `test_led_array.py`."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.leds.array import LedArray, LedArraySettings, driver_options, open_led_array
from plsctl.acquire.leds.geometry import standard_array
from plsctl.acquire.leds.openuc2 import OpenUc2Options
from plsctl.acquire.leds.squid import LOW_NA, PATTERNS, SquidArray
from plsctl.acquire.leds.squid_status import Status, crc8, statuses
from plsctl.acquire.leds.template_settings import TemplateOptions
from plsctl.sim.firmware.arduino import ArduinoFirmware
from plsctl.sim.firmware.board import LedBoard
from plsctl.sim.firmware.illuminate import IlluminateFirmware
from plsctl.sim.firmware.illuminate_v1 import IlluminateV1Firmware
from plsctl.sim.firmware.openuc2 import OpenUc2Firmware
from plsctl.sim.firmware.ports import register, unregister
from plsctl.sim.firmware.squid import SquidFirmware, matrix_positions, pattern
from plsctl.sim.world.clock import SimulatedClock

PLACES = [(led.x_mm, led.y_mm, led.z_mm) for led in standard_array().leds]
SHIPPED = load_hardware("arduino_43_leds")
Opener = Callable[..., LedArray]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Open a driver at a board in this process."""
    arrays: list[LedArray] = []

    def open_at(board: LedBoard, driver: str, options: object = None, **changes: Any) -> LedArray:
        values = {
            "driver": driver,
            "port": register("bench", board),
            "geometry": "leds_43.csv",
            "timeout_s": 0.1,
            "retries": 1,
            "boot_timeout_s": 0.1,
            "options": options or {},
        }
        arrays.append(open_led_array(LedArraySettings.model_validate(values | changes)))
        return arrays[-1]

    yield open_at
    for array in arrays:
        array.close()
    unregister("bench")


# Template -----------------------------------------------------------------------------------------


class OddBoard(LedBoard):
    """Another lab's language: counts from 1, per cent, lights on top, chatters, no lists."""

    def receive(self, burst: bytes) -> str:
        said = ""
        for line in burst.decode("latin-1").split(";")[:-1]:
            said += self.timed(lambda line=line: self._answer(line))  # type: ignore[misc]
        return said

    def _answer(self, line: str) -> str:
        word, *numbers = (line or "?").split()
        if word == "who":
            return f"# asked|I am a ring lamp, release 7b, with {self.led_count} lamps|"
        if word == "lamp":
            led, percent = (int(number) for number in numbers)
            self.set_led(led - 1, round(percent * 2.55))
        elif word == "dark":
            self.clear()
        else:
            return "no!|"
        self.update()
        return "# done|yes|"


ODD: dict[str, Any] = {
    "framing": {"terminator": ";", "reply_terminator": "|"},
    "identify": {
        "send": "who",
        "reply": r"I am a (?P<name>.+), release (?P<version>\w+), with (?P<led_count>\d+) lamps",
    },
    "dark": {"send": "dark", "reply": "yes"},
    "single": {"send": "lamp {led:03d} {level}", "reply": "yes", "clears": False},
    "full_drive": 100,
    "first_led": 1,
    "error": "no!",
    "skip": "#.*",
}


def test_another_labs_language_is_spoken_from_its_description(opened: Opener) -> None:
    board = OddBoard(PLACES, SimulatedClock())
    array = opened(board, "template", ODD)
    assert (array.identity.name, array.identity.version) == ("ring lamp", "7b")
    assert array.capabilities.several
    assert array.capabilities.brightness
    array.light([0, 42], brightness=0.2)
    assert board.lit == pytest.approx({0: 0.2, 42: 0.2})
    array.light([3])
    assert board.lit == {3: 1.0}
    with pytest.raises(UserError, match=r"below the array's smallest step, 0.0100"):
        array.light([3], brightness=0.001)
    assert board.violations == []


def test_a_language_without_lists_refuses_them_before_anything_is_sent(opened: Opener) -> None:
    options = copy.deepcopy(ODD)
    options["single"] = {"send": "lamp {led} 100", "reply": "yes", "clears": True}
    board = OddBoard(PLACES, SimulatedClock())
    array = opened(board, "template", options)
    assert not array.capabilities.several
    assert not array.capabilities.brightness
    array.light([4])
    with pytest.raises(UserError, match="lights one LED at a time, and 2 were asked for"):
        array.light([1, 2])
    with pytest.raises(UserError, match=r"has no brightness to set, and 0.5 was asked for"):
        array.light([1], brightness=0.5)
    assert board.lit == {4: 1.0}


def test_a_refusal_is_told_in_the_controllers_words(opened: Opener) -> None:
    options = copy.deepcopy(ODD)
    options["single"]["send"] = "lump {led} {level}"
    array = opened(OddBoard(PLACES, SimulatedClock()), "template", options)
    with pytest.raises(HardwareError, match=r"not do as it is told: `lump 2 100` was refused: no!"):
        array.light([1])


def test_an_echo_of_another_led_is_no_reply(opened: Opener) -> None:
    board = ArduinoFirmware(PLACES, SimulatedClock())
    array = opened(board, "template", SHIPPED.led_array.options)
    receive = board.receive
    board.receive = lambda burst: receive(burst).replace("OK L6", "OK L5")  # type: ignore[method-assign]
    array.light([7])
    with pytest.raises(HardwareError, match=r"not understood: `L6` was sent and 'OK L5"):
        array.light([6])


def test_a_board_that_boots_gets_the_time_it_needs(opened: Opener) -> None:
    board = ArduinoFirmware(PLACES, SimulatedClock())
    board.boot_s = 1.6
    array = opened(board, "template", SHIPPED.led_array.options, boot_timeout_s=4)
    array.light([7])
    assert board.lit == {7: 1.0}
    board.faults.lost_replies = 2  # until the port is opened anew, and the board boots again
    array.light([8])
    assert board.lit == {8: 1.0}


@pytest.mark.parametrize(
    ("path", "value", "field", "told"),
    [
        ("identify", None, "identify", "the field 'identify' is missing"),
        ("dark", None, "dark", "the field 'dark' is missing"),
        ("dark.reply", None, "dark.reply", "the field 'dark.reply' is missing"),
        ("dark.reply", "OK (", "dark.reply", "not a regular expression: missing"),
        ("dark.reply", r"OK (?P<led>\d)", "dark.reply", "named group 'led' means nothing here"),
        (
            "identify.reply",
            r"(?P<name>.*)",
            "identify.reply",
            r"group \(\?P<led_count>...\) is mis",
        ),
        ("single.send", "L", "single.send", r"placeholder \{led\} is missing"),
        ("single.send", "L{leds}", "single.send", r"\{leds\} means nothing here \(allowed: \{led"),
        ("single.send", "L{led", "single.send", "braces do not match"),
        ("single.send", "L{led:q}", "single.send", "cannot be filled in: Unknown format code"),
        ("single.send", "{}{led}", "single.send", "means nothing here"),
        ("single.clear", False, "single.clear", "Did you mean 'clears'?"),
        ("single.clears", "perhaps", "single.clears", "true or false"),
        ("several.max_leds", 0, "several.max_leds", "it must be at least 1"),
        ("brightnes", {}, "brightnes", "Did you mean 'brightness'?"),
        ("error", "[", "error", "not a regular expression"),
        ("framing.encoding", "utf8", "framing.encoding", "Did you mean 'utf-8'?"),
        ("framing.terminator", "", "framing.terminator", "it is empty"),
        ("all.send", "A{level}", None, r"\{level\} stands in a command .* and in 'brightness'"),
        ("dark.send", "X\n", None, "'dark.send' contains the terminator"),
        ("dark.send", "schwärze", None, "'dark.send' has a character that is not ascii"),
    ],
)
def test_a_mistake_in_a_description_names_line_and_field(
    tmp_path: Path, path: str, value: object, field: str | None, told: str
) -> None:
    hardware = yaml.safe_load(SHIPPED.file.read_text("utf-8"))
    target = hardware["led_array"]["options"]
    *parents, name = path.split(".")
    for parent in parents:
        target = target[parent]
    if value is None:
        del target[name]
    else:
        target[name] = value
    file = tmp_path / "scope.yaml"
    file.write_text(yaml.safe_dump(hardware), "utf-8")
    settings = load_hardware(str(file)).led_array
    with pytest.raises(UserError, match=told) as caught:
        open_led_array(settings)
    assert caught.value.file == str(file)
    if field is not None:
        assert caught.value.field == f"led_array.options.{field}"
    if value is not None and field is not None:
        line = file.read_text("utf-8").splitlines()[(caught.value.line or 0) - 1]
        assert name in line


def test_one_way_to_light_is_enough_and_none_is_too_few() -> None:
    options = {key: ODD[key] for key in ("framing", "identify", "dark")}
    settings = LedArraySettings(port="x", geometry="y", options=options)
    with pytest.raises(UserError, match="give 'single' or 'several'"):
        driver_options(settings, TemplateOptions)


def test_a_description_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    hardware = yaml.safe_load(SHIPPED.file.read_text("utf-8"))
    options = hardware["led_array"]["options"]
    hardware["led_array"]["options"] = {"file": "ours.yaml"}
    file, own = tmp_path / "scope.yaml", tmp_path / "ours.yaml"
    file.write_text(yaml.safe_dump(hardware), "utf-8")
    with pytest.raises(UserError, match=r"ours.yaml: there is no such file"):
        load_hardware(str(file))
    own.write_text(yaml.safe_dump(options), "utf-8")
    settings = load_hardware(str(file)).led_array
    assert settings.options == options  # so that a scan's copy of the hardware file has them
    assert driver_options(settings, TemplateOptions).full_drive == 255
    own.write_text(yaml.safe_dump(options | {"full_drive": 0}), "utf-8")
    with pytest.raises(UserError, match=r"ours.yaml, line \d+: full_drive = 0") as caught:
        open_led_array(load_hardware(str(file)).led_array)
    assert caught.value.field == "full_drive"
    hardware["led_array"]["options"] = {"file": "ours.yaml", "full_drive": 100}
    file.write_text(yaml.safe_dump(hardware), "utf-8")
    with pytest.raises(UserError, match="'full_drive' stands here as well"):
        load_hardware(str(file))


def test_shipped_options_are_right() -> None:
    for name, model in (("arduino_43_leds", TemplateOptions), ("openuc2", OpenUc2Options)):
        driver_options(load_hardware(name).led_array, model)


def test_commands_for_opening_bring_the_controller_into_a_known_state(opened: Opener) -> None:
    board = OddBoard(PLACES, SimulatedClock())
    sent: list[bytes] = []
    receive = board.receive
    board.receive = lambda burst: sent.append(burst) or receive(burst)  # type: ignore[method-assign,func-returns-value]
    options = ODD | {"open": [{"send": "lamp 001 0", "reply": "yes"}]}
    array = opened(board, "template", options)
    assert sent.count(b"lamp 001 0;") == 1
    array.set_up()
    assert sent.count(b"lamp 001 0;") == 2
    with pytest.raises(UserError, match=r"open = .lamp \{led\}.*placeholder"):
        opened(board, "template", ODD | {"open": [{"send": "lamp {led}", "reply": "yes"}]})


# Illuminate ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("firmware", [IlluminateFirmware, IlluminateV1Firmware])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_another_program_left_set_is_set_right_on_opening(
    opened: Opener,
    monkeypatch: pytest.MonkeyPatch,
    firmware: type[IlluminateFirmware],
    channels: int,
) -> None:
    monkeypatch.setattr(firmware, "colour_channels", channels)
    board = firmware(PLACES, SimulatedClock(), resets_on_open=False)
    left = ("human", "gs.0", "debug.1", "sb.3", "ac.0", "sc.0.9.0")
    for line in (*left, "trinputpolarity.0.0", "troutputpolarity.0.0"):
        board.feed(line.encode() + b"\n")
    array = opened(board, "illuminate")
    array.light([3])
    assert board.lit == {3: 1.0}
    array.light(range(43))
    assert set(board.lit.values()) == {1.0}
    assert (board.input_polarity, board.output_polarity, board._debug) == (1, 1, 0)
    assert board._colour == [255] * channels
    assert board.violations == []


def test_a_fill_that_always_says_so_is_understood(opened: Opener) -> None:
    board = IlluminateFirmware(PLACES, SimulatedClock())
    opened_array = opened(board, "illuminate")
    board._debug = 1
    opened_array.light(range(43))
    assert len(board.lit) == 43


def test_the_colour_of_an_illuminate_board_is_as_its_options_say(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IlluminateFirmware, "colour_channels", 3)
    board = IlluminateFirmware(PLACES, SimulatedClock())
    opened(board, "illuminate", {"colour": [0, 128, 0]})
    assert board._colour == [0, 255, 0]
    with pytest.raises(UserError, match="one of the colours must be above 0"):
        opened(board, "illuminate", {"colour": [0, 0, 0]})
    with pytest.raises(UserError, match="colour"):
        opened(board, "illuminate", {"color": [0, 0, 1]})


# openUC2 ------------------------------------------------------------------------------------------


def test_colour_and_brightness_of_an_openuc2_matrix(opened: Opener) -> None:
    board = OpenUc2Firmware(PLACES, SimulatedClock())
    array = opened(board, "openuc2", {"colour": [0, 128, 0]})
    assert array.identity.name == "UC2_Feather UC2_4"
    array.light([1, 2])
    assert board.lit == pytest.approx({1: 128 / 255, 2: 128 / 255})
    array.light([1], brightness=0.5)
    assert board.lit == pytest.approx({1: 64 / 255})


def test_an_openuc2_panel_that_clears_is_not_asked_for_lists(opened: Opener) -> None:
    board = OpenUc2Firmware(PLACES, SimulatedClock(), single_clears=True)
    array = opened(board, "openuc2", {"single_clears": True})
    assert not array.capabilities.several
    with pytest.raises(UserError, match="lights one LED or all, and 2 were asked for"):
        array.light([1, 2])
    array.light([1])
    array.light([2])
    assert board.lit == {2: 1.0}
    # Its protection against heat never sees a minute of bright light.
    for led in range(8):
        array.light([led])
        board.clock.sleep(10)
        assert board.lit == {led: 1.0}
    array.light(range(43))
    assert len(board.lit) == 43


def test_reports_on_earlier_commands_are_not_replies(opened: Opener) -> None:
    """`state: done` of the last task arrives when the reply to this one is due."""
    board = OpenUc2Firmware(PLACES, SimulatedClock(), reports_done=False)
    array = opened(board, "openuc2")
    feed, late = board.feed, [b""]

    def reports_late(burst: bytes) -> bytes:
        said, late[0] = late[0] + feed(burst), b'++\n{"qid":1,"state":"done"}\n--\n\0'
        return said

    board.feed = reports_late  # type: ignore[method-assign]
    array.light([4, 5])
    assert sorted(board.lit) == [4, 5]


def test_an_openuc2_board_without_leds_is_told(opened: Opener) -> None:
    board = OpenUc2Firmware(PLACES, SimulatedClock())
    answer = board._answer
    board._answer = lambda text: answer(text).replace('"count":43', '"count":0')  # type: ignore[method-assign]
    with pytest.raises(HardwareError, match="does not say how many LEDs it has"):
        opened(board, "openuc2")


# Squid --------------------------------------------------------------------------------------------


@pytest.fixture
def squid() -> SquidFirmware:
    return SquidFirmware(matrix_positions(), SimulatedClock())


def test_the_squid_driver_knows_the_patterns_of_the_firmware() -> None:
    assert crc8(b"123456789") == 0xF4
    for leds, (code, _) in PATTERNS.items():
        assert sorted(leds) == pattern(code)


def test_a_squid_command_without_acknowledgement_is_sent_again(
    opened: Opener, squid: SquidFirmware
) -> None:
    array = opened(squid, "squid")
    squid.faults.lost_commands = 1
    start = squid.clock.now()
    array.light(LOW_NA)
    assert sorted(squid.lit) == sorted(LOW_NA)
    assert 0.1 < squid.clock.now() - start < 0.5
    squid.faults.lost_commands = 10_000
    with pytest.raises(
        HardwareError,
        match=r"none of the \d+ statuses after it was about it|is about what was sent",
    ):
        array.off()


def test_the_squid_light_goes_out_when_the_computer_falls_silent(
    opened: Opener, squid: SquidFirmware
) -> None:
    array = opened(squid, "squid", {"watchdog_s": 5})
    assert isinstance(array, SquidArray)
    assert array.capabilities.watchdog
    array.light(LOW_NA)
    for _ in range(4):
        squid.clock.sleep(3)
        with array._lock:
            array._beat()
    assert sorted(squid.lit) == sorted(LOW_NA)
    squid.clock.sleep(5.1)
    assert squid.lit == {}


def test_the_squid_gets_signs_of_life_from_a_thread(opened: Opener, squid: SquidFirmware) -> None:
    opened(squid, "squid", {"watchdog_s": 0.1})
    deadline = time.monotonic() + 5
    while squid.heartbeats < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert squid.heartbeats >= 2


def test_an_older_squid_has_no_watchdog_and_one_without_version_is_refused(opened: Opener) -> None:
    board = SquidFirmware(matrix_positions(), SimulatedClock(), version="1.0")
    array = opened(board, "squid")
    assert not array.capabilities.watchdog
    array.light(range(64))
    assert sorted(board.lit) == list(range(64))
    old = SquidFirmware(matrix_positions(), SimulatedClock(), version="0.0")
    with pytest.raises(HardwareError, match=r"has firmware 0.0; this driver is for 1.0 and later"):
        opened(old, "squid")


def test_squid_statuses_are_found_in_a_stream_that_begins_anywhere(squid: SquidFirmware) -> None:
    """Equal statuses follow each other: a wrong beginning may have a right checksum too."""
    for number in range(1, 256):
        squid._command_number = number
        squid.poll()
        squid.clock.sleep(0.03)
        stream = squid.poll()
        for start in range(24):
            found = statuses(stream[start:], number)
            assert len(found) == len(stream[start:]) // 24
            assert set(found) == {Status(0, (1, 7))}
