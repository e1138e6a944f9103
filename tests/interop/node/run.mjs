// Usage: node run.mjs LIBRARY, with a job on standard input:
//
//   {"url": of a JWK Set, "issuer", "audience", "algorithms": [...], "tokens": {name: token}}
//
// It prints {"keys": [kids that the library can use], "results": {name: {"claims"} or {"error", "message", "claim"}}}.

import { json } from "node:stream/consumers";

const library = await import(`./${process.argv[2]}.mjs`);
const job = await json(process.stdin);
const { keys, verify } = await library.open(job);

async function judge(token) {
  try {
    return { claims: await verify(token) };
  } catch (error) {
    return { error: error.code ?? error.name, message: error.message, claim: error.claim };
  }
}

const results = {};
for (const [name, token] of Object.entries(job.tokens)) {
  results[name] = await judge(token);
}
console.log(JSON.stringify({ keys: await keys(), results }));
