"""The lens never meets the slide: limits, drawing back, the person's hands, and who watches it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from plsctl.acquire.bench.device_check import DeviceCheck
from plsctl.acquire.bench.handling import make_ready
from plsctl.acquire.devices.camera import _number
from plsctl.acquire.devices.core_camera import check_exposure, check_gain
from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.microscope import Microscope, open_microscope
from plsctl.acquire.devices.stage import Stage
from plsctl.acquire.errors import HardwareError, InterruptedScan, PlsctlError, UserError
from plsctl.acquire.focus.sweep import find_focus
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.kept_settings import settings_hash
from plsctl.acquire.roles import Operator
from plsctl.acquire.scanning.engine import Engine
from plsctl.acquire.scanning.pass_run import run_pass
from plsctl.acquire.scanning.scan import Scan, open_scan
from plsctl.cli.shared.roles import ConsoleOperator, make_roles
from plsctl.sim.backend import open_world

SLIDE = """\
slide: L1
hardware: scope.yaml
region: {x_um: [10000, 10120], y_um: [5000, 5050], overlap: 0.0}
recipe: brightfield
exposures: shipped:exposures_20x.csv
focus: {mode: fixed}
slide_return: {search: none}
passes:
  unstained: {objective: 20x}
  stained: {objective: 20x}
  highres: {objective: 100x, exposures: shipped:exposures_100x.csv}
