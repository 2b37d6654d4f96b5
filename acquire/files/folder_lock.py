"""One writer at a time in a folder; the lock falls with the process, however it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plsctl.acquire.errors import UserError, disk_errors

ELSEWHERE = "Wait until it has finished, or choose another folder with --out."


@contextmanager
def locked(folder: Path, hint: str = ELSEWHERE) -> Iterator[None]:
    """Hold the folder of a scan or of a data set; `hint` is for those who come second.

    Raises
    ------
    UserError
        Another process holds it, or nothing can be written there.
    """
    with disk_errors(folder):
        lock = (folder / ".lock").open("w")
    with lock as file:
        try:
            _lock(file.fileno())
        except OSError:
            raise UserError(
                "another plsctl is writing into this folder.",
                file=folder,
                hint=hint,
            ) from None
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
