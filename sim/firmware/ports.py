"""Ports of a simulated LED controller: inside the process, over TCP, on a pty.

`register` makes `simled://name` a port that pyserial opens in this process. `serve_tcp` and
`serve_pty` give other programs a port; both answer from a thread of their own.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Protocol, Self

import serial

from plsctl.acquire.clock import Clock
from plsctl.acquire.errors import UserError

SCHEME = "simled"
HANDLERS = "plsctl.sim.firmware"
POLL_S = 0.02
LOOK_S = 0.2


class Firmware(Protocol):
    """What a port needs of the controller behind it (see `LedBoard`)."""

    clock: Clock

    @property
    def vanished(self) -> bool:
        """Whether the cable is pulled."""

    @property
    def is_running(self) -> bool:
        """Whether it may send something without a request."""

    @property
    def next_event(self) -> float | None:
        """Time of its next own action."""

    def connect(self) -> bytes:
        """A host opens the port: what it finds waiting there."""

    def feed(self, burst: bytes) -> bytes:
        """Bytes from the host, and the reply."""

    def poll(self) -> bytes:
        """What it sends without a request."""


class PortRegistry:
    """The controllers that can be reached inside this process, by name."""

    def __init__(self) -> None:
        self._firmwares: dict[str, Firmware] = {}

    def add(self, name: str, firmware: Firmware) -> None:
        """Plug a controller in; it replaces one of the same name."""
        self._firmwares[name] = firmware

    def remove(self, name: str) -> None:
        """Unplug it."""
        self._firmwares.pop(name, None)

    def look_for(self, name: str) -> None:
        """Let the time pass in which a host notices that a controller is gone."""
        if name in self._firmwares:
            self._firmwares[name].clock.sleep(LOOK_S)

    def find(self, name: str) -> Firmware | None:
        """The controller of that name, if it is plugged in."""
        firmware = self._firmwares.get(name)
        return None if firmware is None or firmware.vanished else firmware


REGISTRY = PortRegistry()
"""pyserial finds ports by URL alone, so the process keeps one such table."""


def register(name: str, firmware: Firmware) -> str:
    """Plug a controller in under `simled://name`, in this process; returns that URL."""
    if HANDLERS not in serial.protocol_handler_packages:
        serial.protocol_handler_packages.append(HANDLERS)
    REGISTRY.add(name, firmware)
    return f"{SCHEME}://{name}"


def unregister(name: str) -> None:
    """Unplug what `register` plugged in."""
    REGISTRY.remove(name)


class PortServer(ABC):
    """A thread that carries bytes between one host at a time and a controller."""

    def __init__(self, firmware: Firmware) -> None:
        self.firmware = firmware
        self.url = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="led-array-port", daemon=True)

    def start(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop answering and release the port."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def _serve(self) -> None:
        """Answer hosts until the server is closed."""

    def _carry(
        self, descriptor: int, read: Callable[[], bytes], write: Callable[[bytes], None]
    ) -> None:
        """Answer until the host hangs up, the cable is pulled or the server is closed."""
        while not self._stopping.is_set():
            wait_s = 0.001 if self.firmware.is_running else POLL_S
            readable, _, _ = select.select([descriptor], [], [], wait_s)
            if self.firmware.vanished:
                return
            if readable:
                burst = read()
                if not burst:
                    return
                reply = self.firmware.feed(burst)
            else:
                reply = self.firmware.poll()
            if reply:
                write(reply)


class TcpServer(PortServer):
    """A controller behind `socket://host:port`."""

    def __init__(self, firmware: Firmware, port: int = 0, host: str = "127.0.0.1") -> None:
        super().__init__(firmware)
        try:
            self._listener = socket.create_server((host, port))
        except OSError as error:
            raise UserError(
                f"TCP port {port} cannot be used: {error.strerror}.",
                field="port",
                hint="Give another number, or 0 for any free one.",
            ) from None
        self._listener.settimeout(POLL_S)
        self.url = f"socket://{host}:{self._listener.getsockname()[1]}"

    def _serve(self) -> None:
        with self._listener:
            while not self._stopping.is_set():
                try:
                    connection, _ = self._listener.accept()
                except TimeoutError:
                    continue
                with connection, contextlib.suppress(ConnectionError):
                    if self.firmware.vanished:
                        continue
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connection.sendall(self.firmware.connect())
                    receive = partial(connection.recv, 4096)
                    self._carry(connection.fileno(), receive, connection.sendall)


class PtyServer(PortServer):
    """A controller on a pseudo-terminal, which looks like a serial port; not on Windows."""

    def __init__(self, firmware: Firmware) -> None:
        super().__init__(firmware)
        try:
            import pty
            import tty
        except ImportError:
            raise UserError(
                "this system has no pseudo-terminals.", hint="Use a TCP port instead (--port)."
            ) from None
        self._controller, self._terminal = pty.openpty()
        tty.setraw(self._terminal)
        self.url = os.ttyname(self._terminal)

    def _serve(self) -> None:
        # A pty does not tell when it is opened: the boot text waits in it from the start.
        self._write(self.firmware.connect())
        try:
            self._carry(self._controller, lambda: os.read(self._controller, 4096), self._write)
        except OSError:
            return
        finally:
            os.close(self._terminal)
            os.close(self._controller)

    def _write(self, reply: bytes) -> None:
        """What does not fit because nobody reads is lost, as on a serial line."""
        while reply:
            _, writable, _ = select.select([], [self._controller], [], POLL_S)
            if not writable:
                return
            reply = reply[os.write(self._controller, reply) :]


def serve_tcp(firmware: Firmware, port: int = 0) -> TcpServer:
    """Let a controller answer on a TCP port of this computer; 0 takes a free one."""
    return TcpServer(firmware, port).start()


def serve_pty(firmware: Firmware) -> PtyServer:
    """Let a controller answer on a pseudo-terminal.

    Raises
    ------
    UserError
        The system has none (Windows).
    """
    return PtyServer(firmware).start()
