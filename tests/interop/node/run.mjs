// Usage: node run.mjs LIBRARY, with jobs on standard input, a list of
//
//   {"url": of a JWK Set, "issuer", "audience", "algorithms": [...], "tokens": {name: token}}
//
// It prints a list of
//
//   {"keys": [kids that the library can use], "results": {name: {"claims"} or {"error", "message", "claim"}}}
//
// where a library that has no way to list keys, or cannot read the set, has none.

import { json } from "node:stream/consumers";

const library = await import(`./${process.argv[2]}.mjs`);

function refused(error) {
  return { error: error.code ?? error.name, message: error.message, claim: error.claim };
}

async function judge(job) {
  const opened = await library.open(job).catch((error) => ({ verify: () => Promise.reject(error) }));
  const results = {};
  for (const [name, token] of Object.entries(job.tokens)) {
    try {
      results[name] = { claims: await opened.verify(token) };
    } catch (error) {
      results[name] = refused(error);
    }
  }
  const keys = opened.keys ? await opened.keys().catch(refused) : null;
  return { keys, results };
}

const answers = [];
for (const job of await json(process.stdin)) {
  answers.push(await judge(job));
}
console.log(JSON.stringify(answers));
