"""Which measure raises which flag, from which limit on: one table for quality control and review.

A flag is raised where any of its checks is out of bounds, unless it is one of `UNLESS` and that
other flag is raised as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FEW = 8
"""A slide with fewer samples than this uses the median of all slides."""

Marks = NDArray[np.bool_]
Relation = Literal["above", "below", "risen", "fallen", "share_above", "share_below"]


@dataclass(frozen=True)
class Check:
    """A measure that must not be above or below its limit.

    `limit` names one of the limits (`SampleLimits`), or is a number. "risen" and "fallen" are
    distances from the slide's median, "share_above" and "share_below" multiples of it.
    """

    measure: str
    relation: Relation
    limit: str | float

    @property
    def is_upper(self) -> bool:
        """Whether values above the limit are out of bounds."""
        return self.relation in ("above", "risen", "share_above")


CHECKS: Mapping[str, tuple[Check, ...]] = {
    "frame_shift": (Check("frame_shift_px", "above", "frame_shift_px"),),
    "frame_swap": (Check("frame_exchange", "above", "frame_exchange"),),
    "frame_misfit": (Check("frame_misfit", "above", "frame_misfit"),),
    "frame_light": (Check("frame_light", "above", "frame_light"),),
    # The sharpness of the 20x target is counted against that of the input.
    "blurred_input": (
        Check("focus_20x", "risen", "input_blur"),
        Check("focus_20x", "above", "most_focus_20x"),
        Check("focus_dark", "fallen", "dark_field_blur"),
        Check("shared_input", "below", "shared_detail"),
    ),
    "blurred_20x": (
        Check("focus_20x", "fallen", "target_20x_blur"),
        Check("focus_20x", "below", "least_focus_20x"),
        Check("focus_100x", "above", "most_focus_100x"),
        Check("shared_20x", "below", "shared_detail"),
    ),
    "blurred_100x": (
        Check("focus_100x", "fallen", "target_100x_blur"),
        Check("focus_100x", "below", "least_focus_100x"),
    ),
    "saturated": (Check("saturated", "above", "saturated"),),
    "dirt": (Check("dirt_px", "above", "dirt_px"),),
    "artefact": (
        Check("spot_20x", "above", "spot_20x"),
        Check("spot_100x", "above", "spot_100x"),
        Check("specks_100x", "above", "specks_100x"),
        Check("stray_px", "above", "stray_px"),
        Check("peak_20x", "share_above", "peak_20x_share"),
        Check("peak_100x", "share_above", "peak_100x_share"),
        Check("unexplained", "share_above", "unexplained_share"),
    ),
    "lost_cell": (
        Check("nucleus_green", "below", "lost_chromatin"),
        Check("nucleus_green", "share_below", "lost_chromatin_share"),
    ),
    "smudge": (Check("nucleus_green", "share_below", "smudge_chromatin_share"),),
    "missing_neighbour": (Check("vanished_px", "above", "missing_px"),),
    "leak": (Check("leak_px", "above", "leak_px"),),
    "border": (Check("border_px", "below", "border_px"),),
    "cut_off": (Check("cell_margin_px", "below", 0.0),),
    "weak_match": (
        Check("score_20x", "below", "least_score"),
        Check("score_100x", "below", "least_score"),
        Check("second_20x", "above", "most_second_ratio"),
        Check("second_100x", "above", "most_second_ratio"),
    ),
}

UNLESS: Mapping[str, str] = {"smudge": "lost_cell", "missing_neighbour": "lost_cell"}


class Measures:
    """The columns of a data set's table as numbers, beside their limits.

    Parameters
    ----------
    limits
        By name, those of `SampleLimits`.
    """

    def __init__(self, table: pd.DataFrame, limits: Mapping[str, float]) -> None:
        self._table, self._limits = table, limits
        self._slides = (
            table["slide"].astype(str) if "slide" in table else pd.Series("", index=table.index)
        )

    def values(self, check: Check) -> NDArray[np.float64]:
        """The measure of every sample; not a number where it is missing."""
        return np.asarray(self._column(check.measure), dtype=np.float64)

    def bounds(self, check: Check) -> NDArray[np.float64]:
        """The limit of every sample, in the unit of the measure."""
        limit = float(self._limits[check.limit]) if isinstance(check.limit, str) else check.limit
        if check.relation in ("above", "below"):
            return np.full(len(self._table), limit)
        usual = self._usual(self._column(check.measure)).to_numpy(dtype=np.float64)
        if check.relation == "risen":
            return np.asarray(usual + limit)
        if check.relation == "fallen":
            return np.asarray(usual - limit)
        return np.asarray(np.where(usual > 0, usual, np.nan) * limit)

    def out_of_bounds(self, check: Check) -> Marks:
        """Which samples fail the check; none where the measure or its limit is missing."""
        values, bounds = self.values(check), self.bounds(check)
        return np.asarray(values > bounds if check.is_upper else values < bounds)

    def flagged(self) -> dict[str, Marks]:
        """For every flag of the table which samples it is raised for."""
        none = np.zeros(len(self._table), dtype=bool)
        marks = {
            flag: np.logical_or.reduce([none, *(self.out_of_bounds(check) for check in checks)])
            for flag, checks in CHECKS.items()
        }
        return marks | {flag: marks[flag] & ~marks[other] for flag, other in UNLESS.items()}

    def _column(self, name: str) -> pd.Series[float]:
        if name not in self._table:
            return pd.Series(np.nan, index=self._table.index)
        return pd.to_numeric(self._table[name], errors="coerce")

    def _usual(self, values: pd.Series[float]) -> pd.Series[float]:
        """The slide's median, that of all slides where one has few samples, else not a number."""
        overall = values.median() if values.count() >= FEW else np.nan
        groups = values.groupby(self._slides)
        own = groups.transform("median")
        return own.where(groups.transform("count") >= FEW, overall)
