"""The list of the worst predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import UserError
from plsctl.models.evaluation.worst import (
    CATEGORIES,
    OK,
    category,
    count_categories,
    keep_corrections,
    worst_samples,
    write_worst,
)
from plsctl.process.quality.flags import FLAGS


def test_the_worst_come_first_with_what_quality_control_says() -> None:
    table = pd.DataFrame(
        {"sample": range(5), "flags": ["", "border;frame_swap", "artefact", None, "dirt;lost_cell"]}
    )
    worst = worst_samples(table, np.array([0.1, 0.5, 0.4, 0.2, 0.3]), count=4)
    assert list(worst["sample"]) == [1, 2, 4, 3]
    assert list(worst["category"]) == [
        "PLS mismatch",
        "artefact in target only",
        "true mismatch",
        OK,
    ]
    assert sum(count_categories(worst).values()) == 4
    assert category("border") == OK


def test_an_evaluation_keeps_what_a_person_has_corrected(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"sample": range(3), "slide": "001", "flags": ["", "artefact", "dirt"]},
    )
    worst, file = worst_samples(table, np.array([0.3, 0.2, 0.1])), tmp_path / "worst_test.csv"
    assert keep_corrections(worst, file).equals(worst)
    write_worst(file, worst.assign(category=["out of focus", "artefact in target only", OK]))
    again = worst_samples(table, np.array([0.1, 0.2, 0.3]))
    assert list(keep_corrections(again, file)["category"]) == [
        OK, "artefact in target only", "out of focus",
    ]  # fmt: skip
    other = again.assign(slide="002")  # cells of another data set with the same numbers
    assert keep_corrections(other, file).equals(other)
    file.write_text(file.read_text().replace(",", ";"))
    with pytest.raises(
        UserError, match=r"worst_test\.csv, line 1: the corrected list cannot be read"
    ):
        keep_corrections(again, file)


def test_categories_are_made_of_flags_that_quality_control_raises() -> None:
    named = [flag for flags in CATEGORIES.values() for flag in flags]
    assert set(named) <= set(FLAGS) and len(named) == len(set(named))
    assert set(FLAGS) - set(named) == {"border", "duplicate"}  # say nothing about the worst
