"""The report is one file that needs nothing else, and shows what it was given."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from plsctl.acquire.errors import UserError
from plsctl.process.dataset.reader import Dataset
from plsctl.process.dataset.splits import assign_splits
from plsctl.process.dataset.writer import DatasetWriter
from plsctl.process.pages.pictures import comparison, picture
from plsctl.process.pages.scale_bar import bar_length_um, scale_bar
from plsctl.process.pages.tables import Score, table
from plsctl.process.report.charts import Axis, colour_cloud, curves, led_map, points
from plsctl.process.report.counts import counts_section, left_out_section
from plsctl.process.report.dataset import brightened, dataset_key_figures, dataset_sections
from plsctl.process.report.page import Page, Section


def test_a_page_holds_everything_itself(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    body = picture(image, "a < b", '<circle r="3"/>') + picture(image)
    page = Page("Title & more", "sub", key_figures=[("cells", "12")])
    page.picture = comparison([("before", image), ("after", image)], "a field", 0.5)
    page.sections = [Section("One", "note", body)]
    text = page.write(tmp_path / "deep" / "report.html").read_text(encoding="utf-8")
    assert "Title &amp; more" in text
    assert "a &lt; b" in text
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert not re.search(r"https?://|<script [^>]*src|@import|url\((?!#)", text)
    # Every link of the page, such as those that enlarge a picture, leads somewhere.
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(re.findall(r'id="([^"]+)"', text))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Page("t", "s").write(tmp_path / "file" / "report.html")


def test_pictures_keep_their_colours() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 0] = 200
    data = re.search(r"base64,([^\"]+)", picture(image, lossless=True))
    assert data is not None
    read = cv2.imdecode(np.frombuffer(base64.b64decode(data[1]), np.uint8), cv2.IMREAD_COLOR)
    assert read is not None
    assert read[4, 4].tolist() == [0, 0, 200]  # OpenCV's order: blue, green, red


def test_wide_pictures_are_shrunk_with_what_is_drawn_over_them() -> None:
    shown = picture(np.zeros((500, 2400, 3), np.uint8), "", '<path d="M0 0"/>', um_per_px=0.25)
    assert 'width="1200" height="250"' in shown
    assert '<g transform="scale(0.50000)"><path d="M0 0"/></g>' in shown
    assert 'width="200.00"' in shown and "100 µm" in shown  # of 600 um in 1200 px


def test_charts_are_well_formed_and_put_points_where_they_belong() -> None:
    drawn = points({"g": [(0.0, 1.0), (10.0, 100.0)]}, "x & y", "z", logarithmic=True)
    circles = list(ElementTree.fromstring(drawn).iter("circle"))
    places = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in circles]
    assert places[0][0] < places[1][0]
    assert places[0][1] > places[1][1]
    line = curves({"a": ([1, 2, 3], [0.1, float("nan"), 0.3])}, "epoch", "loss", marked_x=2)
    assert len(re.findall(r"points=\"([^\"]*)\"", line)[0].split()) == 2
    values = np.array([0, 90, 179], np.uint8)
    cloud = colour_cloud(("h", values, 180), ("s", values, 255), np.zeros((3, 3), np.uint8))
    array = led_map([("a", 0.1, 0.0, 1.0), ("b", 0.8, 0.0, 900.0)], 0.4, "exposure", "ms")
    for chart in (line, cloud, array):
        ElementTree.fromstring(chart)


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis("", 0, 10), [0, 2, 4, 6, 8, 10]),
        (Axis("", 0.5, 120, True), [1, 3, 10, 30, 100]),
        (Axis("", -0.02, 0.02), [-0.02, -0.01, 0, 0.01, 0.02]),
        (Axis("", 0.17, 0.55, True), [0.2, 0.3, 0.4, 0.5]),
        (Axis("", 0.9, 3.1, whole=True), [1, 2, 3]),
    ],
)
def test_ticks_are_round(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks() == pytest.approx(ticks)


def test_tables_mark_what_is_best_in_each_column() -> None:
    rows = [("a", Score(0.9, (0.8, 1.0)), Score(0.25)), ("b", Score(0.7), Score(0.125))]
    text = table(("name", "SSIM", "MAE"), rows, best=(None, "high", "low"))
    assert re.findall(r"<b>([^<]*)</b>", text) == ["0.900", "0.125"]
    assert "<small>0.800 to 1.000</small>" in text


def test_scale_bars_are_as_long_as_they_say() -> None:
    # 400 px of 0.5 um are 200 um: at most 60 of them, so 50 um, which are 100 px.
    assert bar_length_um(200) == 50
    bar = ElementTree.fromstring(f"<g>{scale_bar(400, 300, 0.5)}</g>")
    rectangle, text = bar.find("rect"), bar.find("text")
    assert rectangle is not None and float(rectangle.attrib["width"]) == 100
    assert text is not None and text.text == "50 µm"


def test_dim_images_are_brightened_within_bounds() -> None:
    ramp = np.linspace(0, 100, 64, dtype=np.uint8).reshape(8, 8)
    assert brightened(ramp).max() == 255
    assert brightened(np.full((8, 8), 2, np.uint8)).max() == 16


def test_a_data_set_shows_its_cells(tmp_path: Path) -> None:
    count, rng = 30, np.random.default_rng(0)
    frames = [{"label": "brightfield"}, {"label": "plate-1"}]
    crops = rng.integers(0, 256, (count, 3, 16, 16), dtype=np.uint8)
    rows = pd.DataFrame(
        {
            "slide": "S",
            "position": [f"A/{n + 1}" for n in range(count)],
            "x_um": np.arange(count) * 500.0,
            "y_um": 0.0,
            "score_20x": 0.9,
            "flags": "",
        }
    )
    path = tmp_path / "d.zarr"
    with DatasetWriter(
        path, frames, recipe="mine", pixel_um=0.293, crop_px=16, targets=("20x", "100x")
    ) as writer:
        stacks = np.stack([crops, crops], axis=1)
        writer.append(stacks, {"20x": crops, "100x": crops}, rows)
        writer.finish(assign_splits(writer.table, seed=1))
    data = Dataset.open(path)
    assert ("samples", "30") in dataset_key_figures(data)
    matched, stack = dataset_sections(data)
    assert (matched.title, stack.title) == ("Matched cells", "One cell under every LED")
    assert matched.body.count("<img") == 12 * 3
    assert stack.body.count("<img") == 2
    assert left_out_section(data) is None
    # Two fail quality control, of which a review takes one back; it drops another.
    table = data.table.assign(keep="", excluded="")
    table.loc[[3, 4], "excluded"] = ["dirt", "dirt;lost_cell"]
    table.loc[[4, 5], "keep"] = ["yes", "no"]
    table.to_csv(path / "samples.csv", index=False)
    data = Dataset.open(path)
    counts = dict(re.findall(r"<td>([^<]*)</td><td class=\"number\">(-?\d+)<", _plain(data)))
    assert counts["− left out by quality control (dirt 1)"] == "-1"
    assert counts["− dropped in a review"] == "-1"
    used = {"train": "training", "validation": "validation", "test": "the test"}
    for name, what in used.items():
        assert int(counts[f"used for {what}"]) == len(data.split(name))
    assert sum(int(number) for what, number in counts.items() if what != "cells") == 30 + 28 - 2
    gone = left_out_section(data)
    assert gone is not None
    assert re.findall(r"<p>([^<]*)</p>", gone.body) == ["#3: dirt", "#5: dropped in a review"]


def _plain(data: Dataset) -> str:
    return counts_section(data).body.split("<h3>")[0]
