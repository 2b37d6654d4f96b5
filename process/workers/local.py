"""Workers for the jobs of a build: this process, several on this machine, or a Dask cluster.

All three take a function and its jobs and give the results as they finish, with few jobs under
way at a time, so that neither they nor their results fill the memory.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol, TypeVar

import cv2

from plsctl.acquire.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")

AHEAD = 2
"""Jobs under way per worker: one being done, one waiting."""


class Workers(Protocol):
    """Something that does jobs."""

    @property
    def by_file(self) -> bool:
        """Whether large results should come as files: from other processes of this machine."""

    def run(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[int, Result]]:
        """The number and the result of each job, in the order in which they finish."""


class ThisProcess:
    """Does one job after the other."""

    by_file = False

    def run(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[int, Result]]:
        """The number and the result of each job, in order."""
        for number, job in enumerate(jobs):
            # One core here too: what more it takes is asked for with more workers.
            threads = cv2.getNumThreads()
            cv2.setNumThreads(1)
            try:
                result = function(job)
            finally:
                cv2.setNumThreads(threads)
            yield number, result


class Processes:
    """Does as many jobs at once as it has processes on this machine."""

    by_file = True

    def __init__(self, pool: ProcessPoolExecutor, count: int) -> None:
        self._pool = pool
        self._under_way = count * AHEAD

    def run(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[int, Result]]:
        """The number and the result of each job, in the order in which they finish.

        Raises
        ------
        UserError
            A process was killed.
        """
        waiting: dict[Future[Result], int] = {}
        coming = enumerate(jobs)
        try:
            while True:
                for number, job in coming:
                    waiting[self._pool.submit(function, job)] = number
                    if len(waiting) >= self._under_way:
                        break
                if not waiting:
                    return
                finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield waiting.pop(future), future.result()
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed; was there too little memory?",
                field="--workers",
                hint="Run the same command again, with fewer workers: it goes on where it stopped.",
            ) from None


@contextmanager
def local_workers(count: int) -> Iterator[Workers]:
    """So many processes on this machine; 1 works in this process itself.

    Raises
    ------
    UserError
        If the count is below 1.
    """
    if count < 1:
        raise UserError(f"{count} workers cannot build a data set.", hint="Give 1 or more.")
    if count == 1:
        yield ThisProcess()
        return
    # Fresh interpreters: forking a process whose libraries hold threads can hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker) as pool:
        try:
            yield Processes(pool, count)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin_worker() -> None:
    cv2.setNumThreads(1)  # the processes are the parallelism
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End with the parent: a killed parent cannot end its workers, which would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
