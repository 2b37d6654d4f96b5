"""Safe to stain: yes or no. There is no way back, so everything is read again from the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from plsctl.acquire.arrays import RawImage
from plsctl.acquire.capture.light import (
    MOST_CHANGE,
    NO_LIGHT,
    LightCourse,
    bright_levels,
    light_course,
)
from plsctl.acquire.devices.hardware_parts import ChecksSettings
from plsctl.acquire.errors import DamagedData, PlsctlError, UserError
from plsctl.acquire.roles import DriftReport, FocusMeasure, ShiftFinder
from plsctl.acquire.scanning.field_focus import check_focus
from plsctl.acquire.scanning.overlaps import compare_overlaps, is_confirmed, overlap_problem
from plsctl.acquire.scanning.self_check import NO_DRIFT
from plsctl.acquire.store.images import checksum, halved
from plsctl.acquire.store.ome_zarr import LEVELS
from plsctl.acquire.store.reader import PassReader

MAX_SATURATED_BRIGHT = 0.02
"""Share of saturated values a bright-field frame may have before detail is lost for good."""


@dataclass(frozen=True)
class Verdict:
    """Whether a pass is reliable, every reason why not, and what was not looked at."""

    safe: bool
    problems: tuple[str, ...]
    positions: int
    frames: int
    unchecked: tuple[str, ...] = ()
    """What could not be checked, or was not to be, with the reason."""
    light: LightCourse = NO_LIGHT
    drift: DriftReport = NO_DRIFT
    """What of the instrument is not as the pass believes; problems hold what spoils it."""

    @property
    def in_words(self) -> str:
        """The answer, with what it does not rest on: `yes (not checked: focus)`."""
        answer = "yes" if self.safe else "NO"
        return f"{answer} (not checked: {'; '.join(self.unchecked)})" if self.unchecked else answer


def verify_pass(
    reader: PassReader, planned: int | None = None, progress: Callable[[], None] | None = None
) -> list[str]:
    """Read every frame of a pass and compare it with the metadata noted when it was taken.

    Returns
    -------
    list of str
        One sentence per problem; empty when everything is as it was taken.
    """
    found = _verify_positions(reader, progress)
    return _missing(reader, planned) + [text for texts in found.values() for text in texts]


def _missing(reader: PassReader, planned: int | None) -> list[str]:
    if planned is None or len(reader.names) >= planned:
        return []
    return [f"{planned - len(reader.names)} of {planned} positions are missing."]


def _verify_positions(
    reader: PassReader, progress: Callable[[], None] | None
) -> dict[str, list[str]]:
    """Problems by position."""
    found = {}
    for name in reader.names:
        found[name] = _verify_position(reader, name)
        if progress is not None:
            progress()
    return found


def _verify_position(reader: PassReader, name: str) -> list[str]:
    problems = []
    try:
        noted = reader.position_metadata(name)["frames"]
    except (PlsctlError, KeyError):
        _refuse_unreadable(reader, name)
        return [f"position {name}: what was noted about its frames cannot be read."]
    if len(noted) != len(reader.labels):
        return [f"position {name} holds {len(noted)} of {len(reader.labels)} frames."]
    for index, label in enumerate(reader.labels):
        try:
            image = reader.stored_frame(name, index)
        except PlsctlError as error:
            _refuse_unreadable(reader, name)
            problems.append(f"position {name}, frame '{label}' {_problem(error)}.")
            continue
        if checksum(image) != noted[index]["crc32"]:
            problems.append(f"position {name}, frame '{label}' differs from what was taken.")
            continue
        problems += _verify_lower_levels(reader, name, index, image)
    return problems


def _refuse_unreadable(reader: PassReader, name: str) -> None:
    """`UserError` where the system gives no answer about the files of a position.

    What is damaged or gone speaks against a scan; what cannot be read now says nothing of it.
    """
    try:
        place = reader.path / name
        for file in (reader.path, place, *place.rglob("*")):
            if file.is_dir():
                next(file.iterdir(), None)
            else:
                file.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(
            f"position {name} cannot be read now ({error.strerror}), so that nothing is said of "
            "the scan.",
            file=error.filename or reader.path,
            hint="Check the disk, the network and the permissions, then judge it anew: plsctl "
            "scan SLIDE.yaml --verify.",
        ) from None


def _problem(error: PlsctlError) -> str:
    return error.problem if isinstance(error, DamagedData) else f"cannot be read: {error.message}"


def _is_readable(reader: PassReader, name: str) -> bool:
    try:
        reader.stored_frame(name, 0)
    except PlsctlError:
        return False
    return True


def _verify_lower_levels(
    reader: PassReader, name: str, index: int, image: RawImage
) -> Iterator[str]:
    """Lower levels have no checksums: they are computed again and compared."""
    for level in range(1, LEVELS):
        image = halved(image)
        where = f"position {name}, frame '{reader.labels[index]}', level {level}"
        try:
            kept = reader.stored_frame(name, index, level)
        except PlsctlError as error:
            _refuse_unreadable(reader, name)
            yield f"{where}, {_problem(error)}."
            continue
        # Another version of the library may round means of .5 the other way.
        if cv2.norm(kept, image, cv2.NORM_INF) > 1:
            yield f"{where}, differs from the full image, which is as it was taken."


def judge_pass(
    reader: PassReader,
    measure: FocusMeasure,
    shifts: ShiftFinder,
    planned: int | None = None,
    progress: Callable[[], None] | None = None,
    unchecked: str | None = None,
    checks: ChecksSettings | None = None,
    drift: DriftReport = NO_DRIFT,
) -> Verdict:
    """Checksums, missing frames, darkness, saturation, focus and geometry of a finished pass.

    Parameters
    ----------
    unchecked
        Why the camera's orientation was not checked while the pass was taken; None if it was.
        Where overlaps of neighbouring fields show it instead, it is no problem.
    checks
        What was checked on every frame; all of it by default.
    drift
        What the monitor of the pass has found.

    Raises
    ------
    UserError
        The files cannot be read now: there is no verdict then.
    """
    if reader.names and not any(_is_readable(reader, name) for name in reader.names):
        raise UserError(
            "not one image of this pass can be read, so that nothing is said of the scan.",
            file=reader.path,
            hint="Check the disk and the path, then judge it anew: plsctl scan SLIDE.yaml "
            "--verify.",
        )
    found = _verify_positions(reader, progress)
    problems = _missing(reader, planned) + [text for texts in found.values() for text in texts]
    # What cannot be read as it was taken cannot be judged either.
    sound = [name for name, texts in found.items() if not texts]
    light = pass_light(reader, sound)
    problems += _light_problems(reader, sound)
    if light.change > MOST_CHANGE:
        problems.append(
            f"{light.in_words}, and a pass holds at most {100 * MOST_CHANGE:.0f} %: take it anew "
            "once the LED array has warmed up and its supply holds."
        )
    focus = check_focus(reader, sound, measure)
    problems += focus.problems
    problems += _geometry_problems(reader, sound, shifts, unchecked)
    problems += [
        f"position {one.position}: {one.text} {one.remedy}" for one in drift.drifts if one.spoils
    ]
    frames = len(reader.names) * len(reader.labels)
    left_out = _left_out(checks or ChecksSettings())
    if sound and not light.names:
        left_out.append("the light over the pass (no levels were noted, or none tells)")
    if focus.unchecked is not None:
        left_out.append(focus.unchecked)
    left_out += _focus_not_found(reader, sound)
    return Verdict(
        not problems, tuple(problems), len(reader.names), frames, tuple(left_out), light, drift
    )


def _focus_not_found(reader: PassReader, names: Sequence[str]) -> list[str]:
    """Where focus was sought and not found, so that the height is that of other places."""
    found = [n for n in names if reader.position_metadata(n).get("focus") == "neighbours"]
    if not found:
        return []
    listed = ", ".join(found[:5]) + (" ..." if len(found) > 5 else "")
    return [f"the height of focus at {listed} (not found there, taken from elsewhere)"]


def pass_light(reader: PassReader, names: Sequence[str]) -> LightCourse:
    """The course of the light over the named positions of a pass."""
    frames = reader.attributes.frames
    return light_course(
        {name: bright_levels(frames, reader.position_metadata(name)["frames"]) for name in names}
    )


def _left_out(checks: ChecksSettings) -> list[str]:
    """Checks that the hardware file switches off, as words and field."""
    words = {
        "brightness": "the light of each frame",
        "repeats": "repeated images",
        "direction": "the LEDs' directions",
        "drift": "the instrument against its calibrations",
    }
    return [
        f"{what} (checks.{name} is false)"
        for name, what in words.items()
        if not getattr(checks, name)
    ]


def _geometry_problems(
    reader: PassReader, names: Sequence[str], shifts: ShiftFinder, unchecked: str | None
) -> list[str]:
    overlaps = compare_overlaps(reader, names, shifts)
    problem = overlap_problem(overlaps)
    if problem is not None:
        return [problem]
    if unchecked is None or is_confirmed(overlaps):
        return []
    return [
        f"orientation not checked: {unchecked}, and neighbouring fields do not show it either. "
        "With a mirrored or turned camera the stained pass would be taken beside the cells."
    ]


def _light_problems(reader: PassReader, names: Sequence[str]) -> list[str]:
    """Bright-field frames that are saturated, or much darker than the same frame elsewhere."""
    noted = [reader.position_metadata(name)["frames"] for name in names]
    problems = []
    for index, frame in enumerate(reader.attributes.frames):
        if not frame.bright_field:
            continue
        # Under one colour most values are dark: there the mean tells.
        level = "median" if frame.colour == "white" else "mean"
        medians = np.array([position[index][level] for position in noted])
        medians = medians - reader.attributes.black_level
        usual = float(np.median(medians)) if len(medians) else 0.0
        for name, position, median in zip(names, noted, medians, strict=True):
            if position[index]["saturated"] > MAX_SATURATED_BRIGHT:
                share = 100 * position[index]["saturated"]
                problems.append(f"position {name}, frame '{frame.label}': {share:.0f} % saturated.")
            elif median < 0.5 * usual:
                problems.append(
                    f"position {name}, frame '{frame.label}' is dark ({median:.0f} counts, "
                    f"elsewhere {usual:.0f})."
                )
    return problems
