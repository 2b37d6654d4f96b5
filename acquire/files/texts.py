"""Text files that people write: read as UTF-8, and what is not is named with its remedy."""

from __future__ import annotations

from pathlib import Path

from plsctl.acquire.errors import UserError

SAVE = 'Save it as UTF-8: in an editor or spreadsheet under "Save as", encoding "UTF-8".'


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without the mark that some programs put first.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    UserError
        It cannot be read, or is in another encoding; line and column are named.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        raise UserError("this is a folder, not a file.", file=path, hint="Name a file.") from None
    except OSError as error:
        raise UserError(
            f"the file cannot be read ({error.strerror}).",
            file=path,
            hint="Check the name and the permissions.",
        ) from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:200]:
        raise UserError("this file is in UTF-16, or is no text.", file=path, line=1, hint=SAVE)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise UserError(
            f"the character in column {column} is not in UTF-8.",
            file=path,
            line=before.count(b"\n") + 1,
            hint=SAVE,
        ) from None
