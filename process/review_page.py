"""The page on which samples are reviewed: served by `plsctl review`, or a file on its own.

Both are one page. Served, it asks for samples and sends decisions; as a file it holds its samples,
keeps decisions in the browser and saves them as CSV for `plsctl review --decisions`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

from plsctl.acquire.whole_files import write_whole
from plsctl.process.review import FLAGS_FIRST, Query, Review
from plsctl.process.review_decisions import NAMING

_STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: #f5f6f8; color: #1d2433;
  font: 14px/1.45 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header { position: sticky; top: 0; background: white; border-bottom: 1px solid #d0d5dd;
  padding: 10px 20px; display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center; }
h1 { font-size: 17px; margin: 0; }
main { padding: 14px 20px 60px; }
#counts { margin-left: auto; font-variant-numeric: tabular-nums; }
#problem { color: #b42318; font-weight: 600; width: 100%; }
#problem:empty { display: none; }
article { background: white; border: 1px solid #e4e7ec; border-left: 6px solid #e4e7ec;
  border-radius: 8px; padding: 10px 14px; margin-bottom: 10px; }
article.current { outline: 3px solid #6b3fa0; }
article[data-keep="yes"] { border-left-color: #1b7f4d; }
article[data-keep="no"] { border-left-color: #b42318; }
article[data-keep="no"] img { opacity: 0.45; }
article > div { display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center; }
article img { display: block; max-width: 100%; image-rendering: pixelated; margin-top: 6px; }
.captions { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; font-size: 11px;
  color: #667085; text-align: center; }
.strip { width: max-content; max-width: 100%; }
.flag { background: #fef0c7; border-radius: 999px; padding: 0 9px; }
.excluded { background: #fee4e2; border-radius: 999px; padding: 0 9px; }
.rejected { margin: 0 0 10px; }
.facts { color: #667085; font-variant-numeric: tabular-nums; }
button, select { font: inherit; padding: 3px 12px; border: 1px solid #98a2b3; border-radius: 6px;
  background: white; cursor: pointer; }
article[data-keep="yes"] .yes { background: #1b7f4d; color: white; }
article[data-keep="no"] .no { background: #b42318; color: white; }
.decision { margin-left: auto; display: flex; gap: 6px; }
kbd { border: 1px solid #98a2b3; border-radius: 4px; padding: 0 5px; font-size: 12px; }
"""

