"""The emulated controllers answer byte for byte as the firmwares do, quirks included."""

from __future__ import annotations

import json

import pytest

from plsctl.acquire.leds.geometry import standard_array
from plsctl.sim.firmware.illuminate import IlluminateFirmware
from plsctl.sim.firmware.illuminate_v1 import IlluminateV1Firmware
from plsctl.sim.world.clock import SimulatedClock

PLACES = [(led.x_mm, led.y_mm, led.z_mm) for led in standard_array().leds]
OK = b"-==-\n"


@pytest.fixture
def board() -> IlluminateFirmware:
    return IlluminateFirmware(PLACES, SimulatedClock())


@pytest.mark.parametrize(
    ("burst", "reply"),
    [
        (b"version\n", b"2.32\n" + OK),
        (b"sb.64\r", b"SB.64\n" + OK),
        (b"sb.300\n", b"SB.44\n" + OK),
        (b"ssl.75\n", b"SEQ_LEN.75\n" + OK),
        (b"ver\n", b"ERROR[16]: Invalid command.\n"),
        (b"scb\n", b"ERROR[1]: Command not implemented.\n"),
        (b"ssv\n", b"ERROR[2]: Wrong number of arguments.\n"),
        (b"ssv.1\n", b"ERROR[19]: Sequence is full.\n"),
        (
            b"rseq.3.1\n",
            b"ERROR: Sequance delay (3ms) was shorter than MIN_SEQUENCE_DELAY (5ms).\n"
            b"ERROR[13]: Sequence period was shorter than LED update rate.\n",
        ),
        (b"\n", b""),
    ],
)
def test_replies(board: IlluminateFirmware, burst: bytes, reply: bytes) -> None:
    assert board.feed(burst) == reply


@pytest.mark.parametrize(
    ("line", "lit"),
    [
        (b"l.3.7.12\n", [3, 7, 12]),
        (b"l.abc\n", [0]),
        (b"l.-1\n", list(range(43))),
        (b"l.010\n", [8]),
        (b"l\n", []),
        (b"x\n", []),
    ],
)
def test_indices_are_taken_as_the_firmware_takes_them(
    board: IlluminateFirmware, line: bytes, lit: list[int]
) -> None:
    board.feed(b"l.5\n")
    assert board.feed(line) == OK
    assert sorted(board.lit) == lit


def test_an_index_beyond_the_table_is_accepted_and_recorded(board: IlluminateFirmware) -> None:
    assert board.feed(b"l.999\n") == OK
    assert board.violations == ["LED 999 of 43"]


def test_bright_field_lights_the_leds_inside_the_aperture(board: IlluminateFirmware) -> None:
    board.feed(b"na.40\n")
    board.feed(b"bf\n")
    assert sorted(board.lit) == sorted(led.led for led in standard_array().within(0.40))
    assert len(board.lit) == 13


def test_a_line_in_pieces_is_lost(board: IlluminateFirmware) -> None:
    assert board.feed(b"l.1") == b""
    assert board.feed(b"2\n") == b"ERROR[18]: Command too long.\n"
    assert board.lit == {}


def test_the_end_mark_follows_the_last_brace_of_the_properties(board: IlluminateFirmware) -> None:
    reply = board.feed(b"pprops\n")
    assert reply.endswith(b"}-==-\n")
    properties = json.loads(reply.removesuffix(OK))
    assert properties["led_count"] == 43
    assert properties["interface_version"] == 2.32


def test_positions_are_those_of_the_geometry(board: IlluminateFirmware) -> None:
    places = json.loads(board.feed(b"pledpos\n").removesuffix(OK))["led_position_list_cartesian"]
    assert places["42"] == pytest.approx(PLACES[42], abs=0.005)
    na = json.loads(board.feed(b"pledposna\n").removesuffix(OK))["led_position_list_na"]
    assert na["3"] == pytest.approx(standard_array().directions[3], abs=0.0005)


def test_a_command_takes_its_round_trip_of_simulated_time(board: IlluminateFirmware) -> None:
    changes: list[tuple[float, dict[int, float]]] = []
    board.on_change = lambda time, lit: changes.append((time, lit))
    board.feed(b"l.4\n")
    ((time, lit),) = changes
    assert time == pytest.approx(0.00075)
    assert lit == {4: 1.0}
    assert board.clock.now() == pytest.approx(0.0015)


def _run(board: IlluminateFirmware, *lines: bytes) -> None:
    for line in lines:
        assert board.feed(line + b"\n").endswith(OK)


def test_handshake_sequence_steps_when_the_exposure_ends(board: IlluminateFirmware) -> None:
    pulses: list[float] = []
    board.on_trigger_output = pulses.append
    _run(board, b"ssl.2", b"ssv.1", b"ssv.2.3", b"trs.0.1.1.100.0", b"trinputtimeout.2")
    assert board.feed(b"rseq.0.1\n") == b""
    for lit in ({1: 1.0}, {2: 1.0, 3: 1.0}):
        board.clock.sleep(0.006)
        assert board.lit == lit
        board.trigger(True)
        board.clock.sleep(0.02)
        assert board.lit == lit
        board.trigger(False)
    assert board.lit == {}
    assert board.poll() == b"\n" + OK
    assert len(pulses) == 2


def test_an_exposure_shorter_than_the_pulse_is_missed(board: IlluminateFirmware) -> None:
    _run(board, b"ssl.1", b"ssv.1", b"trs.0.1.1.500.0", b"trinputtimeout.2")
    board.feed(b"rseq.0.1\n")
    board.clock.sleep(0.0047)  # the pulse has just begun
    board.trigger(True)
    board.clock.sleep(0.0002)
    board.trigger(False)
    board.clock.sleep(2.1)
    assert board.poll().endswith(b"(2.00 sec.) \nERROR[14]: Trigger timeout.\n")
    assert board.lit == {}


def test_any_byte_ends_a_sequence_and_is_no_command(board: IlluminateFirmware) -> None:
    _run(board, b"ssl.2", b"ssv.1", b"ssv.2")
    board.feed(b"rseq.100.5\n")
    board.clock.sleep(0.05)
    assert board.lit == {1: 1.0}
    assert board.feed(b"l") == b"ERROR[15]: Command interrupted.\n"
    assert board.lit == {}
    assert not board.is_running


def test_a_delay_below_the_update_time_is_refused_on_the_way(board: IlluminateFirmware) -> None:
    _run(board, b"ssl.1", b"ssv.1")
    board.feed(b"rseq.5.1\n")
    board.clock.sleep(0.01)
    assert board.poll().startswith(b"Error - delay too short!\nERROR[13]:")


def test_triggers_with_four_arguments_hang_the_controller(board: IlluminateFirmware) -> None:
    assert board.feed(b"trs.0.1.1.100\n") == b""
    assert board.feed(b"version\n") == b""
    assert board.violations == ["trs with four arguments"]


def test_version_1_answers_once_a_burst_and_always_ends_with_the_mark() -> None:
    board = IlluminateV1Firmware(PLACES, SimulatedClock())
    assert board.feed(b"ver\n") == b"1.32\n" + OK
    assert board.feed(b"version\n") == b"Command [version] is not implemented yet.\n" + OK
    assert board.feed(b"l.1\nl.2\n") == OK
    assert sorted(board.lit) == [1]
    assert board.feed(b"l.") == b""
    assert board.feed(b"9\n") == OK
    assert sorted(board.lit) == [9]
    assert board.feed(b"l.3\r") == b""
