"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with the real image sets, named by PLSCTL_DATA."""
    folder = os.environ.get("PLSCTL_DATA")
    if not folder:
        pytest.skip("PLSCTL_DATA names no folder with the real image sets")
    return Path(folder)
