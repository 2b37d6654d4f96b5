"""Flags of samples: which measures are out of bounds, and which samples are left out for it.

Everything here is computed from the table of a data set alone (`plsctl.process.quality.measures`
fills it), so that limits can be changed and applied again without touching an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.spatial import cKDTree

from plsctl.acquire.files.settings import Settings, load_settings
from plsctl.process.quality.checks import Marks, Measures

Flag = Literal[
    "frame_shift",
    "frame_swap",
    "frame_misfit",
    "frame_light",
    "blurred_input",
    "blurred_20x",
    "blurred_100x",
    "saturated",
    "dirt",
    "artefact",
    "lost_cell",
    "smudge",
    "missing_neighbour",
    "leak",
    "border",
    "cut_off",
    "duplicate",
    "weak_match",
]
FLAGS: tuple[str, ...] = get_args(Flag)

EXCLUDING: tuple[Flag, ...] = (
    "frame_shift",
    "frame_swap",
    "frame_misfit",
    "frame_light",
    "blurred_input",
    "blurred_20x",
    "blurred_100x",
    "dirt",
    "artefact",
    "lost_cell",
    "duplicate",
)

REJECTED = "rejected_slide"
"""First word in `excluded` for samples of a rejected slide; their own flags follow."""


class SampleLimits(Settings):
    """Limits at which measures raise flags; docs/quality.md says how they were found.

    Limits called `..._share` are multiples of the slide's median, `..._blur` distances from it.
    """

    frame_shift_px: float = Field(default=0.5, gt=0)
    frame_exchange: float = Field(default=0.1, gt=-1)
    frame_misfit: float = Field(default=12.0, gt=1)
    frame_light: float = Field(default=1.6, gt=1)
    input_blur: float = Field(default=0.22, gt=0)
    dark_field_blur: float = Field(default=0.25, gt=0)
    target_20x_blur: float = Field(default=0.22, gt=0)
    target_100x_blur: float = Field(default=0.28, gt=0)
    saturated: float = Field(default=0.05, ge=0, le=1)
    dirt_px: int = Field(default=50, ge=0)
    spot_20x: float = Field(default=1.35, gt=1)
    spot_100x: float = Field(default=1.42, gt=1)
    peak_20x_share: float = Field(default=1.55, gt=1)
    peak_100x_share: float = Field(default=1.5, gt=1)
    specks_100x: float = Field(default=2.5, ge=0)
    stray_px: int = Field(default=50, ge=0)
    unexplained_share: float = Field(default=2.4, gt=1)
    lost_chromatin: float = Field(default=0.12, ge=0)
    lost_chromatin_share: float = Field(default=0.4, ge=0, lt=1)
    smudge_chromatin_share: float = Field(default=0.65, ge=0, lt=1)
    missing_px: int = Field(default=100, ge=0)
    leak_px: int = Field(default=35, ge=0)
    border_px: float = 0.0
    same_cell_um: float = Field(default=5.0, ge=0)
    least_score: float = 0.4
    most_second_ratio: float = 0.85


class SlideLimits(Settings):
    """Limits at which a slide is rejected.

    Shares are of the slide's samples, for `mismatched` of its cells; `nucleus` and `glass` are
    natural absorbances of the stain in green.
    """

    nucleus: tuple[float, float] = (0.35, 2.6)
    nucleus_red_to_green: tuple[float, float] = (0.2, 0.85)
    glass: float = Field(default=0.15, gt=0)
    stain_against_others: float = Field(default=2.0, gt=1)
    light_spread: float = Field(default=0.3, gt=0)
    bad_light: float = Field(default=0.2, gt=0, le=1)
    bad_frames: float = Field(default=0.2, gt=0, le=1)
    blurred: float = Field(default=0.3, gt=0, le=1)
    mismatched: float = Field(default=0.3, gt=0, le=1)


class QualitySettings(Settings):
    """Quality control of a build: limits, and what is left out of the data set.

    Samples with a flag of `exclude` stay in the data set's arrays and table, where a review can
    take them back, but belong to no split. So do all samples of a rejected slide, unless
    `keep_rejected_slides` is set.
    """

    samples: SampleLimits = SampleLimits()
    slides: SlideLimits = SlideLimits()
    exclude: tuple[Flag, ...] = EXCLUDING
    keep_rejected_slides: bool = False


def load_quality(path: Path | None, keep_rejected_slides: bool = False) -> QualitySettings:
    """Settings from a YAML file; the defaults without one.

    Raises
    ------
    UserError
        The file is missing or wrong; the message names line and field.
    """
    settings = QualitySettings() if path is None else load_settings(path, QualitySettings)
    if keep_rejected_slides:
        settings = settings.model_copy(update={"keep_rejected_slides": True})
    return settings


def flag_samples(table: pd.DataFrame, settings: QualitySettings | None = None) -> pd.DataFrame:
    """Flag every sample, and mark the samples that the flags exclude.

    Parameters
    ----------
    table
        Of a data set, with the columns of `measure_position`; a flag whose measures are missing
        is never raised.

    Returns
    -------
    The table with `flags`, the names of the flags joined by ";", and `excluded`, the excluding
    ones among them: "" for a sample that is used. Slides that were rejected before stay so, unless
    the settings keep them.
    """
    settings = settings or QualitySettings()
    marks = _marks(table, settings.samples)
    names = [flag for flag in FLAGS if flag in marks]
    raised = np.array([marks[name] for name in names], dtype=bool).reshape(len(names), len(table))
    excluding = np.array([name in settings.exclude for name in names], dtype=bool)
    excluded = _joined(names, raised & excluding[:, None])
    if "excluded" in table and not settings.keep_rejected_slides:
        rejected = table["excluded"].str.startswith(REJECTED)
        excluded = [
            f"{REJECTED};{text}".rstrip(";") if gone else text
            for gone, text in zip(rejected, excluded, strict=True)
        ]
    return table.assign(flags=_joined(names, raised), excluded=excluded)


def _joined(names: Iterable[str], raised: Marks) -> list[str]:
    every = list(names)
    return [
        ";".join(name for name, up in zip(every, column, strict=True) if up) for column in raised.T
    ]


def count_flags(flags: pd.Series[str]) -> dict[str, int]:
    """How many samples have each flag, by name."""
    counts = flags[flags != ""].str.split(";").explode().value_counts()
    return {str(name): int(count) for name, count in sorted(counts.items())}


def _marks(table: pd.DataFrame, limits: SampleLimits) -> Mapping[str, Marks]:
    found = Measures(table, limits.model_dump()).flagged()
    return found | {"duplicate": _duplicates(table, limits.same_cell_um)}


def _duplicates(table: pd.DataFrame, same_cell_um: float) -> Marks:
    """Samples of a cell that another position shows too, nearer to the middle of its field."""
    marks = np.zeros(len(table), dtype=bool)
    if not {"slide", "x_um", "y_um"} <= set(table.columns) or same_cell_um <= 0:
        return marks
    inside = (
        pd.to_numeric(table["border_px"], errors="coerce").fillna(0.0).to_numpy(dtype=float)
        if "border_px" in table
        else np.zeros(len(table))
    )
    for rows in table.groupby(table["slide"].astype(str), sort=False).indices.values():
        places = table[["x_um", "y_um"]].to_numpy(dtype=float)[rows]
        for pair in sorted(cKDTree(places).query_pairs(same_cell_um)):
            one, other = (int(rows[index]) for index in pair)
            if not marks[one] and not marks[other]:
                marks[other if inside[one] >= inside[other] else one] = True
    return marks
