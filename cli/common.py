"""What every command shares: messages on standard error, results on standard output, progress."""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from plsctl.acquire.errors import UserError

console = Console(stderr=True)
"""Text for people goes to standard error, so that standard output holds data only."""


def _set_verbosity(verbose: bool) -> bool:
    if verbose:
        logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("plsctl").setLevel(logging.DEBUG)
    return verbose


JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output.")]
VerboseFlag = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Say what is done, step by step.", callback=_set_verbosity
    ),
]


HardwareOption = Annotated[
    str, typer.Option("--hardware", "-H", help="A name in hardware_configs, or a YAML file's path.")
]


def location(text: str) -> Path:
    """A path or URL given on the command line; for options and arguments as `parser=location`."""
    from plsctl.acquire import locations

    try:
        return locations.location(text)
    except UserError as error:
        raise typer.BadParameter(str(error)) from None


def _plain(value: Any) -> Any:
    """Bring NumPy values, paths and numbers that JSON lacks into what `json` can write."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def emit(result: Mapping[str, Any], as_json: bool) -> None:
    """Print the result of a command as one JSON object on standard output, where it was asked for.

    Numbers without a value (NaN, infinity) become `null`; arrays become lists.
    """
    if as_json:
        typer.echo(json.dumps(_plain(result), ensure_ascii=False))


def say(text: str) -> None:
    """Print one line for people on standard error, exactly as it stands."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator[Callable[..., None]]:
    """Show how far long work has come, its rate and the time left, on standard error.

    Yields
    ------
    advance
        Call it with the number of finished items (1 by default); `advance(completed=n)` sets the
        count, `advance(total=n)` the total, `advance(description=text)` the text.
    """
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[rate]}"),
        bars.TimeRemainingColumn(elapsed_when_finished=True),
    )
    with bars.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        bar.add_task(description, total=total, rate="")
        (task,) = bar.tasks

        def advance(
            items: float = 1,
            *,
            completed: float | None = None,
            total: float | None = None,
            description: str | None = None,
        ) -> None:
            if completed is None:
                bar.advance(task.id, items if total is None and description is None else 0)
            rate = f"{task.speed:.1f}/s" if task.speed else ""
            bar.update(
                task.id, completed=completed, total=total, description=description, rate=rate
            )

        yield advance
