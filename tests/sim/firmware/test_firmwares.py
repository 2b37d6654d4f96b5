"""The emulated Arduino, openUC2 and Squid controllers answer as the real ones, quirks included."""

from __future__ import annotations

import json

import pytest

from plsctl.acquire.leds.geometry import standard_array
from plsctl.sim.firmware.arduino import ArduinoFirmware
from plsctl.sim.firmware.board import ring_positions
from plsctl.sim.firmware.openuc2 import OpenUc2Firmware
from plsctl.sim.firmware.squid import LOW_NA, SquidFirmware, crc8, matrix_positions, pattern
from plsctl.sim.world.clock import SimulatedClock

PLACES = [(led.x_mm, led.y_mm, led.z_mm) for led in standard_array().leds]


# Arduino ------------------------------------------------------------------------------------------


@pytest.fixture
def arduino() -> ArduinoFirmware:
    board = ArduinoFirmware(PLACES, SimulatedClock())
    board.connect()
    return board


@pytest.mark.parametrize(
    ("burst", "reply", "lit"),
    [
        (b"?\n", b"LEDARRAY 1.2 43\r\n", [7]),
        (b"L12\n", b"OK L12\r\n", [12]),
        (b"L12\r\n", b"OK L12\r\n", [12]),
        (b"P3,4\n", b"OK P2\r\n", [3, 4, 7]),
        (b"X\n", b"OK X\r\n", []),
        (b"Labc\n", b"OK L0\r\n", [0]),
        (b"L43\n", b"ERR 2 no such LED\r\n", [7]),
        (b"hello\n", b"ERR 1 unknown command\r\n", [7]),
        (b"L1", b"", [7]),
        (b"X\nL2\n", b"OK X\r\nOK L2\r\n", [2]),
    ],
)
def test_arduino_replies(
    arduino: ArduinoFirmware, burst: bytes, reply: bytes, lit: list[int]
) -> None:
    arduino.feed(b"L7\n")
    assert arduino.feed(burst) == reply
    assert sorted(arduino.lit) == lit


def test_an_arduino_restarts_when_its_port_opens_and_is_deaf_at_first() -> None:
    board = ArduinoFirmware(PLACES, SimulatedClock())
    board.boot_s = 1.6
    board.feed(b"L7\n")
    assert board.connect() == b""
    assert board.lit == {}
    assert board.feed(b"L1\n") == b""
    board.clock.sleep(1.7)
    assert board.poll() == b"LED array ready\r\n"
    assert board.feed(b"L1\n") == b"OK L1\r\n"


def test_an_arduino_loses_what_its_buffer_cannot_hold(arduino: ArduinoFirmware) -> None:
    assert arduino.feed(b"P" + b"1," * 40 + b"\n") == b""
    assert arduino.violations == ["82 bytes at once"]


# openUC2 ------------------------------------------------------------------------------------------


@pytest.fixture
def matrix() -> OpenUc2Firmware:
    return OpenUc2Firmware(ring_positions(64), SimulatedClock(), reports_done=False)


def act(**led: object) -> bytes:
    return json.dumps({"task": "/ledarr_act", "qid": 17, "led": led}).encode()


DONE = b'++\n{"qid":17,"success":1}\n--\n\0'
WHITE = {"r": 255, "g": 255, "b": 255}


@pytest.mark.parametrize(
    ("task", "reply", "lit"),
    [
        (act(action="single", ledIndex=12, **WHITE), DONE, [7, 12]),
        (act(action="off"), DONE, []),
        (act(action="single", ledIndex=64, **WHITE), DONE, [7]),
        (act(action="array", led_array=[{"id": 1, **WHITE}]), DONE, [7]),
        (act(action="blink"), b'++\n{"qid":-1,"success":-1}\n--\n\0', [7]),
        (b'{"task":"/ledarr_act","qid":17}', b'++\n{"qid":-1,"success":-1}\n--\n\0', [7]),
        (b"{'task'}", b'++\n{"error":"Failed to parse JSON"}\n--\n\0', [7]),
        (b'{"task":"/ledarr_get"}', b'++\n{"led":{"isOn":true,"count":64}}\n--\n\0', [7]),
        (b"X\n", b"", [7]),
    ],
)
def test_openuc2_replies(
    matrix: OpenUc2Firmware, task: bytes, reply: bytes, lit: list[int]
) -> None:
    matrix.feed(act(action="single", ledIndex=7, **WHITE))
    assert matrix.feed(task).endswith(reply)
    assert sorted(matrix.lit) == lit


def test_an_openuc2_panel_lights_one_led_alone() -> None:
    panel = OpenUc2Firmware(ring_positions(64), SimulatedClock(), single_clears=True)
    panel.feed(act(action="single", ledIndex=7, **WHITE))
    panel.feed(act(action="single", ledIndex=8, **WHITE))
    assert sorted(panel.lit) == [8]


