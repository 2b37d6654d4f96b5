"""`plsctl simulate led-array`: an LED controller that other programs can open as a port."""

import contextlib
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from plsctl.cli.shared.output import JsonFlag, VerboseFlag, emit, print_message

if TYPE_CHECKING:
    from plsctl.sim.firmware.board import LedBoard


PURE = {(1.0, 0.0, 0.0): "red", (0.0, 1.0, 0.0): "green", (0.0, 0.0, 1.0): "blue"}
"""Names of colours, by their shares of red, green and blue."""


class Protocol(StrEnum):
    """Languages the simulated controller speaks."""

    illuminate = "illuminate"
    illuminate_v1 = "illuminate-v1"
    arduino = "arduino"
    openuc2 = "openuc2"
    squid = "squid"


def led_array(
    protocol: Annotated[
        Protocol, typer.Option(help="The firmware to stand in for.")
    ] = Protocol.illuminate,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Answer on this TCP port; 0 takes a free one."),
    ] = None,
    pty: Annotated[
        bool, typer.Option("--pty", help="Answer on a pseudo-terminal instead (not on Windows).")
    ] = False,
    light_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Tell a simulated camera here what shines (`light_from` of its hardware file).",
        ),
    ] = None,
    leds: Annotated[
        int | None,
        typer.Option(min=1, max=2000, help="Number of LEDs: 43, and 128 on a Squid controller."),
    ] = None,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """An LED array without hardware, until Ctrl-C; prints the port to name in a hardware file.

    Example: plsctl simulate led-array --protocol illuminate --port 5333
    """
    import time

    from plsctl.acquire.errors import UserError
    from plsctl.sim.firmware.light_link import LightServer
    from plsctl.sim.firmware.ports import serve_pty, serve_tcp

    if pty and port is not None:
        raise UserError("--pty and --port exclude each other.", hint="Give one of them.")
    board = _board(protocol, leds)
    with contextlib.ExitStack() as open_ports:
        server = open_ports.enter_context(serve_pty(board) if pty else serve_tcp(board, port or 0))
        told = {"protocol": protocol.value, "port": server.url, "leds": board.led_count}
        if light_port is not None:
            light = open_ports.enter_context(LightServer(board, light_port))
            told["light_from"] = light.place
            print_message(f"Its light is told at {light.place} (options.light_from).")
        emit(told, json)
        print_message(f"{board.led_count} LEDs answer at {server.url}; stop with Ctrl-C.")
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            while True:
                time.sleep(0.2)


def _board(protocol: Protocol, leds: int | None) -> "LedBoard":
    """The emulated controller; prints to standard error which LEDs are lit."""
    from plsctl.acquire.clock import WallClock
    from plsctl.acquire.errors import UserError
    from plsctl.acquire.files.shipped import shipped_file
    from plsctl.acquire.leds.geometry import load_geometry, standard_array
    from plsctl.sim.firmware.arduino import ArduinoFirmware
    from plsctl.sim.firmware.board import LedBoard, ring_positions
    from plsctl.sim.firmware.illuminate import IlluminateFirmware
    from plsctl.sim.firmware.illuminate_v1 import IlluminateV1Firmware
    from plsctl.sim.firmware.openuc2 import OpenUc2Firmware
    from plsctl.sim.firmware.squid import SquidFirmware, matrix_positions

    tables = {257: "leds_257.csv", 64: "leds_64.csv"}
    places = ring_positions(leds or 0)
    if leds in (None, 43):
        places = [(led.x_mm, led.y_mm, led.z_mm) for led in standard_array().leds]
    elif leds in tables:
        shipped = load_geometry(shipped_file(tables[leds]))
        places = [(led.x_mm, led.y_mm, led.z_mm) for led in shipped.leds]
    if protocol is Protocol.squid:
        places = matrix_positions()
        if leds not in (None, len(places)):
            raise UserError(
                f"a Squid controller has {len(places)} LEDs, not {leds}.",
                field="leds",
                hint="Leave --leds out.",
            )

    def tell(_time_s: float, lit: dict[int, float]) -> None:
        colours = {led: f", {PURE.get(tint, 'mixed')}" for led, tint in board.tints.items()}
        shown = ", ".join(
            f"{led} ({level:.0%}{colours.get(led, '')})" for led, level in lit.items()
        )
        print_message(f"lit: {shown or 'none'}")

    kinds: dict[Protocol, type[LedBoard]] = {
        Protocol.illuminate: IlluminateFirmware,
        Protocol.illuminate_v1: IlluminateV1Firmware,
        Protocol.arduino: ArduinoFirmware,
        Protocol.openuc2: OpenUc2Firmware,
        Protocol.squid: SquidFirmware,
    }
    board = kinds[protocol](places, WallClock())
    board.on_change = tell
    return board
