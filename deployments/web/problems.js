// What went wrong, for people.

/** Says what is wrong and what to do. `status` is HTTP's, 0 where there was no answer. */
export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export const unreachable = () =>
  new Problem("The cluster does not answer. Your prompt is kept: ask again when it is back.");

export const brokenOff = () =>
  new Problem("The stream broke off before its end. What came stays; ask again, with the same seed for the same text.");

/** What a refusal says. */
export async function problemOf(response) {
  const told = messageOf(await response.text());
  const wait = response.headers.get("retry-after");
  const again = wait ? ` Try again in ${wait} s.` : "";
  switch (response.status) {
    case 401:
      return new Problem("Unknown tenant or wrong key: look at “Tenant and keys”.", 401);
    case 429:
      return new Problem(`A limit is reached: ${told}.${again || " Try again later."}`, 429);
    case 503:
      return new Problem(`No replica can answer now: ${told}.${again || " Try again later."}`, 503);
    default:
      return new Problem(`Refused (${response.status}): ${told}`, response.status);
  }
}

function messageOf(body) {
  try {
    return JSON.parse(body).error.message;
  } catch {
    return body.slice(0, 200) || "no reason was told";
  }
}
