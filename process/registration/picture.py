"""A picture of two slides laid over each other."""

from __future__ import annotations

import cv2
import numpy as np

from plsctl.acquire.arrays import Image
from plsctl.acquire.coordinates import ImageAxes
from plsctl.process.matching.correlation import grey_image
from plsctl.process.matching.similarity import Points, Similarity
from plsctl.process.registration.slide_images import SlideImages

LONGER_SIDE_PX = 1600
MOST_FIELDS = 400
"""Of each slide: a picture of the whole is made of so many at most, evenly chosen."""


def overlay(before: SlideImages, after: SlideImages, motion: Similarity | None) -> Image:
    """Both slides in the frame of A, (y, x, rgb): A in red, B in green and blue.

    Where both show the same the picture is grey. Without a motion B lies as it lay on its stage.
    """
    back = Similarity() if motion is None else motion.inverse
    corners = np.concatenate([_corners(before, Similarity()), _corners(after, back)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    um_per_px = max(*(high - low) / LONGER_SIDE_PX, before.pixel_um)
    width, height = (int(side) + 1 for side in (high - low) / um_per_px)
    to_picture = Similarity(1 / um_per_px, -complex(*low) / um_per_px)
    size = (width, height)
    ours = _mosaic(before, to_picture, size, um_per_px)
    theirs = _mosaic(after, back.then(to_picture), size, um_per_px)
    return np.stack([ours, theirs, theirs], axis=-1)


def _axes(images: SlideImages, index: int, size_px: tuple[int, int]) -> ImageAxes:
    return ImageAxes(images.places_um[index], size_px, images.pixel_um, images.orientation)


def _corners(images: SlideImages, motion: Similarity) -> Points:
    """Where the images reach, (n, 2): all of them are taken to be as large as the first."""
    height, width = images.read(0).shape[:2]
    found = []
    for index in range(len(images.places_um)):
        axes = _axes(images, index, (width, height))
        found += [axes.to_um(float(x), float(y)) for x in (0, width) for y in (0, height)]
    return motion.apply(np.array(found))


def _mosaic(
    images: SlideImages, to_picture: Similarity, size: tuple[int, int], um_per_px: float
) -> Image:
    """Grey values of all images where they lie in the picture, (y, x); black between them."""
    mosaic = np.zeros(size[::-1], np.uint8)
    step = -(-len(images.places_um) // MOST_FIELDS)
    shrink = um_per_px / images.pixel_um
    for index in range(0, len(images.places_um), step):
        grey = grey_image(images.read(index))
        axes = _axes(images, index, (grey.shape[1], grey.shape[0]))
        if shrink > 1:
            grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), shrink / 2), np.uint8)
        last = [[0.0, 0.0, 1.0]]
        matrix = to_picture.matrix @ np.vstack([axes.matrix, last])
        cv2.warpAffine(
            grey,
            matrix,
            size,
            dst=mosaic,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
    return mosaic
