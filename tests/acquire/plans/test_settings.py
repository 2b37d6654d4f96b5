"""Files people write: every mistake names file, line, field and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from plsctl.acquire.devices.hardware import load_hardware, shipped_configurations
from plsctl.acquire.errors import UserError
from plsctl.acquire.leds.geometry import load_geometry, save_geometry, standard_array
from plsctl.acquire.plans.exposures import load_exposures
from plsctl.acquire.plans.recipes import recipe
from plsctl.acquire.plans.slide import load_slide
from plsctl.acquire.scanning.scan import open_scan

SLIDE = """\
slide: S001
hardware: simulator_small
region: {x_um: [10000, 10400], y_um: [5000, 5300]}
recipe: le8deg
focus:
  mode: surface
  points: 3
exposures: shipped:exposures_20x.csv
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
        ("slide: S001", "slid: S001", 1, "slid", "'slide' is missing. Did you mean 'slide'"),
        ("x_um", "x_mu", 3, "region.x_mu", "'x_um' is missing"),
        ("hardware: simulator_small\n", "", None, "hardware", "or hardware: simulator"),
        ("S001", "001", 1, "slide", "slide = 001: text is expected"),
        ("S001", "2024-11-05", 1, "slide", "Put it in quotes: '2024-11-05'"),
        ("S001", "Blut Müller 1", 1, "slide", "such as Blut-Müller-1"),
        ("S001", "..", 1, "slide", "no folder can be called so"),
        ("S001", "nul.1", 1, "slide", "no folder can be called so"),
        ("5300]", "5300], overlap: 0,05", 3, "region.overlap", "Write 0.05"),
        ("points: 3", "range_um: 0,5", 7, "focus.range_um", "with a point. Write 0.5"),
        ("points: 3", "range_um: .inf", 7, "focus.range_um", "a finite number is expected"),
        ("[5000, 5300]", "5000-5300", 3, "region.y_um", "values in brackets"),
        ("[5000, 5300]", "[5000]", 3, "region.y_um", "values in brackets"),
        ("[10000, 10400]", "[no, 10400]", 3, "region.x_um", "a number is expected"),
        ("points: 3", "points: on", 7, "focus.points", "points = on: a number is expected"),
        ("S001", "--json", 1, "slide", "no folder can be called so"),
        ("simulator_small", "", 2, "hardware", "nothing stands here. Such as our_microscope.yaml"),
        ("S001", "!S 001", 1, None, "a word after '!' means something else"),
        ("  points: 3", "\tpoints: 3", 7, None, "only blanks may indent"),
        ("recipe: le8deg", "recipe: a: b", 4, None, "a second colon"),
        (SLIDE, "", 1, None, "the file is empty"),
        (
            "exposures:",
            "passes: {unstaind: {objective: 20x}}\nexposures:",
            8,
            "passes.unstaind",
            "Did you mean 'unstained'",
        ),
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
        table.exposure(next(f for f in recipe("full") if f.label == "arm1-24:low"))


def test_a_bad_number_in_a_table_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "exposures.csv"
    path.write_text("led,variant,exposure_ms,gain,brightness\nbrightfield,,2,1,1\nplate-1,,x,1,1\n")
    with pytest.raises(UserError) as caught:
        load_exposures(path)
    assert (caught.value.line, caught.value.field) == (3, "exposure_ms")


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


HEAD = b"led,variant,exposure_ms,gain,brightness\n"


@pytest.mark.parametrize(
    ("content", "line", "field", "words"),
    [
        (b"", 1, None, "the table is empty"),
        (b" \r\n", 1, None, "the table is empty"),
        (HEAD, 2, None, "no rows"),
        (HEAD.replace(b",", b";") + b"brightfield;;2;1;1\n", 1, "led", "semicolons"),
        (HEAD.replace(b",", b"\t"), 1, "led", "tabs"),
        (HEAD + "b\u00fcro,,2,1,1\n".encode("latin-1"), 2, None, "column 2 is not in UTF-8"),
        (HEAD.decode().encode("utf-16"), 1, None, "Save it as UTF-8"),
        (HEAD + b"brightfield,,3,5,1,1\n", 2, "brightness", "6 values, .* 5 columns"),
        (HEAD + b'brightfield,,"3,5",1,1\n', 2, "exposure_ms", "with a point"),
        (HEAD + b"brightfield,,,1,1\n", 2, "exposure_ms", "exposure_ms is empty"),
        (b"led,led,variant,exposure_ms,gain,brightness\n", 1, "led", "there twice"),
    ],
)
def test_a_table_that_cannot_be_read_names_line_column_and_remedy(
    tmp_path: Path, content: bytes, line: int, field: str | None, words: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        load_exposures(path)
    assert (caught.value.file, caught.value.line) == (str(path), line)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ("0,plate-1", "-1,plate-1", 2, "led", "0 or above"),
        ("0,plate-1", "0,", 2, "name", "LED 0 has no name"),
        ("0,plate-1", "0,brightfield", 2, "name", "by the objective's aperture"),
        ("-80.0000,plate", "-80.0000,all", 2, "group", "by the objective's aperture"),
        ("0,plate-1", "0,plate:low", 2, "name", "a colon"),
        ("-80.0000,plate", '-80.0000,"pla\nte"', 3, "group", "a line break"),
        ("1,plate-2,-9.7370,-5.6216", "1,plate-2,0.0000,11.2433", 3, "x_mm", "at one place"),
        ("11.2433,-80.0000", "11.2433,80.0000", 2, "z_mm", "on the objective's side"),
    ],
)
def test_leds_that_cannot_be_told_apart_or_shine_from_nowhere_are_refused(
    tmp_path: Path, old: str, new: str, line: int, field: str, words: str
) -> None:
    path = tmp_path / "leds.csv"
    save_geometry(standard_array(), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=words) as caught:
        load_geometry(path)
    assert (caught.value.line, caught.value.field) == (line, field)


