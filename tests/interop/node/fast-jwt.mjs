import { createVerifier } from "fast-jwt";
import buildGetJwks from "get-jwks";

export async function open({ url, issuer, audience }) {
  const domain = url.replace(".well-known/jwks.json", "");
  const jwks = buildGetJwks();
  const verify = createVerifier({
    key: ({ header }) => jwks.getPublicKey({ domain, alg: header.alg, kid: header.kid }),
    allowedIss: issuer,
    allowedAud: audience,
  });
  return { verify };
}
