import { verifyWithJwks } from "hono/jwt";

export async function open({ url, issuer, audience, algorithms }) {
  const verification = { iss: issuer, aud: audience };
  return {
    verify: (token) => verifyWithJwks(token, { jwks_uri: url, allowedAlgorithms: algorithms, verification }),
  };
}
