"""Virtual staining of scans and stacks into OME-Zarr. Imports no torch.

A stained scan is a plate of the same form as the scan's own passes: wells are positions, the one
frame is the stained image. It is written position by position, and going on after a stop takes up
where it ended.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plsctl.acquire.arrays import Images
from plsctl.acquire.errors import DamagedData, UserError
from plsctl.acquire.files.locations import location, written_at
from plsctl.acquire.files.whole_files import locked_beside
from plsctl.acquire.store.ome_zarr import read_group
from plsctl.acquire.store.reader import PassReader, say_unchecked
from plsctl.acquire.store.records import FrameRecord, PassAttributes
from plsctl.acquire.store.writer import PassWriter
from plsctl.models.prediction.cell_windows import CellPlaces
from plsctl.models.prediction.inputs import (
    exposure_scale,
    matching_frames,
    require_same_pixel,
    rescale,
)
from plsctl.models.prediction.output import PASS_NAME, remove_stained, stained_metadata, write_image
from plsctl.models.prediction.stacks import read_stack
from plsctl.models.prediction.tiles import FrameStainer, Halo

ONE_AT_A_TIME = "Wait until it has ended, or choose another name with --out."

ERROR_LABEL = "expected-error"
"""The second frame of a stained pass with uncertainty: grey values of 255 that it may be off."""


@dataclass(frozen=True)
class StainingResult:
    """What `stain` did."""

    out: Path
    positions: int
    skipped: int
    halo: Halo | None
    damaged: tuple[str, ...] = ()
    """What was wrong with the positions that were left out for it."""

    def as_dict(self) -> dict[str, object]:
        """The fields that `plsctl stain --json` prints."""
        halo = self.halo
        return {
            "out": str(self.out),
            "positions": self.positions,
            "skipped": self.skipped,
            "damaged": list(self.damaged),
            "halo_px": None if halo is None else halo.px,
            "halo_error_counts": None if halo is None else halo.error_counts,
            "exact_halo_px": None if halo is None else halo.exact_px,
        }


@dataclass(frozen=True)
class StainingOptions:
    """How frames are stained.

    `tile_px` is the largest side of a tile; None takes what suits the device.
    `halo_px` is the overlap of tiles; None measures the smallest that agrees to one count of 255.
    `cells_only` stains windows around the cells of `cells.csv` and leaves the rest black.
    `recipe` says what a stack's images are; the run's recipe by default.
    `skip_damaged` leaves out positions whose frames are missing or damaged.
    """

    tile_px: int | None = None
    halo_px: int | None = None
    cells_only: bool = False
    recipe: str | None = None
    fresh: bool = False
    skip_damaged: bool = False


def stain(
    stainer: FrameStainer,
    source: str | Path,
    out: str | Path,
    options: StainingOptions | None = None,
    *,
    on_position: Callable[[int, int], None] = lambda done, total: None,
) -> StainingResult:
    """Stain a scan, one of its passes, or a stack of images.

    Parameters
    ----------
    source
        A scan's folder, a pass (`unstained.ome.zarr`), or a stack (image, y, x, 3) as `.npy`,
        `.tif` or `.zarr`.
    out
        The OME-Zarr to write: a plate for a scan, one image for a stack.
    on_position
        Called with the number of positions done and in all.

    Raises
    ------
    UserError
        If the source lacks images of the run's recipe or shows no unstained slide, `out` holds
        something else, or another process stains into it.
    DamagedData
        A frame is missing or is not what was taken.
    """
    options = options or StainingOptions()
    source, out = location(source), written_at(location(out))
    pass_folder = source / "unstained.ome.zarr" if (source / "slide.yaml").is_file() else source
    if _is_pass(pass_folder):
        reader = PassReader(pass_folder)
        say_unchecked(reader)
        with locked_beside(out, ONE_AT_A_TIME):
            return _PassStaining(stainer, reader, out, options).run(on_position)
    if options.cells_only:
        raise UserError(
            "only a scan says where its cells are.",
            file=source,
            field="cells-only",
            hint="Name the folder of a scan, or leave --cells-only out.",
        )
    stack = read_stack(pass_folder, stainer.metadata, options.recipe)
    with locked_beside(out, ONE_AT_A_TIME):
        if stained_metadata(out) is not None and not options.fresh:
            raise UserError(f"{out} exists already.", hint="Choose another name, or use --fresh.")
        on_position(0, 1)
        halo = _halo(stainer, stack, options)
        stained = stainer.stain_frame(stack, tile_px=options.tile_px, halo_px=halo.px)
        write_image(
            out,
            np.stack(as_frames(stained)),
            stainer.metadata.pixel_um,
            _origin(stainer, source, halo, options),
        )
        on_position(1, 1)
        return StainingResult(out, 1, 0, halo)


def require_source(source: Path) -> None:
    """`UserError` where there is nothing to stain."""
    if not source.exists():
        raise UserError("there is no such scan or stack.", file=source, hint="Check the name.")


def _is_pass(folder: Path) -> bool:
    if not (folder / "zarr.json").is_file():
        return False
    try:
        content = read_group(folder).get("plsctl")
    except UserError:
        return False
    return isinstance(content, dict) and content.get("format") == "plsctl-pass"


def _halo(stainer: FrameStainer, stack: Images, options: StainingOptions) -> Halo:
    if options.halo_px is None:
        return stainer.measure_halo(stack, options.tile_px)
    return stainer.halo_error(stack, options.halo_px, options.tile_px)


def _origin(
    stainer: FrameStainer, source: Path, halo: Halo, options: StainingOptions
) -> dict[str, object]:
    return {
        "run": stainer.origin,
        "model": stainer.metadata.model,
        "weights_sha256": stainer.weights_sha256,
        "target": stainer.metadata.target,
        "source": str(source),
        "halo_px": halo.px,
        "halo_error_counts": halo.error_counts,
        "cells_only": options.cells_only,
        **stainer.notes,
    }


class _PassStaining:
    """A pass on its way into a plate of stained images."""

    def __init__(
        self, stainer: FrameStainer, reader: PassReader, out: Path, options: StainingOptions
    ) -> None:
        self._stainer, self._reader, self._options = stainer, reader, options
        if reader.attributes.pass_name != "unstained":
            raise UserError(
                f"this pass is {reader.attributes.pass_name}, and networks learn from unstained "
                "slides.",
                file=reader.path,
                hint="Name the scan's folder or its unstained.ome.zarr.",
            )
        require_same_pixel(stainer.metadata, reader.attributes.pixel_um, str(reader.path))
        self._images = matching_frames(stainer, reader.labels, str(reader.path))
        frames = [reader.attributes.frames[index] for index in self._images]
        self._scale = exposure_scale(stainer.metadata, frames)
        self._cells = (
            CellPlaces(reader.path.parent, stainer.metadata.crop_px) if options.cells_only else None
        )
        if options.fresh:
            remove_stained(out)
        attributes = _stained_attributes(stainer, reader.attributes, options)
        _require_same(out, attributes)
        self._writer = PassWriter(out, attributes)
        self._out = out
        self._damaged: list[str] = []
        self._refuse_taken_again()

    def _refuse_taken_again(self) -> None:
        """Positions that were scanned anew since they were stained must not pass for done."""
        for name in set(self._writer.wells) & set(self._reader.names):
            noted = read_group(self._out / name / "0")["plsctl"]["stained"]
            digest = self._digest(name)
            if noted.get("frames_sha256", digest) != digest:
                raise UserError(
                    f"position {name} has been scanned again since it was stained.",
                    file=self._out,
                    hint="Choose another name with --out, or use --fresh.",
                )

    def _digest(self, name: str) -> str:
        """Of what was noted of a position's images, their checksums among it."""
        frames = json.dumps(self._reader.position_metadata(name).get("frames"), sort_keys=True)
        return hashlib.sha256(frames.encode()).hexdigest()

    def run(self, on_position: Callable[[int, int], None]) -> StainingResult:
        names = self._reader.names
        done = set(self._writer.wells)
        left = [name for name in names if name not in done]
        on_position(len(names) - len(left), len(names))
        halo = None
        for count, (name, stack) in enumerate(self._stacks(left), len(names) - len(left) + 1):
            halo = halo or _halo(self._stainer, stack, self._options)
            self._stain(name, stack, halo)
            on_position(count, len(names))
        if self._damaged:
            self._writer.drain()  # it is not finished
        else:
            self._writer.finish()
        count = len(names) - len(self._damaged)
        return StainingResult(self._out, count, len(done), halo, tuple(self._damaged))

    def _stacks(self, names: Sequence[str]) -> Iterator[tuple[str, Images]]:
        """Each position's stack; the next one is read while one is stained."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            coming = [pool.submit(self._read, name) for name in names[:1]]
            for index, name in enumerate(names):
                next_one = coming.pop()
                coming = [pool.submit(self._read, later) for later in names[index + 1 : index + 2]]
                try:
                    stack = next_one.result()
                except DamagedData as error:
                    if not self._options.skip_damaged:
                        raise
                    self._damaged.append(f"{error.file}: {error.message}")
                    continue
                yield name, stack

    def _read(self, name: str) -> Images:
        stack = np.stack([self._reader.frame(name, index) for index in self._images])
        return rescale(stack, self._scale, _black_level(self._reader.attributes))

    def _stain(self, name: str, stack: Images, halo: Halo) -> None:
        reader, options = self._reader, self._options
        height, width = stack.shape[1:3]
        places = None if self._cells is None else self._cells.of(reader, name, (height, width))
        stained = self._stainer.stain_frame(
            stack, tile_px=options.tile_px, halo_px=halo.px, places=places
        )
        place = reader.position(name)
        position = self._writer.position(name, (place.x_um, place.y_um, place.z_um))
        for index, frame in enumerate(as_frames(stained)):
            position.write(index, frame)
        origin = _origin(self._stainer, reader.path, halo, options)
        origin["frames_sha256"] = self._digest(name)
        position.finish({"position": reader.position_metadata(name)["position"], "stained": origin})


def as_frames(stained: Images) -> list[Images]:
    """Colour images (y, x, 3) of a stained frame: the stain, and the error to expect as grey."""
    frames = [np.ascontiguousarray(stained[..., :3])]
    if stained.shape[2] > 3:
        frames.append(np.repeat(stained[..., 3:4], 3, axis=2))
    return frames


def _black_level(attributes: PassAttributes) -> float:
    """In counts of 255, to which frames are developed."""
    return attributes.black_level * 255 / attributes.full_scale


def _stained_attributes(
    stainer: FrameStainer, source: PassAttributes, options: StainingOptions
) -> PassAttributes:
    bright = next((f for f in source.frames if f.label == "brightfield"), source.frames[0])
    frame: FrameRecord = bright.model_copy(update={"label": "brightfield", "led": "brightfield"})
    settings = f"{source.settings_hash} {stainer.identity}"
    if options.cells_only:
        settings += " cells only"
    frames = [frame]
    if stainer.channels > 3:
        frames.append(frame.model_copy(update={"label": ERROR_LABEL, "led": ERROR_LABEL}))
    return source.model_copy(
        update={
            "pass_name": PASS_NAME,
            "recipe": "brightfield",
            "bayer": None,
            "bit_depth": 8,
            "full_scale": 255,
            "black_level": _black_level(source),
            "frames": tuple(frames),
            "settings_hash": hashlib.sha256(settings.encode()).hexdigest(),
            "finished": False,
        }
    )


def _require_same(out: Path, attributes: PassAttributes) -> None:
    """Images of another run or scan must not be mixed into the same plate."""
    found = stained_metadata(out)
    if found is not None and found.get("settings_hash") != attributes.settings_hash:
        raise UserError(
            f"{out} exists already and was made by another run, from another scan or with other "
            "options.",
            hint="Choose another name, or use --fresh.",
        )
