"""Virtual staining of scans and stacks into OME-Zarr.

A stained scan is a plate of the same form as the scan's own passes: wells are positions, the one
frame is the stained image. It is written position by position, and going on after a stop takes up
where it ended.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.ome_zarr import LEVELS, create_array, image_metadata, read_group, write_group
from plsctl.acquire.store import FrameRecord, PassAttributes, PassReader
from plsctl.acquire.store_writer import PassWriter
from plsctl.models.prediction import Halo, Predictor
from plsctl.models.run import Run
from plsctl.models.stacks import read_stack

Images = NDArray[np.uint8]

FORMAT = "plsctl-stained"


@dataclass(frozen=True)
class StainingResult:
    """What `stain` did."""

    out: Path
    positions: int
    skipped: int
    halo: Halo | None

    def as_dict(self) -> dict[str, object]:
        """The fields that `plsctl stain --json` prints."""
        halo = self.halo
        return {
            "out": str(self.out),
            "positions": self.positions,
            "skipped": self.skipped,
            "halo_px": None if halo is None else halo.px,
            "halo_error_counts": None if halo is None else halo.error_counts,
            "exact_halo_px": None if halo is None else halo.exact_px,
        }


def stain(
    predictor: Predictor,
    source: Path,
    out: Path,
    *,
    tile_px: int = 256,
    halo_px: int | None = None,
    recipe: str | None = None,
    fresh: bool = False,
    on_position: Callable[[int, int], None] | None = None,
) -> StainingResult:
    """Stain a scan, one of its passes, or a stack of images.

    Parameters
    ----------
    source
        A scan's folder, a pass (`unstained.ome.zarr`), or a stack (image, y, x, 3) as `.npy`,
        `.tif` or `.zarr`.
    out
        The OME-Zarr to write: a plate for a scan, one image for a stack.
    halo_px
        Overlap of tiles; None measures the smallest that agrees to one count of 255.
    recipe
        What a stack's images are, where its file does not say; the run's recipe by default.
    on_position
        Called with the number of positions done and in all.

    Raises
    ------
    UserError
        If the source lacks images of the run's recipe, or `out` holds something else.
    """
    pass_folder = source / "unstained.ome.zarr" if (source / "slide.yaml").is_file() else source
    if _is_pass(pass_folder):
        reader = PassReader(pass_folder)
        return _stain_pass(predictor, reader, out, tile_px, halo_px, fresh, on_position)
    stack = read_stack(pass_folder, predictor.run.facts, recipe)
    if out.exists() and not fresh:
        raise UserError(f"{out} exists already.", hint="Choose another name, or use --fresh.")
    halo = _halo(predictor, stack, halo_px)
    stained = predictor.stain_frame(stack, tile_px=tile_px, halo_px=halo.px)
    write_image(out, stained, predictor.run.facts.pixel_um, _origin(predictor.run, source, halo))
    return StainingResult(out, 1, 0, halo)


def _is_pass(folder: Path) -> bool:
    if not (folder / "zarr.json").is_file():
        return False
    try:
        content = read_group(folder).get("plsctl")
    except UserError:
        return False
    return isinstance(content, dict) and content.get("format") == "plsctl-pass"


def _halo(predictor: Predictor, stack: Images, halo_px: int | None) -> Halo:
    if halo_px is None:
        return predictor.measure_halo(stack)
    return predictor.halo_error(stack, halo_px)


def _origin(run: Run, source: Path, halo: Halo) -> dict[str, object]:
    return {
        "format": FORMAT,
        "run": str(run.path),
        "model": run.facts.model,
        "weights_sha256": _weights_digest(run),
        "target": run.facts.target,
        "source": str(source),
        "halo_px": halo.px,
        "halo_error_counts": halo.error_counts,
    }


def _weights_digest(run: Run) -> str:
    with (run.path / "best.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stain_pass(
    predictor: Predictor,
    reader: PassReader,
    out: Path,
    tile_px: int,
    halo_px: int | None,
    fresh: bool,
    on_position: Callable[[int, int], None] | None,
) -> StainingResult:
    run = predictor.run
    images = matching_frames(run, reader.labels, str(reader.path))
    scale = exposure_scale(run, [reader.attributes.frames[index] for index in images])
    if fresh:
        _remove_stained(out)
    writer = PassWriter(out, _stained_attributes(run, reader.attributes))
    done = set(writer.wells)
    names = reader.names
    halo = None
    for count, name in enumerate(names, start=1):
        if name not in done:
            stack = np.stack([reader.frame(name, index) for index in images])
            stack = rescale(stack, scale, reader.attributes.black_level)
            halo = halo or _halo(predictor, stack, halo_px)
            stained = predictor.stain_frame(stack, tile_px=tile_px, halo_px=halo.px)
            _write_position(writer, reader, name, stained, _origin(run, reader.path, halo))
        if on_position is not None:
            on_position(count, len(names))
    writer.finish()
    return StainingResult(out, len(names), len(done), halo)


def _write_position(
    writer: PassWriter,
    reader: PassReader,
    name: str,
    stained: Images,
    origin: Mapping[str, object],
) -> None:
    place = reader.position(name)
    position = writer.position(name, (place.x_um, place.y_um, place.z_um))
    position.write(0, stained)
    position.finish({"position": reader.facts(name)["position"], "stained": dict(origin)})


def _stained_attributes(run: Run, source: PassAttributes) -> PassAttributes:
    bright = next((f for f in source.frames if f.label == "brightfield"), source.frames[0])
    frame: FrameRecord = bright.model_copy(update={"label": "brightfield", "led": "brightfield"})
    # Another run or another scan must not be mixed into the same plate.
    settings = f"{source.settings_hash} {_weights_digest(run)}"
    return source.model_copy(
        update={
            "pass_name": "virtually-stained",
            "recipe": "brightfield",
            "bayer": None,
            "bit_depth": 8,
            "full_scale": 255,
            "frames": (frame,),
            "settings_hash": hashlib.sha256(settings.encode()).hexdigest(),
            "finished": False,
        }
    )


def _remove_stained(out: Path) -> None:
    if not out.exists():
        return
    found = read_group(out).get("plsctl")
    stained = isinstance(found, dict) and (
        found.get("format") == FORMAT or found.get("pass_name") == "virtually-stained"
    )
    if not stained:
        raise UserError(f"{out} is not a stained image and is left alone.", hint="Remove it.")
    shutil.rmtree(out)


def matching_frames(run: Run, labels: Sequence[str], source: str) -> list[int]:
    """Indices of the run's frames among the given labels, in the order of the network's input.

    Raises
    ------
    UserError
        Naming the frames that are missing.
    """
    place = {label: index for index, label in enumerate(labels)}
    missing = [label for label in run.facts.labels if label not in place]
    if missing:
        shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if missing[6:] else "")
        raise UserError(
            f"{source} lacks {len(missing)} of the {len(run.facts.labels)} images that the run "
            f"{run.path} was trained on ({run.facts.recipe}): {shown}.",
            hint="Use a run that was trained on a smaller recipe, or scan with this one.",
        )
    return [place[label] for label in run.facts.labels]


def exposure_scale(run: Run, frames: Sequence[FrameRecord]) -> NDArray[np.float64]:
    """Factor per frame that brings a scan's signal to the exposures of the training data.

    1 where the training data do not say how they were exposed.
    """
    scale = np.ones(len(frames))
    for index, (trained, frame) in enumerate(zip(run.facts.frames, frames, strict=True)):
        then = [trained.get(name) for name in ("exposure_ms", "gain", "brightness")]
        if all(isinstance(value, int | float) and value > 0 for value in then):
            now = frame.exposure_ms * frame.gain * frame.brightness
            scale[index] = float(np.prod([float(str(value)) for value in then])) / now
    return scale


def rescale(stack: Images, scale: NDArray[np.float64], black_level: float) -> Images:
    """Signal above black of every frame (image, y, x, 3) times its factor, 8 bit."""
    if np.allclose(scale, 1, rtol=1e-3):
        return stack
    signal = (stack.astype(np.float32) - black_level) * scale.reshape(-1, 1, 1, 1)
    return np.clip(np.rint(signal + black_level), 0, 255).astype(np.uint8)


def write_image(out: Path, image: Images, pixel_um: float, origin: Mapping[str, object]) -> None:
    """Write one image (y, x, 3) as a multiscale OME-Zarr 0.5, under its name when it is whole."""
    part = out.with_name(f".{out.name}.writing")
    shutil.rmtree(part, ignore_errors=True)
    level_image = image
    for level in range(LEVELS):
        if level:
            level_image = _halved(level_image)
        height, width = level_image.shape[:2]
        array = create_array(part / str(level), (1, 3, 1, height, width), np.uint8)
        array[0, :, 0].write(np.moveaxis(level_image, -1, 0)).result()
    ome = image_metadata(out.name, pixel_um, (0.0, 0.0, 0.0), 3, 255)
    write_group(part, {"ome": ome, "plsctl": dict(origin)})
    if out.exists():
        _remove_stained(out)
    part.rename(out)


def _halved(image: Images) -> Images:
    height, width = (length // 2 * 2 for length in image.shape[:2])
    blocks = image[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
    halved: Images = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return halved
