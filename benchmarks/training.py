"""How fast a network is trained, and how much faster its samples are fetched.

    python benchmarks/training.py                     44 images, RRDB of 4 blocks, batch 20
    python benchmarks/training.py --batch 4 --steps 2 --busy     on a machine with other work
    python benchmarks/training.py --model fast --compile         what torch.compile brings

Samples are noise, which compresses to nothing less: reading them from the disk is the worst case.
`epoch` is what 27,000 samples take (the paper: about 520 s).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from plsctl.acquire.plans.recipes import recipe
from plsctl.models.compute.device import choose_device
from plsctl.models.compute.processes import ALONE
from plsctl.models.data.batches import Batch, SampleSource, epoch_order
from plsctl.models.runs.config import TrainingConfig, config_from_options
from plsctl.models.staining.preparation import prepare_run
from plsctl.models.staining.task import StainTask, open_stain_task
from plsctl.models.training.trainer import Trainer
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.writer import DatasetWriter

EPOCH = 27_000
Clock = Callable[[], float]


def write_noise(path: Path, recipe_name: str, samples: int, margin_px: int) -> Dataset:
    """A data set of noise; the last tenth is for validation."""
    frames = [{"label": frame.label} for frame in recipe(recipe_name)]
    random = np.random.default_rng(0)
    side = 64 + 2 * margin_px
    with DatasetWriter(
        path, frames, recipe=recipe_name, pixel_um=0.293, margin_px=margin_px
    ) as writer:
        for number in range(samples):
            stack = random.integers(0, 256, (1, len(frames), 3, side, side), dtype=np.uint8)
            target = random.integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
            split = "validation" if number >= 0.9 * samples else "train"
            writer.append(stack, {"20x": target}, pd.DataFrame({"slide": ["1"], "split": [split]}))
        writer.finish()
    return Dataset.open(path)


def loading_rate(source: SampleSource, batch: int, rounds: int) -> float:
    """Samples a second of the loader alone, its device waited for."""
    list(source.batches(epoch_order(len(source), 0, 0), batch))
    start = time.perf_counter()
    for epoch in range(rounds):
        for stacks, *_ in source.batches(epoch_order(len(source), 0, epoch), batch):
            wait(stacks.device)
    return rounds * len(source) / (time.perf_counter() - start)


def step_rate(trainer: Trainer[Batch], task: StainTask, steps: int, clock: Clock) -> float:
    """Samples a second of training steps alone, best of all."""
    batch = task.config.batch_size
    order = np.resize(np.arange(len(task.train_data)), batch)
    taken = next(iter(task.train_data.batches(order, batch)))
    best = float("inf")
    for step in range(steps + 1):
        start = clock()
        trainer._step(taken)
        wait(task.compute.device)
        if step:
            best = min(best, clock() - start)
    return batch / best


def wait(device: torch.device) -> None:
    """Let the device finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(dtype: torch.dtype, device: torch.device, clock: Clock) -> float:
    """Matrix-multiply GFLOP/s."""
    side = 8192 if device.type == "cuda" else 2048
    square = torch.randn(side, side, device=device).to(dtype)
    best = float("inf")
    for turn in range(4):
        wait(device)
        start = clock()
        square @ square
        wait(device)
        if turn:
            best = min(best, clock() - start)
    return 2 * side**3 / best / 1e9


def training_flop(trainer: Trainer[Batch], side: int) -> float:
    """Operations for a sample of the RRDB generator: forward, and twice as many backward."""
    weights = sum(p.numel() for p in trainer.network.parameters() if p.ndim == 4)
    return 6.0 * weights * side**2


def main() -> None:
    """Print what loads and what trains how fast."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="maepfnet")
    parser.add_argument("--recipe", default="full-nohe")
    parser.add_argument("--samples", type=int, default=120)
    parser.add_argument("--margin", type=int, default=0)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile beside eager")
    parser.add_argument("--busy", action="store_true", help="CPU seconds of one thread for steps")
    given = parser.parse_args()
    clock: Clock = time.process_time if given.busy else time.perf_counter
    torch.set_num_threads(1 if given.busy else given.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_noise(folder / "noise.zarr", given.recipe, given.samples, given.margin)
        images, device = data.channels_for(None), choose_device("auto")
        rates = {}
        for gigabytes in (64.0, 1e-9):
            source = SampleSource(data, "train", images, "20x", gigabytes, given.margin, device)
            if source.kept not in rates:
                rates[source.kept] = loading_rate(source, given.batch, 3)
        options = {"data": data.path, "batch": given.batch}
        for compiled in (False, True)[: 1 + given.compile]:
            out = folder / f"run{compiled}"
            config = config_from_options(given.model, {**options, "out": out, "compile": compiled})
            report(config, data, rates, given.steps, clock)


def report(
    config: TrainingConfig, data: Dataset, loading: dict[str, float], steps: int, clock: Clock
) -> None:
    """Lines of one way to train."""
    task = open_stain_task(config, data, prepare_run(config, data, fresh=False), ALONE)
    compute = task.compute
    trainer = Trainer(config, task, compute)
    start = time.perf_counter()
    rate = step_rate(trainer, task, steps, clock)
    how = ("compiled" if config.compile else "eager") + f", {str(compute.dtype)[6:]}"
    print(f"{config.model}, {how}: {rate:.2f} samples/s, epoch {EPOCH / rate:,.0f} s", end="")
    if config.spec.network == "rrdb":
        side = data.crop_px + 2 * task.run.metadata.margin_px
        used = rate * training_flop(trainer, side) / 1e9
        share = used / peak(compute.dtype, compute.device, clock)
        print(f", {used:.0f} GFLOP/s, {share:.0%} of the matrix-multiply peak", end="")
    print(f"; all steps took {time.perf_counter() - start:.0f} s")
    for place, fetched in loading.items():
        print(f"  samples from {place}: {fetched:,.0f}/s, {fetched / rate:,.0f} x the step")


if __name__ == "__main__":
    main()
