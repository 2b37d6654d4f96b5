"""What both input and target of a sample show, and what only one of them shows.

A stained crop is the unstained one times what the stain lets through: rims and halos are the same
in both. The difference of their absorbances is therefore the stain alone, 0 on glass, and what
contradicts that is dirt, a precipitate, a cell that was washed off, or stain that leaked.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from plsctl.acquire.arrays import FloatArray, Image, Mask
from plsctl.process.quality.glass import glass_level

MOVED_PX = 3
"""Staining moves cells by up to this much: objects this near are taken as the same."""

DARKER, DIRT_DISC_PX, DIRT_MOVED_PX = 0.25, 7, 1
"""Dirt is darker than the target by this absorbance over discs of this width. The rims of cells
that were moved are thinner, so that little need be allowed for moves."""

VANISHED = 0.2
"""Absorbance of rims that the target does not show."""

PEAK_PX = 10
"""Pixels of a spot that count."""

RIM, BARE, LEAKED, STRAY = 0.1, 0.06, 0.12, 0.15
"""Absorbance of a rim in the input, in green of bare glass and of leaked stain, and in red, which
red cells let pass, of a precipitate."""

NUCLEAR, SPECK_DISC_PX, SPECK = 0.3, 5, 0.1
"""Absorbance in red of nuclei; width of the disc that specks are smaller than, and how much denser
than their surroundings they are."""

EDGE_PX = 3
"""Rim of the crop that is ignored, because filters reach beyond it."""


@dataclass(frozen=True)
class Content:
    """Measures of a sample's content.

    `nucleus` is the absorbance (rgb) of the stain in the middle of the crop where it is densest.
    `dirt_px` and `vanished_px` are areas that only the input shows, massive or thin. `spot` is the
    peak of the stain's absorbance in red, as a multiple of the nucleus's; `unexplained` the
    largest absorbance in red that the texture of the input does not account for, `peak` the largest
    of all. `leak_px` is the area of stain on what the input shows as glass, `stray_px` of such as
    is dense in red.
    """

    nucleus: tuple[float, float, float]
    dirt_px: int
    vanished_px: int
    spot: float
    unexplained: float
    peak: float
    leak_px: int
    stray_px: int


@dataclass(frozen=True)
class Grain:
    """Spots in the stain of a 100x target, by their absorbance in red.

    `peak` is that of the densest pixels, `spot` the same as a multiple of the nucleus's, and
    `specks` the sum over small dense things beside the nuclei where the input is smooth: granules
    of cells show there too.
    """

    peak: float
    spot: float
    specks: float


def absorbance(image: Image, black_level: float, glass: FloatArray | None = None) -> FloatArray:
    """Natural absorbance against the glass around a crop, (y, x, rgb); see `glass_level`."""
    light = image.astype(np.float32) - np.float32(black_level)
    background = glass_level(image, black_level, glass)
    share = np.maximum(light, 2) / np.maximum(background, 2).astype(np.float32)
    return np.asarray(-np.log(share), dtype=np.float32)


def measure_content(
    bright: Image, target: Image, black_level: float, glass: FloatArray | None = None
) -> Content:
    """Compare a sample's input with its 20x target.

    Parameters
    ----------
    bright
        The bright-field image and the single-LED images inside the aperture,
        (image, y, x, rgb), uint8, bright field first.
    target
        The stained crop, (y, x, rgb), uint8.
    black_level
        Grey value without light.
    glass
        Grey values (input and target, rgb) of the glass of their whole fields there; where it is
        not given, the brightest parts of the crops are taken for it.
    """
    before, after = _both(bright[0], target, black_level, glass)
    stain = after - before
    nucleus = nucleus_absorbance(stain)
    # All of it is smooth: every second pixel is enough.
    coarse, texture = stain[::2, ::2], _texture(bright, before)[::2, ::2]
    residual = coarse - _expected(coarse, texture)
    red = np.asarray(cv2.GaussianBlur(residual[..., 0], (0, 0), 0.6), np.float32)
    edge = EDGE_PX // 2
    dirt, vanished = _only_in_input(before, after)
    leaked, stray = _on_glass(before, stain)
    return Content(
        nucleus=nucleus,
        dirt_px=int(np.count_nonzero(dirt)),
        vanished_px=int(np.count_nonzero(vanished)),
        spot=spot_peak(stain, nucleus),
        unexplained=float(red[edge:-edge, edge:-edge].max()),
        peak=_peak(stain[..., 0]),
        leak_px=int(np.count_nonzero(leaked)),
        stray_px=int(np.count_nonzero(stray)),
    )


def content_masks(bright_field: Image, target: Image, black_level: float) -> dict[str, Mask]:
    """Masks of the areas that `measure_content` counts, by measure.

    Parameters
    ----------
    bright_field, target
        Unstained image and 20x target, (y, x, rgb), uint8.
    black_level
        Grey value without light.

    Returns
    -------
    Masks (y, x) of `dirt_px`, `vanished_px`, `leak_px` and `stray_px`.
    """
    before, after = _both(bright_field, target, black_level, None)
    dirt, vanished = _only_in_input(before, after)
    leaked, stray = _on_glass(before, after - before)
    return {"dirt_px": dirt, "vanished_px": vanished, "leak_px": leaked, "stray_px": stray}


def _both(
    bright_field: Image, target: Image, black_level: float, glass: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Smooth absorbances of input and target."""
    levels = (None, None) if glass is None else (glass[0], glass[1])
    before, after = (
        np.asarray(
            cv2.GaussianBlur(absorbance(image, black_level, level), (0, 0), 1.0), dtype=np.float32
        )
        for image, level in zip((bright_field, target), levels, strict=True)
    )
    return before, after


