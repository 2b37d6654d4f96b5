"""Pictures of what an optics layer has learned (papers/000 figures 5 and 6)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from plsctl.acquire.files.whole_files import write_whole
from plsctl.models.learned_optics.layer import OpticsLayer

SHOWN_PX = 21
"""Side of the part of a kernel that is drawn."""


def draw_blur(file: Path, layer: OpticsLayer) -> None:
    """Draw the weights in the aperture and the middle of the kernel, for each blur of a layer."""
    with torch.no_grad():
        weights = torch.fft.fftshift(layer.blur.weights(), dim=(1, 2)).cpu().numpy()
        kernels = layer.blur.kernels().cpu().numpy()
    share = np.fft.fftshift(layer.blur.aperture.cpu().numpy())
    first = max((layer.blur.size_px - SHOWN_PX) // 2, 0)
    part = slice(first, layer.blur.size_px - first)
    figure = Figure(figsize=(6.4, 2.9 * len(weights)), layout="constrained")
    axes = figure.subplots(len(weights), 2, squeeze=False)
    for (left, right), shown, kernel in zip(axes, weights, kernels, strict=True):
        # What was learned, also in cells that count by a part only; nothing outside.
        learned = np.divide(shown, share, out=np.full_like(shown, np.nan), where=share > 0)
        drawn = left.imshow(learned, extent=(-1, 1, 1, -1), cmap="viridis")
        figure.colorbar(drawn, ax=left)
        left.set(title=f"weights ({layer.blur.form})", xlabel="frequency (1: Nyquist)")
        half = (part.stop - part.start) / 2
        drawn = right.imshow(
            kernel[part, part],
            extent=(-half, half, half, -half),
            cmap="magma",
            norm=PowerNorm(0.5) if layer.blur.form == "pupil" else None,
        )
        figure.colorbar(drawn, ax=right)
        right.set(title="kernel", xlabel="pixels")
    _save(figure, file)


def draw_layer(file: Path, layer: OpticsLayer, types: Sequence[str], images: Tensor) -> None:
    """Draw images (n, 3, H, W), 0 to 1: as they are, behind the blur, and as the network sees them.

    Parameters
    ----------
    types
        What each image shows.
    """
    with torch.no_grad():
        stages = [
            images.permute(0, 2, 3, 1).numpy(),
            layer.unpooled(images)[:, 0].numpy(),
            layer(images)[:, 0].numpy(),
        ]
    count = len(images)
    figure = Figure(figsize=(4.8, 1.6 * count), layout="constrained")
    axes = figure.subplots(count, 3, squeeze=False)
    titles = ("image", "behind the blur", f"pooled by {layer.pooling}")
    for row in range(count):
        for axis, stage in zip(axes[row], stages, strict=True):
            shades = {"vmin": stage.min(), "vmax": stage.max()}  # the same for all types
            axis.imshow(stage[row], cmap="gray", interpolation="nearest", **shades)
            axis.set(xticks=[], yticks=[])
        axes[row][0].set_ylabel(types[row], fontsize=8)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8)
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_whole(file, content.getvalue())
