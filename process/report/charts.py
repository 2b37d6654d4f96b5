"""Charts as SVG text: curves, scatter plots of colours, the map of an LED array."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.process.pages.pictures import data_uri

Image = NDArray[np.uint8]

COLOURS = tuple(f"var(--c{number})" for number in range(6))
"""Of the page's style sheet, which has others for dark screens."""
_LEAST_TICKS = 4
_MARGIN = (14, 14, 40, 58)  # top, right, bottom, left


@dataclass(frozen=True)
class Axis:
    """An axis: its name, its range, whether it is logarithmic, and whether it counts things."""

    name: str
    low: float
    high: float
    logarithmic: bool = False
    whole: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 at the low end and 1 at the high end."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values along the axis."""
        if self.logarithmic:
            for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)):
                found = self._within(self._decades(steps))
                if len(found) >= _LEAST_TICKS:
                    return found
        return self._within(self._even())

    def _decades(self, steps: Sequence[float]) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        return [step * 10.0**power for power in range(first, last + 1) for step in steps]

    def _even(self) -> list[float]:
        rough = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        steps = (1, 2, 5, 10) if self.whole else (1, 2, 2.5, 5, 10)
        step = next(s * power for s in steps if s * power >= rough * (1 - 1e-9))
        if self.whole:
            step = max(1.0, step)
        count = int((self.high - self.low) / step) + 2
        start = math.ceil(self.low / step - 1e-9)
        return [(start + i) * step for i in range(count)]

    def _within(self, values: Sequence[float]) -> list[float]:
        slack = 1e-9 * abs(self.high - self.low)
        return [v for v in values if self.low - slack <= v <= self.high + slack]


def axis_around(
    name: str, values: Sequence[float], logarithmic: bool = False, whole: bool = False
) -> Axis:
    """An axis that holds all values with a little room."""
    finite = [v for v in values if math.isfinite(v) and (v > 0 or not logarithmic)] or [1.0]
    low, high = min(finite), max(finite)
    if logarithmic:
        return Axis(name, low / 1.25, high * 1.25, True)
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return Axis(name, low - room, high + room, whole=whole)


class _Canvas:
    """A drawing area with axes; collects SVG elements."""

    def __init__(self, x: Axis, y: Axis, width: int, height: int) -> None:
        self.x, self.y, self.width, self.height = x, y, width, height
        top, right, bottom, left = _MARGIN
        self.left, self.top = left, top
        self.inner_width, self.inner_height = width - left - right, height - top - bottom
        self.parts: list[str] = []
        self._frame()

    def at(self, x: float, y: float) -> tuple[float, float]:
        return (
            self.left + self.x.share(x) * self.inner_width,
            self.top + (1 - self.y.share(y)) * self.inner_height,
        )

    def _frame(self) -> None:
        base, right = self.top + self.inner_height, self.left + self.inner_width
        for value in self.x.ticks():
            at, _ = self.at(value, self.y.low)
            self._line(at, self.top, at, base, "grid-line")
            self.text(at, base + 16, f"{value:g}", "middle")
        for value in self.y.ticks():
            _, at = self.at(self.x.low, value)
            self._line(self.left, at, right, at, "grid-line")
            self.text(self.left - 6, at + 4, f"{value:g}", "end")
        self._line(self.left, base, right, base, "axis-line")
        self._line(self.left, self.top, self.left, base, "axis-line")
        self.text(self.left + self.inner_width / 2, self.height - 6, self.x.name, "middle")
        middle = self.top + self.inner_height / 2
        self.parts.append(
            f'<text transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y.name)}</text>"
        )

    def _line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'
        )

    def text(self, x: float, y: float, text: str, anchor: str = "start", style: str = "") -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style}>{escape(text)}</text>'
        )

    def svg(self) -> str:
        name = f"{self.y.name} over {self.x.name}"
        return svg(self.width, self.height, "".join(self.parts), name)


