"""The synthetic aperture as two more images of every sample of a data set.

Its real and its imaginary part, in three colours, are brought to the pixels of the stack and
stored as counts like the other images, -2 to 2 over the full scale. The parts and not amplitude and
phase: a phase jumps where it passes pi, which networks cannot follow. Modulus 1 is the mean light
under the most central LED; phase 0 is the commonest phase of the sample, that of the glass between
cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from plsctl.acquire.arrays import ComplexArray
from plsctl.acquire.errors import UserError
from plsctl.acquire.words import counted
from plsctl.process.aperture.image import SyntheticAperture
from plsctl.process.aperture.led_stack import SampleOptics, stack_from_sample
from plsctl.process.aperture.orientation_check import check_orientation, residual_note
from plsctl.process.aperture.reconstruction import ApertureSettings, reconstruct
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.records import DatasetFrame
from plsctl.process.dataset.single_leds import Counts
from plsctl.process.dataset.splits import is_damaged
from plsctl.process.dataset.writer import DatasetWriter
from plsctl.process.workers.local import local_workers

PARTS = ("real", "imaginary")
LABELS = tuple(f"synthetic-{part}" for part in PARTS)
SUFFIX = "+synthetic"
"""Added to the name of the recipe, which holds two images more."""

LARGEST = 2.0
PHASES = 64
"""Bins of the histogram in which the commonest phase is found."""
BATCH = 16
ROUNDS = 10
"""For samples; those of a slide start from the lens and LEDs found by its first one."""

Starts = tuple[SyntheticAperture, SyntheticAperture, SyntheticAperture]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Job:
    """Some samples of one slide."""

    data: str
    numbers: tuple[int, ...]
    optics: SampleOptics
    starts: Starts


def add_synthetic_aperture(
    data: Dataset,
    out: Path | str,
    *,
    na: float = 0.4,
    wavelengths_um: tuple[float, float, float] = (0.630, 0.530, 0.460),
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
    notify: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Write a data set with the synthetic aperture as two more images of every sample.

    The same for any number of workers.

    Parameters
    ----------
    na, wavelengths_um
        Of the objective the stacks were taken with, and of the light (red, green, blue).
    notify
        Called with what speaks against the LED table of a slide.

    Raises
    ------
    UserError
        The data set has these images already, has none under single LEDs, or exists.
    """
    if set(LABELS) & set(data.labels):
        raise UserError(f"the data set {data.path} holds the synthetic aperture already.")
    damaged = int(is_damaged(data.table).sum())
    if damaged:
        raise UserError(
            f"{counted(damaged, 'sample')} of it cannot be read.",
            file=data.path,
            hint=f"Write it anew without them: plsctl dataset merge {data.path} -o NEW.zarr.",
        )
    optics = _optics(data, na, wavelengths_um)
    with DatasetWriter(
        out,
        [*data.frames, *_new_frames(optics)],
        recipe=data.recipe + SUFFIX,
        pixel_um=data.pixel_um,
        crop_px=data.crop_px,
        margin_px=data.margin_px,
        targets=data.targets,
        attributes=data.attributes.model_dump(mode="json", exclude=_OWN, exclude_unset=True),
        dtype=data.dtype,
        overwrite=overwrite,
    ) as writer:
        jobs = _jobs(data, optics, notify)
        with local_workers(workers) as pool:
            ready: dict[int, Counts] = {}
            following = 0
            for number, images in pool.run(_put_together, jobs):
                ready[number] = images
                # Written in the order of the samples, whoever finishes first.
                while following in ready:
                    _copy(data, jobs[following].numbers, ready.pop(following), writer)
                    following += 1
                    progress(len(writer), len(data))
        writer.finish()
    return Dataset.open(out)


_OWN = {
    "format", "version", "axes", "recipe", "frames", "targets", "pixel_um", "crop_px", "margin_px",
    "complete",
}  # fmt: skip
"""Attributes that the writer sets."""


def _optics(data: Dataset, na: float, wavelengths_um: tuple[float, float, float]) -> SampleOptics:
    frames = []
    for frame in data.frames:
        if frame.direction is not None and frame.exposure_ms is None:
            raise UserError(
                f"the data set {data.path} does not say how image {frame.label} was exposed.",
                hint="Build it again with this plsctl.",
            )
        frames.append(frame.record())
    return SampleOptics(
        frames=tuple(frames),
        black_level=data.attributes.black,
        full_scale=data.attributes.white,
        orientation=data.attributes.orientation,
        pixel_um=data.pixel_um,
        na=na,
        wavelengths_um=wavelengths_um,
    )


def _new_frames(optics: SampleOptics) -> list[DatasetFrame]:
    """The two images as a data set describes images: made of the light of all single LEDs."""
    leds = {led for frame in optics.frames if frame.direction is not None for led in frame.leds}
    return [
        DatasetFrame(label=label, led="synthetic", variant=part, leds=tuple(sorted(leds)))
        for label, part in zip(LABELS, PARTS, strict=True)
    ]


