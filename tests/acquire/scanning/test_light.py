"""Light that changes at once is noticed and its positions retaken; slow drift is measured."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from plsctl.acquire.capture.light import bright_levels, level_of, light_course, lit_share
from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.devices.microscope import open_microscope
from plsctl.acquire.errors import HardwareError
from plsctl.acquire.focus.search import FocusSearch
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.slide import FocusSettings
from plsctl.acquire.scanning.light_guard import LightGuard, StackLight
from plsctl.acquire.scanning.pass_run import PassResult, run_pass
from plsctl.acquire.scanning.scan import Scan, open_scan
from plsctl.acquire.store.journal import Journal, read_journal
from plsctl.acquire.store.records import FrameRecord
from plsctl.cli.shared.roles import make_roles
from plsctl.process.focus.sharpness import GradientFocusMeasure

LASTING = 10_000


class Bench:
    """A tiny simulated microscope, four positions, time that jumps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def scan(
        self, fault: dict[str, Any] | None = None, timing: str = "software", **options: Any
    ) -> Scan:
        hardware = yaml.safe_load(load_hardware("simulator_realtime").file.read_text("utf-8"))
        hardware["camera"]["size_px"] = [192, 144]
        hardware["timing"] = timing
        hardware["checks"] = {"orientation": False}
        hardware["options"] |= {
            "clock": "jumping",
            "prepared": None,
            "mount": {"drift_um_per_min": 0.0, "focus_error_um": 0.0, "tilt_um_per_mm": 0.0},
            "faults": [fault] if fault else [],
        } | options  # fmt: skip
        (self.folder / "microscope.yaml").write_text(yaml.safe_dump(hardware), "utf-8")
        content = {
            "slide": "light",
            "hardware": "microscope.yaml",
            "region": {"x_um": [10000, 10100], "y_um": [5000, 5080], "overlap": 0.0},
            "recipe": "le18deg",
            "exposures": "shipped:exposures_20x.csv",
            "focus": {"mode": "fixed"},
        }
        (self.folder / "slide.yaml").write_text(yaml.safe_dump(content), "utf-8")
        return open_scan(self.folder / "slide.yaml", self.folder)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def take(scan: Scan, fresh: bool = False) -> PassResult:
    roles = lambda who: make_roles(who, True)  # noqa: E731
    return run_pass(scan, "unstained", roles, StopRequest(), fresh=fresh)


def steps(scan: Scan) -> list[dict[str, Any]]:
    return [event for event in read_journal(scan.folder.journal) if event["event"] == "light_step"]


def light_factors(scan: Scan) -> list[float]:
    reader = scan.folder.open_pass("unstained")
    return [float(reader.position_metadata(name)["light_factor"]) for name in reader.names]


