"""The simulated smear: always the same, dense as asked, and fit for the optics model."""

from __future__ import annotations

import pickle
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import ndimage

from plsctl.acquire.errors import UserError
from plsctl.acquire.optics.field import FieldSpectrum
from plsctl.acquire.optics.imaging import Imaging, object_grid
from plsctl.sim.smear import placing, smear, truth
from plsctl.sim.smear.cells import DIAMETERS_UM, NATURAL_PROPORTIONS, WHITE_TYPES, Cell
from plsctl.sim.smear.settings import SmearSettings
from plsctl.sim.smear.smear import Smear
from plsctl.sim.smear.view import View

GRID_UM = 0.1465
BRIGHT = tuple(
    (angle, azimuth)
    for angle, azimuths in (
        (8, (90, 210, 330)),
        (10, range(90, 450, 72)),
        (18, range(90, 450, 72)),
    )
    for azimuth in azimuths
)
DRY = Imaging(na=0.4, refractive_index=1.0, pixel_um=0.293, shape=(192, 192))
OIL = Imaging(na=1.25, refractive_index=1.515, pixel_um=0.0586, shape=(640, 640))


@pytest.fixture(scope="module")
def crowded() -> Smear:
    """A slide with many white cells of every type."""
    return Smear(SmearSettings(seed=4, white_cells_per_mm2=250, proportions="balanced"))


def _image(
    slide: Smear,
    centre_um: tuple[float, float],
    leds: Sequence[tuple[float, float]],
    imaging: Imaging = DRY,
    stained: bool = False,
) -> NDArray[np.float32]:
    """The mean image under LEDs at (angle, azimuth) degrees; shape (y, x, rgb)."""
    grid = object_grid(imaging, 0.85)
    height, width = imaging.shape
    corner = [
        c + (g - (size - 1) / 2) * imaging.pixel_um
        for c, g, size in zip(centre_um, grid.corner_px, (width, height), strict=True)
    ]
    view = View(corner[0], corner[1], grid.grid_um, 0.0, grid.shape)
    spectrum = FieldSpectrum.from_layers(slide.layers(view, stained), grid, imaging)
    angle, azimuth = np.radians(np.array(leds, float)).T
    directions = zip(
        (np.sin(angle) * np.cos(azimuth)).tolist(),
        (np.sin(angle) * np.sin(azimuth)).tolist(),
        strict=True,
    )
    mean: NDArray[np.float32] = spectrum.images(list(directions)).mean(axis=0)
    return mean


def _around(cell: Cell, size: int, grid_um: float = GRID_UM, rotation_deg: float = 0.0) -> View:
    """A square view with a cell in its middle."""
    turned = View(0.0, 0.0, grid_um, rotation_deg, (size, size))
    dx, dy = turned.to_slide((size - 1) / 2, (size - 1) / 2)
    return View(cell.x_um - float(dx), cell.y_um - float(dy), grid_um, rotation_deg, (size, size))


def _whole(slide: Smear, kind: str) -> Cell:
    """Some cell of a type, kept by staining, without another white cell or dust on it."""
    found = slide.cells(9_000, 4_000, 10_200, 5_200)
    large = [c for c in found if c.type not in ("red", "platelet")]
    for cell in large:
        if cell.type == kind and not cell.lost:
            near = [np.hypot(c.x_um - cell.x_um, c.y_um - cell.y_um) < 26 for c in large]
            if sum(near) == 1:
                return cell
    raise LookupError(kind)


def test_the_same_place_shows_the_same_cells_in_any_order() -> None:
    settings = SmearSettings(seed=4, white_cells_per_mm2=125)
    one, other = Smear(settings), Smear(settings)
    left, right = (10_000, 5_000, 10_130, 5_200), (10_130, 5_000, 10_300, 5_200)
    first = [*one.cells(*left), *one.cells(*right)]
    other.cells(10_150, 5_050, 10_160, 5_060)
    second = [*other.cells(*right), *other.cells(*left)]
    assert set(first) == set(second) == set(one.cells(10_000, 5_000, 10_300, 5_200))
    assert len({cell.id for cell in first}) == len(first)
    assert set(pickle.loads(pickle.dumps(one)).cells(*left)) == set(one.cells(*left))
    elsewhere = one.cells(10_000, 5_240, 10_130, 5_440)
    assert {c.shape for c in elsewhere if c.is_white}.isdisjoint(c.shape for c in first)


