"""White cells in drawn smears, where the truth is what was drawn, and in real ones."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import UserError
from plsctl.process.image_files import read_image
from plsctl.process.segmentation.background import (
    BACKGROUND_LEVEL,
    fit_background,
    flatten_background,
)
from plsctl.process.segmentation.red_cells import red_cell_diameter_px
from plsctl.process.segmentation.segment import segment, slide_settings
from plsctl.process.segmentation.settings import HsvLimits, SegmentationSettings
from plsctl.sim.backend import open_world

Image = NDArray[np.uint8]
RED, CYTOPLASM, CHROMATIN, GLASS = (
    (226, 176, 180),
    (200, 190, 226),
    (112, 60, 150),
    (232, 230, 228),
)


class Smear:
    """A drawn smear: red cells in a lattice, with white cells put where a test wants them."""

    def __init__(
        self,
        height: int = 480,
        width: int = 640,
        red_cell_px: int = 26,
        red: tuple[tuple[int, ...], ...] = (RED,),
    ) -> None:
        self.image = np.full((height, width, 3), GLASS, dtype=np.uint8)
        self.boxes: list[tuple[int, int, int, int]] = []
        radius = red_cell_px // 2
        for row, y in enumerate(range(radius, height, 2 * red_cell_px)):
            for x in range(radius + (row % 2) * red_cell_px, width, 2 * red_cell_px):
                colour = red[x // (2 * red_cell_px) % len(red)]
                cv2.circle(self.image, (x, y), radius, colour, -1, cv2.LINE_AA)

    def white_cell(self, x: int, y: int, radius: int, lobes: list[tuple[int, int, int]]) -> None:
        cv2.circle(self.image, (x, y), radius + 12, GLASS, -1)
        cv2.circle(self.image, (x, y), radius, CYTOPLASM, -1, cv2.LINE_AA)
        for dx, dy, lobe in lobes:
            cv2.circle(self.image, (x + dx, y + dy), lobe, CHROMATIN, -1, cv2.LINE_AA)
        self.boxes.append((x - radius, y - radius, x + radius, y + radius))

    def finished(self, vignette: float = 0.0) -> Image:
        height, width = self.image.shape[:2]
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        light = 1 - vignette * (x**2 + y**2)[..., None] / 2 * np.array([0.6, 1.0, 0.9])
        blurred = cv2.GaussianBlur(self.image, (0, 0), 1.2).astype(float)
        noise = np.random.default_rng(0).normal(0, 2, blurred.shape)
        return np.asarray(np.clip(blurred * light + noise, 0, 255), dtype=np.uint8)


@dataclass(frozen=True)
class SimulatedSmear:
    """A stained field of the simulator, (y, x, rgb), and what lies in it: type, x, y, radius."""

    image: Image
    truth: tuple[tuple[str, float, float, float], ...]

    def type_at(self, x: float, y: float) -> str:
        near = [t for t in self.truth if math.hypot(t[1] - x, t[2] - y) < 1.2 * t[3]]
        return near[0][0] if near else "nothing"

    def count(self, kind: str) -> int:
        """How many lie in the image to more than half."""
        height, width = self.image.shape[:2]
        return sum(t[0] == kind and 0 <= t[1] < width and 0 <= t[2] < height for t in self.truth)


def _simulated(smear: dict[str, float], x_um: float, y_um: float) -> SimulatedSmear:
    """640 x 480 pixels of a stained slide, in focus."""
    hardware = load_hardware("simulator_small")
    camera = hardware.camera.model_copy(update={"size_px": (640, 480)})
    options = {**hardware.options, "smear": smear}
    world = open_world(hardware.model_copy(update={"camera": camera, "options": options}))
    world.stained = True
    world.look_at(x_um, y_um)
    world.lit = {row.led: 1.0 for row in world.geometry.within(0.4)}
    image = np.asarray(world.expose(0.22, 1.0), dtype=np.uint8)
    origin = np.array(world.to_slide(0, 0))
    axes = np.stack([np.array(world.to_slide(*p)) - origin for p in ((1, 0), (0, 1))], axis=1)
    truth = []
    for cell in world.smear.cells(x_um - 150, y_um - 120, x_um + 150, y_um + 120):
        kind = "white cell" if cell.is_white else cell.type
        x, y = np.linalg.solve(axes, np.array(cell.position(stained=True)) - origin)
        if not cell.lost and cell.type != "red":
            truth.append((kind, float(x), float(y), cell.diameter_um / 2 / 0.293))
    return SimulatedSmear(image, tuple(truth))


@pytest.fixture(scope="module")
def simulated_smear() -> SimulatedSmear:
    smear = {"seed": 8, "white_cells_per_mm2": 400.0, "smudge_per_white_cell": 0.4}
    return _simulated({**smear, "platelets_per_red_cell": 0.08}, 11_000.0, 5_600.0)


def _neutrophil(smear: Smear, x: int, y: int) -> None:
    smear.white_cell(x, y, 22, [(-10, -6, 7), (0, 9, 7), (10, -6, 7)])


def _lymphocyte(smear: Smear, x: int, y: int) -> None:
    smear.white_cell(x, y, 16, [(0, 0, 13)])


def _overlap(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0, width) * max(0, height)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return shared / (sum(areas) - shared)


def _boxes(image: Image, settings: SegmentationSettings | None = None) -> list[tuple[int, ...]]:
    cells = segment(image, settings).cells
    return [(c.x, c.y, c.x + c.width, c.y + c.height) for c in cells]


@pytest.mark.parametrize("vignette", [0.0, 0.35])
@pytest.mark.parametrize("red_cell_px", [18, 26, 60])
def test_cells_are_found_whole_at_any_scale_and_under_vignetting(
    vignette: float, red_cell_px: int
) -> None:
    smear = Smear()
    _neutrophil(smear, 180, 150)
    _lymphocyte(smear, 420, 300)
    zoom = red_cell_px / 26
    image = cv2.resize(smear.finished(vignette), None, fx=zoom, fy=zoom)
    found = _boxes(np.asarray(image, dtype=np.uint8))
    truth = [tuple(round(v * zoom) for v in box) for box in smear.boxes]
    assert len(found) == 2
    for box in truth:
        assert max(_overlap(box, other) for other in found) > 0.7


def test_lobes_are_one_cell_and_touching_cells_are_two() -> None:
    smear = Smear()
    smear.white_cell(300, 200, 17, [(0, 0, 14)])
    smear.white_cell(331, 200, 17, [(0, 0, 14)])
    cv2.circle(smear.image, (300, 200), 14, CHROMATIN, -1, cv2.LINE_AA)
    cv2.circle(smear.image, (300, 200), 17, CYTOPLASM, 3, cv2.LINE_AA)
    _neutrophil(smear, 120, 320)
    found = _boxes(smear.finished(), SegmentationSettings(red_cell_px=26))
    assert len(found) == 3


def test_masks_hold_nucleus_in_cell() -> None:
    smear = Smear()
    _lymphocyte(smear, 300, 200)
    mask = segment(smear.finished()).mask_image()
    assert set(np.unique(mask)) == {0, 128, 255}
    assert mask[200, 300] == 255
    assert mask[200, 300 + 15] == 128
    assert abs(int((mask == 255).sum()) - np.pi * 13**2) < 0.25 * np.pi * 13**2


def test_a_field_without_white_cells_yields_none() -> None:
    smear = Smear()
    cv2.circle(smear.image, (300, 200), 4, CHROMATIN, -1)  # a platelet
    assert _boxes(smear.finished()) == []


def test_purple_red_cells_are_no_white_cells() -> None:
    """Every other red cell is twice as dense as its neighbour: two populations of one colour."""
    pale = (206, 168, 198)
    dark = tuple(int(235 * (value / 235) ** 2) for value in pale)
    smear = Smear(red=(pale, dark))
    assert _boxes(smear.finished()) == []
    _lymphocyte(smear, 300, 330)
    assert len(_boxes(smear.finished())) == 1


def test_dark_dirt_is_no_white_cell() -> None:
    smear = Smear()
    cv2.line(smear.image, (500, 100), (620, 300), (70, 66, 76), 18)  # a pointer, hardly coloured
    assert _boxes(smear.finished()) == []


def test_lobes_far_apart_are_one_cell() -> None:
    smear = Smear()
    smear.white_cell(300, 200, 26, [(-13, 9, 10), (12, -10, 10)])
    assert len(_boxes(smear.finished(), SegmentationSettings(red_cell_px=26))) == 1


def test_smudges_and_platelets_are_told_apart(simulated_smear: SimulatedSmear) -> None:
    """Against the simulator's list of what lies in the field."""
    found = segment(simulated_smear.image, SegmentationSettings(pixel_um=0.293))
    kinds: dict[str, list[str]] = {}
    for item in (*found.cells, *found.others):
        kinds.setdefault(simulated_smear.type_at(item.centre_x, item.centre_y), []).append(
            item.kind
        )
    assert set(kinds) <= {"white cell", "smudge", "platelet"}
    assert kinds["white cell"] == ["white cell"] * simulated_smear.count("white cell")
    assert kinds["smudge"] == ["smudge"] * simulated_smear.count("smudge")
    assert set(kinds["platelet"]) == {"platelet"}
    assert len(kinds["platelet"]) >= 0.75 * simulated_smear.count("platelet")