def _jobs(data: Dataset, optics: SampleOptics, notify: Callable[[str], None]) -> list[_Job]:
    """Consecutive samples of one slide, and the lens as its first sample shows it."""
    starts: dict[str, Starts] = {}
    jobs = []
    slides = [str(slide) for slide in data.table["slide"]]
    first = 0
    while first < len(slides):
        last = first
        while last < min(len(slides), first + BATCH) and slides[last] == slides[first]:
            last += 1
        if slides[first] not in starts:
            # The last one mostly lies at another position than the first.
            far = len(slides) - 1 - slides[::-1].index(slides[first])
            starts[slides[first]], notes = _begin(data, first, far, optics)
            for note in notes:
                notify(f"Slide {slides[first]}: {note}")
        jobs.append(_Job(str(data.path), tuple(range(first, last)), optics, starts[slides[first]]))
        first = last
    return jobs


def _begin(data: Dataset, number: int, far: int, optics: SampleOptics) -> tuple[Starts, list[str]]:
    """The lens as a slide's first sample shows it, and what speaks against the LED table.

    `far` is another sample of the slide, by which the table is checked too, where there is one.
    """
    images = _images(data, [number])[0]
    stacks = [stack_from_sample(images, colour, optics) for colour in range(3)]
    red, green, blue = (reconstruct(stack, ApertureSettings()) for stack in stacks)
    seen = stacks[1:2]
    if far != number:
        seen.append(stack_from_sample(_images(data, [far])[0], 1, optics))
    residual = green.total_residual(stacks[1].lit_from(green.directions))
    notes = [residual_note(residual, min(images.shape[-2:])), check_orientation(seen).sentence]
    return (red, green, blue), [note for note in notes if note]


def _images(data: Dataset, numbers: Sequence[int]) -> Counts:
    images: Counts = data.read_images(numbers, range(len(data.frames)), data.margin_px)  # type: ignore[assignment]
    return images


def _put_together(job: _Job) -> Counts:
    """Both parts of the field of some samples, (n, 2, 3, y, x)."""
    stacks = _images(Dataset.open(job.data), job.numbers)
    made = np.empty((len(stacks), 2, *stacks.shape[2:]), stacks.dtype)
    settings = ApertureSettings(rounds=ROUNDS, recover_pupil=False, recover_directions=False)
    for images, result in zip(stacks, made, strict=True):
        for colour, start in enumerate(job.starts):
            found = reconstruct(stack_from_sample(images, colour, job.optics), settings, start)
            result[:, colour] = encode(on_glass(_on_camera_pixels(found)), job.optics.full_scale)
    return made


def _on_camera_pixels(found: SyntheticAperture) -> ComplexArray:
    """The field at the pixels of the stack; what is finer than they can show is taken out."""
    up = found.upsampling
    if up == 1:
        return found.field
    rising = np.arange(1, up + 1) / up**2
    triangle = np.concatenate([rising, rising[-2::-1]])
    smooth = convolve1d(convolve1d(found.field, triangle, axis=0), triangle, axis=1)
    return np.asarray(smooth[::up, ::up], np.complex64)


def on_glass(field: ComplexArray) -> ComplexArray:
    """The field turned so that its commonest phase is 0."""
    phases = np.angle(field).ravel()
    counts, _ = np.histogram(phases, PHASES, (-np.pi, np.pi))
    smooth = convolve1d(counts.astype(float), np.hanning(9)[1:-1], mode="wrap")
    peak = (int(np.argmax(smooth)) + 0.5) * 2 * np.pi / PHASES - np.pi
    near = np.exp(1j * (phases - peak))
    glass = near[near.real > np.cos(0.4)].mean()
    return np.asarray(field * np.exp(-1j * (peak + np.angle(glass))), np.complex64)


def encode(field: ComplexArray, full_scale: float) -> NDArray[np.int64]:
    """Real and imaginary part as counts, (2, y, x)."""
    parts = np.stack([field.real, field.imag])
    shares = np.clip(parts / (2 * LARGEST) + 0.5, 0, 1)
    return np.asarray(np.rint(shares * full_scale), np.int64)


def decode(counts: Counts, full_scale: float) -> ComplexArray:
    """The complex field from the two images of a sample, (2, ..., y, x)."""
    parts = (counts.astype(np.float32) / np.float32(full_scale) - np.float32(0.5)) * (2 * LARGEST)
    return np.asarray(parts[0] + 1j * parts[1], np.complex64)


def _copy(data: Dataset, numbers: Sequence[int], made: Counts, writer: DatasetWriter) -> None:
    """Samples with their two new images; those with the same targets go together."""
    rows = data.table.iloc[list(numbers)]
    every = ";".join(data.targets)
    present = rows["targets"].tolist() if "targets" in rows else [every] * len(rows)
    stacks = np.concatenate([_images(data, numbers), made], axis=1)
    first = 0
    while first < len(rows):
        last = first
        while last < len(rows) and present[last] == present[first]:
            last += 1
        names = [name for name in present[first].split(";") if name]
        targets = {name: data.read_target(name, numbers[first:last]) for name in names}
        writer.append(stacks[first:last], targets, rows.iloc[first:last])
        first = last
