"""Number format and memory layout of a training run, chosen by timing the network itself.

Which one is faster depends on the processor, the library's kernels and the network: in float32 on
CPUs, channels-last memory makes the weight gradients of wide convolutions slow and depthwise
convolutions fast, and dense blocks by tiles ("winograd") need fewer multiplications and more
memory traffic. So forward and backward are timed together, in every combination that is allowed,
and what was found is kept in the run: a run that is continued goes on in the same format.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from plsctl.acquire.errors import UserError
from plsctl.models.compute.device import WORTHWHILE, choose_precision
from plsctl.models.compute.placement import LAYOUTS, PRECISIONS, Compute
from plsctl.models.networks.generators import make_network
from plsctl.models.networks.winograd import TILE_PX
from plsctl.models.runs.config import TrainingConfig
from plsctl.models.runs.metadata import ComputeMetadata

PROBE_SAMPLES = 2
PROBE_ROUNDS = 3
PROBE_SECONDS = 4.0
"""No further round of timing is begun after this long."""

Format = tuple[str, str]
"""Precision and layout, by name."""


def choose_compute(
    config: TrainingConfig, channels: int, side_px: int, device: torch.device
) -> ComputeMetadata:
    """Time a step of the network, with one block, in each format and take the fastest.

    Parameters
    ----------
    config
        Its `precision` and `memory_format` limit the choice.
    channels, side_px
        Shape of the network's input, (B, channels, side_px, side_px).
    device
        Where it will be trained.

    Raises
    ------
    UserError
        If the one layout that is allowed is not for this network, device or size.
    """
    formats = [
        (precision, layout)
        for precision in _precisions(config, device)
        for layout in ([config.memory_format] if config.memory_format != "auto" else LAYOUTS)
        if layout != "winograd" or _by_tiles(config, precision, side_px, device)
    ]
    if not formats:
        raise UserError(
            "the memory format winograd is for RRDB networks in float32 on CPUs, without "
            f"--compile, and for crops whose side is a multiple of {TILE_PX} px (here {side_px}).",
            field="memory_format",
            hint="Leave --memory-format out: it is then taken where it is possible and faster.",
        )
    seconds = _step_seconds(config, channels, side_px, device, formats) if formats[1:] else {}
    precision, layout = _fastest(formats, seconds)
    return ComputeMetadata(
        device=device.type,
        processor=_processor(device),
        threads=torch.get_num_threads(),
        precision=precision,
        memory_format=layout,
        timed_ms={
            f"{name} {layout}": round(1000 * found, 2)
            for (name, layout), found in seconds.items()
        },
    )  # fmt: skip


def _precisions(config: TrainingConfig, device: torch.device) -> list[str]:
    if config.precision != "auto":
        return [config.precision]
    # Where bfloat16 is emulated, one step of a wide network would take minutes.
    if choose_precision("auto", device) == torch.float32:
        return ["float32"]
    return list(PRECISIONS)


def _by_tiles(config: TrainingConfig, precision: str, side_px: int, device: torch.device) -> bool:
    """Whether the dense blocks can be computed by tiles."""
    exact = precision == "float32" and side_px % TILE_PX == 0
    return config.spec.network == "rrdb" and device.type == "cpu" and exact and not config.compile


def _fastest(formats: list[Format], seconds: dict[Format, float]) -> Format:
    """The fastest one in float32, unless bfloat16 is worth its lost digits."""
    if not seconds:
        return formats[0]
    best = {
        precision: min((f for f in seconds if f[0] == precision), key=seconds.__getitem__)
        for precision, _ in seconds
    }
    if len(best) == 1:
        return next(iter(best.values()))
    exact, rounded = best["float32"], best["bfloat16"]
    return rounded if seconds[rounded] * WORTHWHILE < seconds[exact] else exact


def _step_seconds(
    config: TrainingConfig,
    channels: int,
    side_px: int,
    device: torch.device,
    formats: list[Format],
) -> dict[Format, float]:
    """Shortest time of forward and backward in each format."""
    with torch.random.fork_rng(devices=[]):
        network = make_network(
            config.spec.network,
            channels,
            min(config.depth, 1),
            config.growth_channels,
            config.inner_width,
        ).to(device)
    stacks = torch.zeros(PROBE_SAMPLES, channels, side_px, side_px, device=device)
    seconds = dict.fromkeys(formats, float("inf"))
    for number in _rounds():
        # In turns, so that other work on the machine slows all of them.
        for precision, layout in formats:
            compute = Compute(device, PRECISIONS[precision], LAYOUTS[layout], layout == "winograd")
            taken = _one_step(compute.place(network), stacks, compute)
            if number:
                seconds[precision, layout] = min(seconds[precision, layout], taken)
    return seconds


def _rounds() -> Iterator[int]:
    """The first round only warms up; one is always timed."""
    began = time.perf_counter()
    for number in range(PROBE_ROUNDS):
        if number < 2 or time.perf_counter() - began < PROBE_SECONDS:
            yield number


def _one_step(network: nn.Module, stacks: Tensor, compute: Compute) -> float:
    network.zero_grad(set_to_none=True)
    stacks = stacks.contiguous(memory_format=compute.layout)
    began = time.perf_counter()
    compute.run(network, stacks).float().abs().mean().backward()  # type: ignore[no-untyped-call]
    if stacks.device.type == "cuda":
        torch.cuda.synchronize(stacks.device)
    return time.perf_counter() - began


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
