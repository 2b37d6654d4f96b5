"""`plsctl segment`: what it says of images that cannot be read or judged, beside others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from typer.testing import CliRunner

from plsctl.cli import app as frame
from plsctl.process.image_files import read_image, write_image


def segment(*words: object) -> tuple[Any, dict[str, Any]]:
    result = CliRunner().invoke(frame.app, ["segment", *map(str, words), "--fields", "--json"])
    return result, json.loads(result.stdout)


@pytest.fixture
def field() -> NDArray[np.uint8]:
    """Red cells and two lymphocytes."""
    image = np.full((240, 320, 3), (232, 230, 228), np.uint8)
    for y in range(13, 240, 52):
        for x in range(13, 320, 52):
            cv2.circle(image, (x, y), 13, (226, 176, 180), -1)
    for x, y in ((92, 92), (196, 144)):
        cv2.circle(image, (x, y), 28, (232, 230, 228), -1)
        cv2.circle(image, (x, y), 16, (200, 190, 226), -1)
        cv2.circle(image, (x, y), 13, (112, 60, 150), -1)
    noise = np.random.default_rng(0).normal(0, 2, image.shape)
    return np.asarray(np.clip(cv2.GaussianBlur(image, (0, 0), 1.2) + noise, 0, 255), np.uint8)


def test_one_bad_file_costs_that_file(tmp_path: Path, field: NDArray[np.uint8]) -> None:
    write_image(tmp_path / "good.png", field)
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:9000])
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    names = [tmp_path / name for name in ("cut.png", "missing.png", "text.png", "good.png")]
    result, found = segment(*names, "--masks", tmp_path / "masks")
    assert result.exit_code == 2
    assert [Path(item["image"]).name for item in found["failed"]] == [
        "cut.png", "missing.png", "text.png",
    ]  # fmt: skip
    assert [len(item["cells"]) for item in found["images"]] == [2]
    assert found["error"]["kind"] == "user"
    assert all(str(name) in result.stderr for name in names)
    assert read_image(tmp_path / "masks" / "good.png").max() == 255


def test_none_is_not_said_of_what_cannot_be_judged(
    tmp_path: Path, field: NDArray[np.uint8]
) -> None:
    write_image(tmp_path / "grey.png", field[..., 1])
    result, found = segment(tmp_path / "grey.png")
    assert result.exit_code == 2
    assert "cannot judge: it has no colours" in result.stderr
    assert "0 white cells" not in result.stderr
    assert found["images"][0]["cannot_judge"].startswith("it has no colours")


def test_every_page_is_looked_at(tmp_path: Path, field: NDArray[np.uint8]) -> None:
    glass = np.random.default_rng(0).normal((232, 230, 228), 2, field.shape).astype(np.uint8)
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([glass, field]), photometric="rgb")
    result, found = segment(tmp_path / "pages.tif", "--masks", tmp_path / "masks")
    assert result.exit_code == 0, result.stderr
    assert [(item["image"], len(item["cells"])) for item in found["images"]] == [
        (f"{tmp_path / 'pages.tif'}, page 1", 0),
        (f"{tmp_path / 'pages.tif'}, page 2", 2),
    ]
    assert read_image(tmp_path / "masks" / "pages_page2.png").max() == 255
