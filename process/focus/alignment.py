"""Alignment of frames that show one scene at different focus: shift, rotation and scale."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import Image
from plsctl.acquire.errors import UserError

Transform = NDArray[np.float64]

_LONG_SIDE_PX = 640
"""Frames are aligned at this size first: focus breathing moves the rim by many pixels."""
_FINE_SIDE_PX = 1600
_LEAST_CORRELATION = 0.3


def align_frames(frames: Sequence[Image], reference: int) -> tuple[list[Image], list[Transform]]:
    """Bring all frames onto one of them.

    Neighbours in the stack, which are blurred alike, are registered by their enhanced correlation
    coefficient (Evangelidis and Psarakis 2008), coarse to fine, and the steps are chained. Only
    shift, rotation and scale are kept.

    Parameters
    ----------
    frames
        Images of one size, (y, x, rgb), in the order of focus.
    reference
        Index of the frame that stays as it is.

    Returns
    -------
    The aligned frames, and for each the matrix (2, 3) that maps pixels (x, y) of the reference to
    pixels of the frame. What lies outside a frame repeats its border.

    Raises
    ------
    UserError
        When neighbours show too little in common.
    """
    steps: dict[tuple[int, int], Transform] = {}
    for index in range(len(frames)):
        if index != reference:
            towards = index + (1 if index < reference else -1)
            steps[index, towards] = _register(frames[towards], frames[index], index)
    transforms, aligned = [], []
    for index, frame in enumerate(frames):
        matrix, place = np.eye(3), index
        while place != reference:
            towards = place + (1 if place < reference else -1)
            matrix, place = matrix @ _square(steps[place, towards]), towards
        transforms.append(matrix[:2])
        aligned.append(_warp(frame, matrix[:2]) if index != reference else frame)
    return aligned, transforms


def _square(matrix: Transform) -> Transform:
    return np.vstack([matrix, [0.0, 0.0, 1.0]])


def _warp(frame: Image, matrix: Transform) -> Image:
    size = (frame.shape[1], frame.shape[0])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(frame, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8)


def _register(template: Image, frame: Image, index: int) -> Transform:
    """Matrix (2, 3) from pixels of the template to pixels of the frame."""
    matrix = np.eye(2, 3)
    for side in (_LONG_SIDE_PX, _FINE_SIDE_PX):
        shrink = max(1.0, max(frame.shape[:2]) / side)
        one, other = (_reduced(image, shrink) for image in (template, frame))
        guess = _scaled(matrix, 1 / shrink).astype(np.float32)
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
        try:
            score, found = cv2.findTransformECC(one, other, guess, cv2.MOTION_AFFINE, stop)
        except cv2.error:
            score, found = 0.0, guess
        if score < _LEAST_CORRELATION:
            raise UserError(
                f"frame {index + 1} shows too little in common with its neighbour to be aligned.",
                hint="Check the order of the frames, or use --no-align.",
            )
        matrix = _similarity(_scaled(found.astype(np.float64), shrink), frame.shape)
        if shrink == 1.0:
            break
    return matrix


def _reduced(image: Image, shrink: float) -> NDArray[np.float32]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if shrink > 1:
        size = (round(image.shape[1] / shrink), round(image.shape[0] / shrink))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.5), dtype=np.float32)


def _scaled(matrix: Transform, factor: float) -> Transform:
    """The same motion where pixels are `factor` times as many along a side."""
    result = matrix.copy()
    # Pixel centres: x_large + 1/2 = factor (x_small + 1/2).
    offset = (factor - 1) / 2
    shift = factor * matrix[:, 2] + offset * (1 - matrix[:, :2].sum(axis=1))
    result[:, 2] = shift
    return result


def _similarity(matrix: Transform, shape: tuple[int, ...]) -> Transform:
    """The shift, rotation and scale nearest to an affine motion, equal in the image's centre."""
    a, b = (matrix[0, 0] + matrix[1, 1]) / 2, (matrix[1, 0] - matrix[0, 1]) / 2
    centre = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    turn = np.array([[a, -b], [b, a]])
    shift = matrix[:, :2] @ centre + matrix[:, 2] - turn @ centre
    return np.column_stack([turn, shift])
