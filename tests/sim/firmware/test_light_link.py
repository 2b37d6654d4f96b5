"""An emulated array in another process: a simulated camera sees what it shines now."""

from __future__ import annotations

import pytest

from plsctl.acquire.clock import WallClock
from plsctl.acquire.errors import HardwareError, UserError
from plsctl.sim.firmware.illuminate import IlluminateFirmware
from plsctl.sim.firmware.light_link import LightReader, LightServer

GREEN = (0.0, 1.0, 0.0)


def test_the_light_is_that_of_the_moment_of_asking() -> None:
    board = IlluminateFirmware([(0.0, 0.0, -80.0)] * 4, WallClock())
    with LightServer(board) as server:
        reader = LightReader(server.place)
        assert reader.read() == ({}, {})
        board.set_led(2, 255, GREEN)
        board.set_led(3, 51)
        board.update()
        assert reader.read() == ({2: 1.0, 3: 0.2}, {2: GREEN})
        board.clear()
        board.update()
        assert reader.read() == ({}, {})
        reader.close()


def test_a_light_that_nobody_tells_is_named_with_its_remedy() -> None:
    with LightServer(IlluminateFirmware([(0.0, 0.0, -80.0)], WallClock())) as server:
        place = server.place
    with pytest.raises(UserError, match=r"--light-port") as caught:
        LightReader(place)
    assert caught.value.field == "options.light_from"
    with pytest.raises(UserError, match="tells its light at nowhere"):
        LightReader("nowhere")


def test_an_array_that_has_gone_is_a_hardware_error() -> None:
    board = IlluminateFirmware([(0.0, 0.0, -80.0)], WallClock())
    with LightServer(board) as server:
        reader = LightReader(server.place)
        reader.read()
        reader._socket.shutdown(2)
        with pytest.raises(HardwareError, match="no longer tells its light"):
            reader.read()
        reader.close()
