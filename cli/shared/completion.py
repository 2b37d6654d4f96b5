"""Values that a shell offers for an option: names that plsctl knows, and files that lie here.

Nothing heavy is imported: a shell asks at every press of the tab key.
"""

from collections.abc import Callable
from pathlib import Path

Completion = Callable[[str], list[str]]
"""The values that begin with what has been typed."""

MODELS = ("maenet", "maepnet", "maepfnet", "maepf-rpgan-sn", "unet", "fast")

TRAINED = (*MODELS, "learned-optics")
"""What `plsctl train` trains: the models that stain, and others."""


def values(*known: str) -> Completion:
    """Offer these values."""

    def begin(incomplete: str) -> list[str]:
        return [value for value in known if value.startswith(incomplete)]

    return begin


PASSES = values("unstained", "stained", "highres")
SPLITS = values("test", "validation", "train")
TARGETS = values("20x", "100x")
SCHEDULES = values("constant", "cosine")
DEVICES = values("auto", "cpu", "cuda")
PRECISIONS = values("auto", "float32", "bfloat16")


def hardware(incomplete: str) -> list[str]:
    """Offer the hardware files that come with plsctl, and the YAML files that lie here."""
    return shipped_hardware(incomplete) + yaml_files(incomplete)


def shipped_hardware(incomplete: str) -> list[str]:
    """Offer the hardware files that come with plsctl."""
    from plsctl.acquire.files.shipped import shipped_names

    shipped = [name.removesuffix(".yaml") for name in shipped_names(".yaml")]
    return values(*shipped)(incomplete)


def recipes(incomplete: str) -> list[str]:
    """Offer the recipes that come with plsctl, and the YAML files that lie here."""
    from plsctl.acquire.files.shipped import shipped_names

    shipped = [name.removesuffix(".yaml") for name in shipped_names(".yaml", "recipes")]
    return values(*shipped)(incomplete) + yaml_files(incomplete)


def models(incomplete: str) -> list[str]:
    """Offer the models."""
    return values(*MODELS)(incomplete)


def models_and_files(incomplete: str) -> list[str]:
    """Offer what can be trained, and the YAML files that lie here."""
    return values(*TRAINED)(incomplete) + yaml_files(incomplete)


def yaml_files(incomplete: str) -> list[str]:
    """Offer the YAML files, and the folders, that begin so."""
    folder, _, name = incomplete.rpartition("/")
    place = Path(f"{folder}/" if incomplete.startswith("/") else folder)
    if not place.is_dir():
        return []
    head = incomplete[: len(incomplete) - len(name)]
    found = []
    for entry in sorted(place.iterdir()):
        if entry.name.startswith(name) and not entry.name.startswith("."):
            if entry.is_dir():
                found.append(f"{head}{entry.name}/")
            elif entry.suffix in (".yaml", ".yml"):
                found.append(f"{head}{entry.name}")
    return found
