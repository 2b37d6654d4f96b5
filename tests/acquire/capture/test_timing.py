"""Stacks stepped by cables and by the computer, through the real serial driver, simulated."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from plsctl.acquire.bench.device_check import DeviceCheck
from plsctl.acquire.capture.hardware_stack import HardwareStack
from plsctl.acquire.capture.series import group_frames
from plsctl.acquire.capture.shading import blocks, wrong_shading
from plsctl.acquire.capture.stack import TakenFrame
from plsctl.acquire.capture.stack_timing import open_stack
from plsctl.acquire.coordinates import CameraOrientation
from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.microscope import open_microscope
from plsctl.acquire.errors import HardwareError, InterruptedScan, UserError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.exposures import greatest_loss, level_exposures, load_exposures
from plsctl.acquire.plans.plan import frame_records
from plsctl.acquire.plans.slide import load_slide
from plsctl.acquire.scanning.pass_run import PassResult, run_pass
from plsctl.acquire.scanning.scan import open_scan
from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.records import FrameRecord
from plsctl.cli.shared.roles import make_roles
from plsctl.sim.firmware.board import LedBoard
from plsctl.sim.firmware.ports import REGISTRY


def hardware_file(folder: Path, timing: str = "hardware", **options: Any) -> Path:
    """The real-time microscope's cables and tiny images; time jumps unless told otherwise."""
    described = yaml.safe_load(load_hardware("simulator_realtime").file.read_text())
    described["camera"]["size_px"] = [256, 192]
    described["timing"] = timing
    described["options"] |= {"clock": "jumping", "prepared": None} | options
    described["options"]["mount"] = {"drift_um_per_min": 0.0, "focus_error_um": 0.0}
    path = folder / f"{timing}.yaml"
    path.write_text(yaml.safe_dump(described))
    return path


