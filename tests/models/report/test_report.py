"""A report shows what a folder holds, and says what it cannot show."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import DamagedData, UserError
from plsctl.acquire.leds.geometry import standard_array
from plsctl.acquire.plans.recipes import recipe
from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.records import FrameRecord, PassAttributes
from plsctl.acquire.store.writer import PassWriter
from plsctl.models.evaluation.evaluate import evaluate
from plsctl.models.report.report import kind_of, write_report
from plsctl.models.report.scores import run_verdict, score_sections
from plsctl.models.runs.config import config_from_options
from plsctl.models.runs.run import Run
from plsctl.models.staining.train import train
from plsctl.process.report.fields import field_layers
from plsctl.process.report.scan import mosaic

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
    found = mosaic(ScanFolder(scan).open_pass("stained"), width_px=256)
    assert found.image.shape == (96, 256, 3)
    purple = found.image[..., 1] < 100
    left, right = (np.argwhere(part).mean(axis=0) for part in (purple[:, :128], purple[:, 128:]))
    assert left == pytest.approx((50, 40), abs=1.5)
    assert right == pytest.approx((50, 70), abs=1.5)
    x, y = found.place(-SHAPE[1] / 2 * PIXEL_UM, 0.0)
    assert (x, y) == pytest.approx((0, 48))


def test_a_report_shows_the_result_first_and_then_what_it_was_made_from(
    scan: Path, dataset: Path, run: Path, tmp_path: Path
) -> None:
    plate = virtual_stain(tmp_path)
    paths = [scan, dataset, run, plate]
    text = write_report(tmp_path / "report.html", paths).read_text(encoding="utf-8")
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        "Scores", "Nuclei", "Virtual staining of single cells", "Training",
        "Whole fields, virtually stained", "From cells to samples", "Matched cells",
        "One cell under every LED", "The slide", "Exposures", "Finding white cells", "Provenance",
    ]  # fmt: skip
    assert "Safe to stain: no. x" in text
    assert "mean image of the training targets" in text
    origin = text[text.rindex("<h2>Provenance") :]
    for known in ("S1", "20x (NA 0.4)", "0.293 µm", "2 ms", "le8deg", "maenet", "seed", "unknown"):
        assert known in origin
    with pytest.raises(UserError, match="slide S1, whose scan is not among the folders"):
        write_report(tmp_path / "r.html", [run, plate])


def test_a_damaged_field_is_named_or_left_out(scan: Path, tmp_path: Path) -> None:
    plate = virtual_stain(tmp_path)
    files = [place / "A/2/0/0/c/0/0/0/0/0" for place in (scan / "stained.ome.zarr", plate)]
    for file in files:
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(DamagedData, match="of position A/2 is missing") as found:
            write_report(tmp_path / "r.html", [scan, plate])
        assert found.value.file == str(file)
        file.write_bytes(content)
    for file in files:
        os.truncate(file, 100)
    said: list[str] = []
    page = write_report(tmp_path / "r.html", [scan, plate], skip_damaged=True, notify=said.append)
    assert len(said) == 2 and str(files[0]) in said[0] and str(files[1]) in said[1]
    text = page.read_text(encoding="utf-8")
    assert "<h2>Damaged" in text and "stained.ome.zarr/A/2/0/0/c/0/0/0/0/0" in text


def virtual_stain(folder: Path) -> Path:
    """A plate as `plsctl stain` writes it for the scan."""
    black = [np.zeros((*SHAPE, 3), np.uint8)] * 2
    return write_pass(folder, "virtually-stained", "brightfield", black)


def test_the_result_is_a_picture_with_dividers_that_fits_any_window(
    scan: Path, dataset: Path, run: Path, tmp_path: Path, browser: Any
) -> None:
    scores = json.loads((run / "metrics.json").read_text())
    scores |= {"verdict": "better", "verdict_text": "Better by 0.1.", "baseline": "unstained"}
    scores["nuclei"] |= {"true": 3, "lost": 1, "invented": 0}
    judged = tmp_path / "run"
    shutil.copytree(run, judged)
    (judged / "metrics.json").write_text(json.dumps(scores))
    page = write_report(tmp_path / "report.html", [scan, dataset, judged, virtual_stain(tmp_path)])
    assert page.stat().st_size < 5_000_000
    for width_px in (1400, 600):
        browser.resize(width_px)
        browser.open(page.as_uri())
        assert browser.value("document.documentElement.scrollWidth") <= width_px
        least = (
            "Math.min(...[...document.querySelectorAll('.set img, .tiles img')].map(i => i.width))"
        )
        assert browser.value(least) >= 64
    # The picture and the verdict stand before everything else, and nothing was asked of a server.
    first = "document.querySelectorAll('.compare, .verdict, nav, h2')"
    order = browser.value(f"[...{first}].map(e => e.tagName)")
    assert order[:3] == ["FIGURE", "P", "P"] and order[3] == "NAV"
    assert browser.value("document.querySelector('.verdict').className") == "verdict good"
    assert browser.value("performance.getEntriesByType('resource').length") == 0
    shown = "[...document.querySelectorAll('.layer')].map(l => l.style.clipPath)"
    names = "[...document.querySelectorAll('.layer > span')].map(s => s.textContent)"
    assert browser.value(names) == ["unstained", "virtually stained", "really stained"]
    begun = browser.value(shown)
    box = browser.value(
        "(() => { const b = document.querySelector('.layers').getBoundingClientRect();"
        " return [b.left, b.top, b.width, b.height]; })()"
    )
    middle = box[1] + box[3] / 2
    browser.drag((box[0] + box[2] / 3, middle), (box[0] + box[2] / 10, middle))
    dragged = browser.value(shown)
    assert dragged != begun and "10%" in dragged[1]
    browser.press("ArrowRight")
    assert "12%" in browser.value(shown)[1]
    browser.value("document.querySelectorAll('.choices button')[3].click()")
    assert browser.value(shown)[2] == "inset(0px 0%)"  # the whole of the third
    browser.value("document.querySelector('.set a.view').click()")
    assert browser.value("document.querySelectorAll('figure.large').length") == 1
    browser.press("Escape")
    assert browser.value("document.querySelectorAll('figure.large').length") == 0


def test_only_a_run_that_is_better_looks_good() -> None:
    scores = {"verdict": "undecided", "verdict_text": "It may be better."}
    assert 'class="verdict warn"' in run_verdict(scores)
    assert 'class="verdict good"' in run_verdict(scores | {"verdict": "better"})
    assert run_verdict({"metrics": {}}) == ""


def test_the_real_stain_is_laid_onto_the_unstained_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    wide = np.full((420, 520, 3), 220, np.uint8)
    for _ in range(160):
        x, y = (int(rng.integers(0, side)) for side in (520, 420))
        cv2.circle(wide, (x, y), int(rng.integers(6, 14)), (150, 120, 150), 2)
    before, after = wide[20:400, 20:500], wide[12:392, 31:511]
    for name, image in (("unstained", before), ("stained", after)):
        write_pass(tmp_path, name, "brightfield", [image])
    (tmp_path / "slide.yaml").write_text("slide: S1\n")
    found = field_layers(ScanFolder(tmp_path), None)
    assert found is not None
    name, ((_, unstained), (_, stained)), um_per_px = found
    assert name == "A/1" and um_per_px == pytest.approx(PIXEL_UM)
    assert unstained.shape == stained.shape
    assert np.abs(unstained.astype(int) - stained).mean() < 3
    assert np.abs(before.astype(int) - after).mean() > 10


def test_kinds_are_told_apart(scan: Path, dataset: Path, run: Path, tmp_path: Path) -> None:
    plate = virtual_stain(tmp_path)
    kinds = ["scan", "dataset", "run", "stained"]
    assert [kind_of(path) for path in (scan, dataset, run, plate)] == kinds
    with pytest.raises(UserError, match="neither a scan, nor a data set, nor a run"):
        kind_of(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        kind_of(tmp_path / "nothing")


def test_damaged_scores_are_named(run: Path, tmp_path: Path) -> None:
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