def test_densities_and_sizes_are_those_of_the_settings() -> None:
    slide = Smear(SmearSettings(seed=4, white_cells_per_mm2=125))
    cells = slide.cells(12_000, 8_000, 12_800, 8_800)
    count = Counter(cell.type for cell in cells)
    # The monolayer is a little denser towards the thick end; packing leaves no room for a few.
    assert count["red"] / 0.64 == pytest.approx(6500, rel=0.06)
    assert sum(cell.is_white for cell in cells) / 0.64 == pytest.approx(125, rel=0.25)
    for cell in cells:
        low, high = DIAMETERS_UM[cell.type]
        assert low <= cell.diameter_um <= high
    assert slide.density(2_000, 9_000) > 1.5 > slide.density(15_000, 9_000) > 0.9
    assert slide.density(35_000, 9_000) < 0.5
    assert {cell.type for cell in slide.cells(60_000, 9_000, 61_000, 10_000)} == {"dust"}


@pytest.mark.parametrize("proportions", ["natural", "balanced"])
def test_white_cells_come_in_their_proportions(proportions: str) -> None:
    settings = {"white_cells_per_mm2": 500, "red_cells_per_mm2": 0, "proportions": proportions}
    slide = Smear(SmearSettings.model_validate({"seed": 4, **settings}))
    found = Counter(c.type for c in slide.cells(10_000, 5_000, 11_500, 6_500) if c.is_white)
    total = sum(found.values())
    assert total / 2.25 == pytest.approx(500, rel=0.1)
    shares = NATURAL_PROPORTIONS if proportions == "natural" else (0.2,) * 5
    for kind, share in zip(WHITE_TYPES, shares, strict=True):
        assert found[kind] / total == pytest.approx(share, abs=4 * (share / total) ** 0.5)


def test_cells_touch_but_do_not_lie_on_each_other() -> None:
    slide = Smear(SmearSettings(seed=4, white_cells_per_mm2=125))
    solid = [
        cell
        for cell in slide.cells(10_000, 5_000, 10_300, 5_300)
        if cell.is_white or cell.type in ("red", "platelet")
    ]
    x, y, radius = np.array([(c.x_um, c.y_um, c.diameter_um / 2) for c in solid]).T
    gap = np.hypot(x[:, None] - x, y[:, None] - y) - radius[:, None] - radius
    np.fill_diagonal(gap, np.inf)
    # Two large white cells may press on each other by a little.
    assert gap.min() > -4
    assert np.mean(gap.min(axis=1) < -0.5) < 0.01
    assert np.mean(gap.min(axis=1) < 0.3) > 0.2


def test_staining_loses_and_shifts_cells_as_told() -> None:
    slide = Smear(SmearSettings(seed=4, lost_fraction=0.05, staining_displacement_um=0.4))
    red = [c for c in slide.cells(10_000, 5_000, 10_800, 5_800) if c.type == "red"]
    assert np.mean([c.lost for c in red]) == pytest.approx(0.05, abs=0.015)
    moved = [np.hypot(c.shift_x_um, c.shift_y_um) for c in red]
    assert np.mean(moved) == pytest.approx(0.4, rel=0.05)
    lost = next(c for c in red if c.lost)
    centre = slide.layers(_around(lost, 21), stained=False).thickness_um[10, 10]
    gone = slide.layers(_around(lost, 21), stained=True).thickness_um[10, 10]
    assert centre > 0.4 > 0.05 > gone


