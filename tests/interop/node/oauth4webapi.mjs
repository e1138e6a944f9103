import { clockTolerance, validateJwtAccessToken } from "oauth4webapi";

export async function open({ url, issuer, audience }) {
  return {
    verify(token) {
      const request = new Request(audience, { headers: { authorization: `Bearer ${token}` } });
      return validateJwtAccessToken({ issuer, jwks_uri: url }, request, audience, { [clockTolerance]: 0 });
    },
  };
}
