"""A build that is killed and started again: the same data set, and nothing cut twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import UserError
from plsctl.process.building import cutting as build_cutting
from plsctl.process.building.builder import BuildResult, build_dataset
from plsctl.process.building.kept_samples import read_samples, write_samples
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.splits import SplitSettings
from plsctl.process.samples.position import PositionSamples, cut_position
from plsctl.process.samples.settings import BuildSettings

KILLS = 6
UNDIVIDED = SplitSettings(ratios=None)
Slides = Callable[[int], list[Path]]


@pytest.mark.skipif(sys.platform == "win32", reason="forks and kills processes")
def test_killed_anywhere_and_run_again_gives_the_same_data_set(
    slides: Slides, tmp_path: Path
) -> None:
    scans = slides(3)
    given = {
        "scans": [str(scan) for scan in scans],
        "out": str(tmp_path / "whole.zarr"),
        "kills": KILLS,
        "seed": 5,
    }
    script = Path(__file__).with_name("killed_builds.py")
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(given)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["faults"] == []
    assert found["positions"] == 6
    assert found["kills"] >= KILLS * 2 // 3


def test_a_stopped_build_goes_on_and_changed_settings_start_over(
    slides: Slides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = slides(2)
    out = tmp_path / "x.zarr"
    said: list[str] = []

    def build(settings: BuildSettings) -> BuildResult:
        return build_dataset(
            scans, out, settings, split=UNDIVIDED, overwrite=True, notify=said.append
        )

    def stop_at_third(job: object) -> object:
        if len(list((tmp_path / "x.zarr.part" / ".build" / "positions").iterdir())) == 2:
            raise KeyboardInterrupt
        return cut_position(job)  # type: ignore[arg-type]

    for settings, resumed in ((BuildSettings(), 2), (BuildSettings(crop_px=48), 0)):
        monkeypatch.setattr(build_cutting, "cut_position", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            build(BuildSettings())
        with pytest.raises(UserError, match="was not finished"):
            Dataset.open(tmp_path / "x.zarr.part")
        monkeypatch.setattr(build_cutting, "cut_position", cut_position)
        assert build(settings).resumed == resumed
        assert Dataset.open(out).crop_px == settings.crop_px
    about = [text for text in said if "before" in text or "stopped" in text]
    assert about == [
        "2 positions were finished before, and kept.",
        "the settings changed since the build that was stopped: it starts over.",
    ]


def test_what_several_workers_had_cut_is_kept(
    slides: Slides, contents: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    scans = slides(2)
    out = tmp_path / "x.zarr"
    kept = tmp_path / "x.zarr.part" / ".build" / "positions"

    def stop(what: str, finished: int, total: int) -> None:
        if what == "cutting cells" and finished == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_dataset(scans, out, split=UNDIVIDED, workers=2, progress=stop)
    assert len(list(kept.glob("*.samples"))) == 3
    assert build_dataset(scans, out, split=UNDIVIDED).resumed == 3
    build_dataset(scans, tmp_path / "whole.zarr", split=UNDIVIDED)
    assert contents(out) == contents(tmp_path / "whole.zarr")


def test_kept_samples_come_back_as_they_were_or_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stacks = rng.integers(0, 255, (2, 5, 3, 8, 8), dtype=np.uint8)
    rows = pd.DataFrame({"slide": ["S1", "S1"], "pixel_x": [3.5, 8.25]})
    outcomes = {4: "sample", 5: "border", 7: "sample"}
    file = tmp_path / "x.zarr.part" / ".build" / "positions" / "000001.samples"
    file.parent.mkdir(parents=True)
    write_samples(file, PositionSamples(stacks, {"100x": stacks[:, 0]}, rows, outcomes))
    found = read_samples(file)
    np.testing.assert_array_equal(found.stacks, stacks)
    np.testing.assert_array_equal(found.targets["100x"], stacks[:, 0])
    pd.testing.assert_frame_equal(found.rows, rows)
    assert found.outcomes == outcomes
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match="damaged") as caught:
        read_samples(file)
    assert "x.zarr.part and run" in str(caught.value.hint)


def test_building_twice_repeats_and_leaves_what_was_found(slides: Slides, tmp_path: Path) -> None:
    (scan,) = slides(1)
    before = pd.read_csv(scan / "cells.csv")
    tables = []
    for name in ("a.zarr", "b.zarr"):
        build_dataset([scan], tmp_path / name, split=UNDIVIDED)
        tables.append((tmp_path / name / "samples.csv").read_bytes())
    assert tables[0] == tables[1]
    after = pd.read_csv(scan / "cells.csv")
    pd.testing.assert_frame_equal(after[before.columns], before)
    assert {"fate", "matched_x_um", "score_20x"} <= set(after.columns)


def test_one_slide_is_named_once(tiny_scan: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two of the scans are of slide tiny"):
        build_dataset([tiny_scan, tiny_scan], tmp_path / "x.zarr")
