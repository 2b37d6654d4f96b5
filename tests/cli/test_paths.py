"""Any path: every command, from any folder, with every way to name a file or folder."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from plsctl.acquire.devices.hardware import load_hardware
from plsctl.acquire.files import whole_files
from plsctl.acquire.files.whole_files import write_whole
from plsctl.acquire.plans.recipes import recipe
from plsctl.acquire.plans.slide import load_slide
from plsctl.acquire.scanning.scan import open_scan
from plsctl.cli import app as frame
from plsctl.models.runs.folder import open_data, read_trained
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.writer import DatasetWriter
from plsctl.process.image_files import write_image

pytestmark = pytest.mark.skipif(os.name == "nt", reason="makes symbolic links")

SLIDE = """\
slide: tiny
hardware: tiny.yaml
region: {x_um: [10000, 10090], y_um: [5000, 5040], overlap: 0.05}
recipe: le8deg
exposures: exposures_20x.csv
focus: {mode: fixed}
slide_return: {search: none, fields: 2}
passes: {unstained: {objective: 20x}, stained: {objective: 20x}}
"""


def plsctl(*words: object) -> Any:
    return CliRunner().invoke(frame.app, [str(word) for word in words])


def done(*words: object) -> None:
    result = plsctl(*words)
    assert result.exit_code == 0, (words, result.stderr, result.exception)


def write_blobs(path: Path, slide: int) -> None:
    """Twenty samples of noise, divided."""
    frames = [
        {"label": f.label, "led": f.led, "exposure_ms": 2.0, "gain": 1.0, "brightness": 1.0}
        for f in recipe("le8deg")
    ]
    rng = np.random.default_rng(slide)
    side = 24
    rows = pd.DataFrame(
        {
            "slide": f"S{slide}",
            "position": "A/1",
            "x_um": 100.0 * np.arange(20),
            "y_um": 0.0,
            "split": ["train"] * 4 + ["validation"] * 8 + ["test"] * 8,
        }
    )
    with DatasetWriter(path, frames, recipe="le8deg", pixel_um=0.293, crop_px=side) as writer:
        stacks = rng.integers(0, 255, (20, 4, 3, side, side), dtype=np.uint8)
        writer.append(stacks, {"20x": stacks[:, 0].copy()}, rows)
        writer.finish()


@dataclass(frozen=True)
class Place:
    """A folder with a slide, its scan, two data sets, a run and images; links lead to it."""

    base: Path
    plain: Path
    """A link to it whose name is ASCII."""
    inside: Path
    """A link, elsewhere, to a folder in it."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("paths")
    base = root / "Blut Müller 1"
    for folder in (base / "sub", root / "elsewhere" / "deep"):
        folder.mkdir(parents=True)
    found = Place(base, root / "plain", root / "elsewhere" / "inside")
    found.plain.symlink_to(base)
    found.inside.symlink_to(base / "sub")
    shipped = load_hardware("simulator_small").file
    for name in ("leds_43.csv", "exposures_20x.csv", "exposures_100x.csv"):
        shutil.copy(shipped.parent / name, base / name)
    hardware = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    hardware["camera"]["size_px"] = [300, 180]
    hardware["led_array"]["geometry"] = "leds_43.csv"
    hardware["options"] |= {
        "mount": {"focus_error_um": 0.0, "tilt_um_per_mm": 0.0, "drift_um_per_min": 0.0},
        "smear": {"white_cells_per_mm2": 600},
    }
    (base / "tiny.yaml").write_text(yaml.safe_dump(hardware), encoding="utf-8")
    (base / "own.yaml").write_text(
        "name: own\nframes:\n  - {pattern: brightfield}\n  - {leds: [plate-2]}\n", encoding="utf-8"
    )
    (base / "slide.yaml").write_text(SLIDE, encoding="utf-8")
    for name in ("unstained", "stained"):
        done("scan", base / "slide.yaml", "--pass", name, "--out", base / "scans", "--force")
    done("find-cells", base / "scans" / "tiny")
    for number, name in enumerate(("one.zarr", "two.zarr")):
        write_blobs(base / name, number)
    words = ("--width", 4, "--blocks", 1, "--steps", 1, "--batch", 4)
    done("train", "fast", "--data", base / "one.zarr", "--out", base / "run", *words)
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (96, 96, 3), dtype=np.uint8)
        write_image(base / f"z{number}.png", pixels)
    (base / "labels.csv").write_text("sample,type\n1,blob\n", encoding="utf-8")
    yield found


