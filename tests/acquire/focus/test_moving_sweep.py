"""A sweep while z moves, against the simulated world's truth, and on drives that tell little."""

from __future__ import annotations

import pytest

from plsctl.acquire.devices.hardware import Hardware, load_hardware
from plsctl.acquire.devices.microscope import open_microscope
from plsctl.acquire.errors import UserError
from plsctl.acquire.focus.moving_sweep import moving_sweep
from plsctl.acquire.focus.search import FocusSearch
from plsctl.acquire.focus.sweep import NoFocus
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.slide import FocusSettings
from plsctl.process.focus.sharpness import GradientFocusMeasure


def _hardware(z_speed: dict[str, object] | None) -> Hardware:
    described = load_hardware("simulator_small")
    camera = described.camera.model_copy(update={"size_px": (240, 180)})
    stage = type(described.stage).model_validate(
        described.stage.model_dump() | {"z_speed": z_speed}
    )
    return described.model_copy(update={"camera": camera, "stage": stage})


def _search(hardware: Hardware, objective_watch: object) -> tuple[float, float, float]:
    """What a sweep finds less the truth, the seconds it takes, and the speed of z afterwards."""
    with open_microscope(hardware) as microscope:
        world = objective_watch.opened[-1].world  # type: ignore[attr-defined]
        microscope.set_objective("20x")
        microscope.travel(10_000.0, 5_000.0)
        search = FocusSearch(
            microscope, GradientFocusMeasure(), FocusSettings(method="sweep"), StopRequest()
        )
        expected_um = world.z_um - world.defocus_um() + 9.0
        microscope.move_z(expected_um)
        search.measure_light()
        began_s = microscope.clock.now()
        found_um, _ = search.find(expected_um, 20.0)
        seconds = microscope.clock.now() - began_s
        error_um = found_um - (world.z_um - world.defocus_um())
        return error_um, seconds, world.drive.speed_um_per_s


def test_a_moving_sweep_is_as_exact_as_one_that_stops_and_quicker(objective_watch: object) -> None:
    moving = {"property": "Speed", "um_per_s": 1.0, "usual_um_per_s": 1000}
    stepped_um, stepped_s, _ = _search(_hardware(None), objective_watch)
    moving_um, moving_s, speed = _search(_hardware(moving), objective_watch)
    assert abs(moving_um) < 0.8
    assert abs(moving_um - stepped_um) < 0.4
    assert moving_s < 0.7 * stepped_s
    assert speed == 1000


def test_a_short_second_look_does_not_end_the_moving_sweeps(objective_watch: object) -> None:
    moving = {"property": "Speed", "um_per_s": 1.0, "usual_um_per_s": 1000}
    # Steps coarser than the depth of field: every sweep has a second, finer look.
    settings = FocusSettings(method="sweep", step_um=3.0)
    seconds = []
    for z_speed in (None, moving):
        with open_microscope(_hardware(z_speed)) as microscope:
            world = objective_watch.opened[-1].world  # type: ignore[attr-defined]
            microscope.set_objective("20x")
            microscope.travel(10_000.0, 5_000.0)
            search = FocusSearch(microscope, GradientFocusMeasure(), settings, StopRequest())
            found_um = search.sweep(world.z_um - world.defocus_um() + 4.0, 20.0)
            began_s = microscope.clock.now()
            assert search.sweep(found_um, 20.0) == pytest.approx(found_um, abs=0.3)
            seconds.append(microscope.clock.now() - began_s)
    assert seconds[1] < 0.7 * seconds[0]


def test_images_on_the_way_show_the_height_of_mid_exposure(objective_watch: object) -> None:
    with open_microscope(_hardware(None)) as microscope:
        world = objective_watch.opened[-1].world  # type: ignore[attr-defined]
        microscope.move_z(5000.0)
        world.drive.speed_um_per_s = 100.0
        world.start_z(5010.0)
        world.clock.sleep(0.02)
        assert world.z_um == pytest.approx(5002.0)
        assert world.drive.z_um(0.01) == pytest.approx(5003.0)
        # Sent elsewhere on its way, and stopped there.
        world.start_z(5000.0)
        world.clock.sleep(0.01)
        world.drive.stop()
        world.clock.sleep(1.0)
        assert world.z_um == pytest.approx(5001.0)


def test_a_move_that_is_broken_off_stops_and_leaves_the_usual_speed(
    objective_watch: object,
) -> None:
    moving = {"property": "Speed", "um_per_s": 1.0, "usual_um_per_s": 800}
    with open_microscope(_hardware(moving)) as microscope:
        world = objective_watch.opened[-1].world  # type: ignore[attr-defined]
        microscope.set_objective("20x")
        microscope.move_z(5000.0)
        with pytest.raises(KeyboardInterrupt), microscope.z_on_its_way(5010.0, 50.0):
            world.clock.sleep(0.02)
            raise KeyboardInterrupt
        world.clock.sleep(1.0)
        assert world.z_um == pytest.approx(5001.0)
        assert world.drive.speed_um_per_s == 800


def test_a_drive_that_tells_no_height_on_its_way_is_left_to_the_stepped_sweep() -> None:
    assert moving_sweep(lambda low, high: [(low, 1.0)], 0.0, 8.0, (-50, 50)) is None


def test_a_moving_sweep_follows_its_peak_to_the_limits_and_no_farther() -> None:
    seen: list[float] = []

    def look(low_um: float, high_um: float) -> list[tuple[float, float]]:
        heights = [low_um + k * (high_um - low_um) / 8 for k in range(9)]
        seen.extend(heights)
        return [(z_um, 1 / (1 + ((z_um - 30) / 5) ** 2)) for z_um in heights]

    assert moving_sweep(look, 0.0, 20.0, (-50, 50)) == pytest.approx(30.0, abs=0.3)
    seen.clear()
    with pytest.raises(NoFocus, match="limits"):
        moving_sweep(look, 0.0, 20.0, (-50, 22))
    assert max(seen) <= 22


def test_a_property_that_the_drive_has_not_is_an_error() -> None:
    with pytest.raises(UserError, match="no property 'Velocity'") as caught:
        open_microscope(_hardware({"property": "Velocity", "usual_um_per_s": 1000}))
    assert caught.value.field == "stage.z_speed.property"
