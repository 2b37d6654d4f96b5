"""The review page over HTTP, on the standard library's server.

Decisions are accepted only with a header that pages of other sites cannot send, and for the
names by which this server was asked to be known: nobody else's page can drop samples.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from plsctl.acquire.errors import UserError
from plsctl.process.review.decisions import DECISIONS
from plsctl.process.review.page import STEP, served_page
from plsctl.process.review.session import Changed, Query, Review

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 10_000
"""Of a decision that is sent."""


@contextmanager
def review_server(
    review: Review, start: Query, host: str = "127.0.0.1", port: int = 0
) -> Iterator[ThreadingHTTPServer]:
    """A server of the review page; call its `serve_forever`.

    Parameters
    ----------
    start
        Order and conditions with which the page opens.
    port
        0 for any that is free; `server_address` says which.

    Raises
    ------
    UserError
        The port is taken, or the host is no address of this computer.
    """
    handler = type("Handler", (_Handler,), {"review": review, "start": start, "host": host})
    try:
        server = _Server((host, port), handler)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} is taken by another program.",
                field="--port",
                hint="Choose another, or 0 for any that is free.",
            ) from None
        raise UserError(
            f"cannot serve on {host}, port {port} ({error.strerror or error}).",
            field="--host",
            hint="Leave --host out to serve this computer only.",
        ) from None
    with server:
        yield server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A second server on the same port must fail, also where the system would share it (Windows).
    allow_reuse_address = False


class _Handler(BaseHTTPRequestHandler):
    review: Review
    start: Query
    host: str
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The page, its samples and their pictures."""
        address = urlsplit(self.path)
        self._answer(lambda: self._get(address.path, parse_qs(address.query)))

    def do_POST(self) -> None:
        """A decision."""
        self._answer(self._post)

    def _get(self, path: str, query: dict[str, list[str]]) -> tuple[HTTPStatus, str, bytes]:
        if path == "/":
            return _found("text/html; charset=utf-8", served_page(self.review, self.start).encode())
        if path == "/samples.json":
            return _found("application/json", json.dumps(self._samples(query)).encode())
        name = path.removeprefix("/picture/").removesuffix(".webp")
        if path == f"/picture/{name}.webp" and name.isdigit() and int(name) < len(self.review.data):
            return _found("image/webp", self.review.picture(int(name)))
        return _refused(HTTPStatus.NOT_FOUND, f"there is nothing at {path}.")

    def _samples(self, query: dict[str, list[str]]) -> dict[str, Any]:
        given = {name: values[0] for name, values in query.items()}
        numbers = self.review.select(
            Query(
                order=given.get("order", self.start.order),
                largest_first=given.get("largest", "yes") == "yes",
                slide=given.get("slide", ""),
                flag=given.get("flag", ""),
                state=given.get("state", ""),
            )
        )
        first = int(given.get("start", "0"))
        rows = [self.review.row(number) for number in numbers[first : first + STEP]]
        return {"rows": rows, "found": len(numbers), "counts": self.review.counts()}

    def _post(self) -> tuple[HTTPStatus, str, bytes]:
        length = int(self.headers.get("Content-Length", "0"))
        if not 0 < length <= MOST_BYTES:
            self.close_connection = True
            return _refused(HTTPStatus.BAD_REQUEST, "this is no decision.")
        body = self.rfile.read(length)
        if self.path != "/decide":
            return _refused(HTTPStatus.NOT_FOUND, f"there is nothing at {self.path}.")
        if self.headers.get("X-Plsctl-Review") != "1":
            return _refused(HTTPStatus.FORBIDDEN, "decisions are taken from the review page only.")
        try:
            asked = json.loads(body)
            sample, keep, was = int(asked["sample"]), asked["keep"], asked["was"]
        except (ValueError, KeyError, TypeError):
            return _refused(HTTPStatus.BAD_REQUEST, "this is no decision.")
        if keep not in DECISIONS or was not in DECISIONS:
            return _refused(HTTPStatus.BAD_REQUEST, f"'{keep}' is no decision.")
        try:
            counts = self.review.decide(sample, keep, was)
        except Changed:
            return _refused(
                HTTPStatus.CONFLICT,
                f"Somebody else has decided about sample {sample} meanwhile; the page was read "
                "again.",
            )
        return _found("application/json", json.dumps({"counts": counts}).encode())

    def _answer(self, make: Any) -> None:
        if self.host in LOOPBACK and _name(self.headers.get("Host", "")) not in LOOPBACK:
            answer = _refused(HTTPStatus.FORBIDDEN, "this server is for this computer only.")
        else:
            try:
                answer = make()
            except UserError as error:
                answer = _refused(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            except ValueError:
                answer = _refused(HTTPStatus.BAD_REQUEST, "the request was not understood.")
        status, kind, content = answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log requests."""


def _found(kind: str, content: bytes) -> tuple[HTTPStatus, str, bytes]:
    return HTTPStatus.OK, kind, content


def _refused(status: HTTPStatus, text: str) -> tuple[HTTPStatus, str, bytes]:
    return status, "application/json", json.dumps({"error": text}).encode()


def _name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    return (urlsplit(f"//{host}").hostname or "") if host else ""
