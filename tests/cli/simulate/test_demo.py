"""The demonstration: its slides are sound, its steps run once and in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plsctl.cli.app import app
from plsctl.cli.simulate import demo


@pytest.mark.parametrize(("size", "fields"), [(demo.FULL, 12), (demo.QUICK, 4)])
def test_the_slide_is_sound_and_its_fields_do_not_overlap(
    tmp_path: Path, size: demo.Size, fields: int
) -> None:
    scan = demo._open(tmp_path, size)
    plan = scan.planner.plan("unstained")
    assert len(plan.positions) == fields
    assert scan.slide.recipe == size.recipe
    width, height = scan.planner.field_um("20x")
    for one in plan.positions:
        for other in plan.positions:
            apart = abs(one.x_um - other.x_um) / width, abs(one.y_um - other.y_um) / height
            assert one is other or max(apart) > 0.999
    # The same again is the same scan, not another one.
    assert demo._open(tmp_path, size).hash == scan.hash


def test_the_steps_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def noting(name: str, result: Any = None) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            done.append(f"{name} {arguments[1]}" if name == "take" else name)
            return result

        return step

    verdict = {
        "verdict": "better", "baseline": "mean_colour", "difference": 0.1, "nuclei": None,
        "verdict_text": "Better.",
    }  # fmt: skip
    scores = {"metrics": {"ssim": {"mean": 0.9}}, "baselines": {}} | verdict
    for name, result in {
        "take": None, "build": 150, "train": None, "evaluate": scores, "stain": None,
        "report": None,
    }.items():  # fmt: skip
        monkeypatch.setattr(demo, f"_{name}", noting(name, result))
    result = CliRunner().invoke(app, ["demo", str(tmp_path / "out"), "--quick", "--json"])
    assert result.exit_code == 0
    assert done == [
        "take unstained", "take stained", "take highres", "build", "train", "evaluate", "stain",
        "report",
    ]  # fmt: skip
    printed = json.loads(result.stdout)
    assert printed["samples"] == 150
    assert printed["metrics"] == scores["metrics"]
    assert printed.items() >= verdict.items() and "Better." in result.stderr
    assert set(printed["steps"]) >= {"unstained pass", "training", "report"}
    assert (tmp_path / "out" / "quick.yaml").is_file()