def slide_file(folder: Path, hardware: Path, slide: str, recipe: str = "le18deg") -> Path:
    path = folder / f"{slide}.yaml"
    content = {
        "slide": slide,
        "hardware": hardware.name,
        "region": {"x_um": [10000, 10070], "y_um": [5000, 5100]},
        "recipe": recipe,
        "exposures": "shipped:exposures_20x.csv",
        "focus": {"mode": "fixed"},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def scan(slide: Path, out: Path) -> PassResult:
    return run_pass(
        open_scan(slide, out),
        "unstained",
        lambda operator: make_roles(operator, True),
        StopRequest(),
        force=True,
    )


class Unhurried:
    def check(self) -> None:
        pass

    def hold(self) -> bool:
        return False


def frames_of(hardware: Hardware, recipe: str = "le18deg") -> tuple[FrameRecord, ...]:
    slide = load_slide(Path(__file__).parents[3] / "examples" / "small.yaml")
    table = slide.load_exposures("unstained")
    return frame_records(recipe, table, hardware.geometry(), 0.4)


@pytest.mark.parametrize("sequenced", [True, False])
def test_series_never_trigger_a_camera_that_still_reads_out(sequenced: bool) -> None:
    hardware = load_hardware("simulator_realtime")
    frames = frames_of(hardware, "full")
    groups = group_frames(list(enumerate(frames)), 1024 if sequenced else 0, frames[0], 6.25)
    assert sorted(i for group in groups for i in group.indices) == list(range(74))
    for group in groups:
        exposures = [shot.exposure_ms for shot in group.shots]
        assert group.shots[-1].marker == "dark"
        assert sequenced or len(set(exposures)) == 1
        # With the pause that short patterns get, whatever the LEDs need to change.
        for update_ms in (0.0, 5.4):
            read_out = -np.inf
            begun = 0.0
            for exposure in exposures:
                triggered = begun + update_ms
                ended = triggered + exposure
                assert ended >= read_out - 1e-9
                read_out = ended + 6.25
                begun = max(ended, begun + (7 if min(exposures) < 6.25 else 0))


def test_cables_and_computer_take_the_same_images(tmp_path: Path) -> None:
    taken = {}
    for timing, sequence in (("hardware", 1024), ("hardware", 0), ("software", 1024)):
        name = f"{timing}{sequence}"
        hardware = hardware_file(tmp_path, timing, camera={"exposure_sequence": sequence})
        result = scan(slide_file(tmp_path, hardware, name), tmp_path)
        assert result.totals.timing.startswith(f"{timing} timing")
        assert result.totals.retaken == 0
        reader = ScanFolder(tmp_path / name).open_pass("unstained")
        taken[name] = [reader.raw_frame("A/1", i) for i in range(14)]
    for images in taken.values():
        np.testing.assert_array_equal(images, taken["software1024"])


def test_frames_too_few_for_a_series_are_timed_by_the_computer(tmp_path: Path) -> None:
    # Of the recipe `full` three frames have gains of their own: two kinds, two and one frame.
    hardware = load_hardware(str(hardware_file(tmp_path)))
    frames = frames_of(hardware, "full")
    arrived: list[int] = []
    with open_microscope(hardware) as microscope:
        stack = open_stack(microscope, frames)
        assert stack.how.startswith("hardware timing (1 series")
        assert "3 by the computer" in stack.how
        microscope.move_xy(10100.0, 5100.0)
        wanted = list(enumerate(frames))
        stack.prepare(wanted)
        problems = stack.take(wanted, lambda taken: arrived.append(taken.index), Unhurried())
    assert problems == {}
    assert sorted(arrived) == list(range(74))
    assert {frames[index].gain for index in arrived[-3:]} == {1.02, 1.06}


def test_missing_cables_are_named_and_nothing_waits_for_ever(tmp_path: Path) -> None:
    hardware = hardware_file(tmp_path, wiring="none")
    check = DeviceCheck(load_hardware(str(hardware)), StopRequest())
    check.run()
    wrong = [answer for answer in check.answers if not answer.is_well]
    assert [answer.part for answer in wrong] == ["trigger cables"]
    assert "trigger output" in wrong[0].remedy
    with pytest.raises(HardwareError, match="no image within"):
        scan(slide_file(tmp_path, hardware, "uncabled"), tmp_path)


def test_a_stop_is_told_even_where_the_array_is_lost_at_that_moment(tmp_path: Path) -> None:
    described = load_hardware(str(hardware_file(tmp_path)))
    leds = described.led_array.model_copy(update={"reconnect_s": 0.0})
    hardware = described.model_copy(update={"led_array": leds})
    frames = frames_of(hardware)
    with open_microscope(hardware) as microscope:
        board = REGISTRY.find(hardware.led_array.port.removeprefix("simled://"))
        assert isinstance(board, LedBoard)

        def pull_the_cable(_: TakenFrame) -> None:
            board.unplugged = True
            raise InterruptedScan("stopped by the test.")

        with pytest.raises(InterruptedScan, match="the test"):
            HardwareStack(microscope, frames).take(
                list(enumerate(frames)), pull_the_cable, Unhurried()
            )


def test_what_cannot_be_timed_by_cables_says_so(tmp_path: Path) -> None:
    described = yaml.safe_load(hardware_file(tmp_path).read_text())
    del described["camera"]["trigger"]
    path = tmp_path / "hardware.yaml"
    path.write_text(yaml.safe_dump(described))
    hardware = load_hardware(str(path))
    with open_microscope(hardware) as microscope:
        with pytest.raises(UserError, match=r"camera\.trigger"):
            open_stack(microscope, frames_of(hardware))
        auto = hardware.model_copy(update={"timing": "auto"})
        microscope.hardware = auto
        assert "camera.trigger" in open_stack(microscope, frames_of(hardware)).how


def test_two_leds_exchanged_in_the_table_are_noticed(tmp_path: Path) -> None:
    table = load_hardware("simulator_small").resolve("leds_43.csv").read_text().splitlines()
    rows = [row.split(",") for row in table if not row.startswith("#")]
    by_name = {row[1]: row for row in rows}
    one, other = by_name["arm1-10"], by_name["arm3-10"]
    # The geometry keeps names and places; the board's numbers are exchanged, as by two cables.
    one[0], other[0] = other[0], one[0]
    (tmp_path / "crossed.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
    sound = load_hardware(str(hardware_file(tmp_path, "software")))
    with open_microscope(sound) as microscope:
        microscope.move_xy(10100.0, 5100.0)
        microscope.move_z(5000.0)
        crossed = sound.led_array.model_copy(update={"geometry": str(tmp_path / "crossed.csv")})
        frames = frames_of(sound.model_copy(update={"led_array": crossed}))
        taken: list[TakenFrame] = []
        open_stack(microscope, frames).take(list(enumerate(frames)), taken.append, Unhurried())
    single = {t.index: blocks(t.image) for t in taken if frames[t.index].direction is not None}
    directions = {i: d for i in single if (d := frames[i].direction) is not None}
    wrong = wrong_shading(single, directions, CameraOrientation(sound.camera.rotation_deg))
    assert {frames[index].label for index in wrong} == {"arm1-10", "arm3-10"}


def test_in_real_time_exposures_take_their_time(tmp_path: Path) -> None:
    images = str(tmp_path / "images")
    hardware = load_hardware(str(hardware_file(tmp_path, clock="real", prepared=images)))
    frames = frames_of(hardware)
    needed_s = sum(frame.exposure_ms for frame in frames) / 1000
    with open_microscope(hardware) as microscope:
        stack = HardwareStack(microscope, frames)
        for _ in range(2):
            taken: list[TakenFrame] = []
            began, before = time.perf_counter(), microscope.clock.now()
            problems = stack.take(list(enumerate(frames)), taken.append, Unhurried())
            assert problems == {} and len(taken) == len(frames)
            assert time.perf_counter() - began >= needed_s
            assert microscope.clock.now() - before >= needed_s
            starts = [t.camera_time_ms for t in sorted(taken, key=lambda t: t.time_s)]
            assert np.all(np.diff(np.array(starts, dtype=float)) > 0)


def test_levels_lose_as_little_light_as_they_can(tmp_path: Path) -> None:
    table = load_exposures(load_hardware("simulator").resolve("exposures_20x.csv"))
    few = level_exposures(table, 12)
    assert len({(e.exposure_ms, e.gain) for e in few.rows.values()}) <= 12
    for frame, exposure in table.rows.items():
        light = few.rows[frame].exposure_ms * few.rows[frame].gain
        assert light <= exposure.exposure_ms * exposure.gain * (1 + 1e-9)
    dimmed = level_exposures(table, 12, dim=True)
    assert len({(e.exposure_ms, e.gain) for e in dimmed.rows.values()}) <= 12
    for frame, exposure in table.rows.items():
        found = dimmed.rows[frame]
        light = found.exposure_ms * found.gain * found.brightness
        assert light == pytest.approx(exposure.exposure_ms * exposure.gain)
        assert found.brightness <= 1
    # Equal steps over the range would lose more.
    amounts = sorted(e.exposure_ms * e.gain for e in table.rows.values())
    assert 1 - greatest_loss(table, few) > (amounts[0] / amounts[-1]) ** (1 / 12)
