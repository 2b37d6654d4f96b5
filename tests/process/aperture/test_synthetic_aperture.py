"""Synthetic aperture: known samples through the optics model, a scanned pass, a real smear."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from plsctl.acquire.arrays import FloatArray
from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.geometry import standard_array
from plsctl.acquire.optics.field import FieldSpectrum
from plsctl.acquire.optics.imaging import Imaging, object_grid
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import FrameRecord, PassAttributes
from plsctl.acquire.store.writer import PassWriter
from plsctl.cli.app import app
from plsctl.process.aperture.field import TileSettings, reconstruct_field
from plsctl.process.aperture.files import read_stack
from plsctl.process.aperture.led_check import check_geometry
from plsctl.process.aperture.led_stack import LedStack, stack_from_pass
from plsctl.process.aperture.orientation_check import check_orientation, residual_note
from plsctl.process.aperture.reconstruction import ApertureSettings, reconstruct
from plsctl.process.aperture.samples import add_synthetic_aperture, decode
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.writer import DatasetWriter
from plsctl.process.image_files import read_image

WAVELENGTH_UM = 0.53
IMAGING = Imaging(0.1, 1.0, 1.845, (64, 64), (WAVELENGTH_UM,) * 3)
DEFOCUS_UM = 20.0


def directions(rings: int) -> NDArray[np.float64]:
    """A square array of LEDs 4 mm apart, 91 mm away."""
    place = 4.0 * np.arange(-rings, rings + 1)
    x, y = (part.ravel() for part in np.meshgrid(place, place))
    return np.stack([x, y], axis=1) / np.sqrt(x**2 + y**2 + 91.0**2)[:, None]


def sample(
    fine: tuple[int, int], corner: tuple[int, int], camera_px: float
) -> NDArray[np.complex64]:
    """Absorbing and phase-shifting spots on the object grid; independent of the camera's grid."""
    rng = np.random.default_rng(3)
    y, x = (np.arange(n) * camera_px + start for n, start in zip(fine, corner, strict=True))
    path = np.zeros(fine)
    loss = np.zeros(fine)
    for cy, cx in rng.uniform(-4, 68, (60, 2)):
        spot = np.exp(-((y[:, None] - cy) ** 2 + (x - cx) ** 2) / (2 * rng.uniform(0.6, 2.0) ** 2))
        path += rng.uniform(-0.8, 0.8) * spot
        loss += rng.uniform(0, 0.5) * spot
    return np.exp(1j * path - loss).astype(np.complex64)


def grains(
    fine: tuple[int, int], corner: tuple[int, int], camera_px: float
) -> NDArray[np.complex64]:
    """Sharp-edged discs of phase, some smaller than a camera pixel: light for the steepest LEDs."""
    rng = np.random.default_rng(4)
    y, x = (np.arange(n) * camera_px + start for n, start in zip(fine, corner, strict=True))
    path = np.zeros(fine)
    for cy, cx in rng.uniform(-4, 68, (150, 2)):
        radius = rng.uniform(0.8, 4)
        (top, bottom), (left, right) = (
            np.searchsorted(along, (centre - radius, centre + radius))
            for along, centre in ((y, cy), (x, cx))
        )
        near = np.hypot(y[top:bottom, None] - cy, x[left:right] - cx) < radius
        path[top:bottom, left:right] += rng.uniform(-0.8, 0.8) * near
    return np.exp(1j * path).astype(np.complex64)


def seen_through(
    imaging: Imaging,
    s: NDArray[np.float64],
    lit: NDArray[np.float64],
    defocus_um: float = 0.0,
    made: Callable[..., NDArray[np.complex64]] = sample,
) -> LedStack:
    """Images of a known sample under LEDs at `lit` that a table has at `s`."""
    grid = object_grid(imaging, float(np.hypot(*lit.T).max()) + 0.02)
    per_point = grid.camera_shape[0] / grid.shape[0]
    transmission = made(grid.shape, grid.corner_px[::-1], per_point)
    model = FieldSpectrum(np.stack([transmission] * 3), grid, imaging, threads=1)
    images = np.stack([model.image((x, y), 1, defocus_um) for x, y in lit])
    return LedStack(np.sqrt(images), s, WAVELENGTH_UM, imaging.pixel_um, imaging.na, defocus_um)


