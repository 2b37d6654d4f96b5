"""Recipes of a user's own, applied to data sets: subsets by file, and all images by default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.geometry import standard_array
from plsctl.acquire.plans.exposures import Exposure, ExposureTable
from plsctl.acquire.plans.plan import frame_records
from plsctl.acquire.plans.recipes import load_recipe
from plsctl.process.dataset.merge import merge_datasets
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.writer import DatasetWriter

OWN = """\
name: own
frames:
  - {pattern: brightfield}
  - {each: {angle_deg: [0, 20]}}
  - {group: arm1, label: one-arm}
"""


def make(folder: Path, name: str, text: str = OWN, x_um: float = 0.0) -> Dataset:
    file = folder / f"{name}.yaml"
    file.write_text(text)
    recipe, array = load_recipe(file), standard_array()
    table = ExposureTable({frame: Exposure(2.0) for frame in recipe.images(array)})
    frames = frame_records(recipe, table, array, 0.4)
    options = {"recipe": recipe.name, "pixel_um": 0.293, "crop_px": 16}
    with DatasetWriter(folder / f"{name}.zarr", frames, **options) as writer:  # type: ignore[arg-type]
        rows = pd.DataFrame({"slide": ["S"], "x_um": [x_um], "y_um": [0.0], "split": ["train"]})
        stack = np.arange(len(frames), dtype=np.uint8)[None, :, None, None, None]
        whole = np.broadcast_to(stack, (1, len(frames), 3, 16, 16))
        writer.append(whole, {"20x": np.zeros((1, 3, 16, 16), np.uint8)}, rows)
        writer.finish(pd.Series(["train"]))
    file.unlink()
    return Dataset.open(folder / f"{name}.zarr")


def test_a_data_set_is_read_by_its_own_recipe_and_by_parts_of_it(tmp_path: Path) -> None:
    data = make(tmp_path, "one")
    assert data.channels_for(None) == data.channels_for("own") == list(range(15))
    assert [data.labels[index] for index in data.channels_for("le8deg")] == [
        "brightfield", "plate-1", "plate-2", "plate-3",
    ]  # fmt: skip
    part = tmp_path / "part.yaml"
    part.write_text(
        "name: part\nframes:\n  - {pattern: brightfield}\n  - {group: arm1, label: one-arm}\n"
        "  - {each: {angle_deg: [15, 20], azimuth_deg: [0, 180]}}\n"
    )
    chosen = data.channels_for(part)
    assert [data.labels[index] for index in chosen] == [
        "brightfield", "one-arm", "arm1-18", "arm2-18", "arm5-18",
    ]  # fmt: skip
    assert data.read_input([0], str(part))[0, :, 0, 0, 0].tolist() == chosen
    with pytest.raises(UserError, match=r"Known: full.* The data set itself holds 'own'"):
        data.channels_for("ring")
    part.write_text(part.read_text().replace("15, 20", "50, 60"))
    with pytest.raises(UserError, match=r"part.yaml, line 5: .*8.0 to 18.0 deg"):
        data.channels_for(part)


def test_data_sets_of_own_recipes_merge_where_the_light_is_the_same(tmp_path: Path) -> None:
    one, two = make(tmp_path, "one"), make(tmp_path, "two", x_um=500.0)
    merged = merge_datasets([one.path, two.path], tmp_path / "merged.zarr")
    assert (merged.recipe, merged.labels) == ("own", one.labels)
    other = make(tmp_path, "three", OWN.replace("arm1", "arm2"), x_um=900.0)
    with pytest.raises(UserError, match="its image one-arm was lit by other LEDs"):
        merge_datasets([one.path, other.path], tmp_path / "wrong.zarr")
    part = tmp_path / "part.yaml"
    part.write_text("name: few\nframes:\n  - {pattern: brightfield}\n  - {leds: [arm3-10]}\n")
    few = merge_datasets([one.path, other.path], tmp_path / "few.zarr", recipe=str(part))
    assert (few.recipe, few.labels) == ("few", ("brightfield", "arm3-10"))
