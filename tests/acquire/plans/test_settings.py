"""Files people write: every mistake names file, line, field and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from plsctl.acquire.devices.hardware import load_hardware, shipped_configurations
from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.geometry import load_geometry, save_geometry, standard_array
from plsctl.acquire.plans.exposures import load_exposures
from plsctl.acquire.plans.recipes import RECIPES
from plsctl.acquire.plans.slide import load_slide

SLIDE = """\
slide: S001
hardware: simulator_small
region: {x_um: [10000, 10400], y_um: [5000, 5300]}
recipe: le8deg
focus:
  mode: surface
  points: 3
"""


def slide_error(tmp_path: Path, text: str) -> UserError:
    path = tmp_path / "slide.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        slide = load_slide(path)
        slide.load_hardware()
        slide.load_exposures()
    assert caught.value.exit_code == 2
    return caught.value


def test_a_good_slide_file_loads(tmp_path: Path) -> None:
    path = tmp_path / "slide.yaml"
    path.write_text(SLIDE)
    slide = load_slide(path)
    assert slide.region.centre_um == (10200, 5150)
    assert slide.load_hardware().objective("100x").immersion == "oil"


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ("recipe: le8deg", "recipie: le8deg", 4, "recipie", "Did you mean 'recipe'?"),
        ("recipe: le8deg", "recipe: le8dg", 4, "recipe", "Did you mean 'le8deg'?"),
        ("points: 3", "point: 3", 7, "focus.point", "Did you mean 'points'?"),
        ("points: 3", "points: many", 7, "focus.points", "'many'"),
        ("mode: surface", "mode: surfase", 6, "focus.mode", "Did you mean 'surface'?"),
        ("slide: S001\n", "", None, "slide", "missing"),
        ("[10000, 10400]", "[10400, 10000]", 3, "region", "low below high"),
        ("hardware: simulator_small", "hardware: simulater", None, "hardware", "simulator"),
        ("recipe: le8deg", "recipe: [", 4, None, "not valid YAML"),
        ("points: 3", "points: 3\n  points: 4", 8, "focus.points", "in line 7 too"),
    ],
)
def test_a_mistake_names_line_field_and_remedy(
    tmp_path: Path, old: str, new: str, line: int | None, field: str | None, words: str
) -> None:
    error = slide_error(tmp_path, SLIDE.replace(old, new))
    assert error.field == field
    assert words in str(error)
    assert "slide.yaml" in str(error)
    if line is not None and "[" not in new:
        assert error.line == line


def test_a_missing_slide_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_slide(tmp_path / "nowhere.yaml")


def test_every_shipped_configuration_loads_with_its_geometry() -> None:
    for name in shipped_configurations():
        hardware = load_hardware(name)
        assert len(hardware.geometry().leds) > 0


def test_an_exposure_table_that_lacks_an_led_names_it(tmp_path: Path) -> None:
    path = tmp_path / "exposures.csv"
    path.write_text("led,variant,exposure_ms,gain,brightness\nbrightfield,,2,1,1\n")
    table = load_exposures(path)
    with pytest.raises(UserError, match=r"no row for the LED 'arm1-24'.*low"):
        table.exposure(next(f for f in RECIPES["full"] if f.label == "arm1-24:low"))


def test_a_bad_number_in_a_table_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "exposures.csv"
    path.write_text("led,variant,exposure_ms,gain,brightness\nbrightfield,,2,1,1\nplate-1,,x,1,1\n")
    with pytest.raises(UserError) as caught:
        load_exposures(path)
    assert (caught.value.line, caught.value.field) == (3, "exposure_ms")


def test_recipes_have_the_papers_numbers_of_images() -> None:
    counts = {name: len(frames) for name, frames in RECIPES.items()}
    assert counts == {
        "full": 74,
        "full-nohe": 44,
        "le36deg": 44,
        "le36deg-nohe": 29,
        "le18deg": 14,
        "le8deg": 4,
        "brightfield": 1,
    }
    labels = [frame.label for frame in RECIPES["full"]]
    for frames in RECIPES.values():
        order = [labels.index(frame.label) for frame in frames]
        assert order == sorted(order)


def test_the_standard_array_has_the_papers_angles(tmp_path: Path) -> None:
    array = standard_array()
    assert len(array.leds) == 43
    assert len(array.within(0.40)) == 13
    assert sorted({round(angle) for angle in array.angles_deg.tolist()}) == [
        8, 10, 18, 24, 30, 36, 43, 50, 57,
    ]  # fmt: skip
    save_geometry(array, tmp_path / "leds.csv")
    assert load_geometry(tmp_path / "leds.csv").directions == pytest.approx(
        array.directions, abs=1e-6
    )
    shipped = load_hardware("simulator").geometry()
    assert shipped.directions == pytest.approx(array.directions, abs=1e-6)


def test_a_pass_at_another_objective_has_exposures_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "slide.yaml"
    passes = "passes: {unstained: {objective: 20x}, highres: {objective: 100x}}\n"
    path.write_text(SLIDE + passes)
    slide = load_slide(path)
    assert slide.exposures_file("unstained").name == "exposures_20x.csv"
    assert slide.exposures_file("highres").name == "exposures_100x.csv"
    path.write_text(SLIDE + passes.replace("100x", "63x"))
    with pytest.raises(UserError, match=r"exposures_63x\.csv"):
        load_slide(path).exposures_file("highres")
