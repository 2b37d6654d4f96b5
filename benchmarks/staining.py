"""How fast a frame is stained, beside the paper's way, and against the matrix-multiply peak.

    python benchmarks/staining.py [--recipe full-nohe] [--width 0] [--frame 384x384] [--threads 2]
    python benchmarks/staining.py --networks

The paper's way is 64 x 64 patches one by one, eager float32 with channels first. Ways take turns
and the best of the turns counts, so that other load hits all of them. `--networks` sets the paper's
way beside whole frames of the other networks; `--joining` compares ways to join the features of a
dense block instead; it is why the generator uses `torch.cat`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from plsctl.acquire.recipes import recipe
from plsctl.models.networks import Generator, make_network
from plsctl.models.registry import MODELS
from plsctl.models.rrdb import SLOPE, DenseBlock, RRDBNet


def best_of_turns(ways: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Seconds of each way, the best of its turns, after one turn that does not count."""
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(turns + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def peaks(turns: int) -> dict[torch.dtype, float]:
    """Matrix-multiply GFLOP/s in both formats."""
    ways: dict[str, Callable[[], object]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        square = torch.randn(2048, 2048).to(dtype)
        ways[str(dtype)] = lambda square=square: square @ square  # type: ignore[misc]
    seconds = best_of_turns(ways, turns)
    return {t: 2 * 2048**3 / seconds[str(t)] / 1e9 for t in (torch.float32, torch.bfloat16)}


def stain_ways(
    network: RRDBNet, frame: Tensor
) -> dict[str, tuple[torch.dtype, Callable[[], object]]]:
    """Whole frame in both formats, and the paper's patches."""
    last = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    channels_last = frame.contiguous(memory_format=torch.channels_last)
    plain = RRDBNet(network.channels, len(network.trunk), width=network.body.out_channels)
    patches = frame.unfold(2, 64, 64).unfold(3, 64, 64).permute(2, 3, 0, 1, 4, 5).flatten(0, 1)

    def whole(dtype: torch.dtype) -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            last(channels_last)

    def one_by_one() -> None:
        for patch in patches:
            plain(patch.contiguous())

    return {
        "patches, float32 (the paper's way)": (torch.float32, one_by_one),
        "frame, channels last, float32": (torch.float32, lambda: whole(torch.float32)),
        "frame, channels last, bfloat16": (torch.bfloat16, lambda: whole(torch.bfloat16)),
    }


def network_ways(channels: int, frame: Tensor) -> dict[str, Callable[[], object]]:
    """The paper's way, and whole frames of the other networks in both formats."""
    patches, (_, one_by_one) = next(iter(stain_ways(RRDBNet(channels), frame).items()))
    last = frame.contiguous(memory_format=torch.channels_last)
    ways: dict[str, Callable[[], object]] = {patches: one_by_one}
    for name in ("fast", "unet"):
        network = make_network(MODELS[name].network, channels, MODELS[name].blocks or 0, 0, None)
        network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for dtype in (torch.float32, torch.bfloat16):

            def whole(network: Generator = network, dtype: torch.dtype = dtype) -> None:
                with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                    network(last)

            ways[f"{name}, frame, {str(dtype).removeprefix('torch.')}"] = whole
    return ways


def joining_ways(width: int) -> dict[str, Callable[[], object]]:
    """One dense block: joined by cat, written into one buffer, or never joined."""
    block = DenseBlock(width, 32).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(8, width, 64, 64).contiguous(memory_format=torch.channels_last)

    def buffer() -> Tensor:
        joined = torch.empty(8, width + 128, 64, 64).to(memory_format=torch.channels_last)
        joined[:, :width] = x
        for index, layer in enumerate(block.growing):
            end = width + 32 * index
            grown = functional.leaky_relu(layer(joined[:, :end]), SLOPE)
            joined[:, end : end + 32] = grown
        closed: Tensor = block.closing(joined)
        return closed

    def split() -> Tensor:
        parts = [x]
        total = x
        for layer in (*block.growing, block.closing):
            total = layer.bias.view(1, -1, 1, 1)
            start = 0
            for part in parts:
                weight = layer.weight[:, start : start + part.shape[1]]
                total = total + functional.conv2d(part, weight, padding=1)
                start += part.shape[1]
            parts.append(functional.leaky_relu(total, SLOPE))
        return total

    ways = {"cat": lambda: block(x), "one buffer": buffer, "split weights": split}

    def in_bfloat16(way: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                way()

        return run

    return {f"{name}, float32": way for name, way in ways.items()} | {
        f"{name}, bfloat16": in_bfloat16(way) for name, way in ways.items()
    }


def main() -> None:
    """Print one line per way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--recipe", default="full-nohe")
    parser.add_argument("--width", type=int, default=0, help="0: the input's, as in the paper")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--frame", default="384x384", help="width x height, multiples of 64")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--joining", action="store_true")
    parser.add_argument("--networks", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    channels = 3 * len(recipe(given.recipe))
    with torch.no_grad():
        if given.joining:
            for name, seconds in best_of_turns(
                joining_ways(given.width or channels), given.turns
            ).items():
                print(f"{name:28s} {1e3 * seconds:8.1f} ms")
            return
        width, height = (int(part) for part in given.frame.split("x"))
        if given.networks:
            frame = torch.randn(1, channels, height, width)
            networks = best_of_turns(network_ways(channels, frame), given.turns)
            paper = next(iter(networks.values()))
            for name, seconds in networks.items():
                print(f"{name:36s} {seconds:7.3f} s  {paper / seconds:6.1f} x")
            return
        network = RRDBNet(channels, given.blocks, width=given.width or None)
        ways = stain_ways(network, torch.randn(1, channels, height, width))
        found = best_of_turns({name: way for name, (_, way) in ways.items()}, given.turns)
        peak = peaks(given.turns)
    weights = sum(p.numel() for p in network.parameters() if p.ndim == 4)
    flop = 2 * weights * width * height
    slowest = next(iter(found.values()))
    print(f"{width} x {height}, {channels // 3} images, {flop / 1e12:.2f} TFLOP a frame")
    for name, seconds in found.items():
        rate = flop / seconds / 1e9
        share = rate / peak[ways[name][0]]
        print(
            f"{name:36s} {seconds:7.2f} s  {slowest / seconds:5.2f} x  {rate:6.0f} GFLOP/s  "
            f"{share:4.0%} of peak"
        )


if __name__ == "__main__":
    main()
