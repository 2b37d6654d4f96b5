"""YAML files people write, read into pydantic models; every mistake points at its line."""

from __future__ import annotations

import difflib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from plsctl.acquire.errors import UserError


class Settings(BaseModel):
    """Base of all settings: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)
YamlPath = tuple[int | str, ...]


def load_settings(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into a settings model.

    Raises
    ------
    UserError
        The file is missing, is not YAML, or a field is misspelt, missing or out of range. The
        message names the file, line, field, what was found and what is allowed.
    """
    data, lines = read_yaml(path)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _explain(error.errors()[0], path, model, data, lines) from None


def validate_section(model: type[Model], section: dict[str, Any], file: Path, name: str) -> Model:
    """Validate a part of a YAML file that was read unchecked.

    `name` is the field of the file under which the section stands (`led_array.options`; empty
    where it is the whole file); errors as `load_settings`.
    """
    try:
        return model.model_validate(section)
    except ValidationError as error:
        lines = read_yaml(file)[1] if file.is_file() else {}
        head = tuple(name.split(".")) if name else ()
        n = len(head)
        inside = {place[n:]: line for place, line in lines.items() if place[:n] == head}
        raise _explain(error.errors()[0], file, model, section, inside) from None


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[YamlPath, int]]:
    """The mapping in a YAML file and the line (from 1) at which each of its fields stands."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            "there is no such file.",
            file=path,
            hint="Check the name; examples/slide.yaml is one to start from.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the file cannot be read ({error}).", file=path) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "not valid YAML"
        line = None if mark is None else mark.line + 1
        raise UserError(
            f"this is not valid YAML: {problem}.",
            file=path,
            line=line,
            hint="Check indentation, colons and quotes there.",
        ) from None
    if not isinstance(data, dict):
        raise UserError("a mapping of fields to values is expected here.", file=path, line=1)
    lines: dict[YamlPath, int] = {}
    _collect_lines(node, (), lines, path)
    return data, lines


def _collect_lines(
    node: yaml.Node | None, path: YamlPath, lines: dict[YamlPath, int], file: Path
) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            line = key.start_mark.line + 1
            if here in lines:  # YAML would silently take the last one
                field = ".".join(str(part) for part in here)
                raise UserError(
                    f"the field '{field}' stands here and in line {lines[here]} too.",
                    file=file,
                    line=line,
                    field=field,
                    hint="Keep one of them.",
                )
            lines[here] = line
            _collect_lines(value, here, lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*path, index)] = value.start_mark.line + 1
            _collect_lines(value, (*path, index), lines, file)


def _explain(
    detail: ErrorDetails,
    path: Path,
    model: type[BaseModel],
    data: dict[str, Any],
    lines: dict[YamlPath, int],
) -> UserError:
    place = tuple(part for part in detail["loc"] if _stands_in(part, lines))
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)
    field = ".".join(str(part) for part in detail["loc"]) or None
    name = detail["loc"][-1] if detail["loc"] else ""
    parent = _model_at(model, detail["loc"][:-1])
    if detail["type"] == "extra_forbidden" and parent is not None:
        allowed = list(parent.model_fields)
        close = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0.5)
        guess = f"Did you mean '{close[0]}'? " if close else ""
        message = f"there is no field '{field}'."
        hint = f"{guess}Allowed here: {', '.join(allowed)}."
        return UserError(message, file=path, line=line, field=field, hint=hint)
    if detail["type"] == "missing":
        return UserError(
            f"the field '{field}' is missing.", file=path, line=line, field=field, hint="Add it."
        )
    reason = detail["msg"].removeprefix("Value error, ").rstrip(".")
    reason = reason[:1].lower() + reason[1:]
    found = detail["input"]
    shown = "" if isinstance(found, dict) else f" = {found!r}"
    guess_hint = _did_you_mean(found, detail)
    where = f"{field}{shown}: " if field else ""
    return UserError(f"{where}{reason}.", file=path, line=line, field=field, hint=guess_hint)


def _stands_in(part: int | str, lines: dict[YamlPath, int]) -> bool:
    return any(part in place for place in lines)


def _did_you_mean(found: object, detail: ErrorDetails) -> str | None:
    expected = str(detail.get("ctx", {}).get("expected", ""))
    names = [word.strip("' ") for word in expected.replace(" or ", ",").split(",")]
    close = difflib.get_close_matches(str(found), names, n=1, cutoff=0.5)
    return f"Did you mean '{close[0]}'?" if close else None


def _model_at(model: type[BaseModel], place: YamlPath) -> type[BaseModel] | None:
    """The model in which the field after `place` is defined."""
    current: type[BaseModel] | None = model
    for part in place:
        if current is None:
            return None
        if isinstance(part, str) and part in current.model_fields:
            current = _model_in(current.model_fields[part].annotation)
    return current


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, dict, list, tuple):
        return next((m for a in typing.get_args(annotation) if (m := _model_in(a))), None)
    return None


def suggest(name: str, known: typing.Iterable[str]) -> str:
    """A hint that lists the known names, the most similar one first."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"Did you mean '{close[0]}'? " if close else ""
    return f"{guess}Known: {', '.join(names)}."
