"""Mirrored and turned stacks are those of a mirrored and turned sample."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from plsctl.acquire.coordinates import CameraOrientation, rotate
from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.geometry import standard_array
from plsctl.acquire.optics.field import FieldSpectrum
from plsctl.acquire.optics.imaging import Imaging, ObjectGrid, object_grid
from plsctl.acquire.plans.recipes import recipe
from plsctl.models.data.augmentation import LightAugmentation, map_images, map_stack
from plsctl.models.data.symmetry import Symmetry, find_symmetries, lights_of
from plsctl.models.runs.config import config_from_options
from plsctl.models.runs.run import Run
from plsctl.models.staining.train import train
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.records import DatasetFrame
from plsctl.sim.smear.settings import SmearSettings
from plsctl.sim.smear.smear import Layers, Smear
from plsctl.sim.smear.view import View

ARRAY = standard_array()
BRIGHT = tuple(led.led for led in ARRAY.within(0.4))
SIDE = 48
IMAGING = Imaging(
    na=0.4, refractive_index=1.0, pixel_um=0.293, shape=(SIDE, SIDE),
    wavelengths_um=(0.630, 0.530, 0.460),
)  # fmt: skip


def frames(name: str = "full") -> list[dict[str, Any]]:
    found = []
    for frame in recipe(name):
        pattern = frame.led == "brightfield"
        led = None if pattern else ARRAY.named(frame.led)
        found.append(
            {
                "label": frame.label,
                "variant": frame.variant,
                "leds": list(BRIGHT) if led is None else [led.led],
                "direction": None if led is None else list(led.direction),
            }
        )
    return found


def records(found: list[dict[str, Any]]) -> list[DatasetFrame]:
    return [DatasetFrame.of(frame) for frame in found]


def symmetries(name: str, **changes: Any) -> tuple[Symmetry, ...]:
    options = {"turns": False, "tolerance_deg": 0.1, "most_masked": 0.0} | changes
    return find_symmetries(lights_of(records(frames(name)), records(frames())), **options)


def test_the_43_leds_have_one_exact_mirror_and_no_turn() -> None:
    (mirror,) = symmetries("full", turns=True)
    assert (mirror.name, mirror.masked) == ("mirror", ()) and mirror.error_deg < 0.01
    labels = [frame["label"] for frame in frames()]
    pairs = {labels[i]: labels[source] for i, source in enumerate(mirror.sources)}
    # x changes sign: azimuth 90 stays, 210 and 330 change places, arms 2 and 5, 3 and 4 too.
    assert pairs["brightfield"] == "brightfield" and pairs["plate-1"] == "plate-1"
    assert (pairs["plate-2"], pairs["arm2-24:low"]) == ("plate-3", "arm5-24:low")
    assert pairs["arm4-57:high"] == "arm3-57:high"


def test_turns_of_the_arms_need_a_tolerance_or_masked_plates() -> None:
    masked = symmetries("full-nohe", turns=True, most_masked=0.1, tolerance_deg=1.5)
    turns = {s.angle_deg for s in masked if not s.mirrored}
    assert turns == {72, 144, 216, 288}
    labels = [frame["label"] for frame in frames("full-nohe")]
    turn = next(s for s in masked if s.name == "turn 72")
    assert [labels[i] for i in turn.masked] == ["plate-1", "plate-2", "plate-3"]
    near = symmetries("full-nohe", turns=True, tolerance_deg=3.5)
    assert len(near) == 5 and {s.mirrored for s in near[:1]} == {True}
    assert all(not s.masked for s in near)


def test_a_square_array_has_every_mirror_and_quarter_turn() -> None:
    square = [
        {"label": f"{x}{y}", "variant": "", "leds": [3 * y + x], "direction": [x / 10, y / 10]}
        for x, y in itertools.product((-1, 0, 1), repeat=2)
    ]
    found = find_symmetries(
        lights_of(records(square), records(square)), turns=True, tolerance_deg=0.01, most_masked=0
    )
    assert len(found) == 7 and all(s.keeps_pixels for s in found)


def test_a_turned_camera_turns_the_directions() -> None:
    lights = lights_of(records(frames("full-nohe")), records(frames()), CameraOrientation(0.7))
    assert find_symmetries(lights, turns=False, tolerance_deg=0.5, most_masked=0) == ()
    (mirror,) = find_symmetries(lights, turns=False, tolerance_deg=1.5, most_masked=0)
    assert mirror.error_deg == pytest.approx(1.4 * np.sin(np.radians(57)), abs=0.03)


def test_unknown_directions_are_said() -> None:
    with pytest.raises(UserError, match="does not say from where the light of 'a' came"):
        lights_of(records([{"label": "a"}]), [])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0.0, 90.0, 180.0, 270.0, 30.0])
def test_images_are_mapped_as_points_are(angle: float, mirrored: bool) -> None:
    symmetry = Symmetry(angle, mirrored, (0,), 0.0)
    y, x = np.mgrid[:41, :41] - 20.0
    place = np.array([9.0, 4.0])
    spot = torch.from_numpy(np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / 8))[None, None]
    mapped = map_images(spot, symmetry)[0, 0].numpy()
    centre = np.array([(x * mapped).sum(), (y * mapped).sum()]) / mapped.sum()
    np.testing.assert_allclose(centre, symmetry.matrix @ place, atol=0.05)


# The simulated slide itself, mirrored or turned, without noise.


def _grid() -> ObjectGrid:
    return object_grid(IMAGING, max(np.hypot(*led.direction) for led in ARRAY.leds))


def _layers(turn_deg: float) -> Layers:
    """Layers of a smear whose content is turned by an angle about the image's middle."""
    grid = _grid()
    rows, columns = grid.coordinates_um(IMAGING.shape)
    dx, dy = rotate(float(columns[0]), float(rows[0]), -turn_deg)
    view = View(11_000 + dx, 9_000 + dy, grid.grid_um, -turn_deg, grid.shape)
    return Smear(SmearSettings(white_cells_per_mm2=400)).layers(view, stained=False)


