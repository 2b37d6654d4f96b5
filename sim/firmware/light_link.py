"""What an emulated array in another process shines, for a simulated camera to see.

The camera asks with a newline and gets a line of JSON: lit LEDs with their brightness, and the
colours of those that are not white. It asks for every image, so it never sees an earlier light.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Self

from plsctl.acquire.errors import HardwareError, UserError
from plsctl.sim.firmware.board import LedBoard, Lit, Tint

ANSWER_S = 5.0
"""How long the camera waits for an answer."""

LOOK_S = 0.1


class LightServer:
    """Tells cameras at a TCP port of this computer what a board shines; a context manager."""

    def __init__(self, board: LedBoard, port: int = 0, host: str = "127.0.0.1") -> None:
        self._board = board
        try:
            self._listener = socket.create_server((host, port))
        except OSError as error:
            raise UserError(
                f"TCP port {port} cannot be used: {error.strerror}.",
                field="light-port",
                hint="Give another number, or 0 for any free one.",
            ) from None
        self._listener.settimeout(LOOK_S)
        self.place = f"{host}:{self._listener.getsockname()[1]}"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="led-array-light", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        self._thread.join(timeout=5)

    def _serve(self) -> None:
        with self._listener:
            while not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = self._listener.accept()
                    threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), connection.makefile("rwb") as lines:
            for _ in lines:
                light = {"lit": self._board.lit, "tints": self._board.tints}
                lines.write(json.dumps(light).encode() + b"\n")
                lines.flush()


class LightReader:
    """Asks a `LightServer` at `host:port`.

    Raises
    ------
    UserError
        Nothing listens there, or the place is none.
    """

    def __init__(self, place: str) -> None:
        host, _, port = place.removeprefix("socket://").rpartition(":")
        try:
            self._socket = socket.create_connection((host, int(port)), ANSWER_S)
        except (OSError, ValueError) as error:
            raise UserError(
                f"no emulated LED array tells its light at {place} ({error}).",
                field="options.light_from",
                hint="Start one: plsctl simulate led-array --port 5333 --light-port 5334.",
            ) from None
        self._lines = self._socket.makefile("rwb")

    def read(self) -> tuple[Lit, dict[int, Tint]]:
        """Brightness of the LEDs that shine now, and colours of those that are not white."""
        try:
            self._lines.write(b"\n")
            self._lines.flush()
            told = json.loads(self._lines.readline())
        except (OSError, ValueError) as error:
            raise HardwareError(
                f"the emulated LED array no longer tells its light ({error}).",
                hint="Start plsctl simulate led-array again, then the same command.",
            ) from None
        tints = {int(led): (tint[0], tint[1], tint[2]) for led, tint in told["tints"].items()}
        return {int(led): level for led, level in told["lit"].items()}, tints

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._lines.close()
        self._socket.close()
