"""The package is this checkout, complete, and keeps to its own rules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import plsctl.acquire
import plsctl.cli

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LAYERS = ("acquire", "cli", "examples", "hardware_configs", "models", "process", "sim")


def test_the_code_under_test_is_this_checkout() -> None:
    for package in (plsctl.acquire, plsctl.cli):
        assert package.__file__ is not None
        assert Path(package.__file__).resolve().parents[1] == ROOT


def test_every_folder_with_an_init_is_packaged() -> None:
    # A folder that is not listed works in an editable install and is absent from the wheel.
    found = {
        "plsctl." + ".".join(init.parent.relative_to(ROOT).parts)
        if init.parent.name != "package"
        else "plsctl"
        for folder in ROOT.iterdir()
        if folder.is_dir() and not folder.name.startswith(".") and folder.name != "build"
        for init in folder.rglob("__init__.py")
    }
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])
    assert not (ROOT / "__init__.py").exists()


@pytest.mark.parametrize(
    ("package", "folder"),
    [
        ("plsctl.hardware_configs", "hardware_configs"),
        ("plsctl.examples", "examples"),
        ("plsctl.process.pages", "process/pages/page_files"),
    ],
)
def test_files_that_are_no_modules_are_packaged(package: str, folder: str) -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"][package]
    base = ROOT / package.removeprefix("plsctl.").replace(".", "/")
    packaged = {path for pattern in patterns for path in base.glob(pattern)}
    files = {path for path in (ROOT / folder).iterdir() if path.is_file()}
    assert {path for path in files if path.suffix != ".py"} <= packaged


def test_every_dependency_is_pinned_and_used() -> None:
    def name(requirement: str) -> str:
        return re.split(r"[<>=\[; ]", requirement)[0].lower()

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {name(line) for line in lines if "==" in line}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *extras["train"], *extras["dev"]]
    assert {name(line) for line in wanted} - {"plsctl"} <= pinned

    modules = {"opencv-python-headless": "cv2", "scikit-image": "skimage", "pyyaml": "yaml"}
    modules |= {
        "pyserial": "serial",
        "pywavelets": "pywt",
        "useq-schema": "useq",
        "pymmcore-plus": "pymmcore_plus",
    }
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for layer in LAYERS
        for path in (ROOT / layer).rglob("*.py")
    )
    for requirement in (*PROJECT["project"]["dependencies"], *extras["train"]):
        module = modules.get(name(requirement), name(requirement))
        assert re.search(rf"^\s*(import|from) {module}\b", source, re.M), f"{module} is not used"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("plsctl.cli.app", {"numpy", "torch", "pymmcore_plus", "pydantic"}),
        ("plsctl.acquire.optics.field", {"scipy", "cv2", "torch", "pymmcore_plus"}),
    ],
)
def test_light_modules_load_nothing_heavy(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(' '.join(set(sys.modules) & {heavy!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_hardware_configurations_load() -> None:
    from plsctl.acquire.devices.hardware import load_hardware, shipped_configurations

    names = shipped_configurations()
    assert "simulator" in names
    for name in names:
        hardware = load_hardware(name)
        assert hardware.turret.objectives
        assert hardware.geometry().names


def test_examples_load() -> None:
    from plsctl.acquire.files.settings import read_yaml
    from plsctl.acquire.plans.slide import load_slide
    from plsctl.models.learned_optics.settings import optics_run

    for path in sorted((ROOT / "examples").glob("*.yaml")):
        if "model" in read_yaml(path)[0]:
            assert len(optics_run({}, path).runs()) == 6
        else:
            assert load_slide(path).slide


def test_the_import_contract_forbids_what_it_should() -> None:
    # The contract itself runs as `make contract`; here only that it covers every folder.
    settings = PROJECT["tool"]["importlinter"]
    assert set(settings["root_packages"]) == {f"plsctl.{layer}" for layer in LAYERS}


@pytest.mark.skipif(os.name == "nt", reason="the executable bit is a POSIX notion")
def test_the_check_script_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