def _stack(layers: Layers, name: str) -> NDArray[np.float32]:
    """Images (image, y, x, 3) of a recipe; each at its own scale, as a network sees them."""
    field = FieldSpectrum.from_layers(layers, _grid(), IMAGING, threads=1)
    made = list(field.images([led.direction for led in ARRAY.leds], 2.0))
    stack = np.stack([sum(made[n] for n in frame["leds"]) for frame in frames(name)])
    scaled: NDArray[np.float32] = stack / stack.std(axis=(1, 2), keepdims=True)
    return scaled


def _tensor(stack: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(stack, 3, 1).copy()).flatten(0, 1)[None]


def _mirrored(layers: Layers) -> Layers:
    grid = _grid()
    x = grid.coordinates_um(IMAGING.shape)[1]
    turned = (np.rint(-2 * x[0] / grid.grid_um).astype(int) - np.arange(len(x))) % len(x)
    return Layers(
        layers.thickness_um[:, turned],
        layers.index_excess_um[:, turned],
        layers.absorbance[..., turned],
    )


def test_the_stack_of_a_mirrored_slide_is_the_permuted_stack() -> None:
    layers = _layers(0)
    stack, wanted = _stack(layers, "full-nohe"), _stack(_mirrored(layers), "full-nohe")
    (mirror,) = symmetries("full-nohe")
    found = map_stack(_tensor(stack), mirror)
    difference = (found - _tensor(wanted)).abs()
    assert float(difference.mean()) < 1e-3 and float(difference.max()) < 0.02
    # Mirrored images without the exchange are wrong by a good part of their contrast.
    naive = map_images(_tensor(stack), mirror)
    assert float((naive - _tensor(wanted)).abs().mean()) > 0.1


def test_the_stack_of_a_turned_slide_is_the_permuted_turned_stack() -> None:
    stack, wanted = _stack(_layers(0), "full-nohe"), _stack(_layers(72), "full-nohe")
    found = next(
        s
        for s in symmetries("full-nohe", turns=True, most_masked=0.1, tolerance_deg=1.5)
        if s.name == "turn 72"
    )
    lit = [i for i in range(len(stack)) if i not in found.masked]
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    disc = torch.from_numpy(np.hypot(x, y) < SIDE / 2 - 4)

    def error(images: torch.Tensor) -> float:
        difference = (images - _tensor(wanted)).abs().unflatten(1, (-1, 3))
        return float(difference[0, lit][..., disc].mean())

    exchanged = error(map_stack(_tensor(stack), found))
    naive = error(map_images(_tensor(stack), found))
    assert exchanged < 0.25 * naive  # what is left is interpolation


def test_each_symmetry_is_drawn_and_masks_are_zero() -> None:
    augmentation = LightAugmentation([Symmetry(30, False, (0, -1), 0.0)])
    drawn = augmentation.draw(40, torch.Generator().manual_seed(0))
    stacks, targets, valid = augmentation(
        torch.ones(40, 6, 16, 16), torch.ones(40, 3, 16, 16), drawn
    )
    turned = stacks[:, 3:].abs().amax(dim=(1, 2, 3)) == 0
    assert 10 < int(turned.sum()) < 30
    assert bool(valid[~turned].all()) and not bool(valid[turned][:, :, 0, 0].any())
    assert bool(valid[turned][:, :, 8, 8].all())
    torch.testing.assert_close(targets, torch.ones_like(targets))


@pytest.mark.usefixtures("undrawn")
def test_training_with_mirrors_resumes_and_records_them(
    make_dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset(tmp_path / "blobs.zarr")
    known = {frame["label"]: frame for frame in frames()}
    opened = Dataset.open

    def with_directions(path: Path) -> Dataset:
        dataset = opened(path)
        dataset.frames = tuple(
            DatasetFrame.of(frame.model_dump() | known[frame.label]) for frame in dataset.frames
        )
        return dataset

    options = {
        "data": data, "blocks": 1, "growth": 8, "width": 8, "device": "cpu",
        "precision": "float32", "augment": "mirrors",
    }  # fmt: skip
    first = config_from_options("maenet", {**options, "out": tmp_path / "run"})
    with pytest.raises(UserError, match="does not say from where"):
        train(first)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(Dataset, "open", with_directions)
    # The light of `brightfield` is known only where all its LEDs were lit alone.
    for frame in known.values():
        if frame["label"] == "brightfield":
            frame["leds"] = [0, 1, 2]
    whole = train(first.model_copy(update={"epochs": 2}))
    pieces = first.model_copy(update={"out": tmp_path / "pieces", "epochs": 1})
    train(pieces)
    pieced = train(pieces.model_copy(update={"epochs": 2}))
    assert pieced.metrics == pytest.approx(whole.metrics, rel=1e-5)
    assert Run.open(tmp_path / "run").metadata.augmentation == (
        {"name": "mirror", "error_deg": 0.0, "masked": []},
    )
    plain = {**options, "out": tmp_path / "plain", "augment": "none", "epochs": 2}
    assert train(config_from_options("maenet", plain)).metrics != pytest.approx(whole.metrics)
