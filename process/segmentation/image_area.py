"""Where an image shows something: no-data areas, and images that cannot be judged at all.

Outside a round field, in a missing tile of a mosaic, where a picture is transparent or has a margin
there is no slide. Such an area is far darker than anything stained, or one even colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import Image, Mask
from plsctl.acquire.errors import UserError
from plsctl.process.segmentation.background import (
    BACKGROUND_LEVEL,
    fit_background,
    flatten_background,
    odd_disc,
)

_BLACK = 0.13  # of the glass, in the brightest colour: nuclei of the strongest stains keep 0.3
_RIM = 0.5  # of the glass: what joins a black area and is darker is its blurred rim
_RIM_SHARE = 0.01  # of the longer side: how wide a rim may be
_LEAST_SHARE = 0.002  # of the image: smaller dark areas are dirt, or nuclei
_EVEN_SHARE = 0.005  # of the image, of areas of one even grey
_GREY = 3  # counts between the colours of a grey
_SATURATED = 252
_FEW = 0.05  # pixels just below saturation, per saturated one: glass fades, a margin does not
_DARKEST_GLASS = 20  # counts in green: a darker image shows noise
_LEAST_SEEN = 0.02  # of the image that must show something
_COLOURLESS = 7  # counts between the colours of what absorbs, after its background is white
_ABSORBS = 0.85  # of the glass, in green
_LEAST_ABSORBING = 0.002

_LEAST_PX = 8
_MAP_PX = 4000  # longest side of the map of no-data areas
_SKETCH_PX = 480

Window: TypeAlias = tuple[slice, slice]


@dataclass(frozen=True)
class FlatField:
    """Background and no-data areas of an image, to be taken out of it whole or in windows.

    Parameters
    ----------
    background
        From `fit_background`; None leaves the image's own.
    gone
        True where there is no slide, shape (y, x) of the image or of a smaller copy; None nowhere.
    cannot_judge
        Why white cells cannot be told in the image; None where they can.
    """

    background: NDArray[np.float64] | None
    gone: Mask | None
    cannot_judge: str | None

    @classmethod
    def of(cls, image: Image, flat_field: bool = True) -> FlatField:
        """Of an image (y, x, rgb).

        Raises
        ------
        UserError
            It is smaller than 8 x 8 pixels.
        """
        if min(image.shape[:2]) < _LEAST_PX:
            raise UserError(
                f"an image of {image.shape[1]} x {image.shape[0]} pixels shows no cells.",
                hint=f"Give one of at least {_LEAST_PX} x {_LEAST_PX} pixels.",
            )
        longer = max(image.shape[:2])
        overview = image
        if longer > _MAP_PX:
            zoom = _MAP_PX / longer
            overview = np.asarray(
                cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA), np.uint8
            )
        gone = no_data(overview)
        step = max(1, max(overview.shape[:2]) // _SKETCH_PX)
        sketch = np.ascontiguousarray(overview[::step, ::step])
        seen = None if gone is None else ~gone[::step, ::step]
        reason = _unlit(sketch, seen)
        if reason is not None:
            return cls(None, gone, reason)
        background = fit_background(overview, gone)
        reason = _colourless(flatten_background(sketch, background), seen)
        return cls(background if flat_field else None, gone, reason)

    def flat(self, image: Image, window: Window | None = None) -> Image:
        """The image or a window of it, the background flat, like glass where there is no slide."""
        part = image if window is None else image[window]
        flat = part
        if self.background is not None:
            flat = flatten_background(image, self.background, window)
        if self.gone is None:
            return flat
        if flat is part:
            flat = part.copy()
        rows, columns = window or (slice(0, image.shape[0]), slice(0, image.shape[1]))
        height, width = self.gone.shape
        y = np.arange(rows.start, rows.stop) * height // image.shape[0]
        x = np.arange(columns.start, columns.stop) * width // image.shape[1]
        flat[self.gone[np.ix_(y, x)]] = BACKGROUND_LEVEL
        return flat


def no_data(image: Image) -> Mask | None:
    """True where an image shows no slide, (y, x); None where it shows one everywhere."""
    brightest = _brightest(image)
    glass = float(np.percentile(brightest[::4, ::4], 98))
    found = _joined(_large(brightest < _BLACK * glass, _LEAST_SHARE), brightest < _RIM * glass)
    found |= _even_grey(image, glass) | _white_margin(image)
    if not found.any():
        return None
    return np.asarray(cv2.dilate(found.astype(np.uint8), odd_disc(7))) > 0


def _unlit(image: Image, seen: Mask | None) -> str | None:
    """What is said of an image that shows too little, as the end of a sentence; else None."""
    part = np.ones(image.shape[:2], np.bool_) if seen is None else seen
    if np.count_nonzero(part) < _LEAST_SEEN * part.size:
        return "it shows nothing but an empty area"
    if not np.ptp(image[part], axis=0).any():
        return "it is of one even colour"
    if float(np.percentile(image[..., 1][part], 98)) < _DARKEST_GLASS:
        return "it is too dark"
    return None


def _colourless(flat: Image, seen: Mask | None) -> str | None:
    """What is said of an image whose cells, if there are any, are grey; else None."""
    shown = (flat if seen is None else flat[seen]).reshape(-1, 3).astype(np.int16)
    absorbing = shown[:, 1] < _ABSORBS * BACKGROUND_LEVEL
    if np.count_nonzero(absorbing) < _LEAST_ABSORBING * len(shown):
        return None  # empty glass: there are no cells
    colour = np.ptp(shown[absorbing], axis=1)
    if float(np.percentile(colour, 90)) < _COLOURLESS:
        return "it has no colours, and chromatin is told by its colour"
    return None


def _brightest(image: Image) -> NDArray[np.uint8]:
    red, green, blue = cv2.split(image)
    return np.asarray(cv2.max(cv2.max(red, green), blue), dtype=np.uint8)


def _large(mask: Mask, share: float) -> Mask:
    """Connected parts of at least that share of the image."""
    least = share * mask.size
    if np.count_nonzero(mask) < least:
        return np.zeros_like(mask)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    good = stats[:, cv2.CC_STAT_AREA] >= least
    good[0] = False
    return np.asarray(good[labels])


def _joined(core: Mask, dark: Mask) -> Mask:
    """The core, and what is dark around it within the width of a rim."""
    if not core.any():
        return core
    reach = odd_disc(2 * _RIM_SHARE * max(core.shape), 3)
    near = cv2.dilate(core.astype(np.uint8), reach) > 0
    return np.asarray(core | (near & dark))


def _even_grey(image: Image, glass: float) -> Mask:
    """Areas of one grey without any noise, clearly darker than the glass: filled in later."""
    red, green, blue = (np.asarray(channel, np.uint8) for channel in cv2.split(image))
    still = cv2.dilate(green, np.ones((5, 5))) == cv2.erode(green, np.ones((5, 5)))
    grey = (cv2.absdiff(red, green) <= _GREY) & (cv2.absdiff(blue, green) <= _GREY)
    even = _large(np.asarray(still & grey & (green < 0.85 * glass)), _EVEN_SHARE)
    return np.asarray(cv2.dilate(even.astype(np.uint8), np.ones((5, 5)))) > 0


def _white_margin(image: Image) -> Mask:
    """Large white areas whose surroundings are darker at once; glass gets darker by degrees."""
    least = np.asarray(cv2.min(cv2.min(*cv2.split(image)[:2]), cv2.split(image)[2]))
    white = np.asarray(least >= _SATURATED)
    nearly = np.count_nonzero((least >= _SATURATED - 12) & ~white)
    if nearly > _FEW * np.count_nonzero(white):
        return np.zeros_like(white)
    return _large(white, _EVEN_SHARE)
