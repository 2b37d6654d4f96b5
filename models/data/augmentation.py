"""Mirrored and turned samples that stay true: the images change places with the light."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from plsctl.acquire.errors import UserError
from plsctl.models.data.symmetry import MASKED, Symmetry, find_symmetries, lights_of
from plsctl.models.runs.config import TrainingConfig
from plsctl.process.dataset.reader import Dataset


def array_symmetries(config: TrainingConfig, data: Dataset) -> tuple[Symmetry, ...]:
    """The symmetries that a run's augmentation uses; none where it uses no augmentation.

    Raises
    ------
    UserError
        If the data set does not hold the LEDs' directions, or there is no symmetry.
    """
    if config.augment == "none":
        return ()
    frames = [data.frames[index] for index in data.channels_for(config.recipe)]
    found = find_symmetries(
        lights_of(frames, data.frames, data.attributes.orientation),
        turns=config.augment == "turns",
        tolerance_deg=config.augment_tolerance_deg,
        most_masked=config.augment_mask,
    )
    if not found:
        raise UserError(
            f"the LEDs of these {len(frames)} images have no symmetry within "
            f"{config.augment_tolerance_deg:g} deg and {config.augment_mask:.0%} masked images.",
            field="augment",
            hint="Allow more by --augment-tolerance-deg or --augment-mask, or take --augment none.",
        )
    return found


class LightAugmentation:
    """Draws a symmetry for every sample, the identity as often as each other one."""

    def __init__(self, symmetries: Sequence[Symmetry]) -> None:
        self.symmetries = tuple(symmetries)

    def draw(self, count: int, random: torch.Generator) -> Tensor:
        """A symmetry's number for each of so many samples, 0 for the identity."""
        return torch.randint(len(self.symmetries) + 1, (count,), generator=random)

    def __call__(
        self, stacks: Tensor, targets: Tensor, drawn: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Augment a batch.

        Parameters
        ----------
        stacks
            (B, 3 * images, H, W), normalised: masked images become 0, their mean.
        targets
            (B, 3, h, w), without the margin that stacks may have.
        drawn
            (B,), what `draw` gave.

        Returns
        -------
        stacks, targets, valid
            Of the same shapes; `valid` (B, 1, h, w) is False where a turn brought in what was
            outside the crop.
        """
        stacks, targets = stacks.clone(), targets.clone()
        valid = torch.ones_like(targets[:, :1], dtype=torch.bool)
        for number, symmetry in enumerate(self.symmetries, start=1):
            chosen = (drawn == number).nonzero().flatten().to(stacks.device)
            if len(chosen):
                stacks[chosen] = map_stack(stacks[chosen], symmetry)
                targets[chosen] = map_images(targets[chosen], symmetry)
                valid[chosen] = _inside(targets, symmetry)
        return stacks, targets, valid


def map_stack(stacks: Tensor, symmetry: Symmetry) -> Tensor:
    """The stacks that the mapped samples would give, (B, 3 * images, H, W).

    Images are mapped and exchanged; those without a source are 0.
    """
    mapped = map_images(stacks, symmetry)
    mapped = mapped.reshape(len(stacks), len(symmetry.sources), 3, *mapped.shape[2:])
    sources = torch.tensor(symmetry.sources, device=stacks.device)
    exchanged = mapped[:, sources.clamp(min=0)]
    exchanged[:, sources == MASKED] = 0
    return exchanged.flatten(1, 2)


def map_images(images: Tensor, symmetry: Symmetry) -> Tensor:
    """Mirrored and turned images (B, C, H, W), square where pixels change axes.

    What a turn brings in from outside repeats the inside mirrored at the border.
    """
    back = symmetry.matrix.T
    if not symmetry.keeps_pixels:
        grid = _grid(images, symmetry)
        turned: Tensor = functional.grid_sample(
            images, grid, mode="bicubic", padding_mode="reflection", align_corners=False
        )
        return turned
    if back[0, 0]:  # the new pixel (x, y) is the old one at (back[0, 0] x, back[1, 1] y)
        flips = [axis for axis, sign in ((3, back[0, 0]), (2, back[1, 1])) if sign < 0]
        return images.flip(flips)
    flips = [axis for axis, sign in ((3, back[0, 1]), (2, back[1, 0])) if sign < 0]
    return images.flip(flips).transpose(2, 3)


def _grid(images: Tensor, symmetry: Symmetry) -> Tensor:
    """Where in the old images each new pixel comes from, in [-1, 1], (B, H, W, 2)."""
    back = torch.tensor(symmetry.matrix.T, dtype=images.dtype, device=images.device)
    affine = torch.cat((back, torch.zeros_like(back[:, :1])), dim=1)
    grid: Tensor = functional.affine_grid(
        affine.expand(len(images), 2, 3), list(images.shape), align_corners=False
    )
    return grid


def _inside(images: Tensor, symmetry: Symmetry) -> Tensor:
    """Where the new pixels come from inside the old images, (1, 1, H, W)."""
    if symmetry.keeps_pixels:
        return torch.ones_like(images[:1, :1], dtype=torch.bool)
    inside = _grid(images[:1], symmetry).abs().amax(dim=3) <= 1
    return inside[:, None]
