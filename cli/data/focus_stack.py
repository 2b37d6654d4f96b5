"""`plsctl focus-stack`: one sharp image from images at different focus."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.acquire.errors import UserError
from plsctl.acquire.words import counted
from plsctl.cli.shared import completion
from plsctl.cli.shared.output import (
    JsonFlag,
    VerboseFlag,
    emit,
    print_message,
    print_next_command,
    progress,
)

METHODS = ("wavelet", "harris")


def focus_stack(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Images in the order of focus.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Image file to write.")],
    method: Annotated[
        str,
        typer.Option(
            help="wavelet: smooth transitions; harris: pixels taken whole.",
            autocompletion=completion.values(*METHODS),
        ),
    ] = "wavelet",
    depth: Annotated[
        Path | None,
        typer.Option(help="Write a map of focus here, black for the first image, white the last."),
    ] = None,
    align: Annotated[
        bool, typer.Option("--align/--no-align", help="Bring the images onto the middle one first.")
    ] = True,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Join images at different focus to one that is sharp throughout.

    Example: plsctl focus-stack z1.png z2.png z3.png -o sharp.png --depth depth.png
    """
    import numpy as np

    from plsctl.process.focus.stacking import FocusStackSettings
    from plsctl.process.focus.stacking import focus_stack as join
    from plsctl.process.image_files import (
        read_pages,
        refuse_name,
        significant_bits,
        to_8_bits,
        write_image,
    )

    if method not in METHODS:
        raise UserError(
            f"there is no method '{method}'.",
            field="--method",
            hint=f"Choose {METHODS[0]} or {METHODS[1]}.",
        )
    for path in (out, depth):
        if path is not None:
            refuse_name(path)
    settings = FocusStackSettings.model_validate({"method": method, "align": align})
    pages = [(path, page) for path in images for page in read_pages(path)]
    bits = significant_bits([page for _, page in pages])
    names = [path for path, _ in pages]
    with progress(f"joining {counted(len(pages), 'image')}"):
        result = join(to_8_bits([page for _, page in pages]), settings)
    write_image(out, result.image)
    if depth is not None:
        grey = result.depth.astype(np.float32) * (255 / (len(names) - 1))
        write_image(depth, np.rint(grey).astype(np.uint8))
    share = np.bincount(result.depth.ravel(), minlength=len(names)) / result.depth.size
    emit(
        {
            "image": out,
            "depth": depth,
            "method": method,
            "reference": names[result.reference],
            "in_focus": [
                {"image": path, "share": part} for path, part in zip(names, share, strict=True)
            ],
            "transforms": list(result.transforms),
        },
        json,
    )
    if bits > 8:
        print_message(f"The images have {bits} bits a channel, the result has 8.")
    print_message(f"{out}: {counted(len(names), 'image')} joined by the method {method}.")
    print_next_command("segment", out)
