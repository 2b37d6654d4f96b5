"""One stained image as a multiscale OME-Zarr, and the care not to remove anything else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from plsctl.acquire.arrays import Images
from plsctl.acquire.errors import UserError, disk_error
from plsctl.acquire.files.whole_files import rename
from plsctl.acquire.store.images import halved
from plsctl.acquire.store.ome_zarr import (
    LEVELS,
    create_array,
    image_metadata,
    read_group,
    write_group,
)

FORMAT = "plsctl-stained"
PASS_NAME = "virtually-stained"
"""Of a stained plate."""


def write_image(out: Path, images: Images, pixel_um: float, origin: Mapping[str, object]) -> None:
    """Write images (n, y, x, 3) as one multiscale OME-Zarr 0.5, under its name when it is whole."""
    part = out.with_name(f".{out.name}.writing")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write_levels(part, images)
    except (OSError, ValueError) as error:  # tensorstore's own are of both types
        raise disk_error(error, out, "what was there before is kept") from None
    ome = image_metadata(out.name, pixel_um, (0.0, 0.0, 0.0), 3, 255)
    write_group(part, {"ome": ome, "plsctl": {"format": FORMAT, **origin}})
    remove_stained(out)
    rename(part, out)


def _write_levels(folder: Path, images: Images) -> None:
    for level in range(LEVELS):
        if level:
            images = np.stack([halved(image) for image in images])
        count, height, width = images.shape[:3]
        array = create_array(folder / str(level), (count, 3, 1, height, width), np.uint8)
        for index, image in enumerate(images):
            array[index, :, 0].write(np.moveaxis(image, -1, 0)).result()


def stained_metadata(out: Path) -> Mapping[str, object] | None:
    """The metadata of the stained image or plate of that name; None if there is none yet.

    Raises
    ------
    UserError
        If there is anything that `plsctl stain` did not write.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        found = read_group(out).get("plsctl")
    except UserError:
        found = None
    if isinstance(found, dict) and (
        found.get("format") == FORMAT or found.get("pass_name") == PASS_NAME
    ):
        return found
    raise UserError(
        "this is not a stained image and is left alone.",
        file=out,
        hint="Choose another name with --out.",
    )


def remove_stained(out: Path) -> None:
    """Remove what `plsctl stain` wrote, or an empty folder; `UserError` if it is anything else."""
    if stained_metadata(out) is not None or out.exists():
        shutil.rmtree(out)
