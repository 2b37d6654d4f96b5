"""Synthetic aperture: known samples through the optics model, a scanned pass, a real smear."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.imaging import FloatArray, Imaging, object_grid
from plsctl.acquire.optics import FieldSpectrum
from plsctl.acquire.store import FrameRecord, PassAttributes, PassReader
from plsctl.acquire.store_writer import PassWriter
from plsctl.process.led_stack import LedStack, stack_from_pass
from plsctl.process.synthetic_aperture import ApertureSettings, reconstruct

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


@pytest.fixture(scope="module")
def known() -> tuple[LedStack, NDArray[np.complex64]]:
    """121 images of a known sample, out of focus, and its truth at 4 points a camera pixel."""
    s = directions(5)
    grid = object_grid(IMAGING, float(np.hypot(*s.T).max()))
    per_point = grid.camera_shape[0] / grid.shape[0]
    transmission = sample(grid.shape, grid.corner_px[::-1], per_point)
    model = FieldSpectrum(np.stack([transmission] * 3), grid, IMAGING)
    images = np.stack([model.image((x, y), 1, DEFOCUS_UM) for x, y in s])
    stack = LedStack(np.sqrt(images), s, WAVELENGTH_UM, IMAGING.pixel_um, IMAGING.na, DEFOCUS_UM)
    truth = sample((256, 256), (0, 0), 0.25)
    return stack, truth


def low_pass(field: NDArray[np.complexfloating], pixel_um: float, na: float) -> FloatArray:
    """The field without what a synthetic aperture of that NA cannot carry, cut to the middle."""
    fy, fx = (np.fft.fftfreq(n, pixel_um) for n in field.shape)
    inside = np.hypot(fy[:, None], fx) <= na / WAVELENGTH_UM
    passed = np.fft.ifft2(np.fft.fft2(field) * inside)
    return np.asarray(passed[24:-24, 24:-24])


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
    assert result.total_residual(stack) < 4e-4
    # 0.1 of the lens and 0.2 of the LEDs along the axes.
    found, wanted = (low_pass(field, result.pixel_um, 0.3) for field in (result.field, truth))
    assert agreement(found, wanted) > 0.97
    # The central image alone, at the same points, does not come near.
    single = np.kron(stack.amplitude[60], np.ones((4, 4)))
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
    settings = ApertureSettings(guard_px=8)
    result = reconstruct(uneven, settings)
    fixed = reconstruct(uneven, settings.model_copy(update={"recover_brightness": False}))
    bright = stack.steepness < 0.09
    relative = result.brightness[bright] * factor[bright]
    np.testing.assert_allclose(relative / relative.mean(), 1, atol=0.03)
    assert result.total_residual(uneven) < 0.5 * fixed.total_residual(uneven)


def test_leds_left_out_are_predicted_on_a_real_smear(data_folder: Path) -> None:
    folder = data_folder / "fpm_bloodsmear"
    entry = json.loads((folder / "optics.json").read_text())["channels"]["red"]
    with (folder / "leds.csv").open() as stream:
        sines = [
            (-float(row["u_sin"]), -float(row["v_sin"]))
            for row in csv.DictReader(stream)
            if row["channel"] == "red"
        ]
    amplitude = np.moveaxis(np.load(folder / "bloodsmear_red.npz")["imlow_HDR"], -1, 0)
    wavelength, defocus = entry["wavelength_m"] * 1e6, entry["defocus_m"] * 1e6
    stack = LedStack(
        np.ascontiguousarray(amplitude, np.float32),
        np.array(sines),
        wavelength,
        1.845,
        0.1,
        defocus,
    )
    left_out = np.argsort(stack.steepness, kind="stable")[4::9]
    used = stack.take(np.setdiff1d(np.arange(len(stack)), left_out))
    result = reconstruct(used, ApertureSettings(rounds=10))
    assert result.total_residual(used) < 0.006
    assert result.total_residual(stack.take(left_out)) < 0.009
    mirrored = LedStack(used.amplitude, -used.directions, wavelength, 1.845, 0.1, defocus)
    wrong = reconstruct(mirrored, ApertureSettings(rounds=10))
    assert wrong.total_residual(mirrored) > 2 * result.total_residual(used)


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
