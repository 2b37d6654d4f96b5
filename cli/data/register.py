"""`plsctl register`: how one slide lies against another."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from plsctl.acquire.coordinates import CameraOrientation
from plsctl.cli.shared.output import JsonFlag, VerboseFlag, emit, print_message, progress


def register(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="A scan, a pass, or a folder with positions.csv.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="The other one; as A.")],
    reach_um: Annotated[
        float, typer.Option(help="Largest shift along x or y that is looked for.", min=1.0)
    ] = 600.0,
    pixel_um: Annotated[
        float | None,
        typer.Option(help="Size of a pixel in the sample, of such folders.", min=1e-3),
    ] = None,
    pixel_um_b: Annotated[
        float | None, typer.Option(help="The same of B, where it differs from A's.", min=1e-3)
    ] = None,
    camera_rotation_deg: Annotated[
        float | None, typer.Option(help="Of the camera against the stage, of such folders.")
    ] = None,
    camera_mirrored: Annotated[
        bool, typer.Option("--camera-mirrored", help="Images of such folders are mirrored.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", "-o", help="PNG of B laid over A.")
    ] = None,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Say how slide B lies against slide A: shift, rotation, scale, their errors, and a picture.

    A and B are scans (their unstained pass, or else the stained one), passes such as
    S001/stained.ome.zarr, or folders of images with a table positions.csv (file,x_um,y_um).

    Example: plsctl register scans/S001/unstained.ome.zarr scans/S001/stained.ome.zarr -o both.png
    """
    from plsctl.process.image_files import refuse_name, write_image
    from plsctl.process.registration.picture import overlay
    from plsctl.process.registration.registration import Motion
    from plsctl.process.registration.registration import register as register_slides
    from plsctl.process.registration.slide_images import is_scan, open_slide

    if picture is not None:
        refuse_name(picture)
    orientation = None
    if camera_rotation_deg is not None or camera_mirrored:
        orientation = CameraOrientation(camera_rotation_deg or 0.0, camera_mirrored)

    def opened(path: Path, size_um: float | None) -> Any:
        other = b if path == a else a
        # Of a scan and a folder, the options are the folder's.
        if is_scan(path) and not is_scan(other):
            return open_slide(path)
        return open_slide(path, size_um, orientation)

    before, after = opened(a, pixel_um), opened(b, pixel_um_b or pixel_um)
    with progress(f"looking for {b.name} on {a.name}"):
        found = register_slides(before, after, reach_um)
    motion = found.motion
    if picture is not None:
        write_image(picture, overlay(before, after, None if motion is None else motion.similarity))
    numbers = {field.name: None for field in fields(Motion)} if motion is None else asdict(motion)
    emit(
        {
            "trusted": motion is not None, "fields": found.fields,
            "fields_matched": found.fields_matched, "reason": found.reason, **numbers,
        },
        json,
    )  # fmt: skip
    if motion is None:
        print_message(f"NOT trusted: {found.reason}. {b.name} does not seem to belong to {a.name}.")
        return
    print_message(
        f"{b.name} lies shifted by ({_with_error(motion.dx_um, motion.dx_error_um, 2)}, "
        f"{_with_error(motion.dy_um, motion.dy_error_um, 2)}) µm at ({motion.x_um:.0f}, "
        f"{motion.y_um:.0f}) µm of {a.name}, turned by "
        f"{_with_error(motion.rotation_deg, motion.rotation_error_deg, 4)} deg, "
        f"scale {_with_error(motion.scale, motion.scale_error, 5)}; {motion.residual_um:.2f} µm "
        f"rms left, {found.fields_matched} of {found.fields} fields; trusted."
    )


def _with_error(value: float, error: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")
