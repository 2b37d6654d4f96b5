"""Stacks from plain files: what is missing in them is not black."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr

from plsctl.acquire.errors import DamagedData, UserError
from plsctl.models.prediction.stacks import read_stack

LABELS = ("brightfield", "plate-1")
FRAMES = tuple(SimpleNamespace(label=label) for label in LABELS)
RUN: Any = SimpleNamespace(labels=LABELS, frames=FRAMES, recipe="mine")


@pytest.mark.parametrize(
    ("zarr_format", "shards"),
    [(2, None), (3, None), (3, (1, 64, 64, 3))],
    ids=["zarr 2", "zarr 3", "shards"],
)
def test_a_stack_that_lacks_a_file_is_refused(
    tmp_path: Path, zarr_format: Any, shards: Any
) -> None:
    stack = np.random.default_rng(0).integers(1, 255, (2, 64, 64, 3), dtype=np.uint8)
    path = tmp_path / "stack.zarr"
    zarr.create_array(
        path, data=stack, chunks=(1, 32, 32, 3), shards=shards, zarr_format=zarr_format
    )
    assert np.array_equal(read_stack(path, RUN), stack)
    files = [p for p in path.rglob("*") if p.is_file() and p.name[0] not in ".z"]
    files[-1].unlink()
    with pytest.raises(DamagedData, match="a chunk of the stack is missing") as found:
        read_stack(path, RUN)
    assert found.value.file == str(files[-1])


def test_a_stack_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stack.npy"
    np.save(path, np.ones((2, 64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(UserError, match="the stack cannot be read"):
        read_stack(path, RUN)


def test_nobody_is_told_to_load_objects_unsafely(tmp_path: Path) -> None:
    path = tmp_path / "stack.npy"
    np.save(path, np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="holds Python objects and no array of numbers"):
        read_stack(path, RUN)
