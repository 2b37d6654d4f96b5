"""Reviewing a data set: decisions in its table, over HTTP, by keys in a real browser, as files."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from plsctl.acquire.errors import UserError
from plsctl.acquire.folder_lock import locked
from plsctl.cli.app import app
from plsctl.process.dataset import Dataset, DatasetWriter
from plsctl.process.review import Query, Review
from plsctl.process.review_page import write_page
from plsctl.process.review_server import review_server

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
COUNT = 30
POOREST = [7, 21, 3]
FLAGGED = {4: "dust;blur", 9: "dust"}
EXCLUDED = {9: "dust"}
VERDICTS = [
    {"slide": "001", "accepted": True, "reasons": []},
    {"slide": "002", "accepted": False, "reasons": ["misstained: 40 % <less> stain"]},
]
FRAMES = [
    {"label": "brightfield", "direction": None},
    {"label": "plate-1", "direction": [0.14, 0.0]},
    {"label": "arm1-57:low", "direction": [0.0, 0.84]},
]
ALL = Query("score_20x", largest_first=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """30 samples of two slides, one of them rejected; three match poorly, two are flagged."""
    rows = pd.DataFrame(
        {
            "slide": ["001" if n < 20 else "002" for n in range(COUNT)],
            "position": "A/1",
            "cell": range(100, 100 + COUNT),
            "score_20x": [POOREST.index(n) / 10 if n in POOREST else 0.9 for n in range(COUNT)],
            "flags": [FLAGGED.get(n, "") for n in range(COUNT)],
            "excluded": [EXCLUDED.get(n, "") for n in range(COUNT)],
            "type": "",
        }
    )
    rng = np.random.default_rng(0)
    place = tmp_path / "wbc.zarr"
    with DatasetWriter(
        place,
        FRAMES,
        recipe="mine",
        pixel_um=0.293,
        crop_px=16,
        targets=("20x",),
        shard=8,
        facts={"quality": {"slides": VERDICTS}},
    ) as writer:
        target = rng.integers(0, 256, (COUNT, 3, 16, 16), dtype=np.uint8)
        writer.append(rng.integers(0, 256, (COUNT, 3, 3, 16, 16), np.uint8), {"20x": target}, rows)
        writer.finish(pd.Series("train", index=range(COUNT)))
    return place


@contextmanager
def serving(path: Path) -> Iterator[str]:
    review = Review(Dataset.open(path))
    with review_server(review, ALL) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def ask(address: str, body: dict[str, Any] | None = None, **headers: str) -> tuple[int, bytes]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def keep_of(path: Path) -> dict[int, str]:
    table = Dataset.open(path).table
    return {n: keep for n, keep in enumerate(table["keep"]) if keep} if "keep" in table else {}


def test_the_worst_come_first_and_dropped_samples_leave_the_splits(path: Path) -> None:
    review = Review(Dataset.open(path))
    assert review.select(ALL)[:3] == POOREST
    assert review.select(review.worst_first())[:2] == [4, 9]
    assert review.select(Query("score_20x", True, slide="002", state="open"))[-1] == 21
    assert review.select(Query("flags", True, flag="dust")) == [4, 9]
    assert review.select(Query("flags", True, state="excluded")) == [9]
    with pytest.raises(UserError, match="no measure 'beauty'"):
        review.select(Query("beauty", True))
    assert review.decide(7, "no", "") == {"samples": 30, "kept": 0, "dropped": 1, "open": 29}
    review.decide(3, "yes", "")
    data = Dataset.open(path)
    assert data.dropped == 2
    assert data.split("train").tolist() == [n for n in range(COUNT) if n not in (7, 9)]
    assert review.select(Query("score_20x", False, state="dropped")) == [7]
    # Text stays text, and what another command wrote meanwhile is not lost.
    table = data.table.assign(type="lymphocyte")
    table.to_csv(path / "samples.csv", index=False)
    review.decide(8, "no", "")
    assert set(Dataset.open(path).table["type"]) == {"lymphocyte"}
    assert Dataset.open(path).table["slide"].iloc[0] == "001"
    assert keep_of(path) == {7: "no", 3: "yes", 8: "no"}


def test_pictures_and_decisions_over_http(path: Path) -> None:
    with serving(path) as address:
        status, page = ask(f"{address}/")
        assert status == 200 and b"wbc.zarr" in page
        got = json.loads(ask(f"{address}/samples.json?order=score_20x&largest=no&start=1")[1])
        assert [row["sample"] for row in got["rows"][:2]] == POOREST[1:] and got["found"] == COUNT
        picture = cv2.imdecode(np.frombuffer(ask(f"{address}/picture/7.png")[1], np.uint8), 1)
        truth = np.moveaxis(Dataset.open(path).read_target("20x", [7])[0], 0, -1)
        np.testing.assert_array_equal(picture[::2, -32::2, ::-1], truth)
        decision = {"sample": 7, "keep": "no", "was": ""}
        trusted = {"X-Plsctl-Review": "1"}
        # Pages of other sites can neither send the header nor come under another name.
        assert ask(f"{address}/decide", decision)[0] == 403
        assert ask(f"{address}/decide", decision, Host="evil.example", **trusted)[0] == 403
        assert keep_of(path) == {}
        assert ask(f"{address}/decide", decision, **trusted)[0] == 200
        assert keep_of(path) == {7: "no"}
        # A second reviewer who has not seen this decision does not undo it.
        status, content = ask(f"{address}/decide", decision | {"keep": "yes"}, **trusted)
        assert status == 409 and b"Somebody else" in content
        assert keep_of(path) == {7: "no"}
        for wrong in ({"sample": 7}, decision | {"keep": "perhaps"}, {"sample": "x"} | decision):
            status, _ = ask(f"{address}/decide", wrong | {"was": "maybe"}, **trusted)
            assert status == 400
        assert ask(f"{address}/picture/999.png")[0] == 404
        assert ask(f"{address}/samples.json?order=beauty")[0] == 500
        # A disk that cannot be written to is said, and nothing is half written.
        (path / "samples.csv.part").mkdir()
        status, content = ask(f"{address}/decide", decision | {"sample": 1}, **trusted)
        assert status == 500 and b"cannot be written" in content
        assert keep_of(path) == {7: "no"}


def test_what_cannot_be_reviewed_is_said_in_a_sentence(path: Path, tmp_path: Path) -> None:
    def error(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["review", *arguments])
        assert result.exit_code == 2
        return " ".join(result.output.split())

    assert "not a plsctl data set" in error(str(tmp_path))
    assert "no measure" in error(str(path), "--order", "beauty")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port} is taken" in error(str(path), "--port", port)
    with locked(path):
        assert "another plsctl" in error(str(path), "--port", "0")
    (path / ".lock").unlink()
    (path / ".lock").mkdir()
    assert ".lock" in error(str(path), "--port", "0")


def test_decisions_as_a_file_go_to_their_data_set_only(path: Path, tmp_path: Path) -> None:
    review = Review(Dataset.open(path))
    review.decide(7, "no", "")
    review.decide(3, "yes", "")
    file = tmp_path / "decisions.csv"
    assert review.export(file) == 2
    review.decide(7, "", "no")
    result = CliRunner().invoke(app, ["review", str(path), "--decisions", str(file), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "dataset": str(path), "adopted": 2, "samples": 30, "kept": 1, "dropped": 1, "open": 28,
    }  # fmt: skip
    assert keep_of(path) == {7: "no", 3: "yes"}
    for text, said in (
        ("sample,slide,keep\n7,002,no\n", "another data set"),
        ("sample,keep\n99,no\n", "no sample '99'"),
        ("sample,keep\n1,no\n2,perhaps\n", "perhaps"),
        ("sample\n1\n", "no columns"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=said):
            review.adopt(file)
    assert keep_of(path) == {7: "no", 3: "yes"}


AT_3_AND_4 = """
import fcntl, os, sys
told, said = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3])
os.dup2(told, 3), os.dup2(said, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Chromium hears on file descriptor 3 and answers on 4."""


class Browser:
    """A headless Chromium that is told what to do through pipes."""

    def __init__(self, folder: Path) -> None:
        told, tell = os.pipe()
        hear, said = os.pipe()
        assert CHROMIUM is not None
        options = (
            "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--remote-debugging-pipe", f"--user-data-dir={folder / 'browser'}",
        )  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", AT_3_AND_4, str(told), str(said), CHROMIUM, *options],
            pass_fds=(told, said), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(told)
        os.close(said)
        self._tell, self._hear, self._number, self._session = tell, hear, 0, ""
        self._rest = b""

    def begin(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        if self._session and not method.startswith("Browser."):
            message["sessionId"] = self._session
        os.write(self._tell, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                heard = os.read(self._hear, 1 << 16)
                assert heard, "the browser has ended"
                self._rest += heard
            content, self._rest = self._rest.split(b"\0", 1)
            answer = json.loads(content)
            if answer.get("id") == self._number:
                assert "result" in answer, answer
                return answer["result"]

    def value(self, script: str) -> Any:
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        deadline = time.monotonic() + 30
        while not self.value(script):
            assert time.monotonic() < deadline, self.value("document.body.innerText")
            time.sleep(0.02)

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.wait("document.querySelectorAll('article').length > 0")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._tell)
        os.close(self._hear)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None or sys.platform == "win32":
        pytest.skip("no Chromium is installed that can be led through pipes")
    started = Browser(tmp_path)
    try:
        started.begin()
        yield started
    finally:
        started.close()


STATES = "[...document.querySelectorAll('article')].map(a => a.dataset.keep)"


def test_keys_and_buttons_of_the_page_decide(path: Path, browser: Browser, tmp_path: Path) -> None:
    with serving(path) as address:
        browser.open(address)
        assert browser.value("document.querySelectorAll('article').length") == 25
        browser.wait("document.querySelector('article img').naturalWidth === 4 * 16 * 2")
        browser.press("d")
        browser.wait(f"{STATES}[0] === 'no'")
        assert keep_of(path) == {POOREST[0]: "no"}
        # The next one is shown; its buttons work, twice takes a decision back.
        browser.wait("document.querySelector('.current').dataset.sample === '21'")
        browser.press("k")
        browser.wait(f"{STATES}[1] === 'yes'")
        browser.value("document.querySelectorAll('article .no')[2].click()")
        browser.wait(f"{STATES}[2] === 'no'")
        browser.value("document.querySelectorAll('article .no')[2].click()")
        browser.wait(f"{STATES}[2] === ''")
        assert keep_of(path) == {POOREST[0]: "no", POOREST[1]: "yes"}
        assert "1 kept, 1 dropped" in browser.value("document.getElementById('counts').innerText")
        browser.value("document.getElementById('more').click()")
        browser.wait(f"document.querySelectorAll('article').length === {COUNT}")
        browser.value(
            "document.getElementById('flag').value = 'dust';"
            "document.getElementById('flag').dispatchEvent(new Event('change'))"
        )
        browser.wait("document.querySelectorAll('article').length === 2")
        shown = browser.value("document.querySelector('main').innerText")
        assert "slide 002 rejected misstained: 40 % <less> stain" in shown
        assert "left out: dust" in shown and "slide 001 rejected" not in shown
        # Somebody else decides; the page says so and shows it.
        Review(Dataset.open(path)).decide(4, "yes", "")
        browser.press("d")
        browser.wait("document.getElementById('problem').innerText.includes('Somebody else')")
        browser.wait(f"{STATES}[0] === 'yes'")
        assert keep_of(path)[4] == "yes"

    page, saved = tmp_path / "page.html", tmp_path / "decisions.csv"
    assert write_page(Review(Dataset.open(path)), page, ALL, most=3) == 3
    browser.open(page.as_uri())
    assert browser.value(STATES) == ["no", "yes", ""]
    browser.press("ArrowDown")
    browser.press("ArrowDown")
    browser.press("d")
    browser.wait(f"{STATES}[2] === 'no'")
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.value("document.getElementById('save').click()")
    deadline = time.monotonic() + 30
    while not saved.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert Review(Dataset.open(path)).adopt(saved) == 3
    assert keep_of(path) == {7: "no", 21: "yes", 3: "no", 4: "yes"}
    assert base64.b64encode(b"\x89PNG").decode()[:5] in page.read_text()