@pytest.fixture(scope="module")
def known() -> tuple[LedStack, NDArray[np.complex64]]:
    """81 images of a known sample, out of focus, and its truth at 4 points a camera pixel."""
    s = directions(4)
    stack = seen_through(IMAGING, s, s, DEFOCUS_UM)
    truth = sample((256, 256), (0, 0), 0.25)
    return stack, truth


def low_pass(field: NDArray[np.complexfloating], pixel_um: float, na: float) -> FloatArray:
    """The field without what a synthetic aperture of that NA cannot carry, cut to the middle."""
    fy, fx = (np.fft.fftfreq(n, pixel_um) for n in field.shape)
    inside = np.hypot(fy[:, None], fx) <= na / WAVELENGTH_UM
    passed = np.fft.ifft2(np.fft.fft2(field) * inside)
    rim = len(field) // 16
    return np.asarray(passed[rim:-rim, rim:-rim])


def agreement(found: NDArray[np.complexfloating], truth: NDArray[np.complexfloating]) -> float:
    """Modulus of the normalised correlation of two fields without their means."""
    a, b = found - found.mean(), truth - truth.mean()
    return float(abs((a * np.conj(b)).sum()) / np.sqrt((abs(a) ** 2).sum() * (abs(b) ** 2).sum()))


def test_amplitude_and_phase_of_a_known_sample_come_back(
    known: tuple[LedStack, NDArray[np.complex64]],
) -> None:
    stack, truth = known
    result = reconstruct(stack, ApertureSettings(upsampling=4, guard_px=8))
    assert result.field.shape == truth.shape
    assert result.total_residual(stack.lit_from(result.directions)) < 4e-4
    # 0.1 of the lens and 0.2 of the LEDs along the axes.
    found, wanted = (low_pass(field, result.pixel_um, 0.3) for field in (result.field, truth))
    assert agreement(found, wanted) > 0.97
    # The central image alone, at the same points, does not come near.
    single = np.kron(stack.amplitude[40], np.ones((4, 4)))
    assert agreement(low_pass(single, result.pixel_um, 0.3), wanted) < 0.7


