"""Merging data sets, after checking that they are compatible."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from plsctl.acquire.errors import UserError
from plsctl.acquire.words import counted
from plsctl.process.dataset.compatibility import Taken, exposures_that_differ, refuse_other_optics
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.recipe_images import recipe_name
from plsctl.process.dataset.records import DatasetFrame
from plsctl.process.dataset.same_cells import Looks, looks_of, shared_cells
from plsctl.process.dataset.splits import is_damaged, part_overlaps, whole_split, with_split
from plsctl.process.dataset.writer import DatasetWriter

BATCH = 64
SAME_CELL_UM = 5.0
"""Two samples of a slide closer than this are the same cell."""

Divide = Callable[[pd.DataFrame], "pd.Series[str]"]
Progress = Callable[[int, int], None]


def merge_datasets(
    sources: Sequence[Path | str],
    out: Path | str,
    *,
    recipe: str | Path | None = None,
    divide: Divide | None = None,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
    notify: Callable[[str], None] = lambda text: None,
) -> Dataset:
    """Write the samples of several data sets into one, in the order in which they are named.

    Parameters
    ----------
    out
        May be one of the sources with `overwrite`: that is appending to it.
    recipe
        The images to take over, by the name or the file of a recipe; None takes all, and then the
        data sets must hold the same.
    divide
        Gives every sample of the table its split; None keeps those the samples have.
    notify
        Called with what a user should know, such as exposures that differ.

    Raises
    ------
    UserError
        Images, pixel size, crop, targets, camera or LEDs differ, or a cell is in two of them, also
        under the name of another slide or with another origin of the stage.
    """
    sets = [Dataset.open(source) for source in sources]
    for data in sets:
        damaged = int(is_damaged(data.table).sum())
        if damaged:
            notify(f"{data.path}: {counted(damaged, 'damaged sample')} left out.")
    first = sets[0]
    images = [data.channels_for(recipe) for data in sets]
    frames = [
        [data.frames[index] for index in taken] for data, taken in zip(sets, images, strict=True)
    ]
    taken = [_taken(data, mine) for data, mine in zip(sets, frames, strict=True)]
    for data, how in zip(sets[1:], taken[1:], strict=True):
        _check_fit(first, taken[0], data, how)
    table = _joined_table(sets)
    _refuse_same_cells(sets)
    for text in exposures_that_differ(taken[0], taken[1:]):
        notify(text)
    with DatasetWriter(
        out,
        frames[0],
        recipe=recipe_name(recipe, first.recipe),
        pixel_um=first.pixel_um,
        crop_px=first.crop_px,
        margin_px=first.margin_px,
        targets=first.targets,
        attributes={
            **_shared_attributes(first),
            "slides": sorted({str(slide) for slide in table["slide"]}),
            "quality": {"slides": [verdict for data in sets for verdict in data.verdicts]},
            "sources": [
                source
                for data, mine in zip(sets, images, strict=True)
                for source in _sources(data, mine)
            ],
        },
        dtype=first.dtype,
        overwrite=overwrite,
    ) as writer:
        for data, mine in zip(sets, images, strict=True):
            whole = data.table[~is_damaged(data.table)]
            for start in range(0, len(whole), BATCH):
                _copy(data, whole.iloc[start : start + BATCH], mine, writer)
                progress(len(writer), len(table))
        joined = writer.table
        if divide is not None:
            joined = with_split(joined, divide(joined))
        elif {"split", "slide", "x_um", "y_um"} <= set(joined.columns):
            joined = _parted(joined, first.reach_um, notify)
        writer.seal(joined)
    return Dataset.open(writer.publish())


def _parted(table: pd.DataFrame, reach_um: float, notify: Callable[[str], None]) -> pd.DataFrame:
    """The splits as they were, except for crops that overlap a crop of another split."""
    split = part_overlaps(table, reach_um)
    count = int((split != whole_split(table)).sum())
    if count:
        are = "is" if count == 1 else "are"
        notify(
            f"{counted(count, 'sample')} {are} in no split any more: crops of another split "
            "overlap."
        )
    return with_split(table, split)


def _copy(data: Dataset, rows: pd.DataFrame, images: Sequence[int], writer: DatasetWriter) -> None:
    """Samples with the same targets go together: a missing target is written as such."""
    present = (
        rows["targets"] if "targets" in rows else pd.Series(";".join(data.targets), rows.index)
    )
    runs = (present != present.shift()).cumsum()
    for _, run in rows.groupby(runs, sort=True):
        indices = run["sample"].to_numpy(dtype=np.int64)
        names = [name for name in present[run.index[0]].split(";") if name]
        writer.append(
            data.read_images(indices, images, data.margin_px),
            {name: data.read_target(name, indices) for name in names},
            run,
        )


def _taken(data: Dataset, frames: Sequence[DatasetFrame]) -> Taken:
    attributes = data.attributes
    black = attributes.black_level
    return Taken(
        data.path.name,
        data.path,
        data.pixel_um,
        attributes.orientation,
        None if black is None else black / attributes.white,
        frames,
    )


def _check_fit(first: Dataset, wanted: Taken, other: Dataset, found: Taken) -> None:
    labels, others = ([frame.label for frame in taken.frames] for taken in (wanted, found))
    if labels != others:
        raise UserError(
            f"it holds the {len(others)} images of the recipe {other.recipe}, {first.path.name} "
            f"the {len(labels)} of {first.recipe}.",
            file=str(other.path),
            hint="Choose a recipe that both hold with --recipe.",
        )
    for name, mine, theirs in (
        ("crop_px", first.crop_px, other.crop_px),
        ("margin_px", first.margin_px, other.margin_px),
        ("targets", ", ".join(first.targets), ", ".join(other.targets)),
        ("dtype", first.dtype, other.dtype),
        ("full_scale", first.attributes.full_scale, other.attributes.full_scale),
    ):
        if mine != theirs:
            raise UserError(
                f"its {name} is {theirs}, that of {first.path.name} {mine}.",
                file=str(other.path),
                hint="Build both with the same settings.",
            )
    refuse_other_optics(wanted, found)


def _joined_table(sets: Sequence[Dataset]) -> pd.DataFrame:
    """All rows; UserError where two sets hold the same cell."""
    table = pd.concat(
        [
            data.table[~is_damaged(data.table)].assign(source=data.path.name, order=number)
            for number, data in enumerate(sets)
        ],
        ignore_index=True,
    )
    if not {"slide", "x_um", "y_um"} <= set(table.columns):
        return table
    for _, rows in table.groupby("slide", sort=False):
        if rows["order"].nunique() < 2:
            continue
        places = rows[["x_um", "y_um"]].to_numpy(dtype=float)
        pairs = cKDTree(places).query_pairs(SAME_CELL_UM, output_type="ndarray")
        order = rows["order"].to_numpy()
        twice = pairs[order[pairs[:, 0]] != order[pairs[:, 1]]]
        if len(twice):
            one, two = (rows.iloc[place] for place in twice[0])
            are = "is" if len(twice) == 1 else "are"
            raise UserError(
                f"{counted(len(twice), 'cell')} {are} in two of the data sets, such as sample "
                f"{one['sample']} of {one['source']} and {two['sample']} of {two['source']} (slide "
                f"{one['slide']}).",
                hint="Name each data set once; a slide that was scanned twice may enter once.",
            )
    return table


def _refuse_same_cells(sets: Sequence[Dataset]) -> None:
    """UserError where two sets hold the same cells, whatever slides and places they name."""
    looks: list[tuple[pd.DataFrame, Looks]] = []
    for data in sets:
        rows = data.table[~is_damaged(data.table)].reset_index(drop=True)
        looks.append((rows, looks_of(_stained_crops(data, rows["sample"].to_numpy(np.int64)))))
    for first, second in combinations(range(len(sets)), 2):
        (one, its_looks), (other, other_looks) = looks[first], looks[second]
        pairs, how = shared_cells(one, its_looks, other, other_looks)
        if pairs:
            here, there = one.iloc[pairs[0][0]], other.iloc[pairs[0][1]]
            raise UserError(
                f"{counted(len(pairs), 'cell')} of {sets[second].path} and of {sets[first].path} "
                f"{how}: such as sample {there['sample']} (slide {there.get('slide', '')}) and "
                f"sample {here['sample']} (slide {here.get('slide', '')}).",
                hint="A slide that was scanned twice, or under two names, may enter once.",
            )


def _stained_crops(data: Dataset, numbers: NDArray[np.int64]) -> Iterator[NDArray[np.generic]]:
    """The 20x target of samples in batches, or their first image where there is none."""
    for start in range(0, len(numbers), BATCH):
        part = numbers[start : start + BATCH]
        if "20x" in data.targets:
            yield data.read_target("20x", part)
        else:
            yield data.read_images(part, [0])[:, 0]


def _sources(data: Dataset, images: Sequence[int]) -> list[object]:
    """The attributes of a merged data set about its parts."""
    known = data.attributes.sources
    if known is not None:
        return [source | {"light": _some(source["light"], images)} for source in known]
    return [
        {
            "name": data.path.name,
            "samples": len(data),
            "slides": sorted({str(slide) for slide in data.table["slide"]}),
            "light": [data.frames[index].light for index in images],
            "highres_scales": list(data.attributes.highres_scales),
        }
    ]


def _some(lights: Sequence[object], images: Sequence[int]) -> list[object]:
    """Of those images; None for images that were added later (`plsctl synthetic-aperture`)."""
    return [lights[index] if index < len(lights) else None for index in images]


def _shared_attributes(data: Dataset) -> dict[str, object]:
    names = {"black_level", "full_scale", "camera_rotation_deg", "camera_mirrored"}
    return data.attributes.model_dump(mode="json", include=names, exclude_unset=True)
