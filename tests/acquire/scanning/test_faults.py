"""What a scan does when a device fails: it goes on or stops, and nothing wrong is kept.

The whole matrix, as runs of the command line, is benchmarks/acquire/faults.py (docs/faults.md).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from plsctl.acquire.capture.frame_checks import FrameInspector, measure
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.devices.hardware_parts import ChecksSettings
from plsctl.acquire.errors import HardwareError
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.leds.geometry import standard_array
from plsctl.acquire.scanning.pass_run import PassResult, run_pass
from plsctl.acquire.scanning.scan import open_scan
from plsctl.acquire.scanning.verdict import judge_pass
from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.reader import PassReader
from plsctl.cli.shared.roles import make_roles
from plsctl.sim.backend import open_world

SLIDE = "F1"
EXPOSURES = 6
"""A frame that was taken again is one of the first exposures of its scene."""


class Bench:
    """A tiny simulated microscope, two positions of fourteen frames, time that jumps."""

    def __init__(self, folder: Path, prepared: Path, timing: str) -> None:
        self.folder = folder
        self.prepared = prepared
        self.timing = timing

    def hardware(self, fault: dict[str, Any] | None = None) -> Path:
        described = yaml.safe_load(load_hardware("simulator_realtime").file.read_text())
        described["camera"]["size_px"] = [256, 192]
        described["timing"] = self.timing
        described["led_array"]["reconnect_s"] = 5 if fault and fault.get("seconds") == 2 else 0
        described["options"] |= {
            "clock": "jumping",
            "prepared": str(self.prepared),
            "led_log": str(self.folder / "leds.jsonl"),
            "mount": {"drift_um_per_min": 0.0, "focus_error_um": 0.0},
            "faults": [fault] if fault else [],
        }
        path = self.folder / "hardware.yaml"
        path.write_text(yaml.safe_dump(described))
        return path

    def scan(self, fault: dict[str, Any] | None = None) -> PassResult:
        slide = self.folder / "slide.yaml"
        region = {"x_um": [10000, 10140], "y_um": [5000, 5050], "overlap": 0.0}
        content = {
            "slide": SLIDE,
            "hardware": self.hardware(fault).name,
            "region": region,
            "recipe": "le18deg",
            "exposures": "shipped:exposures_20x.csv",
            "focus": {"mode": "fixed"},
        }
        slide.write_text(yaml.safe_dump(content))
        return run_pass(
            open_scan(slide, self.folder),
            "unstained",
            lambda operator: make_roles(operator, True),
            StopRequest(),
        )

    @property
    def lit(self) -> list[int]:
        lines = (self.folder / "leds.jsonl").read_text().splitlines()
        return list(json.loads(lines[-1])["lit"])

    @property
    def images(self) -> PassReader:
        return ScanFolder(self.folder / SLIDE).open_pass("unstained")

    def rejected(self) -> list[str]:
        lines = (self.folder / SLIDE / "scan.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return [event["reason"] for event in events if event["event"] == "frame_rejected"]

    def wrong_frames(self) -> list[str]:
        """Frames that the camera does not give at their place under their LEDs."""
        reader = self.images
        world = open_world(load_hardware(str(self.hardware())))
        wrong = []
        for place in reader.positions:
            before_um = world.hardware.stage.backlash_um
            world.move_xy(place.x_um - before_um, place.y_um - before_um)
            world.move_xy(place.x_um, place.y_um)
            world.move_z(place.z_um)
            for index, frame in enumerate(reader.attributes.frames):
                image = reader.raw_frame(place.name, index)
                world.lit = dict.fromkeys(frame.leds, frame.brightness)
                if not any(
                    np.array_equal(world.image(frame.exposure_ms, frame.gain), image)
                    for _ in range(EXPOSURES)
                ):
                    wrong.append(f"{place.name} {frame.label}")
        return wrong


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated images that several scans share."""
    return tmp_path_factory.mktemp("prepared")


