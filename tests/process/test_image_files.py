"""Image files of every kind that cameras and programs write: the right pixels, or one sentence."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.process.image_files import read_image, read_pages, to_8_bits

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8)
OTHER = RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8)
PLANES = PIXELS.transpose(2, 0, 1)

Writer = Callable[[Path], None]


def _pyramid(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(PIXELS, photometric="rgb")
        file.write(PIXELS[::2, ::2], photometric="rgb", subfiletype=1)


def tiff(array: NDArray[np.generic], **options: object) -> Writer:
    return lambda path: tifffile.imwrite(path, array, **options)


def grey(channel: int) -> NDArray[np.uint8]:
    return np.repeat(PIXELS[..., channel : channel + 1], 3, axis=2)


@pytest.mark.parametrize(
    ("name", "write", "images"),
    [
        ("planar.tif", tiff(PLANES, photometric="rgb", planarconfig="separate"), [PIXELS]),
        ("pages.tif", tiff(np.stack([PIXELS, OTHER]), photometric="rgb"), [PIXELS, OTHER]),
        ("smaller_copy.tif", _pyramid, [PIXELS]),
        (
            "colours.ome.tif",
            tiff(PLANES, photometric="minisblack", metadata={"axes": "CYX"}),
            [PIXELS],
        ),
        (
            "stack.tif",
            tiff(
                np.stack([PLANES, OTHER.transpose(2, 0, 1)]), imagej=True, metadata={"axes": "ZCYX"}
            ),
            [PIXELS, OTHER],
        ),
        (
            "colours_first.ome.tif",
            tiff(
                np.stack([PLANES, OTHER.transpose(2, 0, 1)], axis=1),
                photometric="minisblack",
                metadata={"axes": "CZYX"},
            ),
            [PIXELS, OTHER],
        ),
        (
            "greys.tif",
            tiff(PLANES, photometric="minisblack"),
            [grey(0), grey(1), grey(2)],
        ),
    ],
)
def test_pages_are_images_and_colours_as_pages_one(
    tmp_path: Path, name: str, write: Writer, images: list[NDArray[np.uint8]]
) -> None:
    write(tmp_path / name)
    found = read_pages(tmp_path / name)
    assert len(found) == len(images)
    for one, other in zip(found, images, strict=True):
        np.testing.assert_array_equal(one, other)
    if len(images) > 1:
        with pytest.raises(UserError, match=f"holds {len(images)} images"):
            read_image(tmp_path / name)


def test_other_numbers_of_colours_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "five.ome.tif"
    five = np.stack([PIXELS[..., 0]] * 5)
    tifffile.imwrite(path, five, photometric="minisblack", metadata={"axes": "CYX"})
    with pytest.raises(UserError, match="holds 5 colours as pages"):
        read_pages(path)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_images_are_scaled_by_the_bits_in_use(bits: int) -> None:
    deep = np.rint(PIXELS * ((2**bits - 1) / 255)).astype(np.uint16)
    darker = deep // 8  # of the same camera: not made brighter than it is
    bright, dark = to_8_bits([deep, darker])
    assert np.abs(bright.astype(int) - PIXELS).max() <= 1
    assert np.abs(dark.astype(int) - PIXELS // 8).max() <= 1


def test_what_is_transparent_becomes_black(tmp_path: Path) -> None:
    cover = np.full(PIXELS.shape[:2], 255, np.uint8)
    cover[:, :40] = 0
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([PIXELS[..., ::-1], cover]))
    found = read_image(tmp_path / "a.png")
    assert not found[:, :40].any()
    np.testing.assert_array_equal(found[:, 40:], PIXELS[:, 40:])


def test_a_photograph_is_turned_as_viewers_show_it(tmp_path: Path) -> None:
    """EXIF orientation 6: what a camera held upright wrote lying on its side."""
    lying = np.full((60, 100, 3), 255, np.uint8)
    lying[:20, :30] = (200, 0, 0)
    jpeg = cv2.imencode(".jpg", lying[..., ::-1])[1].tobytes()
    entry = struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    segment = b"Exif\0\0II*\0" + entry
    file = tmp_path / "held_upright.jpg"
    file.write_bytes(
        jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]
    )
    image = read_image(file)
    assert image.shape == (100, 60, 3)
    assert image[5, 55, 1] < 60  # the corner that lay above on the left
    assert image[5, 5, 1] > 200