def test_an_unknown_defocus_is_found_in_the_pupil(
    known: tuple[LedStack, NDArray[np.complex64]],
) -> None:
    stack, _ = known
    blind = LedStack(
        stack.amplitude, stack.directions, WAVELENGTH_UM, stack.pixel_um, stack.na, defocus_um=0.0
    )
    result = reconstruct(blind, ApertureSettings(guard_px=8))
    half_y, half_x = (n // 2 for n in result.pupil.shape)
    fy = np.arange(-half_y, half_y + 1)[:, None] * result.pupil_step[0]
    fx = np.arange(-half_x, half_x + 1) * result.pupil_step[1]
    squared = fy**2 + fx**2
    inside = squared < (0.9 * 0.1 / WAVELENGTH_UM) ** 2
    # Paraxial: exp(i 2 pi z (1/wavelength - wavelength f^2 / 2)); the turn with f^2 tells z.
    trials = np.arange(-40.0, 41.0, 1.0)
    match = [
        abs((result.pupil * np.exp(1j * np.pi * WAVELENGTH_UM * z * squared))[inside].sum())
        for z in trials
    ]
    assert abs(trials[int(np.argmax(match))] - DEFOCUS_UM) <= 4


def test_unequal_leds_are_found_and_do_no_harm(
    known: tuple[LedStack, NDArray[np.complex64]],
) -> None:
    stack, _ = known
    factor = np.random.default_rng(1).uniform(0.8, 1.2, len(stack)).astype(np.float32)
    uneven = LedStack(
        stack.amplitude * factor[:, None, None], stack.directions, WAVELENGTH_UM, stack.pixel_um,
        stack.na, DEFOCUS_UM,
    )  # fmt: skip
    settings = ApertureSettings(guard_px=8, rounds=12)
    result = reconstruct(uneven, settings)
    uneven = uneven.lit_from(result.directions)
    fixed = reconstruct(uneven, settings.model_copy(update={"recover_brightness": False}))
    bright = stack.steepness < 0.09
    relative = result.brightness[bright] * factor[bright]
    np.testing.assert_allclose(relative / relative.mean(), 1, atol=0.03)
    assert result.total_residual(uneven) < 0.5 * fixed.total_residual(uneven)


def test_leds_left_out_are_predicted_on_a_real_smear(data_folder: Path) -> None:
    stack = read_stack(data_folder / "fpm_bloodsmear", "red").part((slice(0, 48), slice(0, 48)))
    left_out = np.argsort(stack.steepness, kind="stable")[4::9]
    used = stack.take(np.setdiff1d(np.arange(len(stack)), left_out))
    settings = ApertureSettings(rounds=6)
    result = reconstruct(used, settings)
    assert result.total_residual(used.lit_from(result.directions)) < 0.006
    assert result.total_residual(stack.take(left_out)) < 0.009
    mirrored = used.lit_from(-used.directions)
    wrong = reconstruct(mirrored, settings)
    assert wrong.total_residual(mirrored) > 2 * result.total_residual(used)


ARMS = Imaging(0.4, 1.0, 0.293, (64, 64), (WAVELENGTH_UM,) * 3)


def test_arms_of_leds_put_a_sample_together() -> None:
    array = standard_array().directions
    stack = seen_through(ARMS, array, array, made=grains)
    result = reconstruct(stack)
    truth = grains((512, 512), (0, 0), 0.125)
    central = np.kron(stack.amplitude[0], np.ones((2, 2)))
    # Beyond 0.8 arms leave gaps in the spectrum; a single image reaches 0.4.
    wanted = low_pass(truth, ARMS.pixel_um / 8, 0.8)[::4, ::4]
    found, single = (low_pass(field, ARMS.pixel_um / 2, 0.8) for field in (result.field, central))
    assert agreement(found, wanted) > 0.97
    assert agreement(single, wanted) < 0.7


def test_moved_and_exchanged_leds_are_found_and_no_others() -> None:
    array = standard_array()
    lit = array.directions.copy()
    one, other, moved = (array.names.index(name) for name in ("arm1-36", "arm3-36", "arm2-18"))
    lit[[one, other]] = lit[[other, one]]
    lit[moved] += (0.035, 0.02)
    stack = seen_through(ARMS, array.directions, lit, made=grains)
    stack = replace(stack, names=array.names)
    places = {
        place.name: place
        for place in check_geometry(
            stack, ApertureSettings(rounds=6, guard_px=8), tolerance_deg=1.0
        )
    }
    assert {name for name, place in places.items() if place.verdict == "moved"} == {
        "arm1-36", "arm3-36", "arm2-18",
    }  # fmt: skip
    assert places["arm1-36"].like == "arm3-36" and places["arm3-36"].like == "arm1-36"
    np.testing.assert_allclose(places["arm2-18"].found, lit[moved], atol=0.01)


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        ((1, 0, 0, 1), ""),
        ((-1, 0, 0, 1), "mirrored"),
        ((1, 0, 0, -1), "mirrored"),
        ((0, 1, 1, 0), "transposed (x and y exchanged)"),
        ((0, -1, -1, 0), "transposed (x and y exchanged)"),
        ((0, -1, 1, 0), "turned by 90 degrees"),
        ((-1, 0, 0, -1), "turned by 180 degrees"),  # out of focus, it shows
    ],
)
def test_a_mirrored_transposed_or_turned_table_is_told(
    known: tuple[LedStack, NDArray[np.complex64]], turn: tuple[int, int, int, int], told: str
) -> None:
    stack, _ = known
    s = directions(4)
    stacks = [stack, seen_through(IMAGING, s, s, DEFOCUS_UM, grains)]
    wrong = [one.lit_from(one.directions @ np.reshape(turn, (2, 2)).T) for one in stacks]
    fit = check_orientation(wrong)
    assert fit.best == told and not fit.unknown
    assert bool(fit.sentence) is bool(told)
    whole = wrong[0].lit_from(wrong[0].directions)
    whole = replace(whole, amplitude=np.concatenate([one.amplitude for one in wrong], axis=1))
    assert check_orientation([whole]).best == told  # one field with room for two parts