@pytest.mark.parametrize(
    ("timing", "fault", "reason"),
    [
        ("hardware", {"kind": "dropped_frame", "at": 12}, "missing or out of order"),
        ("hardware", {"kind": "reordered_frames", "at": 9}, "missing or out of order"),
        ("hardware", {"kind": "swapped_frames", "at": 7}, "was lit from"),
        ("hardware", {"kind": "missed_trigger", "at": 9}, "gave no image"),
        ("hardware", {"kind": "serial_half_reply", "at": 32}, None),
        ("software", {"kind": "dark_frame", "at": 9}, "was dark"),
        ("software", {"kind": "repeated_frame", "at": 20}, "image before it once more"),
        ("software", {"kind": "camera_timeout", "at": 9}, "no image came from the camera"),
        ("software", {"kind": "serial_unplugged", "at": 30, "seconds": 2}, None),
        ("software", {"kind": "stage_stalls", "at": 8}, None),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
def test_a_passing_fault_costs_a_frame_at_most_and_none_is_wrong(
    tmp_path: Path, prepared: Path, timing: str, fault: dict[str, Any], reason: str | None
) -> None:
    bench = Bench(tmp_path, prepared, timing)
    result = bench.scan(fault)
    assert result.verdict is not None
    assert result.verdict.safe
    assert len(bench.images.names) == 2
    assert bench.wrong_frames() == []
    assert bench.lit == []
    if reason is not None:
        assert reason in bench.rejected()[0]


@pytest.mark.parametrize(
    ("timing", "fault", "told"),
    [
        ("software", {"kind": "dark_led", "led": "arm3-10"}, r"'arm3-10' .* was dark .*this LED"),
        ("hardware", {"kind": "dark_led", "led": "arm3-10"}, r"'arm3-10' .* was dark .*this LED"),
        ("hardware", {"kind": "dropped_frame", "at": 25, "times": 99}, "ended its series"),
        ("software", {"kind": "stage_overshoots", "at": 8, "times": 99}, "28.3 µm away.*blocks"),
        (
            "software",
            {"kind": "serial_unplugged", "at": 40, "seconds": 1e9},
            "lost .*may still shine.*Check the cable .* run the same command again",
        ),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
def test_a_lasting_fault_stops_the_scan_with_a_remedy_and_it_is_resumed(
    tmp_path: Path, prepared: Path, timing: str, fault: dict[str, Any], told: str
) -> None:
    bench = Bench(tmp_path, prepared, timing)
    if "led" in fault:
        fault = fault | {"led": standard_array().named(fault["led"]).led}
    with pytest.raises(HardwareError, match=told):
        bench.scan(fault)
    if fault["kind"] != "serial_unplugged":
        assert bench.lit == []
    before = {name: bench.images.position_metadata(name) for name in bench.images.names}
    assert len(before) == (0 if "led" in fault else 1)
    assert bench.scan().totals.positions == 2 - len(before)
    assert {name: bench.images.position_metadata(name) for name in before} == before
    assert bench.wrong_frames() == []
    assert bench.lit == []


def test_frames_without_light_are_not_taken_for_repeated_ones(
    tmp_path: Path, prepared: Path
) -> None:
    bench = Bench(tmp_path, prepared, "software")
    slide = bench.scan()
    assert slide.verdict is not None
    attributes = bench.images.attributes
    dark_field = attributes.frames[-1].model_copy(update={"bright_field": False})
    inspector = FrameInspector(load_hardware(str(bench.hardware())), attributes)
    inspector.begin()
    for level, problem in ((attributes.black_level, ""), (90, "image before it once more")):
        image = np.full((192, 256), level, dtype=np.uint8)
        metadata = measure(image, attributes, 1, 0.0)
        inspector.problem(0, dark_field, image, metadata)
        found = inspector.problem(1, dark_field, image.copy(), metadata)
        assert problem in found
        assert bool(problem) == bool(found)


def test_a_dark_field_without_any_light_is_asked_for_once_more(
    tmp_path: Path, prepared: Path
) -> None:
    bench = Bench(tmp_path, prepared, "software")
    bench.scan()
    attributes = bench.images.attributes
    first, second = attributes.frames[:2]
    frames = [first, second.model_copy(update={"bright_field": False})]
    inspector = FrameInspector(load_hardware(str(bench.hardware())), attributes)
    levels = (180, attributes.black_level)
    images = [np.full((192, 256), level, dtype=np.uint8) for level in levels]
    metadata = {i: measure(image, attributes, 1, 0.0) for i, image in enumerate(images)}
    inspector.begin()
    assert set(inspector.stack_problems(frames, metadata)) == {0, 1}
    # Bright field came out bright again: the field is empty.
    assert inspector.stack_problems(frames, metadata) == {}


def test_a_verdict_names_the_checks_that_were_left_out(tmp_path: Path, prepared: Path) -> None:
    bench = Bench(tmp_path, prepared, "software")
    bench.scan()
    roles = make_roles(None, True)
    for name in ("brightness", "repeats", "direction"):
        checks = ChecksSettings(**{name: False})
        verdict = judge_pass(bench.images, roles.focus, roles.shifts, checks=checks)
        assert f"checks.{name} is false" in verdict.in_words
        assert verdict.in_words.startswith("yes (not checked: ")
