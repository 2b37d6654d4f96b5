"""A learned optics layer as a fixed filter: kernels, weights and pooling. Imports no torch."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.whole_files import write_whole

FIELDS = ("kernels", "weights", "pooling", "clips", "order", "edge")


@dataclass(frozen=True)
class FixedFilter:
    """What an optics layer has learned.

    Parameters
    ----------
    kernels
        (1 or channels, size, size), odd size, float64, each with the sum 1.
    weights
        (channels,), 0 or above.
    pooling
        Side of the squares of pixels that are averaged.
    clips
        Whether blurred images are clipped at 0.
    order, edge
        As for `OpticsLayer`.
    """

    kernels: NDArray[np.float64]
    weights: NDArray[np.float64]
    pooling: int = 1
    clips: bool = False
    order: str = "blur_then_add"
    edge: str = "reflect"

    def __call__(self, image: NDArray[np.generic]) -> NDArray[np.float64]:
        """What the sensor shows: (channels, y, x) to (y // pooling, x // pooling)."""
        weighted = np.asarray(image, dtype=np.float64) * self.weights[:, None, None]
        if self.order == "add_then_blur":
            grey = self._blurred(weighted.sum(axis=0), self.kernels[0])
        else:
            kernels = np.broadcast_to(self.kernels, (len(weighted), *self.kernels.shape[1:]))
            each = zip(weighted, kernels, strict=True)
            grey = np.sum([self._blurred(channel, kernel) for channel, kernel in each], axis=0)
        rows, columns = (side // self.pooling for side in grey.shape)
        whole = grey[: rows * self.pooling, : columns * self.pooling]
        squares = whole.reshape(rows, self.pooling, columns, self.pooling)
        return np.asarray(squares.mean(axis=(1, 3)))

    def _blurred(
        self, channel: NDArray[np.float64], kernel: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        from scipy.signal import fftconvolve

        reach = kernel.shape[-1] // 2
        padded = np.pad(channel, reach, mode="wrap" if self.edge == "wrap" else "reflect")
        result = np.asarray(fftconvolve(padded, kernel, mode="valid"), dtype=np.float64)
        return np.maximum(result, 0.0) if self.clips else result

    def save(self, path: Path) -> None:
        """Write it as an archive of numpy arrays (.npz), which `load` reads."""
        content = io.BytesIO()
        np.savez_compressed(content, **{name: getattr(self, name) for name in FIELDS})
        write_whole(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> FixedFilter:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            The file is missing, or is something else.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                arrays = {name: content[name] for name in FIELDS}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            raise UserError(
                "this is no filter of learned optics.",
                file=path,
                hint="Name the .npz file that `plsctl train learned-optics` wrote.",
            ) from None
        return cls(
            kernels=arrays["kernels"],
            weights=arrays["weights"],
            pooling=int(arrays["pooling"]),
            clips=bool(arrays["clips"]),
            order=str(arrays["order"]),
            edge=str(arrays["edge"]),
        )
