"""Quality control: injected faults raise their flags, good samples and slides raise none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from plsctl.acquire.devices.hardware import find_file, load_hardware
from plsctl.acquire.errors import UserError
from plsctl.acquire.plans.exposures import load_exposures
from plsctl.acquire.plans.plan import frame_records
from plsctl.acquire.store.records import FrameRecord
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.writer import DatasetWriter
from plsctl.process.focus.sharpness import detail_ratio
from plsctl.process.quality.content import measure_content
from plsctl.process.quality.flags import QualitySettings, flag_samples, load_quality
from plsctl.process.quality.frame_statistics import exchange_gain
from plsctl.process.quality.frames import frame_agreement, learn_frames
from plsctl.process.quality.measures import Lighting, measure_position
from plsctl.process.quality.slides import exclude_rejected, reasons_for_none, slide_verdicts
from plsctl.sim.backend import open_world
from plsctl.sim.world.world import World

Image = NDArray[np.uint8]
SIDE, MARGIN, CELLS = 64, 2, 10
HEIGHTS_UM = (-2.4, -1.6, -0.8, 0.0, 0.0, 0.8, 1.6, 2.4)


class Cells:
    """White cells of a simulated smear: stacks (cell, image, rgb, y, x), 20x targets.

    Cell by cell, they lie `heights_um` above the focus.
    """

    def __init__(
        self, recipe: str = "le18deg", heights_um: Sequence[float] = (0.0,) * CELLS
    ) -> None:
        hardware = load_hardware("simulator_small")
        settings = open_world(hardware).settings
        smear = settings.smear.model_copy(update={"lost_fraction": 0.0})
        settings = settings.model_copy(update={"smear": smear})
        side = SIDE + 2 * MARGIN
        camera = hardware.camera.model_copy(update={"size_px": (side, side)})
        world = World(hardware.model_copy(update={"camera": camera}), settings)
        table = load_exposures(find_file("exposures_20x.csv", hardware.file.parent))
        self.frames = frame_records(recipe, table, hardware.geometry(), 0.4)
        found = (c for c in world.smear.cells(9000, 5000, 9400, 5300) if c.is_white)
        stacks, targets = [], []
        for cell, height_um in zip(found, heights_um, strict=False):
            world.stained = False
            world.look_at(cell.x_um, cell.y_um)
            world.z_um += height_um
            stacks.append([_expose(world, frame) for frame in self.frames])
            world.stained = True
            world.look_at(*cell.position(stained=True))
            targets.append(_expose(world, self.frames[0]))
        self.stacks, self.targets = np.array(stacks), inner(np.array(targets))

    @property
    def input(self) -> Image:
        return inner(self.stacks)

    def content(self, cell: int, stack: Image | None = None, target: Image | None = None) -> object:
        """`measure_content` of a cell, or of what was made of it."""
        lit = self.input[cell] if stack is None else stack
        stained = self.targets[cell] if target is None else target
        return measure_content(
            np.ascontiguousarray(np.moveaxis(lit, 1, -1)),
            np.ascontiguousarray(np.moveaxis(stained, 0, -1)),
            4.0,
        )


def _expose(world: World, frame: FrameRecord) -> Image:
    world.lit = dict.fromkeys(frame.leds, frame.brightness)
    image = world.expose(frame.exposure_ms, frame.gain)
    return np.moveaxis(np.asarray(image, dtype=np.uint8), -1, 0)


def inner(images: Image) -> Image:
    return np.ascontiguousarray(images[..., MARGIN:-MARGIN, MARGIN:-MARGIN])


def moved(stacks: Image, frame: int, step: int) -> Image:
    result = stacks.copy()
    result[:, frame] = np.roll(stacks[:, frame], step, axis=-1)
    return result


def swapped(stacks: Image, one: int, other: int) -> Image:
    order = list(range(stacks.shape[1]))
    order[one], order[other] = other, one
    return stacks[:, order]


@pytest.fixture(scope="module")
def cells() -> Cells:
    return Cells()


def _discs(places: list[tuple[float, float]], radius_px: float) -> NDArray[np.float64]:
    """1 inside discs around (x, y), softened by the optics, (y, x)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = np.zeros((SIDE, SIDE), np.float32)
    for middle_x, middle_y in places:
        inside[np.hypot(x - middle_x, y - middle_y) <= radius_px] = 1
    return np.asarray(cv2.GaussianBlur(inside, (0, 0), 0.8), dtype=np.float64)


