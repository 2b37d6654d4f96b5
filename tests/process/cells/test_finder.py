"""Which finds of a whole slide are white cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from plsctl.process.cells.finder import _without_smudges


def test_the_slide_takes_pale_monocytes_for_cells_and_swollen_smudges_not() -> None:
    """Strengths and areas as the simulator's monocytes and smudges have them."""
    cells = pd.DataFrame({"strength": np.full(12, 100.0), "red_cells": 1.5, "smudge": False})
    doubtful = pd.DataFrame(
        {"strength": [79.0, 78.0, 70.0], "red_cells": [3.0, 5.5, 1.5], "smudge": True}
    )
    kept = _without_smudges(pd.concat([cells, doubtful], ignore_index=True), limit=40.0)
    assert kept["strength"].tolist() == [*cells["strength"], 79.0]
