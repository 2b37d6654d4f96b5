"""Before training: the run folder is made or recognised, and the perceptual network is ready."""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from plsctl.acquire.errors import UserError
from plsctl.models.augmentation import array_symmetries
from plsctl.models.config import TrainingConfig
from plsctl.models.data import SampleSource, measure_normalisation, some_of, to_colour
from plsctl.models.discriminator import SHRINKING
from plsctl.models.facts import RunFacts, write_text
from plsctl.models.perceptual import StainFeatures, VggFeatures, file_digest
from plsctl.models.run import Run, read_tensors, write_tensors
from plsctl.models.start import describe_start, open_start
from plsctl.process.dataset import Dataset

FEATURE_TARGETS = 256
"""Training targets from which the built-in perceptual filters are made."""


def prepare_run(config: TrainingConfig, data: Dataset, fresh: bool) -> Run:
    """Make the run folder, or open the one that is to be continued.

    Raises
    ------
    UserError
        If the folder holds a run with other settings or other data, or something else.
    """
    data.require_target(config.target)
    data.channels_for(config.recipe)
    data.require_margin(config.margin or 0)
    _check_vgg_file(config)
    _check_crops(config, data)
    array_symmetries(config, data)
    folder = config.out
    if (folder / "facts.json").is_file() and not fresh:
        return _continued(config, data)
    start = open_start(config, data)
    if (folder / "facts.json").is_file():
        shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()) and not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} exists and is not a run folder.", hint="Choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.yaml", config.to_yaml())
    facts = _gather_facts(config, data, start)
    # Last: a folder with facts is a run that can be continued.
    write_text(folder / "facts.json", facts.model_dump_json(indent=1))
    return Run(folder, config, facts)


def _continued(config: TrainingConfig, data: Dataset) -> Run:
    run = Run.open(config.out)
    for name in run.config.differences(config):
        before, now = getattr(run.config, name), getattr(config, name)
        raise UserError(
            f"the run {config.out} was begun with {name} = {before}, now it is {now}.",
            field=name,
            hint="Give the same settings to continue it, another --out, or --fresh.",
        )
    if _sample_counts(config, data) != run.facts.samples:
        raise UserError(
            f"the run {config.out} was begun on other data ({run.facts.samples} samples, now "
            f"{_sample_counts(config, data)}).",
            field="data",
            hint="Give the same data set to continue it, another --out, or --fresh.",
        )
    write_text(config.out / "config.yaml", config.to_yaml())
    return Run(config.out, config, run.facts)


def _gather_facts(config: TrainingConfig, data: Dataset, start: Run | None) -> RunFacts:
    images = data.channels_for(config.recipe)
    channels = 3 * len(images)
    return RunFacts(
        model=config.model,
        recipe=config.recipe or data.recipe,
        target=config.target,
        frames=tuple(data.frames[index] for index in images),
        channels=channels,
        parameters=config.parameters(channels),
        # Trained weights belong to the scale of the inputs that they were trained with.
        normalisation=start.facts.normalisation
        if start is not None
        else measure_normalisation(data, images, config.target),
        pixel_um=data.pixel_um,
        crop_px=data.crop_px,
        margin_px=data.margin_px if config.margin is None else config.margin,
        black_level=float(str(data.attributes.get("black_level", 0))),
        data=str(data.path),
        samples=_sample_counts(config, data),
        slides=tuple(sorted(set(data.table.get("slide", [])))),
        perceptual=_describe_perceptual(config),
        start=describe_start(start),
        augmentation=tuple(
            symmetry.describe([data.labels[index] for index in images])
            for symmetry in array_symmetries(config, data)
        ),
        versions={name: _version(name) for name in ("plsctl", "torch", "numpy")},
    )


def _sample_counts(config: TrainingConfig, data: Dataset) -> dict[str, int]:
    samples = {name: data.split(name, config.target) for name in ("train", "validation")}
    samples["train"] = some_of(samples["train"], config.train_share)
    return {name: len(numbers) for name, numbers in samples.items()}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _describe_perceptual(config: TrainingConfig) -> dict[str, str] | None:
    if not config.losses.perceptual:
        return None
    if config.perceptual == "targets":
        return {"network": "principal components of the stained training targets"}
    file = Path(config.perceptual)
    return {
        "network": "VGG19 block4_conv4 before activation",
        "file": str(file),
        "sha256": file_digest(file),
    }


def _check_vgg_file(config: TrainingConfig) -> None:
    """Read the weights once before anything is written, to fail early."""
    if config.losses.perceptual and config.perceptual != "targets":
        VggFeatures.load(Path(config.perceptual))


def _check_crops(config: TrainingConfig, data: Dataset) -> None:
    if config.losses.adversarial and data.crop_px % SHRINKING:
        raise UserError(
            f"the discriminator takes crops of a multiple of {SHRINKING} px, the data set has "
            f"{data.crop_px} px.",
            hint="Build the data set with another crop, such as 64 px.",
        )


def run_features(run: Run, train_data: SampleSource) -> StainFeatures | VggFeatures | None:
    """The frozen network of the run's perceptual loss, or None where the loss has none.

    Filters made from the targets are kept in the run folder, so that a continued run compares
    with the very same ones.
    """
    if not run.config.losses.perceptual:
        return None
    if run.config.perceptual != "targets":
        return VggFeatures.load(Path(run.config.perceptual))
    file = run.path / "perceptual.safetensors"
    if file.is_file():
        return _load_features(file)
    step = max(1, len(train_data) // FEATURE_TARGETS)
    places = np.arange(0, len(train_data), step)[:FEATURE_TARGETS]
    with torch.no_grad():
        features = StainFeatures.from_targets(to_colour(train_data.take(places)[1].cpu()))
    write_tensors(file, features.state_dict(), {})
    return features


def _load_features(file: Path) -> StainFeatures:
    features = StainFeatures()
    features.load_state_dict(read_tensors(file)[0])
    frozen: nn.Module = features.eval()
    return frozen  # type: ignore[return-value]
