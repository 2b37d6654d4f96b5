"""The same cells in two data sets are found whatever slides and places are named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import UserError
from plsctl.process.dataset.merge import merge_datasets
from plsctl.process.dataset.writer import DatasetWriter

CELLS = 24


def _cells(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Wide views of cells, (cell, 80, 80) in grey values, and their places in micrometres."""
    rng = np.random.default_rng(seed)
    views = []
    for noise in rng.normal(0, 1, (CELLS, 80, 80)):
        smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
        views.append(150 + 40 * smooth / smooth.std())
    return np.array(views), rng.uniform(0, 4000, (CELLS, 2))


def _write(path: Path, slide: str, views: np.ndarray, places_um: np.ndarray, seed: int = 0) -> Path:
    """As a scan gives them: 1 px aside, 20 % darker, noisy."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"slide": slide, "x_um": places_um[:, 0], "y_um": places_um[:, 1]})
    crops = np.empty((len(views), 3, 64, 64), np.uint8)
    for crop, view in zip(crops, views, strict=True):
        left, top = 8 + rng.integers(-1, 2, 2)
        part = view[top : top + 64, left : left + 64] * (0.8 if seed else 1.0)
        crop[:] = np.clip(part + rng.normal(0, 4, (3, 64, 64)), 0, 255)
    with DatasetWriter(
        path, [{"label": "brightfield"}], recipe="mine", pixel_um=0.293, crop_px=64
    ) as writer:
        writer.append(crops[:, None], {"20x": crops}, rows)
        writer.finish(["train"] * len(views))
    return path


def _moved(places_um: np.ndarray, turn_deg: float) -> np.ndarray:
    angle = np.deg2rad(turn_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    jitter = np.random.default_rng(1).normal(0, 0.4, places_um.shape)
    return places_um @ turn.T + (312.0, -55.0) + jitter


@pytest.mark.parametrize(
    ("slide", "turn_deg", "again", "how"),
    [
        ("S2", 0.0, 0, "are the same images"),
        ("S2", 0.8, 7, "look alike"),
        ("S1", 0.8, 7, "look alike"),
    ],
    ids=["renamed", "scanned again as another slide", "scanned again from another origin"],
)
def test_a_slide_enters_once(
    tmp_path: Path, slide: str, turn_deg: float, again: int, how: str
) -> None:
    views, places_um = _cells(1)
    first = _write(tmp_path / "a.zarr", "S1", views, places_um)
    others, elsewhere_um = _cells(2)
    some = np.concatenate([others, views[:8]])
    places = np.concatenate([elsewhere_um, _moved(places_um[:8], turn_deg)])
    second = _write(tmp_path / "b.zarr", slide, some, places, again)
    if not again:  # the very same crops
        second = _write(tmp_path / "c.zarr", slide, views, _moved(places_um, turn_deg))
    with pytest.raises(UserError, match=rf"cells of .* {how}.*\(slide {slide}\)"):
        merge_datasets([first, second], tmp_path / "both.zarr")
    assert not (tmp_path / "both.zarr").exists()


def test_other_cells_are_merged(tmp_path: Path) -> None:
    first = _write(tmp_path / "a.zarr", "S1", *_cells(1))
    second = _write(tmp_path / "b.zarr", "S2", *_cells(2), 7)
    assert len(merge_datasets([first, second], tmp_path / "both.zarr")) == 2 * CELLS
