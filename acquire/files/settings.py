"""YAML files people write, read into pydantic models; every mistake points at its line."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from plsctl.acquire.errors import UserError
from plsctl.acquire.files.texts import read_text


class Settings(BaseModel):
    """Base of all settings: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
        raise explain(error.errors(), path, model, lines, _texts(path)) from None


def validate_section(model: type[Model], section: dict[str, Any], file: Path, name: str) -> Model:
    """Validate a part of a YAML file that was read unchecked.

    `name` is the field of the file under which the section stands (`led_array.options`; empty
    where it is the whole file); errors as `load_settings`.
    """
    try:
        return model.model_validate(section)
    except ValidationError as error:
        lines, texts = (read_yaml(file)[1], _texts(file)) if file.is_file() else ({}, {})
        head = tuple(name.split(".")) if name else ()
        n = len(head)
        inside = {place[n:]: line for place, line in lines.items() if place[:n] == head}
        written = {place[n:]: text for place, text in texts.items() if place[:n] == head}
        raise explain(error.errors(), file, model, inside, written) from None


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[YamlPath, int]]:
    """The mapping in a YAML file and the line (from 1) at which each of its fields stands."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise UserError("there is no such file.", file=path, hint="Check the name.") from None
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
        for index, (key, value) in enumerate(node.value):
            here = (*path, str(key.value))
            line = key.start_mark.line + 1
            if _NUMBER.match(str(key.value)) and value.value == "" and index:
                before, number = node.value[index - 1]
                raise UserError(
                    f"{before.value} = {number.value},{key.value}: a number is written with a "
                    "point here, and commas part the fields.",
                    file=file,
                    line=line,
                    field=".".join(str(part) for part in (*path, before.value)),
                    hint=f"Write {number.value}.{key.value}.",
                )
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


def _texts(path: Path) -> dict[YamlPath, str]:
    """What stands in a YAML file for each of its plain values, as it was written."""
    found: dict[YamlPath, str] = {}

    def collect(node: yaml.Node | None, place: YamlPath) -> None:
        if isinstance(node, yaml.ScalarNode):
            found[place] = node.value
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                collect(value, (*place, str(key.value)))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                collect(value, (*place, index))

    collect(yaml.compose(read_text(path), Loader=yaml.SafeLoader), ())
    return found


def explain(
    details: list[ErrorDetails],
    path: Path | None,
    model: type[BaseModel],
    lines: dict[YamlPath, int],
    texts: dict[YamlPath, str],
) -> UserError:
    """The first mistake of settings in a user's words, with its file, line and field.

    Parameters
    ----------
    lines, texts
        Line of each field, and what was written for each plain value.
    """
    detail = details[0]
    if detail["type"] == "missing":
        # A name that is unknown beside one that is missing is most likely meant for it.
        name, parent = str(detail["loc"][-1]), detail["loc"][:-1]
        unknown = {
            str(other["loc"][-1]): other
            for other in details
            if other["type"] == "extra_forbidden" and other["loc"][:-1] == parent
        }
        close = difflib.get_close_matches(name, unknown, n=1, cutoff=0.4) or list(unknown)[:1]
        if close:
            return _misspelt(unknown[close[0]], name, path, model, lines)
    loc = detail["loc"]
    while loc and (
        loc[-1] == "[key]" or (detail["type"] == "missing" and isinstance(loc[-1], int))
    ):
        loc = loc[:-1]
    place = tuple(part for part in loc if _stands_in(part, lines))
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)
    parts = [str(part) for part in loc]
    field = ".".join(parts) or None
    if detail["type"] == "extra_forbidden":
        return _misspelt(detail, None, path, model, lines)
    known = _field_at(model, place)
    if detail["type"] == "missing" and loc == detail["loc"]:
        known = _field_at(model, loc)
        such = ", or ".join(f"{parts[-1]}: {text}" for text in (known and known.examples) or ())
        message = f"the field '{field}' is missing."
        remedy = f"Add it, such as {such}." if such else "Add it."
        return UserError(message, file=path, line=line, field=field, hint=remedy)
    written = texts.get(place)
    reason, hint = _reason(detail, known, written)
    found = detail["input"]
    shown = "" if isinstance(found, dict) or "[key]" in detail["loc"] else f" = {found!r}"
    if written is not None and not isinstance(found, str):
        shown = f" = {written}"
    where = f"{field}{shown}: " if field else ""
    return UserError(
        f"{where}{reason}.",
        file=path,
        line=line,
        field=field,
        hint=hint or _did_you_mean(found, detail),
    )


def _misspelt(
    detail: ErrorDetails,
    missing: str | None,
    path: Path | None,
    model: type[BaseModel],
    lines: dict[YamlPath, int],
) -> UserError:
    """The sentence for a field that is unknown; `missing` is one that should stand there."""
    place = detail["loc"]
    field, name = ".".join(str(part) for part in place), str(place[-1])
    parent = _model_at(model, place[:-1])
    allowed = list(parent.model_fields) if parent is not None else []
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    guess = missing if missing is not None and (not close or close[0] == missing) else None
    guess = guess or (close[0] if close else None)
    lacking = f", and '{missing}' is missing" if missing is not None else ""
    meant = f"Did you mean '{guess}'? " if guess else ""
    known = f"Allowed here: {', '.join(allowed)}." if allowed else ""
    return UserError(
        f"there is no field '{field}'{lacking}.",
        file=path,
        line=lines.get(place),
        field=field,
        hint=f"{meant}{known}" or None,
    )


_WORDS = {
    "bool_parsing": "true or false is expected",
    "bool_type": "true or false is expected",
    "float_type": "a number is expected",
    "float_parsing": "a number is expected",
    "finite_number": "a number is expected",
    "int_type": "a whole number is expected",
    "int_parsing": "a whole number is expected",
    "int_from_float": "a whole number is expected",
    "string_type": "text is expected",
    "dict_type": "names with values are expected, one a line, such as 'name: value'",
    "model_type": "names with values are expected, one a line, such as 'name: value'",
    "list_type": "a list in brackets is expected, such as [1, 2]",
    "string_too_short": "it is empty",
}
"""What mistakes of the kinds that pydantic tells apart mean for who wrote the file."""


def _reason(
    detail: ErrorDetails, known: FieldInfo | None, written: str | None
) -> tuple[str, str | None]:
    """What is wrong with a value, and the remedy where there is a better one than a guess."""
    kind = detail["type"]
    if kind == "too_short" and not detail["input"]:
        return "it is empty", None
    if kind in ("tuple_type", "too_long", "too_short", "missing"):
        names = (known.examples if known is not None else None) or ["[1920, 1200]"]
        return "values in brackets with a comma between are expected", f"Such as {names[0]}."
    reason = _WORDS.get(kind)
    if reason is None:
        reason = detail["msg"].removeprefix("Value error, ").rstrip(".")
        reason = reason[:1].lower() + reason[1:].replace("Input should", "it should")
        reason = reason.removeprefix("input should be ").strip() or reason
        if detail["msg"].startswith("Input should be"):
            reason = f"it must be {reason}"
    if kind == "string_type" and written is not None:
        return f"{reason}, and without quotes this is none", f"Put it in quotes: '{written}'."
    if written is not None and _COMMA.match(written):
        return f"{reason}, with a point", f"Write {written.replace(',', '.')}."
    return reason, None


_NUMBER = re.compile(r"^\d+$")
_COMMA = re.compile(r"^[-+]?\d+,\d+$")


def _field_at(model: type[BaseModel], place: Sequence[int | str]) -> FieldInfo | None:
    """What is declared of the field at a place, or of the one that holds it."""
    found = None
    for n in range(1, len(place) + 1):
        parent, name = _model_at(model, tuple(place[: n - 1])), str(place[n - 1])
        if parent is not None and name in parent.model_fields:
            found = parent.model_fields[name]
    return found


def _stands_in(part: int | str, lines: dict[YamlPath, int]) -> bool:
    return any(part in place for place in lines)


def _did_you_mean(found: object, detail: ErrorDetails) -> str | None:
    expected = str(detail.get("ctx", {}).get("expected", ""))
    if not found:
        return None
    names = [word.strip("' ") for word in expected.replace(" or ", ",").split(",")]
    close = difflib.get_close_matches(str(found), names, n=1, cutoff=0.5)
    return f"Did you mean '{close[0]}'?" if close else None


def _model_at(model: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel] | None:
    """The model in which the field after `place` was looked up."""
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