def test_a_half_sent_object_swallows_the_next_until_its_braces_are_closed(
    matrix: OpenUc2Firmware,
) -> None:
    assert matrix.feed(b'{"task":"/led') == b""
    assert matrix.feed(act(action="fill", **WHITE)) == b""
    assert b"Failed to parse JSON" in matrix.feed(b"}")
    assert matrix.feed(act(action="fill", **WHITE)).endswith(DONE)


def test_openuc2_reports_a_finished_task_later_and_goes_dark_when_hot() -> None:
    matrix = OpenUc2Firmware(ring_positions(64), SimulatedClock())
    assert b'"state"' not in matrix.feed(act(action="fill", r=60, g=60, b=60))
    assert matrix.poll() == b'++\n{"qid":17,"state":"done"}\n--\n\0'
    matrix.clock.sleep(59)
    assert len(matrix.lit) == 64
    matrix.clock.sleep(2)
    assert matrix.lit == {}


# Squid --------------------------------------------------------------------------------------------


@pytest.fixture
def squid() -> SquidFirmware:
    return SquidFirmware(matrix_positions(), SimulatedClock())


def command(number: int, code: int, *parameters: int) -> bytes:
    body = bytes([number, code, *parameters]).ljust(7, b"\0")
    return body + bytes([crc8(body)])


def last_status(board: SquidFirmware) -> tuple[int, int]:
    """Command and state of the last status."""
    board.clock.sleep(0.01)
    packet = board.poll()[-24:]
    assert crc8(packet) == 0  # a message with its own checksum behind it leaves nothing
    return packet[0], packet[1]


def test_crc_is_the_standard_one() -> None:
    assert crc8(b"123456789") == 0xF4


def test_squid_tells_its_state_a_hundred_times_a_second(squid: SquidFirmware) -> None:
    squid.poll()
    squid.clock.sleep(0.1)
    said = squid.poll()
    assert len(said) == 10 * 24
    assert said[22] == 0x17


@pytest.mark.parametrize(
    ("bytes_sent", "status"),
    [
        (command(5, 11), (5, 0)),
        (command(5, 99), (5, 0)),  # codes it does not know count as done
        (command(5, 11)[:-1] + b"\0", (5, 2)),
        (command(5, 11)[:4], (0, 0)),
    ],
)
def test_squid_statuses(squid: SquidFirmware, bytes_sent: bytes, status: tuple[int, int]) -> None:
    squid.feed(bytes_sent)
    assert last_status(squid) == status


def test_a_lost_byte_spoils_the_next_command_and_nothing_more(squid: SquidFirmware) -> None:
    squid.feed(command(1, 11)[:3])
    squid.feed(command(2, 11))
    assert last_status(squid) == (1, 2)
    squid.feed(command(3, 11))
    assert last_status(squid) == (3, 0)


def test_squid_patterns(squid: SquidFirmware) -> None:
    squid.feed(command(1, 13, 4, 255, 255, 255))
    assert squid.lit == {}
    squid.feed(command(2, 10))
    assert squid.lit == dict.fromkeys(LOW_NA, 1.0)
    squid.feed(command(3, 13, 1, 3, 3, 3))
    assert squid.lit == pytest.approx(dict.fromkeys(range(64), 0.01), abs=0.003)
    squid.feed(command(4, 13, 1, 2, 2, 2))  # cut off to nothing
    assert squid.lit == {}


def test_the_squid_patterns_are_where_their_names_say() -> None:
    places = matrix_positions()
    assert len(places) == len(set(places)) == 128
    assert {places[led][0] < 0 for led in pattern(1)} == {True}
    assert {places[led][0] > 0 for led in pattern(2)} == {True}
    assert {places[led][1] < 0 for led in pattern(7)} == {True}
    assert {places[led][1] > 0 for led in pattern(8)} == {True}
    centre = sorted(range(128), key=lambda led: places[led][0] ** 2 + places[led][1] ** 2)
    assert sorted(centre[:12]) == sorted(pattern(4))


def test_the_squid_watchdog_bites_once(squid: SquidFirmware) -> None:
    squid.feed(command(1, 40, 0, 0, 19, 136))  # 5000 ms
    squid.feed(command(2, 13, 0, 255, 255, 255))
    squid.feed(command(3, 10))
    squid.clock.sleep(4.9)
    squid.feed(command(4, 42))
    squid.clock.sleep(4.9)
    assert len(squid.lit) == 128
    squid.clock.sleep(0.2)
    assert squid.lit == {}
    squid.feed(command(5, 10))
    squid.clock.sleep(60)
    assert len(squid.lit) == 128


def test_switching_off_is_only_for_the_chosen_source(squid: SquidFirmware) -> None:
    squid.feed(command(1, 13, 0, 255, 255, 255))
    squid.feed(command(2, 10))
    squid._source = 11  # a laser was chosen meanwhile
    squid.feed(command(3, 11))
    assert len(squid.lit) == 128