"""
LOADING = [2000.0, 12000.0]


def describe(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Hardware:
    """The small simulated microscope, its sensor tiny, and what a test changes in its file."""
    found = yaml.safe_load(load_hardware("simulator_small").file.read_text())
    found["camera"]["size_px"] = [256, 192]
    found["options"]["mount"] = {
        "focus_error_um": 0.0,
        "drift_um_per_min": 0.0,
        "return_shift_um": [0.0, 0.0],
        "return_rotation_deg": 0.0,
    }
    change(found)
    (folder / "scope.yaml").write_text(yaml.safe_dump(found))
    return load_hardware("scope.yaml", folder)


def scan_of(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Scan:
    describe(folder, change)
    (folder / "slide.yaml").write_text(SLIDE)
    return open_scan(folder / "slide.yaml", folder / "scans")


def take(scan: Scan, name: Any = "unstained", yes: bool = True, **more: Any) -> None:
    roles = lambda operator: make_roles(operator, yes)  # noqa: E731
    run_pass(scan, name, roles, more.pop("stop", StopRequest()), force=True, **more)


def turret(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda found: found["turret"].update(changes)


def stage(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda found: found["stage"].update(changes)


def lens(name: str, **changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda found: found["turret"]["objectives"][name].update(changes)


# What the hardware file says ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field", "told"),
    [
        (lens("100x", z_um=[5250, 2000]), "turret.objectives.100x.z_um", r"must be \[low, high\]"),
        (lens("100x", z_um=[4600, 5250]), "turret.objectives.100x.z_um", "drawn back down by 500"),
        (lens("100x", z_um=[4600, 4900]), "turret.objectives.100x.offset_z_um", "5012.*outside"),
        (lens("20x", z_um=[2000, 60e3]), "turret.objectives.20x.z_um", r"within stage.z_um \(0 to"),
        (lens("100x", offset_z_um=-4000), "turret.objectives.100x.offset_z_um", "1000 µm"),
        (turret(retract_direction="up"), "turret.objectives.100x.z_um", "drawn back up by 500"),
        (stage(loading_um=[-5, 0]), "stage.loading_um", "x = -5 µm, outside"),
        (stage(loading_um=[0, 99e3]), "stage.loading_um", "y = 99000 µm, outside"),
        (stage(loading_um=[0, 0, 4800]), "stage.loading_um", "is not drawn back by 500"),
        (stage(loading_um=[0]), "stage.loading_um", r"\[2000, 12000\]"),
        (stage(loading_um=[0, math.nan]), "stage.loading_um.1", "a finite number"),
        (lens("20x", z_um=[0]), "turret.objectives.20x.z_um", r"\[3000, 5100\]"),
        (stage(homing="yes"), "stage.homing", "ask"),
        (turret(device=None), "turret", "manual: true"),
    ],
)
def test_limits_and_directions_that_contradict_each_other_are_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], field: str, told: str
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        describe(tmp_path, change)
    assert (caught.value.field, Path(str(caught.value.file)).name) == (field, "scope.yaml")
    assert caught.value.line


def test_a_scan_begun_without_the_new_fields_goes_on_with_them(tmp_path: Path) -> None:
    def before(found: dict[str, Any]) -> None:
        del found["stage"]["homing"]
        for objective in found["turret"]["objectives"].values():
            del objective["z_um"]

    old = scan_of(tmp_path, before)
    take(old)
    new = scan_of(tmp_path, stage(loading_um=LOADING, homing="ask"))
    assert settings_hash(new.slide, new.hardware) == old.hash
    take(new, "stained")
    # And from its own folder, with the file it was begun with.
    again = open_scan(old.folder.path)
    assert again.hardware.objective("100x").z_um is None
    take(again, "highres")


# Moves ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "z_um", "field"),
    [
        ("100x", 5251, "turret.objectives.100x.z_um"),
        ("100x", 1999, "turret.objectives.100x.z_um"),
        ("100x", math.nan, "turret.objectives.100x.z_um"),
        ("20x", 6001, "turret.objectives.20x.z_um"),
        ("10x", 10_001, "stage.z_um"),
    ],
)
def test_every_objective_has_its_own_limits(
    tmp_path: Path, objective: str, z_um: float, field: str
) -> None:
    def add(found: dict[str, Any]) -> None:
        found["turret"]["objectives"]["10x"] = {"label": "10x", "magnification": 10, "na": 0.25}

    with open_microscope(describe(tmp_path, add)) as microscope:
        microscope.set_objective(objective)
        before = microscope.position_um
        with pytest.raises(UserError, match=r"outside .*offset_z_um.*retract_direction") as caught:
            microscope.move_z(z_um)
        assert caught.value.field == field
        assert microscope.position_um == before


def test_a_turret_is_not_turned_where_the_other_lens_would_leave_its_limits(
    tmp_path: Path,
) -> None:
    with open_microscope(describe(tmp_path)) as microscope:
        microscope.move_z(5300)
        with pytest.raises(UserError, match=r"5312.* of 100x .*not turned") as caught:
            microscope.set_objective("100x")
        assert caught.value.field == "turret.objectives.100x.offset_z_um"
        assert (microscope.objective_name, microscope.position_um[2]) == ("20x", 5300)


def test_a_search_for_focus_follows_its_peak_no_farther_than_the_limit() -> None:
    heights: list[float] = []

    def sharpness(z_um: float) -> float:
        heights.append(z_um)
        return 1 / (1 + ((z_um - 5200) / 10) ** 2)

    with pytest.raises(HardwareError, match=r"limits \(4500 to 5100 µm\) end the search"):
        find_focus(sharpness, 5080, 40, 2, (4500, 5100))
    assert max(heights) <= 5100
    found, _ = find_focus(sharpness, 5180, 40, 2, (4500, 5210))
    assert found == pytest.approx(5200, abs=0.2)
    assert max(heights) <= 5210
    with pytest.raises(HardwareError, match="no focus"):
        find_focus(lambda z: math.nan, 0, 8, 2)


class Core:
    """A stage and camera whose answers are wrong."""

    def __init__(self, **answers: Any) -> None:
        self.at: dict[str, Any] = {"x": 0.0, "y": 0.0, "z": 0.0, "hasProperty": True} | answers

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(*arguments: Any) -> Any:
            if name == "getXYPosition":
                return self.at["x"], self.at["y"]
            return self.at.get(name, self.at["z"] if name == "getPosition" else None)

        return answer


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_stage_that_stands_nowhere_has_not_arrived(
    tmp_path: Path, axis: str, value: float
) -> None:
    broken: Any = Core(**{axis: value})
    with pytest.raises(HardwareError, match=f"stands at {axis} = {value}"):
        _ = Stage(describe(tmp_path), broken).position_um
    move = Stage(describe(tmp_path), broken)
    with pytest.raises(HardwareError, match=f"stands at {axis}"):
        move.move_z(0.0) if axis == "z" else move.move_xy(0.0, 0.0)


@pytest.mark.parametrize(
    ("read", "told"),
    [
        (lambda: check_exposure(_core(getExposure=math.nan), "C", 1.0), "took nan ms"),
        (lambda: check_gain(_core(getProperty="nan"), "C", "G", 1.0), "took nan"),
        (lambda: _number({"T": "nan"}, "T"), "no number 'T'"),
    ],
)
def test_what_is_read_back_as_no_number_is_refused(read: Callable[[], Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read()


def _core(**answers: Any) -> Any:
    return Core(**answers)


@pytest.mark.parametrize(
    ("objective", "error_um", "stops"),
    # A fifth of 0.53 um x index / NA^2: 0.66 um at 20x, NA 0.4; 0.10 um at 100x, NA 1.25 in oil.
    [("20x", 0.6, False), ("20x", 0.75, True), ("100x", 0.09, False), ("100x", 0.15, True)],
)
def test_z_must_arrive_to_a_fifth_of_the_depth_of_field(
    tmp_path: Path, objective: str, error_um: float, stops: bool
) -> None:
    hardware = describe(tmp_path, stage(tolerance_um=5.0))
    moving = Stage(hardware, _core(z=5000 + error_um))
    moving.objective = objective
    if not stops:
        moving.move_z(5000)
        return
    with pytest.raises(HardwareError, match=rf"stopped at .* \(tolerance under {objective} 0\."):
        moving.move_z(5000)
    moving.move_z(5000, roughly=True)  # out of the way is out of the way


@pytest.mark.parametrize(("times", "arrives"), [(1, True), (9, False)])
def test_z_is_sent_a_second_time(tmp_path: Path, times: int, arrives: bool) -> None:
    def stall(found: dict[str, Any]) -> None:
        found["options"]["faults"] = [{"kind": "z_stalls", "at": 0, "times": times}]

    hardware = describe(tmp_path, stall)
    world = open_world(hardware)
    told = "stopped at 3750.00 µm" if not arrives else "nothing"
    core = _core()
    core.setPosition = lambda label, z: (world.move_z(z), core.at.update(z=world.z_um))
    try:
        Stage(hardware, core).move_z(5000)
    except HardwareError as error:
        assert told in error.message
    assert (world.z_um == 5000) is arrives


# The turret ----------------------------------------------------------------------------------


def test_an_unlisted_place_of_the_turret_is_no_objective(tmp_path: Path) -> None:
    found = yaml.safe_load(load_hardware("micromanager_demo").file.read_text())
    del found["turret"]["objectives"]["10x"]
    found["led_array"]["port"] = "simled://none"
    (tmp_path / "demo.yaml").write_text(yaml.safe_dump(found))
    from plsctl.acquire.devices.backend import open_backend

    hardware = load_hardware("demo.yaml", tmp_path)
    backend = open_backend(hardware)
    try:
        with pytest.raises(UserError, match=r"'Nikon 10X S Fluor'.*Turn it to.*20x.*list") as error:
            Microscope(hardware, backend, _led_array())
        assert (error.value.field, Path(str(error.value.file)).name) == (
            "turret.objectives",
            "demo.yaml",
        )
    finally:
        backend.close()


def _led_array() -> Any:
    class Leds:
        class identity:
            led_count = 43

    return Leds()


def by_hand(found: dict[str, Any]) -> None:
    found["turret"]["manual"] = True
    del found["turret"]["device"]


def test_three_passes_with_a_turret_that_is_turned_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = scan_of(tmp_path, by_hand)
    for name in ("unstained", "stained"):
        take(scan, name)
    scan.folder.cells.write_text("cell,x_um,y_um\n1,10060,5025\n")
    take(scan, "highres")
    assert scan.is_finished("highres")
    assert "Turn the turret to 100x" in capsys.readouterr().err


@pytest.mark.parametrize("who", ["yes", "nobody"])
def test_nobody_turns_a_turret_unless_a_person_can(tmp_path: Path, who: str) -> None:
    with open_microscope(describe(tmp_path, by_hand)) as microscope:
        with pytest.raises(UserError, match="not known yet"):
            _ = microscope.objective
        if who == "yes":
            make_ready(microscope, ConsoleOperator(True, _unpaused), StopRequest())
        told = "with --yes nobody is asked to turn it to 20x" if who == "yes" else "nobody can be"
        with pytest.raises(UserError, match=told):
            microscope.set_objective("20x")


def _unpaused() -> Any:
    from contextlib import nullcontext

    return nullcontext()


def test_a_turret_that_was_not_turned_is_not_taken_for_turned(tmp_path: Path) -> None:
    with open_microscope(describe(tmp_path, by_hand)) as microscope:
        microscope.lens.turner = lambda name: microscope._backend.operator.turn_turret(name)  # type: ignore[union-attr]
        microscope.set_objective("20x")
        assert microscope.z_limits_um == (2000, 6000)
        microscope.lens.turner = _fail
        with pytest.raises(UserError, match="I will not"):
            microscope.set_objective("100x")
        # Nobody knows where it stands: what counts is the strictest.
        assert microscope.z_limits_um == (0, 5250)


def test_a_turret_that_reports_its_place_is_compared_with_what_a_person_did(
    tmp_path: Path,
) -> None:
    with open_microscope(describe(tmp_path, turret(manual=True))) as microscope:
        assert microscope.objective_name == "20x"
        microscope.set_objective("20x")  # nobody is asked
        microscope.lens.turner = lambda name: None
        with pytest.raises(UserError, match="to be turned to 100x and stands at 20x"):
            microscope.set_objective("100x")
        microscope.lens.turner = microscope._backend.operator.turn_turret  # type: ignore[union-attr]
        microscope.set_objective("100x")
        assert microscope.objective_name == "100x"


def _fail(objective: str) -> None:
    raise UserError("I will not.")


@pytest.mark.parametrize("answer", ["yes", "no", "nobody"])
@pytest.mark.parametrize("what", ["slide", "turret", "homing"])
def test_a_person_is_taken_at_their_word(
    monkeypatch: pytest.MonkeyPatch, what: str, answer: str
) -> None:
    def confirm(*_: object, **__: object) -> bool:
        if answer == "nobody":
            raise typer.Abort
        return answer == "yes"

    monkeypatch.setattr(typer, "confirm", confirm)
    person = ConsoleOperator(False, _unpaused)
    ask = {
        "slide": lambda: person.prepare("stained", False),
        "turret": lambda: person.turn_turret("100x"),
        "homing": lambda: person.home_stage(False),
    }[what]
    if answer == "yes":
        ask()
        return
    with pytest.raises(UserError, match=r"[Rr]un the same command"):
        ask()


# Homing --------------------------------------------------------------------------------------


class Person:
    """Answers, and notes what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def prepare(self, pass_name: str, resumed: bool) -> None:
        self.asked.append("slide")

    def turn_turret(self, objective: str) -> None:
        self.asked.append(objective)

    def home_stage(self, by_core: bool) -> None:
        self.asked.append(f"home {by_core}")


