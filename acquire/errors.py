"""The errors a user may meet.

PlsctlError
├── UserError        exit 2: a file, value or port the user can mend
│   └── DamagedData  a stored image that is missing, cut off or changed
├── HardwareError    exit 3: a device that does not answer or was lost
└── InterruptedScan  exit 130: stopped by the user or by a signal, everything finished is kept
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class PlsctlError(Exception):
    """One clear sentence: what happened, with which value, and what to do.

    Parameters
    ----------
    message
        What happened, naming the value that was found.
    file, line, field
        Where the cause stands, when it stands in a file (line counts from 1).
    hint
        What the user can do about it.
    """

    exit_code = 1
    kind = "error"

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = None if file is None else str(file)
        self.line = line
        self.field = field
        self.hint = hint

    def __str__(self) -> str:
        place = ""
        if self.file is not None:
            place = self.file if self.line is None else f"{self.file}, line {self.line}"
            place += ": "
        hint = f" {self.hint}" if self.hint else ""
        return f"{place}{self.message}{hint}"

    def as_dict(self) -> dict[str, str | int | None]:
        """The fields of the error object that `--json` prints."""
        return {
            "kind": self.kind,
            "message": str(self),
            "file": self.file,
            "line": self.line,
            "field": self.field,
            "hint": self.hint,
        }


class UserError(PlsctlError, ValueError):
    """A file, value, port or slide the user can mend (exit code 2)."""

    exit_code = 2
    kind = "user"


class DamagedData(UserError):
    """A stored image that is missing, cut off or no longer what was written (exit code 2).

    Parameters
    ----------
    what
        The image, such as "frame 'plate-1' of position A/1".
    problem
        "is missing", "is damaged (checksum)": what is wrong with it.
    """

    def __init__(
        self, what: str, problem: str, *, file: str | Path | None = None, hint: str | None = None
    ) -> None:
        super().__init__(f"{what} {problem}.", file=file, hint=hint)
        self.what, self.problem = what, problem

    def __reduce__(self) -> tuple[object, ...]:
        return _damaged, (self.what, self.problem, self.file, self.hint)


def _damaged(what: str, problem: str, file: str | None, hint: str | None) -> DamagedData:
    """From another process."""
    return DamagedData(what, problem, file=file, hint=hint)


class HardwareError(PlsctlError, OSError):
    """A device that does not answer, answers wrongly or was lost (exit code 3)."""

    exit_code = 3
    kind = "hardware"

    def __str__(self) -> str:
        return PlsctlError.__str__(self)


class InterruptedScan(PlsctlError):
    """The work was stopped from outside; what was finished is kept (exit code 130)."""

    exit_code = 130
    kind = "interrupted"


@contextmanager
def about(file: str | Path) -> Iterator[None]:
    """Let errors inside the block that name no file name this one."""
    try:
        yield
    except PlsctlError as error:
        error.file = error.file or str(file)
        raise


KEPT = "what was written before is kept"
POSITIONS = "the positions finished so far are kept"
RESUMES = "it goes on where it stopped"


@contextmanager
def disk_errors(place: Path, kept: str = POSITIONS, again: str = RESUMES) -> Iterator[None]:
    """Let a failed write inside the block tell the user what it means for a file or folder.

    `kept` says what a full disk leaves as it is, `again` what the same command does then.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, PlsctlError):
            raise
        raise disk_error(error, place, kept, again) from None


_REASONS = {
    errno.ENOENT: ("its folder does not exist", "Make the folder first, or check the name."),
    errno.ENOTDIR: ("a file stands where a folder is needed", "Choose another place or name."),
    errno.EEXIST: ("a file of that name stands there", "Choose another place or name."),
    errno.EISDIR: ("a folder of that name stands there", "Choose another place or name."),
    errno.ENAMETOOLONG: ("the name is too long for this disk", "Give a shorter one."),
    errno.ELOOP: ("its links lead in a circle", "Check the links."),
    errno.EACCES: (
        "you may not write there, or another program holds it",
        "Check the permissions, close that program, or choose another place; then run the same "
        "command again.",
    ),
    errno.EROFS: ("this disk can only be read", "Choose another place."),
}
"""What the system's own number of an error means, and what to do."""


def disk_error(
    error: BaseException, folder: Path, kept: str = POSITIONS, again: str = RESUMES
) -> UserError:
    """What a failed write means for the user."""
    text = str(error)
    # In the words of the system, of tensorstore and of NumPy.
    full = ("No space left", "RESOURCE_EXHAUSTED", " requested and ")
    if getattr(error, "errno", None) == errno.ENOSPC or any(words in text for words in full):
        return UserError(
            f"the disk is full; {kept}.",
            file=folder,
            hint=f"Make room and run the same command again: {again}.",
        )
    known = _REASONS.get(getattr(error, "errno", None) or 0)
    if known is not None:
        return UserError(f"this cannot be written: {known[0]}.", file=folder, hint=known[1])
    reason = text.splitlines()[0][:200] if text else repr(error)
    return UserError(
        f"this cannot be written: the disk does not take it ({reason}).",
        file=folder,
        hint="Check the disk and its permissions, or choose another place, and run the same "
        "command again.",
    )
