r"""What a margin around the crops of the training brings to whole frames.

    plsctl simulate dataset --cells 400 --recipe le8deg --margin 40 -o margins.zarr
    for m in 0 20; do plsctl train maenet --data margins.zarr --margin $m --blocks 1 --width 16 \
        --batch 4 --epochs 10 --learning-rate 1.5e-3 --schedule cosine --average 0.98 -o m$m; done
    python benchmarks/margins.py m0 m20

Validation and test crops are predicted as the network was trained (with its own margin), and with
so much around them that the middle is what `plsctl stain` makes of a frame. Differences between
runs are sample by sample, with 95 % intervals.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plsctl.models.metrics.intervals import bootstrap_interval
from plsctl.models.metrics.similarity import mean_absolute_error, ssim_colour
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.runs.run import Run
from plsctl.process.dataset.reader import Dataset

Images = NDArray[np.uint8]


def predict(run: Run, data: Dataset, numbers: NDArray[np.int64], margin_px: int) -> Images:
    """Crops whose stacks reach so far beyond them."""
    stacks = data.read_images(numbers, data.channels_of(run.metadata.labels), margin_px)
    predictor = Predictor(run, device="cpu", precision="float32")
    inner = slice(margin_px, margin_px + data.crop_px)
    return predictor.predict(stacks.astype(np.uint8))[..., inner, inner]


def main() -> None:
    """Print a line a run, and their paired differences to the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", nargs="+", type=Path)
    runs = [Run.open(path) for path in parser.parse_args().runs]
    data = Dataset.open(runs[0].config.data)
    numbers = np.concatenate([data.split("validation"), data.split("test")])
    target: Any = data.read_target(runs[0].metadata.target, numbers)
    first: dict[str, NDArray[np.float64]] = {}
    for run in runs:
        trained = predict(run, data, numbers, run.metadata.margin_px)
        frame = predict(run, data, numbers, data.margin_px)
        change = np.abs(frame.astype(int) - trained)
        print(
            f"{run.path}, margin {run.metadata.margin_px} px: from crop to frame the prediction "
            f"changes by {change.mean():.2f} counts of 255 in the mean, {change.max()} at most"
        )
        scores = {
            "MAE": mean_absolute_error(frame, target), "SSIM": ssim_colour(frame, target)
        }  # fmt: skip
        for name, values in scores.items():
            line = f"  {name} in the frame {values.mean():.4f}"
            if name in first:
                difference = values - first[name]
                low, high = bootstrap_interval(difference)
                line += f", {difference.mean():+.4f} ({low:+.4f} to {high:+.4f}) to the first"
            print(line)
        first = first or scores


if __name__ == "__main__":
    main()
