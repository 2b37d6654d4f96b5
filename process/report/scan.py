"""Report sections on a scan: the slide's map, its exposures, the steps of the segmentation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.coordinates import ImageAxes
from plsctl.acquire.store.folder import ScanFolder, is_begun
from plsctl.acquire.store.journal import read_journal
from plsctl.acquire.store.reader import PassReader
from plsctl.process.cells.table import read_cells
from plsctl.process.pages.pictures import picture
from plsctl.process.pages.tables import table
from plsctl.process.report.charts import colour_cloud, led_map, points
from plsctl.process.report.page import Section, folded, grid, row, verdict
from plsctl.process.segmentation.background import fit_background, flatten_background
from plsctl.process.segmentation.cells import Segmentation
from plsctl.process.segmentation.chromatin import chromatin_strength
from plsctl.process.segmentation.segment import segment
from plsctl.process.segmentation.settings import SegmentationSettings

Image = NDArray[np.uint8]

_MAP_PX = 1000
_CLOUD_POINTS = 6000


@dataclass(frozen=True)
class Mosaic:
    """Fields of a pass in one picture of the slide; `um_per_px` and the corner place it."""

    image: Image
    left_um: float
    top_um: float
    um_per_px: float

    def place(self, x_um: float, y_um: float) -> tuple[float, float]:
        """Where a point of the slide lies in the picture."""
        return (x_um - self.left_um) / self.um_per_px, (y_um - self.top_um) / self.um_per_px


def slide_of(folder: ScanFolder) -> str | None:
    """The slide that was scanned; None before the unstained pass was begun."""
    if not is_begun(folder.pass_path("unstained")):
        return None
    return folder.open_pass("unstained").attributes.slide


def scan_key_figures(folder: ScanFolder) -> list[tuple[str, str]]:
    """Key figures of a scan: fields, images of each, and cells."""
    figures = []
    if is_begun(folder.pass_path("unstained")):
        reader = folder.open_pass("unstained")
        figures.append(("fields scanned", str(len(reader.names))))
        figures.append(("images a field", str(len(reader.labels))))
    if folder.cells.exists():
        figures.append(("white cells found", str(len(read_cells(folder)))))
    return figures


def scan_sections(folder: ScanFolder) -> list[Section]:
    """The sections of a report on a scan; a pass that is missing is left out."""
    sections = [_map_section(folder)]
    if folder.pass_path("unstained").is_dir():
        sections.append(_exposure_section(folder.open_pass("unstained")))
    if folder.pass_path("stained").is_dir():
        sections.append(_segmentation_section(folder))
    return sections


def mosaic(reader: PassReader, width_px: int = _MAP_PX) -> Mosaic:
    """The bright-field images of a pass put together where they lie on the slide."""
    places = reader.positions
    height, width = reader.brightfield(places[0].name).shape[:2]
    pixel_um, orientation = reader.attributes.pixel_um, reader.attributes.orientation
    half = np.array([width, height]) * pixel_um / 2
    centres = np.array([(p.slide_x_um, p.slide_y_um) for p in places])
    low, high = centres.min(axis=0) - half, centres.max(axis=0) + half
    um_per_px = float((high - low)[0]) / width_px
    size = (width_px, math.ceil(float((high - low)[1]) / um_per_px))
    canvas = np.full((size[1], size[0], 3), 255, np.uint8)
    shrink = max(1, math.floor(um_per_px / pixel_um))
    for place, centre in zip(places, centres, strict=True):
        small = cv2.resize(
            reader.brightfield(place.name),
            (width // shrink, height // shrink),
            interpolation=cv2.INTER_AREA,
        )
        step = shrink * pixel_um / um_per_px
        x, y = (centre - low) / um_per_px
        # In pixels of the picture instead of micrometres.
        axes = ImageAxes((x, y), (small.shape[1], small.shape[0]), step, orientation)
        cv2.warpAffine(
            small,
            axes.matrix,
            size,
            dst=canvas,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_TRANSPARENT,
        )
    return Mosaic(canvas, float(low[0]), float(low[1]), um_per_px)


def _map_section(folder: ScanFolder) -> Section:
    figures = []
    for name in ("unstained", "stained"):
        if folder.pass_path(name).is_dir():
            reader = folder.open_pass(name)
            found = mosaic(reader)
            overlay = _fields_overlay(reader, found)
            if name == "stained":
                overlay += _cells_overlay(folder, found)
            caption = f"{name}, bright field"
            figures.append(picture(found.image, caption, overlay, um_per_px=found.um_per_px))
    note = (
        "The fields where they lie on the slide. White cells found in the stained pass are "
        "circled; the 100x pass went to the squares."
    )
    return Section("The slide", note, row(*figures))


def scan_verdict(folder: ScanFolder) -> str:
    """Whether the unstained pass was found good enough to stain the slide; "" before it was."""
    events = [e for e in read_journal(folder.journal) if e["event"] == "verdict"]
    if not events:
        return ""
    if events[-1]["safe_to_stain"]:
        left_out = ", ".join(map(str, events[-1].get("unchecked", ())))
        answer = f"yes; not checked: {left_out}" if left_out else "yes"
        return verdict(f"Safe to stain: {answer}.", "", "The unstained pass")
    problems = "; ".join(str(problem) for problem in events[-1].get("problems", ()))
    return verdict(f"Safe to stain: no. {problems}".strip(), "warn", "The unstained pass")


def _fields_overlay(reader: PassReader, found: Mosaic) -> str:
    parts = []
    for place in reader.positions:
        x, y = found.place(place.slide_x_um, place.slide_y_um)
        parts.append(
            f'<path d="M{x - 7:.1f} {y:.1f}h14M{x:.1f} {y - 7:.1f}v14" stroke="#1d2433" '
            f'stroke-opacity=".55" stroke-width="1.5"><title>{place.name}</title></path>'
        )
    return "".join(parts)


def _cells_overlay(folder: ScanFolder, found: Mosaic) -> str:
    parts = []
    if folder.pass_path("highres").is_dir():
        reader = folder.open_pass("highres")
        height, width = reader.brightfield(reader.names[0]).shape[:2]
        scale = reader.attributes.pixel_um / found.um_per_px
        for place in reader.positions:
            x, y = found.place(place.slide_x_um, place.slide_y_um)
            parts.append(
                f'<rect x="{x - width * scale / 2:.1f}" y="{y - height * scale / 2:.1f}" '
                f'width="{width * scale:.1f}" height="{height * scale:.1f}" fill="none" '
                'stroke="#1f8a70" stroke-opacity=".8" stroke-width="1.5"/>'
            )
    if folder.cells.exists():
        radius = 9.4 / found.um_per_px
        for _, cell in read_cells(folder).iterrows():
            x, y = found.place(float(cell["x_um"]), float(cell["y_um"]))
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="none" '
                'stroke="#d1495b" stroke-width="2"/>'
            )
    return "".join(parts)


def _exposure_section(reader: PassReader) -> Section:
    frames = reader.attributes.frames
    single = [frame for frame in frames if frame.direction is not None]
    groups: dict[str, list[tuple[float, float]]] = {}
    shortest: dict[str, tuple[str, float, float, float]] = {}
    for frame in single:
        direction = frame.direction or (0.0, 0.0)
        light = frame.exposure_ms * frame.gain
        angle = math.degrees(math.asin(min(1.0, math.hypot(*direction))))
        name = {"low": "dark field, short", "high": "dark field, long"}.get(
            frame.variant, "bright field" if frame.bright_field else "dark field"
        )
        groups.setdefault(name, []).append((angle, light))
        shortest.setdefault(frame.led, (frame.led, *direction, light))
    rows = [(f.label, f.led, f.variant or "-", f.exposure_ms, f.gain, f.brightness) for f in frames]
    columns = ("frame", "LED", "variant", "exposure (ms)", "gain", "brightness")
    listing = folded(f"All {len(frames)} frames of the stack", table(columns, rows))
    body, beside = listing, ""
    if single:
        chart = points(groups, "angle of the LED (deg)", "exposure x gain (ms)", logarithmic=True)
        array = led_map(
            list(shortest.values()), reader.attributes.na, "shortest exposure x gain", "ms"
        )
        body = (
            f'<div class="row"><div class="wide">{chart}</div><div class="narrow">{array}</div>'
            f"</div>{listing}"
        )
        beside = (
            " The map shows the directions of the LEDs as their table gives them, in the axes of "
            "the camera's pictures: +x to the right, +y down, as one looks at the pictures."
        )
    if any(frame.variant for frame in frames):
        beside += (
            " Dark-field images are taken twice: short (<code>:low</code>), so that the bright "
            "rims of cells are not saturated, and long (<code>:high</code>), so that faint detail "
            "is above the noise."
        )
    note = (
        f"Recipe {reader.attributes.recipe}: exposure of every LED's image. Inside the objective's "
        "aperture light enters directly; outside it only what the cells scatter, less and less as "
        f"the angle grows.{beside}"
    )
    return Section("Exposures", note, body)


def _segmentation_section(folder: ScanFolder) -> Section:
    reader = folder.open_pass("stained")
    settings = SegmentationSettings(pixel_um=reader.attributes.pixel_um)
    image, found = _richest_field(reader, settings)
    flat = flatten_background(image, fit_background(image))
    strength = chromatin_strength(flat, settings.hue)
    least = found.least_strength or settings.least_strength
    boxes = "".join(
        f'<rect x="{c.x}" y="{c.y}" width="{c.width}" height="{c.height}" fill="none" '
        'stroke="#d1495b" stroke-width="3"/>'
        for c in found.cells
    )
    pixel_um = reader.attributes.pixel_um
    steps = grid(
        picture(
            flat,
            "a) stained field on an even background, and the white cells found",
            boxes,
            um_per_px=pixel_um,
        ),
        picture(
            np.clip(strength / max(float(strength.max()), 1e-6) * 255, 0, 255).astype(np.uint8),
            "b) how strongly each pixel looks like stained chromatin",
            um_per_px=pixel_um,
        ),
        picture(
            np.where(strength >= least, 255, 0).astype(np.uint8),
            "c) above the limit",
            um_per_px=pixel_um,
        ),
        picture(
            found.mask_image(),
            "d) closed and sorted: nuclei white, cytoplasm grey",
            um_per_px=pixel_um,
        ),
    )
    note = (
        "Stained nuclei have a hue and saturation of their own: above, the pixels of the white "
        "cells and their surroundings, each in its colour; the rectangle holds the hues of "
        "chromatin. Below, the steps from a field to its white cells."
    )
    return Section("Finding white cells", note, _hsv_clouds(flat, found, settings.hue) + steps)


def _richest_field(
    reader: PassReader, settings: SegmentationSettings
) -> tuple[Image, Segmentation]:
    """The field with the most white cells among the first few."""
    fields = [reader.brightfield(name) for name in reader.names[:6]]
    found = [segment(field, settings) for field in fields]
    best = max(range(len(fields)), key=lambda index: len(found[index].cells))
    return fields[best], found[best]


def _hsv_clouds(flat: Image, found: Segmentation, chromatin: tuple[int, int]) -> str:
    near = np.zeros(flat.shape[:2], dtype=bool)
    for cell in found.cells:
        top, left = max(0, cell.y - 12), max(0, cell.x - 12)
        near[top : cell.y + cell.height + 12, left : cell.x + cell.width + 12] = True
    if not near.any():
        near[:] = True
    chosen = _sample(np.flatnonzero(near))
    hsv = np.asarray(cv2.cvtColor(flat, cv2.COLOR_RGB2HSV), dtype=np.uint8)
    values, colours = hsv.reshape(-1, 3)[chosen], flat.reshape(-1, 3)[chosen]
    hue, saturation, value = (values[:, i] for i in range(3))
    return row(
        colour_cloud(
            ("hue (0-180)", hue, 180),
            ("saturation (0-255)", saturation, 255),
            colours,
            (chromatin[0], 0, chromatin[1], 255),
        ),
        colour_cloud(
            ("value (0-255)", value, 255), ("saturation (0-255)", saturation, 255), colours
        ),
    )


def _sample(indices: NDArray[np.integer]) -> NDArray[np.integer]:
    if len(indices) <= _CLOUD_POINTS:
        return indices
    return np.random.default_rng(0).choice(indices, _CLOUD_POINTS, replace=False)
