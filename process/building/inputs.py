"""Inputs of a data set: scans checked against each other, their cells, their hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import is_remote
from plsctl.acquire.store.damage import leave_out_damaged
from plsctl.acquire.store.folder import ScanFolder, load_transform
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import PASSES
from plsctl.acquire.words import counted
from plsctl.process.cells.finder import room_px
from plsctl.process.cells.table import NUMBERS, read_cells
from plsctl.process.dataset.compatibility import Taken, exposures_that_differ, refuse_other_optics
from plsctl.process.quality.frames import FrameReference
from plsctl.process.samples.highres_scale import HighresScale
from plsctl.process.samples.highres_targets import HighresPlaces
from plsctl.process.samples.position import PositionJob
from plsctl.process.samples.settings import BuildSettings

CHECKING = "looking for damaged frames"

UNLIKELY = 1e-3
"""Chance that cells keep away from borders by themselves, below which they were kept away."""


def open_scan(path: Path) -> ScanFolder:
    """A scan with its unstained and its stained pass.

    Raises
    ------
    UserError
        If there is no such folder, a pass is missing, or it does not say where the slide lies.
    """
    if not path.is_dir():
        raise UserError(
            "this scan folder does not exist.",
            file=path,
            hint="Name the folder that plsctl scan wrote, such as scans/S001.",
        )
    # Workers of a cluster stand in folders of their own.
    folder = ScanFolder(path if is_remote(path) else path.absolute())
    for name in ("unstained", "stained"):
        folder.open_pass(name)
    load_transform(folder)
    return folder


def without_damaged(
    folders: Sequence[ScanFolder],
    progress: Callable[[str, int, int], None],
    notify: Callable[[str], None],
) -> tuple[str, ...]:
    """Leave damaged positions out of the scans, and say so of each; what is wrong with them."""
    said = []
    for folder in folders:
        for damage in leave_out_damaged(
            folder, PASSES, progress=lambda done, total: progress(CHECKING, done, total)
        ):
            said.append(f"{damage.file}: {damage.message}")
            notify(f"Left out: {said[-1]}")
    return tuple(said)


def unfinished_passes(folders: Sequence[ScanFolder]) -> list[str]:
    """A sentence for each unfinished pass: some cells of the slide are missing."""
    return [
        f"The pass {name} of {folder.path.name} is not finished; "
        f"what is used of it: {counted(len(reader.names), 'position')}."
        for folder in folders
        for name in ("unstained", "stained", "highres")
        if folder.pass_path(name).is_dir()
        and not (reader := folder.open_pass(name)).attributes.finished
    ]


def cells_for_larger_crops(folder: ScanFolder, side_px: int) -> list[str]:
    """A sentence where the scan's cells keep farther from the border than these crops need."""
    reader = folder.open_pass("stained")
    cells = _cells(folder)
    if cells.empty or not reader.names:
        return []
    width, height = reader.size_px(reader.names[0])
    x, y = cells["pixel_x"], cells["pixel_y"]
    room = pd.concat([x, y, width - 1 - x, height - 1 - y], axis=1).min(axis=1)
    nearest, needed = float(room.min()), room_px(side_px, reader.attributes.pixel_um)
    inner, whole = (
        max(0.0, width - 2 * rim) * max(0.0, height - 2 * rim) for rim in (nearest, needed)
    )
    if inner >= whole or (inner / whole) ** len(cells) > UNLIKELY:
        return []
    return [
        f"{folder.cells} was made for larger crops: it has no cell nearer than {nearest:.0f} px to "
        f"the border of its field, and crops of {side_px} px need {needed:.0f}. plsctl find-cells "
        f"{folder.path} --crop {side_px} finds the others too."
    ]


