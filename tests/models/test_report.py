"""A report shows what a folder holds, and says what it cannot show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import UserError
from plsctl.acquire.geometry import standard_array
from plsctl.acquire.recipes import recipe
from plsctl.acquire.store import FrameRecord, PassAttributes
from plsctl.acquire.store_writer import PassWriter
from plsctl.models.config import config_from_options
from plsctl.models.evaluation import evaluate
from plsctl.models.report import kind_of, write_report
from plsctl.models.report_run import stained_section
from plsctl.models.report_scores import score_sections
from plsctl.models.run import Run
from plsctl.models.training import train
from plsctl.process.report_scan import mosaic

PIXEL_UM = 0.293
SHAPE = (96, 128)


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A briefly trained and evaluated run."""
    out = tmp_path_factory.mktemp("runs") / "run"
    options = {
        "data": dataset, "out": out, "blocks": 1, "growth": 4, "width": 6, "batch": 8,
        "epochs": 2, "device": "cpu", "precision": "float32",
    }  # fmt: skip
    train(config_from_options("maenet", options))
    evaluate(Run.open(out))
    return out


def write_pass(scan: Path, name: str, recipe_name: str, images: list[np.ndarray[Any, Any]]) -> Path:
    """A pass of fields side by side, each given as its bright-field image."""
    array = standard_array()
    frames = tuple(
        FrameRecord(
            label=f.label, led=f.led, variant=f.variant, leds=(1,), exposure_ms=2.0, gain=1.0,
            brightness=1.0, bright_field=not f.variant,
            direction=None if f.led == "brightfield" else array.named(f.led).direction,
        )
        for f in recipe(recipe_name)
    )  # fmt: skip
    attributes = PassAttributes(
        slide="S1", patient=None, stain="s", pass_name=name, recipe=recipe_name, objective="20x",
        magnification=20, na=0.4, pixel_um=PIXEL_UM, camera_rotation_deg=0.0, bayer=None,
        bit_depth=8, black_level=0.0, full_scale=255, frames=frames, settings_hash="h",
    )  # fmt: skip
    writer = PassWriter(scan / f"{name}.ome.zarr", attributes)
    for column, image in enumerate(images):
        x_um = column * SHAPE[1] * PIXEL_UM
        position = writer.position(f"A/{column + 1}", (x_um, 0.0, 0.0))
        for index in range(len(frames)):
            position.write(index, image)
        place = {"x_um": x_um, "y_um": 0.0, "z_um": 0.0, "slide_x_um": x_um, "slide_y_um": 0.0}
        position.finish({"position": place, "frames": []})
    writer.finish()
    return writer.path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Two fields with a purple disc each, at known places."""
    folder = tmp_path / "S1"
    folder.mkdir()
    fields = []
    for column in range(2):
        image = np.full((*SHAPE, 3), (225, 222, 228), np.uint8)
        cv2.circle(image, (40 + 30 * column, 50), 14, (110, 40, 140), -1)
        fields.append(image)
    write_pass(folder, "unstained", "le8deg", [field // 2 for field in fields])
    write_pass(folder, "stained", "brightfield", fields)
    (folder / "slide.yaml").write_text("slide: S1\n")
    verdict = {"event": "verdict", "safe_to_stain": False, "problems": ["x"]}
    (folder / "scan.jsonl").write_text(json.dumps(verdict) + "\n")
    cells = dict.fromkeys(("pixel_x", "pixel_y", "width_px", "height_px", "area_px"), 20.0)
    places = {"cell": [0, 1], "position": ["A/1", "A/2"], "x_um": [-7.0, 40.0], "y_um": [0.6, 0.6]}
    pd.DataFrame(places).assign(**cells).to_csv(folder / "cells.csv", index=False)
    return folder


def test_fields_are_put_where_they_lie(scan: Path) -> None:
    from plsctl.acquire.store import ScanFolder

    found = mosaic(ScanFolder(scan).open_pass("stained"), width_px=256)
    assert found.image.shape == (96, 256, 3)
    purple = found.image[..., 1] < 100
    left, right = (np.argwhere(part).mean(axis=0) for part in (purple[:, :128], purple[:, 128:]))
    assert left == pytest.approx((50, 40), abs=1.5)
    assert right == pytest.approx((50, 70), abs=1.5)
    x, y = found.place(-SHAPE[1] / 2 * PIXEL_UM, 0.0)
    assert (x, y) == pytest.approx((0, 48))


def test_a_report_shows_scan_data_set_and_run(
    scan: Path, dataset: Path, run: Path, tmp_path: Path
) -> None:
    stained = write_pass(tmp_path, "virtual", "brightfield", [np.zeros((*SHAPE, 3), np.uint8)] * 2)
    place = write_report(
        tmp_path / "report.html", [scan, dataset, run], extra=[stained_section(scan, stained)]
    )
    text = place.read_text(encoding="utf-8")
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == [
        "The slide", "Exposures", "Finding white cells", "Matched cells",
        "One cell under every LED", "Splits and scores", "Training", "Scores",
        "Nuclei and types", "Virtual staining of single cells", "Whole fields, virtually stained",
    ]  # fmt: skip
    assert "safe to stain: no" in text
    assert "mean image of the training targets" in text
    assert not re.search(r"https?://|<script", text)


def test_kinds_are_told_apart(scan: Path, dataset: Path, run: Path, tmp_path: Path) -> None:
    assert [kind_of(path) for path in (scan, dataset, run)] == ["scan", "dataset", "run"]
    with pytest.raises(UserError, match="neither a scan, nor a data set, nor a run"):
        kind_of(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        kind_of(tmp_path / "nothing")


def test_damaged_scores_are_named(run: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "metrics.json").write_text("{")
    with pytest.raises(UserError, match="scores"):
        write_report(tmp_path / "r.html", [copy])
    assert not (tmp_path / "r.html").exists()


def test_expected_errors_are_shown_beside_measured_ones(tmp_path: Path) -> None:
    found = {
        "split": "test",
        "samples": 6,
        "curve": [{"predicted": 0.01, "measured": 0.02}, {"predicted": 0.04, "measured": 0.04}],
        "calibration_error_share": 0.2,
        "coverage": {"0.9": {"limit": 2.0, "mean": 0.85, "ci95": [0.8, 0.9]}},
    }
    (tmp_path / "uncertainty_test.json").write_text(json.dumps(found))
    (section,) = score_sections(tmp_path)
    assert section.title == "Expected errors"
    assert "20 % of the mean error" in section.note
    assert "85 % below the limit of 90 %" in section.note
