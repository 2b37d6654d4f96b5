"""Plans: the region is covered, cells lie inside their fields, limits hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import HardwareError, UserError
from plsctl.acquire.focus.plane import FocusPoint, fit_plane, spread_points
from plsctl.acquire.focus.sweep import find_focus, sweep
from plsctl.acquire.plans.positions import cell_positions, grid_positions, keep_taken
from plsctl.acquire.plans.slide import Region
from plsctl.acquire.store.ome_zarr import plate_metadata, row_name, row_number


def test_a_grid_covers_the_region_in_a_snake() -> None:
    region = Region(x_um=(1000, 2900), y_um=(500, 1400), overlap=0.1)
    positions = grid_positions(region, (560, 350))
    for axis, field, (low, high) in (("x_um", 560, region.x_um), ("y_um", 350, region.y_um)):
        values = sorted({getattr(p, axis) for p in positions})
        assert values[0] - field / 2 <= low
        assert values[-1] + field / 2 >= high
        assert max(np.diff(values)) <= field * 0.9 + 1e-6
    steps = [abs(a.column - b.column) for a, b in itertools.pairwise(positions)]
    assert max(steps) == 1


def test_cell_fields_are_few_and_hold_every_cell() -> None:
    rng = np.random.default_rng(3)
    cells = [(float(x), float(y)) for x, y in rng.uniform(0, 600, (120, 2))]
    fields = cell_positions(cells, (56, 35))
    for x, y in cells:
        assert any(abs(x - f.x_um) <= 28.01 and abs(y - f.y_um) <= 17.51 for f in fields)
    assert len(fields) < len(cells) * 0.75


def _travel_um(places: Iterable[tuple[float, float]]) -> float:
    return sum(itertools.starmap(math.dist, itertools.pairwise(places)))


def test_visits_to_cells_take_hardly_more_travel_than_the_best_order() -> None:
    longer = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        cells = [(float(x), float(y)) for x, y in rng.uniform(0, 5000, (7, 2))]
        fields = cell_positions(cells, (1, 1))
        assert sorted((f.x_um, f.y_um) for f in fields) == sorted(cells)
        best = min(map(_travel_um, itertools.permutations(cells)))
        longer.append(_travel_um((f.x_um, f.y_um) for f in fields) / best)
    assert np.mean(longer) < 1.08


def test_a_pass_at_cells_that_were_found_anew_misses_none_of_them() -> None:
    """Fields that are finished stay, by name and place; every cell lies in one field."""
    rng = np.random.default_rng(5)
    cells = [(float(x), float(y)) for x, y in rng.uniform(0, 900, (60, 2))]
    window = (56.0, 35.0)
    begun = cell_positions(cells, window)
    taken = begun[:20]
    assert keep_taken(begun, taken, cells, window) == begun
    others = [*cells[10:], (950.0, 30.0), (20.0, 940.0)]
    fields = keep_taken(cell_positions(others, window), taken, others, window)
    assert fields[:20] == taken
    assert len({field.name for field in fields}) == len(fields)
    for x, y in others:
        assert any(abs(x - f.x_um) <= 29.01 and abs(y - f.y_um) <= 18.51 for f in fields)


def test_plate_rows_go_on_after_z() -> None:
    assert [row_name(n) for n in (0, 25, 26, 701, 702)] == ["A", "Z", "AA", "ZZ", "AAA"]
    assert all(row_number(row_name(n)) == n for n in range(1000))
    plate = plate_metadata("p", ["AA/2", "B/10", "B/2"])["plate"]
    assert [row["name"] for row in plate["rows"]] == ["B", "AA"]
    assert [column["name"] for column in plate["columns"]] == ["2", "10"]


def test_the_focus_of_a_peaked_curve_is_found_between_steps() -> None:
    z, _ = find_focus(lambda z: 1 / (1 + ((z - 103.3) / 5) ** 2), 80.0, 40.0, 2.0)
    assert z == pytest.approx(103.3, abs=0.3)


def test_a_peak_beyond_the_range_is_followed() -> None:
    z, _ = sweep(lambda z: 1 / (1 + ((z - 30) / 6) ** 2), 0.0, 8.0, 2.0)
    assert z == pytest.approx(30, abs=0.3)


def test_a_flat_curve_is_refused() -> None:
    with pytest.raises(HardwareError, match="no focus"):
        sweep(lambda z: 1.0, 0.0, 8.0, 2.0)


def test_a_plane_through_focus_points() -> None:
    def height(x: float, y: float) -> float:
        return 5000 + 0.002 * x - 0.001 * y

    places = [(10000.0, 5000.0), (12000.0, 5000.0), (11000.0, 6000.0)]
    plane = fit_plane([FocusPoint(x, y, height(x, y), 1.0) for x, y in places])
    assert plane.z_um(11300, 5400) == pytest.approx(height(11300, 5400), abs=1e-6)
    level = fit_plane([FocusPoint(1.0, 2.0, 7.0, 1.0)])
    assert level.z_um(500, 500) == pytest.approx(7.0)


def test_focus_points_lie_far_apart() -> None:
    places = [(float(x), float(y)) for x in range(10) for y in range(6)]
    chosen = spread_points(places, 5)
    assert len(set(chosen)) == 5
    assert sum(c in [(0, 0), (9, 0), (0, 5), (9, 5)] for c in chosen) >= 3


def test_a_region_outside_the_stage_is_refused() -> None:
    from plsctl.acquire.plans.plan import check_limits
    from plsctl.acquire.plans.slide import Slide

    hardware = load_hardware("simulator")
    slide = Slide(
        slide="S", hardware="simulator", region=Region(x_um=(74000, 75500), y_um=(0, 500))
    )
    positions = grid_positions(slide.region, (560, 350))
    with pytest.raises(UserError, match="limits"):
        check_limits(positions, hardware, slide)
