"""The scan on Micro-Manager's real core and demo devices, beside an LED array on a real port."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import yaozarrs
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from plsctl.acquire.arrays import Image, RawImage
from plsctl.acquire.bench.device_check import DeviceCheck
from plsctl.acquire.clock import WallClock
from plsctl.acquire.coordinates import SlideTransform
from plsctl.acquire.devices.core_camera import check_exposure, check_gain
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.devices.microscope import Microscope, open_microscope
from plsctl.acquire.errors import HardwareError, InterruptedScan, UserError
from plsctl.acquire.focus.focus_map import Focus
from plsctl.acquire.interrupt import StopRequest, stop_on_signals
from plsctl.acquire.plans.slide import load_slide
from plsctl.acquire.roles import FieldPair, Roles
from plsctl.acquire.scanning.engine import Engine
from plsctl.acquire.scanning.pass_run import judge_unstained, run_pass
from plsctl.acquire.scanning.scan import Scan, open_scan
from plsctl.acquire.store import writer as store_writer
from plsctl.acquire.store.journal import Event, Journal
from plsctl.acquire.store.position_files import PositionFiles
from plsctl.sim.firmware.illuminate import IlluminateFirmware
from plsctl.sim.firmware.ports import serve_pty, serve_tcp

LEDS = 43


class BenchRoles:
    """Judges and acts in place of a person: the demo camera shows no smear."""

    def sharpness(self, image: Image) -> float:
        return float(image.std())

    def looks_stained(self, image: Image) -> bool:
        return self.pass_name != "unstained"

    def white_cells(self, image: Image) -> int:
        return 0

    def locate(self, *_: object) -> SlideTransform:
        return SlideTransform(0.0, 0.0, 5.0, -3.0, 0.0)

    def register(
        self,
        pairs: Sequence[FieldPair],
        pixel_um: float,
        camera_rotation_deg: float,
        guess: SlideTransform | None = None,
    ) -> SlideTransform:
        assert guess is not None
        return guess

    def shift(self, *_: object) -> None:
        return None

    def find(self, scan: Path) -> int:
        (scan / "cells.csv").write_text("cell,x_um,y_um\n1,1100,620\n2,1105,640\n")
        return 2

    def prepare(self, pass_name: str, resumed: bool) -> None:
        self.pass_name = pass_name

    def turn_turret(self, objective: str) -> None:
        pass

    def home_stage(self, by_core: bool) -> None:
        pass


def roles(_: object) -> Roles:
    bench_roles = BenchRoles()
    return Roles(bench_roles, bench_roles, bench_roles, bench_roles, bench_roles, bench_roles)


@pytest.fixture
def firmware() -> Iterator[IlluminateFirmware]:
    firmware = IlluminateFirmware([(0.0, 0.0, -80.0)] * LEDS, WallClock(), resets_on_open=False)
    yield firmware


@pytest.fixture
def slide_file(tmp_path: Path, firmware: IlluminateFirmware) -> Iterator[Path]:
    """A slide for the demo hardware, its array on a pty (on TCP where there are none)."""
    with serve_tcp(firmware) if os.name == "nt" else serve_pty(firmware) as server:
        hardware = yaml.safe_load(load_hardware("micromanager_demo").file.read_text())
        hardware["led_array"] |= {"port": server.url, "timeout_s": 0.2, "boot_timeout_s": 0.3}
        hardware["camera"]["size_px"] = [320, 240]
        hardware["camera"]["properties"] |= {"OnCameraCCDXSize": 320, "OnCameraCCDYSize": 240}
        (tmp_path / "demo.yaml").write_text(yaml.safe_dump(hardware))
        table = "led,variant,exposure_ms,gain,brightness\n" + "".join(
            f"{led},,1,1,1\n" for led in ("brightfield", "plate-1", "plate-2", "plate-3")
        )
        (tmp_path / "exposures.csv").write_text(table)
        slide = {
            "slide": "D1",
            "hardware": "demo.yaml",
            "region": {"x_um": [1000, 1256], "y_um": [600, 770]},
            "recipe": "le8deg",
            "exposures": "exposures.csv",
            "focus": {"mode": "fixed"},
            "passes": {
                "unstained": {"objective": "20x"},
                "stained": {"objective": "20x"},
                "highres": {"objective": "100x", "exposures": "exposures.csv"},
            },
        }
        path = tmp_path / "slide.yaml"
        path.write_text(yaml.safe_dump(slide))
        yield path


def take(scan: Scan, name: str, **options: bool) -> None:
    run_pass(scan, name, roles, StopRequest(), force=True, **options)  # type: ignore[arg-type]


def test_three_passes_on_the_real_core(
    slide_file: Path, tmp_path: Path, firmware: IlluminateFirmware
) -> None:
    scan = open_scan(slide_file, tmp_path / "scans")
    for name in ("unstained", "stained", "highres"):
        take(scan, name)
        assert scan.is_finished(name)  # type: ignore[arg-type]
        yaozarrs.validate_zarr_store(str(scan.folder.pass_path(name)))
    assert firmware.lit == {}
    reader = scan.folder.open_pass("unstained")
    assert len(reader.names) == len(scan.planner.plan("unstained").positions) == 4
    assert reader.stack(reader.names[0]).shape == (4, 240, 320, 3)
    stained = scan.folder.open_pass("stained").position(reader.names[0])
    assert stained.x_um - stained.slide_x_um == pytest.approx(5.0)
    assert not any(scan.verify().values())
    (plate,) = Reader(parse_url(str(reader.path)))()
    assert plate.data[0].shape == (4, 3, 1, 2 * 240, 2 * 320)
    plain = zarr.open(str(reader.path / reader.names[0] / "0" / "0"), mode="r")
    assert np.array_equal(np.moveaxis(plain[2, :, 0], 0, -1), reader.frame(reader.names[0], 2))


def test_a_stop_is_obeyed_in_the_dark_while_the_disk_hangs(
    slide_file: Path,
    tmp_path: Path,
    firmware: IlluminateFirmware,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    returned, asked = threading.Event(), threading.Event()
    write = PositionFiles.write

    def hang(self: PositionFiles, index: int, image: RawImage) -> None:
        asked.set()
        assert returned.wait(30)
        write(self, index, image)

    monkeypatch.setattr(PositionFiles, "write", hang)
    monkeypatch.setattr(store_writer, "QUEUED_BYTES", 1)
    scan, stop = open_scan(slide_file, tmp_path / "scans"), StopRequest()
    with ThreadPoolExecutor(1) as other:
        running = other.submit(run_pass, scan, "unstained", roles, stop, force=True)
        assert asked.wait(30)
        stop.set("the test")
        deadline = time.monotonic() + 10
        while firmware.lit and time.monotonic() < deadline:
            time.sleep(0.01)
        lit = firmware.lit
        returned.set()
        with pytest.raises(InterruptedScan, match="the test"):
            running.result(30)
    assert lit == {}


def test_an_interrupted_pass_goes_on_and_keeps_what_was_finished(
    slide_file: Path, tmp_path: Path, firmware: IlluminateFirmware
) -> None:
    scan = open_scan(slide_file, tmp_path / "scans")
    stop = StopRequest()
    with pytest.raises(InterruptedScan):
        run_pass(
            scan,
            "unstained",
            roles,
            stop,
            watch=lambda engine: engine.position_finished.connect(lambda _: stop.set("SIGTERM")),
        )
    assert firmware.lit == {}
    taken = scan.folder.open_pass("unstained").names
    # The second may have been taken while the first was on its way to the disk.
    assert len(taken) in (1, 2)
    before = (scan.folder.pass_path("unstained") / taken[0] / "0" / "zarr.json").read_bytes()
    take(scan, "unstained")
    after = (scan.folder.pass_path("unstained") / taken[0] / "0" / "zarr.json").read_bytes()
    assert before == after
    assert len(scan.folder.open_pass("unstained").names) == 4


def test_a_signal_ends_the_wait_for_a_person(
    slide_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(self: BenchRoles, pass_name: str, resumed: bool) -> None:
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("the question went on")

    monkeypatch.setattr(BenchRoles, "prepare", ask)
    scan = open_scan(slide_file, tmp_path / "scans")
    with stop_on_signals() as stop, pytest.raises(InterruptedScan, match="SIGTERM"):
        run_pass(scan, "unstained", roles, stop, force=True)


@pytest.mark.parametrize("stopped", [True, False])
def test_a_disk_that_fails_is_no_bug_and_hides_no_other_reason(
    stopped: bool, slide_file: Path, tmp_path: Path
) -> None:
    scan = open_scan(slide_file, tmp_path / "scans")
    stop = StopRequest()

    def fail(engine: Engine) -> None:
        (scan.folder.path / "positions.csv").mkdir()  # cannot be replaced by a file
        if stopped:
            engine.position_finished.connect(lambda _: stop.set("the test"))

    with pytest.raises(InterruptedScan if stopped else UserError, match=r"test|does not take"):
        run_pass(scan, "unstained", roles, stop, force=True, watch=fail)


def test_a_scan_repeats_from_its_own_folder(slide_file: Path, tmp_path: Path) -> None:
    scan = open_scan(slide_file, tmp_path / "scans")
    take(scan, "unstained")
    again = open_scan(scan.folder.slide_file, tmp_path / "elsewhere")
    assert again.folder.path == scan.folder.path
    assert again.hash == scan.hash


def test_changed_settings_and_other_slides_are_refused(slide_file: Path, tmp_path: Path) -> None:
    scan = open_scan(slide_file, tmp_path / "scans")
    take(scan, "unstained")
    text = slide_file.read_text()
    slide_file.write_text(text.replace("recipe: le8deg", "recipe: brightfield"))
    with pytest.raises(UserError, match="other settings"):
        open_scan(slide_file, tmp_path / "scans")
    slide_file.write_text(text.replace("slide: D1", "slide: D2"))
    with pytest.raises(UserError, match="slide 'D1', not of 'D2'"):
        Scan(open_scan(slide_file, tmp_path).slide, scan.folder.path)


def test_own_cfg_precise_geometry_and_tables_of_one_name_do_not_look_like_other_settings(
    slide_file: Path, tmp_path: Path
) -> None:
    folder = slide_file.parent
    for name in ("low", "high"):
        (folder / name).mkdir()
    table = (folder / "exposures.csv").read_text()
    (folder / "low" / "exposures.csv").write_text(table)
    (folder / "high" / "exposures.csv").write_text(table.replace("field,,1,", "field,,2,"))
    (folder / "our.cfg").write_text("Property,Core,Initialize,0\nProperty,Core,Initialize,1\n")
    leds = load_hardware("demo.yaml", folder).geometry().leds
    (folder / "our_leds.csv").write_text(
        "led,name,x_mm,y_mm,z_mm,group\n"
        + "".join(f"{d.led},{d.name},{d.x_mm + 1e-6},{d.y_mm},{d.z_mm},{d.group}\n" for d in leds)
    )
    text = (folder / "demo.yaml").read_text().replace("MMConfig_demo.cfg", "our.cfg")
    (folder / "demo.yaml").write_text(text.replace("shipped:leds_43.csv", "our_leds.csv"))
    slide = yaml.safe_load(slide_file.read_text())
    slide["exposures"] = "low/exposures.csv"
    slide["passes"]["highres"]["exposures"] = "high/exposures.csv"
    slide_file.write_text(yaml.safe_dump(slide))
    scan = open_scan(slide_file, tmp_path / "scans")
    scan.prepare_folder()
    assert open_scan(slide_file, tmp_path / "scans").hash == scan.hash
    assert Scan(load_slide(scan.folder.slide_file), scan.folder.path).hash == scan.hash


def test_what_a_hint_says_to_change_may_be_changed_and_other_things_not(
    slide_file: Path, tmp_path: Path
) -> None:
    known = open_scan(slide_file, tmp_path).hash
    slide, hardware = slide_file.read_text(), (slide_file.parent / "demo.yaml").read_text()

    def changed(slide: str, hardware: str) -> bool:
        slide_file.write_text(slide)
        (slide_file.parent / "demo.yaml").write_text(hardware)
        return open_scan(slide_file, tmp_path).hash != known

    assert not changed(slide.replace("mode: fixed", "mode: fixed\n  range_um: 80"), hardware)
    assert not changed(slide, hardware.replace("tolerance_um: 0.1", "tolerance_um: 0.3"))
    assert not changed(slide, hardware.replace("focus_z_um: 0", "focus_z_um: 12"))
    assert changed(slide, hardware.replace("pixel_pitch_um: 10", "pixel_pitch_um: 9.9"))
    assert changed(slide, hardware.replace("led_array:", "led_array:\n  options: {first_led: 1}"))


def test_a_pass_begun_anew_recalls_no_focus(
    slide_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide_file.write_text(slide_file.read_text().replace("mode: fixed", "mode: surface"))
    scan = open_scan(slide_file, tmp_path / "scans")
    recalled: list[list[str]] = []

    def recall(focus: Focus, events: Sequence[Event]) -> bool:
        recalled.append([event["event"] for event in events])
        focus.fixed(0.0)
        return True

    monkeypatch.setattr(Focus, "recall", recall)
    take(scan, "unstained")
    take(scan, "unstained", fresh=True)
    assert recalled == [["pass_started"]] * 2
    assert (scan.folder.path / "unstained.ome.zarr.old1").is_dir()


def test_a_verdict_holds_for_the_pass_it_was_given_on(slide_file: Path, tmp_path: Path) -> None:
    scan = open_scan(slide_file, tmp_path / "scans")
    take(scan, "unstained")
    assert scan.safe_to_stain() is not None
    text = scan.folder.journal.read_text()
    started = next(line for line in text.splitlines() if "pass_started" in line)
    scan.folder.journal.write_text(text + started + "\n")
    assert scan.safe_to_stain() is None
    with pytest.raises(UserError, match=r"not been judged.*--verify"):
        run_pass(scan, "stained", roles, StopRequest())


def test_what_a_pass_begun_anew_replaces_is_kept(slide_file: Path, tmp_path: Path) -> None:
    scan = open_scan(slide_file, tmp_path / "scans")
    for name in ("unstained", "stained", "highres"):
        take(scan, name)
    take(scan, "unstained", fresh=True)
    assert scan.is_finished("unstained")
    assert not scan.is_begun("stained")
    assert scan.transform() is None
    kept = ["unstained.ome.zarr", "stained.ome.zarr", "highres.ome.zarr"]
    for file in (*kept, "transform.json", "cells.csv"):
        assert (scan.folder.path / f"{file}.old1").exists(), file


def test_a_pass_at_cells_goes_on_when_cells_were_found_anew(
    slide_file: Path, tmp_path: Path
) -> None:
    scan = open_scan(slide_file, tmp_path / "scans")
    for name in ("unstained", "stained"):
        take(scan, name)
    stop = StopRequest()
    with pytest.raises(InterruptedScan):
        run_pass(
            scan,
            "highres",
            roles,
            stop,
            watch=lambda engine: engine.frame_ready.connect(lambda *_: stop.set("SIGTERM")),
        )
    taken = scan.folder.open_pass("highres").names
    assert taken
    scan.folder.cells.write_text("cell,x_um,y_um\n1,1020,620\n")
    take(scan, "highres")
    found = scan.folder.open_pass("highres").positions
    assert [position.name for position in found[:-1]] == taken
    assert found[-1].name not in taken
    assert (found[-1].slide_x_um, found[-1].slide_y_um) == pytest.approx((1020, 620), abs=0.1)


def test_passes_come_in_order(slide_file: Path, tmp_path: Path) -> None:
    scan = open_scan(slide_file, tmp_path / "scans")
    for name in ("stained", "highres"):
        with pytest.raises(UserError, match="not finished"):
            run_pass(scan, name, roles, StopRequest())  # type: ignore[arg-type]
    take(scan, "unstained")
    with pytest.raises(UserError, match="is finished"):
        take(scan, "unstained")
    take(scan, "stained")
    with pytest.raises(UserError, match="has been stained"):
        run_pass(scan, "unstained", roles, StopRequest(), fresh=True)


def test_a_damaged_frame_is_found(slide_file: Path, tmp_path: Path) -> None:
    scan = open_scan(slide_file, tmp_path / "scans")
    take(scan, "unstained")
    reader = scan.folder.open_pass("unstained")
    shard = next((reader.path / reader.names[1] / "0" / "0").glob("c/2/0/0/0/0"))
    undamaged = shard.read_bytes()
    data = bytearray(undamaged)
    data[100] ^= 0xFF
    shard.write_bytes(bytes(data))
    problems = scan.verify()["unstained"]
    assert len(problems) == 1
    assert f"position {reader.names[1]}, frame 'plate-2'" in problems[0]

    shard.write_bytes(undamaged)
    lower = next((reader.path / reader.names[0] / "0" / "1").glob("c/0/0/0/0/0"))
    data = bytearray(lower.read_bytes())
    data[100] ^= 0xFF
    lower.write_bytes(bytes(data))
    problems = scan.verify()["unstained"]
    assert problems
    assert all(f"position {reader.names[0]}" in text and "level 1" in text for text in problems)

    (reader.path / reader.names[1] / "0" / "zarr.json").write_text("{")
    journal = Journal(scan.folder.journal)
    problems = list(judge_unstained(scan, BenchRoles(), BenchRoles(), journal).problems)
    journal.close()
    assert any(f"position {reader.names[1]}: what was noted" in text for text in problems)
    assert any("level 1" in text for text in problems)  # the others are still looked at


def test_an_array_that_falls_silent_stops_the_scan(
    slide_file: Path, tmp_path: Path, firmware: IlluminateFirmware
) -> None:
    scan = open_scan(slide_file, tmp_path / "scans")

    def fall_silent(*_: object) -> None:
        firmware.faults.lost_replies = 1000

    with pytest.raises(HardwareError):
        run_pass(
            scan,
            "unstained",
            roles,
            StopRequest(),
            watch=lambda engine: engine.position_finished.connect(fall_silent),
        )
    assert len(scan.folder.open_pass("unstained").names) in (1, 2)
    events = [json.loads(line) for line in scan.folder.journal.read_text().splitlines()]
    assert events[-1]["event"] == "pass_stopped"


def test_limits_hold_below_the_plan(slide_file: Path) -> None:
    with open_microscope(load_hardware("demo.yaml", slide_file.parent)) as microscope:
        with pytest.raises(UserError, match="limits"):
            microscope.move_xy(-10, 0)
        with pytest.raises(UserError, match="limits"):
            microscope.move_z(301)
        microscope.move_z(250)
        microscope.set_objective("100x")
        assert microscope.position_um[2] == pytest.approx(250, abs=0.1)


def test_retracting_never_brings_slide_and_objective_together(slide_file: Path) -> None:
    hardware = yaml.safe_load((slide_file.parent / "demo.yaml").read_text())
    hardware["stage"]["z_um"] = [0, 300]
    (slide_file.parent / "shallow.yaml").write_text(yaml.safe_dump(hardware))
    with open_microscope(load_hardware("shallow.yaml", slide_file.parent)) as microscope:
        core, label = microscope._core, microscope.hardware.stage.z_device
        type(core).setPosition(core, label, -100.0)  # by hand, beyond the limit
        core.waitForDevice(label)
        microscope.retract()
        assert microscope.position_um[2] == pytest.approx(-100, abs=0.1)


def test_a_silent_port_and_a_missing_device_are_named(slide_file: Path) -> None:
    text = (slide_file.parent / "demo.yaml").read_text()
    broken = slide_file.parent / "broken.yaml"
    broken.write_text(text.replace("device: Camera", "device: Kamera"))
    with pytest.raises(UserError, match="'Kamera': the core has no such device"):
        open_microscope(load_hardware(str(broken)))
    broken.write_text(text.replace("MMConfig_demo.cfg", "nowhere.cfg"))
    with pytest.raises(UserError, match=r"nowhere\.cfg"):
        open_microscope(load_hardware(str(broken)))


def test_a_shutter_opens_with_the_microscope_and_closes_with_it(slide_file: Path) -> None:
    hardware = yaml.safe_load((slide_file.parent / "demo.yaml").read_text())
    hardware["camera"]["shutter"] = "White Light Shutter"
    (slide_file.parent / "shutter.yaml").write_text(yaml.safe_dump(hardware))
    with open_microscope(load_hardware("shutter.yaml", slide_file.parent)) as microscope:
        core = microscope._core
        assert core.getShutterOpen("White Light Shutter")
        microscope._set_shutter(False)
        assert not core.getShutterOpen("White Light Shutter")


def test_a_check_of_the_devices_leaves_the_shutter_closed_and_tells_of_an_array_that_dies(
    slide_file: Path, firmware: IlluminateFirmware, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardware = yaml.safe_load((slide_file.parent / "demo.yaml").read_text())
    hardware["camera"]["shutter"] = "White Light Shutter"
    hardware["led_array"] |= {"reconnect_s": 0}
    hardware["checks"]["brightness"] = True
    (slide_file.parent / "shutter.yaml").write_text(yaml.safe_dump(hardware))
    moved: list[bool] = []
    set_shutter = Microscope._set_shutter

    def note(self: Microscope, is_open: bool) -> None:
        set_shutter(self, is_open)
        moved.append(is_open)

    def die(self: Microscope, name: str) -> tuple[int, ...]:
        firmware.faults.lost_commands = 1000
        return (0,)

    monkeypatch.setattr(Microscope, "_set_shutter", note)
    monkeypatch.setattr(Microscope, "pattern", die)
    check = DeviceCheck(load_hardware("shutter.yaml", slide_file.parent), StopRequest())
    answers = {answer.part: answer for answer in check.run()}
    assert answers["camera"].is_well
    assert "silent" in answers["light"].message
    assert moved == [True, False]


def test_a_stained_slide_is_not_scanned_as_an_unstained_one(
    slide_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BenchRoles, "looks_stained", lambda self, image: True)
    scan = open_scan(slide_file, tmp_path / "scans")
    with pytest.raises(UserError, match="stained already"):
        run_pass(scan, "unstained", roles, StopRequest())
    assert not scan.is_begun("unstained")
    take(scan, "unstained")
    assert scan.is_finished("unstained")


@pytest.mark.parametrize(
    ("camera", "properties", "told"),
    [
        ({}, {}, None),
        (
            {"size_px": [160, 120]},
            {"Binning": 2},
            "bins 2 x 2 pixels, the hardware file says 1 x 1",
        ),
        ({"size_px": [160, 120], "binning": 2}, {"Binning": 2}, None),
        ({"size_px": [300, 240]}, {}, r"reads out 320 x 240 pixels from \(0, 0\)"),
        ({"pixel_pitch_um": 5.86}, {}, "a pixel is 0.5 µm under 20x, .* makes it 0.293"),
        ({}, {"TransposeMirrorX": 1}, "TransposeMirrorX is 1.*says mirrored: false"),
        ({"mirrored": True}, {"TransposeMirrorY": 1}, None),
        ({"mirrored": True}, {"TransposeMirrorX": 1, "TransposeXY": 1}, "says mirrored: true"),
    ],
)
def test_what_the_core_says_of_the_camera_is_compared_with_the_file(
    slide_file: Path,
    camera: dict[str, object],
    properties: dict[str, object],
    told: str | None,
) -> None:
    path = slide_file.with_name("demo.yaml")
    hardware = yaml.safe_load(path.read_text())
    hardware["camera"] |= camera
    hardware["camera"]["properties"] |= properties
    path.write_text(yaml.safe_dump(hardware))
    with open_microscope(load_hardware("demo.yaml", slide_file.parent)) as microscope:
        microscope.set_objective("20x")
        if told is None:
            microscope.check_camera()
            return
        with pytest.raises(UserError, match=told):
            microscope.check_camera()


def test_a_gain_that_takes_only_listed_values_can_be_set(slide_file: Path) -> None:
    path = slide_file.with_name("demo.yaml")
    hardware = yaml.safe_load(path.read_text())
    hardware["camera"] |= {"gain_property": "Binning", "gain_range": [1, 8]}
    path.write_text(yaml.safe_dump(hardware))
    with open_microscope(load_hardware("demo.yaml", slide_file.parent)) as microscope:
        assert microscope.snap(1.0, 2.0).shape[:2] == (120, 160)


class RoundingCore:
    """A camera that takes another exposure or gain than it is given."""

    def getExposure(self, device: str) -> float:
        return 2.5

    def getProperty(self, device: str, name: str) -> str:
        return "4.0000"


def test_an_exposure_or_gain_that_the_camera_does_not_take_is_named() -> None:
    core: Any = RoundingCore()
    check_exposure(core, "Camera", 2.48)
    check_gain(core, "Camera", "Gain", 4.02)
    with pytest.raises(UserError, match=r"given an exposure of 10 ms and took 2\.5 ms"):
        check_exposure(core, "Camera", 10.0)
    with pytest.raises(UserError, match="given a gain of 8 and took 4"):
        check_gain(core, "Camera", "Gain", 8.0)
