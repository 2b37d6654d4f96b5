"""Runs as ONNX models, for computers without torch and for faster engines."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from plsctl.acquire.arrays import Images
from plsctl.acquire.errors import KEPT, UserError, disk_errors
from plsctl.acquire.files.whole_files import rename
from plsctl.models.data.batches import InputScale, to_counts
from plsctl.models.networks.generators import Generator
from plsctl.models.prediction.onnx_model import (
    INPUT,
    METADATA_KEY,
    OUTPUT,
    ExportedModel,
    ModelCard,
)
from plsctl.models.prediction.predictor import Predictor
from plsctl.models.prediction.tiles import image_major
from plsctl.models.runs.run import Run
from plsctl.models.runs.tensors import file_digest

CHECKED_PX = (40, 64, 128)
"""Sides of the windows on which an exported model is compared with its run."""


class CountsToCounts(nn.Module):
    """The whole way from 8-bit stacks (B, C, H, W) to 8-bit colours (B, 3, H, W)."""

    def __init__(self, scale: InputScale, network: Generator) -> None:
        super().__init__()
        self.scale, self.network = scale, network

    def forward(self, stack: Tensor) -> Tensor:
        """Scale, network and colours: what a program in another language need not know."""
        return to_counts(self.network(self.scale(stack)))


def export_run(run: Run, out: Path) -> int:
    """Write a run as an ONNX model; the largest difference to the run, in counts of 255.

    The model takes `stack`, (1, image * 3, y, x) uint8, and gives `stained`, (1, 3, y, x) uint8;
    heights and widths are free multiples of the run's alignment (1 px for RRDB). Its metadata
    `plsctl` hold frames, exposures, scale of the inputs, reach and digest of the weights as JSON.

    Parameters
    ----------
    out
        The file to write, `*.onnx`.

    Raises
    ------
    UserError
        If the run has no weights, or the packages for the export are not installed.
    """
    if out.suffix != ".onnx":
        raise UserError(f"{out} does not end in .onnx.", field="out", hint="Call it model.onnx.")
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{missing[0]} is not installed.", hint="Install it with pip install 'plsctl[onnx]'."
        )
    predictor = Predictor(run, device="cpu", precision="float32")
    card = ModelCard(
        facts=run.metadata,
        exact_halo_px=run.config.exact_halo_px,
        alignment_px=run.config.alignment_px,
        least_px=run.config.alignment_px,
        weights_sha256=predictor.weights_sha256,
        run=str(run.path),
    )
    partial = out.with_name(f".{out.stem}.part.onnx")
    with disk_errors(out, KEPT):
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(run, card, partial)
        rename(partial, out)
    exported, largest = ExportedModel(out, "onnxruntime"), 0
    for side in CHECKED_PX:
        window = _random_stack(len(run.metadata.labels), side)
        off = exported.stain_window(window).astype(np.int16) - predictor.stain_window(window)
        largest = max(largest, int(np.abs(off).max()))
    return largest


def is_current(file: Path, run: Run) -> bool:
    """Whether an exported model is there and has the run's present weights."""
    if not file.is_file():
        return False
    exported = ExportedModel(file).weights_sha256
    return exported == file_digest(run.path / "best.safetensors")


def _write(run: Run, card: ModelCard, file: Path) -> None:
    import onnx

    step = card.alignment_px
    # Sides of one step are no other graph, but the exporter wants an example and a least of two.
    height, width = (torch.export.Dim(name, min=2) for name in ("height", "width"))
    dynamic = {2: step * height, 3: step * width} if step > 1 else {2: height, 3: width}
    side = 4 * step
    example = torch.from_numpy(image_major(_random_stack(len(run.metadata.labels), side))[None])
    whole = CountsToCounts(InputScale(run.metadata.normalisation), run.network()).eval()
    with _quiet():
        program = torch.onnx.export(
            whole,
            (example,),
            dynamo=True,
            dynamic_shapes={"stack": dynamic},
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, card.model_dump_json()
    onnx.save(model, file)


def _random_stack(images: int, side: int) -> Images:
    shape = (images, side, side, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own internals and of packages that are not needed here."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            log.setLevel(level)