def measure_grain(
    bright_field: Image,
    target: Image,
    black_level: float,
    glass: FloatArray | None = None,
) -> Grain:
    """Look for precipitate in a 100x target, which has no rims: its absorbance is the stain's.

    Parameters
    ----------
    bright_field, target
        Unstained and stained image, (y, x, rgb), uint8.
    black_level
        Grey value without light.
    glass
        As for `measure_content`, of the unstained image and of the 100x target.
    """
    levels = (None, None) if glass is None else (glass[0], glass[1])
    raw = absorbance(target, black_level, levels[1])
    before = cv2.GaussianBlur(absorbance(bright_field, black_level, levels[0]), (0, 0), 1.0)
    smooth = np.abs(before).max(axis=2) < RIM
    stain = np.asarray(cv2.GaussianBlur(raw, (0, 0), 1.0), np.float32)
    red = np.asarray(cv2.GaussianBlur(raw[..., 0], (0, 0), 0.5), np.float32)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (SPECK_DISC_PX,) * 2)
    nuclei = cv2.morphologyEx((red > NUCLEAR).astype(np.uint8), cv2.MORPH_OPEN, disc)
    beside = cv2.dilate(nuclei, np.ones((3, 3), np.uint8)) == 0
    small = cv2.morphologyEx(red, cv2.MORPH_TOPHAT, disc)
    specks = np.maximum(np.where(beside & smooth, small, 0) - SPECK, 0)
    return Grain(
        peak=_peak(stain[..., 0]),
        spot=spot_peak(stain, nucleus_absorbance(stain)),
        specks=float(specks[EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX].sum()),
    )


