"""The losses of a run on single samples, as papers/002 tables 4.2, 4.4, 4.5 and A.1 print them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from plsctl.acquire.arrays import Images
from plsctl.models.data.batches import to_colour
from plsctl.models.networks.features import StainFeatures
from plsctl.models.runs.run import Run
from plsctl.models.staining.losses import fourier_amplitude, perceptual, weighted_loss
from plsctl.models.staining.perceptual import Features, run_features, some_targets
from plsctl.process.dataset.reader import Dataset

LOSSES = ("loss", "perceptual", "fourier")
"""What the training lowers, weighted and without the adversary; and two of its terms unweighted."""


class JudgedLosses:
    """The losses of a run, of images and targets in 8 bits.

    A run that was trained without a perceptual loss is judged by filters made from the targets of
    the data set's training split, as `plsctl train --perceptual targets` makes them.
    """

    def __init__(self, run: Run, data: Dataset) -> None:
        features: Features | None = run_features(run)
        self.network = run.config.perceptual
        if features is None:
            self.network = "targets"
            chosen = data.split("train", run.metadata.target)
            with torch.no_grad():
                features = StainFeatures.from_targets(
                    some_targets(data, run.metadata.target, chosen)
                )
        self._features = features
        self._own = weighted_loss(run.config.losses, features, run.config.tolerate_shift_px)

    @torch.no_grad()
    def __call__(self, images: Images, targets: Images) -> dict[str, NDArray[np.float64]]:
        """`LOSSES` of each sample, (n,), for images and targets (n, 3, y, x)."""
        rows = []
        for image, target in zip(images, targets, strict=True):
            shown, wanted = (to_colour(torch.tensor(x)[None]) for x in (image, target))
            terms = (
                self._own(shown, wanted)["loss"],
                perceptual(shown, wanted, self._features),
                fourier_amplitude(shown, wanted),
            )
            rows.append([float(term) for term in terms])
        return dict(zip(LOSSES, np.array(rows, dtype=np.float64).T, strict=True))
