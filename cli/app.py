"""The command `plsctl`: the table of commands, and how failures are reported.

Command modules are imported when they are named, and import what is heavy inside their functions:
`plsctl --help` loads neither NumPy nor Micro-Manager nor torch.
"""

import atexit
import contextlib
import errno
import gc
import importlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperGroup

from plsctl.acquire.errors import PlsctlError, UserError
from plsctl.acquire.files.locations import location
from plsctl.acquire.interrupt import INTERRUPTED
from plsctl.cli.shared.output import emit, print_message
from plsctl.cli.shared.overwriting import refuse_inputs

# Name on the command line -> module of plsctl.cli and the function (or group of commands) in it.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("simulate.demo", "demo"),
    "init": ("scanning.init", "init"),
    "devices": ("scanning.devices", "devices"),
    "led": ("scanning.led", "app"),
    "recipes": ("scanning.recipes", "recipes"),
    "calibrate": ("scanning.calibrate", "app"),
    "scan": ("scanning.scan", "scan"),
    "find-cells": ("scanning.find_cells", "find_cells"),
    "build-dataset": ("data.build_dataset", "build_dataset"),
    "dataset": ("data.dataset", "app"),
    "train": ("learning.train", "train"),
    "evaluate": ("learning.evaluate", "evaluate"),
    "uncertainty": ("learning.uncertainty", "uncertainty"),
    "ablate": ("learning.ablate", "ablate"),
    "stain": ("learning.stain", "stain"),
    "export": ("learning.export", "export"),
    "segment": ("data.segment", "segment"),
    "match": ("data.match", "match"),
    "register": ("data.register", "register"),
    "focus-stack": ("data.focus_stack", "focus_stack"),
    "synthetic-aperture": ("data.synthetic_aperture", "synthetic_aperture"),
    "review": ("pages.review", "review"),
    "report": ("pages.report", "report"),
    "schema": ("scanning.schema", "schema"),
    "simulate": ("simulate.simulate", "app"),
}


TRAINING_LIBRARIES = ("torch", "safetensors", "matplotlib")
"""Packages that only the extra `train` installs."""


REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
"""A full disk, a folder or file that may not be written or read."""

NO_PLACE = {
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG,
    errno.ELOOP, errno.EINVAL,
}  # fmt: skip
"""Of a path: what is not there, is something else than it was taken for, or has no such name."""

MEANT = {
    "doctor": "plsctl devices --hardware FILE asks every part of the microscope.",
    "hardware": "plsctl devices --hardware FILE asks every part of the microscope.",
    "status": "plsctl scan SLIDE.yaml says how far a scan is, and what comes next.",
    "info": "plsctl report PATH shows what a scan, a data set or a run holds.",
    "check": "plsctl devices --hardware FILE asks every part of the microscope.",
    "verify": "plsctl scan FOLDER --verify reads everything that was written and checks it.",
    "resume": "The same plsctl scan command again goes on where it stopped.",
    "list": "plsctl report PATH shows what a scan, a data set or a run holds.",
    "live": "There is no live image yet; plsctl devices takes one image and says how bright it is.",
    "config": "plsctl init writes a slide file and a hardware file to begin with.",
    "predict": "plsctl stain stains virtually with a trained run.",
    "view": "plsctl report PATH shows what a scan, a data set or a run holds.",
    "version": "plsctl --version prints it.",
    "new": "plsctl init writes a slide file and a hardware file to begin with.",
}
"""Words that are tried where there is no such command, and what leads on."""

STORE_LIBRARIES = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google")
"""Packages through which object stores are reached."""


_ends_at_once = False
"""Whether a Ctrl-C was the second, or came where nothing listens for the first."""


