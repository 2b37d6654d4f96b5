"""YAML files people write, read into pydantic models; every mistake points at its line."""

from __future__ import annotations

import difflib
import re
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from plsctl.acquire.errors import PlsctlError, UserError
from plsctl.acquire.files.mistakes import YamlPath, explain
from plsctl.acquire.files.texts import read_text


class Settings(BaseModel):
    """Base of all settings: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `yes` and `on`, which YAML takes for true and pydantic for the number 1."""
        if _holds_truth(value):
            allowed = _plain_types(cls.model_fields[str(info.field_name)].annotation)
            if allowed & {int, float, str} and not allowed & {bool, Any}:
                refuse_truth(True, "string_type" if str in allowed else "float_type")
        return value


def refuse_truth(value: Any, kind: Literal["string_type", "float_type"] = "string_type") -> Any:
    """The value, unless it is true or false where text or a number belongs."""
    if isinstance(value, bool):
        raise PydanticKnownError(kind)
    return value


def _holds_truth(value: Any) -> bool:
    inside = value if isinstance(value, list | tuple) else (value,)
    return any(isinstance(item, bool) for item in inside)


def _plain_types(annotation: Any) -> set[Any]:
    """The types that a field names, however deep."""
    arguments = typing.get_args(annotation)
    return {annotation}.union(*map(_plain_types, arguments))


Model = TypeVar("Model", bound=BaseModel)


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
        mistake = explain(error.errors(), file, model, inside, written)
        if mistake.field is not None:
            mistake.field = ".".join((*head, mistake.field))
        raise mistake from None


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
        problem = _problem(str(getattr(error, "problem", None) or ""))
        line = None if mark is None else mark.line + 1
        raise UserError(
            f"this is not valid YAML{problem}.",
            file=path,
            line=line,
            hint="Check indentation, colons and quotes there.",
        ) from None
    if not isinstance(data, dict):
        raise UserError(
            "the file is empty." if data is None else "this is no list of fields with values.",
            file=path,
            line=1,
            hint="Write one field a line, such as 'name: value'.",
        )
    lines: dict[YamlPath, int] = {}
    _collect_lines(node, (), lines, path)
    return data, lines


_PROBLEMS = (
    ("'\\t'", "a tab stands here, and only blanks may indent"),
    ("mapping values", "a second colon, or a line that is indented too far"),
    ("constructor for the tag", "a word after '!' means something else; put the value in quotes"),
    ("expected the node content", "a value is missing, or a bracket or brace stands alone"),
    ("undefined alias", "a word after '*' means something else; put the value in quotes"),
    ("another document", "a second document begins; '---' may stand on the first line only"),
    ("expected ',' or", "a comma, or the closing bracket or brace, is missing"),
    ("unexpected end of stream", "a quote is not closed"),
    ("could not find expected ':'", "a colon is missing after the field's name"),
    ("block end", "this line is indented otherwise than the ones before it"),
)
"""Parts of what the YAML library says, and what that means for who wrote the file."""


def _problem(said: str) -> str:
    return next((f": {meaning}" for part, meaning in _PROBLEMS if part in said), "")


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


_NUMBER = re.compile(r"^\d+$")


def add_line(error: PlsctlError) -> None:
    """Let an error about a field of a YAML file name the field's line, where it does not yet."""
    if (
        error.line is not None
        or not error.field
        or not (error.file or "").endswith((".yaml", ".yml"))
    ):
        return
    try:
        _, lines = read_yaml(Path(str(error.file)))
    except UserError:
        return
    by_name = {".".join(str(part) for part in place): line for place, line in lines.items()}
    parts = error.field.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    error.line = next((by_name[name] for name in names if name in by_name), None)


MANY = 20
"""So many names are listed in a hint."""


def suggest(name: str, known: typing.Iterable[str]) -> str:
    """A hint that lists the known names, the most similar one first."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"Did you mean '{close[0]}'? " if close else ""
    shown = ", ".join(names[:MANY])
    more = f", and {len(names) - MANY} more" if names[MANY:] else ""
    return f"{guess}Known: {shown}{more}."
