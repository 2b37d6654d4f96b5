"""How fast a frame is stained, beside the paper's way, and against the matrix-multiply peak.

    python benchmarks/models/staining.py            1900 x 1200, 44 images
    python benchmarks/models/staining.py --quick    256 x 192, 14 images
    python benchmarks/models/staining.py --busy     CPU seconds of one thread, on a busy machine

The paper's way is 64 x 64 patches one by one, eager float32 with channels first. The others are
what `plsctl stain` does from 8-bit stack to 8-bit colours, in tiles with a halo (random weights).
bfloat16 is measured only where `plsctl stain` would choose it: without instructions for it, a frame
takes a hundred times as long. In full: 3 to 4 min on two cores with AMX, 20 min with AVX2 alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from plsctl.acquire.plans.recipes import recipe
from plsctl.models.compute.device import choose_precision
from plsctl.models.data.batches import InputScale, to_counts
from plsctl.models.prediction.onnx_export import export_run
from plsctl.models.prediction.onnx_model import ExportedModel
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.prediction.tiles import TILE_SHAPE_PX, FrameStainer
from plsctl.models.runs.config import config_from_options
from plsctl.models.runs.metadata import Normalisation, RunMetadata
from plsctl.models.runs.registry import MODELS
from plsctl.models.runs.run import Run, build_network
from plsctl.models.runs.tensors import write_tensors
from plsctl.models.runs.training_settings import Precision

PATCH_PX = 64
Clock = Callable[[], float]
Stack = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Way:
    """One way to stain the frame: the format of its multiplications, its cost, and what to run."""

    dtype: torch.dtype
    flop: float
    run: Callable[[], object]
    device: str = "cpu"


def untrained_run(folder: Path, model: str, recipe_name: str) -> Run:
    """A run folder whose best epoch has random weights."""
    options: dict[str, object] = {"data": "none", "out": folder, "recipe": recipe_name}
    if MODELS[model].starts_from is not None:
        raise SystemExit(f"{model} is the network of {MODELS[model].starts_from}")
    config = config_from_options(model, options)
    frames = tuple({"label": frame.label} for frame in recipe(recipe_name))
    channels = 3 * len(frames)
    metadata = RunMetadata(
        model=model,
        recipe=recipe_name,
        target="20x",
        frames=frames,
        channels=channels,
        parameters=config.parameters(channels),
        normalisation=Normalisation(mean=(100.0,) * channels, std=(40.0,) * channels),
        pixel_um=0.293,
        crop_px=PATCH_PX,
        black_level=0.0,
        data="none",
        samples={},
        slides=(),
        perceptual=None,
        versions={},
    )
    folder.mkdir()
    torch.manual_seed(0)
    network = build_network(config, channels)
    write_tensors(folder / "best.safetensors", network.state_dict(), {})
    return Run(folder, config, metadata)


def precision_name(dtype: torch.dtype) -> Precision:
    """The name of a number format."""
    return "bfloat16" if dtype == torch.bfloat16 else "float32"


def one_by_one(run: Run, stack: Stack) -> None:
    """The paper's way; patches at the border overlap, so that the frame is covered."""
    network = run.network().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    scale = InputScale(run.metadata.normalisation)
    height, width = stack.shape[1:3]
    with torch.inference_mode():
        for top in range(0, height, PATCH_PX):
            for left in range(0, width, PATCH_PX):
                y, x = min(top, height - PATCH_PX), min(left, width - PATCH_PX)
                patch = np.moveaxis(stack[:, y : y + PATCH_PX, x : x + PATCH_PX], 3, 1)
                counts = torch.from_numpy(np.ascontiguousarray(patch)).flatten(0, 1)
                to_counts(network(scale(counts[None])))


