"""A real smear under single LEDs: trained on its top half, nuclei counted in its bottom half."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tensorstore as ts
from typer.testing import CliRunner

from plsctl.cli.app import app

BENCHMARKS = Path(__file__).parents[3] / "benchmarks" / "models"
LEDS = 5


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("real_stack")
    sys.path.remove(str(BENCHMARKS))


def test_spots_beside_listed_nuclei(bench: ModuleType) -> None:
    image = np.full((80, 120, 3), 225, np.uint8)
    rows, columns = np.mgrid[:80, :120]
    for x, y in ((20, 30), (60, 40), (100, 60)):
        image[np.hypot(rows - y, columns - x) < 5] = (30, 30, 90)
    image[np.hypot(rows - 15, columns - 90) < 5] = (200, 120, 150)  # a red cell
    nuclei = np.array([[22.0, 30.0], [60.0, 41.0], [10.0, 70.0]])
    spots = bench.dark_spots(image, pixel_um=0.5)
    found = bench.count(spots, 0.4, nuclei, pixel_um=0.5)
    assert (found.right, found.wrong, found.listed) == (2, 1, 3)
    assert found.f1 == pytest.approx(2 / 3)
    assert bench.count(spots, 5.0, nuclei, pixel_um=0.5).right == 0


@pytest.mark.usefixtures("undrawn")
def test_nuclei_of_a_real_smear_from_few_leds(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "PLSCTL_DATA" not in os.environ:
        pytest.skip("PLSCTL_DATA is not set: no real single-LED images")
    smear = bench.read_smear(Path(os.environ["PLSCTL_DATA"]) / "fpm_bloodsmear")
    assert [len(nuclei) for nuclei in smear.nuclei] == [12, 14]
    # The sum of the bright-field LEDs as the target: the synthetic aperture takes too long here.
    upper = bench.light(smear, smear.bright_leds(), lower=False)
    monkeypatch.setattr(bench, "CROP", 32)
    monkeypatch.setattr(bench, "STEP", 32)
    bench.write_dataset(smear, upper, LEDS, tmp_path / "data.zarr")
    run, out = tmp_path / "run", tmp_path / "out.ome.zarr"
    train = [
        "train", "maenet", "--data", tmp_path / "data.zarr", "--out", run, "--epochs", 8,
        "--blocks", 1, "--width", 8, "--batch", 4, "--learning-rate", 4e-3, "--augment", "mirrors",
        "--schedule", "cosine", "--threads", 1, "--precision", "float32", "--device", "cpu",
    ]  # fmt: skip
    np.save(tmp_path / "stack.npy", bench.single_images(smear, LEDS, lower=True))
    stain = ["stain", run, tmp_path / "stack.npy", "-o", out, "--precision", "float32"]
    for command in (train, stain):
        result = CliRunner().invoke(app, [str(word) for word in command])
        assert result.exit_code == 0, result.output
    store = {"driver": "file", "path": str(out / "0")}
    image = np.squeeze(ts.open({"driver": "zarr3", "kvstore": store}).result().read().result())
    predicted = np.moveaxis(image, 0, -1)

    def f1(below: np.ndarray, above: np.ndarray) -> float:
        pixel_um = smear.stacks[0].pixel_um / bench.UP
        limit = bench.best_limit(bench.dark_spots(above, pixel_um), smear.nuclei[0], pixel_um)
        spots = bench.dark_spots(below, pixel_um)
        return float(bench.count(spots, limit, smear.nuclei[1], pixel_um).f1)

    one = bench.single_images(smear, 1, lower=True)[0]
    one_above = bench.single_images(smear, 1, lower=False)[0]
    assert f1(one, one_above) < 0.4
    assert f1(predicted, upper) > f1(one, one_above) + 0.3