_SCRIPT = """
"use strict";
const page = JSON.parse(document.getElementById("page").textContent);
const list = document.getElementById("samples"), more = document.getElementById("more");
const shown = new Map();
let current = null;

function say(text) { document.getElementById("problem").textContent = text; }
function element(kind, attributes, text) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
function asked() {
  const query = {};
  for (const name of ["order", "largest", "slide", "flag", "state"]) {
    const field = document.getElementById(name);
    if (field) query[name] = field.value;
  }
  return query;
}
async function answer(response) {
  const content = await response.json();
  if (!response.ok) throw Object.assign(new Error(content.error), { status: response.status });
  return content;
}

const served = {
  async select(query, start) {
    const parts = new URLSearchParams({ ...query, start });
    return answer(await fetch("samples.json?" + parts));
  },
  async decide(row, keep) {
    const body = JSON.stringify({ sample: row.sample, keep, was: row.keep });
    const headers = { "Content-Type": "application/json", "X-Plsctl-Review": "1" };
    return answer(await fetch("decide", { method: "POST", headers, body }));
  },
  picture(row) { return "picture/" + row.sample + ".png"; },
};

const file = {
  key: "plsctl review " + page.identity,
  count() {
    const count = { samples: page.rows.length, kept: 0, dropped: 0, open: 0 };
    for (const row of page.rows)
      count[{ yes: "kept", no: "dropped", "": "open" }[row.keep]] += 1;
    return count;
  },
  async select(query, start) {
    const state = { kept: "yes", dropped: "no", open: "" }[query.state];
    const rows = page.rows.filter((row) =>
      (!query.slide || row.slide === query.slide) &&
      (!query.flag || row.flags.split(";").includes(query.flag)) &&
      (query.state !== "excluded" || row.excluded) &&
      (state === undefined || row.keep === state));
    return { rows: rows.slice(start, start + page.step), found: rows.length, counts: this.count() };
  },
  async decide(row, keep) {
    const stored = JSON.parse(localStorage.getItem(this.key) || "{}");
    stored[row.sample] = keep;
    localStorage.setItem(this.key, JSON.stringify(stored));
    page.rows.find((other) => other.sample === row.sample).keep = keep;
    return { counts: this.count() };
  },
  picture(row) { return row.picture; },
  save() {
    const quoted = (value) => '"' + String(value ?? "").replaceAll('"', '""') + '"';
    const lines = [[...page.naming, "keep"].join(",")];
    for (const row of page.rows)
      if (row.keep) lines.push([...page.naming, "keep"].map((name) => quoted(row[name])).join(","));
    const link = element("a", { download: "decisions.csv" });
    link.href = URL.createObjectURL(new Blob([lines.join("\\n") + "\\n"], { type: "text/csv" }));
    link.click();
  },
};
const source = page.rows ? file : served;

function tell(counts) {
  document.getElementById("counts").textContent = `${counts.samples} samples: ` +
    `${counts.kept} kept, ${counts.dropped} dropped, ${counts.open} open`;
}
function add(row) {
  const article = element("article", { "data-sample": row.sample, "data-keep": row.keep });
  const head = element("div", {});
  head.append(element("b", {}, "#" + row.sample));
  head.append(element("span", {}, [row.slide, row.position, row.type].filter(Boolean).join(" · ")));
  for (const flag of (row.flags || "").split(";").filter(Boolean))
    head.append(element("span", { class: "flag" }, flag));
  const reason = row.excluded && "left out: " + row.excluded.replaceAll(";", ", ");
  if (reason) head.append(element("span", { class: "excluded" }, reason));
  const facts = page.facts.filter((name) => typeof row[name] === "number");
  const texts = facts.map((name) => `${name} ${Number(row[name].toPrecision(4))}`);
  head.append(element("span", { class: "facts" }, texts.join("  ")));
  const buttons = element("span", { class: "decision" });
  for (const [keep, text] of [["yes", "Keep"], ["no", "Drop"]]) {
    const button = element("button", { class: keep }, text);
    button.addEventListener("click", () => { point(article); decide(article, keep); });
    buttons.append(button);
  }
  head.append(buttons);
  const strip = element("div", { class: "strip" });
  const captions = element("div", { class: "captions" });
  for (const caption of page.captions) captions.append(element("span", {}, caption));
  strip.style.display = "block";
  strip.append(element("img", { src: source.picture(row), loading: "lazy",
    alt: "sample " + row.sample + ": " + page.captions.join(", ") }), captions);
  article.append(head, strip);
  list.append(article);
  shown.set(article, row);
}
async function load(fresh) {
  try {
    if (fresh) { list.replaceChildren(); shown.clear(); current = null; }
    const got = await source.select(asked(), shown.size);
    for (const row of got.rows) add(row);
    tell(got.counts);
    more.hidden = shown.size >= got.found;
    more.textContent = `More (${shown.size} of ${got.found})`;
    say(got.found ? "" : "No sample is left under these conditions.");
    if (fresh && list.firstChild) point(list.firstChild);
  } catch (error) { say(String(error.message || error)); }
}
async function decide(article, keep) {
  const row = shown.get(article);
  const wanted = row.keep === keep ? "" : keep;
  try {
    const got = await source.decide(row, wanted);
    row.keep = wanted;
    article.dataset.keep = wanted;
    tell(got.counts);
    say("");
    return true;
  } catch (error) {
    if (error.status === 409) await load(true);
    say(String(error.message || error));
    return false;
  }
}
function point(article) {
  if (current) current.classList.remove("current");
  current = article;
  current.classList.add("current");
  current.scrollIntoView({ block: "nearest" });
}
function move(step) {
  const next = step > 0 ? current?.nextElementSibling : current?.previousElementSibling;
  if (next) point(next);
  else if (step > 0 && !more.hidden) load(false).then(() => current?.nextElementSibling && move(1));
}
document.addEventListener("keydown", async (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const keep = { k: "yes", d: "no" }[event.key.toLowerCase()];
  const step = { ArrowDown: 1, ArrowUp: -1, j: 1, i: -1 }[event.key];
  if (keep && current && shown.has(current)) {
    event.preventDefault();
    if (await decide(current, keep)) move(1);
  } else if (step) { event.preventDefault(); move(step); }
});
more.addEventListener("click", () => load(false));
for (const field of document.querySelectorAll("select")) {
  field.addEventListener("change", () => load(true));
}
document.getElementById("save")?.addEventListener("click", () => file.save());
if (page.rows) {
  const stored = JSON.parse(localStorage.getItem(file.key) || "{}");
  for (const row of page.rows) row.keep = stored[row.sample] ?? row.keep;
}
load(true);
"""