@pytest.mark.parametrize(
    ("homing", "asked", "homed"),
    [("none", [], False), ("ask", ["home False"], False), ("core", ["home True"], True)],
)
def test_a_stage_that_forgets_where_it_is_is_homed_first(
    tmp_path: Path, homing: str, asked: list[str], homed: bool
) -> None:
    person = Person()
    with open_microscope(describe(tmp_path, stage(homing=homing))) as microscope:
        microscope.move_xy(500, 500)
        microscope.move_z(5000)
        make_ready(microscope, person, StopRequest())
        assert person.asked == asked
        assert microscope.lens.needs_homing is False
        assert (microscope.position_um[:2] == (0.0, 0.0)) is homed


@pytest.mark.parametrize(
    ("place", "told", "field"),
    [
        ((-300.0, 0.0, 0.0), "x = -300.0 µm, outside its limits .*Home", "stage.x_um"),
        ((0.0, 26_000.0, 0.0), "y = 26000.0 µm, outside its limits .*Home", "stage.y_um"),
        ((0.0, 0.0, 6100.0), "z = 6100.0 µm, outside .*Home", "turret.objectives.20x.z_um"),
        ((0.0, 0.0, 5900.0), "z = 5900.0 µm, on the other side", "turret.retract_direction"),
    ],
)
def test_a_stage_that_stands_where_it_cannot_be_is_told_before_it_moves(
    tmp_path: Path, place: tuple[float, float, float], told: str, field: str
) -> None:
    with open_microscope(describe(tmp_path)) as microscope:
        world = microscope._core._camera._world  # type: ignore[attr-defined]
        world.commanded_um, world.z_um = place[:2], place[2]
        with pytest.raises(UserError, match=told) as caught:
            make_ready(microscope, Person(), StopRequest())
        assert caught.value.field == field
        assert microscope.position_um == place


