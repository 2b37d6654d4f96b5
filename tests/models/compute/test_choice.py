"""The number format and memory layout of a run: the fastest that is allowed, kept in the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from plsctl.acquire.errors import UserError
from plsctl.models.compute import choice
from plsctl.models.compute.placement import Compute
from plsctl.models.networks.rrdb import RRDBNet
from plsctl.models.runs.config import TrainingConfig, config_from_options
from plsctl.models.runs.run import Run
from plsctl.models.staining.train import train

CPU = torch.device("cpu")
TIMES = {
    ("float32", "contiguous"): 1.0,
    ("float32", "channels_last"): 2.0,
    ("bfloat16", "contiguous"): 1.5,
    ("bfloat16", "channels_last"): 0.9,
}


def _config(data: Path, out: Path, model: str = "fast", **changes: object) -> TrainingConfig:
    options: dict[str, object] = {"width": 4, "batch": 8, "blocks": 1, "epochs": 1, "device": "cpu"}
    return config_from_options(model, {"data": data, "out": out, **options, **changes})


def _chosen(
    monkeypatch: pytest.MonkeyPatch, times: dict[tuple[str, str], float], **changes: object
) -> tuple[str, str]:
    monkeypatch.setattr(choice, "choose_precision", lambda precision, device: torch.bfloat16)
    monkeypatch.setattr(
        choice, "_step_seconds", lambda *given: {each: times[each] for each in given[-1]}
    )
    found = choice.choose_compute(_config(Path(), Path(), **changes), 12, 24, CPU)
    return found.precision, found.memory_format


def test_the_fastest_format_is_taken_and_bfloat16_must_be_worth_its_digits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _chosen(monkeypatch, TIMES) == ("float32", "contiguous")  # 0.9 is not 1.3 times faster
    faster = TIMES | {("bfloat16", "channels_last"): 0.7}
    assert _chosen(monkeypatch, faster) == ("bfloat16", "channels_last")
    assert _chosen(monkeypatch, faster, precision="float32") == ("float32", "contiguous")
    fixed = _chosen(monkeypatch, faster, precision="float32", memory_format="channels_last")
    assert fixed == ("float32", "channels_last")


def test_formats_are_timed_for_forward_and_backward_on_the_network_itself() -> None:
    config = _config(Path(), Path(), precision="float32")
    state = torch.random.get_rng_state()
    found = choice.choose_compute(config, 12, 24, CPU)
    assert set(found.timed_ms) == {"float32 contiguous", "float32 channels_last"}
    assert min(found.timed_ms.values()) > 0
    assert found.timed_ms[f"float32 {found.memory_format}"] == min(found.timed_ms.values())
    # Weights that are made afterwards do not depend on what was timed.
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("changes", "side_px", "timed"),
    [
        ({}, 24, ["contiguous", "channels_last", "winograd"]),
        ({}, 26, ["contiguous", "channels_last"]),
        ({"compile": True}, 24, ["contiguous", "channels_last"]),
        ({"model": "fast"}, 24, ["contiguous", "channels_last"]),
        ({"memory_format": "contiguous"}, 24, []),
        ({"memory_format": "winograd"}, 24, []),
        ({"precision": "bfloat16"}, 24, ["contiguous", "channels_last"]),
    ],
)
def test_dense_blocks_by_tiles_are_timed_where_they_are_possible(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], side_px: int, timed: list[str]
) -> None:
    monkeypatch.setattr(choice, "choose_precision", lambda precision, device: torch.float32)
    monkeypatch.setattr(
        choice, "_step_seconds", lambda *given: {each: 1 / len(each[1]) for each in given[-1]}
    )
    found = choice.choose_compute(
        _config(Path(), Path(), **({"model": "maenet"} | changes)), 12, side_px, CPU
    )
    assert [name.split()[1] for name in found.timed_ms] == timed
    placed = Compute.of(found, CPU).place(RRDBNet(3, blocks=1, growth=2))
    assert placed.winograd == (found.memory_format == "winograd")


@pytest.mark.parametrize("changes", [{"model": "fast"}, {"precision": "bfloat16"}])
def test_dense_blocks_by_tiles_are_refused_where_there_are_none(changes: dict[str, str]) -> None:
    config = _config(
        Path(),
        Path(),
        **({"model": "maenet", "precision": "float32", "memory_format": "winograd"} | changes),
    )
    with pytest.raises(UserError, match="winograd is for RRDB networks in float32"):
        choice.choose_compute(config, 12, 24, CPU)


@pytest.mark.usefixtures("undrawn")
def test_a_run_by_tiles_learns_the_same_and_goes_on(
    make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_dataset(tmp_path / "d.zarr")
    fixed = {"model": "maenet", "precision": "float32", "growth": 4, "epochs": 2}
    direct = train(_config(data, tmp_path / "direct", memory_format="contiguous", **fixed))
    train(_config(data, tmp_path / "tiles", memory_format="winograd", **fixed | {"epochs": 1}))
    # Without the setting it goes on as it was begun.
    tiles = train(_config(data, tmp_path / "tiles", **fixed))
    assert tiles.metrics == pytest.approx(direct.metrics, rel=1e-3)
    compute = Run.open(tmp_path / "tiles").metadata.compute
    assert compute is not None and compute.memory_format == "winograd"


def test_a_continued_run_keeps_its_format_unless_another_is_asked_for(
    make_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = make_dataset(tmp_path / "d.zarr"), tmp_path / "run"
    train(_config(data, out, precision="float32", memory_format="contiguous"))
    monkeypatch.setattr(choice, "_step_seconds", lambda *given: pytest.fail("timed again"))
    train(_config(data, out, epochs=2))
    assert json.loads((out / "facts.json").read_text())["compute"]["memory_format"] == "contiguous"
    train(_config(data, out, epochs=3, precision="float32", memory_format="channels_last"))
    compute = Run.open(out).metadata.compute
    assert compute is not None and compute.memory_format == "channels_last"


def test_steps_end_a_run_whatever_the_size_of_the_data_set(
    make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    fixed = {"precision": "float32", "memory_format": "contiguous", "epochs": 50}
    reports = []
    for count in (20, 60):
        data = make_dataset(tmp_path / f"{count}.zarr", count)
        config = _config(data, tmp_path / f"run{count}", steps=7, **fixed)
        result = train(config, on_step=reports.append)
        assert result.stopped == "steps"
        assert reports[-1].step == reports[-1].steps == 7
        assert reports[-1].loss is not None and reports[-1].samples_per_s > 0
