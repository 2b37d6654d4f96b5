"""The forward model against a real smear under 225 single LEDs (Nikon 2x, NA 0.1).

The set names an LED by the sines (u, v) of its position and gives a defocus for exp(+i z kz). Its
images say which way the light runs: the red channel, far out of focus, shifts as the model does
for s = (-u, -v) with the set's own defocus. (The mirrored pair, s = (u, v) with the opposite
defocus, gives the same images of the complex conjugate sample; intensities cannot tell them apart.)
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from plsctl.acquire.optics.field import FieldSpectrum
from plsctl.acquire.optics.imaging import Imaging, object_grid
from plsctl.acquire.optics.waves import is_bright_field, pupil

FloatArray = NDArray[np.float64]
COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class Channel:
    """One colour of the set: intensities (y, x, led), LED sines (led, 2), and its optics."""

    intensity: FloatArray
    sines: FloatArray
    imaging: Imaging
    defocus_um: float

    @property
    def light(self) -> FloatArray:
        return self.intensity.mean(axis=(0, 1))


@pytest.fixture(scope="module")
def channels() -> dict[str, Channel]:
    data = os.environ.get("PLSCTL_DATA")
    if data is None:
        pytest.skip("PLSCTL_DATA is not set: no real single-LED images")
    folder = Path(data) / "fpm_bloodsmear"
    optics = json.loads((folder / "optics.json").read_text())
    with (folder / "leds.csv").open() as stream:
        leds = list(csv.DictReader(stream))
    return {colour: _channel(colour, folder, optics, leds) for colour in COLOURS}


def _channel(
    colour: str, folder: Path, optics: dict[str, object], leds: list[dict[str, str]]
) -> Channel:
    amplitude = np.load(folder / f"bloodsmear_{colour}.npz")["imlow_HDR"].astype(np.float64)
    entry = optics["channels"][colour]  # type: ignore[index]
    wavelength = entry["wavelength_m"] * 1e6
    return Channel(
        intensity=amplitude**2,
        sines=np.array(
            [[float(r["u_sin"]), float(r["v_sin"])] for r in leds if r["channel"] == colour]
        ),
        imaging=Imaging(
            na=float(optics["na"]),  # type: ignore[arg-type]
            refractive_index=1.0,
            pixel_um=float(optics["pixel_size_sample_m"]) * 1e6,  # type: ignore[arg-type]
            shape=(amplitude.shape[0], amplitude.shape[1]),
            wavelengths_um=(wavelength, wavelength, wavelength),
        ),
        defocus_um=entry["defocus_m"] * 1e6,
    )


def displacement_um(first: FloatArray, second: FloatArray, pixel_um: float) -> FloatArray:
    """Displacement (x, y) of the second image, from the peak of the up-sampled correlation."""
    window = np.hanning(first.shape[0])[:, None] * np.hanning(first.shape[1])
    a, b = (np.fft.fft2((image - image.mean()) * window) for image in (first, second))
    steps = np.arange(-96, 97) / 16  # pixels
    wave_y, wave_x = (np.exp(2j * np.pi * np.outer(steps, np.fft.fftfreq(n))) for n in first.shape)
    correlation = (wave_y @ (np.conj(a) * b) @ wave_x.T).real
    y, x = np.unravel_index(correlation.argmax(), correlation.shape)
    return np.array([steps[x], steps[y]]) * pixel_um


def parallax(channel: Channel, images: FloatArray, leds: NDArray[np.int64]) -> FloatArray:
    """Displacement per unit of tan(LED angle), micrometres, along x and along y.

    Each LED's image is held against the central one's.
    """
    tangents = channel.sines / np.sqrt(1 - (channel.sines**2).sum(axis=1, keepdims=True))
    tilt = tangents[leds] - tangents[0]
    moved = np.array(
        [displacement_um(images[0], image, channel.imaging.pixel_um) for image in images]
    )
    slope: FloatArray = (moved * tilt).sum(axis=0) / (tilt**2).sum(axis=0)
    return slope


def inner_leds(channel: Channel) -> NDArray[np.int64]:
    return np.flatnonzero(np.linalg.norm(channel.sines, axis=1) < 0.07)


@pytest.mark.parametrize("colour", COLOURS)
def test_bright_field_ends_where_the_model_says(channels: dict[str, Channel], colour: str) -> None:
    """All 225 LEDs; the direct light is either inside the pupil or not."""
    channel = channels[colour]
    predicted = [is_bright_field((u, v), channel.imaging.na) for u, v in channel.sines]
    measured = channel.light > channel.light[0] / 4
    np.testing.assert_array_equal(measured, predicted)


def test_the_boundary_pins_the_aperture_to_six_percent(channels: dict[str, Channel]) -> None:
    steepness = np.concatenate([np.linalg.norm(c.sines, axis=1) for c in channels.values()])
    bright = np.concatenate([c.light > c.light[0] / 4 for c in channels.values()])
    assert 0.094 < steepness[bright].max() < steepness[~bright].min() < 0.106


@pytest.mark.parametrize("colour", COLOURS)
def test_a_bright_field_image_fills_two_pupil_circles(
    channels: dict[str, Channel], colour: str
) -> None:
    """The direct light at +-s / wavelength brings the pupil to both sides of frequency zero."""
    channel = channels[colour]
    imaging, wavelength = channel.imaging, channel.imaging.wavelengths_um[0]
    height, width = imaging.shape
    fy = np.fft.fftfreq(height, imaging.pixel_um)[:, None]
    fx = np.fft.fftfreq(width, imaging.pixel_um)
    window = np.hanning(height)[:, None] * np.hanning(width)

    def circles(u: float, v: float) -> NDArray[np.bool_]:
        shift_x, shift_y = u / wavelength, v / wavelength
        return np.logical_or(
            *(
                pupil(fx + side * shift_x, fy + side * shift_y, imaging, wavelength) != 0
                for side in (-1, 1)
            )
        )

    for led in inner_leds(channel)[1:]:
        amplitude = np.sqrt(channel.intensity[..., led])
        power = np.abs(np.fft.fft2((amplitude - amplitude.mean()) * window)) ** 2
        u, v = channel.sines[led]
        inside = circles(u, v)
        assert power[inside].sum() > 0.99 * power.sum()
        # Of all shifts, the model's splits the spectrum best (steps of the spectrum's own bins).
        steps = np.arange(-3, 4) * 0.008
        splits = {
            (du, dv): _separation(np.log(power), circles(u + du, v + dv))
            for du in steps
            for dv in steps
        }
        assert np.abs(max(splits, key=lambda shift: splits[shift])).max() <= 0.017


def _separation(values: FloatArray, chosen: NDArray[np.bool_]) -> float:
    """Variance between two classes, as in Otsu's threshold."""
    share = chosen.mean()
    return float(share * (1 - share) * (values[chosen].mean() - values[~chosen].mean()) ** 2)