def check_compatible(readers: Sequence[PassReader]) -> list[str]:
    """Check that all scans have one recipe, camera and LED array, so that their pixels compare.

    Returns
    -------
    A sentence for each scan that was exposed differently from the first.

    Raises
    ------
    UserError
        Naming the scan that differs from the first.
    """
    first = readers[0]
    taken = [_taken(reader) for reader in readers]
    for other, how in zip(readers[1:], taken[1:], strict=True):
        if other.labels != first.labels:
            raise UserError(
                f"its recipe '{other.attributes.recipe}' differs from "
                f"'{first.attributes.recipe}' of {first.path.parent.name}.",
                file=other.path,
                hint="Build scans of different recipes into data sets of their own.",
            )
        refuse_other_optics(taken[0], how)
    names = [reader.attributes.slide for reader in readers]
    for reader, name in zip(readers, names, strict=True):
        if names.count(name) > 1:
            raise UserError(
                f"two of the scans are of slide {name}.",
                file=reader.path.parent,
                hint="Name each scan once, and give every slide a name of its own.",
            )
    return exposures_that_differ(taken[0], taken[1:])


def check_crop(readers: Sequence[PassReader], settings: BuildSettings) -> None:
    """`UserError` where crops with their margin are larger than the images."""
    side = settings.crop_px + 2 * settings.margin_px
    for reader in readers:
        size = min(reader.size_px(reader.names[0])) if reader.names else side
        if side > size:
            raise UserError(
                f"crops of {side} px are larger than the images, of {size} px at the least.",
                file=reader.path,
                field="--crop",
                hint="Give smaller --crop and --margin.",
            )


def _taken(reader: PassReader) -> Taken:
    attributes = reader.attributes
    return Taken(
        reader.path.parent.name,
        reader.path,
        attributes.pixel_um,
        attributes.orientation,
        attributes.black_level / attributes.full_scale,
        attributes.frames,
    )


def position_jobs(
    folder: ScanFolder,
    scale: HighresScale | None,
    settings: BuildSettings,
    frames: FrameReference | None = None,
) -> list[PositionJob]:
    """One job per position of the stained pass, with its cells."""
    cells = _cells(folder)
    by_position = dict(tuple(cells.groupby("position", sort=False)))
    none = cells.iloc[:0]
    places = HighresPlaces(folder)
    jobs = []
    names = folder.open_pass("stained").names
    unknown = cells[~cells["position"].isin([*names, *folder.left_out.get("stained", ())])]
    if len(unknown):
        raise UserError(
            f"cell {unknown['cell'].iloc[0]} lies in position {unknown['position'].iloc[0]}, which "
            "the stained pass has not.",
            file=folder.cells,
            field="position",
            hint="Delete the file and run plsctl find-cells.",
        )
    for name in names:
        mine = by_position.get(name, none)
        near = places.near(mine) if scale is not None else ()
        jobs.append(PositionJob(folder.path, name, mine, scale, settings, frames, near))
    return jobs


def _cells(folder: ScanFolder) -> pd.DataFrame:
    """The columns that cutting needs, without those that an earlier build wrote to `cells.csv`."""
    return read_cells(folder)[[*NUMBERS, "position"]]


def identity(
    folders: Sequence[ScanFolder], settings: BuildSettings, layout: object
) -> dict[str, str]:
    """Hashes of everything that the samples depend on, by kind; the kinds are words for a message.

    Pixels come in by the checksums that a scan keeps of its frames.
    """
    libraries = {
        name: version(name)
        for name in ("plsctl", "numpy", "scipy", "opencv-python-headless", "tensorstore")
    }
    parts = {
        "the software": text_hash([json.dumps(libraries)]),
        "the settings": text_hash([settings.model_dump_json(), json.dumps(layout)]),
    }
    for folder in folders:
        slide = folder.open_pass("unstained").attributes.slide
        parts[f"the scan {slide}"] = text_hash(_scan_texts(folder))
    return parts


def _scan_texts(folder: ScanFolder) -> Iterable[str]:
    yield folder.transform.read_text(encoding="utf-8")
    yield str(_cells(folder).to_csv(index=False))
    for name in ("unstained", "stained", "highres"):
        if not folder.pass_path(name).is_dir():
            continue
        reader = folder.open_pass(name)
        yield reader.attributes.model_dump_json(exclude={"finished"})
        for position in reader.names:
            yield json.dumps([position, reader.position_metadata(position)])


def text_hash(texts: Iterable[str]) -> str:
    """One hash of several texts."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(f"{len(text)} {text}".encode())
    return digest.hexdigest()[:32]
