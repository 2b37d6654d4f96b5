"""Keys during a scan on a terminal: p pauses and continues, q stops."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plsctl.acquire.interrupt import StopRequest

LOOK_S = 0.1
HELP = "Keys: p pauses and goes on, q stops."


def obey(key: str, stop: "StopRequest") -> None:
    """Act on a key; other keys are ignored."""
    if key in "pP ":
        (stop.go_on if stop.is_paused else stop.pause)()
    elif key in "qQ":
        stop.set("the key q")


@contextlib.contextmanager
def listening(stop: "StopRequest") -> Iterator[bool]:
    """Read single keys while the block runs; yields False where there is no terminal."""
    if not sys.stdin.isatty():
        yield False
        return
    ended = threading.Event()
    read = _windows_keys if sys.platform == "win32" else _posix_keys
    thread = threading.Thread(target=read, args=(stop, ended), name="keys", daemon=True)
    thread.start()
    try:
        yield True
    finally:
        ended.set()
        thread.join()


def _posix_keys(stop: "StopRequest", ended: threading.Event) -> None:
    import os
    import select
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    # Keys come one by one; Ctrl-C and Ctrl-Z still make signals.
    tty.setcbreak(terminal)
    try:
        while not ended.is_set():
            if select.select([terminal], [], [], LOOK_S)[0]:
                for key in os.read(terminal, 64).decode(errors="ignore"):
                    obey(key, stop)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _windows_keys(stop: "StopRequest", ended: threading.Event) -> None:
    import msvcrt

    while not ended.wait(LOOK_S):
        while msvcrt.kbhit():  # type: ignore[attr-defined]
            obey(msvcrt.getwch(), stop)  # type: ignore[attr-defined]
