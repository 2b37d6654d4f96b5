"""What may stand in the files that people write: JSON Schema and reference pages of their models.

Descriptions are the docstrings below the fields, or the entries under "Parameters" of the class.
"""

import ast
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]


@dataclass(frozen=True)
class WrittenFile:
    """A kind of YAML file: its model, and the models of parts that are checked elsewhere."""

    title: str
    intro: str
    model: type[BaseModel]
    parts: dict[str, type[BaseModel]]


def written_files() -> dict[str, WrittenFile]:
    """The YAML files that people write, by the names that `plsctl schema` takes."""
    from plsctl.acquire.devices.hardware import Hardware
    from plsctl.acquire.leds.illuminate import IlluminateOptions
    from plsctl.acquire.leds.openuc2 import OpenUc2Options
    from plsctl.acquire.leds.squid import SquidOptions
    from plsctl.acquire.leds.template_settings import TemplateOptions
    from plsctl.acquire.plans.recipes import Recipe
    from plsctl.acquire.plans.slide import Slide
    from plsctl.models.learned_optics.settings import OpticsRun
    from plsctl.models.runs.config import TrainingConfig
    from plsctl.process.quality.flags import QualitySettings
    from plsctl.sim.world.settings import SimulatorSettings

    return {
        "slide": WrittenFile(
            "Slide file",
            "A slide and how it is scanned: `plsctl scan SLIDE.yaml` ([scanning](../scanning.md)).",
            Slide,
            {},
        ),
        "hardware": WrittenFile(
            "Hardware file",
            "A microscope: `--hardware FILE`, or `hardware` in a slide file "
            "([scanning](../scanning.md), [LED arrays](../led-arrays.md)). Settings of an LED "
            "driver and of the simulator stand under `options`.",
            Hardware,
            {
                "led_array.options (driver: template)": TemplateOptions,
                "led_array.options (driver: illuminate)": IlluminateOptions,
                "led_array.options (driver: openuc2)": OpenUc2Options,
                "led_array.options (driver: squid)": SquidOptions,
                "options (core: simulator)": SimulatorSettings,
            },
        ),
        "recipe": WrittenFile(
            "Recipe file",
            "Which images a stack has: `recipe` in a slide file ([recipes](../recipes.md)).",
            Recipe,
            {},
        ),
        "training": WrittenFile(
            "Training file",
            "A training run: `plsctl train CONFIG.yaml`; the options of `plsctl train` have the "
            "same names ([models](../models.md)).",
            TrainingConfig,
            {},
        ),
        "learned-optics": WrittenFile(
            "Learned optics",
            "A run or a sweep that learns optics: `plsctl train CONFIG.yaml` with `model: "
            "learned-optics` ([learned optics](../learned-optics.md)).",
            OpticsRun,
            {},
        ),
        "quality": WrittenFile(
            "Limits of quality control",
            "What is left out of a data set: `plsctl build-dataset --quality FILE` "
            "([quality](../quality.md) says how the limits were found).",
            QualitySettings,
            {},
        ),
    }


def json_schema(model: type[BaseModel]) -> Schema:
    """The JSON Schema of a model, every field with its description."""
    schema = model.model_json_schema()
    parts: Schema = {**schema.get("$defs", {}), model.__name__: schema}
    for inner in _models(model):
        found = descriptions(inner)
        part = parts[inner.__name__]
        part["description"] = _first_paragraph(inner.__doc__ or "")
        for name, about in part.get("properties", {}).items():
            if name in found:
                about["description"] = found[name]
    return schema


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """What each field of a model means, its parents' included."""
    found: dict[str, str] = {}
    for part in reversed(model.__mro__):
        if issubclass(part, BaseModel) and part.__module__.startswith("plsctl."):
            found |= _parameters(part.__doc__ or "") | _docstrings(part)
    return {name: text for name, text in found.items() if name in model.model_fields}


def page(file: WrittenFile) -> str:
    """The reference page of a kind of file (Markdown)."""
    lines = [
        f"# {file.title}",
        "",
        "<!-- Made from the models by `make reference`; change their docstrings instead. -->",
        "",
        *textwrap.wrap(file.intro, 110, break_long_words=False, break_on_hyphens=False),
        "",
    ]
    for place, model in {"": file.model, **file.parts}.items():
        schema = json_schema(model)
        lines += _sections(schema, schema, place)
    return "\n".join(lines).rstrip() + "\n"


