// Lines over the last two minutes, each with a colour and a pattern of its own.

import { drawn, element } from "./dom.js";

const NUM_POINTS = 60;
const NUM_LINES = 6;
const WIDTH = 300;
const HEIGHT = 100;

export class Chart {
  #drawing = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  #top = element("span");
  #legend = element("ul", { class: "keys" });
  #points = [];
  #places = new Map(); // of names, so that a line keeps its colour
  #title;
  #format;
  #absent;

  /** `absent` is the value of names that a moment does not tell: 0, or null for a gap. */
  constructor(parent, title, format, absent) {
    this.#title = title;
    this.#format = format;
    this.#absent = absent;
    const range = element("p", { class: "range" }, this.#top, element("span", {}, "last 2 minutes"));
    const figure = element("figure", {}, element("figcaption", {}, title), range, this.#drawing, this.#legend);
    parent.append(figure);
    this.#draw();
  }

  /** One moment: an object of names and values; without it nothing is known, which leaves a gap. */
  add(values) {
    this.#points = [...this.#points, values ?? null].slice(-NUM_POINTS);
    this.#draw();
  }

  #draw() {
    const names = this.#shownNames();
    const value = (point, name) => (point === null ? null : (point[name] ?? this.#absent));
    const top = niceTop(Math.max(0, ...names.flatMap((name) => this.#points.map((point) => value(point, name) ?? 0))));
    this.#top.textContent = this.#format(top);
    const lines = names.map((name) => {
      const d = outline(this.#points.map((point) => value(point, name)), top);
      return drawn("path", { d, class: `line series-${this.#places.get(name)}` });
    });
    const axis = drawn("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT });
    this.#drawing.replaceChildren(axis, ...lines);

    const last = this.#points.at(-1) ?? null;
    const texts = names.map((name) => `${name} ${value(last, name) === null ? "–" : this.#format(value(last, name))}`);
    this.#drawing.setAttribute("aria-label", `${this.#title}: ${texts.join(", ") || "nothing yet"}`);
    this.#legend.replaceChildren(...names.map((name, index) => this.#key(name, texts[index])));
  }

  /** Names keep their lines; where there are too many, one that is at 0 gives way to one that is not. */
  #shownNames() {
    const told = this.#points.flatMap((point) => Object.entries(point ?? {}));
    const names = [...new Set(told.map(([name]) => name))];
    const busy = new Set(told.filter(([, value]) => value).map(([name]) => name));
    for (const name of this.#places.keys()) if (!names.includes(name)) this.#places.delete(name);
    for (const name of [...busy, ...names]) {
      if (this.#places.has(name)) continue;
      if (this.#places.size === NUM_LINES && busy.has(name)) this.#makeRoom(busy);
      const taken = new Set(this.#places.values());
      const free = [...Array(NUM_LINES).keys()].find((place) => !taken.has(place));
      if (free !== undefined) this.#places.set(name, free);
    }
    return [...this.#places.keys()];
  }

  #makeRoom(busy) {
    const idle = [...this.#places.keys()].find((name) => !busy.has(name));
    if (idle !== undefined) this.#places.delete(idle);
  }

  #key(name, text) {
    const line = drawn("path", { d: "M0 3 H32", class: `line series-${this.#places.get(name)}` });
    return element("li", {}, drawn("svg", { viewBox: "0 0 32 6", "aria-hidden": "true" }, line), ` ${text}`);
  }
}

function outline(values, top) {
  const step = WIDTH / (NUM_POINTS - 1);
  const first = NUM_POINTS - values.length;
  let isOpen = false;
  return values
    .map((value, index) => {
      const command = isOpen ? "L" : "M";
      isOpen = value !== null;
      if (!isOpen) return "";
      return `${command}${((first + index) * step).toFixed(1)} ${(HEIGHT * (1 - value / top)).toFixed(1)}`;
    })
    .join("");
}

/** 1, 2 or 5 times a power of ten, not below the value. */
function niceTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value);
}
