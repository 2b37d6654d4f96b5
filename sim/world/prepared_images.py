"""Prepared images: a scan simulated once runs again at the speed of the real devices."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.errors import disk_errors
from plsctl.acquire.files.whole_files import rename
from plsctl.sim.world.settings import SimulatorSettings

Image = NDArray[np.uint8 | np.uint16]

SAME_HEIGHT_UM = 0.3
"""Focus found again differs by at most this much, which causes no blur."""


class PreparedImages:
    """Images of an earlier run in a folder, one file each.

    Parameters
    ----------
    folder
        Where they lie; made when it is missing.
    world
        Everything that decides an image besides what `find` is asked for: another world has other
        images, which may lie in the same folder.
    """

    def __init__(self, folder: Path, world: str) -> None:
        self._folder = folder
        self._world = world
        self._heights: dict[str, list[tuple[float, Path]]] = {}
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob("*.npy"):
                name, _, height = path.stem.partition("@")
                self._heights.setdefault(name, []).append((float(height), path))

    def find(self, what: tuple[object, ...], z_um: float) -> Image | None:
        """The image of this scene at (nearly) this height, shape as the camera's; None if new."""
        known = self._heights.get(self._name(what), [])
        nearest = min(known, key=lambda entry: abs(entry[0] - z_um), default=None)
        if nearest is None or abs(nearest[0] - z_um) > SAME_HEIGHT_UM:
            return None
        image: Image = np.load(nearest[1], mmap_mode="r")
        return image

    def keep(self, what: tuple[object, ...], z_um: float, image: Image) -> None:
        """Remember an image for the next run."""
        name = self._name(what)
        path = self._folder / f"{name}@{z_um:.3f}.npy"
        # Whole or not at all: this process may be killed, and another may read the same folder.
        partial = path.with_name(f".{path.stem}.{os.getpid()}")
        with disk_errors(path):
            with partial.open("wb") as file:
                np.save(file, image)
            rename(partial, path)
        self._heights.setdefault(name, []).append((z_um, path))

    def _name(self, what: tuple[object, ...]) -> str:
        return hashlib.sha256(repr((self._world, what)).encode()).hexdigest()[:24]


def open_prepared(hardware: Hardware, settings: SimulatorSettings) -> PreparedImages | None:
    """Those of a simulated microscope; None where it keeps none."""
    if settings.prepared is None:
        return None
    # What decides images and is not in the scene that they are filed under.
    play = {"clock", "prepared", "faults", "wiring", "image_cache_mb"}
    play |= {"led_log", "lamp", "light_from"}
    told = settings.model_dump_json(exclude=play)
    device = hardware.model_dump_json(include={"camera", "turret", "focus_z_um"})
    return PreparedImages(settings.prepared, told + device)
