"""The page of a calibration: what was measured, how well, and what was seen; or why it failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.arrays import FloatArray, Image
from plsctl.acquire.bench.bright_field import Seen
from plsctl.acquire.bench.flat_field import FlatFieldResult
from plsctl.acquire.bench.objectives import ObjectivesResult
from plsctl.acquire.bench.pixel_size import PixelSizeResult, Row
from plsctl.acquire.devices.calibration_kinds import Calibration, FlatSurface
from plsctl.process.pages.pictures import picture
from plsctl.process.pages.tables import pairs
from plsctl.process.report.page import Page, Section, grid, verdict

_SIZE = 320
"""Side of a chart."""


def write_failure(path: Path, title: str, reason: str, seen: Sequence[Seen]) -> Path:
    """A page that tells why a calibration failed, with the images that it looked at last."""
    page = Page(
        f"Failed: {title}",
        "Nothing was written over.",
        verdict=verdict(reason, "warn"),
        sections=[
            Section(
                "What the camera saw",
                "The last image first.",
                grid(*(picture(each.image, each.caption) for each in reversed(seen))),
            )
        ]
        if seen
        else [],
    )
    return page.write(path)


def write_pixel_size(path: Path, result: PixelSizeResult) -> Path:
    """The page of a pixel size."""
    found = result.calibration
    page = _page(
        found,
        [
            (f"pixel size, ± {found.pixel_um_error:.5f}", f"{found.pixel_um:.5f} µm"),
            (f"rotation, ± {found.rotation_deg_error:.3f}", f"{found.rotation_deg:.3f}°"),
            ("the image", "mirrored" if found.mirrored else "not mirrored"),
        ],
    )
    page.picture = picture(
        result.image, "The place where it was measured", um_per_px=found.pixel_um
    )
    page.sections = [
        Section(
            "Numbers",
            "Errors are standard errors, from how far the images depart from straight rows.",
            pairs(
                [
                    ("play of the stage in x, y", _list(found.backlash_um, "µm")),
                    ("scatter of the stage", f"{found.residual_um:.3f} µm"),
                    ("a step in y over one in x", f"{result.step_ratio:.5f}"),
                    ("images", str(found.images)),
                ]
            ),
        ),
        Section(
            "Rows",
            "How far each image of a row lies from the straight line, 20 times enlarged: rows "
            "that curve or jump tell of a stage that does not go evenly.",
            grid(*(_row_chart(row, name) for row, name in zip(result.rows, "xy", strict=True))),
        ),
    ]
    return page.write(path)


def write_objectives(path: Path, result: ObjectivesResult, low_pixel_um: float) -> Path:
    """The page of two objectives; `low_pixel_um` is the pixel size under the lower one."""
    found = result.calibration
    page = _page(
        found,
        [
            ("the stage goes in x, y", _list(found.offset_um[:2], "µm")),
            ("and in z", f"{found.offset_um[2]:.1f} µm"),
            (f"scale, ± {found.scale_error:.4f}", f"{found.scale:.4f}"),
            (f"rotation, ± {found.rotation_deg_error:.3f}", f"{found.rotation_deg:.3f}°"),
        ],
    )
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in result.outline_px)
    outline = f'<polygon points="{corners}" fill="none" stroke="#d33" stroke-width="2"/>'
    page.sections = [
        Section(
            "Images",
            f"Left what {escape(found.reference)} shows, with the outline of the mosaic; right the "
            f"mosaic of {found.fields} images under {escape(found.objective)}.",
            grid(
                picture(
                    result.low,
                    f"under {found.reference}",
                    overlay=outline,
                    um_per_px=low_pixel_um,
                ),
                picture(
                    result.mosaic,
                    f"under {found.objective}",
                    um_per_px=low_pixel_um / found.scale,
                ),
            ),
        )
    ]
    return page.write(path)


def write_flat_field(path: Path, result: FlatFieldResult) -> Path:
    """The page of a flat field."""
    found = result.calibration
    page = _page(
        found,
        [
            ("the darkest part lacks", f"{100 * found.vignette:.1f} %"),
            ("specks of dust", str(len(found.dust))),
            ("dead pixels", str(len(found.dead_px))),
            ("hot pixels", str(len(found.hot_px))),
        ],
    )
    marks = "".join(
        f'<circle cx="{x}" cy="{y}" r="{2 * radius}" fill="none" stroke="#d33" stroke-width="2"/>'
        for x, y, radius, _ in found.dust
    ) + "".join(
        f'<rect x="{x - 5}" y="{y - 5}" width="10" height="10" fill="none" stroke="#36c" '
        'stroke-width="2"/>'
        for x, y in (*found.dead_px, *found.hot_px)
    )
    page.sections = [
        Section(
            "Bright field",
            "The level of glass: dark is 10 % below the mean, bright 10 % above. Circles are dust, "
            "squares dead or hot pixels.",
            picture(_contrasted(result.level), "Level of glass", overlay=marks),
        ),
        Section(
            "Under each light",
            "Parts of the image, as scans keep them.",
            grid(
                *(
                    picture(_contrasted(FlatSurface.unpack(text), enlarged=20), label)
                    for label, text in found.surfaces.items()
                )
            ),
        ),
    ]
    return page.write(path)


def _contrasted(level: FloatArray, enlarged: int = 1) -> Image:
    """Levels about 1 as grey values: 0.9 is black, 1.1 white."""
    grey = np.clip((level.mean(axis=2) - 0.9) / 0.2 * 255, 0, 255).astype(np.uint8)
    return np.asarray(np.kron(grey, np.ones((enlarged, enlarged), np.uint8)), np.uint8)


def _page(found: Calibration, key_figures: list[tuple[str, str]]) -> Page:
    camera = found.hardware.camera
    which = camera.answers or camera.device
    return Page(
        f"Calibration: {found.title}",
        f"Measured {found.measured:%Y-%m-%d %H:%M} UTC with {which}, {camera.size_px[0]} x "
        f"{camera.size_px[1]} pixels.",
        key_figures=key_figures,
        footer=f"Written by plsctl {found.plsctl}.",
    )


def _row_chart(row: Row, axis: str) -> str:
    """Where the content of a row's images lay, departures enlarged, as SVG."""
    spread = row.content_px - row.content_px.mean(axis=0)
    line = spread - row.residual_px
    shown = line + 20 * row.residual_px
    reach = max(float(np.abs(shown).max()), 1.0) * 1.1
    scale = _SIZE / (2 * reach)

    def points(values: NDArray[np.float64]) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in _SIZE / 2 + values * scale]

    (x0, y0), (x1, y1) = points(line[[0, -1]])
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="currentColor"/>' for x, y in points(shown)
    )
    caption = f"steps of the stage in {axis}"
    return (
        f'<figure><svg viewBox="0 0 {_SIZE} {_SIZE}" role="img" aria-label="{escape(caption)}">'
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="currentColor" '
        f'stroke-width="1"/>{dots}</svg><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _list(values: Iterable[float], unit: str) -> str:
    return ", ".join(f"{value:.2f}" for value in values) + f" {unit}"
