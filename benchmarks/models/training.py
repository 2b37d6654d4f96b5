"""How fast a network is trained, and how much faster its samples are fetched.

    python benchmarks/models/training.py                   44 images, RRDB of 4 blocks, batch 20
    python benchmarks/models/training.py --quick           4 images, batch 4
    python benchmarks/models/training.py --batch 4 --steps 2 --busy      on a busy machine
    python benchmarks/models/training.py --model fast --compile          what torch.compile brings
    python benchmarks/models/training.py --against OTHER   beside an older checkout of the source

Of the step of least time, the share of the network's forward pass, of the backward pass, of the
optimiser, and of the rest: scaling and losses with the perceptual network, the discriminator.
`--against` runs the older checkout's own benchmark, in that checkout's `.venv` and with the same
options, in turns with this one, and prints the ratio of the best rates.

Samples are noise, which compresses to nothing less: reading them from the disk is the worst case.
`epoch` is what 27,000 samples take (the paper: about 520 s).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from plsctl.acquire.plans.recipes import recipe
from plsctl.models.compute.device import choose_device
from plsctl.models.compute.processes import ALONE
from plsctl.models.data.batches import SampleSource, epoch_order
from plsctl.models.runs.config import TrainingConfig, config_from_options
from plsctl.models.staining.preparation import prepare_run
from plsctl.models.staining.task import StainBatch, StainTask, open_stain_task
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


class Parts:
    """Seconds of the parts of a training step."""

    def __init__(self, device: torch.device, clock: Clock) -> None:
        self.seconds: dict[str, float] = {}
        self._device, self._clock = device, clock

    @contextmanager
    def spent_on(self, part: str) -> Iterator[None]:
        """Add what the block takes to a part."""
        wait(self._device)
        start = self._clock()
        yield
        wait(self._device)
        self.seconds[part] = self.seconds.get(part, 0.0) + self._clock() - start

    def of(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, timed as that part."""

        def timed(*args: Any, **options: Any) -> Any:
            with self.spent_on(part):
                return call(*args, **options)

        return timed


def training_step(
    trainer: Trainer[StainBatch], task: StainTask, batch: int, parts: Parts
) -> Callable[[], object]:
    """One step on one batch that tells its parts; all that depends on the trainer's insides."""
    order = np.resize(np.arange(len(task.train_data)), batch)
    taken = next(iter(task.train_data.batches(order, batch)))
    trainer.shared = parts.of("forward", trainer.shared)
    trainer.optimiser.step = parts.of("optimiser", trainer.optimiser.step)  # type: ignore[method-assign]
    return lambda: trainer._step(task.prepared(taken))


def best_step(step: Callable[[], object], parts: Parts, steps: int) -> dict[str, float]:
    """Seconds of the fastest step, and of its parts; the first one warms up."""
    best: dict[str, float] = {}
    backward = torch.Tensor.backward
    torch.Tensor.backward = parts.of("backward", backward)  # type: ignore[method-assign]
    try:
        for number in range(steps + 1):
            parts.seconds = {}
            with parts.spent_on("step"):
                step()
            if number and (not best or parts.seconds["step"] < best["step"]):
                best = parts.seconds
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]
    return best


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


def training_flop(trainer: Trainer[StainBatch], side: int) -> float:
    """Operations for a sample of the RRDB generator: forward, and twice as many backward.

    Those of direct convolutions: by tiles fewer are done, and more than the peak may come out.
    """
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
    parser.add_argument("--quick", action="store_true", help="4 images, 20 samples, batch 4")
    parser.add_argument("--against", type=Path, help="an older checkout to be compared with")
    parser.add_argument("--rounds", type=int, default=2, help="turns of --against")
    given = parser.parse_args()
    if given.quick:
        given.recipe, given.samples, given.batch, given.steps = "le8deg", 20, 4, 2
    if given.against is not None:
        compare_checkouts(given)
        return
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
    run = prepare_run(config, data, fresh=False)
    task = open_stain_task(config, data, run, ALONE)
    compute = task.compute
    trainer = Trainer(config, task, compute)
    start = time.perf_counter()
    parts = Parts(compute.device, clock)
    seconds = best_step(training_step(trainer, task, config.batch_size, parts), parts, steps)
    whole = seconds.pop("step")
    rate = config.batch_size / whole
    how = ("compiled" if config.compile else "eager") + f", {str(compute.dtype)[6:]}"
    print(f"{config.model}, {how}: {rate:.2f} samples/s, epoch {EPOCH / rate:,.0f} s", end="")
    if config.spec.network == "rrdb":
        side = data.crop_px + 2 * run.metadata.margin_px
        used = rate * training_flop(trainer, side) / 1e9
        share = used / peak(compute.dtype, compute.device, clock)
        print(f", {used:.0f} GFLOP/s, {share:.0%} of the matrix-multiply peak", end="")
    print(f"; all steps took {time.perf_counter() - start:.0f} s")
    seconds["rest"] = whole - sum(seconds.values())
    print(f"  step {1e3 * whole:.0f} ms: ", end="")
    print(", ".join(f"{part} {1e3 * s:.0f} ms ({s / whole:.0%})" for part, s in seconds.items()))
    if run.metadata.compute is not None:
        compute = run.metadata.compute
        print(f"  format {compute.precision}, {compute.memory_format}", end="")
        timed = ", ".join(f"{name} {found:.0f} ms" for name, found in compute.timed_ms.items())
        print(f"; one block timed: {timed}" if timed else "; nothing to choose from")
    for place, fetched in loading.items():
        print(f"  samples from {place}: {fetched:,.0f}/s, {fetched / rate:,.0f} x the step")


def compare_checkouts(given: argparse.Namespace) -> None:
    """Run another checkout's benchmark in turns with this one; the ratio of their best rates."""
    here = Path(__file__).resolve()
    places = [here, *given.against.glob("benchmarks/**/training.py")]
    if len(places) != 2:
        raise SystemExit(f"{given.against} holds no benchmark of training, or several.")
    names = ("model", "recipe", "samples", "margin", "batch", "steps", "threads")
    options = [word for name in names for word in (f"--{name}", str(getattr(given, name)))]
    options += ["--busy"] * given.busy
    best = dict.fromkeys(places, 0.0)
    for place in places * given.rounds:
        python = sys.executable if place == here else str(given.against / ".venv/bin/python")
        printed = subprocess.run(
            [python, str(place), *options], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        print(f"{'here' if place == here else given.against}:\n{printed}", end="", flush=True)
        rates = re.findall(r": ([\d.]+) samples/s", printed)
        best[place] = max(best[place], *map(float, rates))
    mine, other = best.values()
    print(f"samples/s here {mine:.2f}, there {other:.2f}: {mine / other:.2f} times")


if __name__ == "__main__":
    main()
