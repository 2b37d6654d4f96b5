"""No command writes over what it reads: asked of every command before it begins."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import is_remote, real_path

OUTPUTS = ("out", "depth", "picture", "geometry", "html", "export")
"""Parameters that name what a command writes. Masks go into a folder, and are asked about there."""

_GOES_ON = ("what", "from_run", "slide_file")
"""Inputs that a command may go on in: the run of a training, the folder of a scan."""

_MADE_FROM_IT = (".html", ".onnx", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Endings of files in a scan, a data set or a run that are none of its own."""


def refuse_inputs(given: Mapping[str, Any]) -> None:
    """UserError if a file or folder to be written is one that is read, or another one written.

    Links, `..` and other spellings of a name are followed. A data set may be replaced by a longer
    one where `overwrite` says so.

    Parameters
    ----------
    given
        The parameters of a command by name.
    """
    inputs = [
        path
        for name, value in given.items()
        if name not in (*OUTPUTS, *_GOES_ON, "masks")
        for path in _paths(value)
    ]
    written: list[Path] = []
    for name in OUTPUTS:
        for out in _paths(given.get(name)):
            field = f"--{name}"
            if any(_same(out, other) for other in written):
                raise UserError(
                    "two results would be written into one file.",
                    file=out,
                    field=field,
                    hint="Give another name.",
                )
            written.append(out)
            for source in inputs:
                replaced = source.is_dir() and given.get("overwrite")
                if _same(out, source) and not replaced:
                    raise _refusal(out, field, "is read by this command and would be overwritten")
                if _is_part(out, source):
                    raise _refusal(out, field, f"is a file of {source} and would be overwritten")


def _refusal(out: Path, field: str, problem: str) -> UserError:
    return UserError(f"this {problem}.", file=out, field=field, hint="Choose another name.")


def _paths(value: Any) -> Iterator[Path]:
    """Local paths among a parameter's values; text counts where something of that name is there."""
    for item in value if isinstance(value, list | tuple) else (value,):
        if isinstance(item, Path) and not is_remote(item):
            yield item
        elif isinstance(item, str) and "\0" not in item and 0 < len(item) < 250:
            path = Path(item)
            if path.exists():
                yield path


def _same(one: Path, other: Path) -> bool:
    if real_path(one) == real_path(other):
        return True
    return one.exists() and other.exists() and one.samefile(other)  # also hard links


def _is_part(out: Path, source: Path) -> bool:
    """Whether a file that stands in the folder of an input, under one of its own endings."""
    place = real_path(out)
    inside = source.is_dir() and real_path(source) in place.parents
    return inside and place.is_file() and place.suffix.lower() not in _MADE_FROM_IT