@pytest.mark.parametrize(
    ("fields", "leds", "why"),
    [
        (1, 81, "room for one part of 64 px only"),
        (2, 5, "5 single LEDs inside the aperture are too few, 8"),
        (0, 81, "0 single LEDs"),
    ],
)
@pytest.mark.parametrize("turn", [(1, 0, 0, 1), (-1, 0, 0, 1)])
def test_what_cannot_judge_a_table_says_so(
    known: tuple[LedStack, NDArray[np.complex64]],
    fields: int,
    leds: int,
    why: str,
    turn: tuple[int, int, int, int],
) -> None:
    stack = known[0].take(np.argsort(known[0].steepness)[:leds])
    some = [stack.lit_from(stack.directions @ np.reshape(turn, (2, 2)).T)] * fields
    fit = check_orientation(some)
    assert not fit.best and "cannot be judged" in fit.sentence and why in fit.sentence


def test_parts_that_contradict_each_other_judge_no_table(
    known: tuple[LedStack, NDArray[np.complex64]],
) -> None:
    stack, _ = known
    s = directions(4)
    other = seen_through(IMAGING, s, s * [-1, 1], DEFOCUS_UM, grains)
    for pair in ([stack, other], [other, stack]):
        fit = check_orientation(pair)
        assert not fit.best and "contradict" in fit.sentence


@pytest.mark.parametrize(
    ("residual", "side_px", "said"),
    [
        (0.0027, 128, ""),
        (0.0123, 128, "0.0123 is too large"),
        (0.0123, 96, "0.0123 is too large"),
        (0.0099, 64, ""),
        (0.0115, 64, "0.0115 does not tell"),
        (0.0123, 95, "does not tell whether the LED table is right"),
        (0.05, 64, "0.0500 is too large"),
    ],
)
def test_a_residual_that_is_too_large_is_told(residual: float, side_px: int, said: str) -> None:
    note = residual_note(residual, side_px)
    assert said in note and bool(note) is bool(said)


def test_tiles_join_to_what_one_piece_gives(
    known: tuple[LedStack, NDArray[np.complex64]],
) -> None:
    stack, _ = known
    settings = ApertureSettings(guard_px=8, rounds=10)
    whole = reconstruct(stack, settings)
    tiles = reconstruct_field(stack, settings, TileSettings(side_px=48, overlap_px=16))
    assert len(tiles.residuals) == 4 and tiles.residual < 0.01
    assert tiles.field.shape == whole.field.shape and tiles.pixel_um == whole.pixel_um
    found, wanted = (low_pass(field, whole.pixel_um, 0.25) for field in (tiles.field, whole.field))
    assert agreement(found, wanted) > 0.95


def write_folder(folder: Path, stack: LedStack, optics: dict[str, object]) -> None:
    folder.mkdir(exist_ok=True)
    entry = {"file": "green.npz", "wavelength_m": 0.53e-6, "defocus_m": DEFOCUS_UM * 1e-6}
    general: dict[str, object] = {
        "na": 0.1, "pixel_size_sample_m": 1.845e-6, "stack_variable": "images[y,x,led]",
        "stack_is": "intensity", "channels": {"green": entry},
    }  # fmt: skip
    (folder / "optics.json").write_text(json.dumps(general | optics))
    np.savez(folder / "green.npz", images=np.moveaxis(stack.amplitude**2, 0, -1))
    table = pd.DataFrame(-stack.directions, columns=["u_sin", "v_sin"])
    table.assign(channel="green", index0=table.index)[::-1].to_csv(folder / "leds.csv")


