"""Disk work in its own thread: in order, with bounded memory; the first error is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Job = Callable[[], None]


class DiskQueue:
    """Runs jobs one after the other while the caller continues.

    After a job has failed no further one is begun; its error is raised by the next call. At the
    end of the program the interpreter waits for the jobs that are still queued.

    Parameters
    ----------
    limit_bytes
        What the images of waiting jobs may take; more are accepted when some are written.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._waiting_bytes = 0
        self._waiting_jobs = 0
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="disk")

    @property
    def waiting_bytes(self) -> int:
        """Bytes of images that are not yet on their way to the disk."""
        return self._waiting_bytes

    def put(self, job: Job, nbytes: int = 0) -> None:
        """Queue a job that holds `nbytes` of images; waits while there is no room.

        Raises
        ------
        Exception
            An earlier job failed; this one will not be done.
        """
        with self._changed:
            # What is larger than the limit must still pass, alone.
            self._changed.wait_for(
                lambda: (
                    self._error is not None
                    or self._waiting_bytes == 0
                    or self._waiting_bytes + nbytes <= self._limit_bytes
                )
            )
            self.check()
            self._waiting_bytes += nbytes
            self._waiting_jobs += 1
        self._thread.submit(self._run, job, nbytes)

    def put_clearing(self, job: Job) -> None:
        """Queue a job that tidies up: it runs even after an error, and waits for no room."""
        with self._changed:
            self._waiting_jobs += 1
        self._thread.submit(self._run, job, 0, always=True)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until the jobs have made a condition true.

        Raises
        ------
        Exception
            A job failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or condition())
            self.check()

    def settle(self) -> None:
        """Wait until every queued job is done, or skipped because an earlier one failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting_jobs == 0)

    def drain(self) -> None:
        """Wait until everything queued is done; raises what a job failed with."""
        self.settle()
        self.check()

    def check(self) -> None:
        """Raise what a job failed with."""
        if self._error is not None:
            raise self._error

    def _run(self, job: Job, nbytes: int, always: bool = False) -> None:
        error: Exception | None = None
        if always or self._error is None:
            try:
                job()
            except Exception as found:
                # Whatever it is, a bug included: the caller must hear of it.
                error = found
        with self._changed:
            self._error = self._error or error
            self._waiting_bytes -= nbytes
            self._waiting_jobs -= 1
            self._changed.notify_all()
