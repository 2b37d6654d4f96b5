"""The words of the library that checks settings reach no user."""

from __future__ import annotations

from typing import Any, cast

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticKnownError
from pydantic_core import _pydantic_core as core

from plsctl.acquire.files.mistakes import mistake_in_data, reason_of

KINDS = core.list_all_errors()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind["type"]))
def test_no_mistake_is_told_in_the_librarys_words(kind: dict[str, Any]) -> None:
    context = kind.get("example_context")
    error = PydanticKnownError(kind["type"], context)
    detail = {"type": kind["type"], "loc": ("a",), "msg": error.message(), "input": "1,5"}
    reason, hint = reason_of(cast(ErrorDetails, detail | ({"ctx": context} if context else {})))
    said = f"{reason} {hint or ''}".lower()
    for word in ("valid", "input", "pattern", "tuple", "keys", "instance", "dictionary", "schema"):
        assert word not in said, said


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size_px: tuple[int, int]
    recipe: str = ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "'size_px' is missing"),
        ({"size_px": [1, 2], "recipes": 1}, "'recipes' is unknown"),
        ({"size_px": 3}, "size_px = 3: values in brackets with a comma between are expected"),
        ({"size_px": [1, "x"]}, "size_px.1 = 'x': a whole number is expected"),
        ({"size_px": [1, 2], "recipe": 5}, "recipe = 5: text is expected"),
    ],
)
def test_stored_data_are_explained_in_the_same_words(content: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _Stored.model_validate(content)
    assert mistake_in_data(caught.value)[1] == said
