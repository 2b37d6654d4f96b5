"""`plsctl devices`: open the hardware and say what answers."""

from typing import Annotated

import typer

from plsctl.cli.common import JsonFlag, VerboseFlag, console, emit


def devices(
    hardware: Annotated[
        str, typer.Option(help="A name in hardware_configs, or the path of a YAML file.")
    ] = "simulator",
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Open the microscope, take one image, and say what answers, versions and limits.

    Example: plsctl devices --hardware simulator
    """
    from plsctl.acquire.hardware import load_hardware
    from plsctl.acquire.microscope import open_microscope

    described = load_hardware(hardware)
    with open_microscope(described) as microscope:
        identity, capabilities = microscope.leds.identity, microscope.leds.capabilities
        image = microscope.snap(max(10.0, described.camera.exposure_range_ms[0]))
        x, y, z = microscope.position_um
        stage = described.stage
        result = {
            "hardware": described.name,
            "file": described.file,
            "core": described.core,
            "camera": {
                "device": described.camera.device,
                "shape": list(image.shape),
                "dtype": str(image.dtype),
            },
            "stage": {
                "position_um": [x, y, z],
                "limits_um": {"x": stage.x_um, "y": stage.y_um, "z": stage.z_um},
            },
            "objectives": {
                name: {"magnification": o.magnification, "na": o.na, "immersion": o.immersion}
                for name, o in described.turret.objectives.items()
            },
            "led_array": {
                "driver": identity.driver,
                "name": identity.name,
                "version": identity.version,
                "led_count": identity.led_count,
                "port": described.led_array.port,
                "capabilities": [n for n, has in vars(capabilities).items() if has],
            },
        }
    emit(result, json)
    if not json:
        _show(result)


def _show(result: dict[str, object]) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name, value in result.items():
        if isinstance(value, dict):
            for part, inner in value.items():
                table.add_row(f"{name}.{part}", str(inner))
        else:
            table.add_row(name, str(value))
    console.print(table)
