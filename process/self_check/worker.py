"""The process beside a scan that compares its frames with what is known of the instrument.

It is told in lines of JSON what is on the disk (`scan` and `pass`, then `taken` for each position,
then `finish` with the seconds there are), and answers in such lines: `drift`, `report`, `failed`.
It ends when its input does, so that none is left behind by a scan that was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import cv2

from plsctl.acquire.errors import PlsctlError
from plsctl.acquire.roles import Drift
from plsctl.process.self_check.checker import PassChecker
from plsctl.process.self_check.page import write_page

Message = dict[str, Any]

LOWEST_PRIORITY = 19


def main(source: TextIO, sink: TextIO) -> None:
    """Check the pass that the first line names until the last one asks for a report."""
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(source, messages), daemon=True).start()
    try:
        _check(messages, sink)
    except PlsctlError as error:
        _say(sink, "failed", error.message)
    except Exception as error:
        # Whatever is wrong with the check must not look like a clean instrument.
        _say(sink, "failed", f"{type(error).__name__}: {error}")


def _read(source: TextIO, messages: queue.SimpleQueue[Message]) -> None:
    for line in source:
        messages.put(json.loads(line))
    os._exit(0)


def _check(messages: queue.SimpleQueue[Message], sink: TextIO) -> None:
    begin = messages.get()
    checker = PassChecker(Path(begin["scan"]), begin["pass"])
    while True:
        message = _next(messages, checker)
        if message is None:
            name = checker.array.due()
            if name is not None:
                _tell(sink, checker, checker.look(name))
        elif "taken" in message:
            _tell(sink, checker, checker.add(message["taken"]))
        else:
            _finish(sink, checker, float(message["finish"]))
            return


def _next(messages: queue.SimpleQueue[Message], checker: PassChecker) -> Message | None:
    """The next message; None where there is none and the array is to be looked at."""
    with contextlib.suppress(queue.Empty):
        return messages.get_nowait()
    if checker.array.due() is not None:
        return None
    return messages.get()


def _finish(sink: TextIO, checker: PassChecker, patience_s: float) -> None:
    until_s = time.monotonic() + patience_s
    while time.monotonic() + checker.array.look_s < until_s:
        name = checker.array.last_due()
        if name is None:
            break
        _tell(sink, checker, checker.look(name))
    _tell(sink, checker, checker.conclude())
    page = str(write_page(checker)) if checker.drifts else ""
    _say(sink, "report", asdict(checker.report(page)))


def _tell(sink: TextIO, checker: PassChecker, drifts: Iterable[Drift]) -> None:
    found = list(drifts)
    if found:
        # The page is there when its path is said.
        write_page(checker)
    for drift in found:
        _say(sink, "drift", asdict(drift))


def _say(sink: TextIO, kind: str, what: Any) -> None:
    sink.write(json.dumps({kind: what}) + "\n")
    sink.flush()


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(LOWEST_PRIORITY)
    cv2.setNumThreads(1)
    main(sys.stdin, sys.stdout)
    # Nothing may wait for the thread that reads.
    os._exit(0)
