// One answer on the page: its tokens by who wrote them, and its figures.

import { element } from "./dom.js";
import { Table } from "./table.js";

const WRITERS = { drafter: "drafter, accepted", target: "target" };

export class Answer {
  text = "";
  #place;
  #text = element("p", { class: "answer", dir: "auto" });
  #figures = element("dl", { class: "figures" });
  #details = element("details");
  #table;
  #tokens = [];
  #begunMs = 0;
  #firstMs = null;
  #endMs = null;
  #usage = null;
  #choice = null;

  constructor(place) {
    this.#place = place;
    this.#table = new Table(`Tokens, ${place.querySelector("h3").textContent}`, ["number", "text", "written by"]);
    this.#details.append(element("summary", {}, "Tokens as a table"), this.#table.place);
    place.append(this.#text, this.#figures, this.#details);
    this.begin();
  }

  /** Forget the answer before. */
  begin() {
    this.text = "";
    this.#tokens = [];
    this.#begunMs = performance.now();
    this.#firstMs = this.#endMs = this.#usage = this.#choice = null;
    this.#text.replaceChildren();
    this.#details.hidden = true;
    this.#details.open = false;
    this.#place.dataset.state = "empty";
    this.#showFigures();
  }

  /** Take an object of the stream. */
  add(told) {
    if (told.usage) this.#usage = told.usage;
    const ours = told.polydraft?.choices[0];
    if (ours?.speculation) this.#choice = ours;
    const text = told.choices[0]?.text ?? "";
    const tokens = ours?.tokens ?? [];
    if (tokens.length) this.#firstMs ??= performance.now();
    const known = tokens.reduce((length, token) => length + token.text.length, 0);
    this.#text.append(...tokens.map(piece), text.slice(known)); // the rest was held back, and no token is its own
    this.text += text;
    this.#tokens.push(...tokens);
    this.#place.dataset.state = "streaming";
  }

  /** The answer is over; `isWhole`: nothing is missing of it. */
  end(isWhole) {
    this.#endMs = performance.now();
    this.#place.dataset.state = isWhole ? "whole" : "broken";
    this.#showFigures();
    this.#table.show(this.#tokens.map(({ text, source }, index) => [String(index + 1), text, WRITERS[source]]));
    this.#details.hidden = this.#tokens.length === 0;
  }

  /** In a sentence. */
  get summary() {
    const drafted = this.#tokens.filter((token) => token.source === "drafter").length;
    return `${this.#tokens.length} tokens, ${drafted} of them drafted, ${this.#speed()} tokens a second`;
  }

  #speed() {
    const seconds = (this.#endMs - this.#begunMs) / 1000;
    return this.#endMs && seconds > 0 ? (this.#tokens.length / seconds).toFixed(1) : "–";
  }

  #showFigures() {
    const { rounds = 0, drafted = 0, accepted = 0 } = this.#choice?.speculation ?? {};
    const count = this.#usage?.completion_tokens ?? this.#tokens.length;
    const figures = {
      "tokens/s": this.#speed(),
      "tokens a round": rounds ? (count / rounds).toFixed(2) : "–",
      acceptance: drafted ? `${Math.round((100 * accepted) / drafted)} %` : "–",
      "first token": this.#firstMs ? `${Math.round(this.#firstMs - this.#begunMs)} ms` : "–",
      tokens: String(count),
      "language, drafter": this.#choice ? `${this.#choice.language}, ${this.#choice.drafter}` : "–",
    };
    const pairs = Object.entries(figures).map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", { "data-figure": name }, value)),
    );
    this.#figures.replaceChildren(...pairs);
  }
}

function piece({ text, source }) {
  return element("span", { class: `token ${source}`, title: WRITERS[source] }, text);
}
