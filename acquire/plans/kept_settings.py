"""The settings that a scan was begun with: what of them decides its images, and their copy.

A scan's folder keeps its slide and hardware file and all tables; a hash tells whether they are
still those by which it is gone on with.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from plsctl.acquire.devices.calibrations import FOLDER, write_calibration
from plsctl.acquire.devices.hardware import Hardware, find_file
from plsctl.acquire.files.whole_files import sync_file, sync_folder
from plsctl.acquire.plans.slide import FocusSettings, Slide

HARDWARE = "hardware.yaml"
"""The hardware file in a scan's folder."""


def settings_hash(slide: Slide, hardware: Hardware) -> str:
    """A hash of everything that determines a scan's images, independent of file names.

    A resume with other settings would mix two scans in one; comparing hashes prevents it.
    """
    text = json.dumps(_settings_content(slide, hardware), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def changed_settings(
    before: tuple[Slide, Hardware], now: tuple[Slide, Hardware]
) -> list[tuple[str, object, object]]:
    """What of the settings behind the hash differs: field, old and new value (None: not there)."""
    old, new = (_by_name(_settings_content(*settings)) for settings in (before, now))
    return [
        (name, old.get(name), new.get(name))
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _by_name(content: dict[str, Any]) -> dict[str, object]:
    """Each setting by its name in the slide or hardware file; rows of tables by their LED."""
    content = dict(content)
    driver, options = content.pop("led_array")
    leds = {f"LED table, {name}": [led, *at] for led, name, *at in content.pop("leds")}
    exposures = {
        f"exposures of {name}, {label}": values
        for name, rows in content.pop("exposures").items()
        for label, *values in rows
    }
    found: dict[str, object] = {}

    def collect(value: object, name: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                collect(inner, f"{name}.{key}" if name else str(key))
        else:
            found[name] = value

    collect(content.pop("slide"), "")
    collect(content.pop("hardware"), "")
    collect(content | {"led_array": {"driver": driver, "options": options}}, "")
    return found | leds | exposures


def _settings_content(slide: Slide, hardware: Hardware) -> dict[str, Any]:
    """Everything that decides what a scan's images are, as data for JSON.

    Left out is what may have to be changed for a scan to go on: how focus and the returned slide
    are sought, how the stage moves, ports, names of files; and calibrations, for a scan keeps those
    that it was begun with.
    """
    hardware = hardware.described
    left_out: dict[str, bool | set[str]] = {
        "focus": set(FocusSettings.model_fields) - {"mode", "refresh_positions"},
        **dict.fromkeys(("slide_return", "stop", "hardware", "exposures", "passes"), True),
    }
    moves = {"stage", "focus_z_um", "checks", "timing"}
    # Of the simulated microscope: how fast and how well it works, not what it sees.
    play = {"clock", "prepared", "faults", "wiring", "image_cache_mb"}
    play |= {"led_log", "lamp", "light_from"}
    leds = hardware.led_array
    passes = {name: settings.objective for name, settings in slide.passes.items()}
    tables = {name: slide.load_exposures(name) for name in slide.passes}
    content: dict[str, Any] = {
        "slide": slide.model_dump(mode="json", exclude=left_out),
        "hardware": hardware.model_dump(
            mode="json",
            exclude={
                **dict.fromkeys(("name", "core", "turret", "led_array", *moves), True),
                "camera": {"trigger", "frame_number_tag", "timestamp_tag", "rolling_shutter"},
                "options": play,
            },
        ),
        "core": ".cfg" if hardware.core.endswith(".cfg") else hardware.core,
        "objectives": {
            name: objective.model_dump(
                mode="json",
                # What is not written must leave the hash of scans begun before as it was.
                exclude={"label", "offset_z_um", "z_um"}
                | {n for n in ("pixel_um", "rotation_deg") if not getattr(objective, n)},
            )
            for name, objective in hardware.turret.objectives.items()
        },
        "led_array": [leds.driver, leds.options],
        "leds": [[led.led, led.name, *led.direction] for led in hardware.geometry().leds],
        "passes": passes,
        "exposures": {
            name: [[f.label, e.exposure_ms, e.gain, e.brightness] for f, e in table.rows.items()]
            for name, table in tables.items()
        },
    }
    recipe = slide.load_recipe()
    content["slide"]["recipe"] = recipe.name
    if not recipe.is_shipped:
        na = hardware.objective(hardware.low_power).na
        content["recipe"] = {
            lit.frame.label: {
                "leds": [led.led for led in lit.leds],
                "weight": lit.weight,
                "colour": lit.colour,
            }
            for lit in recipe.light(hardware.geometry(), na)
        }
    if not hardware.camera.mirrored:
        # Scans begun before cameras could be mirrored must go on.
        del content["hardware"]["camera"]["mirrored"]
    # Binned pixels are larger ones, however that is described.
    content["hardware"]["camera"]["pixel_pitch_um"] *= content["hardware"]["camera"].pop("binning")
    return content


def write_settings(folder: Path, slide: Slide, hardware: Hardware) -> None:
    """Write slide and hardware file with all tables they name: enough to repeat the scan.

    Calibrations lie beside the hardware file, as they do where the user keeps them.

    Raises
    ------
    OSError
        The disk does not take them.
    """
    keep_calibrations(folder, hardware)
    hardware = hardware.described
    found = hardware.model_dump(mode="json")
    shutil.copyfile(hardware.resolve(hardware.led_array.geometry), folder / "leds.csv")
    found["led_array"]["geometry"] = "leds.csv"
    if found["core"].endswith(".cfg"):
        path = hardware.resolve(found["core"])
        found["core"] = str(path) if path.is_file() else found["core"]
    scanned = slide.model_dump(mode="json")
    scanned["hardware"] = HARDWARE
    recipe = slide.load_recipe()
    if recipe.is_shipped:
        scanned["recipe"] = recipe.name
    else:
        (folder / "recipe.yaml").write_text(recipe.to_yaml(), "utf-8")
        scanned["recipe"] = "recipe.yaml"
    if slide.focus.map is not None:
        shutil.copyfile(find_file(slide.focus.map, slide.file.parent), folder / "heights.csv")
        scanned["focus"]["map"] = "heights.csv"
    # By pass: tables in different folders may have one name.
    for name in slide.passes:
        table = f"exposures_{name}.csv"
        shutil.copyfile(slide.exposures_file(name), folder / table)
        scanned["passes"][name]["exposures"] = table
    scanned["exposures"] = f"exposures_{next(iter(slide.passes))}.csv"
    for file, settings in ((HARDWARE, found), ("slide.yaml", scanned)):
        (folder / file).write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
    for path in folder.iterdir():
        if path.is_file():
            sync_file(path)
    sync_folder(folder)


def keep_calibrations(folder: Path, hardware: Hardware) -> None:
    """Write the calibrations that a scan uses into its folder."""
    for calibration in hardware.calibrations:
        write_calibration(calibration, folder / f"{Path(HARDWARE).stem}{FOLDER}")
