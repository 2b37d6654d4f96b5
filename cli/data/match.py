"""`plsctl match`: where one image lies in another."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from plsctl.acquire.errors import UserError
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import JsonFlag, VerboseFlag, emit, print_message, progress


def match(
    a: Annotated[Path, typer.Argument(metavar="A", help="The image to be found.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The image it is looked for in.")],
    method: Annotated[
        str,
        typer.Option(
            help="canny: one scale (unstained, stained); log: A at 20x, B at 100x.",
            autocompletion=completion.values("canny", "log"),
        ),
    ] = "canny",
    ratio: Annotated[
        float, typer.Option(help="With log: pixels of B to a pixel of A, about.", min=1.0)
    ] = 5.0,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Say where A's top left corner lies in B, how A is scaled and turned, and whether to trust it.

    Example: plsctl match stained.png unstained.png --method canny
    """
    from plsctl.process.image_files import read_image
    from plsctl.process.matching.locate import METHODS
    from plsctl.process.matching.locate import match as match_images

    if method not in METHODS:
        raise UserError(
            f"there is no method '{method}'.", field="--method", hint="Choose canny or log."
        )
    one, other = read_image(a), read_image(b)
    with progress(f"looking for {a.name} in {b.name}"):
        found = match_images(one, other, method, ratio)
    emit(asdict(found), json)
    print_message(
        f"{a.name} lies at ({found.dx:.2f}, {found.dy:.2f}) in {b.name}, scale {found.scale:.4f}, "
        f"turned {found.rotation_deg:.3f} deg; score {found.score:.2f}, "
        f"{'trusted' if found.trusted else 'NOT trusted'}."
    )
