"""One contract for LED-array drivers over every link, and what happens when the link fails."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from serial.urlhandler import protocol_socket

from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.geometry import standard_array
from plsctl.acquire.led_array import LedArraySettings, SequenceTiming, open_led_array
from plsctl.acquire.protocols import WallClock
from plsctl.sim.clock import SimulatedClock
from plsctl.sim.illuminate_firmware import IlluminateFirmware
from plsctl.sim.illuminate_v1_firmware import IlluminateV1Firmware
from plsctl.sim.led_board import LedBoard
from plsctl.sim.serial_ports import register, serve_pty, serve_tcp, unregister

PLACES = [(led.x_mm, led.y_mm, led.z_mm) for led in standard_array().leds]
FAULTS = ["lost_commands", "lost_replies", "garbled_replies", "half_replies"]
FIRMWARES = {"v2": IlluminateFirmware, "v1": IlluminateV1Firmware}


@dataclass
class Bench:
    """A controller on a link, and everything its LEDs ever showed."""

    board: LedBoard
    port: str
    shown: list[dict[int, float]] = field(default_factory=list)

    def settings(self, **changes: object) -> LedArraySettings:
        values: dict[str, object] = {
            "port": self.port,
            "geometry": "leds_43.csv",
            "timeout_s": 0.1,
            "retries": 1,
            "boot_timeout_s": 0.1,
        }
        return LedArraySettings.model_validate(values | changes)


@contextlib.contextmanager
def _bench(link: str, firmware: str, **options: object) -> Iterator[Bench]:
    clock = SimulatedClock() if link == "in process" else WallClock()
    board = FIRMWARES[firmware](PLACES, clock, round_trip_s=0.0002, **options)  # type: ignore[arg-type]
    bench = Bench(board, "")
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
BENCHES = [*((link, "v2") for link in LINKS), ("in process", "v1")]


@pytest.fixture(autouse=True)
def _no_waiting_in_pyserial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing a `socket://` port pauses for 0.3 s otherwise."""
    monkeypatch.setattr(protocol_socket, "time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture(params=BENCHES, ids=lambda param: " ".join(param))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    link, firmware = request.param
    with _bench(link, firmware) as bench:
        yield bench


@pytest.fixture
def wire() -> Iterator[Bench]:
    with _bench("in process", "v2") as bench:
        yield bench


def test_lights_exactly_the_leds_that_are_asked_for(bench: Bench) -> None:
    with open_led_array(bench.settings(led_count=43)) as array:
        array.light([3, 17], brightness=0.5)
        assert bench.board.lit == pytest.approx({3: 128 / 255, 17: 128 / 255})
        array.light([42])
        assert bench.board.lit == {42: 1.0}
        array.light(range(43))
        assert len(bench.board.lit) == 43
        array.light(range(1, 42))  # too many for one line
        assert sorted(bench.board.lit) == list(range(1, 42))
        array.light([0])
        assert bench.board.lit == {0: 1.0}
        array.light([])
        assert bench.board.lit == {}
    assert bench.board.violations == []


@pytest.mark.parametrize("link", LINKS)
def test_dark_after_opening_and_after_closing(link: str) -> None:
    with _bench(link, "v2", resets_on_open=False) as bench:
        bench.board.feed(b"l.5\n")
        array = open_led_array(bench.settings())
        assert bench.board.lit == {}
        array.light([7])
        array.close()
        assert bench.board.lit == {}
        array.close()


def test_identity_comes_from_the_firmware(bench: Bench) -> None:
    with open_led_array(bench.settings()) as array:
        assert array.identity.version == bench.board.version  # type: ignore[attr-defined]
        assert array.identity.led_count == 43
        assert array.capabilities.sequence
    with pytest.raises(HardwareError, match="has 43 LEDs, but the hardware file says 257"):
        open_led_array(bench.settings(led_count=257))


@pytest.mark.parametrize("leds", [[43], [-1], [1.5], ["abc"]])
def test_a_wrong_led_is_refused_before_anything_is_sent(wire: Bench, leds: list[int]) -> None:
    with open_led_array(wire.settings()) as array:
        before = len(wire.shown)
        with pytest.raises(UserError, match="LED"):
            array.light(leds)
        with pytest.raises(UserError, match="LED"):
            array.load_sequence([[0], leds])
        assert len(wire.shown) == before
        assert wire.board.violations == []


@pytest.mark.parametrize("brightness", [-0.1, 1.5, 0.0001])
def test_a_wrong_brightness_is_refused(wire: Bench, brightness: float) -> None:
    with open_led_array(wire.settings()) as array, pytest.raises(UserError, match="brightness"):
        array.light([1], brightness)


def test_a_sequence_runs_by_itself_and_ends_dark(bench: Bench) -> None:
    with open_led_array(bench.settings()) as array:
        array.load_sequence([[0], [], [5, 6]], brightness=1.0)
        bench.shown.clear()
        array.start_sequence(SequenceTiming(delay_ms=10, wait_for_camera=False, repeats=2))
        array.finish_sequence(timeout_s=1.0)
        assert bench.board.lit == {}
    assert bench.shown == [{0: 1.0}, {}, {5: 1.0, 6: 1.0}] * 2 + [{}]


def test_the_camera_steps_a_sequence(bench: Bench) -> None:
    with open_led_array(bench.settings()) as array:
        array.load_sequence([[0], [1]])
        array.start_sequence(SequenceTiming(input_timeout_s=1))
        clock = bench.board.clock
        for expected in (0, 1):
            clock.sleep(0.008)
            assert bench.board.lit == {expected: 1.0}
            bench.board.trigger(True)
            clock.sleep(0.001)
            bench.board.trigger(False)
        array.finish_sequence(timeout_s=1.0)
        assert bench.board.lit == {}


def test_any_command_ends_a_sequence_first(bench: Bench) -> None:
    with open_led_array(bench.settings()) as array:
        array.load_sequence([[0], [1]])
        array.start_sequence()
        array.light([9])
        assert bench.board.lit == {9: 1.0}
        array.start_sequence()
        array.stop_sequence()
        assert bench.board.lit == {}
        assert not bench.board.is_running


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


@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("times", [1, 2])
def test_single_faults_on_the_wire_are_mended(firmware: str, fault: str, times: int) -> None:
    with _bench("in process", firmware) as bench, open_led_array(bench.settings()) as array:
        setattr(bench.board.faults, fault, times)
        array.light([4, 5], brightness=0.25)
        assert bench.board.lit == pytest.approx({4: 64 / 255, 5: 64 / 255})
        array.load_sequence([[1], [2]])
        setattr(bench.board.faults, fault, times)
        array.load_sequence([[3], [4]])
        array.start_sequence(SequenceTiming(delay_ms=10, wait_for_camera=False))
        array.finish_sequence(timeout_s=1.0)
        assert bench.shown[-3:] == [{3: 1.0}, {4: 1.0}, {}]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("lost_commands", "silent: `x` was sent and nothing came back within 0.1 s"),
        ("garbled_replies", "sent and '.+' (came back|only)|silent: `x` was sent and only"),
        ("half_replies", "silent: `x` was sent and only '-=' came back"),
    ],
)
def test_an_array_that_no_longer_answers_is_told(wire: Bench, fault: str, told: str) -> None:
    array = open_led_array(wire.settings())
    start = wire.board.clock.now()
    setattr(wire.board.faults, fault, 10_000)
    with pytest.raises(HardwareError, match=told):
        array.light([1])
    assert wire.board.clock.now() - start < 2.0
    array.close()


