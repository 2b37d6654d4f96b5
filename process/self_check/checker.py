"""One pass compared with what is known of the instrument, position by position."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.devices.calibration_kinds import LedLight, PixelSize
from plsctl.acquire.plans.slide import load_slide
from plsctl.acquire.roles import Drift, DriftReport
from plsctl.acquire.scanning.overlaps import Axis, Overlap, compare_overlap
from plsctl.acquire.store.folder import ScanFolder
from plsctl.acquire.store.reader import PassReader
from plsctl.acquire.store.records import PositionRecord
from plsctl.process.matching.shifts import EdgeShiftFinder
from plsctl.process.self_check import words
from plsctl.process.self_check.array import (
    MOVED_ARRAY,
    ArrayState,
    Finding,
    can_tell,
    finding,
)
from plsctl.process.self_check.array_watch import ArrayWatch
from plsctl.process.self_check.camera import fit_camera
from plsctl.process.self_check.light import LedLevels, dimmed, single_leds

TURNED_DEG, PIXEL_SHARE, SURE = 0.1, 0.003, 4.0
"""Turn and pixel size that are told, and of how many of their errors they must be."""

OVERLAP_UM = 1.5
"""Overlaps that lie so far beside the fit (root mean square) are told."""

WINDOWS = (6, 16, 60)
"""So many overlaps are looked at, the latest: a few tell a change, many how the camera stands."""

FOCUS_UM = 3.0
"""A height so far from what others let expect is told, where it is surely so far."""


class PassChecker:
    """What the frames of a pass tell, taken in as they come.

    Parameters
    ----------
    scan
        The scan's folder.
    """

    def __init__(self, scan: Path, pass_name: str) -> None:
        folder = ScanFolder(scan)
        self.folder, self.pass_name = folder, pass_name
        self.reader = PassReader(folder.pass_path(pass_name), one_core=True)
        hardware = load_slide(folder.slide_file).load_hardware()
        attributes = self.reader.attributes
        used = {
            each.kind for each in hardware.calibrations if each.objective == attributes.objective
        }
        self._kept = next(
            (
                each
                for each in hardware.calibrations
                if isinstance(each, LedLight) and each.objective == attributes.objective
            ),
            None,
        )
        self.camera_believed = (
            "its calibration"
            if any(isinstance(each, PixelSize) for each in used)
            else "the hardware file"
        )
        self.leds = single_leds(attributes)
        self.is_calibrated = any(led.lit_from != led.direction for led in self.leds)
        self.array_believed = "its calibration" if self.is_calibrated else "its table"
        self.levels = LedLevels(self.leds, attributes.black_level)
        self._finder = EdgeShiftFinder()
        self._placed: dict[tuple[int, int], PositionRecord] = {}
        self.names: list[str] = []
        self.array = ArrayWatch(
            self.reader, self.leds, hardware.geometry(), self.names, self.levels
        )
        self.overlaps: list[Overlap] = []
        self.heights: list[tuple[str, float, float]] = []
        """Positions, by how much their height was off, and the error of what was expected."""
        self.drifts: list[Drift] = []
        self._told: set[tuple[str, str]] = set()

    # Position by position ------------------------------------------------------------------------

    def add(self, name: str) -> list[Drift]:
        """Take in a position that is on the disk; what it shows to have drifted."""
        if name in self.names:
            return []
        self.reader.add(name)
        self.names.append(name)
        noted = self.reader.position_metadata(name)
        found = [*self._camera(name), *self._focus(name, noted)]
        if self.leds:
            self.levels.add(name, noted["frames"])
            found += self._light()
        return self._news(found)

    def _news(self, found: list[Drift]) -> list[Drift]:
        fresh = []
        for drift in found:
            if (drift.kind, drift.led) not in self._told:
                self._told.add((drift.kind, drift.led))
                fresh.append(drift)
        self.drifts += fresh
        return fresh

    def _camera(self, name: str) -> Iterator[Drift]:
        here = self.reader.position(name)
        place = (here.row, here.column)
        self._placed[place] = here
        neighbours: tuple[tuple[Axis, int, int], ...] = (
            ("x", 0, -1), ("x", 0, 1), ("y", -1, 0), ("y", 1, 0),
        )  # fmt: skip
        added = False
        for axis, down, across in neighbours:
            other = self._placed.get((place[0] + down, place[1] + across))
            if other is None:
                continue
            first, second = (other, here) if down + across < 0 else (here, other)
            overlap = compare_overlap(self.reader, axis, first, second, self._finder)
            if overlap.off_px is not None:
                self.overlaps.append(overlap)
                added = True
        if added:
            yield from self._camera_drifts(name)

    def _camera_drifts(self, name: str) -> Iterator[Drift]:
        attributes = self.reader.attributes
        for window in WINDOWS:
            fit = fit_camera(self.overlaps[-window:], attributes.orientation)
            if fit is None:
                return
            if abs(fit.turn_deg) > max(TURNED_DEG, SURE * fit.turn_error_deg):
                yield words.camera_turned(name, fit, self.camera_believed)
            if abs(fit.pixel_share) > max(PIXEL_SHARE, SURE * fit.pixel_error):
                yield words.pixel_size_changed(name, fit, attributes.pixel_um, self.camera_believed)
            if fit.overlap_um > OVERLAP_UM:
                yield words.overlaps_scatter(name, fit)

    def _focus(self, name: str, noted: dict[str, float]) -> Iterator[Drift]:
        if "focus_off_um" not in noted:
            return
        off_um, error_um = noted["focus_off_um"], noted["focus_expected_error_um"]
        self.heights.append((name, off_um, error_um))
        if abs(off_um) > max(FOCUS_UM, SURE * error_um):
            yield words.focus_jumped(name, off_um, error_um)

    def _light(self) -> Iterator[Drift]:
        """Dimmed LEDs, once it is known how the array stands, or that it cannot be told."""
        if self.array.awaits_look:
            return
        yield from self._dimmed_leds()

    def _dimmed_leds(self) -> Iterator[Drift]:
        left = self._told_by_light(self.levels.left_in_pass())
        for led in dimmed(left):
            first = self.levels.dimmed_from(int(led))
            if not (self.leds[led].bright or self._has_stood(first)):
                continue
            yield words.led_dimmed(
                first,
                self.leds[led].name,
                float(left[led]),
                "earlier in this pass",
            )
        if self._kept is not None:
            left = self.light_left()
            since = f"of {self._kept.measured:%Y-%m-%d}"
            for led in dimmed(left):
                yield words.led_dimmed(self.names[-1], self.leds[led].name, float(left[led]), since)

    def _has_stood(self, position: str) -> bool:
        """Whether the array was seen in its place at a position, or after it."""
        if not self.array.states:
            return False
        last = self.array.states[-1]
        is_later = self.names.index(last.position) >= self.names.index(position)
        return is_later and not last.has_moved

    def light_left(self) -> NDArray[np.float64]:
        """What is left of each LED's kept light; NaN where it is not known, (LED,)."""
        if self._kept is None or not self.levels.names:
            return np.full(len(self.leds), np.nan)
        steep = np.array([led.steepness for led in self.leds])
        if self.array.states and self.array.states[-1].has_moved:
            steep = np.hypot(*self.array.states[-1].estimate.directions.T)
        left = self.levels.left_since(self._kept.lights, steep, self.reader.attributes.na)
        return self._told_by_light(left)

    def _told_by_light(self, left: NDArray[np.float64]) -> NDArray[np.float64]:
        """Without LEDs that may seem to have dimmed: swapped, or of an array that may have moved.

        Where the array stands elsewhere, dark field is brighter or darker for it.
        """
        found = left.copy()
        found[[problem.led for state in self.array.states for problem in state.problems]] = np.nan
        if not self.array.states:
            found[[not led.bright for led in self.leds]] = np.nan
        return found

    # The array -----------------------------------------------------------------------------------

    def look(self, name: str) -> list[Drift]:
        """Look at the array at a position, which takes seconds; what has drifted.

        What is wrong is told once a second position shows the same.
        """
        confirmed = self.array.look(name)
        found = list(self._array_drifts(*confirmed)) if confirmed is not None else []
        return self._news([*found, *self._light()])

    def _array_drifts(self, state: ArrayState, findings: frozenset[Finding]) -> Iterator[Drift]:
        if MOVED_ARRAY in findings:
            yield words.array_moved(state, self.array_believed, self.is_calibrated)
        problems = [problem for problem in state.problems if finding(problem) in findings]
        lights = {problem.led: problem.other for problem in problems}
        for problem in problems:
            name = self.array.optics.name(problem.led)
            if problem.kind == "dead":
                yield words.led_dead(state, name)
                continue
            mutual = lights.get(problem.other) == problem.led
            if not (mutual and problem.other < problem.led):
                like = self.array.optics.name(problem.other)
                yield words.leds_swapped(state, name, like, mutual)

    # The whole pass ------------------------------------------------------------------------------

    def conclude(self) -> list[Drift]:
        """No more positions come: what has drifted, also what only one of them shows."""
        suspect = self.array.suspect
        found = [] if suspect is None else list(self._array_drifts(suspect, suspect.findings))
        if self.leds and self.names:
            found += self._dimmed_leds()
        return self._news(found)

    def report(self, page: str = "") -> DriftReport:
        """What the positions so far tell."""
        checked: list[str] = []
        unchecked: list[str] = []
        values: dict[str, float] = {}
        for part in (
            self._report_array,
            self._report_light,
            self._report_camera,
            self._report_focus,
        ):
            said, reason, numbers = part()
            if said:
                checked.append(said)
            if reason:
                unchecked.append(reason)
            values |= numbers
        return DriftReport(tuple(self.drifts), tuple(checked), tuple(unchecked), values, page)

    def _report_array(self) -> tuple[str, str, dict[str, float]]:
        if not self.leds:
            return "", "", {}
        if not can_tell(self.leds):
            return "", "LED array (the recipe lights fewer than 5 LEDs alone in bright field)", {}
        if not self.array.states:
            reason = self.array.blind_reason
            return "", f"LED array ({reason})", {}
        change = np.median(
            [(s.change.x_mm, s.change.y_mm, s.change.height_mm, s.change.rotation_deg)
             for s in self.array.states], axis=0,
        )  # fmt: skip
        names = ("array_x_mm", "array_y_mm", "array_height_mm", "array_rotation_deg")
        values = dict(zip(names, (round(float(value), 3) for value in change), strict=True))
        where = ", ".join(state.position for state in self.array.states[:4])
        where += " ..." if len(self.array.states) > 4 else ""
        return f"LED array against {self.array_believed} (at {where})", "", values

    def _report_light(self) -> tuple[str, str, dict[str, float]]:
        if not self.leds:
            return "", "", {}
        if self._kept is None:
            reason = "no light is kept: plsctl calibrate exposures keeps it"
            return "", f"LEDs dimmed since calibration ({reason})", {}
        left = self.light_left()
        known = np.isfinite(left)
        if not known.any():
            return "", "LEDs dimmed since calibration (too few positions tell)", {}
        said = f"light of {known.sum()} LEDs against {self._kept.measured:%Y-%m-%d}"
        unknown = [led.name for led, told in zip(self.leds, known, strict=True) if not told]
        more = " ..." if unknown[5:] else ""
        reason = f"light of {', '.join(unknown[:5])}{more}" if unknown else ""
        return said, reason, {"least_light": round(float(np.nanmin(left)), 3)}

    def _report_camera(self) -> tuple[str, str, dict[str, float]]:
        fit = fit_camera(self.overlaps[-WINDOWS[-1] :], self.reader.attributes.orientation)
        if fit is None:
            return "", "camera rotation and pixel size (too few neighbouring fields overlap)", {}
        pixel_um = self.reader.attributes.pixel_um
        values = {
            "camera_turn_deg": round(fit.turn_deg, 4),
            "camera_turn_error_deg": round(fit.turn_error_deg, 4),
            "pixel_um": round(pixel_um * (1 + fit.pixel_share), 6),
            "pixel_um_error": round(pixel_um * fit.pixel_error, 6),
            "overlap_um": round(fit.overlap_um, 3),
        }
        said = f"camera against {self.camera_believed} ({fit.overlaps} overlaps)"
        return said, "", values

    def _report_focus(self) -> tuple[str, str, dict[str, float]]:
        if not self.heights:
            return "", "focus surface (no height was measured during the pass)", {}
        off = np.array([off_um for _, off_um, _ in self.heights])
        value = {"focus_off_um": round(float(np.sqrt(np.mean(off**2))), 3)}
        return f"focus against its surface ({len(off)} heights)", "", value
