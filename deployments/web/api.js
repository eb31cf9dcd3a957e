// Calls of the cluster that served this page. Keys travel in headers only.

import { brokenOff, Problem, problemOf, unreachable } from "./problems.js";

async function call(path, { tenant, key }, options = {}) {
  const headers = { ...options.headers };
  if (tenant) headers["polydraft-tenant"] = tenant;
  if (key) headers.authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreachable();
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** A JSON document. */
export async function read(path, caller, signal) {
  return await (await call(path, caller, { signal })).json();
}

/** The objects of a streamed completion, as they come. */
export async function* completion(body, caller, signal) {
  const response = await call("v1/completions", caller, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, token_sources: true, stream_options: { include_usage: true } }),
    signal,
  });
  for await (const line of lines(response.body)) {
    if (line === "data: [DONE]") return;
    if (!line.startsWith("data: ")) continue;
    const told = JSON.parse(line.slice("data: ".length));
    if (told.error) throw new Problem(`The answer ended: ${told.error.message}. What came stays; ask again.`);
    yield told;
  }
  throw brokenOff();
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      yield* parts;
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw brokenOff();
  } finally {
    reader.cancel().catch(() => {});
  }
}