def test_a_stack_folder_becomes_an_image_and_a_picture(
    known: tuple[LedStack, NDArray[np.complex64]], tmp_path: Path
) -> None:
    stack, _ = known
    few = stack.take(np.flatnonzero(stack.steepness < 0.14))
    folder, out, picture = tmp_path / "smear", tmp_path / "a.ome.tiff", tmp_path / "a.png"
    write_folder(folder, few, {})
    read = read_stack(folder, "green")
    np.testing.assert_allclose(read.amplitude, few.amplitude, rtol=1e-5)
    np.testing.assert_allclose(read.directions, few.directions)
    assert (read.defocus_um, read.na) == (pytest.approx(DEFOCUS_UM), 0.1)

    def run(*options: str) -> Result:
        return CliRunner().invoke(app, ["synthetic-aperture", str(folder), *options])

    made = run("-o", str(out), "--picture", str(picture), "--rounds", "3", "--json")
    assert made.exit_code == 0, made.output
    result = json.loads(made.stdout)
    assert result["leds"] == len(few) and result["residual"]["green"] < 0.02
    assert not any("LED table mirrored" in note for note in result["notes"])
    with tifffile.TiffFile(out) as file:
        planes = file.asarray()
        assert file.ome_metadata is not None and "green phase" in file.ome_metadata
    assert list(planes.shape) == [2, *result["shape"]]
    assert planes[0].mean() == pytest.approx(1, abs=0.1) and abs(planes[1]).max() <= np.pi
    assert read_image(picture).shape == (result["shape"][0], 2 * result["shape"][1], 3)
    for options, said in (
        ((), "nothing is asked for"),
        (("-o", "a.png"), "no ending"),
        (("-o", str(out), "--colour", "red"), "no colour 'red'"),
        (("-o", str(out), "--window", "0,0,99,99"), "does not lie in the image"),
        (("--geometry", str(tmp_path / "no" / "a.csv")), "does not exist"),
    ):
        failed = run(*options)
        assert failed.exit_code == 2 and said in " ".join(failed.output.split())
    for optics, said in (
        ({"stack_variable": "images[y,x]"}, "names no stack"),
        ({"stack_variable": "pictures[y,x,led]"}, "pictures"),
        ({"channels": {}}, "no colour"),
        ({"na": "wide"}, "cannot be used"),
    ):
        write_folder(folder, few, optics)
        with pytest.raises(UserError, match=said):
            read_stack(folder, "green")
    write_folder(folder, few, {})
    (folder / "leds.csv").write_text("channel,index0,u_sin,v_sin\ngreen,0,0,0\n")
    with pytest.raises(UserError, match="names 1 LEDs"):
        read_stack(folder, "green")


def test_samples_of_a_data_set_get_two_more_images(
    known: tuple[LedStack, NDArray[np.complex64]], tmp_path: Path
) -> None:
    stack, truth = known
    stack = stack.take(np.flatnonzero(stack.steepness < 0.11))
    light = stack.amplitude**2
    exposures = 100 / light.mean(axis=(1, 2))
    counts = np.clip(4 + light * exposures[:, None, None], 0, 255)
    images = np.repeat(np.rint(counts).astype(np.uint8)[:, None], 3, axis=1)
    frames = [
        {"label": f"led-{n}", "led": f"led-{n}", "leds": [n], "direction": list(direction),
         "exposure_ms": float(exposure), "gain": 1.0, "brightness": 1.0}
        for n, (direction, exposure) in enumerate(
            zip(stack.directions.tolist(), exposures, strict=True)
        )
    ]  # fmt: skip
    rows = pd.DataFrame({"slide": "001", "type": ["", "monocyte"]})
    with DatasetWriter(
        tmp_path / "a.zarr", frames, recipe="mine", pixel_um=1.845, crop_px=64,
        targets=("20x", "100x"), attributes={"black_level": 4.0, "full_scale": 255},
    ) as writer:  # fmt: skip
        target = images[:2, :, :64, :64]
        writer.append(np.stack([images] * 2), {"20x": target}, rows)
        writer.finish(pd.Series(["train", "test"]))
    data = Dataset.open(tmp_path / "a.zarr")
    green = (WAVELENGTH_UM,) * 3
    made = add_synthetic_aperture(data, str(tmp_path / "b.zarr"), na=0.1, wavelengths_um=green)
    assert made.labels[-2:] == ("synthetic-real", "synthetic-imaginary")
    pd.testing.assert_frame_equal(made.table, data.table)
    np.testing.assert_array_equal(made.read_target("20x", [0, 1]), data.read_target("20x", [0, 1]))
    stacks = made.read_images([0, 1], range(len(made.frames)))
    np.testing.assert_array_equal(stacks[:, :-2], data.read_input([0, 1]))
    field = decode(stacks[1, -2:], 255)[1]
    found, wanted = (low_pass(image, 1.845, 0.14)[8:-8, 8:-8] for image in (field, truth[::4, ::4]))
    assert agreement(found, wanted) > 0.9
    with pytest.raises(UserError, match="already"):
        add_synthetic_aperture(made, str(tmp_path / "c.zarr"))


