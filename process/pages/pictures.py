"""Pictures of a page: inside the file, with a scale bar, enlarged by a click."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from itertools import count

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.process.pages.scale_bar import scale_bar

Image = NDArray[np.uint8]

_MOST_PX = 1200
"""Wider pictures are shrunk: whole frames of a large camera would make a page of many megabytes."""

_QUALITY = 85
_NUMBERS = count(1)


def data_uri(image: Image, lossless: bool = False) -> str:
    """A picture, (y, x, rgb) or (y, x), as text that a page can hold; WebP unless lossless."""
    colour = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    suffix, options = (".png", []) if lossless else (".webp", [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    _, data = cv2.imencode(suffix, colour, options)
    return f"data:image/{suffix[1:]};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


def picture(
    image: Image,
    caption: str = "",
    overlay: str = "",
    *,
    um_per_px: float | None = None,
    named_bar: bool = True,
    lossless: bool = False,
) -> str:
    """A figure that a click enlarges.

    Parameters
    ----------
    image
        (y, x, rgb) or (y, x), uint8.
    overlay
        SVG that is drawn over the image, in its pixels.
    um_per_px
        Size of a pixel in the sample: gives the figure a scale bar.
    named_bar
        Whether the bar's length stands beside it.
    """
    image, factor = _fitted(image)
    height, width = image.shape[:2]
    if overlay and factor != 1:
        overlay = f'<g transform="scale({1 / factor:.5f})">{overlay}</g>'
    if um_per_px is not None:
        overlay += scale_bar(width, height, um_per_px * factor, named=named_bar)
    over = f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{overlay}</svg>'
    shown = (
        f'<img src="{data_uri(image, lossless)}" width="{width}" height="{height}" '
        f'alt="{escape(caption)}">{over if overlay else ""}'
    )
    name = f"picture-{next(_NUMBERS)}"
    return (
        f'<figure id="{name}" style="--ratio:{width / height:.4f}">'
        f'<a class="view" href="#{name}">{shown}</a>'
        f'<a class="close" href="#{name}-text">close</a>'
        f'<figcaption id="{name}-text">{escape(caption)}</figcaption></figure>'
    )


def comparison(layers: Sequence[tuple[str, Image]], caption: str, um_per_px: float) -> str:
    """Images of one place as one picture with dividers; without a script side by side.

    Parameters
    ----------
    layers
        Name and image of each, from left to right, all of one size.
    """
    fitted = [(name, _fitted(image)[0]) for name, image in layers]
    height, width = fitted[0][1].shape[:2]
    um_per_px *= layers[0][1].shape[1] / width
    bar = (
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">'
        f"{scale_bar(width, height, um_per_px)}</svg>"
    )
    shown = "".join(
        f'<div class="layer"><img src="{data_uri(image)}" width="{width}" height="{height}" '
        f'alt="{escape(name)}"><span>{escape(name)}</span>{bar}</div>'
        for name, image in fitted
    )
    name = f"picture-{next(_NUMBERS)}"
    return (
        f'<figure class="compare" id="{name}" style="--ratio:{width / height:.4f}">'
        f'<div class="view"><div class="layers">{shown}</div></div>'
        f'<a class="close" href="#{name}-text">close</a>'
        f'<figcaption id="{name}-text">{escape(caption)} '
        '<span class="hint">Drag the borders, or use the arrow keys.</span> '
        f'<a class="enlarge" href="#{name}">Enlarge</a></figcaption></figure>'
    )


def tiles(
    images: Iterable[tuple[Image, str]], columns: int, *, um_per_px: float, zoom: int = 2
) -> str:
    """Small images in a grid of at most so many columns, each with its label.

    They are enlarged so that screens show them smooth; `um_per_px` is that of the given images.
    """
    figures = "".join(
        picture(enlarge(image, zoom), label, um_per_px=um_per_px / zoom, named_bar=False)
        for image, label in images
    )
    return f'<div class="tiles" style="--columns:{columns}">{figures}</div>'


def tile_sets(
    sets: Sequence[tuple[str, Sequence[tuple[Image, str]]]],
    columns: int,
    *,
    um_per_px: float,
    zoom: int = 2,
) -> str:
    """Small images that belong together, such as one cell before and after, with one label a set.

    Parameters
    ----------
    sets
        The label, and image and description of each.
    """
    shown = "".join(
        '<div class="set">'
        + "".join(
            picture(enlarge(image, zoom), name, um_per_px=um_per_px / zoom, named_bar=False)
            for image, name in images
        )
        + f"<p>{escape(label)}</p></div>"
        for label, images in sets
    )
    each = max(len(images) for _, images in sets)
    return f'<div class="sets" style="--columns:{columns};--each:{each}">{shown}</div>'


def enlarge(image: Image, zoom: int) -> Image:
    """The image, (y, x) or (y, x, rgb), `zoom` times as large, cubic."""
    if zoom == 1:
        return image
    size = (image.shape[1] * zoom, image.shape[0] * zoom)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def _fitted(image: Image) -> tuple[Image, float]:
    """The image, shrunk where it is too wide, and how many of its pixels make one of the result."""
    height, width = image.shape[:2]
    if width <= _MOST_PX:
        return image, 1.0
    size = (_MOST_PX, round(height * _MOST_PX / width))
    shrunk = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8), width / _MOST_PX