def _sections(schema: Schema, root: Schema, place: str) -> Iterator[str]:
    """A section of a model, and those of the models in it."""
    if place:
        yield f"## `{place}`"
        yield ""
    if schema.get("description"):
        yield from textwrap.wrap(schema["description"], 110, break_on_hyphens=False)
        yield ""
    yield "| field | value | default | meaning |"
    yield "| --- | --- | --- | --- |"
    required = schema.get("required", ())
    inner: list[tuple[str, Schema]] = []
    for name, about in schema.get("properties", {}).items():
        kind, below = _kind(about, root)
        default = "needed" if name in required else _default(about)
        yield f"| `{name}` | {kind} | {default} | {about.get('description', '')} |"
        inner += [(f"{name}{more}", part) for more, part in below]
    yield ""
    for name, part in inner:
        yield from _sections(part, root, _joined(place, name))


def _joined(place: str, name: str) -> str:
    """`led_array.options (driver: template)` and `single`: the remark stays at the end."""
    if not place:
        return name
    head, _, remark = place.partition(" (")
    return f"{head}.{name} ({remark}" if remark else f"{head}.{name}"


def _kind(about: Schema, root: Schema) -> tuple[str, list[tuple[str, Schema]]]:
    """The values that a field takes, in words, and the models of what stands below it."""
    if "$ref" in about:
        part = root["$defs"][about["$ref"].rpartition("/")[2]]
        return ("fields, below", [("", part)]) if "properties" in part else _kind(part, root)
    if "anyOf" in about:
        found = [_kind(one, root) for one in about["anyOf"]]
        names = dict.fromkeys(kind for kind, _ in found)
        return " or ".join(names), [below for _, parts in found for below in parts]
    if "enum" in about or "const" in about:
        values = about.get("enum", [about.get("const")])
        return ", ".join(f"`{value}`" for value in values), []
    kind = about.get("type")
    if kind == "array":
        if "prefixItems" in about:
            each = [_kind(one, root)[0] for one in about["prefixItems"]]
            return f"[{', '.join(each)}]", []
        items, below = _kind(about.get("items", {}), root)
        return f"list of {items}", [(f"[]{more}", part) for more, part in below]
    if kind == "object":
        inside = about.get("additionalProperties")
        value, below = _kind(inside if isinstance(inside, dict) else {}, root)
        return f"names, each with {value}", [(f".NAME{more}", part) for more, part in below]
    words = {
        "string": "path" if about.get("format") == "path" else "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "null": "null",
    }
    return words.get(str(kind), "any value") + _limits(about), []


def _limits(about: Schema) -> str:
    words = (
        ("exclusiveMinimum", "above"),
        ("minimum", "at least"),
        ("exclusiveMaximum", "below"),
        ("maximum", "at most"),
    )
    said = [
        f"{word} {about[name]:g}" if about[name] < 1e6 else f"{word} {about[name]}"
        for name, word in words
        if name in about
    ]
    return f" {' and '.join(said)}" if said else ""


def _default(about: Schema) -> str:
    value = about.get("default")
    if isinstance(value, dict):
        return "as below" if value else "none"
    if value is None:
        return "null" if "default" in about else "as below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`[{', '.join(str(item) for item in value)}]`" if value else "none"
    shown = str(value).replace("\n", "\\n")
    return f"`{shown}`" if shown else "none"


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and all models of its fields."""
    found: list[type[BaseModel]] = []

    def visit(annotation: object) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation not in found:
                found.append(annotation)
                for field in annotation.model_fields.values():
                    visit(field.annotation)
        elif isinstance(annotation, types.GenericAlias | types.UnionType) or typing.get_args(
            annotation
        ):
            for inner in typing.get_args(annotation):
                visit(inner)

    visit(model)
    return found


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """The string below each field of a class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    found = {}
    for field, below in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[field.target.id] = _one_line(below.value.value)
    return found


def _parameters(docstring: str) -> dict[str, str]:
    """The entries under "Parameters" of a numpy docstring."""
    parts = re.split(r"^\w+\n-+\n", inspect.cleandoc(docstring), flags=re.M)
    if len(parts) < 2:
        return {}
    found: dict[str, str] = {}
    names: list[str] = []
    for line in parts[1].splitlines():
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(",")]
        else:
            for name in names:
                found[name] = _one_line(f"{found.get(name, '')} {line}")
    return found


def _first_paragraph(docstring: str) -> str:
    text = re.split(r"\n\s*Parameters\n", inspect.cleandoc(docstring))[0]
    return _one_line(text)


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
