"""Numbers and commands as people read them."""

from __future__ import annotations

import shlex
import subprocess
import sys


def counted(count: int, noun: str) -> str:
    """A number and its noun: "1 position", "2 positions"; `noun` is the singular."""
    return f"{count} {noun}" if count == 1 else f"{count} {plural(noun)}"


def plural(noun: str) -> str:
    """The plural of a noun, or of the last word of several."""
    return f"{noun}es" if noun.endswith(("s", "x", "sh", "tch")) else f"{noun}s"


def duration(seconds: float) -> str:
    """A time to wait: "8 s", "2.5 min", "12 min", "1.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.1f} min" if minutes < 10 else f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h"


def command_line(*words: object) -> str:
    """A plsctl command that can be pasted into the shell, blanks and signs in names quoted."""
    parts = ["plsctl", *(str(word) for word in words)]
    return subprocess.list2cmdline(parts) if sys.platform == "win32" else shlex.join(parts)