def test_parallax_tells_the_defocus_and_its_side(channels: dict[str, Channel]) -> None:
    """Red is 55 um out of focus, and shows it along both axes.

    Green (10 um the other way) and blue (15 um) are within what the relief of phase edges adds
    to any displacement under oblique light; they must still come in the right order.
    """
    slopes = {
        colour: -parallax(channel, np.moveaxis(channel.intensity, -1, 0)[leds], leds)
        for colour, channel in channels.items()
        for leds in [inner_leds(channel)]
    }
    red = channels["red"]
    np.testing.assert_allclose(slopes["red"], red.defocus_um, atol=8)
    assert (slopes["red"] < slopes["blue"]).all()
    assert (slopes["blue"] < slopes["green"]).all()


def test_the_model_moves_an_image_as_the_real_one_moves(channels: dict[str, Channel]) -> None:
    """An absorbing spot through the model with the set's numbers, light from -(u, v)."""
    channel = channels["red"]
    imaging, leds = channel.imaging, inner_leds(channel)
    grid = object_grid(imaging, 0.1)
    y, x = grid.coordinates_um(imaging.shape)
    spots = sum(
        np.exp(-((y[:, None] - cy) ** 2 + (x - cx) ** 2) / (2 * 6.0**2))
        for cy, cx in ((-40, 10), (20, -25), (60, 20))
    )
    sample = np.exp(-0.5 * spots).astype(np.complex64)
    model = FieldSpectrum(np.stack([sample] * 3), grid, imaging)
    images = np.stack(
        [model.image((-u, -v), 0, channel.defocus_um) for u, v in channel.sines[leds]]
    )
    real = parallax(channel, np.moveaxis(channel.intensity, -1, 0)[leds], leds)
    ours = parallax(channel, images.astype(np.float64), leds)
    np.testing.assert_allclose(ours, -channel.defocus_um, atol=3)
    np.testing.assert_allclose(real, ours, rtol=0.15)
