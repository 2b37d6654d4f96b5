"""What the documentation names exists: modules, pages, and every room of the code."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("acquire", "cli", "hardware_configs", "models", "process", "sim")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SOURCES = sorted(
    chain.from_iterable((ROOT / folder).rglob("*.py") for folder in (*FOLDERS, "benchmarks"))
)
PATH = re.compile(
    rf"(?<![\w/.-])(?:{'|'.join((*FOLDERS, 'benchmarks', 'tests', 'examples', 'docs'))})/[\w/.-]*\w"
)
MODULE = re.compile(rf"(?<![\w.])plsctl\.((?:{'|'.join(FOLDERS)})(?:\.[a-z_]\w*)+)")
LINK = re.compile(r"\]\(([\w./-]+)(?:#[\w-]*)?\)")


def _is_module(dotted: str) -> bool:
    """Whether it is a module or package, a name inside of a module, or one that a folder gives."""
    folder, *names = dotted.split(".")
    place = ROOT / folder
    for name in names:
        if (place / f"{name}.py").is_file():
            return True
        place /= name
    face = place.parent / "__init__.py"
    return place.is_dir() or (face.is_file() and place.name in face.read_text(encoding="utf-8"))


def test_modules_and_files_that_pages_and_docstrings_name_exist() -> None:
    missing = []
    for file in (*PAGES, *SOURCES):
        text = file.read_text(encoding="utf-8")
        paths = {found for found in PATH.findall(text) if not (ROOT / found).exists()}
        modules = {found for found in MODULE.findall(text) if not _is_module(found)}
        missing += [f"{file.relative_to(ROOT)}: {found}" for found in sorted(paths | modules)]
    assert missing == []


def test_pages_link_to_files_that_exist() -> None:
    missing = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert missing == []


def test_architecture_page_and_picture_show_every_room() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rooms = {
        room
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract.get("exhaustive")
        for layer in contract["layers"]
        for room in re.split(r"[ |:]+", layer)
    }
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = (ROOT / "docs" / "images" / "rooms.svg").read_text(encoding="utf-8")
    tables = " ".join(line for line in page.splitlines() if line.startswith("| `"))
    assert rooms - set(re.findall(r"`(\w+)`", tables)) == set()
    assert rooms - set(re.findall(r">(\w+)</text>", picture)) == set()
