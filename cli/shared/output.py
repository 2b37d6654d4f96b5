"""Output of every command: messages on standard error, results on standard output, progress."""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from plsctl.acquire.errors import UserError
from plsctl.acquire.words import command_line
from plsctl.cli.shared import completion
from plsctl.cli.shared.work import Bar, Lines, Work, WorkState

if TYPE_CHECKING:
    from plsctl.process.dataset.reader import Dataset

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


SkipDamaged = Annotated[
    bool,
    typer.Option(
        "--skip-damaged",
        help="Go on without positions whose files are missing or damaged; they are listed.",
    ),
]


def _named_hardware(name: str) -> str:
    if not name:
        raise UserError(
            "it is not said which microscope is meant.",
            field="--hardware",
            hint="Add --hardware FILE with the YAML file of yours, or --hardware simulator.",
        )
    return name


HardwareOption = Annotated[
    str,
    typer.Option(
        "--hardware",
        "-H",
        help="The microscope: its YAML file, or a name such as simulator.",
        callback=_named_hardware,
        autocompletion=completion.hardware,
    ),
]
"""With "" as its default: that is refused."""


def location(text: str) -> Path:
    """A path or URL given on the command line, as `parser=location`; the frame makes it one."""
    return Path(text)


def _plain(value: Any) -> Any:
    """Convert NumPy values, paths and numbers that JSON lacks for `json`."""
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
    """Print the result of a command as one JSON object on standard output, if `as_json` is set.

    Numbers without a value (NaN, infinity) become `null`; arrays become lists.
    """
    if as_json:
        typer.echo(json.dumps(_plain(result), ensure_ascii=False))


def print_message(text: str) -> None:
    """Print one line for people on standard error, without markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_next_command(*words: object) -> None:
    """Print the command that comes next, in a form for pasting into the shell."""
    print_message(f"Next: {command_line(*words)}")


def seen_from_here(path: Path) -> Path:
    """A path in its shortest form: relative where it lies in the working folder."""
    whole, here = path.resolve(), Path.cwd().resolve()
    return whole.relative_to(here) if whole.is_relative_to(here) else whole


SHORT_TRAINING = (
    "--steps", "800", "--batch", "4", "--learning-rate", "1e-3", "--schedule", "cosine",
)  # fmt: skip
"""Options of a first training, which takes two minutes on a CPU."""


def print_training(data: Path) -> None:
    """Print the command of a first training on a data set."""
    run = Path("runs") / data.name.removesuffix(".zarr")
    print_next_command("train", "fast", "--data", data, "--out", run, *SHORT_TRAINING)


def scan_of(data: "Dataset | Path") -> str:
    """The scan from which a data set was cut, if it is in its usual place; else SCAN."""
    from plsctl.acquire.errors import PlsctlError
    from plsctl.process.dataset.reader import Dataset

    try:
        opened = Dataset.open(data) if isinstance(data, Path) else data
    except PlsctlError:
        return "SCAN"
    slides = opened.attributes.slides
    places = [
        folder / name for folder in (Path("scans"), opened.path.parent / "scans") for name in slides
    ]
    return next((str(place) for place in places if place.is_dir()), "SCAN")


def one_of(name: str, value: str, known: Sequence[str]) -> None:
    """`UserError` if an option has an unknown value."""
    if value not in known:
        raise UserError(
            f"there is no {name} '{value}'.",
            field=name,
            hint=f"Choose {', '.join(known[:-1])} or {known[-1]}.",
        )


@contextmanager
def progress(description: str, total: float | None = None, unit: str = "") -> Iterator[Work]:
    """Show progress on standard error: what is done, how much, the rate and the time left.

    A bar on a terminal; elsewhere, in logs and pipes, a line from time to time.

    Parameters
    ----------
    description
        What is done; a call of what is yielded may change it.
    total
        How much there is to do, where it is known.
    unit
        What is counted, in the singular.
    """
    state = WorkState(description, total, unit)
    with Bar(state, console) if console.is_terminal else Lines(state, print_message) as display:
        yield Work(state, display)
