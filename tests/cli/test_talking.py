"""What commands say: progress without a terminal, what comes next, mistakes before torch."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.plans.recipes import recipe
from plsctl.acquire.words import command_line, counted, duration
from plsctl.cli.shared import work
from plsctl.cli.shared.output import print_next_command, progress
from plsctl.cli.shared.training_progress import TrainingProgress
from plsctl.models.runs.config import TrainingConfig
from plsctl.models.runs.metadata import Normalisation, RunMetadata
from plsctl.models.training.checkpoint import StepReport
from plsctl.process.dataset.writer import DatasetWriter


class Clock:
    """Seconds that a test lets pass."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Shown:
    """A display that shows nothing."""

    def refresh(self) -> None: ...
    def new_phase(self) -> None: ...
    def pause(self) -> None: ...
    def go_on(self) -> None: ...


def test_a_line_says_what_how_many_how_fast_and_how_long() -> None:
    clock = Clock()
    state = work.WorkState("cutting cells", 12, "position", clock)
    advance = work.Work(state, Shown())
    clock.now_s += 3
    assert state.line() == "Cutting cells: 0 of 12 positions"
    advance()
    clock.now_s += 3
    advance(2)
    clock.now_s += 1
    assert state.line() == "Cutting cells: 3 of 12 positions, 2.0 s each, 17 s left"
    advance(description="drawing")
    clock.now_s += 95
    assert state.line() == "Drawing ... (1.6 min)"
    assert state.last_line() == "Drawing: done in 1.6 min."


def test_what_an_earlier_run_did_is_not_in_the_rate() -> None:
    clock = Clock()
    state = work.WorkState("staining", None, "position", clock)
    advance = work.Work(state, Shown())
    advance(completed=90, total=100)
    clock.now_s += 4
    advance(completed=92)
    assert state.line() == "Staining: 92 of 100 positions, 2.0 s each, 16 s left"


def test_training_shows_steps_rate_loss_and_similarity() -> None:
    clock = Clock()
    state = work.WorkState("training", clock=clock)
    shown = TrainingProgress(work.Work(state, Shown()))
    shown.on_phase("learning")
    for step in range(51, 61):  # a run of 100 steps goes on after 50
        clock.now_s += 0.25
        shown.on_step(StepReport(step, 100, (step - 1) / 100, 0.12345, 16.0))
    assert state.line().startswith("Learning: 60 of 100 steps, 4.0 steps/s, 10 s left")
    shown.on_epoch({"epoch": 3, "train_loss": 0.12345, "validation_ssim": 0.8124})
    shown.on_step(StepReport(60, 100, 0.59, 0.12345, 16.0))
    assert state.line().endswith("; loss 0.1235, validation SSIM 0.812, 16.0 samples/s")


def test_a_run_that_time_ends_is_counted_to_where_time_ends_it() -> None:
    clock = Clock()
    state = work.WorkState("training", clock=clock)
    shown = TrainingProgress(work.Work(state, Shown()))
    clock.now_s += 10
    shown.on_step(StepReport(20, 1000, 0.25, None, 8.0))
    assert state.line().startswith("Training: 20 of 80; ")


def test_without_a_terminal_lines_come_while_nothing_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work, "LINES_S", (0.001,))
    came, written = threading.Event(), []

    def write(line: str) -> None:
        written.append(line)
        came.set()

    state = work.WorkState("locating the returned slide")
    with work.Lines(state, write) as lines:
        advance = work.Work(state, lines)
        while len(written) < 2:
            assert came.wait(20)
            came.clear()
        advance(description="scanning", completed=0, total=2, unit="position")
        came.clear()
        assert came.wait(20)
        advance()
    assert written[0] == "Locating the returned slide ..."
    assert "Locating the returned slide: done in 0 s." in written
    assert "Scanning: 0 of 2 positions" in written
    assert written[-1] == "Scanning: 1 position in 0 s."


def test_quick_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("counting", total=2) as advance:
        advance()
        advance(completed=2, description="counted")
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="other shells quote otherwise")
def test_the_next_command_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "scan",
        "my slide's [1] $x.yaml",
        "--out",
        Path("scans of ~today"),
        "--pass",
        "stained",
    ]
    print_next_command(*words)
    line = capsys.readouterr().err.rstrip("\n")
    assert line == f"Next: {command_line(*words)}"
    assert shlex.split(line)[1:] == ["plsctl", *map(str, words)]


