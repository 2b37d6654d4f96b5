"""Findings about a sample: the measures that failed, their limits, and where they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plsctl.acquire.errors import DamagedData
from plsctl.process.dataset.reader import Dataset
from plsctl.process.quality.checks import CHECKS, Check, Measures
from plsctl.process.quality.content import content_masks
from plsctl.process.quality.flags import SampleLimits
from plsctl.process.report.dataset import as_image

MEANINGS: Mapping[str, str] = {
    "frame_shift": "a frame lies beside the others",
    "frame_swap": "two frames seem to be exchanged",
    "frame_misfit": "a frame does not show the same scene",
    "frame_light": "a frame is too bright or too dark",
    "blurred_input": "the input is not sharp",
    "blurred_20x": "the 20x target is not sharp",
    "blurred_100x": "the 100x target is not sharp",
    "saturated": "pixels are saturated",
    "dirt": "something in the input is not in the target",
    "artefact": "stain where none should be: precipitate",
    "lost_cell": "the target has no stained nucleus",
    "smudge": "the nucleus took little stain",
    "missing_neighbour": "a neighbour of the input is not in the target",
    "leak": "stain lies on glass",
    "border": "the crop reaches beyond an image",
    "cut_off": "the cell is larger than the crop",
    "duplicate": "another position shows the same cell",
    "weak_match": "the passes fit poorly, or elsewhere nearly as well",
}
_IN_TARGET = ("leak_px", "stray_px")
_MASKED = ("dirt_px", "vanished_px", *_IN_TARGET)
_MARGIN_PX = 2


@dataclass(frozen=True)
class Place:
    """A rectangle in one of a sample's images: `image` is its label, or the target's name."""

    image: str
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Finding:
    """A flag of a sample and, where one is behind it, the measure that is out of bounds."""

    flag: str
    meaning: str
    measure: str = ""
    value: float | None = None
    limit: float | None = None
    is_upper: bool = True
    unit: str = ""
    frames: str = ""
    """Labels of the frames that it concerns, with blanks between."""
    place: Place | None = None

    def as_dict(self) -> dict[str, object]:
        """The finding for a page."""
        return asdict(self)


def unit_of(measure: str) -> str:
    """The unit of a measure, by its name."""
    for end, unit in (("_px", "px"), ("_um", "µm"), ("_ms", "ms")):
        if measure.endswith(end):
            return unit
    return ""


class Findings:
    """Finds what is wrong with a sample of a data set."""

    def __init__(self, data: Dataset) -> None:
        self._data = data
        settings = (data.attributes.quality or {}).get("settings", {})
        known = {**SampleLimits().model_dump(), **settings.get("samples", {})}
        self._measures = Measures(data.table, known)
        # Medians of a slide are the same for all of its samples.
        self._failed: dict[Check, tuple[NDArray[np.bool_], NDArray[np.float64]]] = {}

    def of(self, sample: int) -> list[Finding]:
        """The findings behind the flags of a sample."""
        row = self._data.table.iloc[sample]
        flags = [flag for flag in str(row.get("flags", "")).split(";") if flag and flag != "nan"]
        found: list[Finding] = []
        masks: dict[str, NDArray[np.bool_]] | None = None
        for flag in flags:
            meaning = MEANINGS.get(flag, "")
            # Of two limits on one measure, one is enough.
            out = [check for check in CHECKS.get(flag, ()) if self._bounds(check)[0][sample]]
            failed = {check.measure: check for check in reversed(out)}.values()
            if not failed:
                found.append(Finding(flag, meaning))
            for check in failed:
                if check.measure in _MASKED and masks is None:
                    masks = self._masks(sample)
                found.append(
                    Finding(
                        flag,
                        meaning,
                        check.measure,
                        float(row[check.measure]),
                        round(float(self._bounds(check)[1][sample]), 4),
                        check.is_upper,
                        unit_of(check.measure),
                        str(row.get(f"{check.measure}_of", "") or ""),
                        self._place(flag, check.measure, masks or {}, row),
                    )
                )
        return found

    def _bounds(self, check: Check) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        if check not in self._failed:
            failed = self._measures.out_of_bounds(check)
            self._failed[check] = failed, self._measures.bounds(check)
        return self._failed[check]

    def _masks(self, sample: int) -> dict[str, NDArray[np.bool_]]:
        data = self._data
        if "brightfield" not in data.labels or "20x" not in data.targets:
            return {}
        try:
            stack = data.read_images([sample], data.channels_of(["brightfield"]))[0, 0]
            target = as_image(data.read_target("20x", [sample])[0])
        except DamagedData:  # whoever shows the sample says so
            return {}
        return content_masks(as_image(stack), target, data.attributes.black)

    def _place(
        self,
        flag: str,
        measure: str,
        masks: Mapping[str, NDArray[np.bool_]],
        row: pd.Series,
    ) -> Place | None:
        if measure in masks and masks[measure].any():
            return _around(masks[measure], "20x" if measure in _IN_TARGET else "brightfield")
        side = self._data.crop_px
        if flag in ("lost_cell", "smudge"):
            return Place("20x", side // 4, side // 4, side // 2, side // 2)
        if flag == "cut_off" and {"width_px", "height_px"} <= set(row.index):
            width, height = (min(side, round(float(row[n]))) for n in ("width_px", "height_px"))
            return Place("20x", (side - width) // 2, (side - height) // 2, width, height)
        return None


def _around(mask: NDArray[np.bool_], image: str) -> Place:
    """The rectangle around a mask, with a little room, inside the crop."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = (max(0, int(places[0]) - _MARGIN_PX) for places in (rows, columns))
    bottom, right = (
        min(size, int(places[-1]) + 1 + _MARGIN_PX)
        for size, places in zip(mask.shape, (rows, columns), strict=True)
    )
    return Place(image, left, top, right - left, bottom - top)
