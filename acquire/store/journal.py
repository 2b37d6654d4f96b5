"""The journal of a scan: one JSON line for each event, in order."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plsctl.acquire.errors import disk_errors
from plsctl.acquire.files.whole_files import sync_folder

Event = dict[str, Any]


class Journal:
    """Appends events to `scan.jsonl`; what `sync` has returned for survives a crash.

    Only one at a time may be open in a scan's folder (`plsctl.acquire.files.whole_files.locked`).

    Raises
    ------
    UserError
        The disk is full or does not take the events.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with disk_errors(path):
            _end_torn_line(path)
            self._file = path.open("a", encoding="utf-8")
            sync_folder(path.parent)

    def append(self, event: str, **fields: Any) -> None:
        """Write one event with the time of day (UTC)."""
        line = {"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        with disk_errors(self.path), self._lock:
            self._file.write(json.dumps({**line, **fields}) + "\n")

    def sync(self) -> None:
        """Force what was appended to the disk."""
        with disk_errors(self.path):
            with self._lock:
                self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                # What could not be written is tried once more here, and fails again.
                with contextlib.suppress(OSError):
                    self._file.close()


def _end_torn_line(path: Path) -> None:
    """A killed writer may leave half a line; end it, so that the next event stands alone."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


_NEEDED = {
    "focus_plane": ("time", "pass_name", "z0_um", "slope_x", "slope_y", "light"),
    "focus_point": ("time", "index", "step", "block", "x_um", "y_um", "z_um"),
    "verdict": ("safe_to_stain",),
}
"""Fields of events that are of no use without them."""

_BEGINNING = b'{"event": '


def read_journal(path: Path) -> Iterator[Event]:
    """The events of a journal in order; lines torn by a crash or damaged are passed over."""
    for _, event in _lines(path):
        if event is not None:
            yield event


def damaged_lines(path: Path) -> list[int]:
    """Numbers of the lines (from 1) of a journal that say nothing any more.

    Half a line that a killed writer left is not among them: what it was to say is written again.
    """
    return [number for number, event in _lines(path) if event is None]


def _lines(path: Path) -> Iterator[tuple[int, Event | None]]:
    """Line numbers and events; None for a damaged line, and nothing for a torn one."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            line = raw.rstrip(b"\r\n")
            event = _event(line)
            if event is not None or not _is_torn(line):
                yield number, event


def _is_torn(line: bytes) -> bool:
    """Whether this is the beginning of an event, as a killed writer leaves it."""
    if not line.startswith(_BEGINNING):
        return _BEGINNING.startswith(line)
    return b"\0" not in line and not line.endswith(b"}") and _is_text(line)


def _is_text(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    if any(name not in event for name in _NEEDED.get(event["event"], ())):
        return None
    return event


def since_begun(path: Path, pass_name: str) -> list[Event]:
    """Events of a pass since it was last begun anew."""
    events = [event for event in read_journal(path) if event.get("pass_name") == pass_name]
    starts = [i for i, event in enumerate(events) if event["event"] == "pass_started"]
    return events[starts[-1] :] if starts else events
