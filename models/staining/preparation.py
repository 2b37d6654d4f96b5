"""Before training: the run folder is made or recognised, with all that belongs to it."""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from plsctl.acquire.errors import UserError, disk_errors
from plsctl.acquire.files.locations import is_remote, real_path
from plsctl.acquire.files.whole_files import write_whole
from plsctl.models.compute.choice import choose_compute
from plsctl.models.compute.device import choose_device
from plsctl.models.data.augmentation import array_symmetries
from plsctl.models.data.batches import measure_normalisation
from plsctl.models.data.seen_samples import (
    read_seen_samples,
    require_unseen,
    seen_samples,
    write_seen_samples,
)
from plsctl.models.networks.discriminator import SHRINKING
from plsctl.models.runs.config import TrainingConfig
from plsctl.models.runs.folder import check_request
from plsctl.models.runs.metadata import ComputeMetadata, RunMetadata
from plsctl.models.runs.registry import LossWeights
from plsctl.models.runs.run import Run
from plsctl.models.staining.perceptual import check_features, make_features
from plsctl.models.training.pretrained import describe_start, open_start
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.recipe_images import recipe_name


def prepare_run(config: TrainingConfig, data: Dataset, fresh: bool) -> Run:
    """Make the run folder, or open the one that is to be continued.

    Raises
    ------
    UserError
        If the folder holds a run with other settings or other data, or something else.
    """
    check_request(config, data, fresh)
    check_features(config, data)
    check_crops(config.losses, data)
    array_symmetries(config, data)
    folder = config.out
    if (folder / "facts.json").is_file() and not fresh:
        return _continued(config, data)
    start, samples = open_start(config, data), seen_samples(config, data)
    if start is not None:
        require_unseen(start, data, "validation", samples["validation"])
    if (folder / "facts.json").is_file():
        shutil.rmtree(folder)
    is_new = not folder.exists() or not any(folder.iterdir())
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        config = config.with_recipe_in(folder)
        write_whole(folder / "config.yaml", config.to_yaml(folder))
        write_seen_samples(folder, samples)
        counts = {name: len(numbers) for name, numbers in samples.items()}
        metadata = _gather_metadata(config, data, start, counts)
        # Last: a folder with metadata is a run that can be continued.
        write_whole(folder / "facts.json", metadata.model_dump_json(indent=1))
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return Run(folder, config, metadata)


def _continued(config: TrainingConfig, data: Dataset) -> Run:
    run = Run.open(config.out)
    config.require_same(run.config, config.out)
    config = config.model_copy(update={"recipe": run.config.recipe})
    now, before = seen_samples(config, data), read_seen_samples(config.out)
    counts = {name: len(numbers) for name, numbers in now.items()}
    same = before is None or all(np.array_equal(now[name], before[name]) for name in now)
    if counts != run.metadata.samples or not same:
        raise UserError(
            f"the run {config.out} was begun on other data, or these were split anew "
            f"({run.metadata.samples} samples, now {counts}).",
            field="data",
            hint="Give the same data set to continue it, another --out, or --fresh.",
        )
    write_whole(config.out / "config.yaml", config.to_yaml(config.out))
    metadata = run.metadata
    if not _still_fits(metadata.compute, config):
        compute = _choose_compute(config, data, metadata.channels)
        metadata = metadata.model_copy(update={"compute": compute})
        write_whole(config.out / "facts.json", metadata.model_dump_json(indent=1))
    return Run(config.out, config, metadata)


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
    config: TrainingConfig, data: Dataset, start: Run | None, samples: dict[str, int]
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
        samples=samples,
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