def test_devices_says_where_the_stage_stands_and_moves_nothing(tmp_path: Path) -> None:
    hardware = describe(tmp_path, stage(homing="ask"))
    answers = {a.part: a for a in DeviceCheck(hardware, StopRequest()).run()}
    assert "inside its limits; whether it is homed is asked" in answers["stage"].message
    assert "100x z 2000 to 5250 µm" in answers["turret"].message
    manual = {a.part: a for a in DeviceCheck(describe(tmp_path, by_hand), StopRequest()).run()}
    assert "turned by hand" in manual["turret"].message


# The person's hands --------------------------------------------------------------------------


def fails(engine: Engine) -> None:
    def fail(*_: object) -> None:
        raise HardwareError("the camera burns.")

    engine._height = fail  # type: ignore[assignment,method-assign]


def stops(stop: StopRequest) -> Callable[[Engine], None]:
    return lambda engine: engine.frame_ready.connect(lambda *_: stop.set("SIGINT"))  # type: ignore[return-value]


@pytest.mark.parametrize("end", ["finished", "enough", "error", "stopped", "twice", "refused"])
def test_the_lens_is_away_however_a_pass_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    scan = scan_of(tmp_path, stage(loading_um=[*LOADING, 3000]))
    left: list[tuple[float, float, float]] = []
    close = Microscope.close

    def closed(microscope: Microscope) -> None:
        release = microscope._backend.close
        object.__setattr__(
            microscope._backend,
            "close",
            lambda: (left.append(microscope.position_um), release()),
        )
        if end == "twice":
            monkeypatch.setattr(microscope.leds, "close", _interrupted)
        close(microscope)

    monkeypatch.setattr(Microscope, "close", closed)
    stop = StopRequest()
    if end == "finished":
        take(scan)
    elif end == "enough":
        monkeypatch.setattr(Engine, "run", lambda engine, *_: engine.totals)
        take(scan)
    elif end == "refused":
        monkeypatch.setattr("plsctl.sim.backend.SimulatedOperator.prepare", _refuse)
        with pytest.raises(UserError, match="I will not"):
            take(scan)
    else:
        expected: tuple[type[BaseException], ...] = (PlsctlError, KeyboardInterrupt)
        with pytest.raises(expected) as caught:
            take(scan, stop=stop, watch=fails if end == "error" else stops(stop))
        kinds = {"error": HardwareError, "stopped": InterruptedScan, "twice": KeyboardInterrupt}
        assert isinstance(caught.value, kinds[end])
    ((x, y, z),) = left
    assert z <= 4500
    if end in ("finished", "enough", "refused"):
        # A lens that is farther away already does not come nearer for it.
        assert (x, y, z) == (*LOADING, 0 if end == "refused" else 3000)