def test_monocytes_hardly_denser_than_red_cells_are_no_smudges() -> None:
    """Red cells that stain deeply, in focus: some nuclei are less than 1.25 times as dense."""
    field = _simulated({"seed": 5, "white_cells_per_mm2": 230.0}, 10_890.0, 5_545.0)
    found = segment(field.image, SegmentationSettings(pixel_um=0.293))
    kinds = {field.type_at(cell.centre_x, cell.centre_y) for cell in found.cells}
    assert kinds == {"white cell"}
    assert len(found.cells) >= field.count("white cell")


def test_cells_that_cannot_be_parted_are_a_clump() -> None:
    smear = Smear()
    for x in range(200, 400, 14):
        for y in range(150, 290, 14):
            cv2.circle(smear.image, (x, y), 13, CHROMATIN, -1)
    found = segment(smear.finished(), SegmentationSettings(red_cell_px=26))
    assert [cell.kind for cell in found.others] == ["clump"]
    assert not found.cells
    assert not found.cell_mask.any()


@pytest.mark.parametrize("change", ["weak stain", "strong stain", "blue light", "coarse JPEG"])
def test_red_cells_alone_stay_red_cells(data_folder: Path, change: str) -> None:
    """Real fields of red cells only, as other laboratories would show them."""
    for path in sorted((data_folder / "chula_rbc12" / "images").iterdir())[3::10]:
        image = read_image(path)
        white = np.percentile(image, 95, axis=(0, 1))
        power = {"weak stain": 0.65, "strong stain": 1.4}.get(change, 1.0)
        changed = white * (np.maximum(image, 1) / white) ** power
        changed *= (0.8, 0.9, 1.0) if change == "blue light" else 1
        pixels = np.clip(changed, 0, 255).astype(np.uint8)
        if change == "coarse JPEG":
            coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
            pixels = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)
        assert _boxes(pixels) == [], path.name


