"""Microscopes with an LED array: scanning, data sets of blood cells, virtual staining.

`plsctl.acquire`, `plsctl.process` and `plsctl.models` give the names to use (docs/python.md).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PARTS = ("acquire", "models", "process", "sim")

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("plsctl")
        if name in _PARTS:
            return import_module(f"plsctl.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "__version__", *_PARTS})


__all__ = ["__version__"]
