"""Where and in which number format the networks run."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from plsctl.acquire.errors import UserError
from plsctl.models.runs.training_settings import Precision

# Numbers of glibc's malloc.h.
MALLOPT_TRIM_THRESHOLD = -1
MALLOPT_MMAP_MAX = -4

WORTHWHILE = 1.3
"""bfloat16 must be this much faster than float32 before it is chosen."""


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes a GPU where torch sees one.

    Raises
    ------
    UserError
        If there is no such name, or a GPU is asked for and there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(
            f"there is no device '{name}'.", field="device", hint="Choose auto, cpu or cuda."
        )
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "torch sees no CUDA device.",
            field="device",
            hint="Use --device cpu, or install torch with CUDA.",
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def keep_freed_memory(device: torch.device) -> None:
    """Let the C library keep freed memory for the next layer, where the network runs on a CPU.

    glibc takes every large tensor from the system and gives it back when it is freed, and the
    system clears each page again: in windows of 512 px this took a third of the time
    (docs/staining.md). Other C libraries are left as they are. It holds for the whole process and
    for good: commands and trainings ask for it, what a program of others opens does not.
    """
    if device.type == "cpu" and sys.platform == "linux":
        change = getattr(ctypes.CDLL(None), "mallopt", None)
        if change is not None:
            change(MALLOPT_TRIM_THRESHOLD, -1)
            change(MALLOPT_MMAP_MAX, 0)


def choose_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """Number format of the convolutions; "auto" takes bfloat16 where it is really faster.

    CPUs without bfloat16 instructions run it too, slowly, so on a CPU a short convolution is
    timed in both formats instead of asking the processor for its name.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if supported else torch.float32
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine, threads that wait for each other tell nothing
    faster = _seconds(torch.bfloat16) * WORTHWHILE < _seconds(torch.float32)
    torch.set_num_threads(threads)
    return torch.bfloat16 if faster else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    convolution = nn.Conv2d(64, 32, 3, padding=1).to(dtype)
    image = torch.zeros(4, 64, 64, 64, dtype=dtype).to(memory_format=torch.channels_last)
    taken = []
    with torch.no_grad():
        for _ in range(8):
            start = time.perf_counter()
            convolution(image)
            taken.append(time.perf_counter() - start)
    return min(taken)


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Convolutions in `dtype` inside the block; weights and losses stay float32."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


@contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Turn running out of memory into a sentence with a remedy.

    Raises
    ------
    UserError
        If the block ran out of memory of the GPU or the computer.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_memory_error(error):
            raise
        raise UserError("the memory does not suffice.", hint=advice) from None


def is_memory_error(error: RuntimeError | MemoryError) -> bool:
    """Whether an error says that the memory of the GPU or the computer does not suffice."""
    # Allocators of the CPU, of CUDA, of pinned memory and of its libraries: four types of errors.
    signs = ("out of memory", "not enough memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


@contextmanager
def compiler_errors(compiling: bool) -> Iterator[None]:
    """Turn a failure of torch.compile, which needs compilers of its own, into a sentence.

    Raises
    ------
    UserError
        If the block translates a network and that fails.
    """
    if not compiling:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = str(error).splitlines()[0][:150]
        raise UserError(
            f"torch.compile cannot translate the network here ({reason}).",
            field="compile",
            hint="Leave --compile out, or install the C++ compiler (and Triton) that it needs.",
        ) from None
