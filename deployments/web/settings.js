// The form: kept in this tab until it is closed, keys too; never in the address.

import { byId } from "./dom.js";

const NAME = "polydraft-form";
const MAX_SEED = 1e15;

const form = byId("ask");
const fields = () => [...form.elements].filter((field) => field.name);

/** Put back what the tab remembers. Choices that came from the cluster are put back when they are there. */
export function restore() {
  const kept = JSON.parse(sessionStorage.getItem(NAME) ?? "{}");
  for (const field of fields()) {
    if (!(field.name in kept)) continue;
    if (field.type === "checkbox") field.checked = kept[field.name];
    else if (field.tagName !== "SELECT" || [...field.options].some((option) => option.value === kept[field.name]))
      field.value = kept[field.name];
  }
}

export function keep() {
  const values = fields().map((field) => [field.name, field.type === "checkbox" ? field.checked : field.value]);
  sessionStorage.setItem(NAME, JSON.stringify(Object.fromEntries(values)));
}

export const caller = () => ({ tenant: byId("tenant").value.trim(), key: byId("key").value.trim() });

/** Who asks for figures: the operator, if a key of one is given. */
export function watcher() {
  const key = byId("operator_key").value.trim();
  return key ? { tenant: "", key } : caller();
}

/** What both answers are asked with; a seed is drawn if none is given. */
export function question(model) {
  const seed = byId("seed").value || String(Math.floor(Math.random() * MAX_SEED));
  return {
    model,
    prompt: byId("prompt").value,
    language: byId("language").value,
    temperature: Number(byId("temperature").value),
    max_tokens: Number(byId("max_tokens").value),
    seed: Number(seed),
  };
}
