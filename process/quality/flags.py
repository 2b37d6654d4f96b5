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
from plsctl.process.matching.shared_detail import SHARED
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
    Pixels are of 0.293 um (`REFERENCE_UM`), whatever the camera's are.
    """

    frame_shift_px: float = Field(default=0.5, gt=0)
    """`frame_shift`: most pixels that a frame may lie beside the others."""
    frame_exchange: float = Field(default=0.1, gt=-1)
    """`frame_swap`: how much better two frames may fit when exchanged; about -1 is right, 1
    exchanged."""
    frame_misfit: float = Field(default=12.0, gt=1)
    """`frame_misfit`: how many times as far as usual a frame may depart from the others."""
    frame_light: float = Field(default=1.6, gt=1)
    """`frame_light`: largest factor of brightness between a frame and what the others make it."""
    input_blur: float = Field(default=0.22, gt=0)
    """`blurred_input`: how far the 20x target may be sharper than the input lets expect."""
    dark_field_blur: float = Field(default=0.25, gt=0)
    """`blurred_input`: how far the dark field's sharpness may fall."""
    target_20x_blur: float = Field(default=0.22, gt=0)
    """`blurred_20x`: how far the sharpness of the 20x target may fall."""
    target_100x_blur: float = Field(default=0.28, gt=0)
    """`blurred_100x`: the same of the 100x target."""
    least_focus_20x: float = -0.45
    """`blurred_20x`: least sharpness of the 20x target over that of the input (log ratio), however
    blurred the other samples of the slide are."""
    most_focus_20x: float = 0.15
    """`blurred_input`: the most of the same."""
    least_focus_100x: float = -0.35
    """`blurred_100x`: least sharpness of the 100x target over that of the 20x target."""
    most_focus_100x: float = 0.4
    """`blurred_20x`: the most of the same."""
    shared_detail: float = Field(default=SHARED, le=1)
    """`blurred_input`, `blurred_20x`: least correlation of the fine detail of the position's two
    passes: one that is optically out of focus shows other rings, as fine as before."""
    saturated: float = Field(default=0.05, ge=0, le=1)
    """`saturated`: largest share of saturated values in a bright-field frame or target."""
    dirt_px: int = Field(default=50, ge=0)
    """`dirt`: most pixels of something in the input that the target has not."""
    spot_20x: float = Field(default=1.35, gt=1)
    """`artefact`: densest spot of the 20x target, over its nuclei."""
    spot_100x: float = Field(default=1.42, gt=1)
    """`artefact`: the same of the 100x target."""
    peak_20x_share: float = Field(default=1.55, gt=1)
    """`artefact`: strongest stain of the 20x target."""
    peak_100x_share: float = Field(default=1.5, gt=1)
    """`artefact`: the same of the 100x target."""
    specks_100x: float = Field(default=2.5, ge=0)
    """`artefact`: specks beside the nuclei of the 100x target."""
    stray_px: int = Field(default=50, ge=0)
    """`artefact`: most pixels of stain where the input shows glass."""
    unexplained_share: float = Field(default=2.4, gt=1)
    """`artefact`: stain that the input's texture does not account for."""
    lost_chromatin: float = Field(default=0.12, ge=0)
    """`lost_cell`: least absorbance of the nucleus in green."""
    lost_chromatin_share: float = Field(default=0.4, ge=0, lt=1)
    """`lost_cell`: the same over the usual."""
    smudge_chromatin_share: float = Field(default=0.65, ge=0, lt=1)
    """`smudge`: absorbance of the nucleus over the usual, above that of `lost_cell`."""
    missing_px: int = Field(default=100, ge=0)
    """`missing_neighbour`: most pixels of rims in the input that the target has not."""
    leak_px: int = Field(default=35, ge=0)
    """`leak`: most pixels of stain on glass around the cells."""
    border_px: float = 0.0
    """`border`: least distance of the crop from the image's border."""
    same_cell_um: float = Field(default=5.0, ge=0)
    """`duplicate`: cells nearer than this are one; 0: never."""
    least_score: float = 0.4
    """`weak_match`: least similarity of a match."""
    most_second_ratio: float = 0.85
    """`weak_match`: how good another place may be, over the best one."""


class SlideLimits(Settings):
    """Limits at which a slide is rejected.

    Shares are of the slide's samples, for `mismatched` of its cells; `nucleus` and `glass` are
    natural absorbances of the stain in green.
    """

    nucleus: tuple[float, float] = (0.35, 2.6)
    """Median absorbance of the nuclei in green, as [low, high]."""
    nucleus_red_to_green: tuple[float, float] = (0.2, 0.85)
    """Their absorbance in red over that in green."""
    glass: float = Field(default=0.12, gt=0)
    """Most that glass may absorb in green beyond red and blue after staining."""
    stain_against_others: float = Field(default=2.0, gt=1)
    """Largest factor between the nuclei of this slide and of the others."""
    light_spread: float = Field(default=0.3, gt=0)
    """Largest variation of the bright field over the scan, as a share."""
    bad_light: float = Field(default=0.2, gt=0, le=1)
    """Largest share of samples with `frame_light` or `saturated`."""
    bad_frames: float = Field(default=0.2, gt=0, le=1)
    """Largest share of samples with `frame_shift`, `frame_swap` or `frame_misfit`."""
    blurred: float = Field(default=0.3, gt=0, le=1)
    """Largest share of blurred samples."""
    focus_input: float = -0.75
    """Least sharpness of the input, its median (log ratio of the contrast of fine to coarse
    detail): where both 20x passes are out of focus, neither tells it of the other."""
    mismatched: float = Field(default=0.3, gt=0, le=1)
    """Largest share of cells not found again in another pass."""


class QualitySettings(Settings):
    """Quality control of a build: limits, and what is left out of the data set.

    Samples with a flag of `exclude` stay in the data set's arrays and table, where a review can
    take them back, but belong to no split. So do all samples of a rejected slide, unless
    `keep_rejected_slides` is set.
    """

    samples: SampleLimits = SampleLimits()
    """Limits of the measures of each sample."""
    slides: SlideLimits = SlideLimits()
    """Limits of whole slides."""
    exclude: tuple[Flag, ...] = EXCLUDING
    """Flags that leave a sample out; the others only mark it."""
    keep_rejected_slides: bool = False
    """Use rejected slides all the same."""


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
