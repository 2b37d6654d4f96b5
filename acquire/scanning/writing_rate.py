"""Whether processor and disk can write as many images as a pass takes: tried out beforehand."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.devices.hardware_parts import CameraSettings
from plsctl.acquire.errors import disk_error
from plsctl.acquire.plans.plan import Forecast
from plsctl.acquire.store.images import checksum
from plsctl.acquire.store.position_files import PositionFiles
from plsctl.acquire.words import duration

FEWEST = 4
MOST = 24
"""Images that are written on trial."""

SECONDS = 0.5
"""After so long the trial ends, whatever it has written."""

RESERVE = 1.1
"""Taking images needs the processor too: so many times the pass's own rate must be possible."""


TRIALS = 3
"""A disk that is busy with what was copied before is given another chance."""


def measure_writing_rate(folder: Path, image: RawImage, forecast: Forecast) -> float:
    """Images a second that are checked, reduced, compressed and forced to the disk.

    Parameters
    ----------
    folder
        Where the scan is or will be; the images are written into the nearest folder that exists,
        and removed.
    image
        (y, x, rgb) or (y, x), as the camera gives it: how far it can be compressed counts.
    forecast
        The pass; a trial that is fast enough for it is the last one.

    Raises
    ------
    UserError
        The disk is full or does not take them.
    """
    existing = next(path for path in (folder, *folder.parents) if path.is_dir())
    best = 0.0
    try:
        for _ in range(TRIALS):
            with tempfile.TemporaryDirectory(dir=existing, prefix=".writing-rate-") as trial:
                best = max(best, _write(Path(trial) / "position", image))
            if not writing_warning(forecast, best):
                break
        return best
    except (ValueError, OSError) as error:
        raise disk_error(error, existing) from None


def _write(folder: Path, image: RawImage) -> float:
    files = PositionFiles(folder, MOST)
    start, written = time.perf_counter(), 0
    while written < MOST and (written < FEWEST or time.perf_counter() - start < SECONDS):
        checksum(image)
        files.write(written, image)
        written += 1
    files.flush()
    return written / (time.perf_counter() - start)


def likely_image(camera: CameraSettings) -> RawImage:
    """What a camera might give: shot noise, which is what compression has to cope with."""
    width, height = camera.size_px
    shape = (height, width) if camera.bayer else (height, width, 3)
    full = 2**camera.bit_depth - 1
    noisy = np.random.default_rng(0).normal(0.6 * full, 0.006 * full, shape)
    image: RawImage = noisy.astype(np.uint8 if camera.bit_depth == 8 else np.uint16)
    return image


def writing_warning(forecast: Forecast, rate: float) -> str:
    """What the user should know before a pass that writing cannot keep up with; empty if it can.

    Positions are written while the next is taken, so the mean rate of the pass counts.
    """
    if not forecast.seconds or rate >= RESERVE * forecast.frames / forecast.seconds:
        return ""
    needed, seconds = forecast.frames / forecast.seconds, RESERVE * forecast.frames / rate
    return (
        f"This computer and its disk write {rate:.3g} images a second, and this pass takes "
        f"{needed:.3g}: it will wait for the disk and need about {duration(seconds)} instead of "
        f"{duration(forecast.seconds)}. A faster disk, other programs closed or a smaller region "
        "of the sensor help; nothing is lost"
    )