STEP = 25
"""Samples that are shown at a time."""


def served_page(review: Review, start: Query) -> str:
    """The page that asks its server for samples and sends it decisions."""
    directions = [("yes", "largest first"), ("no", "smallest first")]
    orders = [(name, name) for name in (FLAGS_FIRST, *review.measures)]
    controls = _select("order", "Order", orders, start.order) + _select(
        "largest", "", directions, "yes" if start.largest_first else "no"
    )
    chosen = {"slide": start.slide, "flag": start.flag, "state": start.state}
    return _page(review, controls + _filters(review, chosen), {"facts": _facts(review)})


def write_page(review: Review, path: Path, query: Query, most: int) -> int:
    """Write the page as one file with its samples inside; how many there are.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    numbers = review.select(query)[:most]
    rows = [review.row(number) | {"picture": _embedded(review, number)} for number in numbers]
    content = {
        "rows": rows,
        "step": STEP,
        "facts": _facts(review),
        "naming": [name for name in NAMING if name in review.data.table.columns],
        "identity": f"{review.data.path.name} {len(review.data)}",
    }
    save = '<button id="save">Save decisions</button>'
    write_whole(path, _page(review, _filters(review, {}) + save, content))
    return len(rows)


def _embedded(review: Review, number: int) -> str:
    return "data:image/png;base64," + base64.b64encode(review.picture(number)).decode()


def _facts(review: Review) -> list[str]:
    """Measures that are written beside each sample; places say nothing of its quality."""
    return [name for name in review.measures if not name.endswith(("_um", "_x", "_y"))]


def _verdicts(review: Review) -> str:
    """A line for each slide that quality control has rejected."""
    return "".join(
        f'<p class="rejected"><span class="excluded">slide {escape(str(verdict["slide"]))} '
        f"rejected</span> {escape('; '.join(verdict['reasons']))}</p>"
        for verdict in review.data.verdicts
        if not verdict["accepted"]
    )


def _filters(review: Review, chosen: Mapping[str, str]) -> str:
    flags = [(name, f"{name} ({count})") for name, count in sorted(review.flags.items())]
    states = [(name, name) for name in ("open", "kept", "dropped", "excluded")]
    parts = [("state", "Decision", states)]
    if flags:
        parts.insert(0, ("flag", "Flag", flags))
    if len(review.slides) > 1:
        parts.insert(0, ("slide", "Slide", [(name, name) for name in review.slides]))
    return "".join(
        _select(name, label, [("", "all"), *choices], chosen.get(name, ""))
        for name, label, choices in parts
    )


def _select(name: str, label: str, choices: list[tuple[str, str]], chosen: str) -> str:
    options = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(text)}'
        "</option>"
        for value, text in choices
    )
    return f'<label>{label} <select id="{name}">{options}</select></label>'


def _page(review: Review, controls: str, content: dict[str, object]) -> str:
    name = escape(review.data.path.name)
    # "</" would end the script element early.
    values = json.dumps(content | {"captions": review.captions}).replace("</", "<\\/")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Review of {name}</title><style>{_STYLE}</style></head><body>"
        f"<header><h1>{name}</h1>{controls}"
        "<span><kbd>K</kbd> keep <kbd>D</kbd> drop <kbd>↑</kbd> <kbd>↓</kbd> move</span>"
        '<span id="counts"></span><div id="problem" role="alert"></div></header>'
        f"<main>{_verdicts(review)}"
        '<div id="samples"></div><button id="more" hidden></button></main>'
        f'<script type="application/json" id="page">{values}</script>'
        f"<script>{_SCRIPT}</script></body></html>"
    )
