"""Files that are there as a whole or not at all, also after a kill or a power cut."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Text (UTF-8, line ends as written) that replaces a file once the block has ended well.

    Raises
    ------
    OSError
        The disk is full or does not take it; what stood there before still does.
    """
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
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
    """Force to the disk which names a folder holds, so that a rename survives a power cut."""
    if os.name == "nt":
        # Windows opens no folders for this; NTFS writes renames into its own journal.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