def frame(led: str, variant: str, exposure_ms: float, x: float) -> FrameRecord:
    return FrameRecord(
        label=f"{led}:{variant}" if variant else led, led=led, variant=variant, leds=(1,),
        exposure_ms=exposure_ms, gain=1.0, brightness=1.0, bright_field=x < 0.4,
        direction=None if led == "brightfield" else (x, 0.0),
    )  # fmt: skip


def write_pass(path: Path, frames: tuple[FrameRecord, ...], values: list[list[int]]) -> PassReader:
    attributes = PassAttributes(
        slide="S1", patient=None, stain="s", pass_name="unstained", recipe="full", objective="20x",
        magnification=20, na=0.4, pixel_um=0.293, camera_rotation_deg=0.0, bayer=None, bit_depth=8,
        black_level=4.0, full_scale=255, frames=frames, settings_hash="h",
    )  # fmt: skip
    writer = PassWriter(path, attributes)
    position = writer.position("A/1", (0.0, 0.0, 5.0))
    for index, row in enumerate(values):
        pixels = np.array(row, dtype=np.uint8)
        position.write(index, np.tile(np.repeat(pixels, 32)[None, :, None], (64, 1, 3)))
    place = dict.fromkeys(("x_um", "y_um", "z_um", "slide_x_um", "slide_y_um"), 0.0)
    position.finish({"position": place})
    writer.finish()
    return PassReader(path)


def test_a_pass_gives_one_amplitude_for_each_led(tmp_path: Path) -> None:
    frames = (
        frame("brightfield", "", 1.0, 0.0),
        frame("plate-1", "", 4.0, 0.14),
        frame("arm1-24", "high", 8.0, 0.41),
        frame("arm1-24", "low", 2.0, 0.41),
    )
    values = [[200, 200], [104, 54], [44, 255], [14, 204]]
    reader = write_pass(tmp_path / "unstained.ome.zarr", frames, values)
    stack = stack_from_pass(reader, "A/1", 1, WAVELENGTH_UM, (slice(0, 8), slice(31, 33)))
    assert stack.amplitude.shape == (2, 8, 2)
    np.testing.assert_allclose(stack.directions, [[0.14, 0], [0.41, 0]])
    # The saturated pixel of the long exposure comes from the short one.
    np.testing.assert_allclose(stack.amplitude[:, 0] ** 2, [[25, 12.5], [5, 100]], rtol=1e-5)
    only_pattern = write_pass(tmp_path / "stained.ome.zarr", frames[:1], values[:1])
    with pytest.raises(UserError, match="single LEDs"):
        stack_from_pass(only_pattern, "A/1", 1, WAVELENGTH_UM)


def test_a_stack_that_cannot_be_put_together_is_refused() -> None:
    dark = LedStack(
        np.ones((2, 32, 32), np.float32), np.array([[0.2, 0], [0, 0.2]]), 0.53, 1.845, 0.1
    )
    with pytest.raises(UserError, match="aperture"):
        reconstruct(dark)
    with pytest.raises(UserError, match="upsampling"):
        reconstruct(
            LedStack(dark.amplitude, np.array([[0, 0], [0, 0.2]]), 0.53, 1.845, 0.1),
            ApertureSettings(upsampling=1),
        )
    with pytest.raises(UserError, match="cannot sample"):
        LedStack(dark.amplitude, dark.directions, 0.53, 5.0, 0.1)
