"""The forward model against what any correct microscope does (grids small enough for a laptop)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.fft
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.optics.field import FieldSpectrum
from plsctl.acquire.optics.imaging import Imaging, ObjectGrid, fast_size, object_grid
from plsctl.acquire.optics.waves import is_bright_field, optical_path_um, pupil, transmission

FloatArray = NDArray[np.float32]

LOW = Imaging(na=0.4, refractive_index=1.0, pixel_um=0.293, shape=(96, 128))
GREEN = 1
STEEPEST = 0.84


@dataclass(frozen=True)
class Disc:
    """A soft-edged disc on the slide: the simplest cell."""

    thickness_um: FloatArray
    index_excess_um: FloatArray
    absorbance: FloatArray


def disc(
    grid: ObjectGrid,
    imaging: Imaging,
    *,
    thickness_um: float = 0.0,
    absorbance: float = 0.0,
    radius_um: float = 3.0,
    edge_um: float = 0.6,
    at_um: tuple[float, float] = (0.0, 0.0),
) -> Disc:
    y, x = grid.coordinates_um(imaging.shape)
    distance = np.hypot(y[:, None] - at_um[1], x - at_um[0])
    profile = (0.5 - 0.5 * np.tanh((distance - radius_um) / (0.5 * edge_um))).astype(np.float32)
    return Disc(
        thickness_um=thickness_um * profile,
        index_excess_um=np.zeros_like(profile),
        absorbance=np.stack([absorbance * profile] * 3),
    )


def field(imaging: Imaging = LOW, **properties: float | tuple[float, float]) -> FieldSpectrum:
    grid = object_grid(imaging, STEEPEST)
    return FieldSpectrum.from_layers(disc(grid, imaging, **properties), grid, imaging)  # type: ignore[arg-type]


def at_angle(angle_deg: float, azimuth_deg: float = 0.0) -> tuple[float, float]:
    sine, azimuth = math.sin(math.radians(angle_deg)), math.radians(azimuth_deg)
    return sine * math.cos(azimuth), sine * math.sin(azimuth)


def grating(imaging: Imaging, period_um: float, depth: float) -> FieldSpectrum:
    """A weak amplitude grating along x, 1 + depth cos."""
    grid = object_grid(imaging, STEEPEST)
    _, x = grid.coordinates_um(imaging.shape)
    profile = 1 + depth * np.cos(2 * np.pi * x / period_um)
    return FieldSpectrum(np.broadcast_to(profile, (3, *grid.shape)) + 0j, grid, imaging)


def contrast(image: FloatArray, period_px: float) -> complex:
    """Complex amplitude of a frequency along x, over a whole number of periods."""
    length = round(math.floor(image.shape[1] / period_px) * period_px)
    wave = np.exp(-2j * np.pi * np.arange(length) / period_px)
    return complex(2 * (image[:, :length].mean(axis=0) * wave).mean())


def shift_px(first: FloatArray, second: FloatArray) -> tuple[int, int]:
    """Displacement (x, y) of the second image against the first, whole pixels."""
    spectra = np.conj(np.fft.fft2(first - first.mean())) * np.fft.fft2(second - second.mean())
    correlation = np.fft.ifft2(spectra).real
    y, x = np.unravel_index(correlation.argmax(), correlation.shape)
    height, width = correlation.shape
    return (int(x) + width // 2) % width - width // 2, (int(y) + height // 2) % height - height // 2


@pytest.mark.parametrize(("angle_deg", "level"), [(0, 1), (8, 1), (23.3, 1), (24, 0), (57, 0)])
def test_an_empty_slide_is_uniform_below_the_limit_and_black_above(
    angle_deg: float, level: float
) -> None:
    empty = field()
    direction = at_angle(angle_deg, 37.0)
    for colour in range(3):
        np.testing.assert_allclose(empty.image(direction, colour, 12.0), level, atol=2e-6)
    assert is_bright_field(direction, LOW.na) == bool(level)


def test_the_image_is_the_textbook_formula() -> None:
    """Against whole-plane FFTs in double precision, with both kinds of grid."""
    for imaging, direction in (
        (LOW, (0.21, -0.3)),
        (LOW, (0.7, 0.1)),
        (Imaging(1.25, 1.515, 0.0586, (60, 80)), (0.3, 0.1)),
    ):
        grid = object_grid(imaging, STEEPEST, 40.0)
        layers = disc(grid, imaging, thickness_um=1.0, absorbance=0.3)
        result = FieldSpectrum.from_layers(layers, grid, imaging).image(direction, GREEN, 5.0)

        wavelength = imaging.wavelengths_um[GREEN]
        path = optical_path_um(
            layers.thickness_um, layers.index_excess_um, imaging.refractive_index
        )
        sample = transmission(path, layers.absorbance[GREEN], wavelength)
        period = grid.period_um
        bins = [round(direction[1 - axis] / wavelength * period[axis]) for axis in (0, 1)]
        spectrum = np.roll(np.fft.fft2(sample, norm="forward"), bins, (0, 1))
        fy, fx = (np.fft.fftfreq(n, grid.grid_um) for n in grid.shape)
        spectrum = spectrum * pupil(fx, fy[:, None], imaging, wavelength, 5.0)
        column, row = (-corner for corner in grid.corner_px)
        height, width = imaging.shape
        # The field at each camera pixel, straight from the sum over frequencies.
        y = (row + np.arange(height))[:, None] * imaging.pixel_um
        x = (column + np.arange(width))[:, None] * imaging.pixel_um
        wave = np.exp(2j * np.pi * y * fy) @ spectrum @ np.exp(2j * np.pi * x * fx).T
        np.testing.assert_allclose(result, np.abs(wave) ** 2, atol=3e-5)


@pytest.mark.parametrize(
    ("sine", "frequency_na", "sidebands"),
    [
        (0.0, 0.3, 2),
        (0.0, 0.5, 0),  # beyond the pupil on both sides
        (0.3, 0.05, 2),
        (0.3, 0.3, 1),  # one order falls outside: half the contrast
        (0.3, 0.65, 1),  # finer than the pupil's radius, seen because the light comes obliquely
        (0.3, 0.75, 0),
        (0.6, 0.5, 0),  # one order alone inside: light, but no fringes
    ],
)
def test_a_grating_shows_when_two_interfering_orders_pass(
    sine: float, frequency_na: float, sidebands: int
) -> None:
    depth, imaging = 0.02, Imaging(0.4, 1.0, 0.2, (8, 320))
    wavelength = imaging.wavelengths_um[GREEN]
    image = grating(imaging, wavelength / frequency_na, depth).image((sine, 0.0), GREEN)
    shown = abs(contrast(image, wavelength / frequency_na / imaging.pixel_um))
    assert shown == pytest.approx(depth * sidebands, abs=0.05 * depth)
    if sine > imaging.na:
        assert image.mean() == pytest.approx(depth**2 / 4, rel=0.05)


def test_a_weak_phase_object_cancels_under_symmetric_light() -> None:
    phase = field(thickness_um=0.03, radius_um=4.0)
    left, right = (phase.image(at_angle(18, a), GREEN) - 1 for a in (0, 180))
    assert np.corrcoef(left.ravel(), right.ravel())[0, 1] < -0.97
    plate = [at_angle(8, a) for a in (90, 210, 330)]
    arms = [at_angle(t, 90 + 72 * k) for t in (10, 18) for k in range(5)]
    together = phase.images(plate + arms)[..., GREEN].mean(axis=0)
    assert together.std() < 0.15 * left.std()


def test_dark_field_falls_steeply_with_angle() -> None:
    cell = field(thickness_um=1.0, radius_um=3.6, edge_um=1.5)
    angles = (24, 30, 36, 43, 50, 57)
    light = cell.images([at_angle(a, 20) for a in angles]).mean(axis=(1, 2))
    assert (np.diff(light, axis=0) < 0).all()
    assert (light[0] > 100 * light[-1]).all()


def test_a_grating_repeats_at_the_talbot_distance() -> None:
    imaging, period_um, depth = Imaging(0.4, 1.0, 0.25, (8, 192)), 6.0, 0.05
    lines, period_px = grating(imaging, period_um, depth), period_um / imaging.pixel_um
    talbot = 2 * period_um**2 / imaging.wavelengths_um[GREEN]
    amplitudes = [
        contrast(lines.image((0.0, 0.0), GREEN, share * talbot), period_px)
        for share in (0, 0.25, 0.5, 1)
    ]
    focused, quarter, half, whole = (a / amplitudes[0] for a in amplitudes)
    assert abs(quarter) < 0.05
    assert half == pytest.approx(-focused, abs=0.05)
    assert whole == pytest.approx(focused, abs=0.05)


@pytest.mark.parametrize(("angle_deg", "apart_px"), [(10, 24), (18, 44)])
@pytest.mark.parametrize("z_um", [20.0, -20.0])
def test_opposite_leds_shift_apart_and_the_sign_tells_the_side(
    angle_deg: float, apart_px: int, z_um: float
) -> None:
    dot = field(absorbance=0.5, radius_um=2.0)
    left, right = (dot.image(at_angle(angle_deg, a), GREEN, z_um) for a in (180, 0))
    dx, dy = shift_px(left, right)
    assert dx == pytest.approx(math.copysign(apart_px, z_um), abs=1)
    assert dy == 0


def test_light_over_all_directions_is_conserved_at_every_pixel() -> None:
    """Parseval: a phase object redistributes light over directions and loses none."""
    imaging = Imaging(0.2, 1.0, 0.5, (12, 12), (0.53,))  # type: ignore[arg-type]
    grid = object_grid(imaging, 0.5)
    y, x = grid.coordinates_um(imaging.shape)
    bump = 2.0 * np.exp(-(y[:, None] ** 2 + x**2) / (2 * 2.0**2))
    cell, empty = (
        FieldSpectrum(np.exp(1j * height * bump)[None], grid, imaging) for height in (1, 0)
    )
    # Every fourth bin will do: the lens smears a point over less than a quarter of the period.
    step = 4 * 0.53 / grid.period_um[1]
    steps = np.arange(-21, 22) * step
    directions = [
        (sx, sy) for sx, sy in itertools.product(steps, steps) if math.hypot(sx, sy) < 0.5
    ]
    images = cell.images(directions)
    share = empty.images(directions).sum(axis=0)
    assert images.std(axis=(1, 2)).max() > 0.1  # single images are anything but uniform
    np.testing.assert_allclose(images.sum(axis=0), share, rtol=0.01)


@pytest.mark.parametrize("direction", [(0.1, 0.0), (0.45, 0.3)])
def test_a_move_by_part_of_a_pixel_shifts_the_image(direction: tuple[float, float]) -> None:
    still = field(thickness_um=1.0).image(direction, 0)
    moved = field(thickness_um=1.0, at_um=(0.37 * LOW.pixel_um, -0.61 * LOW.pixel_um)).image(
        direction, 0
    )
    fy, fx = (np.fft.fftfreq(n) for n in LOW.shape)
    ramp = np.exp(-2j * np.pi * (0.37 * fx - 0.61 * fy[:, None]))
    expected = np.fft.ifft2(np.fft.fft2(still) * ramp).real
    assert np.abs(moved - expected).max() < 0.01 * np.ptp(still)


def test_the_edge_of_the_field_does_not_light_up_the_dark_field() -> None:
    """A sample that fills field and guard is as dark as an empty slide."""
    whole = field(thickness_um=0.7, radius_um=1e4)
    for angle in (26, 36, 57):
        assert whole.image(at_angle(angle, 10), GREEN).max() < 1e-6


def test_rims_at_20x_vanish_under_oil() -> None:
    high = Imaging(1.25, 1.515, 0.0586, (160, 160))
    pattern = [at_angle(t, 90 + 72 * k) for t in (10, 18) for k in range(5)]
    images = [
        field(imaging, thickness_um=1.0, absorbance=0.1).images(pattern)[..., GREEN].mean(axis=0)
        for imaging in (LOW, high)
    ]
    inside = np.exp(-0.1)
    assert images[0].min() < 0.3 * inside
    assert images[1].min() > 0.97 * inside


def test_another_fft_gives_the_same_image() -> None:
    grid = object_grid(LOW, STEEPEST)
    layers = disc(grid, LOW, thickness_um=1.0)
    fast = FieldSpectrum.from_layers(
        layers,
        grid,
        LOW,
        inverse_fft=lambda rows: scipy.fft.ifft(rows, norm="forward", overwrite_x=True),
    )
    plain = FieldSpectrum.from_layers(layers, grid, LOW)
    leds = [(0.2, 0.1), (0.6, 0.0)]
    np.testing.assert_allclose(fast.images(leds, 3.0), plain.images(leds, 3.0), atol=1e-5)


@pytest.mark.parametrize("imaging", [LOW, Imaging(1.25, 1.515, 0.0586, (600, 800))])
@pytest.mark.parametrize("steepest", [0.31, 0.84])
def test_grids_share_a_period_and_resolve_what_the_pupil_passes(
    imaging: Imaging, steepest: float
) -> None:
    grid = object_grid(imaging, steepest)
    for points, pixels, corner, shown in zip(
        grid.shape, grid.camera_shape, grid.corner_px[::-1], imaging.shape, strict=True
    ):
        assert points * grid.grid_um == pytest.approx(pixels * imaging.pixel_um, rel=1e-12)
        assert min(-corner, pixels - shown + corner) * imaging.pixel_um >= 40
    assert 0.5 / grid.grid_um > (imaging.na + steepest) / min(imaging.wavelengths_um)
    if imaging is LOW:
        assert grid.grid_um <= imaging.pixel_um / 2
    y, _x = grid.coordinates_um(imaging.shape)
    fade_y, _ = grid.fade(imaging.shape)
    assert fade_y[0] == 0
    half_field = imaging.shape[0] * imaging.pixel_um / 2
    assert (fade_y[np.abs(y) < half_field + 19] == 1).all()


def test_fast_sizes_have_small_factors_only() -> None:
    assert [fast_size(n) for n in (1, 11, 1474, 2194)] == [4, 12, 1500, 2240]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda: Imaging(1.2, 1.0, 0.1, (8, 8)), "index"),
        (lambda: object_grid(Imaging(0.9, 1.0, 0.3, (8, 8)), 0.5), "pixel"),
        (lambda: object_grid(LOW, 0.5, guard_um=10), "guard"),
        (lambda: field().image((0.9, 0.0), 0), "steeper"),
        (
            lambda: FieldSpectrum(np.ones((3, 8, 8), complex), object_grid(LOW, 0.5), LOW),
            "object grid",
        ),
    ],
)
def test_what_cannot_be_imaged_is_refused(mistake: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        mistake()  # type: ignore[operator]
