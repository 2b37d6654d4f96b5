"""`plsctl init`: commented files to begin with, for the simulated microscope or one's own."""

import re
from pathlib import Path
from typing import Annotated

import typer

from plsctl.acquire.errors import UserError, disk_errors
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import (
    JsonFlag,
    VerboseFlag,
    emit,
    print_message,
    print_next_command,
)

TABLES = ("leds_43.csv", "leds_64.csv", "leds_257.csv")
"""The LED tables that the shipped hardware files name as the user's own."""


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where the files go; made if it is not there.")
    ] = Path(),
    hardware: Annotated[
        str,
        typer.Option(
            "--hardware",
            "-H",
            help="The microscope most like yours: simulator_small, arduino_43_leds, "
            "micromanager_demo, illuminate_board, openuc2.",
            autocompletion=completion.shipped_hardware,
        ),
    ] = "simulator_small",
    own: Annotated[
        bool,
        typer.Option("--own", help="A hardware file of your own for a simulated microscope, too."),
    ] = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Write a slide file, and for a microscope of your own a hardware file, to change.

    Example: plsctl init lab --hardware arduino_43_leds
    """
    from plsctl.acquire.files.settings import suggest
    from plsctl.acquire.files.shipped import shipped_names

    known = [name.removesuffix(".yaml") for name in shipped_names(".yaml")]
    if hardware not in known:
        raise UserError(
            f"there is no hardware file '{hardware}' to begin with.",
            field="--hardware",
            hint=suggest(hardware, known),
        )
    files = _files(hardware, own)
    there = next((folder / name for name in files if (folder / name).exists()), None)
    if there is not None:
        raise UserError(
            "this file is there already, and is left as it is.",
            file=there,
            hint="Give another folder, such as plsctl init lab.",
        )
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")
    emit({"files": [folder / name for name in files]}, json)
    print_message(f"Written: {', '.join(str(folder / name) for name in files)}.")
    for table in files:
        if table in TABLES:
            print_message(f"{table} is an example: put the places of your LEDs there.")
    if "microscope.yaml" in files:
        if not hardware.startswith("simulator"):
            print_message("Give microscope.yaml your devices' names and numbers.")
        print_next_command("devices", "--hardware", folder / "microscope.yaml")
    else:
        print_next_command("scan", folder / "slide.yaml", "--dry-run")


def _files(hardware: str, own: bool) -> dict[str, str]:
    """The files by name, and what stands in them."""
    from importlib.resources import files

    configurations, examples = files("plsctl.hardware_configs"), files("plsctl.examples")
    simulated = hardware.startswith("simulator")
    example = "own_microscope.yaml"
    if simulated:
        example = "small.yaml" if hardware == "simulator_small" else "slide.yaml"
    slide = (examples / example).read_text("utf-8")
    if simulated:
        named = "microscope.yaml" if own else hardware
        slide = re.sub(r"(?m)^hardware: \S+", f"hardware: {named}", slide)
        if not own:
            return {"slide.yaml": slide}
    described = (configurations / f"{hardware}.yaml").read_text("utf-8")
    found = {"slide.yaml": slide, "microscope.yaml": described}
    for table in TABLES:
        if f"geometry: {table}" in described:
            found[table] = (configurations / table).read_text("utf-8")
    return found