@pytest.mark.parametrize(
    ("fault", "compared"),
    [
        ({"kind": "controller_restarts", "at": 40, "level": 128}, False),
        ({"kind": "light_steps", "at": 21, "factor": 0.8, "times": 5}, True),
        (None, False),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
def test_a_passing_step_costs_its_position_once_and_nothing_of_it_is_kept(
    bench: Bench, fault: dict[str, Any] | None, compared: bool
) -> None:
    scan = bench.scan(fault)
    result = take(scan)
    assert result.totals.retaken == (14 if fault else 0)
    assert result.totals.light_steps == (1 if fault else 0)
    assert bool(steps(scan)) == (fault is not None and not compared)
    assert result.totals.positions == 4
    assert light_factors(scan) == pytest.approx([1, 1, 1, 1], abs=0.04)
    assert result.light.change < 0.05


@pytest.mark.parametrize("at", [24, 34])
def test_a_restart_amid_a_series_costs_that_series_at_most(bench: Bench, at: int) -> None:
    scan = bench.scan({"kind": "controller_restarts", "at": at, "level": 100}, "hardware")
    result = take(scan)
    assert result.totals.positions == 4
    assert result.totals.retaken <= 14
    assert light_factors(scan) == pytest.approx([1, 1, 1, 1], abs=0.04)


@pytest.mark.parametrize(("factor", "timing"), [(0.87, "software"), (1.15, "hardware")])
def test_a_lasting_step_stops_the_scan_and_the_next_run_says_how_much_it_was(
    bench: Bench, factor: float, timing: str
) -> None:
    fault = {"kind": "light_steps", "at": 30, "factor": factor, "times": LASTING}
    scan = bench.scan(fault, timing)
    with pytest.raises(HardwareError, match=r"of what it was at position .* --fresh") as caught:
        take(scan)
    told = float(caught.value.message.split()[3])
    assert told == pytest.approx(factor, abs=0.02)
    assert steps(scan)
    kept = light_factors(scan)
    assert kept == pytest.approx([1.0] * len(kept), abs=0.04)
    scan = bench.scan({**fault, "at": 0}, timing)
    result = take(scan)
    assert result.light.change == pytest.approx(1 - min(factor, 1 / factor), abs=0.04)
    assert result.verdict is not None
    assert not any("the light" in problem for problem in result.verdict.problems)


@pytest.mark.parametrize(("share", "is_held"), [(0.2, True), (0.35, False)])
def test_slow_drift_is_measured_and_held_up_to_its_limit(
    bench: Bench, share: float, is_held: bool
) -> None:
    steady = bench.scan()
    take(steady)
    reader = steady.folder.open_pass("unstained")
    frames = [reader.position_metadata(name)["frames"] for name in reader.names]
    first_s, last_s = (frames[place][0]["time_s"] for place in (0, -1))
    rate = 100 * math.log(1 - share) * 60 / (last_s - first_s)
    scan = bench.scan(lamp={"drift_percent_per_min": rate, "drifts_from_s": first_s})
    result = take(scan, fresh=True)
    assert not steps(scan)
    assert result.verdict is not None
    told = [problem for problem in result.verdict.problems if "the light fell by" in problem]
    assert bool(told) != is_held
    assert result.verdict.light.change == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("bayer", [None, "RGGB"])
def test_the_level_under_one_colour_is_that_of_the_pixels_it_reaches(bayer: str | None) -> None:
    field = np.random.default_rng(1).normal(120, 2, (200, 300)).astype(np.uint8)
    field[60:120] //= 2  # cells
    image = np.zeros((200, 300, 3) if bayer is None else (200, 300), np.uint8)
    if bayer is None:
        image[..., 0] = field
    else:
        image[::2, ::2] = field[::2, ::2]
    frame = FrameRecord(
        label="red", led="red", variant="", leds=(1,), exposure_ms=1, gain=1, brightness=1,
        direction=None, bright_field=True, colour="red",
    )  # fmt: skip
    share = lit_share(frame, bayer)
    assert level_of(image, 0.0, share) == pytest.approx(level_of(field, 0.0), abs=1)


def test_focus_is_sought_in_as_much_light_as_the_array_may_give(bench: Bench) -> None:
    hardware = bench.scan().hardware
    few = hardware.led_array.model_copy(update={"max_light": 2.0})
    stop = StopRequest()
    with open_microscope(hardware.model_copy(update={"led_array": few})) as microscope:
        search = FocusSearch(microscope, GradientFocusMeasure(), FocusSettings(), stop)
        light = search.measure_light()
    assert len(light.leds) * light.brightness == pytest.approx(2)


def test_positions_taken_before_levels_were_noted_do_not_count_as_a_change() -> None:
    frame = FrameRecord(
        label="brightfield", led="brightfield", variant="", leds=(1,), exposure_ms=1, gain=1,
        brightness=1, direction=None, bright_field=True,
    )  # fmt: skip
    # One light: half of the second field is cells, and its median that of a cell.
    noted = {"A/1": {"median": 60.0}, "A/2": {"median": 60.0, "level": 120.0}}
    course = light_course({name: bright_levels([frame], [of]) for name, of in noted.items()})
    assert course.names == ("A/2",) and course.change == 0


@pytest.mark.parametrize("is_last", [False, True])
def test_a_darker_field_does_not_end_a_scan_whose_light_is_the_same(
    is_last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = FrameRecord(
        label="brightfield", led="brightfield", variant="", leds=(1,), exposure_ms=1, gain=1,
        brightness=1, direction=None, bright_field=True,
    )  # fmt: skip
    microscope = SimpleNamespace(
        hardware=SimpleNamespace(checks=SimpleNamespace(brightness=True)),
        clock=SimpleNamespace(now=lambda: 0.0),
        leds=SimpleNamespace(forget_state=lambda: None),
        move_xy=lambda x, y: None,
        move_z=lambda z: None,
    )
    journal = Journal(tmp_path / "scan.jsonl")
    guard = LightGuard(microscope, journal, [frame], 0.0, None)  # type: ignore[arg-type]
    monkeypatch.setattr(guard, "_look_back", lambda before: 1.0)
    guard.begin()
    guard.finished("A/1", (0, 0, 0), StackLight({0: 100.0}, {0: 90.0}, None))
    guard.begin()
    darker = StackLight({0: 80.0}, {0: 70.0}, None)
    problem = guard.problem("A/2", (500, 0, 0), darker, is_last)
    journal.close()
    # Frames that are taken for the last time may be those of a field of many cells.
    assert bool(problem) != is_last
