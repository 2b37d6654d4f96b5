"""Focus stacking: one sharp image from frames at different focus.

Two classical methods. Wavelets: of all frames, each coefficient is taken from where there is most
detail around it, so that transitions stay smooth. Modified Harris response: each pixel is taken
whole from the frame in which edges and corners around it respond most (Sigdel et al. 2016, the
mask generator of papers/004), which also gives a map of depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2
import numpy as np
import pywt
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from plsctl.acquire.arrays import Image
from plsctl.acquire.errors import UserError
from plsctl.acquire.words import counted
from plsctl.process.focus.alignment import Transform, align_frames

Plane: TypeAlias = NDArray[np.float32]
Bands: TypeAlias = list[list[Plane]]

_MOST_FRAMES = 255
_DERIVATIVE = np.array([[1, -8, 0, 8, -1]], dtype=np.float32) / 12
"""Central difference of fourth order."""


class FocusStackSettings(BaseModel):
    """How frames are joined.

    Lengths in pixels: `tensor_px` is the Gaussian of the structure tensor, `window_px` that in
    which responses are compared. `harris_k` weighs the trace of the tensor; where the response of
    the best frame is below `least_response` of the image's 99th percentile there is nothing in
    focus, and the plane of the surroundings is taken.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["wavelet", "harris"] = "wavelet"
    align: bool = True
    wavelet: str = "sym4"
    levels: int | None = Field(default=None, ge=1)
    harris_k: float = Field(default=0.05, gt=0)
    tensor_px: float = Field(default=1.5, gt=0)
    window_px: float = Field(default=7.0, gt=0)
    least_response: float = Field(default=0.002, ge=0, lt=1)


@dataclass(frozen=True)
class FocusStack:
    """A stack joined to one image.

    Parameters
    ----------
    image
        Shape (y, x, rgb), uint8, in the pixels of the reference frame.
    depth
        Index of the frame in focus, shape (y, x), uint8.
    reference
        Index of the frame onto which the others were brought.
    transforms
        See `align_frames`; identities without alignment.
    """

    image: Image
    depth: NDArray[np.uint8]
    reference: int
    transforms: tuple[Transform, ...]


def harris_response(image: Image, k: float = 0.05, tensor_px: float = 1.5) -> Plane:
    """Modified Harris response |det M| + k trace(M)^2 of the structure tensor M, shape (y, x).

    The usual response, det M - k trace(M)^2, is negative along edges; with the sign turned, edges
    tell focus as corners do (Sigdel et al. 2016). Its square root is given, which grows as the
    square of contrast.

    Parameters
    ----------
    image
        Shape (y, x, rgb), uint8; its channels' mean is used.
    k
        Weight of the trace.
    tensor_px
        Standard deviation of the Gaussian window of M.
    """
    grey = image.mean(axis=2, dtype=np.float32)
    across = cv2.sepFilter2D(grey, cv2.CV_32F, _DERIVATIVE, np.ones((1, 1), np.float32))
    down = cv2.sepFilter2D(grey, cv2.CV_32F, np.ones((1, 1), np.float32), _DERIVATIVE.T)
    xx, yy, xy = (_smooth(product, tensor_px) for product in _products(across, down))
    determinant = np.abs(xx * yy - xy * xy)
    response: Plane = np.sqrt(determinant + np.float32(k) * np.square(xx + yy))
    return response


def _products(across: NDArray[np.generic], down: NDArray[np.generic]) -> tuple[Plane, ...]:
    x, y = np.asarray(across, np.float32), np.asarray(down, np.float32)
    return x * x, y * y, x * y


def _smooth(plane: Plane, sigma_px: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma_px), dtype=np.float32)


def depth_map(frames: Sequence[Image], settings: FocusStackSettings) -> NDArray[np.uint8]:
    """Index of the frame in focus at each pixel, by the modified Harris response, shape (y, x)."""
    best = np.full(frames[0].shape[:2], -1.0, dtype=np.float32)
    depth = np.zeros(best.shape, dtype=np.uint8)
    for index, frame in enumerate(frames):
        response = harris_response(frame, settings.harris_k, settings.tensor_px)
        response = _smooth(response, settings.window_px)
        better = response > best
        depth[better] = index
        np.maximum(best, response, out=best)
    unsure = best < settings.least_response * float(np.percentile(best[::4, ::4], 99))
    depth = _fill(depth, unsure)
    size = 2 * round(settings.window_px / 2) + 1
    return np.asarray(cv2.medianBlur(depth, size), dtype=np.uint8)


