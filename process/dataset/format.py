"""The format of a data set on disk: array layout, attributes, and how a folder is recognised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import tensorstore as ts

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import kvstore
from plsctl.process.dataset.records import DatasetAttributes, parse_attributes

FORMAT = "plsctl-dataset"
VERSION = 1
AXES = ("sample", "image", "channel", "y", "x")
TABLE_NAME = "samples.csv"
TEXT_COLUMNS = (
    "slide", "patient", "stain", "position", "flags", "excluded", "type", "targets", "split",
    "left_out_of", "keep", "frame_shift_px_of", "frame_exchange_of", "frame_misfit_of",
    "frame_light_of",
)  # fmt: skip

LAST_COLUMN = "targets"
"""The last column of a row that a writer is given; labels and splits follow it."""

Compression = Literal["lz4", "none"]


def array_spec(path: Path, cache_bytes: int = 16_000_000) -> dict[str, object]:
    """How tensorstore opens one array of the group."""
    return {
        "driver": "zarr3",
        "kvstore": kvstore(path),
        # Room for the shard indices, so that random reads do not fetch them again each time.
        "context": {"cache_pool": {"total_bytes_limit": cache_bytes}},
        "recheck_cached_data": "open",
        # Zeros are written as well: what is not there is then missing, and an error.
        "store_data_equal_to_fill_value": True,
        "fill_missing_data_reads": False,
    }


def create_array(
    path: Path,
    sample_shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    shard: int,
    compression: Compression,
) -> ts.TensorStore:
    """A new, empty array that grows along its first axis, the samples."""
    codecs: list[dict[str, object]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if compression == "lz4":
        blosc = {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "typesize": dtype.itemsize}
        codecs.append({"name": "blosc", "configuration": blosc})
    codecs.append({"name": "crc32c"})
    sharding = {
        "name": "sharding_indexed",
        "configuration": {"chunk_shape": [1, *sample_shape], "codecs": codecs},
    }
    metadata = {
        "shape": [0, *sample_shape],
        "data_type": dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [shard, *sample_shape]},
        },
        "codecs": [sharding],
        "fill_value": 0,
        "dimension_names": ["sample", *AXES[len(AXES) - len(sample_shape) :]],
    }
    spec = array_spec(path, cache_bytes=0) | {"metadata": metadata}
    return ts.open(spec, create=True, delete_existing=True).result()


def open_array(path: Path, samples: int) -> ts.TensorStore:
    """An array for writing, cut down or grown to so many samples."""
    store = ts.open(array_spec(path, cache_bytes=0), read=True, write=True).result()
    return store.resize(exclusive_max=[samples, *store.shape[1:]]).result()


def carries_checksums(path: Path) -> bool:
    """Whether the samples of an array carry checksums, as far as its metadata can be read."""
    try:
        metadata = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        inner = metadata["codecs"][0]["configuration"]["codecs"]
        return any(codec["name"] == "crc32c" for codec in inner)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return True  # the array cannot be read then, and that is an error of its own


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a data set of any version, finished or not."""
    try:
        group = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
        return bool(group["attributes"]["plsctl"]["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def replaced_folder(folder: Path) -> Path:
    """The folder of a data set while another one takes its name."""
    return folder.with_name(folder.name + ".replaced")


def read_attributes(folder: Path) -> DatasetAttributes:
    """The `plsctl` attributes of a finished data set; UserError where it is none."""
    part = folder.with_name(folder.name + ".part")
    exists = (folder / "zarr.json").exists() or folder.exists()
    replaced = replaced_folder(folder)
    if not exists and is_dataset(replaced):
        raise UserError(
            f"the data set {folder} was being replaced when plsctl was killed.",
            hint=f"Rename {replaced.name} to {folder.name} and repeat the command.",
        )
    if folder.name.endswith(".part") or (not exists and part.exists()):
        raise UserError(
            f"the data set {folder} was not finished.", hint="Run `plsctl build-dataset` again."
        )
    if not exists:
        raise UserError(f"there is no data set at {folder}.", hint="Check the path.")
    if not is_dataset(folder):
        raise UserError(
            f"{folder} is not a plsctl data set.", hint="Make one with `plsctl build-dataset`."
        )
    group = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    attributes = group["attributes"]["plsctl"]
    if attributes.get("version") != VERSION:
        raise UserError(
            f"the data set {folder} has version {attributes.get('version')}, this plsctl reads "
            f"version {VERSION}.",
            hint="Build it again, or use the plsctl that wrote it.",
        )
    if not attributes.get("complete") or not (folder / TABLE_NAME).exists():
        raise UserError(
            f"the data set {folder} is incomplete.", hint="Run `plsctl build-dataset` again."
        )
    return parse_attributes(attributes, folder / "zarr.json")
