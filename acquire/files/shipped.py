"""Files that come with the package, named `shipped:NAME`: hardware files and their tables."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.settings import suggest

SHIPPED = "shipped:"


def shipped_names(ending: str, folder: str = "") -> list[str]:
    """Names of the files that come with the package, such as those in `.csv`."""
    names = [entry.name for entry in (files("plsctl.hardware_configs") / folder).iterdir()]
    return sorted(name for name in names if name.endswith(ending))


def shipped_file(name: str) -> Path:
    """The file of that name which comes with the package.

    Raises
    ------
    UserError
        There is none.
    """
    known = shipped_names(Path(name).suffix or ".csv")
    if name not in known:
        raise UserError(
            f"no file '{name}' comes with plsctl.", hint=suggest(name, known) if known else None
        )
    return Path(str(files("plsctl.hardware_configs"))) / name


def is_shipped(path: Path) -> bool:
    """Whether a file lies in the installed package, where nothing is written."""
    return path.resolve().parent == Path(str(files("plsctl.hardware_configs"))).resolve()


def shipped_hint(path: Path) -> str:
    """Where a file that is missing has a namesake in the package: how that one is asked for."""
    if path.name not in shipped_names(path.suffix or ".csv"):
        return "Check the name."
    return (
        f"Put yours there; one for the simulated microscope comes with plsctl and is named "
        f"{SHIPPED}{path.name}."
    )
