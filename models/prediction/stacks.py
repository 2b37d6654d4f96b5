"""Stacks of images from plain files: NumPy, TIFF and Zarr arrays."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray
from skimage.io import imread

from plsctl.acquire.arrays import Images
from plsctl.acquire.errors import DamagedData, UserError
from plsctl.acquire.files.locations import kvstore
from plsctl.acquire.store.ome_zarr import LEVELS
from plsctl.models.runs.metadata import RunMetadata
from plsctl.process.dataset.recipe_images import recipe_labels

SMALLEST_PX = 2 ** (LEVELS - 1)
"""One pixel is left of it at the coarsest level of the stained image."""


def read_stack(path: Path, metadata: RunMetadata, recipe: str | None = None) -> Images:
    """The images of a run's recipe from a stack file, (image, y, x, 3) uint8.

    Parameters
    ----------
    path
        `.npy`, `.tif`, `.tiff` or a `.zarr` array of shape (image, y, x, 3), uint8.
    recipe
        The recipe the file holds, in its order, by name or file; the run's own by default.

    Raises
    ------
    UserError
        If the file cannot be read, has another shape, or lacks images of the run's recipe.
    """
    stack = _read(path)
    if stack.ndim != 4 or stack.shape[3] != 3 or stack.dtype != np.uint8:
        raise UserError(
            f"expected a stack (image, y, x, 3) of uint8, found {stack.shape} of {stack.dtype}.",
            file=path,
        )
    if min(stack.shape[1:3]) < SMALLEST_PX:
        raise UserError(
            f"images of {stack.shape[2]} x {stack.shape[1]} px are too small.",
            file=path,
            hint=f"At least {SMALLEST_PX} px are needed in both directions.",
        )
    held = recipe_labels(recipe, metadata.recipe, metadata.frames)
    if len(stack) != len(held):
        raise UserError(
            f"the stack has {len(stack)} images, {recipe or metadata.recipe} has {len(held)}.",
            file=path,
            hint="Say which recipe the stack holds (--recipe).",
        )
    missing = [label for label in metadata.labels if label not in held]
    if missing:
        raise UserError(
            f"a stack of {recipe} lacks {len(missing)} images that the run was trained on "
            f"({metadata.recipe}): {', '.join(missing[:6])}.",
            file=path,
            hint="Use a run that was trained on a smaller recipe.",
        )
    return np.ascontiguousarray(stack[[held.index(label) for label in metadata.labels]])


def _read(path: Path) -> NDArray[np.uint8]:
    if not path.exists():  # `require_source` has the same words
        raise UserError("there is no such scan or stack.", file=path, hint="Check the name.")
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path))
        if path.suffix.lower() in (".tif", ".tiff"):
            return np.asarray(imread(path))
        if path.is_dir():
            spec: dict[str, object] = {"driver": _zarr_driver(path), "kvstore": kvstore(path)}
            # Black chunks that were not written cannot be told from lost ones.
            spec["fill_missing_data_reads"] = False
            array = ts.open(spec, read=True).result()
            return np.asarray(array.read().result())
    except (OSError, ValueError, EOFError) as error:
        problem = (str(error).splitlines() or [""])[0][:150]
        if "pickle" in problem:  # NumPy advises to load it unsafely
            problem = "it holds Python objects and no array of numbers"
        lost = re.search(r'NOT_FOUND: chunk .*"(.+?)" is missing', str(error))
        if lost is not None:
            raise DamagedData(
                "a chunk of the stack",
                "is missing",
                file=lost[1],
                hint="Take it from a copy. If it was left out because it is black, write the "
                "stack anew with zarr's write_empty_chunks.",
            ) from None
        raise UserError(f"the stack cannot be read ({problem}).", file=path) from None
    raise UserError(
        "this is neither a scan nor a stack that can be read.",
        file=path,
        hint="Name a scan's folder, or a .npy, .tif or .zarr stack (image, y, x, 3).",
    )


def _zarr_driver(path: Path) -> str:
    return "zarr" if (path / ".zarray").exists() else "zarr3"
