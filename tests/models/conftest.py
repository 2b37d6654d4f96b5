"""A small synthetic data set: blobs whose colour is told by the oblique images only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.plans.recipes import recipe
from plsctl.process.dataset.writer import DatasetWriter

SIDE_PX = 24


def synthetic_samples(count: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Stacks (n, 4, 3, y, x) of the recipe le8deg and targets (n, 3, y, x), uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] - SIDE_PX / 2
    centre = rng.uniform(-3, 3, (count, 2, 1, 1))
    radius = rng.uniform(4, 8, (count, 1, 1))
    inside = (np.hypot(y - centre[:, 0], x - centre[:, 1]) < radius)[:, None]
    kind = rng.uniform(0, 1, (count, 1, 1, 1))
    bright = np.repeat(200 - 30.0 * inside, 3, axis=1)
    oblique = [np.repeat(60 + 120.0 * inside * k, 3, axis=1) for k in (kind, 1 - kind, kind)]
    stack = np.stack([bright, *oblique], axis=1) + rng.normal(0, 3, (count, 4, 3, SIDE_PX, SIDE_PX))
    stain = np.concatenate([120 * inside * kind, 150 * inside, 90 * inside * (1 - kind)], axis=1)
    return np.clip(stack, 0, 255).astype(np.uint8), (220 - stain).astype(np.uint8)


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Path]:
    """Writes a data set of blobs; the options are those of `DatasetWriter`."""

    def make(
        path: Path, count: int = 60, *, seed: int = 1, slide: str = "S1", **options: Any
    ) -> Path:
        frames = [
            {"label": f.label, "led": f.led, "exposure_ms": 2.0, "gain": 1.0, "brightness": 1.0}
            for f in recipe("le8deg")
        ]
        stacks, targets = synthetic_samples(count, seed)
        rows = pd.DataFrame(
            {
                "slide": slide,
                "position": "A/1",
                "x_um": 40.0 * np.arange(count),
                "y_um": 0.0,
                "split": (["train"] * 8 + ["validation", "test"]) * (count // 10),
            }
        )
        margin = options.get("margin_px", 0)
        inner = slice(margin, SIDE_PX - margin)
        crop_px = SIDE_PX - 2 * margin
        with DatasetWriter(
            path, frames, recipe="le8deg", pixel_um=0.293, crop_px=crop_px, **options
        ) as writer:
            writer.append(stacks, {"20x": targets[..., inner, inner].copy()}, rows)
            return writer.finish()

    return make


@pytest.fixture(scope="session")
def dataset(make_dataset: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 60 blobs, 48 of them for training."""
    return make_dataset(tmp_path_factory.mktemp("data") / "blobs.zarr")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings and evaluations draw no pictures: those take most of the time of small ones."""
    monkeypatch.setattr("plsctl.models.training.curves.draw_curves", lambda *_: None)
    monkeypatch.setattr("plsctl.models.evaluation.evaluate.draw_gallery", lambda *_: None)