def _interrupted() -> None:
    raise KeyboardInterrupt


def _refuse(operator: Operator, pass_name: str, resumed: bool) -> None:
    raise UserError("I will not.")


def test_a_lens_that_cannot_be_drawn_back_is_told(tmp_path: Path, objective_watch: Any) -> None:
    with (
        pytest.raises(UserError, match=r"wrong\..*could not be drawn back.*by hand"),
        open_microscope(describe(tmp_path)) as microscope,
    ):
        microscope.move_z(5000)
        microscope.lens.stage.move_z = _stuck  # type: ignore[method-assign]
        raise UserError("something is wrong.")
    assert any("was closed while the lens was at" in text for text in objective_watch.violations)
    objective_watch.violations.clear()


def test_a_lens_left_at_the_slide_is_told_after_a_second_ctrl_c_too(
    tmp_path: Path, objective_watch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt), open_microscope(describe(tmp_path)) as microscope:
        microscope.move_z(5000)
        microscope.lens.stage.move_z = _stuck  # type: ignore[method-assign]
        raise KeyboardInterrupt
    assert "could not be drawn back from the slide: z does not move. Draw it back" in caplog.text
    objective_watch.violations.clear()


def test_ctrl_c_again_and_again_does_not_leave_the_lens_at_the_slide(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        open_microscope(describe(tmp_path)) as microscope,
    ):
        microscope.move_z(5000)
        move = microscope.lens.stage.move_z

        def press(z_um: float, roughly: bool = False) -> None:
            microscope.lens.stage.move_z = move  # type: ignore[method-assign]
            raise KeyboardInterrupt

        microscope.lens.stage.move_z = press  # type: ignore[method-assign]
        raise KeyboardInterrupt


