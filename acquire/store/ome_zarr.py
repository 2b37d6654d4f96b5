"""OME-Zarr 0.5: the metadata of plates, wells and images, and zarr v3 arrays on disk."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorstore
from numpy.typing import DTypeLike

from plsctl.acquire.errors import POSITIONS, DamagedData, UserError
from plsctl.acquire.files.locations import kvstore
from plsctl.acquire.files.whole_files import write_whole

AXES = ("led", "c", "z", "y", "x")
LEVELS = 3
"""Resolution levels of an image: full, half and a quarter."""

INNER_CHUNK_PX = 240
"""Inner chunks of about this size read back cells fastest (docs/storage.md)."""

Metadata = dict[str, Any]


def write_group(folder: Path, attributes: Metadata) -> None:
    """Write a zarr v3 group's metadata; the file is replaced as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    )


def read_group(folder: Path) -> Metadata:
    """The attributes of a zarr v3 group; `UserError` when it is none."""
    try:
        document = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
        attributes = document["attributes"]
    except ValueError:
        raise UserError(
            "this description is damaged: it is cut off or overwritten.",
            file=folder / "zarr.json",
            hint="Take this one file from a copy; the images beside it are not touched by that.",
        ) from None
    except (OSError, KeyError, TypeError):
        raise UserError(
            "this is not a zarr group that plsctl wrote.",
            file=folder,
            hint="Name the folder of a scan, or a .zarr folder inside it.",
        ) from None
    return dict(attributes)


def write_json(path: Path, document: Metadata) -> None:
    """Replace a JSON file: readers see the old one or the new one."""
    write_whole(path, json.dumps(document, indent=1), kept=POSITIONS)


def row_name(row: int) -> str:
    """Plate rows are lettered A, B, ... Z, AA, AB, ..."""
    letters = ""
    row += 1
    while row:
        row, rest = divmod(row - 1, 26)
        letters = string.ascii_uppercase[rest] + letters
    return letters


def row_number(name: str) -> int:
    """The inverse of `row_name`."""
    number = 0
    for letter in name:
        number = number * 26 + string.ascii_uppercase.index(letter) + 1
    return number - 1


def plate_metadata(name: str, wells: Sequence[str]) -> Metadata:
    """OME metadata of a plate that holds the named wells ("A/1", ...)."""
    places = [(row, int(column)) for row, column in (well.split("/") for well in wells)]
    rows = sorted({row for row, _ in places}, key=row_number)
    columns = sorted({column for _, column in places})
    listed = [
        {
            "path": f"{row}/{column}",
            "rowIndex": rows.index(row),
            "columnIndex": columns.index(column),
        }
        for row, column in places
    ]
    plate = {
        "name": name,
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": str(column)} for column in columns],
        "wells": listed,
        "field_count": 1,
    }
    return {"version": "0.5", "plate": plate}


WELL_METADATA: Metadata = {"version": "0.5", "well": {"images": [{"path": "0"}]}}


