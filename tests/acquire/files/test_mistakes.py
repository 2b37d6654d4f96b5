"""The words of the library that checks settings reach no user."""

from __future__ import annotations

from typing import Any, cast

import pytest
from pydantic_core import ErrorDetails, PydanticKnownError
from pydantic_core import _pydantic_core as core

from plsctl.acquire.files.mistakes import reason_of

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
