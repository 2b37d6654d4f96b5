"""The scores that an evaluation wrote, read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plsctl.acquire.errors import UserError


def read_scores(path: Path) -> dict[str, Any] | None:
    """What the last evaluation of a run found, or None.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    return read_results(path / "metrics.json", "evaluate")


def read_results(file: Path, command: str) -> dict[str, Any] | None:
    """The content of a file of scores, or None; `command` writes it anew."""
    if not file.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(
            "the scores of the run cannot be read.", file=file, hint=f"Run plsctl {command} again."
        ) from None
    return found
