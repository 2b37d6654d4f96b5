"""The reference pages are those of the models, and every field says what it means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from plsctl.acquire.devices.hardware import load_hardware, shipped_configurations
from plsctl.cli.app import app
from plsctl.cli.scanning.schema import KINDS
from plsctl.cli.shared.schema import json_schema, page, written_files

PAGES = Path(__file__).resolve().parents[2] / "docs" / "reference"


def test_all_kinds_are_named() -> None:
    assert set(written_files()) == set(KINDS)
    assert {path.stem for path in PAGES.glob("*.md")} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_that_of_the_model(kind: str) -> None:
    committed = (PAGES / f"{kind}.md").read_text(encoding="utf-8")
    assert committed == page(written_files()[kind]), "run `make reference`"


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_says_what_it_means(kind: str) -> None:
    file = written_files()[kind]
    for model in (file.model, *file.parts.values()):
        schema = json_schema(model)
        for part in (schema, *schema.get("$defs", {}).values()):
            for name, about in part.get("properties", {}).items():
                assert about.get("description"), f"{part['title']}.{name}"


def test_an_editor_gets_the_schema_of_a_file() -> None:
    result = CliRunner().invoke(app, ["schema", "hardware", "--json"])
    schema = json.loads(result.stdout)
    assert schema["additionalProperties"] is False
    for name in shipped_configurations():
        written = yaml.safe_load(load_hardware(name).file.read_text(encoding="utf-8"))
        assert set(written) <= set(schema["properties"])
        assert set(schema["required"]) <= set(written)
