// What screen readers are told: the last of several messages, at most one every two seconds.

import { byId } from "./dom.js";

const EVERY_MS = 2000;
let waiting = "";
let timer = 0;

export function announce(message) {
  waiting = message;
  if (!timer) tell();
}

function tell() {
  timer = 0;
  if (!waiting) return;
  byId("announcer").textContent = waiting;
  waiting = "";
  timer = setTimeout(tell, EVERY_MS);
}
