"use strict";

/* Images of one place as one picture: each divider is the left edge of the image to its right. */
function compare(figure) {
  const stage = figure.querySelector(".layers");
  const layers = [...stage.querySelectorAll(".layer")];
  const names = layers.map((layer) => layer.querySelector("span").textContent);
  const evenly = layers.slice(1).map((_, index) => (100 * (index + 1)) / layers.length);
  let cuts = [...evenly];

  const dividers = evenly.map((_, index) => {
    const divider = document.createElement("div");
    divider.className = "divider";
    divider.tabIndex = 0;
    divider.setAttribute("role", "slider");
    divider.setAttribute("aria-label", `border between ${names[index]} and ${names[index + 1]}`);
    divider.setAttribute("aria-valuemin", "0");
    divider.setAttribute("aria-valuemax", "100");
    divider.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 10 : 2;
      const moves = { ArrowLeft: -step, ArrowDown: -step, ArrowRight: step, ArrowUp: step,
        Home: -100, End: 100 };
      if (!(event.key in moves)) return;
      event.preventDefault();
      move(index, cuts[index] + moves[event.key]);
    });
    stage.append(divider);
    return divider;
  });

  const choices = document.createElement("div");
  choices.className = "choices";
  const views = [["all", evenly], ...names.map((name, shown) =>
    [`${name} only`, evenly.map((_, index) => (index < shown ? 0 : 100))])];
  const buttons = views.map(([text, view]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", () => { cuts = [...view]; show(); });
    choices.append(button);
    return button;
  });
  stage.after(choices);

  function move(index, wanted) {
    const place = Math.min(100, Math.max(0, wanted));
    cuts = cuts.map((cut, other) =>
      other === index ? place : other < index ? Math.min(cut, place) : Math.max(cut, place));
    show();
  }

  function show() {
    const edges = [0, ...cuts, 100];
    layers.forEach((layer, index) => {
      const label = layer.querySelector("span");
      layer.style.clipPath = index
        ? `inset(0 ${100 - edges[index + 1]}% 0 ${edges[index]}%)`
        : "none";
      label.style.left = `calc(${edges[index]}% + 10px)`;
      label.style.visibility = edges[index + 1] - edges[index] < 14 ? "hidden" : "visible";
    });
    dividers.forEach((divider, index) => {
      divider.style.left = `${cuts[index]}%`;
      divider.setAttribute("aria-valuenow", String(Math.round(cuts[index])));
    });
    buttons.forEach((button, index) => {
      button.setAttribute("aria-pressed", String(String(views[index][1]) === String(cuts)));
    });
  }

  function share(event) {
    const box = stage.getBoundingClientRect();
    return (100 * (event.clientX - box.left)) / box.width;
  }
  /* Of dividers in one place that one which can still move that way. */
  function nearest(place) {
    const gaps = cuts.map((cut) => Math.abs(cut - place));
    const least = Math.min(...gaps);
    return place < cuts[gaps.indexOf(least)] ? gaps.indexOf(least) : gaps.lastIndexOf(least);
  }
  let held = null;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    const place = share(event);
    held = nearest(place);
    stage.setPointerCapture(event.pointerId);
    move(held, place);
    dividers[held].focus({ preventScroll: true });
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => { if (held !== null) move(held, share(event)); });
  for (const name of ["pointerup", "pointercancel"])
    stage.addEventListener(name, () => { held = null; });

  figure.classList.add("live");
  show();
}

/* A picture fills the window until it is clicked again, or Escape is pressed. */
function shrink() {
  const large = document.querySelector("figure.large");
  if (!large) return;
  large.classList.remove("large");
  large.parentElement.style.minHeight = "";
  large.querySelector("a.view, a.enlarge")?.focus({ preventScroll: true });
}
function toggle(figure) {
  const open = figure.classList.contains("large");
  shrink();
  if (open) return;
  /* The page behind must keep its height, so that it is where it was afterwards. */
  figure.parentElement.style.minHeight = `${figure.parentElement.offsetHeight}px`;
  figure.classList.add("large");
}

for (const figure of document.querySelectorAll("figure.compare")) compare(figure);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.view, a.enlarge, a.close");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  toggle(link.closest("figure"));
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") shrink(); });