def test_blanks_and_the_mark_of_utf8_are_no_part_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    head = b"\xef\xbb\xbf led , variant,exposure_ms,gain,brightness,\n"
    rows = head + b"\n brightfield , , 3 ,1,1,\n,,,\n"
    path.write_bytes(rows)
    assert [frame.label for frame in load_exposures(path).rows] == ["brightfield"]


@pytest.mark.parametrize(
    ("slide", "hardware", "words"),
    [
        ("exposures: exposures_20x.csv", "geometry: leds.csv", "shipped:exposures_20x.csv"),
        ("exposures: shipped:exposures_21x.csv", "geometry: leds.csv", "exposures_20x.csv"),
        ("exposures: ours.csv", "geometry: leds_43.csv", "shipped:leds_43.csv"),
        ("exposures: ours.csv\npasses: {unstained: {objective: 20x}, highres: {objective: 100x}}",
         "geometry: leds.csv", r"no .*exposures_100x\.csv"),
    ],
)  # fmt: skip
def test_what_is_missing_beside_a_file_is_not_taken_from_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slide: str, hardware: str, words: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shipped = load_hardware("simulator_small")
    for name in ("leds_43.csv", "exposures_20x.csv", "exposures_100x.csv", "simulator.yaml"):
        # The working folder counts for nothing either.
        (tmp_path / "elsewhere" / name).write_text("taken from elsewhere")
    save_geometry(shipped.geometry(), tmp_path / "leds.csv")
    (tmp_path / "ours.csv").write_text(
        "led,variant,exposure_ms,gain,brightness\nbrightfield,,2,1,1\n"
    )
    text = shipped.file.read_text().replace("geometry: shipped:leds_43.csv", hardware)
    (tmp_path / "scope.yaml").write_text(text)
    path = tmp_path / "slide.yaml"
    lines = SLIDE.replace("simulator_small", "scope.yaml").splitlines()[:-1]
    path.write_text("\n".join([*lines, slide]))
    with pytest.raises(UserError, match=words):
        found = load_slide(path)
        found.load_hardware().geometry()
        for name in found.passes:
            found.load_exposures(name)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("slide.yaml", "le8deg", "le18deg", "recipe was le8deg and is now le18deg"),
        ("slide.yaml", "10400", "10500", "region.x_um was 10000, 10400 and is now 10000, 10500"),
        ("scope.yaml", "black_level: 4", "black_level: 8", "camera.black_level was 4.0 and is"),
        ("scope.yaml", "na: 0.40", "na: 0.45", "objectives.20x.na was 0.4 and is now 0.45"),
        ("ours.csv", "plate-2,,2,", "plate-2,,3,", "plate-2 was 2, 1, 1 and is now 3, 1, 1"),
        ("leds.csv", "0,plate-1", "43,plate-1", "LED table, plate-1 was"),
    ],
)  # fmt: skip
def test_a_scan_that_was_begun_with_other_settings_says_which(
    tmp_path: Path, file: str, old: str, new: str, words: str
) -> None:
    shipped = load_hardware("simulator_small")
    save_geometry(shipped.geometry(), tmp_path / "leds.csv")
    rows = "".join(f"{name},,2,1,1\n" for name in ("brightfield", "plate-1", "plate-2", "plate-3"))
    (tmp_path / "ours.csv").write_bytes(HEAD + rows.encode())
    text = shipped.file.read_text().replace("shipped:leds_43.csv", "leds.csv")
    (tmp_path / "scope.yaml").write_text(text)
    slide = SLIDE.replace("simulator_small", "scope.yaml").splitlines()[:-1]
    path = tmp_path / "slide.yaml"
    passes = "passes: {unstained: {objective: 20x}}"
    path.write_text("\n".join([*slide, "exposures: ours.csv", passes]))
    scan = open_scan(path, tmp_path / "scans")
    scan.prepare_folder()
    (scan.folder.pass_path("unstained") / "A").mkdir(parents=True)  # the pass has been begun
    assert open_scan(path, tmp_path / "scans").hash
    changed = tmp_path / file
    changed.write_text(changed.read_text().replace(old, new, 1))
    with pytest.raises(UserError, match=words):
        open_scan(path, tmp_path / "scans")
