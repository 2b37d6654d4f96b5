"""The list of the worst predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from plsctl.models.worst import CATEGORIES, OK, category, count_categories, worst_samples
from plsctl.process.quality import FLAGS


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


def test_categories_are_made_of_flags_that_quality_control_raises() -> None:
    named = [flag for flags in CATEGORIES.values() for flag in flags]
    assert set(named) <= set(FLAGS) and len(named) == len(set(named))
    assert set(FLAGS) - set(named) == {"border", "duplicate"}  # say nothing about the worst
