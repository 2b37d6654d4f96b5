"""The wheel is whole: outside the checkout, without it, the commands work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The wheel, built without a network from a copy of the folders that are packages."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in PROJECT["tool"]["setuptools"]["package-dir"].values():
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    build += ["--no-index", "-w", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    yield next(folder.glob("plsctl-*.whl"))


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run plsctl from the wheel, beside the libraries that are installed here."""
    place, here = tmp_path_factory.mktemp("unpacked"), tmp_path_factory.mktemp("here")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    # Before the hook of the editable install, which would find the checkout.
    code = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in str(f)]; "
        "from plsctl.cli.app import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}

    def runner(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=here, env=environment, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    where = "import plsctl.cli; print(plsctl.cli.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", f"{code.partition('from')[0]}{where}"],
        cwd=here, env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert Path(found.stdout.strip()).is_relative_to(place)
    return runner


def test_a_slide_is_begun_with_the_wheel_alone(run: Run) -> None:
    version = run("--version")
    assert version.returncode == 0
    assert version.stdout.strip()
    for words in (
        ("init", "lab"),
        ("scan", "lab/slide.yaml", "--dry-run"),
        ("simulate", "truth", "lab/slide.yaml", "--json"),
        ("init", "own", "--hardware", "arduino_43_leds"),
        ("train", "fast", "--recipe", "full", "--dry-run"),
    ):
        result = run(*words)
        assert result.returncode == 0, (words, result.stderr)
    assert json.loads(run("simulate", "truth", "lab/slide.yaml", "--json").stdout)["cells"]


def test_what_is_no_module_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("py.typed", "examples/small.yaml", "hardware_configs/leds_43.csv"):
        assert f"plsctl/{name}" in names
    assert not any(name.startswith(("tests", "plsctl/tests", "build")) for name in names)


def test_the_workflow_covers_three_systems_and_every_python() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    matrix = yaml.safe_load(text)["jobs"]["test"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["project"]["version"]
