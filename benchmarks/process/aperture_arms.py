"""Synthetic aperture from the 43 LEDs on arms, at 20x, against the truth of the simulated smear.

    python benchmarks/process/aperture_arms.py [--quick]

Agreement is the modulus of the normalised correlation of complex fields without their means, within
a numerical aperture. Then LEDs that are not where the table has them: two exchanged, four moved by
1.5 to 3 degrees; and a table without any fault.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.leds.geometry import standard_array
from plsctl.acquire.optics.field import FieldSpectrum
from plsctl.acquire.optics.imaging import Imaging, ObjectGrid, object_grid
from plsctl.acquire.optics.waves import optical_path_um, transmission
from plsctl.process.aperture.field import TileSettings, reconstruct_field
from plsctl.process.aperture.led_check import check_geometry
from plsctl.process.aperture.led_stack import LedStack
from plsctl.process.aperture.reconstruction import reconstruct
from plsctl.sim.smear.settings import SmearSettings
from plsctl.sim.smear.smear import Smear
from plsctl.sim.smear.view import View

NA, PIXEL_UM, WAVELENGTHS_UM = 0.4, 0.293, (0.63, 0.53, 0.46)
ELECTRONS = 5000.0
"""In a pixel of mean light; steep LEDs get at most 300 times the exposure of the central ones."""
MOVED = {"plate-1": (0.03, 0), "arm2-36": (0.03, 0.02), "arm4-57": (-0.04, -0.01),
         "arm5-18": (0.0, 0.03)}  # fmt: skip
EXCHANGED = ("arm1-24", "arm3-24")
Field = NDArray[np.complex64]


def simulate(side: int, seed: int, lit: NDArray[np.float64]) -> tuple[LedStack, Field, ObjectGrid]:
    """Noisy green images of an unstained smear, its transmission, and the grid of that."""
    imaging = Imaging(NA, 1.0, PIXEL_UM, (side, side), WAVELENGTHS_UM)
    array = standard_array()
    grid = object_grid(imaging, float(np.hypot(*lit.T).max()) + 0.01)
    smear = Smear(SmearSettings(seed=seed, white_cells_per_mm2=300))
    layers = smear.layers(View(12_000, 5_000, grid.grid_um, 0.0, grid.shape), stained=False)
    model = FieldSpectrum.from_layers(layers, grid, imaging, threads=1)
    rng = np.random.default_rng(seed)
    amplitude = []
    for direction in lit:
        light = model.image((float(direction[0]), float(direction[1])), 1)
        gain = min(ELECTRONS / float(light.mean()), 300 * ELECTRONS)
        amplitude.append(np.sqrt(rng.poisson(light * gain) / gain).astype(np.float32))
    path = optical_path_um(layers.thickness_um, layers.index_excess_um, 1.0)
    truth = transmission(path, layers.absorbance[1], WAVELENGTHS_UM[1])
    stack = LedStack(
        np.stack(amplitude), array.directions, WAVELENGTHS_UM[1], PIXEL_UM, NA, names=array.names
    )
    return stack, truth, grid


def within(field: Field, pixel_um: float, na: float) -> Field:
    """The field without what lies outside a numerical aperture."""
    fy, fx = (np.fft.fftfreq(n, pixel_um) for n in field.shape)
    inside = np.hypot(fy[:, None], fx) <= na / WAVELENGTHS_UM[1]
    return np.asarray(np.fft.ifft2(np.fft.fft2(field) * inside), np.complex64)


def on_field(truth: Field, grid: ObjectGrid, side: int, upsampling: int, na: float) -> Field:
    """The transmission within an aperture, at the pixels of a reconstruction."""
    kept = np.fft.fftshift(np.fft.fft2(within(truth, grid.grid_um, na)))
    size = grid.camera_shape[0] * upsampling
    middle, half = truth.shape[0] // 2, size // 2
    cut = kept[middle - half : middle - half + size, middle - half : middle - half + size]
    whole = np.fft.ifft2(np.fft.ifftshift(cut)) * (size / truth.shape[0]) ** 2
    start = -grid.corner_px[1] * upsampling
    part = slice(start, start + side * upsampling)
    return np.asarray(whole[part, part], np.complex64)


def agreement(one: Field, other: Field) -> float:
    """Modulus of the normalised correlation, without a rim."""
    rim = len(one) // 10
    a, b = (field[rim:-rim, rim:-rim] for field in (one, other))
    a, b = a - a.mean(), b - b.mean()
    return float(abs(np.vdot(a, b)) / np.sqrt(np.vdot(a, a).real * np.vdot(b, b).real))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller field")
    quick = parser.parse_args().quick
    side, tile, checked_side = (112, 88, 80) if quick else (320, 200, 128)
    array = standard_array()
    stack, truth, grid = simulate(side, 1, array.directions)
    began = time.perf_counter()
    whole = reconstruct(stack)
    middle = time.perf_counter()
    tiles = reconstruct_field(stack, None, TileSettings(side_px=tile))
    ended = time.perf_counter()
    up = whole.upsampling
    print(f"{side} x {side} px, green: {middle - began:.1f} s in one piece, "
          f"{ended - middle:.1f} s in {len(tiles.residuals)} tiles")  # fmt: skip
    print(f"residual {whole.total_residual(stack.lit_from(whole.directions)):.4f}")
    left_out = np.argsort(stack.steepness, kind="stable")[3::6]
    used = stack.take(np.setdiff1d(np.arange(len(stack)), left_out))
    unseen = stack.take(left_out)
    print(f"{len(left_out)} LEDs left out: {reconstruct(used).total_residual(unseen):.4f}")
    central = stack.amplitude[int(np.argmin(stack.steepness))]
    single = np.kron(central, np.ones((up, up))).astype(np.complex64)
    for na in (0.4, 0.8, 1.2):
        wanted = on_field(truth, grid, side, up, na)
        found = [
            agreement(within(field, whole.pixel_um, na), wanted)
            for field in (whole.field, tiles.field, single)
        ]
        print(f"within NA {na}: one piece {found[0]:.3f}, tiles {found[1]:.3f}, "
              f"central image {found[2]:.3f}")  # fmt: skip
    lit = array.directions.copy()
    places = [array.names.index(name) for name in EXCHANGED]
    lit[places] = lit[places[::-1]]
    for name, move in MOVED.items():
        lit[array.names.index(name)] += move
    for text, directions in (("faulty table", lit), ("right table", array.directions)):
        images, _, _ = simulate(checked_side, 2, directions)
        began = time.perf_counter()
        checked = check_geometry(replace(images, names=array.names))
        found_moved = sorted(place.name for place in checked if place.verdict == "moved")
        unclear = [place.name for place in checked if place.verdict == "unclear"]
        print(f"{text}: moved {found_moved or 'none'}, unclear {unclear or 'none'}; "
              f"{time.perf_counter() - began:.0f} s")  # fmt: skip
    print(f"truly moved: {sorted([*MOVED, *EXCHANGED])}")


if __name__ == "__main__":
    main()
