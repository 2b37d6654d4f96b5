"""Reviewing a data set: decisions in its table, over HTTP, by keys in a real browser, as files."""

from __future__ import annotations

import json
import socket
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
from plsctl.acquire.files.whole_files import locked
from plsctl.cli.app import app
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.writer import DatasetWriter
from plsctl.process.review.page import write_page
from plsctl.process.review.server import review_server
from plsctl.process.review.session import Query, Review

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
        attributes={"quality": {"slides": VERDICTS}},
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
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
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
        picture = cv2.imdecode(np.frombuffer(ask(f"{address}/picture/7.webp")[1], np.uint8), 1)
        truth = np.moveaxis(Dataset.open(path).read_target("20x", [7])[0], 0, -1)
        np.testing.assert_array_equal(picture[:, -16:, ::-1], truth)
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
        assert ask(f"{address}/picture/999.webp")[0] == 404
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
        ("sample\n1\n", "lacks the column 'keep'"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=said):
            review.adopt(file)
    assert keep_of(path) == {7: "no", 3: "yes"}


def test_failed_measures_are_shown_with_limit_and_place(tmp_path: Path) -> None:
    count, side = 12, 64
    rng = np.random.default_rng(1)
    stacks = rng.integers(196, 204, (count, 1, 3, side, side)).astype(np.uint8)
    targets = stacks[:, 0].copy()
    y, x = np.mgrid[:side, :side]
    stacks[5, 0][:, np.hypot(y - 20, x - 44) < 7] = 60  # a disc in the input only
    rows = pd.DataFrame(
        {
            "slide": "1",
            "dirt_px": [150 if n == 5 else 0 for n in range(count)],
            "peak_20x": [0.9 if n == 6 else 0.4 for n in range(count)],
            "flags": [{5: "dirt", 6: "artefact", 7: "duplicate"}.get(n, "") for n in range(count)],
            "excluded": "",
        }
    )
    place = tmp_path / "wbc.zarr"
    limits = {"settings": {"samples": {"dirt_px": 80}}}
    with DatasetWriter(
        place, FRAMES[:1], recipe="mine", pixel_um=0.293, crop_px=side, targets=("20x",),
        attributes={"quality": limits, "black_level": 4.0},
    ) as writer:  # fmt: skip
        writer.append(stacks, {"20x": targets}, rows)
        writer.finish(pd.Series("train", index=range(count)))
    review = Review(Dataset.open(place))
    (dirt,), (peak,), (twice,) = (review.row(number)["findings"] for number in (5, 6, 7))
    assert (dirt["measure"], dirt["value"], dirt["limit"], dirt["unit"]) == (
        "dirt_px", 150, 80, "px"
    )  # fmt: skip
    found = dirt["place"]
    assert found["image"] == "brightfield"
    assert found["left"] <= 38 and found["left"] + found["width"] >= 50
    assert found["top"] <= 14 and found["top"] + found["height"] >= 26
    assert found["width"] < 24 and found["height"] < 24
    # 1.55 times what is usual on the slide.
    assert peak["limit"] == pytest.approx(1.55 * 0.4) and peak["place"] is None
    assert twice["measure"] == "" and "another position" in twice["meaning"]
    assert review.row(0)["findings"] == []


STATES = "[...document.querySelectorAll('article')].map(a => a.dataset.keep)"


def test_keys_and_buttons_of_the_page_decide(path: Path, browser: Any, tmp_path: Path) -> None:
    with serving(path) as address:
        browser.open(address, ready="document.querySelectorAll('article').length > 0")
        assert browser.value("document.querySelectorAll('article').length") == 25
        browser.wait("document.querySelector('article img').naturalWidth === 4 * 16")
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
    browser.open(page.as_uri(), ready="document.querySelectorAll('article').length > 0")
    assert browser.value(STATES) == ["no", "yes", ""]
    browser.resize(600)
    assert browser.value("document.documentElement.scrollWidth") <= 600
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
