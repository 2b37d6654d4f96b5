"""Files that exist whole or not at all, and folders with one writer at a time.

Whole files survive a kill or a power cut; a lock falls with its process, however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plsctl.acquire.errors import KEPT, RESUMES, UserError, disk_errors
from plsctl.acquire.files.locations import is_remote, real_path, refuse_readonly, written_at

RENAMING_S = 10.0
"""For so long a rename that is refused is tried again: on Windows, and on the network disks of
Windows machines, a virus scanner or indexer may hold a new file or folder for a moment."""

NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}
"""What file systems without locks answer: some network shares."""

ELSEWHERE = "Wait until it has finished, or choose another folder with --out."


def write_whole(path: Path, content: str | bytes, kept: str = KEPT, again: str = RESUMES) -> None:
    """Replace a file: readers see the old one or the new one, and the disk has it on return.

    Parameters
    ----------
    path
        Also in an object store.
    content
        Bytes, or text that is written as UTF-8 with its line ends as they are.
    kept, again
        For who reads of a full disk: what stays as it is, what the same command does then.

    Raises
    ------
    UserError
        The disk is full or does not take it; what stood there before still does.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with disk_errors(path, kept, again):
        if is_remote(path):
            refuse_readonly(path)
            path.write_bytes(data)  # stores show whole objects only
        else:
            _replace(path, data)


def rename(source: Path, target: Path) -> None:
    """Give a file or folder another name on the same disk; a file of that name is replaced.

    Raises
    ------
    OSError
        It cannot be done, or others have held it for longer than `RENAMING_S`.
    """
    until_s = time.monotonic() + RENAMING_S
    wait_s = 0.01
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if time.monotonic() >= until_s:
                raise
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, 0.5)


def _replace(path: Path, data: bytes) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder", str(path))
    path = written_at(path)
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        rename(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Force a file that another function has written to the disk."""
    with path.open("rb+") as file:  # Windows syncs only what may be written to
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Force a folder's list of names to the disk, so that a rename survives a power cut."""
    if os.name == "nt":
        # Windows opens no folders for this; NTFS writes renames into its own journal.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network disks sync files only.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, hint: str = ELSEWHERE) -> Iterator[None]:
    """Lock the folder of a scan or of a data set; `hint` is the hint of a second process's error.

    Raises
    ------
    UserError
        Another process holds it, nothing can be written there, or its disk has no locks.
    """
    with _held(folder / ".lock", folder, hint):
        yield


@contextmanager
def locked_beside(path: Path, hint: str = ELSEWHERE) -> Iterator[None]:
    """The same of a folder that is replaced, or not there yet: the lock is a file beside it.

    It is `.NAME.lock`, and goes again.
    """
    path = real_path(path)
    lock = path.with_name(f".{path.name}.lock")
    with disk_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
    with _held(lock, path, hint):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows keeps files that are open
                lock.unlink()


@contextmanager
def _held(lock: Path, folder: Path, hint: str) -> Iterator[None]:
    with disk_errors(lock):
        opened = lock.open("w")
    with opened as file:
        taken = UserError("another plsctl is writing into this folder.", file=folder, hint=hint)
        try:
            _lock(file.fileno())
        except OSError as error:
            if error.errno in NO_LOCKS:
                raise UserError(
                    f"the file system of this folder gives no locks ({error.strerror}), so that "
                    "two programs could write into it at once.",
                    file=folder,
                    hint="Choose a folder on a local disk (a scan takes --out) and copy it "
                    "afterwards, or mount the network disk with locks.",
                ) from None
            raise taken from None
        # Whoever held it may have removed the file between opening and locking.
        if not (lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat())):
            raise taken
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