FORMS: dict[str, Callable[[Place, str], str]] = {
    "relative": lambda place, name: os.path.relpath(place.base / name, Path.cwd().resolve()),
    "absolute": lambda place, name: f"{place.base}/{name}",
    "dotdot": lambda place, name: f"{place.base}/sub/../{name}",
    "home": lambda place, name: f"~/{place.base.name}/{name}",
    "symlink": lambda place, name: f"{place.plain}/{name}",
    "dotdot after a symlink": lambda place, name: f"{place.inside}/../{name}",
    "slashes": lambda place, name: f"{place.base}//./sub/.././/{name}",
    "url": lambda place, name: f"file://{place.base}/{name}",
}
FOLDERS = (".", "sub", "../elsewhere/deep")

Named = Callable[[str], str]


def commands(p: Named, new: str) -> dict[str, list[object]]:
    """The words of every command; `p` names what is there, `new` begins what is written."""
    scan, one, two, run = p("scans/tiny"), p("one.zarr"), p("two.zarr"), p("run")
    own = ["--hardware", p("tiny.yaml")]
    tiny = ["--width", 4, "--blocks", 1, "--epochs", 1, "--batch", 4]
    return {
        "demo": [p(f"{new}demo")],
        "init": [p(f"{new}lab")],
        "devices": own,
        "recipes": [p("own.yaml"), *own],
        "led on": [3, *own],
        "led pattern": ["brightfield", *own],
        "led off": own,
        "calibrate exposures": [*own, "--recipe", p("own.yaml"), "-o", p(f"{new}exposures.csv")],
        **{
            f"calibrate {what}": own
            for what in ("pixel-size", "flatfield", "objectives", "leds", "all")
        },
        "calibrate levels": [p("exposures_20x.csv"), "-o", p(f"{new}levels.csv")],
        "scan": [scan, "--verify"],
        "find-cells": [scan],
        "build-dataset": [scan, "-o", p(f"{new}built.zarr"), "--labels", p("labels.csv")],
        "dataset merge": [one, two, "-o", p(f"{new}merged.zarr"), "--recipe", p("own.yaml")],
        "dataset append": [p(f"{new}copy.zarr"), two],
        "dataset split": [one, "--half", "-o", p(f"{new}half.zarr")],
        "dataset label": [one, p("labels.csv")],
        "dataset verify": [one],
        "dataset table": [one, "-o", p(f"{new}table.csv")],
        "train": ["fast", "--data", one, "--out", p(f"{new}run"), *tiny,
                  "--recipe", p("own.yaml")],
        "evaluate": [run, "--data", one],
        "uncertainty": [run, "--data", one, "--steps", 1],
        "ablate": [one, "--out", p(f"{new}ablation"), "--model", "fast", *tiny,
                   "--recipes", p("own.yaml") + ",brightfield"],
        "stain": [run, scan, "-o", p(f"{new}stained.ome.zarr")],
        "export": [run, "-o", p(f"{new}model.onnx")],
        "schema": ["--pages", p(f"{new}pages")],
        "segment": [p("z0.png"), "--masks", p(f"{new}masks"), "--pixel-um", 0.293],
        "match": [p("z0.png"), p("z1.png")],
        "register": [scan, p("scans/tiny/stained.ome.zarr"), "-o", p(f"{new}both.png")],
        "focus-stack": [p("z0.png"), p("z1.png"), "--no-align",
                        "-o", p(f"{new}sharp.png")],
        "synthetic-aperture": [scan, "-o", p(f"{new}field.ome.tiff"), "--rounds", 1,
                               "--window", "0,0,64,64", "--tile", 64],
        "review": [one, "--html", p(f"{new}review.html"), "--export", p(f"{new}choices.csv")],
        "report": [scan, one, run, "-o", p(f"{new}report.html")],
        "simulate led-array": [],
        "simulate truth": [p("slide.yaml")],
        "simulate dataset": ["--cells", 2, "--recipe", p("own.yaml"), *own,
                             "-o", p(f"{new}sim.zarr")],
    }  # fmt: skip


