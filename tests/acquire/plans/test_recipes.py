"""Recipes: files people write, what they light on an array, and the paper's, which must stay."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import pytest
import yaml

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.geometry import LedGeometry, load_geometry, standard_array
from plsctl.acquire.plans.exposures import Exposure, ExposureTable
from plsctl.acquire.plans.kept_settings import settings_hash, write_settings
from plsctl.acquire.plans.pass_plans import PassPlanner
from plsctl.acquire.plans.plan import check_region, frame_records
from plsctl.acquire.plans.recipe_frames import Frame
from plsctl.acquire.plans.recipes import Recipe, load_recipe, recipe_names
from plsctl.acquire.plans.slide import load_slide
from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.records import FrameRecord

NA = 0.4

OWN = """\
name: ring-and-halves
frames:
  - {pattern: brightfield}
  - {leds: [plate-1, plate-2]}
  - {each: {na: [0.0, 0.4]}}
  - {each: {angle_deg: [20, 40]}, variants: [low, high]}
  - {group: arm1, azimuth_deg: [0, 180], colour: green, weight: 0.5, label: half-left}
"""

HEAD = OWN.split("  - {leds")[0]

BEFORE = {
    "full": (74, "f9d815561dfca37b"),
    "full-nohe": (44, "697a4f12e9eafe07"),
    "le36deg": (44, "f48a09a6d2f51f7b"),
    "le36deg-nohe": (29, "e9ba25b95d1f354c"),
    "le18deg": (14, "13aede8c1b1417a9"),
    "le8deg": (4, "e40c226e6203a49e"),
    "brightfield": (1, "e5304c2f844099d1"),
}
"""Number and hash of the labels when the recipes were lists in the source."""


def write(folder: Path, text: str, name: str = "own.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def exposures(recipe: Recipe, array: LedGeometry) -> ExposureTable:
    return ExposureTable({f: Exposure(2.0, 1.0, 0.8) for f in recipe.images(array)})


def records(recipe: Recipe) -> dict[str, FrameRecord]:
    array = standard_array()
    return {f.label: f for f in frame_records(recipe, exposures(recipe, array), array, NA)}


def test_the_papers_recipes_are_what_they_were() -> None:
    assert recipe_names() == list(BEFORE)
    for name, (count, digest) in BEFORE.items():
        labels = [frame.label for frame in load_recipe(name).images()]
        assert len(labels) == count
        assert hashlib.sha256(" ".join(labels).encode()).hexdigest()[:16] == digest
        for lit in load_recipe(name).light(standard_array(), NA):
            nominal = lit.frame.led.startswith("plate") or lit.frame.led.endswith(("-10", "-18"))
            assert lit.is_bright_field(NA) == (nominal or lit.frame.led == "brightfield")
            if lit.frame.led != "brightfield":
                assert [led.name for led in lit.leds] == [lit.frame.led]


def test_a_recipe_lights_what_its_file_says(tmp_path: Path) -> None:
    array = standard_array()
    found = records(load_recipe(write(tmp_path, OWN)))
    inside = {led.name for led in array.leds if led.angle_deg < math.degrees(math.asin(NA))}
    ring = {led.name for led in array.leds if 20 <= led.angle_deg <= 40}
    expected = {"brightfield", "plate-1+plate-2", "half-left", *inside}
    expected |= {f"{name}:{variant}" for name in ring for variant in ("low", "high")}
    assert set(found) == expected
    assert found["brightfield"].leds == tuple(led.led for led in array.within(NA))
    assert found["plate-1+plate-2"].leds == (0, 1)
    assert found["plate-1+plate-2"].direction is None
    assert found["plate-1+plate-2"].bright_field
    assert found["arm2-18"].direction == array.named("arm2-18").direction
    assert not found["arm2-30:high"].bright_field
    half = found["half-left"]
    assert half.leds == tuple(led.led for led in array.leds if led.group == "arm1")
    assert (half.colour, half.brightness) == ("green", 0.4)
    # What was written before there were colours must not differ.
    assert "colour" not in found["arm2-18"].model_dump()
    assert FrameRecord.model_validate(half.model_dump()) == half


@pytest.mark.parametrize(
    ("azimuth_deg", "arms"),
    [
        ([0, 180], {1, 2}),  # arms stand at 90, 162, 234, 306 and 18 degrees
        ([180, 360], {3, 4}),
        ([300, 20], {4, 5}),
        ([-60, 20], {4, 5}),
        ([90, 90], {1}),
        ([0, 360], {1, 2, 3, 4, 5}),
    ],
)
def test_an_azimuth_is_counted_from_x_towards_y(
    tmp_path: Path, azimuth_deg: list[int], arms: set[int]
) -> None:
    text = HEAD + f"  - {{azimuth_deg: {azimuth_deg}, angle_deg: [10, 57]}}\n"
    lit = load_recipe(write(tmp_path, text)).light(standard_array(), NA)[1]
    wanted = {f"arm{arm}" for arm in arms} | ({"arm5"} if azimuth_deg == [0, 180] else set())
    assert {led.group for led in lit.leds} == wanted
    assert len(lit.leds) == 8 * len(wanted)


def test_dark_field_without_variants_is_dark_field(tmp_path: Path) -> None:
    text = (
        OWN.split("  - {leds")[0] + "  - {each: {angle_deg: [50, 60]}}\n  - {pattern: darkfield}\n"
    )
    found = list(records(load_recipe(write(tmp_path, text))).values())
    assert [frame.bright_field for frame in found] == [True, *[False] * 11]
    assert len(found[-1].leds) == 30


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("leds: [plate-1", "led: [plate-1", 4, "Did you mean 'leds'"),
        ("{pattern: brightfield}", "{leds: [plate-3]}", 2, "- {pattern: brightfield}"),
        ("pattern: brightfield", "pattern: brightfeld", 3, "Did you mean 'brightfield'"),
        ("colour: green", "colour: cyan", 7, "'red', 'green' or 'blue'"),
        ("weight: 0.5", "weight: 2", 7, "weight = 2"),
        ("label: half-left", "label: half left", 7, "letters, digits"),
        ("[0.0, 0.4]", "[0.4, 0.1]", 5, "low not above high"),
        ("[low, high]", "[low, low]", 6, "named twice"),
        ("{each: {na: [0.0, 0.4]}}", "{each: {}}", 5, "such as each: {na: [0, 0.4]}"),
        ("{leds: [plate-1, plate-2]}", "{leds: [plate-1], group: arm1}", 4, "no LED of the array"),
        ("{leds: [plate-1, plate-2]}", "{leds: [plate-9, plate-2]}", 4, "Did you mean 'plate-"),
        ("{leds: [plate-1, plate-2]}", "{leds: [plate-1]}", 5, "would be called 'plate-1'"),
        ("label: half-left", "label: arm1-57", 7, "is the name of an LED"),
        ("group: arm1", "group: arm9", 7, "in the groups arm1, arm2"),
        ("[20, 40]", "[70, 80]", 6, "8.0 to 57.0 deg (NA 0.14 to 0.84)"),
        ("name: ring-and-halves", "name: full", 1, "comes with plsctl"),
        ("name: ring-and-halves\n", "", None, "'name' is missing"),
        ("name: ring-and-halves", "name: ring and halves", 1, "without blanks"),
        ("na: [0.0, 0.4]", "na: 0.4", 5, "Such as [0, 0.4]"),
        ("[plate-1, plate-2]", "[1, 2]", 4, "Put it in quotes: '1'"),
        ("{leds: [plate-1, plate-2]}", "{colour: red}", 4, "say in one way which LEDs"),
        ("{na: [0.0, 0.4]}", "{na: [0.0, 0.4], colour: red}", 5, "no field 'frames.2.each.colour'"),
        ("leds: [plate-1, plate-2]", "na_points: [[0.1, 0.0]]", 4, "these directions a name"),
        ("na: [0.0, 0.4]", "na_points: [[0.9, 0.9]]", 5, "aperture is above 1"),
        ("na: [0.0, 0.4]", "na: [0.0, 0.4], na_reach: 0.1", 5, "give these"),
        ("na: [0.0, 0.4]", "na_points: [[0.0, 0.0]]", 5, "no LED of the array is there"),
    ],
)
def test_a_mistake_in_a_recipe_names_line_and_remedy(
    tmp_path: Path, old: str, new: str, line: int | None, words: str
) -> None:
    assert old in OWN
    path = write(tmp_path, OWN.replace(old, new))
    with pytest.raises(UserError) as caught:
        load_recipe(path).light(standard_array(), NA)
    assert caught.value.file == str(path) or caught.value.file == path
    assert caught.value.line == line
    assert words in str(caught.value)


def test_a_recipe_by_place_needs_an_array(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, OWN))
    with pytest.raises(UserError, match="--hardware FILE"):
        recipe.images()
    text = OWN.replace("na: [0.0, 0.4]", "leds: [plate-3]").replace(
        "angle_deg: [20, 40]", "leds: [a]"
    )
    named = load_recipe(write(tmp_path, text))
    assert named.images()[1:4] == (Frame("plate-1+plate-2"), Frame("plate-3"), Frame("a", "low"))


SLIDE = """\
slide: S001
hardware: simulator_small
region: {x_um: [10000, 10400], y_um: [5000, 5300]}
recipe: recipes/own.yaml
exposures: exposures.csv
"""


def test_a_scan_keeps_the_recipe_and_not_its_path(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    write(tmp_path / "recipes", OWN)
    write(
        tmp_path, "led,variant,exposure_ms,gain,brightness\nbrightfield,,2,1,1\n", "exposures.csv"
    )
    text = SLIDE + "passes: {unstained: {objective: 20x}}\n"
    slide, hardware = (
        load_slide(write(tmp_path, text, "slide.yaml")),
        load_hardware("simulator_small"),
    )
    before = settings_hash(slide, hardware)
    kept = tmp_path / "scan"
    kept.mkdir()
    write_settings(kept, slide, hardware)
    (tmp_path / "recipes" / "own.yaml").write_text(OWN.replace("0.5", "0.7"))
    assert settings_hash(slide, hardware) != before
    (tmp_path / "recipes" / "own.yaml").unlink()
    again = load_slide(kept / "slide.yaml")
    assert settings_hash(again, again.load_hardware()) == before
    assert again.load_recipe().frames == load_recipe(write(tmp_path, OWN)).frames
    with pytest.raises(UserError, match=r"slide.yaml, line 4: .*no recipe at .*own.yaml"):
        slide.load_recipe()
    write(tmp_path, f"recipe: full\n{OWN}", "recipes/own.yaml")
    with pytest.raises(UserError, match=r"own.yaml, line 1: there is no field 'recipe'"):
        slide.load_recipe()


def test_a_papers_recipe_on_another_array_is_refused_by_the_slide_file(tmp_path: Path) -> None:
    text = SLIDE.replace("recipes/own.yaml", "le8deg").replace("simulator_small", "scope.yaml")
    described = yaml.safe_load(load_hardware("simulator_small").file.read_text())
    described["led_array"]["geometry"] = "shipped:leds_64.csv"
    write(tmp_path, yaml.safe_dump(described), "scope.yaml")
    write(
        tmp_path, "led,variant,exposure_ms,gain,brightness\nbrightfield,,2,1,1\n", "exposures.csv"
    )
    slide = load_slide(write(tmp_path, text, "slide.yaml"))
    planner = PassPlanner(slide, slide.load_hardware(), ScanFolder(tmp_path / "scan"))
    with pytest.raises(UserError) as caught:
        planner.frames("unstained")
    for words in ("slide.yaml", "no LED 'plate-1'", "LED0, LED1", "write one for yours"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("region", "field"),
    [
        ("{x_um: [10, 12], y_um: [5, 6.2]}", "region.y_um"),
        ("{x_um: [10, 12], y_um: [5000, 5300]}", "region.x_um"),
        ("{x_um: [10000, 10200], y_um: [5000, 5100]}", "region.y_um"),
        ("{x_um: [10000, 10400], y_um: [5000, 5100]}", None),  # a strip of one row
    ],
)
def test_a_region_smaller_than_a_field_is_refused(
    tmp_path: Path, region: str, field: str | None
) -> None:
    text = SLIDE.replace("{x_um: [10000, 10400], y_um: [5000, 5300]}", region)
    slide = load_slide(write(tmp_path, text.replace("recipes/own.yaml", "le8deg"), "slide.yaml"))
    if field is None:
        check_region(slide, (234, 176))
        return
    with pytest.raises(UserError, match=r"slide.yaml, line 3: .*micrometres, not mill") as caught:
        check_region(slide, (234, 176))
    assert (caught.value.field, caught.value.line) == (field, 3)


def test_light_from_the_wrong_side_and_an_impossible_aperture_are_refused(tmp_path: Path) -> None:
    table = "led,name,x_mm,y_mm,z_mm,group\n0,a,0,0,-80,\n1,b,5,0,{z},\n"
    for z in ("80", "0"):
        path = write(tmp_path, table.replace("{z}", z), "leds.csv")
        with pytest.raises(UserError, match=r"leds.csv, line 3: z_mm = .*z_mm is negative"):
            load_geometry(path)
    described = load_hardware("simulator_small").file.read_text()
    for wrong in ("na: 4.0", "na: 1.0"):
        path = write(tmp_path, described.replace("na: 0.40", wrong), "scope.yaml")
        with pytest.raises(UserError, match=r"scope.yaml, line \d+: .*impossible in air"):
            load_hardware(path)


def test_the_hash_of_scans_with_the_papers_recipes_is_that_of_before(tmp_path: Path) -> None:
    text = (
        SLIDE.replace("recipes/own.yaml", "le8deg")
        .replace(": exp", ": shipped:exp")
        .replace("exposures.csv", "exposures_20x.csv")
    )
    slide = load_slide(write(tmp_path, text, "slide.yaml"))
    found = settings_hash(slide, load_hardware("simulator_small"))
    assert found == "de59ec5b094799d9"
    shipped = load_slide(write(tmp_path, text.replace("le8deg", "shipped:le8deg"), "slide.yaml"))
    assert settings_hash(shipped, load_hardware("simulator_small")) == found
