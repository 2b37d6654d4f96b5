"""The sensor's statistics against those of photons, and its frames against their keys."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from plsctl.acquire.errors import UserError
from plsctl.sim.world.noise import add_noise
from plsctl.sim.world.sensor import Bayer, Sensor, SensorSettings

SIZE_PX = (160, 120)
CLEAN = SensorSettings(vignette=0, dust_specks=0, dead_pixels=0, read_noise_electrons=0)


def light(level: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.full((SIZE_PX[1], SIZE_PX[0], 3), level, dtype=np.float32)


@pytest.mark.parametrize("mean", [0.05, 0.3, 1, 4, 15.9, 16, 30, 200, 3000, 20_000])
def test_shot_noise_has_the_moments_of_the_poisson_law(mean: float) -> None:
    count = 400_000
    sample = add_noise(np.full(count, mean, np.float32), 0.0, np.random.SFC64(5)).astype(np.float64)
    off = sample - mean
    # Five standard errors of each moment; the table's own bias is far below.
    assert abs(off.mean()) < 5 * np.sqrt(mean / count) + 3e-4
    spread = np.sqrt((2 * mean**2 + mean) / count)
    assert abs((off**2).mean() - mean) < 5 * spread + 2e-3 * mean
    third = np.sqrt((15 * mean**3 + 100 * mean**2 + mean) / count)
    assert abs((off**3).mean() - mean) < 5 * third


@pytest.mark.parametrize("mean", [0.2, 2.3, 9.7, 16.0, 45.0])
def test_single_counts_are_as_frequent_as_photons(mean: float) -> None:
    count = 200_000
    sample = np.rint(add_noise(np.full(count, mean, np.float32), 0.0, np.random.SFC64(8)))
    values = np.arange(int(mean + 8 * np.sqrt(mean) + 4))
    seen = np.array([(sample == value).mean() for value in values])
    expected = stats.poisson.pmf(values, mean)
    assert np.abs(seen - expected).max() < 0.004


def test_mixed_light_keeps_every_pixel_at_its_own_mean() -> None:
    """Counts from the table and from the normal law side by side, with read noise."""
    levels = (0.0, 3.0, 10.0, 20.0, 900.0)
    means = np.tile(np.array(levels, np.float32), 100_000)
    noisy = add_noise(means, 7.0, np.random.SFC64(3)).reshape(-1, 5)
    for column, mean in enumerate(levels):
        assert noisy[:, column].mean() == pytest.approx(mean, abs=0.15 + 0.001 * mean)
        assert noisy[:, column].var() == pytest.approx(mean + 49, rel=0.03)


def test_three_milliseconds_of_one_led_fill_three_quarters() -> None:
    frame = Sensor(CLEAN, SIZE_PX, black_level=4).expose(light(1.0), 3.0, 1.0, (1,))
    assert frame.dtype == np.uint8
    assert frame.shape == (120, 160, 3)
    assert frame.mean() == pytest.approx(4 + 0.75 * 251, abs=0.5)


def test_the_response_is_linear_and_saturates() -> None:
    sensor = Sensor(CLEAN, SIZE_PX, bit_depth=12, black_level=64)
    levels = [
        sensor.expose(light(1.0), ms, gain, (2,)).astype(float) - 64
        for ms, gain in ((1, 1), (2, 1), (1, 2))
    ]
    assert levels[1].mean() == pytest.approx(2 * levels[0].mean(), rel=2e-3)
    assert levels[2].mean() == pytest.approx(2 * levels[0].mean(), rel=2e-3)
    assert levels[2].std() > 1.3 * levels[1].std()  # gain multiplies noise too
    assert (sensor.expose(light(1.0), 50, 1, (2,)) == 4095).all()


def test_a_key_gives_one_frame_and_other_keys_independent_ones() -> None:
    sensor = Sensor(SensorSettings(), SIZE_PX, bit_depth=12)
    key = (1, "unstained", 3, 17, 0)
    frame = sensor.expose(light(0.5), 3.0, 1.0, key)
    np.testing.assert_array_equal(sensor.expose(light(0.5), 3.0, 1.0, key), frame)
    one_thread = Sensor(SensorSettings(), SIZE_PX, bit_depth=12, threads=1)
    np.testing.assert_array_equal(one_thread.expose(light(0.5), 3.0, 1.0, key), frame)
    clean = Sensor(CLEAN, SIZE_PX, bit_depth=12)
    first = clean.expose(light(0.5), 3.0, 1.0, key).ravel()
    for other in ((*key[:-1], 1), (1, "stained", 3, 17, 0)):
        second = clean.expose(light(0.5), 3.0, 1.0, other).ravel()
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.02


@pytest.mark.parametrize("bayer", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_a_mosaic_samples_the_colours_at_its_sites(bayer: Bayer) -> None:
    colours = light(1.0) * np.array([0.2, 0.5, 0.8], np.float32)
    sensor = Sensor(CLEAN, SIZE_PX, bayer=bayer)
    mosaic = sensor.expose(colours, 3.0, 1.0, (4,))
    assert mosaic.shape == (120, 160)
    for site, letter in enumerate(bayer):
        level = {"R": 0.2, "G": 0.5, "B": 0.8}[letter] * 0.75 * 255
        assert mosaic[site // 2 :: 2, site % 2 :: 2].mean() == pytest.approx(level, abs=0.5)


def test_flaws_are_fixed_to_the_sensor_and_gentle() -> None:
    settings = SensorSettings(dead_pixels=7)
    first, second = (Sensor(settings, SIZE_PX) for _ in range(2))
    np.testing.assert_array_equal(first.flat, second.flat)
    assert 0.8 < first.flat.min() < 0.99
    assert first.flat.max() <= 1
    frame = first.expose(light(1.0), 3.0, 1.0, (6,))
    assert 1 <= (frame[..., 0] == 0).sum() <= 7


def test_darkness_is_the_black_level_with_read_noise() -> None:
    settings = SensorSettings(dead_pixels=0)
    frame = Sensor(settings, SIZE_PX, bit_depth=12, black_level=64).expose(light(0), 100, 1, (9,))
    assert frame.mean() == pytest.approx(64, abs=0.05)
    assert frame.std() == pytest.approx(np.hypot(7 * 4031 / 32500, np.sqrt(1 / 12)), rel=0.03)


@pytest.mark.parametrize(("shape", "exposure_ms", "gain"), [((8, 8), 1, 1), ((160, 120), 0, 1)])
def test_what_cannot_be_exposed_is_refused(
    shape: tuple[int, int], exposure_ms: float, gain: float
) -> None:
    with pytest.raises(UserError):
        Sensor(CLEAN, (160, 120)).expose(
            np.ones((shape[1], shape[0], 3), np.float32), exposure_ms, gain, (1,)
        )
