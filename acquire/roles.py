"""Interfaces that `acquire` needs from outside: image analysis and the person at the bench.

Implementations live higher up (`process`, `cli`) or beside (`sim`); they are passed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from plsctl.acquire.arrays import Image
from plsctl.acquire.coordinates import SlideTransform


class FocusMeasure(Protocol):
    """Tells how sharp an image is."""

    def sharpness(self, image: Image) -> float:
        """Larger is sharper, for an image (y, x, rgb) in dark field or under immersion.

        Comparable between images of one field. A dry phase object in bright field has its least
        value in focus instead.
        """


class FieldInspector(Protocol):
    """Inspects a bright-field image, shape (y, x, rgb)."""

    def looks_stained(self, image: Image) -> bool | None:
        """Whether the slide has been stained; None where the field shows bare glass."""

    def white_cells(self, image: Image) -> int:
        """How many white cells a stained field shows."""


class CellFinder(Protocol):
    """Finds white cells in a scan."""

    def find(self, scan: Path) -> int:
        """Write `cells.csv` of a scan folder from its stained pass; the number of cells."""


@dataclass(frozen=True)
class FieldView:
    """A bright-field image, shape (y, x, rgb), uint8, and the stage position it was taken at.

    Not mirrored: what a mirrored camera gives is mirrored back first.
    """

    x_um: float
    y_um: float
    image: Image


@dataclass(frozen=True)
class FieldPair:
    """A field from before the slide was taken out, and one of the returned slide.

    Each has the stage position at which it was taken.
    """

    reference: FieldView
    moving: FieldView


class SlideRegistrar(Protocol):
    """Finds where a returned slide lies."""

    def locate(
        self,
        before: Sequence[FieldView],
        after: FieldView,
        reach_um: float,
        pixel_um: float,
        camera_rotation_deg: float,
    ) -> SlideTransform | None:
        """Roughly where the slide lies, from one field; None if it is not found."""

    def register(
        self,
        pairs: Sequence[FieldPair],
        pixel_um: float,
        camera_rotation_deg: float,
        guess: SlideTransform | None = None,
    ) -> SlideTransform:
        """Shift and rotation from pairs of fields of the same cells; raises if they disagree."""


class ShiftFinder(Protocol):
    """Tells how far the content of an image has moved."""

    def shift(self, before: Image, after: Image, reach_px: float) -> tuple[float, float] | None:
        """Where the content of `before` lies in `after`, pixels (x, y); None where in doubt.

        Images of one size, (y, x, rgb); shifts up to `reach_px` along x or y are looked for. What
        has not moved at all is the sensor's own dirt.
        """


@dataclass(frozen=True)
class HighPowerPlace:
    """Where an image of high power lies in one of low power.

    Parameters
    ----------
    factor, offset
        A point x + iy of the low image, in pixels, lies at factor (x + iy) + offset in the other.
    scale_error
        Standard error of the factor, as a share of it.
    """

    factor: complex
    offset: complex
    scale_error: float

    def in_low(self, x_px: float, y_px: float) -> tuple[float, float]:
        """Where a pixel of the high image lies in the low one."""
        place = (complex(x_px, y_px) - self.offset) / self.factor
        return place.real, place.imag


class HighPowerFinder(Protocol):
    """Finds an image of high power in one of low power, of one stained slide."""

    def find(self, low: Image, high: Image, ratio: float) -> HighPowerPlace | None:
        """Where `high` lies in `low`, both (y, x, rgb); None where in doubt.

        `ratio` is about how many pixels of `high` make one of `low`.
        """


BenchNeed = Literal["stained smear", "oil", "empty slide"]


class ParallaxFinder(Protocol):
    """Tells a height from images of one field under two LEDs."""

    def height(
        self,
        first: Image,
        second: Image,
        start_px: tuple[float, float],
        per_um_px: tuple[float, float],
        range_um: tuple[float, float],
    ) -> float | None:
        """The height in a range at which two images (y, x, rgb) fit best; None where in doubt.

        At height z the content of `first` lies start + z per_um from where `second` shows it,
        pixels (x, y).
        """


class Operator(Protocol):
    """The person at the bench."""

    def bring(self, need: BenchNeed) -> None:
        """See to what a calibration needs: a slide on the stage, oil on it."""

    def prepare(self, pass_name: str, resumed: bool) -> None:
        """Bring the slide into the state a pass needs: as it is, stained, under oil.

        A resumed pass only needs the slide as it already was.
        """

    def turn_turret(self, objective: str) -> None:
        """Turn the turret, which has no motor, to an objective; raises if nobody does."""

    def home_stage(self, by_core: bool) -> None:
        """See to it that the stage has been homed since it was switched on.

        With `by_core` it is homed once this returns: nothing may be in its way.
        """


DriftKind = Literal[
    "dim", "dead", "swapped", "array", "camera rotation", "pixel size", "overlap", "focus"
]


@dataclass(frozen=True)
class Drift:
    """Something of the instrument that is not as a pass believes it to be.

    Parameters
    ----------
    position
        Where it shows.
    led
        Names of the LEDs that it concerns, with commas; empty for none.
    text
        What has changed, one sentence.
    remedy
        What to do.
    spoils
        What is stored is wrong by it, so that the pass must be taken anew.
    """

    kind: DriftKind
    position: str
    text: str
    remedy: str
    spoils: bool = False
    led: str = ""


@dataclass(frozen=True)
class DriftReport:
    """What a pass's frames told of the instrument.

    Parameters
    ----------
    drifts
        In the order in which they were found.
    checked
        What was compared, in words, with what was found.
    unchecked
        What could not be, in words, with the reason.
    values
        What was measured.
    page
        Pictures of what has drifted; empty without any.
    """

    drifts: tuple[Drift, ...] = ()
    checked: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    page: str = ""


class PassMonitor(Protocol):
    """Compares the frames of a pass with what is known of the instrument, while it is taken.

    Nothing it is asked takes long: what does goes on beside the scan.
    """

    def begin(self, scan: Path, pass_name: str) -> None:
        """A pass is begun, or taken up again, in a scan's folder."""

    def taken(self, position: str) -> None:
        """A position is on the disk."""

    def news(self) -> Sequence[Drift]:
        """What has been found since it was asked last."""

    def finish(self, patience_s: float) -> DriftReport:
        """What the whole pass tells; what takes longer than that counts as not checked."""

    def close(self) -> None:
        """The pass has ended, however it ended: leave nothing running."""


@dataclass(frozen=True)
class Roles:
    """The focus measure, inspector, registrar, cell finder and operator of a scan."""

    focus: FocusMeasure
    field: FieldInspector
    registrar: SlideRegistrar
    cells: CellFinder
    operator: Operator
    shifts: ShiftFinder
    parallax: ParallaxFinder | None = None
    """None: focus is found by sweeps alone."""
    monitor: PassMonitor | None = None
    """None: a pass is not compared with what is known of the instrument."""