def test_a_port_where_nothing_answers_is_told(wire: Bench) -> None:
    wire.board.faults.lost_commands = 10_000
    with pytest.raises(HardwareError, match=r"`x` was sent and nothing came back.*power and cable"):
        open_led_array(wire.settings())


def test_something_else_at_the_port_is_told(wire: Bench) -> None:
    wire.board._commands["version"] = lambda _: "9.1\n"  # type: ignore[attr-defined]
    wire.board.restart = lambda: None  # type: ignore[method-assign]
    with pytest.raises(HardwareError, match="does not answer as Illuminate firmware"):
        open_led_array(wire.settings())


def test_a_pulled_cable_is_told_and_close_does_not_raise(bench: Bench) -> None:
    array = open_led_array(bench.settings())
    array.light([1])
    bench.board.vanished = True
    with pytest.raises(HardwareError, match=r"LED array at .* (lost|silent)"):
        array.light([2])
    array.close()


def test_a_port_that_comes_back_under_another_name_is_found(
    wire: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged = [SimpleNamespace(device=wire.port, description="n/a", serial_number="A43")]
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: plugged)
    array = open_led_array(wire.settings())
    unregister("bench")
    plugged[0].device = register("bench-2", wire.board)
    # The old port fails as an unplugged one does; the board itself has restarted.
    monkeypatch.setattr(array._line._open_port, "_firmware", SimpleNamespace(vanished=True))  # type: ignore[attr-defined]
    array.light([6], brightness=0.5)
    assert wire.board.lit == pytest.approx({6: 128 / 255})
    array.close()
    unregister("bench-2")


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


def test_a_lost_reply_late_by_one_is_never_taken_for_the_next(
    wire: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply held back beyond the time-out must not answer the following command."""
    held: list[bytes] = []
    feed: Callable[[bytes], bytes] = wire.board.feed

    def late(burst: bytes) -> bytes:
        reply = feed(burst)
        if burst.startswith(b"l.1\n") and not held:
            held.append(reply)
            return b""
        released, held[:] = b"".join(held), [b""] if held else []
        return released + reply

    with open_led_array(wire.settings()) as array:
        monkeypatch.setattr(wire.board, "feed", late)
        array.light([1])
        array.light([2], brightness=0.5)
        assert wire.board.lit == pytest.approx({2: 128 / 255})
