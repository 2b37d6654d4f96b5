"""The other side of adversarial training: the discriminator, its optimiser and its turns."""

from __future__ import annotations

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
    """

    def __init__(
        self,
        crop_px: int,
        betas: tuple[float, float],
        seed: int,
        device: torch.device,
        processes: Processes,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        torch.manual_seed(seed)
        self.discriminator = Discriminator(crop_px).to(device)
        self.optimiser = torch.optim.Adam(self.discriminator.parameters(), betas=betas, fused=True)
        self._device, self._dtype = device, dtype
        self._shared = processes.wrapped(self.discriminator)

    def generator_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The generator's relativistic paired loss; the discriminator stays as it is."""
        self.discriminator.eval().requires_grad_(False)
        with autocast(self._device, self._dtype):
            with torch.no_grad():
                real = self.discriminator(target)
            fake = self.discriminator(prediction)
        return relativistic_generator(real.float(), fake.float())

    def update(self, prediction: Tensor, target: Tensor, rate: float, weight: float) -> Tensor:
        """One step of the discriminator; its loss before the step.

        `weight` is that of this process's share of the batch.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.discriminator.train().requires_grad_(True)
        # Both in one pass: the power iteration of the spectral norm runs once for both.
        with autocast(self._device, self._dtype):
            real, fake = self._shared(torch.cat((target, prediction.detach()))).float().chunk(2)
        loss = relativistic_discriminator(real, fake)
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
