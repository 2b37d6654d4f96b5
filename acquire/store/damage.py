"""Damaged positions of a scan: found before the rest is worked on without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from plsctl.acquire.errors import DamagedData, UserError
from plsctl.acquire.store.folder import ScanFolder, is_begun
from plsctl.acquire.store.reader import PassReader


def leave_out_damaged(
    folder: ScanFolder,
    passes: Iterable[str],
    *,
    only_brightfield: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[DamagedData]:
    """Read the frames of passes and leave positions with damaged ones out of the folder.

    A position that is damaged unstained or stained is left out of both.

    Parameters
    ----------
    folder
        Passes that are opened by it have the positions that are whole.
    passes
        Those that are not begun are passed over.
    only_brightfield
        Other frames are not looked at: nobody will read them.
    progress
        Called with the number of positions read, and of all.

    Returns
    -------
    What is wrong: the first damaged frame of each position.
    """
    readers = {name: folder.open_pass(name) for name in passes if is_begun(folder.pass_path(name))}
    total = sum(len(reader.names) for reader in readers.values())
    found: list[DamagedData] = []
    done = 0
    for name, reader in readers.items():
        for position in reader.names:
            problem = first_damage(reader, position, only_brightfield=only_brightfield)
            if problem is not None:
                found.append(problem)
                both = ("unstained", "stained")
                for other in both if name in both else (name,):
                    folder.leave_out(other, position)
            done += 1
            progress(done, total)
    return found


def first_damage(
    reader: PassReader, position: str, *, only_brightfield: bool = False
) -> DamagedData | None:
    """What is wrong with the first damaged frame of a position; None where all are whole."""
    labels = reader.labels
    frames = [labels.index("brightfield")] if only_brightfield else range(len(labels))
    try:
        reader.position(position)
        for index in frames:
            reader.raw_frame(position, index)
    except DamagedData as error:
        return error
    except UserError as error:  # its metadata
        message = error.message.rstrip(".")
        return DamagedData(
            f"position {position}", f"cannot be read: {message}", file=error.file, hint=error.hint
        )
    return None
