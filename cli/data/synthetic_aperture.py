"""`plsctl synthetic-aperture`: a high-resolution amplitude and phase image from single LEDs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plsctl.acquire.errors import UserError
from plsctl.acquire.words import counted, duration
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import JsonFlag, VerboseFlag, emit, location, print_message, progress

if TYPE_CHECKING:
    from plsctl.process.aperture.led_check import LedPlace
    from plsctl.process.aperture.led_stack import LedStack

COLOURS = ("red", "green", "blue")
CHECKED_PX = 128
"""Side of the part in the middle of a field by which LEDs are checked."""


def synthetic_aperture(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SCAN|FOLDER|DATA.zarr",
            help="A scan, a folder with a stack, or a data set.",
            parser=location,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="Amplitude and phase, NAME.ome.tiff; of a data set, NAME.zarr.",
            parser=location,
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Amplitude beside phase as a picture, NAME.png.")
    ] = None,
    geometry: Annotated[
        Path | None, typer.Option(help="Check where each LED is, into this table, NAME.csv.")
    ] = None,
    position: Annotated[
        str | None, typer.Option(help="Position of the scan, such as A/1; the first by default.")
    ] = None,
    pass_name: Annotated[
        str, typer.Option("--pass", help="Pass of the scan.", autocompletion=completion.PASSES)
    ] = "unstained",
    colour: Annotated[
        str, typer.Option(help="red, green, blue, or several with commas between.")
    ] = "green",
    window: Annotated[
        str | None, typer.Option(help="Part of the field in pixels: left,top,width,height.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often all LEDs are gone through.", min=1)] = 20,
    tile: Annotated[int, typer.Option(help="Side of the tiles in camera pixels.", min=64)] = 256,
    wavelengths: Annotated[
        str, typer.Option(help="Of a scan's red, green and blue light, in nm.")
    ] = "630,530,460",
    tolerance: Annotated[
        float, typer.Option(help="Angle in degrees from which an LED counts as moved.", min=0)
    ] = 1.0,
    na: Annotated[float, typer.Option(help="Of a data set's objective.", min=0.01, max=0.99)] = 0.4,
    workers: Annotated[int, typer.Option(help="Processes for a data set.", min=1)] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a data set of the same name.")
    ] = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Put images under single LEDs together to one of a larger aperture: amplitude and phase.

    Of a data set: write it anew with the real and the imaginary part as two more images.

    Example: plsctl synthetic-aperture scans/S001 --position A/1 -o a1.ome.tiff --picture a1.png
    """
    import time

    from plsctl.process.aperture.field import TileSettings, reconstruct_field
    from plsctl.process.aperture.files import (
        check_names,
        draw_aperture,
        write_aperture,
        write_geometry,
    )
    from plsctl.process.aperture.grid import make_grid
    from plsctl.process.aperture.led_check import check_geometry
    from plsctl.process.aperture.orientation_check import check_orientation, residual_note
    from plsctl.process.aperture.reconstruction import ApertureSettings

    if (source / "samples.csv").exists():
        emit(_extend(source, out, na, wavelengths, workers, overwrite), json)
        return
    check_names(out, picture, geometry)
    colours = [part.strip() for part in colour.split(",")]
    stacks = {
        name: _read(source, name, pass_name, position, window, wavelengths) for name in colours
    }
    settings = ApertureSettings(rounds=rounds)
    tiles = TileSettings(side_px=tile, overlap_px=min(32, tile // 4))
    notes: list[str] = []
    result: dict[str, object] = {"out": out, "picture": picture, "geometry": geometry}
    if geometry is not None:
        with progress("checking the LED table", unit="LED") as advance:
            places = check_geometry(
                _middle(stacks[colours[0]]),
                settings,
                tolerance_deg=tolerance,
                progress=lambda done, total: advance(completed=done, total=total),
            )
        write_geometry(geometry, places)
        result["moved"] = [place.name for place in places if place.verdict == "moved"]
        _print_places(places)
    if out is not None or picture is not None:
        finest = max(
            make_grid(stack, settings.guard_px, None).upsampling for stack in stacks.values()
        )
        fields = {}
        began = time.perf_counter()
        with progress("reconstructing", unit="tile") as advance:
            for name, stack in stacks.items():
                fields[name] = reconstruct_field(
                    stack,
                    settings.model_copy(update={"upsampling": finest}),
                    tiles,
                    progress=lambda done, total: advance(completed=done, total=total),
                )
        seconds = time.perf_counter() - began
        if out is not None:
            write_aperture(out, fields)
        if picture is not None:
            draw_aperture(picture, fields)
        made = next(iter(fields.values()))
        result |= {
            "pixel_um": made.pixel_um,
            "shape": list(made.field.shape),
            "leds": len(stacks[colours[0]]),
            "tiles": len(made.residuals),
            "seconds": round(seconds, 2),
            "residual": {name: round(field.residual, 5) for name, field in fields.items()},
        }
        notes = [
            f"{name}: {note}"
            for name, field in fields.items()
            if (note := residual_note(field.residual, min(stacks[name].amplitude.shape[1:])))
        ]
        residuals = ", ".join(f"{name} {field.residual:.4f}" for name, field in fields.items())
        print_message(
            f"{out or picture}: {made.field.shape[1]} x {made.field.shape[0]} pixels of "
            f"{made.pixel_um:.3f} µm from {len(stacks[colours[0]])} LEDs in {seconds:.0f} s; "
            f"relative residual {residuals}."
        )
    fit = check_orientation([next(iter(stacks.values()))])
    said = [*notes, *([fit.sentence] if fit.sentence else [])]
    result["notes"] = said
    for note in said:
        print_message(note)
    emit(result, json)


def _extend(
    source: Path, out: Path | None, na: float, wavelengths: str, workers: int, overwrite: bool
) -> dict[str, object]:
    """Write a data set with the synthetic aperture in it."""
    import time

    from plsctl.process.aperture.samples import add_synthetic_aperture
    from plsctl.process.dataset.reader import Dataset

    if out is None or out.suffix != ".zarr":
        raise UserError(
            "a data set goes into another one.", field="--out", hint="Name it NAME.zarr."
        )
    notes: list[str] = []
    red_um, green_um, blue_um = _wavelengths_um(wavelengths)
    data = Dataset.open(source)
    began = time.perf_counter()
    with progress("reconstructing", unit="sample") as advance:
        made = add_synthetic_aperture(
            data,
            out,
            na=na,
            wavelengths_um=(red_um, green_um, blue_um),
            workers=workers,
            overwrite=overwrite,
            notify=notes.append,
            progress=lambda done, total: advance(completed=done, total=total),
        )
    seconds = time.perf_counter() - began
    for note in notes:
        print_message(note)
    print_message(
        f"{counted(len(made), 'sample')} with {counted(len(made.frames), 'image')} each in {out} "
        f"({duration(seconds)})."
    )
    return {
        "dataset": out,
        "samples": len(made),
        "images": len(made.frames),
        "recipe": made.recipe,
        "seconds": round(seconds, 2),
        "notes": notes,
    }


def _read(
    source: Path,
    colour: str,
    pass_name: str,
    position: str | None,
    window: str | None,
    wavelengths: str,
) -> "LedStack":
    from plsctl.acquire.store.folder import ScanFolder
    from plsctl.process.aperture.files import is_stack_folder, read_stack
    from plsctl.process.aperture.led_stack import stack_from_pass

    if not source.is_dir():
        raise UserError("there is no such folder.", file=source, hint="Name a scan's folder.")
    if is_stack_folder(source):
        stack = read_stack(source, colour)
        height, width = stack.amplitude.shape[1:]
        return stack.part(_window(window, (width, height)))
    if colour not in COLOURS:
        raise UserError(
            f"there is no colour '{colour}'.", field="--colour", hint="Give red, green or blue."
        )
    reader = ScanFolder(source).open_pass(pass_name)
    if not reader.names:
        raise UserError("the pass has no finished position.", file=reader.path)
    chosen = position or reader.names[0]
    if chosen not in reader.names:
        raise UserError(
            f"the pass '{pass_name}' has no position '{chosen}'.",
            field="--position",
            hint=f"It has {reader.names[0]} to {reader.names[-1]}.",
        )
    return stack_from_pass(
        reader,
        chosen,
        COLOURS.index(colour),
        _wavelengths_um(wavelengths)[COLOURS.index(colour)],
        _window(window, reader.size_px(chosen)),
    )


def _window(text: str | None, size_px: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of `left,top,width,height` in an image (width, height)."""
    if text is None:
        return slice(0, size_px[1]), slice(0, size_px[0])
    left, top, width, height = (
        int(value) for value in _numbers(text, 4, "--window", "200,100,512,512")
    )
    if left + width > size_px[0] or top + height > size_px[1] or min(width, height) < 32:
        raise UserError(
            f"the window {text} does not lie in the image of {size_px[0]} x {size_px[1]} pixels.",
            field="--window",
            hint="Give left,top,width,height inside it, at least 32 pixels wide and high.",
        )
    return slice(top, top + height), slice(left, left + width)


def _numbers(text: str, count: int, field: str, example: str) -> list[float]:
    parts = text.split(",")
    if len(parts) != count or not all(part.strip().isdigit() for part in parts):
        raise UserError(
            f"'{text}' was not understood as {field}.", field=field, hint=f"Such as {example}."
        )
    return [float(part) for part in parts]


def _wavelengths_um(text: str) -> list[float]:
    found = _numbers(text, 3, "--wavelengths", "630,530,460")
    if not all(200 <= value <= 2000 for value in found):
        raise UserError(
            f"{text} are no wavelengths of light in nm.",
            field="--wavelengths",
            hint="Such as 630,530,460.",
        )
    return [value / 1000 for value in found]


def _middle(stack: "LedStack") -> "LedStack":
    """The middle of a field, as large as a check of the LEDs needs."""
    rows, columns = (
        slice(max(0, (n - CHECKED_PX) // 2), max(0, (n - CHECKED_PX) // 2) + CHECKED_PX)
        for n in stack.amplitude.shape[1:]
    )
    return stack.part((rows, columns))


def _print_places(places: "list[LedPlace]") -> None:
    for place in places:
        if place.verdict != "moved":
            continue
        like = f", at the place of {place.like}" if place.like else ""
        print_message(
            f"LED {place.name}: its light comes from {place.moved_deg:.1f} degrees beside the "
            f"table{like}; direction cosines {place.found[0]:.3f}, {place.found[1]:.3f}."
        )
    counts = {
        verdict: sum(place.verdict == verdict for place in places)
        for verdict in ("agrees", "moved", "unclear")
    }
    print_message(
        f"{counts['agrees']} of {len(places)} LEDs agree with the table, {counts['moved']} do "
        f"not, {counts['unclear']} cannot be told."
    )
