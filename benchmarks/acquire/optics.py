"""How long images of a ready field take, against bare FFTs; medians of one run.

    python benchmarks/acquire/optics.py [--fft scipy|numpy] [--repeats 5] [--quick]

The yardstick is the strictest: `scipy.fft.ifft2` of a complex64 array of the camera's size (1920 x
1200, `--quick` 480 x 300) with two workers, once for every LED and colour. Yardstick and images
take turns, so that other load hits both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from plsctl.acquire.leds.geometry import standard_array
from plsctl.acquire.optics.buffers import numpy_inverse_fft
from plsctl.acquire.optics.field import FieldSpectrum
from plsctl.acquire.optics.imaging import Imaging, ObjectGrid, object_grid
from plsctl.acquire.optics.waves import Layers
from plsctl.acquire.plans.recipes import recipe
from plsctl.sim.world.rendered_field import fast_inverse_fft
from plsctl.sim.world.sensor import Sensor, SensorSettings

SIZE_PX, QUICK_SIZE_PX = (1920, 1200), (480, 300)
FFTS = {"scipy": fast_inverse_fft, "numpy": numpy_inverse_fft}


def cells(grid: ObjectGrid, imaging: Imaging) -> Layers:
    """A thousand round cells: what the light does does not matter here, only that there is some."""
    y, x = grid.coordinates_um(imaging.shape)
    thickness = np.zeros(grid.shape, dtype=np.float32)
    rng = np.random.default_rng(1)
    for row, column in zip(
        rng.integers(40, grid.shape[0] - 40, 1000),
        rng.integers(40, grid.shape[1] - 40, 1000),
        strict=True,
    ):
        box = (slice(row - 30, row + 30), slice(column - 30, column + 30))
        distance = np.hypot(y[box[0], None] - y[row], x[box[1]] - x[column])
        thickness[box] += (0.5 - 0.5 * np.tanh((distance - 3.2) / 0.6)).astype(np.float32)
    return SimpleNamespace(
        thickness_um=thickness,
        index_excess_um=np.zeros_like(thickness),
        absorbance=np.stack([share * thickness for share in (0.02, 0.1, 0.3)]),
    )


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bare_ffts(count: int, shape: tuple[int, int]) -> Callable[[], None]:
    """That many inverse FFTs of the camera's size and nothing else."""
    rng = np.random.default_rng(2)
    plane = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]

    def run() -> None:
        for _ in range(count):
            scipy.fft.ifft2(plane, workers=2)

    return run


def take_stack(
    field: FieldSpectrum,
    sensor: Sensor,
    directions: dict[str, tuple[float, float]],
    planes: NDArray[np.float32],
) -> None:
    """The 74 frames of the full recipe, from a ready field to grey values."""
    made = field.images(list(directions.values()), out=planes)
    images = dict(zip(directions, made, strict=True))
    bright = sum(image for name, image in images.items() if image[..., 1].mean() > 0.5)
    for number, frame in enumerate(recipe("full")):
        rates = bright if frame.led == "brightfield" else images[frame.led]
        level = float(np.mean(rates[::8, ::8]))
        exposure_ms = 0.6 * 4 / level * (4 if frame.variant == "high" else 1)
        sensor.expose(rates, exposure_ms, 1.0, (1, "unstained", number))


def report(name: str, measured: list[float], yardstick: list[float], limit: float) -> None:
    """One line: median time, and median ratio to the yardstick of the same round."""
    ratios = [a / b for a, b in zip(measured, yardstick, strict=True)]
    print(
        f"{name:44s} {statistics.median(measured):6.2f} s   "
        f"{statistics.median(ratios):5.2f} x bare FFTs (limit {limit})"
    )


def main() -> None:
    """Measure one of the FFTs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--fft", choices=FFTS, default="scipy", help="the simulator uses scipy")
    parser.add_argument("--quick", action="store_true", help="a smaller camera, one round")
    arguments = parser.parse_args()
    width, height = QUICK_SIZE_PX if arguments.quick else SIZE_PX
    imaging = Imaging(na=0.4, refractive_index=1.0, pixel_um=0.293, shape=(height, width))
    leds = standard_array().leds
    directions = {led.name: led.direction for led in leds}
    steepest = max(float(np.hypot(*s)) for s in directions.values())
    grid = object_grid(imaging, steepest)
    repeats = 1 if arguments.quick else arguments.repeats
    yardstick = bare_ffts(3 * len(directions), imaging.shape)
    measure(arguments.fft, imaging, grid, directions, yardstick, repeats)


def measure(
    name: str,
    imaging: Imaging,
    grid: ObjectGrid,
    directions: dict[str, tuple[float, float]],
    yardstick: Callable[[], None],
    repeats: int,
) -> None:
    """Measure and report images and stacks with that FFT."""
    layers = cells(grid, imaging)
    size_px = (imaging.shape[1], imaging.shape[0])
    start = time.perf_counter()
    field = FieldSpectrum.from_layers(layers, grid, imaging, inverse_fft=FFTS[name])
    print(f"{name}: spectra of a field {grid.shape} in {time.perf_counter() - start:.2f} s")
    sensors = {
        "RGB": Sensor(SensorSettings(), size_px, black_level=4),
        "mosaic": Sensor(SensorSettings(), size_px, black_level=4, bayer="RGGB"),
    }
    planes = np.zeros((len(directions), 3, *imaging.shape), dtype=np.float32)
    bare, images = [], []
    stacks: dict[str, list[float]] = {kind: [] for kind in sensors}
    for _ in range(repeats):
        bare.append(seconds(yardstick))
        images.append(seconds(lambda: field.images(list(directions.values()), out=planes)))
        for kind, sensor in sensors.items():
            stacks[kind].append(seconds(partial(take_stack, field, sensor, directions, planes)))
    print(f"{'129 bare inverse FFTs':44s} {statistics.median(bare):6.2f} s")
    report("43 RGB images without noise", images, bare, 1.5)
    for kind, measured in stacks.items():
        report(f"74 frames with sensor noise, {kind}", measured, bare, 3.0)


if __name__ == "__main__":
    main()