def test_unstained_cells_are_nearly_pure_phase_and_stain_colours_them(crowded: Smear) -> None:
    for kind in WHITE_TYPES:
        view = _around(_whole(crowded, kind), 60)
        middle = (slice(None), slice(20, 40), slice(20, 40))
        plain, dyed = crowded.layers(view, False), crowded.layers(view, True)
        assert plain.absorbance[middle].max() < 0.02
        red, green, blue = dyed.absorbance[middle].mean(axis=(1, 2))
        # Purple: green light is swallowed most, blue least; only eosin granules take the blue.
        assert green > 0.8
        assert green > red
        assert kind == "eosinophil" or green > 2 * blue
        assert plain.thickness_um[middle[1:]].mean() > 0.5


@pytest.mark.parametrize("rotation_deg", [0.0, 31.0])
def test_masks_agree_with_the_rendered_stain(crowded: Smear, rotation_deg: float) -> None:
    cell = _whole(crowded, "monocyte")
    view = _around(cell, 170, rotation_deg=rotation_deg)
    labels = truth.mask(crowded, view, stained=True)
    green = ndimage.gaussian_filter(crowded.layers(view, True).absorbance[1], 2)
    row, column = np.mgrid[0:170, 0:170] - 84.5
    near = np.hypot(row, column) * GRID_UM < cell.diameter_um / 2 + 1
    dark = near & (green > 0.7)
    nucleus = near & (labels == truth.NUCLEUS)
    assert (dark & nucleus).sum() / (dark | nucleus).sum() > 0.9
    area = (near & (labels > 0)).sum() * GRID_UM**2
    assert area == pytest.approx(np.pi * cell.diameter_um**2 / 4, rel=0.2)


def test_truth_lists_the_cells_of_a_region(crowded: Smear) -> None:
    region = (10_000, 5_000, 10_100, 5_100)
    white = truth.cells_in_region(crowded, region, WHITE_TYPES)
    assert {c["id"] for c in white} == {c.id for c in crowded.cells(*region) if c.is_white}
    with pytest.raises(UserError, match="is empty"):
        truth.cells_in_region(crowded, (10, 0, 5, 1))


def test_a_finer_or_turned_grid_samples_the_same_specimen(crowded: Smear) -> None:
    cell = _whole(crowded, "neutrophil")
    coarse = crowded.layers(View(cell.x_um - 10, cell.y_um - 10, GRID_UM, 0, (120, 120)), True)
    fine_view = View(cell.x_um - 10, cell.y_um - 10, GRID_UM / 5, 0, (600, 600))
    fine = crowded.layers(fine_view, True)
    assert np.abs(coarse.thickness_um - fine.thickness_um[::5, ::5]).max() < 1e-3
    assert np.abs(coarse.absorbance - fine.absorbance[:, ::5, ::5]).max() < 1e-3
    # A quarter turn about the first point: rows become columns.
    turned = crowded.layers(View(cell.x_um - 10, cell.y_um - 10, GRID_UM, 90, (120, 120)), True)
    straight = View(cell.x_um - 10 - 119 * GRID_UM, cell.y_um - 10, GRID_UM, 0, (120, 120))
    expected = np.rot90(crowded.layers(straight, True).thickness_um)
    assert np.abs(turned.thickness_um - expected).max() < 1e-3


@pytest.mark.parametrize(("leds", "tolerance"), [(BRIGHT, 0.001), (((36, 90),), 0.001)])
def test_moving_the_stage_by_part_of_a_pixel_shifts_the_image(
    crowded: Smear, leds: Sequence[tuple[float, float]], tolerance: float
) -> None:
    cell = _whole(crowded, "eosinophil")
    still = _image(crowded, (cell.x_um, cell.y_um), leds)
    moved = _image(crowded, (cell.x_um + 0.37 * 0.293, cell.y_um + 0.21 * 0.293), leds)
    # The image's band (2 NA / wavelength = 1.74 per um) is just beyond what the camera samples:
    # compare below that, away from the borders.
    smooth = [ndimage.gaussian_filter(i, (1.5, 1.5, 0)) for i in (still, moved)]
    shifted = ndimage.shift(smooth[0], (-0.21, -0.37, 0), order=5)
    inner = (slice(20, -20), slice(20, -20))
    error = (shifted - smooth[1])[inner].std() / smooth[1][inner].std()
    unshifted = (smooth[0] - smooth[1])[inner].std() / smooth[1][inner].std()
    assert error < tolerance
    assert unshifted > 10 * error


