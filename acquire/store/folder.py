"""A scan's folder and its small files: positions, where the slide lies."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.errors import POSITIONS, UserError
from plsctl.acquire.files.locations import location
from plsctl.acquire.files.whole_files import write_whole
from plsctl.acquire.store.reader import PassReader, say_unchecked
from plsctl.acquire.store.records import PASSES


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


class ScanFolder:
    """The files of a scan, on this machine or in an object store."""

    def __init__(self, path: str | Path) -> None:
        self.path = path = location(path)
        self.slide_file = path / "slide.yaml"
        self.journal = path / "scan.jsonl"
        self.positions = path / "positions.csv"
        self.cells = path / "cells.csv"
        self.transform = path / "transform.json"
        self.left_out: dict[str, set[str]] = {}
        """Positions of each pass that are not to be read: they are damaged."""

    def leave_out(self, pass_name: str, position: str) -> None:
        """Open the pass without a position from now on."""
        self.left_out.setdefault(pass_name, set()).add(position)

    def pass_path(self, name: str) -> Path:
        """Where the plate of a pass lies."""
        return self.path / f"{name}.ome.zarr"

    def drift_page(self, name: str) -> Path:
        """Where the page lies that shows what has drifted during a pass."""
        return self.path / f"drift_{name}.html"

    def open_pass(self, name: str, *, one_core: bool = False) -> PassReader:
        """Read a pass, on one core or on all; `UserError` when it has not been taken."""
        path = self.pass_path(name)
        if not is_begun(path):
            raise UserError(
                f"the scan has no pass '{name}'.",
                file=self.path,
                hint=f"Take it first: plsctl scan SLIDE.yaml --pass {name}.",
            )
        without = frozenset(self.left_out.get(name, ()))
        reader = PassReader(path, one_core=one_core, without=without)
        if not one_core:  # who reads with one core is one of many
            say_unchecked(reader)
        return reader


def is_begun(plate: Path) -> bool:
    """Whether a pass has been begun: a kill may leave the plate's folder with nothing in it."""
    return plate.is_dir() and (
        (plate / "zarr.json").exists() or any(entry.is_dir() for entry in plate.iterdir())
    )