def all_ways(
    folder: Path, stack: Stack, recipe_name: str, threads: int, halo_px: int, others: list[str]
) -> dict[str, Way]:
    """The paper's way, the same network on whole frames, and other networks."""
    rrdb = untrained_run(folder / "rrdb", "maenet", recipe_name)
    flop = _flop(rrdb) * stack.shape[1] * stack.shape[2]

    def frame(stainer: FrameStainer, halo: int) -> Callable[[], object]:
        return lambda: stainer.stain_frame(stack, halo_px=halo)

    single, chosen = torch.float32, choose_precision("auto", torch.device("cpu"))
    exact = Predictor(rrdb, device="cpu", precision=precision_name(chosen))
    name = precision_name(chosen)
    ways = {
        "patches, float32 (the paper's way)": Way(single, flop, lambda: one_by_one(rrdb, stack)),
        f"torch, {name}, halo {halo_px}": Way(chosen, flop, frame(exact, halo_px)),
        f"torch, {name}, exact halo {exact.exact_halo_px}": Way(
            chosen, flop, frame(exact, exact.exact_halo_px)
        ),
    }
    if find_spec("openvino") is not None and find_spec("onnxscript") is not None:
        export_run(rrdb, folder / "rrdb.onnx")
        exported = ExportedModel(folder / "rrdb.onnx", "openvino", threads=threads)
        ways[f"OpenVINO, its own format, halo {halo_px}"] = Way(
            chosen, flop, frame(exported, halo_px)
        )
    if torch.cuda.is_available():
        gpu = Predictor(rrdb, device="cuda")
        ways["torch on the GPU, exact"] = Way(gpu.dtype, flop, frame(gpu, 63), "cuda")
    for name in others:
        run = untrained_run(folder / name, name, recipe_name)
        for dtype in dict.fromkeys((single, chosen)):
            precision = precision_name(dtype)
            stainer = Predictor(run, device="cpu", precision=precision)
            ways[f"{name}, {precision}, halo {halo_px}"] = Way(dtype, 0.0, frame(stainer, halo_px))
    return ways


def _flop(run: Run) -> float:
    """Operations of the RRDB generator for a pixel: every weight multiplies and adds once."""
    return 2 * sum(p.numel() for p in run.network().parameters() if p.ndim == 4)


def best_of_turns(
    ways: dict[str, Callable[[], object]], turns: int, clock: Clock, warm_up: bool = True
) -> dict[str, float]:
    """Seconds of each way, the best of its turns; ways take turns, so that load hits all."""
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(turns + warm_up):
        for name, way in ways.items():
            start = clock()
            way()
            if turn >= warm_up:
                best[name] = min(best[name], clock() - start)
    return best


def peak(dtype: torch.dtype, device: str, turns: int, clock: Clock) -> float:
    """Matrix-multiply GFLOP/s."""
    side = 8192 if device == "cuda" else 4096
    square = torch.randn(side, side, device=device).to(dtype)

    def multiply() -> None:
        (square @ square)[0, 0].item()  # waits for a GPU

    return 2 * side**3 / best_of_turns({"": multiply}, turns, clock)[""] / 1e9


def report(ways: dict[str, Way], found: dict[str, float], turns: int, clock: Clock) -> None:
    """One line a way."""
    kinds = dict.fromkeys((way.dtype, way.device) for way in ways.values())
    peaks = {kind: peak(*kind, turns, clock) for kind in kinds}
    for (dtype, device), rate in peaks.items():
        print(f"matrix multiplication, {str(dtype)[6:]}, {device}: {rate:.0f} GFLOP/s")
    paper = next(iter(found.values()))
    for name, seconds in found.items():
        way = ways[name]
        line = f"{name:36s} {seconds:8.2f} s {paper / seconds:6.2f} x"
        if way.flop:
            rate = way.flop / seconds / 1e9
            line += f" {rate:7.0f} GFLOP/s {rate / peaks[way.dtype, way.device]:5.0%} of peak"
        print(line)


def main() -> None:
    """Print one line per way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--recipe", default="full-nohe")
    parser.add_argument("--frame", default="1900x1200", help="width x height")
    parser.add_argument("--halo", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--others", default="fast", help="other networks: fast,unet")
    parser.add_argument("--quick", action="store_true", help="a small frame of few images")
    parser.add_argument("--busy", action="store_true", help="CPU seconds of one thread")
    given = parser.parse_args()
    if given.quick:
        given.recipe, given.frame = "le18deg", "256x192"
    clock: Clock = time.process_time if given.busy else time.perf_counter
    threads = 1 if given.busy else given.threads
    torch.set_num_threads(threads)
    width, height = (int(part) for part in given.frame.split("x"))
    images = len(recipe(given.recipe))
    random = np.random.default_rng(0)
    stack = random.integers(0, 256, (images, height, width, 3), dtype=np.uint8)
    print(
        f"{width} x {height}, {images} images, tiles of at most "
        f"{TILE_SHAPE_PX[1]} x {TILE_SHAPE_PX[0]} px, {threads} threads"
    )
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in given.others.split(",") if name]
        ways = all_ways(Path(folder), stack, given.recipe, threads, given.halo, names)
        # A frame is long enough: no turn to warm up.
        runs = {name: way.run for name, way in ways.items()}
        warm_up = given.quick or torch.cuda.is_available()
        found = best_of_turns(runs, given.turns, clock, warm_up)
        report(ways, found, 3, clock)


if __name__ == "__main__":
    main()
