"""`plsctl led`: the LED array by hand."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from plsctl.acquire.errors import UserError
from plsctl.cli.shared.output import (
    HardwareOption,
    JsonFlag,
    VerboseFlag,
    emit,
    one_of,
    print_message,
)

if TYPE_CHECKING:
    from plsctl.acquire.devices.hardware import Hardware
    from plsctl.acquire.leds.geometry import LedGeometry

app = typer.Typer(no_args_is_help=True, add_completion=False)

Brightness = Annotated[float, typer.Option(help="0 to 1, of full drive.")]
ColourOption = Annotated[
    str, typer.Option("--colour", help="white, red, green or blue, where the LEDs have colours.")
]
COLOURS = ("white", "red", "green", "blue")


@app.callback()
def led() -> None:
    """The LED array by hand. What is lit stays lit until `plsctl led off`.

    Example: plsctl led pattern brightfield --hardware our_microscope.yaml
    """


# A number below 0 would be taken for an option.
@app.command(context_settings={"ignore_unknown_options": True})
def on(
    leds: Annotated[list[str], typer.Argument(metavar="LED...", help="LED numbers or names.")],
    brightness: Brightness = 1.0,
    colour: ColourOption = "white",
    hardware: HardwareOption = "",
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Light exactly these LEDs.

    Example: plsctl led on 0 1 arm1-24 --brightness 0.5 --hardware simulator
    """
    _light(
        hardware,
        lambda _, geometry: [_number(led, geometry) for led in leds],
        brightness,
        json,
        colour,
    )


@app.command()
def pattern(
    name: Annotated[
        str, typer.Argument(help="brightfield, darkfield, all, a group or an LED's name.")
    ],
    brightness: Brightness = 1.0,
    colour: ColourOption = "white",
    hardware: HardwareOption = "",
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Light a pattern; `brightfield` is every LED inside the first objective's aperture.

    Example: plsctl led pattern brightfield --hardware simulator
    """

    def choose(described: "Hardware", geometry: "LedGeometry") -> list[int]:
        objective = described.objective(described.low_power)
        return [led.led for led in geometry.pattern(name, objective.na)]

    _light(hardware, choose, brightness, json, colour)


@app.command()
def off(
    hardware: HardwareOption = "",
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """All LEDs off.

    Example: plsctl led off --hardware simulator
    """
    _light(hardware, lambda described, geometry: [], 1.0, json)


def _light(
    hardware: str,
    choose: "Callable[[Hardware, LedGeometry], Iterable[int]]",
    brightness: float,
    json: bool,
    colour: str = "white",
) -> None:
    one_of("colour", colour, COLOURS)
    from plsctl.acquire.devices.backend import open_backend
    from plsctl.acquire.devices.hardware import load_hardware
    from plsctl.acquire.leds.array import open_led_array
    from plsctl.acquire.leds.base import check_colour

    described = load_hardware(hardware)
    leds = sorted(set(choose(described, described.geometry())))
    if leds and brightness == 0:
        raise UserError(
            "at brightness 0 nothing shines.",
            field="--brightness",
            hint="Give a share of full brightness, such as 0.5; plsctl led off switches off.",
        )
    # A simulated array is plugged in by its backend; a real one needs no camera or stage.
    backend = open_backend(described) if described.led_array.port.startswith("simled:") else None
    try:
        array = open_led_array(described.led_array)
        try:
            if colour == "white":  # as drivers know it that have no colours
                array.light(leds, brightness)
            else:
                check_colour(array.capabilities, colour)  # type: ignore[arg-type]
                array.light(leds, brightness, colour)  # type: ignore[arg-type]
        except BaseException:
            array.close()
            raise
        array.release()
    finally:
        if backend is not None:
            backend.close()
    identity = array.identity
    emit(
        {
            "driver": identity.driver,
            "name": identity.name,
            "version": identity.version,
            "port": described.led_array.port,
            "lit": leds,
            "brightness": brightness if leds else 0.0,
            "colour": colour,
        },
        json,
    )
    shown = ", ".join(str(led) for led in leds) if leds else "none"
    firmware = f"{identity.driver} {identity.version}"
    print_message(f"{identity.name} ({firmware}) at {described.led_array.port}: lit {shown}")


def _number(led: str, geometry: "LedGeometry") -> int:
    if led.startswith("-"):
        numbers = [one.led for one in geometry.leds]
        raise UserError(
            f"'{led}' is no LED.",
            field="LED",
            hint=f"LEDs are numbered {min(numbers)} to {max(numbers)}; options: plsctl led on -h.",
        )
    return geometry.numbered(int(led)).led if led.isdecimal() else geometry.named(led).led
