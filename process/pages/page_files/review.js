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
  picture(row) { return "picture/" + row.sample + ".webp"; },
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
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    link.click();
  },
};
const source = page.rows ? file : served;

function tell(counts) {
  document.getElementById("counts").textContent = `${counts.samples} samples: ` +
    `${counts.kept} kept, ${counts.dropped} dropped, ${counts.open} open`;
}
/* Numbers as people read them. */
function short(value) { return String(Number(value.toPrecision(4))); }

/* Each measure that failed, with its limit; a flag without a measure by its meaning alone. */
function findings(row) {
  const list = element("ul", { class: "findings" });
  for (const found of row.findings) {
    const item = element("li", {});
    item.append(element("span", { class: "flag" }, found.flag.replaceAll("_", " ")));
    item.append(` ${found.meaning}`);
    if (found.measure) {
      const bound = found.is_upper ? "at most" : "at least";
      const unit = found.unit && ` ${found.unit}`;
      item.append(": ", element("code", {}, found.measure), " ",
        element("b", {}, short(found.value) + unit), `, ${bound} ${short(found.limit)}${unit}`);
    }
    if (found.frames) item.append(`, in ${found.frames.split(" ").join(" and ")}`);
    if (found.place && page.images.includes(found.place.image)) item.append(", outlined");
    list.append(item);
  }
  return list;
}
function measures(row) {
  const folded = element("details", {});
  const known = page.facts.filter((name) => typeof row[name] === "number");
  folded.append(element("summary", {}, `All ${known.length} measures`));
  const list = element("dl", {});
  for (const name of known) {
    const cell = element("div", {});
    const unit = page.units[name] && ` ${page.units[name]}`;
    cell.append(element("dt", {}, name), element("dd", {}, short(row[name]) + (unit || "")));
    list.append(cell);
  }
  folded.append(list);
  return folded;
}

/* Scale bars, and outlines of what was found, over the images of a sample. */
function overlay(row) {
  const space = "http://www.w3.org/2000/svg", side = page.crop_px;
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("viewBox", `0 0 ${side * page.images.length} ${side}`);
  const draw = (kind, attributes) => {
    const shape = document.createElementNS(space, kind);
    for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
    drawing.append(shape);
  };
  page.images.forEach((name, index) => {
    draw("rect", { class: "bar", x: side * (index + 0.95) - page.bar_px, y: side * 0.92,
      width: page.bar_px, height: side * 0.03 });
    const concerned = row.findings.some((found) => found.frames.split(" ").includes(name));
    if (concerned) draw("rect", { class: "place", x: side * index + 1, y: 1, width: side - 2,
      height: side - 2 });
  });
  for (const { place } of row.findings) {
    const index = place ? page.images.indexOf(place.image) : -1;
    if (index >= 0) draw("rect", { class: "place", x: side * index + place.left, y: place.top,
      width: place.width, height: place.height, rx: 2 });
  }
  return drawing;
}
function add(row) {
  const article = element("article", { "data-sample": row.sample, "data-keep": row.keep });
  const head = element("div", { class: "head" });
  head.append(element("b", {}, "#" + row.sample));
  head.append(element("span", {}, [row.slide, row.position, row.type].filter(Boolean).join(" · ")));
  const reason = row.excluded && "left out: " + row.excluded.replaceAll(";", ", ");
  if (reason) head.append(element("span", { class: "excluded" }, reason));
  const buttons = element("span", { class: "decision" });
  for (const [keep, text] of [["yes", "Keep"], ["no", "Drop"]]) {
    const button = element("button", { class: keep }, text);
    button.addEventListener("click", () => { point(article); decide(article, keep); });
    buttons.append(button);
  }
  head.append(buttons);
  const strip = element("div", { class: "strip" });
  const shownImages = element("div", { class: "images" });
  shownImages.append(element("img", { src: source.picture(row), loading: "lazy",
    alt: "sample " + row.sample + ": " + page.captions.join(", ") }), overlay(row));
  const captions = element("div", { class: "captions" });
  for (const caption of page.captions) captions.append(element("span", {}, caption));
  strip.append(shownImages, captions);
  strip.style.width = `${128 * page.images.length}px`;
  article.append(head, findings(row), strip, measures(row));
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
  if (event.ctrlKey || event.metaKey || event.altKey || /^(SELECT|SUMMARY)$/.test(event.target.tagName)) return;
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
