"""One contract for LED-array drivers over every link, and what happens when the link fails."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from serial.urlhandler import protocol_socket

from plsctl.acquire.clock import WallClock
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.leds.array import LedArraySettings, SequenceTiming, open_led_array
from plsctl.acquire.leds.geometry import standard_array
from plsctl.acquire.leds.squid import LEFT_DOT, LOW_NA
from plsctl.sim.firmware.arduino import ArduinoFirmware
from plsctl.sim.firmware.board import LedBoard, ring_positions
from plsctl.sim.firmware.illuminate import IlluminateFirmware
from plsctl.sim.firmware.illuminate_v1 import IlluminateV1Firmware
from plsctl.sim.firmware.openuc2 import OpenUc2Firmware
from plsctl.sim.firmware.ports import register, serve_pty, serve_tcp, unregister
from plsctl.sim.firmware.squid import SquidFirmware, matrix_positions
from plsctl.sim.world.clock import SimulatedClock

PLACES = [(led.x_mm, led.y_mm, led.z_mm) for led in standard_array().leds]
FAULTS = ["lost_commands", "lost_replies", "garbled_replies", "half_replies"]
HALVES = [range(64), range(64, 128)]


@dataclass(frozen=True)
class Kind:
    """A controller, its driver, and LEDs that it can light together."""

    firmware: type[LedBoard]
    driver: str = "illuminate"
    places: Sequence[tuple[float, float, float]] = tuple(PLACES)
    options: Mapping[str, object] = field(default_factory=dict)
    together: Sequence[Sequence[int]] = ([3, 17], [42], range(43), range(1, 42), [0])


KINDS = {
    "v2": Kind(IlluminateFirmware),
    "v1": Kind(IlluminateV1Firmware),
    "arduino": Kind(
        ArduinoFirmware, "template", options=load_hardware("arduino_43_leds").led_array.options
    ),
    "openuc2": Kind(OpenUc2Firmware, "openuc2"),
    "squid": Kind(
        SquidFirmware, "squid", matrix_positions(), together=[*HALVES, range(128), LOW_NA, LEFT_DOT]
    ),
}
ILLUMINATE = ["v2", "v1"]


@dataclass
class Bench:
    """A controller on a link, and everything its LEDs ever showed."""

    kind: Kind
    board: LedBoard
    port: str
    shown: list[dict[int, float]] = field(default_factory=list)

    def settings(self, **changes: object) -> LedArraySettings:
        # A busy computer may let a thread wait; simulated time knows no such thing.
        patience_s = 0.1 if self.port.startswith("simled:") else 1.0
        values: dict[str, object] = {
            "driver": self.kind.driver,
            "port": self.port,
            "geometry": "leds_43.csv",
            "timeout_s": patience_s,
            "retries": 1,
            "boot_timeout_s": patience_s,
            "reconnect_s": patience_s,
            "options": dict(self.kind.options),
        }
        return LedArraySettings.model_validate(values | changes)

    def light_by_hand(self) -> None:
        """What an earlier program left lit."""
        self.board.set_led(5, 255)
        self.board.update()


@contextlib.contextmanager
def _bench(link: str, name: str, **options: object) -> Iterator[Bench]:
    clock = SimulatedClock() if link == "in process" else WallClock()
    kind = KINDS[name]
    board = kind.firmware(kind.places, clock, round_trip_s=0.0002, **options)  # type: ignore[arg-type]
    bench = Bench(kind, board, "")
    board.on_change = lambda _, lit: bench.shown.append(lit)
    if link == "in process":
        bench.port = register("bench", board)
        yield bench
        unregister("bench")
        return
    if link == "pty":
        pytest.importorskip("pty")
    with serve_tcp(board) if link == "socket" else serve_pty(board) as server:
        bench.port = server.url
        yield bench


LINKS = ["in process", "socket", "pty"]
BENCHES = [(link, kind) for kind in KINDS for link in (LINKS if kind != "v1" else ["in process"])]


@pytest.fixture(autouse=True)
def _no_waiting_in_pyserial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing a `socket://` port pauses for 0.3 s otherwise."""
    monkeypatch.setattr(protocol_socket, "time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture(params=BENCHES, ids=lambda param: " ".join(param))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Every controller on every link."""
    link, kind = request.param
    with _bench(link, kind) as bench:
        yield bench


@pytest.fixture(params=KINDS)
def wired(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Every controller, in process."""
    with _bench("in process", request.param) as bench:
        yield bench


@pytest.fixture(params=[("in process", "v2"), ("in process", "v1"), ("socket", "v2")])
def sequencer(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Controllers that store sequences."""
    with _bench(*request.param) as bench:
        yield bench


@pytest.fixture
def wire() -> Iterator[Bench]:
    with _bench("in process", "v2") as bench:
        yield bench


# The contract -------------------------------------------------------------------------------------


def test_lights_exactly_the_leds_that_are_asked_for(bench: Bench) -> None:
    with open_led_array(bench.settings(led_count=len(bench.kind.places))) as array:
        for leds in bench.kind.together:
            array.light(leds)
            assert bench.board.lit == dict.fromkeys(leds, 1.0)
        first = bench.kind.together[0]
        array.light(first, brightness=0.5)
        assert bench.board.lit == pytest.approx(dict.fromkeys(first, 0.5), abs=0.01)
        array.light([])
        assert bench.board.lit == {}
        array.light(first, brightness=0.5)
        array.off()
        assert bench.board.lit == {}
    assert bench.board.violations == []


def test_dark_after_opening_and_after_closing(bench: Bench) -> None:
    bench.board.resets_on_open = False
    bench.light_by_hand()
    array = open_led_array(bench.settings())
    assert bench.board.lit == {}
    array.light(bench.kind.together[0])
    array.close()
    assert bench.board.lit == {}
    array.close()


def test_what_is_released_stays_lit(wired: Bench) -> None:
    leds = wired.kind.together[0]
    with open_led_array(wired.settings()) as array:
        array.light(leds)
        array.release()
    wired.board.clock.sleep(30)
    assert wired.board.lit == dict.fromkeys(leds, 1.0)


def test_identity_comes_from_the_firmware(bench: Bench) -> None:
    count = len(bench.kind.places)
    with open_led_array(bench.settings()) as array:
        assert array.identity.driver == bench.kind.driver
        assert array.identity.version == bench.board.version  # type: ignore[attr-defined]
        assert array.identity.led_count == count
    with pytest.raises(HardwareError, match=f"has {count} LEDs, but the hardware file says 257"):
        open_led_array(bench.settings(led_count=257))


def test_capabilities_are_what_can_be_done(wired: Bench) -> None:
    with open_led_array(wired.settings()) as array:
        can = array.capabilities
        if not can.single:
            with pytest.raises(UserError, match=r"cannot light the LED 7\..*fixed patterns only"):
                array.light([7])
            with pytest.raises(UserError, match="cannot light the LEDs together: 1, 2"):
                array.light([1, 2])
            assert wired.board.lit == {}
        if not can.sequence:
            with pytest.raises(UserError, match=r"stores no sequences.*timing: software"):
                array.load_sequence([[0]])
            with pytest.raises(UserError, match="stores no sequences"):
                array.start_sequence()
            with pytest.raises(UserError, match="stores no sequences"):
                array.finish_sequence(1.0)
        assert can.watchdog == (wired.kind.driver == "squid")
        array.stop_sequence()


@pytest.mark.parametrize("leds", [[999], [-1], [1.5], ["abc"]])
def test_a_wrong_led_is_refused_before_anything_is_sent(wired: Bench, leds: list[int]) -> None:
    with open_led_array(wired.settings()) as array:
        before = len(wired.shown)
        with pytest.raises(UserError, match="LED"):
            array.light(leds)
        if array.capabilities.sequence:
            with pytest.raises(UserError, match="LED"):
                array.load_sequence([[0], leds])
        assert len(wired.shown) == before
        assert wired.board.violations == []


@pytest.mark.parametrize("brightness", [-0.1, 1.5, 0.0001])
def test_a_wrong_brightness_is_refused(wired: Bench, brightness: float) -> None:
    with open_led_array(wired.settings()) as array, pytest.raises(UserError, match="brightness"):
        array.light(wired.kind.together[0], brightness)


@pytest.mark.parametrize("brightness", [1.0, 0.5])
def test_more_light_than_allowed_is_refused_before_anything_is_sent(
    wired: Bench, brightness: float
) -> None:
    leds = list(wired.kind.together[0])
    limit = len(leds) * brightness - 0.25
    with open_led_array(wired.settings(max_light=limit)) as array:
        before = len(wired.shown)
        calls = [lambda: array.light(leds, brightness)]
        if array.capabilities.sequence:
            calls.append(lambda: array.load_sequence([leds], brightness))
        for call in calls:
            with pytest.raises(UserError, match=f"at most {limit:g} are allowed") as caught:
                call()
            assert caught.value.field == "led_array.max_light"
            assert f"max_light: {math.ceil(len(leds) * brightness)} under" in str(caught.value.hint)
        assert len(wired.shown) == before
        array.light(leds, brightness / 2)
        assert len(wired.board.lit) == len(leds)


def test_a_large_array_is_not_lit_whole_unless_that_is_allowed() -> None:
    board = IlluminateFirmware(ring_positions(257), SimulatedClock())
    bench = Bench(KINDS["v2"], board, register("bench", board))
    with open_led_array(bench.settings()) as array, pytest.raises(UserError, match="at most 128"):
        array.light(range(257))
    with open_led_array(bench.settings(max_light=257)) as array:
        array.light(range(257))
        assert len(board.lit) == 257
    unregister("bench")


@pytest.mark.parametrize("kind", ["v2", "v1", "arduino"])
def test_a_controller_that_restarts_unseen_gets_its_level_with_the_next_position(kind: str) -> None:
    with (
        _bench("in process", kind, resets_on_open=False) as bench,
        open_led_array(bench.settings()) as array,
    ):
        array.light([3])
        bench.board._restart_unseen(128)
        array.light([3])
        assert bench.board.lit == pytest.approx({3: 128 / 255})  # nothing tells of it
        array.forget_state()
        array.light([3])
        assert bench.board.lit == {3: 1.0}
        bench.board._restart_unseen(128)
        array.set_up()
        array.light(range(43))
        assert set(bench.board.lit.values()) == {1.0}


def test_an_array_is_set_up_again_whatever_has_become_of_it(wired: Bench) -> None:
    leds = wired.kind.together[0]
    with open_led_array(wired.settings()) as array:
        wired.board.faults.lost_replies = 1
        array.set_up()
        array.light(leds)
        assert wired.board.lit == dict.fromkeys(leds, 1.0)
        assert wired.board.violations == []


@pytest.mark.parametrize("kind", ILLUMINATE)
@pytest.mark.parametrize("brightness", [1.0, 0.5])
def test_a_sequence_shines_as_single_lights_do(kind: str, brightness: float) -> None:
    with _bench("in process", kind) as bench, open_led_array(bench.settings()) as array:
        array.light([7], brightness=0.25)
        bench.shown.clear()
        array.load_sequence([[0], [5, 6]], brightness)
        array.start_sequence(SequenceTiming(delay_ms=10, wait_for_camera=False))
        array.finish_sequence(timeout_s=1.0)
        array.light([9], brightness)
        level = pytest.approx(brightness, abs=0.01)
        shining = [shown for shown in bench.shown if shown]
        assert shining == [{0: level}, {5: level, 6: level}, {9: level}]


def test_a_sequence_runs_by_itself_and_ends_dark(sequencer: Bench) -> None:
    with open_led_array(sequencer.settings()) as array:
        array.load_sequence([[0], [], [5, 6]], brightness=1.0)
        sequencer.shown.clear()
        array.start_sequence(SequenceTiming(delay_ms=10, wait_for_camera=False, repeats=2))
        array.finish_sequence(timeout_s=1.0)
        assert sequencer.board.lit == {}
    assert sequencer.shown == [{0: 1.0}, {}, {5: 1.0, 6: 1.0}] * 2 + [{}]


def test_the_camera_steps_a_sequence(sequencer: Bench) -> None:
    with open_led_array(sequencer.settings()) as array:
        array.load_sequence([[0], [1]])
        array.start_sequence(SequenceTiming(input_timeout_s=30))
        clock = sequencer.board.clock
        for expected in (0, 1):
            clock.sleep(0.008)
            assert sequencer.board.lit == {expected: 1.0}
            sequencer.board.trigger(True)
            clock.sleep(0.001)
            sequencer.board.trigger(False)
        array.finish_sequence(timeout_s=1.0)
        assert sequencer.board.lit == {}


def test_any_command_ends_a_sequence_first(sequencer: Bench) -> None:
    with open_led_array(sequencer.settings()) as array:
        array.load_sequence([[0], [1]])
        array.start_sequence()
        array.light([9])
        assert sequencer.board.lit == {9: 1.0}
        array.start_sequence()
        array.stop_sequence()
        assert sequencer.board.lit == {}
        assert not sequencer.board.is_running


def test_a_trigger_that_does_not_come_is_told(wire: Bench) -> None:
    with open_led_array(wire.settings()) as array:
        array.load_sequence([[0], [1]])
        array.start_sequence(SequenceTiming(input_timeout_s=1))
        with pytest.raises(HardwareError, match=r"gave the sequence up.*Trigger timeout.*polarity"):
            array.finish_sequence(timeout_s=5.0)
        assert wire.board.lit == {}


def test_what_the_firmware_refuses_is_told(wire: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_led_array(wire.settings()) as array:
        monkeypatch.setattr(wire.board, "_capacity", 1)
        monkeypatch.setattr(
            wire.board, "_set_sequence_length", lambda words: f"SEQ_LEN.{words[1]}\n"
        )
        wire.board._commands["ssl"] = wire.board._set_sequence_length  # type: ignore[attr-defined]
        with pytest.raises(HardwareError, match=r"refused `ssv.1`: ERROR\[19\]: Sequence is full"):
            array.load_sequence([[0], [1]])


# When the link fails ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("times", [1, 2])
def test_single_faults_on_the_wire_are_mended(wired: Bench, fault: str, times: int) -> None:
    leds = wired.kind.together[0]
    with open_led_array(wired.settings()) as array:
        setattr(wired.board.faults, fault, times)
        array.light(leds, brightness=0.25)
        assert wired.board.lit == pytest.approx(dict.fromkeys(leds, 0.25), abs=0.01)
        setattr(wired.board.faults, fault, times)
        array.off()
        assert wired.board.lit == {}
    assert wired.board.violations == []


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ILLUMINATE)
def test_a_sequence_survives_single_faults(kind: str, fault: str) -> None:
    with _bench("in process", kind) as bench, open_led_array(bench.settings()) as array:
        array.load_sequence([[1], [2]])
        setattr(bench.board.faults, fault, 2)
        array.load_sequence([[3], [4]])
        array.start_sequence(SequenceTiming(delay_ms=10, wait_for_camera=False))
        array.finish_sequence(timeout_s=1.0)
        assert bench.shown[-3:] == [{3: 1.0}, {4: 1.0}, {}]


@pytest.mark.parametrize("lost", range(1, 13))
@pytest.mark.parametrize("kind", ILLUMINATE)
def test_a_long_list_is_lit_whole_whichever_reply_is_lost(
    kind: str, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of several commands: whether the array clears before each must never be assumed."""
    with _bench("in process", kind) as bench, open_led_array(bench.settings()) as array:
        receive, count = bench.board.receive, itertools.count(1)
        monkeypatch.setattr(
            bench.board, "receive", lambda burst: receive(burst) * (next(count) != lost)
        )
        array.light(range(40))
        assert sorted(bench.board.lit) == list(range(40))


@pytest.mark.parametrize("fault", FAULTS)
def test_an_array_that_no_longer_answers_is_told(wired: Bench, fault: str) -> None:
    array = open_led_array(wired.settings())
    start = wired.board.clock.now()
    setattr(wired.board.faults, fault, 1_000_000)
    with pytest.raises(
        HardwareError, match=r"(silent|not understood): .* power and cable|as its driver expects"
    ):
        array.light(wired.kind.together[0])
    assert wired.board.clock.now() - start < 4.0
    array.close()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("lost_commands", "silent: `x` was sent and nothing came back within 0.1 s"),
        ("garbled_replies", "sent and '.+' (came back|only)|expects: `x` was sent and only"),
        ("half_replies", "not as its driver expects: `x` was sent and only '-=' came back"),
    ],
)
def test_the_error_says_what_was_sent_and_what_came_back(
    wire: Bench, fault: str, told: str
) -> None:
    array = open_led_array(wire.settings())
    setattr(wire.board.faults, fault, 10_000)
    with pytest.raises(HardwareError, match=told):
        array.light([1])
    array.close()


def test_a_port_where_nothing_answers_is_told(wired: Bench) -> None:
    wired.board.faults.lost_commands = wired.board.faults.lost_replies = 1_000_000
    with pytest.raises(HardwareError, match=r"silent: .*(nothing came back|no status).*power"):
        open_led_array(wired.settings())


@pytest.mark.parametrize("left", [b"\x80", b"l.3", b'{"task":"/led', b"{{{", b"\x01\x0d\x00"])
def test_what_another_program_left_half_sent_does_no_harm(wired: Bench, left: bytes) -> None:
    wired.board.resets_on_open = False
    wired.board.connect()
    wired.board.feed(left)
    wired.board.violations.clear()
    with open_led_array(wired.settings()) as array:
        array.light(wired.kind.together[0])
        assert sorted(wired.board.lit) == sorted(wired.kind.together[0])


@pytest.mark.parametrize("kind", KINDS)
def test_another_firmware_at_the_port_is_no_array(kind: str) -> None:
    """Every driver at every other controller: never a wrong identity."""
    for other in KINDS.values():
        if other.driver == KINDS[kind].driver:
            continue
        with _bench("in process", kind) as bench, pytest.raises(HardwareError) as caught:
            quick = {"timeout_s": 0.02, "boot_timeout_s": 0.02, "options": dict(other.options)}
            open_led_array(bench.settings(driver=other.driver, **quick))
        _, _, guess = str(caught.value).partition("looks like `driver: ")
        assert not guess or guess.startswith(f"{KINDS[kind].driver}`")
        assert guess or kind != "v2" or other.driver != "template"


def test_something_else_at_the_port_is_told(wire: Bench) -> None:
    wire.board._commands["version"] = lambda _: "9.1\n"  # type: ignore[attr-defined]
    wire.board.restart = lambda: None  # type: ignore[method-assign]
    with pytest.raises(HardwareError, match="does not answer as Illuminate firmware"):
        open_led_array(wire.settings())


def test_a_pulled_cable_is_told_and_close_does_not_raise(bench: Bench) -> None:
    array = open_led_array(bench.settings())
    array.light(bench.kind.together[0])
    bench.board.vanished = True
    with pytest.raises(HardwareError, match=r"LED array at .* (lost|silent)"):
        array.light(bench.kind.together[1])
    array.close()


def test_a_port_that_comes_back_under_another_name_is_found(
    wired: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    leds = wired.kind.together[0]
    plugged = [SimpleNamespace(device=wired.port, description="n/a", serial_number="A43")]
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: plugged)
    array = open_led_array(wired.settings())
    unregister("bench")
    plugged[0].device = register("bench-2", wired.board)
    # The old port fails as an unplugged one does; the board itself has restarted.
    monkeypatch.setattr(array._line._open_port, "_firmware", SimpleNamespace(vanished=True))  # type: ignore[attr-defined]
    array.light(leds, brightness=0.5)
    assert wired.board.lit == pytest.approx(dict.fromkeys(leds, 0.5), abs=0.01)
    array.close()
    unregister("bench-2")


@pytest.mark.parametrize("is_open", [False, True])
def test_a_serial_number_that_is_not_connected_opens_no_other_port(
    wired: Bench, monkeypatch: pytest.MonkeyPatch, is_open: bool
) -> None:
    plugged = [SimpleNamespace(device=wired.port, description="n/a", serial_number="A43")]
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: plugged)
    connects: list[str] = []
    connect = wired.board.connect
    monkeypatch.setattr(wired.board, "connect", lambda: connects.append("") or connect())
    if not is_open:
        with pytest.raises(UserError, match=r"'999' is connected; no other.*'A43' at") as caught:
            open_led_array(wired.settings(serial_number="999"))
        assert caught.value.field == "led_array.serial_number"
        assert connects == []
        return
    array = open_led_array(wired.settings(serial_number="A43", reconnect_s=0.0))
    # Another device now has the port's name: a stage, perhaps.
    plugged[0].serial_number = "B7"
    wired.board.faults.lost_commands = 1_000_000
    with pytest.raises(HardwareError, match="'A43' is connected"):
        array.light(wired.kind.together[0])
    array.close()
    assert len(connects) == 1


@pytest.mark.parametrize(
    ("port", "told"),
    [
        ("/dev/there-is-no-such-tty", "cannot be opened: .*Connect the device or name another"),
        ("socket://127.0.0.1:1", "cannot be opened: .*refused.*Start what should listen"),
        ("simled://nobody", "no simulated LED array is plugged in as 'nobody'"),
        ("gopher://x", "cannot be opened"),
    ],
)
def test_a_port_that_cannot_be_opened_is_told(wire: Bench, port: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        open_led_array(wire.settings(port=port))
    assert "port" in str(caught.value)


def test_an_unknown_driver_is_told(wire: Bench) -> None:
    with pytest.raises(UserError, match=r"no LED driver 'iluminate'.*Did you mean 'illuminate'"):
        open_led_array(wire.settings(driver="iluminate"))


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "squid"])
def test_a_lost_reply_late_by_one_is_never_taken_for_the_next(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply held back beyond the time-out must not answer the following command."""
    with _bench("in process", kind) as bench, open_led_array(bench.settings()) as array:
        feed: Callable[[bytes], bytes] = bench.board.feed
        held: list[bytes] = []

        def late(burst: bytes) -> bytes:
            reply = feed(burst)
            if reply and not held:
                held.append(reply)
                return b""
            released, held[:] = b"".join(held), [b""] if held else []
            return released + reply

        monkeypatch.setattr(bench.board, "feed", late)
        array.light([1])
        array.light([2], brightness=0.5)
        assert bench.board.lit == pytest.approx({2: 0.5}, abs=0.01)