def _fill(depth: NDArray[np.uint8], unsure: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fill uncertain pixels with the plane of the nearest certain one."""
    if not unsure.any() or unsure.all():
        return depth
    labels = cv2.distanceTransformWithLabels(
        unsure.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )[1]
    planes = np.zeros(int(labels.max()) + 1, dtype=np.uint8)
    planes[labels[~unsure]] = depth[~unsure]
    return np.asarray(planes[labels], dtype=np.uint8)


def _compose(frames: Sequence[Image], depth: NDArray[np.uint8]) -> Image:
    image = frames[0].copy()
    for index, frame in enumerate(frames):
        chosen = depth == index
        image[chosen] = frame[chosen]
    return image


def _levels(shape: tuple[int, ...], settings: FocusStackSettings) -> int:
    most = pywt.dwtn_max_level(shape[:2], settings.wavelet)
    if settings.levels is not None and settings.levels > most:
        raise UserError(
            f"an image of {shape[1]} x {shape[0]} pixels has no {settings.levels} wavelet levels.",
            field="levels",
            hint=f"Give at most {most}.",
        )
    return settings.levels or max(1, min(most, 6))


def _fuse_wavelets(frames: Sequence[Image], settings: FocusStackSettings) -> Image:
    levels = _levels(frames[0].shape, settings)
    energies: list[Plane] = []
    kept: list[Bands] = []
    coarse: list[Plane] = []
    for frame in frames:
        channels = [_decompose(frame[..., c], settings.wavelet, levels) for c in range(3)]
        activity = [
            _activity([channel[1][level] for channel in channels]) for level in range(levels)
        ]
        if not kept:
            energies = activity
            coarse = [channel[0] for channel in channels]
            kept = [channel[1] for channel in channels]
            continue
        coarse = [old + channel[0] for old, channel in zip(coarse, channels, strict=True)]
        for level, new in enumerate(activity):
            better = new > energies[level]
            np.maximum(energies[level], new, out=energies[level])
            for old, channel in zip(kept, channels, strict=True):
                for band, found in zip(old[level], channel[1][level], strict=True):
                    np.copyto(band, found, where=better)
    planes = [
        pywt.waverec2([base / len(frames), *(tuple(bands) for bands in detail)], settings.wavelet)
        for base, detail in zip(coarse, kept, strict=True)
    ]
    height, width = frames[0].shape[:2]
    image = np.stack(planes, axis=-1)[:height, :width]
    # A coefficient from another frame can overshoot: no pixel leaves the range of the frames.
    darkest, brightest = np.minimum.reduce(list(frames)), np.maximum.reduce(list(frames))
    return np.asarray(np.clip(np.rint(image), darkest, brightest), dtype=np.uint8)


def _decompose(plane: Image, wavelet: str, levels: int) -> tuple[Plane, Bands]:
    """Coarse coefficients, and for each level (coarse to fine) three bands of detail."""
    base, *detail = pywt.wavedec2(plane.astype(np.float32), wavelet, level=levels)
    return base, [list(bands) for bands in detail]


def _activity(channels: Sequence[Sequence[Plane]]) -> Plane:
    """Energy of the detail around each coefficient: all bands and colours decide together."""
    energy = sum(np.square(band) for bands in channels for band in bands)
    return _smooth(np.asarray(energy, dtype=np.float32), 1.5)


def focus_stack(
    frames: Sequence[Image],
    settings: FocusStackSettings | None = None,
    reference: int | None = None,
) -> FocusStack:
    """Join frames at different focus to one image that is sharp throughout.

    Parameters
    ----------
    frames
        At least two images of one size, (y, x, rgb), uint8, in the order of focus.
    settings
        Method and sizes.
    reference
        Index of the frame onto which the others are brought; the middle one by default.

    Raises
    ------
    UserError
        Fewer than two frames, frames of different sizes, or frames that cannot be aligned.
    """
    settings = settings or FocusStackSettings()
    _check(frames)
    middle = len(frames) // 2 if reference is None else reference
    aligned: Sequence[Image] = frames
    transforms = [np.eye(2, 3) for _ in frames]
    if settings.align:
        aligned, transforms = align_frames(frames, middle)
    depth = depth_map(aligned, settings)
    by_wavelets = settings.method == "wavelet"
    image = _fuse_wavelets(aligned, settings) if by_wavelets else _compose(aligned, depth)
    return FocusStack(image, depth, middle, tuple(transforms))


def _check(frames: Sequence[Image]) -> None:
    if not 2 <= len(frames) <= _MOST_FRAMES:
        raise UserError(
            f"there is no focus stack of {counted(len(frames), 'frame')}.",
            hint=f"Give 2 to {_MOST_FRAMES} images.",
        )
    for index, frame in enumerate(frames):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise UserError(f"frame {index + 1} is not an 8-bit colour image (y, x, rgb).")
        if frame.shape != frames[0].shape:
            raise UserError(
                f"frame {index + 1} has {frame.shape[1]} x {frame.shape[0]} pixels, the first "
                f"{frames[0].shape[1]} x {frames[0].shape[0]}.",
                hint="Give images of one size.",
            )
