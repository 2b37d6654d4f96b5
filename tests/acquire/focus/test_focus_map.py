"""Where heights of focus come from, over a slide whose true heights are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plsctl.acquire.errors import UserError
from plsctl.acquire.focus.focus_map import Focus
from plsctl.acquire.focus.height import PositionSkipped
from plsctl.acquire.focus.sweep import NoFocus
from plsctl.acquire.interrupt import StopRequest
from plsctl.acquire.plans.positions import Position
from plsctl.acquire.plans.slide import FocusSettings, load_slide
from plsctl.acquire.store.journal import Journal, read_journal

PLACES = [
    Position(row, column, 500.0 * column, 500.0 * row) for row in range(8) for column in range(10)
]


class Bench:
    """A stage over a tilted, bowed slide that drifts, and a search that knows its heights."""

    light = None

    def __init__(self) -> None:
        self.pair_light: dict[int, tuple[float, float]] = {}
        self.clock = self
        self.minute = 0.0
        self.place = (0.0, 0.0)
        self.searches = 0
        self.fails_at: set[tuple[float, float]] = set()

    def now(self) -> float:
        return 60 * self.minute

    @property
    def position_um(self) -> tuple[float, float, float]:
        return (*self.place, 0.0)

    def travel(self, x_um: float, y_um: float) -> tuple[float, float]:
        self.place = (x_um, y_um)
        return self.place

    def move_z(self, z_um: float) -> None:
        pass

    def leds_off(self) -> None:
        pass

    def true_um(self) -> float:
        x, y = (side / 1000 for side in self.place)
        return 5000 + 3 * x - 2 * y + 0.1 * (x * x + y * y) + 0.3 * self.minute

    def in_one_shot(self, centre_um: float, half_range_um: float) -> float | None:
        self.searches += 1
        return None if self.place in self.fails_at else self.true_um()

    def sweep(self, centre_um: float, half_range_um: float) -> float:
        raise NoFocus("no focus was found.")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.jsonl")
    yield journal
    journal.close()


def _focus(bench: Any, journal: Journal, **settings: Any) -> Focus:
    described = FocusSettings.model_validate(settings)
    return Focus(bench, bench, described, "unstained", journal, StopRequest())


def _begin(focus: Focus) -> None:
    places = [(place.x_um, place.y_um) for place in PLACES]
    focus.measure(places, lambda x, y: 5000.0, False, lambda done, total: None)


def _errors(bench: Bench, focus: Focus, first: int = 0) -> list[float]:
    """Heights less the truth over a pass that takes half a minute at every position."""
    errors = []
    for index, place in enumerate(PLACES[first:], start=first):
        bench.travel(place.x_um, place.y_um)
        errors.append(abs(focus.height(index, place).z_um - bench.true_um()))
        bench.minute += 0.5
    return errors


@pytest.mark.parametrize(
    ("settings", "most_um", "searches"),
    [
        ({"mode": "every"}, 0.01, 81),
        ({"mode": "every", "every": 4}, 1.5, 25),
        ({"mode": "surface", "refresh_positions": 8}, 1.65, 14),
        ({"mode": "grid", "grid_um": 1500.0, "refresh_positions": 8}, 1.65, 21),
    ],
)
def test_heights_follow_tilt_bow_and_drift(
    journal: Journal, settings: dict[str, Any], most_um: float, searches: int
) -> None:
    bench = Bench()
    focus = _focus(bench, journal, **settings)
    _begin(focus)
    assert max(_errors(bench, focus)) < most_um
    assert bench.searches == searches


def test_a_resumed_pass_uses_the_same_heights(journal: Journal) -> None:
    bench = Bench()
    focus = _focus(bench, journal, refresh_positions=8)
    _begin(focus)
    for index, place in enumerate(PLACES[:20]):
        bench.travel(place.x_um, place.y_um)
        focus.height(index, place)
    journal.sync()
    again = _focus(bench, journal, refresh_positions=8)
    assert again.recall(list(read_journal(journal.path)))
    before = bench.searches
    bench.travel(PLACES[20].x_um, PLACES[20].y_um)
    found = [each.height(20, PLACES[20]).z_um for each in (focus, again)]
    assert found[0] == pytest.approx(found[1], abs=0.05)
    assert bench.searches == before


def test_after_a_pause_focus_is_measured_again_and_followed(journal: Journal) -> None:
    bench = Bench()
    focus = _focus(bench, journal, refresh_positions=8)
    _begin(focus)
    for index, place in enumerate(PLACES[:30]):
        if index == 18:
            bench.minute += 60
        bench.travel(place.x_um, place.y_um)
        assert abs(focus.height(index, place).z_um - bench.true_um()) < 1.65
        bench.minute += 0.5


def test_a_map_is_compared_with_the_slide_at_the_first_position(journal: Journal) -> None:
    bench = Bench()
    heights = []
    for x, y in ((0.0, 0.0), (4500.0, 0.0), (0.0, 3500.0), (4500.0, 3500.0), (2000.0, 1500.0)):
        bench.travel(x, y)
        heights.append((x, y, bench.true_um() + 6.0))
    settings = {"mode": "map", "heights_um": heights, "refresh_minutes": 0}
    trusted = _focus(bench, journal, refresh_positions=0, **settings)
    trusted.take_map(heights)
    assert min(_errors(bench, trusted)[:8]) > 3.0
    assert bench.searches == 0
    bench.minute = 0.0
    compared = _focus(bench, journal, refresh_positions=8, **settings)
    compared.take_map(heights)
    assert max(_errors(bench, compared)[:8]) < 2.5


def test_where_focus_is_not_found_the_slide_file_says_what_happens(journal: Journal) -> None:
    lost = PLACES[3]
    outcomes: dict[str, Any] = {}
    for action in ("neighbours", "skip", "stop"):
        bench = Bench()
        focus = _focus(bench, journal, mode="every", on_failure=action)
        _begin(focus)
        bench.fails_at = {(lost.x_um, lost.y_um)}
        bench.travel(lost.x_um, lost.y_um)
        try:
            outcomes[action] = focus.height(3, lost)
        except NoFocus as error:
            outcomes[action] = error
    assert outcomes["neighbours"].by == "neighbours"
    assert isinstance(outcomes["skip"], PositionSkipped)
    assert not isinstance(outcomes["stop"], PositionSkipped)
    assert "on_failure" in str(outcomes["stop"].hint)
    journal.sync()
    events = list(read_journal(journal.path))
    assert [e["action"] for e in events if e["event"] == "focus_failed"] == list(outcomes)


def test_a_map_comes_from_a_table_or_by_hand(tmp_path: Path) -> None:
    (tmp_path / "heights.csv").write_text("x_um,y_um,z_um\n10000,5000,5003.5\n11000,5000,5005\n")
    slide = tmp_path / "slide.yaml"
    begin = "slide: S1\nhardware: simulator\nregion: {x_um: [1, 2], y_um: [1, 2]}\n"
    slide.write_text(begin + "focus: {mode: map, map: heights.csv}\n")
    heights = [(10_000.0, 5_000.0, 5_003.5), (11_000.0, 5_000.0, 5_005.0)]
    assert load_slide(slide).load_heights() == heights
    slide.write_text(begin + "focus: {mode: map, heights_um: [[1, 2, 3]]}\n")
    assert load_slide(slide).load_heights() == [(1.0, 2.0, 3.0)]
    for wrong in (
        "mode: map",
        "map: heights.csv",
        "mode: map, map: a.csv, heights_um: [[1, 2, 3]]",
    ):
        slide.write_text(begin + f"focus: {{{wrong}}}\n")
        with pytest.raises(UserError, match="map"):
            load_slide(slide)
