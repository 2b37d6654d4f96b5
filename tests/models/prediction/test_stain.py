"""Whole frames: tiles agree with one pass, scans resume, and what does not fit is named."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs

from plsctl.acquire.errors import DamagedData, UserError
from plsctl.acquire.plans.recipes import recipe
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import FrameRecord, PassAttributes
from plsctl.acquire.store.writer import PassWriter
from plsctl.models.networks.sizes import receptive_radius_px
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.prediction.stain import StainingOptions, stain
from plsctl.models.prediction.tiles import tiles
from plsctl.models.runs.config import config_from_options
from plsctl.models.runs.run import Run
from plsctl.models.staining.train import train

SHAPE = (64, 80)


@pytest.fixture(scope="module")
def predictor(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A briefly trained network of one block on the recipe le8deg, in float32."""
    options = {
        "data": dataset, "out": tmp_path_factory.mktemp("runs") / "run", "blocks": 1, "growth": 8,
        "width": 12, "batch": 8, "learning_rate": 2e-3, "epochs": 2,
        "device": "cpu", "precision": "float32",
    }  # fmt: skip
    train(config_from_options("maenet", options))
    return Predictor(Run.open(Path(str(options["out"]))), device="cpu", precision="float32")


def _stack(seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(20, 230, (4, SHAPE[0] // 8, SHAPE[1] // 8, 3))
    return coarse.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)


def _write_scan(
    path: Path,
    name: str,
    positions: int,
    exposure_ms: float = 2.0,
    bits: int = 8,
    pixel_um: float = 0.293,
    seed: int = 0,
    pass_name: str = "unstained",
) -> Path:
    full_scale = 2**bits - 1
    frames = tuple(
        FrameRecord(
            label=f.label, led=f.led, variant=f.variant, leds=(1,), exposure_ms=exposure_ms,
            gain=1.0, brightness=1.0, direction=None, bright_field=True,
        )
        for f in recipe(name)
    )  # fmt: skip
    attributes = PassAttributes(
        slide="S1", patient=None, stain="s", pass_name=pass_name, recipe=name, objective="20x",
        magnification=20, na=0.4, pixel_um=pixel_um, camera_rotation_deg=0.0, bayer=None,
        bit_depth=bits, black_level=4.0 * full_scale / 255, full_scale=full_scale, frames=frames,
        settings_hash="h",
    )  # fmt: skip
    writer = PassWriter(path, attributes)
    for index in range(positions):
        position = writer.position(f"A/{index + 1}", (100.0 * index, 0.0, 5.0))
        noted = []
        for frame, image in enumerate(_stack(seed + index)[: len(frames)]):
            counts = np.rint(image * (full_scale / 255)).astype(np.uint16 if bits > 8 else np.uint8)
            position.write(frame, counts)
            noted.append({"crc32": zlib.crc32(counts.tobytes())})
        place = dict.fromkeys(("x_um", "y_um", "z_um", "slide_x_um", "slide_y_um"), 0.0)
        position.finish({"position": place, "frames": noted})
    writer.finish()
    return path


def test_tiles_with_the_exact_halo_equal_the_whole_frame(predictor: Predictor) -> None:
    stack = _stack()
    whole = predictor.stain_frame(stack, tile_px=1000)
    exact = receptive_radius_px(1)
    tiled = predictor.stain_frame(stack, tile_px=24, halo_px=exact)
    # One count: sums in float32 round differently on windows of other sizes.
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    seams = predictor.stain_frame(stack, tile_px=24, halo_px=0)
    assert np.abs(whole.astype(int) - seams).max() > 3
    crop = predictor.predict(np.moveaxis(stack, 3, 1)[None])[0]
    assert np.abs(np.moveaxis(crop, 0, 2).astype(int) - whole).max() <= 1


def test_the_measured_halo_keeps_its_promise(predictor: Predictor) -> None:
    halo = predictor.measure_halo(_stack())
    assert halo.px <= halo.exact_px == 18 and halo.error_counts <= 1
    none = predictor.halo_error(_stack(), 0)
    assert (none.px, none.exact_px) == (0, 18)


def test_tiles_cover_a_frame_once() -> None:
    seen = np.zeros((50, 131), int)
    for rows, columns in tiles(50, 131, (40, 40)):
        seen[rows, columns] += 1
        assert rows.stop - rows.start <= 40 and columns.stop - columns.start <= 40
    assert (seen == 1).all()


def test_a_scan_becomes_a_plate_and_goes_on_after_a_stop(
    predictor: Predictor, tmp_path: Path
) -> None:
    # The scan holds more images, in another order of recipes, than the run needs.
    scan = _write_scan(tmp_path / "unstained.ome.zarr", "le8deg", positions=3)
    out = tmp_path / "stained.ome.zarr"

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        stain(predictor, scan, out, on_position=stop)
    first = (out / "A/1/0/0/c").stat().st_mtime_ns
    result = stain(predictor, scan, out)
    assert (result.positions, result.skipped) == (3, 2)
    assert (out / "A/1/0/0/c").stat().st_mtime_ns == first
    reader = PassReader(out)
    assert reader.names == ["A/1", "A/2", "A/3"] and reader.attributes.finished
    wanted = predictor.stain_frame(PassReader(scan).stack("A/2"))
    assert np.abs(reader.frame("A/2", 0).astype(int) - wanted).max() <= 1
    yaozarrs.validate_zarr_store(str(out))


def test_a_damaged_position_is_named_or_left_out(predictor: Predictor, tmp_path: Path) -> None:
    scan = _write_scan(tmp_path / "unstained.ome.zarr", "le8deg", positions=3)
    file = scan / "A/2/0/0/c/1/0/0/0/0"
    file.unlink()
    out = tmp_path / "stained.ome.zarr"
    with pytest.raises(DamagedData, match="of position A/2 is missing") as found:
        stain(predictor, scan, out)
    assert found.value.file == str(file)
    result = stain(predictor, scan, out, StainingOptions(skip_damaged=True))
    assert (result.positions, len(result.damaged)) == (2, 1) and str(file) in result.damaged[0]
    plate = PassReader(out)
    assert plate.names == ["A/1", "A/3"] and not plate.attributes.finished


def test_another_run_or_scan_is_not_mixed_into_a_plate(
    predictor: Predictor, tmp_path: Path
) -> None:
    scan = _write_scan(tmp_path / "unstained.ome.zarr", "le8deg", positions=1)
    with pytest.raises(UserError):
        stain(predictor, scan, scan)
    with pytest.raises(UserError, match="left alone"):
        stain(predictor, scan, scan, StainingOptions(fresh=True))
    assert PassReader(scan).stack("A/1").shape == (4, *SHAPE, 3)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("source", ["unstained.ome.zarr", "stack.npy"])
def test_a_plate_has_one_stainer(
    source: str, fresh: bool, predictor: Predictor, tmp_path: Path
) -> None:
    _write_scan(tmp_path / "unstained.ome.zarr", "le8deg", positions=2)
    np.save(tmp_path / "stack.npy", _stack())
    out, link = tmp_path / "stained.ome.zarr", tmp_path / "link"
    link.symlink_to(tmp_path)
    refused = []

    def again(done: int, total: int) -> None:
        for name in (out, link / out.name):
            with pytest.raises(UserError, match="another plsctl is writing") as found:
                stain(predictor, tmp_path / source, name, StainingOptions(fresh=fresh))
            refused.append(found.value.file)

    stain(predictor, tmp_path / source, out, on_position=again)
    assert len(refused) >= 4 and set(refused) == {str(out)}
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()
    stain(predictor, tmp_path / source, out, StainingOptions(fresh=True))


def test_a_scan_that_was_taken_again_is_not_taken_for_stained(
    predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "out.ome.zarr"
    stain(predictor, _write_scan(tmp_path / "u.ome.zarr", "le8deg", positions=1), out)
    shutil.rmtree(tmp_path / "u.ome.zarr")  # what `plsctl scan --fresh` does
    again = _write_scan(tmp_path / "u.ome.zarr", "le8deg", positions=2, seed=5)
    with pytest.raises(UserError, match="A/1 has been scanned again since it was stained"):
        stain(predictor, again, out)
    stain(predictor, again, out, StainingOptions(fresh=True))
    assert stain(predictor, again, out).skipped == 2


def test_what_else_is_there_stays_and_is_not_written_into(
    predictor: Predictor, tmp_path: Path
) -> None:
    scan = _write_scan(tmp_path / "unstained.ome.zarr", "le8deg", positions=1)
    out = tmp_path / "results"
    out.mkdir()
    stain(predictor, scan, out)  # an empty folder is nothing
    stain(predictor, scan, out, StainingOptions(fresh=True))
    np.save(tmp_path / "stack.npy", _stack())
    stain(predictor, tmp_path / "stack.npy", out, StainingOptions(fresh=True))
    with pytest.raises(UserError, match="made by another run"):
        stain(predictor, scan, out)  # one image, not a plate
    notes = tmp_path / "mine"
    notes.mkdir()
    (notes / "notes.txt").write_text("hours of work")
    for fresh in (False, True):
        with pytest.raises(UserError, match="left alone"):
            stain(predictor, scan, notes, StainingOptions(fresh=fresh))
    assert [file.name for file in notes.iterdir()] == ["notes.txt"]


def test_other_exposures_are_brought_to_those_of_the_training(
    predictor: Predictor, tmp_path: Path
) -> None:
    same = _write_scan(tmp_path / "a.ome.zarr", "le8deg", positions=1)
    longer = _write_scan(tmp_path / "b.ome.zarr", "le8deg", positions=1, exposure_ms=4.0)
    stain(predictor, same, tmp_path / "sa.ome.zarr", StainingOptions(halo_px=18))
    stain(predictor, longer, tmp_path / "sb.ome.zarr", StainingOptions(halo_px=18))
    stack = PassReader(longer).stack("A/1").astype(float)
    halved = np.rint((stack - 4) / 2 + 4).clip(0, 255).astype(np.uint8)
    wanted = predictor.stain_frame(halved)
    found = PassReader(tmp_path / "sb.ome.zarr").frame("A/1", 0)
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert not np.array_equal(found, PassReader(tmp_path / "sa.ome.zarr").frame("A/1", 0))


def test_the_black_level_of_a_camera_of_12_bits_is_brought_to_8(
    predictor: Predictor, tmp_path: Path
) -> None:
    frames = []
    for bits in (8, 12):
        scan = _write_scan(tmp_path / f"{bits}.ome.zarr", "le8deg", 1, exposure_ms=4.0, bits=bits)
        out = tmp_path / f"{bits}s.ome.zarr"
        stain(predictor, scan, out, StainingOptions(halo_px=18))
        frames.append(PassReader(out).frame("A/1", 0))
        assert PassReader(out).attributes.black_level == pytest.approx(4.0)
    np.testing.assert_array_equal(*frames)


def test_another_magnification_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    scan = _write_scan(tmp_path / "unstained.ome.zarr", "le8deg", 1, pixel_um=0.146)
    with pytest.raises(UserError, match=r"pixels of 0\.146 µm, the run was trained on .*0\.293"):
        stain(predictor, scan, tmp_path / "out.ome.zarr")


def test_a_pass_of_the_stained_slide_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    scan = _write_scan(tmp_path / "stained.ome.zarr", "le8deg", 1, pass_name="stained")
    with pytest.raises(UserError, match=r"this pass is stained.*unstained\.ome\.zarr"):
        stain(predictor, scan, tmp_path / "out.ome.zarr")


def test_missing_images_are_named(predictor: Predictor, tmp_path: Path) -> None:
    scan = _write_scan(tmp_path / "unstained.ome.zarr", "brightfield", positions=1)
    with pytest.raises(UserError, match=r"lacks 3 of the 4 images .*plate-1, plate-2, plate-3"):
        stain(predictor, scan, tmp_path / "out.ome.zarr")
    assert not (tmp_path / "out.ome.zarr").exists()


def test_a_stack_becomes_one_image_with_levels(predictor: Predictor, tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", _stack())
    out = tmp_path / "image.ome.zarr"
    stain(predictor, tmp_path / "stack.npy", out)
    yaozarrs.validate_zarr_store(str(out))
    with pytest.raises(UserError, match="exists already"):
        stain(predictor, tmp_path / "stack.npy", out)
    stain(predictor, tmp_path / "stack.npy", out, StainingOptions(fresh=True))
    with pytest.raises(UserError, match="the stack has 4 images, full has 74"):
        stain(
            predictor, tmp_path / "stack.npy", tmp_path / "o.zarr", StainingOptions(recipe="full")
        )
    np.save(tmp_path / "one.npy", _stack()[:1])
    with pytest.raises(UserError, match="lacks 3 images"):
        stain(
            predictor,
            tmp_path / "one.npy",
            tmp_path / "o.zarr",
            StainingOptions(recipe="brightfield"),
        )
    with pytest.raises(UserError, match="neither a scan nor a stack"):
        (tmp_path / "notes.txt").write_text("")
        stain(predictor, tmp_path / "notes.txt", tmp_path / "o.zarr")


def test_only_around_cells_where_cells_csv_says(predictor: Predictor, tmp_path: Path) -> None:
    scan = tmp_path / "scan"
    _write_scan(scan / "unstained.ome.zarr", "le8deg", positions=2)
    (scan / "slide.yaml").write_text("slide: S1\n")
    with pytest.raises(UserError, match=r"no cells\.csv"):
        stain(predictor, scan, tmp_path / "out.ome.zarr", StainingOptions(cells_only=True))
    # Slide micrometres of pixels (x, y) = (20.5, 30.5) and, outside the image, (200, 30).
    middle = np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2])
    places = (np.array([[20.5, 30.5], [200.0, 30.0]]) - middle) * 0.293
    names = "cell,position,x_um,y_um,pixel_x,pixel_y,width_px,height_px,area_px"
    rows = [f"{n},A/1,{x},{y},0,0,9,9,60" for n, (x, y) in enumerate(places, start=1)]
    (scan / "cells.csv").write_text("\n".join([names, *rows]) + "\n")
    out = tmp_path / "out.ome.zarr"
    result = stain(predictor, scan, out, StainingOptions(cells_only=True))
    assert result.positions == 2
    found = PassReader(out).frame("A/1", 0)
    whole = predictor.stain_frame(PassReader(scan / "unstained.ome.zarr").stack("A/1"))
    side = predictor.metadata.crop_px
    window = (slice(31 - side // 2, 31 + side // 2), slice(21 - side // 2, 21 + side // 2))
    assert np.abs(found[window].astype(int) - whole[window]).max() <= 1
    found[window] = 0
    assert not found.any()
    # The same plate is not continued in the other way.
    with pytest.raises(UserError):
        stain(predictor, scan, out)


def test_more_memory_than_there_is_asks_for_smaller_tiles(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(Predictor, "_run", too_large)
    with pytest.raises(UserError, match=r"memory does not suffice.*--tile"):
        predictor.stain_frame(_stack())