WITHOUT_PATHS = {"simulate led-array", "calibrate leds"}
SLOW = {"ablate", "calibrate exposures", "demo", "export", "simulate dataset", "train"}
"""Tried with the hardest form only."""
HARDEST = "dotdot after a symlink"
NOTHING_LEFT = {"build-dataset"}
"""Its scan is found and read; of so few pixels no sample is left."""

CASES = [
    (command, form, FOLDERS[number % len(FOLDERS)])
    for number, (command, form) in enumerate(itertools.product(commands(str, ""), FORMS))
    if command not in WITHOUT_PATHS and (command not in SLOW or form == HARDEST)
]
"""Every command with every form; the folders take turns, so that each command has seen them all."""


@pytest.fixture
def one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes minutes is left out of the commands: scans, training, rendering, translation."""
    export_run = "plsctl.models.prediction.onnx_export.export_run"
    monkeypatch.setattr(export_run, lambda run, out: write_whole(out, f"{run.path}") or 0)
    write_dataset = "plsctl.cli.simulate.dataset.write_dataset"
    monkeypatch.setattr(write_dataset, lambda hardware, out, *rest: out.mkdir() or 0)
    for step in ("pixel_size_step", "flat_field_step", "objectives_step", "all_steps"):
        monkeypatch.setattr(
            f"plsctl.cli.scanning.calibration_steps.{step}",
            lambda hardware, *_: {"file": load_hardware(hardware).file},
        )
    for step in ("_take", "_build", "_train", "_stain", "_report"):
        monkeypatch.setattr(f"plsctl.cli.simulate.demo.{step}", lambda *_: None)
    scores = dict.fromkeys(
        ("metrics", "baselines", "verdict", "baseline", "difference", "nuclei", "verdict_text")
    )
    monkeypatch.setattr("plsctl.cli.simulate.demo._evaluate", lambda _: scores)
    monkeypatch.setattr("plsctl.cli.simulate.demo.print_verdict", lambda _: None)


@pytest.mark.parametrize(("command", "form", "folder"), CASES)
def test_every_command_takes_every_form_of_path(
    place: Place,
    one_step: None,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    form: str,
    folder: str,
) -> None:
    monkeypatch.setenv("HOME", str(place.base.parent))
    monkeypatch.chdir(place.base / folder)
    new = f"{command}-{form}-".replace(" ", "_")
    if command == "dataset append":
        shutil.copytree(place.base / "one.zarr", place.base / f"{new}copy.zarr")
    words = commands(lambda name: FORMS[form](place, name), new)[command]
    result = plsctl(*command.split(), *words)
    if command in NOTHING_LEFT:
        assert "no sample is left" in result.stderr
        return
    assert result.exit_code == 0, result.stderr
    for name in (text for text in map(str, commands(str, new)[command]) if new in text):
        assert (place.base / name).exists()


def test_every_command_is_tried() -> None:
    def leaves(command: Any, path: str) -> Iterator[str]:
        for name in command.list_commands(None) if hasattr(command, "commands") else ():
            yield from leaves(command.get_command(None, name), f"{path} {name}".strip())
        if not hasattr(command, "commands"):
            yield path

    assert set(leaves(typer.main.get_command(frame.app), "")) == set(commands(str, ""))


@pytest.mark.parametrize("name", ["", "nul\0byte", "x" * 300, "/".join(["long"] * 1000), "\udcfc"])
@pytest.mark.parametrize(
    "words",
    [("scan",), ("report",), ("review",), ("build-dataset", "x", "-o"), ("train",), ("stain", "x"),
     ("devices", "--hardware"), ("segment",), ("scan", "slide.yaml", "--out")],
)  # fmt: skip
def test_a_name_that_no_disk_takes_is_one_sentence(words: tuple[str, ...], name: str) -> None:
    result = plsctl(*words, f"{name}.yaml" if words == ("train",) and name else name)
    assert result.exit_code == 2
    assert "This is a bug" not in result.stderr


def test_python_takes_names_as_text_and_as_paths(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.base / "sub")
    for kind in (str, Path):
        assert load_slide(kind("../slide.yaml")).load_hardware().name == "tiny"
        assert open_scan(kind("../slide.yaml"), kind("../scans")).is_finished("unstained")
        assert Dataset.open(kind("../one.zarr")).read_input([0]).shape == (1, 4, 3, 24, 24)


def test_a_scan_that_cannot_be_read_is_not_called_unsafe(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = tmp_path / "scan"
    shutil.copytree(place.base / "scans" / "tiny", scan)
    assert open_scan(scan, tmp_path).safe_to_stain() is not None
    before = (scan / "scan.jsonl").read_text()
    read_bytes, locked = Path.read_bytes, scan / "unstained.ome.zarr" / "A" / "1" / "0" / "0"
    (locked / "zarr.json").write_text("damaged")

    def refusing(file: Path) -> bytes:
        if locked in file.parents:
            raise PermissionError(13, "Permission denied", str(file))
        return read_bytes(file)

    monkeypatch.setattr(Path, "read_bytes", refusing)
    result = plsctl("scan", scan, "--verify")
    assert result.exit_code == 2
    assert "nothing is said of the scan" in result.stderr
    assert (scan / "scan.jsonl").read_text() == before


def test_a_rename_that_is_refused_for_a_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, refused, waited = os.replace, iter(range(5)), []

    def scanned_for_viruses(source: Path, target: Path) -> None:
        if next(refused, None) is not None:
            raise PermissionError(13, "Access is denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", scanned_for_viruses)
    monkeypatch.setattr(whole_files.time, "sleep", waited.append)
    write_whole(tmp_path / "table.csv", "a")
    assert (tmp_path / "table.csv").read_text() == "a"
    assert len(waited) == 5 and sum(waited) < whole_files.RENAMING_S


@pytest.mark.parametrize("moved", ["nothing", "both", "run", "data"])
def test_a_run_finds_its_data_set_where_it_can(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: str
) -> None:
    lab, away = tmp_path / "lab", tmp_path / "away"
    for folder in (lab, away):
        folder.mkdir()
    shutil.copytree(place.base / "one.zarr", lab / "one.zarr")
    monkeypatch.chdir(lab)
    words = ("--width", 4, "--blocks", 1, "--steps", 1, "--batch", 4)
    done("train", "fast", "--data", "one.zarr", "--out", "runs/first", *words)
    if moved in ("both", "run"):
        shutil.move(lab / "runs", away / "runs")
    if moved in ("both", "data"):
        shutil.move(lab / "one.zarr", away / "one.zarr")
    run = (away if moved in ("both", "run") else lab) / "runs" / "first"
    monkeypatch.chdir(tmp_path)
    config, _ = read_trained(run)
    if moved == "data":
        result = plsctl("evaluate", run)
        assert result.exit_code == 2 and "Name it with --data" in result.stderr
    else:
        assert len(open_data(run, config)) == 20


def test_a_command_that_failed_leaves_nothing(place: Place, tmp_path: Path) -> None:
    scan, broken = place.base / "scans" / "tiny", tmp_path / "broken.yaml"
    text = (place.base / "tiny.yaml").read_text().replace("leds_43.csv", "shipped:leds_43.csv")
    broken.write_text(text.replace("simled://array", "socket://127.0.0.1:9"))
    slide = tmp_path / "slide.yaml"
    slide.write_text(SLIDE.replace("tiny.yaml", "broken.yaml").replace(": expo", ": shipped:expo"))
    before = sorted(tmp_path.rglob("*"))
    for words in (
        ("build-dataset", scan, "-o", tmp_path / "none.zarr"),
        ("build-dataset", scan, "-o", tmp_path / "huge.zarr", "--crop", 100_000),
        ("scan", slide, "--pass", "unstained", "--out", tmp_path),
        ("train", "maepnet", "--data", place.base / "one.zarr", "--out", tmp_path / "run",
         "--perceptual", "classifier"),
        ("dataset", "merge", place.base / "one.zarr", place.base / "one.zarr", "-o",
         tmp_path / "twice.zarr"),
        ("segment", tmp_path / "nowhere.png", "--masks", tmp_path / "masks"),
        ("report", tmp_path / "nowhere", "-o", tmp_path / "empty.html"),
    ):  # fmt: skip
        result = plsctl(*words)
        assert result.exit_code in (2, 3), (words, result.stderr)
        assert sorted(tmp_path.rglob("*")) == before, words
