"""Images under single LEDs of a data set, brought to the same light."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import UserError
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.records import DatasetFrame
from plsctl.process.dataset.single_leds import SingleLeds, frames_by_led
from plsctl.process.dataset.writer import DatasetWriter

BLACK = 4.0


def frame(label: str, light: tuple[float, float, float], **more: Any) -> dict[str, Any]:
    led, _, variant = label.partition(":")
    exposure_ms, gain, brightness = light
    known = {"exposure_ms": exposure_ms, "gain": gain, "brightness": brightness}
    return {"label": label, "led": led, "variant": variant} | known | more


FRAMES = [
    frame("brightfield", (0.2, 1.0, 1.0), leds=(0, 1)),
    frame("b:high", (8.0, 2.0, 1.0), leds=(1,), direction=(0.5, -0.1)),
    frame("a", (2.0, 1.0, 0.5), leds=(0,), direction=(0.1, 0.2)),
    frame("b:low", (2.0, 1.0, 1.0), leds=(1,), direction=(0.5, -0.1)),
    frame("a-green", (2.0, 1.0, 0.5), leds=(0,), direction=(0.1, 0.2), colour="green"),
]


def written(path: Path, frames: list[dict[str, Any]], stacks: np.ndarray) -> Dataset:
    rows = pd.DataFrame({"slide": "S1", "position": "A/1", "x_um": 40.0 * np.arange(len(stacks))})
    with DatasetWriter(
        path, frames, recipe="own", pixel_um=0.293, crop_px=4,
        attributes={"black_level": BLACK, "full_scale": 255},
    ) as writer:  # fmt: skip
        writer.append(stacks, {"20x": stacks[:, 0].copy()}, rows.assign(y_um=0.0))
        writer.finish()
    return Dataset.open(path)


def test_light_is_taken_out_and_saturated_pixels_come_from_the_shorter_exposure(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 30, (6, 2, 3, 4, 4))  # counts above black for 1 ms
    truth[:, 0] *= 4
    light = [2 * 0.5, 16.0, 2.0]
    shown = [truth[:, 0] * light[0], truth[:, 1] * light[1], truth[:, 1] * light[2]]
    a, high, low = (np.clip(np.round(image + BLACK), 0, 255) for image in shown)
    other = rng.integers(0, 256, a.shape)
    stacks = np.stack([other, high, a, low, other], axis=1).astype(np.uint8)
    assert (high == 255).any() and (high < 200).any()
    data = written(tmp_path / "a.zarr", FRAMES, stacks)
    leds = SingleLeds.of(data)
    assert leds.names == ("b", "a") and len(leds) == 2
    assert leds.directions.tolist() == [[0.5, -0.1], [0.1, 0.2]]
    found = leds.read(data, [4, 1]) * (255 - BLACK)
    assert found.shape == (2, 2, 3, 4, 4)
    assert np.abs(found[:, 1] - truth[[4, 1], 0]).max() <= 0.5 / light[0] + 1e-4
    cut_off = truth[[4, 1], 1] * 16 + BLACK > 0.97 * 255
    error = np.abs(found[:, 0] - truth[[4, 1], 1])
    assert error[cut_off].max() <= 0.5 / 2 + 1e-4
    assert error[~cut_off].max() <= 0.5 / 16 + 0.5 / 2 * (found[:, 0][~cut_off] * 16 > 242).max()


def test_an_led_under_another_name_is_the_same_led() -> None:
    again = frame("learned-1", (1.0, 1.0, 0.5), leds=(0,), direction=(0.1, 0.2))
    records = [DatasetFrame.of(each).record() for each in [*FRAMES, again]]
    assert frames_by_led(records) == {"b": [3, 1], "a": [5, 2]}
    unnumbered = [record.model_copy(update={"leds": ()}) for record in records]
    assert frames_by_led(unnumbered) == {"b": [3, 1], "a": [2], "learned-1": [5]}


def test_data_without_single_leds_or_exposures_are_refused(tmp_path: Path) -> None:
    stacks = np.zeros((2, 2, 3, 4, 4), np.uint8)
    data = written(tmp_path / "a.zarr", [FRAMES[0], FRAMES[4]], stacks)
    with pytest.raises(UserError, match="no images under single LEDs"):
        SingleLeds.of(data)
    unknown = {name: value for name, value in FRAMES[2].items() if name != "gain"}
    data = written(tmp_path / "b.zarr", [FRAMES[0], unknown], stacks)
    with pytest.raises(UserError, match="how the image 'a' was exposed"):
        SingleLeds.of(data)