def test_limits_can_be_fixed() -> None:
    smear = Smear()
    _lymphocyte(smear, 300, 200)
    image = smear.finished()
    every = SegmentationSettings(limits=HsvLimits(), red_cell_px=26)
    assert len(_boxes(image, every)) == 1
    none = SegmentationSettings(limits=HsvLimits(saturation=(250, 255)), red_cell_px=26)
    assert _boxes(image, none) == []


def test_a_slides_limit_comes_from_all_its_fields() -> None:
    with_cells, without = Smear(), Smear()
    for x in (150, 300, 450):
        _neutrophil(with_cells, x, 200)
    fields = [with_cells.finished(), without.finished()]
    settings = slide_settings(fields, SegmentationSettings(red_cell_px=26))
    assert settings.strength is not None
    assert [len(_boxes(field, settings)) for field in fields] == [3, 0]


def test_background_becomes_level() -> None:
    image = Smear().finished(vignette=0.4)
    flat = flatten_background(image, fit_background(image))
    glass = np.all(Smear().image == GLASS, axis=2)
    inner = cv2.erode(glass.astype(np.uint8), np.ones((9, 9))) > 0
    assert np.abs(flat[inner].astype(float) - BACKGROUND_LEVEL).mean() < 4


@pytest.mark.parametrize("red_cell_px", [16, 26, 50])
def test_red_cells_are_the_ruler(red_cell_px: int) -> None:
    image = Smear(red_cell_px=red_cell_px).finished()
    assert red_cell_diameter_px(image).diameter_px == pytest.approx(red_cell_px, rel=0.15)


@pytest.mark.parametrize("shape", [(40, 40), (4, 4, 3), (40, 40, 4)])
def test_what_is_no_colour_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError):
        segment(np.full(shape, 200, dtype=np.uint8))