def test_numbers_and_their_nouns_agree() -> None:
    assert [counted(n, "position") for n in (0, 1, 2)] == [
        "0 positions",
        "1 position",
        "2 positions",
    ]
    assert (counted(2, "dark box"), counted(3, "epoch")) == ("2 dark boxes", "3 epochs")
    assert [duration(s) for s in (8.4, 150, 720, 9000)] == ["8 s", "2.5 min", "12 min", "2.5 h"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a data set `x.zarr` and a run `run` that has weights by name only."""
    frames = [
        {"label": f.label, "led": f.led, "exposure_ms": 2.0, "gain": 1.0, "brightness": 1.0}
        for f in recipe("le8deg")
    ]
    rows = pd.DataFrame({"slide": "S1", "split": ["train", "train", "validation"]})
    with DatasetWriter(
        tmp_path / "x.zarr", frames, recipe="le8deg", pixel_um=0.293, crop_px=16
    ) as writer:
        stacks = np.zeros((3, 4, 3, 16, 16), np.uint8)
        writer.append(
            stacks, {"20x": stacks[:, 0]}, rows.assign(position="A/1", x_um=0.0, y_um=0.0)
        )
        writer.finish()
    run = tmp_path / "run"
    run.mkdir()
    config = TrainingConfig(model="maenet", data=tmp_path / "x.zarr", out=run)
    metadata = RunMetadata(
        model="maenet", recipe="le8deg", target="20x", frames=tuple(frames), channels=12,
        parameters=1, normalisation=Normalisation(mean=(0.0,), std=(1.0,)), pixel_um=0.293,
        crop_px=16, black_level=0.0, data="x.zarr", samples={}, slides=("S1",), perceptual=None,
        versions={},
    )  # fmt: skip
    (run / "config.yaml").write_text(config.to_yaml(run))
    (run / "facts.json").write_text(metadata.model_dump_json())
    (run / "best.safetensors").write_bytes(b"")
    return tmp_path


MISTAKES = {
    "train maenet --data none.zarr --out b": "no data set at none.zarr",
    "train maenet --data run --out b": "run is not a plsctl data set",
    "train maepfnt --data x.zarr --out b": "Did you mean 'maepfnet'",
    "train maenet --data x.zarr --out b --recipe full": "lacks 70 of the 74 images",
    "train maenet --data x.zarr --out b --target 100x": "no target 100x",
    "train maenet --data x.zarr --out x.zarr": "x.zarr: this is read by this command",
    "train maenet --data x.zarr --out b --from nowhere": "nowhere is not a run folder",
    "evaluate nowhere": "nowhere is not a run folder: it does not exist",
    "evaluate x.zarr": "x.zarr is not a run folder",
    "evaluate run --split tst": "unknown split 'tst'",
    "evaluate run --split test": "has no test samples",
    "evaluate run --data none.zarr": "no data set at none.zarr",
    "evaluate run --device gpu": "there is no device 'gpu'",
    "stain nowhere scan -o out": "nowhere is not a run folder",
    "stain run scan -o out": "there is no such scan or stack",
    "stain run x.zarr -o out --precision half": "there is no precision 'half'",
    "uncertainty nowhere": "nowhere is not a run folder",
    "uncertainty run": "has no test samples",
    "ablate none.zarr -o b": "no data set at none.zarr",
    "ablate x.zarr -o b --model maepfnt": "Did you mean 'maepfnet'",
    "ablate x.zarr -o b --recipes le19deg": "le18deg",
    "ablate x.zarr -o b --target 100x": "no target 100x",
    "export nowhere -o m.onnx": "nowhere is not a run folder",
    "export run -o m.pt": "m.pt does not end in .onnx",
    "report nowhere": "'nowhere' does not exist",
    "report x.zarr run/config.yaml": "is neither a scan, nor a data set, nor a run",
}

PROGRAM = """
import json, sys
from typer.testing import CliRunner
from plsctl.cli.app import app
for command in json.load(sys.stdin):
    result = CliRunner().invoke(app, [*command.split(), "--json"])
    print(json.dumps([result.exit_code, result.stdout, "torch" in sys.modules]))
"""


def test_mistakes_are_told_before_torch_is_loaded(folder: Path) -> None:
    before = sorted(folder.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(list(MISTAKES)), text=True,
        capture_output=True, cwd=folder, check=True,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for (command, message), (code, output, has_torch) in zip(
        MISTAKES.items(), answers, strict=True
    ):
        assert code == 2 and message in json.loads(output)["error"]["message"], (command, output)
        assert not has_torch, command
    assert sorted(folder.iterdir()) == before