class PlsctlGroup(TyperGroup):
    """The commands of `COMMANDS`, loaded by name; every failure becomes one line and a code.

    The contexts are of typer's own, private click, hence `Any`.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, in the order of work."""
        for name in COMMANDS:
            self.get_command(ctx, name)
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands.get(cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Take `help COMMAND` for `COMMAND --help`."""
        if args[:1] == ["help"]:
            args = [*args[1:], "--help"]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; load all before an unknown one is refused, to offer the nearest."""
        if args[0] in MEANT:
            raise UserError(f"there is no command '{args[0]}'.", hint=MEANT[args[0]])
        if args[0] not in COMMANDS:
            self.list_commands(ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the named command; exit 2 or 3 for known errors, 130 interrupted, 1 for a bug."""
        as_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except PlsctlError as error:
            _add_line(error)
            _fail(error.as_dict(), str(error), error.exit_code, as_json)
        except KeyboardInterrupt:
            global _ends_at_once
            _ends_at_once = True
            text = "Interrupted; what was finished is kept."
            _fail(_error("interrupted", text), text, 130, as_json)
        except typer.TyperException as error:
            if not as_json:
                raise
            text = error.format_message()
            _fail(_error("user", text), text, error.exit_code, as_json)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in REFUSED:
                refused = _refused(error)
                _fail(refused.as_dict(), str(refused), 2, as_json)
            if isinstance(error, OSError) and error.errno in NO_PLACE and error.filename:
                misplaced = _misplaced(error)
                _fail(misplaced.as_dict(), str(misplaced), 2, as_json)
            if isinstance(error, PermissionError) or _library(error) in STORE_LIBRARIES:
                unanswered = _unanswered(error)
                _fail(unanswered.as_dict(), str(unanswered), 2, as_json)
            if isinstance(error, ModuleNotFoundError) and error.name in TRAINING_LIBRARIES:
                text = _missing_extra(error.name)
                _fail(_error("user", text), text, 2, as_json)
            text = _report_bug(error)
            _fail(_error("bug", text), text, 1, as_json)


def _load(name: str) -> Any:
    module, attribute = COMMANDS[name]
    command = getattr(importlib.import_module(f"plsctl.cli.{module}"), attribute)
    if not isinstance(command, typer.Typer):
        function, command = command, typer.Typer(add_completion=False)
        command.command(name=name, no_args_is_help=False)(function)
    loaded = typer.main.get_command(command)
    loaded.name = name
    _locate_paths(loaded)
    return loaded


def _locate_paths(command: Any) -> None:
    """Let every path that a command takes be a `location`: checked, and `~` the user's home.

    No command may write over what it reads, either.
    """
    for below in getattr(command, "commands", {}).values():
        _locate_paths(below)
    if not hasattr(command, "commands"):
        command.invoke = partial(_invoked, command.invoke)
    for parameter in command.params:
        parameter.process_value = partial(_located, parameter.process_value)


def _located(process_value: Callable[[Any, Any], Any], ctx: Any, given: Any) -> Any:
    """What typer makes of a value, paths of it made anew from what was given."""
    try:
        value = process_value(ctx, given)
    except typer.BadParameter as error:
        _reword(error)
        raise
    if isinstance(value, Path):
        return location(given)
    if isinstance(value, list | tuple) and any(isinstance(item, Path) for item in value):
        return type(value)(location(item) for item in given)
    return value


def _invoked(invoke: Callable[[Any], Any], ctx: Any) -> Any:
    """Run a command, unless what it is to write is what it reads."""
    refuse_inputs(ctx.params)
    return invoke(ctx)


def _reword(error: typer.BadParameter) -> None:
    """Say what is wrong with a value in our words, not in those of the library that checks it."""
    details = getattr(error.__cause__, "errors", None)
    if details is None:
        return
    from plsctl.acquire.files.mistakes import reason_of

    detail = details()[0]
    reason, hint = reason_of(detail, None, str(detail["input"]))
    error.message = f"'{detail['input']}': {reason}.{f' {hint}' if hint else ''}"


def _add_line(error: PlsctlError) -> None:
    from plsctl.acquire.files.settings import add_line

    add_line(error)


def _error(kind: str, message: str) -> dict[str, str | None]:
    return {
        "kind": kind, "message": message, "file": None, "line": None, "field": None, "hint": None,
    }  # fmt: skip


def _fail(error: dict[str, Any], text: str, exit_code: int, as_json: bool) -> None:
    if as_json:
        emit({"error": error}, as_json=True)
    print_message(f"error: {text}")
    raise typer.Exit(exit_code)


def _refused(error: OSError) -> UserError:
    return UserError(
        f"the disk refuses ({error.strerror}).",
        file=error.filename,
        hint="Make room or check the permissions, then run the same command again.",
    )


def _misplaced(error: OSError) -> UserError:
    return UserError(
        f"this path cannot be used ({error.strerror}).",
        file=error.filename,
        hint="Check the name, and what stands there.",
    )


def _library(error: Exception) -> str:
    return type(error).__module__.split(".")[0]


def _unanswered(error: Exception) -> UserError:
    """Errors of a store that is missing or refuses; they have no number."""
    return UserError(
        f"the object store cannot be used ({error}).",
        hint="Check its address and name, and the credentials (AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL).",
    )


def _missing_extra(library: str) -> str:
    """The sentence for a library that is installed only on request."""
    return (
        f"{library} is not installed. Install it with pip install 'plsctl[train]'; to stain, a "
        "model that `plsctl export` wrote needs no torch."
    )


def _report_bug(error: Exception) -> str:
    """Write the full trace to a file and say where it is."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="plsctl-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(f"plsctl {' '.join(sys.argv[1:])}\n\n")
        traceback.print_exception(error, file=file)
    place = Path(file.name)
    return f"{type(error).__name__}: {error}. This is a bug; the full trace is in {place}."


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("plsctl"))
        raise typer.Exit


app = typer.Typer(
    cls=PlsctlGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def plsctl(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Scan blood smears with an LED array, match the passes, and stain them virtually.

    Start with: plsctl demo
    """


def main() -> None:
    """Entry point of the console script."""
    # At the end Python would look through every object of torch and SciPy for cycles, for seconds
    # on a busy machine, after the last line was printed; nothing is left to be done for them.
    atexit.register(gc.freeze)
    try:
        app()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            # Python, while it ends, would let the next Ctrl-C kill it, and the exit code be lost.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if _ends_at_once:
            # Python would wait for the threads; one that writes to a disk that hangs never ends.
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(INTERRUPTED)
        raise