def image_metadata(
    name: str,
    pixel_um: float,
    corner_um: tuple[float, float, float],
    channels: int,
    full_scale: int,
    bayer: str | None = None,
) -> Metadata:
    """OME metadata of one image with axes (led, c, z, y, x).

    `corner_um` is the stage position (x, y, z) of the first pixel. Lower levels average blocks
    of pixels, so their first pixel's centre lies half a block further in.
    """
    datasets = []
    for level in range(LEVELS):
        factor = 2**level
        shift = pixel_um * (factor - 1) / 2
        scale = [1.0, 1.0, 1.0, pixel_um * factor, pixel_um * factor]
        place = [0.0, 0.0, corner_um[2], corner_um[1] + shift, corner_um[0] + shift]
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale},
                    {"type": "translation", "translation": place},
                ],
            }
        )
    axes = [
        {"name": "led", "type": "illumination"},
        {"name": "c", "type": "channel"},
        {"name": "z", "type": "space", "unit": "micrometer"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    window = {"min": 0, "max": full_scale, "start": 0, "end": full_scale}
    colours = ["FF0000", "00FF00", "0000FF"] if channels == 3 else ["FFFFFF"]
    grey = "grey" if bayer is None else f"raw {bayer} mosaic"
    labels = ["red", "green", "blue"] if channels == 3 else [grey]
    omero = {
        "channels": [
            {"label": label, "color": colour, "window": window, "active": True}
            for label, colour in zip(labels, colours, strict=True)
        ]
    }
    multiscales = [{"name": name, "axes": axes, "datasets": datasets, "type": "mean"}]
    return {"version": "0.5", "multiscales": multiscales, "omero": omero}


def inner_chunk(length: int) -> int:
    """A chunk length near 240 that divides `length`, or 240 where none does."""
    near = [size for size in range(160, 321) if length % size == 0]
    return min(near, key=lambda size: abs(size - INNER_CHUNK_PX)) if near else min(length, 240)


def create_array(
    folder: Path,
    shape: tuple[int, int, int, int, int],
    dtype: DTypeLike,
    frames_per_shard: int = 1,
) -> tensorstore.TensorStore:
    """A zarr v3 array (led, c, z, y, x): shards of whole frames, inner chunks near 240 x 240."""
    _, channels, depth, height, width = shape
    tile = (inner_chunk(height), inner_chunk(width))
    chunk = [1, channels, depth, *tile]
    # A shard holds whole chunks; where none divides the image the last ones reach beyond it.
    covered = (-(-length // size) * size for length, size in zip(shape[3:], tile, strict=True))
    shard = [frames_per_shard, channels, depth, *covered]
    blosc = {
        "cname": "lz4",
        "clevel": 5,
        "shuffle": "bitshuffle",
        "typesize": np.dtype(dtype).itemsize,
    }
    codecs = [
        {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": chunk,
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "blosc", "configuration": blosc},
                    {"name": "crc32c"},
                ],
            },
        }
    ]
    spec = {
        "driver": "zarr3",
        "kvstore": kvstore(folder),
        # Black is written as well: what is not there is then missing.
        "store_data_equal_to_fill_value": True,
        "metadata": {
            "shape": list(shape),
            "data_type": np.dtype(dtype).name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
            "codecs": codecs,
            "dimension_names": list(AXES),
        },
    }
    return tensorstore.open(spec, create=True, delete_existing=True).result()


class StoredImages(NamedTuple):
    """A zarr array (led, c, z, y, x) for reading.

    `checked` tells whether its chunks carry checksums, `frames` how many share a file.
    """

    array: tensorstore.TensorStore
    checked: bool
    frames: int


@lru_cache(maxsize=1)
def one_core() -> tensorstore.Context:
    """Reading and decoding by one thread: where many processes read, they are the parallelism."""
    limit = {"limit": 1}
    return tensorstore.Context({"data_copy_concurrency": limit, "file_io_concurrency": limit})


def open_array(folder: Path, context: tensorstore.Context | None = None) -> StoredImages:
    """A zarr v3 array for reading; `DamagedData` when it is none.

    Of arrays whose chunks carry checksums, missing ones are an error when they are read.
    """
    spec: Metadata = {"driver": "zarr3", "kvstore": kvstore(folder)}
    try:
        array = tensorstore.open(spec, open=True, read=True, context=context).result()
        checked = carries_checksums(array.codec)
        if checked:
            spec["fill_missing_data_reads"] = False
            array = tensorstore.open(spec, open=True, read=True, context=context).result()
        file = array.chunk_layout.write_chunk.shape or (1,)
        return StoredImages(array, checked, int(file[0] or 1))
    except (ValueError, OSError) as error:
        raise DamagedData(
            "the image",
            f"cannot be opened ({damage_in_words(error)})",
            file=folder,
            hint="Check the scan: plsctl scan SLIDE.yaml --verify.",
        ) from None


def damage_in_words(error: Exception) -> str:
    """What tensorstore found wrong with a file, in few words."""
    text = (str(error).splitlines() or [""])[0]
    if "Digest mismatch" in text:
        return "a checksum differs"
    if "byte range" in text or "has size of" in text:
        return "it is cut off or empty"
    if "zarr.json" in text and "does not exist" in text:
        return "its zarr.json is missing"
    if "zarr.json" in text or "JSON" in text or "object member" in text:
        return "its zarr.json is damaged"
    return text.rpartition(": ")[2][:100]


def carries_checksums(codec: tensorstore.CodecSpec | None) -> bool:
    """Whether the chunks of a zarr v3 array hold a checksum (CRC-32C) of their bytes."""
    codecs = [] if codec is None else codec.to_json()["codecs"]
    inner = codecs[0].get("configuration", {}).get("codecs", []) if codecs else []
    return any(entry["name"] == "crc32c" for entry in [*codecs, *inner])
