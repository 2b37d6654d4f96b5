"""Every benchmark can still be imported, and has a quick form."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted([*BENCHMARKS.glob("*.py"), *BENCHMARKS.glob("*/*.py")])


def test_all_of_them_are_found() -> None:
    folders = {script.parent.name for script in SCRIPTS}
    assert folders == {"benchmarks", "acquire", "process", "models"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_takes_help_and_has_a_quick_form(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    assert "--quick" in capsys.readouterr().out
