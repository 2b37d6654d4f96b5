"""`plsctl review`: look through the samples of a data set, the worst first, and drop some."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plsctl.acquire.errors import UserError
from plsctl.acquire.words import counted
from plsctl.cli.shared.output import JsonFlag, VerboseFlag, emit, print_message, progress

if TYPE_CHECKING:
    from plsctl.process.review.session import Query, Review

STATES = ("", "open", "kept", "dropped", "excluded")
ONE_AT_A_TIME = "A review of it may be open already: use its page, or wait until it has ended."


def review(
    data: Annotated[str, typer.Argument(metavar="DATA.zarr", help="The data set.")],
    order: Annotated[
        str | None, typer.Option(help="A measure of the table, or flags; the worst by default.")
    ] = None,
    largest_first: Annotated[
        bool | None, typer.Option("--largest-first/--smallest-first", help="Which way round.")
    ] = None,
    slide: Annotated[str, typer.Option(help="Of this slide only.")] = "",
    flag: Annotated[str, typer.Option(help="With this flag only.")] = "",
    state: Annotated[str, typer.Option(help="open, kept, dropped or excluded only.")] = "",
    images: Annotated[
        str | None, typer.Option(help="Images to show, labels with commas between.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the page as a file instead of serving it.")
    ] = None,
    count: Annotated[int, typer.Option(help="Samples in the file.", min=1)] = 200,
    decisions: Annotated[
        Path | None, typer.Option(help="Take decisions from this CSV file, as the page saves it.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write the decisions to this CSV file.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve on; others than this computer's own are open.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 for any.", min=0, max=65535)] = 8765,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
    json: JsonFlag = False,
    verbose: VerboseFlag = False,
) -> None:
    """Show the worst samples of a data set on a page, with buttons and keys to keep or drop them.

    Decisions are written into the data set at once; dropped samples are left out of training and
    evaluation.

    Example: plsctl review wbc.zarr
    """
    from plsctl.acquire.files.locations import is_remote
    from plsctl.process.dataset.reader import Dataset
    from plsctl.process.review.session import Query, Review

    if state not in STATES:
        raise UserError(
            f"there is no decision '{state}'.",
            field="--state",
            hint="Choose open, kept, dropped or excluded.",
        )
    names = None if images is None else [name.strip() for name in images.split(",")]
    opened = Dataset.open(data)
    if is_remote(opened.path):
        raise UserError(
            f"the data set {data} lies in an object store and cannot be reviewed there.",
            hint="Copy it to this computer first.",
        )
    session = Review(opened, names)
    worst = session.worst_first()
    chosen = order or worst.order
    if largest_first is None:
        largest_first = worst.largest_first if order is None else not order.startswith("score_")
    query = Query(chosen, largest_first, slide, flag, state)
    session.select(query)
    result: dict[str, object] = {"dataset": data}
    if decisions is not None:
        result["adopted"] = _adopt(session, decisions)
    if export is not None:
        exported = session.export(export)
        result["exported"] = exported
        print_message(f"{counted(exported, 'decision')} written to {export}.")
    if html is not None:
        result["page"], result["shown"] = html, _write(session, html, query, count)
    if decisions is None and export is None and html is None:
        _serve(session, query, host, port, open_browser)
    counts = session.counts()
    emit(result | counts, json)
    print_message(
        f"{counted(counts['samples'], 'sample')}: {counts['kept']} kept, "
        f"{counts['dropped']} dropped, {counts['open']} open."
    )


def _adopt(session: "Review", decisions: Path) -> int:
    from plsctl.acquire.files.whole_files import locked

    with locked(session.data.path, ONE_AT_A_TIME):
        adopted = session.adopt(decisions)
    print_message(f"{counted(adopted, 'decision')} taken from {decisions}.")
    return adopted


def _write(session: "Review", html: Path, query: "Query", count: int) -> int:
    from plsctl.process.review.page import write_page

    with progress("drawing the page"):
        shown = write_page(session, html, query, count)
    print_message(f"{counted(shown, 'sample')} in {html}.")
    return shown


def _serve(session: "Review", query: "Query", host: str, port: int, open_browser: bool) -> None:
    import webbrowser

    from plsctl.acquire.files.whole_files import locked
    from plsctl.process.review.server import review_server

    with (
        locked(session.data.path, ONE_AT_A_TIME),
        review_server(session, query, host, port) as server,
    ):
        place = f"http://{host}:{server.server_address[1]}/"
        print_message(f"Review {session.data.path} at {place} (end with Ctrl-C).")
        if open_browser:
            webbrowser.open(place)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print_message("The review has ended; every decision is written.")
