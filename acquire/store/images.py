"""Raw images: colours from the sensor's mosaic, the half-size level, checksums."""

from __future__ import annotations

import zlib

import cv2
import numpy as np

from plsctl.acquire.arrays import Image, RawImage
from plsctl.acquire.store.records import PassAttributes

_BAYER = {
    "RGGB": cv2.COLOR_BayerRGGB2RGB_EA,
    "BGGR": cv2.COLOR_BayerBGGR2RGB_EA,
    "GRBG": cv2.COLOR_BayerGRBG2RGB_EA,
    "GBRG": cv2.COLOR_BayerGBRG2RGB_EA,
}


def halved(image: RawImage) -> RawImage:
    """Means of blocks of 2 x 2 pixels, halves rounded up; of a mosaic, the superpixels' brightness.

    An odd last row or column belongs to no block and is left out, so that every pixel is the mean
    of its own block.
    """
    height, width = image.shape[0] // 2, image.shape[1] // 2
    blocks = image[: height * 2, : width * 2]
    half: RawImage = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return half


def develop(raw: RawImage, attributes: PassAttributes) -> Image:
    """A camera's frame as colour (y, x, rgb), 8 bit, linear."""
    return develop_mosaic(raw, attributes.bayer, attributes.full_scale)


def develop_mosaic(raw: RawImage, bayer: str | None, full_scale: int = 255) -> Image:
    """A frame as colour (y, x, rgb), 8 bit: mosaics are interpolated, grey is repeated."""
    if raw.ndim == 2 and bayer is not None:
        raw = cv2.cvtColor(raw, _BAYER[bayer])  # type: ignore[assignment]
    elif raw.ndim == 2:
        raw = np.repeat(raw[..., None], 3, axis=2)
    if raw.dtype == np.uint16:
        scaled = raw.astype(np.float32) * (255.0 / full_scale)
        raw = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return raw.astype(np.uint8, copy=False)


def checksum(raw: RawImage) -> int:
    """CRC-32 of a frame's values in the order (y, x, rgb)."""
    return zlib.crc32(np.ascontiguousarray(raw).data)
