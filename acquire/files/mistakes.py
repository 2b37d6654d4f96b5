"""What mistakes in settings mean for who wrote them: file, line, field, what is allowed.

pydantic's own words are for programmers; nothing of them reaches a user.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from plsctl.acquire.errors import UserError

YamlPath = tuple[int | str, ...]
"""Where a value stands in a YAML file: fields and places in lists, from the outside in."""


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
    if detail["type"] != "missing":
        # Of values that may be of several kinds, pydantic names the kind as if it were a field.
        loc = place or loc[:1]
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
    reason, hint = reason_of(detail, known, written)
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
    "finite_number": "a finite number is expected",
    "int_type": "a whole number is expected",
    "int_parsing": "a whole number is expected",
    "int_parsing_size": "this whole number is too large",
    "int_from_float": "a whole number is expected",
    "string_type": "text is expected",
    "string_sub_type": "text is expected",
    "string_unicode": "text in UTF-8 is expected",
    "path_type": "the path of a file or folder is expected",
    "dict_type": "names with values are expected, one a line, such as 'name: value'",
    "mapping_type": "names with values are expected, one a line, such as 'name: value'",
    "model_type": "names with values are expected, one a line, such as 'name: value'",
    "model_attributes_type": "names with values are expected, one a line, such as 'name: value'",
    "invalid_key": "a name is expected here, and this is none",
    "list_type": "a list in brackets is expected, such as [1, 2]",
    "tuple_type": "values in brackets with a comma between are expected",
    "string_too_short": "it is empty",
    "string_pattern_mismatch": "it has characters that are not allowed here",
    "none_required": "nothing may stand here",
}
"""What mistakes of the kinds that pydantic tells apart mean for who wrote the file."""

_LIMITS = (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))


def reason_of(
    detail: ErrorDetails, known: FieldInfo | None = None, written: str | None = None
) -> tuple[str, str | None]:
    """What is wrong with a value, and the remedy where there is a better one than a guess.

    Parameters
    ----------
    known
        What is declared of the field.
    written
        How the value stands in the file.
    """
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "too_short" and not detail["input"]:
        return "it is empty", None
    if kind in ("tuple_type", "too_long", "too_short", "missing"):
        names = (known.examples if known is not None else None) or ["[1920, 1200]"]
        return _WORDS["tuple_type"], f"Such as {names[0]}."
    reason = _WORDS.get(kind)
    if kind == "value_error":
        text = detail["msg"].removeprefix("Value error, ").rstrip(".")
        return text[:1].lower() + text[1:], None
    limits = [f"{words} {_plain(context[name])}" for name, words in _LIMITS if name in context]
    if limits:
        reason = f"it must be {' and '.join(limits)}"
    elif "expected" in context:
        reason = f"it must be {context['expected']}"
    elif reason is None:
        reason = "this value is none that fits here"
    if kind == "string_pattern_mismatch" and known is not None and known.examples:
        return reason, _such_as(known)
    if detail["input"] is None:
        return f"{reason}, and nothing stands here", _such_as(known)
    if kind == "string_type" and written is not None:
        return f"{reason}, and without quotes this is none", f"Put it in quotes: '{written}'."
    if kind == "float_parsing" and written is not None and _COMMA.match(written):
        return f"{reason}, with a point", f"Write {written.replace(',', '.')}."
    return reason, None


def _such_as(known: FieldInfo | None) -> str | None:
    return f"Such as {known.examples[0]}." if known is not None and known.examples else None


def _plain(limit: object) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def mistake_in_data(error: ValidationError) -> tuple[str, str]:
    """Field and sentence of the first mistake in a file that a program wrote, without full stop."""
    detail = error.errors()[0]
    field = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "missing":
        return field, f"'{field}' is missing"
    if detail["type"] == "extra_forbidden":
        return field, f"'{field}' is unknown"
    return field, f"{field} = {detail['input']!r:.80}: {reason_of(detail)[0]}"


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
    if not found or not isinstance(found, str):
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
