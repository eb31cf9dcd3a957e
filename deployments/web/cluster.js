// What the cluster does: asked again and again while somebody looks, one question at a time.

import { read } from "./api.js";
import { Chart } from "./chart.js";
import { byId } from "./dom.js";
import { watcher } from "./settings.js";
import { Table } from "./table.js";

const AFTER_FAILURE_MS = 3000;
const OWN_ONLY =
  "These are your own figures. Those of languages, tiers and other tenants are shown to the operator’s key.";

const whole = (value) => value.toLocaleString("en", { maximumFractionDigits: 0 });
const fine = (value) => value.toLocaleString("en", { maximumFractionDigits: 2 });
const percent = (value) => `${whole(100 * value)} %`;
const milliseconds = (seconds) => whole(1000 * seconds);
const maybe = (format, value) => (value === null ? "–" : format(value));

export function followCluster() {
  const charts = byId("charts");
  const views = [
    languageView(charts),
    roundView(charts),
    tierView(charts),
    sessionView(charts),
    replicaView(),
    tenantView(charts),
  ];
  byId("pause").addEventListener("click", () => {
    const isPaused = byId("pause").getAttribute("aria-pressed") !== "true";
    byId("pause").setAttribute("aria-pressed", String(isPaused));
    wake();
  });
  document.addEventListener("visibilitychange", () => wake());
  byId("who").addEventListener("change", () => {
    asking.abort(); // what is under way is for another caller
    wake();
  });
  follow(views);
}

let asking = new AbortController();
let wake = () => {};
const woken = (ms) =>
  new Promise((resolve) => {
    wake = resolve;
    if (ms) setTimeout(resolve, ms);
  });
const isWatched = () => !document.hidden && byId("pause").getAttribute("aria-pressed") !== "true";

async function follow(views) {
  while (true) {
    if (!isWatched()) {
      byId("cluster-state").textContent = "Paused.";
      await woken();
      continue;
    }
    try {
      asking = new AbortController();
      const figures = await read("console/figures", watcher(), asking.signal);
      if (!isWatched()) continue;
      byId("cluster-state").textContent = summary(figures);
      byId("everything").hidden = !figures.tiers;
      views.forEach((show) => show(figures));
    } catch (error) {
      if (error.name === "AbortError") continue;
      byId("cluster-state").textContent = `No figures: ${error.message}`;
      views.forEach((show) => show({}));
      await woken(AFTER_FAILURE_MS);
    }
  }
}

function summary(figures) {
  if (!figures.tiers) return OWN_ONLY;
  const { tokens_per_s, calls_per_s, failed_per_s, open_streams, missing } = figures;
  const now =
    `${whole(tokens_per_s)} tokens/s, ${fine(calls_per_s)} calls/s, ${fine(failed_per_s)} failed/s, ` +
    `${whole(open_streams)} open streams.`;
  return [now, ...missing.map((sentence) => `Not whole: ${sentence}.`)].join(" ");
}

const valuesOf = (rows, name, value) => rows && Object.fromEntries(rows.map((row) => [row[name], value(row)]));

function languageView(charts) {
  const chart = new Chart(charts, "Tokens a second by language", fine, 0);
  const table = new Table("Languages", ["language", "tokens/s", "tokens a round", "acceptance", "first token, ms"]);
  byId("languages").append(table.place);
  return ({ languages }) => {
    chart.add(valuesOf(languages, "language", (one) => one.tokens_per_s));
    table.show(
      (languages ?? []).map((one) => [
        one.language,
        fine(one.tokens_per_s),
        maybe(fine, one.tokens_per_round),
        maybe(percent, one.acceptance),
        maybe(milliseconds, one.first_token_s),
      ]),
    );
  };
}

function roundView(charts) {
  const chart = new Chart(charts, "Tokens a round by language", fine, null);
  return ({ languages }) => chart.add(valuesOf(languages, "language", (one) => one.tokens_per_round));
}

function tierView(charts) {
  const chart = new Chart(charts, "Replicas by tier", fine, 0);
  const table = new Table("Tiers", ["tier", "replicas", ...LOAD]);
  byId("tiers").append(table.place);
  return ({ tiers }) => {
    chart.add(valuesOf(tiers, "tier", (one) => one.replicas.length));
    table.show((tiers ?? []).map((one) => [one.tier, whole(one.replicas.length), ...loadCells(one.load, one.unit)]));
  };
}

function sessionView(charts) {
  const chart = new Chart(charts, "Sessions by tier", fine, 0);
  return ({ tiers }) => chart.add(valuesOf(tiers, "tier", (one) => one.load.sessions));
}

function replicaView() {
  const table = new Table("Replicas", ["replica", "tier", ...LOAD]);
  byId("replicas").append(table.place);
  return ({ tiers }) =>
    table.show(
      (tiers ?? []).flatMap((tier) =>
        tier.replicas.map((one) => [one.replica, tier.tier, ...loadCells(one.load, tier.unit)]),
      ),
    );
}

function tenantView(charts) {
  const chart = new Chart(charts, "Tokens a second by tenant", fine, 0);
  const table = new Table("Tenants", ["tenant", "tokens/s", "calls/s", "open streams", "limits hit/s"]);
  byId("tenants").append(table.place);
  return ({ tenants }) => {
    chart.add(valuesOf(tenants, "tenant", (one) => one.tokens_per_s));
    table.show(
      (tenants ?? []).map((one) => [
        one.tenant,
        fine(one.tokens_per_s),
        fine(one.calls_per_s),
        whole(one.open_streams),
        fine(one.limits_per_s),
      ]),
    );
  };
}

const LOAD = ["sessions", "queue", "KV held", "engine waits", "speed"];

const loadCells = (load, unit) => [
  whole(load.sessions),
  maybe(whole, load.queue),
  maybe(percent, load.kv_held),
  maybe(percent, load.waiting),
  `${fine(load.speed)} ${unit}`,
];
