"""A pass is compared with what is known of the instrument by a process of its own.

It has the lowest priority and one thread, and reads what is on the disk: a position costs the scan
one line of text.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from plsctl.acquire.roles import Drift, DriftReport

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

LATE_S = 60.0
"""A report may come so much later than it was asked for."""

WHAT = "the instrument against its calibrations"


class BackgroundMonitor:
    """Implements `plsctl.acquire.roles.PassMonitor` by a process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._drifts: list[Drift] = []
        self._failed = ""

    def begin(self, scan: Path, pass_name: str) -> None:
        """Start the process."""
        self.close()
        self._answers, self._drifts, self._failed = queue.SimpleQueue(), [], ""
        try:
            # -P: no module of the folder that the command is run in.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "plsctl.process.self_check.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                env=os.environ | dict.fromkeys(THREADS, "1"),
                creationflags=_low_priority(),
                # Ctrl-C is for the scan.
                start_new_session=True,
            )
        except OSError as error:
            self._failed = f"no process could be started: {error.strerror}"
            return
        assert self._process.stdout is not None
        arguments = (self._process.stdout, self._answers)
        threading.Thread(target=_listen, args=arguments, daemon=True).start()
        self._send({"scan": str(scan.resolve()), "pass": pass_name})

    def taken(self, position: str) -> None:
        """Tell it of a position."""
        self._send({"taken": position})

    def news(self) -> Sequence[Drift]:
        """What it has said since it was asked last."""
        found: list[Drift] = []
        with contextlib.suppress(queue.Empty):
            while True:
                answer = self._answers.get_nowait()
                self._hear(answer)
                if "drift" in answer:
                    found.append(self._drifts[-1])
        return found

    def finish(self, patience_s: float) -> DriftReport:
        """Ask for the report and wait for it."""
        self._send({"finish": patience_s})
        until_s = time.monotonic() + patience_s + LATE_S
        while not self._failed:
            try:
                answer = self._answers.get(timeout=max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                self._failed = f"not done within {patience_s + LATE_S:.0f} s"
                break
            if "report" in answer:
                self.close()
                return _report(answer["report"])
            self._hear(answer)
        self.close()
        return DriftReport(tuple(self._drifts), unchecked=(f"{WHAT} ({self._failed})",))

    def close(self) -> None:
        """End the process, if it still runs."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _hear(self, answer: dict[str, Any]) -> None:
        if "drift" in answer:
            self._drifts.append(Drift(**answer["drift"]))
        elif "failed" in answer and not self._failed:
            self._failed = answer["failed"].rstrip(".")

    def _send(self, message: dict[str, Any]) -> None:
        if self._process is None or self._process.stdin is None or self._failed:
            return
        # What it died of, it has said.
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()


def _listen(source: IO[str], answers: queue.SimpleQueue[dict[str, Any]]) -> None:
    with contextlib.suppress(OSError, ValueError):
        for line in source:
            answers.put(json.loads(line))
    answers.put({"failed": "its process has ended"})


def _report(content: dict[str, Any]) -> DriftReport:
    return DriftReport(
        drifts=tuple(Drift(**each) for each in content["drifts"]),
        checked=tuple(content["checked"]),
        unchecked=tuple(content["unchecked"]),
        values=content["values"],
        page=content["page"],
    )


def _low_priority() -> int:
    """On Windows the priority is set from outside; elsewhere the process sets it itself."""
    names = ("IDLE_PRIORITY_CLASS", "CREATE_NO_WINDOW")
    return sum(int(getattr(subprocess, name, 0)) for name in names)
