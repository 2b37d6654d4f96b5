"""Synthetic aperture on the real blood smear under 225 single LEDs (2x, NA 0.1).

    PLSCTL_DATA=data python benchmarks/process/synthetic_aperture.py --figure synthetic-aperture.png
    PLSCTL_DATA=data python benchmarks/process/synthetic_aperture.py --quick

Per colour: seconds, and the relative residual of amplitude, the sum of (model - measured)^2 over
the sum of measured^2 (its root in brackets), over all 225 LEDs, and again with every ninth LED
(25, from the middle outwards) left out of the reconstruction; the factor on each image's
brightness is fitted. Then the finest detail that two colours, independent measurements, agree on.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.registration import phase_cross_correlation

from plsctl.process.aperture.files import read_stack
from plsctl.process.aperture.image import SyntheticAperture
from plsctl.process.aperture.led_stack import LedStack
from plsctl.process.aperture.reconstruction import ApertureSettings, reconstruct

COLOURS = ("red", "green", "blue")
LEFT_OUT = slice(4, None, 9)
AGREED = 0.5
"""Fourier ring correlation above which two images are taken to show the same detail."""

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Figures:
    """Seconds; pooled residuals; mean and median over images; what noise alone would leave."""

    seconds: float
    every: float
    used: float
    left_out: float
    mean_used: float
    median_left_out: float
    noise: float
    noise_mean: float


def measure(stack: LedStack, settings: ApertureSettings) -> tuple[SyntheticAperture, Figures]:
    """The reconstruction, and again without the LEDs that are left out."""
    began = time.perf_counter()
    result = reconstruct(stack, settings)
    spent = time.perf_counter() - began
    unseen = np.argsort(stack.steepness, kind="stable")[LEFT_OUT]
    seen, unseen_stack = stack.take(np.setdiff1d(np.arange(len(stack)), unseen)), stack.take(unseen)
    partial = reconstruct(seen, settings)
    refined = seen.lit_from(partial.directions)
    return result, Figures(
        spent,
        result.total_residual(stack.lit_from(result.directions)),
        partial.total_residual(refined),
        partial.total_residual(unseen_stack),
        float(partial.compare(refined).mean()),
        float(np.median(partial.compare(unseen_stack))),
        *noise_floor(stack),
    )


def noise_floor(stack: LedStack) -> tuple[float, float]:
    """Residual that noise alone would leave, of all images and as their mean; NaN if unknown.

    An image of intensity holds no frequency beyond 2 NA / wavelength: what is there is noise, of
    variance v. Amplitude then errs by v / (4 intensity).
    """
    intensity = np.square(stack.amplitude.astype(np.float64))
    height, width = intensity.shape[1:]
    window = np.hanning(height)[:, None] * np.hanning(width)
    varied = (intensity - intensity.mean(axis=(1, 2), keepdims=True)) * window
    power = np.abs(np.fft.fft2(varied)) ** 2 / np.square(window).sum()
    fy, fx = np.fft.fftfreq(height, stack.pixel_um), np.fft.fftfreq(width, stack.pixel_um)
    beyond = np.hypot(fy[:, None], fx) > 2 * stack.na / stack.wavelength_um + 0.005
    if beyond.sum() < 50:
        return math.nan, math.nan
    light = intensity.mean(axis=(1, 2))
    wrong = power[:, beyond].mean(axis=1) / 4 / light
    return float(wrong.sum() / light.sum()), float((wrong / light).mean())


def ring_correlation(one: Image, other: Image, pixel_um: float) -> list[tuple[float, float]]:
    """Fourier ring correlation of two images of equal grid: (frequency per um, correlation)."""
    shift = phase_cross_correlation(one, other, upsample_factor=20)[0]
    window = np.hanning(one.shape[0])[:, None] * np.hanning(one.shape[1])
    a, b = (np.fft.fft2((image - image.mean()) * window) for image in (one, other))
    fy = np.fft.fftfreq(one.shape[0], pixel_um)[:, None]
    fx = np.fft.fftfreq(one.shape[1], pixel_um)
    b = b * np.exp(-2j * np.pi * pixel_um * (fy * shift[0] + fx * shift[1]))
    rings = np.hypot(fy, fx)
    found = []
    for low in np.arange(0.02, 0.5 / pixel_um, 0.04):
        ring = (rings >= low) & (rings < low + 0.04)
        power = np.sqrt((np.abs(a[ring]) ** 2).sum() * (np.abs(b[ring]) ** 2).sum())
        found.append((low + 0.02, float((a[ring] * np.conj(b[ring])).sum().real / power)))
    return found


def finest(correlation: list[tuple[float, float]], limit: float) -> float:
    """Highest frequency up to which all rings agree, in cycles per micrometre.

    Beyond the limit of what was lit, a modulus holds only what its square root adds.
    """
    agreed = 0.0
    for frequency, value in correlation:
        if value < AGREED or frequency > limit:
            break
        agreed = frequency
    return agreed


def bright_field(stack: LedStack) -> Image:
    """Amplitude of the sum over the LEDs inside the aperture, shape (y, x)."""
    inside = stack.steepness <= stack.na
    return np.sqrt(np.square(stack.amplitude[inside]).sum(axis=0))


def draw(
    stacks: dict[str, LedStack],
    results: dict[str, SyntheticAperture],
    reference: Path,
    target: Path,
) -> None:
    """Central LED, sum of the bright-field LEDs, amplitude, phase, the set's own reconstruction."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    stack, result = stacks["green"], results["green"]
    colour = np.stack([results[name].amplitude for name in COLOURS], axis=-1)
    colour = np.clip(colour / np.percentile(colour, 99, axis=(0, 1)), 0, 1)
    panels = {
        "central LED (green)": stack.amplitude[np.argmin(stack.steepness)],
        "bright-field LEDs added (green)": bright_field(stack),
        "synthetic aperture, amplitude (green)": result.amplitude,
        "phase (green)": result.phase,
        "amplitude in three colours": colour,
        "reference of the data set": plt.imread(reference),
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(2.4 * len(panels), 5))
    for axis, (title, image) in zip(axes, panels.items(), strict=True):
        low, high = (None, None) if image.ndim == 3 else np.percentile(image, (1, 99))
        axis.imshow(image, cmap="gray", interpolation="nearest", vmin=low, vmax=high)
        axis.set_title(title, fontsize=7)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(target, dpi=75)


