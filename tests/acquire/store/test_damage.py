"""Whatever happens to the files of a pass, no frame is read as another than was taken."""

from __future__ import annotations

import os
import pickle
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from plsctl.acquire.errors import DamagedData, PlsctlError
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import FrameRecord, PassAttributes
from plsctl.acquire.store.writer import PassWriter

BOX = [(200, 200, 300, 300)]
"""Parts of all four tiles of a frame."""


def _write(path: Path) -> np.ndarray:
    """Two frames, the first with a black tile and the second all black; (frame, y, x, rgb)."""
    frames = tuple(
        FrameRecord(
            label=label, led=label, variant="", leds=(index,), exposure_ms=1.0, gain=1.0,
            brightness=1.0, direction=None, bright_field=True,
        )
        for index, label in enumerate(("brightfield", "plate-1"))
    )  # fmt: skip
    attributes = PassAttributes(
        slide="S1", patient=None, stain="s", pass_name="unstained", recipe="r", objective="20x",
        magnification=20, na=0.4, pixel_um=0.293, camera_rotation_deg=0.0, bayer=None,
        bit_depth=8, black_level=0.0, full_scale=255, frames=frames, settings_hash="h",
    )  # fmt: skip
    images = np.random.default_rng(3).integers(30, 200, (2, 480, 480, 3), dtype=np.uint8)
    images[0, :240, :240] = 0
    images[1] = 0
    writer = PassWriter(path, attributes)
    position = writer.position("A/1", (0.0, 0.0, 0.0))
    for index, image in enumerate(images):
        position.write(index, image)
    position.finish(
        {"position": {}, "frames": [{"crc32": zlib.crc32(i.tobytes())} for i in images]}
    )
    writer.finish()
    return images


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 16
    file.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "a bit flipped": _flip,
    "emptied": lambda file: os.truncate(file, 0),
    "cut off": lambda file: os.truncate(file, file.stat().st_size // 2),
}


@pytest.mark.parametrize("old", [False, True], ids=["now", "of before"])
def test_black_is_not_missing(tmp_path: Path, of_before: Callable[[Path], None], old: bool) -> None:
    images = _write(tmp_path / "p.ome.zarr")
    if old:
        of_before(tmp_path)
    reader = PassReader(tmp_path / "p.ome.zarr")
    assert reader.has_checksums is not old
    for index, image in enumerate(images):
        np.testing.assert_array_equal(reader.frame("A/1", index), image)
        (part,) = reader.windows("A/1", index, BOX)
        np.testing.assert_array_equal(part, image[200:300, 200:300])
        assert reader.raw_frame("A/1", index, 2).shape == (120, 120, 3)


@pytest.mark.parametrize("old", [False, True], ids=["now", "of before"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_no_damage_passes_for_an_image(
    tmp_path: Path, of_before: Callable[[Path], None], damage: str, old: bool
) -> None:
    _write(tmp_path / "p.ome.zarr")
    if old:
        of_before(tmp_path)
    file = tmp_path / "p.ome.zarr" / "A" / "1" / "0" / "0" / "c" / "0" / "0" / "0" / "0" / "0"
    DAMAGE[damage](file)
    reader = PassReader(tmp_path / "p.ome.zarr")
    boxes = [(0, 0, 480, 480)]
    for read in (
        lambda: reader.frame("A/1", 0),
        lambda: reader.windows("A/1", 0, boxes),
        lambda: reader.planes("A/1", 0, boxes),
    ):
        with pytest.raises(DamagedData, match="frame 'brightfield' of position A/1") as found:
            read()
        assert found.value.file == str(file)
        assert found.value.problem.startswith("is missing") is (damage == "deleted")
    again = pickle.loads(pickle.dumps(found.value))
    assert (str(again), again.problem) == (str(found.value), found.value.problem)


@pytest.mark.parametrize("damage", ["deleted", "emptied", "cut off"])
def test_damage_to_what_describes_an_image_is_damage_too(tmp_path: Path, damage: str) -> None:
    _write(tmp_path / "p.ome.zarr")
    DAMAGE[damage](tmp_path / "p.ome.zarr" / "A" / "1" / "0" / "0" / "zarr.json")
    # Who goes on without damaged positions (the search for a returned slide) does so here.
    with pytest.raises(DamagedData, match="the image cannot be opened"):
        PassReader(tmp_path / "p.ome.zarr").brightfield("A/1")


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("zarr.json", b'{"zarr_format": 3', "this description is damaged: it is cut off"),
        ("zarr.json", b"\xff\xfe", "this description is damaged"),
        ("A/1/0/0/zarr.json", None, "its zarr.json is missing"),
        ("A/1/0/0/zarr.json", b"", "its zarr.json is damaged"),
        ("A/1/0/0/zarr.json", b'{"zarr_format": 3', "its zarr.json is damaged"),
        ("A/1/0/0/zarr.json", b'{"zarr_format": 2}', "its zarr.json is damaged"),
    ],
)
def test_a_damaged_description_is_told_in_plain_words(
    tmp_path: Path, file: str, content: bytes | None, told: str
) -> None:
    _write(tmp_path / "p.ome.zarr")
    description = tmp_path / "p.ome.zarr" / file
    description.unlink()
    if content is not None:
        description.write_bytes(content)
    with pytest.raises(PlsctlError, match=told) as caught:
        PassReader(tmp_path / "p.ome.zarr").raw_frame("A/1", 0)
    assert "tensorstore" not in str(caught.value)


def test_a_frame_in_the_place_of_another_is_noticed(tmp_path: Path) -> None:
    _write(tmp_path / "p.ome.zarr")
    frames = tmp_path / "p.ome.zarr" / "A" / "1" / "0" / "0" / "c"
    shutil.copy(frames / "1" / "0/0/0/0", frames / "0" / "0/0/0/0")
    with pytest.raises(DamagedData, match="'brightfield' of position A/1 is not what was taken"):
        PassReader(tmp_path / "p.ome.zarr").brightfield("A/1")


def test_no_flipped_bit_reaches_a_frame(tmp_path: Path) -> None:
    images = _write(tmp_path / "p.ome.zarr")
    file = tmp_path / "p.ome.zarr" / "A" / "1" / "0" / "0" / "c" / "0" / "0" / "0" / "0" / "0"
    kept = file.read_bytes()
    rng = np.random.default_rng(5)
    for _ in range(60):
        changed = bytearray(kept)
        changed[int(rng.integers(len(kept)))] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        with pytest.raises(DamagedData):
            PassReader(tmp_path / "p.ome.zarr").planes("A/1", 0, [(0, 0, 480, 480)])
    file.write_bytes(kept)
    np.testing.assert_array_equal(PassReader(tmp_path / "p.ome.zarr").frame("A/1", 0), images[0])
