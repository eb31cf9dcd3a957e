// Light or dark: as the system, unless this browser was told otherwise.

import { byId } from "./dom.js";

const NAME = "polydraft-theme";

export function followTheme() {
  const choice = byId("theme");
  choice.value = localStorage.getItem(NAME) ?? "auto";
  const show = () => (document.documentElement.dataset.theme = choice.value);
  choice.addEventListener("change", () => {
    localStorage.setItem(NAME, choice.value);
    show();
  });
  show();
}
