// The page: one question, answered with drafts and without.

import { announce } from "./announcer.js";
import { Answer } from "./answer.js";
import { completion, read } from "./api.js";
import { followCluster } from "./cluster.js";
import { byId, element } from "./dom.js";
import { offerExamples } from "./examples.js";
import { caller, keep, question, restore } from "./settings.js";
import { followTheme } from "./theme.js";

const drafted = new Answer(byId("drafted"));
const plain = new Answer(byId("plain"));
let running = null;

/** What this tenant may choose; false, with the reason on the page, if the cluster does not say. */
async function learnChoices() {
  try {
    const { model, languages, drafters } = await read("console/choices", caller());
    byId("ask").dataset.model = model;
    offer("language", languages);
    offer("drafter", drafters);
    restore();
    return true;
  } catch (error) {
    tell(error);
    return false;
  }
}

/** The choices that the page always has stay as they are, and so does what is chosen. */
function offer(id, names) {
  [...byId(id).options].filter((option) => option.dataset.told).forEach((option) => option.remove());
  byId(id).append(...names.map((name) => element("option", { "data-told": "yes" }, name)));
}

function tell(error) {
  byId("problem").textContent = error?.message ?? "";
  if (error?.status === 401) byId("who").open = true;
}

async function ask() {
  if (running) return;
  tell(null);
  running = new AbortController();
  setRunning(true);
  byId("verdict").textContent = "";
  [drafted, plain].forEach((answer) => answer.begin());
  try {
    if (!byId("ask").dataset.model && !(await learnChoices())) return;
    const asked = question(byId("ask").dataset.model);
    const speculation = byId("drafter").value;
    const both = [() => write(drafted, { ...asked, speculation }), () => write(plain, { ...asked, speculation: "off" })];
    announce("Answering");
    if (byId("together").checked) await Promise.all(both.map((one) => one()));
    else for (const one of both) await one();
    compare(asked.seed);
  } catch (error) {
    if (error.name === "AbortError") announce("Stopped");
    else tell(error);
  } finally {
    running.abort(); // where one of two failed, nobody waits for the other
    running = null;
    setRunning(false);
  }
}

async function write(answer, body) {
  let isWhole = false;
  answer.begin();
  try {
    for await (const told of completion(body, caller(), running.signal)) answer.add(told);
    isWhole = true;
  } finally {
    answer.end(isWhole);
  }
}

function compare(seed) {
  const same = drafted.text === plain.text;
  byId("verdict").textContent = `${same ? "The texts are identical" : "The texts differ"} (seed ${seed}).`;
  announce(`${byId("verdict").textContent} ${drafted.text} With drafts: ${drafted.summary}. Without: ${plain.summary}.`);
}

/** Focus stays where it is: a button that has it is not disabled under it without a successor. */
function setRunning(isRunning) {
  const focused = document.activeElement;
  byId("send").disabled = isRunning;
  byId("stop").disabled = !isRunning;
  if (focused === byId("send") && isRunning) byId("stop").focus();
  if (focused === byId("stop") && !isRunning) byId("send").focus();
}

followTheme();
offerExamples();
restore();
byId("ask").addEventListener("input", keep);
byId("ask").addEventListener("change", (event) => {
  keep();
  if (["tenant", "key"].includes(event.target.id)) learnChoices().then((known) => known && tell(null));
});
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
byId("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
});
byId("stop").addEventListener("click", () => running?.abort());
learnChoices();
followCluster();
