"""`plsctl schema`: what may stand in the YAML files that people write."""

from pathlib import Path
from typing import Annotated

import typer

from plsctl.cli.shared import completion
from plsctl.cli.shared.output import VerboseFlag, emit, one_of, print_message

KINDS = ("slide", "hardware", "recipe", "training", "learned-optics", "quality")


def schema(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"Which file: {', '.join(KINDS)}.",
            autocompletion=completion.values(*KINDS),
        ),
    ] = "slide",
    pages: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the reference pages of all of them there instead."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="The JSON Schema on one line; it is JSON without, too.")
    ] = False,
    verbose: VerboseFlag = False,
) -> None:
    """Print the JSON Schema of a YAML file, for editors that complete and check while you write.

    Example: plsctl schema hardware
    """
    from json import dumps

    from plsctl.acquire.files.whole_files import write_whole
    from plsctl.cli.shared.schema import json_schema, page, written_files

    one_of("kind of file", kind, KINDS)
    files = written_files()
    if pages is not None:
        pages.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            write_whole(pages / f"{name}.md", page(file))
        emit({"pages": [pages / f"{name}.md" for name in files]}, json)
        print_message(f"{len(files)} pages in {pages}.")
        return
    found = json_schema(files[kind].model)
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    typer.echo(dumps(found, indent=None if json else 2, ensure_ascii=False))
