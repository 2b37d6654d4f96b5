"""The other side of adversarial training: the discriminator, its optimiser and its turns."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from plsctl.models.compute.device import autocast
from plsctl.models.compute.processes import Processes
from plsctl.models.networks.discriminator import Discriminator
from plsctl.models.runs.tensors import optimiser_tensors, part, restore_optimiser
from plsctl.models.staining.losses import relativistic_discriminator, relativistic_generator


class Adversary:
    """A discriminator that is trained beside a generator, one update each (papers/002 3.6).

    Parameters
    ----------
    crop_px
        Side of the crops.
    betas
        Of Adam.
    seed
        Of the initial weights.
    processes
        Those that share the batches.
    dtype
        Number format of the convolutions.
    weight
        Of its term in the generator's loss.
    rate
        Its learning rate at the beginning.
    reduction
        Whether both losses are the mean over the pairs of a batch, or their sum.
    """

    def __init__(
        self,
        crop_px: int,
        betas: tuple[float, float],
        seed: int,
        device: torch.device,
        processes: Processes,
        dtype: torch.dtype = torch.float32,
        *,
        weight: float,
        rate: float,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        torch.manual_seed(seed)
        self.discriminator = Discriminator(crop_px).to(device)
        self.optimiser = torch.optim.Adam(self.discriminator.parameters(), betas=betas, fused=True)
        self._device, self._dtype = device, dtype
        self._weight, self._rate = weight, rate
        self._shared = processes.wrapped(self.discriminator)
        # Of several processes the gradients are averaged, and each has its share of the pairs.
        self._pairs = processes.count if reduction == "sum" else None

    def generator_loss(self, output: Tensor, wanted: Tensor) -> Tensor:
        """The generator's weighted relativistic loss; the discriminator stays as it is."""
        self.discriminator.eval().requires_grad_(False)
        with autocast(self._device, self._dtype):
            with torch.no_grad():
                real = self.discriminator(wanted)
            fake = self.discriminator(output)
        return self._weight * self._reduced(
            relativistic_generator(real.float(), fake.float()), output
        )

    def _reduced(self, mean: Tensor, output: Tensor) -> Tensor:
        """The mean of a loss over a batch as it is, or as the sum."""
        return mean if self._pairs is None else mean * self._pairs * len(output)

    def update(self, output: Tensor, wanted: Tensor, share: float, weight: float) -> Tensor:
        """One step of the discriminator at that share of its rate; its loss before the step.

        `weight` is that of this process's share of the batch.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate * share
        self.discriminator.train().requires_grad_(True)
        # Both in one pass: the power iteration of the spectral norm runs once for both.
        with autocast(self._device, self._dtype):
            real, fake = self._shared(torch.cat((wanted, output.detach()))).float().chunk(2)
        loss = self._reduced(relativistic_discriminator(real, fake), output)
        self.optimiser.zero_grad(set_to_none=True)
        (loss * weight).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

    def tensors(self) -> dict[str, Tensor]:
        """Everything that continues it."""
        held = self.discriminator.state_dict()
        return {f"network.{name}": value for name, value in held.items()} | optimiser_tensors(
            self.optimiser, "optimiser."
        )

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
        self.discriminator.load_state_dict(part(tensors, "network."))
        restore_optimiser(self.optimiser, part(tensors, "optimiser."))
