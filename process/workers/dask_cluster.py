"""Jobs on a Dask cluster: many slides, many machines, the same data set.

Workers need plsctl and the scans under the same paths or URLs; results come back over the network
to the process that writes the data set. A job whose worker is lost is done again by another one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import cv2

from plsctl.acquire.errors import PlsctlError, UserError
from plsctl.process.workers.local import AHEAD, Job, Result, Workers

if TYPE_CHECKING:
    from distributed import Client

WAIT_S = 30
"""Longest wait for a cluster to answer and to have a worker."""


class Cluster:
    """Does jobs on the workers of a Dask cluster."""

    by_file = False  # its machines need not see the data set

    def __init__(self, client: Client) -> None:
        self._client = client

    def run(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[int, Result]]:
        """The number and the result of each job, in the order in which they finish.

        Raises
        ------
        UserError
            The cluster lost one worker after the other over a job, or its workers lack plsctl.
        """
        from distributed import as_completed

        coming = enumerate(jobs)
        numbers: dict[str, int] = {}
        queue = as_completed(loop=self._client.loop)

        def submit() -> None:
            for number, job in coming:
                # Not pure: jobs would be hashed to find equal ones, and there are none.
                future = self._client.submit(_on_one_core, function, job, pure=False)
                numbers[future.key] = number
                queue.add(future)
                return

        for _ in range(AHEAD * max(1, sum(self._client.nthreads().values()))):
            submit()
        for future in queue:
            try:
                result = future.result()
            except PlsctlError:
                raise
            except Exception as error:
                raise _failure(error) from error
            number = numbers.pop(future.key)
            future.release()
            submit()
            yield number, result


def _on_one_core(function: Callable[[Job], Result], job: Job) -> Result:
    cv2.setNumThreads(1)  # the workers are the parallelism
    return function(job)


def _failure(error: Exception) -> UserError:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return UserError(
            "the cluster lost one worker after the other over the same position; "
            "was there too little memory?",
            field="--scheduler",
            hint="Run the same command again, with more memory to a worker: it goes on.",
        )
    return UserError(
        f"a worker of the cluster failed ({type(error).__name__}: {str(error)[:300]}).",
        field="--scheduler",
        hint="Workers need this version of plsctl and the scans under the same paths.",
    )


@contextmanager
def cluster_workers(address: str) -> Iterator[Workers]:
    """The workers of the Dask cluster at an address such as `tcp://10.0.0.5:8786`.

    Raises
    ------
    UserError
        No scheduler answers there, it has no workers, or `distributed` is not installed.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UserError(
            "working on a cluster takes the package distributed, which is not installed.",
            field="--scheduler",
            hint="Install it: pip install 'plsctl[distributed]'.",
        ) from None
    if not re.search(r":\d+/?$", address):  # dask would wait for a minute before it says so
        raise UserError(
            f"'{address}' is no address of a Dask scheduler.",
            field="--scheduler",
            hint="Give it with its port, such as tcp://10.0.0.5:8786.",
        )
    try:
        client = Client(address, timeout=WAIT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at {address} ({error}).",
            field="--scheduler",
            hint="Start one with `dask scheduler`, and give the address it prints.",
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT_S)
        except TimeoutError:
            raise UserError(
                f"the scheduler at {address} has no workers.",
                field="--scheduler",
                hint=f"Start some: dask worker {address} --nthreads 1.",
            ) from None
        yield Cluster(client)
