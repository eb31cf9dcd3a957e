// A table with a caption, in a place of its own that scrolls and can be scrolled by keys.

import { element } from "./dom.js";

export class Table {
  #body = element("tbody");

  constructor(caption, header) {
    const cells = header.map((text) => element("th", { scope: "col" }, text));
    const head = element("thead", {}, element("tr", {}, ...cells));
    const inside = element("table", {}, element("caption", {}, caption), head, this.#body);
    this.place = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, inside);
  }

  /** These rows alone; the first cell of each names it. The place stays, and so does the focus on it. */
  show(rows) {
    this.#body.replaceChildren(...rows.map((row) => element("tr", {}, ...row.map(cell))));
  }
}

function cell(text, index) {
  const content = element("bdi", {}, text);
  return index === 0 ? element("th", { scope: "row" }, content) : element("td", {}, content);
}