def _absorbed(image: Image, absorbance: NDArray[np.float64]) -> Image:
    return np.clip(4 + (image - 4.0) * np.exp(-absorbance), 0, 255).astype(np.uint8)


def test_exchange_gain_is_the_trace_before_less_the_trace_after() -> None:
    rng = np.random.default_rng(3)
    factors = rng.normal(size=(2, 5, 9))
    precision, correlation = factors @ np.swapaxes(factors, 1, 2)
    gain = exchange_gain(correlation, precision)
    for one, other in [(0, 1), (1, 4), (3, 2)]:
        order = np.arange(5)
        order[[one, other]] = order[[other, one]]
        after = np.trace(precision @ correlation[np.ix_(order, order)])
        assert gain[one, other] == pytest.approx(np.trace(precision @ correlation) - after)


def test_frames_of_good_positions_agree(cells: Cells) -> None:
    reference = learn_frames([stack[None] for stack in cells.input], cells.frames)
    assert reference is not None
    assert reference.own
    assert reference.doubts == ()
    for stack in cells.input:
        found = frame_agreement(stack[None], reference)
        assert found.shift_px < 0.3
        assert found.exchange < 0
        assert found.light < 1.2


@pytest.mark.parametrize("learnt_from", ["others", "the faulty position too"])
@pytest.mark.parametrize("frame", [0, 2, 5])
def test_a_frame_moved_by_a_pixel_is_found_and_named(
    cells: Cells, frame: int, learnt_from: str
) -> None:
    faulty = inner(moved(cells.stacks[:1], frame, 1))
    first = faulty if learnt_from != "others" else cells.input[:1]
    tiles = [first, *(stack[None] for stack in cells.input[1:])]
    reference = learn_frames(tiles, cells.frames)
    assert reference is not None
    found = frame_agreement(faulty, reference)
    assert found.shift_px == pytest.approx(1.0, abs=0.5)
    assert found.shift_px_of == cells.frames[frame].label


@pytest.mark.parametrize("pair", [(1, 2), (4, 6), (6, 7), (0, 3)])
def test_swapped_frames_are_found_and_named(cells: Cells, pair: tuple[int, int]) -> None:
    faulty = swapped(cells.input[:2], *pair)
    tiles = [faulty, cells.input[2:6], cells.input[6:8], cells.input[8:]]
    reference = learn_frames(tiles, cells.frames)
    assert reference is not None
    found = frame_agreement(faulty, reference)
    assert found.exchange > 0.1
    assert set(found.exchange_of.split()) == {cells.frames[index].label for index in pair}


def test_focus_that_differs_over_the_slide_is_no_fault_of_frames() -> None:
    cells = Cells("le8deg", HEIGHTS_UM)
    reference = learn_frames([stack[None] for stack in cells.input], cells.frames)
    assert reference is not None
    assert reference.doubts == ()
    for stack in cells.input:
        found = frame_agreement(stack[None], reference)
        assert found.shift_px < 0.5
        assert found.exchange < 0.1
    for index in (0, 1, 6):
        shifted = inner(moved(cells.stacks[index][None], 2, 1))
        assert frame_agreement(shifted, reference).shift_px > 0.5
        exchanged = swapped(cells.input[index][None], 1, 2)
        assert frame_agreement(exchanged, reference).exchange > 0.1


def test_one_position_is_enough_to_find_a_swap_in_it(cells: Cells) -> None:
    good, faulty = cells.input, swapped(cells.input, 4, 7)
    for stacks, doubted in ((good, False), (faulty, True)):
        reference = learn_frames([stacks], cells.frames)
        assert reference is not None
        assert not reference.own
        assert bool(reference.doubts) is doubted


def test_an_led_that_fails_on_the_whole_slide_is_named(cells: Cells) -> None:
    dark = cells.input.copy()
    dark[:, 6] = 4
    reference = learn_frames([stack[None] for stack in dark], cells.frames)
    assert reference is not None
    assert any(cells.frames[6].label in doubt for doubt in reference.doubts)


def test_a_dimmed_frame_is_named(cells: Cells) -> None:
    reference = learn_frames([stack[None] for stack in cells.input], cells.frames)
    assert reference is not None
    dim = cells.input[:1].copy()
    dim[:, 3] = dim[:, 3] // 2
    found = frame_agreement(dim, reference)
    assert found.light > 1.6
    assert found.light_of == cells.frames[3].label


