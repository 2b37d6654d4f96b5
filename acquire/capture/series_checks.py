"""Whether the images of a triggered series are those that were to come, one after the other."""

from __future__ import annotations

import numpy as np

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.capture.series import Shot
from plsctl.acquire.devices.camera import SeriesImage
from plsctl.acquire.devices.hardware import CameraSettings

DARK_COUNTS = 3 / 255
"""A dark marker shows no value above the black level by more than this share of full scale."""

BRIGHT_SHARE = 0.2
"""A bright marker's median lies above the black level by at least this share of full scale."""

LATE_MS = 50.0
"""Exposures of a series follow one another; where the camera does not count its frames, one that
begins later than this after it could have begun had a frame before it that is missing."""

Taken = tuple[Shot, SeriesImage]
"""An exposure of the series, and the image that came for it."""


def slipped(before: Taken | None, now: Taken, readout_ms: float) -> str:
    """What the camera's own count and time say against an image being the next; empty for nothing.

    `before` is the image before it in the series, None for the first.
    """
    if before is None:
        return ""
    last_shot, last = before
    _, got = now
    if got.number is not None and last.number is not None and got.number != last.number + 1:
        return (
            f"the camera's frame {got.number} came after its frame {last.number}: "
            "frames are missing or out of order"
        )
    if got.time_ms is None or last.time_ms is None:
        return ""
    apart_ms = got.time_ms - last.time_ms
    # Cameras give their time in steps of up to a millisecond.
    if apart_ms < last_shot.exposure_ms - 1:
        return f"two exposures began {apart_ms:.1f} ms apart, and the first took longer"
    if got.number is None and apart_ms > max(last_shot.exposure_ms, readout_ms) + LATE_MS:
        return f"an exposure began {apart_ms:.1f} ms after the one before: too late"
    return ""


def wrong_marker(shot: Shot, image: RawImage, camera: CameraSettings) -> str:
    """Why an image, (y, x, rgb) or (y, x), cannot be the marker that was due; empty for nothing."""
    if shot.marker is None:
        return ""
    full_scale = 2**camera.bit_depth - 1
    sample = image[::5, ::5]  # an odd step meets every colour of a mosaic
    if shot.marker == "dark":
        # A few pixels of any sensor are always bright.
        brightest = float(np.quantile(sample, 0.999)) - camera.black_level
        was_dark = brightest <= DARK_COUNTS * full_scale
        return "" if was_dark else "the dark marker frame was not dark"
    median = float(np.median(sample)) - camera.black_level
    was_bright = median >= BRIGHT_SHARE * full_scale
    return "" if was_bright else "the bright marker frame was not bright"