def test_layers_are_band_limited_and_phase_is_not_too_steep(crowded: Smear) -> None:
    grid_um = 0.05
    layers = crowded.layers(View(10_000, 5_000, grid_um, 0.0, (1000, 1000)), True)
    window = np.hanning(1000)[:, None] * np.hanning(1000)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(1000, grid_um)] * 2))
    for layer in (layers.thickness_um, layers.absorbance[1]):
        power = np.abs(np.fft.fft2((layer - layer.mean()) * window)) ** 2
        assert power[frequency > 0.5 / GRID_UM].sum() < 1e-5 * power.sum()
    path = 0.55 * layers.thickness_um + layers.index_excess_um
    steepness = np.hypot(*np.gradient(path, grid_um)) / 0.46
    assert steepness.max() < 3.5


def test_dark_field_falls_350_times_from_24_to_57_degrees() -> None:
    slide = Smear(SmearSettings(seed=1, white_cells_per_mm2=125))
    azimuths = range(90, 450, 72)
    means = [
        _image(slide, (10_400, 5_400), [(angle, a) for a in azimuths]).mean()
        for angle in (24, 30, 36, 43, 50, 57)
    ]
    assert all(steeper < less for less, steeper in pairwise(means))
    assert 200 < means[0] / means[-1] < 600


def test_red_cells_have_dark_rims_in_air_and_none_in_oil() -> None:
    slide = Smear(SmearSettings(seed=1, white_cells_per_mm2=0, dust_per_mm2=0))
    place = (10_400.0, 5_400.0)
    air = _image(slide, place, BRIGHT)
    oil = _image(slide, place, BRIGHT, OIL)
    # The darkest hundredth of the same field, in red light that haemoglobin lets pass.
    assert np.percentile(air[..., 0], 1) < 0.6
    assert np.percentile(oil[..., 0], 1) > 0.9


def test_the_stain_can_be_foretold_from_texture_too_fine_for_bright_field(crowded: Smear) -> None:
    agreement = []
    for cell in crowded.cells(9_000, 4_000, 9_400, 4_400):
        if cell.type == "lymphocyte" and not cell.lost:
            view = _around(cell, 80)
            nucleus = truth.mask(crowded, view) == truth.NUCLEUS
            inner = ndimage.binary_erosion(nucleus, iterations=7)
            plain, dyed = crowded.layers(view, False), crowded.layers(view, True)
            path = 0.55 * plain.thickness_um + plain.index_excess_um
            # Periods below 0.67 um, which the 20x bright-field image does not hold.
            fine = path - ndimage.gaussian_filter(path, 0.13 / GRID_UM)
            strength = ndimage.gaussian_filter(fine**2, 0.5 / GRID_UM) ** 0.5
            moved_px = (-cell.shift_y_um / GRID_UM, -cell.shift_x_um / GRID_UM)
            green = ndimage.shift(dyed.absorbance[1], moved_px)
            dark = ndimage.gaussian_filter(green, 0.4 / GRID_UM)
            agreement.append(np.corrcoef(strength[inner], dark[inner])[0, 1])
    assert np.mean(agreement) > 0.35


def test_far_apart_views_cost_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "CACHED_TILES", 64)
    monkeypatch.setattr(smear, "CACHED_CELLS", 4)
    slide = Smear(SmearSettings(seed=4, white_cells_per_mm2=300))

    def travel(start_um: float) -> int:
        for step in range(7):
            slide.layers(View(start_um + 700 * step, 5_000 + 900 * step, 0.3, 0, (50, 50)), True)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        filled, later = travel(6_000), travel(15_000)
    finally:
        tracemalloc.stop()
    assert later < 1.3 * filled + 2**20


def test_settings_refuse_what_cannot_be() -> None:
    with pytest.raises(ValidationError, match="not permitted"):
        SmearSettings.model_validate({"white_cells": 3})
    with pytest.raises(ValidationError, match="from smaller to larger"):
        SmearSettings(monolayer_x_um=(9_000, 5_000))
