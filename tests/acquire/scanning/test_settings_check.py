"""What a scan will need is checked before a device is opened; each mistake names its place."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

import pytest

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.locations import location
from plsctl.acquire.files.settings import add_line
from plsctl.acquire.scanning.scan import open_scan
from plsctl.acquire.scanning.settings_check import check_room, check_settings
from plsctl.acquire.store.folder import ScanFolder

SLIDE = """\
slide: S001
hardware: scope.yaml
region: {x_um: [10000, 10600], y_um: [5000, 5400]}
recipe: le18deg
exposures: exposures.csv
passes:
  unstained: {objective: 20x}
  stained: {objective: 20x}
"""


def write_files(folder: Path, hardware: str) -> dict[str, str]:
    """A slide with its microscope and tables, all of them in one folder."""
    shipped = files("plsctl.hardware_configs")
    texts = {
        "slide.yaml": SLIDE,
        "scope.yaml": (shipped / hardware).read_text().replace("shipped:leds_43.csv", "leds.csv"),
        "leds.csv": (shipped / "leds_43.csv").read_text(),
        "exposures.csv": (shipped / "exposures_20x.csv").read_text(),
    }
    texts["scope.yaml"] = texts["scope.yaml"].replace("geometry: leds_43.csv", "geometry: leds.csv")
    texts["our_microscope.cfg"] = (
        "Device,Camera,DemoCamera,DCam\n"
        "Device,XYStage,DemoCamera,DXYStage\n"
        "Device,ZStage,DemoCamera,DStage\n"
        "Device,Objective,DemoCamera,DObjective\n"
        "Label,Objective,0,20x\n"
    )
    for name, text in texts.items():
        (folder / name).write_text(text)
    return texts


def test_good_files_pass(tmp_path: Path) -> None:
    write_files(tmp_path, "simulator_small.yaml")
    check_settings(open_scan(tmp_path / "slide.yaml", tmp_path / "scans"))
    assert not (tmp_path / "scans").exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "field", "words"),
    [
        ("slide.yaml", "  stained: {objective: 20x}", "  stained: {objective: 40x}",
         "passes.stained.objective", "It has 20x, 100x"),
        ("slide.yaml", "[10000, 10600]", "[74900, 75100]", "region.x_um", "limits are 0 to 75000"),
        ("slide.yaml", "[10000, 10600]", "[10, 10.6]", "region.x_um", "not millimetres"),
        ("scope.yaml", "driver: illuminate", "driver: iluminate", "led_array.driver",
         "Did you mean 'illuminate'"),
        ("scope.yaml", "port: simled", "options: {speed: 3}\n  port: simled",
         "led_array.options.speed", "there is no field 'speed'"),
        ("scope.yaml", "port: simled", "led_count: 40\n  port: simled", "led_array.led_count",
         "at least 43"),
        ("scope.yaml", "core: simulator", "core: simulater", "core", "Did you mean 'simulator'"),
        ("scope.yaml", "core: simulator", "core: nowhere.cfg", "core", "nowhere.cfg"),
        ("scope.yaml", "  seed: 1", "  seeds: 1", "options.seeds", "Did you mean 'seed'"),
        ("scope.yaml", "gain_range: [1, 32]", "gain_range: [32, 1]", "camera.gain_range",
         "smallest comes first"),
        ("scope.yaml", "gain_property: Gain", "properties: {Binning: on}",
         "camera.properties.Binning", "Put it in quotes: 'on'"),
        ("scope.yaml", "gain_range: [1, 32]", "gain_range: [yes, 32]", "camera.gain_range",
         "a number is expected"),
        ("scope.yaml", "size_px: [800, 600]", "size_px: [800, 0]", "camera.size_px.1", "at least"),
        ("scope.yaml", "black_level: 4", "black_level: 255", "camera", "8 bits (255)"),
        ("scope.yaml", "label: 100x", "label: 20x", "turret", "label '20x'"),
        ("scope.yaml", "focus_z_um: 5000", "focus_z_um: 5000\ntiming: hardware", "timing",
         "no `camera.trigger`"),
        ("slide.yaml", "  unstained: {objective: 20x}\n", "", "passes.stained",
         "comes after the unstained pass"),
        ("exposures.csv", "plate-2,,", "plate-2,,1", "exposure_ms", "the camera offers"),
        ("exposures.csv", "plate-2,", "plate-9,", "led", "no row for the LED 'plate-2'"),
    ],
)  # fmt: skip
def test_a_mistake_is_found_in_its_file(
    tmp_path: Path, file: str, old: str, new: str, field: str, words: str
) -> None:
    texts = write_files(tmp_path, "simulator_small.yaml")
    if file == "exposures.csv" and field == "exposure_ms":
        row = next(line for line in texts[file].splitlines() if line.startswith(old))
        old, new = row, "plate-2,,9000,1,1"
    _spoil(tmp_path, texts, file, old, new)
    error = _refused(tmp_path)
    assert (error.field, Path(str(error.file)).name) == (field, file)
    assert words in str(error)
    if field != "led":  # a row that is missing has no line
        assert error.line


def test_a_gain_is_refused_where_no_property_holds_it(tmp_path: Path) -> None:
    texts = write_files(tmp_path, "simulator_small.yaml")
    row = next(line for line in texts["exposures.csv"].splitlines() if line.startswith("plate-2"))
    _spoil(tmp_path, texts, "scope.yaml", "gain_property: Gain", "gain_property: null")
    check_settings(open_scan(tmp_path / "slide.yaml", tmp_path / "scans"))
    _spoil(tmp_path, texts, "exposures.csv", row, "plate-2,,2,5,1")
    assert "gain = 5, and the camera offers 1 to 1" in str(_refused(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ("'OK L(?P<led>\\d+)'", "'OK L(?P<led>\\d+'", "single.reply", "regular expression"),
        ('"L{led}"', '"L"', "single.send", "{led} is missing"),
        ("clears: true", "clears: maybe", "single.clears", "true or false"),
        ("full_drive: 255", "full_drive: 0", "full_drive", "at least 1"),
        ("identify:  ", "identity:  ", "identity", "'identify' is missing"),
        ("device: Camera ", "device: camera ", "camera.device", "Did you mean 'Camera'"),
        ("xy_device: XYStage", "xy_device: XY", "stage.xy_device", "Camera, Objective, XYStage"),
        ("device: null  ", "device: Objective  ", None, ""),
        ("{label: 20x,", "{label: 20X,", None, ""),
    ],
)
def test_the_description_of_an_array_and_the_core_are_checked(
    tmp_path: Path, old: str, new: str, field: str | None, words: str
) -> None:
    texts = write_files(tmp_path, "arduino_43_leds.yaml")
    _spoil(tmp_path, texts, "scope.yaml", old, new)
    if field is None:
        check_settings(open_scan(tmp_path / "slide.yaml", tmp_path / "scans"))
        return
    error = _refused(tmp_path)
    assert str(error.field).endswith(field)
    assert error.line == _line_of(tmp_path / "scope.yaml", new)
    assert words in str(error)


def test_a_place_on_the_turret_is_looked_for_in_the_configuration(tmp_path: Path) -> None:
    texts = write_files(tmp_path, "arduino_43_leds.yaml")
    spoilt = texts["scope.yaml"].replace("device: null  ", "device: Objective  ")
    (tmp_path / "scope.yaml").write_text(spoilt.replace("{label: 20x,", "{label: 20X,"))
    error = _refused(tmp_path)
    assert error.field == "turret.objectives.20x.label"
    assert "Did you mean '20x'" in str(error)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    write_files(tmp_path, "simulator_small.yaml")
    (tmp_path / "scans").mkdir(mode=0o500)
    assert "cannot be written" in str(_refused(tmp_path))


def test_a_scan_into_an_object_store_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, "simulator_small.yaml")
    scan = open_scan(tmp_path / "slide.yaml", tmp_path / "scans")
    scan.folder = ScanFolder(location("https://localhost/scans/S001"))
    with pytest.raises(UserError, match=r"https://localhost.*a disk of this computer.*--out"):
        check_settings(scan)


def test_a_file_in_the_way_and_a_disk_too_small_are_told(tmp_path: Path) -> None:
    write_files(tmp_path, "simulator_small.yaml")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="scans go into a folder"):
        check_settings(open_scan(tmp_path / "slide.yaml", tmp_path / "file" / "scans"))
    with pytest.raises(UserError, match="MB free"):
        check_room(open_scan(tmp_path / "slide.yaml", tmp_path / "scans"), 10**12)


def _spoil(folder: Path, texts: dict[str, str], file: str, old: str, new: str) -> None:
    assert old in texts[file]
    (folder / file).write_text(texts[file].replace(old, new, 1))


def _refused(folder: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        check_settings(open_scan(folder / "slide.yaml", folder / "scans"))
    add_line(caught.value)
    return caught.value


def _line_of(path: Path, text: str) -> int:
    lines = path.read_text().splitlines()
    return next(n for n, line in enumerate(lines, start=1) if text.strip() in line)