def main() -> None:
    """Measure, print, and draw on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, help="write a picture here")
    parser.add_argument("--rounds", type=int, default=ApertureSettings().rounds)
    parser.add_argument("--quick", action="store_true", help="two rounds")
    options = parser.parse_args()
    rounds = 2 if options.quick else options.rounds
    data = os.environ.get("PLSCTL_DATA")
    if not data:
        raise SystemExit("PLSCTL_DATA names no folder with the real image sets.")
    folder = Path(data) / "fpm_bloodsmear"
    stacks = {colour: read_stack(folder, colour) for colour in COLOURS}
    settings = ApertureSettings(upsampling=4, rounds=rounds)
    print("| colour | seconds | all | used | left out | mean of used | median left out | noise |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    results = {}
    for colour, stack in stacks.items():
        results[colour], found = measure(stack, settings)
        values = " | ".join(
            f"{value:.4f} ({math.sqrt(value):.3f})"
            for value in (found.every, found.used, found.left_out)
        )
        print(
            f"| {colour} | {found.seconds:.1f} | {values} | {found.mean_used:.3f} | "
            f"{found.median_left_out:.3f} | {found.noise:.5f}, mean {found.noise_mean:.3f} |",
            flush=True,
        )
    print("\naberrations above 0.05 rad RMS, Zernike (n, m):")
    for colour, result in results.items():
        strong = {term: round(c, 2) for term, c in result.aberrations.items() if abs(c) > 0.05}
        print(f"{colour}: {strong}")
    plain = settings.model_copy(
        update=dict.fromkeys(("recover_pupil", "recover_brightness", "recover_directions"), False)
    )
    print("\nfixed ideal pupil, equal LEDs, directions of the table, all 225:", end=" ")
    print({c: round(reconstruct(s, plain).total_residual(s), 4) for c, s in stacks.items()})
    print("\nfinest detail on which colours agree (cycles per um; Fourier ring correlation > 0.5)")
    for one, other in (("red", "green"), ("green", "blue")):
        made = ring_correlation(
            results[one].amplitude, results[other].amplitude, results[one].pixel_um
        )
        single = ring_correlation(
            bright_field(stacks[one]), bright_field(stacks[other]), stacks[one].pixel_um
        )
        stack = stacks[one]
        reach = (stack.na + stack.steepness.max()) / stack.wavelength_um
        limit = 2 * stacks[other].na / stacks[other].wavelength_um
        print(
            f"{one}-{other}: synthetic aperture {finest(made, reach):.2f}, bright-field LEDs added "
            f"{finest(single, limit):.2f}; a single image cannot carry more than {limit:.2f}"
        )
        print("  " + " ".join(f"{f:.2f}:{value:.2f}" for f, value in made))
    if options.figure:
        draw(stacks, results, folder / "ref_fp_rgb_256x512.png", options.figure)


if __name__ == "__main__":
    main()
