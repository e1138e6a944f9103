// Usage: node stream.mjs MAX_AGE, with jobs on standard input, a line of JSON each:
//
//   {"id", "issuer", "audience", "url": of a JWK Set, "token"}
//
// jose verifies each token with the set of its URL, which it keeps for MAX_AGE seconds, and answers with a line:
//
//   {"id", "outcome": "accepted", "refused", "expired" or "no set", "detail"}

import { createInterface } from "node:readline";
import { open } from "./jose.mjs";

const cacheMaxAge = Number(process.argv[2]) * 1000;
// What jose and fetch throw where the set cannot be read.
const NO_SET = new Set(["ERR_JWKS_TIMEOUT", "ERR_JOSE_GENERIC", undefined]);
const opened = new Map();

async function judge({ url, issuer, audience, token }) {
  if (!opened.has(url)) {
    const options = { cacheMaxAge, timeoutDuration: 1000 };
    opened.set(url, await open({ url, issuer, audience, algorithms: ["ES256", "ES384"], options }));
  }
  try {
    await opened.get(url).verify(token);
    return ["accepted", ""];
  } catch (error) {
    if (error.code === "ERR_JWT_EXPIRED") return ["expired", ""];
    return [NO_SET.has(error.code) ? "no set" : "refused", String(error.code ?? error.name)];
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  const [outcome, detail] = await judge(job);
  console.log(JSON.stringify({ id: job.id, outcome, detail }));
}
