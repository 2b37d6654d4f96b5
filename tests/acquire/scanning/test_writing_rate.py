"""Whether writing keeps up is tried out before a pass, and said where it does not."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from plsctl.acquire.errors import UserError
from plsctl.acquire.plans.plan import Forecast
from plsctl.acquire.scanning.writing_rate import measure_writing_rate, writing_warning
from plsctl.acquire.store.position_files import PositionFiles

# 20 images a second for 100 s; a tenth more must be possible.
PASS = Forecast(20, 2000, 100.0, 80.0, 5.0, 10**9)
IMAGE = np.random.default_rng(0).integers(0, 256, (120, 160), dtype=np.uint8)


def test_rate_of_a_slow_disk_is_measured_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = PositionFiles.write

    def slowly(files: PositionFiles, index: int, image: np.ndarray) -> None:
        time.sleep(0.05)
        write(files, index, image)

    monkeypatch.setattr(PositionFiles, "write", slowly)
    rate = measure_writing_rate(tmp_path / "scans" / "new", IMAGE, PASS)
    assert 5 < rate < 20
    assert not list(tmp_path.iterdir())


def test_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(files: PositionFiles, index: int, image: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PositionFiles, "write", full)
    with pytest.raises(UserError, match="the disk is full"):
        measure_writing_rate(tmp_path, IMAGE, PASS)


@pytest.mark.parametrize(
    ("rate", "waits"), [(30.0, False), (22.0, False), (21.0, True), (5.0, True)]
)
def test_warning_names_both_rates_and_the_time(rate: float, waits: bool) -> None:
    warning = writing_warning(PASS, rate)
    assert bool(warning) == waits
    if rate == 5.0:
        assert "5 images a second" in warning and "takes 20" in warning and "7 min" in warning