def _stuck(z_um: float, roughly: bool = False) -> None:
    raise HardwareError("z does not move.")


# Who watches ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda core: core.setPosition("Z", 6100), "past 20x's limit"),
        (lambda core: core.setStateLabel("Turret", "100x"), "the turret was turned while"),
        (lambda core: core.setXYPosition("XY", 12_000, 5_025), "a long way"),
        (lambda core: core.setXYPosition("XY", 10_300, 5_025), "outside the region"),
        (lambda core: core.home("XY"), "was homed while"),
        (
            lambda core: (
                core.setPosition("Z", 5200),
                core.waitForDevice("Z"),
                core.setXYPosition("XY", 10_061, 5_026),
            ),
            "off the focus surface",
        ),
    ],
)
def test_the_watch_sees_what_must_not_be(
    tmp_path: Path, objective_watch: Any, wrong: Callable[[Any], object], told: str
) -> None:
    scan = scan_of(tmp_path)
    with open_microscope(scan.hardware) as microscope:
        microscope.move_xy(10_060, 5_025)
        microscope.move_z(5000)
        objective_watch.scan = scan
        microscope._core.setXYPosition("XY", 10_062, 5_025)
        assert objective_watch.violations == []
        wrong(microscope._core)
        assert told in objective_watch.violations[0]
    objective_watch.violations.clear()


def test_the_watch_sees_who_is_asked_with_the_lens_near(
    tmp_path: Path, objective_watch: Any
) -> None:
    with open_microscope(describe(tmp_path)) as microscope:
        people = make_roles(microscope.operator, True)
        people.operator.prepare("unstained", False)
        assert objective_watch.violations == []
        microscope.move_z(5000)
        for ask in (
            lambda: people.operator.prepare("unstained", False),
            lambda: people.operator.turn_turret("20x"),
            lambda: people.operator.home_stage(False),
        ):
            ask()
            assert "a person was asked" in objective_watch.violations.pop()
