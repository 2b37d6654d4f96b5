"""Small files of a scan's folder: its settings as resolved, positions, where the slide lies."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import yaml

from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.devices.hardware import Hardware
from plsctl.acquire.errors import POSITIONS, UserError
from plsctl.acquire.files.whole_files import sync_file, sync_folder, write_whole
from plsctl.acquire.plans.slide import PASSES, Slide
from plsctl.acquire.store.reader import PassReader, ScanFolder, is_begun


def write_settings(folder: Path, slide: Slide, hardware: Hardware) -> None:
    """Write slide and hardware file with all tables they name: enough to repeat the scan.

    Raises
    ------
    OSError
        The disk does not take them.
    """
    found = hardware.model_dump(mode="json")
    shutil.copyfile(hardware.resolve(hardware.led_array.geometry), folder / "leds.csv")
    found["led_array"]["geometry"] = "leds.csv"
    if found["core"].endswith(".cfg"):
        path = hardware.resolve(found["core"])
        found["core"] = str(path) if path.is_file() else found["core"]
    scanned = slide.model_dump(mode="json")
    scanned["hardware"] = "hardware.yaml"
    # By pass: tables in different folders may have one name.
    for name in slide.passes:
        table = f"exposures_{name}.csv"
        shutil.copyfile(slide.exposures_file(name), folder / table)
        scanned["passes"][name]["exposures"] = table
    scanned["exposures"] = f"exposures_{next(iter(slide.passes))}.csv"
    for file, settings in (("hardware.yaml", found), ("slide.yaml", scanned)):
        (folder / file).write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
    for path in folder.iterdir():
        sync_file(path)
    sync_folder(folder)


def write_positions(folder: ScanFolder) -> None:
    """Write `positions.csv`: the finished positions of every pass.

    Raises
    ------
    UserError
        The disk does not take it.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["pass", "position", "x_um", "y_um", "z_um", "slide_x_um", "slide_y_um"])
    for name in PASSES:
        path = folder.pass_path(name)
        if not is_begun(path):
            continue
        for p in PassReader(path).positions:
            place = (p.x_um, p.y_um, p.z_um, p.slide_x_um, p.slide_y_um)
            writer.writerow([name, p.name, *(f"{value:.3f}" for value in place)])
    write_whole(folder.positions, text.getvalue(), kept=POSITIONS)


def load_transform(folder: ScanFolder) -> SlideTransform:
    """Where the returned slide lies, as the stained pass found it.

    Raises
    ------
    UserError
        The stained pass has not found it yet, or the file is damaged.
    """
    try:
        found = json.loads(folder.transform.read_text(encoding="utf-8"))
        return SlideTransform(**found)
    except FileNotFoundError:
        raise UserError(
            "the scan does not say where the stained slide lies.",
            file=folder.transform,
            hint="Take the stained pass: plsctl scan SLIDE.yaml --pass stained.",
        ) from None
    except (ValueError, TypeError):
        raise UserError(
            "this file is damaged.",
            file=folder.transform,
            hint="Delete it and resume the stained pass.",
        ) from None
