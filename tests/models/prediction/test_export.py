"""Exported models: they stain as the run does, and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore

from plsctl.acquire.errors import UserError
from plsctl.models.runs.config import config_from_options
from plsctl.models.runs.run import Run
from plsctl.models.staining.train import train

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
for name in ("onnxscript", "onnxruntime"):
    pytest.importorskip(name, reason="needs the extra onnx")

from plsctl.models.prediction.onnx_export import export_run, is_current  # noqa: E402
from plsctl.models.prediction.onnx_model import ExportedModel  # noqa: E402
from plsctl.models.prediction.predictor import Predictor  # noqa: E402

# Every import of torch fails, as where it is not installed.
WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "safetensors"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocker())
from plsctl.cli.app import main
sys.argv = ["plsctl", *sys.argv[1:]]
main()
"""


def _train(dataset: Path, out: Path, model: str, **sizes: int) -> Run:
    options = {"data": dataset, "out": out, "batch": 16, "epochs": 1, "device": "cpu"} | sizes
    train(config_from_options(model, {**options, "precision": "float32"}))
    return Run.open(out)


def _stack(height: int, width: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    coarse = rng.uniform(20, 230, (4, height // 8, width // 8, 3))
    return coarse.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("export") / "run"
    return _train(dataset, out, "maenet", blocks=1, growth=4, width=6)


@pytest.fixture(scope="module")
def model(run: Run) -> Path:
    file = run.path / "model.onnx"
    assert export_run(run, file) <= 1
    return file


def test_an_exported_model_stains_as_its_run_does_without_torch(
    run: Run, model: Path, tmp_path: Path
) -> None:
    stack = _stack(64, 88)
    np.save(tmp_path / "stack.npy", stack)
    out = tmp_path / "out.ome.zarr"
    arguments = ["stain", str(model), str(tmp_path / "stack.npy"), "-o", str(out), "--json"]
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT_TORCH,
            *arguments,
            "--tile",
            "40",
            "--engine",
            "onnxruntime",
        ],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["exact_halo_px"] == 18
    store = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(out / "0")}}
    stained = np.asarray(tensorstore.open(store, read=True).result().read().result())[0, :, 0]
    wanted = Predictor(run, device="cpu", precision="float32").stain_frame(stack)
    assert np.abs(np.moveaxis(stained, 0, -1).astype(int) - wanted).max() <= 2


def test_the_model_says_what_it_was_trained_on(run: Run, model: Path) -> None:
    properties = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    card = json.loads(properties["plsctl"])
    labels = [frame["label"] for frame in card["facts"]["frames"]]
    assert labels == ["brightfield", "plate-1", "plate-2", "plate-3"]
    assert card["facts"]["normalisation"]["mean"] == list(run.metadata.normalisation.mean)
    assert (card["exact_halo_px"], card["alignment_px"]) == (18, 1)
    assert is_current(model, run)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("model", "sizes"), [("fast", {"blocks": 1, "width": 4}), ("unet", {"width": 4})]
)
def test_networks_that_halve_frames_take_frames_of_any_size(
    model: str, sizes: dict[str, int], dataset: Path, tmp_path: Path
) -> None:
    run = _train(dataset, tmp_path / "run", model, **sizes)
    assert export_run(run, tmp_path / "x.onnx") <= 1
    exported = ExportedModel(tmp_path / "x.onnx", "onnxruntime")
    torch_made = Predictor(run, device="cpu", precision="float32")
    stack = _stack(128, 104)[:, :-3, :-5]
    wanted = torch_made.stain_frame(stack)
    for tile in (200, 40):
        found = exported.stain_frame(stack, tile_px=tile)
        assert np.abs(found.astype(int) - wanted).max() <= 1
    for size in ((1, 1), (8, 8), (17, 9), (32, 32), (40, 200), (64, 64), (64, 200), (71, 72)):
        small = _stack(200, 200)[:, : size[0], : size[1]]
        off = exported.stain_window(small).astype(int) - torch_made.stain_window(small)
        assert np.abs(off).max() <= 1, size


def test_openvino_stains_the_same(run: Run, model: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    stack = _stack(64, 88)
    wanted = Predictor(run, device="cpu", precision="float32").stain_frame(stack)
    found = ExportedModel(model, "openvino", precision="float32", threads=1).stain_frame(stack)
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_what_is_no_exported_model_is_named(run: Run, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such model"):
        ExportedModel(tmp_path / "none.onnx", "onnxruntime")
    (tmp_path / "damaged.onnx").write_bytes(b"not a model")
    with pytest.raises(UserError, match="onnxruntime cannot read the model"):
        ExportedModel(tmp_path / "damaged.onnx", "onnxruntime")
    foreign = onnx.load(model)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(UserError, match="does not say what it was trained on"):
        ExportedModel(tmp_path / "foreign.onnx", "onnxruntime")
    with pytest.raises(UserError, match="no bfloat16 convolutions"):
        ExportedModel(model, "onnxruntime", precision="bfloat16")
    with pytest.raises(UserError, match=r"does not end in \.onnx"):
        export_run(run, tmp_path / "model")