def svg(width: float, height: float, body: str, name: str, caption: str = "") -> str:
    """A drawing as a figure; `name` is its text for screen readers."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(name)}">'
        f"{body}</svg>{below}</figure>"
    )


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_name: str,
    y_name: str,
    *,
    logarithmic: bool = False,
    marked_x: float | None = None,
    names_below: bool = False,
    whole_x: bool = False,
    size: tuple[int, int] = (520, 300),
) -> str:
    """Named lines through points; `marked_x` draws a dashed upright (the best epoch).

    The names stand at the right, above or below, where the lines are not; `whole_x` for counts.
    """
    xs = [x for line in lines.values() for x in line[0]]
    ys = [y for line in lines.values() for y in line[1]]
    x = axis_around(x_name, xs, whole=whole_x)
    canvas = _Canvas(x, axis_around(y_name, ys, logarithmic), *size)
    if marked_x is not None:
        at, base = canvas.at(marked_x, canvas.y.low)
        canvas.parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{canvas.top}" y2="{base:.1f}" '
            'class="axis-line" stroke-dasharray="4 4"/>'
        )
    for number, (name, (line_x, line_y)) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [
            canvas.at(a, b)
            for a, b in zip(line_x, line_y, strict=True)
            if math.isfinite(b) and (b > 0 or not logarithmic)
        ]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        canvas.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
            'stroke-linejoin="round"/>'
        )
        below = canvas.inner_height - 17 * len(lines) - 8 if names_below else 0
        canvas.text(
            canvas.left + canvas.inner_width - 6,
            canvas.top + 16 + 17 * number + below,
            name,
            "end",
            f'style="fill:{colour};font-weight:600"',
        )
    return canvas.svg()


def points(
    groups: Mapping[str, Sequence[tuple[float, float]]],
    x_name: str,
    y_name: str,
    *,
    logarithmic: bool = False,
    size: tuple[int, int] = (520, 320),
) -> str:
    """Named groups of points, one colour each."""
    everything = [point for group in groups.values() for point in group]
    canvas = _Canvas(
        axis_around(x_name, [x for x, _ in everything]),
        axis_around(y_name, [y for _, y in everything], logarithmic),
        *size,
    )
    for number, (name, group) in enumerate(groups.items()):
        colour = COLOURS[number % len(COLOURS)]
        for a, b in (canvas.at(*point) for point in group):
            canvas.parts.append(
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{colour}" fill-opacity="0.75"/>'
            )
        canvas.text(
            canvas.left + 10,
            canvas.top + 16 + 17 * number,
            name,
            style=f'style="fill:{colour};font-weight:600"',
        )
    return canvas.svg()


def colour_cloud(
    x: tuple[str, NDArray[np.uint8], float],
    y: tuple[str, NDArray[np.uint8], float],
    colours: Image,
    box: tuple[float, float, float, float] | None = None,
    size: tuple[int, int] = (520, 360),
) -> str:
    """Pixels as points in two of their coordinates, each in its own colour.

    Parameters
    ----------
    x, y
        Name, values (n,) and upper end of each axis; both begin at 0.
    colours
        Colours of the points, shape (n, rgb).
    box
        Limits drawn as a rectangle: x low, y low, x high, y high.
    """
    canvas = _Canvas(Axis(x[0], 0, x[2]), Axis(y[0], 0, y[2]), *size)
    zoom = 2
    width, height = canvas.inner_width * zoom, canvas.inner_height * zoom
    cloud = np.full((height, width, 3), 255, np.uint8)
    # A little scatter within one level keeps equal values from hiding each other.
    scatter = np.random.default_rng(0).random((2, len(x[1])))
    columns = np.minimum((x[1] + scatter[0]) / (x[2] + 1) * width, width - 1).astype(int)
    lines = np.minimum((1 - (y[1] + scatter[1]) / (y[2] + 1)) * height, height - 1).astype(int)
    for column, line, colour in zip(columns, lines, colours.tolist(), strict=True):
        cv2.circle(cloud, (int(column), int(line)), 2, colour, -1, cv2.LINE_AA)
    canvas.parts.insert(
        0,
        f'<image href="{data_uri(cloud)}" x="{canvas.left}" y="{canvas.top}" '
        f'width="{canvas.inner_width}" height="{canvas.inner_height}"/>',
    )
    if box is not None:
        left, base = canvas.at(box[0], box[1])
        right, top = canvas.at(box[2], box[3])
        canvas.parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{base - top:.1f}" fill="none" stroke="{COLOURS[1]}" stroke-width="2"/>'
        )
    return canvas.svg()


def led_map(
    leds: Sequence[tuple[str, float, float, float]],
    numerical_aperture: float,
    name: str,
    unit: str,
    size: int = 380,
) -> str:
    """The LEDs of an array in the axes of the image, coloured by a value on a logarithmic scale.

    Parameters
    ----------
    leds
        Name, direction cosines x and y (x right, y down in the image), value.
    numerical_aperture
        Of the objective, drawn as a circle: inside it is bright field.
    name, unit
        Of the value.
    """
    middle = size / 2
    reach = max(math.hypot(x, y) for _, x, y, _ in leds)
    scale = (middle - 34) / max(0.5, reach)
    axis = axis_around("", [value for *_, value in leds], logarithmic=True)
    parts = [
        f'<rect width="{size}" height="{size + 56}" rx="8" fill="#14101f"/>',
        f'<circle cx="{middle}" cy="{middle}" r="{numerical_aperture * scale:.1f}" fill="#2a2140" '
        'stroke="#8d7bb8" stroke-dasharray="5 4"/>',
    ]
    outermost = [led for led in leds if math.hypot(led[1], led[2]) > reach - 0.02]
    named = {led[0] for led in outermost} if len(outermost) <= 12 else set()
    for led, x, y, value in leds:
        at_x, at_y = middle + x * scale, middle + y * scale
        parts.append(
            f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="9" fill="{_heat(axis.share(value))}">'
            f"<title>{escape(led)}: {value:.3g} {escape(unit)}</title></circle>"
        )
        if led in named:
            parts.append(_light_text(at_x, at_y + (22 if y >= 0 else -13), led, "middle"))
    parts += [_light_text(12, 22, f"dashed: NA {numerical_aperture:g}"), _image_axes(size)]
    parts.append(_colour_bar(axis, f"{name} ({unit})", size))
    return svg(size, size + 56, "".join(parts), f"{name} of every LED")


def _light_text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill:#d5cbed">'
        f"{escape(text)}</text>"
    )


def _image_axes(size: int) -> str:
    """Arrows along x and y of the image, at the upper right."""
    left, top = size - 58, 18
    return (
        f'<path d="M{left} {top}h26m-5 -4l5 4l-5 4M{left} {top}v26m-4 -5l4 5l4 -5" fill="none" '
        'stroke="#d5cbed" stroke-width="1.5"/>'
        + _light_text(left + 31, top + 4, "+x")
        + _light_text(left + 8, top + 32, "+y")
    )


def _colour_bar(axis: Axis, name: str, size: int) -> str:
    left, width, top = 24, size - 48, size + 4
    stops = "".join(
        f'<stop offset="{share:.2f}" stop-color="{_heat(share)}"/>'
        for share in np.linspace(0, 1, 4).tolist()
    )
    ticks = "".join(
        _light_text(left + axis.share(value) * width, top + 26, f"{value:g}", "middle")
        for value in axis.ticks()
    )
    return (
        f'<linearGradient id="heat">{stops}</linearGradient>'
        f'<rect x="{left}" y="{top}" width="{width}" height="11" rx="2" fill="url(#heat)"/>'
        f"{ticks}{_light_text(size / 2, top + 44, name, 'middle')}"
    )


def _heat(share: float) -> str:
    """Dark red through orange to pale yellow."""
    stops = np.array([(122, 28, 72), (214, 73, 74), (245, 158, 66), (253, 240, 178)], float)
    place = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    below = min(int(place), len(stops) - 2)
    red, green, blue = stops[below] + (stops[below + 1] - stops[below]) * (place - below)
    return f"rgb({red:.0f} {green:.0f} {blue:.0f})"
