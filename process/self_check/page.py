"""The page that shows what has drifted in a pass, at the position where it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.roles import Drift
from plsctl.acquire.scanning.overlaps import Overlap
from plsctl.acquire.words import counted
from plsctl.process.pages.pictures import picture
from plsctl.process.report.charts import curves, points
from plsctl.process.report.led_calibration import array_map
from plsctl.process.report.page import Page, Section, row, verdict
from plsctl.process.self_check.checker import PassChecker

Image = NDArray[np.uint8]

NEIGHBOURS = 4
"""So many LEDs at about the angle of a dimmed one are drawn beside it."""


def write_page(checker: PassChecker) -> Path:
    """Write `drift_PASS.html` into the scan's folder; what has been found so far."""
    spoils = any(drift.spoils for drift in checker.drifts)
    sections = [
        Section(f"{drift.kind}, position {drift.position}", _words(drift), _picture(checker, drift))
        for drift in checker.drifts
    ]
    page = Page(
        f"What has drifted: {checker.pass_name} pass of {checker.reader.attributes.slide}",
        "Told by the frames of the pass themselves.",
        verdict=verdict(
            f"{counted(len(checker.drifts), 'thing')} not as the pass believes. "
            + ("What is stored is wrong by it." if spoils else "What is stored is right."),
            "warn",
        ),
        sections=sections,
    )
    return page.write(checker.folder.drift_page(checker.pass_name))


def _words(drift: Drift) -> str:
    text = f"{drift.text[0].upper()}{drift.text[1:]}"
    return f"{text}<br>{drift.remedy}"


def _picture(checker: PassChecker, drift: Drift) -> str:
    if drift.kind == "focus":
        heights = [(checker.names.index(name), off) for name, off, _ in checker.heights]
        return points({"measured less expected, µm": heights}, "position", "µm")
    if drift.kind == "dim":
        return _light(checker, drift)
    if drift.kind in ("array", "dead", "swapped"):
        return _array(checker, drift)
    return _overlap(checker, drift)


def _light(checker: PassChecker, drift: Drift) -> str:
    """The LED's light over the pass beside that of LEDs at its angle, and its frame."""
    names = [led.name for led in checker.leds]
    own = names.index(drift.led)
    group = [
        place
        for place, led in enumerate(checker.leds)
        if led.bright == checker.leds[own].bright and place != own
    ]
    steep = checker.leds[own].steepness
    group.sort(key=lambda place: abs(checker.leds[place].steepness - steep))
    courses, left = checker.levels.courses, checker.light_left()
    along = list(range(1, len(courses) + 1))

    def course(place: int) -> NDArray[np.float64]:
        values = courses[:, place]
        start = values[np.isfinite(values)][:1]
        first = float(start[0]) if start.size else 1.0
        share = float(left[place])
        now = float(np.nanmedian(values)) if start.size else 1.0
        # Over its kept light, where that is known; else over its first position.
        return values / now * share if np.isfinite(share) else values / first

    lines = {names[p]: (along, course(p).tolist()) for p in (own, *group[:NEIGHBOURS])}
    chart = curves(lines, "position of the pass", "light left, against others", whole_x=True)
    shown = [own, *group[:1]]
    return chart + row(*(_frame(checker, drift.position, names[place]) for place in shown))


def _array(checker: PassChecker, drift: Drift) -> str:
    """The array as it is believed to stand and as seen, and the frames that are exchanged."""
    state = next((s for s in checker.array.states if s.position == drift.position), None)
    if state is None:
        return ""
    drawn = array_map(state.optics, state.estimate, state.problems)
    shown = drift.led.split(", ") if drift.led else []
    return drawn + row(*(_frame(checker, drift.position, name) for name in shown))


def _frame(checker: PassChecker, position: str, name: str) -> str:
    led = next(led for led in checker.leds if led.name == name)
    image = checker.reader.frame(position, led.index)
    return picture(image, f"{position}, stored as {name}")


def _overlap(checker: PassChecker, drift: Drift) -> str:
    """What two neighbours share: as they are believed to lie, and as they lie."""
    at = [o for o in checker.overlaps if drift.position in (o.first, o.second)]
    if not at:
        return ""
    overlap = max(at, key=lambda each: each.off_um or 0.0)
    off_px = overlap.off_px or (0.0, 0.0)
    name = f"{overlap.first} red, {overlap.second} cyan"
    return row(
        picture(_both(checker, overlap, (0.0, 0.0)), f"{name}: as they are believed to lie"),
        picture(
            _both(checker, overlap, off_px), f"{name}: as they lie, {overlap.off_um:.1f} µm off"
        ),
    )


def _both(checker: PassChecker, overlap: Overlap, off_px: tuple[float, float]) -> Image:
    """The part that both show, the first in red, the second in green and blue; (y, x, rgb)."""
    size = checker.reader.size_px(overlap.first)
    step = [round(s + off) for s, off in zip(overlap.step_px, off_px, strict=True)]
    low = [max(0, s) for s in step]
    high = [min(side, side + s) for side, s in zip(size, step, strict=True)]
    first, second = (
        checker.reader.brightfield(name).mean(axis=-1) for name in (overlap.first, overlap.second)
    )
    here = first[low[1] : high[1], low[0] : high[0]]
    there = second[low[1] - step[1] : high[1] - step[1], low[0] - step[0] : high[0] - step[0]]
    both = np.stack([here, there, there], axis=-1).astype(np.uint8)
    # A part of a strip is seen better than the whole of it: two of them stand beside each other.
    height, width = both.shape[:2]
    return np.ascontiguousarray(both[:width, : 3 * height])