def test_bright_field_alone_has_nothing_to_agree_with(cells: Cells) -> None:
    assert learn_frames([cells.input[:, :1]], cells.frames[:1]) is None


def test_content_tells_dirt_precipitate_and_a_lost_cell_apart(cells: Cells) -> None:
    dots = [(20 + 4.0 * (i % 4), 40 + 4.0 * (i // 4)) for i in range(12)]
    for index in range(CELLS):
        good = cells.content(index)
        dust = _absorbed(cells.input[index], 1.5 * _discs([(30, 24)], 7))
        dirty = cells.content(index, stack=dust)
        specks = np.array([1.5, 2.1, 1.0])[:, None, None] * _discs(dots, 1.5)
        spotted = cells.content(index, target=_absorbed(cells.targets[index], specks))
        lost = cells.content(index, target=np.full_like(cells.targets[index], 170))
        assert good.dirt_px == 0
        assert dirty.dirt_px > 45
        assert max(spotted.spot / good.spot, spotted.unexplained / good.unexplained) > 1.3
        assert good.nucleus[1] > 0.7
        assert abs(lost.nucleus[1]) < 0.12


def test_detail_ratio_falls_with_blur_alone(cells: Cells) -> None:
    image = np.moveaxis(cells.targets[0], 0, -1)
    sharp = detail_ratio(image)
    assert detail_ratio(image.astype(np.float32) * 0.6) == pytest.approx(sharp, abs=1e-4)
    assert detail_ratio(cv2.GaussianBlur(image, (0, 0), 1.5)) < sharp - 0.3


def _table(count: int = 20, slide: str = "S1", nucleus: float = 1.3) -> pd.DataFrame:
    """Rows of an ordinary slide."""
    return pd.DataFrame(
        {
            "slide": slide,
            "position": [f"A/{1 + index // 5}" for index in range(count)],
            "x_um": np.arange(count) * 40.0,
            "y_um": 0.0,
            "border_px": 50.0,
            "focus_input": -0.35,
            "focus_20x": -0.2,
            "focus_100x": 0.05,
            "nucleus_red": 0.4 * nucleus,
            "nucleus_green": nucleus,
            "glass_red": 0.02,
            "glass_green": 0.03,
            "glass_blue": 0.02,
            "light": 200.0,
            "unexplained": 0.3,
            "spot_20x": 1.1,
            "dirt_px": 0,
        }
    )


@pytest.mark.parametrize(
    ("column", "value", "flag", "excluding"),
    [
        ("focus_20x", -0.6, "blurred_20x", True),
        ("focus_20x", 0.2, "blurred_input", True),
        ("nucleus_green", 0.05, "lost_cell", True),
        ("nucleus_green", 0.7, "smudge", False),
        ("dirt_px", 80, "dirt", True),
        ("unexplained", 0.9, "artefact", True),
        ("x_um", 41.0, "duplicate", True),
        ("border_px", -2.0, "border", False),
    ],
)
def test_a_measure_out_of_bounds_raises_its_flag(
    column: str, value: float, flag: str, excluding: bool
) -> None:
    table = _table()
    table.loc[7, "border_px"] = 40.0
    table[column] = table[column].astype(float)
    table.loc[7, column] = value
    flagged = flag_samples(table)
    assert flagged["flags"].tolist() == ["", *[""] * 6, flag, *[""] * 12]
    assert flagged.loc[7, "excluded"] == (flag if excluding else "")
    kept = flag_samples(table, QualitySettings(exclude=()))
    assert (kept["excluded"] == "").all()


def test_what_was_not_measured_raises_no_flag() -> None:
    bare = pd.DataFrame({"slide": ["S1"] * 3, "position": "A/1"})
    assert flag_samples(bare)["flags"].tolist() == ["", "", ""]


def test_slides_are_judged_with_reasons() -> None:
    good = [_table(slide=name) for name in ("S1", "S2", "S3")]
    pale, flickering = _table(slide="S4", nucleus=0.2), _table(slide="S5")
    flickering.loc[:9, "light"] = 120.0
    table = flag_samples(pd.concat([*good, pale, flickering], ignore_index=True))
    settings = QualitySettings()
    dropped = {"S2": {"match_20x": 30, "border": 2}, "S6": {"no_100x_image": 50}}
    verdicts = slide_verdicts(table, dropped, {}, settings)
    reasons = {verdict.slide: " ".join(verdict.reasons) for verdict in verdicts}
    assert [verdict.slide for verdict in verdicts if verdict.accepted] == ["S1", "S3"]
    assert "60 % of the cells" in reasons["S2"]
    assert "misstained" in reasons["S4"]
    assert "light" in reasons["S5"]
    assert reasons["S6"] == "empty: none of its cells gave a sample (50 no_100x_image)"
    left = exclude_rejected(table, verdicts, settings)
    assert set(left.loc[left["excluded"] == "", "slide"]) == {"S1", "S3"}
    again = flag_samples(left)  # other limits do not take a rejected slide back
    assert again["excluded"].tolist() == left["excluded"].tolist()
    keeping = settings.model_copy(update={"keep_rejected_slides": True})
    assert (exclude_rejected(table, verdicts, keeping)["excluded"] == "").sum() >= 80


@pytest.mark.parametrize(
    ("measures", "reason", "flag"),
    [
        ({"focus_20x": -0.75}, "focus: the stained images are out of focus", "blurred_20x"),
        ({"focus_20x": 0.4}, "focus: the unstained images are out of focus", "blurred_input"),
        ({"focus_100x": -0.85}, "focus: the 100x images are out of focus", "blurred_100x"),
        ({"focus_100x": 0.6}, "focus: the unstained and the stained images", "blurred_20x"),
        (
            {"shared_20x": 0.4},
            "focus: the stained images are out of focus: at 100 %",
            "blurred_20x",
        ),
        ({"shared_input": 0.4}, "focus: the unstained images are out of", "blurred_input"),
        # Rings of a pass out of focus make its detail finer: what both share decides.
        ({"shared_20x": 0.2, "focus_20x": 0.1}, "focus: the stained images", "blurred_20x"),
        ({"shared_20x": 0.65}, "", ""),
        ({"focus_input": -0.95}, "focus: the unstained images are out of focus", ""),
        ({"glass_red": 0.22, "glass_green": 0.33, "glass_blue": 0.39}, "", ""),  # less light
        ({"glass_red": -0.6, "glass_green": -0.6, "glass_blue": -0.6}, "", ""),  # more light
        ({"glass_red": 0.02, "glass_green": 0.2, "glass_blue": 0.06}, "misstained: glass", ""),
        ({"glass_green": 0.5, "glass_red": np.nan}, "", ""),
    ],
)
@pytest.mark.parametrize("count", [5, 20])
def test_a_whole_pass_is_not_its_own_standard(
    measures: dict[str, float], reason: str, flag: str, count: int
) -> None:
    table = flag_samples(_table(count).assign(**measures))
    assert set(table["flags"]) == {flag}
    (verdict,) = slide_verdicts(table, {}, {}, QualitySettings())
    if count < 8 and reason.startswith("misstained"):
        reason = ""  # too few to judge stain by
    assert len(verdict.reasons) == bool(reason)
    assert " ".join(verdict.reasons).startswith(reason)


@pytest.mark.parametrize(
    ("dropped", "reasons"),
    [
        ({"match_20x": 12}, ["mismatch: 38 %"]),
        ({"match_20x": 4, "stained_out_of_focus": 12}, ["focus: the stained images"]),
        ({"unstained_out_of_focus": 12}, ["focus: the unstained images"]),
        ({"out_of_focus": 12}, ["focus: the unstained or the stained images"]),
        (
            {"stained_out_of_focus": 6, "unstained_out_of_focus": 6},
            ["focus: the unstained or the stained images"],
        ),
        ({"stained_out_of_focus": 5}, []),
        (
            {"position_unmatched": 40, "stained_out_of_focus": 40},
            ["focus: the stained images", "mismatch: 40 %"],
        ),
    ],
)
def test_cells_lost_to_focus_are_no_mismatch(dropped: dict[str, int], reasons: list[str]) -> None:
    (verdict,) = slide_verdicts(flag_samples(_table()), {"S1": dropped}, {}, QualitySettings())
    told = [list(verdict.reasons)]
    if sum(dropped.values()) >= 8:  # else they are too few without samples beside them
        told.append(reasons_for_none(dropped, QualitySettings()))
    for found in told:
        assert all(text.startswith(start[:9]) for text, start in zip(found, reasons, strict=True))
    assert all(text.startswith(start) for text, start in zip(told[0], reasons, strict=True))


def _measured(
    stack: Image, target: Image, lighting: Lighting | None = None, pixel_um: float = 0.293
) -> pd.Series:
    frames = [FrameRecord(label="brightfield", led="", variant="", leds=(1,), exposure_ms=1, gain=1,
                          brightness=1, direction=None, bright_field=True)]  # fmt: skip
    images = np.ascontiguousarray(stack[:1])[None]
    table = measure_position(
        images, {"20x": target[None]}, frames, 4.0, None, None, lighting, pixel_um
    )
    return table.iloc[0]


def test_light_of_another_exposure_is_no_stain(cells: Cells) -> None:
    stack, target = cells.input[0], cells.targets[0]
    less = _absorbed(target, np.full((SIDE, SIDE), -np.log(0.7)))
    unknown = np.zeros((1, 2, 3), np.float32)
    told = _measured(stack, less, Lighting(unknown, (1.0, 0.7)))
    for name in ("glass_red", "glass_green", "glass_blue", "nucleus_green", "focus_20x"):
        assert told[name] == pytest.approx(_measured(stack, target)[name], abs=0.03)


def test_a_crop_without_glass_is_judged_by_the_field(cells: Cells) -> None:
    glass = np.stack([np.percentile(image, 90, axis=(1, 2))
                      for image in (cells.input[0, 0], cells.targets[0])])[None]  # fmt: skip
    open_field = _measured(cells.input[0], cells.targets[0])
    # Red cells all around: they take green and blue, stained a little more than before.
    around = 1 - _discs([(31.5, 31.5)], 16)
    before = _absorbed(cells.input[0], np.array([0.05, 0.2, 0.4])[:, None, None] * around)
    after = _absorbed(cells.targets[0], np.array([0.1, 0.45, 0.45])[:, None, None] * around)
    lighting = Lighting(glass.astype(np.float32))
    known, alone = _measured(before, after, lighting), _measured(before, after)
    assert known["nucleus_green"] == pytest.approx(open_field["nucleus_green"], abs=0.05)
    assert abs(known["glass_green"]) < 0.1 < abs(alone["glass_green"])


@pytest.mark.parametrize("zoom", [2, 3])
def test_measures_are_those_of_the_slide_whatever_the_pixel(cells: Cells, zoom: int) -> None:
    coarse = _measured(cells.input[1], cells.targets[1])
    side = (zoom * SIDE,) * 2
    stack, target = (
        np.stack([cv2.resize(plane, side, interpolation=cv2.INTER_CUBIC) for plane in image])
        for image in (cells.input[1, 0], cells.targets[1])
    )
    dust = _absorbed(stack, 1.5 * np.kron(_discs([(30, 24)], 7), np.ones((zoom, zoom))))
    fine, dirty = (_measured(image[None], target, None, 0.293 / zoom) for image in (stack, dust))
    for name in ("focus_20x", "focus_input", "nucleus_green", "unexplained"):
        assert fine[name] == pytest.approx(coarse[name], abs=0.05)
    assert fine["dirt_px"] == 0
    assert 45 < dirty["dirt_px"] < 200


def test_excluded_samples_are_in_no_split_until_a_review_takes_them_back(tmp_path: Path) -> None:
    writer = DatasetWriter(
        tmp_path / "x.zarr", [{"label": "brightfield"}], recipe="brightfield", pixel_um=0.3,
        crop_px=16,
    )  # fmt: skip
    images = np.zeros((4, 3, 16, 16), np.uint8)
    with writer:
        rows = pd.DataFrame({"slide": ["S1"] * 4, "excluded": ["", "dirt", "dirt", ""]})
        writer.append(images[:, None], {"20x": images}, rows)
        table = writer.table.assign(split="train", keep=["", "", "yes", "no"])
        writer.seal(table)
    data = Dataset.open(writer.publish())
    assert data.split("train").tolist() == [0, 2]


def test_limits_come_from_a_file_and_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "quality.yaml"
    path.write_text("samples: {dirt_px: 80}\nexclude: [dirt]\n", encoding="utf-8")
    settings = load_quality(path)
    assert (settings.samples.dirt_px, settings.exclude) == (80, ("dirt",))
    path.write_text("exclude: [dirt, dust]\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_quality(path)
    assert caught.value.line == 1
