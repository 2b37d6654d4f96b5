"""Before training: the run folder is made or recognised, with all that belongs to it."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version

import pandas as pd

from plsctl.acquire.errors import UserError, disk_errors
from plsctl.acquire.files.locations import is_remote, real_path
from plsctl.acquire.files.whole_files import write_whole
from plsctl.models.compute.choice import choose_compute
from plsctl.models.compute.device import choose_device
from plsctl.models.data.augmentation import array_symmetries
from plsctl.models.data.batches import measure_normalisation
from plsctl.models.data.seen_samples import (
    count_cells,
    data_digest,
    learned_before,
    read_seen_cells,
    require_unseen,
    same_cells,
    seen_cells,
    write_seen_cells,
)
from plsctl.models.networks.discriminator import SHRINKING
from plsctl.models.runs.anew import LOCK, MARK, begun_anew, entries
from plsctl.models.runs.config import TrainingConfig
from plsctl.models.runs.folder import check_request
from plsctl.models.runs.metadata import ComputeMetadata, RunMetadata
from plsctl.models.runs.registry import LossWeights
from plsctl.models.runs.run import Run
from plsctl.models.staining.perceptual import check_features, make_features, require_same_features
from plsctl.models.training.pretrained import describe_start, open_start
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.recipe_images import recipe_name


def check_training(config: TrainingConfig, data: Dataset, fresh: bool) -> None:
    """Find out before anything is written whether a run can be begun, or continued.

    Raises
    ------
    UserError
        If the data set does not fit, or the folder holds something else.
    """
    check_request(config, data, fresh)
    check_features(config, data)
    check_crops(config.losses, data)
    array_symmetries(config, data)


def prepare_run(config: TrainingConfig, data: Dataset, fresh: bool) -> Run:
    """Make the run folder, or open the one that is to be continued.

    Raises
    ------
    UserError
        If the folder holds a run with other settings or other data, or something else.
    """
    check_training(config, data, fresh)
    folder = config.out
    begun = (folder / MARK).is_file()
    if begun and not fresh:
        return _continued(config, data)
    start = open_start(config, data)
    if start is not None and data.has_split("validation", config.target):
        require_unseen(start, data, "validation", data.split("validation", config.target))
    cells, recipe = seen_cells(config, data), config.recipe_file()
    is_new = not folder.exists() or not entries(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with begun_anew(folder, MARK) if begun else nullcontext():
            config = config.with_recipe_in(folder, recipe)
            write_whole(folder / "config.yaml", config.to_yaml(folder))
            write_seen_cells(folder, pd.concat([cells, learned_before(start)]))
            metadata = _gather_metadata(config, data, start, cells)
            # Last: a folder with metadata is a run that can be continued.
            write_whole(folder / MARK, metadata.model_dump_json(indent=1))
    except BaseException:
        if is_new:
            for path in entries(folder):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if not (folder / LOCK).exists():
                folder.rmdir()
        raise
    return Run(folder, config, metadata)


def _continued(config: TrainingConfig, data: Dataset) -> Run:
    run = Run.open(config.out)
    config.require_same(run.config, config.out)
    config = config.model_copy(update={"recipe": run.config.recipe})
    metadata = run.metadata
    now, before = seen_cells(config, data), read_seen_cells(config.out)
    counts = count_cells(now)
    if counts != metadata.samples or not same_cells(now, before):
        raise UserError(
            f"the run {config.out} was begun on other data, or these were split anew "
            f"({metadata.samples} samples, now {counts}).",
            field="data",
            hint="Give the same data set to continue it, another --out, or --fresh.",
        )
    if metadata.data_sha256 not in (None, _data_digest(config, data, now)):
        raise UserError(
            f"the run {config.out} was begun on other data: samples of the same numbers have other "
            f"images or exposures in {data.path}.",
            field="data",
            hint="Give the same data set to continue it, another --out, or --fresh.",
        )
    require_same_features(run)
    write_whole(config.out / "config.yaml", config.to_yaml(config.out))
    if not _still_fits(metadata.compute, config):
        compute = _choose_compute(config, data, metadata.channels)
        metadata = metadata.model_copy(update={"compute": compute})
        write_whole(config.out / MARK, metadata.model_dump_json(indent=1))
    return Run(config.out, config, metadata)


def _data_digest(config: TrainingConfig, data: Dataset, cells: pd.DataFrame) -> str:
    margin = data.margin_px if config.margin is None else config.margin
    return data_digest(data, cells, data.channels_for(config.recipe), margin)


def _still_fits(compute: ComputeMetadata | None, config: TrainingConfig) -> bool:
    """Whether a continued run can go on in the format that it was begun in."""
    return (
        compute is not None
        and compute.device == choose_device(config.device).type
        and config.precision in ("auto", compute.precision)
        and config.memory_format in ("auto", compute.memory_format)
        and not (config.compile and compute.memory_format == "winograd")
    )


def _choose_compute(config: TrainingConfig, data: Dataset, channels: int) -> ComputeMetadata:
    margin = data.margin_px if config.margin is None else config.margin
    return choose_compute(config, channels, data.crop_px + 2 * margin, choose_device(config.device))


def _gather_metadata(
    config: TrainingConfig, data: Dataset, start: Run | None, cells: pd.DataFrame
) -> RunMetadata:
    images = data.channels_for(config.recipe)
    channels = 3 * len(images)
    return RunMetadata(
        model=config.model,
        recipe=recipe_name(config.recipe, data.recipe),
        target=config.target,
        frames=tuple(data.frames[index] for index in images),
        channels=channels,
        parameters=config.parameters(channels),
        # Trained weights belong to the scale of the inputs that they were trained with.
        normalisation=start.metadata.normalisation
        if start is not None
        else measure_normalisation(data, images, config.target),
        pixel_um=data.pixel_um,
        crop_px=data.crop_px,
        margin_px=data.margin_px if config.margin is None else config.margin,
        black_level=data.attributes.black,
        data=str(data.path if is_remote(data.path) else real_path(data.path)),
        samples=count_cells(cells),
        data_sha256=_data_digest(config, data, cells),
        slides=tuple(sorted(set(data.table.get("slide", [])))),
        perceptual=make_features(config, data),
        start=describe_start(start),
        augmentation=tuple(
            symmetry.describe([data.labels[index] for index in images])
            for symmetry in array_symmetries(config, data)
        ),
        versions={name: _version(name) for name in ("plsctl", "torch", "numpy")},
        compute=_choose_compute(config, data, channels),
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def check_crops(losses: LossWeights, data: Dataset) -> None:
    """Raise UserError where the losses take a discriminator and the crops do not fit it."""
    if losses.adversarial and data.crop_px % SHRINKING:
        raise UserError(
            f"the discriminator takes crops of a multiple of {SHRINKING} px, the data set has "
            f"{data.crop_px} px.",
            hint="Build the data set with another crop, such as 64 px.",
        )
