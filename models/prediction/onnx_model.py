"""Exported models (ONNX) run by onnxruntime or OpenVINO. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict, ValidationError

from plsctl.acquire.arrays import Images
from plsctl.acquire.errors import UserError
from plsctl.acquire.files.mistakes import mistake_in_data
from plsctl.acquire.files.settings import Settings
from plsctl.models.prediction.tiles import FrameStainer, image_major
from plsctl.models.runs.metadata import RunMetadata

Engine = Literal["onnxruntime", "openvino"]

FORMAT = "plsctl-onnx"
VERSION = 1
METADATA_KEY = "plsctl"
INPUT, OUTPUT = "stack", "stained"

EXTRAS: dict[Engine, str] = {"onnxruntime": "onnx", "openvino": "openvino"}


class ModelCard(Settings):
    """The metadata of an exported model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = FORMAT
    version: int = VERSION
    facts: RunMetadata
    exact_halo_px: int
    alignment_px: int
    least_px: int
    """Smallest height and width of a window."""
    weights_sha256: str
    run: str


class ExportedModel(FrameStainer):
    """An `.onnx` file that `plsctl export` wrote, ready to stain windows.

    Parameters
    ----------
    file
        The model.
    engine
        What runs it; None takes OpenVINO where it is installed, else onnxruntime.
    threads
        Of the CPU; as many as the engine likes by default.
    precision
        Of OpenVINO's convolutions: "auto" takes bfloat16 where the processor has instructions for
        it. onnxruntime computes in float32.

    Raises
    ------
    UserError
        If the engine is not installed, or the file is not such a model.
    """

    def __init__(
        self,
        file: Path,
        engine: Engine | None = None,
        *,
        threads: int | None = None,
        precision: str = "auto",
    ) -> None:
        if not file.is_file():
            raise UserError("there is no such model.", file=file, hint="Make it: plsctl export.")
        self.engine: Engine = engine or installed_engine()
        require_installed(self.engine)
        opened = _open_onnxruntime if self.engine == "onnxruntime" else _open_openvino
        try:
            card_text, self._infer = opened(file, threads, precision)
        except UserError:
            raise
        except Exception as error:  # each library raises a type of its own
            raise UserError(
                f"{self.engine} cannot read the model ({str(error).splitlines()[0][:150]}).",
                file=file,
                hint="Export it again with plsctl export.",
            ) from None
        card = _card(card_text, file)
        super().__init__(
            card.facts,
            card.exact_halo_px,
            card.alignment_px,
            card.weights_sha256,
            str(file),
            card.least_px,
        )

    def stain_window(self, window: Images) -> Images:
        """8-bit colours (3, y, x) for a window (image, y, x, 3) of a stack."""
        counts = image_major(window)
        height, width = counts.shape[1:]
        below, right = -height % self.alignment_px, -width % self.alignment_px
        if min(height + below, width + right) < self.least_px:  # models exported before
            raise UserError(
                f"a frame of {width} x {height} px is smaller than the {self.least_px} px that "
                f"the exported {self.metadata.model} takes.",
                hint="Export it again with plsctl export, or stain it with the run folder itself.",
            )
        padded = np.pad(counts, ((0, 0), (0, below), (0, right)), mode="edge")
        return self._infer(padded[None])[0, :, :height, :width]


def installed_engine() -> Engine:
    """The faster engine of those that are installed: OpenVINO, which knows bfloat16.

    Raises
    ------
    UserError
        If none is.
    """
    found: Engine
    for found in ("openvino", "onnxruntime"):
        if find_spec(found) is not None:
            return found
    raise not_installed("onnxruntime")


def require_installed(engine: Engine) -> None:
    """Refuse an engine that is not there.

    Raises
    ------
    UserError
        If it is not installed.
    """
    if find_spec(engine) is None:
        raise not_installed(engine)


def not_installed(engine: Engine) -> UserError:
    """The error that says how to get an engine."""
    return UserError(
        f"{engine} is not installed.",
        field="engine",
        hint=f"Install it with pip install 'plsctl[{EXTRAS[engine]}]', or choose another --engine.",
    )


def _card(text: str | None, file: Path) -> ModelCard:
    hint = "Export it from a run with plsctl export."
    if text is None:
        raise UserError("the model does not say what it was trained on.", file=file, hint=hint)
    content = json.loads(text)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise UserError(
            f"the model has format {content.get('format')} {content.get('version')}, this plsctl "
            f"reads {FORMAT} {VERSION}.",
            file=file,
            hint=hint,
        )
    try:
        return ModelCard.model_validate(content)
    except ValidationError as error:
        field, mistake = mistake_in_data(error)
        raise UserError(
            f"the model's description cannot be read: {mistake}.",
            file=file,
            field=field,
            hint=hint,
        ) from None


Opened = tuple[str | None, Callable[[Images], Images]]


def _open_onnxruntime(file: Path, threads: int | None, precision: str) -> Opened:
    import onnxruntime

    if precision == "bfloat16":
        raise UserError(
            "onnxruntime has no bfloat16 convolutions on CPUs.",
            field="precision",
            hint="Use --engine openvino, or leave --precision out.",
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    available = onnxruntime.get_available_providers()
    providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available]
    session = onnxruntime.InferenceSession(str(file), options, providers=providers)
    metadata = session.get_modelmeta().custom_metadata_map

    def infer(window: Images) -> Images:
        try:
            found: Images = session.run([OUTPUT], {INPUT: window})[0]
        except Exception as error:
            if "Failed to allocate memory" in str(error):
                raise MemoryError from None
            raise
        return found

    return metadata.get(METADATA_KEY), infer


def _open_openvino(file: Path, threads: int | None, precision: str) -> Opened:
    import openvino

    properties: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        properties["INFERENCE_NUM_THREADS"] = threads
    if precision != "auto":
        properties["INFERENCE_PRECISION_HINT"] = {"float32": "f32", "bfloat16": "bf16"}[precision]
    core = openvino.Core()
    model = core.read_model(file)
    described = model.has_rt_info(["framework", METADATA_KEY])
    text = model.get_rt_info(["framework", METADATA_KEY]).astype(str) if described else None
    compiled = core.compile_model(model, "CPU", properties)
    request = compiled.create_infer_request()

    def infer(window: Images) -> Images:
        try:
            found = request.infer({INPUT: window})[OUTPUT]
        except RuntimeError as error:
            if "allocate" in str(error) or "bad_alloc" in str(error):
                raise MemoryError from None
            raise
        return np.array(found)

    return text, infer
