"""Files of the synthetic aperture: single-LED stacks in a folder, and its images written out.

A stack folder holds

- `optics.json`: `na`, `pixel_size_sample_m`, `stack_variable` such as `images[y,x,led]`, `stack_is`
  (beginning with `amplitude` or `intensity`), and under `channels` for each colour a `file` with
  the images (.npz or .npy), `wavelength_m` and `defocus_m`;
- `leds.csv` with the columns `channel`, `index0` (place in the stack) and the sines `u_sin` and
  `v_sin` of each LED: where the middle of its window lies in the sample's spectrum, x to the right,
  y down.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray

from plsctl.acquire.arrays import FloatArray
from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import is_remote
from plsctl.acquire.files.tables import number, read_table
from plsctl.process.aperture.field import ApertureField
from plsctl.process.aperture.led_check import LedPlace
from plsctl.process.aperture.led_stack import LedStack
from plsctl.process.image_files import write_image

OPTICS, LEDS = "optics.json", "leds.csv"


def is_stack_folder(folder: Path) -> bool:
    """Whether a folder holds single-LED stacks in the form of this module."""
    return (folder / OPTICS).is_file()


def read_stack(folder: Path, colour: str) -> LedStack:
    """One colour of a stack folder.

    Raises
    ------
    UserError
        A file is missing or does not hold what it should, or there is no such colour.
    """
    optics = _optics(folder)
    channels = {
        name: entry
        for name, entry in optics["channels"].items()
        if _image_file(folder, entry) is not None
    }
    if colour not in channels:
        raise UserError(
            f"there is no colour '{colour}'.",
            file=folder / OPTICS,
            field="channels",
            hint=f"It has {', '.join(channels) or 'none whose images are there'}.",
        )
    entry = channels[colour]
    images = _images(folder, entry, optics)
    leds = _table(folder, colour)
    if sorted(leds["index0"]) != list(range(len(images))):
        raise UserError(
            f"names {len(leds)} LEDs of the colour {colour}, the stack holds {len(images)} images.",
            file=folder / LEDS,
            field="index0",
            hint="Give each image of the stack one row, counted from 0.",
        )
    leds = leds.sort_values("index0")
    try:
        return LedStack(
            amplitude=images,
            # Light from s brings the spectrum's part at -s to the middle.
            directions=-leds[["u_sin", "v_sin"]].to_numpy(np.float64),
            wavelength_um=float(entry["wavelength_m"]) * 1e6,
            pixel_um=float(optics["pixel_size_sample_m"]) * 1e6,
            na=float(optics["na"]),
            defocus_um=float(entry.get("defocus_m", 0)) * 1e6,
            names=tuple(str(number) for number in leds["index0"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _unusable(folder / OPTICS, error) from None


def _optics(folder: Path) -> dict[str, Any]:
    path = folder / OPTICS
    try:
        optics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        entries = list(optics["channels"].values())
        _ = (optics["na"], optics["pixel_size_sample_m"], optics["stack_variable"])
        _ = [(entry["file"], entry["wavelength_m"]) for entry in entries]
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror}).", file=path) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unusable(path, error) from None
    return optics


def _unusable(path: Path, error: Exception) -> UserError:
    lacking = f"lacks {error}" if isinstance(error, KeyError) else f"cannot be used ({error})"
    return UserError(
        f"{lacking}.",
        file=path,
        hint="Its form is described in the chapter on the synthetic aperture.",
    )


def _image_file(folder: Path, entry: Mapping[str, Any]) -> Path | None:
    """The file named, or one of the same name as .npz or .npy."""
    named = folder / str(entry["file"])
    for path in (named.with_suffix(".npz"), named.with_suffix(".npy")):
        if path.is_file():
            return path
    return None


def _images(folder: Path, entry: Mapping[str, Any], optics: Mapping[str, Any]) -> FloatArray:
    """Amplitudes (LED, y, x)."""
    path = _image_file(folder, entry)
    parsed = re.fullmatch(r"(\w+)\[(\w+),(\w+),(\w+)\]", str(optics["stack_variable"]))
    axes = parsed.groups()[1:] if parsed else ()
    if path is None or parsed is None or sorted(axes) != ["led", "x", "y"]:
        raise UserError(
            f"'{optics['stack_variable']}' names no stack.",
            file=folder / OPTICS,
            field="stack_variable",
            hint="Give a name and its axes, such as images[y,x,led].",
        )
    try:
        content = np.load(path)
        stack = content if isinstance(content, np.ndarray) else content[parsed.group(1)]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot be read ({error}).", file=path) from None
    order = [axes.index(name) for name in ("led", "y", "x")]
    images = np.ascontiguousarray(np.transpose(stack, order), dtype=np.float32)
    if not np.isfinite(images).all() or images.min() < 0:
        raise UserError("holds values below 0 or none at all (NaN).", file=path)
    return images if str(optics.get("stack_is", "")).lower().startswith("amp") else np.sqrt(images)


def _table(folder: Path, colour: str) -> pd.DataFrame:
    path = folder / LEDS
    numbers = ("index0", "u_sin", "v_sin")
    rows = [
        {name: number(row, name, path, line) for name in numbers}
        for line, row in read_table(path, ("channel", *numbers))
        if row["channel"] == colour
    ]
    return pd.DataFrame(rows, columns=list(numbers)).astype({"index0": int})


def check_names(image: Path | None, picture: Path | None, table: Path | None) -> None:
    """Refuse, before long work, files that could not be written after it.

    Raises
    ------
    UserError
        None is named, an ending is unknown, or a folder does not exist.
    """
    wanted = (
        (image, (".tif", ".tiff"), "NAME.ome.tiff"),
        (picture, (".png", ".jpg", ".tif"), "NAME.png"),
        (table, (".csv",), "NAME.csv"),
    )
    if image is None and picture is None and table is None:
        raise UserError("nothing is asked for.", hint="Give --out, --picture or --geometry.")
    for path, endings, example in wanted:
        if path is None:
            continue
        if path.suffix.lower() not in endings:
            raise UserError(
                f"'{path.suffix}' is no ending for it.", file=path, hint=f"Name it {example}."
            )
        if is_remote(path):
            raise UserError(
                "pictures are not written into a store.", file=path, hint="Name a file."
            )
        if not path.parent.is_dir():
            raise UserError("its folder does not exist.", file=path, hint="Make the folder first.")


def write_geometry(path: Path, places: Sequence[LedPlace]) -> None:
    """The table of a check of the LEDs, one row each.

    Raises
    ------
    UserError
        It cannot be written.
    """
    rows = [
        {
            "name": place.name,
            "table_x": place.table[0],
            "table_y": place.table[1],
            "found_x": round(place.found[0], 5),
            "found_y": round(place.found[1], 5),
            "moved_deg": round(place.moved_deg, 3),
            "residual_table": round(place.at_table, 5),
            "residual_found": round(place.at_found, 5),
            "like": place.like,
            "verdict": place.verdict,
        }
        for place in places
    ]
    try:
        pd.DataFrame(rows).to_csv(path, index=False)
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror}).", file=path) from None


def write_aperture(path: Path, fields: Mapping[str, ApertureField]) -> None:
    """Amplitude and phase of each colour as an OME-TIFF, float32 (channel, y, x).

    Raises
    ------
    UserError
        It cannot be written.
    """
    planes, names = [], []
    for colour, field in fields.items():
        planes += [field.amplitude, field.phase]
        names += [f"{colour} amplitude", f"{colour} phase"]
    pixel_um = next(iter(fields.values())).pixel_um
    metadata = {
        "axes": "CYX",
        "Channel": {"Name": names},
        "PhysicalSizeX": pixel_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": pixel_um,
        "PhysicalSizeYUnit": "µm",
    }
    try:
        tifffile.imwrite(
            path, _of_one_size(planes), ome=True, metadata=metadata, photometric="minisblack"
        )
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror}).", file=path) from None


def _of_one_size(planes: list[FloatArray]) -> FloatArray:
    """Planes in one array; shorter wavelengths may have asked for finer pixels."""
    if len({plane.shape for plane in planes}) > 1:
        raise UserError(
            "the colours have different pixels.", field="upsampling", hint="Choose one for all."
        )
    return np.stack(planes).astype(np.float32)


def draw_aperture(path: Path, fields: Mapping[str, ApertureField]) -> None:
    """A picture: amplitude beside phase, one row for each colour, each from its own 1 to 99 %."""
    rows = [np.hstack([_grey(field.amplitude), _grey(field.phase)]) for field in fields.values()]
    write_image(path, np.vstack(rows))


def _grey(image: FloatArray) -> NDArray[np.uint8]:
    low, high = np.percentile(image, (1, 99))
    scaled = (image - low) / max(float(high - low), 1e-9)
    return np.asarray(np.rint(np.clip(scaled, 0, 1) * 255), dtype=np.uint8)
