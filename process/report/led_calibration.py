"""The page of an LED calibration: the array by its table and as measured; or why it failed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plsctl.process.calibration.led_array import ArrayEstimate, LedProblem
from plsctl.process.calibration.views import ArrayOptics
from plsctl.process.pages.tables import table
from plsctl.process.report.page import Page, Section, verdict

_SIZE = 640
_COLOURS = {"dead": "#888888", "dim": "#c98a00", "swapped": "#d1495b"}


def write_led_calibration(
    path: Path,
    title: str,
    optics: ArrayOptics,
    found: ArrayEstimate,
    problems: Sequence[LedProblem],
    notes: Sequence[str],
) -> Path:
    """Write the page of what was measured."""
    pose, error = found.pose, found.pose_error
    page = Page(
        title,
        "Directions are those of the light, in the axes of the LED table.",
        verdict=verdict(_sentence(optics, problems, found), "warn" if problems else "good"),
        key_figures=[
            ("shift in x and y", f"{pose.x_mm:.2f}, {pose.y_mm:.2f} ± {error.x_mm:.2f} mm"),
            ("rise", f"{pose.height_mm:.2f} ± {error.height_mm:.2f} mm"),
            ("turn", f"{pose.rotation_deg:.2f} ± {error.rotation_deg:.2f}°"),
            ("tilt", f"{pose.tilt_deg:.2f}°"),
            ("departure of direction cosines", f"{found.rms:.4f}"),
        ],
        sections=[
            Section(
                "The array",
                "Open circles: by the table. Dots: as measured. The large circle is the "
                "objective's aperture. Swapped LEDs are joined to their places by a line.",
                array_map(optics, found, problems),
            ),
            *(
                [Section("Notes", "", "".join(f"<p>{escape(n)}</p>" for n in notes))]
                if notes
                else []
            ),
            Section("LEDs", "", _listing(optics, found, problems)),
        ],
    )
    return page.write(path)


def array_map(optics: ArrayOptics, found: ArrayEstimate, problems: Sequence[LedProblem]) -> str:
    """The array by its table and as measured, in direction cosines, as SVG."""
    flat = optics.places_mm[:, :2] / np.linalg.norm(optics.places_mm, axis=1, keepdims=True)
    reach = 1.08 * max(float(np.abs(flat).max()), float(np.abs(found.directions).max()))
    kinds = {problem.led: problem for problem in problems}

    def at(place: NDArray[np.float64]) -> tuple[float, float]:
        x, y = _SIZE / 2 * (1 + place / reach)
        return float(x), float(y)

    radius = _SIZE / 2 * optics.na / reach
    parts = [
        f'<circle cx="{_SIZE / 2}" cy="{_SIZE / 2}" r="{radius:.1f}" fill="none" '
        'stroke="currentColor" stroke-dasharray="5 4"/>'
    ]
    for led in range(len(optics)):
        (x0, y0), (x1, y1) = at(flat[led]), at(found.directions[led])
        problem = kinds.get(led)
        colour = _COLOURS[problem.kind] if problem else "#1f8a70"
        parts.append(
            f'<circle cx="{x0:.1f}" cy="{y0:.1f}" r="6" fill="none" stroke="currentColor" '
            f'stroke-opacity=".6"/><line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" '
            f'stroke="{colour}"/><circle cx="{x1:.1f}" cy="{y1:.1f}" r="3.5" fill="{colour}">'
            f"<title>{escape(optics.name(led))}</title></circle>"
        )
        if problem:
            parts.append(
                f'<text x="{x0 + 8:.1f}" y="{y0 - 6:.1f}" font-size="13" fill="{colour}">'
                f"{escape(optics.name(led))}: {problem.kind}</text>"
            )
    return (
        f'<figure><svg viewBox="0 0 {_SIZE} {_SIZE}" role="img" aria-label="the LED array">'
        f"{''.join(parts)}</svg></figure>"
    )


def _sentence(optics: ArrayOptics, problems: Sequence[LedProblem], found: ArrayEstimate) -> str:
    said = [f"{optics.name(p.led)} is {p.kind}" for p in problems]
    said += [f"{optics.name(int(led))} fits no place" for led in found.unclear]
    return (
        "; ".join(said) or "All LEDs give light, from where the array as a whole puts them"
    ) + "."


def _listing(optics: ArrayOptics, found: ArrayEstimate, problems: Sequence[LedProblem]) -> str:
    kinds = {problem.led: problem.kind for problem in problems}
    rows = [
        (
            optics.name(led),
            f"{found.directions[led, 0]:.4f}",
            f"{found.directions[led, 1]:.4f}",
            f"{found.errors[led]:.4f}" if np.isfinite(found.errors[led]) else "by the pose",
            kinds.get(led, ""),
        )
        for led in range(len(optics))
    ]
    return table(("LED", "x", "y", "error", "problem"), rows)
