"""How the commands present themselves and how their failures reach the user."""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer
import typer.main
from typer.testing import CliRunner

from plsctl.acquire.errors import HardwareError, UserError
from plsctl.cli import app as frame
from plsctl.cli.shared.output import JsonFlag, emit

ROOT = Path(__file__).resolve().parents[2]
GROUP: Any = typer.main.get_command(frame.app)
COMMANDS = GROUP.list_commands(None)


def leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below one, groups opened."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name in command.list_commands(None):
        yield from leaves(command.get_command(None, name), (*path, name))


LEAVES = dict(leaves(GROUP, ()))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command that fails with a given exception."""

    def runner(error: BaseException, *arguments: str) -> Any:
        def failing(number: int = 1, as_json: JsonFlag = False) -> None:
            raise error

        module = ModuleType("plsctl.cli.failing")
        module.failing = failing  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "plsctl.cli.failing", module)
        monkeypatch.setitem(frame.COMMANDS, "failing", ("failing", "failing"))
        return CliRunner().invoke(frame.app, ["failing", *arguments])

    return runner


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("no such recipe 'ful'.", file="slide.yaml", line=8, field="recipe"), 2),
        (HardwareError("the array does not answer.", hint="Is it switched on?"), 3),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device"), 2),
        (PermissionError(errno.EACCES, "Permission denied", "runs/first/metrics.csv"), 2),
    ],
)
def test_a_known_failure_is_one_line_and_a_code(
    run: Callable[..., Any], error: BaseException, code: int
) -> None:
    result = run(error)
    assert result.exit_code == code
    assert result.stdout == ""
    assert re.fullmatch(r"error: [^\n]+\n", result.stderr)


def test_json_prints_the_error_object(run: Callable[..., Any]) -> None:
    error = UserError("no such recipe 'ful'.", file="slide.yaml", line=8, field="recipe")
    result = run(error, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == {
        "kind": "user",
        "message": "slide.yaml, line 8: no such recipe 'ful'.",
        "file": "slide.yaml",
        "line": 8,
        "field": "recipe",
        "hint": None,
    }


def test_a_bug_leaves_its_trace_in_a_file(run: Callable[..., Any]) -> None:
    result = run(ZeroDivisionError("one by nought"))
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    place = Path(re.search(r"the full trace is in (.*)\.$", result.stderr.strip())[1])  # type: ignore[index]
    trace = place.read_text(encoding="utf-8")
    place.unlink()
    assert "ZeroDivisionError: one by nought" in trace


def test_a_missing_extra_is_named(run: Callable[..., Any]) -> None:
    result = run(ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert result.exit_code == 2
    assert "pip install 'plsctl[train]'" in result.stderr
    assert run(ModuleNotFoundError("No module named 'x'", name="x")).exit_code == 1


def test_a_wrong_option_exits_2_in_both_forms(run: Callable[..., Any]) -> None:
    assert run(KeyError(), "--nmber", "2").exit_code == 2
    result = run(KeyError(), "--number", "two", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["kind"] == "user"


def test_a_mistyped_command_gets_an_offer() -> None:
    result = CliRunner().invoke(frame.app, [COMMANDS[0][:-1]])
    assert result.exit_code == 2
    assert f"'{COMMANDS[0]}'" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("-h", 0, "Usage: "),
        ("scan -h", 0, "Usage: .* scan"),
        ("help", 0, "Usage: "),
        ("help led on", 0, "Usage: .* led on"),
        ("doctor", 2, "plsctl devices --hardware FILE"),
        ("new", 2, "plsctl init"),
        ("view", 2, "plsctl report"),
        ("verify", 2, "plsctl scan FOLDER --verify"),
        ("led on 3 --brightness 0 -H simulator_small", 2, "nothing shines"),
        ("devices", 2, "--hardware FILE .* --hardware simulator"),
        ("led off", 2, "--hardware FILE .* --hardware simulator"),
        ("led on 3", 2, "--hardware FILE .* --hardware simulator"),
        ("calibrate exposures -o x.csv", 2, "--hardware FILE .* --hardware simulator"),
    ],
)
def test_words_that_are_tried_lead_on(words: str, code: int, told: str) -> None:
    result = CliRunner().invoke(frame.app, words.split())
    assert result.exit_code == code
    assert re.search(told, f"{result.stdout}{result.stderr}")


def test_emit_prints_plain_json(capsys: pytest.CaptureFixture[str]) -> None:
    result = {"n": np.int64(3), "xs": np.arange(2), "path": Path("a"), "none": float("nan")}
    emit(result, as_json=False)
    assert capsys.readouterr().out == ""
    emit(result, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"n": 3, "xs": [0, 1], "path": "a", "none": None}


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    command = LEAVES[path]
    assert command.help
    assert f"plsctl {' '.join(path)}" in command.help
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert parameter.help, f"{parameter.name} has no help"


def test_every_command_stands_in_the_documentation() -> None:
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    missing = [" ".join(path) for path in LEAVES if f"plsctl {' '.join(path)}" not in text]
    assert missing == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_speaks_json(name: str) -> None:
    for path, command in leaves(GROUP.get_command(None, name), (name,)):
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options, path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "fast", "--epochs", "1.5"], "'--epochs': '1.5': a whole number is expected"),
        (["build-dataset", "x", "-o", "y.zarr", "--crop", "0"], "it must be at least 16"),
        (["calibrate", "exposures", "-o", "a.csv", "--longest-ms", "0,5"], "Write 0.5"),
        (["calibrate", "exposures", "-o", "a.csv", "--at", "1", "x"], "'x': a number is expected"),
    ],
)
def test_values_of_options_are_refused_in_plain_words(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(frame.app, [*arguments, "--json"])
    assert result.exit_code == 2
    message = json.loads(result.stdout)["error"]["message"]
    assert words in message
    assert "Input" not in message
