"""A trained run, or a model exported of one, ready to stain: by torch, ONNX Runtime or OpenVINO.

Imports no torch by itself: an exported model needs none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from plsctl.acquire.errors import UserError
from plsctl.models.prediction.onnx_model import ExportedModel, require_installed
from plsctl.models.prediction.tiles import FrameStainer
from plsctl.models.runs.training_settings import Precision

Engine = Literal["auto", "torch", "onnxruntime", "openvino"]


def open_stainer(
    run: str | Path,
    engine: Engine = "auto",
    *,
    device: str = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> FrameStainer:
    """Open a run folder, or a MODEL.onnx that `plsctl export` wrote, for staining.

    `open_stainer("runs/first").stain_frame(stack)` gives the stained frame (y, x, rgb) of a stack
    (image, y, x, rgb), both uint8.

    Parameters
    ----------
    engine
        "auto" takes torch for a run and what is installed for an exported model. Another engine
        takes the run's `model.onnx`, which is written where it is missing.
    device
        For torch: "auto", "cpu" or "cuda".
    threads
        Of the CPU; by default the engine's own choice.
    notify
        Called with what a user should know.

    Raises
    ------
    UserError
        There is no such run or model, it has no weights, or the engine or device is not there.
    """
    path = Path(run).expanduser()
    exported = path.suffix == ".onnx"
    if exported and engine == "torch":
        raise UserError(
            "torch does not run exported models.",
            field="engine",
            hint="Name the run folder, or leave --engine out.",
        )
    if engine in ("onnxruntime", "openvino"):
        require_installed(engine)
        model = path if exported else _exported(path, notify)
        return ExportedModel(model, engine, threads=threads, precision=precision)
    if exported:
        return ExportedModel(path, threads=threads, precision=precision)
    import torch

    from plsctl.models.prediction.predictor import Predictor
    from plsctl.models.runs.run import Run

    if threads is not None:
        torch.set_num_threads(threads)
    return Predictor(Run.open(path), device=device, precision=precision)


def _exported(run: Path, notify: Callable[[str], None]) -> Path:
    """The run's own `model.onnx`, exported anew where it is of other weights."""
    from plsctl.models.prediction.onnx_export import export_run, is_current
    from plsctl.models.runs.run import Run

    opened, model = Run.open(run), run / "model.onnx"
    if not is_current(model, opened):
        notify(f"Exporting {run} to {model}.")
        export_run(opened, model)
    return model
