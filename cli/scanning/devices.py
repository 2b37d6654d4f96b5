"""`plsctl devices`: open the hardware, say what answers, and how to mend what does not."""

from pathlib import Path

import typer

from plsctl.cli.shared.output import (
    HardwareOption,
    JsonFlag,
    VerboseFlag,
    console,
    emit,
    print_next_command,
    progress,
)


def devices(
    hardware: HardwareOption = "",
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Ask every part of the microscope; what does not answer comes with its remedy.

    Example: plsctl devices --hardware simulator
    """
    from plsctl.acquire.bench.device_check import DeviceCheck
    from plsctl.acquire.devices.calibrations import read_calibrations
    from plsctl.acquire.devices.hardware import load_hardware
    from plsctl.acquire.interrupt import stop_on_signals

    described = load_hardware(hardware)
    with (
        stop_on_signals("not every part was asked") as stop,
        progress(f"asking {described.name}") as advance,
    ):
        check = DeviceCheck(described, stop, lambda part: advance(description=f"asking the {part}"))
        answers = check.run()
    stage = described.stage
    emit(
        {
            "hardware": described.name,
            "file": described.file,
            "is_well": check.is_well,
            "parts": [vars(answer) for answer in answers],
            "calibrations": [
                {"kind": each.kind, "objective": each.objective, "measured": each.measured}
                for each in read_calibrations(described)
            ],
            "limits_um": {"x": stage.x_um, "y": stage.y_um, "z": stage.z_um},
            "objectives_z_um": {
                name: objective.z_um or stage.z_um
                for name, objective in described.turret.objectives.items()
            },
        },
        json,
    )
    if not json:
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None)
        for title in ("", "part", "answer"):
            table.add_column(title)
        for answer in answers:
            remedy = f"\n[bold]{escape(answer.remedy)}[/bold]" if answer.remedy else ""
            sign = "[green]ok[/green]" if answer.is_well else "[red]no[/red]"
            table.add_row(sign, answer.part, f"{escape(answer.message)}{remedy}")
        console.print(table)
    if not check.is_well:
        raise typer.Exit(3)
    if described.core == "simulator":
        slide = Path("examples") / "small.yaml"
        if slide.is_file():
            print_next_command("scan", slide, "--pass", "unstained")
        else:
            print_next_command("init")
    else:
        name = f"exposures_{described.low_power}.csv"
        beside = Path(hardware).with_name(name) if Path(hardware).is_file() else Path(name)
        print_next_command("calibrate", "exposures", "--hardware", hardware, "-o", beside)
