"""Virtual staining as a task of the training loop: stacks of images to stained colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from plsctl.models.compute.device import choose_device
from plsctl.models.compute.placement import Compute
from plsctl.models.compute.processes import Processes
from plsctl.models.data.augmentation import LightAugmentation, array_symmetries
from plsctl.models.data.batches import (
    Batch,
    InputScale,
    SampleSource,
    epoch_order,
    inner_window,
    to_colour,
    to_counts,
)
from plsctl.models.metrics.torch_similarity import similarity
from plsctl.models.networks.features import VggFeatures
from plsctl.models.runs.config import TrainingConfig
from plsctl.models.runs.run import Run
from plsctl.models.staining.adversary import Adversary
from plsctl.models.staining.losses import FeatureNetwork, Maps, weighted_loss
from plsctl.models.staining.perceptual import run_features
from plsctl.models.training.pretrained import first_network
from plsctl.models.training.task import LOSS, Score, Step, Task, epoch_seed
from plsctl.process.dataset.reader import Dataset

SSIM = Score("ssim", "SSIM", higher_is_better=True)


class StainBatch(NamedTuple):
    """What a step takes: images as the network reads them, and the colours that it shall give.

    `images` are (B, C, H, W) in the order of memory that the run has chosen, `wanted` (B, 3, h, w)
    in [-1, 1], `counts` the same as 8-bit counts before any augmentation. Where `valid`
    (B, 1, h, w) is False nothing is asked for. `size`, `weight` and `maps` as in `Batch`.
    """

    images: Tensor
    wanted: Tensor
    counts: Tensor
    valid: Tensor | None
    size: int
    weight: float
    maps: Maps | None


class StainTask(Task[StainBatch]):
    """The data, the network and the losses of a staining run.

    The best epoch is that of the lowest loss without the adversary, which moves (papers/002 figure
    4.9): on the validation split, or where there is none (9:1) on the training split, where the
    adversary has its part in it.

    Parameters
    ----------
    run
        Its folder, prepared for training.
    compute, processes
        Where and in which format the network is trained, and by how many.
    """

    best = LOSS
    shown = SSIM
    drawn = {  # noqa: RUF012
        "loss": "k", "mae": "C0", "perceptual": "C1", "fourier": "C2", "adversarial": "C4",
    }  # fmt: skip

    def __init__(
        self,
        config: TrainingConfig,
        data: Dataset,
        run: Run,
        compute: Compute,
        processes: Processes,
    ) -> None:
        self.config = config
        self.run = run
        self.compute = compute
        self.processes = processes
        self._crop_px = data.crop_px
        self.train_data = self._source(data, "train")
        has_validation = data.has_split("validation", config.target)
        self.validation = self._source(data, "validation") if has_validation else None
        self.validation_samples = 0 if self.validation is None else len(self.validation)
        self.scale = InputScale(run.metadata.normalisation).to(compute.device)
        symmetries = array_symmetries(config, data)
        self.augmentation = LightAugmentation(symmetries) if symmetries else None
        self.losses = weighted_loss(
            config.losses, self._perceptual_network(), config.tolerate_shift_px
        )
        self.random = torch.Generator()
        self._number_format = compute.autocast()
        self._inner = inner_window(run.metadata.margin_px)

    def _source(self, data: Dataset, split: str) -> SampleSource:
        config, metadata = self.config, self.run.metadata
        return SampleSource(
            data,
            split,
            data.channels_of(metadata.labels),
            config.target,
            config.memory_gb,
            metadata.margin_px,
            self.compute.device,
            config.train_share if split == "train" else 1.0,
        )

    def _perceptual_network(self) -> FeatureNetwork | None:
        """The network of the perceptual loss; maps of targets that stay as they are are kept."""
        network = run_features(self.run)
        if network is None:
            return None
        number_format = self.compute.autocast()
        # Forward and the gradient of the image: this order measures faster on every processor.
        network.to(self.compute.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def features(image: Tensor) -> Maps:
            with number_format:
                found: Maps = network(image)
            return found

        # Other networks than VGG19 take less time than their maps take to be read.
        moved = self.augmentation is not None or self.config.tolerate_shift_px
        if isinstance(network, VggFeatures) and not moved:
            for source in (self.train_data, self.validation):
                if source is not None:
                    source.keep_maps(features, self.config.memory_gb / 2)
        return features

    @property
    def steps_per_epoch(self) -> int:
        """Batches that hold every training sample once."""
        return -(-len(self.train_data) // self.config.batch_size)

    def network(self, resumed: bool) -> nn.Module:
        """Random weights by the seed, or those of the run it starts from."""
        return first_network(self.config, self.run.metadata.channels, resumed)

    def optimiser(self, network: nn.Module) -> torch.optim.Optimizer:
        """Adam, as in papers/002 section 3.6."""
        config = self.config
        return torch.optim.Adam(
            network.parameters(), lr=config.learning_rate, betas=config.betas, fused=True
        )

    def opponent(self) -> Adversary | None:
        """The discriminator, where the loss has an adversarial term."""
        config, weight = self.config, self.config.losses.adversarial
        if not weight:
            return None
        return Adversary(
            self._crop_px,
            config.betas,
            config.seed,
            self.compute.device,
            self.processes,
            self.compute.dtype,
            weight=weight,
            rate=config.discriminator_rate,
            reduction=config.adversarial_reduction,
        )

    def batches(self, epoch: int, processes: Processes) -> Iterator[StainBatch]:
        """All training samples in the epoch's order, each mapped by a symmetry where asked for."""
        # Of augmentation all processes draw for the whole batch.
        self.random.manual_seed(epoch_seed(self.config.seed, epoch))
        order = epoch_order(len(self.train_data), self.config.seed, epoch)
        taken = self.train_data.batches(order, self.config.batch_size, processes)
        return map(self.prepared, taken)

    def prepared(self, batch: Batch) -> StainBatch:
        """A batch of the training split as the network takes it."""
        plain = self._plain(batch)
        if self.augmentation is None:
            return plain
        drawn = self.augmentation.draw(batch.size, self.random)
        mine = torch.from_numpy(self.processes.share(drawn.numpy()))
        images, wanted, valid = self.augmentation(plain.images, plain.wanted, mine)
        return plain._replace(images=self._laid_out(images), wanted=wanted, valid=valid)

    def _plain(self, batch: Batch) -> StainBatch:
        images, wanted = self._laid_out(self.scale(batch.stacks)), to_colour(batch.targets)
        return StainBatch(images, wanted, batch.targets, None, batch.size, batch.weight, batch.maps)

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=self.compute.layout)

    def step(self, network: Callable[[Any], Tensor], batch: StainBatch) -> Step:
        """Predicted and stained colours, and the losses between them."""
        prediction = self._predict(network, batch.images)
        if batch.valid is not None:
            # What a turn brought in is not asked for.
            prediction = torch.where(batch.valid, prediction, batch.wanted)
        terms = self.losses(prediction, batch.wanted, batch.maps)
        return Step(prediction, batch.wanted, terms)

    def _predict(self, network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Colours of the crop without its margin."""
        with self._number_format:
            prediction = network(images)
        return prediction[self._inner].float()

    def validation_batches(self, processes: Processes) -> Iterator[StainBatch]:
        """The split in its own order."""
        if self.validation is None:
            return iter(())
        order = np.arange(self.validation_samples)
        taken = self.validation.batches(order, self.config.batch_size, processes)
        return map(self._plain, taken)

    def scores(self, network: Callable[[Any], Tensor], batch: StainBatch) -> dict[str, Tensor]:
        """Loss terms and structural similarity."""
        prediction = self._predict(network, batch.images)
        terms = self.losses(prediction, batch.wanted, batch.maps)
        return terms | {"ssim": similarity(to_counts(prediction), batch.counts)}


def open_stain_task(
    config: TrainingConfig, data: Dataset, run: Run, processes: Processes
) -> StainTask:
    """The task of a prepared run, on the device of this process."""
    if run.metadata.compute is None:
        raise ValueError("the run was not prepared for training")
    device = processes.device(choose_device(config.device))
    return StainTask(config, data, run, Compute.of(run.metadata.compute, device), processes)