def nucleus_absorbance(stain: FloatArray) -> tuple[float, float, float]:
    """Median absorbance (rgb) of the densest quarter of the middle of a crop."""
    height, width = stain.shape[:2]
    middle = stain[height // 4 : height - height // 4, width // 4 : width - width // 4]
    green = middle[..., 1]
    dense = middle[green >= np.percentile(green, 75)]
    red, green_middle, blue = np.median(dense, axis=0)
    return float(red), float(green_middle), float(blue)


def spot_peak(stain: FloatArray, nucleus: tuple[float, float, float]) -> float:
    """Absorbance in red of the densest pixels as a multiple of the nucleus's; 0 without one."""
    if nucleus[0] < 0.1:
        return 0.0
    return _peak(stain[..., 0]) / nucleus[0]


def _peak(values: FloatArray) -> float:
    """Mean of the largest values of a crop, (y, x)."""
    inner = values[EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX].ravel()
    return float(np.partition(inner, -PEAK_PX)[-PEAK_PX:].mean())


def _only_in_input(before: FloatArray, after: FloatArray) -> tuple[Mask, Mask]:
    """Areas in which the input is darker than anything near in the target: massive ones, all."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (DIRT_DISC_PX,) * 2)
    massive = (_darker(before, after, DIRT_MOVED_PX) > DARKER).astype(np.uint8)
    dirt = cv2.morphologyEx(massive, cv2.MORPH_OPEN, disc)
    vanished = _darker(before, after, MOVED_PX) > VANISHED
    return dirt > 0, vanished


def _darker(before: FloatArray, after: FloatArray, moved_px: int) -> FloatArray:
    """Excess absorbance of the input over the largest nearby value of the target, (y, x)."""
    near = np.ones((2 * moved_px + 1,) * 2, np.uint8)
    return np.asarray((before - cv2.dilate(after, near)).max(axis=2), dtype=np.float32)


def _on_glass(before: FloatArray, stain: FloatArray) -> tuple[Mask, Mask]:
    """Stained areas, leaked and stray, in regions between rims that hold bare glass."""
    rims = (np.abs(before).max(axis=2) > RIM).astype(np.uint8)
    open_ = cv2.dilate(rims, np.ones((3, 3), np.uint8)) == 0
    count, regions = cv2.connectedComponents(open_.astype(np.uint8), connectivity=4)
    smooth = np.asarray(cv2.GaussianBlur(stain, (0, 0), 1.0), np.float32)
    red, green = smooth[..., 0], smooth[..., 1]
    bare = np.bincount(regions.ravel(), (green < BARE).ravel(), minlength=count)
    size = np.bincount(regions.ravel(), minlength=count)
    glass = bare > 0.25 * size
    glass[0] = False
    on_glass = glass[regions]
    return on_glass & (green > LEAKED), on_glass & (red > STRAY)


def _texture(bright: Image, before: FloatArray) -> FloatArray:
    """Features of the input by which nucleus, cytoplasm and glass differ, (y, x, feature)."""
    dark = before.mean(axis=2)
    near = np.ones((7, 7), np.uint8)
    features = [cv2.GaussianBlur(dark, (0, 0), 3.0), dark]
    for local in (cv2.erode(dark, near), cv2.dilate(dark, near)):
        features.append(cv2.GaussianBlur(local, (0, 0), 1.5))
    # Plane by plane: NumPy's mean over an axis of three takes ten times as long.
    grey = np.add(bright[..., 0], bright[..., 1], dtype=np.float32)
    grey += bright[..., 2]
    grey /= 3
    for images in (grey[:1], grey[1:]):
        if len(images):
            energy = _fine_energy(images)
            features += [
                np.log(cv2.GaussianBlur(energy, (0, 0), sigma) + np.float32(1e-4))
                for sigma in (1.5, 3.0)
            ]
    return np.stack(features, axis=-1)


def _fine_energy(images: FloatArray) -> FloatArray:
    """Mean square of the images' detail finer than some pixels, relative to their mean; (y, x)."""
    energy = np.zeros(images.shape[1:], dtype=np.float32)
    for image in images:
        relative = image / max(float(image.mean()), 1.0)
        energy += (relative - cv2.GaussianBlur(relative, (0, 0), 1.5)) ** 2
    return energy / np.float32(len(images))


def _expected(stain: FloatArray, features: FloatArray) -> FloatArray:
    """The stain predicted from the features by robust quadratic regression in this crop."""
    count = features.shape[2]
    columns = features.reshape(-1, count)
    columns = (columns - columns.mean(axis=0)) / (columns.std(axis=0) + np.float32(1e-6))
    one, other = np.triu_indices(count)
    products = columns[:, one] * columns[:, other]
    terms = np.concatenate([np.ones((len(columns), 1), np.float32), columns, products], axis=1)
    wanted = stain.reshape(-1, 3)
    some, known = terms[::2].astype(np.float64), wanted[::2].astype(np.float64)
    ridge = 1e-2 * len(some) * np.eye(some.shape[1])
    weights = np.ones(len(some))
    for _ in range(3):
        weighted = some.T * weights
        factors = np.linalg.solve(weighted @ some + ridge, weighted @ known)
        error = np.abs(known[:, 1] - some @ factors[:, 1])
        weights = 1 / np.maximum(1, error / max(3 * float(np.median(error)), 1e-6))
    return np.asarray(terms @ factors.astype(np.float32), np.float32).reshape(stain.shape)
