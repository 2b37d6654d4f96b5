"""What mirrored and turned samples bring: `python benchmarks/augmentation.py DATASET.zarr --out F`.

Trains one network on shares of the training split, each without augmentation, with mirrors and
with turns, for the same number of steps, evaluates every run on the test split, and prints the
scores of every seed and the paired difference to the runs without augmentation. Runs that are
finished are kept: the same command goes on.

A data set to repeat the figures of docs/comparisons.md with:
`plsctl simulate dataset --cells 1500 --recipe full-nohe -o DATASET.zarr`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from plsctl.models.metrics.intervals import bootstrap_interval

PLSCTL = [sys.executable, "-c", "from plsctl.cli.app import main; main()"]
KINDS = ("none", "mirrors", "turns")


def train_and_measure(
    options: argparse.Namespace, share: float, kind: str, seed: int
) -> pd.DataFrame:
    """Scores of one run, a row per sample of the test split."""
    run = options.out / f"{share:g}-{kind}-{seed}"
    if not (run / "samples_test.csv").exists():
        epochs = round(options.epochs / share)
        subprocess.run(
            [
                *PLSCTL, "train", "maepnet", "--data", str(options.data), "--out", str(run),
                "--recipe", options.recipe, "--train-share", str(share), "--augment", kind,
                "--seed", str(seed), "--epochs", str(epochs), "--patience", str(epochs),
                "--blocks", "1", "--width", "32", "--batch", "8", "--learning-rate", "1e-3",
                "--schedule", "cosine", "--average", "0.98", "--threads", str(options.threads),
            ],
            check=True,
        )  # fmt: skip
        subprocess.run([*PLSCTL, "evaluate", str(run), "--json"], check=True, capture_output=True)
    return pd.read_csv(run / "samples_test.csv", index_col="sample")


def main() -> None:
    """Train what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="full-nohe")
    parser.add_argument("--shares", type=float, nargs="+", default=(0.1, 1.0))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=float, default=3, help="epochs of the whole split")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print("| share of the training split | augmentation | SSIM | of every seed | to none | MAE |")
    print("| --- | --- | --- | --- | --- | --- |")
    for share in options.shares:
        plain = None
        for kind in options.kinds:
            runs = [train_and_measure(options, share, kind, s) for s in range(options.seeds)]
            every = ", ".join(f"{run['ssim'].mean():.4f}" for run in runs)
            ssim = np.mean([run["ssim"] for run in runs], axis=0)
            mae = np.mean([run["mae"] for run in runs])
            plain = ssim if plain is None else plain
            low, high = bootstrap_interval(ssim - plain)
            print(
                f"| {share:g} | {kind} | {ssim.mean():.4f} | {every} | "
                f"{np.mean(ssim - plain):+.4f} ({low:+.4f} to {high:+.4f}) | {mae:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
