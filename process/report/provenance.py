"""Provenance of a scan and of a data set, from the metadata noted when they were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import yaml

from plsctl.acquire.store.folder import ScanFolder, is_begun
from plsctl.acquire.store.journal import read_journal
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import PASSES, FrameRecord
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.records import DatasetFrame
from plsctl.process.pages.tables import pairs

UNKNOWN = "unknown"
Pairs = list[tuple[str, str]]


def provenance(title: str, rows: Pairs) -> str:
    """The provenance of one folder, under its name."""
    return f"<h3>{escape(title)}</h3>{pairs(rows)}"


def scan_provenance(folder: ScanFolder) -> Pairs:
    """Date, slide, hardware, objectives, pixel sizes and exposures of a scan."""
    slide = _yaml(folder.slide_file)
    hardware = _yaml(folder.path / str(slide.get("hardware", "hardware.yaml")))
    readers = {name: folder.open_pass(name) for name in PASSES if is_begun(folder.pass_path(name))}
    any_pass = next(iter(readers.values()), None)
    noted = slide if any_pass is None else any_pass.attributes.model_dump()
    rows = [
        ("date", _dates(folder)),
        ("slide", text_of(noted.get("slide"))),
        ("patient", text_of(noted.get("patient"))),
        ("stain", text_of(noted.get("stain"))),
        ("hardware", _hardware(hardware, slide)),
        ("camera pixels", _unit(_at(hardware, "camera", "pixel_pitch_um"), "µm on the sensor")),
        ("recipe", text_of(noted.get("recipe"))),
        ("plsctl", _version(folder)),
    ]
    tables = slide.get("passes")
    for name, reader in readers.items():
        table = _at(tables, name, "exposures") or slide.get("exposures")
        rows.append((f"{name} pass", _pass(reader, text_of(table))))
    return rows


def dataset_provenance(data: Dataset) -> Pairs:
    """Slides, patients, stain, sizes and exposures of a data set."""
    return [
        ("slides", _values(data, "slide")),
        ("patients", _values(data, "patient")),
        ("stain", _values(data, "stain")),
        ("recipe", f"{data.recipe}, {len(data.frames)} images a sample"),
        ("pixel size", f"{data.pixel_um:.3g} µm on the slide"),
        ("crops", f"{data.crop_px} x {data.crop_px} px, margin {data.margin_px} px"),
        ("exposures", exposure_range(data.frames)),
        ("targets", ", ".join(data.targets)),
    ]


def text_of(value: object) -> str:
    """The value as text, "unknown" where there is none."""
    return UNKNOWN if value is None or value == "" else str(value)


def _yaml(file: Path) -> dict[str, object]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _at(found: object, *names: str) -> object:
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _unit(value: object, unit: str) -> str:
    return UNKNOWN if value is None else f"{value} {unit}"


def _hardware(hardware: Mapping[str, object], slide: Mapping[str, object]) -> str:
    name = text_of(hardware.get("name") or slide.get("hardware"))
    size = _at(hardware, "camera", "size_px")
    parts = [name]
    if hardware.get("core") == "simulator":
        parts.append("a simulated microscope")
    driver = _at(hardware, "led_array", "driver")
    if driver:
        parts.append(f"LED array {driver}")
    if isinstance(size, list) and len(size) == 2:
        parts.append(f"camera {size[0]} x {size[1]} px")
    return ", ".join(parts)


def _dates(folder: ScanFolder) -> str:
    times = [str(event["time"]) for event in read_journal(folder.journal) if "time" in event]
    if not times:
        return UNKNOWN
    first, last = (time[:16].replace("T", " ") for time in (times[0], times[-1]))
    return f"{first} to {last[11:] if last[:10] == first[:10] else last} UTC"


def _version(folder: ScanFolder) -> str:
    found = {str(event["version"]) for event in read_journal(folder.journal) if "version" in event}
    return ", ".join(sorted(found)) or UNKNOWN


def _pass(reader: PassReader, table: str) -> str:
    seen = reader.attributes
    images = "1 image" if len(seen.frames) == 1 else f"{len(seen.frames)} images"
    return (
        f"objective {seen.objective} (NA {seen.na:g}), {seen.pixel_um:.3g} µm a pixel on the "
        f"slide, {len(reader.names)} positions x {images}, exposures {table}: "
        f"{exposure_range(seen.frames)}"
    )


def exposure_range(frames: Sequence[DatasetFrame] | Sequence[FrameRecord]) -> str:
    """The shortest and the longest exposure of frames."""
    times = [frame.exposure_ms for frame in frames if frame.exposure_ms is not None]
    if not times:
        return UNKNOWN
    low, high = min(times), max(times)
    return f"{low:.3g} ms" if low == high else f"{low:.3g} to {high:.3g} ms"


def _values(data: Dataset, column: str) -> str:
    if column not in data.table.columns:
        return UNKNOWN
    found = sorted({str(value) for value in data.table[column]} - {"", "nan"})
    return ", ".join(found) or UNKNOWN