def test_real_cells_of_another_laboratory_are_found(data_folder: Path) -> None:
    """Boxes drawn by hand: bccd, every tenth image (docs/segmentation.md has all sets)."""
    truth: dict[str, list[tuple[int, ...]]] = {}
    with (data_folder / "bccd" / "wbc_boxes.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            box = tuple(int(row[name]) for name in ("xmin", "ymin", "xmax", "ymax"))
            truth.setdefault(row["image"], []).append(box)
    hits = misses = false = 0
    for name in sorted(truth)[::10]:
        pixels = cv2.imread(str(data_folder / "bccd" / "images" / f"{name}.jpg"))
        found = _boxes(np.ascontiguousarray(np.asarray(pixels, dtype=np.uint8)[..., ::-1]))
        hit = sum(any(_overlap(box, other) > 0.3 for other in found) for box in truth[name])
        hits, misses = hits + hit, misses + len(truth[name]) - hit
        false += max(0, len(found) - hit)
    assert hits / (hits + misses) > 0.93
    assert hits / (hits + false) > 0.93


def _hidden(shape: tuple[int, ...], kind: str) -> NDArray[np.bool_]:
    height, width = shape[:2]
    hidden = np.zeros((height, width), np.bool_)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    if kind == "round":
        return np.asarray(x**2 + y**2 > 1)
    if kind == "quarter":
        hidden[: height // 2, : width // 2] = True
        return hidden
    return np.asarray(np.maximum(abs(x), abs(y)) > 1 - 2 * float(kind))


@pytest.mark.parametrize("level", [0, 7, 128, 255])
@pytest.mark.parametrize("kind", ["0.05", "0.1", "0.2", "round", "quarter"])
def test_what_shows_no_slide_changes_nothing_beside_it(kind: str, level: int) -> None:
    smear = Smear()
    for x, y in ((220, 330), (400, 200), (440, 330)):
        _neutrophil(smear, x, y)
    image = smear.finished()
    image[_hidden(image.shape, kind)] = level
    found = segment(image)
    assert found.cannot_judge is None
    assert len(found.cells) == 3
    boxes = [(c.x, c.y, c.x + c.width, c.y + c.height) for c in found.cells]
    assert all(max(_overlap(box, other) for other in boxes) > 0.7 for box in smear.boxes)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((90, 120, 3), np.uint8), "one even colour"),
        (np.full((90, 120, 3), 255, np.uint8), "empty area"),
        (np.full((90, 120, 3), 200, np.uint8), "one even colour"),
        (Smear().finished() // 20, "too dark"),
        (np.repeat(Smear().finished()[..., 1:2], 3, axis=2), "no colours"),
    ],
)
def test_what_cannot_be_judged_is_said(image: Image, reason: str) -> None:
    found = segment(image)
    assert reason in str(found.cannot_judge)
    assert not found.cells


@pytest.mark.parametrize("side", [30, 40, 47])
def test_small_images_of_red_cells_show_no_white_cell(side: int) -> None:
    """Without a pixel size they do not tell how large a cell is."""
    image = Smear(red_cell_px=40).finished()
    for y in range(0, 400, 70):
        for x in range(0, 560, 90):
            assert not segment(np.ascontiguousarray(image[y : y + side, x : x + side])).cells


def test_without_a_scale_it_is_said() -> None:
    image = np.full((120, 120, 3), GLASS, np.uint8)
    cv2.circle(image, (20, 60), 9, CHROMATIN, -1, cv2.LINE_AA)
    found = segment(image)
    assert not found.cells
    assert "size of its cells" in str(found.cannot_judge)
    assert len(segment(image, SegmentationSettings(red_cell_px=16)).cells) == 1


@pytest.mark.parametrize("side", [30, 40, 60, 80])
def test_crops_of_real_red_cells_show_no_white_cell(data_folder: Path, side: int) -> None:
    """Fields of red cells only, around their corners and in the middle."""
    for path in sorted((data_folder / "chula_rbc12" / "images").iterdir())[3::10]:
        image = read_image(path)
        for y, x in ((0, 0), (200, 300), (380, 500)):
            crop = np.ascontiguousarray(image[y : y + side, x : x + side])
            assert not segment(crop).cells, path.name


def test_a_large_image_gives_every_cell_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in one piece, with cells at the borders of the tiles; a small limit stands for a large."""
    smear = Smear(1500, 2600)
    for number, (x, y) in enumerate(
        (x, y) for y in range(90, 1450, 130) for x in range(90, 2550, 130)
    ):
        (_neutrophil if number % 2 else _lymphocyte)(smear, x, y)
    image = smear.finished(vignette=0.2)
    monkeypatch.setattr("plsctl.process.segmentation.tiles._LARGE_PX", 1e6)
    found = segment(image)
    boxes = [(c.x, c.y, c.x + c.width, c.y + c.height) for c in found.cells]
    assert found.red_cell_px == pytest.approx(26, rel=0.1)
    assert len(boxes) == len(smear.boxes)
    assert all(max(_overlap(box, other) for other in boxes) > 0.7 for box in smear.boxes)
    assert set(np.unique(found.mask_image())) == {0, 128, 255}
    assert np.count_nonzero(found.cell_mask) == sum(cell.area for cell in found.cells)
