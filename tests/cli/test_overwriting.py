"""No command writes over what it reads, however the file is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from plsctl.cli import app as frame
from plsctl.process.image_files import write_image


def plsctl(*words: object) -> Any:
    return CliRunner().invoke(frame.app, [str(word) for word in words])


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, bytes]:
    """Files of every kind that commands read, and their content; the working folder is theirs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.zarr").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    (tmp_path / "linked.png").symlink_to(tmp_path / "a.png")
    os.link(tmp_path / "b.png", tmp_path / "hard.png")
    for name in ("leds.csv", "decisions.csv", "data.zarr/samples.csv", "data.zarr/zarr.json"):
        (tmp_path / name).write_text("sample,keep\n0,yes\n", encoding="utf-8")
    return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "words",
    [
        "focus-stack a.png b.png -o a.png",
        "focus-stack a.png b.png -o ../{here}/b.png",
        "focus-stack a.png b.png -o link/a.png",
        "focus-stack a.png b.png -o linked.png",
        "focus-stack a.png b.png -o hard.png",
        "focus-stack a.png b.png -o new.png --depth b.png",
        "focus-stack a.png b.png -o new.png --depth ./new.png",
        "calibrate levels leds.csv -o leds.csv --overwrite",
        "dataset table data.zarr -o data.zarr/samples.csv",
        "dataset table link/data.zarr -o data.zarr/zarr.json",
        "dataset split data.zarr -o data.zarr",
        "dataset merge data.zarr -o link/data.zarr",
        "review data.zarr --export data.zarr/samples.csv",
        "review data.zarr --decisions decisions.csv --export decisions.csv",
        "review data.zarr --html data.zarr/zarr.json",
        "synthetic-aperture data.zarr --geometry data.zarr/samples.csv",
        "ablate data.zarr -o data.zarr",
        "train fast --data data.zarr -o data.zarr",
        "report data.zarr -o data.zarr/zarr.json",
        "segment a.png b.png --masks .",
        "segment a.png b.png --masks link",
    ],
)
def test_inputs_stay(pictures: dict[Path, bytes], words: str, tmp_path: Path) -> None:
    result = plsctl(*words.replace("{here}", tmp_path.name).split())
    assert result.exit_code == 2, (words, result.stderr)
    assert "would be" in result.stderr or "no mask" in result.stderr, result.stderr
    assert {path: path.read_bytes() for path in pictures} == pictures
    assert not (tmp_path / "new.png").exists()
