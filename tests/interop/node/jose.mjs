import { createRemoteJWKSet, importJWK, jwtVerify } from "jose";

export async function open({ url, issuer, audience, algorithms, options }) {
  const remote = createRemoteJWKSet(new URL(url), options);
  return {
    async verify(token) {
      return (await jwtVerify(token, remote, { issuer, audience, algorithms })).payload;
    },
    async keys() {
      await remote.reload();
      const { keys } = remote.jwks();
      await Promise.all(keys.map((key) => importJWK(key)));
      return keys.map((key) => key.kid);
    },
  };
}
